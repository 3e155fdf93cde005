"""The architecture of a boot program, by its first bytes: a Portable Executable for UEFI, or a program for BIOS."""

from collections.abc import Mapping
from struct import Struct, error

MACHINES: Mapping[int, str] = {
    0x014C: "ia32",
    0x8664: "x64",
    0xAA64: "aa64",
    0x01C2: "arm",
    0x01C4: "arm",
    0x0200: "ia64",
    0x0EBC: "ebc",
    0x5032: "riscv32",
    0x5064: "riscv64",
    0x6232: "loongarch32",
    0x6264: "loongarch64",
}
"""COFF machine -> the short name that UEFI gives files (UEFI 2.10 section 3.5.1.1)."""

_ARCHITECTURES: Mapping[str, str] = {
    "ia32": "x86-uefi",
    "x64": "x86_64-uefi",
    "aa64": "arm64-uefi",
    "arm": "arm32-uefi",
    "ia64": "ia64-efi",
    "riscv32": "riscv32-uefi",
    "riscv64": "riscv64-uefi",
    "loongarch32": "loongarch32-uefi",
    "loongarch64": "loongarch64-uefi",
}
"""Name that UEFI gives -> name in wire/iana.py."""

NO_EFI = "no UEFI program"
"""The result of machine_of() for files that UEFI can't run."""

_offset = Struct("<I")
_signature = Struct("<4sH")


def machine_of(head: bytes) -> str:
    """Return the architecture, as in wire/iana.py, that a program is for.

    :param head: its first 4096 bytes.
    :return: NO_EFI for a file that is no Portable Executable; "" when it is one of a machine that is not known, or a
        Linux kernel, which BIOS boot programs load as well.
    """
    if head[:2] != b"MZ":
        return NO_EFI
    if head[0x202:0x206] == b"HdrS":
        return ""
    try:
        (start,) = _offset.unpack_from(head, 0x3C)
        signature, machine = _signature.unpack_from(head, start)
    except error:
        return NO_EFI
    return _ARCHITECTURES.get(MACHINES.get(machine, ""), "") if signature == b"PE\0\0" else NO_EFI


def runs_on(machine: str, architecture: str) -> bool:
    """Return whether a program can run on a client.

    :param machine: of machine_of().
    :param architecture: of the client, as in wire/iana.py.
    """
    if not machine:
        return True
    if "uefi" in architecture or architecture.endswith("-efi"):
        return machine == architecture.removesuffix("-http")
    return machine == NO_EFI or not architecture.startswith("x86-bios")
