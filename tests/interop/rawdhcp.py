"""A DHCP client made of frames, which may say anything."""

import select
import socket
import struct
import time
from collections.abc import Iterable

from attrs import define, field, frozen

from .lab import Host

SERVER = "10.77.0.1"
RELAY = "10.77.0.250"
"""The address of the host that the frames come from."""

_COOKIE = b"\x63\x82\x53\x63"
_QUIET_SECONDS = 3.0
_HEADER = struct.Struct("!4BIHH4s4s4s4s")


@frozen(kw_only=True)
class Sent:
    """One datagram, and the frame around it."""

    data: bytes
    xid: int
    mac: bytes
    source: str = "0.0.0.0"
    port: int = 68
    destination: str = "255.255.255.255"

    def frame(self, server: bytes) -> bytes:
        """*server* is the server's hardware address."""
        udp = struct.pack("!4H", self.port, 67, 8 + len(self.data), 0) + self.data  # no checksum
        addresses = socket.inet_aton(self.source) + socket.inet_aton(self.destination)
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + addresses
        ip = ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:]
        broadcast = self.destination == "255.255.255.255"
        return (b"\xff" * 6 if broadcast else server) + self.mac + b"\x08\x00" + ip + udp


@frozen
class Heard:
    """A reply of a server."""

    kind: int
    """Option 53; 0: BOOTP."""
    address: str
    """yiaddr."""
    destination: str


def option(code: int, value: bytes | str) -> bytes:
    """An option with a length that is right; a string is an address."""
    raw = socket.inet_aton(value) if isinstance(value, str) else value
    return bytes((code, len(raw))) + raw


def message(
    options: bytes,
    *,
    xid: int,
    mac: bytes,
    op: int = 1,
    htype: int = 1,
    hlen: int = 6,
    hops: int = 0,
    secs: int = 0,
    flags: int = 0x8000,
    ciaddr: str = "0.0.0.0",
    yiaddr: str = "0.0.0.0",
    siaddr: str = "0.0.0.0",
    giaddr: str = "0.0.0.0",
    chaddr: bytes | None = None,
    sname: bytes = b"",
    file: bytes = b"",
    cookie: bytes = _COOKIE,
    end: bytes = b"\xff",
    size: int = 300,
) -> bytes:
    """A DHCP message of at least *size* bytes; nothing in it has to be right."""
    addresses = map(socket.inet_aton, (ciaddr, yiaddr, siaddr, giaddr))
    header = _HEADER.pack(op, htype, hlen, hops, xid, secs, flags, *addresses)
    chaddr = mac if chaddr is None else chaddr
    fields = chaddr.ljust(16, b"\0") + sname.ljust(64, b"\0") + file.ljust(128, b"\0")
    return (header + fields + cookie + options + end).ljust(size, b"\0")


@define(eq=False)
class RawClients:
    """Many clients at one place. They answer ARP for the addresses that they say they have."""

    _socket: socket.socket
    _server: bytes
    """Hardware address."""
    _held: dict[bytes, bytes] = field(factory=dict)

    @classmethod
    def at(cls, host: Host, server: bytes) -> "RawClients":
        return cls(host.packet_socket(), server)

    def hold(self, address: str, mac: bytes) -> None:
        """A client has configured *address*."""
        self._held[socket.inet_aton(address)] = mac

    def say(self, sent: Iterable[Sent]) -> dict[int, Heard]:
        """Send all of it, one after the other; the first reply to each transaction."""
        heard: dict[int, Heard] = {}
        for each in sent:
            self._socket.send(each.frame(self._server))
            self._hear(heard, 0.005)
        self._hear(heard, _QUIET_SECONDS)
        return heard

    def close(self) -> None:
        self._socket.close()

    def _hear(self, heard: dict[int, Heard], seconds: float) -> None:
        """Until nothing has come for so long."""
        until = time.monotonic() + seconds
        while select.select([self._socket], [], [], max(0.0, until - time.monotonic()))[0]:
            frame, place = self._socket.recvfrom(65535)
            if place[2] == socket.PACKET_OUTGOING:
                continue
            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1":
                self._answer_arp(frame)
            elif frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[34:36] == b"\0\x43" and frame[42] == 2:
                data = frame[42:]
                destination = socket.inet_ntoa(frame[30:34])
                reply = Heard(_kind(data), socket.inet_ntoa(data[16:20]), destination)
                heard.setdefault(int.from_bytes(data[4:8], "big"), reply)
                until = time.monotonic() + seconds

    def _answer_arp(self, frame: bytes) -> None:
        mac = self._held.get(frame[38:42])
        if mac is not None:
            arp = b"\0\1\x08\0\6\4\0\2" + mac + frame[38:42] + frame[22:32]
            self._socket.send(frame[6:12] + mac + b"\x08\x06" + arp)


def _kind(data: bytes) -> int:
    at = 240
    while at + 2 < len(data) and data[at] != 255:
        if data[at] == 53:
            return data[at + 2]
        at += 1 if data[at] == 0 else 2 + data[at + 1]
    return 0


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF
