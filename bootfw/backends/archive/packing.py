"""Unpacks a compressed member once, into a file without a name, which all its readers share."""

import bz2
import gzip
import lzma
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any

from attrs import define, field

from bootfw.backends.archive.contents import ArchiveError, Packed

DIRECTORY = "/var/tmp"
"""Not /tmp, which may be in memory (file-hierarchy(7))."""

_CHUNK = 1 << 20
"""Bytes that are unpacked at a time."""


def _zstd(file: Any) -> IO[bytes]:
    try:
        import zstandard
    except ImportError:
        raise ArchiveError("zstd is read by zstandard, which is not installed: pip install 'bootfw[zstd]'") from None
    return zstandard.ZstdDecompressor().stream_reader(file)


_BY_MAGIC: Mapping[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\0": lzma.open,
    b"BZh": bz2.open,
    b"\x28\xb5\x2f\xfd": _zstd,
}


def decompressor(file: Any) -> Callable[[Any], IO[bytes]] | None:
    """Return the function that opens the compressed *file* for reading; None: it is not compressed."""
    file.seek(0)
    head = file.read(8)
    return next((opener for magic, opener in _BY_MAGIC.items() if head.startswith(magic)), None)


def unpack(opened: Callable[[], IO[bytes]], most: int) -> int:
    """Write all bytes of the file object that *opened* returns to a file without a name.

    :param most: most bytes. The size in an archive can't be trusted: a small archive may unpack to any size.
    :return: the descriptor of the file.
    :raise ArchiveError: there are more bytes, or they are damaged.
    :raise OSError: the disk is full, or the file system reports another error.
    """
    try:
        directory = DIRECTORY if os.path.isdir(DIRECTORY) else None
        with opened() as source, tempfile.TemporaryFile(dir=directory) as file:
            length = 0
            while data := source.read(_CHUNK):
                length += len(data)
                if length > most:
                    raise ArchiveError(f"more than {most} bytes unpacked; unpack-size allows no more")
                file.write(data)
            file.flush()
            return os.dup(file.fileno())
    except ArchiveError:
        raise
    except Exception as error:
        # The decompressors raise many kinds of exceptions, OSError too; only one of the file system has a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ArchiveError(f"it is damaged: {error}") from error


@define(eq=False)
class Unpacked:
    """Unpacked members of one archive; the most recently used ones are cached.

    :param most: most bytes of all cached members.
    """

    most: int
    _unpacked: "OrderedDict[int, tuple[int, int]]" = field(factory=OrderedDict, init=False)
    """id() of a member -> (descriptor, bytes), the least recently used one first."""

    def find(self, member: Packed) -> int | None:
        """Return a duplicate of the descriptor, which the caller owns; None: the member is not unpacked."""
        unpacked = self._unpacked.get(id(member))
        if unpacked is None:
            return None
        self._unpacked.move_to_end(id(member))
        return os.dup(unpacked[0])

    def keep(self, member: Packed, descriptor: int) -> None:
        """Keep the descriptor of an unpacked member, which this object owns from now on. The least recently used ones
        are closed for it; their readers have duplicates."""
        length = os.fstat(descriptor).st_size
        while self._unpacked and length + sum(size for _, size in self._unpacked.values()) > self.most:
            os.close(self._unpacked.popitem(last=False)[1][0])
        self._unpacked[id(member)] = descriptor, length

    def close(self) -> None:
        """Close all descriptors."""
        while self._unpacked:
            os.close(self._unpacked.popitem()[1][0])
