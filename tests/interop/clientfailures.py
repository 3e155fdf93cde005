"""Failures of boots that client programs act out: ``bootfw probe``, curl, tftp, udhcpc, and frames made by the test."""

import contextlib
import zipfile
from collections.abc import Iterator

import pytest

from .dhcpservers import dnsmasq
from .firmware.servers import start_dnsmasq
from .lab import need
from .rawdhcp import Heard, RawClients, Sent, message, option
from .seeding import ADDRESSES, IMPATIENT, MAC, PROXY, SECONDS, SERVER, Scene, Seeded

_BIOS = "PXEClient:Arch:00000:UNDI:002001"
_HTTP = "HTTPClient:Arch:00016:UNDI:003001"
_RAW = bytes.fromhex(MAC.replace(":", ""))


def _program(machine: int) -> bytes:
    """A UEFI program for a COFF machine, as far as its header."""
    return (b"MZ".ljust(0x3C, b"\0") + b"\x40\0\0\0PE\0\0" + machine.to_bytes(2, "little")).ljust(4096, b"\0")


# Files


def _wrong_name(scene: Scene) -> None:
    scene.serves("boot/pxelinux.0")
    scene.starts(ADDRESSES, scene.names(x86_bios="boot/pxelinux-6.0"))
    scene.probes("bios")


def _missing_kernel_by_http(scene: Scene) -> None:
    scene.serves("boot.ipxe", "#!ipxe")
    scene.serves("debian/vmlinuz-6.12")
    scene.starts(ADDRESSES, scene.names(ipxe="{http}/boot.ipxe"))
    scene.probes("ipxe")
    scene.gets(f"http://{SERVER}/debian/vmlinuz-6.1")


def _damaged_archive(scene: Scene) -> None:
    archive = scene.directory / "boot.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("pxelinux.0", bytes(range(256)) * 1000)
    raw = bytearray(archive.read_bytes())
    raw[60:90] = bytes(30)
    archive.write_bytes(raw)
    backend = f'[[backend]]\nuse = "archive"\nfile = "{archive}"\n'
    scene.starts(ADDRESSES, scene.names(x86_bios="pxelinux.0"), backend=backend)
    scene.probes("bios")


def _full_disk_at_upload(scene: Scene) -> None:
    (scene.directory / "image").write_bytes(bytes(1_000_000))
    full = f"mount -t tmpfs -o size=64k none {scene.root}"
    scene.starts(PROXY, scene.names(x86_bios="pxelinux.0"), tftp="writable = true", mount=full)
    scene.runs("curl", "--silent", "--upload-file", scene.directory / "image", f"tftp://{SERVER}/image")


def _upload_that_is_not_allowed(scene: Scene) -> None:
    (scene.directory / "image").write_bytes(b"image")
    scene.starts(PROXY, scene.names(x86_bios="pxelinux.0"))
    scene.runs("curl", "--silent", "--upload-file", scene.directory / "image", f"tftp://{SERVER}/image")


def _full_disk_of_the_client(scene: Scene) -> None:
    scene.serves("image.efi", bytes(1_000_000))
    scene.starts(PROXY, scene.names(x86_64_uefi="image.efi"))
    scene.runs("atftp", "--option", "blksize 1428", "-g", "-r", "image.efi", "-l", "/dev/full", SERVER)


def _wrong_architecture(scene: Scene) -> None:
    scene.serves("grub.efi", _program(0xAA64))
    scene.starts(ADDRESSES, scene.names(x86_64_uefi="grub.efi"))
    scene.probes("uefi")


def _no_efi_program(scene: Scene) -> None:
    scene.serves("undionly.kpxe", b"\xea a BIOS program")
    scene.starts(ADDRESSES, scene.names(x86_64_uefi="undionly.kpxe"))
    scene.probes("uefi")


def _ipxe_that_would_load_itself(scene: Scene) -> None:
    scene.serves("ipxe.efi", _program(0x8664))
    scene.starts(ADDRESSES, scene.names(x86_64_uefi="ipxe.efi", ipxe="ipxe.efi"))
    for profile in ("uefi", "ipxe"):
        scene.probes(profile)


# The way to the client


