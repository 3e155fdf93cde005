"""Loads the configuration: a TOML file and environment variables become Settings and the choice of plugins.

All errors are reported together. Each names the file or variable, the key, and what would be right.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from bootfw.config import environment
from bootfw.config.schema import KeyPath, mismatches, unknown_keys
from bootfw.config.sections import PLUGIN_LISTS, PLUGIN_TABLES, SECTIONS, TABLE_LISTS, read_section, read_tables
from bootfw.config.settings import HTTPSettings, MachineSettings, Settings
from bootfw.errors import BootfwError, ConfigError, format_path
from bootfw.personas.rule import Rule
from bootfw.personas.table import stock


class ConfigErrors(BootfwError):
    """Everything that is wrong with a configuration.

    :param lines: a line for each error, with the file or variable and the key.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


@frozen
class PluginChoice:
    """A plugin that the configuration names."""

    use: str
    options: Mapping[str, Any]
    path: KeyPath
    """The path of its table, such as ``("resolver", 1)``."""


@frozen
class Configuration:
    """The configuration, checked except for the options of plugins."""

    settings: Settings
    plugins: Mapping[str, tuple[PluginChoice, ...]]
    """Section, such as "resolver" -> its plugins. A section that is missing here gets the default plugins."""
    directory: Path
    """Relative paths in the configuration are relative to this directory."""
    source: Path | None
    """The configuration file; None: there is none."""
    origins: Mapping[KeyPath, str]
    """Path of a key -> the environment variable that set it."""
    explicit_keys: frozenset[KeyPath]
    """Paths of the settings that the file or the environment sets, such as ``("tftp", "listen")``."""

    def format_error(self, error: ConfigError) -> str:
        """Format *error* on one line, with the file or variable and the key."""
        for length in range(len(error.path), 0, -1):
            variable = self.origins.get(error.path[:length])
            if variable:
                return f"{format_path((variable, *error.path[length:]))}: {error.message}"
        return f"{self.source}: {error}" if self.source else str(error)

    def refuse(self, errors: Iterable[ConfigError]) -> None:
        """Raise *errors*, unless there are none.

        :raise ConfigErrors: there is at least one error.
        """
        lines = [self.format_error(error) for error in errors]
        if lines:
            raise ConfigErrors(lines)


def load_config(path: Path | str | None, environ: Mapping[str, str]) -> Configuration:
    """Read the file, if there is one, and the ``BOOTFW_`` variables, which override it.

    :raise ConfigErrors: everything that is wrong, except for the options of plugins.
    """
    configuration, errors = read_config(path, environ)
    configuration.refuse(errors)
    return configuration


def read_config(path: Path | str | None, environ: Mapping[str, str]) -> tuple[Configuration, list[ConfigError]]:
    """Read the configuration like load_config(), for a caller that adds the errors of plugins before it reports all.

    :return: the configuration, with defaults instead of invalid values; and the errors.
    :raise ConfigErrors: the file can't be read, or is not TOML.
    """
    source = None if path is None else Path(path)
    document = {} if source is None else _read_file(source)
    origins, errors = environment.apply(environ, document)
    origins |= {error.path[:1]: str(error.path[0]) for error in errors}
    errors += unknown_keys(document, [*SECTIONS, *TABLE_LISTS, *PLUGIN_LISTS, *PLUGIN_TABLES])
    directory = Path.cwd() if source is None else source.absolute().parent
    settings = _settings(document, directory, errors)
    chosen = {section: _choices(section, document[section], errors) for section in PLUGIN_LISTS if section in document}
    chosen |= {section: _single(section, document[section], errors) for section in PLUGIN_TABLES if section in document}
    return Configuration(settings, chosen, directory, source, origins, frozenset(_configured_keys(document))), errors


