"""Ethernet frames with UDP in IPv4, for machines that have no address yet: bytes to values and back."""

import struct
from socket import inet_aton, inet_ntoa

from attrs import frozen

_ETHERNET = struct.Struct("!6s6sH")
_IP = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_IPV4, _UDP_PROTOCOL = 0x0800, 17
BROADCAST = b"\xff" * 6


@frozen
class UDPFrame:
    """A UDP datagram in its frame."""

    destination: bytes
    """MAC."""
    source: bytes
    """MAC."""
    from_address: str
    from_port: int
    to_address: str
    to_port: int
    data: bytes


def pack(frame: UDPFrame) -> bytes:
    """Return the bytes of *frame*, without a UDP checksum, which IPv4 allows (RFC 768)."""
    udp = _UDP.pack(frame.from_port, frame.to_port, _UDP.size + len(frame.data), 0)
    source, destination = inet_aton(frame.from_address), inet_aton(frame.to_address)
    size = _IP.size + len(udp) + len(frame.data)
    header = _IP.pack(0x45, 0, size, 0, 0, 64, _UDP_PROTOCOL, 0, source, destination)
    header = _IP.pack(0x45, 0, size, 0, 0, 64, _UDP_PROTOCOL, _checksum(header), source, destination)
    return _ETHERNET.pack(frame.destination, frame.source, _IPV4) + header + udp + frame.data


def parse(raw: bytes) -> UDPFrame | None:
    """Return the UDP datagram in an Ethernet frame; None: it has none, or a part of one only."""
    if len(raw) < _ETHERNET.size + _IP.size + _UDP.size:
        return None
    destination, source, kind = _ETHERNET.unpack_from(raw)
    first, _, size, _, fragment, _, protocol, _, sender, receiver = _IP.unpack_from(raw, _ETHERNET.size)
    at = _ETHERNET.size + (first & 0xF) * 4
    if kind != _IPV4 or first >> 4 != 4 or protocol != _UDP_PROTOCOL or fragment & 0x3FFF or len(raw) < at + _UDP.size:
        return None
    from_port, to_port, length, _ = _UDP.unpack_from(raw, at)
    end = min(at + length, _ETHERNET.size + size)
    data = raw[at + _UDP.size : end]
    return UDPFrame(destination, source, inet_ntoa(sender), from_port, inet_ntoa(receiver), to_port, data)


def _checksum(header: bytes) -> int:
    """Return the checksum of an IP header, in which the checksum is 0 (RFC 791 section 3.1)."""
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
