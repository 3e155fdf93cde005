"""The composition root: settings and plugins become protocols on ports, started and stopped as one service."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from socket import gethostname
from types import MappingProxyType
from typing import Any

from attrs import define, evolve
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet, IReactorTime
from zope.interface import Interface
from zope.interface.verify import verifyObject

from bootfw.ability import abilities_of, provides
from bootfw.boot.backends import LayeredBackend
from bootfw.boot.clients import Clients
from bootfw.boot.flightrecorder import FlightRecorder
from bootfw.boot.generated import GeneratedFiles
from bootfw.boot.resolverchain import ResolverChain
from bootfw.boot.secondstage import SecondStageFinder
from bootfw.config.settings import ListenAddress, Settings
from bootfw.config.tables import same_values
from bootfw.dhcp.bootfile import Unsuitable
from bootfw.errors import StateError
from bootfw.events import BackendProblem, Event, ListenerClosed
from bootfw.interfaces import (
    IAttemptStore,
    IBackend,
    IBootFileResolver,
    IBootObserver,
    IChainAware,
    IClientAware,
    IDirectoryBackend,
    ILeadership,
    ILeaseStore,
    INodes,
    IOrderStore,
    IReadableStore,
    IReservationStore,
    ISelfChecking,
    IWatchdogPolicy,
)
from bootfw.net.admission import Admission
from bootfw.net.binding import Bindings, SocketKey, WantedSocket, contains, key_text, overlap
from bootfw.net.bindingstates import State as SocketState
from bootfw.net.clock import hold, monotonic, shift_of
from bootfw.net.control import ControlError, Operation
from bootfw.net.datagramcounts import DatagramCounts
from bootfw.net.dhcp.leasecontrol import OPERATIONS as LEASE_OPERATIONS
from bootfw.net.dhcp.leasing import Leasing
from bootfw.net.dhcp.port import DHCPPort
from bootfw.net.dhcp.standby import StandbyPort
from bootfw.net.dhcp.storedleases import StoredLeases
from bootfw.net.draining import DRAIN_WITHIN, Draining
from bootfw.net.http.site import BootSite
from bootfw.net.http.urls import WebURLs
from bootfw.net.linux.interfaces import Interfaces
from bootfw.net.linux.neighbourtable import NeighbourObserver
from bootfw.net.linux.netlink import Netlink
from bootfw.net.listening import (
    UDP_SERVICES,
    Listening,
    OwnSockets,
    PortSpec,
    SocketSource,
    deliver_to,
    finish_closing,
    listen_on,
)
from bootfw.net.multicast.master import SERVICE as MULTICAST_MASTER
from bootfw.net.multicast.master import Master
from bootfw.net.multicast.sender import ImageSender
from bootfw.net.multicast.uploads import Services as UploadServices
from bootfw.net.multicast.uploads import Uploads
from bootfw.net.nodes.cluster import Cluster
from bootfw.net.nodes.leadership import Leadership
from bootfw.net.pluginlifecycle import PluginLifecycle
from bootfw.net.reachability import report_dropped
from bootfw.net.retired import RetiredParts
from bootfw.net.tftp.framecache import FrameCache
from bootfw.net.tftp.handover import AdoptedTransfer, AdoptedTransfers
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.tftp.multicast import GroupAddresses
from bootfw.net.tftp.transfer import Transfer
from bootfw.net.workers.supervisor import Workers
from bootfw.observe.boots import BootRecorder
from bootfw.observe.machines import Machines
from bootfw.observe.publisher import EventSink, Publisher
from bootfw.observe.recordings import Recordings
from bootfw.personas.table import stock
from bootfw.plugins import Named, PluginContext, configure, load
from bootfw.protocols import Configured, Protocols, Requirement, Shared, Site
from bootfw.servicestates import Do, Input, ServiceStates, State
from bootfw.values import Address, BootFile, BootMenu, BootRequest, Client, SocketStatus, address_text, only_phase

_WEB = ("http", "https")

DROPPED_CLOSE_WITHIN = 300.0
"""Seconds that the transfers on a socket have to end, once a reload has dropped it."""


class BootService(MultiService):
    """DHCP or proxyDHCP, TFTP and HTTP, as one service of a Twisted application.

    Backends, resolvers and observers are given in their order, as objects or as (name, object).

    :param reactor: IReactorUDP and IReactorTime; for HTTP IReactorSocket too.
    :param settings: what the configuration's sections hold; the default listens on the well-known ports.
    :param backend: a backend, for when there is only one.
    :param resolvers: without any, a proxy opens no DHCP port: it would have no answer.
    :param watchdog: an IWatchdogPolicy; the default is "adaptive".
    :param store: an ILeaseStore and IReservationStore for ``mode = "server"``; the default is "sqlite". One that
        provides INodes makes the service a node of a cluster; one that provides ILeadership chooses the node that
        decides.
    :param control: the path of the UNIX socket where the ``bootfw`` command asks what runs; None: there is none.
    :param event_sink: where events go; None: to the observers.
    :param sockets: where ports come from; None: they are opened here. Workers are one, see add_workers().
    :param broadcast: sends (kind, values...) of what this process has learned to the others of this server, which give
        it to their on_message(); None: there are no others.
    :param attempts: an IAttemptStore for the records of boot attempts; None: there are none.
    :param recordings: the directory where the packets of boots that failed are written; None: packets are not kept.
        Without *attempts* they are kept, for the process of this server that writes them.
    :param tags_files: the events have the entity tags of files, for the process of this server that announces them to
        other nodes.
    :param orders: an IOrderStore for what the operator sets for machines: names, tags and images; None: nothing can be
        set, and the machines are not listed.
    :raise ConfigError: the personas of the settings contradict each other.
    :raise zope.interface.Invalid: an object does not keep to its interface; all that it lacks is named.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        *,
        settings: Settings | None = None,
        backend: "IBackend | None" = None,
        backends: "Sequence[IBackend | tuple[str, IBackend]]" = (),
        resolvers: "Sequence[IBootFileResolver | tuple[str, IBootFileResolver]]" = (),
        watchdog: "IWatchdogPolicy | None" = None,
        observers: "Sequence[IBootObserver | tuple[str, IBootObserver]]" = (),
        store: "ILeaseStore | INodes | None" = None,
        control: Path | None = None,
        event_sink: EventSink | None = None,
        sockets: SocketSource | None = None,
        broadcast: Callable[..., None] | None = None,
        attempts: "IAttemptStore | None" = None,
        recordings: Path | None = None,
        tags_files: bool = False,
        orders: "IOrderStore | None" = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor = monotonic(reactor)
        settings = settings or Settings()
        every_backend = [backend, *backends] if backend is not None else backends
        watchdog = _default("adaptive", "bootfw.watchdogs", reactor) if watchdog is None else watchdog
        verifyObject(IWatchdogPolicy, watchdog)
        self._configured = Configured(
            settings,
            watchdog,
            _named(every_backend, IBackend),
            _named(resolvers, IBootFileResolver),
            _named(observers, IBootObserver),
            stock().with_own(settings.persona),
        )
        self._store: Any = store  # whatever it provides beside; Python has no type for several interfaces
        if settings.assigns_addresses:
            self._verify_store()
        self._leadership: Leadership | None = None
        """Whether this server decides, of several; None: it always does."""
        self.leads = True
        """Whether this server has the leases and the orders, and its resolvers are started. That stays so while the
        leader of several can't reach their store."""
        if ILeadership.providedBy(store):
            verifyObject(ILeadership, store)
            self._leadership = Leadership(
                reactor,
                store,
                gethostname(),
                self._lead,
                self._follow,
                lambda event: self._publish(event),
            )
            self.leads = False
        self._resigned: Deferred[Any] = succeed(None)
        """Fires when the latest _resign() has released the leadership in the store."""
        self._control = control
        self._recorders: list[Named] = []
        self._recorder = FlightRecorder() if recordings is not None else None
        self._recordings: Recordings | None = None
        if attempts is not None:
            verifyObject(IAttemptStore, attempts)
            recorder = BootRecorder(reactor, attempts, settings.boots, self.backends)
            if recordings is not None and self._recorder is not None:
                self._recordings = Recordings(self._recorder, reactor.seconds, recordings)
                recorder.write_packets = self._recordings.write
            self._recorders.append(("boot attempts", recorder))
        self._kernel = Netlink()
        if event_sink is None:
            # _publish is set below, and depends on the publisher, which gets these recorders.
            neighbour_observer = NeighbourObserver(self._kernel.neighbour_tables, lambda event: self._publish(event))
            self._recorders.append(("neighbour table", neighbour_observer))
        self._publisher = Publisher(reactor, self._observing()) if event_sink is None else event_sink
        self._publisher_of_others = Publisher(reactor, self._observing_others())
        """Gets the events of other nodes."""
        self._broadcast = broadcast
        self._cluster = self._cluster_with(store) if INodes.providedBy(store) else None
        """The nodes that share the store; None: this server is alone."""
        self._publish = self._publisher.publish if self._cluster is None else self._cluster.publish
        self._sockets = OwnSockets(reactor) if sockets is None else sockets
        self._second_stage = SecondStageFinder(reactor.seconds, self._sharing("boot-program"))
        self._permanent_plugins: list[Named] = []
        """Plugins that are started with the resolvers, and that a reload never replaces."""
        if orders is not None:
            verifyObject(IOrderStore, orders)
            machines = Machines(reactor, orders, self.operations, lambda: self.backends, lambda: self.settings.machine)
            self._permanent_plugins.append(("machines", machines))
        admit = None if self._leadership is None else self._refuse_as_standby
        self._plugins = PluginLifecycle(reactor, self._used(self._configured), self._publish, admit=admit)
        self._backend_plugins = PluginLifecycle(reactor, self.backends, self._publish, "backend")
        every_observer = [*self._configured.observers, *self._recorders]
        self._observer_plugins = PluginLifecycle(reactor, every_observer, self._publish, "observer")
        self._generated = GeneratedFiles(broadcast=self._sharing("generated"))
        dropped = partial(report_dropped, reactor, lambda: self.settings, self._publish)
        self._interfaces = Interfaces(settings.interfaces, dropped, self._kernel, settings.except_interfaces)
        self._admission = Admission(reactor, self._publish, settings)
        shared = self._sharing("client")
        self._clients = Clients(self._kernel.hardware_address, shared, reactor.seconds, self._leased_to)
        self._adopted_transfers = AdoptedTransfers(reactor, self._publish)
        self._urls = WebURLs(share=self._sharing("url") if self._sockets.follow_interfaces else None)
        self._layers = self._layered()
        self._give_lookup([*self._observing_as_leader(), *self._configured.resolvers])
        self._image_sender = ImageSender(
            reactor,
            settings.multicast,
            lambda path, request: self._layers.open(path, request),
            self._publish,
            self._interfaces,
            self._admission,
        )
        self._uploads = Uploads(
            UploadServices(
                reactor,
                settings.multicast,
                self._publish,
                lambda path, request: self._layers.open(path, request),
                lambda path, request: self._layers.replace(path, request),
                self._image_sender.is_sending,
                self._admission,
            )
        )
        self._shared = Shared(
            reactor,
            self._publish,
            leadership=self._leadership,
            leads=lambda: self.leads,
            leasing=self._new_leasing,
            layers=lambda: self._layers,
            kernel=self._kernel,
            interfaces=self._interfaces,
            admission=self._admission,
            clients=self._clients,
            generated=self._generated,
            urls=self._urls,
            recorder=self._recorder,
            frame_cache=FrameCache(settings.tftp.cache_size),
            group_addresses=GroupAddresses(settings.tftp.multicast_groups),
            adopted_transfers=self._adopted_transfers,
            image_sender=self._image_sender,
            serves_images=self._sockets.follow_interfaces,
            tags_files=tags_files or self._cluster is not None,
        )
        self._protocols = Protocols(self._configured, self._shared)
        self._retired = RetiredParts(reactor, self._under_way)
        self._replaced: list[DHCPPort] = []
        """Protocols that a reload has replaced, until their pending requests are answered."""
        self._dropped: list[WantedSocket] = []
        """Sockets that a reload has dropped, and that are open until their transfers have ended."""
        self._prepared: Prepared | None = None
        """What prepare() has returned, until commit() or abandon()."""
        self._leasing: Leasing | None = None
        self._datagram_counts = DatagramCounts(reactor, self._publish)
        self._bindings = Bindings(
            reactor,
            self._publish,
            follow=self._sockets.follow_interfaces,
            opens_later=broadcast is None,
        )
        self._closing: list[Any] = []
        """The ports that the latest stop has closed. Their sockets may be open until a later turn of the reactor, and a
        start before that has to close them first."""
        self._life = ServiceStates()
        self._actions = {Do.OPEN: self._bind, Do.RUN: self._run, Do.CLOSE: self._close, Do.RELEASE: self._release}
        self._workers: Workers | None = None
        """The worker processes that serve the files; None: this process serves them."""
        self._hands_over = False
        """See hand_over_at_stop()."""
        self._stopped: Deferred[None] = succeed(None)
        """The result of the latest stopService()."""
        self._drained: Deferred[None] = succeed(None)
        """Fires when everything is closed that the latest stop or an earlier one has closed."""
        if self._sockets.follow_interfaces:
            master = Master(reactor, self._image_sender, self._uploads, self._admission, self._publish)
            self.add_site(MULTICAST_MASTER, settings.multicast.listen, master)
        self._operations: dict[str, Operation] = {}
        """See add_operations()."""
        if self._cluster is not None:
            self._cluster.setServiceParent(self)  # type: ignore[no-untyped-call]
            self._operations.update(self._cluster.operations)
        self._holds_clock = False
        """Whether hold() was called for the reactor's monotonic clock, which has to be released in the end."""
        self._receivers: dict[str, Callable[..., None]] = {
            "client": self._clients.on_message,
            "boot-program": self._second_stage.on_message,
            "generated": self._generated.on_message,
            "packets-of": self._send_packets,
            "url": self._urls.on_message,
            "elsewhere": self._adopted_transfers.announced,
            "elsewhere-known": self._adopted_transfers.remember,
        }

    def _verify_store(self) -> None:
        if self._store is None:
            self._store = _default("sqlite", "bootfw.stores", self._reactor)
        verifyObject(ILeaseStore, self._store)
        verifyObject(IReservationStore, self._store)

    def _leased_to(self, address: str) -> str:
        """See Clients."""
        return self._leasing.leased_to(address) if self._leasing is not None else ""

    def _layered(self) -> LayeredBackend:
        """Return the backends as one. Clients share their leases with workers if a backend has files for single
        systems."""
        self._clients.shares_leases = any(getattr(backend, "for_systems", False) for _, backend in self.backends)
        return LayeredBackend(
            [("generated files", self._generated), *self.backends],
            self._second_stage,
            self._publish,
            client_at=self._clients.lookup,
            own_urls=self._urls.of,
        )

    def _observing(self) -> list[Named]:
        """Return the observers of this node's events, in their order. Of several nodes only the leader joins events
        into boots, since the events of one boot may come from several nodes."""
        if self.leads:
            return self._observing_as_leader()
        return [
            *self._configured.observers,
            *(each for each in self._recorders if not isinstance(each[1], BootRecorder)),
        ]

    def _observing_as_leader(self) -> list[Named]:
        return [*self._configured.observers, *self._observing_resolvers(), *self._recorders]

    def _observing_others(self) -> list[Named]:
        """Return the observers that also get the events of other nodes."""
        if not self.leads:
            return []
        return [*self._observing_resolvers(), *(each for each in self._recorders if isinstance(each[1], BootRecorder))]

    def _observing_resolvers(self) -> list[Named]:
        return [named for named in self._configured.resolvers if IBootObserver.providedBy(named[1])]

    def _observe_others(self, events: Sequence[Event]) -> None:
        for event in events:
            self._publisher_of_others.publish(event)

    def _cluster_with(self, store: INodes) -> Cluster:
        return Cluster(
            self._reactor,
            store,
            publish=self._publisher.publish,
            observe=self._observe_others,
            on_message=self.on_message,
            broadcast=self._broadcast,
            known=self._shared_state,
            positions=self.positions,
            describe=self._describe,
            roots=self._served_directories,
        )

    def _give_lookup(self, plugins: Iterable[Named]) -> None:
        for plugin in {id(plugin): plugin for _, plugin in plugins}.values():
            if provides(plugin, IClientAware):
                plugin.set_client_lookup(self._clients.lookup)
            if provides(plugin, IChainAware):
                plugin.set_resolver_chain(self._resolve)

    def _resolve(self, request: BootRequest) -> Any:
        """See IChainAware."""
        return self._protocols.resolver_chain().resolve(request, _of_its_phase)

    def _used(self, configured: Configured) -> Sequence[Named]:
        """Return the plugins to start with a configuration: the permanent ones, and the resolvers if something calls
        them."""
        return [*self._permanent_plugins, *(configured.resolvers if configured.uses_resolvers else [])]

    @property
    def settings(self) -> Settings:
        """What the configuration's sections hold."""
        return self._configured.settings

    def reload(
        self,
        settings: Settings,
        backends: "Sequence[IBackend | tuple[str, IBackend]]",
        resolvers: "Sequence[IBootFileResolver | tuple[str, IBootFileResolver]]",
        watchdog: IWatchdogPolicy,
        sites: Mapping[str, Iterable[ListenAddress]] = MappingProxyType({}),
        observers: "Sequence[IBootObserver | tuple[str, IBootObserver]] | None" = None,
    ) -> None:
        """Use these for the requests that come from now on, while the service runs: prepare() and commit() in one.

        :raise StateError, ConfigError, zope.interface.Invalid: see prepare(); then nothing has changed.
        """
        self.commit(self.prepare(settings, backends, resolvers, watchdog, sites, observers))

    def prepare(
        self,
        settings: Settings,
        backends: "Sequence[IBackend | tuple[str, IBackend]]",
        resolvers: "Sequence[IBootFileResolver | tuple[str, IBootFileResolver]]",
        watchdog: IWatchdogPolicy,
        sites: Mapping[str, Iterable[ListenAddress]] = MappingProxyType({}),
        observers: "Sequence[IBootObserver | tuple[str, IBootObserver]] | None" = None,
    ) -> "Prepared":
        """Start the new plugins, and open the new sockets of another configuration.

        Transfers under way keep their files, and requests that a resolver has not answered yet get the answer of that
        resolver. A socket that both configurations want stays open.

        :param settings: equal to the present ones in the keys that need a restart, see bootfw.reload.
        :param sites: service of add_site() -> where it listens; those that it does not name stay where they are.
        :param observers: replace the observers that were given to the service; None: these stay.
        :return: for commit() or abandon().
        :raise StateError: a plugin can't be started, a socket can't be opened, or the service does not run.
        :raise ConfigError: the certificate can't be used, or the personas contradict each other.
        :raise zope.interface.Invalid: see BootService.
        """
        if self._life.state is not State.RUNNING:
            raise StateError("the server is starting or stopping")
        if self._prepared is not None:
            raise StateError("the server is loading another configuration")
        present = self._configured
        personas = present.personas
        if not same_values(settings.persona, present.settings.persona):
            personas = stock().with_own(settings.persona)
        new = Configured(
            settings,
            watchdog,
            _named(backends, IBackend),
            _named(resolvers, IBootFileResolver),
            present.observers if observers is None else _named(observers, IBootObserver),
            personas,
            tuple(evolve(site, listen=tuple(sites.get(site.service, site.listen))) for site in present.sites),
        )
        before = {id(plugin) for _, plugin in (*present.observers, *present.resolvers)}
        self._give_lookup([each for each in (*new.observers, *new.resolvers) if id(each[1]) not in before])
        # Each step is undone if a later one fails, the latest first. After pop_all() nothing is undone.
        with ExitStack() as undo:
            self._observer_plugins.start_new(new.observers)
            undo.callback(self._observer_plugins.drop_new, new.observers)
            self._backend_plugins.start_new(new.backends)
            undo.callback(self._backend_plugins.drop_new, new.backends)
            if self.leads:
                self._plugins.start_new(self._used(new))
                undo.callback(self._plugins.drop_new, self._used(new))
            prepared = self._prepared = self._open_new_sockets(new)
            undo.pop_all()
        return prepared

    def abandon(self, prepared: "Prepared") -> None:
        """Go on as before prepare()."""
        if self._prepared is prepared:
            self._prepared = None
            self._discard(prepared.opened, prepared.replacing, prepared.made_leasing)
            configured = prepared.protocols.configured
            self._plugins.drop_new(self._used(configured))
            self._backend_plugins.drop_new(configured.backends)
            self._observer_plugins.drop_new(configured.observers)

    def commit(self, prepared: "Prepared") -> None:
        """Use what was prepared.

        A plugin that is not used any more is closed when the transfers and requests that may use it have ended. A
        socket that is no longer wanted takes no new requests, and is closed when its transfers have ended, after
        DROPPED_CLOSE_WITHIN seconds at the latest.

        :raise StateError: the service has stopped meanwhile.
        """
        if self._prepared is not prepared:
            raise StateError("the server is stopping")
        self._prepared = None
        before, observed_by, operations = self._protocols, self._observing(), self._lease_operations()
        self._protocols, self._configured = prepared.protocols, prepared.protocols.configured
        settings, settings_before = self.settings, before.configured.settings
        if isinstance(self._publisher, Publisher):
            self._publisher.replace(observed_by, self._observing())
            self._publisher_of_others.replace(observed_by, self._observing_others())
        self._replace_observers()
        for _, recorder in self._recorders:
            if isinstance(recorder, BootRecorder):
                recorder.use(settings.boots, self.backends)
        self._interfaces.serve(settings.interfaces, settings.except_interfaces)
        self._admission.use(settings)
        self._image_sender.use(settings.multicast)
        self._uploads.use(settings.multicast)
        if self._leasing is not None and _dhcp_differs(settings_before, settings):
            self._leasing.use(settings.dhcp, settings.dhcp6)
            self._plugins.offer(self._lease_operations(), operations)
        self._check_backends()
        close_unused = [
            *self._backend_plugins.replace(self.backends),
            *self._plugins.replace(self._used(self._configured)),
        ]
        # Only transfers and downloads that began before now may use the old plugins, so the plugins are closed when
        # these have ended.
        under_way = self._under_way() if close_unused else set()
        self._retired.add(before.chain, under_way, close_unused)
        self._layers = self._layered()
        for server in self._shared.file_servers:
            if isinstance(server, TFTPProtocol):
                server.use(self._layers, self._configured.watchdog, settings.tftp, self._configured.personas)
            else:
                server.files.use(self._layers)
        for binding in tuple(self._bindings):
            wanted = prepared.wanted.get(binding.key)
            if wanted is None or (binding.open is None and binding not in prepared.opened and prepared.waits_again):
                self._drop(binding, before.chain, prepared.opened)
            else:
                binding.optional = wanted.optional
                if binding.key in prepared.replacing:
                    self._replace_protocol(binding, prepared.replacing[binding.key], before.chain)
                self._protocols.apply_to(binding.protocol, binding.address, settings_before)
        self._bindings.check_ready()
        self._retired.close_unused()
        self._apply_role()
        self._stand_for_leader()

    def _replace_observers(self) -> None:
        """Close the observers that are no longer used, and offer the operations of those that are."""
        operations = self._observer_plugins.operations()
        for close in self._observer_plugins.replace([*self._configured.observers, *self._recorders]):
            close()
        self._plugins.offer(self._observer_plugins.operations(), operations)

    def _replace_protocol(self, wanted: WantedSocket, protocol: DHCPPort, chain: ResolverChain | None) -> None:
        """Have another protocol serve a socket that stays open. The former one still answers its pending requests.

        :param chain: the former resolver chain, which may be answering these.
        """
        replaced, wanted.protocol = wanted.protocol, protocol
        wanted.open = self._opener(wanted.key, protocol)
        replaced.drain()
        if wanted.port is not None:
            deliver_to(protocol, wanted.port)
        self._replaced.append(replaced)

        def close() -> None:
            self._replaced.remove(replaced)
            replaced.close()

        self._retired.add(chain, set(), [close])

    def _open_new_sockets(self, new: Configured) -> "Prepared":
        """Open the sockets that *new* wants and the present configuration does not.

        :raise StateError, ConfigError: one can't be opened; then all of them are closed again.
        """
        settings_before = self.settings
        present = {binding.key: binding for binding in self._bindings}
        protocols = Protocols(new, self._shared, self._protocols.certificate)
        opened: list[WantedSocket] = []
        replacing: dict[SocketKey, DHCPPort] = {}
        had_leasing = self._leasing is not None
        try:
            wanted = protocols.requirements()
            waits_again = _dhcp_differs(settings_before, new.settings)
            added_requirements = [
                required
                for required in wanted.values()
                if required.key not in present or (required.protocol is None and waits_again)
            ]
            closing = [each for each in present.values() if each.key not in wanted and each.port is not None]
            for required in added_requirements:
                ending = next((each.key for each in self._dropped if overlap(each.key, required.key)), None)
                if required.protocol is not None and ending is not None:
                    raise StateError(
                        f"{key_text(required.key)} can't be opened while {key_text(ending)} is open, which an "
                        f"earlier reload has dropped and which ends with its transfers: try again when the log says so"
                    )
                beside = (
                    [each for each in closing if overlap(each.key, required.key)]
                    if required.protocol is not None
                    else []
                )
                opened.append(added := self._wanted_socket(required, protocols.certificate, beside))
                try:
                    self._bindings.add(added)
                except CannotListenError as error:
                    reason = getattr(error, "socketError", error)
                    if beside:
                        reason = f"{reason}; {key_text(beside[0].key)} is open: reload without both first, or restart"
                    raise StateError(f"{key_text(required.key)} can't be opened: {reason}") from error
            # From a proxy to a server or back, on a port that is wanted by both.
            for service in _changed_modes(settings_before, new.settings):
                for required in wanted.values():
                    if required.key[0] == service and required.key in present and required.protocol is not None:
                        replacing[required.key] = required.protocol()
            made_leasing = self._leasing is not None and not had_leasing
            return Prepared(protocols, opened, wanted, waits_again, replacing, made_leasing)
        except BaseException:
            self._discard(opened, replacing, self._leasing is not None and not had_leasing)
            raise

    def _discard(
        self, opened: Sequence[WantedSocket], replacing: Mapping[SocketKey, DHCPPort], made_leasing: bool
    ) -> None:
        """Undo _open_new_sockets()."""
        for protocol in replacing.values():
            protocol.close()
        for each in opened:
            self._bindings.drop(each)
            port = each.port
            if port is not None:
                self._close_socket(each)
                finish_closing(port)
        if made_leasing and self._leasing is not None:
            self._leasing.close()
            self._leasing = None

    def _drop(self, wanted: WantedSocket, chain: ResolverChain | None, opened: Sequence[WantedSocket]) -> None:
        """Take no more requests on a socket that is no longer wanted, and close it when nothing uses it.

        :param chain: the former resolver chain, which may be answering requests that came to the socket.
        :param opened: the new sockets, some of which may have its port.
        """
        self._bindings.drop(wanted)
        if wanted.port is None:
            return
        self._update_url(wanted)
        protocol = wanted.protocol
        under_way: set[Any] = set()
        if isinstance(protocol, TFTPProtocol):
            for each in opened:
                if isinstance(each.protocol, TFTPProtocol) and overlap(each.key, wanted.key):
                    each.protocol.succeed(protocol, wholly=contains(each.key, wanted.key))
            # The port stays open until its transfers have ended: their peers send to this address and port.
            protocol.drain()
            under_way = protocol.under_way()
        elif isinstance(protocol, DHCPPort):
            protocol.drain()
        else:
            wanted.port.stopListening()
            under_way = protocol.files.under_way() if isinstance(protocol, BootSite) else set()
        self._dropped.append(wanted)
        close = partial(self._close_dropped, wanted)
        until = self._reactor.seconds() + DROPPED_CLOSE_WITHIN
        resolves = chain if isinstance(protocol, DHCPPort) else None
        self._retired.add(resolves, under_way, [close], until)

    def _close_dropped(self, wanted: WantedSocket) -> None:
        self._dropped.remove(wanted)
        self._close_socket(wanted)
        if wanted.service in UDP_SERVICES:
            # At once: an open socket would still get datagrams that are for the new socket with the same port.
            finish_closing(wanted.port)
        for each in self._bindings:
            if isinstance(each.protocol, TFTPProtocol):
                each.protocol.forget(wanted.protocol)

    def _close_socket(self, wanted: WantedSocket) -> None:
        """Close the port of a socket, and its protocol unless another socket has it too.

        The event is published when every process of this server has closed the port.
        """
        port, protocol, address = wanted.port, wanted.protocol, wanted.local_address
        closing = [maybeDeferred(port.stopListening)]
        if not any(binding.protocol is protocol and binding is not wanted for binding in self._bindings):
            closing.insert(0, maybeDeferred(protocol.close))
        self._datagram_counts.report([wanted])
        self._datagram_counts.forget(port)

        def closed(result: object) -> None:
            self._publish(ListenerClosed(self._reactor.seconds(), wanted.service, address))

        DeferredList(closing).addCallback(closed)

    def _under_way(self) -> set[Any]:
        """Return every transfer and download that this process serves."""
        under_way: set[Any] = set()
        for server in self._shared.file_servers:
            under_way |= server.under_way() if isinstance(server, TFTPProtocol) else server.files.under_way()
        return under_way

    def _sharing(self, kind: str) -> Callable[..., None] | None:
        share = self._broadcast if self._cluster is None else self._cluster.share
        return None if share is None else partial(share, kind)

    def _on_worker_message(self, kind: str, values: tuple[Any, ...]) -> bool:
        """Take what a worker has broadcast, see on_message(), and announce it to the other nodes."""
        if self._cluster is not None:
            self._cluster.announce(kind, *values)
        return self.on_message(kind, values)

    def add_workers(self, workers: Workers) -> None:
        """Have *workers* serve the files. They start and stop with this service, and get what it learns of clients."""
        if self._cluster is not None:
            workers.on_positions = self._cluster.take_positions
        self._workers = workers
        workers.join(
            self._on_worker_message,
            publish=self._publish,
            shared_state=self._shared_state,
            serve=self._serve,
        )
        if self._recordings is not None:
            self._recordings.transfers_of_workers = workers.packets_of
        workers.setServiceParent(self)  # type: ignore[no-untyped-call]

    def add_site(self, service: str, listen: Iterable[ListenAddress], site: Any, *, optional: bool = False) -> None:
        """Have this process serve a TCP site, from the next start on. Its ports open and close with the others.

        :param service: its name in events and in the status, such as "web".
        :param site: an IProtocolFactory with ``close()``, which may return a Deferred.
        :param optional: an address that can't be bound is an event, and the service starts without it.
        """
        sites = (*self._configured.sites, Site(service, tuple(listen), site, optional))
        self._protocols.configured = self._configured = evolve(self._configured, sites=sites)

    def add_observer(self, observer: Any, name: str = "") -> None:
        """Deliver the events to one more observer, from now on. With an event_sink they go there and nowhere else.

        :raise zope.interface.Invalid: it does not keep to its interface.
        """
        if isinstance(self._publisher, Publisher):
            ((default_name, verified),) = _named([observer], IBootObserver)
            self._publisher.add(name or default_name, verified)

    def add_operations(self, operations: Mapping[str, Operation]) -> None:
        """Have the control socket offer more operations, from the next start on."""
        self._operations.update(operations)

    def operations(self) -> Mapping[str, Operation]:
        """Return the operations that the control socket offers to the operator while the service runs."""
        own = (
            self._operations,
            self._observer_plugins.operations(),
            self._plugins.operations(),
            self._lease_operations(),
        )
        return {name: operation for each in own for name, operation in each.items()}

    def _lease_operations(self) -> Mapping[str, Operation]:
        """Return the operations on leases; none for a proxy, even if it has leases from before a reload."""
        if not self.leads and self.settings.assigns_addresses:
            refused = dict.fromkeys(LEASE_OPERATIONS, lambda arguments: self._refuse_as_standby())
            return {**refused, **self._stored_leases()}
        return self._leasing.operations if self._leasing is not None and self.settings.assigns_addresses else {}

    def _stored_leases(self) -> Mapping[str, Operation]:
        store = self._store
        if not IReadableStore.providedBy(store):
            return {}
        four, six = self.settings.dhcp.subnets, self.settings.dhcp6.subnets
        hosts = [host for subnet in four for host in subnet.hosts]
        hosts += [host.reservation() for subnet in six for host in subnet.hosts]
        seconds, shift = self._reactor.seconds, shift_of(self._reactor)
        return StoredLeases(store, lambda: seconds() + shift(), hosts).operations()

    def _refuse_as_standby(self) -> None:
        """Refuse an operation of an operator, which the leader has to do."""
        if not self.leads and self._leadership is not None:
            raise ControlError(self._leadership.refusal)

    @property
    def backends(self) -> Sequence[Named]:
        """The backends, each with its name, in their order."""
        return self._configured.backends

    @property
    def leadership(self) -> Mapping[str, object] | None:
        """See Leadership.record(). None: this server is alone."""
        return None if self._leadership is None else self._leadership.record()

    def _stand_for_leader(self) -> None:
        """Stand for leader, if the configuration needs one: for DHCP or resolvers."""
        if self._leadership is not None and self._configured.uses_resolvers and self._life.state is State.RUNNING:
            self._leadership.start()

    def _lead(self) -> None:
        """Decide from now on, with the leases and orders of the store.

        :raise StateError: they can't be used; then this server is a standby as before.
        """
        self._change_role(leads=True)
        try:
            self._plugins.start()
            self._apply_role()
        except BaseException:
            self._follow()
            raise

    def _follow(self) -> None:
        """Drop all leases and pending requests: another server decides."""
        if self._leasing is not None:
            self._leasing.journal.abandon()
        self._stop_deciding()

    def _resign(self) -> None:
        """Give the leadership up before this server stops, if there is another server that can lead."""
        if self._leadership is not None and self._cluster is not None and self._cluster.others_stand:
            stored = self._stop_deciding() if self.leads else succeed(None)
            self._resigned = self._leadership.stop(stored)

    def _stop_deciding(self) -> "Deferred[Any]":
        """Drop DHCP requests from now on.

        :return: fires when the leases that clients have, and the orders, are stored.
        """
        self._protocols.cancel_resolutions()
        replaced, self._replaced = self._replaced, []
        for protocol in replaced:
            protocol.close()
        # Before _apply_role(): what it calls for a protocol reads the role. See _or_standby().
        self._change_role(leads=False)
        self._apply_role()
        closing = [self._plugins.close_plugins()]
        if self._leasing is not None:
            closing.append(self._leasing.close())
            self._leasing = None
        for _, recorder in self._recorders:
            if isinstance(recorder, BootRecorder):
                recorder.close()
                recorder.start(self._publish)
        return DeferredList(closing, consumeErrors=True)

    def _change_role(self, *, leads: bool) -> None:
        operations = self._lease_operations()
        self.leads = leads
        if isinstance(self._publisher, Publisher):
            self._publisher.replace(self._observing_as_leader(), self._observing())
            self._publisher_of_others.replace(self._observing_as_leader(), self._observing_others())
        self._plugins.offer({} if leads else self._lease_operations(), operations)

    def _apply_role(self) -> None:
        """Give each DHCP port the protocol of the present role: one that answers or, on a standby, one that drops
        requests.

        :raise StateError: a port can't serve, or the content of the store can't be used.
        """
        if self._leadership is None:
            return
        wanted = None
        for binding in self._bindings:
            if isinstance(binding.protocol, StandbyPort if self.leads else DHCPPort):
                wanted = self._protocols.requirements() if wanted is None else wanted
                make = wanted[binding.key].protocol
                assert make is not None
                self._replace_protocol_now(binding, make())
        if self.leads:
            self._plugins.offer(self._lease_operations(), LEASE_OPERATIONS)

    def _replace_protocol_now(self, wanted: WantedSocket, protocol: Any) -> None:
        """Have *protocol* serve a socket that stays open, and close the former one with its pending requests."""
        replaced, wanted.protocol = wanted.protocol, protocol
        wanted.open = self._opener(wanted.key, protocol)
        replaced.close()
        if wanted.port is not None:
            try:
                deliver_to(protocol, wanted.port)
            except ValueError as error:
                raise StateError(f"{key_text(wanted.key)} can't be served: {error}") from error

    def on_message(self, kind: str, values: tuple[Any, ...]) -> bool:
        """Take a message that another process of this server has broadcast. Return false if its kind is unknown."""
        receive = self._receivers.get(kind)
        if receive is not None:
            receive(*values)
        return receive is not None

    def _send_packets(self, number: int, addresses: Collection[str], since: float) -> None:
        """Send the main process the packets of a client that this worker has recorded; see Workers.packets_of()."""
        if self._broadcast is not None and self._recorder is not None:
            self._broadcast("packets", number, self._recorder.transfers_of(addresses, since))

    def _shared_state(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Return the messages that bring a new worker, or another node, to the state of this process; see
        Workers.join()."""
        leased = self._leasing.leased() if self._leasing is not None and self._clients.shares_leases else ()
        # What is known of a machine from its boot comes later, and replaces what its lease says.
        known: list[tuple[str, tuple[Any, ...]]]
        known = [("client", (Client(address, mac, leased=True),)) for address, mac in leased]
        known += [("client", (client,)) for client in self._clients.all()]
        known += [("boot-program", pair) for pair in self._second_stage.all()]
        known += [("generated", pair) for pair in self._generated.all()]
        elsewhere = self._adopted_transfers.elsewhere.all()
        if elsewhere:
            known.append(("elsewhere-known", (elsewhere, self._reactor.seconds())))
        waiting = [binding for binding in self._bindings if binding.state is not SocketState.BOUND]
        return known + [("url", (each.service, each.local_address, False)) for each in waiting if each.service in _WEB]

    def report_datagrams(self) -> None:
        """Publish how many datagrams the UDP ports have received and sent since the last call; call it once a
        second."""
        self._datagram_counts.report([*self._bindings, *self._dropped])

    def lease_counts(self) -> tuple[Mapping[tuple[str, str], int], Mapping[tuple[str], int]]:
        """Return addresses by (subnet, state of the lease), and free addresses by (subnet,). Empty for a proxy."""
        return self._leasing.counts() if self._leasing is not None else ({}, {})

    def images_sent(self) -> list[dict[str, Any]]:
        """Return the images that are sent to many machines now, see Transmission.record()."""
        return self._image_sender.records()

    def images_uploaded(self) -> list[dict[str, Any]]:
        """Return the images that clients of frisbee's protocol upload now, see Upload.record()."""
        return self._uploads.records()

    def cluster_record(self) -> Mapping[str, Any] | None:
        """Return the nodes that share the store, see Cluster.record(); None: this server is alone."""
        return None if self._cluster is None else self._cluster.record()

    def _describe(self) -> Mapping[str, Any]:
        """Return what the other nodes get to know about this one; see Cluster."""
        return {
            "ready": self.ready,
            "draining": self.draining,
            "transfers": len(self._running_anywhere()),
            "serves": [f"{port.service} {address_text(port.address)}" for port in self.summary()],
            "leadership": "" if self._leadership is None else self._leadership.record()["state"],
        }

    def _served_directories(self) -> list[Path]:
        return [backend.root for _, backend in self.backends if provides(backend, IDirectoryBackend)]

    def summary(self) -> list[Listening]:
        """Return the ports that clients can reach."""
        return [
            Listening(
                binding.service, binding.local_address, f"on {binding.device}" if binding.device else "", binding.device
            )
            for binding in self._bindings
            if binding.port is not None and binding.state is SocketState.BOUND
        ]

    def sockets(self) -> tuple[SocketStatus, ...]:
        """Return every socket that is wanted, with its state: bound, or what it waits for."""
        return self._bindings.statuses()

    @property
    def ready(self) -> bool:
        """Whether every wanted socket is bound, except for those that may be absent ([bootfw] optional). False while it
        drains."""
        return self._bindings.ready and self._life.state is not State.DRAINING

    @property
    def draining(self) -> bool:
        """Whether drain() was called, and stopService() not yet."""
        return self._life.state is State.DRAINING

    def privilegedStartService(self) -> None:
        """Bind every port, before the process gives up root.

        :raise CannotListenError: a port can't be bound; then none is.
        :raise StateError: the leases or the state of a plugin can't be read; the control socket can't be opened.
        :raise ConfigError: a subnet is on no network of this host; the certificate can't be used.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._handle(Input.BIND)

    def startService(self) -> None:
        """Bind every port that is not bound yet.

        :raise CannotListenError, StateError, ConfigError: see privilegedStartService().
        """
        self._handle(Input.BIND)
        self._handle(Input.START)

    def drain(self, within: float = DRAIN_WITHIN) -> Draining:
        """Prepare for stopService(), which is next: the service is not ready from now on.

        If another node can lead, it does so from now on. This one takes no new TFTP transfers: their clients repeat the
        request. It still takes HTTP downloads, whose clients give up when a connection is refused. If there are other
        nodes that do not drain, a balancer needs time to move the clients there: until then this one serves new clients
        too, and the other nodes go on with the transfers that do not end in time.

        :param within: seconds that transfers have to end.
        :return: the wait for the transfers and downloads: of this process, or of all where there are such nodes.
        """
        self._handle(Input.DRAIN)
        if self._cluster is not None and self.draining:
            self._resign()
            self._cluster.announce_presence()
        if self._cluster is not None and self._cluster.has_successors:
            return Draining(self._reactor, self._running_anywhere, within, self._cluster.latest_transfer)
        for server in self._shared.file_servers:
            if isinstance(server, TFTPProtocol):
                server.drain()
        return Draining(self._reactor, self._running, within)

    def hand_over_at_stop(self) -> None:
        """Have stopService() end the transfers without an ERROR to their clients: other nodes go on with them."""
        self._hands_over = True

    def _running_anywhere(self) -> Collection[object]:
        """Return the transfers and downloads of all processes of this server."""
        return [*self._running(), *(self._workers.under_way() if self._workers is not None else ())]

    def _running(self) -> set[Any]:
        """Return the transfers and downloads that have not ended. A transfer that has ended is under way while it may
        have to repeat its last packet."""
        return {each for each in self._under_way() if not isinstance(each, Transfer) or each.is_running}

    def stopService(self) -> "Deferred[None]":
        """End every transfer, close every port.

        :return: fires when everything is closed. Until then, or until the next start, it is the same Deferred.
        """
        self._handle(Input.STOP)
        return self._stopped

    def _handle(self, event: Input) -> None:
        """Give the table one input, and carry out its actions."""
        self._life.run(self._actions, event)

    def _run(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._stand_for_leader()

    def _close(self) -> None:
        self._protocols.cancel_resolutions()
        self._retired.forget()
        self._prepared = None
        self._prepare_handing_over()
        stopping: Deferred[Any] = maybeDeferred(super().stopService)
        if self._cluster is not None:
            cluster = self._cluster
            stopping.addBoth(lambda _: cluster.leave())
        # Also what an earlier stop is still closing: a service may be stopped, started and stopped again at once.
        closing = [self._drained, stopping]
        self.report_datagrams()
        self._datagram_counts.clear()
        replaced, self._replaced = self._replaced, []
        closing += [maybeDeferred(protocol.close) for protocol in replaced]
        dropped, self._dropped = self._dropped, []
        opened = [each for each in (*self._bindings.close(), *dropped) if each.port is not None]
        self._closing = [each.port for each in opened]
        self._urls.clear()
        for each in opened:
            closing += [maybeDeferred(each.protocol.close), maybeDeferred(each.port.stopListening)]
            self._publish(ListenerClosed(self._reactor.seconds(), each.service, each.local_address))
        self._uploads.close()
        self._image_sender.close()
        self._admission.stop()
        # The leadership is given up last: another server may lead when all decisions of this one are stored.
        decided = [self._plugins.close()]
        closing += [self._backend_plugins.close(), self._observer_plugins.close()]
        if self._leasing is not None:
            decided.append(self._leasing.close())
            self._leasing = None
        decisions = DeferredList(decided, consumeErrors=True)
        if self._leadership is None:
            closing.append(decisions)
        else:
            closing += [self._resigned, self._leadership.stop(decisions)]
        self._protocols.certificate = None
        stopped = self._stopped = Deferred()
        self._drained = DeferredList(closing).addCallback(self._has_drained, stopped)

    def _prepare_handing_over(self) -> None:
        """Send other nodes the positions of the transfers that they go on with, and end these without an ERROR."""
        hands_over, self._hands_over = self._hands_over, False
        if self._cluster is not None and self._cluster.hand_over():
            hands_over = True
        if self._workers is not None:
            self._workers.hands_over = hands_over
        if hands_over:
            for server in self._shared.file_servers:
                if isinstance(server, TFTPProtocol):
                    server.hand_over()

    def _has_drained(self, results: Any, stopped: "Deferred[None]") -> None:
        """Finish a stop: everything is closed that it and earlier ones have closed."""
        # If another stop has begun since, CLOSED is given when that one is complete.
        if stopped is self._stopped:
            self._handle(Input.CLOSED)
        stopped.callback(None)

    def _release(self) -> None:
        self._closing = []
        self._kernel.close()
        self._publisher.flush()
        if self._holds_clock:
            self._holds_clock = False
            self._reactor.let_go()

    def take_over(self, adopted: Sequence[AdoptedTransfer], stored: Sequence[tuple[Address, int]] = ()) -> None:
        """Continue transfers that another process has begun: their clients' packets arrive here.

        :param stored: see AdoptedTransfers.
        """
        self._adopted_transfers.acknowledge_again(stored)
        for number, tftp in enumerate(self._tftps()):
            tftp.take_over([transfer for transfer in adopted if transfer.port == number])

    def positions(self) -> list[tuple[Address, int]]:
        """See TFTPProtocol."""
        return [position for tftp in self._tftps() for position in tftp.positions()]

    def _tftps(self) -> list[TFTPProtocol]:
        opened = (binding.protocol for binding in self._bindings if binding.port is not None)
        return [protocol for protocol in opened if isinstance(protocol, TFTPProtocol)]

    def _bind(self) -> None:
        """Open every port or none: a service that runs without one of its ports is hard to diagnose.

        Interfaces and addresses that do not exist yet are waited for.
        """
        self._holds_clock = self._holds_clock or hold(self._reactor)
        closing, self._closing = self._closing, []
        for port in closing:
            finish_closing(port)
        if self._leadership is not None:
            self._change_role(leads=False)
        try:
            self._observer_plugins.start()
            self._backend_plugins.start()
            if self.leads:
                self._plugins.start()
            for required in self._protocols.requirements().values():
                self._bindings.add(self._wanted_socket(required, self._protocols.certificate))
            if self._control is not None:
                optional = {**self._operations, **self._observer_plugins.operations()}
                self._plugins.listen(self._control, self._lease_operations() or None, optional)
            self._check_backends()
        except BaseException:
            self._handle(Input.FAILED)
            self._publisher.flush()  # the reactor may not turn again, and the events say why
            raise
        self._bindings.start()
        self._handle(Input.BOUND)

    def _check_backends(self) -> None:
        for name, backend in self.backends:
            problem = backend.problem() if ISelfChecking.providedBy(backend) else ""
            if problem:
                self._publish(BackendProblem(self._reactor.seconds(), name, problem))

    def _wanted_socket(
        self, required: Requirement, certificate: Any, beside: Sequence[WantedSocket] = ()
    ) -> WantedSocket:
        """Return a socket that is bound while its interface and address exist.

        :param certificate: for HTTPS.
        :param beside: sockets of the same port that it will replace.
        """
        service, address, device = required.key
        protocol = None if required.protocol is None else required.protocol()
        opens = None if required.protocol is None else self._opener(required.key, protocol, certificate, beside)
        return WantedSocket(
            service,
            address,
            device,
            required.optional,
            opens,
            required.may_be_held,
            required.missing,
            self._update_url,
            protocol,
        )

    def _opener(
        self, key: SocketKey, protocol: Any, certificate: Any = None, beside: Sequence[WantedSocket] = ()
    ) -> Callable[[], Any]:
        service, address, device = key
        return partial(self._open, beside, PortSpec(service, address, protocol, device, certificate))

    def _open(self, replaced: Sequence[WantedSocket], spec: PortSpec) -> Any:
        """Open a port by SocketSource.listen(), beside those of *replaced* that are open."""
        if replaced and IReactorFDSet.providedBy(self._reactor):
            present = [each for each in (*self._bindings, *self._dropped) if each in replaced]
            spec = evolve(spec, beside=[sock for each in present for sock in each.sockets()])
        return self._sockets.listen(spec)

    def _update_url(self, wanted: WantedSocket) -> None:
        if wanted.service in _WEB:
            address = wanted.local_address[0], wanted.local_address[1]
            self._urls.update(wanted.service, address, wanted.state is SocketState.BOUND)

    def _serve(self, service: str, address: ListenAddress, sock: Any, publish: Any) -> tuple[Any, Any]:
        """See Workers.join(). There is no frame cache: the worker will have its own."""
        protocols = self._protocols
        protocol: Any = (
            protocols.tftp(address, publish, None) if service == "tftp" else protocols.http(service, publish)
        )
        spec = PortSpec(service, address, protocol, certificate=protocols.certificate)
        return protocol, listen_on(self._reactor, spec, sock)

    def _new_leasing(self, settings: Settings) -> Leasing:
        """Return the leasing that IPv4 and IPv6 share: they have one store."""
        if self._leasing is None:
            self._verify_store()
            dhcp, dhcp6, standing = settings.dhcp, settings.dhcp6, self._shared.standing
            self._leasing = Leasing(self._reactor, self._store, dhcp, self._publish, dhcp6, standing=standing)
            if self._cluster is not None:
                # Clients that have selected an offer of the former leader go on with this one.
                self._leasing.server.own_addresses.update(self._cluster.addresses_of_others())
        return self._leasing


@define(eq=False)
class Prepared:
    """A configuration that a service can use at once: its plugins are started, and its sockets are open."""

    protocols: Protocols
    opened: Sequence[WantedSocket]
    wanted: Mapping[SocketKey, Requirement]
    waits_again: bool
    """Whether ``opened`` has the networks and interfaces to wait for, which replace the present ones."""
    replacing: Mapping[SocketKey, DHCPPort]
    """New protocols for sockets that stay open."""
    made_leasing: bool
    """Whether the leases were loaded for it, so that abandon() has to drop them."""


def _of_its_phase(answer: BootFile | BootMenu, request: BootRequest) -> BootFile | Unsuitable:
    """See Fit. Accept only an answer for the phase of the request, which is not one of DHCP."""
    if isinstance(answer, BootFile) and only_phase(answer.name) == request.phase:
        return answer
    answer_name = "the menu" if isinstance(answer, BootMenu) else f'"{answer.name}"'
    return Unsuitable(f"{answer_name} is for DHCP, and not for a boot program that asks by {request.phase}")


def _changed_modes(one: Settings, other: Settings) -> Iterable[str]:
    """Return the services of DHCP whose mode differs."""
    return (name for name in ("dhcp", "dhcp6") if getattr(one, name).mode != getattr(other, name).mode)


def _dhcp_differs(one: Settings, other: Settings) -> bool:
    return not (same_values(one.dhcp, other.dhcp) and same_values(one.dhcp6, other.dhcp6))


def _named(objects: Sequence[object], interface: type[Interface]) -> list[Named]:
    """Return (name, object) for each, with its interfaces verified."""
    named = [each if isinstance(each, tuple) else (type(each).__name__, each) for each in objects]
    for _, each in named:
        for declared in (interface, *abilities_of(each)):
            verifyObject(declared, each)
    return named


def _default(name: str, group: str, reactor: Any) -> Any:
    return configure(load(name, group), {}, PluginContext(reactor, Path.cwd()))
