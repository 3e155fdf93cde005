"""A DHCP port: the steps that proxy and server, IPv4 and IPv6 share.

For each datagram: parse it (:class:`Family`), pass it to the subclass (proxy or server), resolve the boot file, and
send the reply through the interface that the request arrived on.
"""

from collections.abc import Callable, Collection, Hashable, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol

from attrs import define
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.boot.flightrecorder import LONGEST_KEPT
from bootfw.boot.resolverchain import Answer, ResolverChain
from bootfw.dhcp.answer import Arrival
from bootfw.dhcp.bootfile import Unsuitable
from bootfw.dhcp.classify import Ignored
from bootfw.errors import WireError
from bootfw.events import RequestClassified, RequestIgnored
from bootfw.interfaces import IBatchReceiver, IViaTransport
from bootfw.net.backlog import Backlog, RequestKind
from bootfw.net.dhcp.otherservers import OtherBootServers
from bootfw.net.dhcp.pending import PendingResolutions
from bootfw.net.dhcp.services import DHCPServices
from bootfw.net.dropcounter import DropCounter
from bootfw.net.nodes.leadership import Leadership
from bootfw.personas.table import Personas
from bootfw.values import Address, BootRequest, Via
from bootfw.wire.dhcp6 import Relay

_BOOT_SERVER_REQUEST = RequestKind("boot-server", 1.0)
"""iPXE and EDK2 repeat it after 1 s; iPXE gives up a second later."""

IGNORED = "the configuration has its hardware address in ignore"
"""Why a request gets no reply, in RequestIgnored."""

_MAX_INGRESSES = 256
"""Entries of the cache of ingresses. There is one for each Via, of which a sender chooses the destination: any of our
addresses, and by IPv6 multicast groups."""


@define(eq=False)
class Ingress:
    """The interface that requests arrive on, with our addresses there."""

    interface: str
    """Name of the interface; "": unknown."""
    server: str
    """Our address that clients should use; "": there is none."""
    addresses: Sequence[Any] = ()
    """Our addresses on the interface. IPv4: empty unless there are several to choose from."""
    unicast: bool = False
    """The request was sent to a single address."""
    fixed: bool = False
    """IPv6: ``server`` is configured, or the request was sent to it."""
    arrival: Arrival | None = None
    """IPv4: the same for AddressServer.handle()."""


@define(eq=False)
class Query:
    """A request and how it arrived."""

    message: Any
    """A Message of bootfw.wire.dhcp4 or bootfw.wire.dhcp6."""
    peer: Address
    via: Via | None
    ingress: Ingress
    key: Hashable
    """The same for the repetitions of one request."""
    relays: tuple[Relay, ...] = ()
    """IPv6: the relays that forwarded it."""
    mac: str = ""
    """MAC address of the client; for IPv6 see client_mac()."""
    size: int = 0
    """Bytes of the datagram."""
    hardware: Hashable = b""
    """Identifies the client in all its requests: its hardware address, by IPv6 its DUID."""


