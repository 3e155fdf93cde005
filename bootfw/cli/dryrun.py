"""Runs the ports of a configuration without sockets: packets are passed in, and the replies are collected.

Everything else is that of the server: classification, personas, resolvers, leases, backends, encoding of replies.
"""

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar, cast

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from bootfw.ability import provides
from bootfw.boot.backends import LayeredBackend
from bootfw.boot.clients import Clients
from bootfw.boot.generated import GeneratedFiles
from bootfw.boot.pluginresult import as_deferred, transfer_error
from bootfw.boot.resolverchain import Fit, ResolverChain, Verdict
from bootfw.boot.secondstage import SecondStageFinder
from bootfw.build import Parts
from bootfw.cli.bootclient import BootClient
from bootfw.cli.failure import CommandError
from bootfw.config.settings import Settings
from bootfw.dhcp.bootfile import Unsuitable
from bootfw.errors import BootRefused
from bootfw.events import (
    Event,
    FileWithheld,
    OfferMade,
    OfferWithheld,
    RequestClassified,
    RequestIgnored,
    ResolverPassedOver,
)
from bootfw.interfaces import IClientAware
from bootfw.net.dhcp.duid import own_duid
from bootfw.net.dhcp.ipv4 import IPv4
from bootfw.net.dhcp.ipv6 import IPv6
from bootfw.net.dhcp.leasing import Leasing
from bootfw.net.dhcp.port import DHCPPort
from bootfw.net.dhcp.proxy import Proxy4, Proxy6
from bootfw.net.dhcp.server4 import Server4
from bootfw.net.dhcp.server6 import Server6
from bootfw.net.dhcp.services import DHCPServices
from bootfw.net.http.download import status_of
from bootfw.net.http.urls import WebURLs
from bootfw.net.pluginlifecycle import PluginLifecycle
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.personas.table import Personas, stock
from bootfw.stores.memory import MemoryStore
from bootfw.tftp.path import relative
from bootfw.values import Address, BootFile, BootMenu, BootRequest, TransferRequest
from bootfw.wire import dhcp4, dhcp6
from bootfw.wire.options import Option

Result = TypeVar("Result")

NOT_REACHED, DECLINED, ANSWERED, UNSUITABLE = "not reached", "declined", "answered", "unsuitable"
REFUSED, FAILED, TOO_SLOW = "refused", "failed", "too slow"

ASSUMED_ADDRESS = "192.0.2.9"
"""Address of a client on port 4011, where it would have one from another DHCP server (documentation, RFC 5737)."""


@define
class ResolverOutcome:
    """The result of one resolver for a request."""

    name: str
    outcome: str = NOT_REACHED
    detail: str = ""


@define
class Exchange:
    """A packet of the client, and the reply to it."""

    sent: str
    """The kind of message, such as "DISCOVER"."""
    port: int
    request: BootRequest | None = None
    """The boot request in the packet; None: it is not from a boot client."""
    resolvers: list[ResolverOutcome] = field(factory=list)
    offer: OfferMade | None = None
    """The event of the reply that names a boot file, or refers the client to port 4011."""
    reason: str = ""
    """Why no boot file is named."""
    reply: bytes = b""
    """The datagram; empty: there is no reply."""
    to: Address | None = None
    """The destination of the reply."""

    @property
    def file(self) -> BootFile | BootMenu | None:
        """The boot file or menu of the reply."""
        return self.offer.file if self.offer is not None else None


