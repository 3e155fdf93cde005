"""The DHCPv4 allocator: it remembers which address was offered to which client."""

from collections.abc import Collection, Iterable

from bootfw.dhcp.identity import Client
from bootfw.dhcp.leasebook import LeaseBook
from bootfw.dhcp.pool import Binding
from bootfw.dhcp.subnet import Subnet
from bootfw.lease import Lease, LeaseState, Reservation

OFFER_SECONDS = 120.0
"""Seconds that an offered address is kept for its client. EDK2 may accept an offer 60 seconds later: it collects offers
during four DISCOVERs."""


class OfferAllocator:
    """See :class:`bootfw.dhcp.leasebook.Allocator`.

    A client without history gets the address that has been free for longest.
    """

    one_address_per_client = True

    def __init__(self, book: "LeaseBook[Subnet, OfferAllocator]") -> None:
        self._book = book
        self._offered: dict[bytes, Binding[Subnet]] = {}
        """Key of a client -> the binding that was offered to it last."""

    def reservation(self, client: Client) -> Reservation | None:
        """Return the reservation for *client*: by MAC address, client identifier, UUID, then circuit."""
        reservations_by_key = self._book.reservations_by_key
        return (
            reservations_by_key.get(("mac", client.mac))
            or reservations_by_key.get(("client-id", client.client_id))
            or reservations_by_key.get(("uuid", client.uuid))
            or reservations_by_key.get(("circuit-id", client.circuit_id))
        )

    def candidates(self, client: Client, reservation: Reservation | None) -> Iterable[Binding[Subnet] | None]:
        """Return the reserved, the offered and the leased address (RFC 2131 section 4.3.1)."""
        book, key = self._book, client.key
        return (
            book.reserved.get(reservation.address) if reservation is not None else None,
            self._offered.get(key),
            book.leased.get(key),
        )

    def held_by_same_machine(self, binding: Binding[Subnet], client: Client, reservation: Reservation | None) -> bool:
        """Return whether the reserved address is leased to another MAC address of the same reservation."""
        lease = binding.lease
        if reservation is None or lease is None or binding.reservation is not reservation:
            return False
        macs = reservation.macs
        return len(macs) > 1 and client.mac in macs and lease.mac in macs and lease.state is LeaseState.ACTIVE

    def next(
        self, client: Client, known: bool, subnet: Subnet, now: float, excluded: Collection[int] = ()
    ) -> Binding[Subnet] | None:
        """Return a free address of the client's subnet, else of another subnet on its link."""
        for pool in self._book.pools[subnet]:
            if (
                (known or not pool.subnet.known_clients_only)
                and pool.serves(client)
                and (found := pool.next(now, excluded)) is not None
            ):
                return found
        return None

    def lease_changed(self, binding: Binding[Subnet], before: Lease | None, now: float) -> None:
        """End the offers that a new lease or a quarantine replaces."""
        lease = binding.lease
        if lease is None or lease.state is LeaseState.RELEASED:
            return
        if binding.offered_to:
            self._end(binding, binding.offered_to, 0.0)
        other = self._offered.get(lease.client)
        if other is not None and lease.state is LeaseState.ACTIVE:
            self._end(other, lease.client, now)
            self._book.binding_changed(other, now)

    def offer(self, binding: Binding[Subnet], client: Client, now: float) -> None:
        """Keep *binding* for *client* for OFFER_SECONDS; its earlier offer ends."""
        key = client.key
        earlier = self._offered.get(key)
        if earlier is not binding:
            if earlier is not None:
                self._end(earlier, key, now)
                self._book.binding_changed(earlier, now)
            # The address was offered to another client before, whose offer is over.
            if binding.offered_to and self._offered.get(binding.offered_to) is binding:
                del self._offered[binding.offered_to]
            self._offered[key] = binding
            # The result of an earlier probe does not count for this client: an address that was unused then may be in
            # use now.
            binding.offered_to, binding.probed = key, False
        binding.offered_until = now + OFFER_SECONDS
        self._book.binding_changed(binding, now)

    def offered(self, now: float) -> list[Binding[Subnet]]:
        """Return the bindings with a current offer."""
        return [binding for binding in self._offered.values() if binding.offered_until > now]

    def restore_offer(self, binding: Binding[Subnet], before: Binding[Subnet]) -> None:
        """Copy the offer of *before*, the binding of the same address in the server that this one replaces."""
        self._offered[before.offered_to] = binding
        binding.offered_to, binding.offered_until = before.offered_to, before.offered_until
        binding.probed = before.probed
        self._book.binding_changed(binding, 0.0)

    def withdraw(self, client: Client, now: float) -> None:
        """End the offer to *client*, which has selected another server."""
        binding = self._offered.get(client.key)
        if binding is not None:
            self._end(binding, client.key, now)
            self._book.binding_changed(binding, now)

    def knows(self, client: Client) -> bool:
        """Return whether the client has, had or was offered an address."""
        return client.key in self._book.leased or client.key in self._offered

    def _end(self, binding: Binding[Subnet], key: bytes, now: float) -> None:
        """End the offer of *binding* to the client with *key*; the caller indexes the binding again."""
        self._offered.pop(key, None)
        binding.offered_to, binding.offered_until = b"", now
