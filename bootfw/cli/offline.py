"""Reads and changes the leases and one-time boots in a store while no server runs."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from attrs import asdict, evolve
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from bootfw.cli.failure import CommandError
from bootfw.cli.takenover import TakenOver, shown_reservation
from bootfw.config.settings import Settings
from bootfw.dhcp.subnet6 import Host6
from bootfw.interfaces import IOrderStore
from bootfw.inventory import KIND, Entry, change, entry_of
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.records import Record, Selection, clashing, lease_record, reservation_record, reserved_for
from bootfw.resolvers.next_boot import ORDERS, Order, load_next_boots, save_next_boot


class OfflineLeases:
    """Reads and changes the leases and reservations in a store that no server uses.

    :param store: IOfflineStore and IReservationStore.
    :param settings: the settings of the server, with its configured reservations.
    """

    def __init__(self, store: Any, settings: Settings) -> None:
        self._store = store
        four, six = settings.dhcp.subnets, settings.dhcp6.subnets
        self._networks: list[IPv4Network | IPv6Network] = [subnet.network for subnet in four]
        self._networks += [subnet.network for subnet in six]
        self._configured = [host for subnet in four for host in subnet.hosts]
        self._configured6 = [host for subnet in six for host in subnet.hosts]

    def leases(self, selection: Selection) -> Iterable[Record]:
        """Return the records of the leases that match."""
        now = time.time()
        # A list, not an iterator: the server may start while the operator reads them in a pager.
        with self._loaded() as leases:
            return [lease_record(lease, now) for lease in selection.leases(leases, now)]

    def release(self, address: str) -> None:
        """End the lease of an address.

        :raise CommandError: the address is not leased.
        """
        now = time.time()
        with self._loaded() as leases:
            found = [lease for lease in leases if lease.address == address and lease.expires > now]
            if not found:
                raise CommandError(f"{address} is not leased")
            done(self._store.commit([evolve(lease, state=LeaseState.RELEASED, expires=now) for lease in found]))

    def reservations(self) -> Sequence[Record]:
        """Return the records of all reservations, each with its origin."""
        with self._loaded():
            stored = list(self._store.reservations())
        every = [*self._configured, *(host.reservation() for host in self._configured6)]
        configured = [{**reservation_record(each), "origin": "configuration"} for each in every]
        return [*configured, *({**reservation_record(each), "origin": "command"} for each in stored)]

    def reserve(self, reservation: Reservation) -> None:
        """Add a reservation.

        :raise CommandError: it is invalid, or conflicts with another reservation.
        """
        with self._loaded():
            stored = list(self._store.reservations())
            self._check(reservation, self._other_reservations(reservation, stored))
            done(self._store.save_reservations([*stored, reservation]))

    def unreserve(self, who: str) -> Record:
        """Remove a reservation.

        :return: the record of the removed reservation.
        :raise CommandError: there is none, or it is in the configuration file.
        """
        with self._loaded():
            stored = list(self._store.reservations())
            try:
                found = reserved_for(who, stored)
            except ValueError as error:
                raise CommandError(str(error)) from error
            if found is None:
                configured = reserved_for(who, self._configured) or any(
                    reserved_for(who, [host.reservation()]) for host in self._configured6
                )
                reason = "the configuration file reserves it: remove it there" if configured else "nothing is reserved"
                raise CommandError(f"{who}: {reason}")
            done(self._store.save_reservations([each for each in stored if each is not found]))
        return reservation_record(found)

    def take_over(self, leases: Iterable[Lease], reservations: Iterable[Reservation], now: float) -> "TakenOver":
        """Import leases and reservations of another server. Addresses that are leased here already, and reservations
        that conflict with existing ones, are left out.
        """
        result = TakenOver()
        with self._loaded(create=True) as stored_leases:
            leased_addresses = {lease.address for lease in stored_leases if lease.expires > now}
            for lease in leases:
                if not self._serves(lease.address):
                    result.left_out.append(f"the lease of {lease.address}: it is in no subnet of the configuration")
                elif lease.address in leased_addresses:
                    result.ours += 1
                else:
                    result.leases.append(lease)
            done(self._store.commit(result.leases))
            stored = list(self._store.reservations())
            for reservation in reservations:
                others = self._other_reservations(reservation, stored)
                if reservation_record(reservation) in map(reservation_record, others):
                    continue
                try:
                    self._check(reservation, others)
                except CommandError as error:
                    result.left_out.append(f"the reservation of {shown_reservation(reservation)}: {error}")
                else:
                    result.reservations.append(reservation)
                    stored.append(reservation)
            done(self._store.save_reservations(stored))
        return result

    def _check(self, reservation: Reservation, others: Sequence[Reservation]) -> None:
        """Check a reservation.

        :raise CommandError: it is in no subnet, is invalid, or conflicts with one of *others*.
        """
        if not self._serves(reservation.address):
            subject = reservation.address or "a reservation without an address"
            raise CommandError(f"{subject} is in no subnet")
        if reservation.family == 6:
            try:
                Host6.of(reservation)
            except ValueError as error:
                raise CommandError(str(error)) from error
        clash = clashing(reservation, others)
        if clash:
            raise CommandError(clash)

    def _serves(self, address: str) -> bool:
        """Return whether *address* is in a subnet. A reservation without an address is for the IPv4 subnets."""
        if not address:
            return any(network.version == 4 for network in self._networks)
        return any(ip_address(address) in network for network in self._networks)

    def _other_reservations(self, reservation: Reservation, stored: Sequence[Reservation]) -> Sequence[Reservation]:
        """Return the other reservations of the same address family."""
        configured6 = [host.reservation() for host in self._configured6]
        configured = self._configured if reservation.family == 4 else configured6
        return [*configured, *(each for each in stored if each.family == reservation.family)]

    @contextmanager
    def _loaded(self, create: bool = False) -> Iterator[list[Lease]]:
        """Open the store, and yield its leases.

        :param create: create an empty store if there is none.
        :raise CommandError: there is no store, and *create* is false.
        """
        if not create and not self._store.exists():
            raise CommandError("no leases are stored: no server has run with this state directory and configuration")
        try:
            yield list(self._store.load())
        finally:
            done(self._store.close())


class OfflineOrders:
    """Reads and changes the one-time boots in a store that no server uses."""

    def __init__(self, store: IOrderStore) -> None:
        self._store = store

    def next_boots(self) -> Sequence[Record]:
        """Return the records of all one-time boots."""
        with self._loaded() as orders:
            return [asdict(order) for order in orders.values()]

    def order(self, mac: str, file: str) -> Record:
        """Set the file that a machine boots next, replacing an earlier one."""
        order = Order(mac, file, time.time())
        with self._loaded():
            done(save_next_boot(self._store, order))
        return asdict(order)

    def cancel(self, mac: str) -> Record | None:
        """Cancel a one-time boot.

        :return: the record of the cancelled one; None: there was none.
        """
        with self._loaded() as orders:
            if mac not in orders:
                return None
            done(self._store.save_orders(ORDERS, {mac: None}))
            return asdict(orders[mac])

    @contextmanager
    def _loaded(self) -> Iterator[dict[str, Order]]:
        try:
            yield load_next_boots(self._store)
        finally:
            done(self._store.close_orders(ORDERS))


class OfflineEntries:
    """Reads and changes what the operator has set for machines, in a store that no server uses."""

    def __init__(self, store: IOrderStore) -> None:
        self.store = store

    def all(self) -> Mapping[str, Entry]:
        """Return the entries, by MAC."""
        with self._loaded() as entries:
            return entries

    def set(self, arguments: Mapping[str, Any]) -> str:
        """Change an entry, see change(). Returns the MAC of its machine.

        :raise StateError: a value is invalid.
        """
        with self._loaded() as entries:
            mac, entry = change(entries, arguments)
            done(self.store.save_orders(KIND, {mac: entry.stored()}))
        return mac

    def forget(self, mac: str) -> bool:
        """Remove an entry; false: there was none."""
        with self._loaded() as entries:
            if mac not in entries:
                return False
            done(self.store.save_orders(KIND, {mac: None}))
        return True

    @contextmanager
    def _loaded(self) -> Iterator[Mapping[str, Entry]]:
        try:
            yield {mac: entry_of(mac, stored) for mac, stored in self.store.load_orders(KIND).items()}
        finally:
            done(self.store.close_orders(KIND))


def done(answer: "Deferred[Any]") -> None:
    """Raise the failure of a Deferred of an IOfflineStore, which has fired already."""
    failures: list[Failure] = []
    answer.addErrback(failures.append)
    assert answer.called, "a store for use without a reactor must not answer later"
    for failure in failures:
        failure.raiseException()
