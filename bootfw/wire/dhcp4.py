"""DHCPv4 messages (RFC 2131 section 2), and the BOOTP messages (RFC 951) that they grew from.

How :func:`parse` treats malformed datagrams. A client with a small defect still has to boot, so only a message whose
type or sender is unknown is refused, with a WireError. A malformed option counts as absent:

============================================  ==================================================================
op is not 1 or 2                              refused: neither request nor reply
hlen above 16                                 refused: chaddr has no room for such an address
hlen 0                                        accepted: the client may be known by option 61 (RFC 4390)
fewer than 236 bytes                          refused: no BOOTP header
more than 4096 bytes                          refused: no client sends it, and what it holds may be remembered
236 to 239 bytes, or another cookie           accepted as BOOTP without options: RFC 951 leaves this field to vendors
an option that runs past the end of its area  the part is ignored; the options before it count
no END option                                 accepted
bytes after END                               ignored
an option that comes twice                    joined (RFC 3396 section 7)
option 52 that does not begin with 1 to 3     ignored: sname and file are names
option 53 that is longer than one byte        its first byte counts
option 53 that is empty or not registered     refused: the message type is unknown
============================================  ==================================================================
"""

import enum
import struct
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from socket import AF_INET, inet_aton, inet_ntoa, inet_pton

from attrs import field, frozen

from bootfw.errors import WireError
from bootfw.wire.options import Option, max_message_size

BOOTREQUEST = 1
BOOTREPLY = 2
BROADCAST_FLAG = 0x8000

UNSPECIFIED = "0.0.0.0"
"""An address field of the header that holds none (RFC 2131 section 2)."""

ETHERNET = 1
"""The htype of Ethernet."""

SNAME_MAX = 63
"""Bytes that fit into sname before its NUL (RFC 2131 section 2)."""
FILE_MAX = 127
"""Bytes that fit into file before its NUL."""

DEFAULT_MAX_SIZE = 548
"""Bytes of DHCP message that every client accepts: 576 less the IP and UDP headers (RFC 2131 section 2)."""
LARGEST_MAX_SIZE = 1472
"""Bytes of DHCP message that one Ethernet frame holds. EDK2 drops longer ones, although it requests up to 65280."""
REPLY_RATIO = 3
"""Bytes of reply for each byte of the request, at most. Its source and its relay may be forged, and option 57 too."""

LARGEST_ACCEPTED = 4096
"""Bytes of the longest message that is parsed."""

MINIMUM_SIZE = 300
"""Least bytes of a message, those of BOOTP (RFC 951): relays and old ROMs drop shorter ones."""
_HEADERS = 28  # IPv4 and UDP, without IP options.
_COOKIE = b"\x63\x82\x53\x63"  # RFC 2131 section 3
_FRAME = struct.Struct("!4BIHH4s4s4s4s16s64s128s4s")
_LEAST_SIZE = _FRAME.size - len(_COOKIE)
_REPLY = struct.Struct("!4BIHH4s4s4s4s16s192x4s")  # the same with sname and file empty
_PAD, _OVERLOAD, _END = 0, 52, 255
_PAD_BYTE, _END_BYTE = b"\0", b"\xff"
_SETTABLE = frozenset(range(_PAD + 1, _END)) - {_OVERLOAD}
_OVERLOADED_FILE, _OVERLOADED_SNAME = 1, 2  # RFC 2132 section 9.3
_OVERLOADS = {b"\1": 1, b"\2": 2, b"\3": 3}

# Old clients expect the message type first; relays remove option 82 from the end (RFC 3046 section 2.1).
_ORDER = [2] * 256
_ORDER[Option.MESSAGE_TYPE], _ORDER[Option.SERVER_IDENTIFIER], _ORDER[Option.RELAY_AGENT_INFORMATION] = 0, 1, 3

_HEADS = [bytes((number,)) for number in range(256)]
_MESSAGE_TYPE = int(Option.MESSAGE_TYPE)
_BOOTFILE_NAME = int(Option.BOOTFILE_NAME)
_RELAY_AGENT = int(Option.RELAY_AGENT_INFORMATION)
_MAXIMUM_SIZE = int(Option.MAXIMUM_MESSAGE_SIZE)


