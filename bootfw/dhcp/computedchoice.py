"""DHCPv6's choice of an address: computed from the identity of the machine, so that no offer has to be remembered."""

from collections.abc import Collection, Iterator
from hashlib import blake2b

from attrs import frozen

from bootfw.dhcp.leasebook import LeaseBook
from bootfw.dhcp.pool import Binding, Pool
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.lease import Lease, LeaseState, Reservation

FIRMWARE, SYSTEM = "firmware", "system"

_ATTEMPTS = 4
"""Addresses that are computed for a machine before the first free one of the pool is taken."""

MOST_REMEMBERED = 65536
"""Known addresses of a subnet above which expired ones are used again before unused ones: a pool of IPv6 has no end,
and memory has."""


@frozen
class Holder:
    """One identity association of a client: what an address is leased to."""

    duid: bytes
    iaid: int
    mac: str
    """"" when it is not known."""
    kind: str
    """FIRMWARE or SYSTEM."""

    @property
    def key(self) -> bytes:
        """What its lease is found by."""
        return b"6" + self.iaid.to_bytes(4, "big") + self.duid


class ComputedChoice:
    """See :class:`bootfw.dhcp.leasebook.Choice`.

    A machine is to keep one address through firmware, boot program and system, which identify themselves differently
    (DUID, IAID) and release nothing. So a lease passes on between clients with one hardware address and different
    DUIDs if either of them is firmware; two systems on one network card keep an address each (ADR 10).
    """

    one_address = False
    """The client may use the earlier address until the lifetime in its last reply ends."""

    def __init__(self, book: LeaseBook[Subnet6, "ComputedChoice"]) -> None:
        self._book = book
        self._of_mac: dict[str, dict[int, Binding[Subnet6]]] = {}
        """Hardware address -> addresses whose latest lease is its, the latest last."""

    def reservation(self, client: Holder) -> Reservation | None:
        """What is reserved for *client*: its DUID says more than its network card, which others may have too."""
        return self.reserved_for(client.duid, client.mac)

    def reserved_for(self, duid: bytes, mac: str) -> Reservation | None:
        """What is reserved for a client, any identity association of it."""
        hosts = self._book.hosts
        return hosts.get(("client-id", duid)) or hosts.get(("mac", mac))

    def candidates(self, client: Holder, reservation: Reservation | None) -> Iterator[Binding[Subnet6] | None]:
        """The reserved address, its own, those of the same machine."""
        book = self._book
        if reservation is not None:
            yield book.reserved.get(reservation.address)
        yield book.leased.get(client.key)
        for binding in reversed(self._of_mac.get(client.mac, {}).values()):
            if binding.lease is not None and _is_same_machine(binding.lease, client):
                yield binding

    def passes_on(self, binding: Binding[Subnet6], client: Holder, reservation: Reservation | None) -> bool:
        """The address is leased to the same machine under another DUID."""
        lease = binding.lease
        if lease is None or lease.state is not LeaseState.ACTIVE or lease.client_id == client.duid:
            return False
        if reservation is not None and binding.reservation is reservation and _is_for(reservation, lease):
            return True
        return _is_same_machine(lease, client)

    def next(
        self, client: Holder, known: bool, subnet: Subnet6, now: float, besides: Collection[int]
    ) -> Binding[Subnet6] | None:
        """A free address: of those that were never leased, the one that the machine's identity computes."""
        (pool,) = self._book.pools[subnet]
        if subnet.known_clients_only and not known:
            return None
        if len(self._book.bindings) < MOST_REMEMBERED:
            return self._unleased(pool, client, besides) or pool.longest_free(now, besides)
        return pool.longest_free(now, besides) or self._unleased(pool, client, besides)

    def replaced(self, binding: Binding[Subnet6], before: Lease | None, now: float) -> None:
        """Keep the index by hardware address."""
        if before is not None and before.mac and before.client:
            others = self._of_mac[before.mac]
            del others[binding.number]
            if not others:
                del self._of_mac[before.mac]
        lease = binding.lease
        if lease is not None and lease.mac and lease.client:
            self._of_mac.setdefault(lease.mac, {})[binding.number] = binding

    def _unleased(self, pool: Pool[Subnet6], client: Holder, besides: Collection[int]) -> Binding[Subnet6] | None:
        seed = client.mac.encode() or client.duid
        for attempt in range(_ATTEMPTS if pool.size else 0):
            # The same for the same machine, whatever has become of its lease.
            index = int.from_bytes(blake2b(seed + bytes((attempt,)), digest_size=8).digest(), "big") % pool.size
            binding = self._book.find(pool.at(index))
            if binding is not None and binding.lease is None and binding.number not in besides and pool.gives(binding):
                return binding
        return pool.unleased(besides)


def _is_same_machine(lease: Lease, client: Holder) -> bool:
    """*lease* is of another client on the same network card, and one of the two is firmware."""
    return lease.mac == client.mac != "" and lease.client_id != client.duid and FIRMWARE in (lease.kind, client.kind)


def _is_for(reservation: Reservation, lease: Lease) -> bool:
    return lease.mac in reservation.macs or lease.client_id == reservation.client_id != b""
