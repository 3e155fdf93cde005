"""The DHCPv4 address server, without sockets and store: it decides which client gets which address."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from bootfw.dhcp.answer import Arrival, NoReply, NoReplyReason
from bootfw.dhcp.exchange import Admit, Exchange, Result, ServerPolicy
from bootfw.dhcp.hostclass import HostClass
from bootfw.dhcp.identity import identify
from bootfw.dhcp.leasebook import QUARANTINE_SECONDS, LeaseBook, LeaseBooks
from bootfw.dhcp.offerallocator import OfferAllocator
from bootfw.dhcp.subnet import Subnet
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.wire import options as codec
from bootfw.wire.dhcp4 import BOOTREQUEST, UNSPECIFIED, Message
from bootfw.wire.options import Option, RelaySuboption

_ANSWERS: Mapping[bytes | None, Callable[[Exchange], Result]] = {
    b"\x01": Exchange.discover,
    b"\x03": Exchange.request,
    b"\x04": Exchange.decline,
    b"\x07": Exchange.release,
    b"\x08": Exchange.inform,
    None: Exchange.bootp,
}
"""Option 53 -> the method that answers the message; None: BOOTP."""

_MESSAGE_TYPE, _AGENT = Option.MESSAGE_TYPE, Option.RELAY_AGENT_INFORMATION
_IDENTIFIER_OVERRIDE, _LINK_SELECTION = RelaySuboption.SERVER_IDENTIFIER_OVERRIDE, RelaySuboption.LINK_SELECTION
_NO_AGENT: Mapping[int, bytes] = {}


def _admit_all(message: Message, arrival: Arrival, now: float, free: Callable[[], int]) -> bool:
    return True


class AddressServer(LeaseBooks[Subnet, OfferAllocator]):
    """Assigns addresses by DHCPv4. It has no clock, socket or store: an answer contains the leases to store.

    A lease is valid at once, stored or not: if it can't be stored, no ACK is sent, and the client gets the same address
    when it retries.

    :param subnets: must not overlap.
    :param leases: the stored leases, one for each address. Those of other subnets are ignored.
    :param reservations: reservations that replace those of the subnets for the same client or address.
    :param classes: client classes; the options of a later class override those of an earlier one. Their pools are in
        the subnets.
    :param authoritative: no other server assigns addresses on these links, so a client with a wrong one gets a NAK.
    :param by_client_id: tell clients apart by option 61 instead of their hardware address.
    :param admit: called before an unknown client gets an address; if it returns false, there is no reply.
    :param probes: addresses are probed before they are offered; false: no answer has ``probe`` set.
    """

    def __init__(
        self,
        subnets: Sequence[Subnet],
        leases: Iterable[Lease] = (),
        reservations: Iterable[Reservation] = (),
        *,
        classes: Sequence[HostClass] = (),
        authoritative: bool = False,
        by_client_id: bool = False,
        admit: Admit = _admit_all,
        probes: bool = True,
    ) -> None:
        super().__init__(subnets, OfferAllocator, classes)
        self._pool_classes = tuple(each for each in classes if each.pool)
        self._by_client_id = by_client_id
        self._policy = ServerPolicy(authoritative, tuple(classes), admit, probes, self.own_addresses)
        self._local_subnets: dict[
            tuple[str, tuple[str, ...]], tuple[LeaseBook[Subnet, OfferAllocator], Subnet] | None
        ] = {}
        """Our addresses on a link (Arrival.server and .addresses) -> lease book and subnet of clients there; a
        cache."""
        self._subnet_of_relay = lru_cache(1024)(self.find_subnet)
        for reservation in reservations:
            self.reserve(reservation)
        for lease in leases:
            self.restore(lease)

    def handle(self, message: Message, arrival: Arrival, now: float) -> Result:
        """Answer *message*.

        :param now: the time, in seconds of the clock that leases have in memory.
        """
        answer = _ANSWERS.get(message.options.get(_MESSAGE_TYPE))
        if message.op != BOOTREQUEST or answer is None:
            return NoReply(NoReplyReason.NOT_FOR_SERVER)
        # Without a relay the client may have written option 82 (RFC 3046 section 2.1).
        raw = message.options.get(_AGENT) if message.giaddr != UNSPECIFIED else None
        agent = _NO_AGENT if raw is None else codec.relay_agent(raw)
        client = identify(message, agent, self._by_client_id)
        if client is None:
            return NoReply(NoReplyReason.MALFORMED, "neither a hardware address nor a client identifier")
        located = self._locate(message, arrival, agent)
        if located is None:
            return NoReply(NoReplyReason.NO_SUBNET, arrival.server if message.giaddr == UNSPECIFIED else message.giaddr)
        self.own_addresses.add(arrival.server)
        if arrival.addresses:
            self.own_addresses.update(arrival.addresses)
        override = agent.get(_IDENTIFIER_OVERRIDE, b"") if agent else b""  # RFC 5107
        identifier = codec.address(override) if len(override) == 4 else ""
        book, subnet = located
        reservation = book.allocator.reservation(client) if book.reservations_by_key else None
        if self._pool_classes:
            known = reservation is not None
            client.classes = [each for each in self._pool_classes if each.matches(message, client.mac, known)]
        return answer(Exchange(self._policy, message, arrival, now, client, book, subnet, identifier, reservation))

    def probe_finished(self, address: str, in_use: bool, now: float) -> tuple[Lease, ...]:
        """Take the result of conflict detection for an address whose answer had ``probe`` set.

        :param in_use: another machine uses the address. Call handle() again with the message to get another one.
        :return: leases to store; no reply waits for them.
        """
        found = self.find_binding(address)
        if found is None:
            return ()
        book, binding = found
        if in_use:
            return book.quarantine(
                binding, Lease(binding.address, b"", "", LeaseState.DECLINED, now, now + QUARANTINE_SECONDS)
            )
        binding.probed = True
        return ()

    def restore_from(self, before: LeaseBooks[Subnet, OfferAllocator], now: float) -> list[Lease]:
        """See LeaseBooks. Current offers are copied too, if their addresses are still in a pool."""
        left = super().restore_from(before, now)
        for book in before.books:
            for binding in book.allocator.offered(now):
                found = self.find_binding(binding.address)
                if found is not None:
                    found[0].allocator.restore_offer(found[1], binding)
        return left

    def _locate(
        self, message: Message, arrival: Arrival, agent: Mapping[int, bytes]
    ) -> tuple[LeaseBook[Subnet, OfferAllocator], Subnet] | None:
        """Return lease book and subnet of the client's link; None: there is no subnet for it."""
        relay = message.giaddr
        if relay != UNSPECIFIED:
            link = agent.get(_LINK_SELECTION, b"")  # RFC 3527
            if len(link) == 4:
                relay = codec.address(link)
            return self.relays.get(relay) or self._subnet_of_relay(relay)
        if arrival.unicast and message.ciaddr != UNSPECIFIED:
            # A renewal is routed, and routers add no option: ciaddr shows the subnet (RFC 2131 section 4.3.2).
            located = self.find_subnet(message.ciaddr)
            if located is not None:
                return located
        ours = arrival.server, arrival.addresses
        subnet = self._local_subnets.get(ours)
        if subnet is None:
            found = filter(None, map(self.find_subnet, (arrival.server, *arrival.addresses)))
            subnet = self._local_subnets[ours] = next(found, None)
        return subnet
