"""The options of DHCPv6 that an operator can set: their names, and the types of their values (RFC 8415 and later).

Names follow the registry of IANA, "DHCPv6 Option Codes", in lower case with dashes and without their "OPTION".
"""

from collections.abc import Mapping
from typing import Any

from bootfw.wire.options import text_bytes
from bootfw.wire.options6 import address_bytes, domains_bytes, strings_bytes
from bootfw.wire.optiontable import COMMON, Encoder, OptionTable, address_encoders, named

_NAMES: Mapping[str, str] = {
    "addresses": "sip-server-a=22 dns-servers=23 nis-servers=27 nisp-servers=28 sntp-servers=31 bcmcs-server-a=34"
    " pana-agent=40 capwap-ac=52 dhcp4-o-dhcp6-server=88",
    "text": "new-posix-timezone=41 new-tzdb-timezone=42 bootfile-url=59 captive-portal=103 mud-url=112",
    "uint32": "information-refresh-time=32 sol-max-rt=82 inf-max-rt=83",
    "domain": "nis-domain-name=29 nisp-domain-name=30 lost=51 aftr-name=64 erp-local-domain-name=65",
    "domains": "sip-server-d=21 domain-list=24 bcmcs-server-d=33",
    "strings": "bootfile-param=60 sztp-redirect=136",
    "octets": "vendor-class=16 vendor-opts=17 geoconf-civic=36 ntp-server=56",
}


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
)


def option_values6(table: Mapping[Any, Any]) -> dict[int, bytes]:
    """Code to octets, of options by name or number; see OptionTable.values().

    :raise ConfigError: with the path below *table*.
    """
    return _TABLE.values(table)
