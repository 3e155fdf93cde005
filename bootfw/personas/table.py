"""The table of personas, read from TOML, and the match of a client with it."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any, TypeVar

from attrs import field, frozen

from bootfw.errors import ConfigError
from bootfw.values import OfferStyle, Persona

_KEYS = frozenset(("name", "vendor-class", "architectures", "ipxe", "offer", "reason", "source"))

Kind = TypeVar("Kind")


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
    programs = _is(dict, table.get("ipxe-programs", {}), "ipxe-programs")
    return Personas(
        tuple(_rules(_is(list, table.get("persona", []), "persona"))),
        _strings(programs.get("names", []), "ipxe-programs", "names"),
        _strings(programs.get("except", []), "ipxe-programs", "except"),
    )


def _rules(entries: Sequence[Any]) -> Iterator[Rule]:
    names = set()
    for index, entry in enumerate(entries):
        place = ("persona", index)
        for key in _is(dict, entry, *place).keys() - _KEYS:
            raise ConfigError(f"unknown key; known: {', '.join(sorted(_KEYS))}", (*place, key))
        name = _is(str, entry.get("name", ""), *place, "name")
        if not name or name in names:
            raise ConfigError("must be there, and be each persona's own", (*place, "name"))
        names.add(name)
        offer = _offer(entry.get("offer"), *place, "offer")
        reason = _is(str, entry.get("reason", ""), *place, "reason")
        if (offer is OfferStyle.NONE) != bool(reason):
            raise ConfigError('must be there with offer = "none", and only there', (*place, "reason"))
        yield Rule(
            Persona(name, offer, reason),
            _is(str, entry.get("vendor-class", ""), *place, "vendor-class"),
            frozenset(_strings(entry.get("architectures", []), *place, "architectures")),
            _is(bool, entry["ipxe"], *place, "ipxe") if "ipxe" in entry else None,
        )


def _offer(value: Any, *place: str | int) -> OfferStyle:
    try:
        return OfferStyle(value)
    except ValueError:
        known = ", ".join(f'"{style.value}"' for style in OfferStyle)
        raise ConfigError(f"must be one of {known}", place) from None


_NOUNS = {dict: "a table", list: "a list", str: "a string", bool: "true or false"}


def _is(kind: type[Kind], value: Any, *place: str | int) -> Kind:
    if not isinstance(value, kind):
        raise ConfigError(f"must be {_NOUNS[kind]}", place)
    return value


def _strings(value: Any, *place: str | int) -> tuple[str, ...]:
    return tuple(_is(str, item, *place) for item in _is(list, value, *place))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
