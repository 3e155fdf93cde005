"""Builds a BootService from a configuration: loads, configures and verifies the plugins."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen
from twisted.internet.interfaces import IReactorProcess

from bootfw import plugins
from bootfw.ability import provides
from bootfw.config import defaults
from bootfw.config.configuration import Configuration, PluginChoice, read_config
from bootfw.config.schema import KeyPath
from bootfw.config.settings import HTTPSettings, Settings
from bootfw.config.state import CONTROL_SOCKET, state_directory
from bootfw.dhcp.expand import LISTEN_KEYS, placeholders
from bootfw.errors import ConfigError, PluginError
from bootfw.interfaces import IAttemptStore, IListableResolver, IOrderStore
from bootfw.plugins import Named

if TYPE_CHECKING:
    from bootfw.net.inheritedsockets import InheritedSocket
    from bootfw.net.listening import SocketSource
    from bootfw.net.workers.supervisor import Workers
    from bootfw.service import BootService

WORKER_MODULE = "bootfw.cli.worker"
"""The main module of a worker process. It is named here, since this process does not import it."""


@frozen
class Table:
    """A plugin, and the table of the configuration that it was created from."""

    section: str
    use: str
    options: Mapping[str, Any]
    plugin: Any = field(eq=False)
    machines: tuple[Mapping[str, Any], ...] = ()
    """The ``[[machine]]`` tables, if the plugin uses them."""


@frozen
class Parts:
    """The settings and plugins of a BootService."""

    settings: Settings
    backends: tuple[Named, ...]
    resolvers: tuple[Named, ...]
    watchdog: Named
    observers: tuple[Named, ...]
    store: Named
    attempts: Named
    """The store of boot attempts."""
    configuration: Configuration
    plugin_tables: tuple[Table, ...]
    """Every plugin, with the table of its options."""
    orders: Any
    """The IOrderStore of the resolvers; None: they have none."""

    def tables(self, section: str) -> Sequence[Table]:
        """Return the tables of one section, to compare them with those of other Parts."""
        return [table for table in self.plugin_tables if table.section == section]

    def service(self, reactor: Any, inherited: "Sequence[InheritedSocket]" = ()) -> "BootService":
        """Return the service, not started.

        :param inherited: sockets that a service manager has opened. If one of them is for TFTP or HTTP, this process
            serves the files: each worker would need a socket of its own.
        """
        # Most commands of the command line only need the plugins. What serves takes half a second to import.
        from bootfw.net.inheritedsockets import InheritedSockets, serve_files
        from bootfw.net.listening import OwnSockets
        from bootfw.service import BootService

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
            control=state_directory(self.settings.state_dir) / CONTROL_SOCKET,
            sockets=sockets,
            broadcast=workers.broadcast if workers is not None else None,
            attempts=self.attempts[1],
            recordings=state_directory(self.settings.state_dir) / "recordings",
            orders=self.orders,
        )
        if workers is not None:
            service.add_workers(workers)
        return service

    def _workers(self, reactor: Any) -> "Workers | None":
        """Return the worker processes that serve the files; None: this process serves them."""
        from bootfw.net.workers.supervisor import Workers, default_worker_count

        settings = self.settings
        # The kernel would spread the clients of a group over the workers, each with a sender of its own.
        count = 1 if settings.tftp.multicast_groups else settings.workers or default_worker_count()
        serves = settings.tftp.listen or settings.http.listen
        if count == 1 or not serves or not IReactorProcess.providedBy(reactor):
            return None
        return Workers(reactor, count, WORKER_MODULE, evolve(self.configuration, settings=settings))


def load_parts(
    path: Path | str | None, environ: Mapping[str, str], reactor: Any, running: Parts | None = None
) -> Parts:
    """Call load_config() and assemble(), and report the errors of settings and plugins together.

    :param running: see assemble().
    :raise ConfigErrors: everything that is wrong.
    """
    configuration, errors = read_config(path, environ)
    parts = _assembled(configuration, reactor, errors, running=running)
    configuration.refuse(errors)
    assert parts is not None
    return parts


def assemble(
    configuration: Configuration, reactor: Any, orders: "IOrderStore | None" = None, running: Parts | None = None
) -> Parts:
    """Load, configure and verify every plugin, and return the parts of a service.

    Sections that the configuration does not have get the plugins of :mod:`bootfw.config.defaults`.

    :param orders: the store for orders of resolvers; None: the configured store.
    :param running: at a reload, the parts of the running service. A plugin whose table has not changed is reused.
    :raise ConfigErrors: everything that is wrong with the plugins.
    """
    errors: list[ConfigError] = []
    parts = _assembled(configuration, reactor, errors, orders, running)
    configuration.refuse(errors)
    assert parts is not None
    return parts


def _assembled(
    configuration: Configuration,
    reactor: Any,
    errors: list[ConfigError],
    orders: "IOrderStore | None" = None,
    running: Parts | None = None,
) -> Parts | None:
    """Assemble the parts, see assemble(); None: there are errors. Errors that follow from others are left out.

    :param errors: the errors of the settings; those of the plugins are added.
    """
    context = _context(configuration, reactor, running)
    store_errors: list[ConfigError] = []
    kept = list(running.plugin_tables) if running is not None else []
    plugin_tables: list[Table] = []
    stores = _configured("store", _chosen_store(configuration), context, store_errors, kept, plugin_tables)
    if running is not None:
        orders = running.orders
    if orders is not None:
        context = evolve(context, orders=orders)
    elif stores:
        context = evolve(context, orders=_order_store(stores[0], context)[1])
    http_is_valid = not any(error.path[:1] == ("http",) for error in errors)

    def plugins_of(section: str, default: Callable[[], defaults.DefaultPlugins]) -> list[Named]:
        chosen = configuration.plugins.get(section)
        return _configured(
            section, _default(default()) if chosen is None else chosen, context, errors, kept, plugin_tables
        )

    backends = plugins_of("backend", defaults.backends)
    resolvers = plugins_of("resolver", lambda: defaults.resolvers(backends))
    if configuration.source is not None and http_is_valid:  # without a file, HTTP is on if its port is free
        for choice in configuration.plugins.get("resolver", ()):
            errors += _not_served(choice.options, choice.path, configuration.settings.http)
    watchdogs = plugins_of("watchdog", lambda: defaults.WATCHDOG)
    observers = plugins_of("observer", lambda: defaults.OBSERVERS)
    errors += store_errors
    if configuration.settings.http.https_listen:
        from bootfw.net.http.tls import tls  # only for HTTPS

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
        running.attempts if running is not None else _attempt_store(stores[0], context),
        configuration,
        tuple(plugin_tables),
        context.orders,
    )


def lease_store(configuration: Configuration) -> Named:
    """Return the configured store alone, without a reactor, for a program that is not the server.

    :raise ConfigErrors: what is wrong with it.
    """
    errors: list[ConfigError] = []
    stores = _configured("store", _chosen_store(configuration), _context(configuration, None), errors)
    configuration.refuse(errors)
    return stores[0]


def order_store(configuration: Configuration) -> Named:
    """Return the store of orders alone, without a reactor, for a program that is not the server.

    :raise ConfigErrors: what is wrong with the configured store.
    """
    return _order_store(lease_store(configuration), _context(configuration, None))


def attempt_store(configuration: Configuration) -> Named:
    """Return the store of boot attempts alone, without a reactor, for a program that is not the server.

    :raise ConfigErrors: what is wrong with the configured store.
    """
    return _attempt_store(lease_store(configuration), _context(configuration, None))


def _chosen_store(configuration: Configuration) -> Sequence[PluginChoice]:
    return configuration.plugins.get("store", _default(defaults.STORE))


def _order_store(store: Named, context: plugins.PluginContext) -> Named:
    """Return *store*, or the default store if *store* can't store orders."""
    if IOrderStore.providedBy(store[1]):
        return store
    ((use, options),) = defaults.STORE
    return use, plugins.configure(plugins.load(use, plugins.group_of("store")), options, context)


