"""DHCPv4's choice of an address: it is offered, and the offer is kept for its client."""

from collections.abc import Collection, Iterable

from bootfw.dhcp.identity import Client
from bootfw.dhcp.leasebook import LeaseBook
from bootfw.dhcp.pool import Binding
from bootfw.dhcp.subnet import Subnet
from bootfw.lease import Lease, LeaseState, Reservation

OFFER_SECONDS = 120.0
"""How long an offer is kept for its client. EDK2 takes one as old as its four DISCOVERs last, 60 seconds."""


class Offers:
    """See :class:`bootfw.dhcp.leasebook.Choice`. Clients without a claim get the address that is free for longest."""

    one_address = True

    def __init__(self, book: "LeaseBook[Subnet, Offers]") -> None:
        self._book = book
        self._offered: dict[bytes, Binding[Subnet]] = {}
        """Key of a client -> what it was offered last."""

    def reservation(self, client: Client) -> Reservation | None:
        """What is reserved for *client*, by what identifies it: first its hardware address."""
        hosts = self._book.hosts
        return (
            hosts.get(("mac", client.mac))
            or hosts.get(("client-id", client.client_id))
            or hosts.get(("uuid", client.uuid))
            or hosts.get(("circuit-id", client.circuit_id))
        )

    def candidates(self, client: Client, reservation: Reservation | None) -> Iterable[Binding[Subnet] | None]:
        """The reserved address, the offered and the leased one (RFC 2131 section 4.3.1)."""
        book, key = self._book, client.key
        return (
            book.reserved.get(reservation.address) if reservation is not None else None,
            self._offered.get(key),
            book.leased.get(key),
        )

    def passes_on(self, binding: Binding[Subnet], client: Client, reservation: Reservation | None) -> bool:
        """The reserved address is leased to another hardware address of the same reservation."""
        lease = binding.lease
        if reservation is None or lease is None or binding.reservation is not reservation:
            return False
        macs = reservation.macs
        return len(macs) > 1 and client.mac in macs and lease.mac in macs and lease.state is LeaseState.ACTIVE

    def next(
        self, client: Client, known: bool, subnet: Subnet, now: float, besides: Collection[int] = ()
    ) -> Binding[Subnet] | None:
        """A free address of the client's subnet, or else of another one of its wire."""
        for pool in self._book.pools[subnet]:
            if (known or not pool.subnet.known_clients_only) and (found := pool.next(now, besides)) is not None:
                return found
        return None

    def replaced(self, binding: Binding[Subnet], before: Lease | None, now: float) -> None:
        """End the offers that a new lease or a quarantine makes void."""
        lease = binding.lease
        if lease is None or lease.state is LeaseState.RELEASED:
            return
        if binding.offered_to:
            self._end(binding, binding.offered_to, 0.0)
        other = self._offered.get(lease.client)
        if other is not None and lease.state is LeaseState.ACTIVE:
            self._end(other, lease.client, now)
            self._book.enter(other, now)

    def offer(self, binding: Binding[Subnet], client: Client, now: float) -> None:
        """Keep *binding* for *client* for a while."""
        key = client.key
        earlier = self._offered.get(key)
        if earlier is not binding:
            if earlier is not None:
                self._end(earlier, key, now)
                self._book.enter(earlier, now)
            if binding.offered_to and self._offered.get(binding.offered_to) is binding:
                del self._offered[binding.offered_to]
            self._offered[key] = binding
            binding.offered_to, binding.probed = key, False
        binding.offered_until = now + OFFER_SECONDS
        self._book.enter(binding, now)

    def offered(self, now: float) -> list[Binding[Subnet]]:
        """What is offered now."""
        return [binding for binding in self._offered.values() if binding.offered_until > now]

    def take_over(self, binding: Binding[Subnet], before: Binding[Subnet]) -> None:
        """Keep *binding* for the client that another server has offered it to as *before*."""
        self._offered[before.offered_to] = binding
        binding.offered_to, binding.offered_until = before.offered_to, before.offered_until
        binding.probed = before.probed
        self._book.enter(binding, 0.0)

    def withdraw(self, client: Client, now: float) -> None:
        """End the offer to *client*, which takes that of another server."""
        binding = self._offered.get(client.key)
        if binding is not None:
            self._end(binding, client.key, now)
            self._book.enter(binding, now)

    def knows(self, client: Client) -> bool:
        """The client has, had or was offered an address."""
        return client.key in self._book.leased or client.key in self._offered

    def _end(self, binding: Binding[Subnet], key: bytes, now: float) -> None:
        self._offered.pop(key, None)
        binding.offered_to, binding.offered_until = b"", now
