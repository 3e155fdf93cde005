"""Reads the headers of UEFI programs (Portable Executable, Microsoft's "PE Format").

Only a dozen fields are needed. The libraries for the format also read imports, resources and debug data: they are
larger than the rest of bootfw's dependencies together, and slow on files of some megabytes.
"""

import re
from struct import Struct, error

from attrs import frozen

from bootfw.lint.tree import Served
from bootfw.wire.executable import MACHINES

_file_header = Struct("<4sHHIIIHH")
_section = Struct("<8sIIII")
_pair = Struct("<II")
_PE32_PLUS = 0x20B
_CERTIFICATES = 4  # index of the certificate table in the data directories
_SECOND_STAGE = re.compile(rb"\\\0(?:\\\0)?((?:[\w-]\0)+)\.\0e\0f\0i\0")


@frozen
class Program:
    """The headers of a UEFI program."""

    machine: str
    """A name of MACHINES, or the number in hexadecimal."""
    signed: bool
    """It has a certificate table. Whether firmware trusts the certificates is not checked."""
    length: int
    """Smallest length of the file in bytes: the end of its last section or certificate."""


def read_program(file: Served) -> Program | None:
    """Read the headers of *file*; None: it is not a Portable Executable."""
    head = file.head
    if head[:2] != b"MZ":
        return None
    try:
        (start,) = Struct("<I").unpack_from(head, 0x3C)
        signature, machine, sections, _, _, _, optional, _ = _file_header.unpack_from(head, start)
        if signature != b"PE\0\0":
            return None
        header = start + _file_header.size
        (magic,) = Struct("<H").unpack_from(head, header)
        directories = header + (112 if magic == _PE32_PLUS else 96)
        (count,) = Struct("<I").unpack_from(head, directories - 4)
        offset, size = _pair.unpack_from(head, directories + 8 * _CERTIFICATES) if count > _CERTIFICATES else (0, 0)
        end = offset + size
        for number in range(sections):
            _, _, _, length, offset = _section.unpack_from(head, header + optional + 40 * number)
            end = max(end, offset + length if length else 0)
    except error:
        return None
    return Program(MACHINES.get(machine, f"{machine:#x}"), bool(size), end)


def second_stages(file: Served) -> list[str]:
    """Return the files that a shim loads next, such as "grubx64.efi", from the strings in it. Empty: the program is not
    a shim.

    A shim is recognized by the name of its MokManager (mmx64.efi), which other programs do not contain.
    """
    names = {found.decode("utf-16-le") for found in _SECOND_STAGE.findall(file.data(8 << 20))}
    if not any(re.fullmatch(r"mm[a-z0-9]+", name) for name in names):
        return []
    return sorted(f"{name}.efi" for name in names if re.match(r"grub|ipxe", name))
