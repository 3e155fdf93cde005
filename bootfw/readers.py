"""Readers (IReader) for bytes in memory and for regular files, which are all that most backends need."""

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

_TICK = 2_000_000_000  # nanoseconds; the coarsest resolution of mtime on common file systems (FAT)

_SAMPLES = 16
"""Most reads of a file whose checksums are stored, to distinguish appending from overwriting."""


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
        """See ICacheableReader. Each access costs about a millisecond per megabyte."""
        return hashlib.blake2b(self._data, digest_size=16).hexdigest()

    def read(self, offset: int, length: int) -> bytes:
        """See IReader."""
        return self._data[offset : offset + length]

    def close(self) -> None:
        """See IReader."""


class FileVersion(NamedTuple):
    """Identifies a version of a regular file: equal in every process as long as the content is the same."""

    device: int
    inode: int
    size: int
    changed: int
    """The later one of mtime and ctime, in nanoseconds."""


def file_version(status: os.stat_result) -> FileVersion | None:
    """The version of a regular file; None: it was changed so lately that another change might leave its times.

    :param status: of the file, by stat(2).
    """
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    settled = abs(time.time_ns() - changed) > _TICK
    return FileVersion(status.st_dev, status.st_ino, status.st_size, changed) if settled else None


@implementer(IFileReader, IShareableReader, ICacheableReader, IComparingReader)
@define(eq=False)
class FileReader:
    """Reads a regular file, and closes the descriptor.

    It serves the content that the file had when it was opened. Bytes that are appended later are not read, since the
    client may know the size already. If the file has become shorter or was overwritten, the transfer fails: a mixture
    of old and new content would be worse than no file. A file that has grown may have been appended to or overwritten,
    so the checksums of some reads (of all, in a small file) are stored and compared with the file then.

    :param fd: a descriptor that is open for reading. The file may be renamed or removed later.
    """

    start: ClassVar[int] = 0
    etag: ClassVar[str | None] = None

    _fd: int
    _users: int = field(default=1, init=False)
    """Number of owners, see share()."""
    size: int = field(init=False)
    modified: float = field(init=False)
    changed: float = field(init=False)
    _modified_ns: int = field(init=False)
    identity: FileVersion | None = field(init=False)
    """None: see file_version()."""
    _samples: list[tuple[int, int, int]] = field(factory=list, init=False)
    """(offset, length, CRC-32) of sampled reads."""
    _stride: int = field(default=1, init=False)
    """Every so many reads, one is sampled."""
    _until_sample: int = field(default=1, init=False)
    """Number of reads until the next sample."""

    def __attrs_post_init__(self) -> None:
        status = os.fstat(self._fd)
        self.size, self.modified = status.st_size, status.st_mtime
        self._modified_ns = status.st_mtime_ns
        self.changed = max(status.st_mtime_ns, status.st_ctime_ns) / 1e9
        self.identity = file_version(status)

    def verify(self) -> None:
        """See IVerifiableReader. A file that was renamed, removed or appended to passes: it still has this content."""
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
            # Keep every second one, so that the samples stay evenly distributed over the file.
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

        :raise OSError: ESTALE: the file has become shorter. Others are from the file system.
        :raise TransferError: at the end of the file: it was overwritten since it was opened.
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
        """See IReader. The call of the last owner closes the descriptor; a further call raises OSError."""
        self._users -= 1
        if self._users > 0:
            return
        fd, self._fd = self._fd, -1
        os.close(fd)
