"""DHCP options as an operator writes them: by name or number, with a value of the option's type.

:func:`option_values` and :func:`option_values6` turn a table of such options into the bytes of DHCPv4 and DHCPv6
options. Names follow IANA's registries "BOOTP Vendor Extensions and DHCP Options" and "DHCPv6 Option Codes", in lower
case with dashes and without the "OPTION" of DHCPv6.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Network
from typing import Any

from attrs import field, frozen

from bootfw.errors import ConfigError, ErrorCollector, WireError, nearest, shown
from bootfw.lease import hexadecimal
from bootfw.wire import options, options6
from bootfw.wire.options import text_bytes
from bootfw.wire.options6 import code_of, domains_bytes

_LONGEST = 65535
"""Bytes of a DHCPv6 option. A DHCPv4 message has no room for half of it."""

_NOUNS: Mapping[type, tuple[str, str]] = {
    str: ("a string", "strings"),
    int: ("an integer", "integers"),
    bool: ("true or false", "booleans"),
}


@frozen
class OptionType:
    """The type of an option's value."""

    kind: type
    """str, int or bool."""
    encode: Callable[[Any], bytes]
    """Encodes a value as the bytes of the option; raises ValueError."""
    single: bool = True
    """The value may be one of *kind*."""
    many: bool = False
    """The value may be a list of *kind*."""

    def check(self, value: Any) -> None:
        """Check that *value* is of this type.

        :raise ConfigError: it is not, or an item of the list is not.
        """
        if self.many and isinstance(value, list):
            for index, item in enumerate(value):
                if not self._is_item(item):
                    raise ConfigError(f"must be {_NOUNS[self.kind][0]}, not {shown(item)}", (index,))
        elif not (self.single and self._is_item(value)):
            one, several = _NOUNS[self.kind]
            forms = ([one] if self.single else []) + ([f"a list of {several}"] if self.many else [])
            raise ConfigError(f"must be {' or '.join(forms)}, not {shown(value)}")

    def _is_item(self, value: Any) -> bool:
        # True and False are integers to Python.
        return isinstance(value, self.kind) and (self.kind is bool or not isinstance(value, bool))


def _list_of(kind: type, encode: Callable[[Any], bytes]) -> OptionType:
    return OptionType(kind, encode, single=False, many=True)


def number(size: int, signed: bool = False) -> Callable[[int], bytes]:
    """Return an encoder for integers of *size* bytes."""

    def encode(value: int) -> bytes:
        try:
            return value.to_bytes(size, "big", signed=signed)
        except OverflowError:
            low, high = (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1) if signed else (0, (1 << 8 * size) - 1)
            raise ValueError(f"must be from {low} to {high}, not {value}") from None

    return encode


def binary(value: str) -> bytes:
    """Return the bytes of ``"0x0104"`` or ``"01:04"``. Plain text is refused: where bytes are expected it is a mistake.

    :raise ValueError: it is neither.
    """
    found = hexadecimal(value) if value else b""
    if found is None:
        raise ValueError(f'must be bytes, such as "0x0104" or "01:04", not {shown(value)}; {{text = "..."}} is text')
    return found


_SCHEME = re.compile(rb"[a-z][a-z0-9+.-]*:.", re.IGNORECASE)

_COMMON: Mapping[str, OptionType] = {
    "text": OptionType(str, text_bytes),
    "boolean": OptionType(bool, lambda value: bytes((value,))),
    "uint8": OptionType(int, number(1)),
    "uint16": OptionType(int, number(2)),
    "uint16s": _list_of(int, lambda values: b"".join(map(number(2), values))),
    "uint32": OptionType(int, number(4)),
    "int32": OptionType(int, number(4, signed=True)),
    "bytes": OptionType(str, binary),
    # Not compressed: some clients can't read that (RFC 3397), and DHCPv6 does not know it.
    "domains": _list_of(str, domains_bytes),
}
"""The types that DHCPv4 and DHCPv6 have in common, by name."""


