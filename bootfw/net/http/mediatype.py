"""The media type of a file: by the end of its name, and where that says nothing, by its first bytes.

UEFI firmware starts a file by its type, and only then by the end of its name; without either it gives up
(edk2, NetworkPkg/HttpBootDxe/HttpBootSupport.c, HttpBootCheckImageType).
"""

from pathlib import PurePosixPath
from struct import unpack_from

from attrs import define, field

UNKNOWN = b"application/octet-stream"

EFI = b"application/efi"
ISO = b"application/vnd.efi-iso"
IMG = b"application/vnd.efi-img"

HEAD = 0x8006
"""The bytes that by_content() looks at: the volume descriptor of an ISO 9660 image is the last of them."""

REMEMBERED = 1024
"""Files whose type, found by their content, is cached, at most."""

_BY_NAME = {
    ".efi": EFI,
    ".iso": ISO,
    ".img": IMG,
    **dict.fromkeys((".ipxe", ".cfg", ".ks", ".preseed", ".txt", ".yaml"), b"text/plain; charset=utf-8"),
}

_EFI_APPLICATION = 10
"""Subsystem of a PE file; drivers and programs for Windows have others."""


@define(eq=False)
class MediaTypes:
    """Media types of files; a file is read for its type once per version."""

    _by_content: dict[tuple[str, str], bytes] = field(factory=dict, init=False)
    """Path and entity tag -> type; the oldest comes first."""

    def of(self, path: str, etag: str) -> bytes | None:
        """Return the type of that version of a file; None: its first bytes are needed, see examine()."""
        return _BY_NAME.get(PurePosixPath(path).suffix.lower()) or self._by_content.get((path, etag))

    def examine(self, path: str, etag: str, head: bytes) -> bytes:
        """Return the type of a file by its first bytes, and cache it for that version of the file.

        :param etag: "": the file has no versions, so nothing is cached.
        :param head: the first HEAD bytes; empty: they could not be read.
        """
        kind = by_content(head)
        if etag and head:
            self._by_content[path, etag] = kind
            if len(self._by_content) > REMEMBERED:
                del self._by_content[next(iter(self._by_content))]
        return kind


def by_content(head: bytes) -> bytes:
    """Return the type by the first HEAD bytes of a file."""
    if _is_efi_application(head):
        return EFI
    if head[0x8001:0x8006] == b"CD001":
        return ISO
    # A Linux kernel ends its first sector as a disk does; "HdrS" in the next one is its setup header (Linux x86 boot
    # protocol, section 1.1).
    if head[510:512] == b"\x55\xaa" and head[0x202:0x206] != b"HdrS" and _is_disk(head):
        return IMG
    return UNKNOWN


def _is_efi_application(head: bytes) -> bool:
    """Return whether it is a Portable Executable for UEFI, such as a boot loader or a Linux kernel with an EFI stub."""
    if head[:2] != b"MZ" or len(head) < 64:
        return False
    (start,) = unpack_from("<I", head, 0x3C)
    if head[start : start + 4] != b"PE\0\0" or len(head) < start + 94:
        return False
    (subsystem,) = unpack_from("<H", head, start + 92)
    return bool(subsystem == _EFI_APPLICATION)


def _is_disk(head: bytes) -> bool:
    """Return whether the boot sector is that of a disk that UEFI can start: a GPT, an EFI system partition, or one FAT
    file system."""
    partition_types = {head[446 + 16 * number + 4] for number in range(4)}
    return (
        head[512:520] == b"EFI PART"
        or bool(partition_types & {0xEE, 0xEF})
        or head[54:57] == b"FAT"
        or head[82:85] == b"FAT"
    )
