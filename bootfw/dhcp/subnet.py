"""IPv4 subnets in the configuration: the addresses that clients get, and their options."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from itertools import pairwise
from typing import Any, ClassVar

from attrs import field, frozen

from bootfw.dhcp.optionvalues import option_values
from bootfw.dhcp.ranges import (
    Range,
    check_inside,
    check_lease_time,
    check_renewal,
    convert_all,
    number_of,
    ranges4,
    subtract,
)
from bootfw.errors import ErrorCollector
from bootfw.lease import Reservation, address_text, reservation_keys
from bootfw.wire.options import Option, address_bytes, addresses_bytes, text_bytes, uint32_bytes


def network(value: str | IPv4Network) -> IPv4Network:
    """Parse an IPv4 network, such as ``"10.77.0.0/24"``.

    :raise ValueError: it is not a network.
    """
    try:
        return IPv4Network(value)
    except ValueError as error:
        raise ValueError(f'must be a network, such as "10.77.0.0/24": {error}') from None


def addresses(values: str | Iterable[str]) -> tuple[str, ...]:
    """Parse one IPv4 address or several.

    :raise ConfigError, ValueError: one is not an address.
    """
    return (address_text(values),) if isinstance(values, str) else convert_all(address_text, values)


class AnySubnet:
    """The attributes that the subnets of DHCPv4 and DHCPv6 share."""

    __slots__ = ()

    network: IPv4Network | IPv6Network
    pool: tuple[Range, ...]
    exclude: tuple[Range, ...]
    lease_seconds: int
    renew_seconds: int
    rebind_seconds: int
    known_clients_only: bool
    relays: tuple[str, ...]
    hosts: tuple[Any, ...]
    assignable: tuple[Range, ...]
    """The ranges of the pool without excluded addresses, routers and non-host addresses; sorted as the pool is."""

    parse_network: ClassVar[Callable[..., IPv4Network | IPv6Network]]
    host_keys: ClassVar[Mapping[str, str]] = {}
    """Key of reservation_keys() -> key of the configuration, where they differ."""

    @classmethod
    def check_table(cls, table: Mapping[str, Any]) -> None:
        """Check that the values of a table are consistent; values that are malformed are ignored here.

        :raise ConfigError: they are not; the path begins below *table*.
        """
        try:
            parsed_network = cls.parse_network(table.get("network", ""))
        except (ValueError, TypeError):
            return
        check_inside(parsed_network, table)

    def __attrs_post_init__(self) -> None:
        settings = {"pool": self.pool, "exclude": self.exclude, "router": self.routers(), "host": self.hosts}
        self.check_table({"network": self.network, **settings})
        check_renewal(self.renew_seconds, self.rebind_seconds, self.lease_seconds)
        object.__setattr__(self, "assignable", self.assignable_of(self.pool))

    @property
    def link_name(self) -> str:
        """The name of the link; subnets with the same name are on one link."""
        return str(self.network)

    def contains(self, address: str) -> bool:
        """Return whether *address* is in the network."""
        return number_of(address) & int(self.network.netmask) == int(self.network.network_address)

    def assignable_of(self, ranges: Iterable[Range]) -> tuple[Range, ...]:
        """Return the addresses of *ranges* that are in the network and that clients can get; sorted as *ranges* are."""
        unassignable = [*self.exclude, *((number, number) for number in map(number_of, self.routers()))]
        unassignable += [(number, number) for number in self.non_host_addresses()]
        first, last = int(self.network[0]), int(self.network[-1])
        return subtract(((low, high) for low, high in ranges if first <= low and high <= last), unassignable)

    def routers(self) -> tuple[str, ...]:
        """Return the addresses of routers, which no client gets."""
        return ()

    def non_host_addresses(self) -> Sequence[int]:
        """Return the addresses that no host can have, such as the broadcast address."""
        raise NotImplementedError

    def reservations(self) -> Sequence[Reservation]:
        """Return the reservations of ``hosts``, in the same sequence."""
        raise NotImplementedError


def _reservations(values: Iterable[Reservation]) -> tuple[Reservation, ...]:
    return tuple(values)


@frozen(kw_only=True)
class Host(Reservation):
    """``[[dhcp.subnet.host]]``"""

    options: Mapping[int, bytes] = field(
        factory=dict, converter=option_values, hash=False, metadata={"toml": dict[str, Any]}
    )
    """Options by name or number, over those of the subnet and of the classes."""


@frozen(kw_only=True, eq=False)
class Subnet(AnySubnet):
    """``[[dhcp.subnet]]``"""

    parse_network = staticmethod(network)

    network: IPv4Network = field(converter=network, metadata={"toml": str})
    """The network, such as `"10.77.0.0/24"`."""
    pool: tuple[Range, ...] = field(default=(), converter=ranges4, metadata={"toml": list[str]})
    """The addresses to give, such as `["10.77.0.100-10.77.0.200"]`. Empty: reserved ones only."""
    exclude: tuple[Range, ...] = field(default=(), converter=ranges4, metadata={"toml": list[str]})
    """Addresses of the pool that are not given. Routers and our own addresses never are."""
    router: tuple[str, ...] = field(default=(), converter=addresses, metadata={"toml": str | list[str]})
    """The routers, the best first (option 3)."""
    dns: tuple[str, ...] = field(default=(), converter=addresses, metadata={"toml": str | list[str]})
    """The name servers, the best first (option 6)."""
    domain: str = ""
    """The domain of the clients' names (option 15)."""
    lease_seconds: int = field(default=3600, validator=check_lease_time)
    """How long an address is given for, 60 to 31536000."""
    firmware_lease_seconds: int = field(default=600, validator=check_lease_time)
    """The same for boot firmware and boot programs, which are done soon."""
    renew_seconds: int = 0
    """When clients renew their lease with us (option 58, T1). 0: it is left to them; they take half of the lease."""
    rebind_seconds: int = 0
    """When clients that could not renew turn to any server (option 59, T2). 0: it is left to them; they take seven
    eighths. Firmware gets neither where it is not less than its lease time."""
    known_clients_only: bool = False
    """Addresses are given to clients with a `[[dhcp.subnet.host]]` or a reservation only, with an address or without
    one. In a shared network the others get addresses of its other subnets."""
    rapid_commit: bool = False
    """Clients that request it (option 80, RFC 4039) get their address with the first answer. Only where no other server
    gives addresses: each would take one away."""
    shared_network: str = ""
    """Subnets with the same name are on the same link: a client gets an address of any of them."""
    relays: tuple[str, ...] = field(default=(), converter=addresses, metadata={"toml": list[str]})
    """Addresses of the relays that its clients are behind. Those inside the network are known anyway."""
    bootp: bool = False
    """BOOTP clients get addresses of the pool too, for ever; else reserved ones only."""
    options: Mapping[int, bytes] = field(factory=dict, converter=option_values, metadata={"toml": dict[str, Any]})
    """Other options for all of its clients, by name or number: `ntp-servers = ["10.77.0.1"]`. One that has no name here
    says its type: `"224" = {uint16 = 7}`. Bytes are `"0x0104"` or `"01:04"`; sub-options are a table:
    `vendor-specific = {"1" = {address = "10.77.0.9"}}`."""
    hosts: tuple[Reservation, ...] = field(
        default=(), converter=_reservations, metadata={"key": ("host",), "toml": list[dict[str, Any]], "tables": Host}
    )
    """What is reserved for single clients, `[[dhcp.subnet.host]]`; see below."""

    assignable: tuple[Range, ...] = field(init=False, repr=False)
    """See AnySubnet."""
    reply_options: Mapping[int, bytes] = field(init=False, repr=False)
    """Options for all clients, code to bytes."""
    system_options: Mapping[int, bytes] = field(init=False, repr=False)
    """The same with the lease time of systems."""
    firmware_options: Mapping[int, bytes] = field(init=False, repr=False)
    """The same with the lease time of boot firmware."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        configured = self._reply_options()
        object.__setattr__(self, "reply_options", configured)
        object.__setattr__(self, "system_options", self.times(self.lease_seconds) | configured)
        object.__setattr__(self, "firmware_options", self.times(self.firmware_lease_seconds) | configured)

    @property
    def link_name(self) -> str:
        """See AnySubnet."""
        return self.shared_network or str(self.network)

    def routers(self) -> tuple[str, ...]:
        """See AnySubnet."""
        return self.router

    def non_host_addresses(self) -> Sequence[int]:
        """Return the network and broadcast addresses; a network of two addresses has neither (RFC 3021)."""
        return (int(self.network[0]), int(self.network[-1])) if self.network.prefixlen < 31 else ()

    def reservations(self) -> Sequence[Reservation]:
        """See AnySubnet."""
        return self.hosts

    def times(self, lease_seconds: int) -> dict[int, bytes]:
        """Return the options for a lease time: with T1 and T2, as far as they are less than it."""
        times: dict[int, bytes] = {Option.LEASE_TIME: uint32_bytes(lease_seconds)}
        for code, value in ((Option.RENEWAL_TIME, self.renew_seconds), (Option.REBINDING_TIME, self.rebind_seconds)):
            if 0 < value < lease_seconds:
                times[code] = uint32_bytes(value)
        return times

    def _reply_options(self) -> dict[int, bytes]:
        configured: dict[int, bytes] = {Option.SUBNET_MASK: address_bytes(str(self.network.netmask))}
        if self.router:
            configured[Option.ROUTER] = addresses_bytes(self.router)
        if self.dns:
            configured[Option.DOMAIN_NAME_SERVER] = addresses_bytes(self.dns)
        if self.domain:
            configured[Option.DOMAIN_NAME] = text_bytes(self.domain)
        return configured | dict(self.options)


def check_subnets(subnets: Sequence[AnySubnet]) -> None:
    """Check that subnets don't overlap, and that no relay or identifier of a host occurs twice.

    :raise ConfigError: they do; the path begins with "subnet" and the index of the later one.
    """
    collector = ErrorCollector()
    sorted_subnets = sorted(enumerate(subnets), key=lambda entry: (int(entry[1].network[0]), int(entry[1].network[-1])))
    for (one, first), (other, second) in pairwise(sorted_subnets):
        if int(second.network[0]) <= int(first.network[-1]):
            later, earlier = max(one, other), min(one, other)
            collector.note(f"{subnets[later].network} overlaps {subnets[earlier].network}", "subnet", later, "network")
    seen: set[tuple[str, ...]] = set()
    for index, subnet in enumerate(subnets):
        for at, relay in enumerate(subnet.relays):
            if ("relay", relay) in seen:
                collector.note(f"{relay} is a relay of another subnet already", "subnet", index, "relays", at)
            seen.add(("relay", relay))
        for at, host in enumerate(subnet.reservations()):
            for key, value in reservation_keys(host):
                if (subnet.link_name, key, str(value)) in seen:
                    spelled = subnet.host_keys.get(key, key)
                    collector.note("there is a host with the same one already", "subnet", index, "host", at, spelled)
                seen.add((subnet.link_name, key, str(value)))
    collector.finish()


def check_class_pools(classes: Sequence[Any], subnets: Sequence[AnySubnet]) -> None:
    """Check that the pools of client classes are inside of subnets, and that no address is in two of them.

    :param classes: ClientClass values.
    :raise ConfigError: they are not; the path begins with "class" and the index of the later one.
    """
    collector = ErrorCollector()
    networks = [(int(subnet.network[0]), int(subnet.network[-1])) for subnet in subnets]
    seen: list[Range] = []
    for index, each in enumerate(classes):
        for at, (first, last) in enumerate(each.pool):
            if not any(low <= first and last <= high for low, high in networks):
                collector.note("is not inside the network of a subnet", "class", index, "pool", at)
            elif any(first <= high and low <= last for low, high in seen):
                collector.note("overlaps a pool of a class", "class", index, "pool", at)
            seen.append((first, last))
    collector.finish()
