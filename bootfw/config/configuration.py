"""The configuration: a TOML file and the environment become Settings and the choice of plugins, and these a service.

Everything that is wrong is said at once, each with its place and with what would be right.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from twisted.internet.interfaces import IReactorProcess

from bootfw import plugins
from bootfw.config import defaults, environment
from bootfw.config.schema import Path as Place
from bootfw.config.schema import mismatches, unknown_keys
from bootfw.config.sections import PLUGIN_LISTS, PLUGIN_TABLES, SECTIONS, TABLE_LISTS, read_section, read_tables
from bootfw.config.settings import HTTPSettings, Settings
from bootfw.config.state import state_directory
from bootfw.dhcp.expand import LISTEN_KEYS, placeholders
from bootfw.errors import BootfwError, ConfigError, PluginError, format_path
from bootfw.net.clock import monotonic
from bootfw.net.control import SOCKET
from bootfw.net.http.tls import tls
from bootfw.net.workers.supervisor import Workers, usual_number
from bootfw.personas.rule import Rule
from bootfw.personas.table import stock
from bootfw.service import BootService


class ConfigErrors(BootfwError):
    """Everything that is wrong with a configuration.

    :param lines: one for each error, complete with file or variable and place.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


@frozen
class Choice:
    """A plugin that the configuration names."""

    use: str
    options: Mapping[str, Any]
    place: Place
    """Of its table: ``("resolver", 1)``."""


@frozen
class Configuration:
    """What the file and the environment say, read and checked as far as that goes without the plugins."""

    settings: Settings
    plugins: Mapping[str, tuple[Choice, ...]]
    """Section -> what it names, such as "resolver"; a section that is not there is left to the defaults."""
    directory: Path
    """Relative paths are relative to it."""
    source: Path | None
    """The file; None: there is none."""
    origins: Mapping[Place, str]
    """What came from the environment: place -> variable."""
    given: frozenset[Place]
    """The keys of settings that were given, such as ``("tftp", "listen")``."""

    def where(self, error: ConfigError) -> str:
        """One line: the error with its file or variable, and its place."""
        for length in range(len(error.path), 0, -1):
            variable = self.origins.get(error.path[:length])
            if variable:
                return f"{format_path((variable, *error.path[length:]))}: {error.message}"
        return f"{self.source}: {error}" if self.source else str(error)


Named = tuple[str, Any]
"""What a plugin made, and the name that the log calls it by."""


@frozen
class Parts:
    """What a BootService is made of."""

    settings: Settings
    backends: tuple[Named, ...]
    resolvers: tuple[Named, ...]
    watchdog: Named
    observers: tuple[Named, ...]
    leases: Named
    configuration: Configuration

    def service(self, reactor: Any) -> BootService:
        """The service, not started."""
        return BootService(
            reactor,
            settings=self.settings,
            backends=self.backends,
            resolvers=self.resolvers,
            watchdog=self.watchdog[1],
            observers=self.observers,
            leases=self.leases[1],
            control=state_directory(self.settings.state_dir) / SOCKET,
            crew=self._workers(reactor),
        )

    def _workers(self, reactor: Any) -> Workers | None:
        """Who serves the files; None: the same process."""
        settings = self.settings
        count = settings.workers or usual_number()
        serves = settings.tftp.listen or settings.http.listen
        if count == 1 or not serves or not IReactorProcess.providedBy(reactor):
            return None
        return Workers(reactor, count, evolve(self.configuration, settings=settings))


def load_config(path: Path | str | None, environ: Mapping[str, str]) -> Configuration:
    """Read the file, if there is one, and the ``BOOTFW_`` variables, which win over it.

    :raise ConfigErrors: everything that is wrong, as far as that can be found without the plugins; see load_parts().
    """
    configuration, errors, wrong_variables = _loaded(path, environ)
    _raise(configuration, errors, wrong_variables)
    return configuration


