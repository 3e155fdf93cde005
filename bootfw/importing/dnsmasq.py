"""Reads dnsmasq.conf (dnsmasq(8); how boot files and tags are chosen: rfc2131.c and dhcp-common.c of dnsmasq 2.90)."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from ipaddress import IPv4Network, ip_address
from pathlib import Path

from attrs import define, field, frozen

from bootfw.importing.bootfiles import KINDS, Choice, ClientKind, add_resolvers, add_resolvers6
from bootfw.importing.dnsmasqoptions import ARCHITECTURES, DNS, INSTEAD, NOT_NEEDED, OPTIONS, OPTIONS6
from bootfw.importing.draft import Draft, network_of
from bootfw.importing.options import SUBNET_KEYS, is_address, option, set_option
from bootfw.importing.outcome import Fate, Line
from bootfw.importing.toml import Table, Value

EXPRESSED, ASSUMED, UNNEEDED, LEFT_OUT = Fate.EXPRESSED, Fate.ASSUMED, Fate.UNNEEDED, Fate.LEFT_OUT

_LINE = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)\s*(?:=\s*(?P<value>.*))?", re.DOTALL)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[^,"]+|,')
_MAC = re.compile(r"(?:(?P<kind>[0-9a-fA-F]{1,2})-)?(?P<mac>[0-9a-fA-F*]{1,2}(?:[:-][0-9a-fA-F*]{1,2}){5})")
_TIME = re.compile(r"(?P<number>\d+)(?P<unit>[smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST_LEASE = 31536000
_DEFAULT_LEASE = 3600
_MODES = ("static", "proxy", "ra-only", "ra-names", "ra-stateless", "slaac", "ra-advrouter", "off-link")
_DEPTH = 8
"""Files that include others, as deep as dnsmasq allows it or nearly so."""

_FIRST = (
    *("interface", "listen-address", "dhcp-range", "dhcp-mac", "dhcp-match", "dhcp-vendorclass", "dhcp-userclass"),
    *("dhcp-host", "tag-if", "dhcp-ignore", "dhcp-boot", "pxe-service", "pxe-prompt"),
)
"""Options that others depend on, in the order in which they are translated."""
_PXELINUX = {208: "", 209: "configfile", 210: "pathprefix", 211: "reboot"}


@frozen
class _Rule:
    """A line with conditions: tags that have to be set, and tags ("!name") that must not be."""

    line: Line
    tags: tuple[str, ...]
    words: tuple[str, ...]

    def holds(self, tags: frozenset[str]) -> bool:
        """Return whether the tags of a client fulfil the conditions."""
        return all((tag[1:] not in tags) if tag.startswith("!") else (tag in tags) for tag in self.tags)


@frozen
class _Service:
    """A ``pxe-service``."""

    rule: _Rule
    code: int
    description: str
    file: str
    """ "": the machine boots its disk."""
    server: str


@frozen
class _Setter:
    """A line that sets tags for clients, and the option whose content it matches."""

    line: Line
    tags: tuple[str, ...]
    matches: Callable[[ClientKind], bool]


@frozen
class _Range:
    """A ``dhcp-range`` for IPv4."""

    rule: _Rule
    sets: tuple[str, ...]
    network: IPv4Network
    proxy: bool


def is_dnsmasq(text: str) -> bool:
    """Return whether *text* is a configuration of dnsmasq."""
    names = re.findall(r"^\s*([a-z][a-z0-9-]*)[ \t]*(?:=|$)", text, re.M)
    known = {"enable-tftp", "tftp-root", "interface", "conf-dir", "conf-file", "listen-address", "except-interface"}
    return any(name in known or name in DNS or name.startswith(("dhcp-", "pxe-")) for name in names)


def read_dnsmasq(draft: Draft, files: Sequence[tuple[str, str]], load: Callable[[Path], str]) -> None:
    """Translate the configuration of one dnsmasq, which may have several files, into *draft*.

    :param files: (name, text) of each.
    :param load: reads a file that another one includes; raises OSError.
    """
    reading = _DnsmasqReader(draft, load)
    for name, text in files:
        reading.read(name, text, 0)
    reading.finish()


@define
class _DnsmasqReader:
    """Reads the lines of all files, and translates them in finish(): most lines depend on tags that others set."""

    draft: Draft
    load: Callable[[Path], str]
    lines: list[tuple[str, str, Line]] = field(factory=list)
    """(option, value, line) of each."""
    _rules: dict[str, list[_Rule]] = field(factory=dict)
    _setters: list[_Setter] = field(factory=list)
    _services: list[_Service] = field(factory=list)
    _ranges: list[_Range] = field(factory=list)
    _host_tags: dict[str, tuple[str, ...]] = field(factory=dict)
    """MAC -> tags that its host sets."""
    _mac_prefixes: dict[str, list[str]] = field(factory=dict)
    """Tag -> the beginnings of hardware addresses that set it."""
    _tagged_pools: list[tuple[_Rule, str]] = field(factory=list)
    """(range with tags as conditions, its addresses)."""
    _hosts_with: dict[str, list[Table]] = field(factory=dict)
    """Tag -> the hosts that set it."""
    _classes_with: dict[str, tuple[str, str]] = field(factory=dict)
    """Tag -> key and value of a [[dhcp.class]] with the same condition."""
    _unknown_tags: dict[str, str] = field(factory=dict)
    """Tag -> why it is not known which clients have it."""
    _known_only: bool = False
    _interfaces: list[str] = field(factory=list)
    _own_addresses: list[str] = field(factory=list)
    _prompt: tuple[str, int] | None = None
    _files_used: set[Line] = field(factory=set)

    def read(self, name: str, text: str, depth: int) -> None:
        """Split a file into lines, and read the files that it includes."""
        for number, raw in enumerate(text.splitlines(), 1):
            stripped = _without_comment(raw).strip()
            if not stripped:
                continue
            line = Line(name, number, stripped)
            found = _LINE.fullmatch(stripped.removeprefix("--"))
            if found is None:
                self.draft.note(line, LEFT_OUT, "this is not a line of dnsmasq.conf")
                continue
            option_name, value = found["name"], (found["value"] or "").strip()
            if option_name in ("conf-file", "conf-dir", "dhcp-hostsfile"):
                self._include(option_name, value, line, depth)
            else:
                self.lines.append((option_name, value, line))

    def _include(self, name: str, value: str, line: Line, depth: int) -> None:
        words = _words(value)
        if not words or depth >= _DEPTH:
            self.draft.note(line, LEFT_OUT, "it names no file" if not words else "files are included too deep")
            return
        path = Path(words[0])
        try:
            if name == "conf-dir":
                files = [each for each in sorted(path.iterdir()) if _is_included(each.name, words[1:])]
            else:
                files = [path]
            texts = [(str(each), self.load(each)) for each in files if not each.is_dir()]
        except OSError as error:
            self.draft.note(line, LEFT_OUT, f"can't be read: {error.strerror}; import it with this file")
            return
        self.draft.note(line, EXPRESSED, f"{len(texts)} file{'' if len(texts) == 1 else 's'} read")
        for each, text in texts:
            if name == "dhcp-hostsfile":
                lines = [(number, _without_comment(raw).strip()) for number, raw in enumerate(text.splitlines(), 1)]
                self.lines += [("dhcp-host", raw, Line(each, number, raw)) for number, raw in lines if raw]
            else:
                self.read(each, text, depth + 1)

    # Everything that follows runs once, after the last line: to dnsmasq the order matters within one option only.

    def finish(self) -> None:
        """Turn the lines into settings."""
        by_name: dict[str, list[tuple[str, Line]]] = {}
        for name, value, line in self.lines:
            by_name.setdefault(name, []).append((value, line))
        names = [*(name for name in _FIRST if name in by_name), *(name for name in by_name if name not in _FIRST)]
        no_names = any(value == "0" for value, _ in by_name.get("port", []))
        for name in names:
            read = _READERS.get(name)
            for value, line in by_name[name]:
                if read is not None and not value and name not in _FLAGS:
                    self.draft.note(line, LEFT_OUT, "it has no value")
                elif read is not None:
                    try:
                        read(self, value, line)
                    except ValueError as error:
                        self.draft.note(line, LEFT_OUT, str(error))
                else:
                    self._other(name, line, no_names)
        self._finish_tagged_pools()
        self._options()
        self._finish_ranges()
        self._boot_files()
        self._boot_files6()
        reported = {outcome.line for outcome in self.draft.outcomes}
        for _, _, line in self.lines:
            if line not in reported:
                self.draft.note(line, LEFT_OUT, "bootfw import does not understand it")

    def _other(self, name: str, line: Line, no_names: bool) -> None:
        if name == "port" and no_names:
            self.draft.note(line, UNNEEDED, "bootfw is no name server")
        elif name in DNS:
            if no_names:
                self.draft.note(line, UNNEEDED, "with port=0 dnsmasq is no name server")
            else:
                reason = "bootfw is no name server: leave this line in dnsmasq.conf"
                self.draft.note(line, LEFT_OUT, reason)
        elif name in NOT_NEEDED:
            self.draft.note(line, UNNEEDED, NOT_NEEDED[name])
        elif name in INSTEAD:
            self.draft.note(line, LEFT_OUT, INSTEAD[name])
        else:
            self.draft.note(line, LEFT_OUT, f"bootfw import does not know {name}: see dnsmasq(8) for what it does")

    # Interfaces and TFTP

    def _interface(self, value: str, line: Line) -> None:
        for name in _words(value):
            if name == "lo":
                self.draft.note(line, UNNEEDED, "no machine boots from the loopback interface")
            elif "*" in name:
                self.draft.note(line, LEFT_OUT, "bootfw takes no patterns: write the names into interfaces in [bootfw]")
            else:
                self._interfaces.append(name)
                self.draft.append("bootfw", "interfaces", name, line)

    def _except_interface(self, value: str, line: Line) -> None:
        for name in _words(value):
            if name == "lo":
                self.draft.note(line, UNNEEDED, "no machine boots from the loopback interface")
            elif "*" in name:
                reason = "bootfw takes no patterns: write the names into except-interfaces in [bootfw]"
                self.draft.note(line, LEFT_OUT, reason)
            else:
                self.draft.append("bootfw", "except-interfaces", name, line)

    def _no_dhcp_interface(self, value: str, line: Line) -> None:
        self._except_interface(value, line)
        if any(name != "lo" for name in _words(value)):
            self.draft.note(line, ASSUMED, "bootfw then serves no TFTP there either")

    def _listen_address(self, value: str, line: Line) -> None:
        for address in _words(value):
            parsed = ip_address(address)
            if parsed.is_loopback:
                self.draft.note(line, UNNEEDED, "no machine boots from the loopback interface")
                continue
            self._own_addresses.append(address)
            self.draft.append("tftp", "listen", f"[{address}]:69" if parsed.version == 6 else f"{address}:69", line)
            if not self._interfaces:
                reason = "for DHCP, write the interface with this address into interfaces in [bootfw]"
                self.draft.note(line, ASSUMED, reason)

    def _enable_tftp(self, value: str, line: Line) -> None:
        if value:
            self.draft.note(line, ASSUMED, f"bootfw serves TFTP on the interfaces of DHCP too, not only on {value}")
        else:
            self.draft.note(line, EXPRESSED, "[tftp]")
        if not any(name == "tftp-root" for name, _, _ in self.lines):
            self.draft.note(
                line, LEFT_OUT, "without tftp-root dnsmasq serves every file: write a [[backend]] with a root"
            )

    def _tftp_root(self, value: str, line: Line) -> None:
        root, *interfaces = _words(value)
        if not any(name == "enable-tftp" for name, _, _ in self.lines):
            self.draft.note(line, UNNEEDED, "enable-tftp is not set")
            return
        self.draft.backend(root, line, any(name == "tftp-lowercase" for name, _, _ in self.lines))
        if interfaces:
            self.draft.note(line, ASSUMED, f"bootfw serves {root} on every interface, not only on {interfaces[0]}")
        else:
            self.draft.note(line, EXPRESSED, "[[backend]]")

    def _tftp_lowercase(self, value: str, line: Line) -> None:
        self.draft.note(line, EXPRESSED, "ignore-case in [[backend]]")

    def _tftp_no_blocksize(self, value: str, line: Line) -> None:
        self.draft.set("tftp", "max-blksize", 512, line)

    def _tftp_mtu(self, value: str, line: Line) -> None:
        self.draft.set("tftp", "max-blksize", int(value) - 32, line)

    def _tftp_port_range(self, value: str, line: Line) -> None:
        first, last = _words(value)
        self.draft.set("tftp", "ports", f"{int(first)}-{int(last)}", line)

    # DHCP

    def _dhcp_authoritative(self, value: str, line: Line) -> None:
        self.draft.set("dhcp", "authoritative", True, line)

    def _domain(self, value: str, line: Line) -> None:
        name, *scope = _words(value) or [""]
        if scope or name in ("", "#"):
            self.draft.note(line, LEFT_OUT, "set domain in the [[dhcp.subnet]] that it is for")
            return
        for subnet in self.draft.subnets:
            subnet.values.setdefault("domain", name)
            subnet.remarks.setdefault("domain", str(line))
        if self.draft.subnets:
            self.draft.note(line, EXPRESSED, "domain in [[dhcp.subnet]]")
        else:
            self.draft.note(line, UNNEEDED, "no addresses are given")

    def _dhcp_range(self, value: str, line: Line) -> None:
        words = _words(value)
        tags, sets, arguments = _conditions(words, set_first=True)
        if not arguments:
            raise ValueError("it has no addresses")
        if any(":" in word for word in arguments[:2]):
            self._range6(arguments, line)
            return
        start, *others = arguments
        start = start.removesuffix(",")
        modes = [word for word in others if word in _MODES]
        addresses = [word for word in others if is_address(word, 4)]
        lease = next((word for word in reversed(others) if word == "infinite" or _TIME.fullmatch(word)), "")
        masks = [word for word in addresses if _is_mask(word)]
        ends = [word for word in addresses if word not in masks]
        unknown = [word for word in others if word not in (*modes, *addresses, lease)]
        if not is_address(start, 4) or unknown:
            raise ValueError(f"{(unknown or [start])[0]} is not understood")
        network, assumed = _network(start, ends[:1], masks)
        rule = _Rule(line, tags, tuple(words))
        self._ranges.append(_Range(rule, sets, network, "proxy" in modes))
        if "proxy" in modes:
            self.draft.set("dhcp", "mode", "proxy", line)
            return
        subnet = self.draft.subnet(network)
        subnet.comments.append(str(line))
        if tags and ends and "static" not in modes:
            self._tagged_pools.append((rule, f"{start}-{ends[0]}"))
        elif ends and "static" not in modes:
            pool = list(_strings(subnet.values.get("pool")))
            subnet.set("pool", [*pool, f"{start}-{ends[0]}"])
        if "static" in modes:
            subnet.set("known-clients-only", True, "static")
        subnet.values.setdefault("lease-seconds", _seconds(lease) if lease else _DEFAULT_LEASE)
        if assumed:
            reason = f"dnsmasq takes the netmask from the interface: is it {network.prefixlen} bits, {network}?"
            self.draft.note(line, ASSUMED, reason)
        else:
            self.draft.note(line, EXPRESSED, "[[dhcp.subnet]]")

    def _range6(self, arguments: list[str], line: Line) -> None:
        modes = [word for word in arguments if word in _MODES]
        if any(word.startswith("constructor:") for word in arguments):
            raise ValueError("bootfw takes no network from an interface: write [[dhcp6.subnet]] with the network")
        if any(mode.startswith(("ra-", "slaac")) for mode in modes):
            raise ValueError("bootfw sends no router advertisements: use radvd or systemd-networkd")
        addresses = [word for word in arguments if is_address(word, 6)]
        if not addresses:
            raise ValueError("it has no IPv6 address")
        lengths = [word for word in arguments if re.fullmatch(r"\d{1,3}", word) and 64 <= int(word) <= 128]
        lease = next((word for word in arguments if word == "infinite" or re.fullmatch(r"\d+[smhdw]", word)), "")
        network = network_of(addresses[0], lengths[0] if lengths else "64")
        subnet = self.draft.subnet(network)
        subnet.comments.append(str(line))
        if len(addresses) > 1:
            subnet.set("pool", [*_strings(subnet.values.get("pool")), f"{addresses[0]}-{addresses[1]}"])
        if "static" in modes:
            subnet.set("known-clients-only", True, "static")
        subnet.values.setdefault("lease-seconds", _seconds(lease) if lease else _DEFAULT_LEASE)
        self.draft.note(line, EXPRESSED, "[[dhcp6.subnet]]; routers have to advertise it with the flag M")

    def _dhcp_host(self, value: str, line: Line) -> None:
        words = _words(value)
        tags, sets, arguments = _conditions(words)
        macs, others, address, address6, client_id = [], [], "", "", ""
        for word in arguments:
            found = _MAC.fullmatch(word)
            if found:
                macs.append(":".join(part.zfill(2) for part in re.split("[:-]", found["mac"].lower())))
            elif word.startswith("id:"):
                client_id = word[3:]
            elif is_address(word, 4):
                address = word
            elif word.startswith("["):
                address6 = word.strip("[]")
            else:
                others.append(word)
        if "ignore" in others:
            self._ignore([_beginning(mac) for mac in macs], line)
            return
        if any("*" in mac for mac in macs):
            raise ValueError("bootfw has no hosts with patterns of hardware addresses: a [[dhcp.class]] has mac")
        for mac in macs:
            self._host_tags[mac] = (*self._host_tags.get(mac, ()), *sets, "known")
        times = [word for word in others if word == "infinite" or re.fullmatch(r"\d+[smhdw]?", word)]
        names = [word for word in others if word not in times]
        self._add_host(line, tags, sets, macs, client_id, address, address6, names, times)

    def _ignore(self, macs: Sequence[str], line: Line) -> None:
        """Have the machines with these hardware addresses, or beginnings of them, get no reply."""
        if not macs:
            raise ValueError("bootfw ignores machines by their hardware addresses only")
        for mac in macs:
            self.draft.append("dhcp", "ignore", mac, line)
            if self.draft.subnets6:
                self.draft.append("dhcp6", "ignore", mac, line)

    def _add_host(
        self,
        line: Line,
        tags: Sequence[str],
        sets: Sequence[str],
        macs: Sequence[str],
        client_id: str,
        address: str,
        address6: str,
        names: Sequence[str],
        times: Sequence[str],
    ) -> None:
        if tags:
            raise ValueError(
                f"a host with a condition ({', '.join(tags)}): write it into the [[dhcp.subnet]] that it is for"
            )
        if client_id == "*":
            self.draft.note(line, UNNEEDED, "bootfw identifies machines by their hardware addresses")
            client_id = ""
        if not macs and not client_id:
            raise ValueError("bootfw knows a machine by its mac, uuid, client-id or circuit-id, not by its name")
        if not self.draft.subnets and not self.draft.subnets6:
            fate = EXPRESSED if sets else UNNEEDED
            self.draft.note(line, fate, "its boot file" if sets else "no addresses are given")
            return
        values: dict[str, Value] = {"mac": macs[0]} if macs else {}
        if times:
            values["lease-seconds"] = _seconds(times[0])
        if len(macs) > 1:
            values["other-macs"] = list(macs[1:])
        if client_id and not address6:
            values["client-id"] = client_id
        subnet = self.draft.subnet_of(ip_address(address)) if address else None
        if address6:
            self._add_host6(line, dict(values), client_id, address6)
        if not address and not names and not times and (address6 or sets):
            self.draft.note(line, EXPRESSED, "its boot file and options")
        elif address and subnet is None:
            raise ValueError(f"{address} is in no dhcp-range, and so in no [[dhcp.subnet]]")
        elif subnet is not None or len(self.draft.subnets) == 1:
            values |= {"address": address} if address else {}
            values |= {"hostname": names[0]} if names else {}
            table = self.draft.host(subnet or self.draft.subnets[0], values, line)
            for tag in sets:
                self._hosts_with.setdefault(tag, []).append(table)
            self.draft.note(line, EXPRESSED, "[[dhcp.subnet.host]]")
        else:
            raise ValueError("it has no address, and it is not known which [[dhcp.subnet]] it belongs to")

    def _add_host6(self, line: Line, values: dict[str, Value], duid: str, address: str) -> None:
        subnet = self.draft.subnet_of(ip_address(address))
        if subnet is None:
            raise ValueError(f"{address} is in no dhcp-range, and so in no [[dhcp6.subnet]]")
        self.draft.host(subnet, values | ({"duid": duid} if duid else {}) | {"address": address}, line)
        self.draft.note(line, EXPRESSED, "[[dhcp6.subnet.host]]")

    def _dhcp_rapid_commit(self, value: str, line: Line) -> None:
        for subnet in self.draft.subnets:
            subnet.set("rapid-commit", True, line)
        self.draft.note(line, EXPRESSED, "rapid-commit in [[dhcp.subnet]]")

    # Tags

    def _dhcp_mac(self, value: str, line: Line) -> None:
        _, sets, arguments = _conditions(_words(value), set_first=True)
        found = _MAC.fullmatch(arguments[0]) if arguments else None
        if found is None:
            raise ValueError(f"{arguments[0] if arguments else 'nothing'} is no hardware address")
        if "*" in found["mac"]:
            for tag in sets:
                self._unknown_tags[tag] = (
                    "is set for a pattern of hardware addresses: for boot files, write a [[persona]] with oui"
                )
                self._mac_prefixes.setdefault(tag, []).append(_beginning(found["mac"]))
            self.draft.note(line, EXPRESSED, "for pools and options: [[dhcp.class]]")
            return
        mac = ":".join(part.zfill(2) for part in re.split("[:-]", found["mac"].lower()))
        self._host_tags[mac] = (*self._host_tags.get(mac, ()), *sets)
        self.draft.note(line, EXPRESSED, "as a condition of what has its tag")

    def _dhcp_match(self, value: str, line: Line) -> None:
        _, sets, arguments = _conditions(_words(value), set_first=True)
        if not arguments:
            raise ValueError("it names no option")
        name, *values = arguments
        if name.startswith("option6:"):
            self._match6(line, sets, name.removeprefix("option6:"), ",".join(values))
            return
        if name.startswith(("vi-encap:", "encap:")):
            self._cannot_compare(sets, "depends on an option that bootfw does not compare")
            raise ValueError("bootfw has no condition on encapsulated options")
        code = _code(name)
        self._match(line, sets, code, ",".join(values))

    def _match6(self, line: Line, sets: tuple[str, ...], name: str, value: str) -> None:
        if name not in ("61", "client-arch") or not value.isdecimal() or int(value) > 0xFFFF:
            self._cannot_compare(sets, f"depends on DHCPv6 option {name}, which bootfw has no condition on")
            raise ValueError(f"bootfw has no condition on DHCPv6 option {name}, only on the architecture, 61")
        expected = int(value).to_bytes(2, "big")
        self._setters.append(_Setter(line, sets, lambda kind: kind.six and kind.options.get(61) == expected))
        self.draft.note(line, EXPRESSED, "as a condition of what has its tag")

    def _dhcp_vendorclass(self, value: str, line: Line) -> None:
        _, sets, arguments = _conditions(_words(value), set_first=True)
        if any(word.startswith("enterprise:") for word in arguments):
            raise ValueError("bootfw has no condition on the enterprise of a vendor class")
        self._match(line, sets, 60, ",".join(arguments))

    def _dhcp_userclass(self, value: str, line: Line) -> None:
        _, sets, arguments = _conditions(_words(value), set_first=True)
        self._match(line, sets, 77, ",".join(arguments))

    def _cannot_compare(self, tags: Sequence[str], reason: str) -> None:
        for tag in tags:
            self._unknown_tags.setdefault(tag, reason)

    def _match(self, line: Line, sets: tuple[str, ...], code: int, value: str) -> None:
        expected, text = _matched_bytes(code, value)

        def matches(kind: ClientKind) -> bool:
            sent = kind.options.get({60: 16, 77: 15}.get(code, 0) if kind.six else code)
            if sent is None:
                return False
            if not expected:
                return True
            return expected in sent if text else sent.startswith(expected)

        self._setters.append(_Setter(line, sets, matches))
        comparable = code in (93, 94, 175) or any(matches(kind) for kind in KINDS)
        if code in (60, 77) and value:
            key = "vendor-class" if code == 60 else "user-class"
            for tag in sets:
                self._classes_with.setdefault(tag, (key, value))
        elif code == 93:
            for tag in sets:
                self._classes_with.setdefault(tag, ("vendor-class", f"PXEClient:Arch:{int.from_bytes(expected):05d}"))
        if comparable:
            self.draft.note(line, EXPRESSED, "as a condition of what has its tag")
        elif code in (60, 77):
            self._cannot_compare(sets, f"is set for clients with {value}, which need a [[persona]]")
            self.draft.note(line, EXPRESSED, "for options: [[dhcp.class]]")
        else:
            self._cannot_compare(sets, f"depends on option {code}, which bootfw has no condition on")
            raise ValueError(f"bootfw has no condition on option {code}: conditions are those of [[persona]]")

    def _tag_if(self, value: str, line: Line) -> None:
        tags, sets, _ = _conditions(_words(value))
        self._rules.setdefault("tag-if", []).append(_Rule(line, tags, sets))
        self.draft.note(line, EXPRESSED, "as a condition of what has its tag")

    def _dhcp_ignore(self, value: str, line: Line) -> None:
        tags, _, _ = _conditions(_words(value))
        rule = _Rule(line, tags, ())
        self._rules.setdefault("dhcp-ignore", []).append(rule)
        if tags == ("!known",):
            self._known_only = True
            for subnet in self.draft.subnets:
                subnet.set("known-clients-only", True, line)
            self.draft.note(line, EXPRESSED, "known-clients-only in [[dhcp.subnet]]; boot files by by-client")
        elif len(conditions := self._class_conditions(tags) or {}) == 1 and "mac" in conditions:
            self._ignore([str(mac) for mac in _strings(conditions["mac"])], line)
        elif self.draft.subnets:
            self.draft.note(
                line, LEFT_OUT, "bootfw gives addresses to all clients of a subnet: it ignores no kind of them"
            )
        else:
            self.draft.note(line, EXPRESSED, "such clients get no boot file")

    def _tags(self, kind: ClientKind) -> frozenset[str]:
        """Return the tags that dnsmasq sets for a client."""
        tags = {tag for setter in self._setters if setter.matches(kind) for tag in setter.tags}
        tags |= set(self._host_tags.get(kind.mac, ()))
        for each in self._ranges:
            if len(self._ranges) == 1 or str(each.network) == kind.network:
                tags |= set(each.sets)
        if len(self._interfaces) == 1:
            tags.add(self._interfaces[0])
        for _ in range(3):  # conditions on tags of other conditions
            for rule in self._rules.get("tag-if", []):
                if rule.holds(frozenset(tags)):
                    tags |= set(rule.words)
        return frozenset(tags)

    # Boot files

    def _dhcp_boot(self, value: str, line: Line) -> None:
        tags, _, arguments = _conditions(_words(value, keep_empty=True))
        self._rules.setdefault("dhcp-boot", []).append(_Rule(line, tags, tuple(arguments)))

    def _pxe_service(self, value: str, line: Line) -> None:
        tags, _, arguments = _conditions(_words(value, keep_empty=True))
        if len(arguments) < 2:
            raise ValueError("it needs a kind of client and a description")
        architecture = ARCHITECTURES.get(arguments[0].lower())
        if architecture is None and not arguments[0].isdecimal():
            raise ValueError(f"{arguments[0]} is no kind of client; dnsmasq names the kinds as X86PC and X86-64_EFI")
        code = int(arguments[0]) if architecture is None else architecture
        file, server = (*arguments[2:], "", "")[:2]
        if file.isdecimal() and file != "0":
            raise ValueError("bootfw knows no PXE boot server types: name the file")
        if server and not is_address(server, 4):
            raise ValueError(f"server must be an address in bootfw: write that of {server}")
        file = "" if file == "0" else file
        # A name without a dot gets the number of the layer (rfc2131.c), which is 0 for the first file.
        if file and "." not in file:
            file = f"{file}.0"
        self._services.append(_Service(_Rule(line, tags, ()), code, arguments[1], file, server))

    def _pxe_prompt(self, value: str, line: Line) -> None:
        tags, _, arguments = _conditions(_words(value))
        timeout = int(arguments[1]) if len(arguments) > 1 else 255
        self._prompt = arguments[0] if arguments else "", min(timeout, 255)
        if tags:
            self.draft.note(line, ASSUMED, "all clients get the prompt, whatever their tags")
        if not any(service.code == 0 for service in self._services):
            self.draft.note(line, UNNEEDED, "there is no menu for a BIOS, and bootfw sends UEFI firmware none")
        else:
            self.draft.note(line, EXPRESSED, "[[resolver]]")

    def _boot_files(self) -> None:
        boots, services = self._rules.get("dhcp-boot", []), self._services
        option_rules = [rule for rule in self._rules.get("option", []) if _is_boot_option(rule)]
        lines = [rule.line for rule in (*boots, *option_rules)] + [service.rule.line for service in services]
        if not lines:
            return
        if not self._ranges:
            for line in lines:
                self.draft.note(line, UNNEEDED, "without dhcp-range dnsmasq does not answer DHCP requests")
            return
        self._report_rules([*boots, *option_rules, *(service.rule for service in services)])
        networks = dict.fromkeys(str(each.network) for each in self._ranges)
        several = dict.fromkeys(networks, ()) if len(networks) > 1 else {}
        add_resolvers(self.draft, self._answer, list(self._host_tags), Line(lines[0].file, 0), several)
        self._menu()
        for line in dict.fromkeys(lines):
            if line in self._files_used:
                self.draft.note(line, EXPRESSED, "[[resolver]]")
            elif not any(outcome.line == line for outcome in self.draft.outcomes):
                self.draft.note(line, UNNEEDED, "no kind of client gets it: other lines come first")

    def _boot_files6(self) -> None:
        rules = self._rules.get("option6-boot", [])
        if not rules:
            return
        self._report_rules(rules)

        def answer(kind: ClientKind) -> Choice | None:
            rule = _winner(rules, self._tags(kind))
            if rule is None or not rule.words:
                return None
            self._files_used.add(rule.line)
            return Choice(",".join(rule.words), line=rule.line)

        networks = {str(subnet.values["network"]): () for subnet in self.draft.subnets6}
        add_resolvers6(self.draft, answer, networks, Line(rules[0].line.file, 0))
        for line in (rule.line for rule in rules):
            if line in self._files_used:
                self.draft.note(line, EXPRESSED, "[[resolver]]")
            elif not networks:
                self.draft.note(line, LEFT_OUT, "it holds in networks of DHCPv6, and there is no range of one")
            elif not any(outcome.line == line for outcome in self.draft.outcomes):
                self.draft.note(line, UNNEEDED, "no kind of client gets it: other lines come first")

    def _report_rules(self, rules: Sequence[_Rule]) -> None:
        settable = {tag for setter in self._setters for tag in setter.tags}
        settable |= {tag for tags in self._host_tags.values() for tag in tags} | {"known", "bootp", *self._interfaces}
        settable |= {tag for rule in self._rules.get("tag-if", []) for tag in rule.words}
        settable |= {tag for each in self._ranges for tag in each.sets}
        for rule in rules:
            for tag in rule.tags:
                name = tag.removeprefix("!")
                if name in self._unknown_tags:
                    self.draft.note(rule.line, LEFT_OUT, f"the tag {name} {self._unknown_tags[name]}")
                elif name not in settable and not tag.startswith("!"):
                    self.draft.note(rule.line, UNNEEDED, f"no line sets the tag {name}")

    def _answer(self, kind: ClientKind) -> Choice | None:
        """Return the boot file that dnsmasq names to such a client."""
        tags = self._tags(kind)
        if any(rule.holds(tags) for rule in self._rules.get("dhcp-ignore", [])):
            return None
        service = self._service(kind, tags)
        boot = _winner(self._rules.get("dhcp-boot", []), tags)
        if kind.code == 41 and any("Raspberry Pi Boot" in each.description for each in self._services):
            self._files_used |= {e.rule.line for e in self._services if "Raspberry Pi Boot" in e.description}
            return Choice("bootcode.bin")
        choice = self._boot_choice(boot, tags)
        if service is not None and self._takes_service(kind, tags, choice is not None):
            self._files_used.add(service.rule.line)
            return Choice(service.file, service.server, *self._pxelinux(tags), line=service.rule.line)
        if choice is not None and choice.line is not None:
            self._files_used.add(choice.line)
        return choice

    def _takes_service(self, kind: ClientKind, tags: frozenset[str], is_named: bool) -> bool:
        """Return whether a client loads the file of its pxe-service, where dhcp-boot may name one too.

        A BIOS shows the menu; iPXE takes a file that it is named. UEFI with one service only gets no menu: a proxy
        names the file of the service, a server that of dhcp-boot (pxe_uefi_workaround() and do_options() in rfc2131.c).
        """
        if not is_named:
            return True
        fitting = [each for each in self._services if each.code == kind.code and each.rule.holds(tags)]
        if kind.code is not None and kind.code >= 6 and len(fitting) == 1:
            return self._ranges[0].proxy
        return not kind.ipxe

    def _boot_choice(self, boot: _Rule | None, tags: frozenset[str]) -> Choice | None:
        options = {_code(rule.words[0]): rule for rule in self._rules.get("option", []) if rule.holds(tags)}
        if boot is None:
            file = options.get(67)
            if file is None or len(file.words) < 2:
                return None
            self._files_used.add(file.line)
            server = options.get(66) or options.get(150)
            address = server.words[1] if server is not None and len(server.words) > 1 else ""
            if server is not None and is_address(address, 4):
                self._files_used.add(server.line)
            else:
                address = ""
            return Choice(file.words[1], address, *self._pxelinux(tags), line=file.line)
        file_name, server_name, address = (*boot.words, "", "", "")[:3]
        if server_name:
            self.draft.note(boot.line, EXPRESSED, f"without the server's name, {server_name}, which no firmware uses")
        if address and not is_address(address, 4):
            self.draft.note(boot.line, LEFT_OUT, f"server must be an address in bootfw: write that of {address}")
            address = ""
        if not file_name:
            return None
        address = "" if address == "0.0.0.0" or address in self._own_addresses else address
        return Choice(file_name, address, *self._pxelinux(tags), line=boot.line)

    def _pxelinux(self, tags: frozenset[str]) -> tuple[str, str, int | None]:
        """Return (configfile, pathprefix, reboot-seconds) for clients with these tags."""
        found: dict[str, str] = {}
        for rule in self._rules.get("option", []):
            code = _code(rule.words[0])
            if code in _PXELINUX and rule.holds(tags):
                self._files_used.add(rule.line)
                found[_PXELINUX[code]] = ",".join(rule.words[1:])
        reboot = found.get("reboot", "").rstrip("bsi")
        return found.get("configfile", ""), found.get("pathprefix", ""), int(reboot) if reboot.isdecimal() else None

    def _service(self, kind: ClientKind, tags: frozenset[str]) -> _Service | None:
        if kind.code is None:
            return None
        fitting = [each for each in self._services if each.code == kind.code and each.rule.holds(tags)]
        with_file = [each for each in fitting if each.file]
        return with_file[0] if with_file else None

    def _menu(self) -> None:
        """Add the menu of a BIOS, if it has several entries or is shown after a prompt."""
        tags = self._tags(ClientKind(0))
        entries = [each for each in self._services if each.code == 0 and each.rule.holds(tags)]
        entries = [each for each in entries if "Raspberry Pi Boot" not in each.description]
        if not entries or (len(entries) == 1 and not (self._prompt and self._prompt[1])):
            return
        prompt, timeout = self._prompt or ("", 255)
        table = Table("[[resolver]]", {"use": "pxe-menu"})
        if prompt:
            table.set("prompt", prompt)
        table.set("timeout-seconds", timeout)
        for entry in entries:
            values: dict[str, Value] = {"description": entry.description}
            if entry.file:
                values |= Choice(entry.file, entry.server, *self._pxelinux(tags)).table()
            table.below.append(Table("[[resolver.items]]", values, [str(entry.rule.line)]))
            self._files_used.add(entry.rule.line)
        at = next((i for i, each in enumerate(self.draft.resolvers) if each.values["use"] != "by-client"), None)
        self.draft.resolvers.insert(len(self.draft.resolvers) if at is None else at, table)

    # Options

    def _dhcp_option(self, value: str, line: Line) -> None:
        tags, _, arguments = _conditions(_words(value))
        arguments = [word for word in arguments if word]
        if not arguments:
            raise ValueError("it names no option")
        if arguments[0].startswith("vendor:"):
            vendor = arguments[0].removeprefix("vendor:")
            if vendor.startswith("PXEClient"):
                self.draft.note(line, UNNEEDED, "bootfw makes option 43 for PXE clients itself")
                return
            raise ValueError(
                f'write it into options.vendor-specific of a [[dhcp.class]] with vendor-class = "{vendor}"'
            )
        if arguments[0].startswith(("encap:", "vi-encap:")):
            raise ValueError("write its bytes as an option of the [[dhcp.subnet]]")
        if arguments[0].startswith("option6:"):
            self._option6(arguments, tags, line)
            return
        _code(arguments[0])
        self._rules.setdefault("option", []).append(_Rule(line, tags, tuple(arguments)))

    def _option6(self, arguments: Sequence[str], tags: Sequence[str], line: Line) -> None:
        name = arguments[0].removeprefix("option6:")
        code = int(name) if name.isdecimal() else OPTIONS6.get(name)
        if code is None:
            raise ValueError(f"{name} is not an option that bootfw import knows: give its number")
        if code == 59:
            self._rules.setdefault("option6-boot", []).append(_Rule(line, tuple(tags), tuple(arguments[1:])))
            return
        if tags or not self.draft.subnets6:
            raise ValueError("set it in the [[dhcp6.subnet]] that it is for")
        words = [word.strip("[]") for word in arguments[1:]]
        if "::" in words:
            raise ValueError("[::] is the address of dnsmasq: write that of this server")
        key, value = option(code, words, six=True)
        for subnet in self.draft.subnets6:
            if code in (23, 24):
                subnet.set("dns" if code == 23 else "domain", words, line)
            else:
                _options_of(subnet)[key] = value
        self.draft.note(line, EXPRESSED, "[[dhcp6.subnet]]")

    def _options(self) -> None:
        for rule in self._rules.get("option", []):
            code = _code(rule.words[0])
            try:
                if code in _PXELINUX or code in (43, 60, 66, 67, 255):
                    self._boot_option(rule, code)
                else:
                    self._add_option(rule, code, rule.words[1:])
            except ValueError as error:
                self.draft.note(rule.line, LEFT_OUT, str(error))

    def _boot_option(self, rule: _Rule, code: int) -> None:
        if code == 208:
            self.draft.note(rule.line, UNNEEDED, "PXELINUX needs it no longer (RFC 5071 section 3)")
        elif code == 60:
            self.draft.note(rule.line, UNNEEDED, "bootfw sends PXE clients their vendor class")
        elif code == 43:
            if not self.draft.subnets or any("Raspberry" in word for word in rule.words):
                self.draft.note(rule.line, UNNEEDED, "bootfw makes option 43 for PXE clients itself")
            else:
                self._add_option(rule, code, rule.words[1:])
        elif code in (66, 67) and self._rules.get("dhcp-boot"):
            self.draft.note(rule.line, UNNEEDED, "dhcp-boot says what clients load")
        elif code == 255:
            raise ValueError('write it as server = "..." beside the boot file')
        elif not self._ranges:
            self.draft.note(rule.line, UNNEEDED, "without dhcp-range dnsmasq does not answer DHCP requests")
        elif code == 66 and self.draft.subnets and not is_address(",".join(rule.words[1:]), 4):
            self._add_option(rule, code, rule.words[1:])

    def _add_option(self, rule: _Rule, code: int, words: Sequence[str]) -> None:
        if self._ranges and not self.draft.subnets:
            self.draft.note(rule.line, UNNEEDED, "dnsmasq as a proxy sends no such options")
            return
        if not self.draft.subnets:
            self.draft.note(rule.line, UNNEEDED, "without dhcp-range dnsmasq does not answer DHCP requests")
            return
        if code == 1:
            self.draft.note(rule.line, UNNEEDED, "the netmask follows from the network")
            return
        tables = self._tables_for(rule)
        if not words:  # "do not send it", where dnsmasq would send a default
            for table in tables:
                if code in SUBNET_KEYS:
                    table.values.setdefault(SUBNET_KEYS[code], [])
            self.draft.note(rule.line, EXPRESSED, "it is not sent")
            return
        if "0.0.0.0" in words:
            own_address = self._own_addresses[0] if len(self._own_addresses) == 1 else ""
            if not own_address:
                raise ValueError("0.0.0.0 is the address of dnsmasq itself: write that of this server")
            words = [own_address if word == "0.0.0.0" else word for word in words]
        if code in (51, 58, 59):
            words = [str(_seconds(words[0]))]
        for table in tables:
            set_option(table, code, words, rule.line)
        self.draft.note(rule.line, EXPRESSED, ", ".join(dict.fromkeys(table.header for table in tables)))

    def _tables_for(self, rule: _Rule) -> list[Table]:
        """Return the subnets, hosts or class that an option with tags is for.

        :raise ValueError: bootfw has none for these tags.
        """
        tags = [tag for tag in rule.tags if tag not in self._interfaces]
        if not tags:
            return list(self.draft.subnets)
        (tag, *more) = tags
        subnets = [self.draft.subnet(each.network) for each in self._ranges if tag in each.sets and not each.proxy]
        if subnets and not more:
            return subnets
        if tag in self._hosts_with and not more:
            return self._hosts_with[tag]
        conditions = self._class_conditions(tags)
        if conditions is not None:
            return [self.draft.client_class(conditions, f"tag {', '.join(tags)}")]
        if more or tag.startswith("!"):
            raise ValueError(f"bootfw has no options for {' and '.join(rule.tags)}: set it in a subnet, class or host")
        if tag in self._unknown_tags:
            raise ValueError(f"the tag {tag} {self._unknown_tags[tag]}")
        raise ValueError(f"no line sets the tag {tag} for a subnet, a host or a class")

    def _class_conditions(self, tags: Sequence[str]) -> dict[str, Value] | None:
        """Return the conditions of a [[dhcp.class]] that hold where *tags* are set; None: it has none for them."""
        found: dict[str, Value] = {}
        for tag in tags:
            macs = [mac for mac, host_tags in self._host_tags.items() if tag in host_tags] + self._mac_prefixes.get(
                tag, []
            )
            key: str
            value: Value
            if tag in ("known", "!known"):
                key, value = "known", tag == "known"
            elif macs and tag not in self._classes_with:
                key, value = "mac", list(dict.fromkeys(macs))
            elif not macs and (tag == "ipxe" or tag in self._classes_with):
                key, value = self._classes_with.get(tag, ("user-class", "iPXE"))
            else:
                return None
            if key in found:
                return None
            found[key] = value
        return found or None

    def _finish_tagged_pools(self) -> None:
        for rule, pool in self._tagged_pools:
            conditions = self._class_conditions(rule.tags)
            if conditions is not None:
                self.draft.class_pool(conditions, pool, rule.line)
            else:
                reason = f"bootfw has no class for these tags ({', '.join(rule.tags)}): no client gets these addresses"
                self.draft.note(rule.line, LEFT_OUT, reason)

    def _finish_ranges(self) -> None:
        """Add the options that dnsmasq sends by default: its own address as router and as name server."""
        for each in self._ranges:
            if each.proxy:
                continue
            subnet = self.draft.subnet(each.network)
            own_addresses = [address for address in self._own_addresses if ip_address(address) in each.network]
            missing = [key for key in ("router", "dns") if key not in subnet.values]
            if missing and own_addresses:
                for key in missing:
                    subnet.set(key, own_addresses[0], "dnsmasq's own address, which it sends by default")
            elif missing:
                keys = " and ".join(f'{key} = "..."' for key in missing)
                reason = (
                    f"dnsmasq sends its own address as {' and '.join(missing)} by default: write {keys} if it is that"
                )
                self.draft.note(each.rule.line, ASSUMED, reason)
            for key in ("router", "dns"):
                if subnet.values.get(key) == []:
                    del subnet.values[key]


_READERS: Mapping[str, Callable[[_DnsmasqReader, str, Line], None]] = {
    "interface": _DnsmasqReader._interface,
    "except-interface": _DnsmasqReader._except_interface,
    "no-dhcp-interface": _DnsmasqReader._no_dhcp_interface,
    "listen-address": _DnsmasqReader._listen_address,
    "enable-tftp": _DnsmasqReader._enable_tftp,
    "tftp-root": _DnsmasqReader._tftp_root,
    "tftp-lowercase": _DnsmasqReader._tftp_lowercase,
    "tftp-no-blocksize": _DnsmasqReader._tftp_no_blocksize,
    "tftp-mtu": _DnsmasqReader._tftp_mtu,
    "tftp-port-range": _DnsmasqReader._tftp_port_range,
    "dhcp-authoritative": _DnsmasqReader._dhcp_authoritative,
    "domain": _DnsmasqReader._domain,
    "dhcp-range": _DnsmasqReader._dhcp_range,
    "dhcp-host": _DnsmasqReader._dhcp_host,
    "dhcp-rapid-commit": _DnsmasqReader._dhcp_rapid_commit,
    "dhcp-mac": _DnsmasqReader._dhcp_mac,
    "dhcp-match": _DnsmasqReader._dhcp_match,
    "dhcp-vendorclass": _DnsmasqReader._dhcp_vendorclass,
    "dhcp-userclass": _DnsmasqReader._dhcp_userclass,
    "tag-if": _DnsmasqReader._tag_if,
    "dhcp-ignore": _DnsmasqReader._dhcp_ignore,
    "dhcp-boot": _DnsmasqReader._dhcp_boot,
    "pxe-service": _DnsmasqReader._pxe_service,
    "pxe-prompt": _DnsmasqReader._pxe_prompt,
    "dhcp-option": _DnsmasqReader._dhcp_option,
    "dhcp-option-force": _DnsmasqReader._dhcp_option,
}


_FLAGS = ("enable-tftp", "tftp-lowercase", "tftp-no-blocksize", "dhcp-authoritative", "dhcp-rapid-commit")
"""Options that need no value."""


def _beginning(pattern: str) -> str:
    """Return the bytes before the asterisks of a pattern for hardware addresses.

    :raise ValueError: there are bytes after an asterisk.
    """
    parts = [part.zfill(2) for part in re.split("[:-]", pattern.lower())]
    fixed = [part for part in parts if "*" not in part]
    if not fixed or parts[: len(fixed)] != fixed:
        raise ValueError(f"bootfw knows beginnings of hardware addresses, not {pattern}")
    return ":".join(fixed)


def _without_comment(raw: str) -> str:
    """Return a line without its comment. A comment begins with # at the start or after a blank, outside of quotes."""
    quoted = False
    for at, letter in enumerate(raw):
        if letter == '"' and (at == 0 or raw[at - 1] != "\\"):
            quoted = not quoted
        if letter == "#" and not quoted and (at == 0 or raw[at - 1].isspace()):
            return raw[:at]
    return raw