class _ObservedChain(ResolverChain):
    """A ResolverChain that records the result of each resolver."""

    outcomes: list[ResolverOutcome]

    def begin(self) -> list[ResolverOutcome]:
        """Start the record of another request."""
        self.outcomes = [ResolverOutcome(name) for name, _ in self.resolvers]
        return self.outcomes

    def verdict(self, number: int, request: BootRequest, fit: Fit, result: Any, began: float, now: float) -> Verdict:
        """See ResolverChain."""
        verdict = super().verdict(number, request, fit, result, began, now)
        outcome = self.outcomes[number]
        if isinstance(verdict, BootRefused):
            outcome.outcome, outcome.detail = REFUSED, verdict.reason
        elif isinstance(verdict, Unsuitable):
            outcome.outcome, outcome.detail = UNSUITABLE, verdict.reason
        elif isinstance(verdict, BootFile):
            outcome.outcome, outcome.detail = ANSWERED, verdict.name
        elif isinstance(verdict, BootMenu):
            outcome.outcome, outcome.detail = ANSWERED, "a boot menu"
        elif outcome.outcome == NOT_REACHED:
            outcome.outcome = DECLINED
        return verdict

    def report_failure(self, number: int, request: BootRequest, error: BaseException | None) -> None:
        """See ResolverChain."""
        super().report_failure(number, request, error)
        self.outcomes[number].outcome = FAILED
        self.outcomes[number].detail = f"{type(error).__name__}: {error}"