def address_types(encode: Callable[[str], bytes]) -> Mapping[str, OptionType]:
    """Return the types of one address and of several.

    :param encode: encodes one address.
    """

    def encode_all(value: str | list[str]) -> bytes:
        return b"".join(map(encode, [value] if isinstance(value, str) else value))

    return {"address": OptionType(str, encode), "addresses": OptionType(str, encode_all, many=True)}


def named(listed: Mapping[str, str]) -> dict[str, tuple[int, str]]:
    """Convert lists such as ``{"text": "host-name=12 ..."}`` to name -> (code, type)."""
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
    types: Mapping[str, OptionType]
    """Name of a type -> the type."""
    last: int
    """The largest code."""
    reserved: Collection[int]
    """Codes that only the server sets, since they are part of the protocol."""
    otherwise: Mapping[int, str]
    """Code of some of these -> what to write instead, for the operator."""
    several: Mapping[int, Callable[[Any], Mapping[int, bytes]]] = field(factory=dict)
    """Code -> function that encodes a value as several options, each under a key of its own; raises ConfigError."""
    checks: Mapping[int, Callable[[bytes], None]] = field(factory=dict)
    """Code -> function that raises ValueError for bytes that no client can use. A value that says its type is not
    checked."""
    _kinds: Mapping[int, str] = field(init=False)
    """Code -> name of its type."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_kinds", dict(self.names.values()))

    def values(self, table: Mapping[Any, Any]) -> dict[int, bytes]:
        """Encode options by name or number: code -> bytes.

        A value is of its option's type: ``ntp-servers = ["10.77.0.1"]``. Options without a name here say theirs:
        ``"224" = {uint16 = 7}``. A value may be bytes too, under a number that is an int.

        :raise ConfigError: with the path below *table*.
        """
        found: dict[int, bytes] = {}
        collector = ErrorCollector()
        for key, value in table.items():
            with collector.under(key):
                encoded = self._options(key, value)
                for code in found.keys() & encoded:
                    raise ValueError(f"option {code_of(code)} is there twice")
                found |= encoded
        collector.finish()
        return found

    def _options(self, key: Any, value: Any) -> Mapping[int, bytes]:
        code = int(key) if is_number(key) else self.names.get(key, (-1, ""))[0]
        if isinstance(key, int) and code_of(key) in self.several:
            code = code_of(key)
        if code < 0:
            raise ValueError(f"unknown option{nearest(str(key), self.names)}; others go by number")
        if not 0 < code <= self.last or code in self.reserved:
            instead = self.otherwise.get(code, "the server sets it itself")
            raise ValueError(f"option {code} can't be set here: {instead}")
        if code in self.several:
            return self.several[code](value)
        if isinstance(value, bytes):
            return {code: value}
        kind = self._kinds.get(code)
        encoded = typed(value, self.types, kind)
        if not encoded:
            raise ValueError("must not be empty")
        if not isinstance(value, dict):
            if kind == "text":
                _refuse_bytes(value)
            if code in self.checks:
                self.checks[code](encoded)
        return {code: encoded}


def typed(value: Any, types: Mapping[str, OptionType], kind: str | None = None) -> bytes:
    """Encode a value of type *kind*, or one that says its type: ``{uint16 = 7}``.

    :raise ConfigError, ValueError: it is no such value; the path is that below it.
    """
    names = ", ".join(types)
    if isinstance(value, dict):
        if value.keys() == {"octets"}:
            raise ConfigError('is called "bytes" now', ("octets",))
        if len(value) != 1 or not value.keys() <= types.keys():
            raise ValueError(f"must be one type and its value, such as {{uint16 = 7}}; types: {names}")
        ((kind, value),) = value.items()
    if kind is None:
        raise ValueError(f"must say its type, such as {{uint16 = 7}}; types: {names}")
    types[kind].check(value)
    encoded = types[kind].encode(value)
    if len(encoded) > _LONGEST:
        raise ValueError(f"must not be longer than {_LONGEST} bytes")
    return encoded


def _refuse_bytes(value: str) -> None:
    """Check that a text does not look like bytes: clients would get the digits as text.

    :raise ValueError: it does.
    """
    try:
        found = hexadecimal(value)
    except ValueError:  # a text that begins with "0x"
        return
    if found:
        raise ValueError(
            f'"{value}" looks like bytes: write {{bytes = "{value}"}} for them, {{text = "{value}"}} for the text'
        )


def suboptions(
    code: int,
    types: Mapping[str, OptionType],
    last: int,
    join: Callable[[Mapping[int, bytes]], bytes],
    read: Callable[[bytes], Any] = len,
) -> Callable[[Any], Mapping[int, bytes]]:
    """Return a function for :attr:`OptionTable.several` that encodes option *code*, which consists of sub-options.

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
        if isinstance(value, dict) and not (len(value) == 1 and value.keys() <= types.keys()):
            inside: dict[int, bytes] = {}
            for number, option in numbered(value, "the number of a sub-option", 1, last, example):
                with under(number):
                    inside[int(number)] = typed(option, types)
            encoded = join(inside)
        elif isinstance(value, str) and value and hexadecimal(value) is None:
            raise ValueError(
                f'is made of sub-options: must be a table like {example}, or bytes, such as "0x01020007" or '
                f'"01:02:00:07", not {shown(value)}; {{text = "..."}} is text'
            )
        else:
            encoded = typed(value, types, "bytes")
        if not encoded:
            raise ValueError("must not be empty")
        if len(encoded) > _LONGEST:
            raise ValueError(f"must not be longer than {_LONGEST} bytes")
        try:
            read(encoded)
        except WireError as error:
            raise ValueError(f"is made of sub-options, and these bytes are none: {error}") from None
        return {code: encoded}

    return encode


