"""The proxy's two ports: DHCP, where clients broadcast, and the PXE boot server, where some come back to."""

from collections.abc import Callable
from functools import partial
from socket import inet_ntoa
from typing import Any

from attrs import define
from twisted.internet.interfaces import ISystemHandle
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.boot.clients import Clients
from bootfw.boot.resolverchain import Answer, ResolverChain
from bootfw.config.settings import DHCPSettings
from bootfw.dhcp.classify import NotOurs, classify
from bootfw.dhcp.fitting import Withheld, fitted, fitted_menu
from bootfw.dhcp.reply import reply
from bootfw.dhcp.routing import destination
from bootfw.errors import WireError
from bootfw.events import Event, OfferMade, OfferWithheld, RequestClassified, RequestIgnored
from bootfw.interfaces import IBatchReceiver, IViaTransport
from bootfw.net.dhcp.pending import Undecided
from bootfw.net.linux.interfaces import Interfaces, IPv4Address
from bootfw.net.malformed import MalformedCounter
from bootfw.personas.table import Personas, stock
from bootfw.values import Address, BootFile, BootMenu, BootRequest, OfferStyle, Via
from bootfw.wire.dhcp4 import Message, MessageType, pack, parse, reply_size
from bootfw.wire.iana import NETWORK_GEAR
from bootfw.wire.options import Option

_NOWHERE = "0.0.0.0"
_REQUEST = bytes((MessageType.REQUEST,))


@define(eq=False)
class Place:
    """Where messages come by."""

    interface: str
    """Its name; "" when it is not known."""
    server: str
    """Our address as its clients are told; "" when it is not known."""
    addresses: tuple[IPv4Address, ...] = ()
    """All of ours there, when the message was sent to no single one of several."""
    unicast: bool = False
    """It was sent to a single address."""


