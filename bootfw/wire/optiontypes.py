"""The options that an operator can set: their names, and the types of their values (RFC 2132 and later).

Names follow the registry of IANA, "BOOTP Vendor Extensions and DHCP Options", in lower case with dashes.
"""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network
from typing import Any

from bootfw.errors import ConfigError
from bootfw.lease import octets
from bootfw.schema import mismatches, nearest
from bootfw.wire.options import address_bytes, text_bytes

_NAMES: Mapping[str, str] = {
    "address": "swap-server=16 broadcast-address=28 router-solicitation-address=32",
    "addresses": "router=3 time-servers=4 name-servers=5 domain-name-server=6 log-servers=7 lpr-servers=9"
    " policy-filter=21 static-routes=33 nis-servers=41 ntp-servers=42 netbios-name-servers=44 netbios-dd-servers=45"
    " x-window-font-servers=48 x-window-managers=49 nisplus-servers=65 smtp-servers=69 pop3-servers=70 nntp-servers=71"
    " www-servers=72 irc-servers=74 capwap-controllers=138 tftp-server-address=150",
    "text": "host-name=12 merit-dump-file=14 domain-name=15 root-path=17 extensions-path=18 nis-domain=40"
    " netbios-scope=47 vendor-class-identifier=60 nisplus-domain=64 tftp-server-name=66 bootfile-name=67"
    " posix-timezone=100 tz-database-timezone=101 captive-portal=114 pxelinux-config-file=209"
    " pxelinux-path-prefix=210 wpad-url=252",
    "boolean": "ip-forwarding=19 non-local-source-routing=20 all-subnets-local=27 mask-discovery=29 mask-supplier=30"
    " router-discovery=31 trailer-encapsulation=34 ethernet-encapsulation=36 tcp-keepalive-garbage=39",
    "uint8": "default-ip-ttl=23 default-tcp-ttl=37 netbios-node-type=46 auto-configure=116",
    "uint16": "max-datagram-reassembly=22 interface-mtu=26",
    "uint16s": "mtu-plateaus=25",
    "uint32": "path-mtu-aging-timeout=24 arp-cache-timeout=35 tcp-keepalive-interval=38 ipv6-only-preferred=108"
    " pxelinux-reboot-time=211",
    "int32": "time-offset=2",
    "octets": "vendor-specific=43 ipxe-encapsulated=175 pxelinux-magic=208",
    "domains": "domain-search=119",
    "routes": "classless-static-routes=121 ms-classless-static-routes=249",
}

OPTIONS: Mapping[str, tuple[int, str]] = {
    name: (int(code), kind) for kind, listed in _NAMES.items() for name, code in (x.split("=") for x in listed.split())
}
"""Name -> code and type."""

_KINDS = dict(OPTIONS.values())

_OTHERWISE: Mapping[int, str] = {
    1: 'it follows from "network"',
    51: 'it is "lease-seconds"',
}
_OURS = frozenset((0, 1, *range(50, 60), 61, 82, 90, 93, 94, 97, 118, 255))
"""Codes that are part of the conversation, and so the server's own to set."""


def option_values(table: Mapping[Any, Any]) -> dict[int, bytes]:
    """Code to octets, of options by name or number.

    A value is of its option's type: ``ntp-servers = ["10.77.0.1"]``. Options without a name here say theirs:
    ``"224" = {uint16 = 7}``. Octets may be given as they are, under a number that is an int.

    :raise ConfigError: with the path below *table*.
    """
    found: dict[int, bytes] = {}
    for key, value in table.items():
        try:
            code, octets = _option(key, value)
        except ConfigError as error:
            raise error.under(key) from None
        except ValueError as error:
            raise ConfigError(str(error), (key,)) from None
        if code in found:
            raise ConfigError(f"option {code} is there twice", (key,))
        found[code] = octets
    return found


def _option(key: Any, value: Any) -> tuple[int, bytes]:
    code = int(key) if isinstance(key, int) or (key.isascii() and key.isdecimal()) else OPTIONS.get(key, (-1, ""))[0]
    if code < 0:
        raise ValueError(f"unknown option{nearest(str(key), OPTIONS)}; others go by number")
    if not 0 < code < 255 or code in _OURS:
        raise ValueError(f"option {code} can't be set here: {_OTHERWISE.get(code, 'the server sets it itself')}")
    if isinstance(value, bytes):
        return code, value
    kind = _KINDS.get(code)
    if isinstance(value, dict):
        if len(value) != 1 or not value.keys() <= _ENCODERS.keys():
            raise ValueError(f"must be one type and its value, such as {{uint16 = 7}}; types: {', '.join(_ENCODERS)}")
        ((kind, value),) = value.items()
    if kind is None:
        raise ValueError(f"must say its type, such as {{uint16 = 7}}; types: {', '.join(_ENCODERS)}")
    wanted, encode = _ENCODERS[kind]
    for error in mismatches(value, wanted):
        raise error
    octets = encode(value)
    if not octets:
        raise ValueError("must not be empty")
    return code, octets


def _address(value: str) -> bytes:
    try:
        return address_bytes(value)
    except ValueError:
        raise ValueError(f'must be an IPv4 address, such as "10.77.0.1", not "{value}"') from None


def _addresses(value: str | list[str]) -> bytes:
    return b"".join(map(_address, [value] if isinstance(value, str) else value))


def _number(octets: int, signed: bool = False) -> Callable[[int], bytes]:
    def encode(value: int) -> bytes:
        try:
            return value.to_bytes(octets, "big", signed=signed)
        except OverflowError:
            low, high = (-(1 << 8 * octets - 1), (1 << 8 * octets - 1) - 1) if signed else (0, (1 << 8 * octets) - 1)
            raise ValueError(f"must be from {low} to {high}, not {value}") from None

    return encode


def _domains(values: list[str]) -> bytes:
    """RFC 3397, without the compression that some clients can't read."""
    out = b""
    for value in values:
        try:
            labels = value.rstrip(".").encode("idna").split(b".")
        except UnicodeError:
            raise ValueError(f'must be a domain, such as "lab.example", not "{value}"') from None
        out += b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return out


def _routes(values: list[str]) -> bytes:
    """RFC 3442: the significant octets of the network behind their number of bits, then the router."""
    out = b""
    for value in values:
        network, _, router = value.partition(" ")
        try:
            block = IPv4Network(network)
        except ValueError:
            raise ValueError(
                f'must be a network and its router, such as "10.0.0.0/8 10.77.0.1", not "{value}"'
            ) from None
        out += bytes((block.prefixlen,)) + block.network_address.packed[: (block.prefixlen + 7) // 8]
        out += _address(router.strip())
    return out


_ENCODERS: Mapping[str, tuple[Any, Callable[[Any], bytes]]] = {
    "address": (str, _address),
    "addresses": (str | list[str], _addresses),
    "text": (str, text_bytes),
    "boolean": (bool, lambda value: bytes((value,))),
    "uint8": (int, _number(1)),
    "uint16": (int, _number(2)),
    "uint16s": (list[int], lambda values: b"".join(map(_number(2), values))),
    "uint32": (int, _number(4)),
    "int32": (int, _number(4, signed=True)),
    "octets": (str, octets),
    "domains": (list[str], _domains),
    "routes": (list[str], _routes),
}
"""Type -> what TOML holds, and its octets."""
