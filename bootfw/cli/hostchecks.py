"""The checks of ``bootfw doctor``: what keeps a boot server on this host from working, or may do so.

Each check yields its results. Nothing is changed: ports are bound for a moment to see whether that is possible, and the
rules of a firewall are only read.
"""

import ctypes
import errno
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from bootfw.ability import provides
from bootfw.build import Parts, files_by_tftp
from bootfw.cli.bootclient import DEFAULT_MAC, boot_client
from bootfw.cli.dhcpclient import Broadcasts, Offer, interfaces, offers_of, random_xid
from bootfw.config import defaults
from bootfw.config.settings import Settings
from bootfw.errors import BootfwError
from bootfw.interfaces import IDirectoryBackend, IListableBackend, IListableResolver, ISelfChecking
from bootfw.net.linux.interfaces import missing_interfaces, own_addresses
from bootfw.net.linux.neighbourtable import SETTINGS
from bootfw.net.linux.netlink import Link, LinkAddress, NeighbourTable, Netlink
from bootfw.net.linux.portowner import who_holds
from bootfw.records import Record
from bootfw.tftp.path import relative

OK, WARNING, PROBLEM, SKIPPED = "ok", "warning", "problem", "skipped"

_ETHERNET_MTU = 1500
"""Size in bytes of an IP packet that firmware expects to pass."""

_IFF_MULTICAST = 0x1000
"""Of linux/if.h."""

_LEAST_FREE = 64 << 20
"""Bytes of free disk space below which there is a problem."""

_CAPABILITIES = {
    10: ("CAP_NET_BIND_SERVICE", "to bind ports below 1024"),
    12: ("CAP_NET_ADMIN", "to answer clients that do not answer ARP yet by unicast; they are answered by broadcast"),
    13: ("CAP_NET_RAW", "to probe addresses before they are offered; they are offered unprobed"),
}
"""Number (linux/capability.h) -> (name, purpose)."""


@frozen
class Check:
    """A result of a check."""

    name: str
    result: str
    """OK, WARNING, PROBLEM or SKIPPED."""
    text: str
    """What was found, in a sentence without a full stop."""
    remedy: str = ""
    """What to do about it."""


@define
class Host:
    """This host, as the checks see it."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    now: Callable[[], float] = time.time
    command: Callable[[Sequence[str]], str | None] = field(default=lambda command: _output(command))
    """Runs a program; returns its output, or None if there is no such program or it fails."""
    links: Callable[[], Sequence[Link]] = field(default=lambda: _links())
    addresses: Callable[[], Sequence[LinkAddress]] = field(default=lambda: _addresses())
    neighbour_tables: Callable[[], Sequence[NeighbourTable]] = field(default=lambda: _neighbour_tables())
    fault: Callable[[str, tuple[str, int]], int] = field(default=lambda kind, address: _fault(kind, address))
    """Binds a port, "udp" or "tcp", and returns the error number; 0: the port is free."""

    label: Callable[[Path], str] = field(default=lambda path: _label(path))
    """The SELinux context of a file; "": it has none."""
    clock_is_synchronized: Callable[[], bool | None] = field(default=lambda: _clock_is_synchronized())
    """Returns whether the kernel's clock is synchronized; None: that can't be read."""

    def enforces_selinux(self) -> bool:
        """Return whether SELinux is in enforcing mode."""
        return self._text(self.sys / "fs" / "selinux" / "enforce") == "1"

    def apparmor_profile(self) -> str:
        """Return the AppArmor profile that confines this process; "": none."""
        found = self._text(self.proc / "self" / "attr" / "apparmor" / "current")
        found = found or self._text(self.proc / "self" / "attr" / "current")
        return found.partition(" (enforce)")[0] if found.endswith(" (enforce)") else ""

    def _text(self, path: Path) -> str:
        try:
            return path.read_text().strip("\0\n ")
        except OSError:
            return ""

    def sends_multicast(self, interface: str) -> bool:
        """Return whether an interface has the flag MULTICAST; true if that can't be read."""
        flags = self._text(self.sys / "class" / "net" / interface / "flags")
        return not flags or bool(int(flags, 16) & _IFF_MULTICAST)

    def setting(self, name: str) -> str:
        """Return the value of a sysctl; "": it can't be read."""
        try:
            return (self.proc / "sys" / name).read_text().strip()
        except OSError:
            return ""


WantedPort = tuple[str, str, tuple[str, int]]
"""Service, "udp" or "tcp", address."""


