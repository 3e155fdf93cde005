"""What options of several resolvers have to be; for attrs converters."""

import re
from ipaddress import IPv4Address

from bootfw.api import check_placeholders

NETWORK_GEAR = "network-gear"
"""The architecture of switches and routers, which load a configuration and no boot program."""
_MAC = re.compile(r"[0-9a-f]{2}([:-]?)[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}", re.IGNORECASE)


def mac_address(value: str) -> str:
    """Lower-case with colons, as BootRequest has it.

    :raise ValueError: *value* is none.
    """
    if not _MAC.fullmatch(value):
        raise ValueError(f'must be a MAC address, such as "52:54:00:12:34:56", not "{value}"')
    return bytes.fromhex(re.sub("[:.-]", "", value)).hex(":")


def file_name(value: str) -> str:
    """A name for a client to load.

    :raise ValueError: it can't be one.
    :raise ConfigError: it holds an unknown placeholder.
    """
    if not value or "\0" in value:
        raise ValueError("must be a path or a URL")
    check_placeholders(value)
    return value


def ipv4_address(value: str) -> str:
    """:raise ValueError: *value* is none."""
    try:
        return str(IPv4Address(value))
    except ValueError:
        raise ValueError(f'must be an IPv4 address, not "{value}"') from None


def optional_ipv4_address(value: str | None) -> str | None:
    """:raise ValueError: *value* is neither an IPv4 address nor None."""
    return None if value is None else ipv4_address(value)