class DryRun:
    """Answers packets as the server of a configuration would.

    :param reactor: IReactorTime, and what the plugins need.
    :param settings: the settings of the server.
    :param server: the server's address on the client's network.
    :param urls: the URLs of our HTTP and HTTPS servers.
    :param store: the leases and reservations to start from.
    :raise StateError: a plugin can't start.
    """

    def __init__(
        self, reactor: Any, parts: Parts, settings: Settings, server: str, urls: WebURLs, store: MemoryStore
    ) -> None:
        self.reactor = reactor
        self.settings = evolve(
            settings,
            # No conflict detection: this host need not be in the client's network.
            dhcp=evolve(settings.dhcp, probe_seconds=0, foreign_networks=True),
            dhcp6=evolve(settings.dhcp6, foreign_networks=True),
        )
        self.server = server
        self.personas: Personas = stock().with_own(settings.persona)
        self.generated = GeneratedFiles()
        clients = Clients()
        self._chain = _ObservedChain(
            reactor, parts.resolvers, self._publish, settings.dhcp.answer_within_seconds, self.generated
        )
        self._services = DHCPServices(
            reactor, self._chain, self._publish, personas=self.personas, clients=clients, own_urls=urls.of
        )
        self._store = store
        self._clients = clients
        self._watchdog = parts.watchdog[1]
        self._urls = urls
        self._backends = parts.backends
        self._backend_lifecycle = PluginLifecycle(reactor, parts.backends, self._publish, "backend")
        self._layers: LayeredBackend | None = None
        """What serves files; None: no file has been requested."""
        self._leasing: Leasing | None = None
        self._exchange = Exchange("", 0)
        self._waiting: Deferred[None] | None = None
        for _, resolver in parts.resolvers:
            if provides(resolver, IClientAware):
                resolver.set_client_lookup(clients.lookup)
        self._plugins = PluginLifecycle(reactor, parts.resolvers, self._publish)
        self._plugins.start()

    async def close(self) -> None:
        """Close the plugins."""
        await self._plugins.close()
        await self._backend_lifecycle.close()
        if self._leasing is not None:
            await self._leasing.close()

    async def discover(self, client: BootClient) -> list[Exchange]:
        """Boot *client* by DHCPv4: its DISCOVER, and its request to port 4011 if the reply refers it there."""
        dhcp = self.settings.dhcp
        message = client.discover(_XID)
        peer = (client.relay or dhcp4.UNSPECIFIED, dhcp.server_port if client.relay else dhcp.client_port)
        server = dhcp.mode == "server"
        port = self._server4() if server else self._proxy4()
        first = await self._exchanged("DISCOVER", dhcp.server_port, port, dhcp4.pack(message, 1472), peer)
        if first.offer is None or first.offer.file is not None:
            return [first]
        offer = dhcp4.parse(first.reply)
        address = ASSUMED_ADDRESS if offer.yiaddr == dhcp4.UNSPECIFIED else offer.yiaddr
        request = client.boot_server_request(_XID + 1, address)
        boot_server = self._proxy4(boot_server=True)
        data = dhcp4.pack(request, 1472)
        return [first, await self._exchanged("REQUEST", dhcp.boot_server_port, boot_server, data, (address, 4011))]

    async def solicit(self, client: BootClient) -> list[Exchange]:
        """Boot *client* by DHCPv6: its SOLICIT."""
        dhcp6_settings = self.settings.dhcp6
        data = dhcp6.pack(client.solicit(_XID))
        peer = cast(Address, (client.link_local, dhcp6_settings.client_port, 0, 0))
        return [await self._exchanged("SOLICIT", dhcp6_settings.server_port, self._main6(), data, peer)]

    def class_of(self, address: str) -> str:
        """Return the conditions of the client class whose pool an IPv4 address is of; "": of none."""
        found = self._leasing.server.find_binding(address) if self._leasing is not None else None
        pool = found[1].pool if found is not None else None
        return "" if pool is None or pool.client_class is None else str(pool.client_class)

    def listens(self, port: int) -> bool:
        """Return whether *port* is a DHCP port of the configuration."""
        return port in self._ports()

    async def replay(self, data: bytes, port: int, peer: tuple[str, int]) -> Exchange:
        """Answer a recorded packet that arrived at our *port*."""
        six = ":" in peer[0]
        sender: Address = (*peer, 0, 0) if six else peer
        return await self._exchanged("", port, self._ports()[port](), data, sender)

    async def replay_tftp(self, data: bytes, peer: tuple[str, int]) -> bytes:
        """Answer a recorded TFTP read request.

        :return: the first reply; b"": there is none.
        """
        protocol = TFTPProtocol(
            self.reactor,
            self._files(),
            self._watchdog,
            self._publish,
            settings=self.settings.tftp,
            personas=self.personas,
            clients=self._clients,
        )
        replied: Deferred[bytes] = Deferred()
        protocol.makeConnection(_FirstReply(replied))  # type: ignore[arg-type]
        protocol.datagrams_received([(data, peer, None)])
        if not replied.called and not protocol.transfers:
            replied.callback(b"")
        reply = await replied
        protocol.close()
        return reply

    async def replay_http(self, target: str, peer: tuple[str, int]) -> int:
        """Return the status of the response to a recorded GET request."""
        path = relative(target)
        try:
            answer = self._files().open(path, TransferRequest(target, path, peer, self.server, protocol="http"))
            waiting = as_deferred(answer)
            reader = answer if waiting is None else await waiting
        except Exception as error:
            return status_of(transfer_error(error))
        reader.close()
        return 200

    def _files(self) -> LayeredBackend:
        if self._layers is None:
            self._backend_lifecycle.start()
            self._layers = LayeredBackend(
                [("generated files", self.generated), *self._backends],
                SecondStageFinder(self.reactor.seconds, lambda *values: None),
                self._publish,
                client_at=self._clients.lookup,
                own_urls=self._urls.of,
            )
        return self._layers

    def _ports(self) -> dict[int, Callable[[], DHCPPort]]:
        dhcp, dhcp6_settings = self.settings.dhcp, self.settings.dhcp6
        ports: dict[int, Callable[[], DHCPPort]] = {}
        if dhcp6_settings.mode != "off":
            ports[dhcp6_settings.boot_server_port] = partial(self._proxy6, boot_server=True)
            ports[dhcp6_settings.server_port] = self._main6
        if dhcp.mode != "off":
            ports[dhcp.boot_server_port] = partial(self._proxy4, boot_server=True)
            ports[dhcp.server_port] = self._server4 if dhcp.mode == "server" else self._proxy4
        return ports

    def _proxy6(self, *, boot_server: bool = False) -> Proxy6:
        return Proxy6(self._services, IPv6(own_duid(), self.settings.dhcp6, self.server), boot_server=boot_server)

    def _main6(self) -> DHCPPort:
        if self.settings.dhcp6.mode != "server":
            return self._proxy6()
        leasing = self._leases()
        assert leasing.server6 is not None
        family = IPv6(own_duid(), self.settings.dhcp6, self.server)
        return Server6(self._services, family, leasing.server6, leasing.journal)

    def _server4(self) -> Server4:
        leasing = self._leases()
        return Server4(self._services, self._family4(), leasing.server, leasing.journal)

    def _proxy4(self, *, boot_server: bool = False) -> Proxy4:
        return Proxy4(self._services, self._family4(), boot_server=boot_server)

    def _family4(self) -> IPv4:
        return IPv4(self.settings.dhcp, self.server)

    def _leases(self) -> Leasing:
        if self._leasing is None:
            settings = self.settings
            self._leasing = Leasing(self.reactor, self._store, settings.dhcp, self._publish, settings.dhcp6)
        return self._leasing

    async def _exchanged(self, sent: str, number: int, port: DHCPPort, data: bytes, peer: Address) -> Exchange:
        exchange = self._exchange = Exchange(sent, number, resolvers=self._chain.begin())
        transport: Any = _Replies(exchange, self._progressed)
        port.makeConnection(transport)
        port.datagrams_received([(data, peer, None)])  # type: ignore[list-item]
        if exchange.request is not None and not self._is_over():
            self._waiting = Deferred()
            await self._waiting
        port.close()
        return exchange

    def _is_over(self) -> bool:
        exchange = self._exchange
        return bool(exchange.reply or exchange.reason or exchange.offer)

    def _publish(self, event: Event) -> None:
        exchange = self._exchange
        if isinstance(event, RequestClassified):
            exchange.request = event.request
        elif isinstance(event, OfferMade):
            exchange.offer = event
        elif isinstance(event, OfferWithheld | FileWithheld | RequestIgnored):
            exchange.reason = event.reason or "it needs none"
        elif isinstance(event, ResolverPassedOver):
            for outcome in exchange.resolvers:
                if outcome.name == event.resolver:
                    outcome.outcome, outcome.detail = TOO_SLOW, f"no answer in {event.seconds:.1f} s"
        self._progressed()

    def _progressed(self) -> None:
        """End the wait for the reply in the next reactor turn, since the events of a reply are published after it."""
        if self._waiting is not None and self._is_over():
            waiting, self._waiting = self._waiting, None
            IReactorTime(self.reactor).callLater(0, waiting.callback, None)


