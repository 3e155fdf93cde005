"""The lease book of one link: leases, offers, reservations and quarantine of its addresses.

An address, as a number, has one :class:`~bootfw.dhcp.pool.Binding`. It is

* free: in a pool, with no current lease or offer. The :class:`~bootfw.dhcp.pool.Pool` keeps the free addresses sorted;
* offered (DHCPv4 only): reserved for the client ``offered_to`` until ``offered_until``;
* leased: ``lease`` is ACTIVE. The client keeps it after ``expires`` too, until another client needs the address;
* released: ``lease`` is RELEASED, and its end is in the past;
* in quarantine: ``lease`` is DECLINED. Another machine uses the address; no client gets it until ``expires``, unless no
  other address is left;
* reserved, in addition to any of these: only the client of ``reservation`` gets it.

Leases are indexed by the key of their client, reservations by each identifier of their client.

What DHCPv4 and DHCPv6 do differently is in an :class:`Allocator`: which reservation is the client's, which addresses it
prefers, which free one it gets otherwise, and which clients are the same machine, so that one takes over the lease of
the other. No method scans the leases, and choosing an address changes nothing except the queue of the pool.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from attrs import evolve

from bootfw.dhcp.hostclass import ClientClass
from bootfw.dhcp.pool import Binding, Pool, SubnetT
from bootfw.dhcp.quarantine import Quarantine
from bootfw.dhcp.ranges import Range, number_of, subtract, text_of
from bootfw.lease import Lease, LeaseState, Reservation, reservation_keys

QUARANTINE_SECONDS = 3600.0
"""Seconds that an address stays in quarantine."""

PROBE_RETRY_SECONDS = 60.0
"""Seconds after which an address that answered a probe may be offered again if no other is left. An address that a
client declined may be offered at once: one client may be wrong."""

_CANDIDATES = 64
"""Addresses in quarantine that are examined for one client; a few are reserved or no longer in the pool."""

_ACTIVE, _DECLINED, _RELEASED = LeaseState.ACTIVE, LeaseState.DECLINED, LeaseState.RELEASED


class Allocator(Protocol):
    """Chooses addresses. The type of a client depends on the allocator; it has a ``key``, see Lease.client, and the
    ``classes`` whose pools it may get addresses of."""

    one_address_per_client: bool
    """A lease for a client ends its earlier lease of another address."""

    def reservation(self, client: Any) -> Reservation | None:
        """Return the reservation for *client*."""

    def candidates(self, client: Any, reservation: Reservation | None) -> Iterable[Binding[Any] | None]:
        """Return the addresses that *client* prefers, the best first; items may be None."""

    def held_by_same_machine(self, binding: Binding[Any], client: Any, reservation: Reservation | None) -> bool:
        """Return whether the address is leased to the same machine under another key: *client* may take it at once."""

    def next(self, client: Any, known: bool, subnet: Any, now: float, excluded: Collection[int]) -> Binding[Any] | None:
        """Return a free address for *client*; None: none is left.

        :param known: the client has a reservation.
        :param subnet: the subnet of the client.
        :param excluded: addresses that are taken already.
        """

    def lease_changed(self, binding: Binding[Any], before: Lease | None, now: float) -> None:
        """Update the indexes: *binding* has a new lease in place of *before*."""


AllocatorT = TypeVar("AllocatorT", bound=Allocator)


class LeaseBook(Generic[SubnetT, AllocatorT]):
    """The leases, offers and reservations of one link, which has one subnet or several.

    :param own_addresses: addresses of the server itself, which no client gets; the caller may add to it.
    :param allocator: creates the Allocator of this book.
    :param classes: client classes; those with addresses of these subnets have pools in it.
    """

    def __init__(
        self,
        subnets: Sequence[SubnetT],
        own_addresses: Collection[str],
        allocator: "Callable[[LeaseBook[SubnetT, AllocatorT]], AllocatorT]",
        classes: Sequence[ClientClass] = (),
    ) -> None:
        self.subnets = tuple(subnets)
        self.name = subnets[0].link_name
        self.bindings: dict[int, Binding[SubnetT]] = {}
        """Number of an address -> its binding, if it has or had a lease, an offer or a reservation."""
        self.leased: dict[bytes, Binding[SubnetT]] = {}
        """Key of a client -> the binding that it has or had last."""
        self.reserved: dict[str, Binding[SubnetT]] = {}
        """Address of a reservation -> its Binding."""
        self.reservations_by_key: dict[tuple[str, str | bytes], Reservation] = {}
        """Each pair of reservation_keys() -> the reservation."""
        self._quarantine = Quarantine()
        self._own_addresses = own_addresses
        self._masks = [(int(s.network.netmask), int(s.network.network_address), s) for s in subnets]
        """(mask, first address, subnet) of each subnet."""
        self.own_pools = {subnet: tuple(self._pools(subnet, classes)) for subnet in subnets}
        """Subnet -> its pools, those of classes first."""
        self.pools = {
            subnet: (*own, *(pool for other, pools in self.own_pools.items() if other is not subnet for pool in pools))
            for subnet, own in self.own_pools.items()
        }
        """Subnet -> all pools of the link, those of the subnet first."""
        self.serves_unknown_clients = not all(subnet.known_clients_only for subnet in subnets)
        """Clients without a reservation get addresses in at least one subnet."""
        self.allocator = allocator(self)
        for subnet in subnets:
            for reservation in subnet.reservations():
                self.reserve(reservation)

    def __contains__(self, number: int) -> bool:
        return self._subnet_of(number) is not None

    def _pools(self, subnet: SubnetT, classes: Sequence[ClientClass]) -> Iterator[Pool[SubnetT]]:
        general: Sequence[Range] = subnet.assignable
        for each in classes:
            ranges = subnet.assignable_of(each.pool)
            if ranges:
                yield Pool(subnet, ranges, self.bindings, self._own_addresses, each)
                general = subtract(general, ranges)
        yield Pool(subnet, general, self.bindings, self._own_addresses)

    # Reservations

    def reserve(self, reservation: Reservation) -> None:
        """Add *reservation*. It replaces the reservations for the same client or address."""
        for identifier in reservation_keys(reservation):
            if identifier in self.reservations_by_key:
                self.unreserve(self.reservations_by_key[identifier])
            self.reservations_by_key[identifier] = reservation
        if reservation.address:
            number = number_of(reservation.address)
            binding = self.bindings.get(number) or self._new_binding(number, outside_pools=True)
            if binding is not None:
                binding.reservation = reservation
                self.bindings[binding.number] = self.reserved[reservation.address] = binding

    def unreserve(self, reservation: Reservation) -> None:
        """Remove *reservation*, if it is there."""
        for identifier in reservation_keys(reservation):
            # Another reservation may have replaced this one for one of its identifiers.
            if self.reservations_by_key.get(identifier) == reservation:
                del self.reservations_by_key[identifier]
        binding = self.reserved.get(reservation.address)
        if binding is None or binding.reservation != reservation:
            return
        del self.reserved[reservation.address]
        binding.reservation = None
        if binding.pool is not None:
            binding.pool.unreserve(binding)
        elif binding.lease is None:
            # It is in no pool, so the reservation was the only reason to keep it.
            del self.bindings[binding.number]

    def reservations(self) -> Iterator[Reservation]:
        """Yield all reservations; one is repeated for each of its identifiers."""
        yield from self.reservations_by_key.values()

    # Which address a client may have

    def find(self, number: int) -> Binding[SubnetT] | None:
        """Return the binding of an address; None: it is not in a pool, and has no lease or reservation."""
        return self.bindings.get(number) or self._new_binding(number, outside_pools=False)

    def is_allowed(self, binding: Binding[SubnetT], client: Any, reservation: Reservation | None) -> bool:
        """Return whether the configuration allows *client* to have the address, whatever its lease and offer.

        :param reservation: the reservation for the client.
        """
        # A reservation counts more than pools, and a reserved address may lie outside of them.
        if binding.reservation is not None:
            return binding.reservation is reservation
        if binding.subnet.known_clients_only and reservation is None:
            return False
        pool = binding.pool
        return pool is not None and pool.serves(client) and binding.address not in self._own_addresses

    def has_pool_for(self, client: Any) -> bool:
        """Return whether a pool is for *client*, free or not; true if there is no pool at all."""
        sized = [pool for pools in self.own_pools.values() for pool in pools if pool.size]
        return not sized or any(pool.serves(client) for pool in sized)

    def can_assign(self, binding: Binding[SubnetT], client: Any, reservation: Reservation | None, now: float) -> bool:
        """Return whether *client* may have the address now."""
        return self.is_allowed(binding, client, reservation) and (
            binding.free_for(client.key, now) or self.allocator.held_by_same_machine(binding, client, reservation)
        )

    def preferred(
        self,
        client: Any,
        reservation: Reservation | None,
        requested: int | None,
        now: float,
        excluded: Collection[int] = (),
    ) -> Binding[SubnetT] | None:
        """Return the address that is reserved for, offered to, leased to or requested by *client*; None: none of them.

        :param requested: the address that it requests; the others are preferred.
        :param excluded: addresses that are taken already.
        """
        for binding in self.allocator.candidates(client, reservation):
            if (
                binding is not None
                and binding.number not in excluded
                and self.can_assign(binding, client, reservation, now)
            ):
                return binding
        if requested is None or requested in excluded:
            return None
        binding = self.find(requested)
        return binding if binding is not None and self.can_assign(binding, client, reservation, now) else None

    def choose(
        self,
        client: Any,
        reservation: Reservation | None,
        requested: int | None,
        subnet: SubnetT,
        now: float,
        excluded: Collection[int] = (),
    ) -> Binding[SubnetT] | None:
        """Return the address for *client*; None: none is left. See preferred() and choose_free()."""
        return self.preferred(client, reservation, requested, now, excluded) or self.choose_free(
            client, reservation, subnet, now, excluded
        )

    def choose_free(
        self, client: Any, reservation: Reservation | None, subnet: SubnetT, now: float, excluded: Collection[int] = ()
    ) -> Binding[SubnetT] | None:
        """Return a free address for *client*; None: none is left.

        If no address is free, one in quarantine is returned.

        :param subnet: the subnet of the client.
        """
        # An address in quarantine is better than none: the machine that used it may be gone.
        known = reservation is not None
        found = self.allocator.next(client, known, subnet, now, excluded)
        return found or self._quarantined(client, known, now, excluded)

    def free(self) -> int:
        """Count the free addresses of the pools; those whose leases have just expired may be missing."""
        return sum(pool.size - pool.queued for pools in self.own_pools.values() for pool in pools)

    # What happens to leases

    def grant(self, binding: Binding[SubnetT], lease: Lease) -> tuple[Lease, ...]:
        """Lease the address of *binding*.

        :return: all leases that have changed, *lease* first.
        """
        # Looked up first: the index points to the new lease from here on.
        earlier = self.leased.get(lease.client)
        self._replace(binding, lease, lease.granted)
        self.leased[lease.client] = binding
        if (
            earlier is None
            or earlier is binding
            or not self.allocator.one_address_per_client
            or earlier.lease is None
            or earlier.lease.expires <= lease.granted
        ):
            return (lease,)
        # By DHCPv4 a client has one address, so its current lease of another one ends.
        return lease, self.release(earlier, lease.granted)

    def release(self, binding: Binding[SubnetT], now: float) -> Lease:
        """End the lease or the quarantine of *binding*.

        The client of a lease may get the address again until another client needs it; a client that declined it may
        not.
        """
        lease = binding.lease
        assert lease is not None
        if lease.state is _RELEASED:
            return lease  # replacing it would put the address behind those that became free since
        client = b"" if lease.state is _DECLINED else lease.client
        # An expired lease keeps its end, so its address keeps its place among the free ones.
        released = evolve(lease, client=client, state=_RELEASED, expires=min(now, lease.expires))
        self._replace(binding, released, now)
        return released

    def quarantine(self, binding: Binding[SubnetT], declined: Lease) -> tuple[Lease, ...]:
        """Put an address into quarantine.

        :param declined: a DECLINED lease; ``client``, else ``client_id``, identifies the client that declined.
        :return: all leases that have changed: if the client has declined too many addresses, the earliest is released.
        """
        self._replace(binding, declined, declined.granted)
        earliest = self._quarantine.add(binding.number, declined.client or declined.client_id)
        if earliest is None:
            return (declined,)
        return declined, self.release(self.bindings[earliest], declined.granted)

    def restore(self, lease: Lease) -> None:
        """Enter a lease from the store; it replaces the lease of its address."""
        number = number_of(lease.address)
        # An address that has left the pool since is kept too: its lease is listed until it ends.
        binding = self.bindings.get(number) or self._new_binding(number, outside_pools=True)
        if binding is None:
            return
        # At time 0 no entry of the queue is due, so loading thousands of leases moves none of them.
        self._replace(binding, lease, 0.0)
        if lease.state is _DECLINED:
            self._quarantine.add(number, lease.client or lease.client_id)
        elif lease.client:
            # If the store has several leases of a client, the one that ends last is its present address.
            other = self.leased.get(lease.client)
            if other is None or other.lease is None or other.lease.expires < lease.expires:
                self.leased[lease.client] = binding

    def leases(self) -> Iterator[Lease]:
        """Return all leases, expired ones too."""
        return (binding.lease for binding in self.bindings.values() if binding.lease is not None)

    def binding_changed(self, binding: Binding[SubnetT], now: float) -> None:
        """Index *binding*, whose lease or offer has changed."""
        self.bindings[binding.number] = binding
        if binding.pool is not None:
            binding.pool.requeue(binding, now)

    def _replace(self, binding: Binding[SubnetT], lease: Lease, now: float) -> None:
        before = binding.lease
        binding.lease = lease
        if before is not None:
            client = before.client
            # The client may have another lease since; then the index points to that one.
            if (client != lease.client or lease.state is _DECLINED) and self.leased.get(client) is binding:
                del self.leased[client]
            if before.state is _DECLINED:
                self._quarantine.discard(binding.number)
        # Both read the new lease: the pool sorts the address by its end.
        self.allocator.lease_changed(binding, before, now)
        self.binding_changed(binding, now)

    def _quarantined(self, client: Any, known: bool, now: float, excluded: Collection[int]) -> Binding[SubnetT] | None:
        """Return the address that is in quarantine for longest and may be offered again."""
        for numbers, before in ((self._quarantine.declined, inf), (self._quarantine.probed, now - PROBE_RETRY_SECONDS)):
            for number in islice(numbers, _CANDIDATES):
                binding = self.bindings[number]
                if binding.lease is None or binding.lease.granted > before:
                    break  # the earliest come first
                if binding.subnet.known_clients_only and not known:
                    continue
                pool = binding.pool
                # It may be offered to another client already, for the same lack of addresses.
                if (
                    pool is not None
                    and pool.serves(client)
                    and binding.offered_until <= now
                    and number not in excluded
                    and pool.is_assignable(binding)
                ):
                    return binding
        return None

    def _new_binding(self, number: int, *, outside_pools: bool) -> Binding[SubnetT] | None:
        """Create the binding of an address; None: it is in no pool, or with *outside_pools* in no subnet.

        :param outside_pools: create it for any address of a subnet, not only of a pool.
        """
        subnet = self._subnet_of(number)
        if subnet is None:
            return None
        pool = next((pool for pool in self.own_pools[subnet] if number in pool), None)
        if pool is None and not outside_pools:
            return None
        return Binding(number, text_of(number, subnet.network.version), subnet, pool)

    def _subnet_of(self, number: int) -> SubnetT | None:
        # A link has few subnets. LeaseBooks.find_subnet() searches those of all links.
        for mask, first, subnet in self._masks:
            if number & mask == first:
                return subnet
        return None


class LeaseBooks(Generic[SubnetT, AllocatorT]):
    """The lease books of all links of a server, and the operations of an operator on them.

    :param subnets: must not overlap.
    :param allocator: creates the Allocator of a book.
    :param classes: client classes; those with pools have them in the subnets.
    """

    def __init__(
        self,
        subnets: Sequence[SubnetT],
        allocator: Callable[[LeaseBook[SubnetT, AllocatorT]], AllocatorT],
        classes: Sequence[ClientClass] = (),
    ) -> None:
        self.own_addresses: set[str] = set()
        """Addresses of the server itself, as far as messages have shown them, and of other nodes of its cluster."""
        links: dict[str, list[SubnetT]] = {}
        for subnet in subnets:
            links.setdefault(subnet.link_name, []).append(subnet)
        # Clients of one link may get addresses of each of its subnets, so these share a book.
        self.books = tuple(LeaseBook(listed, self.own_addresses, allocator, classes) for listed in links.values())
        located = [(book, subnet) for book in self.books for subnet in book.subnets]
        self.relays = {relay: (book, subnet) for book, subnet in located for relay in subnet.relays}
        """Address of a relay -> lease book and subnet of its clients."""
        self._sorted = sorted(located, key=lambda entry: int(entry[1].network[0]))
        self._starts = [int(subnet.network[0]) for _, subnet in self._sorted]
        self._ends = [int(subnet.network[-1]) for _, subnet in self._sorted]

    def find_subnet(self, address: str) -> tuple[LeaseBook[SubnetT, AllocatorT], SubnetT] | None:
        """Return the lease book and subnet of *address*; None: it is in no subnet, or not an address."""
        try:
            number = number_of(address)
        except OSError:
            return None
        # Subnets do not overlap: only the last one that begins at or before the address can contain it.
        index = bisect_right(self._starts, number) - 1
        return self._sorted[index] if index >= 0 and number <= self._ends[index] else None

    def begin_search_at(self, share: float) -> None:
        """Look for addresses that were never leased from another place of each pool on.

        :param share: of the pool, from 0 to below 1.
        """
        for book in self.books:
            for pools in book.own_pools.values():
                for pool in pools:
                    pool.begin_at(int(pool.size * share))

    def counts(self, now: float) -> dict[tuple[str, str], int]:
        """Count addresses by (network of the subnet, "active", "expired", "released" or "declined")."""
        # With zeros: to a monitoring system a value that is missing is not 0.
        found = {
            (str(subnet.network), state): 0
            for book in self.books
            for subnet in book.subnets
            for state in ("active", "expired", "released", "declined")
        }
        names = {id(subnet): str(subnet.network) for book in self.books for subnet in book.subnets}
        for book in self.books:
            for binding in book.bindings.values():
                lease = binding.lease
                if lease is not None:
                    expired = lease.state is _ACTIVE and lease.expires <= now
                    found[names[id(binding.subnet)], "expired" if expired else lease.state.value] += 1
        return found

    def free(self) -> dict[tuple[str], int]:
        """Count the free addresses by (network of the subnet,); those whose leases have just expired may be missing."""
        return {
            (str(subnet.network),): sum(pool.size - pool.queued for pool in pools)
            for book in self.books
            for subnet, pools in book.own_pools.items()
        }

    def serves(self, address: str) -> bool:
        """Return whether *address* is in a subnet; for "" whether there is any subnet."""
        return self.find_subnet(address) is not None if address else bool(self.books)

    def leases(self) -> Iterator[Lease]:
        """Yield all leases, expired ones too, unsorted."""
        for book in self.books:
            yield from book.leases()

    def lease(self, address: str) -> Lease | None:
        """Return the latest lease of *address*."""
        found = self.find_binding(address)
        return None if found is None else found[1].lease

    def restore(self, lease: Lease) -> bool:
        """Enter a lease from the store or another node; it replaces the lease of its address.

        :return: false if the address is in no subnet.
        """
        located = self.find_subnet(lease.address)
        if located is None:
            return False
        located[0].restore(lease)
        return True

    def restore_from(self, before: "LeaseBooks[SubnetT, AllocatorT]", now: float) -> list[Lease]:
        """Copy leases and own addresses of the server that this one replaces (after a reload).

        :return: leases whose addresses are in no subnet of this server.
        """
        self.own_addresses.update(before.own_addresses)
        return [lease for lease in before.leases() if not self.restore(lease)]

    def release(self, address: str, now: float) -> tuple[Lease, ...]:
        """End the lease or the quarantine of *address*.

        :return: the leases to store; empty if there was none.
        """
        found = self.find_binding(address)
        return () if found is None or found[1].lease is None else (found[0].release(found[1], now),)

    def reservations(self) -> Iterator[Reservation]:
        """Yield each reservation once."""
        yield from dict.fromkeys(found for book in self.books for found in book.reservations())

    def reserve(self, reservation: Reservation) -> None:
        """Add a reservation. It replaces the reservations for the same client or address.

        If another client has a lease of the address, its next renewal is refused (NAK).

        :raise ValueError: the address is in no subnet.
        """
        if not reservation.address:
            # It makes the client a known one, on whichever link it appears.
            for book in self.books:
                book.reserve(reservation)
            return
        located = self.find_subnet(reservation.address)
        if located is None:
            raise ValueError(f"{reservation.address} is in no subnet")
        located[0].reserve(reservation)

    def unreserve(self, reservation: Reservation) -> None:
        """Remove a reservation. A lease of its address stays valid until it expires."""
        for book in self.books:
            book.unreserve(reservation)

    def find_binding(self, address: str) -> tuple[LeaseBook[SubnetT, AllocatorT], Binding[SubnetT]] | None:
        """Return the lease book and binding of *address*; None: see LeaseBook.find()."""
        located = self.find_subnet(address)
        binding = located[0].find(number_of(address)) if located is not None else None
        return None if located is None or binding is None else (located[0], binding)
