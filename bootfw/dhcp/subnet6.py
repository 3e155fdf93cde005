"""IPv6 subnets in the configuration: the addresses that clients get, and their options."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, IPv6Network
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

from bootfw.dhcp.optionvalues import option_values6
from bootfw.dhcp.ranges import Range, check_lease_time, convert_all, ranges6
from bootfw.dhcp.subnet import AnySubnet
from bootfw.lease import Reservation, check_host_lease_time, mac_text, mac_texts
from bootfw.lease import duid as _duid
from bootfw.wire.options6 import Option, Values, addresses_bytes, domains_bytes


def network6(value: str | IPv6Network) -> IPv6Network:
    """Parse an IPv6 network, such as ``"fd77::/64"``.

    :raise ValueError: it is not a network.
    """
    try:
        return IPv6Network(value)
    except ValueError as error:
        raise ValueError(f'must be an IPv6 network, such as "fd77::/64": {error}') from None


def address6(value: str) -> str:
    """Return an IPv6 address in canonical form (RFC 5952).

    :raise ValueError: it is not an IPv6 address.
    """
    try:
        return str(IPv6Address(value))
    except ValueError:
        raise ValueError(f'must be an IPv6 address, such as "fd77::10", not "{value}"') from None


def addresses6(values: str | Iterable[str]) -> tuple[str, ...]:
    """Parse one IPv6 address or several.

    :raise ConfigError: one is not an address.
    """
    return convert_all(address6, [values] if isinstance(values, str) else values)


def domains6(values: str | Iterable[str]) -> tuple[str, ...]:
    """Check one domain name or several.

    :raise ConfigError: one can't be encoded.
    """

    def domain(value: str) -> str:
        domains_bytes([value])
        return value

    return convert_all(domain, [values] if isinstance(values, str) else values)


def _address(value: str) -> str:
    return address6(value) if value else ""


def _mac(value: str) -> str:
    return mac_text(value) if value else ""


@frozen(kw_only=True)
class Host6:
    """``[[dhcp6.subnet.host]]``"""

    address: str = field(default="", converter=_address)
    """The address, in the pool or not. Empty: any of the pool."""
    mac: str = field(default="", converter=_mac)
    """The hardware address of the client, which firmware, boot program and system have in common."""
    other_macs: tuple[str, ...] = field(default=(), converter=mac_texts, metadata={"toml": list[str]})
    """More hardware addresses of the same machine: of its dock, of the cards of a bond."""
    duid: bytes = field(default=b"", converter=_duid, metadata={"toml": str})
    """The client identifier (option 1): `"0x00030001525400123456"` or `"00:03:00:01:52:54:00:12:34:56"`."""
    lease_seconds: int = field(default=0, validator=check_host_lease_time)
    """How long an address is given to it for, 60 to 31536000. 0: as long as the subnet says."""
    options: Values = field(factory=dict, converter=option_values6, hash=False, metadata={"toml": dict[str, Any]})
    """Options by name or number, over those of the subnet and of the classes."""

    def __attrs_post_init__(self) -> None:
        if not (self.macs or self.duid):
            raise ValueError("needs mac, duid or both")

    @property
    def macs(self) -> tuple[str, ...]:
        """All of its hardware addresses."""
        return (self.mac, *self.other_macs) if self.mac else self.other_macs

    @classmethod
    def of(cls, reservation: Reservation) -> "Host6":
        """Convert a reservation.

        :raise ValueError: it is not for a client of DHCPv6.
        """
        if reservation.family != 6:
            raise ValueError(f"{reservation.address or 'a reservation without an address'} is not of IPv6")
        if reservation.uuid or reservation.circuit_id or reservation.hostname:
            raise ValueError("by DHCPv6 a client is known by its MAC and its DUID, and gets no name")
        return cls(
            address=reservation.address,
            mac=reservation.mac,
            duid=reservation.client_id,
            options=reservation.options,
            other_macs=reservation.other_macs,
            lease_seconds=reservation.lease_seconds,
        )

    def reservation(self) -> Reservation:
        """Convert to a Reservation."""
        return Reservation(
            self.address,
            mac=self.mac,
            client_id=self.duid,
            options=self.options,
            other_macs=self.other_macs,
            lease_seconds=self.lease_seconds,
        )


def _hosts(values: Iterable[Host6]) -> tuple[Host6, ...]:
    return tuple(values)


@frozen(kw_only=True, eq=False)
class Subnet6(AnySubnet):
    """``[[dhcp6.subnet]]``"""

    parse_network = staticmethod(network6)
    host_keys = MappingProxyType({"client-id": "duid"})

    network: IPv6Network = field(converter=network6, metadata={"toml": str})
    """The network, such as `"fd77::/64"`. Routers have to advertise it, with the flag M."""
    pool: tuple[Range, ...] = field(default=(), converter=ranges6, metadata={"toml": list[str]})
    """The addresses to give, such as `["fd77::1000-fd77::1fff"]`. Empty: reserved ones only."""
    exclude: tuple[Range, ...] = field(default=(), converter=ranges6, metadata={"toml": list[str]})
    """Addresses of the pool that are not given. Our own never are."""
    dns: tuple[str, ...] = field(default=(), converter=addresses6, metadata={"toml": str | list[str]})
    """The name servers, the best first (option 23)."""
    domain: tuple[str, ...] = field(default=(), converter=domains6, metadata={"toml": str | list[str]})
    """The search list for names (option 24)."""
    lease_seconds: int = field(default=3600, validator=check_lease_time)
    """How long an address is given for, 60 to 31536000. Clients renew after three eighths of it."""
    renew_seconds: int = 0
    """When clients renew (T1). 0: after three eighths of `lease-seconds`."""
    rebind_seconds: int = 0
    """When clients that could not renew turn to any server (T2). 0: after six tenths of `lease-seconds`."""
    known_clients_only: bool = False
    """Addresses are given to clients with a `[[dhcp6.subnet.host]]` or a reservation only, with an address or without
    one."""
    rapid_commit: bool = True
    """Clients that request it (option 14) get their address with the first answer. Off where other servers give
    addresses too: each would take one away."""
    relays: tuple[str, ...] = field(default=(), converter=addresses6, metadata={"toml": list[str]})
    """Link addresses of the relays that its clients are behind. Those inside the network are known anyway."""
    options: Values = field(factory=dict, converter=option_values6, metadata={"toml": dict[str, Any]})
    """Other options for those of its clients that request them, by name or number: `sntp-servers = ["fd77::1"]`. One
    that has no name here says its type: `"65000" = {uint16 = 7}`. Vendors' own go by their enterprise numbers:
    `vendor-opts = {"9" = {"1" = {text = "x"}}}`."""
    hosts: tuple[Host6, ...] = field(
        default=(), converter=_hosts, metadata={"key": ("host",), "toml": list[dict[str, Any]], "tables": Host6}
    )
    """What is reserved for single clients, `[[dhcp6.subnet.host]]`; see below."""

    times: tuple[int, int] = field(init=False, repr=False)
    """T1 and T2."""
    assignable: tuple[Range, ...] = field(init=False, repr=False)
    """See AnySubnet."""
    reply_options: Values = field(init=False, repr=False)
    """Options for all clients that request them."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        object.__setattr__(self, "times", self.times_of(self.lease_seconds))
        configured: dict[int, bytes] = {}
        if self.dns:
            configured[Option.DNS_SERVERS] = addresses_bytes(self.dns)
        if self.domain:
            configured[Option.DOMAIN_LIST] = domains_bytes(self.domain)
        object.__setattr__(self, "reply_options", configured | dict(self.options))

    def times_of(self, lease_seconds: int) -> tuple[int, int]:
        """Return T1 and T2 for a lease time; those of the configuration count as far as they are less than it."""
        renew, rebind = (
            seconds if seconds < lease_seconds else 0 for seconds in (self.renew_seconds, self.rebind_seconds)
        )
        usual = lease_seconds * 3 // 8
        renew = renew or min(usual, rebind or usual)
        return renew, rebind or max(lease_seconds * 3 // 5, renew)

    def non_host_addresses(self) -> Sequence[int]:
        """Return the subnet-router anycast address (RFC 4291 section 2.6.1)."""
        return (int(self.network[0]),)

    def reservations(self) -> Sequence[Reservation]:
        """See AnySubnet."""
        return tuple(host.reservation() for host in self.hosts)