def load_parts(path: Path | str | None, environ: Mapping[str, str], reactor: Any) -> Parts:
    """What load_config() and assemble() do, but what is wrong with settings and plugins is said together.

    :raise ConfigErrors: everything that is wrong.
    """
    configuration, errors, wrong_variables = _loaded(path, environ)
    parts = _assembled(configuration, reactor, errors)
    _raise(configuration, errors, wrong_variables)
    assert parts is not None
    return parts


def _raise(configuration: Configuration, errors: Sequence[ConfigError], variables: Sequence[ConfigError] = ()) -> None:
    lines = [*map(str, variables), *map(configuration.where, errors)]
    if lines:
        raise ConfigErrors(lines)


def _loaded(
    path: Path | str | None, environ: Mapping[str, str]
) -> tuple[Configuration, list[ConfigError], list[ConfigError]]:
    """The configuration, with defaults in place of what is wrong; and the errors of the file, and of variables.

    :raise ConfigErrors: the file can't be read at all.
    """
    source = None if path is None else Path(path)
    document = {} if source is None else _read(source)
    origins, wrong_variables = environment.apply(environ, document)
    errors: list[ConfigError] = list(unknown_keys(document, [*SECTIONS, *TABLE_LISTS, *PLUGIN_LISTS, *PLUGIN_TABLES]))
    directory = Path.cwd() if source is None else source.absolute().parent
    settings = _settings(document, directory, errors)
    chosen = {section: _choices(section, document[section], errors) for section in PLUGIN_LISTS if section in document}
    chosen |= {section: _only(section, document[section], errors) for section in PLUGIN_TABLES if section in document}
    configuration = Configuration(settings, chosen, directory, source, origins, frozenset(_given(document)))
    return configuration, errors, wrong_variables


def assemble(configuration: Configuration, reactor: Any) -> Parts:
    """Everything a service is made of: every plugin loaded, configured and verified.

    What the configuration leaves out comes from :mod:`bootfw.config.defaults`.

    :raise ConfigErrors: everything that is wrong with the plugins.
    """
    errors: list[ConfigError] = []
    parts = _assembled(configuration, reactor, errors)
    _raise(configuration, errors)
    assert parts is not None
    return parts


def _assembled(configuration: Configuration, reactor: Any, errors: list[ConfigError]) -> Parts | None:
    """See assemble(). What is wrong is added to *errors*, where the settings' own stand already; None: there are some.

    What follows from another error is left out.
    """
    context = _context(configuration, reactor)
    http_is_right = not any(error.path[:1] == ("http",) for error in errors)

    def made(section: str, default: Callable[[], defaults.Chosen]) -> list[Named]:
        chosen = configuration.plugins.get(section)
        return _made(section, _default(default()) if chosen is None else chosen, context, errors)

    backends = made("backend", defaults.backends)
    resolvers = made("resolver", lambda: defaults.resolvers(backends))
    if configuration.source is not None and http_is_right:  # else what is served is found out at the start
        for choice in configuration.plugins.get("resolver", ()):
            errors += _not_served(choice.options, choice.place, configuration.settings.http)
    watchdogs = made("watchdog", lambda: defaults.WATCHDOG)
    observers = made("observer", lambda: defaults.OBSERVERS)
    leases = made("leases", lambda: defaults.LEASES)
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
        leases[0],
        configuration,
    )


def lease_store(configuration: Configuration) -> Named:
    """The store of the leases alone, for a program that is not the server. It has no reactor.

    :raise ConfigErrors: what is wrong with it.
    """
    errors: list[ConfigError] = []
    chosen = configuration.plugins.get("leases", _default(defaults.LEASES))
    made = _made("leases", chosen, _context(configuration, None), errors)
    _raise(configuration, errors)
    return made[0]


def build(configuration: Configuration, reactor: Any) -> BootService:
    """The service that the configuration describes, not started.

    :raise ConfigErrors: everything that is wrong with the plugins.
    """
    reactor = monotonic(reactor)
    parts = assemble(configuration, reactor)
    settings, _ = settle(configuration)
    return evolve(parts, settings=settings).service(reactor)


