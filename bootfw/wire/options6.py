"""DHCPv6 option codes, and the bytes of the options that matter to network boot.

A reader takes the bytes of one option, without code and length, and raises WireError and nothing else. A function whose
name ends in ``_bytes`` encodes, and raises ValueError: what we send is our own mistake.
"""

import enum
import struct
from collections.abc import Iterable, Mapping, Sequence
from socket import AF_INET6, inet_ntop, inet_pton

from attrs import frozen

from bootfw.errors import WireError

Options = tuple[tuple[int, bytes], ...]
"""(code, bytes) in the order of the wire; a code may come several times (RFC 8415 section 24)."""

Values = Mapping[int, bytes]
"""The options of a reply, each once: :func:`key_of` -> bytes."""

_HEAD = struct.Struct("!HH")
_IA = struct.Struct("!III")
_IA_ADDRESS = struct.Struct("!16sII")


class Option(enum.IntEnum):
    """Codes by their names in the RFCs, those that a boot server reads or writes."""

    CLIENT_ID = 1  # DUID
    SERVER_ID = 2  # DUID
    IA_NA = 3  # identity_association
    IA_TA = 4  # like IA_NA, without the two times
    IA_ADDRESS = 5  # ia_address, inside of 3 and 4
    OPTION_REQUEST = 6  # uint16s
    PREFERENCE = 7  # one byte
    ELAPSED_TIME = 8  # uint16, in 10 ms
    RELAY_MESSAGE = 9  # Read and written by bootfw.wire.dhcp6
    AUTHENTICATION = 11
    UNICAST = 12  # address. Never sent: clients would bypass their relay
    STATUS_CODE = 13  # status
    RAPID_COMMIT = 14  # empty
    USER_CLASS = 15  # strings
    VENDOR_CLASS = 16  # vendor_class
    VENDOR_OPTIONS = 17  # vendor_options
    INTERFACE_ID = 18  # opaque; sent back to the relay
    RECONFIGURE_ACCEPT = 20  # empty
    DNS_SERVERS = 23  # addresses (RFC 3646)
    DOMAIN_LIST = 24  # domains (RFC 3646)
    IA_PD = 25  # like IA_NA
    INFORMATION_REFRESH_TIME = 32  # uint32, seconds
    REMOTE_ID = 37  # enterprise number and bytes (RFC 4649)
    SUBSCRIBER_ID = 38  # opaque (RFC 4580)
    CLIENT_FQDN = 39  # one byte of flags, and a name (RFC 4704)
    BOOTFILE_URL = 59  # text without a NUL (RFC 5970)
    BOOTFILE_PARAMETERS = 60  # strings (RFC 5970)
    CLIENT_ARCHITECTURE = 61  # uint16s (RFC 5970)
    NETWORK_INTERFACE = 62  # type, major and minor version (RFC 5970)
    CLIENT_LINK_LAYER_ADDRESS = 79  # link_layer_address; from the relay (RFC 6939)
    SOL_MAX_RT = 82  # uint32, seconds
    INF_MAX_RT = 83  # uint32, seconds
    RELAY_SOURCE_PORT = 135  # uint16; answer the port it sent from (RFC 8357)


class Status(enum.IntEnum):
    """Status codes (RFC 8415 section 21.13)."""

    SUCCESS = 0
    UNSPECIFIED_FAILURE = 1
    NO_ADDRESSES = 2
    NO_BINDING = 3
    NOT_ON_LINK = 4
    USE_MULTICAST = 5
    NO_PREFIXES = 6


class DUIDType(enum.IntEnum):
    """The first two bytes of a DUID (RFC 8415 section 11, RFC 6355)."""

    LINK_LAYER_TIME = 1
    ENTERPRISE = 2
    LINK_LAYER = 3
    UUID = 4


_HARDWARE_AT: Mapping[int, int] = {DUIDType.LINK_LAYER_TIME: 8, DUIDType.LINK_LAYER: 4}


@frozen
class IdentityAssociation:
    """The content of IA_NA or IA_PD."""

    iaid: int
    t1: int = 0
    """Seconds until the client renews; 0: it chooses."""
    t2: int = 0
    """Seconds until it rebinds; 0: it chooses."""
    options: Options = ()


@frozen
class IAAddress:
    """An address inside of an IA."""

    address: str
    preferred: int = 0
    """Seconds that it may be used for new connections."""
    valid: int = 0
    """Seconds that it may be used at all; 0: no longer."""
    options: Options = ()