class Family(Protocol):
    """The steps that differ between IPv4 and IPv6."""

    settings: Any
    """The settings of its section."""

    @property
    def service(self) -> str:
        """Name of the DHCP port in events."""

    @property
    def boot_service(self) -> str:
        """Name of the boot server port (4011) in events."""

    @property
    def optional_architectures(self) -> Collection[str]:
        """Architectures whose clients request a boot file but need none: a missing file is not reported."""

    def start(self, transport: Any, services: DHCPServices) -> None:
        """Prepare the socket.

        :raise ValueError: the port can't serve; the text says what is missing.
        """

    def stop(self) -> None:
        """Cancel all timers."""

    def request_kind(self, data: bytes) -> RequestKind:
        """How long a request to the DHCP port may wait in the socket's buffer."""

    def ingress(self, via: Via | None, services: DHCPServices) -> Ingress:
        """Return the Ingress of a datagram; ``via`` is None on a port that can't tell."""

    def parse(self, data: bytes, peer: Address, via: Via | None, ingress: Ingress, services: DHCPServices) -> Query:
        """Parse a datagram.

        :raise WireError: it is not a request.
        """

    def client(self, query: Query) -> str:
        """Return the name of the client in events: its MAC address, else its IP address."""

    def classify(
        self,
        query: Query,
        services: DHCPServices,
        server: str,
        *,
        boot_server: bool = False,
        assigns_addresses: bool = False,
    ) -> BootRequest | Ignored:
        """Return the boot request, or why it is ignored; see classify() and classify6().

        :param server: our address for this client.
        :raise WireError: it is not a request, or its relay can't be one.
        """

    def adapt(self, answer: Answer, request: BootRequest, services: DHCPServices) -> Answer | Unsuitable:
        """Adapt a resolver's answer to this client; see bootfw.dhcp.bootfile."""

    def no_address_reason(self, ingress: Ingress) -> str:
        """Return why replies can't name a boot file: ``ingress.server`` is ""."""


