"""Readers for content in memory and for regular files: all that most backends need."""

import errno
import hashlib
import os
import time
import zlib
from typing import ClassVar, NamedTuple

from attrs import define, field
from zope.interface import implementer

from bootfw.errors import TransferError
from bootfw.interfaces import ICacheableReader, IComparingReader, IFileReader, IShareableReader

_TICK = 2_000_000_000  # nanoseconds; the coarsest clock of a file system that one meets (FAT)

_SAMPLES = 16
"""Reads of a file, at most, whose checksums are kept to tell appending from overwriting."""


@implementer(ICacheableReader)
@define(eq=False)
class MemoryReader:
    """Reads *data*."""

    modified: ClassVar[float | None] = None
    changed: ClassVar[float | None] = None

    _data: bytes
    size: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.size = len(self._data)

    @property
    def etag(self) -> str:
        """See ICacheableReader. Costs about a millisecond per megabyte, each time."""
        return hashlib.blake2b(self._data, digest_size=16).hexdigest()

    def read(self, offset: int, length: int) -> bytes:
        """See IReader."""
        return self._data[offset : offset + length]

    def close(self) -> None:
        """See IReader."""


class FileVersion(NamedTuple):
    """Identity of a regular file's content: equal if the content is the same version, in every process."""

    device: int
    inode: int
    size: int
    changed: int
    """The later one of mtime and ctime, in nanoseconds."""


@implementer(IFileReader, IShareableReader, ICacheableReader, IComparingReader)
@define(eq=False)
class FileReader:
    """Reads a regular file, and closes the descriptor.

    It serves the content as it was when the file was opened. Bytes that are appended later are not read: the client may
    know the size already. A file that has become shorter or was overwritten is an error, since part of each content is
    worse than none. A longer file with a new mtime may have been appended to or overwritten, so checksums of some reads
    are kept (of all in a small file) and compared when the file has grown.

    :param fd: open for reading. The file may be renamed or removed meanwhile.
    """

    start: ClassVar[int] = 0
    etag: ClassVar[str | None] = None

    _fd: int
    _users: int = field(default=1, init=False)
    size: int = field(init=False)
    modified: float = field(init=False)
    changed: float = field(init=False)
    _modified_ns: int = field(init=False)
    identity: FileVersion | None = field(init=False)
    """None: the file changed so recently that a further change could leave its times unchanged."""
    _samples: list[tuple[int, int, int]] = field(factory=list, init=False)
    """(offset, length, CRC) of reads."""
    _stride: int = field(default=1, init=False)
    """One of so many reads is sampled."""
    _until_sample: int = field(default=1, init=False)

    def __attrs_post_init__(self) -> None:
        status = os.fstat(self._fd)
        self.size, self.modified = status.st_size, status.st_mtime
        self._modified_ns = status.st_mtime_ns
        changed = max(status.st_mtime_ns, status.st_ctime_ns)
        self.changed = changed / 1e9
        settled = abs(time.time_ns() - changed) > _TICK
        self.identity = FileVersion(status.st_dev, status.st_ino, status.st_size, changed) if settled else None

    def verify(self) -> None:
        """See IVerifiableReader. A file that was renamed, removed, or appended to still has this content."""
        status = os.fstat(self._fd)
        if status.st_mtime_ns == self._modified_ns:
            return
        if status.st_size <= self.size or any(
            zlib.crc32(os.pread(self._fd, length, offset)) != crc for offset, length, crc in self._samples
        ):
            raise TransferError("The file has changed meanwhile, start again")

    def remember(self, offset: int, data: bytes | memoryview) -> None:
        """See IComparingReader."""
        self._until_sample -= 1
        if self._until_sample:
            return
        self._samples.append((offset, len(data), zlib.crc32(data)))
        if len(self._samples) == _SAMPLES:
            del self._samples[1::2]
            self._stride *= 2
        self._until_sample = self._stride

    def fileno(self) -> int:
        """See IFileReader."""
        return self._fd

    def share(self) -> "FileReader":
        """See IShareableReader."""
        self._users += 1
        return self

    def read(self, offset: int, length: int) -> bytes:
        """See IReader.

        :raise OSError: ESTALE when the file has become shorter; otherwise what the file system says.
        :raise TransferError: with its end: the file has been written to since it was opened.
        """
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        data = os.pread(self._fd, length, offset)
        while len(data) < length:
            more = os.pread(self._fd, length - len(data), offset + len(data))
            if not more:
                raise OSError(errno.ESTALE, "the file has become shorter while it was being read")
            data += more
        self.remember(offset, data)
        if offset + length >= self.size:
            self.verify()
        return data

    def close(self) -> None:
        """See IReader. The last user closes the descriptor. A further call raises OSError."""
        self._users -= 1
        if self._users > 0:
            return
        fd, self._fd = self._fd, -1
        os.close(fd)
