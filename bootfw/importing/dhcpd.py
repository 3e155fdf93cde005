"""Reads dhcpd.conf and dhcpd6.conf of ISC dhcpd (dhcpd.conf(5), dhcp-options(5), dhcp-eval(5) of ISC DHCP 4.4)."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

from attrs import define, field, frozen

from bootfw.importing.bootfiles import Choice, ClientKind, add_resolvers
from bootfw.importing.dhcpdsyntax import (
    OPTIONS,
    OPTIONS6,
    Block,
    Condition,
    Item,
    Statement,
    listed,
    option_kind,
    parse,
    unquoted,
)
from bootfw.importing.draft import Draft, Network, network_of
from bootfw.importing.evaluation import UnknownCondition
from bootfw.importing.options import is_address, option, set_option
from bootfw.importing.outcome import Fate, Line
from bootfw.importing.toml import Table, Value

EXPRESSED, ASSUMED, UNNEEDED, LEFT_OUT = Fate.EXPRESSED, Fate.ASSUMED, Fate.UNNEEDED, Fate.LEFT_OUT

_DEFAULT_LEASE = 43200
_LEASE = range(60, 31536001)
_DEPTH = 8

_NOT_NEEDED: Mapping[str, str] = {
    "log-facility": "bootfw logs to its standard output or the journal: [log]",
    "max-lease-time": "a client gets lease-seconds, whatever it requests",
    "min-lease-time": "a client gets lease-seconds, whatever it requests",
    "one-lease-per-client": "a client has one address in each subnet",
    "get-lease-hostnames": "bootfw looks up no names",
    "lease-file-name": "bootfw leases import takes over the leases in it",
    "dhcpv6-lease-file-name": "bootfw leases import takes over the leases in it",
    "pid-file-name": "bootfw run has none",
    "server-identifier": "bootfw is identified by its address on the link",
    "server-name": "no firmware uses the name of the server",
    "ping-check": "bootfw probes an address before it offers it: probe-seconds in [dhcp]",
    "ping-timeout": "bootfw probes an address before it offers it: probe-seconds in [dhcp]",
    "always-broadcast": "bootfw broadcasts where a client requests it",
    "always-reply-rfc1048": "bootfw does",
    "boot-unknown-clients": "see known-clients-only in [[dhcp.subnet]]",
    "db-time-format": "bootfw has its own store",
    "delayed-ack": "bootfw writes leases together by itself",
    "local-address": "set listen in [tftp] and interfaces in [bootfw]",
    "update-conflict-detection": "bootfw changes no DNS",
    "update-optimization": "bootfw changes no DNS",
    "update-static-leases": "bootfw changes no DNS",
    "do-forward-updates": "bootfw changes no DNS",
    "stash-agent-options": "bootfw does",
    "site-option-space": "bootfw knows the options of PXELINUX",
    "vendor-option-space": "bootfw makes option 43 for PXE clients itself",
    "log": "bootfw logs each decision",
    "infinite-is-reserved": "bootfw has reservations",
    "preferred-lifetime": "it is that of lease-seconds",
}
"""Statements that have no effect, or about what bootfw does anyway -> why."""

_INSTEAD: Mapping[str, str] = {
    "key": "bootfw changes no DNS, and has no OMAPI: bootfw leases changes leases",
    "zone": "bootfw changes no DNS",
    "failover": "bootfw has no failover protocol: two nodes share a store, docs/howto/cluster.md",
    "omapi-port": "bootfw has no OMAPI: bootfw leases changes leases",
    "omapi-key": "bootfw has no OMAPI: bootfw leases changes leases",
    "execute": "bootfw runs no programs: the webhook observer sends its events",
    "on": "bootfw runs no programs: the webhook observer sends its events",
    "spawn": "bootfw has no limit on the leases of a class",
    "lease": "bootfw has no limit on the leases of a class",
    "prefix6": "bootfw delegates no prefixes",
    "dynamic-bootp-lease-length": "bootp = true in [[dhcp.subnet]] gives addresses for ever",
    "adaptive-lease-time-threshold": "bootfw shortens no leases",
    "set": "bootfw has no variables",
    "ddns-update-style": "bootfw changes no DNS",
}
"""Statements without a counterpart -> what to do instead."""

_OF_HOST = (*("hardware", "fixed-address", "fixed-address6", "uid", "host-identifier", "option", "default-lease-time"),)
"""Statements of a host that are keys of its table."""

_OFF = ("none", "off", "false", "ignore", "deny")


@frozen
class _Scope:
    """Blocks around a statement, from the outermost one: each with its statements."""

    blocks: tuple[Block, ...]

    def inside(self, block: Block) -> "_Scope":
        """Return the scope of the statements of *block*."""
        return _Scope((*self.blocks, block))

    def statements(self) -> Iterator[Item]:
        """Yield the statements that hold, without those of declarations inside."""
        for block in self.blocks:
            yield from block.items


@frozen
class _Host:
    """A host declaration."""

    block: Block
    scope: _Scope
    mac: str


@frozen
class _Class:
    """A class: who is in it, and what they get."""

    block: Block
    condition: Condition | None
    """None: its members are listed by subclass statements."""


@define
class _DhcpdReader:
    """Collects the declarations of all files, and translates them in finish()."""

    draft: Draft
    load: Callable[[Path], str]
    hosts: list[_Host] = field(factory=list)
    subnets: list[tuple[_Scope, Network, Line]] = field(factory=list)
    classes: dict[str, _Class] = field(factory=dict)
    members: dict[str, set[str]] = field(factory=dict)
    """Class -> hardware addresses of its subclasses."""
    codes: dict[str, int] = field(factory=lambda: dict(OPTIONS))
    kinds: dict[str, str] = field(factory=dict)
    """Option that the file declares -> its type, as bootfw.dhcp.optionvalues names it."""
    top: tuple[Block, ...] = ()
    """The whole file as a block."""
    used: set[Line] = field(factory=set)
    """Lines of boot files that a kind of client gets."""
    boot_lines: dict[Line, None] = field(factory=dict)
    _bad_conditions: dict[Line, str] = field(factory=dict)

    def note(self, item: Item, fate: Fate, reason: str) -> None:
        self.draft.note(item.line, fate, reason)

    def included(self, items: Sequence[Item], depth: int = 0) -> list[Item]:
        """Return the items, with those of included files in place of the include statements."""
        found: list[Item] = []
        for item in items:
            if isinstance(item, Block):
                found.append(Block(item.line, item.words, self.included(item.items, depth)))
            elif item.words[:1] == ["include"] and len(item.words) == 2:
                found += self._include(item, depth)
            else:
                found.append(item)
        return found

    def _include(self, item: Statement, depth: int) -> list[Item]:
        path = unquoted(item.words[1])
        try:
            text = self.load(Path(path))
        except OSError as error:
            self.note(item, LEFT_OUT, f"can't be read: {error.strerror}; import it with this file")
            return []
        if depth >= _DEPTH:
            self.note(item, LEFT_OUT, "files are included too deep")
            return []
        self.note(item, EXPRESSED, "it is read")
        return self.included(parse(path, text, self.draft), depth + 1)

    # Declarations

    def declare(self, block: Block, scope: _Scope) -> None:
        """Collect the declarations in a block, and note the outcome of statements that no other method reads."""
        inner = scope.inside(block)
        for item in block.items:
            if isinstance(item, Statement):
                self._statement(item, inner)
                continue
            match item.words:
                case ["subnet", network, "netmask", mask]:
                    self._subnet(item, inner, network, mask)
                case ["subnet6", network]:
                    self._subnet(item, inner, *network.split("/", 1))
                case ["shared-network", _] | ["group"] | ["group", _] | ["pool"] | ["pool6"]:
                    self.note(item, EXPRESSED, "what is in it is read")
                    self.declare(item, inner)
                case ["host", _]:
                    self.hosts.append(_Host(item, inner, _mac(item)))
                    self.declare(item, inner)
                case ["class", name]:
                    self._class(item, unquoted(name))
                case ["subclass", name, *value]:
                    self._subclass(item, unquoted(name), value)
                case ["if" | "elsif" | "else", *_]:
                    self._conditional(item)
                case [word, *_]:
                    self.note(item, LEFT_OUT, _INSTEAD.get(word, f"bootfw import does not know {word}"))
                    self._leave_out_below(item)
                case []:
                    self.note(item, LEFT_OUT, "a block without a name")

    def _leave_out_below(self, block: Block) -> None:
        for item in block.items:
            self.note(item, LEFT_OUT, "it is inside a declaration that is left out")
            if isinstance(item, Block):
                self._leave_out_below(item)

    def _subnet(self, item: Block, scope: _Scope, network: str, mask: str = "64") -> None:
        try:
            parsed = network_of(network, mask)
        except ValueError as error:
            self.note(item, LEFT_OUT, str(error))
            return
        self.subnets.append((scope.inside(item), parsed, item.line))
        self.declare(item, scope)

    def _class(self, item: Block, name: str) -> None:
        conditions = [each for each in item.items if isinstance(each, Statement) and each.words[:1] == ["match"]]
        condition = None
        for each in conditions:
            if each.words[1:2] == ["if"]:
                condition = Condition(each.words[2:], self.codes)
                self.note(each, EXPRESSED, "as a condition of what the class gets")
            elif each.words[1:] == ["hardware"]:
                self.note(each, EXPRESSED, "as a condition of what the class gets")
            else:
                self.note(each, LEFT_OUT, "bootfw has no classes by other options than hardware")
        self.classes[name] = _Class(item, condition)
        self.note(item, EXPRESSED, "what is in it is read")
        self.declare(Block(item.line, item.words, [each for each in item.items if each not in conditions]), _Scope(()))

    def _subclass(self, item: Item, name: str, value: Sequence[str]) -> None:
        if value and re.fullmatch(r"1(:[0-9a-fA-F]{1,2}){6}", value[0]):
            mac = ":".join(part.zfill(2) for part in value[0].lower().split(":")[1:])
            self.members.setdefault(name, set()).add(mac)
            self.note(item, EXPRESSED, "as a member of the class")
        else:
            self.note(item, LEFT_OUT, "bootfw knows members of a class by their hardware addresses only")
        if isinstance(item, Block) and item.items:
            self._leave_out_below(item)

    def _conditional(self, item: Block) -> None:
        self.boot_lines[item.line] = None
        for each in item.items:
            if isinstance(each, Block):
                self._conditional(each)
            elif each.words[:1] in (["filename"], ["next-server"]) or each.words[:2] == ["option", "bootfile-name"]:
                self.boot_lines[each.line] = None
            elif each.words[:2] == ["option", "dhcp-parameter-request-list"]:
                self.note(each, UNNEEDED, "bootfw sends PXELINUX its options in any case")
            elif each.words[:2] == ["option", "vendor-class-identifier"]:
                self.note(each, UNNEEDED, "bootfw sends PXE clients their vendor class")
            elif each.words[:1] == ["log"]:
                self.note(each, UNNEEDED, _NOT_NEEDED["log"])
            elif each.words[:1] == ["option"]:
                self.note(each, LEFT_OUT, "bootfw has options by condition in [[dhcp.class]]: write it there")
            else:
                self.note(each, LEFT_OUT, "bootfw has no conditions on it")

    # Statements

    def _statement(self, item: Statement, scope: _Scope) -> None:
        words = item.words
        match words:
            case ["option", "space", *_]:
                self.note(item, UNNEEDED, "a declaration")
            case ["option", name, "code", code, "=", *kind] if code.isdecimal():
                self.codes[name] = int(code)
                self.kinds[name] = option_kind(kind)
                self.note(item, UNNEEDED, "a declaration")
            case ["filename", *_] | ["next-server", *_] | ["option", "bootfile-name" | "tftp-server-name", *_]:
                self.boot_lines[item.line] = None
            case ["option" | "range" | "range6" | "default-lease-time" | "hardware" | "fixed-address", *_]:
                pass  # by subnets, hosts and classes
            case ["fixed-address6" | "host-identifier" | "use-host-decl-names" | "dhcp-client-identifier" | "uid", *_]:
                pass
            case ["subclass", name, *value]:
                self._subclass(item, unquoted(name), value)
            case ["authoritative"]:
                self.draft.set("dhcp", "authoritative", True, item.line)
            case ["not", "authoritative"]:
                self.note(item, UNNEEDED, "the default")
            case ["allow" | "deny" | "ignore" as verb, *what]:
                self._permit(item, verb, " ".join(what), scope)
            case [name, *value] if name.startswith("ddns-") or name in _NOT_NEEDED:
                off = not value or value[0] in _OFF
                fate = UNNEEDED if name in _NOT_NEEDED or off else LEFT_OUT
                self.note(item, fate, _NOT_NEEDED.get(name, "bootfw changes no DNS"))
            case [name, *_] if name.startswith(("INTERFACES", "DHCPD", "OPTIONS")):
                self._defaults(item)
            case [name, *_]:
                self.note(item, LEFT_OUT, _INSTEAD.get(name, f"bootfw import does not know {name}"))

    def _defaults(self, item: Statement) -> None:
        name, _, value = " ".join(item.words).partition("=")
        value = value.strip().strip("\"'")
        if name.startswith("INTERFACES") and value:
            for interface in value.split():
                self.draft.append("bootfw", "interfaces", interface, item.line)
        else:
            self.note(item, UNNEEDED, "how dhcpd is started")

    def _permit(self, item: Statement, verb: str, subject: str, scope: _Scope) -> None:
        inside = scope.blocks[-1].words[:1] if scope.blocks else []
        if inside in (["pool"], ["pool6"]):
            return  # read with the pool
        if inside == ["host"] and subject == "booting" and verb != "allow":
            mac = _mac(scope.blocks[-1])
            if mac:
                self.draft.append("dhcp", "ignore", mac, item.line)
            else:
                self.note(item, LEFT_OUT, "bootfw ignores machines by their hardware addresses only")
        elif subject == "unknown-clients":
            if verb == "allow":
                self.note(item, UNNEEDED, "the default")
            # deny: read with the subnets
        elif subject in ("booting", "bootp", "leasequery", "declines", "client-updates", "duplicates"):
            fate = UNNEEDED if subject in ("client-updates", "leasequery") or verb == "allow" else LEFT_OUT
            reason = "bootfw does" if fate is UNNEEDED else f"bootfw can't refuse {subject}"
            self.note(
                item, fate, "set bootp in [[dhcp.subnet]] for addresses of the pool" if subject == "bootp" else reason
            )
        elif subject == "known-clients" and verb == "allow":
            self.note(item, UNNEEDED, "they are served")
        else:
            self.note(item, LEFT_OUT, f"bootfw has no subnets for some clients ({subject}), only pools")

    # What comes out

    def finish(self) -> None:
        """Turn what was read into settings."""
        hosts_of: dict[Line, list[_Host]] = {}
        for scope, network, line in self.subnets:
            self._subnet_table(scope, network, line)
        for host in self.hosts:
            self._host_table(host)
            hosts_of.setdefault(host.block.line, []).append(host)
        self._drop_empty_subnets()
        for each in self.classes.values():
            self._class_options(each)
        self._boot_files()
        reported = {outcome.line for outcome in self.draft.outcomes}
        for item in _every(self.top[0].items):
            if item.line not in reported:
                self.note(item, UNNEEDED, "it has no effect: no subnet, host or client gets it")

    def _subnet_table(self, scope: _Scope, network: Network, line: Line) -> None:
        table = self.draft.subnet(network)
        if table.comments:
            self.note(Statement(line, []), ASSUMED, f"{network} is declared more than once: they are one subnet here")
        table.comments.append(str(line))
        self.note(Statement(line, []), EXPRESSED, table.header)
        six = network.version == 6
        shared = [block for block in scope.blocks if block.words[:1] == ["shared-network"]]
        if shared and not six:
            table.set("shared-network", unquoted(shared[0].words[1]), shared[0].line)
        before = table.values.pop("pool", [])
        pool: list[Value] = list(before) if isinstance(before, list) else []
        table.values.setdefault("lease-seconds", _DEFAULT_LEASE)
        of_classes: list[tuple[dict[str, Value], str, Line]] = []
        blocks = list(scope.blocks)
        blocks += [
            each for each in blocks[-1].items if isinstance(each, Block) and each.words[:1] in (["pool"], ["pool6"])
        ]
        if shared:
            blocks += self._pools_of(shared[0], network)
        for block in blocks:
            of_pool = block.words[:1] in (["pool"], ["pool6"])
            conditions = self._pool_conditions(block) if of_pool else None
            spans: list[Value] = [] if conditions else pool
            for item in block.items:
                if isinstance(item, Statement):
                    self._subnet_statement(item, table, network, spans, of_pool)
            if conditions:
                of_classes += [(conditions, str(span), block.line) for span in spans]
        if not pool and of_classes and all(conditions == {"known": True} for conditions, _, _ in of_classes):
            table.set("known-clients-only", True, of_classes[0][2])
            pool = [span for _, span, _ in of_classes]
            of_classes = []
        for conditions, span, pool_line in of_classes:
            self.draft.class_pool(conditions, span, pool_line, six)
        if pool:
            table.values = {"network": str(network), "pool": pool, **table.values}

    def _pool_conditions(self, pool: Block) -> dict[str, Value] | None:
        """Return the conditions of the [[dhcp.class]] whose addresses a pool has; None: it is for all clients."""
        permits = [
            each for each in pool.items if isinstance(each, Statement) and each.words[0] in ("allow", "deny", "ignore")
        ]
        found: dict[str, Value] = {}
        allowed = [each for each in permits if each.words[0] == "allow"]
        for each in permits:
            conditions = self._permitted(each)
            clients = " ".join(each.words[1:])
            if each.words[1:] in (["any", "clients"], ["all", "clients"], ["dynamic", "bootp", "clients"]):
                self.note(each, UNNEEDED, "bootfw does" if each.words[0] == "allow" else "see bootp in [[dhcp.subnet]]")
            elif conditions is None or found.keys() & conditions.keys() or (len(allowed) > 1 and each in allowed):
                reason = f"bootfw has no class for it ({clients}): the addresses of this pool are for all clients"
                self.note(each, LEFT_OUT, reason)
            else:
                found |= conditions
                self.note(each, EXPRESSED, "pool in [[dhcp.class]]")
        return found or None

    def _permitted(self, item: Statement) -> dict[str, Value] | None:
        """Return the conditions of a class that has the same meaning as a statement about the clients of a pool; None:
        it has no condition."""
        match item.words:
            case ["allow", "known-clients"] | ["deny" | "ignore", "unknown-clients"]:
                return {"known": True}
            case ["allow", "unknown-clients"] | ["deny" | "ignore", "known-clients"]:
                return {"known": False}
            case ["allow", "members", "of", name] if unquoted(name) in self.classes:
                client_class = self.classes[unquoted(name)]
                if client_class.condition is None:
                    macs = sorted(self.members.get(unquoted(name), ()))
                    return {"mac": list[Value](macs)} if macs else None
                prefix = client_class.condition.prefix()
                return {prefix[0]: prefix[1]} if prefix else None
        return None

    def _pools_of(self, shared: Block, network: Network) -> list[Block]:
        return [
            pool
            for pool in _pools(shared)
            if any(
                isinstance(each, Statement) and each.words[:1] == ["range"] and _in(each.words[-1], network)
                for each in pool.items
            )
        ]

    def _subnet_statement(
        self, item: Statement, table: Table, network: Network, pool: list[Value], of_pool: bool
    ) -> None:
        match item.words:
            case ["range" | "range6", *words]:
                words = [word for word in words if word not in ("dynamic-bootp", ",")]
                if not words or not _in(words[0].split("/")[0], network):
                    if not words:
                        self.note(item, LEFT_OUT, "it has no addresses")
                    return
                if "dynamic-bootp" in item.words:
                    table.set("bootp", True, item.line)
                span = words[0] if len(words) == 1 else f"{words[0]}-{words[1]}"
                pool.append(span)
                self.note(item, EXPRESSED, f"pool in {table.header}")
            case ["default-lease-time", seconds] if seconds.isdecimal():
                table.set("lease-seconds", min(max(int(seconds), _LEASE[0]), _LEASE[-1]), item.line)
                self.note(item, EXPRESSED, f"lease-seconds in {table.header}")
            case ["deny" | "ignore", "unknown-clients"] | ["deny", "unknown", "clients"] if not of_pool:
                table.set("known-clients-only", True, item.line)
                self.note(item, EXPRESSED, f"known-clients-only in {table.header}")
            case ["option", name, *words] if words and words[0] != "code" and name != "space":
                self._option(item, table, name, words)

    def _option(self, item: Statement, table: Table, name: str, words: Sequence[str]) -> None:
        six = table.header.startswith("[[dhcp6")
        code = (OPTIONS6 if name.startswith("dhcp6.") else self.codes).get(name)
        if name.startswith("dhcp6.") != six:
            return
        if "." in name and not six:
            pxelinux = name.split(".")[-1] in ("magic", "configfile", "pathprefix", "reboottime")
            ignorable = name.lower().startswith("pxe.") or pxelinux
            reason = "bootfw makes option 43 for PXE clients itself" if ignorable else "write it as bytes of its option"
            self.note(item, UNNEEDED if ignorable else LEFT_OUT, reason)
            if not pxelinux or code is None or code == 208:
                return
        if code is None:
            self.note(item, LEFT_OUT, f"{name} is not an option that bootfw import knows: give its number")
            return
        if words[0] == "=" or words[0].endswith("("):
            self.note(item, LEFT_OUT, "bootfw computes no options")
            return
        if code in (1, 28, 54):
            self.note(item, UNNEEDED, "it follows from the network")
            return
        if code in (60, 67, 66, 93, 55) or (code == 43 and "pxe" in name.lower()):
            self.boot_lines.setdefault(item.line, None)
            if code in (60, 55):
                self.note(item, UNNEEDED, "bootfw sends PXE clients what they need")
            return
        try:
            values = [unquoted(word) for word in listed(words)]
            if six and code in (23, 24):
                table.set("dns" if code == 23 else "domain", values, item.line)
            elif six:
                key, value = option(code, values, True, self.kinds.get(name, ""))
                table.set("options", {**_mapping(table.values.get("options")), key: value})
            else:
                set_option(table, code, values, item.line, self.kinds.get(name, ""))
        except ValueError as error:
            self.note(item, LEFT_OUT, str(error))
        else:
            self.note(item, EXPRESSED, table.header)

    def _host_table(self, host: _Host) -> None:
        block = host.block
        names = _by_name(block)
        values: dict[str, Value] = {"mac": host.mac} if host.mac else {}
        identifier = names.get("uid") or names.get("option dhcp-client-identifier")
        if identifier is not None:
            text = unquoted(identifier.words[-1])
            values["client-id"] = text if ":" not in text else ":".join(part.zfill(2) for part in text.split(":"))
        duid = names.get("host-identifier")
        if duid is not None:
            values["duid"] = duid.words[-1]
        hostname = names.get("option host-name")
        if hostname is not None:
            values["hostname"] = unquoted(hostname.words[-1])
        elif self._names_hosts(host.scope):
            values["hostname"] = unquoted(block.words[1])
        lease = names.get("default-lease-time")
        if lease is not None and lease.words[1].isdecimal():
            values["lease-seconds"] = min(max(int(lease.words[1]), _LEASE[0]), _LEASE[-1])
        address = names.get("fixed-address") or names.get("fixed-address6")
        addresses = listed(address.words[1:]) if address is not None else []
        self._place_host(host, values, addresses)

    def _place_host(self, host: _Host, values: dict[str, Value], addresses: Sequence[str]) -> None:
        item = host.block
        if not values.keys() & {"mac", "client-id", "duid"}:
            self.note(item, LEFT_OUT, "it has no hardware address and no client identifier")
            return
        if any(not is_address(address) for address in addresses):
            wrong = next(address for address in addresses if not is_address(address))
            self.note(item, LEFT_OUT, f"bootfw looks up no names: write the address of {wrong}")
            return
        inside = [subnet for subnet in map(self.draft.subnet_of, map(ip_address, addresses)) if subnet is not None]
        six = any(":" in address for address in addresses)
        subnets = self.draft.subnets6 if six else self.draft.subnets
        subnet = inside[0] if inside else subnets[0] if len(subnets) == 1 and not addresses else None
        if subnet is None:
            reason = f"{addresses[0]} is in no subnet" if addresses else "it is not known which subnet it belongs to"
            fate = LEFT_OUT if addresses or not self._has_boot_file(host) else EXPRESSED
            self.note(item, fate, reason if fate is LEFT_OUT else "its boot file")
            return
        if len(addresses) > 1:
            self.note(item, LEFT_OUT, f"a host has one address in bootfw: {', '.join(addresses[1:])} is left out")
        if six or subnet.header.startswith("[[dhcp6"):
            values.pop("hostname", None)
        table = self.draft.host(subnet, values | ({"address": addresses[0]} if addresses else {}), item.line)
        self.note(item, EXPRESSED, table.header)
        for each in item.items:
            if not isinstance(each, Statement):
                continue
            words = each.words
            is_option = words[:1] == ["option"] and words[1:2] not in (["host-name"], ["dhcp-client-identifier"])
            if is_option and len(words) > 2:
                self._option(each, table, words[1], words[2:])
            elif words[0] in (
                "hardware",
                "fixed-address",
                "fixed-address6",
                "uid",
                "host-identifier",
                "option",
                "default-lease-time",
            ):
                self.note(each, EXPRESSED, table.header)

    def _has_boot_file(self, host: _Host) -> bool:
        return any(
            isinstance(each, Statement) and each.words[0] in ("filename", "next-server") for each in host.block.items
        )

    def _names_hosts(self, scope: _Scope) -> bool:
        found = False
        for item in scope.statements():
            if isinstance(item, Statement) and item.words[:1] == ["use-host-decl-names"]:
                found = item.words[1:] in (["on"], ["true"])
                self.note(item, EXPRESSED, "hostname in [[dhcp.subnet.host]]")
        return found

    def _drop_empty_subnets(self) -> None:
        for subnets in (self.draft.subnets, self.draft.subnets6):
            for table in list(subnets):
                network = ip_network(str(table.values["network"]))
                if "pool" not in table.values and not table.below and not self.draft.has_class_pool(network):
                    subnets.remove(table)
                    for _, network, line in self.subnets:
                        if str(network) == table.values["network"]:
                            self.note(Statement(line, []), UNNEEDED, "no addresses are given in it")

    def _class_options(self, each: _Class) -> None:
        options = [
            item
            for item in each.block.items
            if isinstance(item, Statement)
            and item.words[:1] == ["option"]
            and item.words[1:2] not in (["vendor-class-identifier"], ["bootfile-name"], ["tftp-server-name"])
            and item.words[2:3] != ["code"]
        ]
        if not options:
            return
        found = each.condition.prefix() if each.condition is not None else None
        if found is None:
            for item in options:
                self.note(item, LEFT_OUT, "bootfw has options for a vendor class or a user class: [[dhcp.class]]")
            return
        table = Table("[[dhcp.class]]", {found[0]: found[1]}, [str(each.block.line)])
        for item in options:
            self._option(item, table, item.words[1], item.words[2:])
        if "options" in table.values:
            self.draft.classes.append(table)

    # Boot files

    def _boot_files(self) -> None:
        if not self.boot_lines:
            return
        whole = Line(next(iter(self.boot_lines)).file, 0)
        subnets = [each for each in self.subnets if each[1].version == 4]
        scopes = [scope for scope, _, _ in subnets] or [_Scope(self.top)]
        answers = [self._answer_in(scope) for scope in scopes]
        kinds = [ClientKind(code) for code in (0, 6, 7, 9, 11, 16, None)] + [ClientKind(0, True), ClientKind(7, True)]
        by_network = {str(network): answer for (_, network, _), answer in zip(subnets, answers, strict=False)}
        served = {str(table.values["network"]) for table in self.draft.subnets}
        by_network = {network: answer for network, answer in by_network.items() if network in served}
        usual = next((answer for answer in answers if any(answer(kind) for kind in kinds)), answers[0])
        macs = [host.mac for host in self.hosts if host.mac] + [mac for macs in self.members.values() for mac in macs]
        networks = dict.fromkeys(by_network, ()) if len(by_network) > 1 else {}
        add_resolvers(self.draft, lambda kind: by_network.get(kind.network, usual)(kind), macs, whole, networks)
        for line in self.boot_lines:
            if line in self._bad_conditions:
                self.draft.note(line, LEFT_OUT, self._bad_conditions[line])
            elif line in self.used:
                self.draft.note(line, EXPRESSED, "[[resolver]]")
            else:
                self.draft.note(line, UNNEEDED, "no kind of client gets it: other statements come later")

    def _answer_in(self, scope: _Scope) -> Callable[[ClientKind], Choice | None]:
        def answer(kind: ClientKind) -> Choice | None:
            return self._answer(scope, kind)

        return answer

    def _answer(self, scope: _Scope, kind: ClientKind) -> Choice | None:
        """Return the boot file that dhcpd names to such a client. Statements are run in the order subnet, pool,
        classes, host, and later ones win (ack_lease() in dhcp.c)."""
        result: dict[str, Statement] = {}
        condition_lines: dict[str, list[Line]] = {}
        blocks = list(scope.blocks)
        last = blocks[-1] if blocks else None
        if last is not None:
            blocks += _pools(last)
        for block in blocks:
            self._run(block.items, kind, result, condition_lines, [])
        for name, each in self.classes.items():
            member = kind.mac in self.members.get(name, ())
            if each.condition is not None:
                member = self._holds(each.condition, kind, each.block.line)
            if member:
                self._run(each.block.items, kind, result, condition_lines, [])
        for host in self.hosts:
            if host.mac and host.mac == kind.mac:
                for block in (*host.scope.blocks[1:], host.block):
                    if block not in blocks:
                        self._run(block.items, kind, result, condition_lines, [])
        return self._choice(result, condition_lines)

    def _choice(self, result: Mapping[str, Statement], condition_lines: Mapping[str, list[Line]]) -> Choice | None:
        file_statement = result.get("filename") or result.get("bootfile-name")
        if file_statement is None:
            return None
        file = unquoted(file_statement.words[-1])
        if not file:
            return None
        if file_statement.words[-1] == ")" or file_statement.words[1] == "=":
            self._bad_conditions[file_statement.line] = (
                "bootfw computes no file names: a placeholder such as {mac} may do"
            )
            return None
        server = result.get("next-server") or result.get("tftp-server-name")
        address = unquoted(server.words[-1]) if server is not None else ""
        if address and not is_address(address, 4):
            assert server is not None
            self._bad_conditions[server.line] = f"server must be an address in bootfw: write that of {address}"
            address = ""
        self.used |= {
            file_statement.line,
            *condition_lines.get("filename", []),
            *condition_lines.get("bootfile-name", []),
        }
        if server is not None:
            self.used |= {server.line, *condition_lines.get(server.words[0], [])}
        settings = {}
        for name in ("configfile", "pathprefix", "reboottime"):
            if name in result:
                settings[name] = unquoted(result[name].words[-1])
                self.used.add(result[name].line)
        reboot = settings.get("reboottime", "")
        return Choice(
            file,
            address,
            settings.get("configfile", ""),
            settings.get("pathprefix", ""),
            int(reboot) if reboot.isdecimal() else None,
            line=file_statement.line,
        )

    def _run(
        self,
        items: Sequence[Item],
        kind: ClientKind,
        result: dict[str, Statement],
        condition_lines: dict[str, list[Line]],
        above: list[Line],
    ) -> None:
        """Run the statements for a client. Of an if with its elsif and else, run the first whose condition holds."""
        chosen = False
        for item in items:
            if isinstance(item, Statement):
                key = _boot_key(item)
                if key:
                    result[key] = item
                    condition_lines[key] = list(above)
                continue
            match item.words:
                case ["if", *condition]:
                    chosen = self._holds(Condition(condition, self.codes), kind, item.line)
                    holds = chosen
                case ["elsif", *condition] | ["else", "if", *condition]:
                    holds = not chosen and self._holds(Condition(condition, self.codes), kind, item.line)
                    chosen = chosen or holds
                case ["else"]:
                    holds, chosen = not chosen, True
                case _:
                    continue
            if holds:
                self._run(item.items, kind, result, condition_lines, [*above, item.line])

    def _holds(self, condition: Condition, kind: ClientKind, line: Line) -> bool:
        try:
            return condition.holds(kind)
        except UnknownCondition as error:
            self._bad_conditions.setdefault(line, f"bootfw has no such condition: {error}")
            self.boot_lines.setdefault(line, None)
            return False


def is_dhcpd(text: str) -> bool:
    """Return whether *text* is a configuration of ISC dhcpd, or Debian's defaults for it."""
    declaration = r"^\s*(subnet6?\s+[0-9a-fA-F.:/]+|shared-network\s|host\s+\S+\s*\{|class\s+\"|group\b.*\{)"
    statement = r"^\s*(option\s+[\w.-]+\s.*;|authoritative\s*;|default-lease-time\s|next-server\s.*;|filename\s.*;)"
    return bool(re.search(f"{declaration}|{statement}|^INTERFACES(v[46])?=", text, re.M))


