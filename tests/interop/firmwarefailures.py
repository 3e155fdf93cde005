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
from .seeding import ADDRESSES, IMPATIENT, PROXY, SERVER, Scene, SeededFailure
from .test_http_boot import signature_list

MACHINE = "52:54:00:99:00:02"

_IPXE_SILENCE = 15
"""Seconds of silence after which iPXE has stopped; it repeats itself within 8 s (measured)."""

_EDK2_SILENCE = 40
"""The same for EDK2, which pauses for up to 32 s (measured)."""


def _turn_on_a_pc(scene: Scene) -> Program:
    """Start a PC with iPXE in the ROM of its network card."""
    start_router(scene.lab)
    return start_bios_machine(scene.lab, cards=(Card("e1000", mac=MACHINE),))


def _boot_a_pc(scene: Scene) -> str:
    """Start a PC, and wait until it has given up; return its MAC."""
    _turn_on_a_pc(scene).wait_for("No bootable device", SECONDS)
    return MACHINE


def _uefi_card() -> tuple[Card, ...]:
    return (Card("virtio-net-pci", "romfile=", mac=MACHINE),)


def _boot_by_pxe(scene: Scene) -> str:
    """Start a UEFI machine, and stop it when it has given up PXE: by HTTP it could boot. Return its MAC."""
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
    scene.add_file("boot-menu.ipxe", "#!ipxe")
    scene.start_server(ADDRESSES, scene.by_architecture(ipxe="boot-menue.ipxe"), silent=_IPXE_SILENCE)
    return _boot_a_pc(scene)


def _missing_initrd(scene: Scene) -> str:
    _copy(scene, "/usr/lib/ipxe/ipxe.lkrn", "vmlinuz")
    scene.add_file("boot.ipxe", "#!ipxe\nkernel vmlinuz\ninitrd initrd.img\nboot\n")
    scene.start_server(ADDRESSES, scene.by_architecture(ipxe="boot.ipxe"), silent=_IPXE_SILENCE)
    return _boot_a_pc(scene)


def _missing_kernel(scene: Scene) -> str:
    _copy(scene, "/usr/lib/PXELINUX/pxelinux.0")
    _copy(scene, "/usr/lib/syslinux/modules/bios/ldlinux.c32")
    scene.add_file("vmlinuz-6.12")
    scene.add_file("pxelinux.cfg/default", "SERIAL 0\nDEFAULT linux\nLABEL linux\nKERNEL vmlinuz-6.1\n")
    scene.start_server(ADDRESSES, scene.by_architecture(ipxe="pxelinux.0"), silent=_IPXE_SILENCE)
    _turn_on_a_pc(scene).wait_for("boot:", SECONDS)
    return MACHINE


def _small_mtu(scene: Scene) -> str:
    scene.add_file("boot.ipxe", "#!ipxe\n" + "# a comment\n" * 1000)
    scene.start_server(ADDRESSES, scene.by_architecture(ipxe="boot.ipxe"), IMPATIENT, silent=_IPXE_SILENCE)
    scene.drop("ip length > 1300")
    return _boot_a_pc(scene)


def _port_69_closed(scene: Scene) -> str:
    scene.add_file("boot.ipxe", "#!ipxe")
    scene.start_server(ADDRESSES, scene.by_architecture(ipxe="boot.ipxe"), silent=_IPXE_SILENCE)
    scene.drop("udp dport 69")
    return _boot_a_pc(scene)


def _cable_pulled(scene: Scene) -> str:
    scene.add_file("vmlinuz", bytes(4_000_000))
    scene.add_file("boot.ipxe", "#!ipxe\nkernel vmlinuz\nboot\n")
    scene.start_server(ADDRESSES, scene.by_architecture(ipxe="boot.ipxe"), IMPATIENT, silent=_IPXE_SILENCE)
    scene.drop("udp sport 69 numgen inc mod 65536 >= 300")
    return _boot_a_pc(scene)


def _dead_link_after_the_offer(scene: Scene) -> str:
    scene.add_file("boot.ipxe", "#!ipxe")
    scene.start_server(ADDRESSES, scene.by_architecture(ipxe="boot.ipxe"), silent=_IPXE_SILENCE)
    scene.drop(f'oifname "{scene.server.name}" udp dport 67 numgen inc mod 65536 >= 1')
    return _boot_a_pc(scene)


def _second_server(scene: Scene) -> str:
    scene.add_file("boot.ipxe", "#!ipxe")
    scene.start_server(ADDRESSES, scene.by_architecture(ipxe="boot.ipxe"), silent=_IPXE_SILENCE)
    dnsmasq(scene.lab.host("second", "10.77.0.3/24"), scene.directory)
    scene.drop("ip saddr 10.77.0.1 udp sport 67")
    return _boot_a_pc(scene)


def _exhausted_pool(scene: Scene) -> str:
    scene.add_file("boot.ipxe", "#!ipxe")
    one_address = ADDRESSES.replace("10.77.0.100-10.77.0.110", "10.77.0.100")
    scene.start_server(one_address, scene.by_architecture(ipxe="boot.ipxe"), silent=_IPXE_SILENCE)
    other_machine = start_bios_machine(scene.lab, cards=(Card("e1000", mac="52:54:00:99:00:03"),))
    other_machine.wait_until(lambda: "leases 10.77.0.100" in scene.program.output, SECONDS, "the pool is empty")
    other_machine.stop()
    return _boot_a_pc(scene)


def _hung_callout(scene: Scene) -> str:
    scene.start_hanging_service("10.77.0.5", 8000)
    scene.start_server(
        ADDRESSES, '[[resolver]]\nuse = "callout"\nurl = "http://10.77.0.5:8000"\n', silent=_IPXE_SILENCE
    )
    return _boot_a_pc(scene)


