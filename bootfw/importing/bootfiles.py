"""Translates the rules of another server for boot files into resolvers.

The rules, such as tags, classes and nested conditions, are not translated one by one: bootfw has no counterpart of
most.
Each format has a function that returns the boot file that its server would name. It is called for every kind of client,
and resolvers are made that give the same answers.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

from attrs import evolve, field, frozen

from bootfw.importing.draft import Draft
from bootfw.importing.outcome import Fate, Line
from bootfw.importing.toml import Table, Value
from bootfw.wire.iana import ARCHITECTURES
from bootfw.wire.options import Option
from bootfw.wire.options6 import Option as Option6
from bootfw.wire.options6 import strings_bytes, uint16s_bytes, vendor_class_bytes

_HTTP = "-http"
_INTEL = 343
"""The enterprise number in the vendor class that firmware sends by DHCPv6."""
_OTHER = 65000
"""A code that is not registered. Such clients get the boot file that the old server names without a condition."""

_IPXE_CODES = (0, 6, 7, 9, 11)
"""Architectures that iPXE is used on."""

_COMMON = ("x86-bios", "x86-uefi", "x86_64-uefi", "arm32-uefi", "arm64-uefi", "unknown", "ipxe")
"""Architectures that are written even if they get the same file as all others."""


@frozen
class ClientKind:
    """A kind of client: what it sends, as far as boot files depend on it."""

    code: int | None
    """Option 93; None: a client without PXE."""
    ipxe: bool = False
    mac: str = ""
    """The client is this machine; "": any that the configuration does not name."""
    network: str = ""
    """Its network; "": the configuration has only one."""
    six: bool = False
    """It uses DHCPv6."""

    @property
    def architecture(self) -> str:
        """The name of its architecture in `by-architecture`; "other" for codes that are not registered."""
        if self.code is None:
            return "unknown"
        return ARCHITECTURES.get(self.code, "other")

    @property
    def http(self) -> bool:
        """Whether the firmware boots by HTTP."""
        return self.architecture.endswith(_HTTP)

    @property
    def persona(self) -> str:
        """The built-in persona of such clients."""
        if self.ipxe:
            return "ipxe"
        if self.code is None:
            return "plain"
        return "pxe-bios" if self.code == 0 else "uefi-http" if self.http else "uefi"

    @property
    def options(self) -> Mapping[int, bytes]:
        """The options that it sends, as far as conditions on them are usual."""
        if self.code is None:
            return {}
        vendor = f"{'HTTPClient' if self.http else 'PXEClient'}:Arch:{self.code:05d}:UNDI:003016".encode()
        if self.six:
            sent6 = {
                int(Option6.CLIENT_ARCHITECTURE): uint16s_bytes([self.code]),
                int(Option6.VENDOR_CLASS): vendor_class_bytes(_INTEL, [vendor]),
            }
            return sent6 | ({int(Option6.USER_CLASS): strings_bytes([b"iPXE"])} if self.ipxe else {})
        sent = {
            int(Option.VENDOR_CLASS_IDENTIFIER): vendor,
            int(Option.CLIENT_SYSTEM_ARCHITECTURE): self.code.to_bytes(2, "big"),
            94: b"\1\3\x10",
        }
        if self.ipxe:
            sent[int(Option.USER_CLASS)] = b"iPXE"
            sent[int(Option.IPXE_ENCAPSULATED)] = b"\xb1\5\1\x80\x86\x10\x0e"
        return sent


@frozen
class Choice:
    """The boot file of a client."""

    file: str
    server: str = ""
    """IPv4 address of the TFTP server; "": this one, or *file* is a URL."""
    configfile: str = ""
    pathprefix: str = ""
    reboot_seconds: int | None = None
    line: Line | None = field(default=None, eq=False)
    """The line that names the file."""

    def __attrs_post_init__(self) -> None:
        if "://" in self.file:
            object.__setattr__(self, "server", "")

    def table(self) -> dict[str, Value]:
        """Return the keys of a table with a boot file."""
        found: dict[str, Value] = {"file": self.file}
        if self.server:
            found["server"] = self.server
        if self.configfile:
            found["configfile"] = self.configfile
        if self.pathprefix:
            found["pathprefix"] = self.pathprefix
        if self.reboot_seconds is not None:
            found["reboot-seconds"] = self.reboot_seconds
        return found


Answer = Callable[[ClientKind], Choice | None]
"""Returns the boot file that the old server names to such a client; None: it names none."""

_FIRMWARE = tuple(ClientKind(code) for code in (*ARCHITECTURES, _OTHER, None))
_IPXE = tuple(ClientKind(code, ipxe=True) for code in _IPXE_CODES)
KINDS = _FIRMWARE + _IPXE
"""The kinds of clients whose boot files are determined, without those of single machines."""


def add_resolvers(
    draft: Draft,
    answer: Answer,
    macs: Iterable[str],
    file_line: Line,
    networks: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> None:
    """Add the resolvers and personas that name the same boot files as *answer*.

    :param macs: the machines for which the old configuration has rules by their hardware addresses.
    :param file_line: stands for the whole file, in remarks that are about no single line.
    :param networks: network whose clients may get other boot files -> its relays with addresses outside of it.
    """
    rows = {network: _row(answer, network) for network in networks or ("",)}
    home = next((network for network, row in rows.items() if any(row.values())), next(iter(rows)))
    ignored = draft.section_value("dhcp", "ignore")
    for mac in dict.fromkeys(macs):
        if mac not in ignored:
            _add_machine(draft, mac, _row(answer, home, mac), rows[home], file_line)
    if all(row == rows[home] for row in rows.values()):
        _add_general(draft, rows[home], file_line)
        return
    shared = [str(table.values["network"]) for table in draft.subnets if "shared-network" in table.values]
    if any(network in shared for network in rows):
        reason = "the subnets of a shared network differ in their boot files; bootfw names those of the subnet"
        draft.note(file_line, Fate.ASSUMED, f"{reason} that its own address is in, or that of the relay")
    for network, row in rows.items():
        for conditions in ({"network": network}, *({"relay": relay} for relay in networks[network])):
            _add_network(draft, conditions, row, file_line)


def add_resolvers6(draft: Draft, answer: Answer, networks: Mapping[str, Collection[str]], file_line: Line) -> None:
    """Add the boot files of *answer* for clients of DHCPv6, with the condition that they are in *networks*, since
    clients of DHCPv4 use the same resolvers."""
    earlier, draft.resolvers = draft.resolvers, []
    for network, relays in networks.items():
        row = {kind: answer(evolve(kind, network=network, six=True)) for kind in KINDS}
        for conditions in ({"network": network}, *({"relay": relay} for relay in relays)):
            _add_network(draft, conditions, row, file_line)
    draft.resolvers += earlier  # these hold in any network, so they come later: the first match counts


_Row = Mapping[ClientKind, Choice | None]
"""The boot file of each kind of client."""


def _row(answer: Answer, network: str, mac: str = "") -> _Row:
    return {kind: answer(evolve(kind, network=network, mac=mac)) for kind in KINDS}


def _add_network(draft: Draft, conditions: Mapping[str, Value], row: _Row, file_line: Line) -> None:
    """Add the boot files of a network: for iPXE first, then for each architecture, then for all others."""
    chained = {kind: row[kind] for kind in _IPXE}
    firmware = _by_architecture({kind: row[kind] for kind in _FIRMWARE}, draft, file_line)
    for kind in _FIRMWARE:
        if kind.http:
            firmware.setdefault(kind.architecture, row[kind])
    common = Counter(choice for choice in chained.values() if choice is not None).most_common(1)
    if common and any(choice != firmware.get(kind.architecture) for kind, choice in chained.items()):
        for kind, choice in chained.items():
            if choice not in (None, common[0][0]) and kind.code != 9:
                assert choice is not None
                _add_client(draft, {**conditions, "persona": "ipxe", "architecture": kind.architecture}, choice)
        _add_client(draft, {**conditions, "persona": "ipxe"}, common[0][0])
    default = firmware.pop("other")
    complete = None not in firmware.values()
    for name, choice in firmware.items():
        if choice is not None and (choice != default or (not complete and name in _COMMON)):
            _add_client(draft, {**conditions, "architecture": name}, choice)
    if default is not None and complete:
        _add_client(draft, conditions, default)


def _add_machine(
    draft: Draft,
    mac: str,
    own: Mapping[ClientKind, Choice | None],
    general: Mapping[ClientKind, Choice | None],
    file_line: Line,
) -> None:
    different = {kind: choice for kind, choice in own.items() if choice != general[kind]}
    if not different:
        return
    if None in different.values():
        reason = (
            f"{mac} gets no boot file from the old server, and that of other machines here; bootfw can't except one"
        )
        draft.note(file_line, Fate.LEFT_OUT, f"{reason}: give it one that boots its disk, by a by-client resolver")
    choices = {kind: choice for kind, choice in different.items() if choice is not None}
    usual = [choice for kind, choice in own.items() if kind.code in _IPXE_CODES]
    if None not in usual and len({choice.file for choice in usual if choice}) == 1:
        choice = next((choice for choice in usual if choice and choice.server), usual[0])
        assert choice is not None
        if any(other != choice for other in usual):
            reason = f"the server of {mac} depends on its architecture; bootfw names {choice.server}"
            draft.note(choice.line or file_line, Fate.ASSUMED, f"{reason}: right if it has {choice.file}")
        _add_client(draft, {"mac": mac}, choice)
        return
    for persona, choice in _by_persona(choices, draft, mac, file_line):
        _add_client(draft, {"mac": mac, "persona": persona}, choice)


def _by_persona(
    choices: Mapping[ClientKind, Choice], draft: Draft, mac: str, file_line: Line
) -> Iterator[tuple[str, Choice]]:
    """Yield (persona, choice). Where the choices of its architectures differ, the usual architecture decides."""
    found: dict[str, list[tuple[ClientKind, Choice]]] = {}
    for kind, choice in choices.items():
        if kind.architecture != "other":
            found.setdefault(kind.persona, []).append((kind, choice))
    for persona, entries in found.items():
        usual = next((choice for kind, choice in entries if kind.code in (0, 7, 16, None)), entries[0][1])
        if any(choice != usual for kind, choice in entries if kind.code in (*_IPXE_CODES, 16)):
            reason = f"the boot file of {mac} depends on its architecture; bootfw names {usual.file} to {persona}"
            draft.note(file_line, Fate.ASSUMED, f"{reason}: right if that is what the machine is")
        yield persona, usual


def _add_client(draft: Draft, conditions: Mapping[str, Value], choice: Choice) -> None:
    table = Table("[[resolver.clients]]", {**conditions, **choice.table()}, [str(choice.line)] if choice.line else [])
    last = draft.resolvers[-1] if draft.resolvers else None
    if last is None or last.values.get("use") != "by-client":
        last = Table("[[resolver]]", {"use": "by-client"})
        draft.resolvers.append(last)
    last.below.append(table)


def _add_general(draft: Draft, general: Mapping[ClientKind, Choice | None], file_line: Line) -> None:
    firmware = _by_architecture({kind: general[kind] for kind in _FIRMWARE}, draft, file_line)
    chained = {kind: general[kind] for kind in _IPXE}
    if chained[ClientKind(7, ipxe=True)] is None:
        chained[ClientKind(7, ipxe=True)] = chained[ClientKind(9, ipxe=True)]
    del chained[ClientKind(9, ipxe=True)]
    files = dict(firmware)
    common = Counter(choice for choice in chained.values() if choice is not None).most_common(1)
    if common and any(choice != firmware.get(kind.architecture) for kind, choice in chained.items()):
        files["ipxe"] = common[0][0]
        _add_other_ipxe(draft, chained, common[0][0])
    silent = [kind for kind, choice in chained.items() if choice is None and firmware.get(kind.architecture)]
    if silent and "ipxe" not in files:
        reason = "iPXE gets no boot file from the old server, so that its own script decides; bootfw names one to it"
        draft.note(file_line, Fate.LEFT_OUT, f'{reason}: name the script as "ipxe" in by-architecture')
    default = general[ClientKind(_OTHER)]
    if default is not None and None not in firmware.values():
        files = {name: choice for name, choice in files.items() if choice != default or name == "ipxe"}
    else:
        default = None
    files.pop("other", None)
    files, rare = _without_rare(files, firmware["other"])
    if files.get("ipxe") is not None and files["ipxe"] == default and len(files) == 1:
        files = {}
    _add_by_architecture(draft, {name: choice for name, choice in files.items() if choice is not None}, rare)
    if default is not None:
        comments = [str(default.line)] if default.line else []
        draft.resolvers.append(Table("[[resolver]]", {"use": "static", **default.table()}, comments))


def _by_architecture(
    firmware: Mapping[ClientKind, Choice | None], draft: Draft, file_line: Line
) -> dict[str, Choice | None]:
    """Return architecture -> choice. Codes 7 and 9 are the same one, and many configurations name only one of them."""
    found: dict[str, Choice | None] = {}
    one, other = firmware[ClientKind(7)], firmware[ClientKind(9)]
    general = firmware[ClientKind(_OTHER)]
    for kind, choice in firmware.items():
        found.setdefault(kind.architecture, choice)
    if one != other:
        kept, lost = (other, one) if one in (None, general) else (one, other)
        found["x86_64-uefi"] = kept
        if lost not in (None, general) and kept is not None and lost is not None:
            reason = f"x64 firmware sends code 7 or 9 (RFC 4578, erratum 4624); both get {kept.file}, none {lost.file}"
            draft.note(lost.line or file_line, Fate.LEFT_OUT, f"{reason}: name the one that is right as x86_64-uefi")
    for name in [name for name in found if name.endswith(_HTTP)]:
        if found[name] in (None, found.get(name.removesuffix(_HTTP))) or found[name] == general:
            del found[name]
    return found


def _add_other_ipxe(draft: Draft, chained: Mapping[ClientKind, Choice | None], common: Choice) -> None:
    """Add a persona for each architecture whose iPXE gets another file than most."""
    for kind, choice in chained.items():
        name = f"ipxe-{kind.architecture.replace('_', '-')}"
        if choice in (None, common) or any(table.values["name"] == name for table in draft.personas):
            continue
        assert choice is not None
        values: dict[str, Value] = {"name": name, "like": "ipxe", "architectures": [kind.architecture]}
        draft.personas.append(Table("[[persona]]", values, ["by-client has a boot file for it"]))
        _add_client(draft, {"persona": name}, choice)


def _without_rare(files: Mapping[str, Choice | None], general: Choice | None) -> tuple[dict[str, Choice | None], str]:
    """Leave out rare architectures with the unconditional boot file. Return the others, and a comment with that
    file."""
    rare = [name for name, choice in files.items() if name not in _COMMON and choice == general]
    remaining = {name: choice for name, choice in files.items() if name not in rare}
    return remaining, f"other architectures: {general.file}" if rare and general is not None else ""


def _add_by_architecture(draft: Draft, files: Mapping[str, Choice], rare: str) -> None:
    if not files:
        return
    inner = Table("[resolver.files]", comments=[rare] if rare else [])
    for name, choice in files.items():
        table = choice.table()
        inner.set(name, choice.file if len(table) == 1 else table, choice.line or "")
    draft.resolvers.append(Table("[[resolver]]", {"use": "by-architecture"}, below=[inner]))