def numbered(table: Any, kind: str, low: int, high: int, example: str) -> Iterator[tuple[Any, Any]]:
    """Yield the items of *table*, whose keys are numbers from *low* to *high*, each there once.

    :raise ConfigError, ValueError: they are not.
    """
    if not isinstance(table, dict) or not table:
        raise ValueError(f"must be a table like {example}")
    seen = set()
    for key, value in table.items():
        with under(key):
            if not is_number(key) or not low <= int(key) <= high:
                raise ValueError(f"must be {kind}, from {low} to {high}")
            if int(key) in seen:
                raise ValueError(f"{int(key)} is there twice")
        seen.add(int(key))
        yield key, value


def at_least(low: int, size: int) -> Callable[[bytes], None]:
    """Return a check for :attr:`OptionTable.checks`: each number of *size* bytes is *low* or more."""

    def check(encoded: bytes) -> None:
        for at in range(0, len(encoded), size):
            value = int.from_bytes(encoded[at : at + size])
            if value < low:
                raise ValueError(f"must be {low} or more, not {value}")

    return check


def url(encoded: bytes) -> None:
    """Check that the bytes are a URL, see :attr:`OptionTable.checks`."""
    if not _SCHEME.match(encoded):
        found = shown(encoded.decode("utf-8", "replace"))
        raise ValueError(f'must be a URL, such as "http://10.77.0.1/x", not {found}')


def is_number(key: Any) -> bool:
    """Return whether *key* of a table is a number; in TOML all keys are text."""
    return isinstance(key, int) or (key.isascii() and key.isdecimal())


@contextmanager
def under(key: Any) -> Iterator[None]:
    """Have errors that are raised inside name *key* in their path.

    :raise ConfigError: with the path from *key* on.
    """
    try:
        yield
    except ConfigError as error:
        raise error.under(key) from None
    except ValueError as error:
        raise ConfigError(str(error), (key,)) from None