def read_options(raw: bytes) -> Options:
    """Decode options to the end of *raw*.

    :raise WireError: it does not end with the end of an option.
    """
    found = leading_options(raw)
    at = sum(_HEAD.size + len(value) for _, value in found)
    if at + _HEAD.size <= len(raw):
        raise WireError(f"option {_HEAD.unpack_from(raw, at)[0]} runs past the end")
    if at < len(raw):
        raise WireError(f"{len(raw) - at} bytes are no option")
    return found


def leading_options(raw: bytes) -> Options:
    """Decode the options up to the first one that is truncated; that one and all that follow count as absent."""
    found: list[tuple[int, bytes]] = []
    at, end = 0, len(raw)
    while at + 4 <= end:
        code, length = _HEAD.unpack_from(raw, at)
        begin, at = at + 4, at + 4 + length
        if at > end:
            break
        found.append((code, raw[begin:at]))
    return tuple(found)


def options_bytes(options: Iterable[tuple[int, bytes]]) -> bytes:
    """The inverse of :func:`read_options`."""
    try:
        return b"".join(_HEAD.pack(code, len(value)) + value for code, value in options)
    except struct.error as error:
        raise ValueError(f"an option's code or length is out of range: {error}") from None


def first(options: Options, code: int) -> bytes | None:
    """Return the bytes of the first option with that code; None: there is none."""
    for found, value in options:
        if found == code:
            return value
    return None


def identity_association(raw: bytes) -> IdentityAssociation:
    """Decode option 3 or 25."""
    if len(raw) < _IA.size:
        raise WireError(f"{len(raw)} bytes are no identity association")
    iaid, t1, t2 = _IA.unpack_from(raw)
    return IdentityAssociation(iaid, t1, t2, leading_options(raw[_IA.size :]))


def identity_association_bytes(value: IdentityAssociation) -> bytes:
    """The inverse of :func:`identity_association`."""
    try:
        return _IA.pack(value.iaid, value.t1, value.t2) + options_bytes(value.options)
    except struct.error as error:
        raise ValueError(f"an identity association's number is out of range: {error}") from None


def ia_address(raw: bytes) -> IAAddress:
    """Decode option 5."""
    if len(raw) < _IA_ADDRESS.size:
        raise WireError(f"{len(raw)} bytes are no address of an identity association")
    packed, preferred, valid = _IA_ADDRESS.unpack_from(raw)
    return IAAddress(inet_ntop(AF_INET6, packed), preferred, valid, leading_options(raw[_IA_ADDRESS.size :]))


def ia_address_bytes(value: IAAddress) -> bytes:
    """The inverse of :func:`ia_address`."""
    try:
        packed = _IA_ADDRESS.pack(address_bytes(value.address), value.preferred, value.valid)
    except struct.error as error:
        raise ValueError(f"a lifetime is out of range: {error}") from None
    return packed + options_bytes(value.options)


def status(raw: bytes) -> tuple[int, str]:
    """Decode option 13: the code, of Status or another number, and the text."""
    if len(raw) < 2:
        raise WireError("a status code without a code")
    return int.from_bytes(raw[:2], "big"), raw[2:].decode("utf-8", "surrogateescape")


def status_bytes(code: int, message: str = "") -> bytes:
    """The inverse of :func:`status`."""
    return code.to_bytes(2, "big") + message.encode("utf-8", "surrogateescape")


def address(raw: bytes) -> str:
    """Decode one IPv6 address."""
    if len(raw) != 16:
        raise WireError(f"{len(raw)} bytes are no IPv6 address")
    return inet_ntop(AF_INET6, raw)


def address_bytes(value: str) -> bytes:
    """The inverse of :func:`address`."""
    try:
        return inet_pton(AF_INET6, value)
    except OSError:
        raise ValueError(f"{value!r} is no IPv6 address") from None


def addresses(raw: bytes) -> tuple[str, ...]:
    """Decode one or more IPv6 addresses."""
    if not raw or len(raw) % 16:
        raise WireError(f"{len(raw)} bytes are no list of IPv6 addresses")
    return tuple(inet_ntop(AF_INET6, raw[at : at + 16]) for at in range(0, len(raw), 16))


def addresses_bytes(values: Iterable[str]) -> bytes:
    """The inverse of :func:`addresses`."""
    return b"".join(map(address_bytes, values))


def uint16s(raw: bytes) -> tuple[int, ...]:
    """Decode option 6 or 61: a list of numbers, which may be empty."""
    if len(raw) % 2:
        raise WireError(f"{len(raw)} bytes are no list of 16-bit numbers")
    return tuple(raw[at] << 8 | raw[at + 1] for at in range(0, len(raw), 2))


def uint16s_bytes(values: Iterable[int]) -> bytes:
    """The inverse of :func:`uint16s`."""
    try:
        return b"".join(value.to_bytes(2, "big") for value in values)
    except OverflowError as error:
        raise ValueError(str(error)) from None


