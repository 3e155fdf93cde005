"""DHCPv4 option codes, and the bytes of the options that matter to network boot.

A reader takes the bytes of one option, without code and length, and raises WireError and nothing else. A function whose
name ends in ``_bytes`` encodes, and raises ValueError: what we send is our own mistake.
"""

import enum
import uuid
from collections.abc import Iterable, Mapping
from functools import lru_cache
from socket import AF_INET, inet_ntoa, inet_pton
from types import MappingProxyType

from bootfw.errors import WireError

_PAD, _END = 0, 255


class Option(enum.IntEnum):
    """Codes by their names in the RFCs; those that a boot server reads or writes."""

    SUBNET_MASK = 1  # address
    ROUTER = 3  # addresses
    DOMAIN_NAME_SERVER = 6  # addresses
    HOST_NAME = 12  # text
    BOOT_FILE_SIZE = 13  # uint16, in 512-byte blocks. Never sent: EDK2 then caps the file at 32 MiB
    DOMAIN_NAME = 15  # text
    ROOT_PATH = 17  # text
    INTERFACE_MTU = 26  # uint16
    BROADCAST_ADDRESS = 28  # address
    NTP_SERVERS = 42  # addresses
    VENDOR_SPECIFIC = 43  # bootfw.wire.pxe
    REQUESTED_IP_ADDRESS = 50  # address
    LEASE_TIME = 51  # uint32, seconds
    OVERLOAD = 52  # Read by bootfw.wire.dhcp4 and never written
    MESSAGE_TYPE = 53  # bootfw.wire.dhcp4.MessageType
    SERVER_IDENTIFIER = 54  # address
    PARAMETER_REQUEST_LIST = 55  # one code a byte
    MESSAGE = 56  # text
    MAXIMUM_MESSAGE_SIZE = 57  # max_message_size
    RENEWAL_TIME = 58  # uint32, seconds
    REBINDING_TIME = 59  # uint32, seconds
    VENDOR_CLASS_IDENTIFIER = 60  # text
    CLIENT_IDENTIFIER = 61  # opaque; echoed (RFC 6842)
    TFTP_SERVER_NAME = 66  # text
    BOOTFILE_NAME = 67  # text
    USER_CLASS = 77  # user_classes (RFC 3004)
    RAPID_COMMIT = 80  # empty (RFC 4039)
    RELAY_AGENT_INFORMATION = 82  # relay_agent (RFC 3046)
    CLIENT_SYSTEM_ARCHITECTURE = 93  # architectures (RFC 4578 section 2.1)
    CLIENT_NETWORK_INTERFACE = 94  # network_interface (RFC 4578 section 2.2)
    CLIENT_MACHINE_IDENTIFIER = 97  # machine_uuid (RFC 4578 section 2.3)
    TFTP_SERVER_ADDRESS = 150  # addresses (RFC 5859)
    IPXE_ENCAPSULATED = 175  # ipxe
    PXELINUX_MAGIC = 208  # F1:00:74:7E (RFC 5071)
    PXELINUX_CONFIG_FILE = 209  # text (RFC 5071)
    PXELINUX_PATH_PREFIX = 210  # text (RFC 5071)
    PXELINUX_REBOOT_TIME = 211  # uint32, seconds (RFC 5071)


class RelaySuboption(enum.IntEnum):
    """Codes inside option 82."""

    CIRCUIT_ID = 1  # RFC 3046
    REMOTE_ID = 2  # RFC 3046
    LINK_SELECTION = 5  # address (RFC 3527)
    SUBSCRIBER_ID = 6  # text (RFC 3993)
    SERVER_IDENTIFIER_OVERRIDE = 11  # address (RFC 5107)
    RELAY_SOURCE_PORT = 19  # empty from the relay: answer the port it sent from (RFC 8357)


class IPXESuboption(enum.IntEnum):
    """Codes inside option 175 (iPXE, src/include/ipxe/dhcp.h and features.h). A feature holds its version, one byte."""

    PRIORITY = 1  # int8
    ISCSI = 0x11
    HTTP = 0x13
    HTTPS = 0x14
    TFTP = 0x15
    BZIMAGE = 0x18
    PXE = 0x21
    EFI = 0x24
    MENU = 0x27
    NO_PXEDHCP = 176  # uint8; 1: don't wait for proxy offers
    BUS_ID = 177  # bus type, vendor, device
    VERSION = 235


def uint8(raw: bytes) -> int:
    """Decode one byte."""
    return _unsigned(raw, 1)


def uint16(raw: bytes) -> int:
    """Decode two bytes, big-endian."""
    return _unsigned(raw, 2)


def uint32(raw: bytes) -> int:
    """Decode four bytes, big-endian."""
    return _unsigned(raw, 4)


def _unsigned(raw: bytes, size: int) -> int:
    if len(raw) != size:
        raise WireError(f"{len(raw)} bytes instead of {size}")
    return int.from_bytes(raw, "big")


def uint8_bytes(value: int) -> bytes:
    """The inverse of :func:`uint8`."""
    return _unsigned_bytes(value, 1)


def uint16_bytes(value: int) -> bytes:
    """The inverse of :func:`uint16`."""
    return _unsigned_bytes(value, 2)


def uint32_bytes(value: int) -> bytes:
    """The inverse of :func:`uint32`."""
    return _unsigned_bytes(value, 4)


def _unsigned_bytes(value: int, size: int) -> bytes:
    try:
        return value.to_bytes(size, "big")
    except OverflowError:
        raise ValueError(f"{value} does not fit into {size} bytes") from None


def text(raw: bytes) -> str:
    """Decode UTF-8 with surrogateescape, up to the first NUL: some firmware sends one (RFC 2132 section 2)."""
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def text_bytes(value: str) -> bytes:
    """Encode as UTF-8 with surrogateescape, without a NUL."""
    return value.encode("utf-8", "surrogateescape")


