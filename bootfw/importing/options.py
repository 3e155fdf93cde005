"""Translates DHCP options of other servers into those of bootfw's configuration."""

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from bootfw.dhcp.optionvalues import OPTIONS, OPTIONS6, option_values, option_values6
from bootfw.errors import ConfigError
from bootfw.importing.outcome import Line
from bootfw.importing.toml import Table, Value

SUBNET_KEYS: Mapping[int, str] = {3: "router", 6: "dns", 15: "domain", 51: "lease-seconds", 58: "renew-seconds"} | {
    59: "rebind-seconds"
}
"""DHCPv4 options that have a key of their own in a subnet."""

_NAMES4 = {code: (name, kind) for name, (code, kind) in OPTIONS.items()}
_NAMES6 = {code: (name, kind) for name, (code, kind) in OPTIONS6.items()}
_SIZES = {"b": "uint8", "s": "uint16", "i": "uint32"}
_HEX = re.compile(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2})+|0x[0-9a-fA-F]+")
_TRUE = ("1", "true", "on", "yes")
_FALSE = ("0", "false", "off", "no")


def option(code: int, words: Sequence[str], six: bool = False, kind: str = "") -> tuple[str, Value]:
    """Return (name, value) of an option, for a table ``options``.

    :param words: its values: addresses, numbers, texts.
    :param six: it is one of DHCPv6.
    :param kind: its type, where the other server declares one: a type of bootfw.dhcp.optionvalues.
    :raise ValueError: it can't be set in bootfw; the message says why.
    """
    name, known_kind = (_NAMES6 if six else _NAMES4).get(code, (str(code), ""))
    value = _of_kind(known_kind, words) if known_kind and not (kind and kind != known_kind) else _typed(words, kind)
    try:
        (option_values6 if six else option_values)({name: value})
    except ConfigError as error:
        raise ValueError("; ".join(each.message for each in error.each)) from None
    return name, value


def numbers(text: str) -> Mapping[str, int]:
    """Return name -> number, of a text such as ``"routers=3 domain-name-servers=6"``."""
    return {name: int(number) for name, number in (word.split("=") for word in text.split())}


def set_option(table: Table, code: int, words: Sequence[str], line: Line, kind: str = "") -> None:
    """Set a DHCPv4 option of a subnet, class or host; in a subnet some have keys of their own.

    :raise ValueError: see option().
    """
    key = SUBNET_KEYS.get(code) if table.header == "[[dhcp.subnet]]" else None
    if key is None:
        name, value = option(code, words, kind=kind)
        options = table.values.get("options", {})
        table.values["options"] = {**(options if isinstance(options, dict) else {}), name: value}
    elif key.endswith("seconds"):
        table.set(key, _number(words[0]), line)
    elif key == "domain":
        table.set(key, ",".join(words), line)
    else:
        table.set(key, [str(ipv4(word)) for word in words], line)


def _of_kind(kind: str, values: Sequence[str]) -> Value:
    if kind in ("addresses", "domains", "strings", "address-pairs"):
        return [value for value in values if value]
    if kind == "uint16s":
        return [_number(value) for value in values]
    if kind == "routes":
        return _routes(values)
    one = ",".join(values)
    if kind == "boolean":
        if one.lower() not in _TRUE + _FALSE:
            raise ValueError(f"must be true or false, not {one}")
        return one.lower() in _TRUE
    if kind.startswith(("uint", "int")):
        return _number(one)
    if kind == "bytes":
        return _bytes(one) if _HEX.fullmatch(one) else {"text": one}
    if kind == "text" and _HEX.fullmatch(one):  # a text that looks like bytes has to say that it is text
        return {"text": one}
    return one


def _typed(values: Sequence[str], kind: str) -> Value:
    """Return a value with its type, ``{ TYPE = VALUE }``.

    :param kind: the type; "": it is guessed from the values.
    """
    if kind:
        return {kind: _of_kind(kind, values)}
    if values and all(is_address(value) for value in values):
        return {"addresses": list(values)}
    one = ",".join(values)
    if one and _HEX.fullmatch(one):
        return {"bytes": _bytes(one)}
    if re.fullmatch(r"\d+[bsi]?", one):
        number = _number(one)
        return {_SIZES.get(one[-1]) or ("uint8" if number < 256 else "uint16" if number < 65536 else "uint32"): number}
    return {"text": one}


def _routes(values: Sequence[str]) -> list[Value]:
    if len(values) % 2:
        raise ValueError("must be pairs of a network and its router")
    return [f"{network if '/' in network else network + '/32'} {router}" for network, router in _pairs(values)]


def _pairs(values: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _number(text: str) -> int:
    if not re.fullmatch(r"-?\d+[bsi]?|0x[0-9a-fA-F]+", text):
        raise ValueError(f"must be a number, not {text}")
    return int(text.rstrip("bsi") if not text.startswith("0x") else text, 0 if text.startswith("0x") else 10)


def _bytes(text: str) -> str:
    """Return bytes in the notation of bootfw's configuration, with two digits each."""
    if text.startswith("0x"):
        return text
    return ":".join(part.zfill(2) for part in text.lower().split(":"))


def is_address(word: str, version: int = 0) -> bool:
    """Return whether *word* is an IP address, of that version if one is given."""
    try:
        return ip_address(word).version == (version or ip_address(word).version)
    except ValueError:
        return False


def ipv4(word: str) -> IPv4Address:
    """Parse an IPv4 address.

    :raise ValueError: it is none; the message has the word.
    """
    try:
        return IPv4Address(word)
    except ValueError:
        raise ValueError(f"{word} is not an IPv4 address") from None


def ipv6(word: str) -> IPv6Address:
    """Parse an IPv6 address.

    :raise ValueError: it is none; the message has the word.
    """
    try:
        return IPv6Address(word)
    except ValueError:
        raise ValueError(f"{word} is not an IPv6 address") from None
