"""Converts the times of leases: in the store they are wall clock times, in memory times of a monotonic clock."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.interfaces import ILeaseStore, IReservationStore
from bootfw.lease import NEVER, Lease, LeaseState, Reservation

CHECK_INTERVAL = 60.0
"""Seconds between two checks whether the clock was set."""

_STEP = 1.0
"""Seconds. If the wall clock differs by more, it was set; a smaller difference is drift."""


@implementer(ILeaseStore, IReservationStore)
class WallTimeLeases:
    """Wraps a lease store, and converts times between the monotonic clock and the wall clock.

    If the wall clock was set, all leases are stored again, so that after a restart each one expires when its client
    expects it.

    :param store: an ILeaseStore; holds leases by the wall clock.
    :param now: the time in memory.
    :param shift: seconds by which the wall clock was set since *now*'s clock began; see shift_of().
    :param all_leases: returns all leases as they are in memory.
    """

    _log = Logger(namespace="bootfw")

    def __init__(
        self,
        store: Any,
        now: Callable[[], float],
        shift: Callable[[], float],
        all_leases: Callable[[], Iterable[Lease]],
    ) -> None:
        self._store = store
        self._now = now
        self._shift = shift
        self._all_leases = all_leases
        self._stored_shift = 0.0
        """The shift by which the times in the store were converted; 0 until the clock is set, so that then no lease has
        to be converted."""
        self._store_is_outdated = False
        """The clock was set, and the store has not taken all leases since then."""

    def load(self) -> Iterable[Lease]:
        """See ILeaseStore. A lease granted in the future was stored before the clock was set back: its time starts
        now."""
        now = self._now()
        return [_restarted(now, lease) if lease.granted > now else lease for lease in self._store.load()]

    def reservations(self) -> Any:
        """See IReservationStore."""
        return self._store.reservations()

    def commit(self, leases: Sequence[Lease]) -> Any:
        """See ILeaseStore."""
        shift = self._shift()
        clock_was_set = abs(shift - self._stored_shift) >= _STEP
        if clock_was_set:
            self._log.warn(
                "the clock was set {direction} by {seconds:.0f} s; leases go on",
                direction="forward" if shift > self._stored_shift else "back",
                seconds=abs(shift - self._stored_shift),
            )
            self._stored_shift = shift
        # After a failure only check(), which passes no leases, tries to store all of them again, and not each commit.
        if clock_was_set or (self._store_is_outdated and not leases):
            leases = list({lease.address: lease for lease in (*self._all_leases(), *leases)}.values())
            return self._store_all(leases)
        return self._store.commit([self.to_wall_clock(lease) for lease in leases] if self._stored_shift else leases)

    def _store_all(self, leases: Sequence[Lease]) -> "Deferred[Any]":
        def stored(result: Any) -> Any:
            self._store_is_outdated = False
            return result

        def failed(failure: Failure) -> Failure:
            if not self._store_is_outdated:
                self._log.warn(
                    "leases can't be stored with the times of the clock as it is now: {reason}; retried every "
                    "{seconds:.0f} s",
                    reason=failure.getErrorMessage(),
                    seconds=CHECK_INTERVAL,
                )
            self._store_is_outdated = True
            return failure

        return maybeDeferred(self._store.commit, list(map(self.to_wall_clock, leases))).addCallbacks(stored, failed)

    def check(self) -> None:
        """Store all leases again if the clock was set, or if that has failed before."""
        if self._store_is_outdated or abs(self._shift() - self._stored_shift) >= _STEP:
            self.commit(()).addErrback(lambda failure: None)  # _store_all() has logged it

    def to_wall_clock(self, lease: Lease) -> Lease:
        """Return *lease* with times of the wall clock."""
        shift = self._stored_shift
        if not shift:
            return lease
        expires = lease.expires if lease.expires == NEVER else lease.expires + shift
        return evolve(lease, granted=lease.granted + shift, expires=expires)

    def by_wall_clock(self, now: float) -> float:
        """Return the time *now* by the wall clock.

        While leases in the store have the times of before the clock was set, it is the later of both clocks: then no
        lease counts as valid for longer than it is.
        """
        return now + max(self._shift(), self._stored_shift)

    def save_reservations(self, reservations: Sequence[Reservation]) -> Any:
        """See IReservationStore."""
        return self._store.save_reservations(reservations)

    def close(self) -> Any:
        """See ILeaseStore."""
        self.check()
        return self._store.close()


def _restarted(now: float, lease: Lease) -> Lease:
    if lease.state is LeaseState.RELEASED:
        return evolve(lease, granted=now, expires=now)
    expires = lease.expires if lease.expires == NEVER else now + max(0.0, lease.expires - lease.granted)
    return evolve(lease, granted=now, expires=expires)
