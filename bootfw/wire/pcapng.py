"""UDP datagrams and TCP segments in pcapng files (draft-ietf-opsawg-pcapng), for Wireshark: IP packets without a link
layer."""

import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from attrs import frozen

from bootfw.errors import WireError

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_MAGIC = 0x1A2B3C4D
_RAW_IP = 101  # LINKTYPE_RAW
_COMMENT, _FLAGS = 1, 2
_INBOUND, _OUTBOUND = 1, 2
_TCP, _UDP = 6, 17
_TTL = 64
_LARGEST = 0xFFFF

_BLOCK = struct.Struct("<II")
_OPTION = struct.Struct("<HH")
_SECTION_BODY = struct.Struct("<IHHq")
_INTERFACE_BODY = struct.Struct("<HHI")
_PACKET_BODY = struct.Struct("<IIIII")
_WORD = struct.Struct("<I")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_UDP_HEADER = struct.Struct("!HHHH")
_TCP_HEADER = struct.Struct("!HHIIBBHHH")
_TCP_WORDS = _TCP_HEADER.size // 4
_FIN_PSH_ACK, _PSH_ACK = 0x19, 0x18


@frozen
class Datagram:
    """A UDP datagram that a server received or sent."""

    at: float
    """Seconds since the epoch."""
    source: tuple[str, int]
    """(numeric address, port), as the destination."""
    destination: tuple[str, int]
    data: bytes
    outbound: bool = False
    comment: str = ""
    length: int = 0
    """Bytes that it had, where *data* is only the beginning; 0: *data* is all of it."""


@frozen
class Segment(Datagram):
    """A TCP segment: one with a request, or the only one of its response."""

    sequence: int = 0
    acknowledged: int = 0
    """The sequence number that the other end sends next."""


_LATEST = (1 << 64) - 1
"""Microseconds. A time that was read may be beyond it by the rounding of a float."""


def write_pcapng(packets: Iterable[Datagram], comment: str = "") -> bytes:
    """Encode *packets* as a file, which Wireshark and tshark show with their comments.

    :param comment: about all of them.
    """
    blocks = [
        _block(_SECTION, _SECTION_BODY.pack(_MAGIC, 1, 0, -1) + _options((_COMMENT, comment.encode()))),
        _block(_INTERFACE, _INTERFACE_BODY.pack(_RAW_IP, 0, 0)),
    ]
    for each in packets:
        packet = _ip_packet(each)
        missing = max(0, each.length - len(each.data))
        microseconds = min(round(each.at * 1e6), _LATEST)
        body = _PACKET_BODY.pack(0, microseconds >> 32, microseconds & 0xFFFFFFFF, len(packet), len(packet) + missing)
        flags = _WORD.pack(_OUTBOUND if each.outbound else _INBOUND)
        body += _padded(packet) + _options((_COMMENT, each.comment.encode()), (_FLAGS, flags))
        blocks.append(_block(_PACKET, body))
    return b"".join(blocks)


def read_pcapng(data: bytes) -> list[Datagram]:
    """Decode the packets in a file of write_pcapng(). Blocks that it does not write are passed over.

    :raise WireError: it is another kind of file, or cut off.
    """
    try:
        return list(_datagrams(data))
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise WireError(f"the pcapng file is damaged: {error}") from None


def _datagrams(data: bytes) -> Iterator[Datagram]:
    if len(data) < 12 or _BLOCK.unpack_from(data)[0] != _SECTION or _WORD.unpack_from(data, 8)[0] != _MAGIC:
        raise WireError("this is no pcapng file in little-endian byte order")
    at = 0
    while at < len(data):
        kind, length = _BLOCK.unpack_from(data, at)
        if length < 12 or length % 4 or at + length > len(data):
            raise WireError(f"the pcapng file is cut off or damaged at byte {at}")
        body = data[at + _BLOCK.size : at + length - 4]
        at += length
        if kind == _INTERFACE and _INTERFACE_BODY.unpack_from(body)[0] != _RAW_IP:
            raise WireError("the packets have a link layer: this recording was not written by bootfw")
        if kind == _PACKET:
            yield _datagram(body)


