"""Failures of boots that client programs act out: ``bootfw probe``, curl, tftp, udhcpc, and frames made by the test."""

import contextlib
import zipfile
from collections.abc import Iterator

import pytest

from .dhcpservers import dnsmasq
from .firmware.servers import start_dnsmasq
from .lab import need
from .rawdhcp import Datagram, RawClients, Reply, message, option
from .seeding import ADDRESSES, IMPATIENT, MAC, PROXY, SECONDS, SERVER, Scene, SeededFailure

_BIOS = "PXEClient:Arch:00000:UNDI:002001"
_HTTP = "HTTPClient:Arch:00016:UNDI:003001"
_RAW_MAC = bytes.fromhex(MAC.replace(":", ""))


def _coff_program(machine: int) -> bytes:
    """The header of a UEFI program for a COFF machine type."""
    return (b"MZ".ljust(0x3C, b"\0") + b"\x40\0\0\0PE\0\0" + machine.to_bytes(2, "little")).ljust(4096, b"\0")


# Files


def _wrong_name(scene: Scene) -> None:
    scene.add_file("boot/pxelinux.0")
    scene.start_server(ADDRESSES, scene.by_architecture(x86_bios="boot/pxelinux-6.0"))
    scene.probe("bios")


def _missing_kernel_by_http(scene: Scene) -> None:
    scene.add_file("boot.ipxe", "#!ipxe")
    scene.add_file("debian/vmlinuz-6.12")
    scene.start_server(ADDRESSES, scene.by_architecture(ipxe="{http}/boot.ipxe"))
    scene.probe("ipxe")
    scene.fetch(f"http://{SERVER}/debian/vmlinuz-6.1")


def _damaged_archive(scene: Scene) -> None:
    archive = scene.directory / "boot.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zip_file:
        zip_file.writestr("pxelinux.0", bytes(range(256)) * 1000)
    content = bytearray(archive.read_bytes())
    content[60:90] = bytes(30)
    archive.write_bytes(content)
    backend = f'[[backend]]\nuse = "archive"\nfile = "{archive}"\n'
    scene.start_server(ADDRESSES, scene.by_architecture(x86_bios="pxelinux.0"), backend=backend)
    scene.probe("bios")


def _full_disk_at_upload(scene: Scene) -> None:
    (scene.directory / "image").write_bytes(bytes(1_000_000))
    mount = f"mount -t tmpfs -o size=64k none {scene.root}"
    scene.start_server(PROXY, scene.by_architecture(x86_bios="pxelinux.0"), tftp="writable = true", mount=mount)
    scene.run_on_client("curl", "--silent", "--upload-file", scene.directory / "image", f"tftp://{SERVER}/image")


def _upload_that_is_not_allowed(scene: Scene) -> None:
    (scene.directory / "image").write_bytes(b"image")
    scene.start_server(PROXY, scene.by_architecture(x86_bios="pxelinux.0"))
    scene.run_on_client("curl", "--silent", "--upload-file", scene.directory / "image", f"tftp://{SERVER}/image")


def _full_disk_of_the_client(scene: Scene) -> None:
    scene.add_file("image.efi", bytes(1_000_000))
    scene.start_server(PROXY, scene.by_architecture(x86_64_uefi="image.efi"))
    scene.run_on_client("atftp", "--option", "blksize 1428", "-g", "-r", "image.efi", "-l", "/dev/full", SERVER)


def _wrong_architecture(scene: Scene) -> None:
    scene.add_file("grub.efi", _coff_program(0xAA64))
    scene.start_server(ADDRESSES, scene.by_architecture(x86_64_uefi="grub.efi"))
    scene.probe("uefi")


def _no_efi_program(scene: Scene) -> None:
    scene.add_file("undionly.kpxe", b"\xea a BIOS program")
    scene.start_server(ADDRESSES, scene.by_architecture(x86_64_uefi="undionly.kpxe"))
    scene.probe("uefi")


def _ipxe_that_would_load_itself(scene: Scene) -> None:
    scene.add_file("ipxe.efi", _coff_program(0x8664))
    scene.start_server(ADDRESSES, scene.by_architecture(x86_64_uefi="ipxe.efi", ipxe="ipxe.efi"))
    for profile in ("uefi", "ipxe"):
        scene.probe(profile)


# The network between server and client


def _small_mtu(scene: Scene) -> None:
    scene.add_file("image.efi", bytes(100_000))
    scene.start_server(PROXY, scene.by_architecture(x86_64_uefi="image.efi"), IMPATIENT)
    scene.drop("ip length > 1300")
    scene.fetch(f"tftp://{SERVER}/image.efi", "--tftp-blksize", "1428", seconds="3")


def _no_reply_arrives(scene: Scene) -> None:
    scene.add_file("image.efi", bytes(100_000))
    scene.start_server(PROXY, scene.by_architecture(x86_64_uefi="image.efi"), IMPATIENT)
    scene.drop("udp sport 69")
    scene.fetch(f"tftp://{SERVER}/image.efi", seconds="3")


def _cable_pulled(scene: Scene) -> None:
    scene.add_file("vmlinuz", bytes(1_000_000))
    scene.start_server(PROXY, scene.by_architecture(x86_64_uefi="vmlinuz"), IMPATIENT)
    scene.drop("udp sport 69 numgen inc mod 65536 >= 100")
    scene.fetch(f"tftp://{SERVER}/vmlinuz", seconds="3")


def _port_69_closed(scene: Scene) -> None:
    scene.add_file("pxelinux.0")
    scene.start_server(PROXY, scene.by_architecture(x86_bios="pxelinux.0"))
    scene.drop("udp dport 69")
    scene.probe("bios", SERVER)


def _port_4011_closed(scene: Scene) -> None:
    scene.add_file("shim.efi")
    scene.start_server(PROXY, scene.by_architecture(x86_64_uefi="shim.efi"))
    scene.drop("udp dport 4011")
    scene.probe("uefi", SERVER)


def _offers_lost(scene: Scene) -> None:
    scene.add_file("pxelinux.0")
    scene.start_server(ADDRESSES, scene.by_architecture(x86_bios="pxelinux.0"))
    scene.drop("udp sport 67")
    scene.probe("bios")


# TLS


def _tls(scene: Scene, days: int, *options: str, revoked: bool = False, trusted: bool = True) -> None:
    need("curl")
    certificates = pytest.importorskip("certificates", reason="needs the extra tls")
    authority = certificates.Authority()
    chain, key = authority.issue(SERVER, days=days)
    for name, pem in {"chain.pem": chain, "key.pem": key, "authority.pem": authority.pem}.items():
        (scene.directory / name).write_bytes(pem)
    https = 'https-listen = ["0.0.0.0:443"]\ncertificate = "chain.pem"\nkey = "key.pem"'
    scene.start_server(ADDRESSES, scene.by_architecture(x86_64_uefi_http="{https}/snponly.efi"), http=https)
    with _raw_client(scene) as client:
        _send(client, _RAW_MAC, 1, vendor_class=_HTTP)
    curl_options = ["--cacert", str(scene.directory / "authority.pem")] if trusted else []
    if revoked:
        (scene.directory / "revoked.pem").write_bytes(authority.revocations(chain))
        curl_options += ["--crlfile", str(scene.directory / "revoked.pem")]
    scene.fetch(f"https://{SERVER}/snponly.efi", *curl_options, *options)


# DHCP


def _exhausted_pool(scene: Scene) -> None:
    scene.add_file("pxelinux.0")
    one_address = ADDRESSES.replace("10.77.0.100-10.77.0.110", "10.77.0.100")
    scene.start_server(one_address, scene.by_architecture(x86_bios="pxelinux.0"))
    with _raw_client(scene) as client:
        _take_address(client, bytes.fromhex("525400990002"))
        assert _send(client, _RAW_MAC, 1) == {}


def _second_server(scene: Scene) -> None:
    need("busybox")
    scene.add_file("pxelinux.0")
    scene.start_server(ADDRESSES, scene.by_architecture(x86_bios="pxelinux.0"))
    second = scene.lab.host("second", "10.77.0.3/24")
    dnsmasq(second, scene.directory)
    scene.drop("ip saddr 10.77.0.1 udp sport 67")
    script = scene.directory / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    options = ("-f", "-q", "-n", "-i", "eth0", "-V", _BIOS, "-s", script)
    scene.run_on_client("busybox", "udhcpc", *options)


