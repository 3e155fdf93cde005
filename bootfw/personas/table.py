"""The table of personas, read from TOML, and the match of a client with it."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any

from attrs import field, frozen

from bootfw.errors import ConfigError
from bootfw.values import OfferStyle, Persona

_KEYS = frozenset(("name", "vendor-class", "architectures", "ipxe", "offer", "reason", "source"))


@frozen
class Rule:
    """The conditions of one persona; all of them have to hold."""

    persona: Persona
    vendor_class: str = ""
    """Option 60 begins with it."""
    architectures: frozenset[str] = frozenset()
    """Empty: any."""
    ipxe: bool | None = None
    """None: no matter."""

    def holds(self, vendor_class: str, architecture: str, ipxe: bool) -> bool:
        """Whether a client is of this kind."""
        return (
            vendor_class.startswith(self.vendor_class)
            and (not self.architectures or architecture in self.architectures)
            and (self.ipxe is None or self.ipxe == ipxe)
        )


@frozen
class Personas:
    """What kinds of clients there are. The first rule that holds decides."""

    rules: tuple[Rule, ...]
    ipxe_programs: tuple[str, ...] = ()
    """Patterns for names of files that are iPXE, in lower case."""
    not_ipxe_programs: tuple[str, ...] = ()
    """Patterns for names that are none of these after all."""
    _offers: Mapping[str, OfferStyle] = field(init=False, repr=False, eq=False)

    @_offers.default
    def _styles(self) -> Mapping[str, OfferStyle]:
        return {rule.persona.name: rule.persona.offer for rule in self.rules}

    def match(self, vendor_class: str, architecture: str, ipxe: bool) -> Persona | None:
        """The persona of a client; None: it has none."""
        for rule in self.rules:
            if rule.holds(vendor_class, architecture, ipxe):
                return rule.persona
        return None

    def offer(self, name: str) -> OfferStyle:
        """How the persona called *name* is answered."""
        return self._offers[name]

    def is_ipxe_program(self, name: str) -> bool:
        """Whether a file called *name*, without directories, is iPXE that would load the same once more."""
        name = name.lower()
        return _matches(name, self.ipxe_programs) and not _matches(name, self.not_ipxe_programs)


def stock() -> Personas:
    """The personas that come with bootfw."""
    return read(tomllib.loads(files(__package__).joinpath("stock.toml").read_text("utf-8")))


def read(table: Mapping[str, Any]) -> Personas:
    """Personas from a TOML document; stock.toml explains its keys.

    :raise ConfigError: it is not of that form.
    """
    entries = _list(table.get("persona", []), ("persona",))
    programs = table.get("ipxe-programs", {})
    return Personas(
        tuple(_rules(entries)),
        _strings(programs.get("names", []), ("ipxe-programs", "names")),
        _strings(programs.get("except", []), ("ipxe-programs", "except")),
    )


def _rules(entries: Sequence[Any]) -> Iterator[Rule]:
    names = set()
    for index, entry in enumerate(entries):
        place = ("persona", index)
        for key in entry.keys() - _KEYS:
            raise ConfigError(f"unknown key; known: {', '.join(sorted(_KEYS))}", (*place, key))
        name, ipxe = entry.get("name"), entry.get("ipxe")
        if not isinstance(name, str) or not name or name in names:
            raise ConfigError("must be a name, and each persona's own", (*place, "name"))
        if not isinstance(ipxe, bool | None):
            raise ConfigError("must be true or false", (*place, "ipxe"))
        names.add(name)
        try:
            offer = OfferStyle(entry.get("offer"))
        except ValueError:
            known = ", ".join(f'"{style.value}"' for style in OfferStyle)
            raise ConfigError(f"must be one of {known}", (*place, "offer")) from None
        if (offer is OfferStyle.NONE) != bool(entry.get("reason")):
            raise ConfigError('must be given with offer = "none", and only there', (*place, "reason"))
        yield Rule(
            Persona(name, offer, entry.get("reason", "")),
            entry.get("vendor-class", ""),
            frozenset(_strings(entry.get("architectures", []), (*place, "architectures"))),
            ipxe,
        )


def _strings(value: Any, place: tuple[str | int, ...]) -> tuple[str, ...]:
    if not all(isinstance(item, str) for item in _list(value, place)):
        raise ConfigError("must be a list of strings", place)
    return tuple(value)


def _list(value: Any, place: tuple[str | int, ...]) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError("must be a list", place)
    return value


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
