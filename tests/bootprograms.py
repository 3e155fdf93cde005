"""Small files that look like boot programs."""

import gzip
import struct

IA32, X64, AA64 = 0x014C, 0x8664, 0xAA64


def pe(machine: int = X64, signed: bool = False, names: tuple[str, ...] = (), size: int = 2048) -> bytes:
    """A UEFI program with one section; it contains *names* as a shim does."""
    plus = machine != IA32
    optional = struct.pack("<H", 0x20B if plus else 0x10B) + bytes(66) + struct.pack("<H", 10)
    optional = optional.ljust(108 if plus else 92, b"\0") + struct.pack("<I", 16)
    certificates = struct.pack("<II", size, 64 if signed else 0) if signed else bytes(8)
    optional += bytes(8 * 4) + certificates + bytes(8 * 11)
    header = struct.pack("<4sHHIIIHH", b"PE\0\0", machine, 1, 0, 0, 0, len(optional), 0x22)
    section = struct.pack("<8sIIII", b".text", size - 1024, 4096, size - 1024, 1024) + bytes(16)
    data = (b"MZ" + bytes(58) + struct.pack("<I", 64) + header + optional + section).ljust(1024, b"\0")
    data += b"".join(f"\\{name}".encode("utf-16-le") + b"\0\0" for name in names)
    return data.ljust(size, b"\0") + (bytes(64) if signed else b"")


def shim(machine: int = X64, second: str = "grubx64.efi", signed: bool = True) -> bytes:
    return pe(machine, signed, ("fbx64.efi", "mmx64.efi", second))


def kernel(size: int = 4096) -> bytes:
    """A bzImage."""
    data = bytearray(size)
    data[0x1F1] = 1
    data[0x1F4:0x1F8] = struct.pack("<I", (size - 1024) // 16)
    data[0x202:0x206] = b"HdrS"
    return bytes(data)


def pxelinux(version: str = "6.04") -> bytes:
    return b"\xea\x05\0\xc0\x07" + f"\r\nPXELINUX {version} PXE 20200816 ".encode() + bytes(500)


def syslinux_efi(machine: int = X64) -> bytes:
    half = b"ldlinux.e64" if machine == X64 else b"ldlinux.e32"
    return pe(machine) + b"\0" + half + b"\0\r\nSyslinux 6.04 (EFI; 20200816)\0"


def module(bits: int = 32, needs: tuple[str, ...] = ()) -> bytes:
    """A module of SYSLINUX 5 and later."""
    return b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(60) + b"".join(f"\0{name}".encode() for name in needs) + b"\0"


COM32 = b"\xb8\xfe\x4c\xcd\x21" + bytes(100)
"""A module of SYSLINUX 4 and before."""

INITRD = gzip.compress(bytes(range(256)) * 50)