def _words(value: str, keep_empty: bool = False) -> list[str]:
    """Return the parts between commas, without quotes."""
    parts, current = [], ""
    for word in _WORD.findall(value):
        if word == ",":
            parts.append(current.strip())
            current = ""
        else:
            current += re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word
    parts.append(current.strip())
    return parts if keep_empty else [part for part in parts if part]


def _conditions(words: Sequence[str], set_first: bool = False) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """Return (tags that are conditions, tags that are set, the arguments).

    :param set_first: an old form without "set:" has the tag as its first word, and "net:" sets it.
    """
    tags: list[str] = []
    sets: list[str] = []
    arguments: list[str] = []
    for at, word in enumerate(words):
        prefix, colon, name = word.partition(":")
        if colon and prefix == "set":
            sets.append(name)
        elif colon and prefix in ("tag", "net"):
            (sets if set_first and prefix == "net" else tags).append(name.replace("#", "!", 1))
        elif word.startswith("#") and not arguments:
            tags.append("!" + word[1:])
        elif set_first and at == 0 and re.fullmatch(r"[A-Za-z_][\w-]*", word):
            sets.append(word)
        else:
            arguments.append(word)
    return tuple(tags), tuple(sets), arguments


def _code(name: str) -> int:
    code_or_name = name.removeprefix("option:")
    if code_or_name.isdecimal():
        return int(code_or_name)
    if code_or_name not in OPTIONS:
        raise ValueError(f"{code_or_name} is not an option that bootfw import knows: give its number")
    return OPTIONS[code_or_name]


