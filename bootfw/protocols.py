"""What a configuration serves: the sockets that it wants, and the protocol of each."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any
from weakref import WeakSet

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorFDSet

from bootfw.ability import provides
from bootfw.boot.backends import LayeredBackend
from bootfw.boot.clients import Clients
from bootfw.boot.flightrecorder import FlightRecorder
from bootfw.boot.generated import GeneratedFiles
from bootfw.boot.resolverchain import ResolverChain
from bootfw.config.settings import ListenAddress, Settings
from bootfw.events import Event
from bootfw.interfaces import IChainAware
from bootfw.leadershipstates import Standing
from bootfw.net.admission import Admission
from bootfw.net.binding import SocketKey
from bootfw.net.dhcp.duid import duid_of
from bootfw.net.dhcp.ipv4 import IPv4
from bootfw.net.dhcp.ipv6 import IPv6
from bootfw.net.dhcp.leasing import Leasing, required_networks
from bootfw.net.dhcp.otherservers import OtherBootServers
from bootfw.net.dhcp.port import DHCPPort
from bootfw.net.dhcp.proxy import Proxy4, Proxy6
from bootfw.net.dhcp.server4 import Server4
from bootfw.net.dhcp.server6 import Server6
from bootfw.net.dhcp.services import DHCPServices
from bootfw.net.dhcp.standby import StandbyPort
from bootfw.net.http.site import BootSite
from bootfw.net.http.tls import renewed_certificate
from bootfw.net.http.urls import WebURLs
from bootfw.net.linux.interfaces import Interfaces, missing_interface, unusable_address
from bootfw.net.linux.netlink import Netlink
from bootfw.net.listening import devices_for
from bootfw.net.multicast.sender import ImageSender
from bootfw.net.nodes.leadership import Leadership
from bootfw.net.tftp.framecache import FrameCache
from bootfw.net.tftp.handover import AdoptedTransfers
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.tftp.multicast import GroupAddresses
from bootfw.net.tftp.transferport import opener
from bootfw.personas.table import Personas
from bootfw.plugins import Named

_ANYWHERE = "0.0.0.0"


@frozen
class Site:
    """A TCP site beside those of the settings; see BootService.add_site()."""

    service: str
    listen: tuple[ListenAddress, ...]
    factory: Any
    optional: bool

    def protocol(self) -> Any:
        """Return the factory."""
        return self.factory


@frozen
class Configured:
    """Settings and plugins of one configuration: what a reload replaces."""

    settings: Settings
    watchdog: Any
    backends: Sequence[Named]
    resolvers: Sequence[Named]
    observers: Sequence[Named]
    personas: Personas
    sites: tuple[Site, ...] = ()

    @property
    def uses_resolvers(self) -> bool:
        """Whether something calls the resolvers: DHCP, or a protocol of one of them."""
        return self.settings.answers_dhcp or any(provides(resolver, IChainAware) for _, resolver in self.resolvers)


@frozen
class Requirement:
    """A socket, network or interface that a configuration wants."""

    key: SocketKey
    optional: bool
    may_be_held: bool
    missing: Callable[[], str]
    protocol: Callable[[], Any] | None
    """Creates the protocol; None: there is no socket, only an address or interface to wait for."""


@define(eq=False)
class Shared:
    """What the protocols of a configuration have in common with those of the next one.

    :param leads: whether this server has the leases and the orders; see BootService.leads.
    :param leasing: returns the leasing, which it creates for the settings if there is none.
    :param layers: returns the backends of the present configuration as one.
    :param serves_images: whether this process sends images to many machines.
    """

    reactor: Any
    publish: Callable[[Event], None]
    leadership: Leadership | None
    leads: Callable[[], bool]
    leasing: Callable[[Settings], Leasing]
    layers: Callable[[], LayeredBackend]
    kernel: Netlink
    interfaces: Interfaces
    admission: Admission
    clients: Clients
    generated: GeneratedFiles
    urls: WebURLs
    recorder: FlightRecorder | None
    frame_cache: FrameCache
    group_addresses: GroupAddresses
    adopted_transfers: AdoptedTransfers
    image_sender: ImageSender
    serves_images: bool
    tags_files: bool
    file_servers: "WeakSet[TFTPProtocol | BootSite]" = field(factory=WeakSet, init=False)
    """Every file server of this process, including those that serve while workers are starting."""

    @property
    def standing(self) -> Standing | None:
        """What the store has last answered about the leadership; None: this server is alone."""
        return None if self.leadership is None else self.leadership.standing


class Protocols:
    """The sockets that a configuration wants, and the protocols that serve them.

    :param certificate: that of the configuration before this one, which has the same settings for it; None: it is
        loaded when HTTPS needs it.
    """

    def __init__(self, configured: Configured, shared: Shared, certificate: Any = None) -> None:
        self.configured = configured
        self.certificate = certificate
        self.chain: ResolverChain | None = None
        """Answers the requests of all DHCP ports; None: it has not been needed since the start."""
        self._shared = shared

    def requirements(self) -> dict[SocketKey, Requirement]:
        """Return every socket, network and interface that the configuration wants.

        :raise ConfigError: the certificate can't be used.
        """
        settings = self.configured.settings
        requirements = [
            self._on(service, address, device, protocol)
            for service, address, protocol in self._ports()
            for device in devices_for(self._shared.reactor, service, address, settings.interfaces)
        ]
        for site in self.configured.sites:
            requirements += [
                self._on(site.service, address, "", site.protocol, site.optional) for address in site.listen
            ]
        # Without an address in a network that DHCP serves, its clients get addresses and reach no server.
        for service, address, missing in required_networks(settings.dhcp, settings.dhcp6):
            requirements.append(
                Requirement((service, address, ""), address[0] in settings.optional, False, missing, None)
            )
        # Wait for interfaces that no socket is bound to: every socket has an address of its own.
        for name in set(settings.interfaces) - {required.key[2] for required in requirements}:
            key = "interface", (_ANYWHERE, 0), name
            requirements.append(
                Requirement(key, name in settings.optional, False, partial(missing_interface, name), None)
            )
        return {required.key: required for required in requirements}

    def _on(
        self, service: str, address: ListenAddress, device: str, protocol: Callable[[], Any], optional: bool = False
    ) -> Requirement:
        host, kernel = address[0], self._shared.kernel

        def missing() -> str:
            return (missing_interface(device) if device else "") or unusable_address(host, kernel)

        named = bool({device, host, host.partition("%")[2]} & set(self.configured.settings.optional))
        return Requirement((service, address, device), optional or named, optional, missing, protocol)

    def _ports(self) -> Iterable[tuple[str, ListenAddress, Callable[[], Any]]]:
        """Yield (service, address, function that creates the protocol) for each port."""
        settings, shared, publish = self.configured.settings, self._shared, self._shared.publish
        yield from self._dhcp_ports()
        yield from self._dhcp6_ports()
        for address in settings.tftp.listen:
            yield "tftp", address, partial(self.tftp, address, publish, shared.frame_cache)
        for address in settings.http.listen:
            yield "http", address, partial(self.http, "http", publish)
        if shared.serves_images:
            for image in settings.multicast.images:
                channel = partial(shared.image_sender.fixed, image.path, *image.address)
                yield "multicast", (_ANYWHERE, image.address[1]), channel
        if settings.http.https_listen and self.certificate is None:
            self.certificate = renewed_certificate(shared.reactor, settings.http, publish, shared.urls)
        for address in settings.http.https_listen:
            yield "https", address, partial(self.http, "https", publish)

    def _dhcp_ports(self) -> Iterable[tuple[str, ListenAddress, Callable[[], Any]]]:
        settings, resolvers = self.configured.settings.dhcp, self.configured.resolvers
        if settings.mode == "server":
            yield "dhcp", (_ANYWHERE, settings.server_port), self._or_standby(self._server4)
        elif settings.mode == "proxy" and resolvers:
            yield "dhcp", (_ANYWHERE, settings.server_port), self._or_standby(self._proxy4)
        if settings.mode != "off" and resolvers:
            # A client that has shown a boot menu sends its choice here, whichever server assigned its address.
            boot_server = partial(self._proxy4, boot_server=True)
            yield "boot-server", (_ANYWHERE, settings.boot_server_port), self._or_standby(boot_server)

    def _dhcp6_ports(self) -> Iterable[tuple[str, ListenAddress, Callable[[], Any]]]:
        settings = self.configured.settings.dhcp6
        if settings.mode == "server":
            yield "dhcp6", ("::", settings.server_port), self._or_standby(self._server6)
        elif settings.mode != "off" and self.configured.resolvers:
            boot_server = partial(self._proxy6, boot_server=True)
            yield "dhcp6", ("::", settings.server_port), self._or_standby(self._proxy6)
            yield "boot-server6", ("::", settings.boot_server_port), self._or_standby(boot_server)

    def _or_standby(self, make: Callable[[], DHCPPort]) -> Callable[[], DHCPPort | StandbyPort]:
        """Return a function that creates the protocol of a DHCP port: a standby has one that drops all requests."""
        leadership, leads = self._shared.leadership, self._shared.leads
        return make if leadership is None else lambda: make() if leads() else StandbyPort(leadership)

    def _proxy4(self, *, boot_server: bool = False) -> Proxy4:
        proxy = Proxy4(self._dhcp_services(), IPv4(self.configured.settings.dhcp), boot_server=boot_server)
        if not boot_server:
            proxy.other_servers = self._other_boot_servers()
        return proxy

    def _proxy6(self, *, boot_server: bool = False) -> Proxy6:
        return Proxy6(self._dhcp_services(), self._ipv6(), boot_server=boot_server)

    def _server4(self) -> Server4:
        settings = self.configured.settings
        leasing = self._shared.leasing(settings)
        leasing.detect_conflicts(settings.dhcp)
        server = Server4(
            self._dhcp_services(),
            IPv4(settings.dhcp),
            leasing.server,
            leasing.journal,
            probe=leasing.probe,
            ping=leasing.ping,
            renewable_seconds=leasing.renewable_seconds,
        )
        server.other_servers = self._other_boot_servers()
        return server

    def _server6(self) -> Server6:
        leasing = self._shared.leasing(self.configured.settings)
        assert leasing.server6 is not None
        return Server6(
            self._dhcp_services(),
            self._ipv6(),
            leasing.server6,
            leasing.journal,
            renewable_seconds=leasing.renewable_seconds,
        )

    def _ipv6(self) -> IPv6:
        return IPv6(duid_of(self._shared.standing), self.configured.settings.dhcp6)

    def _other_boot_servers(self) -> OtherBootServers | None:
        """Return the part that detects other boot servers; None: this process has no capability for it."""
        settings, shared = self.configured.settings.dhcp, self._shared
        if not IReactorFDSet.providedBy(shared.reactor):
            return None
        try:
            return OtherBootServers(
                shared.reactor, shared.publish, shared.interfaces, settings.server_port, settings.client_port
            )
        except OSError:  # without CAP_NET_RAW; "bootfw doctor --probe-network" finds them, too
            return None

    def _dhcp_services(self) -> DHCPServices:
        shared = self._shared
        return DHCPServices(
            shared.reactor,
            self.resolver_chain(),
            shared.publish,
            interfaces=shared.interfaces,
            personas=self.configured.personas,
            clients=shared.clients,
            own_urls=shared.urls.of,
            hardware_address=shared.kernel.hardware_address,
            recorder=shared.recorder,
            admission=shared.admission,
            leadership=shared.leadership,
        )

    def resolver_chain(self) -> ResolverChain:
        """Return the chain that all DHCP ports share, so that a stop cancels one."""
        if self.chain is None:
            within, shared = self.configured.settings.dhcp.answer_within_seconds, self._shared
            self.chain = ResolverChain(
                shared.reactor, self.configured.resolvers, shared.publish, within, shared.generated
            )
        return self.chain

    def cancel_resolutions(self) -> None:
        """Give up the requests that a resolver has not answered."""
        if self.chain is not None:
            self.chain.cancel_all()
            self.chain = None

    def tftp(self, address: ListenAddress, publish: Any, frame_cache: FrameCache | None) -> TFTPProtocol:
        """Return a server of TFTP.

        :param frame_cache: None: it has none.
        """
        configured, shared = self.configured, self._shared
        protocol = TFTPProtocol(
            shared.reactor,
            shared.layers(),
            configured.watchdog,
            publish,
            settings=configured.settings.tftp,
            listen=self._transfer_ports(address),
            mtu=shared.interfaces.mtu,
            interfaces=shared.interfaces,
            frame_cache=frame_cache,
            personas=configured.personas,
            clients=shared.clients,
            adopted=shared.adopted_transfers,
            recorder=shared.recorder,
            admission=shared.admission,
            tags_files=shared.tags_files,
            group_addresses=shared.group_addresses,
        )
        shared.file_servers.add(protocol)
        return protocol

    def _transfer_ports(self, address: Sequence[Any]) -> Callable[..., Any] | None:
        """Return a function that opens the ports of transfers; None: transfers have no ports of their own."""
        ports = self.configured.settings.tftp.ports
        return None if ports == "single" else opener(self._shared.reactor, address[0], ports)

    def http(self, service: str, publish: Any) -> BootSite:
        """Return a server of HTTP or, by its *service*, of HTTPS."""
        shared = self._shared
        site = BootSite(
            shared.reactor, shared.layers(), publish, shared.clients, shared.admission, shared.interfaces, service
        )
        shared.file_servers.add(site)
        return site

    def apply_to(self, protocol: Any, address: Sequence[Any], before: Settings) -> None:
        """Have a protocol that served the settings *before* serve these, at a port that stays open.

        :param address: of the port.
        """
        settings = self.configured.settings
        if isinstance(protocol, DHCPPort):
            family = settings.dhcp if isinstance(protocol.family, IPv4) else settings.dhcp6
            protocol.use(self.resolver_chain(), family, self.configured.personas)
            if isinstance(protocol, Server4):
                protocol.use_addresses(self._shared.leasing(settings).server)
            elif isinstance(protocol, Server6):
                server6 = self._shared.leasing(settings).server6
                assert server6 is not None
                protocol.use_addresses(server6)
        elif isinstance(protocol, TFTPProtocol) and settings.tftp.ports != before.tftp.ports:
            protocol.use_ports(self._transfer_ports(address))
