"""Formats DHCP options as text: the name and the value of each."""

from collections.abc import Mapping
from socket import AF_INET6, inet_ntoa, inet_ntop

from bootfw.dhcp.optionvalues import OPTIONS, OPTIONS6
from bootfw.wire import options6
from bootfw.wire.dhcp4 import MessageType
from bootfw.wire.options import Option

ShownOption = tuple[int, str, str]
"""Code, name, value."""

# Options that only a server sets, which a configuration therefore does not name.
_KINDS: Mapping[int, str] = {
    **dict(OPTIONS.values()),
    Option.SUBNET_MASK: "address",
    Option.REQUESTED_IP_ADDRESS: "address",
    Option.LEASE_TIME: "uint32",
    Option.SERVER_IDENTIFIER: "address",
    Option.MESSAGE: "text",
    Option.MAXIMUM_MESSAGE_SIZE: "uint16",
    Option.RENEWAL_TIME: "uint32",
    Option.REBINDING_TIME: "uint32",
}
_NAMES: Mapping[int, str] = {code: name for name, (code, _) in OPTIONS.items()}
_KINDS6: Mapping[int, str] = {**dict(OPTIONS6.values()), options6.Option.BOOTFILE_URL: "text"}
_NAMES6: Mapping[int, str] = {code: name for name, (code, _) in OPTIONS6.items()}


def shown_options(options: Mapping[int, bytes]) -> list[ShownOption]:
    """Return the options of a DHCPv4 message."""
    return [(code, _name(code), _value(code, raw)) for code, raw in options.items()]


def shown_options6(options: options6.Options) -> list[ShownOption]:
    """Return the options of a DHCPv6 message."""
    return [(code, _name6(code), _typed(_KINDS6.get(code, ""), raw, 16)) for code, raw in options]


def _name(code: int) -> str:
    if code in _NAMES:
        return _NAMES[code]
    known = {int(option) for option in Option}
    return Option(code).name.lower().replace("_", "-") if code in known else f"option-{code}"


def _name6(code: int) -> str:
    if code in _NAMES6:
        return _NAMES6[code]
    known = {int(option) for option in options6.Option}
    return options6.Option(code).name.lower().replace("_", "-") if code in known else f"option-{code}"


def _value(code: int, raw: bytes) -> str:
    if code == Option.MESSAGE_TYPE and raw and raw[0] in {int(kind) for kind in MessageType}:
        return MessageType(raw[0]).name
    return _typed(_KINDS.get(code, ""), raw, 4)


def _typed(kind: str, raw: bytes, address_size: int) -> str:
    """Format *raw* by its type; bytes that do not fit the type become hexadecimal digits."""
    if kind == "text":
        return raw.rstrip(b"\0").decode("utf-8", "backslashreplace")
    if kind in ("address", "addresses") and raw and len(raw) % address_size == 0:
        parts = [raw[at : at + address_size] for at in range(0, len(raw), address_size)]
        return ", ".join(inet_ntoa(part) if address_size == 4 else inet_ntop(AF_INET6, part) for part in parts)
    if kind in ("uint8", "uint16", "uint32") and len(raw) in (1, 2, 4):
        return str(int.from_bytes(raw, "big"))
    return f"0x{raw.hex()}" if raw else ""