def wanted_ports(settings: Settings, parts: Parts) -> list[WantedPort]:
    """Return the ports that a server binds by its configuration."""
    dhcp, dhcp6 = settings.dhcp, settings.dhcp6
    found: list[WantedPort] = []
    if dhcp.mode == "server" or (dhcp.mode == "proxy" and parts.resolvers):
        found.append(("dhcp", "udp", ("0.0.0.0", dhcp.server_port)))
    if dhcp.mode != "off" and parts.resolvers:
        found.append(("boot-server", "udp", ("0.0.0.0", dhcp.boot_server_port)))
    if dhcp6.mode != "off":
        found.append(("dhcp6", "udp", ("::", dhcp6.server_port)))
    found += [("tftp", "udp", address) for address in settings.tftp.listen]
    for service, listen in (
        ("http", settings.http.listen),
        ("https", settings.http.https_listen),
        ("metrics", settings.metrics.listen),
        ("multicast-master", settings.multicast.listen),
    ):
        found += [(service, "tcp", address) for address in listen]
    found += [("multicast", "udp", ("0.0.0.0", image.address[1])) for image in settings.multicast.images]
    return found


def check_ports(host: Host, wanted: Sequence[WantedPort], status: Record | None) -> Iterator[Check]:
    """Check that the ports are free, or if a server runs, that it has bound them.

    :param status: the status of the running server; None: no server runs.
    """
    if status is not None:
        for each in status["sockets"]:
            name = f"{each['service']} {each['address']} port {each['port']}"
            if "/" in each["address"]:
                name = f"{each['service']} {each['address']}"
                if each["state"] == "bound":
                    yield Check("ports", OK, f"{name}: this host has an address in this network")
                else:
                    yield Check(
                        "ports", PROBLEM, f"{name}: no address in this network: {each['reason']}", "see bootfw status"
                    )
            elif each["state"] == "bound":
                yield Check("ports", OK, f"{name} is bound by the running server")
            else:
                yield Check("ports", PROBLEM, f"{name} is not bound: {each['reason']}", "see bootfw status")
        return
    for service, kind, address in wanted:
        yield _port(host, service, kind, address)


def _port(host: Host, service: str, kind: str, address: tuple[str, int]) -> Check:
    name = f"{service} at {address[0]} {kind.upper()} port {address[1]}"
    code = host.fault(kind, address)
    if not code:
        return Check("ports", OK, f"{name} is free")
    if code in (errno.EACCES, errno.EPERM):
        return Check(
            "ports",
            PROBLEM,
            f"{name} needs root or CAP_NET_BIND_SERVICE, and this user has neither",
            "start bootfw as root or by its systemd unit, or run doctor as the user that starts it",
        )
    if code == errno.EADDRINUSE:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        holder = who_holds(address[1], family, kind) or "another program (run this as root to see which)"
        return Check("ports", PROBLEM, f"{name} is taken by {holder}", "stop that program, or use another port")
    if code == errno.EADDRNOTAVAIL:
        return Check(
            "ports", WARNING, f"{name}: this host does not have that address now", "see ip address, or correct it"
        )
    if code == errno.EAFNOSUPPORT:
        return Check("ports", WARNING, f"{name}: this host has no IPv6", "leave the address out")
    return Check("ports", PROBLEM, f"{name}: {os.strerror(code)}")


def check_interfaces(host: Host, settings: Settings) -> Iterator[Check]:
    """Check that the interfaces exist, have an address and a usual MTU, and do not drop packets of clients."""
    for name, problem in missing_interfaces(settings.interfaces).items():
        yield Check("interfaces", PROBLEM, f"{name}: {problem}", 'correct "interfaces" in [bootfw]')
    served, usable = _served(host, settings)
    for link in served:
        if link not in usable and settings.interfaces:
            yield Check(
                "interfaces", PROBLEM, f"{link.name} has no IPv4 address, so no client there is answered", "give it one"
            )
    if usable:
        yield Check("interfaces", OK, f"clients are served on {', '.join(link.name for link in usable)}")
    elif not settings.interfaces:
        yield Check("interfaces", PROBLEM, "no interface but lo has an IPv4 address", "give one to an interface")
    small = [f"{link.name} ({link.mtu} bytes)" for link in usable if link.mtu < _ETHERNET_MTU]
    if small:
        yield Check(
            "mtu",
            WARNING,
            f"{', '.join(small)} takes smaller packets than Ethernet: TFTP blocks are made to fit, and larger packets "
            "of clients may be lost",
            "ip link set ... mtu 1500, unless it is a tunnel",
        )
    elif usable:
        yield Check("mtu", OK, f"packets of {min(link.mtu for link in usable)} bytes pass")
    yield from _check_rp_filter(host, [link.name for link in usable], settings)