def _second_proxy(scene: Scene) -> None:
    scene.add_file("pxelinux.0")
    scene.start_server(PROXY, scene.by_architecture(x86_bios="pxelinux.0"))
    second = scene.lab.host("second", "10.77.0.4/24")
    service = "--pxe-service=x86PC,boot,other"
    start_dnsmasq(scene.lab, second, "--dhcp-range=10.77.0.0,proxy", service).wait_until_bound(67)
    with _raw_client(scene) as client:
        _send(client, _RAW_MAC, 1)


def _refused_address(scene: Scene) -> None:
    scene.add_file("pxelinux.0")
    scene.start_server(
        ADDRESSES.replace("probe-seconds", "authoritative = true\nprobe-seconds"),
        scene.by_architecture(x86_bios="pxelinux.0"),
    )
    with _raw_client(scene) as client:
        _exchange(client, _RAW_MAC, 1)
        assert _exchange(client, _RAW_MAC, 3, option(50, "10.99.0.5")).message_type == 6


def _declined_address(scene: Scene) -> None:
    scene.add_file("pxelinux.0")
    scene.start_server(ADDRESSES, scene.by_architecture(x86_bios="pxelinux.0"))
    with _raw_client(scene) as client:
        address = _take_address(client, _RAW_MAC)
        _send(client, _RAW_MAC, 4, option(50, address) + option(54, SERVER))


def _full_disk_of_the_state(scene: Scene) -> None:
    scene.add_file("pxelinux.0")
    mount = f"mount -t tmpfs -o size=1m none {scene.state}"
    scene.start_server(ADDRESSES, scene.by_architecture(x86_bios="pxelinux.0"), mount=mount)
    scene.run_in_server_mounts(f"dd if=/dev/zero of={scene.state}/junk bs=4k")
    with _raw_client(scene) as client:
        offer = _exchange(client, _RAW_MAC, 1)
        _send(client, _RAW_MAC, 3, option(50, offer.address) + option(54, SERVER))


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
    scene.start_server(ADDRESSES, _resolver(scene, "raises"))
    scene.probe("bios")


def _resolver_that_hangs(scene: Scene) -> None:
    scene.start_server(ADDRESSES, _resolver(scene, "hangs"))
    scene.probe("bios")


def _hung_callout(scene: Scene) -> None:
    scene.start_hanging_service("10.77.0.5", 8000)
    scene.start_server(ADDRESSES, '[[resolver]]\nuse = "callout"\nurl = "http://10.77.0.5:8000"\n')
    scene.probe("ipxe")


def _no_file(scene: Scene) -> None:
    scene.start_server(ADDRESSES, scene.by_architecture(arm64_uefi="grub.efi"))
    scene.probe("bios")


def _endless_installation(scene: Scene) -> None:
    scene.add_file("pxelinux.0")
    breaker = '[[resolver]]\nuse = "loop-breaker"\nrepeats = 2\n'
    scene.start_server(ADDRESSES, breaker, scene.by_architecture(x86_bios="pxelinux.0"))
    for _ in range(3):
        scene.probe("bios")


def _file_of_another_server(scene: Scene) -> None:
    scene.start_server(ADDRESSES, '[[resolver]]\nuse = "static"\nfile = "pxelinux.0"\nserver = "10.77.0.66"\n')
    with _raw_client(scene) as client:
        _take_address(client, _RAW_MAC)


# A client made of frames


@contextlib.contextmanager
def _raw_client(scene: Scene) -> Iterator[RawClients]:
    address = scene.server.run("cat", "/sys/class/net/eth0/address", seconds=SECONDS).output
    client = RawClients.on_host(scene.client, bytes.fromhex(address.strip().replace(":", "")))
    try:
        yield client
    finally:
        client.close()


def _exchange(client: RawClients, mac: bytes, message_type: int, more_options: bytes = b"") -> Reply:
    """The reply to a message of a BIOS."""
    ((_, reply),) = _send(client, mac, message_type, more_options).items()
    return reply


