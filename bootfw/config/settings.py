"""What can be set, as frozen values with the defaults. The configuration file is one way to make them.

The string below a field is its documentation in the reference of the configuration. What a field's ``metadata`` may
hold is described in :func:`bootfw.config.tables.fields_of`.
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
from bootfw.dhcp.subnet import Subnet, check_subnets
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.errors import ConfigError
from bootfw.personas.rule import Rule

ListenAddress = tuple[str, int]
"""(IPv4 or IPv6 address, UDP or TCP port)."""


def listen_address(text: str) -> ListenAddress:
    """``"0.0.0.0:69"`` or ``"[::]:69"`` as (address, port).

    :raise ValueError: it is neither.
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
    """Each of *values* as (address, port), none of them twice."""
    found: list[ListenAddress] = []

    def read(value: str | ListenAddress) -> None:
        address = listen_address(value) if isinstance(value, str) else value
        if address in found:
            raise ValueError(f"{address[0]} port {address[1]} is there twice")
        found.append(address)

    convert_all(read, values)
    return tuple(found)


def transfer_ports(value: str | tuple[int, int]) -> str | tuple[int, int]:
    """ "single", "ephemeral", or a range such as "30000-30999" as (first, last)."""
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
"""The metadata of a key that does not change while the server runs."""


def interface_names(values: Iterable[str]) -> tuple[str, ...]:
    """Names as the kernel allows them: up to 15 bytes, without blanks and slashes."""

    def read(name: str) -> str:
        if not 0 < len(name.encode()) < 16 or "/" in name or name.split() != [name]:
            raise ValueError(f'"{name}" can\'t be the name of an interface')
        return name

    return convert_all(read, values)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(values: Iterable[str | Network]) -> tuple[Network, ...]:
    """Each of ``"10.0.0.0/8"``, ``"10.0.0.5"`` and ``"fd77::/64"``."""

    def read(value: str | Network) -> Network:
        try:
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f'must be an address or a network, such as "10.0.0.0/8", not "{value}"') from None
        if isinstance(value, str) and ipaddress.ip_address(value.partition("/")[0]) != network.network_address:
            raise ValueError(f'"{value}" has bits behind its prefix: write "{network}"')
        return network

    return convert_all(read, values)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def within(low: float, high: float, unit: str) -> Callable[[Any, Any, Any], None]:
    """A validator for numbers from *low* to *high*, both included."""

    def check(instance: Any, attribute: Any, value: float) -> None:
        if not low <= value <= high:  # NaN fails this comparison
            raise ValueError(f"must be from {low} to {high} {unit}, not {value}")

    return check


def one_of(*allowed: str) -> Callable[[Any, Any, Any], None]:
    """A validator that accepts one of *words*."""

    def check(instance: Any, attribute: Any, value: str) -> None:
        if value not in allowed:
            *others, last = map(quoted, allowed)
            raise ValueError(f"must be {', '.join(others)} or {last}, not {quoted(value)}")

    return check


def quoted(word: str) -> str:
    """``"single"``: a word as it stands in TOML."""
    return f'"{word}"'


def _check_mode(section: str, mode: Any, subnets: Any) -> None:
    if mode == "server" and not subnets:
        raise ConfigError(f'"server" needs a [[{section}.subnet]] to give addresses of', ("mode",))
    if mode in ("off", "proxy") and subnets:
        raise ConfigError(f'no addresses are given with mode = "{mode}"; that takes "server"', ("subnet",))


_port = within(1, 65535, "(a UDP port)")


# attrs takes the type of an argument from its converter, and with `converter=tuple` type checkers refuse lists.


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
    """The largest block size in bytes that clients get (RFC 2348), 8 to 65464; those that request more get this."""
    max_windowsize: int = field(default=64, validator=within(1, 65535, "blocks (RFC 7440)"))
    """The largest window in blocks that clients get (RFC 7440), 1 to 65535."""
    cache_size: int = field(
        default=256 * 1024 * 1024, validator=within(0, 1 << 40, "bytes (1 TiB)"), metadata={"toml": Size, **RESTART}
    )
    """Memory for cached files, as they go over the wire, shared by all transfers; it grows with what is requested.
    Files that do not fit are read for each transfer. 0: no cache."""
    writable_by: tuple[Network, ...] = field(default=(), converter=networks, metadata={"toml": list[str]})
    """Addresses and networks of the clients that may upload, such as `["10.0.0.0/24", "fd77::9"]`. Empty: all of them.
    Needs `writable = true`."""

    def __attrs_post_init__(self) -> None:
        if self.writable_by and not self.writable:
            raise ConfigError("no client may upload without writable = true", ("writable-by",))


