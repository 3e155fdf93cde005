"""The DHCP server without its sockets and its store: which client gets which address."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from socket import inet_aton

from bootfw.dhcp.answer import Arrival, NoReply, NoReplyReason
from bootfw.dhcp.exchange import Admit, Exchange, Result, Rules
from bootfw.dhcp.hostclass import HostClass
from bootfw.dhcp.identity import identify
from bootfw.dhcp.network import Network
from bootfw.dhcp.subnet import Subnet
from bootfw.lease import Lease, Reservation
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
"""Option 53 -> who answers it."""

_MESSAGE_TYPE, _AGENT = Option.MESSAGE_TYPE, Option.RELAY_AGENT_INFORMATION
_IDENTIFIER_OVERRIDE, _LINK_SELECTION = RelaySuboption.SERVER_IDENTIFIER_OVERRIDE, RelaySuboption.LINK_SELECTION
_NO_AGENT: Mapping[int, bytes] = {}


def _everybody(message: Message, arrival: Arrival, now: float, free: int) -> bool:
    return True


class AddressServer:
    """Which client has which address. No clock, no socket, no store: what has to be stored comes with the answers.

    What is answered counts at once, stored or not: when an ACK can't be sent because its lease can't be stored, the
    address stays with its client, who will ask again.

    :param subnets: must not overlap.
    :param leases: what was granted before, one for each address. Those of other subnets are left alone.
    :param reservations: beside those of the subnets, and over them.
    :param classes: options for kinds of clients; a later class wins over an earlier one.
    :param authoritative: nobody else gives addresses on these wires, so that who has a wrong one is told.
    :param by_client_id: tell clients apart by option 61 instead of their hardware address.
    :param admit: asked before a client that we don't know is given an address; false: it is not answered.
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
        admit: Admit = _everybody,
    ) -> None:
        self._by_client_id = by_client_id
        self._rules = Rules(authoritative, tuple(classes), admit)
        wires: dict[str, list[Subnet]] = {}
        for subnet in subnets:
            wires.setdefault(subnet.shared_network or str(subnet.network), []).append(subnet)
        self.networks = tuple(Network(listed, self._rules.own) for listed in wires.values())
        places = [(network, subnet) for network in self.networks for subnet in network.subnets]
        self._relays = {relay: (network, subnet) for network, subnet in places for relay in subnet.relays}
        self._places = sorted(places, key=lambda place: place[1].network)
        self._starts = [int(subnet.network.network_address) for _, subnet in self._places]
        self._ends = [int(subnet.network.broadcast_address) for _, subnet in self._places]
        self._here: dict[tuple[str, tuple[str, ...]], tuple[Network, Subnet] | None] = {}
        """By the address of ours that a message came to, and those that it may have come to."""
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
            return NoReply(NoReplyReason.NOT_ASKED)
        agent = _agent(message) if message.giaddr != UNSPECIFIED else _NO_AGENT
        client = identify(message, agent, self._by_client_id)
        if client is None:
            return NoReply(NoReplyReason.MALFORMED, "neither a hardware address nor a client identifier")
        place = self._place(message, arrival, agent)
        if place is None:
            return NoReply(NoReplyReason.ABSENT, arrival.server if message.giaddr == UNSPECIFIED else message.giaddr)
        self._rules.own.add(arrival.server)
        if arrival.addresses:
            self._rules.own.update(arrival.addresses)
        override = agent.get(_IDENTIFIER_OVERRIDE, b"") if agent else b""  # RFC 5107
        identifier = codec.address(override) if len(override) == 4 else ""
        return answer(Exchange(self._rules, message, arrival, now, client, *place, identifier))

    def probed(self, address: str, in_use: bool, now: float) -> tuple[Lease, ...]:
        """An address that an answer wanted probed has been.

        :param in_use: somebody else than the client uses it: handle() the client's message again for another one.
        :return: to be stored; nothing waits for it.
        """
        network = self._network_of(address)
        binding = network.find(address) if network is not None else None
        if network is None or binding is None:
            return ()
        if in_use:
            return network.quarantine(binding, now)
        binding.probed = True
        return ()

    # For the operator

    def leases(self) -> Iterator[Lease]:
        """Every lease that is known, expired ones too, in no order."""
        for network in self.networks:
            yield from network.leases()

    def lease(self, address: str) -> Lease | None:
        """The latest lease of *address*."""
        network = self._network_of(address)
        binding = network.bindings.get(address) if network is not None else None
        return None if binding is None else binding.lease

    def release(self, address: str, now: float) -> tuple[Lease, ...]:
        """Take the lease or the quarantine off *address*.

        :return: to be stored; empty: there was none.
        """
        network = self._network_of(address)
        binding = network.bindings.get(address) if network is not None else None
        if network is None or binding is None or binding.lease is None:
            return ()
        return (network.release(binding, now),)

    def restore(self, lease: Lease) -> bool:
        """Take over a lease that was granted elsewhere or before, over what is known of its address.

        :return: false: the address is of no subnet.
        """
        network = self._network_of(lease.address)
        if network is None:
            return False
        network.restore(lease)
        return True

    def reservations(self) -> Iterator[Reservation]:
        """Everything that is reserved now, each once."""
        yield from dict.fromkeys(found for network in self.networks for found in network.reservations())

    def serves(self, address: str) -> bool:
        """Whether *address* is in a subnet; "": whether there is any subnet."""
        return self._network_of(address) is not None if address else bool(self.networks)

    def reserve(self, reservation: Reservation) -> None:
        """Reserve from now on; what is reserved for the same client or the same address is replaced.

        A lease that somebody else has for the address ends when it is to be renewed.

        :raise ValueError: the address is of no subnet.
        """
        if not reservation.address:
            for network in self.networks:
                network.reserve(reservation)
            return
        found = self._network_of(reservation.address)
        if found is None:
            raise ValueError(f"{reservation.address} is of no subnet")
        found.reserve(reservation)

    def unreserve(self, reservation: Reservation) -> None:
        """Reserve it no longer. A lease of it goes on until it ends."""
        for network in self.networks:
            network.unreserve(reservation)

    def _place(self, message: Message, arrival: Arrival, agent: Mapping[int, bytes]) -> tuple[Network, Subnet] | None:
        """Where the client is."""
        relay = message.giaddr
        if relay != UNSPECIFIED:
            link = agent.get(_LINK_SELECTION, b"")  # RFC 3527
            if len(link) == 4:
                relay = codec.address(link)
            return self._relays.get(relay) or self._place_of(relay)
        if arrival.unicast and message.ciaddr != UNSPECIFIED:
            # It renews through routers, which tell nothing: its address does (RFC 2131 section 4.3.2).
            place = self._place_of(message.ciaddr)
            if place is not None:
                return place
        ours = arrival.server, arrival.addresses
        here = self._here.get(ours)
        if here is None:
            found = filter(None, map(self._place_of, (arrival.server, *arrival.addresses)))
            here = self._here[ours] = next(found, None)
        return here

    def _place_of(self, address: str) -> tuple[Network, Subnet] | None:
        try:
            number = int.from_bytes(inet_aton(address), "big")
        except OSError:
            return None
        index = bisect_right(self._starts, number) - 1
        return self._places[index] if index >= 0 and number <= self._ends[index] else None

    def _network_of(self, address: str) -> Network | None:
        place = self._place_of(address)
        return None if place is None else place[0]


def _agent(message: Message) -> Mapping[int, bytes]:
    """Option 82. Without a relay nobody trustworthy has put it there (RFC 3046 section 2.1)."""
    raw = message.options.get(_AGENT)
    return _NO_AGENT if raw is None else codec.relay_agent(raw)
