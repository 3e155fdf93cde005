"""The way of leases to the store: a batch at a time, and no reply before its lease is there."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from bootfw.errors import LeaseStoreError
from bootfw.events import AddressesGranted, Event, LeasesNotKept
from bootfw.interfaces import ILeaseStore
from bootfw.lease import Lease

TOLD_AGAIN = 0.5
"""Seconds between two events of granted addresses: a line for each of thousands would cost more than they do."""


class Batch:
    """Leases that are committed together, and what waits for them."""

    __slots__ = ("durable", "granted", "leases", "waiting")

    def __init__(self) -> None:
        self.leases: list[Lease] = []
        self.granted: list[Lease] = []
        self.waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.durable: bool | None = None
        """None: not known yet; false: the store failed."""

    def then(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call when all of the batch is durable; at once when it is. Never when the store has failed."""
        if self.durable is None:
            self.waiting.append((call, arguments))
        elif self.durable:
            call(*arguments)


class Journal:
    """Gathers what one turn of the reactor has changed and commits it with one call.

    :param clock: an IReactorTime.
    """

    _log = Logger()

    def __init__(self, store: ILeaseStore, publish: Callable[[Event], None], clock: Any) -> None:
        self._store = store
        self._publish = publish
        self._clock = clock
        self._batch = Batch()
        self._under_way: set[Batch] = set()
        self._untold: list[Lease] = []
        """Granted since the last event."""
        self._telling: Any = None

    def put(self, leases: Sequence[Lease], new: bool = False) -> Batch:
        """Commit *leases* with the next flush().

        :param new: the first of them was granted to a client that did not have it.
        """
        batch = self._batch
        batch.leases += leases
        if new:
            batch.granted.append(leases[0])
        return batch

    def flush(self) -> None:
        """Hand over what has gathered."""
        batch = self._batch
        if not batch.leases:
            return
        self._batch = Batch()
        self._under_way.add(batch)
        committed: Deferred[Any] = self._store.commit(batch.leases)
        committed.addCallbacks(self._durable, self._failed, callbackArgs=(batch,), errbackArgs=(batch,))
        committed.addErrback(lambda failure: self._log.failure("Failed to go on after a commit.", failure))

    def forget(self) -> None:
        """Commit what has gathered, and let nobody wait for anything any more. Leaves no timer behind."""
        self.flush()
        for batch in self._under_way:
            batch.waiting.clear()
            batch.granted.clear()
        if self._telling is not None:
            self._telling.cancel()
            self._tell()

    def _durable(self, _: object, batch: Batch) -> None:
        self._under_way.discard(batch)
        batch.durable = True
        for call, arguments in batch.waiting:
            call(*arguments)
        batch.waiting.clear()
        if batch.granted:
            self._untold += batch.granted
            if self._telling is None:
                self._tell()
                self._telling = self._clock.callLater(TOLD_AGAIN, self._tell_rest)

    def _tell_rest(self) -> None:
        self._telling = None
        if self._untold:
            self._tell()
            self._telling = self._clock.callLater(TOLD_AGAIN, self._tell_rest)

    def _tell(self) -> None:
        self._telling = None
        untold, self._untold = self._untold, []
        if untold:
            self._publish(AddressesGranted(self._clock.seconds(), tuple(untold)))

    def _failed(self, failure: Failure, batch: Batch) -> None:
        self._under_way.discard(batch)
        batch.durable = False
        batch.waiting.clear()
        if failure.check(LeaseStoreError) is None:
            self._log.failure("The lease store failed.", failure)
        self._publish(LeasesNotKept(self._clock.seconds(), len(batch.leases), str(failure.value)))
