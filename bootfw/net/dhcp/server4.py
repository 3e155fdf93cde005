"""The DHCP server's port: addresses and boot files in one conversation."""

from collections.abc import Callable
from functools import partial
from socket import inet_aton
from typing import Any

from attrs import define, evolve
from zope.interface import implementer

from bootfw.boot.clients import Clients
from bootfw.boot.resolverchain import Answer as Told
from bootfw.boot.resolverchain import ResolverChain
from bootfw.config.settings import DHCPSettings
from bootfw.dhcp.answer import Answer, Arrival, Silence
from bootfw.dhcp.assignment import assignment
from bootfw.dhcp.classify import NotOurs, classify, persona_of
from bootfw.dhcp.identity import is_firmware
from bootfw.dhcp.ordinary import OrdinaryReplies
from bootfw.dhcp.routing import BROADCAST, renews, server_destination
from bootfw.dhcp.server import AddressServer
from bootfw.errors import WireError
from bootfw.events import AddressTaken, Event, FileWithheld, OfferMade, RequestClassified, RequestIgnored
from bootfw.interfaces import IBatchReceiver
from bootfw.net.dhcp.arpprobe import Probe
from bootfw.net.dhcp.conflict import Told as Used
from bootfw.net.dhcp.icmpprobe import Ping
from bootfw.net.dhcp.journal import Batch, Ledger
from bootfw.net.dhcp.noreply import Causes
from bootfw.net.dhcp.proxy4 import DHCPProtocol
from bootfw.net.linux.interfaces import Interfaces
from bootfw.personas.table import Personas
from bootfw.values import Address, BootRequest, Via
from bootfw.wire.dhcp4 import Message, MessageType, pack, parse, reply_size
from bootfw.wire.options import Option

_NOWHERE = "0.0.0.0"
_MASK = 1
_RAPID_COMMIT = Option.RAPID_COMMIT
_NAK, _OFFER = MessageType.NAK, MessageType.OFFER
_TELLING = frozenset(
    (
        Option.VENDOR_CLASS_IDENTIFIER,
        Option.USER_CLASS,
        Option.CLIENT_SYSTEM_ARCHITECTURE,
        Option.IPXE_ENCAPSULATED,
    )
)
"""The options that classify() goes by."""


@define(eq=False)
class _Place:
    """Where messages come by."""

    interface: str
    arrival: Arrival
    """``server``, our address there, is "" when it is not known."""


@define(eq=False)
class _Asked:
    """A message and how it came."""

    message: Message
    peer: Address
    via: Via | None
    place: _Place


