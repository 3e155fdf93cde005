"""The DHCPv4 server without its sockets and its store: which client gets which address."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from bootfw.dhcp.answer import Arrival, NoReply, NoReplyReason
from bootfw.dhcp.exchange import Admit, Exchange, Result, Rules
from bootfw.dhcp.hostclass import HostClass
from bootfw.dhcp.identity import identify
from bootfw.dhcp.leasebook import QUARANTINE_SECONDS, LeaseBook, LeaseBooks
from bootfw.dhcp.offers import Offers
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
"""Option 53 -> how the message is answered."""

_MESSAGE_TYPE, _AGENT = Option.MESSAGE_TYPE, Option.RELAY_AGENT_INFORMATION
_IDENTIFIER_OVERRIDE, _LINK_SELECTION = RelaySuboption.SERVER_IDENTIFIER_OVERRIDE, RelaySuboption.LINK_SELECTION
_NO_AGENT: Mapping[int, bytes] = {}


def _admit_all(message: Message, arrival: Arrival, now: float, free: Callable[[], int]) -> bool:
    return True


class AddressServer(LeaseBooks[Subnet, Offers]):
    """Gives addresses by DHCPv4. No clock, no socket, no store: what has to be stored comes with the answers.

    A lease counts at once, stored or not: when an ACK can't be sent because its lease can't be stored, the address
    stays with its client, which will retry.

    :param subnets: must not overlap.
    :param leases: what was granted before, one for each address. Those of other subnets are left alone.
    :param reservations: beside those of the subnets, and over them.
    :param classes: options for kinds of clients; a later class wins over an earlier one.
    :param authoritative: no other server gives addresses on these wires, so that clients with a wrong one get a NAK.
    :param by_client_id: tell clients apart by option 61 instead of their hardware address.
    :param admit: called before an unknown client is given an address; false: it is not answered.
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
    ) -> None:
        super().__init__(subnets, Offers)
        self._by_client_id = by_client_id
        self._rules = Rules(authoritative, tuple(classes), admit, self.own)
        self._here: dict[tuple[str, tuple[str, ...]], tuple[LeaseBook[Subnet, Offers], Subnet] | None] = {}
        """Where clients are, by the address of ours that a message came to and those that it may have come to."""
        self._place_of_relay = lru_cache(1024)(self.place_of)
        for reservation in reservations:
            self.reserve(reservation)
        for lease in leases:
            self.restore(lease)

    def handle(self, message: Message, arrival: Arrival, now: float) -> Result:
        """What to do about *message*.

        :param now: seconds since the epoch.
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
        place = self._place(message, arrival, agent)
        if place is None:
            return NoReply(NoReplyReason.NO_SUBNET, arrival.server if message.giaddr == UNSPECIFIED else message.giaddr)
        self.own.add(arrival.server)
        if arrival.addresses:
            self.own.update(arrival.addresses)
        override = agent.get(_IDENTIFIER_OVERRIDE, b"") if agent else b""  # RFC 5107
        identifier = codec.address(override) if len(override) == 4 else ""
        book, subnet = place
        reservation = book.choice.reservation(client) if book.hosts else None
        return answer(Exchange(self._rules, message, arrival, now, client, book, subnet, identifier, reservation))

    def probed(self, address: str, in_use: bool, now: float) -> tuple[Lease, ...]:
        """Take the result of conflict detection for an address whose answer had ``probe`` set.

        :param in_use: another machine uses it: handle() the client's message again for another address.
        :return: to be stored; nothing waits for it.
        """
        found = self.known(address)
        if found is None:
            return ()
        book, binding = found
        if in_use:
            return book.quarantine(
                binding, Lease(binding.address, b"", "", LeaseState.DECLINED, now, now + QUARANTINE_SECONDS)
            )
        binding.probed = True
        return ()

    def take_over(self, before: LeaseBooks[Subnet, Offers], now: float) -> list[Lease]:
        """See LeaseBooks. The offers are kept for their clients, where the address is still given."""
        left = super().take_over(before, now)
        for book in before.books:
            for binding in book.choice.offered(now):
                found = self.known(binding.address)
                if found is not None:
                    found[0].choice.take_over(found[1], binding)
        return left

    def _place(
        self, message: Message, arrival: Arrival, agent: Mapping[int, bytes]
    ) -> tuple[LeaseBook[Subnet, Offers], Subnet] | None:
        """Where the client is."""
        relay = message.giaddr
        if relay != UNSPECIFIED:
            link = agent.get(_LINK_SELECTION, b"")  # RFC 3527
            if len(link) == 4:
                relay = codec.address(link)
            return self.relays.get(relay) or self._place_of_relay(relay)
        if arrival.unicast and message.ciaddr != UNSPECIFIED:
            # It renews through routers, which tell nothing: its address does (RFC 2131 section 4.3.2).
            place = self.place_of(message.ciaddr)
            if place is not None:
                return place
        ours = arrival.server, arrival.addresses
        here = self._here.get(ours)
        if here is None:
            found = filter(None, map(self.place_of, (arrival.server, *arrival.addresses)))
            here = self._here[ours] = next(found, None)
        return here