def _send(
    client: RawClients, mac: bytes, message_type: int, more_options: bytes = b"", vendor_class: str = _BIOS
) -> dict[int, Reply]:
    architecture = int(vendor_class.split(":")[2]).to_bytes(2, "big")
    options = (
        option(53, bytes((message_type,))) + option(60, vendor_class.encode()) + option(93, architecture) + more_options
    )
    data = message(options + option(55, bytes((1, 3, 6, 43, 60, 66, 67))), xid=7, mac=mac)
    return client.exchange([Datagram(data=data, xid=7, mac=mac)])


def _take_address(client: RawClients, mac: bytes) -> str:
    offer = _exchange(client, mac, 1)
    _exchange(client, mac, 3, option(50, offer.address) + option(54, SERVER))
    return offer.address


CLIENT_FAILURES = (
    SeededFailure("wrong name", _wrong_name, "failed", "missing-file", ("boot/pxelinux-6.0", "boot/pxelinux.0")),
    SeededFailure(
        "missing kernel by HTTP",
        _missing_kernel_by_http,
        "failed",
        "missing-file",
        ("vmlinuz-6.1", "vmlinuz-6.12"),
        slow=True,
    ),
    SeededFailure("damaged archive", _damaged_archive, "failed", "backend-failed"),
    SeededFailure("full disk at upload", _full_disk_at_upload, "failed", "disk-full"),
    SeededFailure("upload that is not allowed", _upload_that_is_not_allowed, "failed", "upload-failed"),
    SeededFailure("full disk of the client", _full_disk_of_the_client, "failed", "client-stopped"),
    SeededFailure(
        "wrong architecture",
        _wrong_architecture,
        "failed",
        "wrong-architecture",
        ("arm64-uefi", "x86_64-uefi"),
        slow=True,
    ),
    SeededFailure("no UEFI program", _no_efi_program, "failed", "wrong-architecture", ("is no UEFI program",)),
    SeededFailure(
        "iPXE that would load itself",
        _ipxe_that_would_load_itself,
        "failed",
        "nothing-after-program",
        ("ipxe.efi",),
        slow=True,
    ),
    SeededFailure("small MTU", _small_mtu, "failed", "path-mtu", ("1460 bytes",), slow=True),
    SeededFailure("no way back", _no_reply_arrives, "failed", "no-transfer"),
    SeededFailure("cable pulled", _cable_pulled, "failed", "transfer-timed-out", slow=True),
    SeededFailure("port 69 closed", _port_69_closed, "failed", "file-not-requested", slow=True),
    SeededFailure("port 4011 closed", _port_4011_closed, "failed", "boot-server-not-requested", slow=True),
    SeededFailure("offers lost", _offers_lost, "failed", "offer-not-accepted", slow=True),
    SeededFailure("expired certificate", lambda scene: _tls(scene, -1), "failed", "certificate-expired"),
    SeededFailure("revoked certificate", lambda scene: _tls(scene, 30, revoked=True), "failed", "certificate-revoked"),
    SeededFailure(
        "unknown issuer",
        lambda scene: _tls(scene, 30, trusted=False),
        "failed",
        "tls-refused",
        ("unknown ca",),
        slow=True,
    ),
    SeededFailure("exhausted pool", _exhausted_pool, "failed", "pool-exhausted", slow=True),
    SeededFailure("second server", _second_server, "failed", "other-server", ("10.77.0.3",), slow=True),
    SeededFailure("second proxy", _second_proxy, "failed", "other-boot-server", ("10.77.0.4",)),
    SeededFailure("refused address", _refused_address, "failed", "address-refused", ("10.99.0.5",)),
    SeededFailure("declined address", _declined_address, "failed", "address-declined"),
    SeededFailure("resolver that raises", _resolver_that_raises, "failed", "resolver-failed"),
    SeededFailure("hung callout", _hung_callout, "failed", "resolver-unavailable", ("callout",), slow=True),
    SeededFailure("resolver that hangs", _resolver_that_hangs, "failed", "resolver-too-slow", slow=True),
    SeededFailure("full disk of the state", _full_disk_of_the_state, "failed", "lease-not-stored"),
    SeededFailure("no file for it", _no_file, "nothing to boot", "no-boot-file"),
    SeededFailure("installs for ever", _endless_installation, "nothing to boot", "loop-broken", slow=True),
    SeededFailure("file of another server", _file_of_another_server, "sent to another server", ""),
)