@implementer(IBatchReceiver)
class DHCPProtocol(DatagramProtocol):
    """Answers the DISCOVER of boot clients with an OFFER that has no address in it, and nobody else.

    :param reactor: an IReactorTime.
    :param chain: decides what a client boots.
    :param publish: is given what happened.
    :param interfaces: messages that come by others are ignored.
    :param server: our address as clients are told of it. On a port without IViaTransport, such as Twisted's own, it
        can't be known and has to be given; else it is the one that the client's message came to.
    :param personas: the kinds of clients; None: those that come with bootfw.
    :param own_urls: where our own HTTP and HTTPS are reached by who has come to that address of ours; see BootRequest.
    :param clients: is told of who asks, for those that serve the files.
    """

    noisy = False
    service = "dhcp"
    boot_server = False

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        chain: ResolverChain,
        publish: Callable[[Event], None],
        *,
        settings: DHCPSettings | None = None,
        interfaces: Interfaces | None = None,
        server: str = "",
        personas: Personas | None = None,
        clients: Clients | None = None,
        own_urls: Callable[[str], tuple[str, str]] = lambda server: ("", ""),
    ) -> None:
        self._reactor = reactor
        self._chain = chain
        self._publish = publish
        self._settings = settings or DHCPSettings()
        self._interfaces = interfaces or Interfaces()
        self._server = server
        self._personas = personas or stock()
        self._clients = clients or Clients()
        self._own_urls = own_urls
        self._malformed = MalformedCounter(self.service, publish, reactor)
        # Network gear asks for its configuration whether there is one or not.
        self._undecided = Undecided(chain, self._fit, needless=(NETWORK_GEAR,))
        self._send: Callable[[bytes, Address, Via | None], None] = self._write
        self._socket: Any = None
        self._networks: dict[str, str] = {}
        """Interface with several addresses of ours -> the one whose network clients have lately had addresses of."""

    def startProtocol(self) -> None:
        """See DatagramProtocol.

        :raise ValueError: the port can't tell our address, and *server* does not either.
        """
        transport: Any = self.transport
        if IViaTransport.providedBy(transport):
            self._send = transport.write_via
        elif not self._server:
            raise ValueError("on this port the server's address has to be given")
        transport.setBroadcastAllowed(True)
        self._socket = transport.getHandle() if ISystemHandle.providedBy(transport) else None

    def close(self) -> None:
        """Answer nothing that is still being resolved, and leave no timer behind."""
        self._undecided.close()
        self._malformed.stop()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See DatagramProtocol."""
        self._received(datagram, addr, None)

    def datagrams_received(self, batch: list[tuple[bytes, Address, Via]]) -> None:
        """See IBatchReceiver."""
        for data, peer, via in batch:
            try:
                self._received(data, peer, via)
            except Exception:
                self._log.failure("Failed on a datagram from {peer}; the others are not affected.", peer=peer)

    def _received(self, data: bytes, peer: Address, via: Via | None) -> None:
        if not self._interfaces.serves(via):
            return
        now = self._reactor.seconds()
        place = self._place(via)
        interface = place.interface
        try:
            message = parse(data)
            server = self._server_for(message, place)
            found = classify(
                message,
                self._personas.match,
                boot_server=self.boot_server,
                server=server,
                own_urls=self._own_urls(server),
                interface=interface,
            )
        except WireError as error:
            self._malformed.count(str(error), peer, now)
            return
        if isinstance(found, NotOurs):
            if found.reason:
                self._publish(RequestIgnored(now, message.mac, found.reason))
            return
        self._clients.asked(found)
        self._publish(RequestClassified(now, found))
        if not server:
            self._withhold(found, f"interface {interface or '(unknown)'} has no IPv4 address for clients to come to")
            return
        self._resolve(message, found, partial(self._decided, message, found, peer, via))

    def _place(self, via: Via | None) -> Place:
        if via is None:
            return Place("", self._server)
        interface = self._interfaces.name(via.interface)
        if via.destination == via.local:
            return Place(interface, self._server or via.local, unicast=True)
        local = "" if via.local == _NOWHERE else via.local
        known = bool(interface) and self._socket is not None
        ours = self._interfaces.addresses(via.interface) if known else None
        if ours is not None and not ours:
            # For a broadcast the kernel then names the address of another wire.
            local = ""
        several = ours if ours is not None and len(ours) > 1 and not self._server else ()
        return Place(interface, self._server or local, several)

    def _server_for(self, message: Message, place: Place) -> str:
        """Our address as the sender of *message* is told: of several, the one whose network it is in.

        A proxy does not know which address the client will be given. What it had or asks for tells, else what other
        clients there have taken.
        """
        if not place.addresses:
            return place.server
        kind, wanted = message.options.get(Option.MESSAGE_TYPE), message.options.get(Option.REQUESTED_IP_ADDRESS, b"")
        for known in (message.ciaddr, inet_ntoa(wanted) if len(wanted) == 4 else _NOWHERE):
            for ours in place.addresses if known != _NOWHERE else ():
                if ours.is_beside(known):
                    if kind == _REQUEST:
                        self._networks[place.interface] = ours.address
                    return ours.address
        used = self._networks.get(place.interface)
        return used if used in [ours.address for ours in place.addresses] else place.server

    def _resolve(self, message: Message, request: BootRequest, told: Callable[[Answer | None, str], None]) -> None:
        self._undecided.resolve((message.chaddr, message.xid), request, told)

    def _fit(self, answer: Answer, request: BootRequest) -> Answer | Withheld:
        if isinstance(answer, BootMenu):
            persona = self._personas.named(request.persona)
            return fitted_menu(answer, request, persona, self._personas.is_ipxe_program)
        return fitted(answer, request, self._personas.is_ipxe_program)

    def _decided(
        self, message: Message, request: BootRequest, peer: Address, via: Via | None, file: Answer | None, why: str
    ) -> None:
        if file is None:
            self._withhold(request, why)
            return
        persona = self._personas.named(request.persona)
        # A client that nobody has a file for is not sent on either: it would give up on its other ways to boot.
        sent_on = persona.offer is OfferStyle.BOOT_SERVER and not self.boot_server and isinstance(file, BootFile)
        told = None if sent_on else file
        try:
            data = pack(reply(message, request, told, persona), reply_size(message))
        except ValueError as error:
            self._withhold(request, f"the answer can't be sent: {error}")
            return
        to = destination(
            message,
            peer,
            boot_server=self.boot_server,
            server_port=self._settings.server_port,
            client_port=self._settings.client_port,
        )
        self._send(data, to, via)
        kind = "ACK" if self.boot_server else "OFFER"
        self._publish(OfferMade(self._reactor.seconds(), request, kind, told, to))

    def _withhold(self, request: BootRequest, reason: str) -> None:
        self._publish(OfferWithheld(self._reactor.seconds(), request, reason))

    def _write(self, data: bytes, to: Address, via: Via | None) -> None:
        """What IViaTransport.write_via is elsewhere: what can't be sent is lost."""
        transport: Any = self.transport
        try:
            transport.write(data, to)
        except OSError as error:
            self._log.warn("can't send to {to}: {error}", to=to, error=error)


class BootServerProtocol(DHCPProtocol):
    """Answers the REQUEST of boot clients on the boot server's port with an ACK that has the boot file in it."""

    service = "boot-server"
    boot_server = True