def _is_boot_option(rule: _Rule) -> bool:
    return _code(rule.words[0]) in (66, 67, 209, 210, 211)


def _matched_bytes(code: int, value: str) -> tuple[bytes, bool]:
    """Return the bytes that a condition compares, and whether they may be anywhere in the option, as texts may."""
    if not value:
        return b"", False
    if code == 93 and re.fullmatch(r"\d+|0x[0-9a-fA-F]+", value):
        return int(value, 0 if value.startswith("0x") else 10).to_bytes(2, "big"), False
    if re.fullmatch(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2})+", value):
        return bytes(int(part, 16) for part in value.split(":")), False
    if code not in (60, 77) and value.isdecimal():
        number = int(value)
        return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big"), False
    return value.encode(), True


def _winner(rules: Sequence[_Rule], tags: frozenset[str]) -> _Rule | None:
    """Return the rule that dnsmasq uses: the last one with tags, else the last one (find_boot() in rfc2131.c)."""
    fitting = [rule for rule in reversed(rules) if rule.holds(tags)]
    return next((rule for rule in fitting if rule.tags), fitting[0] if fitting else None)


def _is_included(name: str, filters: Sequence[str]) -> bool:
    """Return whether conf-dir reads a file. Filters are endings that it skips, or with * those that it reads."""
    if name.endswith("~") or name.startswith(".") or (name.startswith("#") and name.endswith("#")):
        return False
    included = [each for each in filters if each.startswith("*")]
    left_out = [each for each in filters if not each.startswith("*")]
    if any(name.endswith(each) for each in left_out):
        return False
    return not included or any(fnmatch(name, each) for each in included)


