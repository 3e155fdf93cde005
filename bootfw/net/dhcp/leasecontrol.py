"""What ``bootfw leases`` may ask of the running server."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.server6 import AddressServer6
from bootfw.lease import Lease, Reservation
from bootfw.net.control import ControlError, Operation, done
from bootfw.net.dhcp.walltime import WallTimeLeases
from bootfw.records import (
    Record,
    Selection,
    clashing,
    lease_record,
    reservation_of,
    reservation_record,
    reserved_for,
)


def server_for(
    reservation: Reservation, server: AddressServer, server6: AddressServer6 | None
) -> AddressServer | AddressServer6:
    """That of its family; without one for IPv6 that of IPv4, which says that it has no such subnet."""
    return server if reservation.family == 4 or server6 is None else server6


class LeaseControl:
    """Looks into an AddressServer, and changes it and its store together.

    :param reactor: IReactorTime.
    :param server6: that of DHCPv6, if there is one.
    :param by_wall: gives a lease times of the wall clock, for people.
    :param reservations: what the store keeps; the server has them already. Those of the configuration are not among
        them, and can't be taken back while the server runs.
    """

    def __init__(
        self,
        reactor: Any,
        server: AddressServer,
        store: WallTimeLeases,
        reservations: Iterable[Reservation],
        server6: AddressServer6 | None = None,
        by_wall: Callable[[Lease], Lease] = lambda lease: lease,
    ) -> None:
        self._reactor = reactor
        self._by_wall = by_wall
        self._server = server
        self._server6 = server6
        self._store = store
        self._reservations = list(reservations)

    def operations(self) -> Mapping[str, Operation]:
        """For listen_control()."""
        return {
            "leases": self.leases,
            "release": self.release,
            "reservations": self.reservations,
            "reserve": self.reserve,
            "unreserve": self.unreserve,
        }

    def leases(self, given: Mapping[str, Any]) -> Iterator[Record]:
        """Those of a Selection, in no order."""
        try:
            selection = Selection(**given)
        except (AttributeError, TypeError, ValueError) as error:
            raise ControlError(str(error)) from error
        now = self._reactor.seconds()
        # As they are now: clients go on while they are told.
        every = [lease for server in self._servers() for lease in server.leases()]
        return (self._record(lease, now) for lease in selection.leases(every, now))

    def release(self, given: Mapping[str, Any]) -> "Deferred[Any]":
        """Take the lease off an ``address``, or its quarantine."""
        now = self._reactor.seconds()
        address = str(given.get("address"))
        released = [lease for server in self._servers() for lease in server.release(address, now)]
        if not released:
            raise ControlError(f"{given.get('address')} is not leased")
        return done(self._store.commit(released), *(self._record(lease, now) for lease in released))

    def reservations(self, given: Mapping[str, Any]) -> Sequence[Record]:
        """All of them, each with its ``origin``: where it has to be taken back."""
        return [
            {**reservation_record(each), "origin": "command" if each in self._reservations else "configuration"}
            for server in self._servers()
            for each in server.reservations()
        ]

    def reserve(self, given: Mapping[str, Any]) -> "Deferred[Any]":
        """Add a reservation; it counts at once."""
        try:
            reservation = reservation_of(given)
            server = self._server if reservation.family == 4 else self._server6
            if server is None or not server.serves(reservation.address):
                raise ControlError(f"{reservation.address or 'a reservation without an address'} is of no subnet")
            clash = clashing(reservation, server.reservations())
            if clash:
                raise ControlError(clash)
            server.reserve(reservation)
        except (AttributeError, TypeError, ValueError) as error:
            raise ControlError(str(error)) from error
        self._reservations.append(reservation)
        saved = self._store.save_reservations(tuple(self._reservations))
        saved.addErrback(self._take_back, reservation)
        return done(saved, reservation_record(reservation))

    def unreserve(self, given: Mapping[str, Any]) -> "Deferred[Any]":
        """Take back the reservation of ``who``: its address or anything that its client is known by."""
        who = str(given.get("who"))
        try:
            found = reserved_for(who, self._reservations)
        except ValueError as error:
            raise ControlError(str(error)) from error
        if found is None:
            configured = any(reserved_for(who, server.reservations()) for server in self._servers())
            where = "the configuration reserves that: take it out there" if configured else "nothing is reserved"
            raise ControlError(f"{who}: {where}")
        self._take_back(None, found)
        return done(self._store.save_reservations(tuple(self._reservations)), reservation_record(found))

    def _record(self, lease: Lease, now: float) -> Record:
        shown = self._by_wall(lease)
        return lease_record(shown, now + shown.granted - lease.granted)

    def _servers(self) -> Sequence[AddressServer | AddressServer6]:
        return [self._server] if self._server6 is None else [self._server, self._server6]

    def _take_back(self, result: Any, reservation: Reservation) -> Any:
        self._reservations.remove(reservation)
        server_for(reservation, self._server, self._server6).unreserve(reservation)
        return result
