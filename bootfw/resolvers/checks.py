"""What options of several resolvers have to be; for attrs converters."""

from ipaddress import IPv4Address

from bootfw.api import check_placeholders

NETWORK_GEAR = "network-gear"
"""The architecture of switches and routers, which load a configuration and no boot program."""


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
