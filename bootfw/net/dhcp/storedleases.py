"""The operations of ``bootfw leases`` on a standby, which lists what the store has."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred

from bootfw.interfaces import IReadableStore
from bootfw.lease import Lease, Reservation
from bootfw.net.control import ControlError, Operation
from bootfw.records import Record, Selection, lease_record, reservation_record


@define(eq=False)
class StoredLeases:
    """Lists leases and reservations of a store that another server uses.

    :param now: the time by the wall clock, as in the store.
    :param configured: reservations of the configuration.
    """

    _store: IReadableStore
    _now: Callable[[], float]
    _configured: Sequence[Reservation]

    def operations(self) -> Mapping[str, Operation]:
        """Return the operations by name; see LeaseControl, whose records they return."""
        return {"leases": self._leases, "reservations": self._reservations}

    def _leases(self, arguments: Mapping[str, Any]) -> "Deferred[Iterable[Record]]":
        try:
            selection = Selection(**arguments)
        except (AttributeError, TypeError, ValueError) as error:
            raise ControlError(str(error)) from error

        def selected(leases: Iterable[Lease]) -> Iterable[Record]:
            now = self._now()
            return (lease_record(lease, now) for lease in selection.leases(leases, now))

        return self._store.read_leases().addCallback(selected)

    def _reservations(self, arguments: Mapping[str, Any]) -> "Deferred[Iterable[Record]]":
        def listed(stored: Iterable[Reservation]) -> Iterable[Record]:
            by_origin = {"configuration": self._configured, "command": stored}
            return [
                {**reservation_record(each), "origin": origin}
                for origin, reservations in by_origin.items()
                for each in reservations
            ]

        return self._store.read_reservations().addCallback(listed)