@frozen
class DHCPSettings:
    """``[dhcp]``"""

    mode: str = field(default="proxy", validator=one_of("off", "proxy", "server"))
    """`"proxy"`: tells boot clients what to load and leaves addresses to the DHCP server that is already there.
    `"server"`: gives the addresses too, to all clients. `"off"`: no DHCP at all."""
    server_port: int = field(default=67, validator=_port, metadata={"key": ("ports", "server")})
    """UDP port for the clients' broadcasts."""
    client_port: int = field(default=68, validator=_port, metadata={"key": ("ports", "client")})
    """UDP port of the clients, which replies are sent to."""
    boot_server_port: int = field(default=4011, validator=_port, metadata={"key": ("ports", "boot-server")})
    """UDP port of the PXE boot server."""
    answer_within_seconds: float = field(default=0.8, validator=within(0.05, 60, "seconds"), metadata={"toml": Seconds})
    """For all resolvers together, 50 ms to 60 s. iPXE sends a request to port 4011 only twice, one second apart."""
    authoritative: bool = False
    """This is the only DHCP server here: a client that requests an address without a lease here gets it if it is free,
    or else a NAK at once. Otherwise such requests are ignored."""
    identify_by: str = field(default="hardware", validator=one_of("hardware", "client-id"))
    """What identifies a client. `"hardware"`: the address of the network card, so that firmware, boot program and
    system get one address. `"client-id"`: option 61 where it is sent (RFC 2131), for several clients on one card."""
    foreign_networks: bool = False
    """Start with subnets that this machine has no address in, for clients behind relays. Subnets that name their
    relays need not set this."""
    probe_seconds: float = field(default=0.2, validator=within(0, 5, "seconds"), metadata={"toml": Seconds, **RESTART})
    """Conflict detection: how long bootfw waits for a reply when it probes an address before it offers it to a new
    client, 0 to 5 s; by ARP on networks of this machine, by ping behind relays. 0: no probe. ROMs retry after 1 s."""
    new_clients_per_second: int = field(default=200, validator=within(0, 1000000, "clients"))
    """Unknown clients that are given an address in a second, for each interface, and for each relay and circuit; on an
    interface or relay with more than four times as many free addresses a quarter of these. Known clients are always
    served. 0: any number."""
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
    """Options for kinds of clients, `[[dhcp.class]]`; see below. A later one wins over an earlier one."""

    def __attrs_post_init__(self) -> None:
        self.check_table({"mode": self.mode, "subnet": self.subnets})
        check_subnets(self.subnets)

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
    """`"proxy"`: tells boot clients what to load and leaves addresses to the DHCPv6 server or router that is already
    there. `"server"`: gives the addresses too, to all clients. `"off"`: no DHCPv6 at all. Without any configuration
    file it is `"proxy"`, where its ports are free."""
    server_port: int = field(default=547, validator=_port, metadata={"key": ("ports", "server")})
    """UDP port for clients and relays."""
    client_port: int = field(default=546, validator=_port, metadata={"key": ("ports", "client")})
    """UDP port of the clients, which replies are sent to."""
    boot_server_port: int = field(default=4011, validator=_port, metadata={"key": ("ports", "boot-server")})
    """UDP port of the PXE boot server."""
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
    """Options for kinds of clients, `[[dhcp6.class]]`; see below. A later one wins over an earlier one."""

    def __attrs_post_init__(self) -> None:
        self.check_table({"mode": self.mode, "subnet": self.subnets})
        check_subnets(self.subnets)

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
    Without any configuration file it is port 8069, where that is free."""
    https_listen: tuple[ListenAddress, ...] = field(
        default=(), converter=listen_addresses, metadata={"toml": list[str]}
    )
    """Addresses and TCP ports for HTTPS, such as `["0.0.0.0:8443"]`. Needs `certificate`, and pyOpenSSL: the extra
    `bootfw[tls]`."""
    certificate: str = field(default="", metadata=RESTART)
    """A PEM file with the certificate and those that lead to the client's: certbot's `fullchain.pem`. Relative to the
    configuration file. A new one is used as soon as it is there."""
    key: str = field(default="", metadata=RESTART)
    """The certificate's private key, a PEM file without a password. Empty: it is in the file of the certificate."""

    def __attrs_post_init__(self) -> None:
        if self.https_listen and not self.certificate:
            raise ConfigError(
                'https-listen needs certificate = "fullchain.pem" and key = "privkey.pem"', ("certificate",)
            )


_SHORTEST_TOKEN = 16
"""Characters: one of 16 hexadecimal digits can't be guessed over a network."""


def host_names(values: Iterable[str]) -> tuple[str, ...]:
    """Host names as browsers send them: lower-case, without a port."""

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