def address(raw: bytes) -> str:
    """Decode one IPv4 address as a dotted quad."""
    if len(raw) != 4:
        raise WireError(f"{len(raw)} bytes are no IPv4 address")
    return inet_ntoa(raw)


@lru_cache(256)
def address_bytes(value: str) -> bytes:
    """The inverse of :func:`address`. Cached: most are addresses of this server."""
    try:
        return inet_pton(AF_INET, value)
    except OSError:
        raise ValueError(f"{value!r} is no IPv4 address") from None


def first_address(raw: bytes | None) -> str | None:
    """Decode the first four bytes of an option that should hold one IPv4 address; None: it is absent or shorter.

    A client that sends the option twice makes eight bytes of it (RFC 3396); both halves are the same address.
    """
    return inet_ntoa(raw[:4]) if raw is not None and len(raw) >= 4 else None


def addresses(raw: bytes) -> tuple[str, ...]:
    """Decode one or more IPv4 addresses as dotted quads."""
    if not raw or len(raw) % 4:
        raise WireError(f"{len(raw)} bytes are no list of IPv4 addresses")
    return tuple(inet_ntoa(raw[at : at + 4]) for at in range(0, len(raw), 4))


def addresses_bytes(values: Iterable[str]) -> bytes:
    """The inverse of :func:`addresses`."""
    return b"".join(map(address_bytes, values))


def max_message_size(raw: bytes) -> int:
    """Decode option 57 in bytes, never below 576, the smallest legal value (RFC 2132 section 9.10)."""
    return max(uint16(raw), 576)


def architectures(raw: bytes) -> tuple[int, ...]:
    """Decode option 93: one or more codes of :mod:`bootfw.wire.iana`, best first (RFC 4578 section 2.1)."""
    if not raw or len(raw) % 2:
        raise WireError(f"{len(raw)} bytes are no list of architectures")
    return tuple(raw[at] << 8 | raw[at + 1] for at in range(0, len(raw), 2))


def network_interface(raw: bytes) -> tuple[int, int, int]:
    """Decode option 94: type (1 is UNDI), major and minor version (RFC 4578 section 2.2)."""
    if len(raw) != 3:
        raise WireError(f"{len(raw)} bytes are no network interface")
    return raw[0], raw[1], raw[2]


def machine_uuid(raw: bytes) -> str:
    """Decode option 97 as the lower-case text that dmidecode shows and ``qemu -uuid`` takes.

    On the wire the first three groups are little-endian, as in the SMBIOS table; this turns them round.
    """
    if len(raw) != 17 or raw[0] != 0:
        raise WireError("not a machine identifier of type 0 and 16 bytes")
    return str(uuid.UUID(bytes_le=raw[1:]))


def machine_uuid_bytes(value: str) -> bytes:
    """The inverse of :func:`machine_uuid`, from any spelling that the uuid module reads."""
    return b"\0" + uuid.UUID(value).bytes_le


def user_classes(raw: bytes) -> tuple[bytes, ...]:
    """Decode option 77: the classes if it fits RFC 3004, else all of it as one class: iPXE sends a bare "iPXE"."""
    found = []
    at = 0
    while at < len(raw):
        begin = at + 1
        at = begin + raw[at]
        if at == begin or at > len(raw):
            return (raw,)
        found.append(raw[begin:at])
    return tuple(found)


@lru_cache(1024)
def relay_agent(raw: bytes) -> Mapping[int, bytes]:
    """Decode option 82: sub-option code to bytes (RFC 3046 section 2.0: no pad, no end). The first of a code counts.

    A truncated sub-option and what follows it are left out. Cached: a switch sends the same for all
    messages from one of its ports.
    """
    return MappingProxyType(_suboptions(raw, ends=False)[0])


def ipxe(raw: bytes) -> dict[int, bytes]:
    """Decode option 175: code to bytes; the codes are those of IPXESuboption."""
    return _whole(raw)


def encapsulated(raw: bytes) -> dict[int, bytes]:
    """Decode options inside an option (RFC 2132 section 8.4): 0 is a pad, 255 the end. The first of a code counts."""
    return _whole(raw)


def first_encapsulated(raw: bytes, code: int) -> bytes | None:
    """Return the first option *code* inside an option, even if what follows is malformed; None: absent."""
    return _suboptions(raw, ends=True)[0].get(code)


def encapsulate(suboptions: Mapping[int, bytes], end: bool = True) -> bytes:
    """The inverse of :func:`encapsulated`; with *end* false that of :func:`relay_agent`."""
    out = bytearray()
    for code, value in suboptions.items():
        if not _PAD < code < _END or len(value) > 255:
            raise ValueError(f"sub-option {code} of {len(value)} bytes")
        out.append(code)
        out.append(len(value))
        out += value
    if end:
        out.append(_END)
    return bytes(out)


def _whole(raw: bytes) -> dict[int, bytes]:
    found, cut = _suboptions(raw, ends=True)
    if cut is not None:
        raise WireError(f"sub-option {cut} runs past the end")
    return found


def _suboptions(raw: bytes, ends: bool) -> tuple[dict[int, bytes], int | None]:
    """Return the sub-options that are complete, and the code of the one that is truncated, or None."""
    found: dict[int, bytes] = {}
    at, end = 0, len(raw)
    while at < end:
        code = raw[at]
        if ends and code == _PAD:
            at += 1
            continue
        if ends and code == _END:
            break
        begin = at + 2
        at = begin + raw[at + 1] if begin <= end else begin
        if at > end:
            return found, code
        found.setdefault(code, raw[begin:at])
    return found, None
