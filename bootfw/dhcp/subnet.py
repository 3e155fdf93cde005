"""Subnets as they are configured: which addresses may be given, and what is told with them."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network

from attrs import field, frozen

from bootfw.errors import ConfigError
from bootfw.lease import Reservation, address_text
from bootfw.wire.options import Option, address_bytes, addresses_bytes, text_bytes, uint32_bytes

Range = tuple[int, int]
"""First and last address as numbers, both included."""


def network(value: str | IPv4Network) -> IPv4Network:
    """``"10.77.0.0/24"``."""
    try:
        return IPv4Network(value)
    except ValueError as error:
        raise ValueError(f'must be a network, such as "10.77.0.0/24": {error}') from None


def ranges(values: Iterable[str | Range]) -> tuple[Range, ...]:
    """Each of ``"10.77.0.100-10.77.0.200"``, ``"10.77.0.128/25"`` and ``"10.77.0.9"`` as numbers."""
    return tuple(_range(value) if isinstance(value, str) else value for value in values)


def _range(value: str) -> Range:
    try:
        if "/" in value:
            block = IPv4Network(value)
            return int(block[0]), int(block[-1])
        first, dash, last = value.partition("-")
        numbers = int(IPv4Address(first.strip())), int(IPv4Address(last.strip() if dash else first.strip()))
        if numbers[0] > numbers[1]:
            raise ValueError
    except ValueError:
        raise ValueError(
            f'must be addresses such as "10.77.0.100-10.77.0.200" or "10.77.0.128/25", not "{value}"'
        ) from None
    return numbers


def addresses(values: str | Iterable[str]) -> tuple[str, ...]:
    """One address or several."""
    return tuple(map(address_text, [values] if isinstance(values, str) else values))


@frozen(kw_only=True, eq=False)
class Subnet:
    """``[[dhcp.subnet]]``"""

    network: IPv4Network = field(converter=network, metadata={"toml": str})
    """The network, such as `"10.77.0.0/24"`."""
    pool: tuple[Range, ...] = field(default=(), converter=ranges, metadata={"toml": list[str]})
    """The addresses to give, such as `["10.77.0.100-10.77.0.200"]`. Empty: reserved ones only."""
    exclude: tuple[Range, ...] = field(default=(), converter=ranges, metadata={"toml": list[str]})
    """Addresses of the pool that are not given. Routers and our own addresses never are."""
    router: tuple[str, ...] = field(default=(), converter=addresses, metadata={"toml": str | list[str]})
    """The routers, the best first (option 3)."""
    dns: tuple[str, ...] = field(default=(), converter=addresses, metadata={"toml": str | list[str]})
    """The name servers, the best first (option 6)."""
    domain: str = ""
    """The domain of the clients' names (option 15)."""
    lease_seconds: int = 3600
    """How long an address is given for, 60 to 31536000."""
    firmware_lease_seconds: int = 600
    """The same for boot firmware and boot programs, which are done soon."""
    shared_network: str = ""
    """Subnets with the same name are on the same wire: a client gets an address of any of them."""
    relays: tuple[str, ...] = field(default=(), converter=addresses, metadata={"toml": list[str]})
    """Relays of this subnet whose addresses are not in it."""
    bootp: bool = False
    """BOOTP clients get addresses of the pool too, for ever; else reserved ones only."""
    options: Mapping[int, bytes] = field(factory=dict, metadata={"toml": dict})
    """Other options by name or number."""
    hosts: tuple[Reservation, ...] = field(default=(), converter=tuple, metadata={"key": ("host",)})
    """What is kept for single clients."""

    free: tuple[Range, ...] = field(init=False, repr=False)
    """The pool without what is excluded, in the order of the pool."""
    told: Mapping[int, bytes] = field(init=False, repr=False)
    """Options of every client, code to octets."""
    told_system: Mapping[int, bytes] = field(init=False, repr=False)
    """The same with the lease time of systems."""
    told_firmware: Mapping[int, bytes] = field(init=False, repr=False)
    """The same with the lease time of boot firmware."""

    def __attrs_post_init__(self) -> None:
        own = int(self.network[0]), int(self.network[-1])
        for key, listed in (("pool", self.pool), ("exclude", self.exclude)):
            for index, (first, last) in enumerate(listed):
                if first < own[0] or last > own[1]:
                    raise ConfigError(f"is not inside {self.network}", (key, index))
        object.__setattr__(self, "free", self._free())
        told = self._told()
        object.__setattr__(self, "told", told)
        object.__setattr__(self, "told_system", {Option.LEASE_TIME: uint32_bytes(self.lease_seconds)} | told)
        firmware = {Option.LEASE_TIME: uint32_bytes(self.firmware_lease_seconds)} | told
        object.__setattr__(self, "told_firmware", firmware)

    def _free(self) -> tuple[Range, ...]:
        taken = [*self.exclude, *((number, number) for number in map(int, map(IPv4Address, self.router)))]
        if self.network.prefixlen < 31:  # RFC 3021: a pair has neither
            taken += [(int(self.network[0]),) * 2, (int(self.network[-1]),) * 2]
        left = list(self.pool)
        for first, last in taken:
            left = [part for low, high in left for part in ((low, min(high, first - 1)), (max(low, last + 1), high))]
            left = [(low, high) for low, high in left if low <= high]
        return tuple(left)

    def _told(self) -> dict[int, bytes]:
        told: dict[int, bytes] = {Option.SUBNET_MASK: address_bytes(str(self.network.netmask))}
        if self.router:
            told[Option.ROUTER] = addresses_bytes(self.router)
        if self.dns:
            told[Option.DOMAIN_NAME_SERVER] = addresses_bytes(self.dns)
        if self.domain:
            told[Option.DOMAIN_NAME] = text_bytes(self.domain)
        return told | dict(self.options)
