"""One wire: its subnets, what is leased and offered in them, and what is reserved."""

from collections.abc import Iterator, Sequence
from itertools import islice
from math import inf
from socket import inet_aton

from bootfw.dhcp.identity import Client
from bootfw.dhcp.pool import Binding, Pool
from bootfw.dhcp.quarantine import Quarantine
from bootfw.dhcp.subnet import Subnet
from bootfw.lease import Lease, LeaseState, Reservation, known_by

OFFER_SECONDS = 120.0
"""How long an offer is kept for its client. EDK2 takes one as old as its four DISCOVERs last, 60 seconds."""

QUARANTINE_SECONDS = 3600.0
"""How long an address rests that somebody uses without a lease."""

PROBED_AGAIN = 60.0
"""Seconds after which an address where a probe was answered may be tried again when no other is left. An address that
a client declined may be tried at once: that is the word of one client."""

_CANDIDATES = 64
"""Resting addresses that are looked at for one client; a few are reserved or have left the pool."""


class Network:
    """The subnets of one wire and everything that is known of their addresses.

    :param own: our own addresses, which are nobody's; may grow.
    """

    def __init__(self, subnets: Sequence[Subnet], own: set[str]) -> None:
        self.subnets = tuple(subnets)
        self._for_unknown = not all(subnet.known_clients_only for subnet in self.subnets)
        self.name = subnets[0].shared_network or str(subnets[0].network)
        self.bindings: dict[str, Binding] = {}
        self._masks = [(int(s.network.netmask), int(s.network.network_address), s) for s in subnets]
        self._own = own
        self._leased: dict[bytes, Binding] = {}
        """Client key -> the address it has or had last."""
        self._offered: dict[bytes, Binding] = {}
        self._quarantine = Quarantine()
        self._pools = {subnet: Pool(subnet, self._is_anyones) for subnet in subnets}
        self._reserved: dict[str, Reservation] = {}
        self._hosts: dict[tuple[str, str | bytes], Reservation] = {}
        """By everything that they are known by, the address too."""
        for subnet in subnets:
            for reservation in subnet.hosts:
                self.reserve(reservation)

    def __contains__(self, address: str) -> bool:
        return self._subnet_of(int.from_bytes(inet_aton(address), "big")) is not None

    # Reservations

    def reserve(self, reservation: Reservation) -> None:
        """Keep it, and no more what was kept for the same client or the same address."""
        for identifier in known_by(reservation):
            if identifier in self._hosts:
                self.unreserve(self._hosts[identifier])
            self._hosts[identifier] = reservation
        if reservation.address:
            self._reserved[reservation.address] = reservation

    def unreserve(self, reservation: Reservation) -> None:
        """Forget it."""
        for identifier in known_by(reservation):
            if self._hosts.get(identifier) is reservation:
                del self._hosts[identifier]
        if self._reserved.get(reservation.address) is not reservation:
            return
        del self._reserved[reservation.address]
        binding = self.find(reservation.address)
        if binding is not None and binding.pool is not None:
            self.bindings[binding.address] = binding
            binding.pool.give_back(binding)

    def reservations(self) -> Iterator[Reservation]:
        """Everything that is reserved; some come more than once."""
        yield from self._hosts.values()

    def reservation(self, client: Client) -> Reservation | None:
        """What is reserved for *client*."""
        hosts = self._hosts
        if not hosts:
            return None
        return (
            hosts.get(("mac", client.mac))
            or hosts.get(("client-id", client.client_id))
            or hosts.get(("uuid", client.uuid))
            or hosts.get(("circuit-id", client.circuit_id))
        )

    # Addresses

    def find(self, address: str) -> Binding | None:
        """What is known of *address*; None when it is neither leased, nor reserved, nor of a pool."""
        return self.bindings.get(address) or self._made(address)

    def allowed(self, binding: Binding, reservation: Reservation | None) -> bool:
        """Whether the configuration lets the client have the address, apart from leases and offers."""
        kept = self._reserved.get(binding.address)
        if kept is not None:
            return kept is reservation
        if binding.subnet.known_clients_only and reservation is None:
            return False
        return binding.pool is not None and binding.address not in self._own

    def passes_on(self, binding: Binding, client: Client, reservation: Reservation | None) -> bool:
        """Whether the address is leased to the same machine by another of its hardware addresses."""
        lease = binding.lease
        if reservation is None or lease is None or reservation.address != binding.address:
            return False
        macs = reservation.macs
        return len(macs) > 1 and client.mac in macs and lease.mac in macs and lease.state is LeaseState.ACTIVE

    def choose(self, client: Client, reservation: Reservation | None, wanted: str, now: float) -> Binding | None:
        """The address that *client* has or should have: reserved, offered, leased, wanted (RFC 2131 section 4.3.1).

        :param wanted: what it asks for, or "".
        :return: None: any will do; see :meth:`take`.
        """
        key = client.key
        if reservation is not None and reservation.address:
            binding = self.find(reservation.address)
            if binding is not None and (
                self.passes_on(binding, client, reservation)
                or (binding.free_for(key, now) and self.allowed(binding, reservation))
            ):
                return binding
        for binding in (self._offered.get(key), self._leased.get(key), self.find(wanted) if wanted else None):
            if binding is not None and binding.free_for(key, now) and self.allowed(binding, reservation):
                return binding
        return None

    def take(self, subnet: Subnet, now: float, known: bool = True) -> Binding | None:
        """An address for a client that we don't know; None: there is none left.

        An address that rests is given before a client gets none.

        :param known: something is reserved for the client.
        """
        first = self._pools[subnet]
        pools = (
            [first, *(pool for pool in self._pools.values() if pool is not first)] if len(self._pools) > 1 else [first]
        )
        for pool in pools:
            if (known or not pool.subnet.known_clients_only) and (found := pool.take(now, self.bindings)) is not None:
                return found
        return self._resting(now, known)

    def is_for(self, known: bool) -> bool:
        """Whether there are addresses for clients that are known, or not."""
        return known or self._for_unknown

    def free(self) -> int:
        """How many addresses of the pools nobody has, about: one whose time is over counts when it was looked at."""
        return sum(pool.free for pool in self._pools.values())

    # What happens to them

    def offer(self, binding: Binding, client: Client, now: float) -> None:
        """Keep *binding* for *client* for a while."""
        key = client.key
        earlier = self._offered.get(key)
        if earlier is not binding:
            if earlier is not None:
                self._end_offer(earlier, key, now)
                self._enter(earlier, now)
            if binding.offered_to and self._offered.get(binding.offered_to) is binding:
                del self._offered[binding.offered_to]
            self._offered[key] = binding
            binding.offered_to, binding.probed = key, False
        binding.offered_until = now + OFFER_SECONDS
        self._enter(binding, now)

    def withdraw(self, client: Client, now: float) -> None:
        """*client* does not want what it was offered."""
        binding = self._offered.get(client.key)
        if binding is not None:
            self._end_offer(binding, client.key, now)
            self._enter(binding, now)

    def grant(self, binding: Binding, lease: Lease) -> tuple[Lease, ...]:
        """*binding* is now leased as *lease* says.

        :return: every lease that changed by that, *lease* first.
        """
        key = lease.client
        previous = binding.lease
        if previous is not None and previous.client != key and self._leased.get(previous.client) is binding:
            del self._leased[previous.client]
        if binding.offered_to and binding.offered_to != key:
            self._end_offer(binding, binding.offered_to, 0.0)
        offered = self._offered.get(key)
        if offered is not None:
            self._end_offer(offered, key, 0.0 if offered is binding else lease.granted)
            if offered is not binding:
                self._enter(offered, lease.granted)
        other = self._leased.get(key)
        self._leased[key] = binding
        binding.lease = lease
        self._quarantine.discard(binding.address)
        self._enter(binding, lease.granted)
        if other is None or other is binding or other.lease is None or other.lease.expires <= lease.granted:
            return (lease,)
        return lease, self._released(other, lease.granted)

    def release(self, binding: Binding, now: float) -> Lease:
        """The lease of *binding* is given back; its client keeps being remembered for it."""
        return self._released(binding, now)

    def quarantine(self, binding: Binding, now: float, client: bytes = b"", mac: str = "") -> tuple[Lease, ...]:
        """Another machine uses the address of *binding* without a lease.

        :param client: key of the client that declined it; empty: a probe was answered.
        :return: every lease that changed by that: when the client has declined several, the earliest rests no longer.
        """
        lease = binding.lease
        if lease is not None and self._leased.get(lease.client) is binding:
            del self._leased[lease.client]
        if binding.offered_to:
            self._end_offer(binding, binding.offered_to, 0.0)
        binding.lease = declined = Lease(
            binding.address, client, mac, LeaseState.DECLINED, now, now + QUARANTINE_SECONDS
        )
        self._enter(binding, now)
        earliest = self._quarantine.add(binding.address, client)
        if not earliest:
            return (declined,)
        return declined, self._end_rest(self.bindings[earliest], now)

    def restore(self, lease: Lease) -> None:
        """Take over a lease that was granted before."""
        binding = self.find(lease.address)
        if binding is None:
            number = int.from_bytes(inet_aton(lease.address), "big")
            subnet = self._subnet_of(number)
            if subnet is None:
                return
            binding = Binding(lease.address, number, subnet, None)
        self.bindings[binding.address] = binding
        previous = binding.lease
        if previous is not None and self._leased.get(previous.client) is binding:
            del self._leased[previous.client]
        binding.lease = lease
        self._enter(binding, 0.0)
        if lease.state is LeaseState.DECLINED:
            self._quarantine.add(binding.address, lease.client)
            return
        self._quarantine.discard(binding.address)
        if lease.client:
            other = self._leased.get(lease.client)
            if other is None or other.lease is None or other.lease.expires < lease.expires:
                self._leased[lease.client] = binding

    def knows(self, key: bytes) -> bool:
        """The client has, had or was offered an address."""
        return key in self._leased or key in self._offered

    def leased_to(self, key: bytes) -> Binding | None:
        """The address that the client has or had last."""
        return self._leased.get(key)

    def leases(self) -> Iterator[Lease]:
        """Every lease that is known, expired ones too."""
        return (binding.lease for binding in self.bindings.values() if binding.lease is not None)

    def _released(self, binding: Binding, now: float) -> Lease:
        lease = binding.lease
        assert lease is not None
        binding.lease = released = Lease(
            lease.address, lease.client, lease.mac, LeaseState.RELEASED, lease.granted, now,
            lease.client_id, lease.uuid, lease.hostname, lease.kind,
        )  # fmt: skip
        self._quarantine.discard(binding.address)
        self._enter(binding, now)
        return released

    def _resting(self, now: float, known: bool) -> Binding | None:
        """An address that rests and may be tried all the same, the longest resting first."""
        for resting, before in ((self._quarantine.declined, inf), (self._quarantine.probed, now - PROBED_AGAIN)):
            for address in islice(resting, _CANDIDATES):
                binding = self.bindings[address]
                if binding.lease is None or binding.lease.granted > before:
                    break
                if binding.subnet.known_clients_only and not known:
                    continue
                if binding.pool is not None and binding.offered_until <= now and self._is_anyones(address):
                    return binding
        return None

    def _end_rest(self, binding: Binding, now: float) -> Lease:
        """The address may be given again, last of all; the client that declined it has no claim to it."""
        lease = binding.lease
        assert lease is not None
        self._quarantine.discard(binding.address)
        binding.lease = ended = Lease(binding.address, b"", lease.mac, LeaseState.RELEASED, lease.granted, now)
        self._enter(binding, now)
        return ended

    def _end_offer(self, binding: Binding, key: bytes, now: float) -> None:
        self._offered.pop(key, None)
        binding.offered_to, binding.offered_until = b"", now

    def _enter(self, binding: Binding, now: float) -> None:
        self.bindings[binding.address] = binding
        if binding.pool is not None:
            binding.pool.enter(binding, now)

    def _is_anyones(self, address: str) -> bool:
        return address not in self._reserved and address not in self._own

    def _made(self, address: str) -> Binding | None:
        """A new Binding for an address of a pool or a reserved one."""
        try:
            number = int.from_bytes(inet_aton(address), "big")
        except OSError:
            return None
        subnet = self._subnet_of(number)
        if subnet is None:
            return None
        pooled = any(first <= number <= last for first, last in subnet.free)
        if not pooled and address not in self._reserved:
            return None
        return Binding(address, number, subnet, self._pools[subnet] if pooled else None)

    def _subnet_of(self, number: int) -> Subnet | None:
        for mask, first, subnet in self._masks:
            if number & mask == first:
                return subnet
        return None
