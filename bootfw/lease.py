"""Leases and reservations of addresses, as values."""

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from uuid import UUID

from attrs import field, frozen

NEVER = 253402300799.0
"""The expiry of a lease that never expires, such as BOOTP's: the end of the year 9999, in seconds since the epoch."""

_MAC = re.compile(r"[0-9a-f]{2}([:-]?)[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}", re.IGNORECASE)

_PAIRS = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2})+", re.IGNORECASE)


class LeaseState(enum.Enum):
    """The state of a lease. An ACTIVE lease has expired after ``Lease.expires``; that is not a state of its own."""

    ACTIVE = "active"
    DECLINED = "declined"
    """Another machine uses the address (quarantine); no client gets it before ``expires``."""
    RELEASED = "released"
    """The client has released the address. It may get it again until another client needs it."""


@frozen
class Lease:
    """An address and its latest client. A store keeps one lease for each address: a later one replaces it."""

    address: str
    """IPv4 as dotted quad, or IPv6 in canonical form (RFC 5952)."""
    client: bytes
    """Key of the client that has it, of :class:`bootfw.dhcp.identity.Client` or, by DHCPv6,
    :class:`bootfw.dhcp.hashedallocator.ClientIA`; empty when the client is not known."""
    mac: str
    """MAC address, lower-case with colons; "": unknown."""
    state: LeaseState
    granted: float
    """When it was granted or last renewed, in seconds since the epoch."""
    expires: float
    """Seconds since the epoch; NEVER: it does not expire. For a RELEASED lease it is the time when it ended."""
    client_id: bytes = b""
    """Option 61, for the operator; by DHCPv6 the DUID."""
    uuid: str = ""
    """Option 97 in SMBIOS text form, for the operator."""
    hostname: str = ""
    """Option 12, for the operator."""
    kind: str = ""
    """ "firmware", "system" or "bootp": the kind of client that requested it last. Firmware gets short leases."""


def mac_text(value: str) -> str:
    """Convert a MAC address in any usual notation to lower-case with colons.

    :raise ValueError: it is not a MAC address.
    """
    if not _MAC.fullmatch(value):
        raise ValueError(f'must be a MAC address, such as "52:54:00:12:34:56", not "{value}"')
    return bytes.fromhex(re.sub("[:.-]", "", value)).hex(":")


def mac_beginning(value: str) -> str:
    """Convert a MAC address or its first bytes, such as ``"b8:27:eb"``, to lower-case with colons.

    :raise ValueError: it is neither.
    """
    digits = re.sub("[:.-]", "", value).lower()
    if not re.fullmatch("(?:[0-9a-f]{2}){1,6}", digits):
        raise ValueError(f'must be the beginning of a MAC address, such as "b8:27:eb", not "{value}"')
    return bytes.fromhex(digits).hex(":")


def machine_text(value: str) -> str:
    """Convert the name of a machine in boot records: its MAC, or its UUID or IP address if no MAC is known.

    :raise ValueError: it is none of these.
    """
    for read in (mac_text, uuid_text, lambda text: str(ip_address(text))):
        with suppress(ValueError):
            return read(value)
    raise ValueError(f'must be a MAC address, such as "52:54:00:12:34:56", a UUID or an IP address, not "{value}"')


def uuid_text(value: str) -> str:
    """Convert a UUID in any notation to that of dmidecode.

    :raise ValueError: it is not a UUID.
    """
    try:
        return str(UUID(value))
    except ValueError:
        raise ValueError(f'must be a UUID, such as dmidecode shows, not "{value}"') from None


def hexadecimal(value: str) -> bytes | None:
    """Return the bytes of ``"0x0104"``, or of ``"01:04"``, the notation of dnsmasq and ISC dhcpd; None: it is plain
    text.

    :raise ValueError: it begins with "0x", and other characters than hexadecimal digits follow.
    """
    if _PAIRS.fullmatch(value):
        return bytes.fromhex(value.replace(":", ""))
    if value[:2] not in ("0x", "0X"):
        return None
    try:
        return bytes.fromhex(value[2:])
    except ValueError:
        raise ValueError(f'must be text, or "0x" and pairs of hexadecimal digits, not "{value}"') from None


def to_bytes(value: str | bytes) -> bytes:
    """Convert text to UTF-8, and hexadecimal digits (see :func:`hexadecimal`) to the bytes.

    :raise ValueError: see :func:`hexadecimal`.
    """
    if isinstance(value, bytes):
        return value
    found = hexadecimal(value)
    return value.encode() if found is None else found


def check_host_lease_time(instance: object, attribute: object, value: int) -> None:
    """Validate the lease time of a client; 0: it has none of its own. An attrs validator.

    :raise ValueError: it is less than a minute or more than a year.
    """
    if value and not 60 <= value <= 31536000:
        raise ValueError(f"must be from 60 to 31536000 seconds, not {value}")