@frozen
class WebSettings:
    """``[web]``"""

    listen: tuple[ListenAddress, ...] = field(
        default=(("127.0.0.1", 8067),), converter=listen_addresses, metadata={"toml": list[str]}
    )
    """Addresses and TCP ports of the operator's pages: `/`, `/api`, `/healthz`, `/readyz` and `/metrics`. Anyone who
    can connect can read. Without this key the port may be in use: then there are no pages, and the log says so. Empty:
    no pages."""
    hosts: tuple[str, ...] = field(default=(), converter=host_names, metadata={"toml": list[str]})
    """Names by which browsers reach it, such as `["boot.example.org"]`, beside addresses, `localhost` and the name of
    this host. Requests for other names are refused, which keeps strangers' pages from reading it (DNS rebinding)."""
    token: str = field(default="", validator=_check_token, repr=False)
    """Whoever has it may set and cancel one-time boots, and release leases. At least 16 characters. Empty: nothing can
    be changed over the web."""


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
    """Addresses and TCP ports where `/metrics` is served alone, such as `["10.0.0.1:9150"]`. Needs prometheus_client:
    the extra `bootfw[metrics]`. With that the pages of `[web]` have `/metrics`, too."""

    def __attrs_post_init__(self) -> None:
        if self.listen and find_spec("prometheus_client") is None:
            raise ConfigError('metrics need prometheus_client: pip install "bootfw[metrics]"', ("listen",))


@frozen
class BootsSettings:
    """``[boots]``: the records of boot attempts, which `bootfw boots` and `bootfw show` print."""

    keep: int = field(default=10_000, validator=within(1, 1_000_000, "attempts"))
    """How many are stored at most; the oldest go first."""
    days: int = field(default=30, validator=within(1, 3650, "days"))
    """How long they are stored."""
    quiet_seconds: float = field(default=30.0, validator=within(1, 3600, "seconds"))
    """A machine that has loaded its last file completely, and then requests nothing for so long, has booted."""
    silent_seconds: float = field(default=40.0, validator=within(1, 3600, "seconds"))
    """A machine that has not booted, and then requests nothing for so long, has failed; iPXE after 20 s at most. UEFI
    firmware pauses for up to 32 s between two requests."""


@frozen
class Settings:
    """All settings of the configuration, without the plugins."""

    interfaces: tuple[str, ...] = field(default=(), converter=interface_names, metadata={"toml": list[str]})
    """Names of the interfaces whose clients are served. Empty: all of them. One that does not exist yet is served as
    soon as it does; the log names it at the start."""
    except_interfaces: tuple[str, ...] = field(default=(), converter=interface_names, metadata={"toml": list[str]})
    """Names of interfaces whose clients are not served, such as `["wlan0"]`."""
    allow: tuple[Network, ...] = field(default=(), converter=networks, metadata={"toml": list[str]})
    """Addresses and networks whose clients are served, such as `["10.0.0.0/8", "fd77::/64"]`. Empty: all of them. A
    DHCP client that has no address yet, or only a link-local one, is served; behind a relay the relay's address
    counts."""
    deny: tuple[Network, ...] = field(default=(), converter=networks, metadata={"toml": list[str]})
    """The same of clients that are not served, also where `allow` has them."""
    requests_per_second: int = field(default=2000, validator=within(0, 1_000_000, "requests"))
    """Requests for files that one client address may send in a second, to each process, while there are other clients;
    its network (a /24 or a /64) may send four times as many. Those beyond are dropped, by HTTP refused. Requests of
    this host are not counted. 0: no limit, for clients behind address translation or a load balancer that send more."""
    optional: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """Interfaces, addresses and networks of the configuration that may be absent: bootfw waits for them as for the
    others, but counts as ready without them, such as `["wlan0", "10.0.0.1", "10.77.0.0/24"]`."""
    state_dir: str = field(default="", metadata=RESTART)
    """Where bootfw keeps what must outlive it. Empty: `/var/lib/bootfw` for root, and `bootfw` in the user's state
    directory (`$XDG_STATE_HOME`, `~/.local/state`) for other users."""
    user: str = field(default="", metadata=RESTART)
    """The account that the server runs as once its ports are bound, when it is started as root: it keeps the
    capabilities to bind ports below 1024 and to send ARP probes, and no other. `state-dir` is given to this account.
    Empty: it stays root, unless `twistd --uid` or a systemd unit names another one."""
    workers: int = field(default=0, validator=within(0, 64, "processes"), metadata=RESTART)
    """Processes that serve TFTP and HTTP, 1 to 64; with 1 it is the one that answers DHCP as well. 0: one for each
    processor, up to 4. Embedded it is always 1."""
    tftp: TFTPSettings = field(factory=TFTPSettings)
    dhcp: DHCPSettings = field(factory=DHCPSettings)
    dhcp6: DHCP6Settings = field(factory=DHCP6Settings)
    http: HTTPSettings = field(factory=HTTPSettings)
    web: WebSettings = field(factory=WebSettings)
    log: LogSettings = field(factory=LogSettings)
    metrics: MetricsSettings = field(factory=MetricsSettings)
    boots: BootsSettings = field(factory=BootsSettings)
    persona: tuple[Rule, ...] = field(default=(), converter=_rules)

    def __attrs_post_init__(self) -> None:
        known = self._can_be_absent()
        for name in self.optional:
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise ConfigError(
                    f'"{name}" is not wanted; interfaces, addresses and networks are: {listed}', ("optional",)
                )

    def _can_be_absent(self) -> set[str]:
        """The names of the interfaces, addresses and networks that the settings name."""
        web = *self.web.listen, *self.metrics.listen
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
