"""Determines from the first bytes of a file which firmware can start it, and on which processor."""

import io
import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO

from attrs import frozen

# PE/COFF specification, "Machine Types".
PE_MACHINES: Mapping[int, str] = {
    0x014C: "i386",
    0x8664: "x86_64",
    0x01C0: "arm32",
    0x01C2: "arm32",
    0x01C4: "arm32",
    0xAA64: "arm64",
    0x5064: "riscv64",
    0x6264: "loongarch64",
}

_EFI_APPLICATION = 10
"""IMAGE_SUBSYSTEM_EFI_APPLICATION, in the optional header of a PE file. Other values: drivers, Windows programs."""

_HEAD = 4096
"""Bytes at the beginning of a program that identify it."""

_GZIP = b"\x1f\x8b\x08"

_SECTOR = 2048
"""Bytes in a sector of a CD."""

_DISK_SECTORS = (512, 4096)
"""The same of disks."""


@frozen
class Executable:
    """How a file can be started."""

    bios: str = ""
    """Processor on which a BIOS, or a loader started by one, can start it: "i386" or "x86_64"; "": it can't."""
    efi: str = ""
    """Processor of the UEFI firmware that can start it: one of PE_MACHINES, or "any" if unknown; "": UEFI can't."""
    linux: bool = False
    """It has the header of a Linux kernel."""
    version: str = ""
    """The version string of a Linux kernel."""

    @property
    def starts(self) -> bool:
        """Whether it can be started at all."""
        return bool(self.bios or self.efi)


def read_executable(file: BinaryIO) -> Executable:
    """Examine a kernel or an EFI program. The result for any other file is a default Executable.

    :raise OSError: the file can't be read.
    """
    head = file.read(_HEAD)
    if head.startswith(_GZIP):
        file = io.BytesIO(_unpacked(head))
        head = file.read(_HEAD)
    machine, subsystem = _pe(head, file)
    efi = machine if subsystem == _EFI_APPLICATION else ""
    if head[0x202:0x206] == b"HdrS":
        # Documentation/arch/x86/boot.rst: protocol version at 0x206, kernel_version at 0x20e, xloadflags at 0x236.
        protocol, _, _, at = struct.unpack_from("<HIHH", head, 0x206)
        flags = struct.unpack_from("<H", head, 0x236)[0] if protocol >= 0x020C else 0
        return Executable("x86_64" if flags & 1 else "i386", efi, True, _version(file, at + 0x200) if at else "")
    # Documentation/arch/arm64/booting.rst, riscv/boot-image-header.rst: the magic number at 56. "zimg": EFI zboot.
    linux = head[56:60] in (b"ARM\x64", b"RSC\x05") or (head[:2] == b"MZ" and head[4:8] == b"zimg")
    return Executable(efi=efi, linux=linux)


def read_disk(file: BinaryIO) -> Executable:
    """Examine the image of a disk or a CD. A hybrid image can be started in several ways.

    :raise OSError: the file can't be read.
    """
    bios, efi = _el_torito(file)
    file.seek(0)
    record = file.read(512)
    if record[510:512] == b"\x55\xaa":
        types = {record[446 + 16 * number + 4] for number in range(4)}
        # A boot record that begins with zeros has no boot code.
        bios = bios or (any(record[:3]) and not _only_protective(types))
        efi = efi or bool(types & {0xEE, 0xEF}) or _is_fat(record)
    # An image that a BIOS can start too is for PCs, whose UEFI firmware is 64-bit.
    return Executable("i386" if bios else "", ("x86_64" if bios else "any") if efi else "")


def read_partitions(file: BinaryIO) -> str:
    """Return the kind of partition table that a disk image has: "GPT" (UEFI 2.10 section 5.3) or "MBR"; "": none.

    :raise OSError: the file can't be read.
    """
    record = file.read(512)
    for size in _DISK_SECTORS:
        file.seek(size)
        if file.read(8) == b"EFI PART":
            return "GPT"
    if record[510:512] != b"\x55\xaa":
        return ""
    # The boot sector of a file system has the same signature, and text or code where a table has its entries.
    entries = [struct.unpack_from("<B3xB3xII", record, 446 + 16 * number) for number in range(4)]
    valid = all(status in (0, 0x80) for status, *_ in entries)
    return "MBR" if valid and any(kind and first and count for _, kind, first, count in entries) else ""


def _unpacked(head: bytes) -> bytes:
    """Unpack the beginning of a gzip file: kernels for arm64 and riscv64 may be compressed (Image.gz)."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, _HEAD)
    except zlib.error:
        return b""


def _pe(head: bytes, file: BinaryIO) -> tuple[str, int]:
    """Return (processor, subsystem) of a PE file; ("", 0): it is not a PE file."""
    if head[:2] != b"MZ":
        return "", 0
    (at,) = struct.unpack_from("<I", head.ljust(64, b"\0"), 0x3C)
    file.seek(at)
    header = file.read(96)
    if header[:4] != b"PE\0\0" or len(header) < 96:
        return "", 0
    (machine,) = struct.unpack_from("<H", header, 4)
    (subsystem,) = struct.unpack_from("<H", header, 24 + 68)
    return PE_MACHINES.get(machine, ""), subsystem


def _version(file: BinaryIO, at: int) -> str:
    file.seek(at)
    text = file.read(128).partition(b"\0")[0].decode("ascii", "replace")
    return text.split(" ")[0]


def _el_torito(file: BinaryIO) -> tuple[bool, bool]:
    """Return whether (a BIOS, UEFI) can start a CD ("El Torito" 1.0, sections 2 to 4; UEFI 2.10 section 13.3.2.1)."""
    file.seek(17 * _SECTOR)
    record = file.read(_SECTOR)
    if record[:30] != b"\0CD001\x01EL TORITO SPECIFICATION":
        return False, False
    (catalog,) = struct.unpack_from("<I", record, 0x47)
    file.seek(catalog * _SECTOR)
    entries = file.read(_SECTOR).ljust(_SECTOR, b"\0")
    if entries[0] != 1 or entries[32] != 0x88:
        return False, False
    platforms = {entries[1]}
    for at in range(64, _SECTOR, 32):
        if entries[at] in (0x90, 0x91):
            platforms.add(entries[at + 1])
    return 0 in platforms, 0xEF in platforms


def _only_protective(types: set[int]) -> bool:
    """Return whether the partition table is the protective MBR of a GPT."""
    return types <= {0, 0xEE} and 0xEE in types


def _is_fat(record: bytes) -> bool:
    """Return whether the image is one FAT file system, in which UEFI finds its program."""
    return record[54:57] == b"FAT" or record[82:85] == b"FAT"
