"""The settings, as frozen values with defaults. An embedder creates them directly, others by a configuration file.

The string below a field is its description in docs/configuration.md. The ``metadata`` of a field is described in
:func:`bootfw.config.tables.fields_of`.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from attrs import field, frozen

from bootfw.config.units import Seconds, Size
from bootfw.dhcp.hostclass import HostClass, HostClass6
from bootfw.dhcp.ranges import convert_all
from bootfw.dhcp.subnet import Subnet, check_class_pools, check_subnets
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.errors import ConfigError
from bootfw.lease import mac_beginning, mac_text, uuid_text
from bootfw.personas.rule import Rule

ListenAddress = tuple[str, int]
"""(IPv4 or IPv6 address, UDP or TCP port)."""


def listen_address(text: str) -> ListenAddress:
    """Convert ``"0.0.0.0:69"`` or ``"[::]:69"`` to (address, port).

    :raise ValueError: *text* is not an address and a port.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
        if bracketed != (address.version == 6):
            raise ValueError
    except ValueError:
        raise ValueError(f'must be an address and a port, such as "0.0.0.0:69" or "[::]:69", not "{text}"') from None
    return str(address), int(port)


def listen_addresses(values: Iterable[str | ListenAddress]) -> tuple[ListenAddress, ...]:
    """Convert each of *values* to (address, port); a repeated one is an error."""
    found: list[ListenAddress] = []

    def read(value: str | ListenAddress) -> None:
        address = listen_address(value) if isinstance(value, str) else value
        if address in found:
            raise ValueError(f"{address[0]} port {address[1]} is given twice")
        found.append(address)

    convert_all(read, values)
    return tuple(found)


def transfer_ports(value: str | tuple[int, int]) -> str | tuple[int, int]:
    """Check "single" or "ephemeral", or convert a range such as "30000-30999" to (first, last)."""
    if value in ("single", "ephemeral"):
        return value
    try:
        first, last = map(int, value.split("-")) if isinstance(value, str) else value
    except ValueError:
        first, last = 0, 0
    if first > last > 0:
        raise ValueError(f'is reversed: write "{last}-{first}"')
    if not 0 < first <= last < 65536:
        raise ValueError(f'must be "single", "ephemeral" or a range such as "30000-30999", not "{value}"')
    return first, last


RESTART: Mapping[str, bool] = {"restart": True}
"""Metadata of a key whose change needs a restart."""


def interface_names(values: Iterable[str]) -> tuple[str, ...]:
    """Check names of interfaces: the kernel allows up to 15 bytes, without blanks and slashes."""

    def read(name: str) -> str:
        if not 0 < len(name.encode()) < 16 or "/" in name or name.split() != [name]:
            raise ValueError(f'"{name}" can\'t be the name of an interface')
        return name

    return convert_all(read, values)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(values: Iterable[str | Network]) -> tuple[Network, ...]:
    """Convert networks and addresses: ``"10.0.0.0/8"``, ``"10.0.0.5"``, ``"fd77::/64"``."""

    def read(value: str | Network) -> Network:
        try:
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f'must be an address or a network, such as "10.0.0.0/8", not "{value}"') from None
        if isinstance(value, str) and ipaddress.ip_address(value.partition("/")[0]) != network.network_address:
            raise ValueError(f'"{value}" has bits behind its prefix: write "{network}"')
        return network

    return convert_all(read, values)


def _check_groups(instance: Any, attribute: Any, value: str) -> None:
    if value:
        group_range(value)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def within(low: float, high: float, unit: str) -> Callable[[Any, Any, Any], None]:
    """Return a validator for numbers from *low* to *high*, both included."""

    def check(instance: Any, attribute: Any, value: float) -> None:
        if not low <= value <= high:  # NaN fails this comparison
            raise ValueError(f"must be from {low} to {high} {unit}, not {value}")

    return check


def one_of(*allowed: str) -> Callable[[Any, Any, Any], None]:
    """Return a validator that accepts only the strings *allowed*."""

    def check(instance: Any, attribute: Any, value: str) -> None:
        if value not in allowed:
            *others, last = map(quoted, allowed)
            raise ValueError(f"must be {', '.join(others)} or {last}, not {quoted(value)}")

    return check


def quoted(word: str) -> str:
    """Return *word* in double quotes, as it is written in TOML."""
    return f'"{word}"'


def _check_mode(section: str, mode: Any, subnets: Any) -> None:
    if mode == "server" and not subnets:
        raise ConfigError(f'"server" needs a [[{section}.subnet]] to give addresses of', ("mode",))
    if mode in ("off", "proxy") and subnets:
        raise ConfigError(f'no addresses are given with mode = "{mode}"; that needs "server"', ("subnet",))


