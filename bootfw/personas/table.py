"""The table of personas, and the lookup of the persona of a client."""

import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from attrs import evolve, field, frozen

from bootfw.errors import ConfigError
from bootfw.personas.rule import Rule
from bootfw.values import Address, Client, Persona, TFTPQuirks, TransferRequest

_CACHED = 256
"""Most combinations of TFTP options in the cache. Real clients send about a dozen."""

Options = tuple[tuple[str, str], ...]

_BOOT_FILE_OPTIONS = {4: frozenset((66, 67)), 6: frozenset((59,))}
"""Version of DHCP -> the options that name the boot file, or its server."""

Name = re.Pattern[str]
"""A pattern for the names of files."""


@frozen
class _Candidates:
    """The rules that TFTP requests with the same options can match."""

    rules: tuple[tuple[Rule, Name | None, TFTPQuirks | None], ...] = ()
    """(rule, pattern of its files, quirks) of the rules that have other conditions than options, in order."""
    names: Name | None = None
    """A file name that does not match this pattern matches none of *rules*; None: a rule is for any name."""
    otherwise: TFTPQuirks | None = None
    """The quirks of a request that matches none of *rules*."""


@frozen
class Personas:
    """The personas. The first rule whose conditions hold decides."""

    rules: tuple[Rule, ...]
    ipxe_programs: tuple[str, ...] = ()
    """Patterns for the names of iPXE programs, in lower case."""
    not_ipxe_programs: tuple[str, ...] = ()
    """Exceptions from these patterns."""
    _of_dhcp: tuple[tuple[Rule, Persona], ...] = field(init=False, repr=False, eq=False)
    """The rules for DHCP requests."""
    _plain: tuple[frozenset[int], ...] = field(init=False, repr=False, eq=False)
    """For each rule that a client without the options of boot clients (60, 77, 93, 175) can match: the options that it
    has to request."""
    by_name: Mapping[str, Persona] = field(init=False, repr=False, eq=False)
    """The personas of DHCP clients."""
    _of_tftp: tuple[tuple[Rule, Name | None, TFTPQuirks | None], ...] = field(init=False, repr=False, eq=False)
    """(rule, pattern of its files, quirks) of the rules for TFTP requests."""
    _by_options: dict[Options, _Candidates] = field(factory=dict, init=False, repr=False, eq=False)
    """Cache: TFTP options as the client sent them -> the rules that they can match."""

    @_of_dhcp.default
    def _dhcp_rules(self) -> tuple[tuple[Rule, Persona], ...]:
        return tuple((rule, rule.persona) for rule in self.rules if rule.offer is not None)

    @_plain.default
    def _plain_requests(self) -> tuple[frozenset[int], ...]:
        return tuple(
            rule.requested | one
            for rule, _ in self._of_dhcp
            if not (rule.vendor_class or rule.user_class or rule.ipxe)
            and (not rule.architectures or "unknown" in rule.architectures)
            for one in ([{code} for code in _BOOT_FILE_OPTIONS[4]] if rule.boot_file_requested else [frozenset[int]()])
        )

    @by_name.default
    def _by_name(self) -> Mapping[str, Persona]:
        return {persona.name: persona for _, persona in self._of_dhcp}

    @_of_tftp.default
    def _tftp_rules(self) -> tuple[tuple[Rule, Name | None, TFTPQuirks | None], ...]:
        return tuple(
            (rule, rule.files, rule.quirks)
            for rule in self.rules
            if rule.quirks or rule.tftp_files or rule.tftp_ports or rule.tftp_options is not None
        )

    def match(
        self,
        vendor_class: str = "",
        architecture: str = "unknown",
        ipxe: bool = False,
        *,
        user_classes: Collection[str] = (),
        mac: str = "",
        requested: Collection[int] = (),
        bootp: bool = False,
        dhcp_version: int = 4,
    ) -> Persona | None:
        """Return the persona of a DHCP client; None: it has none.

        :param vendor_class: option 60; by DHCPv6 the first data of option 16.
        :param mac: lower-case with colons; "": not known.
        :param requested: codes of the options that it requests, of its version of DHCP.
        :param bootp: it uses BOOTP, which has no option to request options.
        :param dhcp_version: 4 or 6.
        """
        boot_file_requested = bootp or not _BOOT_FILE_OPTIONS[dhcp_version].isdisjoint(requested)
        for rule, persona in self._of_dhcp:
            # Inlined: a method call for each of a dozen rules would be a tenth of the cost of a DISCOVER.
            if (
                vendor_class.startswith(rule.vendor_class)
                and (not rule.architectures or architecture in rule.architectures)
                and (rule.ipxe is None or rule.ipxe == ipxe)
                and (not rule.oui or mac.startswith(rule.oui))
                and (not rule.user_class or rule.user_class in user_classes)
                and rule.requested.issubset(requested)
                and (rule.boot_file_requested is None or rule.boot_file_requested == boot_file_requested)
                and (rule.dhcp_version is None or rule.dhcp_version == dhcp_version)
            ):
                return persona
        return None

    def may_be_plain(self, requested: Collection[int], bootp: bool = False) -> bool:
        """Return whether a DHCPv4 client may have a persona although it sends no option of boot clients (60, 77, 93,
        175).

        Most clients have none. This is much faster than match().
        """
        return bootp or any(map(frozenset(requested).issuperset, self._plain))

    def quirks(
        self, request: TransferRequest, client_at: Callable[[Address], Client] | None = None
    ) -> TFTPQuirks | None:
        """Return the quirks of a transfer; None: it has none, and can use the fast path.

        :param client_at: looks up the client at an address, for rules that depend on it; None: only its address is
            known.
        """
        candidates = self._by_options.get(request.options) or self._candidates(request.options)
        if not candidates.rules:
            return candidates.otherwise
        name = request.filename.lstrip("/")
        if not name.isascii():
            name = legible(name)
        if candidates.names is not None and not candidates.names.match(name):
            return candidates.otherwise
        client = None
        for rule, names, quirks in candidates.rules:
            if names is not None and not names.match(name):
                continue
            if rule.tftp_ports and request.peer[1] not in rule.tftp_ports:
                continue
            if rule.needs_client:
                if client is None:
                    client = client_at(request.peer) if client_at is not None else Client(request.peer[0])
                if not rule.is_client(client):
                    continue
            return quirks
        return candidates.otherwise

    def _candidates(self, options: Options) -> _Candidates:
        # The order matters only if a rule lists exactly this order: GRUB and a Raspberry Pi send the same options in
        # different orders. A rule for certain machines or files does not count here, since others may use its order.
        in_order = any(
            rule.tftp_options is not None and rule.tftp_options.lists(options)
            for rule, name, _ in self._of_tftp
            if name is None and not rule.tftp_ports and not rule.needs_client
        )
        rules = [
            each
            for each in self._of_tftp
            if each[0].tftp_options is None or each[0].tftp_options.fits(options, in_order=in_order)
        ]
        # No rule after the first one without further conditions can match.
        otherwise = None
        for position, (rule, name, quirks) in enumerate(rules):
            if name is None and not rule.tftp_ports and not rule.needs_client:
                otherwise = quirks
                del rules[position:]
                break
        # Rules without quirks at the end make no difference.
        while otherwise is None and rules and rules[-1][2] is None:
            del rules[-1]
        every = [names.pattern for _, names, _ in rules if names is not None]
        names = re.compile("|".join(every)) if len(every) == len(rules) else None
        if len(self._by_options) >= _CACHED:
            self._by_options.clear()
        self._by_options[options] = found = _Candidates(tuple(rules), names, otherwise)
        return found

    def is_ipxe_program(self, name: str) -> bool:
        """Return whether the file *name* (without directories) is iPXE. iPXE that is sent to iPXE again loops."""
        name = name.lower()
        return _matches(name, self.ipxe_programs) and not _matches(name, self.not_ipxe_programs)

    def with_own(self, own: Sequence[Rule]) -> "Personas":
        """Return these personas with an operator's *own*: one with the name of a built-in persona replaces it, others
        come before them.

        :raise ConfigError: they contradict each other; the path begins with the position in *own*.
        """
        built_in = {rule.name: rule for rule in self.rules}
        ready: dict[str, Rule] = {}
        for index, rule in enumerate(own):
            if rule.name in ready:
                raise ConfigError(f'another persona before it has the name "{rule.name}"', (index, "name"))
            if rule.like:
                base = (
                    built_in.get(rule.like) if rule.like == rule.name else ready.get(rule.like, built_in.get(rule.like))
                )
                if base is None:
                    names = ", ".join(f'"{name}"' for name in [*ready, *built_in])
                    raise ConfigError(f"there is no such persona; known: {names}", (index, "like"))
                try:
                    rule = rule.over(base)
                except ConfigError as error:
                    raise error.under(index) from error
            ready[rule.name] = rule
        before = [rule for name, rule in ready.items() if name not in built_in]
        return evolve(self, rules=(*before, *(ready.get(rule.name, rule) for rule in self.rules)))


def legible(path: str) -> str:
    """Return *path* with U+FFFD for each byte that is not UTF-8, as patterns match it."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if not path.isascii() else path


@cache
def stock() -> Personas:
    """Return the built-in personas."""
    return read(tomllib.loads(files(__package__).joinpath("stock.toml").read_text("utf-8")))


def read(table: Mapping[str, Any]) -> Personas:
    """Read personas from a document in the format of stock.toml. Types are not checked, since the file is ours.

    :raise ConfigError: a persona is invalid.
    """
    programs = table.get("ipxe-programs", {})
    return Personas((), tuple(programs.get("names", ())), tuple(programs.get("except", ()))).with_own(
        [_rule(entry) for entry in table.get("persona", ())]
    )


def _rule(entry: Mapping[str, Any]) -> Rule:
    return Rule(**{key.replace("-", "_"): value for key, value in entry.items()})


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