def read_dhcpd(draft: Draft, files: Sequence[tuple[str, str]], load: Callable[[Path], str]) -> None:
    """Translate the configuration of one dhcpd into *draft*.

    :param files: (name, text) of each.
    :param load: reads a file that another one includes; raises OSError.
    """
    reading = _DhcpdReader(draft, load)
    items = reading.included([item for name, text in files for item in parse(name, text, draft)])
    top = Block(Line(files[0][0], 0), [], items)
    reading.top = (top,)
    reading.declare(top, _Scope(()))
    reading.finish()


def _every(items: Sequence[Item]) -> Iterator[Item]:
    for item in items:
        yield item
        if isinstance(item, Block):
            yield from _every(item.items)


def _pools(block: Block) -> list[Block]:
    return [each for each in block.items if isinstance(each, Block) and each.words[:1] in (["pool"], ["pool6"])]


def _boot_key(item: Statement) -> str:
    match item.words:
        case ["filename" | "next-server" as key, *rest] if rest:
            return key
        case ["option", "bootfile-name" | "tftp-server-name" as key, *rest] if rest:
            return key
        case ["option", name, *rest] if rest and rest[0] != "code":
            last = name.split(".")[-1]
            return last if last in ("configfile", "pathprefix", "reboottime") else ""
    return ""


def _by_name(block: Block) -> dict[str, Statement]:
    found = {}
    for item in block.items:
        if isinstance(item, Statement) and len(item.words) > 1:
            found[" ".join(item.words[:2]) if item.words[0] == "option" else item.words[0]] = item
    return found


def _mac(block: Block) -> str:
    for item in block.items:
        if isinstance(item, Statement) and item.words[:2] == ["hardware", "ethernet"] and len(item.words) == 3:
            parts = re.split("[:-]", item.words[2].lower())
            if len(parts) == 6 and all(re.fullmatch("[0-9a-f]{1,2}", part) for part in parts):
                return ":".join(part.zfill(2) for part in parts)
    return ""


def _in(address: str, network: Network) -> bool:
    return is_address(address, network.version) and ip_address(address) in network


def _mapping(value: Value | None) -> dict[str, Value]:
    return dict(value) if isinstance(value, dict) else {}