_NAMES4: Mapping[str, str] = {
    "address": "swap-server=16 broadcast-address=28 router-solicitation-address=32",
    "addresses": "router=3 time-servers=4 name-servers=5 domain-name-server=6 log-servers=7 lpr-servers=9"
    " nis-servers=41 ntp-servers=42 netbios-name-servers=44 netbios-dd-servers=45"
    " x-window-font-servers=48 x-window-managers=49 nisplus-servers=65 smtp-servers=69 pop3-servers=70 nntp-servers=71"
    " www-servers=72 irc-servers=74 capwap-controllers=138 tftp-server-address=150",
    "address-pairs": "policy-filter=21 static-routes=33",
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
    "bytes": "vendor-specific=43 ipxe-encapsulated=175 pxelinux-magic=208",
    "domains": "domain-search=119",
    "routes": "classless-static-routes=121 ms-classless-static-routes=249",
}

_MAGIC = bytes.fromhex("f100747e")
"""RFC 5071 section 3."""


def _address4(value: str) -> bytes:
    try:
        return options.address_bytes(value)
    except ValueError:
        raise ValueError(f'must be an IPv4 address, such as "10.77.0.1", not "{value}"') from None


def _address_pairs(values: list[str]) -> bytes:
    if len(values) % 2:
        raise ValueError("must be pairs of addresses, and so an even number of them")
    return b"".join(map(_address4, values))


def _routes(values: list[str]) -> bytes:
    """Encode routes (RFC 3442): the length of the prefix in bits, the significant bytes of the network, the router."""
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
        out += _address4(router.strip())
    return out


_TYPES4: Mapping[str, OptionType] = {
    **address_types(_address4),
    **_COMMON,
    "address-pairs": _list_of(str, _address_pairs),
    "routes": _list_of(str, _routes),
}


def _encapsulate(found: Mapping[int, bytes]) -> bytes:
    return options.encapsulate(found, end=False)


def _one_of(*allowed: int) -> Callable[[bytes], None]:
    def check(encoded: bytes) -> None:
        if encoded[0] not in allowed:
            raise ValueError(f"must be one of {', '.join(map(str, allowed))}, not {encoded[0]}")

    return check


def _pxelinux_magic(encoded: bytes) -> None:
    if encoded != _MAGIC:
        raise ValueError(f'must be "0x{_MAGIC.hex()}", the only value that PXELINUX takes')


OPTIONS: Mapping[str, tuple[int, str]] = named(_NAMES4)
"""Name -> code and type."""

_TABLE4 = OptionTable(
    OPTIONS,
    _TYPES4,
    254,
    frozenset((1, *range(50, 60), 61, 82, 90, 93, 94, 97, 118)),
    {1: 'it follows from "network"', 51: 'it is "lease-seconds"'},
    {
        options.Option.VENDOR_SPECIFIC: suboptions(options.Option.VENDOR_SPECIFIC, _TYPES4, 254, _encapsulate),
        options.Option.IPXE_ENCAPSULATED: suboptions(
            options.Option.IPXE_ENCAPSULATED, _TYPES4, 254, _encapsulate, options.ipxe
        ),
    },
    {
        22: at_least(576, 2),
        23: at_least(1, 1),
        25: at_least(68, 2),
        26: at_least(68, 2),
        37: at_least(1, 1),
        46: _one_of(1, 2, 4, 8),
        114: url,
        116: _one_of(0, 1),
        208: _pxelinux_magic,
        252: url,
    },
)


def option_values(table: Mapping[Any, Any]) -> dict[int, bytes]:
    """Encode DHCPv4 options by name or number: code -> bytes; see OptionTable.values().

    :raise ConfigError: with the path below *table*.
    """
    return _TABLE4.values(table)


_NAMES6: Mapping[str, str] = {
    "addresses": "sip-server-a=22 dns-servers=23 nis-servers=27 nisp-servers=28 sntp-servers=31 bcmcs-server-a=34"
    " pana-agent=40 capwap-ac=52 dhcp4-o-dhcp6-server=88",
    "text": "new-posix-timezone=41 new-tzdb-timezone=42 bootfile-url=59 captive-portal=103 mud-url=112",
    "uint32": "information-refresh-time=32 sol-max-rt=82 inf-max-rt=83",
    "domain": "nis-domain-name=29 nisp-domain-name=30 lost=51 aftr-name=64 erp-local-domain-name=65",
    "domains": "sip-server-d=21 domain-list=24 bcmcs-server-d=33",
    "strings": "bootfile-param=60 sztp-redirect=136",
    "bytes": "vendor-class=16 geoconf-civic=36 ntp-server=56",
    "vendor-options": "vendor-opts=17",
}

