"""Failures of boots by real firmware under QEMU."""

import shutil
from pathlib import Path

import pytest

from .dhcpservers import dnsmasq
from .firmware.servers import start_address_server, start_dnsmasq, start_router
from .lab import Program, need
from .machines.bios import start_bios_machine
from .machines.uboot import start_uboot_board
from .machines.uefi import start_uefi_machine
from .qemu import SECONDS, Card
from .seeding import ADDRESSES, IMPATIENT, PROXY, SERVER, Scene, Seeded
from .test_http_boot import signature_list

MACHINE = "52:54:00:99:00:02"

_IPXE = 15
"""Seconds of silence after which iPXE has stopped; it repeats itself within 8 s (measured)."""

_EDK2 = 40
"""The same for EDK2, which pauses for up to 32 s (measured)."""


def _turn_on_a_pc(scene: Scene) -> Program:
    """With iPXE in the ROM of its card."""
    start_router(scene.lab)
    return start_bios_machine(scene.lab, cards=(Card("e1000", mac=MACHINE),))


def _boot_a_pc(scene: Scene) -> str:
    """Until it has given up."""
    _turn_on_a_pc(scene).wait_for("No bootable device", SECONDS)
    return MACHINE


def _uefi_card() -> tuple[Card, ...]:
    return (Card("virtio-net-pci", "romfile=", mac=MACHINE),)


def _boot_by_pxe(scene: Scene) -> str:
    """Of UEFI, until it has given up PXE: by HTTP it may boot."""
    console = start_uefi_machine(scene.lab, cards=_uefi_card())
    console.wait_for("Start HTTP Boot", SECONDS)
    console.stop()
    return MACHINE


def _copy(scene: Scene, source: str, name: str = "") -> str:
    need(source)
    name = name or Path(source).name
    shutil.copy(source, scene.root / name)
    return name


# iPXE in a PC


def _wrong_name(scene: Scene) -> str:
    scene.serves("boot-menu.ipxe", "#!ipxe")
    scene.starts(ADDRESSES, scene.names(ipxe="boot-menue.ipxe"), silent=_IPXE)
    return _boot_a_pc(scene)


def _missing_initrd(scene: Scene) -> str:
    _copy(scene, "/usr/lib/ipxe/ipxe.lkrn", "vmlinuz")
    scene.serves("boot.ipxe", "#!ipxe\nkernel vmlinuz\ninitrd initrd.img\nboot\n")
    scene.starts(ADDRESSES, scene.names(ipxe="boot.ipxe"), silent=_IPXE)
    return _boot_a_pc(scene)


def _missing_kernel(scene: Scene) -> str:
    _copy(scene, "/usr/lib/PXELINUX/pxelinux.0")
    _copy(scene, "/usr/lib/syslinux/modules/bios/ldlinux.c32")
    scene.serves("vmlinuz-6.12")
    scene.serves("pxelinux.cfg/default", "SERIAL 0\nDEFAULT linux\nLABEL linux\nKERNEL vmlinuz-6.1\n")
    scene.starts(ADDRESSES, scene.names(ipxe="pxelinux.0"), silent=_IPXE)
    _turn_on_a_pc(scene).wait_for("boot:", SECONDS)
    return MACHINE


def _small_mtu(scene: Scene) -> str:
    scene.serves("boot.ipxe", "#!ipxe\n" + "# a comment\n" * 1000)
    scene.starts(ADDRESSES, scene.names(ipxe="boot.ipxe"), IMPATIENT, silent=_IPXE)
    scene.drops("ip length > 1300")
    return _boot_a_pc(scene)


def _port_69_closed(scene: Scene) -> str:
    scene.serves("boot.ipxe", "#!ipxe")
    scene.starts(ADDRESSES, scene.names(ipxe="boot.ipxe"), silent=_IPXE)
    scene.drops("udp dport 69")
    return _boot_a_pc(scene)


def _cable_pulled(scene: Scene) -> str:
    scene.serves("vmlinuz", bytes(4_000_000))
    scene.serves("boot.ipxe", "#!ipxe\nkernel vmlinuz\nboot\n")
    scene.starts(ADDRESSES, scene.names(ipxe="boot.ipxe"), IMPATIENT, silent=_IPXE)
    scene.drops("udp sport 69 numgen inc mod 65536 >= 300")
    return _boot_a_pc(scene)


def _dead_link_after_the_offer(scene: Scene) -> str:
    scene.serves("boot.ipxe", "#!ipxe")
    scene.starts(ADDRESSES, scene.names(ipxe="boot.ipxe"), silent=_IPXE)
    scene.drops(f'oifname "{scene.server.name}" udp dport 67 numgen inc mod 65536 >= 1')
    return _boot_a_pc(scene)


def _second_server(scene: Scene) -> str:
    scene.serves("boot.ipxe", "#!ipxe")
    scene.starts(ADDRESSES, scene.names(ipxe="boot.ipxe"), silent=_IPXE)
    dnsmasq(scene.lab.host("second", "10.77.0.3/24"), scene.directory)
    scene.drops("ip saddr 10.77.0.1 udp sport 67")
    return _boot_a_pc(scene)


def _exhausted_pool(scene: Scene) -> str:
    scene.serves("boot.ipxe", "#!ipxe")
    small = ADDRESSES.replace("10.77.0.100-10.77.0.110", "10.77.0.100")
    scene.starts(small, scene.names(ipxe="boot.ipxe"), silent=_IPXE)
    neighbour = start_bios_machine(scene.lab, cards=(Card("e1000", mac="52:54:00:99:00:03"),))
    neighbour.wait_until(lambda: "leases 10.77.0.100" in scene.running.output, SECONDS, "the pool is empty")
    neighbour.stop()
    return _boot_a_pc(scene)


