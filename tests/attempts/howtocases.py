"""The boots of docs/howto/why-did-it-not-boot.md, folded from the events of such boots."""

from collections.abc import Mapping

from attrs import evolve
from boots import IPXE_ROM, MAC, Machine

from bootfw.attempts.attempt import BootAttempt, StageKind
from bootfw.events import OtherBootServerSeen
from bootfw.values import Outcome


def _ended(machine: Machine) -> BootAttempt:
    machine.wait(90)
    return machine.ended[-1]


def _missing_kernel() -> BootAttempt:
    machine = Machine()
    machine.gets_address("snponly.efi")
    machine.probes_size("snponly.efi")
    machine.loads("snponly.efi", seconds=0.25, size=256_000)
    machine.wait(2)
    machine.loads("boot.ipxe", seconds=0.0, size=120)
    machine.misses("debian/vmlinuz-6.1")
    attempt = _ended(machine)
    names = ["debian/vmlinuz-6.12", "debian/vmlinuz-6.10"]
    machine.fold.amend(attempt.id, StageKind.REFUSED, "debian/vmlinuz-6.1", {"nearest": names})
    return _ended(machine)


def _second_server() -> BootAttempt:
    machine = Machine()
    machine.asks()
    machine.is_offered(None)
    machine.wait(0.25)
    machine.add(OtherBootServerSeen(machine.now, "10.77.0.4", "eth0", MAC, "pxelinux.0"))
    return _ended(machine)


def _small_mtu() -> BootAttempt:
    machine = Machine()
    machine.gets_address("grubx64.efi")
    machine.probes_size("grubx64.efi")
    machine.loads("grubx64.efi", Outcome.TIMED_OUT, 24.0, 2_600_000, detail="no ACK after block 0", retransmitted=9)
    return _ended(machine)


def _chain_to_itself() -> BootAttempt:
    machine = Machine(IPXE_ROM)
    for xid in range(3):
        machine.request = evolve(IPXE_ROM, xid=xid)
        machine.gets_address("undionly.kpxe")
        machine.loads("undionly.kpxe", seconds=0.25, size=70_000)
        machine.wait(2)
    return _ended(machine)


def _wrong_architecture() -> BootAttempt:
    machine = Machine()
    machine.gets_address("grubaa64.efi")
    machine.probes_size("grubaa64.efi")
    machine.loads("grubaa64.efi", seconds=0.5, size=2_400_000)
    attempt = _ended(machine)
    found = {"architecture": "arm64-uefi", "client": "x86_64-uefi"}
    machine.fold.amend(attempt.id, StageKind.PROGRAM, "grubaa64.efi", found)
    return _ended(machine)


def cases() -> Mapping[str, BootAttempt]:
    """Heading of the page -> the boot that it shows."""
    return {
        "A loader requests a file that is missing": _missing_kernel(),
        "A second boot server answers": _second_server(),
        "A smaller MTU on the way": _small_mtu(),
        "iPXE is given iPXE": _chain_to_itself(),
        "A boot program for another architecture": _wrong_architecture(),
    }
