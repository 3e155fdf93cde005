"""Reads kea-dhcp4.conf and kea-dhcp6.conf (the Administrator Reference Manual of Kea 2.6)."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

from attrs import define, field, frozen

from bootfw.importing.bootfiles import Choice, ClientKind, add_resolvers, add_resolvers6
from bootfw.importing.draft import Draft, Network, network_of
from bootfw.importing.evaluation import UnknownCondition
from bootfw.importing.keasyntax import Node, Test, parse
from bootfw.importing.options import is_address, numbers, option, set_option
from bootfw.importing.outcome import Fate, Line
from bootfw.importing.toml import Table, Value

EXPRESSED, ASSUMED, UNNEEDED, LEFT_OUT = Fate.EXPRESSED, Fate.ASSUMED, Fate.UNNEEDED, Fate.LEFT_OUT

_DEFAULT_LIFETIME = 7200
_BOOT = ("next-server", "boot-file-name", "server-hostname")

_TIMES = (("valid-lifetime", "lease-seconds"), ("renew-timer", "renew-seconds"), ("rebind-timer", "rebind-seconds"))
_SUBNET = ("subnet", "pools", "option-data", "reservations", "relay", "rapid-commit", *dict(_TIMES), *_BOOT)
_LISTS = (
    "option-data",
    "pools",
    "reservations",
    "client-classes",
    "shared-networks",
    "subnet4",
    "subnet6",
    "option-def",
)
_HOST = (
    "hw-address",
    "client-id",
    "duid",
    "circuit-id",
    "ip-addresses",
    "ip-address",
    "hostname",
    "option-data",
    *_BOOT,
)
"""Members that are read."""

_NOT_NEEDED: Mapping[str, str] = {
    "lease-database": "bootfw has its own store",
    "expired-leases-processing": "bootfw has its own store",
    "control-socket": "bootfw has a control socket in its state directory",
    "control-sockets": "bootfw has a control socket in its state directory",
    "loggers": "bootfw logs to its standard output or the journal: [log]",
    "Logging": "bootfw logs to its standard output or the journal: [log]",
    "user-context": "a comment",
    "comment": "a comment",
    "id": "bootfw needs no number for it",
    "option-def": "bootfw options say their types",
    "server-hostname": "no firmware uses the name of the server",
    "echo-client-id": "bootfw does",
    "decline-probation-period": "an address rests for an hour",
    "dhcp4o6-port": "bootfw has no DHCPv4 over DHCPv6",
    "sanity-checks": "bootfw has its own store",
    "multi-threading": "set workers in [bootfw]",
    "min-valid-lifetime": "a client gets lease-seconds, whatever it requests",
    "max-valid-lifetime": "a client gets lease-seconds, whatever it requests",
    "preferred-lifetime": "it is that of lease-seconds",
    "min-preferred-lifetime": "it is that of lease-seconds",
    "max-preferred-lifetime": "it is that of lease-seconds",
    "calculate-tee-times": "clients take half and seven eighths of the lease",
    "t1-percent": "clients take half and seven eighths of the lease",
    "t2-percent": "clients take half and seven eighths of the lease",
    "reservations-global": "bootfw looks for reservations in every subnet",
    "reservations-in-subnet": "bootfw looks for reservations in every subnet",
    "reservations-out-of-pool": "bootfw looks for reservations in every subnet",
    "reservation-mode": "bootfw looks for reservations in every subnet",
    "host-reservation-identifiers": "bootfw looks for every identifier",
    "mac-sources": "bootfw finds the hardware address by itself",
    "server-tag": "bootfw has no configuration backend",
    "store-extended-info": "bootfw does",
    "allocator": "bootfw has one",
    "cache-threshold": "bootfw caches no leases",
    "cache-max-age": "bootfw caches no leases",
    "hostname-char-set": "bootfw changes no DNS",
    "hostname-char-replacement": "bootfw changes no DNS",
    "server-id": "bootfw makes its own DUID",
    "parked-packet-limit": "bootfw has its own limits",
    "dhcp-queue-control": "bootfw has its own limits",
    "early-global-reservations-lookup": "bootfw looks for reservations first",
    "interface": "bootfw finds the subnet by its addresses",
    "statistic-default-sample-count": "bootfw has metrics: [metrics]",
    "statistic-default-sample-age": "bootfw has metrics: [metrics]",
}

_INSTEAD: Mapping[str, str] = {
    "hooks-libraries": "bootfw has no hooks of Kea: for high availability, docs/howto/cluster.md; others are plugins",
    "hosts-database": "write its hosts as [[dhcp.subnet.host]], or import them by bootfw leases reserve",
    "hosts-databases": "write its hosts as [[dhcp.subnet.host]], or import them by bootfw leases reserve",
    "config-control": "bootfw has no configuration backend",
    "client-class": "bootfw has no subnets for some clients: all get addresses of it",
    "client-classes": "bootfw has no subnets for some clients: all get addresses of it",
    "require-client-classes": "bootfw has no classes that are evaluated late",
    "evaluate-additional-classes": "bootfw has no classes that are evaluated late",
    "pd-pools": "bootfw delegates no prefixes",
    "interface-id": "write relays for the subnet",
    "4o6-subnet": "bootfw has no DHCPv4 over DHCPv6",
    "DhcpDdns": "bootfw changes no DNS",
    "dhcp-ddns": "bootfw changes no DNS",
    "Control-agent": "bootfw has a control socket and pages",
    "ip-reservations-unique": "a machine has one address in bootfw",
}

OPTIONS = numbers(
    "time-offset=2 routers=3 time-servers=4 name-servers=5 domain-name-servers=6 log-servers=7 cookie-servers=8 "
    "lpr-servers=9 host-name=12 boot-size=13 domain-name=15 swap-server=16 root-path=17 extensions-path=18 "
    "ip-forwarding=19 policy-filter=21 max-dgram-reassembly=22 default-ip-ttl=23 interface-mtu=26 "
    "broadcast-address=28 static-routes=33 nis-domain=40 nis-servers=41 ntp-servers=42 "
    "vendor-encapsulated-options=43 netbios-name-servers=44 netbios-dd-server=45 netbios-node-type=46 "
    "netbios-scope=47 font-servers=48 x-display-manager=49 dhcp-lease-time=51 dhcp-renewal-time=58 "
    "dhcp-rebinding-time=59 vendor-class-identifier=60 dhcp-client-identifier=61 nisplus-domain-name=64 "
    "nisplus-servers=65 tftp-server-name=66 boot-file-name=67 smtp-server=69 pop-server=70 nntp-server=71 "
    "www-server=72 irc-server=74 user-class=77 client-system=93 client-ndi=94 uuid-guid=97 pcode=100 tcode=101 "
    "v6-only-preferred=108 v4-captive-portal=114 domain-search=119 classless-static-route=121 capwap-ac-v4=138 "
)
"""Names of DHCPv4 options -> code."""

OPTIONS6 = numbers(
    "dns-servers=23 domain-search=24 nis-servers=27 nisp-servers=28 nis-domain-name=29 nisp-domain-name=30 "
    "sntp-servers=31 information-refresh-time=32 new-posix-timezone=41 new-tzdb-timezone=42 bootfile-url=59 "
    "bootfile-param=60 "
)
"""Names of DHCPv6 options -> code."""


@frozen
class _Class:
    """A client class."""

    node: Node
    name: str
    test: Test | None


@define
class _KeaReader:
    """Reads the value of Dhcp4 or Dhcp6, and translates it."""

    draft: Draft
    six: bool
    classes: list[_Class] = field(factory=list)
    codes: dict[str, int] = field(factory=dict)
    kinds: dict[int, str] = field(factory=dict)
    macs: dict[str, Node] = field(factory=dict)
    """Hardware address -> its reservation."""
    boot_lines: dict[Line, None] = field(factory=dict)
    used: set[Line] = field(factory=set)
    bad: dict[Line, str] = field(factory=dict)

    @property
    def section(self) -> str:
        return "dhcp6" if self.six else "dhcp"

    def read(self, root: Node) -> None:
        """Read the value of Dhcp4 or Dhcp6."""
        self.codes = dict(OPTIONS6 if self.six else OPTIONS)
        subnet_key = "subnet6" if self.six else "subnet4"
        for each in root.items("option-def"):
            self._definition(each)
        for each in root.items("client-classes"):
            self._class(each)
        subnets: list[tuple[Node, tuple[Node, ...]]] = [(each, (root,)) for each in root.items(subnet_key)]
        for shared in root.items("shared-networks"):
            subnets += [(each, (root, shared)) for each in shared.items(subnet_key)]
            self._members(shared, (subnet_key, "name", "option-data", *_BOOT, "valid-lifetime", "relay"))
            self.draft.note(shared.line, EXPRESSED, f"shared-network in [[{self.section}.subnet]]")
        networks = [(node, outer, self._subnet(node, outer)) for node, outer in subnets]
        for node in root.items("reservations"):
            self._reservation(node, None)
        self._global(root, subnet_key)
        self._boot_files(root, networks)
        reported = {outcome.line for outcome in self.draft.outcomes}
        for name, member in root.members.items():
            if member.line not in reported and not isinstance(member.value, list | dict):
                understood = not subnets and not isinstance(member.value, str)
                reason = "no subnet and no client gets it" if understood else "bootfw import does not understand it"
                self.draft.note(member.line, UNNEEDED if understood else LEFT_OUT, f"{name}: {reason}")

    def _definition(self, node: Node) -> None:
        name, code, space = node.text("name"), node.number("code"), node.text("space")
        if name and code is not None and space in ("", "dhcp4", "dhcp6"):
            self.codes[name] = code
            kinds = {"ipv4-address": "address", "ipv6-address": "address", "string": "text", "boolean": "boolean"}
            kind = node.text("type")
            self.kinds[code] = kinds.get(kind, kind if kind in ("uint8", "uint16", "uint32", "int32") else "")
            if kind.startswith("ip") and node.value_of("array"):
                self.kinds[code] = "addresses"
            self.draft.note(node.line, UNNEEDED, "a declaration")
        else:
            self.draft.note(node.line, LEFT_OUT, f"{name}: bootfw has no option spaces ({space}): write bytes")

    def _class(self, node: Node) -> None:
        name, test = node.text("name"), node.text("test")
        self.classes.append(_Class(node, name, Test(test, self.codes) if test else None))
        self._members(node, ("name", "test", "option-data", "option-def", *_BOOT))
        self.draft.note(node.line, EXPRESSED, "as a condition of what the class gets")
        of_boot = (59,) if self.six else (60, 66, 67)
        options = [each for each in node.items("option-data") if self._code(each) not in of_boot]
        for each in node.items("option-data"):
            if each not in options:
                self.boot_lines[each.line] = None
        if not options:
            return
        found = Test(test, self.codes).prefix() if test else None
        if found is None:
            for each in options:
                self.draft.note(
                    each.line, LEFT_OUT, "bootfw has options for a vendor class or a user class: [[dhcp.class]]"
                )
            return
        table = Table(f"[[{self.section}.class]]", {found[0]: found[1]}, [str(node.line)])
        for each in options:
            self._option(each, table)
        if "options" in table.values:
            (self.draft.classes6 if self.six else self.draft.classes).append(table)

    def _class_conditions(self, name: str) -> dict[str, Value] | None:
        """Return the conditions of a [[dhcp.class]] for a class of Kea; None: bootfw has none for it."""
        if name in ("KNOWN", "UNKNOWN"):
            return {"known": name == "KNOWN"}
        test = next((each.test for each in self.classes if each.name == name), None)
        found = test.prefix() if test is not None else None
        if found is None and name.startswith("VENDOR_CLASS_"):
            found = "vendor-class", name.removeprefix("VENDOR_CLASS_")
        return {found[0]: found[1]} if found else None

    def _members(self, node: Node, handled: Sequence[str]) -> None:
        """Note the outcome of the keys that no other method reads."""
        for name, member in node.members.items():
            if name in handled:
                if name in _LISTS and not isinstance(member.value, list):
                    self.draft.note(member.line, LEFT_OUT, f"{name}: it must be a list")
                elif name in ("next-server", "boot-file-name"):
                    self.boot_lines[member.line] = None
                elif name == "server-hostname":
                    self.draft.note(member.line, UNNEEDED, _NOT_NEEDED[name])
            elif name in _NOT_NEEDED:
                self.draft.note(member.line, UNNEEDED, f"{name}: {_NOT_NEEDED[name]}")
            elif name.startswith("ddns-"):
                fate = LEFT_OUT if member.value is True else UNNEEDED
                self.draft.note(member.line, fate, f"{name}: bootfw changes no DNS")
            elif member.value in ([], {}, "", False):
                self.draft.note(member.line, UNNEEDED, f"{name}: it is empty or off")
            else:
                reason = _INSTEAD.get(name, f"bootfw import does not know {name}")
                self.draft.note(member.line, LEFT_OUT, f"{name}: {reason}")

    def _global(self, root: Node, subnet_key: str) -> None:
        handled = {subnet_key, "shared-networks", "option-data", "client-classes", "reservations", "option-def", *_BOOT}
        handled |= {"valid-lifetime", "renew-timer", "rebind-timer", "interfaces-config", "authoritative"}
        handled |= {"match-client-id", "rapid-commit"}
        self._members(root, [*handled])
        interfaces = root.members.get("interfaces-config")
        if interfaces is not None:
            for each in interfaces.items("interfaces"):
                name = str(each.value).partition("/")[0]
                if name == "*":
                    self.draft.note(each.line, EXPRESSED, "the default: all interfaces")
                else:
                    self.draft.append("bootfw", "interfaces", name, each.line)
            for name, member in interfaces.members.items():
                if name != "interfaces":
                    self.draft.note(member.line, UNNEEDED, f"{name}: bootfw opens its sockets by itself")
        authoritative = root.members.get("authoritative")
        if authoritative is not None and not self.six:
            self.draft.set("dhcp", "authoritative", bool(authoritative.value), authoritative.line)
        match = root.members.get("match-client-id")
        if match is not None and not self.six:
            self.draft.set("dhcp", "identify-by", "client-id" if match.value else "hardware", match.line)

    def _subnet(self, node: Node, outer: tuple[Node, ...]) -> Network | None:
        try:
            network = network_of(*node.text("subnet").split("/", 1))
        except (TypeError, ValueError):
            self.draft.note(node.line, LEFT_OUT, f"{node.text('subnet') or 'it'} is not a network")
            return None
        table = self.draft.subnet(network)
        table.comments.append(str(node.line))
        self.draft.note(node.line, EXPRESSED, table.header)
        scopes = (*outer, node)
        if len(outer) > 1 and not self.six:
            table.set("shared-network", outer[1].text("name"), outer[1].line)
        pools = [(str(pool.value_of("pool")), pool) for pool in node.items("pools")]
        pool_values: list[Value] = []
        for text, pool in pools:
            span = "-".join(part.strip() for part in text.split("-"))
            self._members(pool, ("pool", "option-data", "client-class"))
            name = pool.text("client-class")
            conditions = self._class_conditions(name) if name else {}
            if conditions:
                self.draft.class_pool(conditions, span, pool.line, self.six)
            elif conditions is None:
                reason = f"bootfw has no class for {name}: no client gets these addresses"
                self.draft.note(pool.members["client-class"].line, LEFT_OUT, reason)
            else:
                pool_values.append(span)
                self.draft.note(pool.line, EXPRESSED, f"pool in {table.header}")
            for each in pool.items("option-data"):
                self.draft.note(each.line, LEFT_OUT, "bootfw has no options of a pool: set them in the subnet")
        if pool_values:
            table.set("pool", pool_values)
        table.set("lease-seconds", _DEFAULT_LIFETIME)
        for scope in scopes:
            for key, name in _TIMES:
                number, member = scope.number(key), scope.members.get(key)
                if number is not None and member is not None:
                    table.set(name, min(max(number, 60), 31536000) if name == "lease-seconds" else number, member.line)
                    self.draft.note(member.line, EXPRESSED, f"{name} in {table.header}")
            for each in scope.items("option-data"):
                self._option(each, table)
            relay = scope.members.get("relay")
            if relay is not None:
                addresses = [str(each.value) for each in relay.items("ip-addresses")] or [relay.text("ip-address")]
                table.set("relays", [address for address in addresses if address], relay.line)
                self.draft.note(relay.line, EXPRESSED, f"relays in {table.header}")
            rapid = scope.members.get("rapid-commit")
            if rapid is not None:
                table.set("rapid-commit", bool(rapid.value), rapid.line)
                self.draft.note(rapid.line, EXPRESSED, f"rapid-commit in {table.header}")
        for each in node.items("reservations"):
            self._reservation(each, table)
        handled = (
            "subnet",
            "pools",
            "option-data",
            "reservations",
            "valid-lifetime",
            "renew-timer",
            "rebind-timer",
            "relay",
        )
        self._members(node, (*handled, "rapid-commit", *_BOOT))
        return network

    def _code(self, node: Node) -> int | None:
        number = node.number("code")
        return number if number is not None else self.codes.get(node.text("name"))

    def _option(self, node: Node, table: Table) -> None:
        code = self._code(node)
        if node.text("space") not in ("", "dhcp4", "dhcp6"):
            name = node.text("name") or code
            self.draft.note(node.line, LEFT_OUT, f"{name}: bootfw has no option spaces: write the bytes of the option")
        elif code is None:
            self.draft.note(
                node.line, LEFT_OUT, f"{node.text('name')} is not an option that bootfw import knows: give its code"
            )
        elif not self.six and code in (66, 67, 60) and table.header != "[[dhcp.subnet.host]]":
            self.boot_lines[node.line] = None
            if code == 60:
                self.draft.note(node.line, UNNEEDED, "bootfw sends PXE clients their vendor class")
        elif self.six and code == 59 and not table.header.endswith(".host]]"):
            self.boot_lines[node.line] = None
        elif not self.six and code in (1, 28):
            self.draft.note(node.line, UNNEEDED, "it follows from the network")
        else:
            data = str(node.value_of("data") or "")
            words = [word.strip().replace("\\,", ",") for word in re.split(r"(?<!\\),", data)]
            if node.value_of("csv-format") is False:
                words = [f"0x{data.replace(' ', '').replace(':', '').removeprefix('0x')}"]
            if code == 121 and not self.six:
                words = [part for word in words for part in word.split(" - ")]
            try:
                kind = "bytes" if node.value_of("csv-format") is False else self.kinds.get(code, "")
                if self.six and code in (23, 24) and table.header.endswith("subnet]]"):
                    table.set("dns" if code == 23 else "domain", words, node.line)
                elif self.six:
                    key, value = option(code, words, True, kind)
                    options = table.values.get("options", {})
                    table.set("options", {**(options if isinstance(options, dict) else {}), key: value})
                else:
                    set_option(table, code, words, node.line, kind)
            except ValueError as error:
                self.draft.note(node.line, LEFT_OUT, f"{node.text('name') or code}: {error}")
            else:
                self.draft.note(node.line, EXPRESSED, table.header)

    def _reservation(self, node: Node, table: Table | None) -> None:
        mac = _mac(node.text("hw-address"))
        values: dict[str, Value] = {"mac": mac} if mac else {}
        for key, name in (("client-id", "client-id"), ("duid", "duid"), ("circuit-id", "circuit-id")):
            text = node.text(key)
            if text and not (name == "duid" and not self.six):
                values[name] = text.strip("'") if name == "circuit-id" else text
        if any(str(each.value) == "DROP" for each in node.items("client-classes")):
            self._drop(node, mac)
            return
        if mac:
            self.macs[mac] = node
        addresses = [str(each.value) for each in node.items("ip-addresses")] or [node.text("ip-address")]
        addresses = [address for address in addresses if address]
        self._members(node, _HOST)
        if not values:
            self.draft.note(node.line, LEFT_OUT, "bootfw knows a machine by its mac, client-id, circuit-id or duid")
            return
        if table is None and addresses and is_address(addresses[0]):
            table = self.draft.subnet_of(ip_address(addresses[0]))
        subnets = self.draft.subnets6 if self.six else self.draft.subnets
        if table is None and len(subnets) == 1:
            table = subnets[0]
        if table is None:
            self.draft.note(node.line, LEFT_OUT, "it is not known which subnet it belongs to")
            return
        if addresses:
            values["address"] = addresses[0]
        if node.text("hostname") and not self.six:
            values["hostname"] = node.text("hostname")
        if len(addresses) > 1:
            self.draft.note(
                node.line, LEFT_OUT, f"a host has one address in bootfw: {', '.join(addresses[1:])} is left out"
            )
        host = self.draft.host(table, values, node.line)
        self.draft.note(node.line, EXPRESSED, host.header)
        for each in node.items("option-data"):
            self._option(each, host)

    def _drop(self, node: Node, mac: str) -> None:
        """Have a machine ignored that is in the class DROP."""
        if mac:
            self.draft.append(self.section, "ignore", mac, node.line)
        else:
            self.draft.note(node.line, LEFT_OUT, "bootfw ignores machines by their hardware addresses only")

    # Boot files

    def _boot_files(self, root: Node, networks: Sequence[tuple[Node, tuple[Node, ...], Network | None]]) -> None:
        if not self.boot_lines:
            return
        if self.six:
            self._boot_files6(root, networks)
            return
        scopes = [(*outer, node) for node, outer, network in networks if network is not None] or [(root,)]
        kinds = [ClientKind(code) for code in (0, 6, 7, 9, 11, 16, None)] + [ClientKind(0, True), ClientKind(7, True)]
        usual = next((scope for scope in scopes if any(self._answer(scope, kind) for kind in kinds)), scopes[0])
        by_network = {str(network): (*outer, node) for node, outer, network in networks if network is not None}
        relays = {name: self._foreign_relays(scope) for name, scope in by_network.items()}
        add_resolvers(
            self.draft,
            lambda kind: self._answer(by_network.get(kind.network, usual), kind),
            list(self.macs),
            Line(root.line.file, 0),
            relays if len(by_network) > 1 else {},
        )
        self._report_boot_lines()

    def _boot_files6(self, root: Node, networks: Sequence[tuple[Node, tuple[Node, ...], Network | None]]) -> None:
        by_network = {str(network): (*outer, node) for node, outer, network in networks if network is not None}

        def answer(kind: ClientKind) -> Choice | None:
            *inner, outermost = reversed(by_network[kind.network])
            file = self._data([*inner, *self._classes_of(kind), outermost], 59)
            if file is None:
                return None
            self.used.add(file[1])
            return Choice(file[0], line=file[1])

        relays = {name: self._foreign_relays(scope) for name, scope in by_network.items()}
        add_resolvers6(self.draft, answer, relays, Line(root.line.file, 0))
        self._report_boot_lines()

    def _report_boot_lines(self) -> None:
        for line in self.boot_lines:
            if line in self.bad:
                self.draft.note(line, LEFT_OUT, self.bad[line])
            elif line in self.used:
                self.draft.note(line, EXPRESSED, "[[resolver]]")
            else:
                self.draft.note(line, UNNEEDED, "no kind of client gets it")
        for line, reason in self.bad.items():
            self.draft.note(line, LEFT_OUT, reason)

    def _foreign_relays(self, scopes: Sequence[Node]) -> Sequence[str]:
        """Return the relays of a subnet whose addresses are in another network."""
        table = self.draft.subnet(network_of(*scopes[-1].text("subnet").split("/", 1)))
        relays = table.values.get("relays", [])
        network = ip_network(str(table.values["network"]))
        listed = [str(relay) for relay in relays] if isinstance(relays, list) else []
        return [relay for relay in listed if is_address(relay) and ip_address(relay) not in network]

    def _answer(self, scopes: Sequence[Node], kind: ClientKind) -> Choice | None:
        """Return the boot file that Kea names to such a client. It comes from its reservation, else from its classes in
        their order, the subnet, the shared network or the global values (Dhcpv4Srv::setFixedFields())."""
        order: list[Node] = [self.macs[kind.mac]] if kind.mac in self.macs else []
        order += list(self._classes_of(kind))
        inner = list(reversed(scopes))
        file = _first(order + inner, "boot-file-name") or self._data(order[:1] if kind.mac in self.macs else [], 67)
        file = file or self._data([*inner[:-1], *order, inner[-1]], 67)
        if file is None or not file[0]:
            return None
        self.used.add(file[1])
        server = _first(order + inner, "next-server") or self._data([*inner[:-1], *order, inner[-1]], 66)
        address = server[0] if server is not None else ""
        if server is not None:
            self.used.add(server[1])
            if not is_address(address, 4):
                self.bad[server[1]] = f"server must be an address in bootfw: write that of {address}"
                address = ""
        return Choice(file[0], "" if address == "0.0.0.0" else address, line=file[1])

    def _data(self, nodes: Sequence[Node], code: int) -> tuple[str, Line] | None:
        for node in nodes:
            for each in node.items("option-data"):
                if self._code(each) == code:
                    return str(each.value_of("data") or ""), each.line
        return None

    def _classes_of(self, kind: ClientKind) -> Iterator[Node]:
        member = {"ALL"} | ({"KNOWN"} if kind.mac in self.macs else {"UNKNOWN"})
        vendor = kind.options.get(60)
        if vendor is not None:
            member.add(f"VENDOR_CLASS_{vendor.decode()}")
        if kind.mac in self.macs:
            member |= {str(each.value) for each in self.macs[kind.mac].items("client-classes")}
        for each in self.classes:
            try:
                holds = each.test.holds(kind, member) if each.test is not None else each.name in member
            except UnknownCondition as error:
                test = each.node.members["test"]
                self.bad[test.line] = f"bootfw has no such condition: {error}"
                holds = False
            if holds:
                member.add(each.name)
                yield each.node


def _first(nodes: Sequence[Node], name: str) -> tuple[str, Line] | None:
    """Return (value, line) of the first node that has the key *name*; None: no node has it."""
    for node in nodes:
        member = node.members.get(name)
        if member is not None and member.value not in ("", "0.0.0.0"):
            return str(member.value), member.line
    return None


def _mac(text: str) -> str:
    parts = re.split("[:-]", text.lower())
    ok = len(parts) == 6 and all(re.fullmatch("[0-9a-f]{1,2}", part) for part in parts)
    return ":".join(part.zfill(2) for part in parts) if ok else ""


def is_kea(text: str) -> bool:
    """Return whether *text* is a configuration of Kea."""
    return bool(re.search(r'"(Dhcp4|Dhcp6|subnet4|subnet6)"\s*:', text))


def read_kea(draft: Draft, files: Sequence[tuple[str, str]], load: Callable[[Path], str]) -> None:
    """Translate configurations of Kea into *draft*.

    :param files: (name, text) of each.
    :param load: reads a file that another one includes; raises OSError.
    :raise UnreadableConfiguration: a file is not JSON.
    """
    for name, text in files:
        root = parse(name, text, load)
        if "subnet4" in root.members or "subnet6" in root.members:  # a part, without its name
            _KeaReader(draft, "subnet6" in root.members).read(root)
            continue
        for key, member in root.members.items():
            if key in ("Dhcp4", "Dhcp6"):
                _KeaReader(draft, key == "Dhcp6").read(member)
                draft.note(member.line, EXPRESSED, "what is in it is read")
            else:
                reason = _NOT_NEEDED.get(key) or _INSTEAD.get(key) or f"bootfw import does not know {key}"
                draft.note(member.line, UNNEEDED if key in _NOT_NEEDED else LEFT_OUT, f"{key}: {reason}")