_NTP_SERVER = 56
"""RFC 5908."""

_VENDOR_CLASS = "must be an enterprise number of four bytes, and classes, each behind its length of two bytes"


def _address6(value: str) -> bytes:
    try:
        return options6.address_bytes(value)
    except ValueError:
        raise ValueError(f'must be an IPv6 address, such as "fd77::1", not "{value}"') from None


def _strings(values: list[str]) -> bytes:
    return options6.strings_bytes(map(text_bytes, values))


_TYPES6: Mapping[str, OptionType] = {
    **address_types(_address6),
    **_COMMON,
    "domain": OptionType(str, lambda value: domains_bytes([value])),
    "strings": _list_of(str, _strings),
}


_EXAMPLE = '{"9" = {"1" = {text = "x"}}}'


def _vendor_options(value: Any) -> dict[int, bytes]:
    """Encode ``{"9" = {"1" = {text = "x"}}}``: options by enterprise, then by number. Bytes are one option as it is on
    the wire."""
    if isinstance(value, bytes):
        return {options6.key_of(options6.Option.VENDOR_OPTIONS, value): value}
    found: dict[int, bytes] = {}
    for enterprise, inside in numbered(value, "an enterprise number", 1, 0xFFFFFFFF, _EXAMPLE):
        with under(enterprise):
            encoded = []
            for number, option in numbered(inside, "the number of an option", 0, 65535, _EXAMPLE):
                with under(number):
                    encoded.append((int(number), typed(option, _TYPES6)))
            data = options6.vendor_options_bytes(int(enterprise), tuple(encoded))
            if len(data) > _LONGEST:
                raise ValueError(f"must not be longer than {_LONGEST} bytes")
            found[options6.key_of(options6.Option.VENDOR_OPTIONS, data)] = data
    return found


def _ntp_server(found: Mapping[int, bytes]) -> bytes:
    return options6.options_bytes(found.items())


def _vendor_class(encoded: bytes) -> None:
    try:
        _, classes = options6.vendor_class(encoded)
    except WireError as error:
        raise ValueError(f"{_VENDOR_CLASS}: {error}") from None
    if not classes:
        raise ValueError(f"{_VENDOR_CLASS}: there is no class")


OPTIONS6: Mapping[str, tuple[int, str]] = named(_NAMES6)
"""Name -> code and type."""

_TABLE6 = OptionTable(
    OPTIONS6,
    _TYPES6,
    65535,
    # What clients, relays and other servers say, and what makes up the answer itself.
    frozenset(
        (*range(1, 16), 18, 19, 20, 25, 26, 37, 38, 39, 43, *range(44, 50), 53, 61, 62, 66, 67, 68, 79, 80, 81, 87, 135)
    ),
    {5: 'it is "pool" and "lease-seconds"', 12: "clients would pass their relays by"},
    {
        options6.Option.VENDOR_OPTIONS: _vendor_options,
        _NTP_SERVER: suboptions(_NTP_SERVER, _TYPES6, 65535, _ntp_server, options6.read_options),
    },
    {options6.Option.BOOTFILE_URL: url, options6.Option.VENDOR_CLASS: _vendor_class, 103: url, 112: url},
)


def option_values6(table: Mapping[Any, Any]) -> dict[int, bytes]:
    """Encode DHCPv6 options by name or number: key_of() -> bytes; see OptionTable.values().

    Vendor options are listed by enterprise number: ``vendor-opts = {"9" = {"1" = {text = "x"}, "2" = {uint16 = 7}}}``
    (RFC 8415 section 21.17).

    :raise ConfigError: with the path below *table*.
    """
    return _TABLE6.values(table)