_port = within(1, 65535, "(a UDP port)")


# attrs takes the type of an argument from its converter, and with `converter=tuple` type checkers refuse lists.


def _mac_beginnings(values: Iterable[str]) -> tuple[str, ...]:
    return convert_all(mac_beginning, values)


def _subnets(values: Iterable[Subnet]) -> tuple[Subnet, ...]:
    return tuple(values)


def _subnets6(values: Iterable[Subnet6]) -> tuple[Subnet6, ...]:
    return tuple(values)


def _classes(values: Iterable[HostClass]) -> tuple[HostClass, ...]:
    return tuple(values)


def _classes6(values: Iterable[HostClass6]) -> tuple[HostClass6, ...]:
    return tuple(values)


def _rules(values: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(values)


def _machines(values: "Iterable[MachineSettings]") -> "tuple[MachineSettings, ...]":
    return tuple(values)


def _one_or_more(convert: Callable[[str], str], values: str | Iterable[str]) -> tuple[str, ...]:
    return (convert(values),) if isinstance(values, str) else convert_all(convert, values)


def _macs(values: str | Iterable[str]) -> tuple[str, ...]:
    return _one_or_more(mac_text, values)


def _uuids(values: str | Iterable[str]) -> tuple[str, ...]:
    return _one_or_more(uuid_text, values)


def _ip_addresses(values: str | Iterable[str]) -> tuple[str, ...]:
    def read(value: str) -> str:
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError(f'must be an IP address, not "{value}"') from None

    return _one_or_more(read, values)


def _groups(values: str | Iterable[str]) -> tuple[str, ...]:
    return _one_or_more(str, values)


def _host_name(instance: Any, attribute: Any, value: str) -> None:
    if not re.fullmatch(r"[\w.:-]*", value, re.ASCII):
        raise ValueError(f'must be letters, digits and . _ : -, not "{value}"')


@frozen
class TFTPSettings:
    """``[tftp]``"""

    listen: tuple[ListenAddress, ...] = field(
        default=(("0.0.0.0", 69), ("::", 69)), converter=listen_addresses, metadata={"toml": list[str]}
    )
    """Addresses and UDP ports to listen on; port 0: the kernel chooses. Empty: no TFTP."""
    ports: str | tuple[int, int] = field(default="single", converter=transfer_ports, metadata={"toml": str})
    """`"single"`: every reply leaves from the port that received the request, which works through NAT, containers and
    load balancers.
    `"ephemeral"`: a port for each transfer, the kernel's choice (RFC 1350). `"30000-30999"`: the same, from a range."""
    writable: bool = False
    """Clients may upload; the first writable backend takes the file."""
    max_blksize: int = field(default=1468, validator=within(8, 65464, "bytes (RFC 2348)"))
    """Largest block size in bytes that is acknowledged (RFC 2348), 8 to 65464."""
    max_windowsize: int = field(default=64, validator=within(1, 65535, "blocks (RFC 7440)"))
    """Largest window in blocks that is acknowledged (RFC 7440), 1 to 65535."""
    cache_size: int = field(
        default=256 * 1024 * 1024, validator=within(0, 1 << 40, "bytes (1 TiB)"), metadata={"toml": Size, **RESTART}
    )
    """Most memory for files that are cached as DATA packets, shared by all transfers; allocated as files are requested.
    Files that do not fit are read for each transfer. 0: no cache."""
    writable_by: tuple[Network, ...] = field(default=(), converter=networks, metadata={"toml": list[str]})
    """Addresses and networks of the clients that may upload, such as `["10.0.0.0/24", "fd77::9"]`. Empty: all of them.
    Needs `writable = true`."""
    multicast_groups: str = field(default="", validator=_check_groups, metadata=RESTART)
    """IPv4 multicast addresses, such as `"239.255.77.1-239.255.77.14"`, for clients that request the option `multicast`
    (RFC 2090): those of one file are a group with an address of its own, and each block is sent once for all of them,
    to UDP port 1758. When no address is left, and to clients without that option, files are sent one by one. Needs one
    process that serves files, so `workers` is 1 then. Empty: no multicast."""
    multicast_ttl: int = field(default=1, validator=within(1, 255, "hops"), metadata=RESTART)
    """How many routers multicast may pass, plus one: 1 to 255. With 1, the default of IP (RFC 1112, section 6.1), it
    stays in the network of the server."""

    def __attrs_post_init__(self) -> None:
        if self.writable_by and not self.writable:
            raise ConfigError("no client may upload without writable = true", ("writable-by",))


@frozen
class DHCPSettings:
    """``[dhcp]``"""

    mode: str = field(default="proxy", validator=one_of("off", "proxy", "server"))
    """`"proxy"`: names the boot files, next to another DHCP server that gives the addresses (proxyDHCP).
    `"server"`: gives the addresses too, to all clients. `"off"`: no DHCP at all."""
    server_port: int = field(default=67, validator=_port, metadata={"key": ("ports", "server")})
    """UDP port of the DHCP server."""
    client_port: int = field(default=68, validator=_port, metadata={"key": ("ports", "client")})
    """UDP port of the clients, which replies are sent to."""
    boot_server_port: int = field(default=4011, validator=_port, metadata={"key": ("ports", "boot-server")})
    """UDP port of the PXE boot server."""
    answer_within_seconds: float = field(default=0.8, validator=within(0.05, 60, "seconds"), metadata={"toml": Seconds})
    """Timeout of all resolvers together, 50 ms to 60 s. iPXE requests port 4011 only twice, one second apart."""
    authoritative: bool = False
    """This is the only DHCP server of its networks: a client that requests an address without a lease here gets it if
    it is free, or else a NAK at once. False: such requests are ignored."""
    identify_by: str = field(default="hardware", validator=one_of("hardware", "client-id"))
    """What identifies a client. `"hardware"`: the address of the network card, so that firmware, boot program and
    system get one address. `"client-id"`: option 61 where it is sent (RFC 2131), for several clients on one card."""
    foreign_networks: bool = False
    """Start with subnets that this machine has no address in, for clients behind relays. Subnets that name their
    relays need not set this."""
    ignore: tuple[str, ...] = field(default=(), converter=_mac_beginnings, metadata={"toml": list[str]})
    """Hardware addresses of clients that get no reply, neither an address nor a boot file, such as
    `["52:54:00:12:34:56"]`; the first bytes alone, `"52:54:00"`, stand for all that begin with them."""
    probe_seconds: float = field(default=0.2, validator=within(0, 5, "seconds"), metadata={"toml": Seconds, **RESTART})
    """Conflict detection: how long bootfw waits for a reply when it probes an address before it offers it to a new
    client, 0 to 5 s; by ARP on networks of this machine, by ping behind relays. 0: no probe. ROMs retry after 1 s."""
    new_clients_per_second: int = field(default=200, validator=within(0, 1000000, "clients"))
    """Unknown clients that are given an address in a second, for each interface, and for each relay and circuit; on an
    interface or relay with more than four times as many free addresses a quarter of these. Known clients are always
    served. 0: any number."""
    store_outage_seconds: float = field(
        default=1800.0, validator=within(0, 31536000, "seconds"), metadata={"toml": Seconds, **RESTART}
    )
    """With a store that several servers share: how long leases are renewed beyond their end while the store can't be
    reached, by DHCPv6 too. The store keeps each address for its client so much longer, and a minute, so that no other
    server gives it to another machine; the clocks of the servers may differ by less than that minute."""
    subnets: tuple[Subnet, ...] = field(
        default=(),
        converter=_subnets,
        metadata={"key": ("subnet",), "toml": list[dict[str, Any]], "tables": Subnet},
    )
    """The subnets that addresses are given in, `[[dhcp.subnet]]`; see below."""
    classes: tuple[HostClass, ...] = field(
        default=(),
        converter=_classes,
        metadata={"key": ("class",), "toml": list[dict[str, Any]], "tables": HostClass},
    )
    """Options and pools of kinds of clients, `[[dhcp.class]]`; see below. A later one wins over an earlier one."""

    def __attrs_post_init__(self) -> None:
        self.check_table({"mode": self.mode, "subnet": self.subnets})
        check_subnets(self.subnets)
        check_class_pools(self.classes, self.subnets)

    @staticmethod
    def check_table(table: Mapping[str, Any]) -> None:
        """Check a section of which some value is wrong: whether mode and subnets fit together.

        :raise ConfigError: they don't, with the path below *table*.
        """
        _check_mode("dhcp", table.get("mode", "proxy"), table.get("subnet", ()))


@frozen
class DHCP6Settings:
    """``[dhcp6]``"""

    mode: str = field(default="off", validator=one_of("off", "proxy", "server"))
    """`"proxy"`: names the boot files, next to a DHCPv6 server or router that gives the addresses. `"server"`: gives
    the addresses too, to all clients. `"off"`: no DHCPv6 at all. Without a configuration file it is `"proxy"` if its
    ports are free."""
    server_port: int = field(default=547, validator=_port, metadata={"key": ("ports", "server")})
    """UDP port for clients and relays."""
    client_port: int = field(default=546, validator=_port, metadata={"key": ("ports", "client")})
    """UDP port of the clients, which replies are sent to."""
    boot_server_port: int = field(default=4011, validator=_port, metadata={"key": ("ports", "boot-server")})
    """UDP port of the PXE boot server."""
    ignore: tuple[str, ...] = field(default=(), converter=_mac_beginnings, metadata={"toml": list[str]})
    """Hardware addresses of clients that get no reply, neither an address nor a boot file; the first bytes alone stand
    for all that begin with them."""
    new_clients_per_second: int = field(default=200, validator=within(0, 1000000, "clients"))
    """Unknown clients that are given an address in a second, for each interface, and for each relay and port. Known
    clients are always served. 0: any number."""
    foreign_networks: bool = False
    """Start with subnets that this machine has no address in, for clients behind relays. Subnets that name their
    relays need not set this."""
    subnets: tuple[Subnet6, ...] = field(
        default=(),
        converter=_subnets6,
        metadata={"key": ("subnet",), "toml": list[dict[str, Any]], "tables": Subnet6},
    )
    """The subnets that addresses are given in, `[[dhcp6.subnet]]`; see below."""
    classes: tuple[HostClass6, ...] = field(
        default=(),
        converter=_classes6,
        metadata={"key": ("class",), "toml": list[dict[str, Any]], "tables": HostClass6},
    )
    """Options and pools of kinds of clients, `[[dhcp6.class]]`; see below. A later one wins over an earlier one."""

    def __attrs_post_init__(self) -> None:
        self.check_table({"mode": self.mode, "subnet": self.subnets})
        check_subnets(self.subnets)
        check_class_pools(self.classes, self.subnets)

    @staticmethod
    def check_table(table: Mapping[str, Any]) -> None:
        """Check a section of which some value is wrong: whether mode and subnets fit together.

        :raise ConfigError: they don't, with the path below *table*.
        """
        _check_mode("dhcp6", table.get("mode", "off"), table.get("subnet", ()))


@frozen
class HTTPSettings:
    """``[http]``"""

    listen: tuple[ListenAddress, ...] = field(default=(), converter=listen_addresses, metadata={"toml": list[str]})
    """Addresses and TCP ports to listen on, such as `["0.0.0.0:8069"]`. Empty: no HTTP.
    Without a configuration file it is port 8069, if that is free."""
    https_listen: tuple[ListenAddress, ...] = field(
        default=(), converter=listen_addresses, metadata={"toml": list[str]}
    )
    """Addresses and TCP ports for HTTPS, such as `["0.0.0.0:8443"]`. Needs `certificate`, and pyOpenSSL: the extra
    `bootfw[tls]`."""
    certificate: str = field(default="", metadata=RESTART)
    """A PEM file with the certificate and its intermediate certificates: certbot's `fullchain.pem`. Relative to the
    configuration file. A renewed certificate is loaded without a restart."""
    key: str = field(default="", metadata=RESTART)
    """The certificate's private key, a PEM file without a password. Empty: it is in the file of the certificate."""

    def __attrs_post_init__(self) -> None:
        if self.https_listen and not self.certificate:
            raise ConfigError(
                'https-listen needs certificate = "fullchain.pem" and key = "privkey.pem"', ("certificate",)
            )


_SHORTEST_TOKEN = 16
"""In characters. A token of 16 random hexadecimal digits (64 bits) can't be guessed over a network."""


def host_names(values: Iterable[str]) -> tuple[str, ...]:
    """Convert host names to the form in which browsers send them: lower-case, without a port."""

    def read(name: str) -> str:
        lower = name.lower().rstrip(".")
        if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", lower):
            raise ValueError(f'must be a host name without a port, such as "boot.example.org", not "{name}"')
        return lower

    return convert_all(read, values)


def _check_token(instance: Any, attribute: Any, value: str) -> None:
    if value and not (value.isascii() and value.isprintable() and " " not in value):
        raise ValueError("must be ASCII without blanks; `openssl rand -hex 16` prints a good one")
    if 0 < len(value) < _SHORTEST_TOKEN:
        raise ValueError(
            f"must have at least {_SHORTEST_TOKEN} characters, not {len(value)}; "
            "`openssl rand -hex 16` prints a good one"
        )


def _scopes(values: Iterable[str]) -> tuple[str, ...]:
    scopes = tuple(values)
    for scope in scopes:
        if scope not in ("read", "write"):
            raise ValueError(f'must be a list of "read" and "write", not of "{scope}"')
    if not scopes:
        raise ValueError('must have "read" or "write"')
    return scopes


def _needed_token(instance: Any, attribute: Any, value: str) -> None:
    if not value:
        raise ValueError("is empty; `openssl rand -hex 16` prints a good one")
    _check_token(instance, attribute, value)


@frozen
class APIToken:
    """``[[web.api-token]]``: a program that may use `/api/v1`."""

    name: str
    """What the log calls the program."""
    token: str = field(validator=_needed_token, repr=False)
    """Its password, at least 16 characters."""
    scopes: tuple[str, ...] = field(default=("read",), converter=_scopes, metadata={"toml": list[str]})
    """`"read"`: it may read machines and boots. `"write"`: it may change machines and set one-time boots."""


def _api_tokens(values: Iterable[APIToken]) -> tuple[APIToken, ...]:
    tokens = tuple(values)
    if len({each.token for each in tokens}) < len(tokens):
        raise ValueError("two programs have the same token; give each its own")
    return tokens


@frozen
class WebSettings:
    """``[web]``"""

    listen: tuple[ListenAddress, ...] = field(
        default=(("127.0.0.1", 8067),), converter=listen_addresses, metadata={"toml": list[str]}
    )
    """Addresses and TCP ports of the operator's pages: `/`, `/api`, `/healthz`, `/readyz` and `/metrics`. Any client
    that can connect can read them. If the default port is in use, there are no pages, and this is logged. Empty: no
    pages."""
    hosts: tuple[str, ...] = field(default=(), converter=host_names, metadata={"toml": list[str]})
    """Host names of the pages, such as `["boot.example.org"]`, beside addresses, `localhost` and the name of this host.
    Requests for other names are refused, so that other web sites can't read the pages (DNS rebinding)."""
    token: str = field(default="", validator=_check_token, repr=False)
    """Password for changes over the web: to set and cancel one-time boots, and to release leases. At least 16
    characters. Empty: nothing can be changed over the web."""
    api_tokens: tuple[APIToken, ...] = field(
        default=(),
        converter=_api_tokens,
        metadata={"key": ("api-token",), "toml": list[dict[str, Any]], "tables": APIToken},
    )
    """The programs that may use `/api/v1`, `[[web.api-token]]`; see below. Without any it is off."""


def group_address(value: str | ListenAddress) -> ListenAddress:
    """Convert ``"239.192.1.2:21700"`` to (group, port).

    :raise ValueError: *value* is not an IPv4 multicast address and a port.
    """
    address, port = listen_address(value) if isinstance(value, str) else value
    if not port or ":" in address:
        raise ValueError(f'must be an IPv4 group and a port, such as "239.192.1.2:21700", not "{value}"')
    check_group(address)
    return address, port


def check_group(address: str) -> None:
    """Check that images can be sent to a group.

    :raise ValueError: it is none, or its Ethernet address is one that switches flood or hosts need for themselves.
    """
    group = ipaddress.IPv4Address(address)
    if not group.is_multicast:
        raise ValueError(f'"{address}" is no multicast address; those for use inside a site begin with "239."')
    # RFC 1112 section 6.4: the Ethernet address has the lower 23 bits. RFC 4541 section 2.1.2: 224.0.0.x is flooded.
    if int(group) >> 8 & 0x7FFF == 0:
        raise ValueError(f'"{address}" has the Ethernet address of a group 224.0.0.x, which switches flood')


def group_range(text: str) -> tuple[str, str]:
    """Convert ``"239.192.1.2-239.192.1.254"`` to (first, last).

    :raise ValueError: *text* is no range of groups that images can be sent to.
    """
    first, _, last = text.partition("-")
    try:
        low, high = ipaddress.IPv4Address(first.strip()), ipaddress.IPv4Address((last or first).strip())
    except ValueError:
        raise ValueError(f'must be IPv4 groups, such as "239.192.1.2-239.192.1.254", not "{text}"') from None
    if low > high:
        raise ValueError(f'is reversed: write "{high}-{low}"')
    if int(high) - int(low) >= 1 << 16:
        raise ValueError(f"has {int(high) - int(low) + 1} groups; it may have 65536")
    check_group(str(low))
    check_group(str(high))
    return str(low), str(high)


def port_range(text: str) -> tuple[int, int]:
    """Convert ``"21700-21955"`` to (first, last).

    :raise ValueError: *text* is no range of ports.
    """
    found = transfer_ports(text) if text not in ("single", "ephemeral") else text
    if isinstance(found, str):
        raise ValueError(f'must be a range such as "21700-21955", not "{text}"')
    return found


def _converts(convert: Callable[[str], object]) -> Callable[[Any, Any, str], None]:
    """Return a validator for strings that *convert* takes."""
    return lambda instance, attribute, value: (convert(value), None)[1]


def _methods(values: Iterable[str]) -> tuple[str, ...]:
    supported = ("multicast", "unicast", "broadcast")

    def read(method: str) -> str:
        if method not in supported:
            raise ValueError(f'must be a list of "multicast", "unicast" and "broadcast", not of "{method}"')
        return method

    found = convert_all(read, values)
    if not found:
        raise ValueError(f"must have one of {', '.join(map(quoted, supported))}")
    return found


@frozen
class MulticastImage:
    """``[[multicast.image]]``: an image with a group and port of its own, for receivers that do not ask the master
    server."""

    path: str
    """The image, as clients request it from the backends by TFTP."""
    address: ListenAddress = field(converter=group_address, metadata={"toml": str})
    """Its group and UDP port, such as `"239.192.2.1:3564"`. Receivers use the port by unicast and broadcast, too."""


def _multicast_images(values: Iterable[MulticastImage]) -> tuple[MulticastImage, ...]:
    images = tuple(values)
    ports = [image.address[1] for image in images]
    for port in ports:
        if ports.count(port) > 1:
            raise ValueError(f"two images have port {port}; give each its own")
    return images


def _ipv4_listen_addresses(values: Iterable[str | ListenAddress]) -> tuple[ListenAddress, ...]:
    found = listen_addresses(values)
    for address, _ in found:
        if ":" in address:
            raise ValueError(
                f'"{address}" is an IPv6 address, which receivers can\'t use: their protocol has IPv4 only'
            )
    return found


@frozen
class MulticastSettings:
    """``[multicast]``: an image is sent once to all machines that receive it, by frisbee's protocol."""

    listen: tuple[ListenAddress, ...] = field(
        default=(), converter=_ipv4_listen_addresses, metadata={"toml": list[str]}
    )
    """Addresses and TCP ports of the master server, such as `["0.0.0.0:64494"]`: receivers request an image there,
    which starts it, and learn its group and port. Empty: none, and only the images of `[[multicast.image]]` are
    sent."""
    groups: str = field(default="239.192.1.2-239.192.1.254", validator=_converts(group_range))
    """The groups that images are sent to, one after the other: the first and the last one."""
    ports: str = field(default="21700-21955", validator=_converts(port_range))
    """The UDP ports of these images. Each image has a port of its own while it is sent."""
    methods: tuple[str, ...] = field(default=("multicast",), converter=_methods, metadata={"toml": list[str]})
    """How images are sent: `"multicast"`, `"broadcast"` and `"unicast"`. By unicast whoever forges an address can have
    an image sent there, so turn it on only where that can't happen."""
    rate: int = field(
        default=120 * 1024 * 1024, validator=within(100_000, 1 << 40, "bytes per second"), metadata={"toml": Size}
    )
    """Bytes per second at which an image is sent at most. It is slower where the network loses blocks."""
    total_rate: int = field(
        default=120 * 1024 * 1024, validator=within(100_000, 1 << 40, "bytes per second"), metadata={"toml": Size}
    )
    """Bytes per second at which all images together are sent at most; they share it evenly."""
    sessions: int = field(default=32, validator=within(1, 1024, "images"))
    """Images that are sent at a time at most; an image counts for each network, and by unicast for each receiver."""
    idle_seconds: float = field(default=180.0, validator=within(1, 86400, "seconds"), metadata={"toml": Seconds})
    """An image is no longer sent when no receiver has requested a block for so long."""
    ttl: int = field(default=1, validator=within(1, 255, "hops"))
    """How many routers multicast may pass, plus one: 1 to 255. With 1, the default of IP (RFC 1112, section 6.1), it
    stays in the network of the server."""
    images: tuple[MulticastImage, ...] = field(
        default=(),
        converter=_multicast_images,
        metadata={"key": ("image",), "toml": list[dict[str, Any]], "tables": MulticastImage},
    )
    """Images with a fixed address, `[[multicast.image]]`; see below. They are opened when a receiver joins."""
    writable: bool = False
    """Clients may upload images by frisbee's `frisupload`, over TCP and one of the `ports`; the first writable backend
    takes the file, in the place of one that has its name. Needs `listen`."""
    writable_by: tuple[Network, ...] = field(default=(), converter=networks, metadata={"toml": list[str]})
    """Addresses and networks of the clients that may upload, such as `["10.0.0.9", "10.0.1.0/24"]`. Empty: all of them.
    Needs `writable = true`."""
    max_upload: int = field(
        default=64 * 1024**3, validator=within(1, 1 << 50, "bytes (1 PiB)"), metadata={"toml": Size}
    )
    """The largest image that is taken, in bytes."""
    upload_seconds: float = field(default=3600.0, validator=within(1, 86400, "seconds"), metadata={"toml": Seconds})
    """How long an upload may take at most. A client may request less: frisupload gives itself a second for each MiB."""

    def __attrs_post_init__(self) -> None:
        if self.writable_by and not self.writable:
            raise ConfigError("no client may upload without writable = true", ("writable-by",))
        if self.writable and not self.listen:
            raise ConfigError('uploads begin at the master server: set listen = ["0.0.0.0:64494"]', ("writable",))
        first, last = port_range(self.ports)
        for index, image in enumerate(self.images):
            if first <= image.address[1] <= last:
                raise ConfigError(
                    f"port {image.address[1]} is one of `ports`, which are for images without an address of their own",
                    ("image", index, "address"),
                )


@frozen
class LogSettings:
    """``[log]``: the log of `bootfw run` and twistd. It has no effect with `--syslog` or `--logger` of twistd."""

    format: str = field(default="auto", validator=one_of("auto", "text", "json", "journal"), metadata=RESTART)
    """`"text"`: lines for people. `"json"`: one object a line. `"journal"`: fields for journald, such as `BOOTFW_MAC`.
    `"auto"`: `"journal"` where systemd has connected the standard output to the journal, else `"text"`."""
    level: str = field(default="info", validator=one_of("debug", "info", "warn", "error"))
    """The lowest level that is logged."""


@frozen
class MetricsSettings:
    """``[metrics]``"""

    listen: tuple[ListenAddress, ...] = field(default=(), converter=listen_addresses, metadata={"toml": list[str]})
    """Addresses and TCP ports that serve only `/metrics`, such as `["10.0.0.1:9150"]`. Needs prometheus_client: the
    extra `bootfw[metrics]`. If it is installed, the pages of `[web]` have `/metrics` too."""

    def __attrs_post_init__(self) -> None:
        if self.listen and find_spec("prometheus_client") is None:
            raise ConfigError('metrics need prometheus_client: pip install "bootfw[metrics]"', ("listen",))


@frozen
class BootsSettings:
    """``[boots]``: the records of boot attempts, which `bootfw boots` and `bootfw show` print."""

    keep: int = field(default=10_000, validator=within(1, 1_000_000, "attempts"))
    """Most attempts that are stored; the oldest are deleted first."""
    days: int = field(default=30, validator=within(1, 3650, "days"))
    """Days after which an attempt is deleted."""
    quiet_seconds: float = field(default=30.0, validator=within(1, 3600, "seconds"))
    """A machine that has loaded its last file completely counts as booted after so long without a request."""
    silent_seconds: float = field(default=40.0, validator=within(1, 3600, "seconds"))
    """Any other machine counts as failed after so long without a request; iPXE after 20 s at most. UEFI firmware pauses
    for up to 32 s between two requests."""


@frozen(kw_only=True)
class MachineSettings:
    """``[[machine]]``: a machine, and its values, as a host file of the ``template`` backend has them."""

    name: str = field(default="", validator=_host_name)
    """Its name, in templates `host.name`. Empty: its first MAC, UUID or address."""
    mac: tuple[str, ...] = field(default=(), converter=_macs, metadata={"toml": str | list[str]})
    """Its MAC address, or a list of them."""
    uuid: tuple[str, ...] = field(default=(), converter=_uuids, metadata={"toml": str | list[str]})
    """Its UUID, as dmidecode shows it, or a list."""
    address: tuple[str, ...] = field(default=(), converter=_ip_addresses, metadata={"toml": str | list[str]})
    """Its IP address, or a list."""
    groups: tuple[str, ...] = field(default=(), converter=_groups, metadata={"toml": str | list[str]})
    """Its groups: `"rack1"` is `groups/rack1.toml` in the directory of host files."""
    image: str = ""
    """The image that `bootfw install` installs on it, as `bootfw images` names it."""
    answers: str = ""
    """The answers for the installation: the template, such as `"preseed.cfg.j2"`, or the path that clients request."""
    values: Mapping[str, Any] = field(hash=False, metadata={"table": True})
    """The whole table. Keys that are not listed here are variables of templates, as in host files."""

    @values.default
    def _values_of_fields(self) -> Mapping[str, Any]:
        identity = {"mac": list(self.mac), "uuid": list(self.uuid), "address": list(self.address)}
        values = {**identity, "groups": list(self.groups), "image": self.image, "answers": self.answers}
        return {key: value for key, value in values.items() if value}

    def __attrs_post_init__(self) -> None:
        if not self.host_name:
            raise ValueError("needs at least one of name, mac, uuid, address")

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Its MACs, UUIDs and addresses."""
        return self.mac + self.uuid + self.address

    @property
    def host_name(self) -> str:
        """Its name, else its first identifier."""
        return self.name or next(iter(self.identifiers), "")

    @property
    def host(self) -> Mapping[str, Any]:
        """The values that a host file would have, and its name."""
        return {**self.values, "name": self.host_name}


@frozen
class Settings:
    """All settings of the configuration, without the plugins."""

    interfaces: tuple[str, ...] = field(default=(), converter=interface_names, metadata={"toml": list[str]})
    """Names of the interfaces whose clients are served. Empty: all interfaces. An interface that does not exist yet is
    logged at the start, and served as soon as it exists."""
    except_interfaces: tuple[str, ...] = field(default=(), converter=interface_names, metadata={"toml": list[str]})
    """Names of interfaces whose clients are not served, such as `["wlan0"]`."""
    allow: tuple[Network, ...] = field(default=(), converter=networks, metadata={"toml": list[str]})
    """Addresses and networks whose clients are served, such as `["10.0.0.0/8", "fd77::/64"]`. Empty: all of them. A
    DHCP client that has no address yet, or only a link-local one, is served; behind a relay the relay's address
    counts."""
    deny: tuple[Network, ...] = field(default=(), converter=networks, metadata={"toml": list[str]})
    """Addresses and networks whose clients are not served, even if `allow` contains them."""
    requests_per_second: int = field(default=2000, validator=within(0, 1_000_000, "requests"))
    """Requests for files per second that each process accepts from one client address while it has other clients;
    from its network (a /24 or a /64) four times as many. Further ones are dropped, HTTP requests refused. Requests from
    this host are not counted. 0: no limit, for many clients behind address translation or a load balancer."""
    optional: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """Interfaces, addresses and networks of the configuration without which bootfw is ready too, such as
    `["wlan0", "10.0.0.1", "10.77.0.0/24"]`. It waits for them like for the others."""
    state_dir: str = field(default="", metadata=RESTART)
    """Directory of the state that outlives the process: leases, reservations, boot records. Empty: `/var/lib/bootfw`
    for root, and `bootfw` in the user's state directory (`$XDG_STATE_HOME`, `~/.local/state`) for other users."""
    user: str = field(default="", metadata=RESTART)
    """Account that the server changes to after it has bound its ports, if it was started as root. It keeps only the
    capabilities to bind ports below 1024 and to send ARP probes. `state-dir` is given to this account. Empty: it stays
    root, unless `twistd --uid` or a systemd unit names another account."""
    workers: int = field(default=0, validator=within(0, 64, "processes"), metadata=RESTART)
    """Processes that serve TFTP and HTTP, 1 to 64; with 1 the process that answers DHCP serves them too. 0: one for
    each processor, up to 4. In another program (embedded), and with `multicast-groups`, it is always 1."""
    tftp: TFTPSettings = field(factory=TFTPSettings)
    dhcp: DHCPSettings = field(factory=DHCPSettings)
    dhcp6: DHCP6Settings = field(factory=DHCP6Settings)
    http: HTTPSettings = field(factory=HTTPSettings)
    web: WebSettings = field(factory=WebSettings)
    multicast: MulticastSettings = field(factory=MulticastSettings)
    log: LogSettings = field(factory=LogSettings)
    metrics: MetricsSettings = field(factory=MetricsSettings)
    boots: BootsSettings = field(factory=BootsSettings)
    persona: tuple[Rule, ...] = field(default=(), converter=_rules)
    machine: tuple[MachineSettings, ...] = field(default=(), converter=_machines)

    def __attrs_post_init__(self) -> None:
        if self.tftp.multicast_groups and self.workers > 1:
            raise ConfigError(
                f"must be 1 or left out with tftp.multicast-groups, not {self.workers}: one process sends to a group",
                ("workers",),
            )
        known = self._can_be_absent()
        for name in self.optional:
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise ConfigError(
                    f'"{name}" is not in the configuration; its interfaces, addresses and networks are: {listed}',
                    ("optional",),
                )

    def _can_be_absent(self) -> set[str]:
        """Return the interfaces, addresses and networks that the settings name."""
        web = *self.web.listen, *self.metrics.listen, *self.multicast.listen
        listen = (*self.tftp.listen, *self.http.listen, *self.http.https_listen, *web)
        hosts = {host for host, _ in listen if host not in ("0.0.0.0", "::")}
        zones = {host.partition("%")[2] for host in hosts if "%" in host}
        networks = {str(subnet.network) for subnet in (*self.dhcp.subnets, *self.dhcp6.subnets)}
        return {*self.interfaces, *hosts, *zones, *networks}

    @property
    def assigns_addresses(self) -> bool:
        """Whether DHCP or DHCPv6 assigns addresses."""
        return "server" in (self.dhcp.mode, self.dhcp6.mode)

    @property
    def answers_dhcp(self) -> bool:
        """Whether DHCP or DHCPv6 is on."""
        return self.dhcp.mode != "off" or self.dhcp6.mode != "off"


def may_write(settings: TFTPSettings | MulticastSettings, host: str) -> bool:
    """Return whether the client at the address *host* may upload files."""
    allowed = settings.writable_by
    if not allowed:
        return settings.writable
    address = ipaddress.ip_address(host.partition("%")[0])
    return any(address in network for network in allowed)