def _served(host: Host, settings: Settings) -> tuple[list[Link], list[Link]]:
    """Return the links that are served, and those of them that have an IPv4 address."""
    numbers = {address.interface for address in host.addresses() if address.family == socket.AF_INET}
    served = [link for link in host.links() if link.name != "lo"]
    served = [link for link in served if not settings.interfaces or link.name in settings.interfaces]
    return served, [link for link in served if link.index in numbers]


def _check_rp_filter(host: Host, names: Sequence[str], settings: Settings) -> Iterator[Check]:
    relayed = any(subnet.relays for subnet in settings.dhcp.subnets) or settings.dhcp.foreign_networks
    # The kernel uses the larger of both values (Documentation/networking/ip-sysctl.rst): 1 is strict, 2 is loose.
    strict = [
        name
        for name in names
        if max(host.setting("net/ipv4/conf/all/rp_filter"), host.setting(f"net/ipv4/conf/{name}/rp_filter")) == "1"
    ]
    if strict and (len(names) > 1 or relayed):
        yield Check(
            "rp_filter",
            WARNING,
            f"{', '.join(strict)}: the kernel drops packets whose sender it would answer by another interface, such as "
            "those of relays and of clients in other networks",
            f"sysctl net.ipv4.conf.{strict[0]}.rp_filter=2",
        )
    else:
        yield Check("rp_filter", OK, "packets of clients are not dropped for their sender's address")


def check_multicast(host: Host, settings: Settings) -> Iterator[Check]:
    """Check that multicast leaves by the interfaces and may reach the subnets. Yields nothing where it is off."""
    images, files = settings.multicast, settings.tftp
    ways = []
    if (images.listen or images.images) and "multicast" in images.methods:
        ways.append(("[multicast] ttl", images.ttl))
    if files.listen and files.multicast_groups:
        ways.append(("[tftp] multicast-ttl", files.multicast_ttl))
    if not ways:
        return
    _, usable = _served(host, settings)
    without = [link.name for link in usable if not host.sends_multicast(link.name)]
    if without:
        yield Check(
            "multicast",
            WARNING,
            f"{', '.join(without)}: multicast is off, so nothing is received there that is sent to a group",
            f"ip link set {without[0]} multicast on",
        )
    host_addresses = [ip_address(each.address) for each in host.addresses() if each.family == socket.AF_INET]
    networks = [subnet.network for subnet in settings.dhcp.subnets]
    routed = [str(network) for network in networks if not any(address in network for address in host_addresses)]
    near = [key for key, ttl in ways if ttl == 1] if routed else []
    if near:
        yield Check(
            "multicast",
            WARNING,
            f"this host has no address in {', '.join(routed)}, so machines there are behind a router, which multicast "
            f"does not pass: {' and '.join(near)} is 1",
            "set it to one more than the routers on the way, which have to forward multicast",
        )
    if not without and not near:
        yield Check("multicast", OK, "what is sent to a group leaves by every interface, as far as its TTL says")


def check_neighbours(host: Host) -> Iterator[Check]:
    """Check that the kernel has room for the hardware addresses of all machines."""
    tables = [table for table in host.neighbour_tables() if table.family in SETTINGS]
    full = [table for table in tables if table.overflows]
    for table in full:
        yield Check(
            "neighbours",
            WARNING,
            f"the kernel had no room for a neighbour {table.overflows} times since this host was started, and dropped "
            f"what was sent to it: {SETTINGS[table.family]} is {table.most}",
            f"sysctl {SETTINGS[table.family]}=8192, or more, if there are more machines",
        )
    if tables and not full:
        rooms = " and ".join(
            f"{table.most} by IPv{6 if table.family == socket.AF_INET6 else 4}"
            for table in sorted(tables, key=lambda table: table.family)
        )
        yield Check("neighbours", OK, f"the kernel has room for {rooms}, on all links together")


def _nearest_existing(path: Path) -> Path:
    """Return *path*, or the nearest directory above it that exists and that this user can see."""
    return next(each for each in (path, *path.parents) if os.path.exists(each))


