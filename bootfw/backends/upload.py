"""Writes an uploaded file to a directory, in which it appears when it is complete."""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from attrs import define, field
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from bootfw.api import DiskFull, FileAlreadyExists, FileMissing, IllegalOperation, IWriter
from bootfw.backends.oserrors import as_transfer_errors

Find = Callable[[bytes], int]
"""Path below the root -> an O_PATH descriptor."""

_DURABLE_EVERY = 64 * 1024 * 1024
"""Bytes of an image after which the data is flushed to the disk."""


@implementer(IWriter)
@define(eq=False)
class Upload:
    """Writes a file that has no name until it is complete. It replaces another file only with *replaces* of begin().

    If the file system does not support O_TMPFILE (NFS, FUSE, FAT), the incomplete file has a temporary name that begins
    with a dot.
    """

    _file: int
    _directory: int
    """The deepest directory of the path that exists already; O_PATH."""
    _missing: Sequence[bytes]
    """Directories that finish() has to create below it."""
    _name: bytes
    _temporary: bytes
    """Temporary name in ``_directory``; b"": the file has no name (O_TMPFILE)."""
    _reactor: Any
    _replaces: bool = False
    _modified: int | None = None
    """Seconds since the epoch: the time that the file gets."""
    _written: int = field(default=0, init=False)
    """Bytes that were written since they were last made durable."""
    _finishing: bool = field(default=False, init=False)
    _cancelled: bool = field(default=False, init=False)

    @classmethod
    def begin(
        cls,
        find: Find,
        path: bytes,
        size: int | None,
        reactor: Any,
        replaces: bool = False,
        modified: int | None = None,
    ) -> "Upload":
        """Begin the upload of the file *path*.

        :param size: the announced size in bytes (tsize); None: the client announced none.
        :param reactor: finish() runs in its threads; None: in the calling thread.
        :param replaces: finish() replaces a file of that name. Such files are large images: their data is flushed to
            the disk every _DURABLE_EVERY bytes, so that dirty pages do not fill the memory of the host.
        :param modified: the time that the file gets, in seconds since the epoch; None: that of its last write.
        :raise FileAlreadyExists: there is such a file, or with *replaces* something else of that name.
        :raise DiskFull: the announced size is larger than the free space.
        :raise OSError: the file can't be created.
        """
        *parents, name = path.split(b"/")
        if name in (b"", b".."):
            raise IllegalOperation()
        directory, missing = _deepest(find, parents)
        try:
            if not missing and _is_taken(name, directory, replaces):
                raise FileAlreadyExists()
            space = os.fstatvfs(directory)
            if size is not None and size > space.f_bavail * space.f_frsize:
                raise DiskFull()
            file, temporary = _scratch(directory)
        except BaseException:
            os.close(directory)
            raise
        return cls(file, directory, missing, name, temporary, reactor, replaces, modified)

    def write(self, offset: int, data: bytes) -> None:
        """See IWriter."""
        remaining = memoryview(data)
        with as_transfer_errors:
            while remaining:
                written = os.pwrite(self._file, remaining, offset)
                remaining, offset = remaining[written:], offset + written
            if self._replaces:
                self._written += len(data)
                if self._written >= _DURABLE_EVERY:
                    os.fdatasync(self._file)
                    self._written = 0

    def finish(self) -> Any:
        """See IWriter."""
        self._finishing = True
        if self._reactor is None:
            return self._finish()
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._finish)

    def cancel(self) -> None:
        """See IWriter."""
        self._cancelled = True
        # finish() cleans up by itself; its thread may be using the descriptors now.
        if not self._finishing:
            self._discard()

    def _discard(self) -> None:
        if self._temporary:
            with suppress(FileNotFoundError):
                os.unlink(self._temporary, dir_fd=self._directory)
        self._close()

    def _close(self) -> None:
        os.close(self._file)
        os.close(self._directory)

    def _finish(self) -> None:
        try:
            with as_transfer_errors:
                self._store()
        except BaseException:
            self._discard()
            raise
        self._close()

    def _store(self) -> None:
        """Make the content durable, create missing directories, and give the file its name. Undone on failure."""
        if self._modified is not None:
            os.utime(self._file, (self._modified, self._modified))
        os.fsync(self._file)
        directories = [os.dup(self._directory)]
        undo: list[tuple[Callable[..., None], bytes, int]] = []  # (function, name, directory) for each new name
        try:
            for part in self._missing:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=directories[-1])
                    undo.append((os.rmdir, part, directories[-1]))
                # O_NOFOLLOW: a link in place of the new directory could lead out of the root.
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                directories.append(os.open(part, flags, dir_fd=directories[-1]))
            if self._cancelled:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            if self._replaces:
                self._replace(directories[-1])
                undo.clear()  # the old file is gone: there is nothing to go back to
            else:
                self._publish(directories[-1])
                undo.append((os.unlink, self._name, directories[-1]))
            for directory in directories:
                _sync(directory)
        except BaseException:
            for undo_step, name, directory in reversed(undo):
                with suppress(OSError):
                    undo_step(name, dir_fd=directory)
            raise
        finally:
            for directory in directories:
                os.close(directory)

    def _replace(self, directory: int) -> None:
        temporary, source = self._temporary, self._directory
        if not temporary:
            # linkat() does not replace a file, and rename() needs a name.
            temporary, source = _temporary_name(), directory
            os.link(f"/proc/self/fd/{self._file}", temporary, dst_dir_fd=source, follow_symlinks=True)
        try:
            os.rename(temporary, self._name, src_dir_fd=source, dst_dir_fd=directory)
        except BaseException:
            if not self._temporary:
                os.unlink(temporary, dir_fd=source)
            raise

    def _publish(self, directory: int) -> None:
        if not self._temporary:
            # linkat() never replaces a file: it fails with EEXIST.
            os.link(f"/proc/self/fd/{self._file}", self._name, dst_dir_fd=directory, follow_symlinks=True)
            return
        # FAT has no links: create the name first, and then replace this file of our own.
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(self._name, flags, dir_fd=directory))
        try:
            os.rename(self._temporary, self._name, src_dir_fd=self._directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(self._name, dir_fd=directory)
            raise


def _deepest(find: Find, parents: Sequence[bytes]) -> tuple[int, Sequence[bytes]]:
    """Return (descriptor of the deepest existing directory of *parents*, the missing directories below it).

    :raise FileMissing: a parent is not a directory.
    """
    for count in range(len(parents), -1, -1):
        try:
            fd = find(b"/".join(parents[:count]))
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(fd)
            break
        if b".." in parents[count:]:  # "missing/../x" can't be resolved
            os.close(fd)
            break
        return fd, parents[count:]
    raise FileMissing()


def _is_taken(name: bytes, directory: int, replaces: bool) -> bool:
    """Return whether something has the name that must not be replaced."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return not replaces or not stat.S_ISREG(found.st_mode)


def _scratch(directory: int) -> tuple[int, bytes]:
    """Create the incomplete file; return (descriptor, temporary name, or b"" if it has none)."""
    try:
        return os.open(b".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=directory), b""
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    temporary = _temporary_name()
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    return os.open(temporary, flags, 0o666, dir_fd=directory), temporary


def _temporary_name() -> bytes:
    return f".{secrets.token_hex(8)}.upload".encode()


def _sync(directory: int) -> None:
    # A directory that may be written to but not read (a drop box) can't be opened for fsync().
    with suppress(PermissionError):
        fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
