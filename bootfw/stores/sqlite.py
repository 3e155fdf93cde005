"""The ``sqlite`` store: one file in the state directory. Leases are durable before they are acknowledged."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.api import (
    BootAttempt,
    IAttemptStore,
    ILeaseStore,
    IOfflineStore,
    IOrderStore,
    IReservationStore,
    Lease,
    PluginContext,
    Reservation,
    StateError,
    boot_plugin,
)
from bootfw.stores.oldfiles import LEASES, NEXT_BOOTS, import_old
from bootfw.stores.statefile import MAX_ROWS, Row, StateFile, row_of

FILE = "bootfw.sqlite"
"""Name of the file in the state directory."""

OPEN_AGAIN_AFTER = 60.0
"""Seconds from a failure to open the file until the next try."""

_ATTEMPTS = "attempts"
_LEASES = "leases"
"""Users of the open file, beside the kinds of orders: boot attempts, and leases (from load() to close())."""


@frozen(eq=False)
class _Write:
    """A write or search that is queued for the thread."""

    done: "Deferred[Any]" = field(factory=Deferred)
    rows: Sequence[Row] = ()
    reservations: Sequence[Reservation] | None = None
    orders: tuple[str, Mapping[str, Mapping[str, object] | None]] | None = None
    attempts: tuple[Sequence[BootAttempt], int, float] | None = None
    search: tuple[str, str, float, float, int] | None = None
    """The arguments of StateFile.attempts(), for a search."""
    found: list[BootAttempt] = field(factory=list)
    """The result of the search."""
    is_last: bool = False
    """The file is closed after it."""


@implementer(IOfflineStore, IReservationStore, IOrderStore, IAttemptStore)
@define(eq=False)
class SqliteStore:
    """Keeps leases, reservations, orders and boot attempts in an SQLite file.

    A thread writes them: all commits that arrive while the disk is busy become one transaction. No acknowledged lease
    is lost if the power fails or the process is killed.

    :param path: the file, on a disk of this machine; by default `bootfw.sqlite` in the state directory.
    """

    path: Path = field(converter=Path)
    _reactor: Any = None
    """If it does not provide IReactorFromThreads, every call blocks."""
    _old_files: Sequence[Path] = ()
    """Files of earlier versions; they are imported when the state file is opened."""
    _file: StateFile | None = field(default=None, init=False)
    _open_failure: tuple[float, StateError] | None = field(default=None, init=False, repr=False)
    """When opening the file has failed, and why; None: the latest try was successful."""
    _users: set[str] = field(factory=set, init=False, repr=False)
    """Users of the file. It is opened for the first one and closed after the last."""
    _queue: "SimpleQueue[_Write] | None" = field(default=None, init=False, repr=False)
    """The queue of the thread; None: there is no thread."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False, repr=False)

    @classmethod
    def configured(cls, context: PluginContext, path: str = "") -> "SqliteStore":
        """Called by boot_plugin. A relative *path* is one beside the configuration file."""
        state = context.state_directory
        if path:
            return cls(context.directory / path, context.reactor, [state / NEXT_BOOTS])
        return cls(state / FILE, context.reactor, [state / LEASES, state / NEXT_BOOTS])

    def exists(self) -> bool:
        """See IOfflineStore."""
        return self.path.exists() or any(old.exists() for old in self._old_files)

    def load(self) -> Iterable[Lease]:
        """See ILeaseStore."""
        return self._open(_LEASES).leases()

    def commit(self, leases: Sequence[Lease]) -> "Deferred[Any]":
        """See ILeaseStore."""
        return self._write_as(_LEASES, _Write(rows=list(map(row_of, leases))))

    def close(self) -> "Deferred[Any]":
        """See ILeaseStore."""
        return self._close(_LEASES)

    def reservations(self) -> Iterable[Reservation]:
        """See IReservationStore."""
        assert self._file is not None, "load() comes first"
        return self._file.reservations()

    def save_reservations(self, reservations: Sequence[Reservation]) -> "Deferred[Any]":
        """See IReservationStore."""
        return self._write_as(_LEASES, _Write(reservations=tuple(reservations)))

    def load_orders(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        """See IOrderStore. The file is created with the first order: a proxy may have no directory that it can write
        to."""
        if self._file is None and not self.exists():
            self._users.add(kind)
            return {}
        return self._open(kind).orders(kind)

    def save_orders(self, kind: str, orders: Mapping[str, Mapping[str, object] | None]) -> "Deferred[Any]":
        """See IOrderStore."""
        write = _Write(orders=(kind, orders))
        if self._file is not None:
            return self._write(write)
        after_close = kind not in self._users
        try:
            self._open_again(kind)
        except StateError as error:
            return fail(error)
        finally:
            if after_close:
                self._users.discard(kind)
        if not after_close:
            return self._write(write)
        # Called after close_orders(): nothing would close the file later, so write now and close it.
        file, self._file = self._file, None
        assert file is not None
        error = _error_of(_write_batch, file, [write])
        return _fire(write.done, _error_of(file.close) or error)

    def close_orders(self, kind: str) -> "Deferred[Any]":
        """See IOrderStore."""
        return self._close(kind)

    def save_attempts(self, attempts: Sequence[BootAttempt], keep: int, since: float) -> "Deferred[Any]":
        """See IAttemptStore."""
        return self._write_attempts(_Write(attempts=(tuple(attempts), keep, since)))

    def find_attempts(
        self, machine: str = "", verdict: str = "", since: float = 0.0, before: float = 0.0, limit: int = 100
    ) -> "Deferred[Any]":
        """See IAttemptStore. The file is created with the first attempt that is saved."""
        if self._file is None and not self.exists():
            return succeed([])
        search = _Write(search=(machine, verdict, since, before, limit))
        return self._write_attempts(search).addCallback(lambda _: search.found)

    def close_attempts(self) -> "Deferred[Any]":
        """See IAttemptStore."""
        return self._close(_ATTEMPTS)

    def _write_attempts(self, write: _Write) -> "Deferred[Any]":
        try:
            if _ATTEMPTS not in self._users or self._file is None:
                self._open_again(_ATTEMPTS)
        except StateError as error:
            self._users.discard(_ATTEMPTS)
            return fail(error)
        return self._write(write)

    def _open_again(self, user: str) -> None:
        """Open the file while the service runs: after a failure once in OPEN_AGAIN_AFTER seconds, without waiting.

        Waiting for another process and looking for damage block the reactor.
        """
        now = self._reactor.seconds() if IReactorTime.providedBy(self._reactor) else inf
        before = self._open_failure
        if before is not None and now < before[0] + OPEN_AGAIN_AFTER:
            raise before[1]
        try:
            self._open(user, wait=None if before is None else 0)
        except StateError as error:
            self._open_failure = now, error
            raise
        self._open_failure = None

    def _open(self, user: str, wait: float | None = None) -> StateFile:
        """Add a user of the file, open it if necessary, and return it.

        :param wait: see StateFile.open().
        """
        assert user not in self._users or self._file is None, "it is loaded already"
        self._users.add(user)
        if self._file is None:
            if not self.path.exists():
                StateFile.create(self.path)
            file = StateFile.open(self.path, wait)
            try:
                for old in self._old_files:
                    if old.exists():
                        renamed = import_old(file.connection, old)
                        self._log.info(
                            "{old} was imported into {path}, and renamed to {renamed}",
                            old=old,
                            path=self.path,
                            renamed=renamed.name,
                        )
            except BaseException:
                file.close()
                raise
            self._file = file
        return self._file

    def _close(self, user: str) -> "Deferred[Any]":
        self._users.discard(user)
        if self._file is None:
            return succeed(None)
        if self._users:
            return self._write(_Write())  # fires after all earlier writes
        if self._queue is None:
            file, self._file = self._file, None
            return _fire(Deferred(), _error_of(file.close))
        # From here on the file is the thread's, which closes it after all writes that are queued.
        closed = self._write(_Write(is_last=True))
        self._file = self._queue = None
        return closed

    def _write_as(self, user: str, write: _Write) -> "Deferred[Any]":
        if user not in self._users or self._file is None:
            # An operator's command may arrive while the service stops.
            return fail(StateError(f"{self.path}: is closed"))
        return self._write(write)

    def _write(self, write: _Write) -> "Deferred[Any]":
        assert self._file is not None
        if not IReactorFromThreads.providedBy(self._reactor):
            return _fire(write.done, _error_of(_write_batch, self._file, [write]))
        if self._queue is None:
            self._queue = SimpleQueue()
            # A daemon thread: a process that ends without close() has to be able to end.
            Thread(target=_run, args=(self._reactor, self._file, self._queue), name="store", daemon=True).start()
        self._queue.put(write)
        return write.done


def _run(reactor: Any, file: StateFile, queue: "SimpleQueue[_Write]") -> None:
    """Run the thread: everything that is queued becomes one transaction, and wakes the reactor once."""
    while True:
        batch = _next_batch(queue)
        closing = batch.pop() if batch[-1].is_last else None
        reactor.callFromThread(_fire_all, batch, _error_of(_write_batch, file, batch))
        if closing is not None:
            reactor.callFromThread(_fire_all, [closing], _error_of(file.close))
            return


def _next_batch(queue: "SimpleQueue[_Write]") -> list[_Write]:
    """Wait for a write, and return it with those that are queued behind it, up to about MAX_ROWS leases."""
    batch = [queue.get()]
    rows = len(batch[0].rows)
    while rows < MAX_ROWS and not batch[-1].is_last:
        try:
            batch.append(queue.get_nowait())
        except Empty:
            break
        rows += len(batch[-1].rows)
    return batch


def _write_batch(file: StateFile, batch: Sequence[_Write]) -> None:
    file.write_leases([row for write in batch for row in write.rows])
    reservations = [write.reservations for write in batch if write.reservations is not None]
    if reservations:  # each write has all of them, so the latest one is enough
        file.replace_reservations(reservations[-1])
    for write in batch:
        if write.orders is not None:
            file.write_orders(*write.orders)
        if write.attempts is not None:
            file.write_attempts(*write.attempts)
        if write.search is not None:
            write.found.extend(file.attempts(*write.search))


def _error_of(do: Callable[..., None], *arguments: Any) -> Exception | None:
    """Call *do*, and return the exception that it raises; None: it raises none."""
    try:
        do(*arguments)
    except Exception as error:  # any exception has to reach the Deferreds
        return error
    return None


def _fire_all(batch: Sequence[_Write], error: Exception | None) -> None:
    for write in batch:
        _fire(write.done, error)


def _fire(done: "Deferred[Any]", error: Exception | None) -> "Deferred[Any]":
    if error is None:
        done.callback(None)
    else:
        done.errback(error)
    return done


plugin = boot_plugin(ILeaseStore, SqliteStore)