class MessageType(enum.IntEnum):
    """Option 53 (RFC 2132 section 9.6)."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8
    FORCERENEW = 9  # RFC 3203
    LEASEQUERY = 10  # RFC 4388, also the next three
    LEASEUNASSIGNED = 11
    LEASEUNKNOWN = 12
    LEASEACTIVE = 13
    BULKLEASEQUERY = 14  # RFC 6926
    LEASEQUERYDONE = 15
    ACTIVELEASEQUERY = 16  # RFC 7724
    LEASEQUERYSTATUS = 17
    TLS = 18


_MESSAGE_TYPES = {bytes((kind,)): kind for kind in MessageType}


@frozen(kw_only=True)
class Message:
    """One DHCPv4 or BOOTP message. Addresses are dotted quads."""

    op: int
    htype: int = ETHERNET
    hlen: int = 6
    """Bytes of chaddr that count."""
    hops: int = 0
    xid: int
    secs: int = 0
    """Seconds since the client began, by its own account; some clients send other values."""
    flags: int = 0
    ciaddr: str = UNSPECIFIED
    yiaddr: str = UNSPECIFIED
    siaddr: str = UNSPECIFIED
    giaddr: str = UNSPECIFIED
    chaddr: bytes
    """hlen bytes, without the padding of the field."""
    sname: bytes = b""
    """Up to the first NUL; empty when the field held options."""
    file: bytes = b""
    """Up to the first NUL; empty when the field held options."""
    options: Mapping[int, bytes] = field(factory=dict, hash=False)
    """Code to bytes in the order of first appearance, split options joined; without pad, end and overload."""
    size: int = field(default=0, eq=False)
    """Bytes of the datagram that it was read from; 0: it was read from none."""

    @property
    def message_type(self) -> MessageType | None:
        """Option 53; None: a BOOTP message."""
        raw = self.options.get(Option.MESSAGE_TYPE)
        return None if raw is None else _MESSAGE_TYPES[raw]

    @property
    def mac(self) -> str:
        """chaddr in lower-case with colons; "" when hlen is 0."""
        return self.chaddr.hex(":")


def parse(data: bytes) -> Message:
    """Parse the message in a datagram, of client or server.

    :raise WireError: it is refused; see the table of the module.
    """
    size = len(data)
    if size < _FRAME.size:
        if size < _LEAST_SIZE:
            raise WireError(f"{size} bytes are too short for a DHCP message: the header alone has {_LEAST_SIZE}")
        data += bytes(_FRAME.size - size)
    if size > LARGEST_ACCEPTED:
        raise WireError(f"{size} bytes; a DHCP message may have {LARGEST_ACCEPTED}")
    # fmt: off
    (op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr,
     chaddr, sname, file, cookie) = _FRAME.unpack_from(data)
    # fmt: on
    if op not in (BOOTREQUEST, BOOTREPLY):
        raise WireError(f"op {op} is neither request nor reply")
    if hlen > len(chaddr):
        raise WireError(f"hlen {hlen}: a hardware address has {len(chaddr)} bytes at most")
    options: dict[int, bytes] = {}
    if cookie == _COOKIE:
        _scan(data, _FRAME.size, options)
        if _OVERLOAD in options:
            file, sname = _scan_overloaded(options, file, sname)
        kind = options.get(_MESSAGE_TYPE)
        if kind is not None and kind not in _MESSAGE_TYPES:
            options[_MESSAGE_TYPE] = kind = kind[:1]
            if kind not in _MESSAGE_TYPES:
                raise WireError(f"option 53 is {kind.hex() or 'empty'}, which is no message type")
    return Message(
        op=op,
        htype=htype,
        hlen=hlen,
        hops=hops,
        xid=xid,
        secs=secs,
        flags=flags,
        ciaddr=_dotted(ciaddr),
        yiaddr=_dotted(yiaddr),
        siaddr=_dotted(siaddr),
        giaddr=_dotted(giaddr),
        chaddr=chaddr[:hlen],
        sname=sname.partition(b"\0")[0],
        file=file.partition(b"\0")[0],
        options=options,
        size=size,
    )


def _scan_overloaded(options: dict[int, bytes], file: bytes, sname: bytes) -> tuple[bytes, bytes]:
    """Add the options that the fields file and sname hold, by option 52.

    :return: *file* and *sname*, empty where they hold options.
    """
    overloaded = _OVERLOADS.get(options.pop(_OVERLOAD)[:1], 0)
    if overloaded & _OVERLOADED_FILE:  # file before sname: RFC 3396 section 5
        _scan(file, 0, options)
        file = b""
    if overloaded & _OVERLOADED_SNAME:
        _scan(sname, 0, options)
        sname = b""
    options.pop(_OVERLOAD, None)  # option 52 inside sname or file has no meaning
    return file, sname


def _scan(area: bytes, at: int, found: dict[int, bytes]) -> None:
    """Add the options of one field, which begin at *at*, to *found*, up to one that is truncated."""
    end = len(area)
    while at < end:
        code = area[at]
        if code == _PAD:
            at += 1
            continue
        if code == _END:
            return
        begin = at + 2
        at = begin + area[at + 1] if begin <= end else begin
        if at > end:
            return
        if code in found:
            found[code] += area[begin:at]
        else:
            found[code] = area[begin:at]


def pack(message: Message, max_size: int = DEFAULT_MAX_SIZE) -> bytes:
    """Encode *message*, padded to the 300 bytes of BOOTP.

    Option 53 comes first, then 54, then the others in their order, 82 last. An option of more than 255 bytes is
    split (RFC 3396). sname and file never hold options: iPXE would read them as names. Nothing is left out.

    :param max_size: bytes that the DHCP message may have; see :func:`reply_size`.
    :raise ValueError: it does not fit, or a field is out of range: a mistake of the caller.
    """
    if message.op not in (BOOTREQUEST, BOOTREPLY) or len(message.chaddr) != message.hlen or message.hlen > 16:
        raise ValueError("op must be 1 or 2, and chaddr of hlen bytes, 16 at most")
    if len(message.sname) > SNAME_MAX or len(message.file) > FILE_MAX or b"\0" in message.sname + message.file:
        raise ValueError(f"sname and file must be strings without NUL of {SNAME_MAX} and {FILE_MAX} bytes at most")
    try:
        frame = _FRAME.pack(
            message.op,
            message.htype,
            message.hlen,
            message.hops,
            message.xid,
            message.secs,
            message.flags,
            _packed(message.ciaddr),
            inet_pton(
                AF_INET, message.yiaddr
            ),  # each client has another, which would drive the others out of the cache
            _packed(message.siaddr),
            _packed(message.giaddr),
            message.chaddr,
            message.sname,
            message.file,
            _COOKIE,
        )
    except (OSError, struct.error) as error:
        raise ValueError(f"a header field is out of range: {error}") from error
    out = frame + pack_options(message.options) + _END_BYTE
    if len(out) < MINIMUM_SIZE:
        out += bytes(MINIMUM_SIZE - len(out))
    if len(out) > max_size:
        raise ValueError(f"the message has {len(out)} bytes and may have {max_size}")
    return out


_dotted = lru_cache(256)(inet_ntoa)
"""Converts an address field to text. Cached: most fields hold no address, or that of a relay."""


@lru_cache(256)
def _packed(address: str) -> bytes:
    return inet_pton(AF_INET, address)


def pack_reply(request: Message, ciaddr: str, yiaddr: str, siaddr: str, options: bytes) -> bytes:
    """Encode the reply to *request* with *options*, the result of :func:`pack_options`; sname and file are empty.

    The same bytes as of :func:`pack`, several times faster; the caller checks the size.
    """
    out = _REPLY.pack(
        BOOTREPLY,
        request.htype,
        request.hlen,
        0,
        request.xid,
        0,
        request.flags,
        _packed(ciaddr),
        inet_aton(yiaddr),
        _packed(siaddr),
        _packed(request.giaddr),
        request.chaddr,
        _COOKIE,
    )
    return (out + options + _END_BYTE).ljust(MINIMUM_SIZE, b"\0")


def pack_options(options: Mapping[int, bytes]) -> bytes:
    """Encode *options* in the order of :func:`pack`, without END.

    :raise ValueError: they can't be encoded, or hold PAD, END or option 52, which callers don't set.
    """
    if not options.keys() <= _SETTABLE:
        raise ValueError(f"options {sorted(options.keys() - _SETTABLE)} are not for callers to set")
    if options.get(_MESSAGE_TYPE, b"\1") not in _MESSAGE_TYPES:
        raise ValueError("option 53 is not a message type")
    parts: list[bytes] = []
    for code in sorted(options, key=_ORDER.__getitem__):
        value = options[code]
        while len(value) > 255:
            parts += (_HEADS[code], b"\xff", value[:255])
            value = value[255:]
        parts += (_HEADS[code], _HEADS[len(value)], value)
        if code == _BOOTFILE_NAME:
            parts.append(_PAD_BYTE)  # EDK2 writes a NUL over the byte that follows the name (NetworkPkg/UefiPxeBcDxe).
    return b"".join(parts)


def option_size(code: int, value: bytes) -> int:
    """Return how many bytes :func:`pack` writes for an option, which it splits if it is long (RFC 3396)."""
    return len(value) + 2 * max(1, -(-len(value) // 255)) + (code == _BOOTFILE_NAME)


def reply_size(request: Message) -> int:
    """Return how many bytes the reply to *request* may have: *max_size* of :func:`pack`.

    Option 57 counts the IP datagram here, the smaller of its two readings. Absent, malformed or below the legal
    minimum, it means 576. A relay removes the option that it has added, so the client needs no room for it.

    It is REPLY_RATIO times the size of *request* at most, but the minimum of BOOTP is always allowed.
    """
    options = request.options
    size = DEFAULT_MAX_SIZE
    raw = options.get(_MAXIMUM_SIZE)
    if raw is not None:
        with suppress(WireError):
            size = min(max_message_size(raw) - _HEADERS, LARGEST_MAX_SIZE)
    if request.giaddr != UNSPECIFIED and _RELAY_AGENT in options:
        added = option_size(_RELAY_AGENT, options[_RELAY_AGENT])
        # If that option fills more than a frame, the request came in fragments, and so may the reply.
        size = min(size + added, max(LARGEST_MAX_SIZE, DEFAULT_MAX_SIZE + added))
    bound = REPLY_RATIO * request.size
    return size if not 0 < bound < size else max(bound, MINIMUM_SIZE)
