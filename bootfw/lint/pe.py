"""UEFI programs: what the headers of a Portable Executable say (Microsoft's "PE Format").

These dozen fields are all that is needed; the libraries for the format read imports, resources and debug data, are
larger than the rest of bootfw's dependencies together, and are slow on files of some megabytes.
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
    """What the headers say."""

    machine: str
    """A name of MACHINES, or the number in hexadecimal."""
    signed: bool
    """It has a table of certificates. Whether firmware trusts them is not checked."""
    length: int
    """The least length of the file in bytes, by its headers."""


def read_program(file: Served) -> Program | None:
    """Read the headers of *file*; None: it is no Portable Executable."""
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
    """The files that a shim loads next, such as "grubx64.efi", read from the strings in it. Empty: the program is no
    shim.

    A shim names its MokManager too (mmx64.efi), and others don't.
    """
    names = {found.decode("utf-16-le") for found in _SECOND_STAGE.findall(file.data(8 << 20))}
    if not any(re.fullmatch(r"mm[a-z0-9]+", name) for name in names):
        return []
    return sorted(f"{name}.efi" for name in names if re.match(r"grub|ipxe", name))