def strings(raw: bytes) -> tuple[bytes, ...]:
    """Decode option 15 or 60: strings, each after its length in two bytes."""
    found = []
    at, end = 0, len(raw)
    while at < end:
        begin = at + 2
        at = begin + int.from_bytes(raw[at:begin], "big")
        if begin > end or at > end:
            raise WireError("a string runs past the end")
        found.append(raw[begin:at])
    return tuple(found)


def strings_bytes(values: Iterable[bytes]) -> bytes:
    """The inverse of :func:`strings`."""
    try:
        return b"".join(len(value).to_bytes(2, "big") + value for value in values)
    except OverflowError:
        raise ValueError("a string has more than 65535 bytes") from None


def vendor_class(raw: bytes) -> tuple[int, tuple[bytes, ...]]:
    """Decode option 16: the enterprise number (IANA) of its vendor, and the classes."""
    if len(raw) < 4:
        raise WireError("a vendor class without an enterprise number")
    return int.from_bytes(raw[:4], "big"), strings(raw[4:])


def vendor_class_bytes(enterprise: int, classes: Sequence[bytes]) -> bytes:
    """The inverse of :func:`vendor_class`."""
    return _enterprise(enterprise) + strings_bytes(classes)


def vendor_options(raw: bytes) -> tuple[int, Options]:
    """Decode option 17: the enterprise number of its vendor, and its options."""
    if len(raw) < 4:
        raise WireError("vendor options without an enterprise number")
    return int.from_bytes(raw[:4], "big"), read_options(raw[4:])


def vendor_options_bytes(enterprise: int, options: Options) -> bytes:
    """The inverse of :func:`vendor_options`."""
    return _enterprise(enterprise) + options_bytes(options)


def key_of(code: int, value: bytes) -> int:
    """Return the key of an option in Values: its code.

    Option 17 may be there once for each enterprise (RFC 8415 section 21.17), so its key has the enterprise number in
    the bits above the lowest 16.

    :raise ValueError: it has no such number.
    """
    if code != Option.VENDOR_OPTIONS:
        return code
    if len(value) < 4:
        raise ValueError("vendor options begin with an enterprise number of four bytes")
    return int.from_bytes(value[:4], "big") << 16 | code


def code_of(key: int) -> int:
    """Return the code of an option by its :func:`key_of`."""
    return key & 0xFFFF


def _enterprise(number: int) -> bytes:
    try:
        return number.to_bytes(4, "big")
    except OverflowError:
        raise ValueError(f"{number} is no enterprise number") from None


def domains(raw: bytes) -> tuple[str, ...]:
    """Decode option 24: names as labels, never compressed (RFC 8415 section 10)."""
    found: list[str] = []
    labels: list[str] = []
    at, end = 0, len(raw)
    while at < end:
        begin = at + 1
        length = raw[at]
        at = begin + length
        if length > 63 or at > end:
            raise WireError("a label runs past the end")
        if length:
            labels.append(raw[begin:at].decode("utf-8", "surrogateescape"))
        else:
            found.append(".".join(labels))
            labels.clear()
    if labels:
        raise WireError("a domain name without an end")
    return tuple(found)


def domains_bytes(values: Iterable[str]) -> bytes:
    """The inverse of :func:`domains`."""
    out = b""
    for value in values:
        try:
            parts = value.rstrip(".").encode("idna").split(b".")
            if parts == [b""]:
                raise UnicodeError
        except UnicodeError:
            raise ValueError(f'must be a domain, such as "lab.example", not "{value}"') from None
        out += b"".join(bytes((len(part),)) + part for part in parts) + b"\0"
    return out


def link_layer_address(raw: bytes) -> tuple[int, bytes]:
    """Decode option 79: the type of hardware, 1 for Ethernet, and its address (RFC 6939 section 4)."""
    if len(raw) < 3:
        raise WireError("a link-layer address without an address")
    return int.from_bytes(raw[:2], "big"), raw[2:]


def duid_hardware(duid: bytes) -> tuple[int, bytes]:
    """Return the type of hardware and the address in a DUID; (0, b"") when it holds none.

    It may be that of another card of the machine (RFC 8415 section 11.2).
    """
    head = _HARDWARE_AT.get(int.from_bytes(duid[:2], "big"), 0)
    if not head or len(duid) <= head:
        return 0, b""
    return int.from_bytes(duid[2:4], "big"), duid[head:]


def duid_machine(duid: bytes) -> bytes:
    """Return the 16 bytes of a DUID-UUID (RFC 6355); b"" for other DUIDs."""
    return duid[2:] if len(duid) == 18 and int.from_bytes(duid[:2], "big") == DUIDType.UUID else b""
