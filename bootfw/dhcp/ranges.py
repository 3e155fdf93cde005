"""Ranges of addresses as they are configured, of either version of IP: numbers from then on."""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, TypeVar

from bootfw.errors import ConfigError

T = TypeVar("T")

Range = tuple[int, int]
"""First and last address as numbers, both included."""


def each(convert: Callable[[Any], T], values: Iterable[Any]) -> tuple[T, ...]:
    """All of *values*, converted.

    :raise ConfigError: *convert* raises ValueError; the path is the index of the value.
    """
    found = []
    for index, value in enumerate(values):
        try:
            found.append(convert(value))
        except ValueError as error:
            raise ConfigError(str(error), (index,)) from None
    return tuple(found)


def ranges4(values: Iterable[str | Range]) -> tuple[Range, ...]:
    """Each of ``"10.77.0.100-10.77.0.200"``, ``"10.77.0.128/25"`` and ``"10.77.0.9"`` as numbers."""
    return each(_range4, values)


def ranges6(values: Iterable[str | Range]) -> tuple[Range, ...]:
    """Each of ``"fd77::1000-fd77::1fff"``, ``"fd77::1:0/112"`` and ``"fd77::9"`` as numbers."""
    return each(_range6, values)


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
        if numbers[0] > numbers[1]:
            raise ValueError
    except ValueError:
        raise ValueError(f'must be addresses such as {such_as}, not "{value}"') from None
    return numbers


def without(ranges: Iterable[Range], taken: Iterable[Range]) -> tuple[Range, ...]:
    """What is left of *ranges*, in their order."""
    left = list(ranges)
    for first, last in taken:
        left = [part for low, high in left for part in ((low, min(high, first - 1)), (max(low, last + 1), high))]
        left = [(low, high) for low, high in left if low <= high]
    return tuple(left)


def check_inside(
    network: IPv4Network | IPv6Network, pool: Iterable[Range], exclude: Iterable[Range], reserved: Iterable[str]
) -> None:
    """That all of it is of *network*.

    :param reserved: an address of each host, or "".
    :raise ConfigError: something is not; the path begins with "pool", "exclude" or "host".
    """
    own = int(network[0]), int(network[-1])
    for key, listed in (("pool", pool), ("exclude", exclude)):
        for index, (first, last) in enumerate(listed):
            if first < own[0] or last > own[1]:
                raise ConfigError(f"is not inside {network}", (key, index))
    for index, address in enumerate(reserved):
        if address and ip_address(address) not in network:
            raise ConfigError(f"{address} is not inside {network}", ("host", index, "address"))


def check_lease_time(instance: Any, attribute: Any, value: int) -> None:
    """A validator of attrs for how long an address is given for.

    :raise ValueError: that is less than a minute or more than a year.
    """
    if not 60 <= value <= 31536000:
        raise ValueError(f"must be from 60 to 31536000 seconds, not {value}")
