"""Subnets as they are configured: which addresses are given to clients, and with which options."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from itertools import pairwise
from typing import Any, ClassVar

from attrs import field, frozen

from bootfw.dhcp.optionvalues import option_values
from bootfw.dhcp.ranges import Range, check_inside, check_lease_time, check_renewal, each, number_of, ranges4, without
from bootfw.errors import ErrorCollector
from bootfw.lease import Reservation, address_text, known_by
from bootfw.wire.options import Option, address_bytes, addresses_bytes, text_bytes, uint32_bytes


def network(value: str | IPv4Network) -> IPv4Network:
    """``"10.77.0.0/24"``."""
    try:
        return IPv4Network(value)
    except ValueError as error:
        raise ValueError(f'must be a network, such as "10.77.0.0/24": {error}') from None


def addresses(values: str | Iterable[str]) -> tuple[str, ...]:
    """One address or several."""
    return (address_text(values),) if isinstance(values, str) else each(address_text, values)


class AnySubnet:
    """What the subnets of DHCPv4 and DHCPv6 have in common. Options, lease times and hosts are spelled differently."""

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
    free: tuple[Range, ...]
    """The pool without addresses that must not be given, in the order of the pool."""

    read_network: ClassVar[Callable[..., IPv4Network | IPv6Network]]
    host_keys: ClassVar[Mapping[str, str]] = {}
    """Key of known_by() -> that of the configuration, where they differ."""

    @classmethod
    def check_table(cls, table: Mapping[str, Any]) -> None:
        """Check how the values of a table fit together, whether or not each is right.

        :raise ConfigError: they do not, with the path below *table*.
        """
        try:
            own = cls.read_network(table.get("network", ""))
        except (ValueError, TypeError):
            return
        check_inside(own, table)

    def __attrs_post_init__(self) -> None:
        given = {"pool": self.pool, "exclude": self.exclude, "router": self.routers(), "host": self.hosts}
        self.check_table({"network": self.network, **given})
        check_renewal(self.renew_seconds, self.rebind_seconds, self.lease_seconds)
        taken = [*self.exclude, *((number, number) for number in map(number_of, self.routers()))]
        taken += [(number, number) for number in self.no_hosts()]
        object.__setattr__(self, "free", without(self.pool, taken))

    @property
    def wire(self) -> str:
        """The name of the network that clients are in: the same for subnets that share a wire."""
        return str(self.network)

    def contains(self, address: str) -> bool:
        """Whether *address* is in the network."""
        return number_of(address) & int(self.network.netmask) == int(self.network.network_address)

    def routers(self) -> tuple[str, ...]:
        """Addresses of routers, which no client gets."""
        return ()

    def no_hosts(self) -> Sequence[int]:
        """Addresses of the network that belong to no host."""
        raise NotImplementedError

    def reservations(self) -> Sequence[Reservation]:
        """What is configured for single clients, in the order of ``hosts``."""
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

    read_network = staticmethod(network)

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
    """Subnets with the same name are on the same wire: a client gets an address of any of them."""
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

    free: tuple[Range, ...] = field(init=False, repr=False)
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
        object.__setattr__(self, "system_options", self._times(self.lease_seconds) | configured)
        object.__setattr__(self, "firmware_options", self._times(self.firmware_lease_seconds) | configured)

    @property
    def wire(self) -> str:
        """See AnySubnet."""
        return self.shared_network or str(self.network)

    def routers(self) -> tuple[str, ...]:
        """See AnySubnet."""
        return self.router

    def no_hosts(self) -> Sequence[int]:
        """The network and its broadcast address; a network of two addresses has neither (RFC 3021)."""
        return (int(self.network[0]), int(self.network[-1])) if self.network.prefixlen < 31 else ()

    def reservations(self) -> Sequence[Reservation]:
        """See AnySubnet."""
        return self.hosts

    def _times(self, lease_seconds: int) -> dict[int, bytes]:
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


def check_together(subnets: Sequence[AnySubnet]) -> None:
    """:raise ConfigError: two of *subnets* contradict each other; the path begins with "subnet" and the later one."""
    collector = ErrorCollector()
    places = sorted(enumerate(subnets), key=lambda place: (int(place[1].network[0]), int(place[1].network[-1])))
    for (one, first), (other, second) in pairwise(places):
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
            for key, value in known_by(host):
                if (subnet.wire, key, str(value)) in seen:
                    spelled = subnet.host_keys.get(key, key)
                    collector.note("there is a host with the same one already", "subnet", index, "host", at, spelled)
                seen.add((subnet.wire, key, str(value)))
    collector.finish()
