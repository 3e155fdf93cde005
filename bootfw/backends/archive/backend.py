"""The ``archive`` backend: the members of one archive."""

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
"""As much as a DVD holds."""

NAMED = 10
"""Members that can't be served and are named in the log."""


@implementer(IStaticBackend, ISelfChecking, IStartable)
@define(eq=False)
class ArchiveBackend:
    """The files in an archive: an ISO 9660 image (Rock Ridge, UDF, Joliet), tar (also .gz, .xz, .bz2, .zst) or zip.

    Nothing is unpacked that can be read in place: an image, a plain tar, and what zip has stored without compression.
    The rest is unpacked at its first request, once for all clients, into a file without a name in /var/tmp. The archive
    is opened when the first file is requested, and again after it was replaced; a transfer that has begun keeps the old
    one. Symbolic links are followed inside the archive, and none leads out.

    :param file: the archive; what it is is found by what it holds.
    :param prefix: where its files appear, such as "debian"; "": at the top.
    :param path: the directory in the archive that is served, such as "install.amd"; "": all of it.
    :param ignore_case: for a name that does not exist, one that differs in upper and lower case is served.
    :param unpack_size: how much is kept unpacked at most.
    :param reactor: reads and unpacks archives in its threads; None: in the calling thread.
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
    """A version that can't be read, and why."""
    _waiting: "dict[Any, list[Deferred[Any]]]" = field(factory=dict, init=False)
    """Job of a thread -> the requests that wait for it."""
    _working: set[Any] = field(factory=set, init=False)
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
        """What boot_plugin calls. A relative *file* is one beside the configuration file."""
        if not file or "\0" in file:
            raise ConfigError("must be the path of an archive", ("file",))
        if file.lower().endswith(".iso") and not iso.available():
            raise ConfigError(iso.MISSING, ("file",))
        for key, value in (("prefix", prefix), ("path", path)):
            if ".." in components(value):
                raise ConfigError('must not hold ".."', (key,))
        reactor = context.reactor if IReactorThreads.providedBy(context.reactor) else None
        return cls(context.directory / file, prefix, path, ignore_case, unpack_size, reactor)

    def problem(self) -> str:
        """See ISelfChecking. A file system that can hang is not touched."""
        if self._mount() is not None:
            return ""
        try:
            if not os.path.isfile(self.file):
                os.stat(self.file)
                return f"{self.file}: is no file"
        except OSError as error:
            return f"{self.file}: {error.strerror}"
        return "" if os.access(self.file, os.R_OK) else f"{self.file}: may not be read"

    def start(self, publish: Any) -> None:
        """See IStartable: the archive is opened at the first request."""

    def close(self) -> None:
        """See IStartable."""
        archive, self._archive = self._archive, None
        if archive is not None:
            self._give_back(archive)

    def open(self, path: str, request: Any) -> Any:
        """See IBackend."""
        inside = self._inside(path)
        mount = self._mount()
        if mount is None or self._threads is None:
            return self._open(self._version(), inside, None)
        return self._threads.call(mount, self._version).addCallback(self._open, inside, mount)

    def _mount(self) -> bytes | None:
        """Where the file system is mounted that the archive is on, if it can hang."""
        return None if self._threads is None else self._mounts.on_the_way_to(self.file)

    def _version(self) -> Version:
        with as_transfer_errors:
            return version_of(os.stat(self.file))

    def _open(self, version: Version, inside: str, mount: bytes | None) -> Any:
        """A reader of what is *inside* this version.

        :param mount: see _mount().
        """
        if self._archive is not None and self._archive.version == version:
            return self._reader(inside, mount)
        if self._broken is not None and self._broken[0] == version:
            raise FileMissing()
        opening = partial(open_archive, self.file, self.unpack_size)
        return self._when_done("archive", lambda: opening, partial(self._opened, version), inside, mount)

    def _give_back(self, archive: OpenArchive) -> None:
        """Close *archive*."""
        mount = self._mount()
        if mount is None or self._threads is None:
            archive.close()
        else:
            self._threads.call(mount, archive.close, must_run=True).addErrback(lambda _: None)

    def _inside(self, path: str) -> str:
        """The path in the archive."""
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
        return self._when_done((archive, id(member)), partial(archive.unpacking, member), unpacked, inside, mount)

    def _when_done(
        self,
        what: Any,
        make: Callable[[], Callable[[], Any]],
        done: Callable[[Any], None],
        inside: str,
        mount: bytes | None,
    ) -> Any:
        """A reader, once the job *what* is done in a thread: one job for all requests that wait for it.

        :param make: returns the job; called when none runs.
        :param done: called with the result of the job, or its error.
        """
        if self._reactor is None:
            done(_outcome(make()))
            return self._reader(inside, None)
        waiting = self._waiting.setdefault(what, [])
        # A request that is cancelled waits no longer; the job goes on for the others.
        waiter: Deferred[Any] = Deferred(waiting.remove)
        waiting.append(waiter)
        if what not in self._working:
            self._working.add(what)
            if mount is None or self._threads is None:
                pool = self._reactor.getThreadPool()
                working = deferToThreadPool(self._reactor, pool, _outcome, make())
            else:
                working = self._threads.call(mount, partial(_outcome, make()), must_run=True)
            working.addCallback(self._finished, what, done)
        return waiter.addCallback(lambda _: self._reader(inside, mount))

    def _finished(self, outcome: Any, what: Any, done: Callable[[Any], None]) -> None:
        self._working.discard(what)
        waiting = self._waiting.pop(what)
        if not waiting and isinstance(outcome, OpenArchive):
            self._give_back(outcome)  # the service has stopped meanwhile, or it is opened again with the next request
            return
        try:
            done(outcome)
            result: Any = None
        except Exception as error:
            result = Failure(error)
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
        left_out, shown = archive.contents.left_out, self._shown or self.file
        for name, reason in list(left_out.items())[:NAMED]:
            self._log.warn(
                "backend archive: {file}: {name} is not served: {reason}", file=shown, name=name, reason=reason
            )
        if len(left_out) > NAMED:
            more = len(left_out) - NAMED
            self._log.warn("backend archive: {file}: {more} more members are not served", file=shown, more=more)
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
        else:
            os.close(descriptor)


def _outcome(work: Callable[[], Any]) -> Any:
    """What *work* returns or raises."""
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