def _datagram(body: bytes) -> Datagram:
    _, high, low, captured, _ = _PACKET_BODY.unpack_from(body)
    packet = body[_PACKET_BODY.size : _PACKET_BODY.size + captured]
    if len(packet) < captured:
        raise WireError("a packet is longer than its block")
    found = dict(_read_options(body[_PACKET_BODY.size + len(_padded(packet)) :]))
    outbound = _WORD.unpack(found.get(_FLAGS, _WORD.pack(_INBOUND)))[0] & 3 == _OUTBOUND
    comment = found.get(_COMMENT, b"").decode()
    return _from_ip(packet, (high << 32 | low) / 1e6, outbound, comment)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return _BLOCK.pack(kind, length) + body + _WORD.pack(length)


def _options(*options: tuple[int, bytes]) -> bytes:
    encoded = [_OPTION.pack(code, len(value)) + _padded(value) for code, value in options if value]
    return b"".join(encoded) + _OPTION.pack(0, 0) if encoded else b""


def _read_options(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        code, length = _OPTION.unpack_from(data, at)
        if not code:
            return
        yield code, data[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _ip_packet(packet: Datagram) -> bytes:
    source, destination = (ip_address(each[0].partition("%")[0]) for each in (packet.source, packet.destination))
    if source.version != destination.version:
        raise ValueError(f"{source} and {destination} are of different families")
    four = source.version == 4
    protocol, transport = (_TCP, _TCP_HEADER) if isinstance(packet, Segment) else (_UDP, _UDP_HEADER)
    room = _LARGEST - _IPV4.size - transport.size
    data = packet.data[:room]
    length = transport.size + min(max(packet.length, len(data)), room)
    if four:
        header = [0x45, 0, length + _IPV4.size, 0, 0, _TTL, protocol, 0, source.packed, destination.packed]
        header[7] = _checksum(_IPV4.pack(*header))
        ip, pseudo = (
            _IPV4.pack(*header),
            struct.pack("!4s4sBBH", source.packed, destination.packed, 0, protocol, length),
        )
    else:
        ip = _IPV6.pack(6 << 28, length, protocol, _TTL, source.packed, destination.packed)
        pseudo = source.packed + destination.packed + struct.pack("!II", length, protocol)
    ports = packet.source[1], packet.destination[1]
    if isinstance(packet, Segment):
        flags = _FIN_PSH_ACK if packet.outbound else _PSH_ACK
        numbers = packet.sequence & 0xFFFFFFFF, packet.acknowledged & 0xFFFFFFFF, _TCP_WORDS << 4, flags, _LARGEST
        checksum = _checksum(pseudo + _TCP_HEADER.pack(*ports, *numbers, 0, 0) + data)
        return ip + _TCP_HEADER.pack(*ports, *numbers, checksum, 0) + data
    # IPv4: 0, there is no checksum (RFC 768). IPv6 must have one.
    checksum = 0 if four else _checksum(pseudo + _UDP_HEADER.pack(*ports, length, 0) + data) or 0xFFFF
    return ip + _UDP_HEADER.pack(*ports, length, checksum) + data


def _from_ip(packet: bytes, at: float, outbound: bool, comment: str) -> Datagram:
    if packet[0] >> 4 == 4:
        header, protocol = (packet[0] & 15) * 4, packet[9]
        addresses = packet[12:16], packet[16:20]
    else:
        header, protocol = _IPV6.size, packet[6]
        addresses = packet[8:24], packet[24:40]
    source, destination = (str(ip_address(address)) for address in addresses)
    if protocol == _TCP:
        source_port, destination_port, sequence, acknowledged, *_ = _TCP_HEADER.unpack_from(packet, header)
        ends = (source, source_port), (destination, destination_port)
        data = packet[header + (packet[header + 12] >> 4) * 4 :]
        return Segment(at, *ends, data, outbound, comment, 0, sequence, acknowledged)
    if protocol != _UDP:
        raise WireError("a packet is neither UDP nor TCP: this recording was not written by bootfw")
    source_port, destination_port, length, _ = _UDP_HEADER.unpack_from(packet, header)
    data = packet[header + 8 : header + length]
    ends = (source, source_port), (destination, destination_port)
    return Datagram(at, *ends, data, outbound, comment, length - 8 if length - 8 > len(data) else 0)


def _checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