def _read_file(source: Path) -> dict[str, Any]:
    try:
        # Windows editors write a byte order mark.
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
        location = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", reason)
        if location is None:
            raise ConfigErrors([f"{source}: {reason}"]) from error
        end = text.count("\n") + 1, len(text.rpartition("\n")[2]) + 1
        line, column = location.groups() if location[1] else end
        raise ConfigErrors([f"{source}:{line}:{column}: {reason[: location.start()]}"]) from error
    except ValueError as error:
        raise ConfigErrors([f"{source}: a number has too many digits: {error}"]) from error
    except RecursionError as error:
        raise ConfigErrors([f"{source}: arrays or inline tables are nested too deep"]) from error


def _settings(document: Mapping[str, Any], directory: Path, errors: list[ConfigError]) -> Settings:
    section_errors: list[ConfigError] = []
    read = {
        section: read_section(section, document.get(section, {}), section_errors) or kind()
        for section, kind in SECTIONS.items()
        if section != "bootfw"
    }
    read["http"] = _with_absolute_paths(read["http"], directory)
    read["persona"] = _personas(document.get("persona", []), section_errors)
    read["machine"] = _machines(document.get("machine", []), section_errors)
    # [bootfw] is read last: "optional" names interfaces, addresses and networks of the others. Where these are wrong,
    # it can't be checked.
    table = document.get("bootfw", {})
    if section_errors and isinstance(table, dict):
        table = {key: value for key, value in table.items() if key != "optional"}
    settings: Settings = read_section("bootfw", table, errors, **read) or Settings(**read)
    errors += section_errors
    return evolve(settings, state_dir=str(directory / settings.state_dir)) if settings.state_dir else settings


def _personas(tables: Any, errors: list[ConfigError]) -> tuple[Rule, ...]:
    before = len(errors)  # the check of all rules together needs rules that are valid
    rules = read_tables("persona", tables, errors)
    if len(errors) == before:
        try:
            stock().with_own(rules)
        except ConfigError as error:
            errors += error.under("persona").each
    return rules


def _machines(tables: Any, errors: list[ConfigError]) -> tuple[MachineSettings, ...]:
    before = len(errors)
    machines: tuple[MachineSettings, ...] = read_tables("machine", tables, errors)
    owners: dict[str, int] = {}
    for at, machine in enumerate(machines) if len(errors) == before else ():
        for key in dict.fromkeys((machine.host_name, *machine.identifiers)):
            owner = owners.setdefault(key, at)
            if owner != at:
                errors.append(ConfigError(f"{key} is in machine[{owner}] already", ("machine", at)))
    return machines


def _with_absolute_paths(http: HTTPSettings, directory: Path) -> HTTPSettings:
    """Return *http* with absolute paths: twistd changes the working directory of a daemon."""
    paths = {"certificate": http.certificate, "key": http.key}
    return evolve(http, **{name: str(directory / path) for name, path in paths.items() if path})


def _configured_keys(document: Mapping[str, Any]) -> list[KeyPath]:
    """Return the paths of the settings that *document* sets."""
    tables = [(section, document[section]) for section in SECTIONS if isinstance(document.get(section), dict)]
    return [(section, key) for section, table in tables for key in table]


def _choices(section: str, tables: Any, errors: list[ConfigError]) -> tuple[PluginChoice, ...]:
    if not isinstance(tables, list):
        errors.append(ConfigError(f"must be a list of tables: write [[{section}]]", (section,)))
        return ()
    chosen = [_choice(table, (section, index), errors) for index, table in enumerate(tables)]
    return tuple(choice for choice in chosen if choice)


def _single(section: str, table: Any, errors: list[ConfigError]) -> tuple[PluginChoice, ...]:
    if isinstance(table, list):
        errors.append(ConfigError(f"there is only one: write [{section}]", (section,)))
        return ()
    choice = _choice(table, (section,), errors)
    return (choice,) if choice else ()


def _choice(table: Any, path: KeyPath, errors: list[ConfigError]) -> PluginChoice | None:
    wrong = list(mismatches(table, dict, path))
    if not wrong and "use" not in table:
        wrong = [ConfigError('"use" is missing: it names the plugin', path)]
    if not wrong:
        wrong = list(mismatches(table["use"], str, (*path, "use")))
    errors += wrong
    if wrong:
        return None
    return PluginChoice(table["use"], {key: value for key, value in table.items() if key != "use"}, path)
