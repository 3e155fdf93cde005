"""Rules for kernels and initial RAM disks: truncated files."""

import re
import zlib
from collections.abc import Iterator
from struct import Struct

from bootfw.lint.pe import read_program
from bootfw.lint.programs import cut_off
from bootfw.lint.tree import HEAD, Served, Tree
from bootfw.values import Finding

_PAYLOAD = re.compile(r"(vmlinu[xz]|linux|bzImage|kernel|initrd|initramfs|netboot|.*\.(gz|img|xz)\Z)", re.IGNORECASE)
_GZIP = b"\x1f\x8b\x08"
_XZ, _XZ_END = b"\xfd7zXZ\0", b"YZ"
_HEADER = 0x202  # "HdrS", Documentation/arch/x86/boot.rst
_PARAGRAPH = 16


def check_payload(tree: Tree, file: Served) -> Iterator[Finding]:
    """Report a file that is shorter than its headers say."""
    if not _PAYLOAD.match(file.name) and not is_linux(file):
        return
    if file.head.startswith(_GZIP):
        if not _gzip_is_whole(file):
            yield Finding(
                file.host_path, "cut-off", "it is damaged or cut off: gzip does not get to its end", "copy it again"
            )
    elif file.head.startswith(_XZ):
        if not file.tail(HEAD).rstrip(b"\0").endswith(_XZ_END):
            yield Finding(
                file.host_path, "cut-off", "it is cut off: the end of an xz stream is missing", "copy it again"
            )
    elif is_linux(file):
        (sectors,) = Struct("<B").unpack_from(file.head, 0x1F1)
        (paragraphs,) = Struct("<I").unpack_from(file.head, 0x1F4)
        length = ((sectors or 4) + 1) * 512 + (paragraphs - 1) * _PARAGRAPH
        if file.size < length:
            yield cut_off(file, length)
    else:
        program = read_program(file)
        if program is not None and file.size < program.length and not file.name.lower().endswith(".efi"):
            yield cut_off(file, program.length)


def is_linux(file: Served) -> bool:
    """Return whether it is a Linux kernel for x86 (bzImage)."""
    return file.head[_HEADER : _HEADER + 4] == b"HdrS"


def _gzip_is_whole(file: Served) -> bool:
    """Return whether the first gzip member is complete; further ones are not checked."""
    unpacking = zlib.decompressobj(wbits=31)
    try:
        for chunk in file.chunks():
            while chunk and not unpacking.eof:
                unpacking.decompress(chunk, 1 << 20)
                chunk = unpacking.unconsumed_tail
            if unpacking.eof:
                return True
    except zlib.error:
        return False
    return unpacking.eof