# UEFI


def _port_4011_closed(scene: Scene) -> str:
    _copy(scene, "/usr/lib/ipxe/snponly.efi")
    start_address_server(scene.lab)
    scene.start_server(PROXY, scene.by_architecture(x86_64_uefi="snponly.efi"), silent=_EDK2_SILENCE)
    scene.drop("udp dport 4011")
    return _boot_by_pxe(scene)


def _second_proxy(scene: Scene) -> str:
    """Its answers win, since ours are dropped: which of the two the firmware takes is chance otherwise."""
    _copy(scene, "/usr/lib/ipxe/snponly.efi")
    start_address_server(scene.lab)
    second = scene.lab.host("second", "10.77.0.4/24")
    service = "--pxe-service=X86-64_EFI,boot,other.efi"
    start_dnsmasq(scene.lab, second, "--dhcp-range=10.77.0.0,proxy", service).wait_until_bound(67, 4011)
    scene.start_server(PROXY, scene.by_architecture(x86_64_uefi="snponly.efi"), silent=_EDK2_SILENCE)
    scene.drop("ip saddr 10.77.0.1 udp sport 67")
    return _boot_by_pxe(scene)


def _wrong_architecture(scene: Scene) -> str:
    program = bytearray((scene.root / _copy(scene, "/usr/lib/ipxe/snponly.efi")).read_bytes())
    header = int.from_bytes(program[0x3C:0x40], "little")
    program[header + 4 : header + 6] = b"\x64\xaa"
    scene.add_file("snponly.efi", bytes(program))
    scene.start_server(ADDRESSES, scene.by_architecture(x86_64_uefi="snponly.efi"), silent=_EDK2_SILENCE)
    start_uefi_machine(scene.lab, cards=_uefi_card())
    return MACHINE


def _not_signed(scene: Scene) -> str:
    _copy(scene, "/usr/lib/ipxe/snponly.efi")
    scene.start_server(ADDRESSES, scene.by_architecture(x86_64_uefi="snponly.efi"), silent=_EDK2_SILENCE)
    start_uefi_machine(scene.lab, "x86_64-secure", cards=_uefi_card())
    return MACHINE


def _unknown_issuer(scene: Scene) -> str:
    certificates = pytest.importorskip("certificates", reason="needs the extra tls")
    _copy(scene, "/usr/lib/ipxe/snponly.efi")
    for name, pem in zip(("chain.pem", "key.pem"), certificates.Authority().issue(SERVER), strict=True):
        (scene.directory / name).write_bytes(pem)
    certificate_list = scene.directory / "cacerts"
    certificate_list.write_bytes(signature_list(certificates.Authority().der))
    https = 'https-listen = ["0.0.0.0:443"]\ncertificate = "chain.pem"\nkey = "key.pem"'
    scene.start_server(
        ADDRESSES, scene.by_architecture(x86_64_uefi_http="{https}/snponly.efi"), http=https, silent=_EDK2_SILENCE
    )
    fw_cfg = {"etc/edk2/https/cacerts": f"file={certificate_list}"}
    start_uefi_machine(scene.lab, pxe4=False, cards=_uefi_card(), fw_cfg=fw_cfg)
    return MACHINE


# U-Boot


def _missing_script(scene: Scene) -> str:
    scene.add_file("boot.scr.uimg.old")
    scene.start_server(ADDRESSES, scene.by_architecture(arm64_uboot="boot.scr.uimg"), silent=15)
    console = start_uboot_board(scene.lab, "arm64", "dhcp")
    console.wait_for("TFTP error", SECONDS)
    return next(iter(scene.attempts())).client


FIRMWARE_FAILURES = (
    SeededFailure("wrong name", _wrong_name, "failed", "missing-file", ("boot-menue.ipxe", "boot-menu.ipxe")),
    SeededFailure("missing initrd", _missing_initrd, "failed", "missing-file", ("initrd.img",)),
    SeededFailure("missing kernel", _missing_kernel, "failed", "missing-file", ('"vmlinuz-6.1"', "vmlinuz-6.12")),
    SeededFailure("small MTU", _small_mtu, "failed", "path-mtu", ("1464 bytes",)),
    SeededFailure("port 69 closed", _port_69_closed, "failed", "file-not-requested"),
    SeededFailure("cable pulled", _cable_pulled, "failed", "transfer-timed-out", ("vmlinuz",)),
    SeededFailure("dead link after the OFFER", _dead_link_after_the_offer, "failed", "offer-not-accepted"),
    SeededFailure("second server", _second_server, "failed", "other-server", ("10.77.0.3",)),
    SeededFailure("exhausted pool", _exhausted_pool, "failed", "pool-exhausted", ("10.77.0.0/24",)),
    SeededFailure("hung callout", _hung_callout, "failed", "resolver-unavailable", ("callout",)),
    SeededFailure("port 4011 closed", _port_4011_closed, "failed", "boot-server-not-requested"),
    SeededFailure("second proxy", _second_proxy, "failed", "other-boot-server", ("10.77.0.4",)),
    SeededFailure(
        "wrong architecture", _wrong_architecture, "failed", "wrong-architecture", ("arm64-uefi", "x86_64-uefi")
    ),
    SeededFailure("not signed", _not_signed, "failed", "boot-program-rejected"),
    SeededFailure("unknown issuer", _unknown_issuer, "failed", "tls-refused"),
    SeededFailure("missing script", _missing_script, "failed", "missing-file", ("boot.scr.uimg",)),
)
