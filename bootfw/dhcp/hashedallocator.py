"""The DHCPv6 allocator: it computes an address from the MAC address or DUID, so that no offer has to be stored."""

from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b

from attrs import frozen

from bootfw.dhcp.leasebook import LeaseBook
from bootfw.dhcp.pool import Binding, Pool
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.lease import Lease, LeaseState, Reservation

FIRMWARE, SYSTEM = "firmware", "system"

_ATTEMPTS = 4
"""Number of hashes tried for a machine before it gets the first free address of the pool."""

REUSE_EXPIRED_ABOVE = 65536
"""Number of bindings above which expired addresses are assigned before new ones: an IPv6 pool is larger than memory."""

MAX_BINDINGS = 262_144
"""Number of bindings above which only expired addresses are assigned: a flood of invented clients fills no memory."""


@frozen
class ClientIA:
    """One identity association (IA) of a client, by DUID and IAID: an address is leased to an IA, not to a client."""

    duid: bytes
    iaid: int
    mac: str
    """"" when it is not known."""
    kind: str
    """FIRMWARE or SYSTEM."""
    classes: Sequence[object] = ()
    """Those of its client classes that have pools."""

    @property
    def key(self) -> bytes:
        """The key of its lease in the lease book."""
        return b"6" + self.iaid.to_bytes(4, "big") + self.duid


class HashedAllocator:
    """See :class:`bootfw.dhcp.leasebook.Allocator`.

    A machine keeps one address through firmware, boot program and system, which identify themselves differently
    (DUID, IAID) and release nothing. So a lease moves between clients with the same MAC address and different
    DUIDs if either of them is firmware; two systems on one network card keep an address each (ADR 10).
    """

    one_address_per_client = False
    """The client may use the earlier address until the lifetime in its last reply ends."""

    def __init__(self, book: LeaseBook[Subnet6, "HashedAllocator"]) -> None:
        self._book = book
        self._by_mac: dict[str, dict[int, Binding[Subnet6]]] = {}
        """MAC address -> bindings of its leases by address, the latest last."""

    def reservation(self, client: ClientIA) -> Reservation | None:
        """Return the reservation for the client's DUID, else for its MAC address, which other clients may have too."""
        return self.reserved_for(client.duid, client.mac)

    def reserved_for(self, duid: bytes, mac: str) -> Reservation | None:
        """Return the reservation for a client, whatever its identity association."""
        reservations_by_key = self._book.reservations_by_key
        return reservations_by_key.get(("client-id", duid)) or reservations_by_key.get(("mac", mac))

    def candidates(self, client: ClientIA, reservation: Reservation | None) -> Iterator[Binding[Subnet6] | None]:
        """Yield the reserved address, the leased ones, then addresses leased to the same machine."""
        book = self._book
        if reservation is not None:
            yield book.reserved.get(reservation.address)
        latest = book.leased.get(client.key)
        of_machine = [binding for binding in reversed(self._by_mac.get(client.mac, {}).values()) if binding.lease]
        # Without a reservation that has ended since, a client has one lease, the latest.
        of_client = [binding for binding in of_machine if binding.lease and binding.lease.client == client.key]
        if len(of_client) > 1 and latest is not None and latest.lease and latest.lease.state is LeaseState.RELEASED:
            yield from (binding for binding in of_client if binding.lease and binding.lease.state is LeaseState.ACTIVE)
        yield latest
        yield from of_client
        for binding in of_machine:
            if binding.lease and _is_same_machine(binding.lease, client):
                yield binding

    def held_by_same_machine(
        self, binding: Binding[Subnet6], client: ClientIA, reservation: Reservation | None
    ) -> bool:
        """Return whether the address is leased to the same machine under another DUID."""
        lease = binding.lease
        if lease is None or lease.state is not LeaseState.ACTIVE or lease.client_id == client.duid:
            return False
        if reservation is not None and binding.reservation is reservation and _identifies(reservation, lease):
            return True
        return _is_same_machine(lease, client)

    def next(
        self, client: ClientIA, known: bool, subnet: Subnet6, now: float, excluded: Collection[int]
    ) -> Binding[Subnet6] | None:
        """Return a free address: one that was never leased, by the hash of the machine's identity, or an expired
        one."""
        if subnet.known_clients_only and not known:
            return None
        for pool in self._book.pools[subnet]:
            if pool.serves(client) and (found := self._next_of(pool, client, now, excluded)) is not None:
                return found
        return None

    def _next_of(
        self, pool: Pool[Subnet6], client: ClientIA, now: float, excluded: Collection[int]
    ) -> Binding[Subnet6] | None:
        # A new address comes first while there is memory for its binding: an expired one is still the address that its
        # last client prefers.
        if len(self._book.bindings) < REUSE_EXPIRED_ABOVE:
            return self._computed_address(pool, client, excluded) or pool.longest_free(now, excluded)
        expired = pool.longest_free(now, excluded)
        if expired is not None or len(self._book.bindings) >= MAX_BINDINGS:
            return expired
        return self._computed_address(pool, client, excluded)

    def lease_changed(self, binding: Binding[Subnet6], before: Lease | None, now: float) -> None:
        """Update the index by MAC address."""
        if before is not None and before.mac and before.client:
            bindings = self._by_mac[before.mac]
            del bindings[binding.number]
            if not bindings:
                del self._by_mac[before.mac]
        lease = binding.lease
        if lease is not None and lease.mac and lease.client:
            self._by_mac.setdefault(lease.mac, {})[binding.number] = binding

    def _computed_address(
        self, pool: Pool[Subnet6], client: ClientIA, excluded: Collection[int]
    ) -> Binding[Subnet6] | None:
        # By the MAC address firmware and system, whose DUIDs differ, compute the same address.
        seed = client.mac.encode() or client.duid
        for attempt in range(_ATTEMPTS if pool.size else 0):
            # SOLICIT and REQUEST compute the same address: no offer is stored between them.
            index = int.from_bytes(blake2b(seed + bytes((attempt,)), digest_size=8).digest(), "big") % pool.size
            binding = self._book.find(pool.number_at(index))
            if (
                binding is not None
                and binding.lease is None
                and binding.number not in excluded
                and pool.is_assignable(binding)
            ):
                return binding
        return pool.never_leased(excluded)


def _is_same_machine(lease: Lease, client: ClientIA) -> bool:
    """Return whether *lease* is of another client on the same network card, one of the two being firmware."""
    return lease.mac == client.mac != "" and lease.client_id != client.duid and FIRMWARE in (lease.kind, client.kind)


def _identifies(reservation: Reservation, lease: Lease) -> bool:
    return lease.mac in reservation.macs or lease.client_id == reservation.client_id != b""
