"""The ``sqlite`` lease store: a file in the state directory. Leases are durable before they are acknowledged."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from bootfw.api import ILeaseStore, IReservationStore, Lease, LeaseStoreError, PluginContext, Reservation, boot_plugin
from bootfw.stores.leasefile import LARGEST, LeaseFile, Row, row_of

FILE = "leases.sqlite"


@frozen(eq=False)
class _Work:
    """A write that is pending."""

    answer: "Deferred[Any]"
    rows: Sequence[Row] = ()
    reservations: Sequence[Reservation] | None = None
    last: bool = False
    """Nothing comes after it: the file is closed."""


@implementer(ILeaseStore, IReservationStore)
@define(eq=False)
class SqliteLeases:
    """Keeps leases in an SQLite file.

    A thread writes them, and what is committed while the disk is busy becomes durable together. When the power fails
    or the process is killed, whatever the moment, no lease is lost that was acknowledged.

    :param path: the file, on a disk of this machine; by default `leases.sqlite` in the state directory.
    """

    path: Path = field(converter=Path)
    _reactor: Any
    _file: LeaseFile | None = field(default=None, init=False)
    _queue: "SimpleQueue[_Work] | None" = field(default=None, init=False, repr=False)
    """To the thread; None: there is none yet."""

    @classmethod
    def configured(cls, context: PluginContext, path: str = "") -> "SqliteLeases":
        """What boot_plugin calls. A relative *path* is one beside the configuration file."""
        return cls(context.directory / path if path else context.state_directory / FILE, context.reactor)

    def load(self) -> Iterable[Lease]:
        """See ILeaseStore."""
        assert self._file is None, "it is loaded already"
        if not self.path.exists():
            LeaseFile.create(self.path)
        self._file = LeaseFile.open(self.path)
        return self._file.leases()

    def reservations(self) -> Iterable[Reservation]:
        """See IReservationStore."""
        assert self._file is not None, "load() comes first"
        return self._file.reservations()

    def commit(self, leases: Sequence[Lease]) -> "Deferred[Any]":
        """See ILeaseStore."""
        return self._put(_Work(Deferred(), list(map(row_of, leases))))

    def save_reservations(self, reservations: Sequence[Reservation]) -> "Deferred[Any]":
        """See IReservationStore."""
        return self._put(_Work(Deferred(), reservations=tuple(reservations)))

    def close(self) -> "Deferred[Any]":
        """See ILeaseStore."""
        if self._file is None:
            return succeed(None)
        closed = self._put(_Work(Deferred(), last=True))
        self._file = self._queue = None
        return closed

    def _put(self, work: _Work) -> "Deferred[Any]":
        if self._file is None:
            # What an operator asked for may come while everything ends.
            return fail(LeaseStoreError(f"{self.path}: is closed"))
        if self._queue is None:
            self._queue = SimpleQueue()
            # A daemon thread: a process that ends without close() has to be able to end.
            Thread(target=_write, args=(self._reactor, self._file, self._queue), name="leases", daemon=True).start()
        self._queue.put(work)
        return work.answer


def _write(reactor: Any, file: LeaseFile, queue: "SimpleQueue[_Work]") -> None:
    """The thread: all that is queued becomes one transaction, and one wake-up of the reactor."""
    while True:
        batch = _taken(queue)
        ending = batch.pop() if batch[-1].last else None
        reactor.callFromThread(_answer, batch, _fault(_write_batch, file, batch))
        if ending is not None:
            reactor.callFromThread(_answer, [ending], _fault(file.close))
            return


def _taken(queue: "SimpleQueue[_Work]") -> list[_Work]:
    batch = [queue.get()]
    rows = len(batch[0].rows)
    while rows < LARGEST and not batch[-1].last:
        try:
            batch.append(queue.get_nowait())
        except Empty:
            break
        rows += len(batch[-1].rows)
    return batch


def _write_batch(file: LeaseFile, batch: Sequence[_Work]) -> None:
    file.write([row for work in batch for row in work.rows])
    reservations = [work.reservations for work in batch if work.reservations is not None]
    if reservations:
        file.replace_reservations(reservations[-1])


def _fault(do: Callable[..., None], *arguments: Any) -> Exception | None:
    try:
        do(*arguments)
    except Exception as error:  # whatever it is, it has to reach the Deferreds
        return error
    return None


def _answer(batch: Sequence[_Work], fault: Exception | None) -> None:
    for work in batch:
        if fault is None:
            work.answer.callback(None)
        else:
            work.answer.errback(fault)


plugin = boot_plugin(ILeaseStore, SqliteLeases)
