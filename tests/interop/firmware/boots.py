"""The boots that are tested: a machine, and the files that it is served."""

from collections.abc import Callable, Mapping

from attrs import frozen

from ..lab import Lab, Program
from ..machines.bios import start_bios_machine
from ..machines.s390x import start_s390x_machine
from ..machines.slof import start_slof_machine
from ..machines.uboot import start_uboot_board
from ..machines.uefi import start_uefi_machine
from ..qemu import Card
from .files import Served, foreign_grub
from .servers import ANY


@frozen
class Boot:
    """One machine, or several, with the files to boot."""

    name: str
    start: Callable[[Lab], Program]
    """Switches the machine on."""
    prepare: Callable[[Served], Mapping[str, str]]
    """Makes the files that are served; returns the boot file of each architecture, as in servers.Task."""
    proxy: bool = False
    """Another DHCP server assigns the addresses."""
    ipv6: bool = False
    """It boots by IPv6 alone."""
    machines: int = 1
    quick: bool = False
    """Whether `make test` has it; `make firmware` has all."""
    seconds: float = 90
    """How long it may take on a clean link, and a slow machine."""


def _bios(lab: Lab) -> Program:
    return start_bios_machine(lab, "e1000")


def _virtio(lab: Lab) -> Program:
    return start_bios_machine(lab, "virtio-net-pci")


def _second_card(lab: Lab) -> Program:
    return start_bios_machine(lab, cards=(Card("e1000", plugged=False), Card("e1000")))


def _uefi(kind: str) -> Callable[[Lab], Program]:
    return lambda lab: start_uefi_machine(lab, kind)


def _uboot(kind: str, *commands: str) -> Callable[[Lab], Program]:
    return lambda lab: start_uboot_board(lab, kind, *commands)


def _script(served: Served) -> Mapping[str, str]:
    return {"ipxe": served.ipxe_script()}


def _script_by_http(served: Served) -> Mapping[str, str]:
    return {"ipxe": "{http}/" + served.ipxe_script()}


def _ipxe(served: Served) -> Mapping[str, str]:
    return {"x86_64-uefi": served.copy("/usr/lib/ipxe/snponly.efi"), "ipxe": served.ipxe_script()}


def _ipxe_and_http(served: Served) -> Mapping[str, str]:
    """All but iPXE itself comes by HTTP, Linux too."""
    served.linux()
    script = served.ipxe_script(kernel="kernel")
    return {"x86_64-uefi": served.copy("/usr/lib/ipxe/snponly.efi"), "ipxe": "{http}/" + script}


def _pxelinux(served: Served) -> Mapping[str, str]:
    served.linux()
    served.pxelinux_menu()
    served.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32")
    return {"x86-bios": served.copy("/usr/lib/PXELINUX/pxelinux.0")}


def _syslinux_efi(served: Served) -> Mapping[str, str]:
    served.linux()
    served.pxelinux_menu()
    served.copy("/usr/lib/syslinux/modules/efi64/ldlinux.e64")
    return {"x86_64-uefi": served.copy("/usr/lib/SYSLINUX.EFI/efi64/syslinux.efi")}


def _grub(architecture: str, platform: str, debian_architecture: str = "") -> Callable[[Served], Mapping[str, str]]:
    """GRUB by TFTP. *debian_architecture*: Debian's name of a foreign architecture."""
    return lambda served: {
        architecture: served.grub(
            platform, foreign_grub(debian_architecture, platform) if debian_architecture else None
        )
    }


def _grub_and_linux(served: Served) -> Mapping[str, str]:
    return {"x86_64-uefi": served.grub("x86_64-efi", linux=True)}


def _grub_by_http(architecture: str, platform: str) -> Callable[[Served], Mapping[str, str]]:
    return lambda served: {architecture: served.grub_with_menu_from("http", platform)}


def _shim(served: Served) -> Mapping[str, str]:
    """Debian's shim and GRUB, both signed, where they look for each other. Secure Boot is on."""
    served.copy("/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed", "grubx64.efi")
    served.grub_menu()
    return {"x86_64-uefi": served.copy("/usr/lib/shim/shimx64.efi.signed", "shimx64.efi")}


def _grub_by_http_boot(served: Served) -> Mapping[str, str]:
    return {"x86_64-uefi-http": "{http}/" + served.grub_with_menu_from("http", "x86_64-efi")}


def _uefi6(pxe: bool) -> Callable[[Lab], Program]:
    """Without *pxe* it tries HTTPv4 for a minute before HTTPv6."""
    return lambda lab: start_uefi_machine(lab, pxe4=False, pxe6=pxe)


