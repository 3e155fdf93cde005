"""The sections of the configuration that become Settings: their keys, and how they are read."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from attrs import fields_dict

from bootfw.config.settings import (
    BootsSettings,
    DHCP6Settings,
    DHCPSettings,
    HTTPSettings,
    LogSettings,
    MachineSettings,
    MetricsSettings,
    MulticastSettings,
    Settings,
    TFTPSettings,
    WebSettings,
)
from bootfw.config.tables import Key, fields_of, read_table
from bootfw.errors import ConfigError
from bootfw.personas.rule import Rule

SECTIONS: Mapping[str, type] = {
    "bootfw": Settings,
    "tftp": TFTPSettings,
    "dhcp": DHCPSettings,
    "dhcp6": DHCP6Settings,
    "http": HTTPSettings,
    "multicast": MulticastSettings,
    "log": LogSettings,
    "metrics": MetricsSettings,
    "web": WebSettings,
    "boots": BootsSettings,
}

TABLE_LISTS: Mapping[str, type] = {"persona": Rule, "machine": MachineSettings}
"""Lists of tables beside the sections, such as ``[[persona]]`` -> the class of each table."""

PLUGIN_LISTS = ("backend", "resolver", "observer")
"""Lists of plugin tables, ``[[backend]]``."""

PLUGIN_TABLES = ("watchdog", "store")
"""Single plugin tables, ``[watchdog]``."""


def variable_of(section: str, key: Key) -> str:
    """Return the environment variable that sets a key of a section."""
    parts = key.path if section == "bootfw" else (section, *key.path)
    return "BOOTFW_" + "_".join(parts).upper().replace("-", "_")


def keys_of(section: str) -> list[Key]:
    """Return the keys of one section, in the order of the reference."""
    return [key for key in fields_of(SECTIONS[section]) if key.name not in SECTIONS and key.name not in TABLE_LISTS]


def read_section(section: str, table: Any, errors: list[ConfigError], **more: Any) -> Any:
    """Return the settings of a section, or None if *table* is wrong; errors are added to *errors*.

    :param more: fields of the settings that are not keys of the section.
    """
    kind = SECTIONS[section]
    try:
        return read_table(table, keys_of(section), partial(kind, **more), kind)
    except ConfigError as error:
        errors += error.under(section).each
        return None


def read_tables(name: str, tables: Any, errors: list[ConfigError]) -> tuple[Any, ...]:
    """Return an object for each valid table of a list; the errors of others are added to *errors*."""
    if not isinstance(tables, list):
        errors.append(ConfigError(f"must be a list of tables: write [[{name}]]", (name,)))
        return ()
    kind, instances = TABLE_LISTS[name], []
    for index, table in enumerate(tables):
        try:
            instances.append(_read_item(table, kind))
        except ConfigError as error:
            errors += error.under(name, index).each
    return tuple(instances)


def _read_item(table: Any, kind: type) -> Any:
    """Return the object for one table of a list.

    A class may have a field that takes the whole table ("table" in its metadata, see fields_of()): then keys that are
    no fields are allowed.
    """
    keys = fields_of(kind)
    takes = [name for name, each in fields_dict(kind).items() if each.metadata.get("table")]
    if not takes or not isinstance(table, dict):
        return read_table(table, keys, kind, kind)
    own_values = {key: table[key] for key in table if (key,) in [each.path for each in keys]}
    return read_table(own_values, keys, partial(kind, **{takes[0]: table}), kind)