def check_permissions(host: Host, settings: Settings, parts: Parts, state: Path) -> Iterator[Check]:
    """Check that this user may write the state, read the boot files, and has the capabilities that DHCP needs."""
    existing = _nearest_existing(state)
    if os.access(existing, os.W_OK | os.X_OK):
        yield Check("state", OK, f"{state} can be written")
    else:
        yield Check(
            "state",
            PROBLEM,
            f"{state} can't be written by this user",
            f"chown it to the user that runs bootfw, or set state-dir in [bootfw] (it is {existing} that forbids it)",
        )
    for name, backend in parts.backends:
        if not provides(backend, IDirectoryBackend):
            continue
        root = Path(backend.root)
        is_directory, existing = os.path.isdir(root), _nearest_existing(root)
        if not is_directory and os.access(existing, os.X_OK):
            yield Check("boot files", PROBLEM, f"backend {name}: {root} is no directory", f"mkdir -p {root}")
        elif not (is_directory and os.access(root, os.R_OK | os.X_OK)):
            yield Check(
                "boot files", PROBLEM, f"backend {name}: {root} can't be read by this user", f"chmod a+rx {existing}"
            )
        else:
            yield Check("boot files", OK, f"backend {name}: {root} can be read")
    yield from _check_capabilities(host, settings)


def _check_capabilities(host: Host, settings: Settings) -> Iterator[Check]:
    try:
        found = re.search(r"^CapEff:\s*([0-9a-f]+)$", (host.proc / "self" / "status").read_text(), re.MULTILINE)
    except OSError:
        return
    effective = int(found[1], 16) if found else 0
    needed = [10, 12, 13] if settings.dhcp.mode == "server" else [10]
    lacking = [_CAPABILITIES[number] for number in needed if not effective >> number & 1]
    for name, purpose in lacking:
        yield Check(
            "capabilities",
            WARNING,
            f"this user lacks {name}, {purpose}",
            f"AmbientCapabilities={name} in the systemd unit, or start as root",
        )
    if not lacking:
        yield Check("capabilities", OK, "this user may do all that the configuration takes")


def check_loaders(parts: Parts) -> Iterator[Check]:
    """Check that the boot files exist that the resolvers name."""
    for name, file in files_by_tftp(parts) if not parts.settings.tftp.listen else ():
        yield Check(
            "loaders",
            PROBLEM,
            f"TFTP is off, and resolver {name} names {file} for TFTP from this server",
            "name it as a URL, or with the server that has it, or set listen in [tftp]",
        )
    for kind, plugins in (("backend", parts.backends), ("resolver", parts.resolvers)):
        for name, plugin in plugins:
            problem = plugin.problem() if ISelfChecking.providedBy(plugin) else ""
            if problem:
                yield Check("loaders", PROBLEM, f"{kind} {name}: {problem}", "correct it, or leave it out")
    if not parts.resolvers:
        yield Check(
            "loaders",
            PROBLEM if parts.settings.dhcp.mode == "proxy" else WARNING,
            "no resolver is configured and no boot program is found, so no client gets a boot file",
            f"install the package ipxe, put a boot loader into {defaults.ROOTS[0]}, or add a [[resolver]]",
        )
        return
    listable = [backend for _, backend in parts.backends if provides(backend, IListableBackend)]
    complete = len(listable) == len(parts.backends)
    missing = False
    for name, resolver in parts.resolvers:
        for listed in resolver.boot_files() if provides(resolver, IListableResolver) else ():
            path = relative(listed.file.name.removeprefix("{http}").removeprefix("{https}"))
            if "://" in listed.file.name or "{" in path or listed.file.server or listed.file.content is not None:
                continue
            if not any(backend.has(path) for backend in listable) and complete:
                missing = True
                architecture = f" for {listed.architecture}" if listed.architecture else ""
                yield Check(
                    "loaders",
                    PROBLEM,
                    f"resolver {name} names {path}{architecture}, and no backend has it",
                    "put the file there",
                )
    if not missing:
        yield Check("loaders", OK, "the boot files that resolvers name are there")


def check_host(host: Host, state: Path) -> Iterator[Check]:
    """Check the clock and the free disk space."""
    installed = max(path.stat().st_mtime for path in (Path(__file__), Path(os.__file__)))
    if host.now() < installed - 86400:
        yield Check(
            "clock",
            PROBLEM,
            f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(host.now()))}, and bootfw was installed later: "
            "leases and certificates depend on it",
            "timedatectl set-ntp true",
        )
    else:
        yield _clock(host)
    existing = _nearest_existing(state)
    free = shutil.disk_usage(existing).free
    text = f"{existing} has {free >> 20} MiB free"
    if free < _LEAST_FREE:
        yield Check("disk", PROBLEM, f"{text}: leases can't be stored when it is full", "make room")
    else:
        yield Check("disk", OK, text)


