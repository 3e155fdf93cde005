"""The ``memory`` lease store: for trying things out."""

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from bootfw.api import ILeaseStore, IReservationStore, Lease, Reservation, boot_plugin


@implementer(ILeaseStore, IReservationStore)
@define(eq=False)
class MemoryLeases:
    """Keeps leases as long as the process lives, and no longer: after a restart addresses may be given twice.

    For trying bootfw out, for tests, and where every client boots anew with the server.
    """

    _leases: dict[str, Lease] = field(factory=dict, init=False, repr=False)
    _reservations: Sequence[Reservation] = field(default=(), init=False, repr=False)

    def load(self) -> Iterable[Lease]:
        """See ILeaseStore."""
        return list(self._leases.values())

    def reservations(self) -> Iterable[Reservation]:
        """See IReservationStore."""
        return self._reservations

    def commit(self, leases: Sequence[Lease]) -> "Deferred[Any]":
        """See ILeaseStore."""
        self._leases.update((lease.address, lease) for lease in leases)
        return succeed(None)

    def save_reservations(self, reservations: Sequence[Reservation]) -> "Deferred[Any]":
        """See IReservationStore."""
        self._reservations = tuple(reservations)
        return succeed(None)

    def close(self) -> "Deferred[Any]":
        """See ILeaseStore."""
        return succeed(None)


plugin = boot_plugin(ILeaseStore, MemoryLeases)
