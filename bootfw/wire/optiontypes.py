"""The options that an operator can set: their names, and the types of their values (RFC 2132 and later).

Names follow the registry of IANA, "BOOTP Vendor Extensions and DHCP Options", in lower case with dashes.
"""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network
from typing import Any

from bootfw.wire.options import Option, address_bytes, encapsulate, ipxe
from bootfw.wire.optiontable import COMMON, Encoder, OptionTable, address_encoders, at_least, named, suboptions, url

_NAMES: Mapping[str, str] = {
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
    "octets": "vendor-specific=43 ipxe-encapsulated=175 pxelinux-magic=208",
    "domains": "domain-search=119",
    "routes": "classless-static-routes=121 ms-classless-static-routes=249",
}

_MAGIC = bytes.fromhex("f100747e")
"""RFC 5071 section 3."""


def _address(value: str) -> bytes:
    try:
        return address_bytes(value)
    except ValueError:
        raise ValueError(f'must be an IPv4 address, such as "10.77.0.1", not "{value}"') from None


def _address_pairs(values: list[str]) -> bytes:
    if len(values) % 2:
        raise ValueError("must be pairs of addresses, and so an even number of them")
    return b"".join(map(_address, values))


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


_ENCODERS: Mapping[str, Encoder] = {
    **address_encoders(_address),
    **COMMON,
    "address-pairs": (list[str], _address_pairs),
    "routes": (list[str], _routes),
}


def _encapsulate(found: Mapping[int, bytes]) -> bytes:
    return encapsulate(found, end=False)


def _one_of(*allowed: int) -> Callable[[bytes], None]:
    def check(encoded: bytes) -> None:
        if encoded[0] not in allowed:
            raise ValueError(f"must be one of {', '.join(map(str, allowed))}, not {encoded[0]}")

    return check


def _pxelinux_magic(encoded: bytes) -> None:
    if encoded != _MAGIC:
        raise ValueError(f'must be "0x{_MAGIC.hex()}", the only value that PXELINUX takes')


OPTIONS: Mapping[str, tuple[int, str]] = named(_NAMES)
"""Name -> code and type."""

_TABLE = OptionTable(
    OPTIONS,
    _ENCODERS,
    254,
    frozenset((1, *range(50, 60), 61, 82, 90, 93, 94, 97, 118)),
    {1: 'it follows from "network"', 51: 'it is "lease-seconds"'},
    {
        Option.VENDOR_SPECIFIC: suboptions(Option.VENDOR_SPECIFIC, _ENCODERS, 254, _encapsulate),
        Option.IPXE_ENCAPSULATED: suboptions(Option.IPXE_ENCAPSULATED, _ENCODERS, 254, _encapsulate, ipxe),
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
    """Code to octets, of options by name or number; see OptionTable.values().

    :raise ConfigError: with the path below *table*.
    """
    return _TABLE.values(table)