def _pxe6(served: Served) -> Mapping[str, str]:
    return {"x86_64-uefi": served.grub_with_marker("x86_64-efi")}


def _http6(served: Served) -> Mapping[str, str]:
    return {"x86_64-uefi-http": "{http}/" + served.grub_with_marker("x86_64-efi")}


def _grub_with_proxy(served: Served) -> Mapping[str, str]:
    """GRUB takes the server that gave the address for its own, unless its image says another."""
    return {"arm64-uefi": served.grub_with_menu_from("tftp", "arm64-efi", foreign_grub("arm64", "arm64-efi"))}


def _uboot_script(client: str, architecture: str) -> Callable[[Served], Mapping[str, str]]:
    return lambda served: {client: served.uboot_script(architecture)}


def _uboot_menu(served: Served) -> Mapping[str, str]:
    served.linux("arm64")
    served.pxelinux_menu("ttyAMA0")
    return {"arm64-uboot": "pxelinux.0"}


def _s390x_menu(served: Served) -> Mapping[str, str]:
    served.linux("s390x")
    served.pxelinux_menu("ttysclp0")
    return {"s390": "pxelinux.cfg/default"}


BOOTS = (
    Boot("bios-ipxe", _bios, _script, quick=True),
    Boot("bios-ipxe-proxy", _bios, _script, proxy=True, quick=True),
    Boot("bios-ipxe-virtio", _virtio, _script, proxy=True),
    Boot("bios-ipxe-http", _bios, _script_by_http, proxy=True, quick=True),
    Boot("bios-second-card", _second_card, _script),
    Boot("bios-16-at-once", _bios, _script, machines=16, seconds=240),
    Boot("bios-pxelinux-linux", _bios, _pxelinux, proxy=True),
    Boot("bios-grub", _bios, _grub("x86-bios", "i386-pc")),
    Boot("bios-grub-http", _bios, _grub_by_http("x86-bios", "i386-pc")),
    Boot("uefi-ipxe", _uefi("x86_64"), _ipxe),
    Boot("uefi-ipxe-proxy", _uefi("x86_64"), _ipxe, proxy=True),
    Boot("uefi-ipxe-http-linux", _uefi("x86_64"), _ipxe_and_http, proxy=True),
    Boot("uefi-grub", _uefi("x86_64"), _grub("x86_64-uefi", "x86_64-efi")),
    Boot("uefi-grub-http", _uefi("x86_64"), _grub_by_http("x86_64-uefi", "x86_64-efi")),
    Boot("uefi-grub-linux", _uefi("x86_64"), _grub_and_linux),
    Boot("uefi-syslinux-linux", _uefi("x86_64"), _syslinux_efi),
    Boot("uefi-shim-grub", _uefi("x86_64-secure"), _shim),
    Boot("uefi-http4-grub", lambda lab: start_uefi_machine(lab, pxe4=False), _grub_by_http_boot),
    Boot("uefi-pxe6", _uefi6(pxe=True), _pxe6, ipv6=True),
    Boot("uefi-http6", _uefi6(pxe=False), _http6, ipv6=True, seconds=150),
    Boot("uefi-ia32-grub", _uefi("ia32"), _grub("x86-uefi", "i386-efi")),
    Boot("uefi-arm64-grub", _uefi("arm64"), _grub("arm64-uefi", "arm64-efi", "arm64"), quick=True),
    Boot("uefi-arm64-grub-proxy", _uefi("arm64"), _grub_with_proxy, proxy=True),
    Boot("uefi-arm32-grub", _uefi("arm32"), _grub("arm32-uefi", "arm-efi", "armhf")),
    Boot("uboot-arm64", _uboot("arm64"), _uboot_script("arm64-uboot", "arm64"), quick=True),
    Boot("uboot-arm32", _uboot("arm32"), _uboot_script("arm32-uboot", "arm")),
    Boot("uboot-riscv64", _uboot("riscv64"), _uboot_script(ANY, "riscv")),
    Boot("uboot-x86", _uboot("x86"), _uboot_script(ANY, "x86")),
    Boot(
        "uboot-arm64-pxe-linux",
        _uboot("arm64", "setenv autoload no; setenv tftpwindowsize 32", "dhcp", "pxe get", "pxe boot"),
        _uboot_menu,
    ),
    Boot("slof", start_slof_machine, lambda served: {ANY: served.forth(), "ppc-open-firmware": "boot.fs"}, quick=True),
    Boot("s390x-linux", start_s390x_machine, _s390x_menu),
)