def _attempt_store(store: Named, context: plugins.PluginContext) -> Named:
    """Return *store*, or the default store if *store* can't store boot attempts."""
    if IAttemptStore.providedBy(store[1]):
        return store
    ((use, options),) = defaults.STORE
    return use, plugins.configure(plugins.load(use, plugins.group_of("store")), options, context)


def build(configuration: Configuration, reactor: Any) -> "BootService":
    """Return the service that the configuration describes, not started.

    :raise ConfigErrors: everything that is wrong with the plugins.
    """
    from bootfw.net.clock import monotonic

    reactor = monotonic(reactor)
    parts = assemble(configuration, reactor)
    settings, _ = settle(configuration)
    return evolve(parts, settings=settings).service(reactor)


def settle(configuration: Configuration) -> tuple[Settings, Mapping[str, str]]:
    """Return (settings whose default ports can be bound on this host, service -> a note for the operator)."""
    return defaults.bindable_settings(
        configuration.settings, configuration.explicit_keys, fall_back=configuration.source is None
    )


def _context(configuration: Configuration, reactor: Any, running: Parts | None = None) -> plugins.PluginContext:
    state = state_directory((running or configuration).settings.state_dir)
    machines = tuple(machine.host for machine in configuration.settings.machine)
    return plugins.PluginContext(reactor, configuration.directory, state, machines=machines)


