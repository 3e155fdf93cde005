"""Commits leases to the store in batches; no reply is sent before its lease is durable."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from bootfw.errors import StateError
from bootfw.events import AddressesGranted, Event, LeasesKeptAgain, LeasesNotKept
from bootfw.interfaces import ILeaseStore
from bootfw.lease import Lease

EVENT_INTERVAL = 0.5
"""Seconds between two AddressesGranted events: a log line for each of thousands of leases would cost more than the
leases do."""


OVERDUE_AFTER = 5.0
"""Seconds that a commit may take before it is reported: the disk, or the store's server, may hang."""

MOST_PENDING = 8192
"""Leases whose commits are pending. Beyond that no request is answered. While a store hangs, each request that is
repeated adds a lease; 3,000 machines that are switched on together stay below."""

STORE_HANGS = "too many leases wait for the store, which does not answer"
"""Why a request is dropped, in events."""


class Batch:
    """Leases that are committed together, and the callbacks that wait for the commit."""

    __slots__ = ("began", "durable", "granted", "leases", "waiting")

    def __init__(self) -> None:
        self.began = 0.0
        """When its commit began, in seconds of the clock."""
        self.leases: list[Lease] = []
        """All leases that have changed, in the order of the changes."""
        self.granted: list[Lease] = []
        """Those of clients that did not have the address before, for AddressesGranted."""
        self.waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        """(function, arguments) of each call to be made when the batch is durable."""
        self.durable: bool | None = None
        """None: the commit is pending; True: the leases are durable; False: the store failed."""

    def then(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call *call* when the batch is durable: at once if it is already, never if the commit failed."""
        if self.durable is None:
            self.waiting.append((call, arguments))
        elif self.durable:
            call(*arguments)


class Journal:
    """Collects the leases that change during one batch of requests, and commits them with one call.

    :param clock: an IReactorTime.
    """

    _log = Logger()

    def __init__(self, store: ILeaseStore, publish: Callable[[Event], None], clock: Any) -> None:
        self._store = store
        self._publish = publish
        self._clock = clock
        self._batch = Batch()
        self._pending: dict[Batch, None] = {}
        """Batches whose commit has begun and not ended, the oldest first."""
        self._leases_pending = 0
        """Number of leases in these batches."""
        self.full = False
        """MOST_PENDING leases are pending: no request may be answered that could add another one."""
        self._unreported: list[Lease] = []
        """Leases granted since the last event."""
        self._next_event: Any = None
        """The delayed call that publishes them; None: the next ones are published at once."""
        self._failing = False
        """The latest commit has failed, or one is overdue."""
        self._abandoned = False
        """Another server leads: the store refuses what is pending, and that is no failure."""

    def put(self, leases: Sequence[Lease], granted: Sequence[Lease] = ()) -> Batch:
        """Add *leases* to the batch that the next flush() commits.

        :param granted: those of them whose clients did not have the address before.
        """
        batch = self._batch
        batch.leases += leases
        if granted:
            batch.granted += granted
        return batch

    def flush(self) -> None:
        """Commit the leases that were added since the last call."""
        # No timer is needed: while there are no requests, no client waits for the store.
        if self._pending and not self._failing:
            self._report_overdue()
        batch = self._batch
        if not batch.leases:
            return
        # What changes from now on belongs to the next batch, also while the store takes this one.
        self._batch = Batch()
        batch.began = self._clock.seconds()
        self._pending[batch] = None
        self._leases_pending += len(batch.leases)
        self.full = self._leases_pending >= MOST_PENDING
        # A store that raises, or has no Deferred to return, is treated as one whose Deferred has fired.
        committed = maybeDeferred(self._store.commit, batch.leases)
        committed.addCallbacks(self._durable, self._failed, callbackArgs=(batch,), errbackArgs=(batch,))
        # An exception in a waiting call is a bug of ours, and no failure of the store: the leases are durable.
        committed.addErrback(lambda failure: self._log.failure("Failed to go on after a commit.", failure))

    def close(self) -> None:
        """Commit the leases that were added, drop all pending callbacks, and cancel the timer."""
        self.flush()
        # The commits go on, but the port is closed: their replies can't be sent.
        for batch in self._pending:
            batch.waiting.clear()
            batch.granted.clear()
        if self._next_event is not None:
            self._next_event.cancel()
            self._report()

    def abandon(self) -> None:
        """Another server leads: drop the leases that were added, and report no failure of those that are pending."""
        self._batch = Batch()
        self._abandoned = True

    def _ended(self, batch: Batch, durable: bool) -> None:
        del self._pending[batch]
        self._leases_pending -= len(batch.leases)
        self.full = self._leases_pending >= MOST_PENDING
        batch.durable = durable

    def _durable(self, _: object, batch: Batch) -> None:
        self._ended(batch, True)
        if self._failing:
            self._failing = False
            self._publish(LeasesKeptAgain(self._clock.seconds()))
        # `durable` is set already: what these calls add by then() is called at once, and not appended to this list.
        for call, arguments in batch.waiting:
            call(*arguments)
        batch.waiting.clear()
        if batch.granted:
            self._unreported += batch.granted
            if self._next_event is None:
                self._report()
                self._next_event = self._clock.callLater(EVENT_INTERVAL, self._report_rest)

    def _report_rest(self) -> None:
        self._next_event = None
        if self._unreported:
            self._report()
            self._next_event = self._clock.callLater(EVENT_INTERVAL, self._report_rest)

    def _report(self) -> None:
        self._next_event = None
        granted, self._unreported = self._unreported, []
        if granted:
            self._publish(AddressesGranted(self._clock.seconds(), tuple(granted)))

    def _failed(self, failure: Failure, batch: Batch) -> None:
        # No reply is sent: a client that has no answer repeats its request, and no address is used without a lease.
        self._ended(batch, False)
        batch.waiting.clear()
        if self._abandoned:
            return
        # A StateError says what is wrong with the disk or the database. Anything else is a bug of the store, so its
        # traceback is logged, once until a commit succeeds.
        if failure.check(StateError) is None and not self._failing:
            self._log.failure("The lease store failed.", failure)
        self._report_failure(str(failure.value), batch.leases)

    def _report_overdue(self) -> None:
        oldest = next(iter(self._pending))  # the dictionary is in the order in which the commits began
        if self._clock.seconds() - oldest.began > OVERDUE_AFTER:
            leases = [lease for batch in (*self._pending, self._batch) for lease in batch.leases]
            self._report_failure(f"the store has not answered for {OVERDUE_AFTER:.0f} s", leases)

    def _report_failure(self, reason: str, leases: Sequence[Lease]) -> None:
        self._failing = True
        macs = tuple(lease.mac for lease in leases if lease.mac)
        self._publish(LeasesNotKept(self._clock.seconds(), len(leases), reason, macs))
