"""UDP datagrams in pcapng files (draft-ietf-opsawg-pcapng), for Wireshark: IP packets without a link layer."""

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
_UDP = 17
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


@frozen
class Datagram:
    """One that a server received or sent."""

    at: float
    """Seconds since the epoch."""
    source: tuple[str, int]
    """(numeric address, port), as the destination."""
    destination: tuple[str, int]
    data: bytes
    outbound: bool = False
    comment: str = ""


def write_pcapng(datagrams: Iterable[Datagram], comment: str = "") -> bytes:
    """A file of *datagrams*, which Wireshark and tshark show with their comments.

    :param comment: about all of them.
    """
    blocks = [
        _block(_SECTION, _SECTION_BODY.pack(_MAGIC, 1, 0, -1) + _options((_COMMENT, comment.encode()))),
        _block(_INTERFACE, _INTERFACE_BODY.pack(_RAW_IP, 0, 0)),
    ]
    for each in datagrams:
        packet = _ip_packet(each)
        microseconds = round(each.at * 1e6)
        body = _PACKET_BODY.pack(0, microseconds >> 32, microseconds & 0xFFFFFFFF, len(packet), len(packet))
        flags = _WORD.pack(_OUTBOUND if each.outbound else _INBOUND)
        body += _padded(packet) + _options((_COMMENT, each.comment.encode()), (_FLAGS, flags))
        blocks.append(_block(_PACKET, body))
    return b"".join(blocks)


def read_pcapng(data: bytes) -> list[Datagram]:
    """The datagrams in a file that write_pcapng() made. Blocks that it does not write are passed over.

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
    source, destination, payload = _from_ip(packet)
    return Datagram((high << 32 | low) / 1e6, source, destination, payload, outbound, comment)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return _BLOCK.pack(kind, length) + body + _WORD.pack(length)


def _options(*options: tuple[int, bytes]) -> bytes:
    given = [_OPTION.pack(code, len(value)) + _padded(value) for code, value in options if value]
    return b"".join(given) + _OPTION.pack(0, 0) if given else b""


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


def _ip_packet(datagram: Datagram) -> bytes:
    source, destination = (ip_address(each[0].partition("%")[0]) for each in (datagram.source, datagram.destination))
    data = datagram.data[: _LARGEST - _IPV4.size - _UDP_HEADER.size]
    length = len(data) + _UDP_HEADER.size
    ports = datagram.source[1], datagram.destination[1]
    if source.version == 4 and destination.version == 4:
        header = [0x45, 0, length + _IPV4.size, 0, 0, _TTL, _UDP, 0, source.packed, destination.packed]
        header[7] = _checksum(_IPV4.pack(*header))
        return _IPV4.pack(*header) + _UDP_HEADER.pack(*ports, length, 0) + data  # 0: there is no checksum (RFC 768)
    if source.version != 6 or destination.version != 6:
        raise ValueError(f"{source} and {destination} are of different families")
    pseudo = source.packed + destination.packed + struct.pack("!II", length, _UDP)
    checksum = _checksum(pseudo + _UDP_HEADER.pack(*ports, length, 0) + data) or 0xFFFF
    header6 = _IPV6.pack(6 << 28, length, _UDP, _TTL, source.packed, destination.packed)
    return header6 + _UDP_HEADER.pack(*ports, length, checksum) + data


def _from_ip(packet: bytes) -> tuple[tuple[str, int], tuple[str, int], bytes]:
    if packet[0] >> 4 == 4:
        header, protocol = (packet[0] & 15) * 4, packet[9]
        addresses = packet[12:16], packet[16:20]
    else:
        header, protocol = _IPV6.size, packet[6]
        addresses = packet[8:24], packet[24:40]
    if protocol != _UDP:
        raise WireError("a packet is not UDP: this recording was not written by bootfw")
    source_port, destination_port, length, _ = _UDP_HEADER.unpack_from(packet, header)
    source, destination = (str(ip_address(each)) for each in addresses)
    return (source, source_port), (destination, destination_port), packet[header + 8 : header + length]


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
