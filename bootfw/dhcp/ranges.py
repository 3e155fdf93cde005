"""IPv4 and IPv6 addresses as numbers: parse ranges in the configuration, and check them against their subnet."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from socket import AF_INET, AF_INET6, inet_aton, inet_ntop, inet_pton
from typing import Any, TypeVar

from bootfw.errors import ConfigError, ErrorCollector

T = TypeVar("T")

Range = tuple[int, int]
"""First and last address of a range as numbers, both included."""


def number_of(address: str) -> int:
    """Convert an IPv4 or IPv6 address to a number.

    :raise OSError: it is not an address.
    """
    return int.from_bytes(inet_pton(AF_INET6, address) if ":" in address else inet_aton(address), "big")


def text_of(number: int, version: int) -> str:
    """Convert a number to an address of IP version 4 or 6."""
    return (
        inet_ntop(AF_INET, number.to_bytes(4, "big"))
        if version == 4
        else inet_ntop(AF_INET6, number.to_bytes(16, "big"))
    )


def convert_all(convert: Callable[[Any], T], values: Iterable[Any]) -> tuple[T, ...]:
    """Convert all *values*.

    :raise ConfigError: *convert* raised ValueError; the path is the index of the value.
    """
    found, collector = [], ErrorCollector()
    for index, value in enumerate(values):
        with collector.under(index):
            found.append(convert(value))
    collector.finish()
    return tuple(found)


def ranges4(values: Iterable[str | Range]) -> tuple[Range, ...]:
    """Parse ranges such as ``"10.77.0.100-10.77.0.200"``, ``"10.77.0.128/25"`` and ``"10.77.0.9"``."""
    return convert_all(_range4, values)


def ranges6(values: Iterable[str | Range]) -> tuple[Range, ...]:
    """Parse ranges such as ``"fd77::1000-fd77::1fff"``, ``"fd77::1:0/112"`` and ``"fd77::9"``."""
    return convert_all(_range6, values)


def _range4(value: str | Range) -> Range:
    return _range(value, IPv4Address, IPv4Network, '"10.77.0.100-10.77.0.200" or "10.77.0.128/25"')


def _range6(value: str | Range) -> Range:
    return _range(value, IPv6Address, IPv6Network, '"fd77::1000-fd77::1fff" or "fd77::1:0/112"')


def _range(
    value: str | Range,
    address: type[IPv4Address | IPv6Address],
    network: type[IPv4Network | IPv6Network],
    such_as: str,
) -> Range:
    if not isinstance(value, str):
        return value
    try:
        if "/" in value:
            block = network(value)
            return int(block[0]), int(block[-1])
        first, dash, last = value.partition("-")
        numbers = int(address(first.strip())), int(address(last.strip() if dash else first.strip()))
    except ValueError:
        raise ValueError(f'must be addresses such as {such_as}, not "{value}"') from None
    if numbers[0] > numbers[1]:
        raise ValueError(f'is reversed: write "{last.strip()}-{first.strip()}"')
    return numbers


def subtract(ranges: Iterable[Range], taken: Iterable[Range]) -> tuple[Range, ...]:
    """Return *ranges* without the addresses of *taken*; the sequence of *ranges* stays."""
    parts = list(ranges)
    for first, last in taken:
        parts = [part for low, high in parts for part in ((low, min(high, first - 1)), (max(low, last + 1), high))]
        parts = [(low, high) for low, high in parts if low <= high]
    return tuple(parts)


def check_inside(network: IPv4Network | IPv6Network, table: Mapping[str, Any]) -> None:
    """Check that pool, exclusions, routers and hosts of a subnet are inside its *network*.

    :param table: the subnet, as its table or converted; values that are not addresses are ignored here.
    :raise ConfigError: an address is outside; the path begins below *table*.
    """
    collector = ErrorCollector()
    bounds = int(network[0]), int(network[-1])
    read = _range4 if network.version == 4 else _range6
    for key in ("pool", "exclude"):
        for index, value in enumerate(_listed(table.get(key))):
            with suppress(ValueError, TypeError, AttributeError):
                first, last = read(value)
                if first < bounds[0] or last > bounds[1]:
                    collector.note(f"is not inside {network}", key, index)
    routers = table.get("router", ())
    for index, value in enumerate([routers] if isinstance(routers, str) else _listed(routers)):
        # A network of one or two addresses may have its router elsewhere (RFC 3021).
        if network.num_addresses > 2 and _outside(value, network):
            path: tuple[str | int, ...] = ("router",) if isinstance(routers, str) else ("router", index)
            collector.note(f"{value} is not inside {network}: its clients could not reach that router", *path)
    for index, host in enumerate(_listed(table.get("host"))):
        address = host.get("address") if isinstance(host, Mapping) else getattr(host, "address", None)
        if address and _outside(address, network):
            collector.note(f"{address} is not inside {network}", "host", index, "address")
    collector.finish()


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _outside(address: Any, network: IPv4Network | IPv6Network) -> bool:
    """Return whether *address* is an address outside *network*."""
    try:
        return isinstance(address, str) and ip_address(address) not in network
    except ValueError:
        return False


def check_renewal(renew: int, rebind: int, lease: int) -> None:
    """Check that T1 comes before T2, and T2 before the end of the lease, in seconds; 0: the default part of the lease.

    :raise ConfigError: they do not; the path is the key.
    """
    for key, value in (("renew-seconds", renew), ("rebind-seconds", rebind)):
        if value < 0 or value >= lease:
            raise ConfigError(f"must be less than lease-seconds, {lease}, not {value}", (key,))
    if renew and rebind and renew >= rebind:
        raise ConfigError(f"must be more than renew-seconds, {renew}, not {rebind}", ("rebind-seconds",))


def check_lease_time(instance: Any, attribute: Any, value: int) -> None:
    """Validate a lease time; an attrs validator.

    :raise ValueError: *value* is less than a minute or more than a year.
    """
    if not 60 <= value <= 31536000:
        raise ValueError(f"must be from 60 to 31536000 seconds, not {value}")
