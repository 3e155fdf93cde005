"""The ``directory`` backend: the files below a directory."""

import errno
import os
import stat
from collections.abc import Callable, Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.api import (
    AccessViolation,
    ConfigError,
    FileMissing,
    FileReader,
    IDirectoryBackend,
    IListableBackend,
    IReplacingBackend,
    ISelfChecking,
    IVersionedBackend,
    IWritableBackend,
    MountProbe,
    MountTable,
    PluginContext,
    boot_plugin,
    file_version,
    relative_path,
)
from bootfw.backends.detached import DetachedReader, DetachedWriter, Threads
from bootfw.backends.explain import explain_denial, explain_link, explain_path_denial, special_kind
from bootfw.backends.openat2 import Resolve, may_have_link, resolve, without_links
from bootfw.backends.oserrors import as_transfer_errors, raise_transfer_error
from bootfw.backends.upload import Upload

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
"""Flags to open the root directory for lookups below it."""


@implementer(IReplacingBackend, IDirectoryBackend, IListableBackend, IVersionedBackend, ISelfChecking)
@define(eq=False)
class DirectoryBackend:
    """The files below a directory.

    Nothing outside the directory can be reached: symbolic links are followed as if the directory were ``/``. Only
    regular files are served; a FIFO, socket or device counts as missing and is never opened. The path of the directory
    is resolved again for every file, so it may be replaced by another directory at any time.

    Files on a network file system or on FUSE are opened and read in threads: while such a file system hangs, only the
    requests for its own files wait.

    A client may also request a file by its full path on this host, as with dnsmasq and atftpd: with the root
    ``/srv/boot``, ``srv/boot/kernel`` is ``kernel``, unless that path exists below the root.

    An upload replaces a file only by replace(). Missing directories of its path are created when it is complete.

    :param root: the directory.
    :param ignore_case: if a name does not exist, serve one that differs only in upper and lower case; of several, the
        first in byte order. Windows always gets this, for its ``\\Boot\\BCD``.
    :param reactor: slow operations run in its threads; None: in the calling thread.
    """

    root: Path = field(converter=Path)
    ignore_case: bool = False
    _reactor: Any = None
    _resolve: Resolve = resolve
    _without_links: Callable[[bytes], int] = without_links
    _mounts: MountTable = field(factory=MountTable)
    _probe: MountProbe = field(factory=MountProbe, init=False)
    _hung: bool = field(default=False, init=False)
    """The file system did not respond, and this has been logged."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)
    _threads: Threads | None = field(init=False)
    _full: bytes = field(init=False)
    """The root as an absolute path, without the first slash: a client may request files by their full path."""
    _prefix: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._threads = Threads(self._reactor) if self._reactor is not None else None
        self._full = os.fsencode(self.root.absolute()).strip(b"/") + b"/"
        self._prefix = os.fsencode(self.root) + b"/"

    @classmethod
    def configured(cls, context: PluginContext, root: str, ignore_case: bool = False) -> "DirectoryBackend":
        """Called by boot_plugin. A relative *root* is relative to the directory of the configuration file."""
        if not root or "\0" in root:
            raise ConfigError("must be the path of a directory", ("root",))
        reactor = context.reactor if IReactorThreads.providedBy(context.reactor) else None
        return cls(context.directory / root, ignore_case, reactor)

    def problem(self) -> str:
        """See ISelfChecking. A file system that can hang is not accessed, since that would block the start."""
        if self._mount() is not None:
            return ""
        try:
            os.close(os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            return f"{self.root}: {error.strerror}"
        return "" if os.path.isdir("/proc/self/fd") else "/proc is not mounted, and files can't be opened without it"

    def has(self, path: str) -> bool:
        """See IListableBackend. False also if this process may not look the file up."""
        return not self._hangs() and os.path.isfile(self.root / path)

    def names(self) -> list[str]:
        """See IListableBackend: the files in the root directory itself."""
        if self._hangs() or not self.root.is_dir():
            return []
        return sorted(file.name for file in self.root.iterdir() if file.is_file())

    def _hangs(self) -> bool:
        if not self._probe.hangs(self.root):
            return False
        if not self._hung:
            self._hung = True
            self._log.warn(
                "{root}: the file system does not respond; its boot programs are found only after a restart",
                root=self.root,
            )
        return True

    def open(self, path: str, request: Any) -> Any:
        """See IBackend."""
        name = _encoded(path)
        ignore_case = self.ignore_case or getattr(request, "ignore_case", False)
        mount = self._mount(name, ignore_case)
        if mount is None or self._threads is None:
            return self._open(name, ignore_case)
        opening = self._threads.call(mount, lambda: self._open(name, ignore_case), FileReader.close)
        return opening.addCallback(DetachedReader, self._threads, mount)

    def version(self, path: str, request: Any) -> Hashable | None:
        """See IVersionedBackend.

        Where no part of the whole path is a symbolic link or "..", it leads where open() would get to.
        """
        name = _encoded(path)
        ignore_case = self.ignore_case or getattr(request, "ignore_case", False)
        if b".." in name or self._mount(name, ignore_case) is not None:
            return None
        try:
            found = self._without_links(self._prefix + name)
        except FileNotFoundError:
            if ignore_case or name.startswith(self._full):
                return None
            raise FileMissing() from None
        except OSError:
            return None
        try:
            status = os.fstat(found)
        finally:
            os.close(found)
        return file_version(status) if stat.S_ISREG(status.st_mode) else None

    def create(self, path: str, request: Any) -> Any:
        """See IWritableBackend."""
        name = _encoded(path)
        mount = self._mount(name)
        if mount is None or self._threads is None:
            return self._create(name, request, self._reactor)
        return self._create_in_threads(self._threads, mount, name, request)

    def replace(self, path: str, request: Any) -> Any:
        """See IReplacingBackend. Images are large, so they are written in threads on every file system."""
        name = _encoded(path)
        if self._threads is None:
            return self._create(name, request, None, replaces=True)
        mount = self._mount(name) or os.fsencode(self.root)
        return self._create_in_threads(self._threads, mount, name, request, replaces=True)

    def _create_in_threads(
        self, threads: Threads, mount: bytes, name: bytes, request: Any, replaces: bool = False
    ) -> Any:
        creating = threads.call(mount, lambda: self._create(name, request, None, replaces), Upload.cancel)
        return creating.addCallback(DetachedWriter, threads, mount)

    def _mount(self, name: bytes = b"", ignore_case: bool = False) -> bytes | None:
        """Return the mount point of a file system on the path of *name* that can hang; None: there is none."""
        return None if self._threads is None else self._mounts.on_the_way_to(self.root, name, ignore_case)

    def _open(self, name: bytes, ignore_case: bool) -> FileReader:
        try:
            root = os.open(self.root, _DIRECTORY)
            try:
                found = self._find(root, name, ignore_case)
            except FileNotFoundError:
                if may_have_link(root, name):
                    raise FileMissing(detail=explain_link(self.root, name)) from None
                raise
            except PermissionError as error:
                raise AccessViolation(detail=explain_path_denial(self.root, name)) from error
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise FileMissing(detail=explain_link(self.root, name)) from error
                raise
            finally:
                os.close(root)
            try:
                # Check the type before opening: opening a device has effects, and opening a FIFO blocks.
                status = os.fstat(found)
                if not stat.S_ISREG(status.st_mode):
                    kind = special_kind(status.st_mode)
                    raise FileMissing(detail=f"{self._full_path(name)} is {kind}, and no regular file" if kind else "")
                # O_NONBLOCK: open() would wait for another process that has a lease (F_SETLEASE) on the file.
                return FileReader(os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            except PermissionError as error:
                raise AccessViolation(detail=explain_denial(self._full_path(name), status)) from error
            finally:
                os.close(found)
        except OSError as error:
            # Not by the context manager as_transfer_errors, which costs two calls for each file.
            raise_transfer_error(error)
            raise

    def _full_path(self, name: bytes) -> str:
        return os.fsdecode(os.path.join(os.fsencode(self.root), name))

    def _create(self, name: bytes, request: Any, reactor: Any, replaces: bool = False) -> Upload:
        size = _number(request, "tsize")
        modified = _number(request, "mtime") if replaces else None
        with as_transfer_errors:
            root = os.open(self.root, _DIRECTORY)
            try:
                return Upload.begin(lambda part: self._resolve(root, part), name, size, reactor, replaces, modified)
            except PermissionError as error:
                detail = f"{self._full_path(name)} can't be created: permission denied for uid {os.geteuid()}"
                raise AccessViolation(detail=detail) from error
            finally:
                os.close(root)

    def _find(self, root: int, name: bytes, ignore_case: bool) -> int:
        """Return an O_PATH descriptor of *name* below the descriptor *root*, or of a full path on this host."""
        try:
            return self._spelled(root, name, ignore_case)
        except FileNotFoundError:
            if not name.startswith(self._full):
                raise
        return self._spelled(root, name[len(self._full) :], ignore_case)

    def _spelled(self, root: int, name: bytes, ignore_case: bool) -> int:
        """Return an O_PATH descriptor of *name*, or with *ignore_case* of one that differs only in upper and lower
        case."""
        try:
            return self._resolve(root, name)
        except FileNotFoundError:
            if not ignore_case:
                raise
        return self._resolve(root, self._respelled(root, name))

    def _respelled(self, root: int, name: bytes) -> bytes:
        """Return *name* with each part as the directory spells it."""
        # Each lookup begins at the root again: only so can the kernel keep links and ".." below the root.
        respelled: list[bytes] = []
        for part in name.split(b"/"):
            try:
                os.close(self._resolve(root, b"/".join([*respelled, part])))
                respelled.append(part)
            except FileNotFoundError:
                respelled.append(self._entry_like(root, b"/".join(respelled), part))
        return b"/".join(respelled)

    def _entry_like(self, root: int, directory: bytes, part: bytes) -> bytes:
        """Return the entry of *directory* that differs from *part* only in upper and lower case."""
        found = self._resolve(root, directory)
        try:
            listing = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found)
        finally:
            os.close(found)
        try:
            names = sorted(map(os.fsencode, os.listdir(listing)))
        finally:
            os.close(listing)
        for name in names:
            if _folded(name) == _folded(part):
                return name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _folded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape").casefold()


@lru_cache(4096)
def _encoded(path: str) -> bytes:
    if "\0" in path:
        raise FileMissing()
    try:
        # TransferRequest.path is decoded as UTF-8, whatever the locale is: encode it to the bytes that the client sent.
        return relative_path(path).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise FileMissing() from None


def _number(request: Any, option: str) -> int | None:
    """Return the value of an option of an upload, such as the size that the client announced (tsize, RFC 2349); None:
    it sent none."""
    for name, value in request.options if request is not None else ():
        if name.lower() == option and value.isascii() and value.isdigit() and len(value) <= 20:
            return int(value)
    return None


plugin = boot_plugin(IWritableBackend, DirectoryBackend)