def _small_mtu(scene: Scene) -> None:
    scene.serves("image.efi", bytes(100_000))
    scene.starts(PROXY, scene.names(x86_64_uefi="image.efi"), IMPATIENT)
    scene.drops("ip length > 1300")
    scene.gets(f"tftp://{SERVER}/image.efi", "--tftp-blksize", "1428", seconds="3")


def _no_way_back(scene: Scene) -> None:
    scene.serves("image.efi", bytes(100_000))
    scene.starts(PROXY, scene.names(x86_64_uefi="image.efi"), IMPATIENT)
    scene.drops("udp sport 69")
    scene.gets(f"tftp://{SERVER}/image.efi", seconds="3")


def _cable_pulled(scene: Scene) -> None:
    scene.serves("vmlinuz", bytes(1_000_000))
    scene.starts(PROXY, scene.names(x86_64_uefi="vmlinuz"), IMPATIENT)
    scene.drops("udp sport 69 numgen inc mod 65536 >= 100")
    scene.gets(f"tftp://{SERVER}/vmlinuz", seconds="3")


def _port_69_closed(scene: Scene) -> None:
    scene.serves("pxelinux.0")
    scene.starts(PROXY, scene.names(x86_bios="pxelinux.0"))
    scene.drops("udp dport 69")
    scene.probes("bios", SERVER)


def _port_4011_closed(scene: Scene) -> None:
    scene.serves("shim.efi")
    scene.starts(PROXY, scene.names(x86_64_uefi="shim.efi"))
    scene.drops("udp dport 4011")
    scene.probes("uefi", SERVER)


def _offers_lost(scene: Scene) -> None:
    scene.serves("pxelinux.0")
    scene.starts(ADDRESSES, scene.names(x86_bios="pxelinux.0"))
    scene.drops("udp sport 67")
    scene.probes("bios")


# TLS


def _tls(scene: Scene, days: int, *options: str, revoked: bool = False, trusted: bool = True) -> None:
    need("curl")
    certificates = pytest.importorskip("certificates", reason="needs the extra tls")
    authority = certificates.Authority()
    chain, key = authority.issue(SERVER, days=days)
    for name, pem in {"chain.pem": chain, "key.pem": key, "authority.pem": authority.pem}.items():
        (scene.directory / name).write_bytes(pem)
    https = 'https-listen = ["0.0.0.0:443"]\ncertificate = "chain.pem"\nkey = "key.pem"'
    scene.starts(ADDRESSES, scene.names(x86_64_uefi_http="{https}/snponly.efi"), http=https)
    with _raw(scene) as client:
        _send(client, _RAW, 1, vendor_class=_HTTP)
    words = ["--cacert", str(scene.directory / "authority.pem")] if trusted else []
    if revoked:
        (scene.directory / "revoked.pem").write_bytes(authority.revocations(chain))
        words += ["--crlfile", str(scene.directory / "revoked.pem")]
    scene.gets(f"https://{SERVER}/snponly.efi", *words, *options)


# DHCP


def _exhausted_pool(scene: Scene) -> None:
    scene.serves("pxelinux.0")
    small = ADDRESSES.replace("10.77.0.100-10.77.0.110", "10.77.0.100")
    scene.starts(small, scene.names(x86_bios="pxelinux.0"))
    with _raw(scene) as client:
        _takes_address(client, bytes.fromhex("525400990002"))
        assert _send(client, _RAW, 1) == {}


def _second_server(scene: Scene) -> None:
    need("busybox")
    scene.serves("pxelinux.0")
    scene.starts(ADDRESSES, scene.names(x86_bios="pxelinux.0"))
    second = scene.lab.host("second", "10.77.0.3/24")
    dnsmasq(second, scene.directory)
    scene.drops("ip saddr 10.77.0.1 udp sport 67")
    script = scene.directory / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    words = ("-f", "-q", "-n", "-i", "eth0", "-V", _BIOS, "-s", script)
    scene.runs("busybox", "udhcpc", *words)


def _second_proxy(scene: Scene) -> None:
    scene.serves("pxelinux.0")
    scene.starts(PROXY, scene.names(x86_bios="pxelinux.0"))
    second = scene.lab.host("second", "10.77.0.4/24")
    service = "--pxe-service=x86PC,boot,other"
    start_dnsmasq(scene.lab, second, "--dhcp-range=10.77.0.0,proxy", service).wait_until_bound(67)
    with _raw(scene) as client:
        _send(client, _RAW, 1)