_XID = 0x626F6F
"""A transaction id of 24 bits, so that it is valid in DHCPv6 too."""


class _Replies:
    """A datagram transport that stores the last datagram in an Exchange."""

    def __init__(self, exchange: Exchange, written: Any) -> None:
        self._exchange = exchange
        self._written = written

    def setBroadcastAllowed(self, allowed: bool) -> None:
        """See IUDPTransport."""

    def write(self, data: bytes, to: Address) -> None:
        """See IUDPTransport."""
        self._exchange.reply, self._exchange.to = data, to
        self._written()


class _FirstReply:
    """A datagram transport that passes the first datagram to a Deferred."""

    def __init__(self, replied: "Deferred[bytes]") -> None:
        self._replied = replied

    def write(self, data: bytes, to: Address) -> None:
        """See IUDPTransport."""
        if not self._replied.called:
            self._replied.callback(data)


def result_of(reactor: Any, coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of *coroutine*, for a command. The reactor runs only if a plugin answers later.

    :raise CommandError: the operator has interrupted the command.
    """
    found: list[Any] = []
    ended: Deferred[Any] = ensureDeferred(coroutine)
    ended.addBoth(found.append)
    if not found:
        ended.addBoth(lambda _: reactor.stop())
        reactor.run()
    if not found:
        raise CommandError("interrupted")
    if isinstance(found[0], Failure):
        found[0].raiseException()
    result: Result = found[0]
    return result


def options_of(reply: bytes) -> Mapping[int, bytes]:
    """Return the options of a DHCPv4 reply by code, without those that only echo the request."""
    found = dhcp4.parse(reply).options
    echoed = (Option.CLIENT_IDENTIFIER, Option.CLIENT_MACHINE_IDENTIFIER, Option.RELAY_AGENT_INFORMATION)
    return {code: found[code] for code in sorted(found) if code not in echoed}
