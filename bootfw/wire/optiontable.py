"""Options that an operator sets by name or number with a value of their type: what is the same for both families."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attrs import field, frozen

from bootfw.errors import ConfigError
from bootfw.lease import octets
from bootfw.schema import mismatches, nearest
from bootfw.wire.options import text_bytes
from bootfw.wire.options6 import code_of, domains_bytes

LONGEST = 65535
"""Octets of an option by DHCPv6; by DHCPv4 there is no room for half of it."""

Encoder = tuple[Any, Callable[[Any], bytes]]
"""What TOML holds, and its octets."""


def number(octets: int, signed: bool = False) -> Callable[[int], bytes]:
    """An encoder for numbers of so many octets."""

    def encode(value: int) -> bytes:
        try:
            return value.to_bytes(octets, "big", signed=signed)
        except OverflowError:
            low, high = (-(1 << 8 * octets - 1), (1 << 8 * octets - 1) - 1) if signed else (0, (1 << 8 * octets) - 1)
            raise ValueError(f"must be from {low} to {high}, not {value}") from None

    return encode


COMMON: Mapping[str, Encoder] = {
    "text": (str, text_bytes),
    "boolean": (bool, lambda value: bytes((value,))),
    "uint8": (int, number(1)),
    "uint16": (int, number(2)),
    "uint16s": (list[int], lambda values: b"".join(map(number(2), values))),
    "uint32": (int, number(4)),
    "int32": (int, number(4, signed=True)),
    "octets": (str, octets),
    # Not compressed: some clients can't read that (RFC 3397), and DHCPv6 does not know it.
    "domains": (list[str], domains_bytes),
}
"""Type -> encoder, of those types that DHCPv4 and DHCPv6 have in common."""


def address_encoders(encode: Callable[[str], bytes]) -> Mapping[str, Encoder]:
    """Those of one address, and of some, of the family that *encode* takes."""

    def encode_all(value: str | list[str]) -> bytes:
        return b"".join(map(encode, [value] if isinstance(value, str) else value))

    return {"address": (str, encode), "addresses": (str | list[str], encode_all)}


def named(listed: Mapping[str, str]) -> dict[str, tuple[int, str]]:
    """Name -> code and type, of ``{"text": "host-name=12 ..."}``."""
    return {
        name: (int(code), kind)
        for kind, names in listed.items()
        for name, code in (x.split("=") for x in names.split())
    }


@frozen
class OptionTable:
    """The options of one family."""

    names: Mapping[str, tuple[int, str]]
    """Name -> code and type."""
    encoders: Mapping[str, Encoder]
    """Of each type."""
    last: int
    """The largest code."""
    ours: Collection[int]
    """Codes that are part of the conversation, and so the server's own to set."""
    otherwise: Mapping[int, str]
    """Of some of these, what to write instead."""
    several: Mapping[int, Callable[[Any], Mapping[int, bytes]]] = field(factory=dict)
    """Code -> what makes several options of a value, each under a key of its own; raises ConfigError."""
    _kinds: Mapping[int, str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_kinds", dict(self.names.values()))

    def values(self, table: Mapping[Any, Any]) -> dict[int, bytes]:
        """Code to octets, of options by name or number.

        A value is of its option's type: ``ntp-servers = ["10.77.0.1"]``. Options without a name here say theirs:
        ``"224" = {uint16 = 7}``. Octets may be given as they are, under a number that is an int.

        :raise ConfigError: with the path below *table*.
        """
        found: dict[int, bytes] = {}
        for key, value in table.items():
            with under(key):
                made = self._options(key, value)
                for code in found.keys() & made:
                    raise ValueError(f"option {code_of(code)} is there twice")
                found |= made
        return found

    def _options(self, key: Any, value: Any) -> Mapping[int, bytes]:
        code = int(key) if is_number(key) else self.names.get(key, (-1, ""))[0]
        if isinstance(key, int) and code_of(key) in self.several:
            code = code_of(key)
        if code < 0:
            raise ValueError(f"unknown option{nearest(str(key), self.names)}; others go by number")
        if not 0 < code <= self.last or code in self.ours:
            instead = self.otherwise.get(code, "the server sets it itself")
            raise ValueError(f"option {code} can't be set here: {instead}")
        if code in self.several:
            return self.several[code](value)
        if isinstance(value, bytes):
            return {code: value}
        encoded = typed(value, self.encoders, self._kinds.get(code))
        if not encoded:
            raise ValueError("must not be empty")
        return {code: encoded}


def typed(value: Any, encoders: Mapping[str, Encoder], kind: str | None = None) -> bytes:
    """The octets of a value of type *kind*, or of one that says its type: ``{uint16 = 7}``.

    :raise ConfigError, ValueError: it is no such value; the path is that below it.
    """
    types = ", ".join(encoders)
    if isinstance(value, dict):
        if len(value) != 1 or not value.keys() <= encoders.keys():
            raise ValueError(f"must be one type and its value, such as {{uint16 = 7}}; types: {types}")
        ((kind, value),) = value.items()
    if kind is None:
        raise ValueError(f"must say its type, such as {{uint16 = 7}}; types: {types}")
    wanted, encode = encoders[kind]
    for error in mismatches(value, wanted):
        raise error
    encoded = encode(value)
    if len(encoded) > LONGEST:
        raise ValueError(f"must not be longer than {LONGEST} octets")
    return encoded


def is_number(key: Any) -> bool:
    """Whether *key* of a table is a number; TOML has those as text."""
    return isinstance(key, int) or (key.isascii() and key.isdecimal())


@contextmanager
def under(key: Any) -> Iterator[None]:
    """What is raised inside is about the value of *key*.

    :raise ConfigError: with the path from *key* on.
    """
    try:
        yield
    except ConfigError as error:
        raise error.under(key) from None
    except ValueError as error:
        raise ConfigError(str(error), (key,)) from None
