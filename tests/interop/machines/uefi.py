"""UEFI machines with EDK2's own network boot: OVMF on x86, AAVMF on ARM."""

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from ..lab import Lab, Program, need
from ..qemu import Card, flash, start_machine
from .disks import usb_disk_options

_serial = itertools.count(1)
_OVMF = Path("/usr/share/OVMF")
_AAVMF = Path("/usr/share/AAVMF")
_SMM = ("-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on")
"""What a build with Secure Boot wants: flash that only system management mode writes to."""

UNROMMED = Card("virtio-net-pci", "romfile=")
"""Without a ROM of its own the card is driven by the firmware; else by iPXE's EFI driver."""


@frozen
class _Kind:
    program: str
    machine: tuple[str, ...]
    code: Path
    variables: Path


_KINDS = {
    "x86_64": _Kind("qemu-system-x86_64", ("-machine", "q35"), _OVMF / "OVMF_CODE_4M.fd", _OVMF / "OVMF_VARS_4M.fd"),
    "x86_64-secure": _Kind("qemu-system-x86_64", _SMM, _OVMF / "OVMF_CODE_4M.ms.fd", _OVMF / "OVMF_VARS_4M.ms.fd"),
    "ia32": _Kind("qemu-system-x86_64", _SMM, _OVMF / "OVMF32_CODE_4M.secboot.fd", _OVMF / "OVMF32_VARS_4M.fd"),
    "arm64": _Kind(
        "qemu-system-aarch64",
        ("-machine", "virt", "-cpu", "cortex-a57"),
        _AAVMF / "AAVMF_CODE.fd",
        _AAVMF / "AAVMF_VARS.fd",
    ),
    "arm32": _Kind(
        "qemu-system-arm",
        ("-machine", "virt", "-cpu", "cortex-a15"),
        _AAVMF / "AAVMF32_CODE.fd",
        _AAVMF / "AAVMF32_VARS.fd",
    ),
}


def _disk(directory: Path) -> tuple[str, ...]:
    """QEMU's options for a read-only disk with the files of *directory*, tried after the network."""
    drive = f"if=none,id=disk,format=raw,read-only=on,file=fat:{directory}"
    return "-drive", drive, "-device", "virtio-blk-pci,drive=disk,bootindex=9"


def start_uefi_machine(
    lab: Lab,
    kind: str = "x86_64",
    *,
    pxe4: bool = True,
    pxe6: bool = False,
    cards: tuple[Card, ...] = (UNROMMED,),
    memory: int = 512,
    fw_cfg: dict[str, str] | None = None,
    uuid: str = "",
    disk: Path | None = None,
    usb_disk: Path | None = None,
    display: bool = False,
    more_options: Sequence[str] = (),
) -> Program:
    """EDK2's boot options are, in this order: PXEv4, PXEv6, HTTPv4, HTTPv6, then its shell.

    *kind* is ``x86_64``, ``x86_64-secure`` (Secure Boot with Microsoft's keys), ``ia32``, ``arm64`` or ``arm32``.
    Without *pxe4* and *pxe6* it begins with HTTPv4. It goes on to the next option after a minute without an answer.
    *fw_cfg*: name to QEMU's source of the value, such as ``string=n`` or ``file=/a/path``.
    *disk*: a directory, whose files are on a disk with one FAT partition, the last boot option. *installed*: see
    ``installed_disk()``. With either give the cards a ``bootindex``. *display*: it has a graphics card.
    *more_options*: further options of QEMU.
    """
    firmware = _KINDS[kind]
    for path in (firmware.program, firmware.code, firmware.variables):
        need(str(path))
    variables = lab.directory / f"{kind}-{next(_serial)}-variables.fd"
    shutil.copy(firmware.variables, variables)
    settings = {
        "opt/org.tianocore/IPv4PXESupport": f"string={'y' if pxe4 else 'n'}",
        "opt/org.tianocore/IPv6PXESupport": f"string={'y' if pxe6 else 'n'}",
    }
    return start_machine(
        lab,
        firmware.program,
        *firmware.machine,
        *flash(firmware.code, 0),
        *flash(variables, 1, writable=True),
        *("-device", "virtio-rng-pci"),
        *(word for name, value in (settings | (fw_cfg or {})).items() for word in ("-fw_cfg", f"name={name},{value}")),
        *(("-uuid", uuid) if uuid else ()),
        *(_disk(disk) if disk else ()),
        *(usb_disk_options(usb_disk) if usb_disk else ()),
        *(("-device", "VGA") if display else ()),
        *more_options,
        cards=cards,
        memory=memory,
        name=f"uefi-{kind}",
    )
