"""An open archive, which makes readers of its members."""

import os
import stat
import threading
import time
from collections.abc import Callable
from typing import Any

from attrs import define, field

from bootfw.api import FileReader, IReader, TransferError
from bootfw.backends.archive.contents import ArchiveError, Contents, Packed, Stored
from bootfw.backends.archive.iso import is_iso, read_iso
from bootfw.backends.archive.packing import Unpacked, decompressor, unpack
from bootfw.backends.archive.reader import MemberReader, PiecesReader
from bootfw.backends.archive.tar import is_tar, read_tar
from bootfw.backends.archive.zip import is_zip, read_zip

_SETTLED = 2.0
"""Seconds after a change, within which another change may leave the size and the modification time in whole seconds as
they are."""

Version = tuple[int, int, int, int]
"""Differs whenever the file may have changed: device, inode, size in bytes, time of the latest change in ns. A rename
counts as a change, since it sets the change time (ctime)."""


def version_of(status: os.stat_result) -> Version:
    """Return the Version of a file."""
    return status.st_dev, status.st_ino, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)


@define(eq=False)
class OpenArchive:
    """An archive, its members, and those that are unpacked. It owns its descriptors; each reader has a duplicate, so it
    works after close() too."""

    version: Version
    _modified: int
    """Its modification time in whole seconds since the epoch: what copying tools keep, on any file system."""
    contents: Contents
    unpacked: Unpacked
    _fd: int
    """Descriptor of the archive itself."""
    _stored: int
    """Descriptor of the file that members are read from: the archive, or the unpacked one if it is compressed."""
    _descriptors: list[int] = field(init=False)
    _numbers: dict[int, int] = field(init=False)
    """id() of a member -> its number in the archive, from 1."""
    _lock: Any = field(factory=threading.Lock, init=False)
    """Held while a descriptor is duplicated, or the list is emptied by close(): without it a thread could duplicate a
    number that is closed already, and that another file may have by now. Never held while the file system is
    accessed."""

    @_descriptors.default
    def _both(self) -> list[int]:
        return [self._fd, self._stored]

    @_numbers.default
    def _numbered(self) -> dict[int, int]:
        return {id(member): number for number, member in enumerate(self.contents.members.values(), 1)}

    def reader(self, member: Stored) -> IReader:
        """Return a reader of a member in place. It may be called in any thread.

        :raise TransferError: the archive was closed meanwhile.
        """
        with self._lock:
            if not self._descriptors:
                raise TransferError("The file has changed meanwhile, start again")
            fd = os.dup(self._stored)
        return self._reader(fd, member.runs or ((0, 0),), member.modified)

    def reader_of_unpacked(self, member: Packed) -> "IReader | None":
        """Return a reader of a member that is unpacked already; None: it is not."""
        descriptor = self.unpacked.find(member)
        if descriptor is None:
            return None
        return self._reader(
            descriptor, ((0, os.fstat(descriptor).st_size),), member.modified, self._numbers[id(member)]
        )

    def unpacking(self, member: Packed) -> Callable[[], int]:
        """Return the function that unpacks a member, to be called once. It may take minutes, and may be called in any
        thread, also after close().

        The function returns the descriptor for ``unpacked.keep()``, and raises ArchiveError and OSError.
        """
        fd = os.dup(self._stored)

        def work() -> int:
            try:
                with _opened_again(fd) as file:
                    return unpack(lambda: member.open(file), member.size)
            finally:
                os.close(fd)

        return work

    def close(self) -> None:
        """Close the descriptors. Readers have their own."""
        self.unpacked.close()
        with self._lock:
            descriptors, self._descriptors = self._descriptors, []
        for descriptor in descriptors:
            os.close(descriptor)

    def __del__(self) -> None:
        # For a backend that is used without a service, or whose service was never started: nothing calls close() then.
        self.close()

    def _reader(self, fd: int, runs: tuple[tuple[int, int], ...], modified: float, more: int = 0) -> IReader:
        _, _, size, changed = self.version
        (start, length), seconds = runs[0], changed / 1e9
        # The same for each copy of the archive, once it can't change any more within the same second.
        modified_at = self._modified if abs(time.time() - seconds) > _SETTLED else changed
        etag = f"{size:x}-{modified_at:x}-{start:x}-{more:x}"
        file = FileReader(fd)
        if len(runs) > 1:
            return PiecesReader(file, runs, modified or seconds, etag, seconds)
        return MemberReader(file, start, length, modified or seconds, etag, seconds)


def open_archive(path: Any, unpack_size: int) -> OpenArchive:
    """Open an archive and list its members. A compressed one is unpacked first, which may take minutes. It may be
    called in any thread.

    :param path: of the archive.
    :param unpack_size: most bytes of the unpacked archive, and of its unpacked members.
    :raise ArchiveError: the archive can't be read.
    :raise OSError: the file system reports an error.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    stored = -1
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ArchiveError("it is no regular file")
        with _opened_again(fd) as file:
            decompress = decompressor(file)
            file.seek(0)
            if decompress is None:
                stored = os.dup(fd)
            else:
                stored = unpack(lambda: decompress(file), unpack_size)
        contents = _contents(stored, decompress is not None)
        return OpenArchive(version_of(status), int(status.st_mtime // 1), contents, Unpacked(unpack_size), fd, stored)
    except BaseException:
        for descriptor in (fd, stored):
            if descriptor >= 0:
                os.close(descriptor)
        raise


def _contents(descriptor: int, compressed: bool) -> Contents:
    size = os.fstat(descriptor).st_size
    with _opened_again(descriptor) as file:
        if is_zip(file):
            return read_zip(file, size)
        if is_iso(file):
            return read_iso(file, size)
        if is_tar(file):
            return read_tar(file, size)
    subject = "its content is compressed, but is" if compressed else "it is"
    raise ArchiveError(f"{subject} no ISO 9660 image, tar or zip archive")


def _opened_again(descriptor: int) -> Any:
    """Return a file object with a position of its own: a duplicate of the descriptor would share it with other
    threads."""
    return open(f"/proc/self/fd/{descriptor}", "rb")