def duid(value: str | bytes) -> bytes:
    """Convert a DUID, ``"0x0003..."`` or ``"00:03:..."``, to bytes; text is refused. "" becomes b"".

    :raise ValueError: it is not a DUID.
    """
    if isinstance(value, bytes):
        return value
    found = hexadecimal(value) if value else b""
    if found is None:
        raise ValueError(f'must be a DUID, such as "0x00030001525400123456", not "{value}"')
    return found


def address_text(value: str) -> str:
    """Check an IPv4 address in dotted quad notation; "" is allowed.

    :raise ValueError: it is not an IPv4 address.
    """
    try:
        return inet_ntop(AF_INET, inet_pton(AF_INET, value)) if value else ""
    except OSError:
        raise ValueError(f'must be an IPv4 address, such as "10.77.0.10", not "{value}"') from None


def _address(value: str) -> str:
    """Convert an IPv4 or IPv6 address to canonical form."""
    if ":" not in value:
        return address_text(value)
    try:
        return inet_ntop(AF_INET6, inet_pton(AF_INET6, value))
    except OSError:
        raise ValueError(f'must be an address, such as "10.77.0.10" or "fd77::10", not "{value}"') from None


def _mac(value: str) -> str:
    return mac_text(value) if value else ""


def _uuid(value: str) -> str:
    return uuid_text(value) if value else ""


def mac_texts(values: Iterable[str]) -> tuple[str, ...]:
    """Convert MAC addresses; see mac_text().

    :raise ValueError: one is not a MAC address.
    """
    if isinstance(values, str):
        raise ValueError(f'must be a list, such as ["52:54:00:12:34:56"], not "{values}"')
    return tuple(map(mac_text, values))


@frozen
class Reservation:
    """An address, a name or options for one client. The client is recognized by any one of the given identifiers.

    With an IPv6 address it is for a client of DHCPv6: ``client_id`` is its DUID, and ``options`` are of DHCPv6.
    """

    address: str = field(default="", converter=_address)
    """The address, in the pool or not. Empty: any of the pool."""
    mac: str = field(default="", converter=_mac)
    """Its hardware address."""
    client_id: bytes = field(default=b"", converter=to_bytes, metadata={"toml": str})
    """Option 61 with the type in front: `"0x01525400123456"` or `"01:52:54:00:12:34:56"`; other values are text."""
    uuid: str = field(default="", converter=_uuid)
    """UUID of the machine, as dmidecode shows it. Boot firmware sends it (option 97); few installed systems do."""
    circuit_id: bytes = field(default=b"", converter=to_bytes, metadata={"toml": str})
    """Circuit id of its switch port, from the relay (option 82 sub-option 1): text, or bytes as `"0x0a01"` or
    `"0a:01"`."""
    hostname: str = ""
    """The host name that the client is sent (option 12)."""
    options: Mapping[int, bytes] = field(factory=dict, hash=False)
    """Code -> bytes; they override those of the subnet and of the classes. For DHCPv6 see
    bootfw.wire.options6.key_of()."""
    other_macs: tuple[str, ...] = field(default=(), converter=mac_texts, metadata={"toml": list[str]})
    """More hardware addresses of the same machine, which uses one at a time, such as that of a dock, or of the other
    card of a bond. The address passes from one to the other at once."""
    lease_seconds: int = field(default=0, validator=check_host_lease_time)
    """How long an address is given to it for, 60 to 31536000. Its boot firmware gets no more than the subnet gives to
    firmware. 0: as long as the subnet says."""

    def __attrs_post_init__(self) -> None:
        if not (self.macs or self.client_id or self.uuid or self.circuit_id):
            raise ValueError("needs at least one of mac, client-id, uuid, circuit-id")

    @property
    def macs(self) -> tuple[str, ...]:
        """All MAC addresses of the machine."""
        return (self.mac, *self.other_macs) if self.mac else self.other_macs

    @property
    def family(self) -> int:
        """The address family, 4 or 6; 4 if there is no address."""
        return 6 if ":" in self.address else 4


def reservation_keys(reservation: Reservation) -> Iterator[tuple[str, str | bytes]]:
    """Yield the address and the identifiers of *reservation* as (configuration key, value); the address first."""
    known: list[tuple[str, str | bytes]] = [("address", reservation.address)]
    known += [("mac", mac) for mac in reservation.macs]
    known += [("client-id", reservation.client_id), ("uuid", reservation.uuid)]
    known.append(("circuit-id", reservation.circuit_id))
    yield from ((key, value) for key, value in known if value)
