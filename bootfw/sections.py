"""The sections of the configuration that make Settings: which keys there are, and how they are read."""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from attrs import frozen

from bootfw.errors import ConfigError
from bootfw.schema import mismatches, spelled, unknown_keys
from bootfw.settings import DHCPSettings, HTTPSettings, Settings, TFTPSettings

SECTIONS: Mapping[str, type] = {
    "bootfw": Settings,
    "tftp": TFTPSettings,
    "dhcp": DHCPSettings,
    "http": HTTPSettings,
}

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
    def variable(self) -> str:
        """The environment variable that sets it."""
        parts = self.path if self.section == "bootfw" else (self.section, *self.path)
        return "BOOTFW_" + "_".join(parts).upper().replace("-", "_")


def keys_of(section: str) -> list[Key]:
    """The keys of one section, in the order of the reference."""
    attributes = [a for a in attrs.fields(SECTIONS[section]) if a.name not in SECTIONS]
    return [Key(section, a.metadata.get("key", (spelled(a.name),)), a) for a in attributes]


def read_section(section: str, table: Any, errors: list[ConfigError]) -> Any:
    """The settings that *table* makes. What is wrong with it is added to *errors*; such keys keep their default.

    :return: the keyword arguments of the section's class.
    """
    keys = keys_of(section)
    values: dict[str, Any] = {}
    if not _is_table(table, [key.path for key in keys], (section,), errors):
        return values
    for key in keys:
        inner = table
        for part in key.path[:-1]:
            inner = inner.get(part, {})
        if isinstance(inner, dict) and key.path[-1] in inner:
            problems = list(_problems(key, inner[key.path[-1]]))
            errors += problems
            if not problems:
                values[key.attribute.name] = inner[key.path[-1]]
    return values


def _is_table(table: Any, paths: list[tuple[str, ...]], where: tuple[str, ...], errors: list[ConfigError]) -> bool:
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


def _problems(key: Key, value: Any) -> Iterator[ConfigError]:
    path = (key.section, *key.path)
    wrong = list(mismatches(value, key.annotation, path))
    yield from wrong
    if wrong:
        return
    try:
        converted = key.attribute.converter(value) if key.attribute.converter else value
        if key.attribute.validator:
            key.attribute.validator(None, key.attribute, converted)
    except ValueError as error:
        yield ConfigError(str(error), path)