def settle(configuration: Configuration) -> tuple[Settings, Mapping[str, str]]:
    """The settings that can be had here, found by trying the ports; and notes: service -> what to say about it."""
    return defaults.settled(configuration.settings, configuration.given, fall_back=configuration.source is None)


def _context(configuration: Configuration, reactor: Any) -> plugins.PluginContext:
    state = state_directory(configuration.settings.state_dir)
    return plugins.PluginContext(reactor, configuration.directory, state)


def _read(source: Path) -> dict[str, Any]:
    try:
        # Editors of Windows put a byte order mark in front.
        text = source.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigErrors([f"{source}: can't be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        before = error.object[: error.start].count(b"\n")
        raise ConfigErrors([f"{source}:{before + 1}: must be UTF-8, as TOML is"]) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", reason)
        if place is None:
            raise ConfigErrors([f"{source}: {reason}"]) from error
        end = text.count("\n") + 1, len(text.rpartition("\n")[2]) + 1
        line, column = place.groups() if place[1] else end
        raise ConfigErrors([f"{source}:{line}:{column}: {reason[: place.start()]}"]) from error


def _settings(document: Mapping[str, Any], directory: Path, errors: list[ConfigError]) -> Settings:
    read = {
        section: read_section(section, document.get(section, {}), errors) or kind()
        for section, kind in SECTIONS.items()
    }
    own: Settings = read.pop("bootfw")
    if own.state_dir:
        own = evolve(own, state_dir=str(directory / own.state_dir))
    read["http"] = _located(read["http"], directory)
    return evolve(own, **read, persona=_personas(document.get("persona", []), errors))


def _personas(tables: Any, errors: list[ConfigError]) -> tuple[Rule, ...]:
    before = len(errors)
    rules = read_tables("persona", tables, errors)
    if len(errors) == before:
        try:
            stock().with_own(rules)
        except ConfigError as error:
            errors += error.under("persona").each
    return rules


def _located(http: HTTPSettings, directory: Path) -> HTTPSettings:
    """With paths that are right wherever the process goes."""
    paths = {"certificate": http.certificate, "key": http.key}
    return evolve(http, **{name: str(directory / path) for name, path in paths.items() if path})


def _given(document: Mapping[str, Any]) -> list[Place]:
    tables = [(section, document[section]) for section in SECTIONS if isinstance(document.get(section), dict)]
    return [(section, key) for section, table in tables for key in table]


def _choices(section: str, tables: Any, errors: list[ConfigError]) -> tuple[Choice, ...]:
    if not isinstance(tables, list):
        errors.append(ConfigError(f"must be a list of tables: write [[{section}]]", (section,)))
        return ()
    chosen = [_choice(table, (section, index), errors) for index, table in enumerate(tables)]
    return tuple(choice for choice in chosen if choice)


def _only(section: str, table: Any, errors: list[ConfigError]) -> tuple[Choice, ...]:
    if isinstance(table, list):
        errors.append(ConfigError(f"there is only one: write [{section}]", (section,)))
        return ()
    choice = _choice(table, (section,), errors)
    return (choice,) if choice else ()


def _choice(table: Any, place: Place, errors: list[ConfigError]) -> Choice | None:
    wrong = list(mismatches(table, dict, place))
    if not wrong and "use" not in table:
        wrong = [ConfigError('"use" is missing: it names the plugin', place)]
    if not wrong:
        wrong = list(mismatches(table["use"], str, (*place, "use")))
    errors += wrong
    if wrong:
        return None
    return Choice(table["use"], {key: value for key, value in table.items() if key != "use"}, place)


def _made(
    section: str, choices: Sequence[Choice], context: plugins.PluginContext, errors: list[ConfigError]
) -> list[Named]:
    """What the choices make. Names that would be the same get their position."""
    made = []
    often = Counter(choice.use for choice in choices)
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
        made.append((choice.use if often[choice.use] == 1 else f"{choice.use}[{choice.place[-1]}]", thing))
    return made


def _not_served(value: Any, place: Place, http: HTTPSettings) -> Iterator[ConfigError]:
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
