"""Boot attempts of every kind, as the pages show them."""

from collections.abc import Iterator
from random import Random
from typing import Any

from attrs import evolve

from bootfw.attempts.attempt import BootAttempt, Cause, Stage, StageKind, Verdict

TOKEN = "a-token-of-the-tests"
"""Of the server that shows these boots."""

KINDS = ("uefi", "bios", "uefi", "uefi", "http")

NOT_REQUESTED = Cause(
    "boot-server-not-requested",
    "stopped after the OFFER: it never requested its boot file of port 4011; "
    "another DHCP server, 10.77.0.254, is there",
    "typical of a second DHCP server that answers with a boot file, or of a firewall in front of UDP 4011",
)
MISSING = Cause(
    "missing-file",
    'stopped after it requested "vmlinuz-6.1", which does not exist: '
    'the nearest names that exist are "vmlinuz-6.12" and "vmlinuz-6.6"',
    "put the file there, or correct its name in the configuration of the loader",
)
BLACK_HOLE = Cause(
    "path-mtu",
    'never acknowledged the first full block of "snponly.efi": packets of 1500 bytes do not arrive',
    "look for a smaller MTU on the way (tunnel, VPN, VLAN), or limit [tftp] max-blksize to 1024",
)
LOCAL_DISK = Cause(
    "no-boot-file",
    "got no boot file: no resolver has one for this machine",
    "nothing, if it is to boot its own disk",
)


def mac_of(number: int) -> str:
    """A hardware address of QEMU's."""
    return f"52:54:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


class Recording:
    """One boot of one machine, written stage by stage."""

    def __init__(self, number: int, began: float, kind: str = "uefi") -> None:
        self.now = began
        self.stages: list[Stage] = []
        self.address = f"10.77.{number >> 8 & 255}.{number & 255}"
        self.bios = kind == "bios"
        self.attempt = BootAttempt(
            f"boot-{number}-{int(began * 1000)}",
            began,
            mac=mac_of(number),
            uuid=f"4c4c4544-0042-3510-8052-{number:012x}",
            addresses=(self.address,),
            persona="pxe-bios" if self.bios else "uefi",
            architecture="x86-bios" if self.bios else "x86_64-uefi",
            interface="eth0",
        )

    def add(self, kind: StageKind, after: float = 0.002, count: int = 1, duration: float = 0.0, **data: Any) -> None:
        self.now += after
        self.stages.append(Stage(self.now, kind, data, count, self.now + duration))
        self.now += duration

    def request(self, file: str, stack: str = "pxe", count: int = 1) -> None:
        """DISCOVER to ACK."""
        client_data: dict[str, Any] = {
            "persona": self.attempt.persona,
            "architecture": self.attempt.architecture,
            "stack": stack,
        }
        retry_seconds = (count - 1) * 4.0
        self.add(StageKind.DISCOVER, 0.0, count, retry_seconds, **client_data)
        self.add(StageKind.RESOLVER, resolver="next-boot", outcome="answered", seconds=0.0001)
        self.add(StageKind.RESOLVER, resolver="by-architecture", outcome="answered", seconds=0.0004, file=file)
        self.add(StageKind.OFFER, address=self.address, file=file, destination="255.255.255.255:68")
        self.add(StageKind.REQUEST, 0.9, **client_data)
        self.add(StageKind.ACK, address=self.address, file=file, destination="255.255.255.255:68")

    def load(self, file: str, byte_count: int, seconds: float, outcome: str | None = "complete", **data: Any) -> None:
        protocol = data.pop("protocol", "tftp")
        transfer_data = {
            "protocol": protocol,
            "file": file,
            "bytes": byte_count,
            "peer": f"{self.address}:1025",
            **data,
        }
        if outcome is not None:
            transfer_data |= {"outcome": outcome, "seconds": seconds}
        if protocol == "tftp":
            transfer_data |= {"blksize": 1468, "windowsize": 4}
        self.add(StageKind.TRANSFER, 0.01, 1, seconds, **transfer_data)

    def finish(self, verdict: Verdict = Verdict.IN_PROGRESS, cause: Cause | None = None) -> BootAttempt:
        """The attempt with the stages so far, and this verdict."""
        loaded = [
            stage
            for stage in self.stages
            if stage.kind is StageKind.TRANSFER and stage.data.get("outcome") in ("complete", "unconfirmed")
        ]
        return evolve(
            self.attempt,
            ended=None if verdict is Verdict.IN_PROGRESS else self.now + 1,
            stages=tuple(self.stages),
            files=tuple(stage.data["file"] for stage in loaded),
            bytes=sum(stage.data["bytes"] for stage in loaded),
            retries={stage.kind.value: stage.count - 1 for stage in self.stages if stage.count > 1},
            verdict=verdict,
            cause=cause,
        )


