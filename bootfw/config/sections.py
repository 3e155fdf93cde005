"""The sections of the configuration that make Settings: which keys there are, and how they are read."""

from collections.abc import Mapping
from typing import Any

from bootfw.config.settings import (
    BootsSettings,
    DHCP6Settings,
    DHCPSettings,
    HTTPSettings,
    LogSettings,
    MetricsSettings,
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
    "log": LogSettings,
    "metrics": MetricsSettings,
    "web": WebSettings,
    "boots": BootsSettings,
}

TABLE_LISTS: Mapping[str, type] = {"persona": Rule}
"""Lists of tables beside the sections, ``[[persona]]``: what each of them makes."""

PLUGIN_LISTS = ("backend", "resolver", "observer")
"""Lists of plugin tables, ``[[backend]]``."""

PLUGIN_TABLES = ("watchdog", "store")
"""Single plugin tables, ``[watchdog]``."""


def variable_of(section: str, key: Key) -> str:
    """The environment variable that sets a key of a section."""
    parts = key.path if section == "bootfw" else (section, *key.path)
    return "BOOTFW_" + "_".join(parts).upper().replace("-", "_")


def keys_of(section: str) -> list[Key]:
    """The keys of one section, in the order of the reference."""
    return [key for key in fields_of(SECTIONS[section]) if key.name not in SECTIONS and key.name not in TABLE_LISTS]


def read_section(section: str, table: Any, errors: list[ConfigError]) -> Any:
    """The section's settings, or None when *table* is wrong; errors are added to *errors*."""
    kind = SECTIONS[section]
    try:
        return read_table(table, keys_of(section), kind, kind)
    except ConfigError as error:
        errors += error.under(section).each
        return None


def read_tables(name: str, tables: Any, errors: list[ConfigError]) -> tuple[Any, ...]:
    """An object for each table of a list, without those that are wrong; errors are added to *errors*."""
    if not isinstance(tables, list):
        errors.append(ConfigError(f"must be a list of tables: write [[{name}]]", (name,)))
        return ()
    kind, made = TABLE_LISTS[name], []
    for index, table in enumerate(tables):
        try:
            made.append(read_table(table, fields_of(kind), kind, kind))
        except ConfigError as error:
            errors += error.under(name, index).each
    return tuple(made)