def _refused_address(scene: Scene) -> None:
    scene.serves("pxelinux.0")
    scene.starts(
        ADDRESSES.replace("probe-seconds", "authoritative = true\nprobe-seconds"), scene.names(x86_bios="pxelinux.0")
    )
    with _raw(scene) as client:
        _says(client, _RAW, 1)
        assert _says(client, _RAW, 3, option(50, "10.99.0.5")).kind == 6


def _declined_address(scene: Scene) -> None:
    scene.serves("pxelinux.0")
    scene.starts(ADDRESSES, scene.names(x86_bios="pxelinux.0"))
    with _raw(scene) as client:
        address = _takes_address(client, _RAW)
        _send(client, _RAW, 4, option(50, address) + option(54, SERVER))


def _full_disk_of_the_state(scene: Scene) -> None:
    scene.serves("pxelinux.0")
    small = f"mount -t tmpfs -o size=1m none {scene.state}"
    scene.starts(ADDRESSES, scene.names(x86_bios="pxelinux.0"), mount=small)
    scene.inside(f"dd if=/dev/zero of={scene.state}/junk bs=4k")
    with _raw(scene) as client:
        offer = _says(client, _RAW, 1)
        _send(client, _RAW, 3, option(50, offer.address) + option(54, SERVER))


# Decisions

_RESOLVERS = """\
from twisted.internet.defer import Deferred
from zope.interface import implementer

from bootfw.api import IBootFileResolver, boot_plugin


@implementer(IBootFileResolver)
class Raises:
    def resolve(self, request):
        raise KeyError("rack 7")


@implementer(IBootFileResolver)
class Hangs:
    def resolve(self, request):
        return Deferred()


raises, hangs = boot_plugin(IBootFileResolver, Raises), boot_plugin(IBootFileResolver, Hangs)
"""


def _resolver(scene: Scene, name: str) -> str:
    (scene.directory / "seeded_resolvers.py").write_text(_RESOLVERS)
    return f'[[resolver]]\nuse = "seeded_resolvers:{name}"\n'


def _resolver_that_raises(scene: Scene) -> None:
    scene.starts(ADDRESSES, _resolver(scene, "raises"))
    scene.probes("bios")


def _resolver_that_hangs(scene: Scene) -> None:
    scene.starts(ADDRESSES, _resolver(scene, "hangs"))
    scene.probes("bios")


def _hung_callout(scene: Scene) -> None:
    scene.hangs_at("10.77.0.5", 8000)
    scene.starts(ADDRESSES, '[[resolver]]\nuse = "callout"\nurl = "http://10.77.0.5:8000"\n')
    scene.probes("ipxe")


def _no_file(scene: Scene) -> None:
    scene.starts(ADDRESSES, scene.names(arm64_uefi="grub.efi"))
    scene.probes("bios")


def _endless_installation(scene: Scene) -> None:
    scene.serves("pxelinux.0")
    breaker = '[[resolver]]\nuse = "loop-breaker"\nrepeats = 2\n'
    scene.starts(ADDRESSES, breaker, scene.names(x86_bios="pxelinux.0"))
    for _ in range(3):
        scene.probes("bios")


def _file_of_another_server(scene: Scene) -> None:
    scene.starts(ADDRESSES, '[[resolver]]\nuse = "static"\nfile = "pxelinux.0"\nserver = "10.77.0.66"\n')
    with _raw(scene) as client:
        _takes_address(client, _RAW)


# A client made of frames


@contextlib.contextmanager
def _raw(scene: Scene) -> Iterator[RawClients]:
    shown = scene.server.run("cat", "/sys/class/net/eth0/address", seconds=SECONDS).output
    client = RawClients.at(scene.client, bytes.fromhex(shown.strip().replace(":", "")))
    try:
        yield client
    finally:
        client.close()


def _says(client: RawClients, mac: bytes, kind: int, more: bytes = b"") -> Heard:
    """The reply to a message of a BIOS."""
    ((_, heard),) = _send(client, mac, kind, more).items()
    return heard