def _clock(host: Host) -> Check:
    says = f"the clock says {time.strftime('%Y-%m-%d %H:%M', time.gmtime(host.now()))} UTC"
    synchronized = host.clock_is_synchronized()
    if synchronized is None:
        return Check("clock", OK, f"{says}; whether it is synchronized is not known here")
    if synchronized:
        return Check("clock", OK, f"{says}, and is synchronized")
    return Check(
        "clock",
        WARNING,
        f"{says}, and nothing synchronizes it: times in the log drift, and certificates may count as expired",
        "timedatectl set-ntp true, or start chronyd",
    )


def check_security_modules(host: Host, parts: Parts) -> Iterator[Check]:
    """Check SELinux and AppArmor, which may forbid what file permissions allow."""
    roots = [Path(backend.root) for _, backend in parts.backends if provides(backend, IDirectoryBackend)]
    if host.enforces_selinux():
        unlabeled = [root for root in roots if os.path.isdir(root) and not _SERVED_TYPE.search(host.label(root))]
        for root in unlabeled:
            yield Check(
                "selinux",
                WARNING,
                f"SELinux is enforcing, and a confined service may not read {root}, whose label is "
                f"{host.label(root) or 'not known'}",
                f"semanage fcontext -a -t tftpdir_t '{root}(/.*)?' and restorecon -R {root}; "
                "ausearch -m avc -ts recent shows what was denied",
            )
        if not unlabeled:
            yield Check("selinux", OK, "SELinux is enforcing, and the boot files have a label that services may read")
    profile = host.apparmor_profile()
    if profile:
        yield Check(
            "apparmor",
            WARNING,
            f"AppArmor confines this program by the profile {profile}: it may forbid files and sockets",
            "aa-status shows the profile, journalctl -k --grep apparmor what was denied",
        )


_SERVED_TYPE = re.compile(r":(tftpdir(_rw)?|public_content(_rw)?|httpd_sys_content)_t:")


# The firewall


def check_firewall(host: Host, wanted: Sequence[WantedPort]) -> Iterator[Check]:
    """Check whether rules of nftables or iptables drop packets of clients."""
    ports = sorted({(kind, address[1]) for _, kind, address in wanted})
    rules = host.command(["nft", "list", "ruleset"])
    source = "nft list ruleset"
    if rules is None:
        rules, source = host.command(["iptables-save"]), "iptables-save"
    if rules is None:
        yield Check("firewall", SKIPPED, "its rules can't be read: there is no nft and no iptables, or it takes root")
        return
    dropped = [(kind, port) for kind, port in ports if _explicitly_dropped(rules, kind, port)]
    unnamed = [(kind, port) for kind, port in ports if _drops_by_default(rules) and not _accepted(rules, kind, port)]
    for kind, port in dropped:
        yield Check(
            "firewall", PROBLEM, f"a rule drops {kind.upper()} port {port}", f"see {source}, and remove that rule"
        )
    for kind, port in unnamed:
        if (kind, port) not in dropped:
            yield Check(
                "firewall",
                WARNING,
                f"what is not allowed is dropped, and no rule names {kind.upper()} port {port}",
                f"firewall-cmd --add-port={port}/{kind}, or ufw allow {port}/{kind}, or nft add rule ...; see {source}",
            )
    if not dropped and not unnamed:
        yield Check("firewall", OK, "no rule was found that drops what clients send")


_VERDICT = re.compile(r"\b(drop|reject|DROP|REJECT)\b")


def _lines_about(rules: str, kind: str, port: int) -> Iterator[str]:
    """Yield the rules that name a port."""
    for line in rules.splitlines():
        rule = line.strip()
        if not re.search(rf"\b{kind}\b", rule):
            continue
        listed = re.search(r"dports? (\{[^}]*\}|\S+)", rule)
        if listed and _contains(listed[1], port):
            yield rule


def _contains(listed: str, port: int) -> bool:
    """Return whether *listed* contains *port*: ``67``, ``67-69``, ``67:69``, ``67,69``, ``{ 67, 4011 }``, or names of
    services."""
    for part in re.split(r"[{},\s]+", listed):
        first, _, last = part.replace(":", "-").partition("-")
        low, high = _port_number(first), _port_number(last or first)
        if low and high and low <= port <= high:
            return True
    return False


def _port_number(text: str) -> int:
    return int(text) if text.isdecimal() else {"bootps": 67, "tftp": 69, "dhcpv6-server": 547}.get(text, 0)