@implementer(IBatchReceiver)
class AddressProtocol(DHCPProtocol):
    """Gives addresses to all clients, and their boot files to those that boot.

    :param server: our address where the port can't tell it, as for DHCPProtocol.
    :param addresses: decides who gets which.
    :param ledger: of the store of *addresses*.
    :param probe: for the clients on our wires; None: addresses are offered them unprobed.
    :param ping: the same for those behind relays.
    """

    def __init__(
        self,
        reactor: Any,
        chain: ResolverChain,
        publish: Callable[[Event], None],
        addresses: AddressServer,
        ledger: Ledger,
        *,
        settings: DHCPSettings | None = None,
        interfaces: Interfaces | None = None,
        server: str = "",
        personas: Personas | None = None,
        probe: Probe | None = None,
        ping: Ping | None = None,
        clients: Clients | None = None,
        own_urls: Callable[[str], tuple[str, str]] = lambda server: ("", ""),
    ) -> None:
        super().__init__(
            reactor,
            chain,
            publish,
            settings=settings,
            interfaces=interfaces,
            server=server,
            personas=personas,
            clients=clients,
            own_urls=own_urls,
        )
        self._addresses = addresses
        self._ledger = ledger
        self._ordinary = OrdinaryReplies(subnet for network in addresses.networks for subnet in network.subnets)
        self._probe = probe
        self._ping = ping
        self._probing: dict[str, _Asked] = {}
        """Address -> the latest message of the client that waits for its probe."""
        self._places: dict[Via | None, _Place] = {}
        """Of this batch: names and addresses of interfaces may be others in the next."""
        self._causes = Causes(publish, self._malformed)

    def close(self) -> None:
        """See DHCPProtocol. Leases that were granted are committed; nobody hears of them any more."""
        super().close()
        self._probing.clear()
        self._ledger.forget()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See DatagramProtocol."""
        self._places.clear()
        self._received(datagram, addr, None)
        self._ledger.flush()

    def datagrams_received(self, batch: list[tuple[bytes, Address, Via]]) -> None:
        """See IBatchReceiver."""
        self._places.clear()
        super().datagrams_received(batch)
        self._ledger.flush()

    def _received(self, data: bytes, peer: Address, via: Via | None) -> None:
        if not self._interfaces.serves(via):
            return
        place = self._places.get(via)
        if place is None:
            found = self._place(via)
            arrival = Arrival(found.server, found.unicast, tuple(each.address for each in found.addresses))
            place = self._places[via] = _Place(found.interface, arrival)
        try:
            message = parse(data)
        except WireError as error:
            self._malformed.count(str(error), peer, self._reactor.seconds())
            return
        self._handle(_Asked(message, peer, via, place))

    def _handle(self, asked: _Asked) -> None:
        now, message, place = self._reactor.seconds(), asked.message, asked.place
        if not place.arrival.server:
            reason = f"interface {place.interface or '(unknown)'} has no IPv4 address to answer from"
            self._publish(RequestIgnored(now, message.mac, reason))
            return
        result = self._addresses.handle(message, place.arrival, now)
        batch = None
        if result.commit:
            batch = self._ledger.put(result.commit, isinstance(result, Answer) and result.new)
        if isinstance(result, Silence):
            self._causes.tell(result.cause, result.detail, message.mac, asked.peer, place.interface, now)
            return
        if result.probe:
            if self._asks_first(result, asked):
                return
            if _RAPID_COMMIT in message.options:
                # There is no way to probe, so that its address can be leased at once.
                self._addresses.probed(result.address, False, now)
                self._handle(asked)
                return
        if result.kind is _OFFER and self._takes_offer(message):
            batch = self._leased(result, asked)
        request = None if result.kind is _NAK else self._classified(asked, result)
        if request is None:
            self._answer(result, asked, batch)
            return
        self._clients.asked(request, result.address)
        self._publish(RequestClassified(now, request))
        self._resolve(message, request, partial(self._answer_boot_client, result, asked, batch, request))

    def _asks_first(self, answer: Answer, asked: _Asked) -> bool:
        """Whether *asked* waits until the address is probed that its sender is to be offered."""
        address, ask = answer.address, self._way_to_ask(asked, answer.server)
        if ask is None:
            return False
        waits = address in self._probing
        self._probing[address] = asked
        if not waits:
            ask(address, partial(self._probed, address))
        return True

    def _way_to_ask(self, asked: _Asked, server: str) -> Callable[[str, Used], None] | None:
        message, place = asked.message, asked.place
        if message.giaddr != _NOWHERE:
            return None if self._ping is None else self._ping.ask
        if self._probe is None or not place.interface:
            return None
        return partial(self._probe.ask, interface=place.interface, server=server, client=message.chaddr)

    def _probed(self, address: str, user: str | None) -> None:
        asked = self._probing.pop(address, None)
        if asked is None:
            return
        now = self._reactor.seconds()
        changed = self._addresses.probed(address, user is not None, now)
        if changed:
            self._ledger.put(changed)
        if user is not None:
            self._publish(AddressTaken(now, address, user, False))
        self._handle(asked)
        self._ledger.flush()

    def _takes_offer(self, message: Message) -> bool:
        """The client will use the address of an OFFER without a REQUEST."""
        if not is_firmware(message):
            return False
        persona = persona_of(message, self._personas.match)
        return persona is not None and persona.takes_offer

    def _leased(self, offer: Answer, asked: _Asked) -> Batch | None:
        """Lease what is offered, as the REQUEST would that never comes; None: it can't be."""
        selects: dict[int, bytes] = {
            Option.MESSAGE_TYPE: bytes((MessageType.REQUEST,)),
            Option.REQUESTED_IP_ADDRESS: inet_aton(offer.address),
            Option.SERVER_IDENTIFIER: inet_aton(offer.identifier),
        }
        message = evolve(asked.message, options={**asked.message.options, **selects})
        result = self._addresses.handle(message, asked.place.arrival, self._reactor.seconds())
        return self._ledger.put(result.commit, isinstance(result, Answer) and result.new) if result.commit else None

    def _classified(self, asked: _Asked, answer: Answer) -> BootRequest | None:
        """Its request for a boot file; None: it makes none, or no resolver could answer it."""
        message, place = asked.message, asked.place
        options = message.options
        if not self._chain.resolvers or (
            _TELLING.isdisjoint(options)
            and not self._personas.may_be_plain(options.get(Option.PARAMETER_REQUEST_LIST, b""), answer.kind is None)
        ):
            return None
        try:
            found = classify(
                message,
                self._personas.match,
                addresses=True,
                server=answer.server,
                own_urls=self._own_urls(answer.server),
                interface=place.interface,
            )
        except WireError:
            return None
        if isinstance(found, NotOurs):
            return None
        # An installed system boots nothing when it renews, and keeps the file that is configured for it.
        if found.may_be_system and (renews(message) or Option.BOOTFILE_NAME in answer.options):
            return None
        return found

    def _answer_boot_client(
        self, answer: Answer, asked: _Asked, batch: Batch | None, request: BootRequest, file: Told | None, why: str
    ) -> None:
        if file is None and why:
            self._publish(FileWithheld(self._reactor.seconds(), request, why))
        self._answer(answer, asked, batch, request, file)

    def _answer(
        self,
        answer: Answer,
        asked: _Asked,
        batch: Batch | None,
        request: BootRequest | None = None,
        file: Told | None = None,
    ) -> None:
        message = asked.message
        try:
            data = self._ordinary.octets(message, answer) if request is None else None
            if data is None:
                if request is None:
                    made = assignment(message, answer)
                else:
                    made = assignment(message, answer, request, file, self._personas.named(request.persona))
                data = pack(made, reply_size(message))
        except ValueError as error:
            if request is None or file is None:
                self._publish(RequestIgnored(self._reactor.seconds(), message.mac, f"no answer can be sent: {error}"))
            else:
                self._answer_boot_client(answer, asked, batch, request, None, f"it can't be told of its file: {error}")
            return
        if batch is not None:
            batch.then(self._send_answer, data, answer, asked, request, file)
        else:
            self._send_answer(data, answer, asked, request, file)

    def _send_answer(
        self, data: bytes, answer: Answer, asked: _Asked, request: BootRequest | None, file: Told | None
    ) -> None:
        settings, message = self._settings, asked.message
        to, is_new_there = server_destination(
            message, answer, asked.peer, server_port=settings.server_port, client_port=settings.client_port
        )
        if is_new_there and not (_is_beside(answer) and self._set_neighbour(answer.address, message.chaddr, asked.via)):
            to = BROADCAST, settings.client_port
        self._send(data, to, asked.via)
        if request is not None and file is not None:
            kind = "BOOTP reply" if answer.kind is None else answer.kind.name
            self._publish(OfferMade(self._reactor.seconds(), request, kind, file, to, answer.address))

    def _set_neighbour(self, address: str, hardware: bytes, via: Via | None) -> bool:
        """See Interfaces.set_neighbour; false on a port that is not a socket of this host."""
        return self._socket is not None and via is not None and self._interfaces.set_neighbour(address, hardware, via)


def _is_beside(answer: Answer) -> bool:
    """The client's address is of the network that ours is of; else it would be sent through a router."""
    mask = answer.options.get(_MASK)
    if mask is None:
        return False
    bits = int.from_bytes(mask, "big")
    return _number(answer.server) & bits == _number(answer.address) & bits


def _number(address: str) -> int:
    return int.from_bytes(inet_aton(address), "big")