def _hung_callout(scene: Scene) -> str:
    scene.hangs_at("10.77.0.5", 8000)
    scene.starts(ADDRESSES, '[[resolver]]\nuse = "callout"\nurl = "http://10.77.0.5:8000"\n', silent=_IPXE)
    return _boot_a_pc(scene)


# UEFI


def _port_4011_closed(scene: Scene) -> str:
    _copy(scene, "/usr/lib/ipxe/snponly.efi")
    start_address_server(scene.lab)
    scene.starts(PROXY, scene.names(x86_64_uefi="snponly.efi"), silent=_EDK2)
    scene.drops("udp dport 4011")
    return _boot_by_pxe(scene)


def _second_proxy(scene: Scene) -> str:
    """Its answers win, since ours are dropped: which of the two the firmware takes is chance otherwise."""
    _copy(scene, "/usr/lib/ipxe/snponly.efi")
    start_address_server(scene.lab)
    second = scene.lab.host("second", "10.77.0.4/24")
    service = "--pxe-service=X86-64_EFI,boot,other.efi"
    start_dnsmasq(scene.lab, second, "--dhcp-range=10.77.0.0,proxy", service).wait_until_bound(67, 4011)
    scene.starts(PROXY, scene.names(x86_64_uefi="snponly.efi"), silent=_EDK2)
    scene.drops("ip saddr 10.77.0.1 udp sport 67")
    return _boot_by_pxe(scene)


def _wrong_architecture(scene: Scene) -> str:
    program = bytearray((scene.root / _copy(scene, "/usr/lib/ipxe/snponly.efi")).read_bytes())
    header = int.from_bytes(program[0x3C:0x40], "little")
    program[header + 4 : header + 6] = b"\x64\xaa"
    scene.serves("snponly.efi", bytes(program))
    scene.starts(ADDRESSES, scene.names(x86_64_uefi="snponly.efi"), silent=_EDK2)
    start_uefi_machine(scene.lab, cards=_uefi_card())
    return MACHINE


def _not_signed(scene: Scene) -> str:
    _copy(scene, "/usr/lib/ipxe/snponly.efi")
    scene.starts(ADDRESSES, scene.names(x86_64_uefi="snponly.efi"), silent=_EDK2)
    start_uefi_machine(scene.lab, "x86_64-secure", cards=_uefi_card())
    return MACHINE


def _unknown_issuer(scene: Scene) -> str:
    certificates = pytest.importorskip("certificates", reason="needs the extra tls")
    _copy(scene, "/usr/lib/ipxe/snponly.efi")
    for name, pem in zip(("chain.pem", "key.pem"), certificates.Authority().issue(SERVER), strict=True):
        (scene.directory / name).write_bytes(pem)
    trusted = scene.directory / "cacerts"
    trusted.write_bytes(signature_list(certificates.Authority().der))
    https = 'https-listen = ["0.0.0.0:443"]\ncertificate = "chain.pem"\nkey = "key.pem"'
    scene.starts(ADDRESSES, scene.names(x86_64_uefi_http="{https}/snponly.efi"), http=https, silent=_EDK2)
    enrolled = {"etc/edk2/https/cacerts": f"file={trusted}"}
    start_uefi_machine(scene.lab, pxe4=False, cards=_uefi_card(), fw_cfg=enrolled)
    return MACHINE


# U-Boot


def _missing_script(scene: Scene) -> str:
    scene.serves("boot.scr.uimg.old")
    scene.starts(ADDRESSES, scene.names(arm64_uboot="boot.scr.uimg"), silent=15)
    console = start_uboot_board(scene.lab, "arm64", "dhcp")
    console.wait_for("TFTP error", SECONDS)
    return next(iter(scene.listed())).client


FIRMWARE_FAILURES = (
    Seeded("wrong name", _wrong_name, "failed", "missing-file", ("boot-menue.ipxe", "boot-menu.ipxe")),
    Seeded("missing initrd", _missing_initrd, "failed", "missing-file", ("initrd.img",)),
    Seeded("missing kernel", _missing_kernel, "failed", "missing-file", ('"vmlinuz-6.1"', "vmlinuz-6.12")),
    Seeded("small MTU", _small_mtu, "failed", "path-mtu", ("1464 bytes",)),
    Seeded("port 69 closed", _port_69_closed, "failed", "file-not-requested"),
    Seeded("cable pulled", _cable_pulled, "failed", "transfer-timed-out", ("vmlinuz",)),
    Seeded("dead link after the OFFER", _dead_link_after_the_offer, "failed", "offer-not-accepted"),
    Seeded("second server", _second_server, "failed", "other-server", ("10.77.0.3",)),
    Seeded("exhausted pool", _exhausted_pool, "failed", "pool-exhausted", ("10.77.0.0/24",)),
    Seeded("hung callout", _hung_callout, "failed", "resolver-unavailable", ("callout",)),
    Seeded("port 4011 closed", _port_4011_closed, "failed", "boot-server-not-requested"),
    Seeded("second proxy", _second_proxy, "failed", "other-boot-server", ("10.77.0.4",)),
    Seeded("wrong architecture", _wrong_architecture, "failed", "wrong-architecture", ("arm64-uefi", "x86_64-uefi")),
    Seeded("not signed", _not_signed, "failed", "boot-program-rejected"),
    Seeded("unknown issuer", _unknown_issuer, "failed", "tls-refused"),
    Seeded("missing script", _missing_script, "failed", "missing-file", ("boot.scr.uimg",)),
)
