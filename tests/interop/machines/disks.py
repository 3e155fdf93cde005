"""Disks and CDs that a PC may boot: they print a message and halt; and a disk to install a system on."""

import subprocess
from pathlib import Path

from ..lab import need

_PRINT_PROGRAM = bytes.fromhex("31c0 8ed8 be197c fc ac 84c0 7409 b40e bb0700 cd10 ebf2 f4 ebfd")
"""At 0000:7C00: writes each byte of what follows by INT 10h function 0Eh, up to a NUL."""


def boot_sector(message: str) -> bytes:
    """512 bytes that print *message*: the first ones of a disk, or a CD's boot image (no emulation)."""
    # SeaBIOS keeps the last character of the console back until another one follows.
    program = _PRINT_PROGRAM + message.encode() + b".\0"
    return program.ljust(510, b"\0") + b"\x55\xaa"


def disk(message: str) -> bytes:
    """A floppy disk of 1.44 MB: PXELINUX loads a larger one for a minute."""
    return boot_sector(message).ljust(1440 << 10, b"\0")


def cd(scratch: Path, message: str) -> bytes:
    """A CD without emulation ("El Torito" 1.0), which is how systems are installed from one."""
    need("xorriso")
    (scratch / "cd").mkdir()
    (scratch / "cd/boot.bin").write_bytes(boot_sector(message).ljust(2048, b"\0"))
    options = ("-b", "boot.bin", "-no-emul-boot", "-boot-load-size", "4", "-o", str(scratch / "cd.iso"))
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", *options, str(scratch / "cd")], check=True)
    return (scratch / "cd.iso").read_bytes()


def usb_disk_options(path: Path) -> list[str]:
    """QEMU's options for a USB disk, tried after the network, that the machine writes to and boots from again.

    USB is what firmware and the kernel of debian-installer's netboot image both have drivers for.
    """
    device = "usb-storage,drive=disk,bus=usb.0,bootindex=9"
    drive = f"if=none,id=disk,format=raw,cache=unsafe,file={path}"
    return ["-action", "reboot=reset", "-device", "qemu-xhci,id=usb", "-drive", drive, "-device", device]
