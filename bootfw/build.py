"""Builds what a configuration describes: the plugins, loaded and configured, and a BootService of them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from twisted.internet.interfaces import IReactorProcess

from bootfw import plugins
from bootfw.config import defaults
from bootfw.config.configuration import Choice, Configuration, read_config
from bootfw.config.schema import KeyPath
from bootfw.config.settings import HTTPSettings, Settings
from bootfw.config.state import state_directory
from bootfw.dhcp.expand import LISTEN_KEYS, placeholders
from bootfw.errors import ConfigError, PluginError
from bootfw.interfaces import IAttemptStore, IOrderStore
from bootfw.net.clock import monotonic
from bootfw.net.control import SOCKET
from bootfw.net.http.tls import tls
from bootfw.net.inheritedsockets import InheritedSocket, InheritedSockets, serve_files
from bootfw.net.listening import OwnSockets, SocketSource
from bootfw.net.workers.supervisor import Workers, default_worker_count
from bootfw.service import BootService, Named

WORKER_MODULE = "bootfw.cli.worker"
"""The program of a worker. By its name, because it is imported by another process only."""


@frozen
class Parts:
    """What a BootService is made of."""

    settings: Settings
    backends: tuple[Named, ...]
    resolvers: tuple[Named, ...]
    watchdog: Named
    observers: tuple[Named, ...]
    store: Named
    attempts: Named
    """The store of boot attempts."""
    configuration: Configuration

    def service(self, reactor: Any, inherited: Sequence[InheritedSocket] = ()) -> BootService:
        """The service, not started.

        :param inherited: sockets that a service manager opened. Files are served by this process if one of them is for
            TFTP or HTTP: workers need a socket each.
        """
        workers = None if serve_files(inherited) else self._workers(reactor)
        sockets: SocketSource | None = workers
        if inherited:
            sockets = InheritedSockets(reactor, inherited, workers or OwnSockets(reactor))
        service = BootService(
            reactor,
            settings=self.settings,
            backends=self.backends,
            resolvers=self.resolvers,
            watchdog=self.watchdog[1],
            observers=self.observers,
            store=self.store[1],
            control=state_directory(self.settings.state_dir) / SOCKET,
            sockets=sockets,
            broadcast=workers.broadcast if workers is not None else None,
            attempts=self.attempts[1],
            recordings=state_directory(self.settings.state_dir) / "recordings",
        )
        if workers is not None:
            service.add_workers(workers)
        return service

    def _workers(self, reactor: Any) -> Workers | None:
        """The processes that serve the files; None: this process does so."""
        settings = self.settings
        count = settings.workers or default_worker_count()
        serves = settings.tftp.listen or settings.http.listen
        if count == 1 or not serves or not IReactorProcess.providedBy(reactor):
            return None
        return Workers(reactor, count, WORKER_MODULE, evolve(self.configuration, settings=settings))


def load_parts(path: Path | str | None, environ: Mapping[str, str], reactor: Any) -> Parts:
    """load_config() and assemble() in one, so that errors of settings and of plugins are reported together.

    :raise ConfigErrors: everything that is wrong.
    """
    configuration, errors = read_config(path, environ)
    parts = _assembled(configuration, reactor, errors)
    configuration.refuse(errors)
    assert parts is not None
    return parts


def assemble(configuration: Configuration, reactor: Any, orders: IOrderStore | None = None) -> Parts:
    """Everything a service is made of: every plugin loaded, configured and verified.

    What the configuration leaves out comes from :mod:`bootfw.config.defaults`.

    :param orders: where resolvers keep orders for machines; None: in the configured store.
    :raise ConfigErrors: everything that is wrong with the plugins.
    """
    errors: list[ConfigError] = []
    parts = _assembled(configuration, reactor, errors, orders)
    configuration.refuse(errors)
    assert parts is not None
    return parts


def _assembled(
    configuration: Configuration, reactor: Any, errors: list[ConfigError], orders: IOrderStore | None = None
) -> Parts | None:
    """See assemble(). Errors are added to *errors*, which has those of the settings already; None: there are errors.

    Errors that follow from other errors are left out.
    """
    context = _context(configuration, reactor)
    store_errors: list[ConfigError] = []
    stores = _made("store", _chosen_store(configuration), context, store_errors)
    if orders is not None:
        context = evolve(context, orders=orders)
    elif stores:
        context = evolve(context, orders=_order_store(stores[0], context)[1])
    http_is_valid = not any(error.path[:1] == ("http",) for error in errors)

    def made(section: str, default: Callable[[], defaults.Chosen]) -> list[Named]:
        chosen = configuration.plugins.get(section)
        return _made(section, _default(default()) if chosen is None else chosen, context, errors)

    backends = made("backend", defaults.backends)
    resolvers = made("resolver", lambda: defaults.resolvers(backends))
    if configuration.source is not None and http_is_valid:  # else what is served is found out at the start
        for choice in configuration.plugins.get("resolver", ()):
            errors += _not_served(choice.options, choice.place, configuration.settings.http)
    watchdogs = made("watchdog", lambda: defaults.WATCHDOG)
    observers = made("observer", lambda: defaults.OBSERVERS)
    errors += store_errors
    if configuration.settings.http.https_listen:
        try:
            tls().load(configuration.settings.http)
        except ConfigError as error:
            errors += error.under("http").each
    if errors:
        return None
    return Parts(
        configuration.settings,
        tuple(backends),
        tuple(resolvers),
        watchdogs[0],
        tuple(observers),
        stores[0],
        _attempt_store(stores[0], context),
        configuration,
    )


def lease_store(configuration: Configuration) -> Named:
    """The store alone, without a reactor, for a program that is not the server.

    :raise ConfigErrors: what is wrong with it.
    """
    errors: list[ConfigError] = []
    made = _made("store", _chosen_store(configuration), _context(configuration, None), errors)
    configuration.refuse(errors)
    return made[0]


def order_store(configuration: Configuration) -> Named:
    """The store of the orders alone, without a reactor, for a program that is not the server.

    :raise ConfigErrors: what is wrong with the configured store.
    """
    return _order_store(lease_store(configuration), _context(configuration, None))


def attempt_store(configuration: Configuration) -> Named:
    """The store of the boot attempts alone, without a reactor, for a program that is not the server.

    :raise ConfigErrors: what is wrong with the configured store.
    """
    return _attempt_store(lease_store(configuration), _context(configuration, None))


def _chosen_store(configuration: Configuration) -> Sequence[Choice]:
    return configuration.plugins.get("store", _default(defaults.STORE))


def _order_store(store: Named, context: plugins.PluginContext) -> Named:
    """*store*, or the default where that keeps no orders."""
    if IOrderStore.providedBy(store[1]):
        return store
    ((use, options),) = defaults.STORE
    return use, plugins.configure(plugins.load(use, plugins.group_of("store")), options, context)


def _attempt_store(store: Named, context: plugins.PluginContext) -> Named:
    """*store*, or the default where that keeps no boot attempts."""
    if IAttemptStore.providedBy(store[1]):
        return store
    ((use, options),) = defaults.STORE
    return use, plugins.configure(plugins.load(use, plugins.group_of("store")), options, context)


def build(configuration: Configuration, reactor: Any) -> BootService:
    """The service that the configuration describes, not started.

    :raise ConfigErrors: everything that is wrong with the plugins.
    """
    reactor = monotonic(reactor)
    parts = assemble(configuration, reactor)
    settings, _ = settle(configuration)
    return evolve(parts, settings=settings).service(reactor)


def settle(configuration: Configuration) -> tuple[Settings, Mapping[str, str]]:
    """The settings that work on this host, found by trying the ports; and notes: service -> what to say about it."""
    return defaults.settled(configuration.settings, configuration.given, fall_back=configuration.source is None)


def _context(configuration: Configuration, reactor: Any) -> plugins.PluginContext:
    state = state_directory(configuration.settings.state_dir)
    return plugins.PluginContext(reactor, configuration.directory, state)


def _made(
    section: str, choices: Sequence[Choice], context: plugins.PluginContext, errors: list[ConfigError]
) -> list[Named]:
    """The plugins' products, each with its name; equal names get their position."""
    made = []
    uses = Counter(choice.use for choice in choices)
    for choice in choices:
        try:
            plugin = plugins.load(choice.use, plugins.group_of(section))
        except PluginError as error:
            errors.append(error.under(*choice.place, "use"))
            continue
        try:
            thing = plugins.configure(plugin, choice.options, context)
        except ConfigError as error:
            errors += error.under(*choice.place).each
            continue
        made.append((choice.use if uses[choice.use] == 1 else f"{choice.use}[{choice.place[-1]}]", thing))
    return made


def _not_served(value: Any, place: KeyPath, http: HTTPSettings) -> Iterator[ConfigError]:
    """An error for each name of a boot file that needs our own HTTP or HTTPS where it is off."""
    if isinstance(value, Mapping | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _not_served(item, (*place, key), http)
    elif isinstance(value, str):
        served = {"http": http.listen, "https": http.https_listen}
        for name in placeholders(value):
            if not served.get(name, True):
                key, port = LISTEN_KEYS[name], {"http": 8069, "https": 8443}[name]
                yield ConfigError(f'{{{name}}} needs [http] {key} = ["0.0.0.0:{port}"] or the like', place)


def _default(choices: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[Choice, ...]:
    return tuple(Choice(use, options, ("default", index)) for index, (use, options) in enumerate(choices))
