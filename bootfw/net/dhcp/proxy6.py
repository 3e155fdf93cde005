"""The proxy's two DHCPv6 ports: the servers' one, and the PXE boot server, where EDK2 comes back to."""

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define
from twisted.internet.interfaces import ISystemHandle
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.boot.clients import Clients
from bootfw.boot.resolverchain import Answer, ResolverChain
from bootfw.config.settings import DHCP6Settings
from bootfw.dhcp.classify import NotOurs
from bootfw.dhcp.classify6 import classify6
from bootfw.dhcp.fitting import Withheld, fitted
from bootfw.dhcp.identity6 import hardware_of
from bootfw.dhcp.reply6 import answer_port, proxy_reply, relays_back, reply_limit
from bootfw.errors import WireError
from bootfw.events import Event, OfferMade, OfferWithheld, RequestClassified, RequestIgnored
from bootfw.interfaces import IBatchReceiver, IViaTransport
from bootfw.net.dhcp.pending import Undecided
from bootfw.net.linux.groups import Groups
from bootfw.net.linux.interfaces import Interfaces, IPv6Address
from bootfw.net.malformed import MalformedCounter
from bootfw.personas.table import Personas, stock
from bootfw.values import Address, BootFile, BootMenu, BootRequest, Via
from bootfw.wire.dhcp6 import ALL_AGENTS, ALL_SERVERS, LARGEST, REPLY_RATIO, Message, Relay, pack, parse
from bootfw.wire.options6 import Option

_RELAY_REPLY = b"\x0d"

TOO_LONG = (
    f"the reply is longer than a datagram, or than {REPLY_RATIO} times a request from an address that is not link-local"
)


@define(eq=False)
class Place:
    """Where messages come by."""

    interface: str
    """Its name; "" when it is not known."""
    addresses: tuple[IPv6Address, ...] = ()
    """Ours on that wire."""
    asked: str = ""
    """The one that it was sent to; "" when that was a group."""
    unicast: bool = False
    """It was sent to a single address."""

    def server(self) -> str:
        """Our address as clients are told of it; "" when we have none that they could come to."""
        return self.asked or (self.addresses[0].address if self.addresses else "")


@define(eq=False)
class Asked:
    """A message and how it came."""

    message: Message
    relays: tuple[Relay, ...]
    peer: Address
    via: Via | None
    place: Place
    mac: str
    size: int
    """Bytes of the datagram."""

    def limit(self) -> int:
        """Bytes that the reply should have at most; see :func:`reply_limit`."""
        return reply_limit(self.size, self.peer[0])

    def named(self) -> str:
        """Who asks, for people."""
        return self.mac or (self.relays[-1].peer if self.relays else self.peer[0])


