"""The operations of ``bootfw leases`` on the running server."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.server6 import AddressServer6
from bootfw.lease import Lease, Reservation
from bootfw.net.control import ControlError, Operation, done
from bootfw.records import (
    Record,
    Selection,
    clashing,
    lease_record,
    reservation_of,
    reservation_record,
    reserved_for,
)

OPERATIONS = ("leases", "release", "reservations", "reserve", "unreserve")
"""Their names."""


def server_for(
    reservation: Reservation, server: AddressServer, server6: AddressServer6 | None
) -> AddressServer | AddressServer6:
    """Return the server for the reservation's address family. Without a DHCPv6 server it is the DHCPv4 server, which
    raises ValueError for an IPv6 address."""
    return server if reservation.family == 4 or server6 is None else server6


class ChangesStore(Protocol):
    """The methods of a store that LeaseControl calls."""

    def commit(self, leases: Sequence[Lease]) -> "Deferred[None]":
        """See ILeaseStore."""

    def save_reservations(self, reservations: Sequence[Reservation]) -> "Deferred[None]":
        """See IReservationStore."""


class LeaseControl:
    """Lists leases and reservations of the address servers, and changes them there and in the store.

    :param reactor: IReactorTime.
    :param server6: the DHCPv6 server, if there is one.
    :param to_wall_clock: converts the times of a lease to the wall clock.
    :param reservations: the reservations of the store, which the servers have already. Those of the configuration file
        are not among them: they can't be removed by a command.
    """

    def __init__(
        self,
        reactor: Any,
        server: AddressServer,
        store: ChangesStore,
        reservations: Iterable[Reservation],
        server6: AddressServer6 | None = None,
        to_wall_clock: Callable[[Lease], Lease] = lambda lease: lease,
    ) -> None:
        self._reactor = reactor
        self._to_wall_clock = to_wall_clock
        self._server = server
        self._server6 = server6
        self._store = store
        self._reservations = list(reservations)

    def use(self, server: AddressServer, server6: AddressServer6 | None) -> list[ValueError]:
        """Replace the servers after a reload, and enter the reservations of the store.

        :return: errors of the reservations that don't fit the new subnets; they stay in the store.
        """
        self._server, self._server6 = server, server6
        errors = []
        for reservation in self._reservations:
            try:
                server_for(reservation, server, server6).reserve(reservation)
            except ValueError as error:
                errors.append(error)
        return errors

    def operations(self) -> Mapping[str, Operation]:
        """Return the operations by name, for listen_control()."""
        return {name: getattr(self, name) for name in OPERATIONS}

    def leases(self, arguments: Mapping[str, Any]) -> Iterator[Record]:
        """Return the leases that match a Selection, unsorted."""
        try:
            selection = Selection(**arguments)
        except (AttributeError, TypeError, ValueError) as error:
            raise ControlError(str(error)) from error
        now = self._reactor.seconds()
        # A copy: leases change while the reply is sent.
        all_leases = [lease for server in self._servers() for lease in server.leases()]
        return (self._record(lease, now) for lease in selection.leases(all_leases, now))

    def release(self, arguments: Mapping[str, Any]) -> "Deferred[Any]":
        """End the lease or the quarantine of ``address``."""
        now = self._reactor.seconds()
        address = str(arguments.get("address"))
        released = [lease for server in self._servers() for lease in server.release(address, now)]
        if not released:
            raise ControlError(f"{arguments.get('address')} is not leased")
        return done(self._store.commit(released), *(self._record(lease, now) for lease in released))

    def reservations(self, arguments: Mapping[str, Any]) -> Sequence[Record]:
        """Return all reservations. ``origin`` is "command", or "configuration" for those that only an edit of the file
        removes."""
        return [
            {
                **reservation_record(reservation),
                "origin": "command" if reservation in self._reservations else "configuration",
            }
            for server in self._servers()
            for reservation in server.reservations()
        ]

    def reserve(self, arguments: Mapping[str, Any]) -> "Deferred[Any]":
        """Add a reservation; it is valid at once."""
        try:
            reservation = reservation_of(arguments)
            server = self._server if reservation.family == 4 else self._server6
            if server is None or not server.serves(reservation.address):
                raise ControlError(f"{reservation.address or 'a reservation without an address'} is in no subnet")
            clash = clashing(reservation, server.reservations())
            if clash:
                raise ControlError(clash)
            server.reserve(reservation)
        except (AttributeError, TypeError, ValueError) as error:
            raise ControlError(str(error)) from error
        self._reservations.append(reservation)
        saved = self._store.save_reservations(tuple(self._reservations))
        saved.addErrback(self._remove, reservation)
        return done(saved, reservation_record(reservation))

    def unreserve(self, arguments: Mapping[str, Any]) -> "Deferred[Any]":
        """Remove the reservation of ``who``: its address, or anything that identifies its client."""
        who = str(arguments.get("who"))
        try:
            found = reserved_for(who, self._reservations)
        except ValueError as error:
            raise ControlError(str(error)) from error
        if found is None:
            configured = any(reserved_for(who, server.reservations()) for server in self._servers())
            reason = "the configuration file reserves it: remove it there" if configured else "nothing is reserved"
            raise ControlError(f"{who}: {reason}")
        self._remove(None, found)
        saved = self._store.save_reservations(tuple(self._reservations))
        saved.addErrback(self._put_back, found)
        return done(saved, reservation_record(found))

    def _record(self, lease: Lease, now: float) -> Record:
        # *now* is by the clock of *lease*, so it is converted by the same difference.
        wall_clock_lease = self._to_wall_clock(lease)
        return lease_record(wall_clock_lease, now + wall_clock_lease.granted - lease.granted)

    def _servers(self) -> Sequence[AddressServer | AddressServer6]:
        return [self._server] if self._server6 is None else [self._server, self._server6]

    def _remove(self, result: Any, reservation: Reservation) -> Any:
        """Remove a reservation, unless another command has removed it meanwhile.

        As an errback of saving it: the command fails, so the reservation must not stay.
        """
        if reservation in self._reservations:
            self._reservations.remove(reservation)
            server_for(reservation, self._server, self._server6).unreserve(reservation)
        return result

    def _put_back(self, failure: Failure, reservation: Reservation) -> Failure:
        """Add a reservation again whose removal failed: the store still has it. Not if another one has its place."""
        server = server_for(reservation, self._server, self._server6)
        if not clashing(reservation, server.reservations()):
            server.reserve(reservation)
            self._reservations.append(reservation)
        return failure
