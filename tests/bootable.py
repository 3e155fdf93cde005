"""Files that look bootable in their first bytes."""

import struct


def pe(machine: int, subsystem: int = 10, offset: int = 0x80) -> bytes:
    """A PE file's headers."""
    data = bytearray(offset + 384)
    data[:2] = b"MZ"
    struct.pack_into("<I", data, 0x3C, offset)
    data[offset : offset + 4] = b"PE\0\0"
    struct.pack_into("<H", data, offset + 4, machine)
    struct.pack_into("<H", data, offset + 24 + 68, subsystem)
    return bytes(data)


def bzimage(version: str = "", *, flags: int = 1, protocol: int = 0x20F, efi: int = 0) -> bytes:
    """The headers of an x86 Linux kernel; *efi*: the machine type of its EFI stub, 0: it has none."""
    data = bytearray(pe(efi).ljust(2048, b"\0") if efi else bytes(2048))
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", data, 0x206, protocol)
    struct.pack_into("<H", data, 0x236, flags)
    if version:
        struct.pack_into("<H", data, 0x20E, 0x300)
        text = f"{version} (builder@host) #1 SMP\0".encode()
        data[0x500 : 0x500 + len(text)] = text
    return bytes(data)


def arm64() -> bytes:
    """The headers of an arm64 Linux kernel with its EFI stub."""
    data = bytearray(pe(0xAA64))
    data[56:60] = b"ARM\x64"
    return bytes(data)


def zboot(machine: int) -> bytes:
    """A Linux kernel that unpacks itself as an EFI program (drivers/firmware/efi/libstub/zboot-header.S)."""
    data = bytearray(pe(machine))
    data[4:8] = b"zimg"
    return bytes(data)


def cd(*platforms: int) -> bytes:
    """An ISO 9660 image with an El Torito catalogue for these platforms: 0 is the BIOS, 0xEF is UEFI."""
    data = bytearray(20 * 2048)
    data[17 * 2048 : 17 * 2048 + 30] = b"\0CD001\x01EL TORITO SPECIFICATION"
    struct.pack_into("<I", data, 17 * 2048 + 0x47, 19)
    catalogue = 19 * 2048
    data[catalogue : catalogue + 2] = bytes((1, platforms[0]))
    data[catalogue + 32] = 0x88
    for number, platform in enumerate(platforms[1:]):
        data[catalogue + 64 + 64 * number : catalogue + 66 + 64 * number] = bytes((0x91, platform))
    return bytes(data)


def disk(code: bytes = b"\xeb\x3c\x90", *partitions: int) -> bytes:
    """A disk's boot record with partitions of these types."""
    data = bytearray(1024)
    data[: len(code)] = code
    for number, partition_type in enumerate(partitions):
        data[446 + 16 * number + 4] = partition_type
    data[510:512] = b"\x55\xaa"
    return bytes(data)


def disk_image(boot_record: bytes = b"", size: int = 1 << 20, *, gpt: bool = False) -> bytes:
    """The image of a disk with one partition; *boot_record*: its 512 bytes, in which the table is put."""
    record = bytearray(boot_record.ljust(512, b"\0"))
    struct.pack_into("<B3xB3xII", record, 446, 0 if gpt else 0x80, 0xEE if gpt else 0x83, 1, size // 512 - 1)
    record[510:] = b"\x55\xaa"
    return bytes(record + (b"EFI PART" if gpt else b"")).ljust(size, b"\0")