def _configured(
    section: str,
    choices: Sequence[PluginChoice],
    context: plugins.PluginContext,
    errors: list[ConfigError],
    kept: Sequence[Table] = (),
    plugin_tables: list[Table] | None = None,
) -> list[Named]:
    """Create the plugins of a section; return (name, plugin) for each. Equal names get their position.

    :param errors: the errors that are found are added to it.
    :param kept: plugins to reuse for equal tables, each once.
    :param plugin_tables: the plugins and their tables are added to it.
    """
    unused = list(kept)
    named: list[Named] = []
    uses = Counter(choice.use for choice in choices)
    for choice in choices:
        try:
            plugin = plugins.load(choice.use, plugins.group_of(section))
        except PluginError as error:
            errors.append(error.under(*choice.path, "use"))
            continue
        try:
            machines = context.machines if getattr(getattr(plugin, "cls", None), "reads_machines", False) else ()
            table = Table(section, choice.use, choice.options, None, machines)
            if table in unused:
                table = unused.pop(unused.index(table))
            else:
                table = evolve(table, plugin=plugins.configure(plugin, choice.options, context))
        except ConfigError as error:
            errors += error.under(*choice.path).each
            continue
        if plugin_tables is not None:
            plugin_tables.append(table)
        named.append((choice.use if uses[choice.use] == 1 else f"{choice.use}[{choice.path[-1]}]", table.plugin))
    return named


def _not_served(value: Any, key_path: KeyPath, http: HTTPSettings) -> Iterator[ConfigError]:
    """Yield an error for each boot file name with ``{http}`` or ``{https}`` if we do not serve that."""
    if isinstance(value, Mapping | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _not_served(item, (*key_path, key), http)
    elif isinstance(value, str):
        served = {"http": http.listen, "https": http.https_listen}
        for name in placeholders(value):
            if not served.get(name, True):
                key, port = LISTEN_KEYS[name], {"http": 8069, "https": 8443}[name]
                yield ConfigError(f'{{{name}}} needs [http] {key} = ["0.0.0.0:{port}"] or the like', key_path)


def _default(choices: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[PluginChoice, ...]:
    return tuple(PluginChoice(use, options, ("default", index)) for index, (use, options) in enumerate(choices))


def files_by_tftp(parts: Parts) -> Iterator[tuple[str, str]]:
    """Yield (resolver, boot file) for the first boot file of each resolver that clients load by TFTP from here."""
    if not parts.settings.answers_dhcp:
        return
    for name, resolver in parts.resolvers:
        for listed in resolver.boot_files() if provides(resolver, IListableResolver) else ():
            file = listed.file.name
            if "://" not in file and not file.startswith(("{http}", "{https}")) and not listed.file.server:
                yield name, file
                break