@implementer(IBatchReceiver)
class DHCP6Protocol(DatagramProtocol):
    """Tells boot clients where their file is, beside the DHCPv6 server that gives addresses, and nobody else anything.

    :param reactor: an IReactorTime.
    :param chain: decides what a client boots.
    :param publish: is given what happened.
    :param duid: ours.
    :param interfaces: messages that come by others are ignored.
    :param server: our address as clients are told of it; "": the one on the wire that the message came by.
    :param personas: the kinds of clients; None: those that come with bootfw.
    :param clients: is told of who asks, for those that serve the files.
    :param own_urls: where our own HTTP and HTTPS are reached by who has come to that address of ours; see BootRequest.
    :param hardware_address: whose an address on our wires is, as the kernel knows; "" when it does not.
    """

    noisy = False
    service = "dhcp6"
    boot_server = False

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        chain: ResolverChain,
        publish: Callable[[Event], None],
        duid: bytes,
        *,
        settings: DHCP6Settings | None = None,
        interfaces: Interfaces | None = None,
        server: str = "",
        personas: Personas | None = None,
        clients: Clients | None = None,
        own_urls: Callable[[str], tuple[str, str]] = lambda server: ("", ""),
        hardware_address: Callable[[Address], str] = lambda peer: "",
    ) -> None:
        self._reactor = reactor
        self._chain = chain
        self._publish = publish
        self._duid = duid
        self._settings = settings or DHCP6Settings()
        self._interfaces = interfaces or Interfaces()
        self._server = server
        self._personas = personas or stock()
        self._clients = clients or Clients()
        self._own_urls = own_urls
        self._hardware_address = hardware_address
        self._malformed = MalformedCounter(self.service, publish, reactor)
        self._undecided = Undecided(chain, self._fit)
        self._places: dict[Via | None, Place] = {}
        """Of this batch: names and addresses of interfaces may be others in the next."""
        self._send: Callable[[bytes, Address, Via | None], None] = self._write
        self._groups: Groups | None = None

    def startProtocol(self) -> None:
        """See DatagramProtocol."""
        transport: Any = self.transport
        if IViaTransport.providedBy(transport):
            self._send = transport.write_via
        if ISystemHandle.providedBy(transport):
            sock: Any = transport.getHandle()
            self._groups = Groups(self._reactor, sock, (ALL_AGENTS, ALL_SERVERS), self._interfaces)
            self._groups.start()

    def close(self) -> None:
        """Answer nothing that is still being resolved, and leave no timer behind."""
        self._undecided.close()
        self._malformed.stop()
        if self._groups is not None:
            self._groups.stop()
            self._groups = None

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See DatagramProtocol."""
        self.datagrams_received([(datagram, addr, None)])  # type: ignore[list-item]

    def datagrams_received(self, batch: list[tuple[bytes, Address, Via]]) -> None:
        """See IBatchReceiver."""
        self._places.clear()
        for data, peer, via in batch:
            try:
                self._received(data, peer, via)
            except Exception:
                self._log.failure("Failed on a datagram from {peer}; the others are not affected.", peer=peer)

    def _received(self, data: bytes, peer: Address, via: Via | None) -> None:
        if not self._interfaces.serves(via):
            return
        try:
            if data[:1] == _RELAY_REPLY:
                raise WireError("a server's answer to a relay")
            message, relays = parse(data)
        except WireError as error:
            self._malformed.count(str(error), peer, self._reactor.seconds())
            return
        mac = hardware_of(message, relays, peer[0], partial(self._hardware_address, peer))
        self._handle(Asked(message, relays, peer, via, self._place(via), mac, len(data)))

    def _handle(self, asked: Asked) -> None:
        now = self._reactor.seconds()
        if self.boot_server and asked.message.first(Option.SERVER_ID) != self._duid:
            return  # it asks another one of the group
        request = self._classified(asked, boot_server=self.boot_server)
        if isinstance(request, NotOurs):
            if request.reason:
                self._publish(RequestIgnored(now, asked.named(), request.reason))
            return
        if request.mac:
            self._clients.asked(request)
        self._publish(RequestClassified(now, request))
        if not request.server:
            self._publish(OfferWithheld(now, request, self._has_no_address(asked)))
            return
        self._resolve(asked, request, partial(self._decided, asked, request))

    def _has_no_address(self, asked: Asked) -> str:
        where = asked.place.interface or "(unknown)"
        return f"interface {where} has no IPv6 address for clients to come to; a link-local one is not enough"

    def _place(self, via: Via | None) -> Place:
        place = self._places.get(via)
        if place is None:
            place = self._places[via] = self._place_of(via)
        return place

    def _place_of(self, via: Via | None) -> Place:
        if via is None:
            return Place("", asked=self._server)
        unicast = not via.destination.startswith("ff")
        asked = via.local if unicast and not via.destination.startswith("fe8") else ""
        ours = self._interfaces.addresses6(via.interface)
        return Place(self._interfaces.name(via.interface), ours, self._server or asked, unicast)

    def _classified(self, asked: Asked, *, boot_server: bool = False, addresses: bool = False) -> BootRequest | NotOurs:
        server = self._server_for(asked)
        return classify6(
            asked.message,
            asked.relays,
            self._personas.match,
            mac=asked.mac,
            source=asked.peer[0],
            boot_server=boot_server,
            addresses=addresses,
            server=server,
            own_urls=self._own_urls(server),
            interface=asked.place.interface,
        )

    def _server_for(self, asked: Asked) -> str:
        return asked.place.server()

    def _resolve(self, asked: Asked, request: BootRequest, told: Callable[[BootFile | None, str], None]) -> None:
        message = asked.message
        self._undecided.resolve((message.first(Option.CLIENT_ID), message.kind, message.xid), request, told)

    def _fit(self, answer: Answer, request: BootRequest) -> BootFile | Withheld:
        if isinstance(answer, BootMenu):
            return Withheld("DHCPv6 knows no boot menus")
        return fitted(answer, request, self._personas.is_ipxe_program)

    def _decided(self, asked: Asked, request: BootRequest, file: BootFile | None, why: str) -> None:
        if file is None:
            self._publish(OfferWithheld(self._reactor.seconds(), request, why))
            return
        answer = proxy_reply(asked.message, request, file, self._duid)
        to = self._answer(asked, answer)
        if to is None:
            self._publish(OfferWithheld(self._reactor.seconds(), request, TOO_LONG))
        else:
            self._publish(OfferMade(self._reactor.seconds(), request, answer.kind.name, file, to))

    def _answer(self, asked: Asked, answer: Message) -> Address | None:
        """Send it back the way that the message came; where it went, or None: it is too long for that."""
        data = pack(answer, relays_back(asked.relays))
        # What comes by a relay is from a client as a rule, and what it needs is sent to it. See docs/security.md.
        if len(data) > (LARGEST if asked.relays else asked.limit()):
            return None
        host, port, *scope = asked.peer
        if not self.boot_server:
            ports = self._settings
            port = answer_port(asked.relays, port, server_port=ports.server_port, client_port=ports.client_port)
        to: Address = (host, port, *scope)  # type: ignore[assignment]
        self._send(data, to, asked.via)
        return to

    def _write(self, data: bytes, to: Address, via: Via | None) -> None:
        """What IViaTransport.write_via is elsewhere: what can't be sent is lost."""
        transport: Any = self.transport
        try:
            transport.write(data, to)
        except OSError as error:
            self._log.warn("can't send to {to}: {error}", to=to, error=error)


class BootServer6Protocol(DHCP6Protocol):
    """Answers the REQUEST of EDK2 on the boot server's port with a REPLY that has the boot file in it."""

    service = "boot-server6"
    boot_server = True
