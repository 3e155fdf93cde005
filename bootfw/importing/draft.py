"""The configuration that an import results in, and the outcome of each line that was read."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from operator import attrgetter

from attrs import define, field

from bootfw.importing.outcome import CLEAN, Fate, Line, Outcome
from bootfw.importing.toml import Table, Value, document

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_SECTIONS = ("bootfw", "tftp", "dhcp", "dhcp6")


@define
class Draft:
    """Collects tables and outcomes. Each format adds to it, so that several files give one configuration."""

    outcomes: list[Outcome] = field(factory=list)
    sections: dict[str, Table] = field(factory=dict)
    subnets: list[Table] = field(factory=list)
    subnets6: list[Table] = field(factory=list)
    classes: list[Table] = field(factory=list)
    classes6: list[Table] = field(factory=list)
    personas: list[Table] = field(factory=list)
    resolvers: list[Table] = field(factory=list)
    backends: list[Table] = field(factory=list)
    machines: list[Table] = field(factory=list)
    _networks: dict[Network, Table] = field(factory=dict)

    def note(self, line: Line, fate: Fate, reason: str = "") -> None:
        """Add the outcome of a line. A line may have several; an exact repetition is dropped."""
        if fate is Fate.EXPRESSED and any("\udc80" <= letter <= "\udcff" for letter in line.text):
            fate, reason = Fate.ASSUMED, f"{reason}; TOML holds no bytes that are not UTF-8: they are U+FFFD there"
        outcome = Outcome(line, fate, reason)
        if outcome not in self.outcomes:
            self.outcomes.append(outcome)

    def section(self, name: str) -> Table:
        """Return the table ``[name]``, which is added if it does not exist."""
        return self.sections.setdefault(name, Table(f"[{name}]"))

    def set(self, section: str, key: str, value: Value, line: Line) -> None:
        """Set a key of a section, and note that *line* is expressed."""
        self.section(section).set(key, value, line)
        self.note(line, Fate.EXPRESSED, f"{key} in [{section}]")

    def append(self, section: str, key: str, value: Value, line: Line) -> None:
        """Append to a list in a section, and note that *line* is expressed."""
        table = self.section(section)
        values = list(_listed(table.values.get(key, [])))
        if value not in values:
            table.set(key, [*values, value], line)
        self.note(line, Fate.EXPRESSED, f"{key} in [{section}]")

    def section_value(self, section: str, key: str) -> Collection[Value]:
        """Return the items of a list in a section; empty if it does not exist."""
        return tuple(_listed(self.section(section).values.get(key, []))) if section in self.sections else ()

    def client_class(self, conditions: Mapping[str, Value], line: object, six: bool = False) -> Table:
        """Return the class with these conditions, which is added if it does not exist."""
        classes = self.classes6 if six else self.classes
        for table in classes:
            if {key: value for key, value in table.values.items() if key not in ("pool", "options")} == conditions:
                return table
        classes.append(Table("[[dhcp6.class]]" if six else "[[dhcp.class]]", dict(conditions), [str(line)]))
        return classes[-1]

    def class_pool(self, conditions: Mapping[str, Value], pool: str, line: Line, six: bool = False) -> None:
        """Add a pool for the clients that fulfil *conditions*, and note that *line* is expressed."""
        table = self.client_class(conditions, line, six)
        table.set("pool", [*_listed(table.values.get("pool", [])), pool], line)
        self.note(line, Fate.EXPRESSED, f"pool in {table.header}")

    def has_class_pool(self, network: Network) -> bool:
        """Return whether a class has a pool in the network."""
        classes = self.classes6 if network.version == 6 else self.classes
        spans = [str(span) for table in classes for span in _listed(table.values.get("pool", []))]
        return any(ip_address(span.partition("-")[0]) in network for span in spans if "/" not in span) or any(
            ip_network(span).overlaps(network) for span in spans if "/" in span
        )

    def subnet(self, network: Network) -> Table:
        """Return the table of a subnet, which is added if it does not exist."""
        if network not in self._networks:
            six = network.version == 6
            table = Table("[[dhcp6.subnet]]" if six else "[[dhcp.subnet]]", {"network": str(network)})
            self._networks[network] = table
            (self.subnets6 if six else self.subnets).append(table)
        return self._networks[network]

    def subnet_of(self, address: Address) -> Table | None:
        """Return the table of the smallest subnet that has the address; None: there is none."""
        fitting = [network for network in self._networks if network.version == address.version and address in network]
        return self._networks[max(fitting, key=attrgetter("prefixlen"))] if fitting else None

    def host(self, subnet: Table, values: Mapping[str, Value], line: Line) -> Table:
        """Add a host to a subnet."""
        table = Table(f"{subnet.header[:-2]}.host]]", dict(values), [str(line)])
        subnet.below.append(table)
        return table

    def backend(self, root: str, line: Line, ignore_case: bool = False) -> None:
        """Add a backend for a directory, unless there is one already."""
        if all(table.values.get("root") != root for table in self.backends):
            values: dict[str, Value] = {"use": "directory", "root": root}
            if ignore_case:
                values["ignore-case"] = True
            self.backends.append(Table("[[backend]]", values, [str(line)]))

    @property
    def clean(self) -> bool:
        """Whether there is no line that the operator has to check."""
        return all(outcome.fate in CLEAN for outcome in self.outcomes)

    def counts(self) -> Mapping[Fate, int]:
        """Fate -> number of lines with it; a line with several counts as the one that needs most attention."""
        order = list(Fate)
        worst: dict[Line, Fate] = {}
        for outcome in self.outcomes:
            fate = worst.get(outcome.line, outcome.fate)
            if fate is Fate.UNNEEDED:
                fate = outcome.fate
            elif outcome.fate is not Fate.UNNEEDED:
                fate = max(fate, outcome.fate, key=order.index)
            worst[outcome.line] = fate
        counted = Counter(worst.values())
        return {fate: counted[fate] for fate in order}

    def text(self) -> str:
        """Return the configuration as TOML. The lines that the operator has to check are comments at the top."""
        return document([self._head(), *self._tables()])

    def _head(self) -> Table:
        files = dict.fromkeys(outcome.line.file for outcome in self.outcomes)
        head = Table("", {}, [f"Made by bootfw import from {', '.join(files)}"])
        for outcome in sorted(self.outcomes, key=attrgetter("line")):
            if outcome.fate not in CLEAN:
                head.comments.append(f"{outcome.fate.value}: {outcome.line}: {outcome.line.text}".rstrip())
                head.comments.append(f"    {outcome.reason}")
        if not self.resolvers:
            head.set("resolver", [], "no boot file is named")
        if not self.backends:
            head.set("backend", [], "no file is served")
        return head

    def _tables(self) -> Iterable[Table]:
        if not self.backends:
            self.section("tftp").set("listen", [], "no file is served")
        for name in _SECTIONS:
            if name == "dhcp":
                self.section("dhcp").values.setdefault("mode", "server" if self.subnets else "off")
            if name == "dhcp6" and self.subnets6:
                self.section("dhcp6").values.setdefault("mode", "server")
            if name in self.sections:
                yield self.sections[name]
            if name == "dhcp":
                yield from (*self.subnets, *self.classes)
            if name == "dhcp6":
                yield from (*self.subnets6, *self.classes6)
        yield from (*self.personas, *self.backends, *self.resolvers, *self.machines)


def network_of(address: str, mask: str) -> Network:
    """Return the network of an address.

    :param mask: a netmask or a prefix length.
    :raise ValueError: one of them is invalid.
    """
    return ip_network(f"{address}/{mask}", strict=False)


def _listed(value: Value) -> Iterable[Value]:
    return value if isinstance(value, (list, tuple)) else ()