def _send(client: RawClients, mac: bytes, kind: int, more: bytes = b"", vendor_class: str = _BIOS) -> dict[int, Heard]:
    architecture = int(vendor_class.split(":")[2]).to_bytes(2, "big")
    options = option(53, bytes((kind,))) + option(60, vendor_class.encode()) + option(93, architecture) + more
    data = message(options + option(55, bytes((1, 3, 6, 43, 60, 66, 67))), xid=7, mac=mac)
    return client.say([Sent(data=data, xid=7, mac=mac)])


def _takes_address(client: RawClients, mac: bytes) -> str:
    offer = _says(client, mac, 1)
    _says(client, mac, 3, option(50, offer.address) + option(54, SERVER))
    return offer.address


CLIENT_FAILURES = (
    Seeded("wrong name", _wrong_name, "failed", "missing-file", ("boot/pxelinux-6.0", "boot/pxelinux.0")),
    Seeded(
        "missing kernel by HTTP",
        _missing_kernel_by_http,
        "failed",
        "missing-file",
        ("vmlinuz-6.1", "vmlinuz-6.12"),
        slow=True,
    ),
    Seeded("damaged archive", _damaged_archive, "failed", "backend-failed"),
    Seeded("full disk at upload", _full_disk_at_upload, "failed", "disk-full"),
    Seeded("upload that is not allowed", _upload_that_is_not_allowed, "failed", "upload-failed"),
    Seeded("full disk of the client", _full_disk_of_the_client, "failed", "client-stopped"),
    Seeded(
        "wrong architecture",
        _wrong_architecture,
        "failed",
        "wrong-architecture",
        ("arm64-uefi", "x86_64-uefi"),
        slow=True,
    ),
    Seeded("no UEFI program", _no_efi_program, "failed", "wrong-architecture", ("is no UEFI program",)),
    Seeded(
        "iPXE that would load itself",
        _ipxe_that_would_load_itself,
        "failed",
        "nothing-after-program",
        ("ipxe.efi",),
        slow=True,
    ),
    Seeded("small MTU", _small_mtu, "failed", "path-mtu", ("1460 bytes",), slow=True),
    Seeded("no way back", _no_way_back, "failed", "no-transfer"),
    Seeded("cable pulled", _cable_pulled, "failed", "transfer-timed-out", slow=True),
    Seeded("port 69 closed", _port_69_closed, "failed", "file-not-requested", slow=True),
    Seeded("port 4011 closed", _port_4011_closed, "failed", "boot-server-not-requested", slow=True),
    Seeded("offers lost", _offers_lost, "failed", "offer-not-accepted", slow=True),
    Seeded("expired certificate", lambda scene: _tls(scene, -1), "failed", "certificate-expired"),
    Seeded("revoked certificate", lambda scene: _tls(scene, 30, revoked=True), "failed", "certificate-revoked"),
    Seeded(
        "unknown issuer",
        lambda scene: _tls(scene, 30, trusted=False),
        "failed",
        "tls-refused",
        ("unknown ca",),
        slow=True,
    ),
    Seeded("exhausted pool", _exhausted_pool, "failed", "pool-exhausted", slow=True),
    Seeded("second server", _second_server, "failed", "other-server", ("10.77.0.3",), slow=True),
    Seeded("second proxy", _second_proxy, "failed", "other-boot-server", ("10.77.0.4",)),
    Seeded("refused address", _refused_address, "failed", "address-refused", ("10.99.0.5",)),
    Seeded("declined address", _declined_address, "failed", "address-declined"),
    Seeded("resolver that raises", _resolver_that_raises, "failed", "resolver-failed"),
    Seeded("hung callout", _hung_callout, "failed", "resolver-unavailable", ("callout",), slow=True),
    Seeded("resolver that hangs", _resolver_that_hangs, "failed", "resolver-too-slow", slow=True),
    Seeded("full disk of the state", _full_disk_of_the_state, "failed", "lease-not-stored"),
    Seeded("no file for it", _no_file, "nothing to boot", "no-boot-file"),
    Seeded("installs for ever", _endless_installation, "nothing to boot", "loop-broken", slow=True),
    Seeded("file of another server", _file_of_another_server, "sent to another server", ""),
)
