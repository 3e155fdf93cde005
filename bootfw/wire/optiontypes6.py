"""The options of DHCPv6 that an operator can set: their names, and the types of their values (RFC 8415 and later).

Names follow the registry of IANA, "DHCPv6 Option Codes", in lower case with dashes and without their "OPTION".
"""

from collections.abc import Mapping
from typing import Any

from bootfw.errors import WireError
from bootfw.wire.options import text_bytes
from bootfw.wire.options6 import (
    Option,
    address_bytes,
    domains_bytes,
    key_of,
    options_bytes,
    read_options,
    strings_bytes,
    vendor_class,
    vendor_options_bytes,
)
from bootfw.wire.optiontable import (
    COMMON,
    LONGEST,
    Encoder,
    OptionTable,
    address_encoders,
    named,
    numbered,
    suboptions,
    typed,
    under,
    url,
)

_NAMES: Mapping[str, str] = {
    "addresses": "sip-server-a=22 dns-servers=23 nis-servers=27 nisp-servers=28 sntp-servers=31 bcmcs-server-a=34"
    " pana-agent=40 capwap-ac=52 dhcp4-o-dhcp6-server=88",
    "text": "new-posix-timezone=41 new-tzdb-timezone=42 bootfile-url=59 captive-portal=103 mud-url=112",
    "uint32": "information-refresh-time=32 sol-max-rt=82 inf-max-rt=83",
    "domain": "nis-domain-name=29 nisp-domain-name=30 lost=51 aftr-name=64 erp-local-domain-name=65",
    "domains": "sip-server-d=21 domain-list=24 bcmcs-server-d=33",
    "strings": "bootfile-param=60 sztp-redirect=136",
    "octets": "vendor-class=16 geoconf-civic=36 ntp-server=56",
    "vendor-options": "vendor-opts=17",
}

_NTP_SERVER = 56
"""RFC 5908."""

_VENDOR_CLASS = "must be an enterprise number of four bytes, and classes, each behind its length of two bytes"


def _address(value: str) -> bytes:
    try:
        return address_bytes(value)
    except ValueError:
        raise ValueError(f'must be an IPv6 address, such as "fd77::1", not "{value}"') from None


def _strings(values: list[str]) -> bytes:
    return strings_bytes(map(text_bytes, values))


_ENCODERS: Mapping[str, Encoder] = {
    **address_encoders(_address),
    **COMMON,
    "domain": (str, lambda value: domains_bytes([value])),
    "strings": (list[str], _strings),
}


_EXAMPLE = '{"9" = {"1" = {text = "x"}}}'


def _vendor_options(value: Any) -> dict[int, bytes]:
    """``{"9" = {"1" = {text = "x"}}}``: by enterprise, then by number. Octets are one option as it is on the wire."""
    if isinstance(value, bytes):
        return {key_of(Option.VENDOR_OPTIONS, value): value}
    found: dict[int, bytes] = {}
    for enterprise, options in numbered(value, "an enterprise number", 1, 0xFFFFFFFF, _EXAMPLE):
        with under(enterprise):
            inside = []
            for number, option in numbered(options, "the number of an option", 0, 65535, _EXAMPLE):
                with under(number):
                    inside.append((int(number), typed(option, _ENCODERS)))
            octets = vendor_options_bytes(int(enterprise), tuple(inside))
            if len(octets) > LONGEST:
                raise ValueError(f"must not be longer than {LONGEST} octets")
            found[key_of(Option.VENDOR_OPTIONS, octets)] = octets
    return found


def _ntp_server(found: Mapping[int, bytes]) -> bytes:
    return options_bytes(found.items())


def _vendor_class(encoded: bytes) -> None:
    try:
        _, classes = vendor_class(encoded)
    except WireError as error:
        raise ValueError(f"{_VENDOR_CLASS}: {error}") from None
    if not classes:
        raise ValueError(f"{_VENDOR_CLASS}: there is no class")


OPTIONS6: Mapping[str, tuple[int, str]] = named(_NAMES)
"""Name -> code and type."""

_TABLE = OptionTable(
    OPTIONS6,
    _ENCODERS,
    65535,
    # What clients, relays and other servers say, and what makes up the answer itself.
    frozenset(
        (*range(1, 16), 18, 19, 20, 25, 26, 37, 38, 39, 43, *range(44, 50), 53, 61, 62, 66, 67, 68, 79, 80, 81, 87, 135)
    ),
    {5: 'it is "pool" and "lease-seconds"', 12: "clients would pass their relays by"},
    {
        Option.VENDOR_OPTIONS: _vendor_options,
        _NTP_SERVER: suboptions(_NTP_SERVER, _ENCODERS, 65535, _ntp_server, read_options),
    },
    {Option.BOOTFILE_URL: url, Option.VENDOR_CLASS: _vendor_class, 103: url, 112: url},
)


def option_values6(table: Mapping[Any, Any]) -> dict[int, bytes]:
    """Octets by key_of(), of options by name or number; see OptionTable.values(). Vendor options are those of some
    enterprises: ``vendor-opts = {"9" = {"1" = {text = "x"}, "2" = {uint16 = 7}}}`` (RFC 8415 section 21.17).

    :raise ConfigError: with the path below *table*.
    """
    return _TABLE.values(table)
