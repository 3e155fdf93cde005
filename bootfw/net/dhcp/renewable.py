"""Stores leases with a later end than their clients know, so that they can be renewed while the store is away."""

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.dhcp.storedends import StoredEnds, extended
from bootfw.interfaces import ILeaseStore, IReservationStore
from bootfw.lease import Lease, Reservation


@implementer(ILeaseStore, IReservationStore)
class RenewableLeases:
    """Wraps the lease store of several servers.

    Each lease is stored with a later end; see bootfw.dhcp.storedends. ``ends`` has these ends while the store can't be
    reached.

    :param outage: the seconds by which leases can be renewed beyond their end.
    """

    def __init__(self, store: Any, outage: float) -> None:
        self._store = store
        self._outage = outage
        self.ends = StoredEnds()

    def load(self) -> Iterable[Lease]:
        """See ILeaseStore."""
        leases = list(self._store.load())
        self.ends.load(leases)
        return leases

    def reservations(self) -> Any:
        """See IReservationStore."""
        return self._store.reservations()

    def commit(self, leases: Sequence[Lease]) -> Any:
        """See ILeaseStore."""
        # begin() comes first: from the call on, the store may have these leases or the earlier ones.
        later = [extended(lease, self._outage) for lease in leases]
        self.ends.begin(later)
        return maybeDeferred(self._store.commit, later).addCallbacks(
            self._stored, self._failed, callbackArgs=(later,), errbackArgs=(later,)
        )

    def save_reservations(self, reservations: Sequence[Reservation]) -> Any:
        """See IReservationStore."""
        return self._store.save_reservations(reservations)

    def close(self) -> Any:
        """See ILeaseStore."""
        return self._store.close()

    def _stored(self, result: Any, leases: Sequence[Lease]) -> Any:
        self.ends.finish(leases, stored=True)
        return result

    def _failed(self, failure: Failure, leases: Sequence[Lease]) -> Failure:
        self.ends.finish(leases, stored=False)
        return failure