def booted(number: int, began: float, kind: str = "uefi", verdict: Verdict = Verdict.BOOTED) -> BootAttempt:
    """By PXE to iPXE, and on by HTTP to a kernel."""
    boot = Recording(number, began, kind)
    program = "undionly.kpxe" if boot.bios else "snponly.efi"
    boot.request(program, count=1 + number % 3 // 2)
    if not boot.bios:
        boot.load(program, 0, 0.005, "size_probe", size=173792)
    boot.load(program, 70085 if boot.bios else 173792, 0.24)
    boot.now += 1.4
    boot.request("http://10.77.0.1:8069/boot.ipxe", "ipxe")
    boot.load("boot.ipxe", 412, 0.004, protocol="http")
    boot.load("debian/vmlinuz", 8_120_384, 0.31, protocol="http")
    boot.load("debian/initrd.img", 41_250_816, 1.62, protocol="http")
    if verdict is Verdict.UP:
        boot.add(StageKind.SYSTEM, 7.5)
        boot.add(StageKind.UP, 4.2, protocol="http")
    return boot.finish(verdict)


def in_progress(number: int, began: float) -> BootAttempt:
    """A boot that is loading its initrd."""
    boot = Recording(number, began)
    boot.request("snponly.efi")
    boot.load("snponly.efi", 173792, 0.24)
    boot.now += 1.1
    boot.request("http://10.77.0.1:8069/boot.ipxe", "ipxe")
    boot.load("debian/vmlinuz", 8_120_384, 0.31, protocol="http")
    boot.load("debian/initrd.img", 12_000_000, 0.6, None, protocol="http")
    return boot.finish()


def not_requested(number: int, began: float) -> BootAttempt:
    """It never requests its file of port 4011."""
    boot = Recording(number, began, "bios")
    boot.add(StageKind.DISCOVER, 0, 4, 28.0, persona="pxe-bios", architecture="x86-bios", stack="pxe", interface="eth0")
    boot.add(StageKind.OFFER, boot_server=True, destination="255.255.255.255:68")
    boot.add(StageKind.OTHER_SERVER, 0.3, server="10.77.0.254")
    return boot.finish(Verdict.FAILED, NOT_REQUESTED)


def missing_kernel(number: int, began: float) -> BootAttempt:
    """Its script names a file that is not there."""
    boot = Recording(number, began)
    boot.request("snponly.efi")
    boot.load("snponly.efi", 173792, 0.24, retransmitted=3)
    boot.now += 1.2
    boot.request("http://10.77.0.1:8069/boot.ipxe", "ipxe")
    boot.load("boot.ipxe", 412, 0.004, protocol="http")
    boot.add(
        StageKind.REFUSED,
        0.01,
        3,
        2.0,
        protocol="http",
        file="vmlinuz-6.1",
        code=404,
        message="File not found",
        nearest=["vmlinuz-6.12", "vmlinuz-6.6"],
    )
    return boot.finish(Verdict.FAILED, MISSING)


def black_hole(number: int, began: float) -> BootAttempt:
    """Full packets do not arrive."""
    boot = Recording(number, began)
    boot.request("snponly.efi", count=2)
    boot.load("snponly.efi", 0, 14.0, "timed_out", retransmitted=6, blocks=0, oack=True)
    return boot.finish(Verdict.FAILED, BLACK_HOLE)


def nothing_to_boot(number: int, began: float) -> BootAttempt:
    """It boots its own disk."""
    boot = Recording(number, began, "bios")
    boot.add(StageKind.DISCOVER, 0, persona="pxe-bios", architecture="x86-bios", stack="pxe", interface="eth0")
    boot.add(StageKind.RESOLVER, resolver="by-client", outcome="answered", seconds=0.0002)
    boot.add(StageKind.NO_ANSWER, reason="no resolver has a boot file for it")
    return boot.finish(Verdict.NOTHING_TO_BOOT, LOCAL_DISK)


def busy(now: float, count: int = 60) -> Iterator[BootAttempt]:
    """A rack that was powered on: most are done, some still load. The newest last."""
    dice = Random(1)
    for number in range(1, count + 1):
        ago = (count - number) * 1.7
        if number > count - 3:
            yield in_progress(number, now - ago - 2.5)
        elif number % 17 == 0:
            yield missing_kernel(number, now - ago - 14)
        elif number % 13 == 0:
            yield nothing_to_boot(number, now - ago - 14)
        else:
            verdict = Verdict.UP if number % 5 == 0 else Verdict.BOOTED
            yield booted(number, now - ago - 14 - dice.random(), KINDS[number % len(KINDS)], verdict)


def failing(now: float) -> Iterator[BootAttempt]:
    """Machines that do not boot, each for another reason, and some that do."""
    builders = (booted, nothing_to_boot, black_hole, not_requested, missing_kernel)
    for number in range(1, 16):
        yield builders[number % len(builders)](number, now - (16 - number) * 40.0)


def ten_thousand(now: float, count: int = 10_000) -> Iterator[BootAttempt]:
    """As many boots as are kept."""
    builders = (booted, booted, booted, booted, missing_kernel, nothing_to_boot)
    for number in range(1, count + 1):
        yield builders[number % len(builders)](number % 4096 + 1, now - (count - number) * 31.0 - 20)
