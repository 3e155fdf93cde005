"""Options that an operator sets by name or number with a value of their type: what is the same for both families."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attrs import field, frozen

from bootfw.config.schema import mismatches, nearest, shown
from bootfw.errors import ConfigError, ErrorCollector, WireError
from bootfw.lease import hexadecimal
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


def binary(value: str) -> bytes:
    """The bytes of ``"0x0104"`` or ``"01:04"``. Plain text is refused: where bytes are wanted it is a mistake.

    :raise ValueError: it is neither.
    """
    found = hexadecimal(value) if value else b""
    if found is None:
        raise ValueError(f'must be bytes, such as "0x0104" or "01:04", not {shown(value)}; {{text = "..."}} is text')
    return found


_SCHEME = re.compile(rb"[a-z][a-z0-9+.-]*:.", re.IGNORECASE)

COMMON: Mapping[str, Encoder] = {
    "text": (str, text_bytes),
    "boolean": (bool, lambda value: bytes((value,))),
    "uint8": (int, number(1)),
    "uint16": (int, number(2)),
    "uint16s": (list[int], lambda values: b"".join(map(number(2), values))),
    "uint32": (int, number(4)),
    "int32": (int, number(4, signed=True)),
    "octets": (str, binary),
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
    """Code -> what makes options of a value, each under a key of its own; raises ConfigError."""
    checks: Mapping[int, Callable[[bytes], None]] = field(factory=dict)
    """Code -> raises ValueError for bytes that no client can use. A value that says its type is not checked."""
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
        collector = ErrorCollector()
        for key, value in table.items():
            with collector.under(key):
                made = self._options(key, value)
                for code in found.keys() & made:
                    raise ValueError(f"option {code_of(code)} is there twice")
                found |= made
        collector.finish()
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
        kind = self._kinds.get(code)
        encoded = typed(value, self.encoders, kind)
        if not encoded:
            raise ValueError("must not be empty")
        if not isinstance(value, dict):
            if kind == "text":
                _refuse_bytes(value)
            if code in self.checks:
                self.checks[code](encoded)
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


def _refuse_bytes(value: str) -> None:
    """:raise ValueError: *value* looks like bytes, and clients would get the digits as text."""
    try:
        found = hexadecimal(value)
    except ValueError:  # a text that begins with "0x"
        return
    if found:
        raise ValueError(
            f'"{value}" looks like bytes: write {{octets = "{value}"}} for them, {{text = "{value}"}} for the text'
        )


def suboptions(
    code: int,
    encoders: Mapping[str, Encoder],
    last: int,
    join: Callable[[Mapping[int, bytes]], bytes],
    read: Callable[[bytes], Any] = len,
) -> Callable[[Any], Mapping[int, bytes]]:
    """For :attr:`OptionTable.several`: what makes option *code*, which consists of sub-options.

    Its value is a table of them, ``{"1" = {address = "10.77.0.9"}}``, or all of it as bytes, or a value that says its
    type. Plain text is refused.

    :param last: the largest number of a sub-option.
    :param join: sub-options by number -> the bytes of the option.
    :param read: raises WireError for bytes that are no such option.
    """
    example = '{"1" = {uint16 = 7}}'

    def encode(value: Any) -> dict[int, bytes]:
        if isinstance(value, bytes):
            return {code: value}
        if isinstance(value, dict) and not (len(value) == 1 and value.keys() <= encoders.keys()):
            inside: dict[int, bytes] = {}
            for number, option in numbered(value, "the number of a sub-option", 1, last, example):
                with under(number):
                    inside[int(number)] = typed(option, encoders)
            encoded = join(inside)
        elif isinstance(value, str) and value and hexadecimal(value) is None:
            raise ValueError(
                f'is made of sub-options: must be a table like {example}, or bytes, such as "0x01020007" or '
                f'"01:02:00:07", not {shown(value)}; {{text = "..."}} is text'
            )
        else:
            encoded = typed(value, encoders, "octets")
        if not encoded:
            raise ValueError("must not be empty")
        if len(encoded) > LONGEST:
            raise ValueError(f"must not be longer than {LONGEST} bytes")
        try:
            read(encoded)
        except WireError as error:
            raise ValueError(f"is made of sub-options, and these bytes are none: {error}") from None
        return {code: encoded}

    return encode


def numbered(table: Any, what: str, low: int, high: int, example: str) -> Iterator[tuple[Any, Any]]:
    """The items of *table*, whose keys are numbers from *low* to *high*, each there once.

    :raise ConfigError, ValueError: they are not.
    """
    if not isinstance(table, dict) or not table:
        raise ValueError(f"must be a table like {example}")
    seen = set()
    for key, value in table.items():
        with under(key):
            if not is_number(key) or not low <= int(key) <= high:
                raise ValueError(f"must be {what}, from {low} to {high}")
            if int(key) in seen:
                raise ValueError(f"{int(key)} is there twice")
        seen.add(int(key))
        yield key, value


def at_least(low: int, size: int) -> Callable[[bytes], None]:
    """For :attr:`OptionTable.checks`: each number of *size* bytes is *low* or more."""

    def check(encoded: bytes) -> None:
        for at in range(0, len(encoded), size):
            value = int.from_bytes(encoded[at : at + size])
            if value < low:
                raise ValueError(f"must be {low} or more, not {value}")

    return check


def url(encoded: bytes) -> None:
    """For :attr:`OptionTable.checks`."""
    if not _SCHEME.match(encoded):
        found = shown(encoded.decode("utf-8", "replace"))
        raise ValueError(f'must be a URL, such as "http://10.77.0.1/x", not {found}')


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
