"""The architectures that a boot program runs on."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.wire.executable import NO_EFI, machine_of, runs_on


def portable(machine: int, start: int = 0x80) -> bytes:
    """The beginning of a Portable Executable."""
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", start)
    return head.ljust(start, b"\0") + b"PE\0\0" + struct.pack("<H", machine)


@pytest.mark.parametrize(
    ("head", "machine"),
    [
        (portable(0x8664), "x86_64-uefi"),
        (portable(0xAA64), "arm64-uefi"),
        (portable(0x014C), "x86-uefi"),
        (portable(0xFFFF), ""),
        (b"MZ" + bytes(0x200) + b"HdrS" + bytes(99), ""),
        (b"MZ", NO_EFI),
        (b"\xea\x05\0\0", NO_EFI),
        (b"", NO_EFI),
        (portable(0x8664)[:-1], NO_EFI),
    ],
)
def test_architecture_is_read_from_the_header(head: bytes, machine: str) -> None:
    assert machine_of(head) == machine


@given(st.binary(max_size=600))
def test_any_bytes_give_an_architecture_or_none(head: bytes) -> None:
    assert isinstance(machine_of(b"MZ" + head), str)


@pytest.mark.parametrize(
    ("machine", "architecture", "runs"),
    [
        ("x86_64-uefi", "x86_64-uefi", True),
        ("x86_64-uefi", "x86_64-uefi-http", True),
        ("arm64-uefi", "x86_64-uefi", False),
        (NO_EFI, "x86_64-uefi", False),
        (NO_EFI, "x86-bios", True),
        ("x86_64-uefi", "x86-bios", False),
        ("x86_64-uefi", "arm64-uboot", True),
        ("", "x86_64-uefi", True),
        (NO_EFI, "", True),
    ],
)
def test_program_runs_on_its_architecture_only(machine: str, architecture: str, runs: bool) -> None:
    assert runs_on(machine, architecture) is runs
