"""The leases of a server that does not run, in its file."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_address

from attrs import define, evolve, field

from bootfw.cli.failure import CommandError
from bootfw.config.settings import Settings
from bootfw.dhcp.subnet6 import Host6
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.records import Record, Selection, clashing, lease_record, reservation_record, reserved_for
from bootfw.stores.leasefile import LeaseFile, row_of
from bootfw.stores.sqlite import SqliteLeases


@define
class TakenOver:
    """What was imported from another server."""

    leases: list[Lease] = field(factory=list)
    reservations: list[Reservation] = field(factory=list)
    ours: int = 0
    """Addresses that were leased here already, and stay so."""
    left_out: list[str] = field(factory=list)
    """A line for each, for the operator."""


def shown_reservation(reservation: Reservation) -> str:
    """Its address, or the identifier of its client."""
    identifier = reservation.client_id or reservation.circuit_id
    return reservation.address or reservation.mac or reservation.uuid or f"0x{identifier.hex()}"


class StoredLeases:
    """Reads and writes the file while no other process does.

    :param settings: that the server runs by; its own reservations stand in there.
    """

    def __init__(self, store: SqliteLeases, settings: Settings) -> None:
        self._path = store.path
        four, six = settings.dhcp.subnets, settings.dhcp6.subnets
        self._networks: list[IPv4Network | IPv6Network] = [subnet.network for subnet in four]
        self._networks += [subnet.network for subnet in six]
        self._configured = [host for subnet in four for host in subnet.hosts]
        self._configured6 = [host for subnet in six for host in subnet.hosts]

    def leases(self, selection: Selection) -> Iterable[Record]:
        """The records of the leases that match."""
        now = time.time()
        # All at once: while they are looked at in a pager the server may want to start.
        with self._file() as file:
            return [lease_record(lease, now) for lease in selection.leases(file.leases(), now)]

    def release(self, address: str) -> None:
        """End the lease of an address.

        :raise CommandError: it has none.
        """
        now = time.time()
        with self._file() as file:
            leases = [lease for lease in file.leases() if lease.address == address and lease.expires > now]
            if not leases:
                raise CommandError(f"{address} is not leased")
            file.write([row_of(evolve(lease, state=LeaseState.RELEASED, expires=now)) for lease in leases])

    def reservations(self) -> Sequence[Record]:
        """All of them."""
        with self._file() as file:
            stored = list(file.reservations())
        every = [*self._configured, *(host.reservation() for host in self._configured6)]
        configured = [{**reservation_record(each), "origin": "configuration"} for each in every]
        return [*configured, *({**reservation_record(each), "origin": "command"} for each in stored)]

    def reserve(self, reservation: Reservation) -> None:
        """Add one.

        :raise CommandError: it does not go with those that are there.
        """
        with self._file() as file:
            stored = list(file.reservations())
            self._check(reservation, self._others(reservation, stored))
            file.replace_reservations([*stored, reservation])

    def unreserve(self, who: str) -> Record:
        """Take one back.

        :return: the one that it was.
        :raise CommandError: there is none, or it is of the configuration.
        """
        with self._file() as file:
            stored = list(file.reservations())
            try:
                found = reserved_for(who, stored)
            except ValueError as error:
                raise CommandError(str(error)) from error
            if found is None:
                configured = reserved_for(who, self._configured) or any(
                    reserved_for(who, [host.reservation()]) for host in self._configured6
                )
                where = "the configuration reserves that: take it out there" if configured else "nothing is reserved"
                raise CommandError(f"{who}: {where}")
            file.replace_reservations([each for each in stored if each is not found])
        return reservation_record(found)

    def take_over(self, leases: Iterable[Lease], reservations: Iterable[Reservation], now: float) -> "TakenOver":
        """Import what another server has given. Addresses that are leased here already, and what would not go with
        reservations that are there, stay as they are.
        """
        if not self._path.exists():
            LeaseFile.create(self._path)
        taken = TakenOver()
        with self._file() as file:
            ours = {lease.address for lease in file.leases() if lease.expires > now}
            for lease in leases:
                if not self._serves(lease.address):
                    taken.left_out.append(f"the lease of {lease.address}: that is of no subnet of the configuration")
                elif lease.address in ours:
                    taken.ours += 1
                else:
                    taken.leases.append(lease)
            file.write(list(map(row_of, taken.leases)))
            stored = list(file.reservations())
            for each in reservations:
                others = self._others(each, stored)
                if reservation_record(each) in map(reservation_record, others):
                    continue
                try:
                    self._check(each, others)
                except CommandError as error:
                    taken.left_out.append(f"the reservation of {shown_reservation(each)}: {error}")
                else:
                    taken.reservations.append(each)
                    stored.append(each)
            file.replace_reservations(stored)
        return taken

    def _check(self, reservation: Reservation, others: Sequence[Reservation]) -> None:
        """:raise CommandError: it is of no subnet, of the wrong kind, or does not go with *others*."""
        if not self._serves(reservation.address):
            what = reservation.address or "a reservation without an address"
            raise CommandError(f"{what} is of no subnet")
        if reservation.family == 6:
            try:
                Host6.of(reservation)
            except ValueError as error:
                raise CommandError(str(error)) from error
        clash = clashing(reservation, others)
        if clash:
            raise CommandError(clash)

    def _serves(self, address: str) -> bool:
        """Whether it is in one of the subnets. A reservation without an address is for those of IPv4."""
        if not address:
            return any(network.version == 4 for network in self._networks)
        return any(ip_address(address) in network for network in self._networks)

    def _others(self, reservation: Reservation, stored: Sequence[Reservation]) -> Sequence[Reservation]:
        """Those of its family."""
        six = [host.reservation() for host in self._configured6]
        configured = self._configured if reservation.family == 4 else six
        return [*configured, *(each for each in stored if each.family == reservation.family)]

    @contextmanager
    def _file(self) -> Iterator[LeaseFile]:
        file = LeaseFile.open(self._path)
        try:
            yield file
        finally:
            file.close()