@implementer(IBatchReceiver)
class DHCPPort(DatagramProtocol):
    """Receives DHCP requests and sends replies; a subclass decides which.

    :param family: IPv4 or IPv6.
    """

    noisy = False
    service: str
    log: ClassVar[Logger] = Logger()

    def __init__(self, services: DHCPServices, family: Family, service: str) -> None:
        self.services = services
        self.family = family
        self.service = service
        self.seconds: Callable[[], float] = services.reactor.seconds
        self.publish = services.publish
        self.malformed = DropCounter(service, services.publish, services.reactor)
        self._backlog = Backlog(
            service,
            self._request_kind,
            None if services.admission is None else services.admission.most_dhcp,
            services.publish,
            services.reactor,
        )
        self.send: Callable[[bytes, Address, Via | None], None] = self._write
        self._pending: PendingResolutions[Any] = PendingResolutions(
            services.chain,
            partial(family.adapt, services=services),
            optional_architectures=family.optional_architectures,
        )
        self.other_servers: OtherBootServers | None = None
        """Watches for other boot servers; None: it does not. It is closed with the port."""
        self._draining = False
        self._port_number = 0
        """Number of the UDP port, for the flight recorder."""
        self._ingresses: dict[Via | None, Ingress] = {}
        """A cache; it is emptied if an interface or address of this host changes."""
        self._generation: int | None = None
        """Interfaces.generation() of the time when ``_ingresses`` was emptied last."""
        self.after_batch: Callable[[], None] | None = None
        """Called after each batch."""

    def startProtocol(self) -> None:
        """See DatagramProtocol.

        :raise ValueError: the port can't tell our address, and none is given.
        """
        transport: Any = self.transport
        if IViaTransport.providedBy(transport):
            self.send = transport.write_via
        if hasattr(transport, "trim_backlog"):
            transport.trim_backlog = self._backlog.trim
        recorder = self.services.recorder
        if recorder is not None:
            self._port_number = transport.getHost().port
            self.send = recorder.sender(self.seconds, self.send, self._port_number)
        # Around the recorder, which then has only replies that were sent.
        leadership = self.services.leadership
        if leadership is not None:
            self.send = partial(self._send_if_answering, leadership, self.send)
        self.family.start(transport, self.services)

    def use(self, chain: ResolverChain, settings: Any, personas: Personas) -> None:
        """Use *chain* and *personas* for all later requests.

        :param settings: those of the family.
        """
        self.services.chain = chain
        self.services.use_personas(personas)
        self.family.settings = settings
        self._pending.use(chain)

    def drain(self) -> None:
        """Drop new requests. Pending ones are still answered."""
        self._draining = True

    def close(self) -> None:
        """Drop the pending requests, and cancel all timers."""
        if self.other_servers is not None:
            self.other_servers.close()
            self.other_servers = None
        self._pending.close()
        self.malformed.stop()
        self._backlog.stop()
        self.family.stop()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See DatagramProtocol."""
        self.datagrams_received([(datagram, addr, None)])  # type: ignore[list-item]

    def datagrams_received(self, batch: Sequence[tuple[bytes, Address, Via]]) -> None:
        """See IBatchReceiver."""
        ingresses, services, family = self._ingresses, self.services, self.family
        interfaces, parse, handle = services.interfaces, family.parse, self.handle
        admission, service, ignored = services.admission, self.service, family.settings.ignore
        if self._draining:
            return
        leadership = services.leadership
        if leadership is not None and not self.answers(leadership):
            leadership.dropped += len(batch)
            return
        # A change of an interface or address empties the cache. Where it can't be known whether there was one, the
        # cache serves for one batch.
        generation = interfaces.generation() if batch[0][2] is not None else None
        if generation is None or generation != self._generation or len(ingresses) >= _MAX_INGRESSES:
            ingresses.clear()
            self._generation = generation
        now = self.seconds()
        keep = None if services.recorder is None else services.recorder.keep
        for data, peer, via in batch:
            try:
                if not (interfaces.all_served or interfaces.serves(via)):
                    continue
                if keep is not None and len(data) <= LONGEST_KEPT:
                    keep((now, data, peer, via, self._port_number, False))
                ingress = ingresses.get(via)
                if ingress is None:
                    ingress = ingresses[via] = family.ingress(via, services)
                query = parse(data, peer, via, ingress, services)
                # Admission comes after parsing: it counts by the client's hardware address too.
                if admission is None or admission.admits_dhcp(service, peer, query.hardware, now):
                    if ignored and query.mac.startswith(ignored):
                        self.publish(RequestIgnored(now, family.client(query), IGNORED))
                    else:
                        handle(query, now)
            except WireError as error:
                self.malformed.count(str(error), peer, now)
            except Exception:
                self.log.failure("Failed on a datagram from {peer}; the others are not affected.", peer=peer)
        if self.after_batch is not None:
            self.after_batch()

    def answers(self, leadership: Leadership) -> bool:
        """Return whether this server, one of several that share a store, answers requests now."""
        return leadership.decides

    def _send_if_answering(
        self,
        leadership: Leadership,
        send: Callable[[bytes, Address, Via | None], None],
        data: bytes,
        to: Address,
        via: Via | None,
    ) -> None:
        """Send a reply, unless another server leads by now: the request may have waited for a resolver or the store."""
        if self.answers(leadership):
            send(data, to, via)

    def _request_kind(self, data: bytes) -> RequestKind:
        return _BOOT_SERVER_REQUEST if self.service == self.family.boot_service else self.family.request_kind(data)

    def handle(self, query: Query, now: float) -> None:
        """Answer or ignore a request.

        :raise WireError: it is malformed.
        """
        raise NotImplementedError

    def resolve(
        self, query: Query, request: BootRequest, now: float, done: Callable[[Any, str], None], address: str = ""
    ) -> None:
        """Find the boot file for *request*, which came with *query*.

        :param done: called with the file, or with None and the reason; not at all for a repetition while the first
            request is pending.
        :param address: the client's address after the reply; "": unknown.
        """
        if request.mac:
            self.services.clients.remember(request, address)
        self.publish(RequestClassified(now, request))
        if not request.server:
            done(None, self.family.no_address_reason(query.ingress))
        elif not self._pending.resolve(query.key, request, done):
            self.drop("too many requests wait for resolvers", query.peer, now)

    def drop(self, reason: str, peer: Address, now: float) -> None:
        """Count a request of *peer* that is dropped."""
        if self.services.admission is not None:
            self.services.admission.drop(self.service, reason, peer, now)

    def _write(self, data: bytes, to: Address, via: Via | None) -> None:
        """IViaTransport.write_via for other transports: a datagram that can't be sent is dropped."""
        transport: Any = self.transport
        try:
            transport.write(data, to)
        except OSError as error:
            self.log.warn("can't send to {to}: {error}", to=to, error=error)
