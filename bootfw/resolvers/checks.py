"""Converters and checks for options that several resolvers have."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Any

from bootfw.api import ARCHITECTURES, NETWORK_GEAR, BootFile, ConfigError, ErrorCollector, check_placeholders

UNKNOWN = "unknown"
"""The architecture of a client that sends none."""

# In the order of the IANA registry, which begins with the common ones.
_ARCHITECTURES = tuple(dict.fromkeys((*ARCHITECTURES.values(), NETWORK_GEAR, UNKNOWN)))


def file_name(value: str) -> str:
    """Check the name of a boot file: a path or a URL, which may contain placeholders.

    :raise ValueError: *value* can't be a path or a URL.
    :raise ConfigError: it contains an unknown placeholder.
    """
    if not value or "\0" in value:
        raise ValueError("must be a path or a URL")
    check_placeholders(value)
    return value


def placeholders(value: str) -> str:
    """Check a text that may contain placeholders.

    :raise ConfigError: it contains an unknown placeholder.
    """
    check_placeholders(value)
    return value


def seconds(value: int | None) -> int | None:
    """Check a number of seconds of 32 bits; None is allowed.

    :raise ValueError: *value* is out of range.
    """
    if value is not None and not 0 <= value < 1 << 32:
        raise ValueError(f"must be 0 to {(1 << 32) - 1} seconds, not {value}")
    return value


def boot_file(table: Mapping[str, Any], *path: str | int) -> BootFile:
    """Convert a table with ``file`` and other BOOT_FILE_KEYS to a BootFile. Other keys are ignored.

    :param path: the path of the table, for errors.
    :raise ConfigError: ``file`` is missing, or a value is invalid.
    """
    if "file" not in table:
        raise ConfigError('"file" is missing', path)
    read: dict[str, Any] = {}
    collector = ErrorCollector()
    for key, value in table.items():
        if key in _FIELDS:
            name, kind, reader = _FIELDS[key]
            with collector.under(*path, key):
                if not isinstance(value, kind) or isinstance(value, bool):
                    raise ValueError(f"must be {_NOUNS[kind]}")
                read[name] = reader(value)
    collector.finish()
    return BootFile(**read)


def unknown_keys(table: Iterable[str], known: Collection[str], *path: str | int) -> list[ConfigError]:
    """Return an error for each key of *table* that is not *known*."""
    listed = ", ".join(known)
    return [ConfigError(f"unknown key; known: {listed}", (*path, key)) for key in table if key not in known]


def ipv4_address(value: str) -> str:
    """Check an IPv4 address.

    :raise ValueError: *value* is not an IPv4 address.
    """
    try:
        return str(IPv4Address(value))
    except ValueError:
        raise ValueError(f'must be an IPv4 address, not "{value}"') from None


def architecture(value: str, also: Sequence[str] = ()) -> str:
    """Check the name of an architecture, such as "x86_64-uefi", or "arch-99" for one that is registered later.

    :param also: other words that are allowed there, to suggest them.
    :raise ValueError: there is no such architecture.
    """
    number = value.removeprefix("arch-")
    if value not in _ARCHITECTURES and not (number != value and number.isascii() and number.isdecimal()):
        near = ", ".join(_near(value, (*also, *_ARCHITECTURES)))
        raise ValueError(f"no such architecture; near to it: {near}")
    return value


def _near(name: str, known: Sequence[str]) -> list[str]:
    normalized = name.lower().replace("_", "-")
    by_spelling = {each.replace("_", "-"): each for each in known}
    close = get_close_matches(normalized, by_spelling, n=3, cutoff=0.5)
    inside = [spelling for spelling in by_spelling if normalized in spelling][:3]
    return [f'"{by_spelling[spelling]}"' for spelling in (inside or close or by_spelling)]


def network(value: str) -> IPv4Network | IPv6Network:
    """Convert a network.

    :raise ValueError: *value* is not a network.
    """
    try:
        return ip_network(value)
    except ValueError as error:
        raise ValueError(f'must be a network, such as "10.77.0.0/24" or "fd77::/64": {error}') from None


def optional_ipv4_address(value: str | None) -> str | None:
    """Check an IPv4 address; None is allowed.

    :raise ValueError: *value* is not an IPv4 address.
    """
    return None if value is None else ipv4_address(value)


_FIELDS: Mapping[str, tuple[str, type, Callable[[Any], Any]]] = {
    "file": ("name", str, file_name),
    "server": ("server", str, ipv4_address),
    "configfile": ("configfile", str, placeholders),
    "pathprefix": ("pathprefix", str, placeholders),
    "reboot-seconds": ("reboot_seconds", int, seconds),
}
_NOUNS = {str: "a string", int: "an integer"}

BOOT_FILE_KEYS = tuple(_FIELDS)
"""The keys of a table that describes a boot file."""
