"""A node: the table ``[emulab]`` of its host file, with the values that bootinfo and tmcd send."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from attrs import asdict, field, frozen
from zope.interface import Interface

from bootfw.api import PluginContext, boot_plugin, mac_text
from bootfw_emulab.bootwhat import boot_what

_EXPERIMENT = re.compile(r"[^\s/]+/[^\s/]+")
_PRIVATE_KEY = re.compile(r"[0-9A-Fa-f]{16,128}")
_IDENTITY_KEY = re.compile(r"[0-9A-Za-z]+")


def _line(value: str) -> str:
    """Check a text that becomes a part of a line of a reply.

    :raise ValueError: it has control characters, such as line ends, which would begin another line.
    """
    if not value.isprintable():
        raise ValueError("must be one line of printable characters")
    return value


def _lines(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(_line, values))


def _optional_boot(value: str) -> str:
    return boot_what(value).text if value else ""


def _experiment(value: str) -> str:
    if value and not _EXPERIMENT.fullmatch(value):
        raise ValueError(f'must be project and experiment, such as "testbed/myexp", not "{value}"')
    return _line(value)


def _private_key(value: str) -> str:
    if value and not _PRIVATE_KEY.fullmatch(value):
        raise ValueError("must be 16 to 128 hexadecimal digits")
    return value.lower()


def _identity_key(value: str) -> str:
    if value and not _IDENTITY_KEY.fullmatch(value):
        raise ValueError("must be letters and digits")
    return value


def _hardware_address(value: str) -> str:
    return mac_text(value).replace(":", "")


def _tables(kind: type) -> Any:
    """Return a field for a list of tables, each an instance of *kind*."""
    return field(default=(), metadata={"tables": kind, "toml": list[dict[str, Any]]})


def _text(default: str = "") -> Any:
    return field(default=default, converter=_line)


def _texts() -> Any:
    return field(default=(), converter=_lines, metadata={"toml": list[str]})


@frozen
class Mount:
    """A line of "mounts"."""

    local: str = _text()
    remote: str = _text()


@frozen
class Group:
    """An ADDGROUP line of "accounts"."""

    name: str = _text()
    gid: int = 0


@frozen
class User:
    """An ADDUSER line of "accounts", with its PUBKEY lines."""

    login: str = field(converter=_line)
    uid: int
    gid: int
    password: str = _text("*")
    """As in /etc/shadow."""
    root: bool = False
    name: str = _text()
    home: str = _text()
    """ "": ``/users/`` and the login."""
    groups: tuple[int, ...] = field(default=(), converter=tuple, metadata={"toml": list[int]})
    serial: int = 0
    email: str = _text()
    shell: str = _text("tcsh")
    keys: tuple[str, ...] = _texts()
    """Public keys of SSH."""


@frozen
class NetworkInterface:
    """An INTERFACE line of "ifconfig", of an experimental interface."""

    mac: str = field(converter=_hardware_address)
    type: str = _text("em")
    address: str = _text()
    mask: str = _text()
    speed: str = _text("100Mbps")
    duplex: str = _text("full")
    name: str = _text()
    """IFACE, usually empty: the client finds the interface by its MAC."""
    route_table: int = 0
    lan: str = _text()
    settings: Mapping[str, str] = field(factory=dict)
    """INTERFACE_SETTING lines."""


@frozen
class VirtualInterface:
    """An INTERFACE line of "ifconfig", of an interface on top of another one."""

    type: Literal["veth", "vlan", "loop", "alias"]
    id: int
    address: str = _text()
    mask: str = _text()
    mac: str = _text()
    parent: str = _text("none")
    """The MAC of the interface below."""
    route_table: int = 0
    encapsulate: bool = False
    lan: str = _text()
    tag: int = 0


@frozen
class HostName:
    """A line of "hostnames"."""

    name: str = field(converter=_line)
    """Node and LAN, such as "nodea-lan0"."""
    address: str = field(converter=_line)
    aliases: tuple[str, ...] = _texts()


@frozen
class Route:
    """A ROUTE line of "routing"."""

    destination: str = field(converter=_line)
    next_hop: str = field(converter=_line)
    type: Literal["host", "net"] = "host"
    mask: str = _text("255.255.255.255")
    cost: int = 1
    source: str = _text()


@frozen
class Tarball:
    """A line of "tarballs"."""

    directory: str = field(converter=_line)
    path: str = field(converter=_line)


@frozen
class VirtualNode:
    """A line of "vnodelist"."""

    name: str = field(converter=_line)
    jailed: bool = True


@frozen
class Load:
    """A line of "loadinfo": an image that is written to a disk."""

    image: str = field(converter=_line)
    """ "project,group,name"."""
    address: str = _text()
    """ "group:port" of a sender that runs; "": the node asks the server for it."""
    server: str = _text()
    """ "": this one."""
    partition: int = 0
    """0: the whole disk."""
    system: str = _text("Unknown")
    disk: str = _text("ad0")
    zero_fill: int = 0
    acpi: str = _text("unknown")
    mbr_version: int = 1
    asf: str = _text("unknown")
    prepare: bool = False
    no_cache_flush: str = _text("unknown")


@frozen
class NodeTable:
    """The table ``[emulab]`` of a host file."""

    experiment: str = field(default="", converter=_experiment)
    """Project and experiment; "": the node is free."""
    group: str = _text()
    """ "": that of the project."""
    nickname: str = _text()
    """ "": the name of the host file."""
    creator: str = _text()
    swapper: str = _text()
    """ "": the creator."""
    boot: str = field(default="", converter=_optional_boot)
    """What it boots in an experiment; "": the resolvers decide."""
    free_boot: str = field(default="", converter=_optional_boot)
    """What it boots while it is free; "": the option ``free-boot``."""
    private_key: str = field(default="", converter=_private_key)
    identity_key: str = field(default="", converter=_identity_key)
    physical: str = _text()
    """The node that this virtual one is on; "": it is a physical one."""
    redirect: str = _text()
    """ "host" or "host:virtual node" that tmcd sends the node to."""
    load: tuple[Load, ...] = _tables(Load)
    mount_type: Literal["NFS", "NFS-RACY", "SFS", "LOCAL"] = "NFS"
    mount: tuple[Mount, ...] = _tables(Mount)
    account_group: tuple[Group, ...] = _tables(Group)
    user: tuple[User, ...] = _tables(User)
    interface: tuple[NetworkInterface, ...] = _tables(NetworkInterface)
    virtual_interface: tuple[VirtualInterface, ...] = _tables(VirtualInterface)
    host_name: tuple[HostName, ...] = _tables(HostName)
    router: str = _text("none")
    route: tuple[Route, ...] = _tables(Route)
    virtual_node: tuple[VirtualNode, ...] = _tables(VirtualNode)
    rpms: tuple[str, ...] = _texts()
    tarball: tuple[Tarball, ...] = _tables(Tarball)
    startup_command: str = _text()
    startup_user: str = _text()
    """ "": the swapper."""
    ntp_servers: tuple[str, ...] = _texts()
    ntp_peers: tuple[str, ...] = _texts()
    ntp_drift: str = _text()
    accounts_changed: bool = False
    """The answer to "isalive"."""
    replies: Mapping[str, str] = field(factory=dict)
    """Command -> its reply as text, in place of that of the template."""

    @property
    def is_allocated(self) -> bool:
        """Whether it is in an experiment."""
        return bool(self.experiment)

    @property
    def project(self) -> str:
        """ "testbed" of "testbed/myexp"."""
        return self.experiment.partition("/")[0]

    @property
    def load_digest(self) -> str:
        """Identifies the images to load; "": there are none."""
        if not self.load:
            return ""
        return hashlib.sha256(json.dumps([asdict(each) for each in self.load]).encode()).hexdigest()[:16]


@frozen
class Node:
    """A machine of the testbed, or a virtual one on it."""

    name: str
    """The name of its host file."""
    mac: str
    """The first one of the host file; "": it has none."""
    addresses: tuple[str, ...]
    """Of its control interface."""
    host: Mapping[str, Any] = field(repr=False)
    """The whole host file, for templates."""
    table: NodeTable


_TABLE = boot_plugin(Interface, NodeTable)


def node_of(host: Mapping[str, Any]) -> Node:
    """Return the node of a host file.

    :param host: its values, with its ``name``.
    :raise ConfigError: the table ``[emulab]`` is invalid; the path of the error begins in this table.
    """
    # A class without "configured" needs no PluginContext.
    table: Any = _TABLE.configure(host.get("emulab", {}), cast(PluginContext, None))
    macs = _strings(host.get("mac", ()))
    mac = mac_text(macs[0]) if macs else ""
    return Node(host["name"], mac, _strings(host.get("address", ())), host, table)


def _strings(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
