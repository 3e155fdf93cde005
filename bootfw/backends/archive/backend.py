"""The ``archive`` backend: the files in one archive."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, field
from attrs.validators import ge
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.api import (
    ConfigError,
    FileMissing,
    IBackend,
    ISelfChecking,
    IStartable,
    IStaticBackend,
    MountTable,
    PluginContext,
    Size,
    TransferError,
    boot_plugin,
)
from bootfw.backends.archive import iso
from bootfw.backends.archive.contents import ArchiveError, Packed
from bootfw.backends.archive.opened import OpenArchive, Version, open_archive, version_of
from bootfw.backends.detached import DetachedReader, Threads
from bootfw.backends.oserrors import as_transfer_errors
from bootfw.backends.paths import components, lexical

UNPACK_SIZE = Size(4 << 30)
"""The size of a DVD."""

NAMED = 10
"""Most members that can't be served and are named in the log; further ones are counted."""


@implementer(IStaticBackend, ISelfChecking, IStartable)
@define(eq=False)
class ArchiveBackend:
    """The files in an archive: an ISO 9660 image (Rock Ridge, UDF, Joliet), tar (also .gz, .xz, .bz2, .zst) or zip.

    The files in an ISO image, a plain tar archive, and those that a zip archive stores without compression are read in
    place. Others are unpacked at their first request, once for all clients, into a file without a name in /var/tmp. The
    archive is opened when the first file is requested, and again after it was replaced; a transfer that has begun keeps
    the old one. Symbolic links are followed inside the archive, and none leads out.

    :param file: the archive; its format is recognized by its content.
    :param prefix: the directory where clients find its files, such as "debian"; "": the root.
    :param path: the directory in the archive that is served, such as "install.amd"; "": all of it.
    :param ignore_case: if a name does not exist, serve one that differs only in upper and lower case.
    :param unpack_size: most bytes of unpacked files that are kept.
    :param reactor: archives are read and unpacked in its threads; None: in the calling thread.
    :param shown: the path of the archive in the log; None: *file*.
    """

    file: Path = field(converter=Path)
    prefix: str = ""
    path: str = ""
    ignore_case: bool = False
    unpack_size: int = field(default=int(UNPACK_SIZE), validator=ge(0))
    _reactor: Any = None
    _mounts: MountTable = field(factory=MountTable)
    _shown: Path | None = None
    _threads: Threads | None = field(init=False)
    _archive: OpenArchive | None = field(default=None, init=False)
    _broken: tuple[Version, str] | None = field(default=None, init=False)
    """A version that can't be read, and why: it is not opened again for each request."""
    _waiting: "dict[Any, list[Deferred[Any]]]" = field(factory=dict, init=False)
    """Key of a job that runs in a thread -> the requests that wait for it; empty if all were cancelled."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)

    def __attrs_post_init__(self) -> None:
        self._threads = Threads(self._reactor) if self._reactor is not None else None

    @classmethod
    def configured(
        cls,
        context: PluginContext,
        file: str,
        prefix: str = "",
        path: str = "",
        ignore_case: bool = False,
        unpack_size: Size = UNPACK_SIZE,
    ) -> "ArchiveBackend":
        """Called by boot_plugin. A relative *file* is relative to the directory of the configuration file."""
        if not file or "\0" in file:
            raise ConfigError("must be the path of an archive", ("file",))
        if file.lower().endswith(".iso") and not iso.available():
            raise ConfigError(iso.MISSING, ("file",))
        for key, value in (("prefix", prefix), ("path", path)):
            if ".." in components(value):
                raise ConfigError('must not contain ".."', (key,))
        reactor = context.reactor if IReactorThreads.providedBy(context.reactor) else None
        return cls(context.directory / file, prefix, path, ignore_case, unpack_size, reactor)

    def problem(self) -> str:
        """See ISelfChecking. A file system that can hang is not accessed, since that would block the start."""
        if self._mount() is not None:
            return ""
        try:
            if not os.path.isfile(self.file):
                os.stat(self.file)
                return f"{self.file}: must be a regular file"
        except OSError as error:
            return f"{self.file}: {error.strerror}"
        return "" if os.access(self.file, os.R_OK) else f"{self.file}: permission denied for uid {os.getuid()}"

    def start(self, publish: Any) -> None:
        """See IStartable: the archive is opened at the first request."""

    def close(self) -> None:
        """See IStartable."""
        archive, self._archive = self._archive, None
        if archive is not None:
            self._close_archive(archive)

    def open(self, path: str, request: Any) -> Any:
        """See IBackend."""
        inside = self._inside(path)
        mount = self._mount()
        if mount is None or self._threads is None:
            return self._open(self._version(), inside, None)
        return self._threads.call(mount, self._version).addCallback(self._open, inside, mount)

    def _mount(self) -> bytes | None:
        """Return the mount point of the archive's file system if that can hang, else None."""
        return None if self._threads is None else self._mounts.on_the_way_to(self.file)

    def _version(self) -> Version:
        with as_transfer_errors:
            return version_of(os.stat(self.file))

    def _open(self, version: Version, inside: str, mount: bytes | None) -> Any:
        """Return a reader of a file in the archive, which is opened first if *version* is another than the open one.

        :param inside: the path in the archive.
        :param mount: see _mount().
        """
        if self._archive is not None and self._archive.version == version:
            return self._reader(inside, mount)
        if self._broken is not None and self._broken[0] == version:
            raise FileMissing()
        opening = partial(open_archive, self.file, self.unpack_size)
        return self._reader_after("archive", lambda: opening, partial(self._opened, version), inside, mount)

    def _close_archive(self, archive: OpenArchive) -> None:
        # close() of a file on NFS may hang as well.
        mount = self._mount()
        if mount is None or self._threads is None:
            archive.close()
        else:
            self._threads.call(mount, archive.close, must_run=True).addErrback(lambda _: None)

    def _inside(self, path: str) -> str:
        """Return the path in the archive of the file that clients request as *path*."""
        name, prefix = lexical(path), lexical(self.prefix)
        if prefix:
            if not name.startswith(f"{prefix}/"):
                raise FileMissing()
            name = name.removeprefix(f"{prefix}/")
        return f"{lexical(self.path)}/{name}"

    def _reader(self, inside: str, mount: bytes | None) -> Any:
        archive = self._archive
        member = archive.contents.find(inside) if archive is not None else None
        if archive is None or member is None:
            raise FileMissing()
        if not isinstance(member, Packed):
            if mount is None or self._threads is None:
                return archive.reader(member)
            opening = self._threads.call(mount, partial(archive.reader, member), lambda reader: reader.close())
            return opening.addCallback(DetachedReader, self._threads, mount)
        reader = archive.reader_of_unpacked(member)
        if reader is not None:
            return reader
        if member.size > self.unpack_size:
            raise TransferError("Too large to be unpacked here")
        unpacked = partial(self._unpacked, archive, member, inside)
        return self._reader_after((archive, id(member)), partial(archive.unpacking, member), unpacked, inside, mount)

    def _reader_after(
        self,
        key: Any,
        prepare: Callable[[], Callable[[], Any]],
        done: Callable[[Any], None],
        inside: str,
        mount: bytes | None,
    ) -> Any:
        """Return a reader of a file in the archive after a job in a thread, which all requests for it share.

        :param key: identifies the job.
        :param prepare: returns the function that the thread calls; called only if the job does not run yet.
        :param done: called with the result of the job, or its exception.
        :param inside: the path in the archive.
        """
        if self._reactor is None:
            done(_outcome(prepare()))
            return self._reader(inside, None)
        work = None
        waiting = self._waiting.get(key)
        if waiting is None:
            # It duplicates a descriptor, which may fail: before requests of the same file wait for this job.
            with as_transfer_errors:
                work = prepare()
            waiting = self._waiting[key] = []
        # A request that is cancelled waits no longer; the job goes on for the others.
        waiter: Deferred[Any] = Deferred(waiting.remove)
        waiting.append(waiter)
        if work is not None:
            if mount is None or self._threads is None:
                job = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), _outcome, work)
            else:
                job = self._threads.call(mount, partial(_outcome, work), must_run=True)
            job.addCallback(self._finished, key, done)
        return waiter.addCallback(lambda _: self._reader(inside, mount))

    def _finished(self, outcome: Any, key: Any, done: Callable[[Any], None]) -> None:
        waiting = self._waiting.pop(key)
        if not waiting and isinstance(outcome, OpenArchive):
            # All requests were cancelled, as when the service stops. Without this, close() would come too early for it.
            self._close_archive(outcome)
            return
        try:
            done(outcome)
            result: Any = None
        except Exception as error:
            result = Failure(error)
        # A callback may cancel another request, which removes itself from the list: so no iteration over it.
        while waiting:
            waiting.pop(0).callback(result)

    def _opened(self, version: Version, outcome: Any) -> None:
        self.close()
        if isinstance(outcome, ArchiveError):
            # Its files count as missing, so that the next backend is tried.
            self._log.error("backend archive: {file}: {reason}", file=self._shown or self.file, reason=outcome)
            self._broken = version, str(outcome)
            return
        archive: OpenArchive = _value(outcome)
        archive.contents.ignore_case |= self.ignore_case
        left_out, file = archive.contents.left_out, self._shown or self.file
        for name, reason in list(left_out.items())[:NAMED]:
            self._log.warn(
                "backend archive: {file}: {name} is not served: {reason}", file=file, name=name, reason=reason
            )
        if len(left_out) > NAMED:
            more = len(left_out) - NAMED
            self._log.warn("backend archive: {file}: {more} more members are not served", file=file, more=more)
        self._archive = archive

    def _unpacked(self, archive: OpenArchive, member: Packed, inside: str, outcome: Any) -> None:
        if isinstance(outcome, ArchiveError):
            self._log.error(
                "backend archive: {file}: {name}: {reason}", file=self._shown or self.file, name=inside, reason=outcome
            )
            raise TransferError("It can't be unpacked")
        descriptor: int = _value(outcome)
        if archive is self._archive:
            archive.unpacked.keep(member, descriptor)
        else:  # the archive was replaced meanwhile
            os.close(descriptor)


def _outcome(work: Callable[[], Any]) -> Any:
    """Return what *work* returns, or the exception that it raises."""
    try:
        return work()
    except Exception as error:
        return error


def _value(outcome: Any) -> Any:
    if isinstance(outcome, Exception):
        with as_transfer_errors:
            raise outcome
    return outcome


plugin = boot_plugin(IBackend, ArchiveBackend)
