"""The sections of the configuration that make Settings: which keys there are, and how they are read."""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from attrs import frozen

from bootfw.config.schema import Path, mismatches, spelled, unknown_keys
from bootfw.config.settings import DHCP6Settings, DHCPSettings, HTTPSettings, Settings, TFTPSettings
from bootfw.errors import ConfigError, ErrorCollector
from bootfw.personas.rule import Rule

SECTIONS: Mapping[str, type] = {
    "bootfw": Settings,
    "tftp": TFTPSettings,
    "dhcp": DHCPSettings,
    "dhcp6": DHCP6Settings,
    "http": HTTPSettings,
}

TABLE_LISTS: Mapping[str, type] = {"persona": Rule}
"""Lists of tables beside the sections, ``[[persona]]``: what each of them makes."""

PLUGIN_LISTS = ("backend", "resolver", "observer")
"""Lists of plugin tables, ``[[backend]]``."""

PLUGIN_TABLES = ("watchdog", "leases")
"""Single plugin tables, ``[watchdog]``."""


@frozen
class Key:
    """One key of a section and the field that it sets."""

    section: str
    path: tuple[str, ...]
    """Below the section."""
    attribute: Any
    """The attrs.Attribute."""

    @property
    def annotation(self) -> Any:
        """What TOML holds."""
        return self.attribute.metadata.get("toml", self.attribute.type)

    @property
    def tables(self) -> type | None:
        """What each table of a list of them makes; None: it is no such list."""
        kind: type | None = self.attribute.metadata.get("tables")
        return kind

    @property
    def required(self) -> bool:
        """There is no default."""
        return self.attribute.default is attrs.NOTHING

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        parts = self.path if self.section == "bootfw" else (self.section, *self.path)
        return "BOOTFW_" + "_".join(parts).upper().replace("-", "_")


def keys_of(section: str) -> list[Key]:
    """The keys of one section, in the order of the reference."""
    return keys_in(SECTIONS[section], section)


def keys_in(kind: type, section: str) -> list[Key]:
    """The keys of a table that an instance of *kind* is made of."""
    attributes = [a for a in attrs.fields(kind) if a.init and a.name not in SECTIONS and a.name not in TABLE_LISTS]
    return [Key(section, a.metadata.get("key", (spelled(a.name),)), a) for a in attributes]


def read_section(section: str, table: Any, errors: list[ConfigError]) -> Any:
    """What *table* makes of the section's class, or None. What is wrong with it is added to *errors*."""
    return _read(SECTIONS[section], table, (section,), errors)


def read_tables(name: str, tables: Any, errors: list[ConfigError]) -> tuple[Any, ...]:
    """What the tables of a list make, without those that are wrong, which is added to *errors*."""
    if not isinstance(tables, list):
        errors.append(ConfigError(f"must be a list of tables: write [[{name}]]", (name,)))
        return ()
    read = [_read(TABLE_LISTS[name], table, (name, index), errors) for index, table in enumerate(tables)]
    return tuple(made for made in read if made is not None)


def _read(kind: type, table: Any, where: Path, errors: list[ConfigError]) -> Any:
    """The instance of *kind* that *table* makes, or None."""
    before = len(errors)
    keys = keys_in(kind, "")
    values: dict[str, Any] = {}
    if not _is_table(table, [key.path for key in keys], where, errors):
        return None
    for key in keys:
        inner, path = table, (*where, *key.path)
        for part in key.path[:-1]:
            inner = inner.get(part, {})
        if not isinstance(inner, dict):
            continue
        if key.path[-1] in inner:
            values[key.attribute.name] = _value(key, inner[key.path[-1]], path, errors)
        elif key.required:
            errors.append(ConfigError(f'"{key.path[-1]}" is missing', where))
    collector, made = ErrorCollector(), None
    if hasattr(kind, "check_table"):
        with collector.under(*where):
            kind.check_table(table)
    if len(errors) == before and not collector.errors:
        with collector.under(*where):
            made = kind(**values)
    errors += collector.errors
    return made


def _value(key: Key, value: Any, path: Path, errors: list[ConfigError]) -> Any:
    """*value* as the field takes it."""
    if key.tables is None:
        errors += _problems(key, value, path)
        return value
    wrong = list(mismatches(value, key.annotation, path))
    errors += wrong
    return () if wrong else tuple(_read(key.tables, table, (*path, at), errors) for at, table in enumerate(value))


def _is_table(table: Any, paths: list[tuple[str, ...]], where: Path, errors: list[ConfigError]) -> bool:
    """*table* is one, and so are the tables in it, with known keys only."""
    if not isinstance(table, dict):
        errors += mismatches(table, dict, where)
        return False
    known = list(dict.fromkeys(path[0] for path in paths))
    errors += unknown_keys(table, known, where)
    for name in known:
        deeper = [path[1:] for path in paths if path[0] == name and len(path) > 1]
        if deeper and name in table:
            _is_table(table[name], deeper, (*where, name), errors)
    return True


def _problems(key: Key, value: Any, path: Path) -> Iterator[ConfigError]:
    wrong = list(mismatches(value, key.annotation, path))
    yield from wrong
    if wrong:
        return
    collector = ErrorCollector()
    convert, validate = key.attribute.converter, key.attribute.validator
    with collector.under(*path):
        converted = convert(value) if convert else value
        if validate:
            validate(None, key.attribute, converted)
    yield from collector.errors