def _explicitly_dropped(rules: str, kind: str, port: int) -> bool:
    about = list(_lines_about(rules, kind, port))
    return bool(about) and _VERDICT.search(about[0]) is not None


def _accepted(rules: str, kind: str, port: int) -> bool:
    return any(re.search(r"\b(accept|ACCEPT|jump|goto)\b", line) for line in _lines_about(rules, kind, port))


def _drops_by_default(rules: str) -> bool:
    return bool(
        re.search(r"hook input [^;]*;(?:[^;}]*;)?\s*policy (?:drop|reject);", rules)
        or re.search(r"^:INPUT DROP", rules, re.MULTILINE)
    )


# Other servers


def check_network(settings: Settings) -> Iterator[Check]:
    """Look for other DHCP servers: send a DISCOVER on each interface, without taking a lease."""
    ours = own_addresses(socket.AF_INET) or frozenset()
    discover = partial(boot_client(bytes.fromhex(DEFAULT_MAC.replace(":", "")), "x86_64-uefi").discover, random_xid())
    for name in settings.interfaces or interfaces():
        try:
            replies = Broadcasts(name, settings.dhcp.server_port).query(discover, 2.0)
        except BootfwError as error:
            yield Check("network", SKIPPED, f"{name}: {error}")
            continue
        yield from judge_offers(name, offers_of(replies), ours, settings.dhcp.mode)


def judge_offers(name: str, offers: Sequence[Offer], ours: frozenset[str], mode: str) -> Iterator[Check]:
    """Judge the offers of the DHCP servers in a network.

    :param name: the interface.
    :param ours: addresses of this host.
    :param mode: our own ``mode`` in [dhcp].
    """
    others = [offer for offer in offers if offer.server not in ours]
    giving = sorted({offer.server for offer in others if offer.address})
    naming = sorted({offer.server for offer in others if offer.file or offer.vendor_class.startswith("PXEClient")})
    if giving and mode == "server":
        yield Check(
            "network",
            PROBLEM,
            f"{name}: {', '.join(giving)} gives addresses too: which server a client takes is chance",
            'stop that server, or set mode = "proxy" in [dhcp]',
        )
    elif len(giving) > 1:
        yield Check("network", WARNING, f"{name}: {', '.join(giving)} all give addresses", "leave one of them")
    elif not giving and mode == "proxy":
        yield Check(
            "network",
            PROBLEM,
            f"{name}: no DHCP server gives addresses, and a proxy gives none",
            'start one, or set mode = "server" in [dhcp] with a [[dhcp.subnet]]',
        )
    elif giving:
        yield Check("network", OK, f"{name}: {giving[0]} gives addresses")
    else:
        yield Check("network", OK, f"{name}: no other DHCP server answers")
    if naming:
        yield Check(
            "network",
            WARNING,
            f"{name}: {', '.join(naming)} names a boot file too: which one a client loads depends on its firmware",
            "take next-server and the boot file out of that server's configuration",
        )


# This host


def _output(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _links() -> Sequence[Link]:
    with closing(Netlink()) as kernel:
        try:
            return list(kernel.links().values())
        except OSError:
            return ()


def _neighbour_tables() -> Sequence[NeighbourTable]:
    with closing(Netlink()) as kernel:
        try:
            return kernel.neighbour_tables()
        except OSError:
            return ()


def _addresses() -> Sequence[LinkAddress]:
    with closing(Netlink()) as kernel:
        try:
            return kernel.addresses()
        except OSError:
            return ()


def _fault(kind: str, address: tuple[str, int]) -> int:
    six = ip_address(address[0]).version == 6
    family: Any = socket.AF_INET6 if six else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as sock:
            if kind == "tcp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if six:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _label(path: Path) -> str:
    try:
        return os.getxattr(path, "security.selinux").rstrip(b"\0").decode(errors="replace")
    except OSError:
        return ""


_TIMEX_BYTES = 208
"""Size of struct timex (linux/timex.h), at least, on any architecture."""
_TIME_ERROR = 5
"""The result of adjtimex(2) while the clock is not synchronized."""


def _clock_is_synchronized() -> bool | None:
    """Return whether an NTP client keeps the kernel's clock synchronized; None: that can't be read."""
    adjtimex = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    if adjtimex is None:
        return None
    state: int = adjtimex(ctypes.create_string_buffer(2 * _TIMEX_BYTES))  # all zero: it only reads
    return None if state < 0 else state != _TIME_ERROR