def _is_mask(word: str) -> bool:
    number = int(ip_address(word))
    return number >> 24 == 255 and (number ^ 0xFFFFFFFF) & ((number ^ 0xFFFFFFFF) + 1) == 0


def _network(start: str, ends: Sequence[str], masks: Sequence[str]) -> tuple[IPv4Network, bool]:
    """Return the network of a range, and whether its length is a guess."""
    if masks:
        return IPv4Network(f"{start}/{masks[0]}", strict=False), False
    for length in (24, 16, 8):
        network = IPv4Network(f"{start}/{length}", strict=False)
        if all(ip_address(end) in network for end in ends):
            return network, True
    return IPv4Network(f"{start}/8", strict=False), True


def _seconds(lease: str) -> int:
    if lease == "infinite":
        return _LONGEST_LEASE
    found = _TIME.fullmatch(lease)
    if found is None:
        raise ValueError(f"{lease} is not a time")
    return min(max(int(found["number"]) * _SECONDS[found["unit"]], 120), _LONGEST_LEASE)


def _strings(value: Value | None) -> Iterator[Value]:
    if isinstance(value, list):
        yield from value


def _options_of(table: Table) -> dict[str, Value]:
    found = table.values.setdefault("options", {})
    assert isinstance(found, dict)
    return found
