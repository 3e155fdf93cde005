"""DHCP clients that send raw Ethernet frames with any content."""

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
class Datagram:
    """A UDP datagram to a DHCP server, and the Ethernet frame around it."""

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
class Reply:
    """A reply of a server."""

    message_type: int
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
    """Many DHCP clients on one host. They answer ARP for the addresses that they have configured."""

    _socket: socket.socket
    _server: bytes
    """Hardware address."""
    _addresses: dict[bytes, bytes] = field(factory=dict)

    @classmethod
    def on_host(cls, host: Host, server: bytes) -> "RawClients":
        return cls(host.packet_socket(), server)

    def add_address(self, address: str, mac: bytes) -> None:
        """Answer ARP requests for *address* with *mac*, as a client does that has configured it."""
        self._addresses[socket.inet_aton(address)] = mac

    def exchange(self, datagrams: Iterable[Datagram]) -> dict[int, Reply]:
        """Send all datagrams, one after the other; return the first reply to each transaction id."""
        replies: dict[int, Reply] = {}
        for datagram in datagrams:
            self._socket.send(datagram.frame(self._server))
            self._receive(replies, 0.005)
        self._receive(replies, _QUIET_SECONDS)
        return replies

    def close(self) -> None:
        self._socket.close()

    def _receive(self, replies: dict[int, Reply], seconds: float) -> None:
        """Collect replies until nothing has come for *seconds*."""
        deadline = time.monotonic() + seconds
        while select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            frame, sender = self._socket.recvfrom(65535)
            if sender[2] == socket.PACKET_OUTGOING:
                continue
            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1":
                self._answer_arp(frame)
            elif frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[34:36] == b"\0\x43" and frame[42] == 2:
                data = frame[42:]
                destination = socket.inet_ntoa(frame[30:34])
                reply = Reply(_message_type(data), socket.inet_ntoa(data[16:20]), destination)
                replies.setdefault(int.from_bytes(data[4:8], "big"), reply)
                deadline = time.monotonic() + seconds

    def _answer_arp(self, frame: bytes) -> None:
        mac = self._addresses.get(frame[38:42])
        if mac is not None:
            arp = b"\0\1\x08\0\6\4\0\2" + mac + frame[38:42] + frame[22:32]
            self._socket.send(frame[6:12] + mac + b"\x08\x06" + arp)


def _message_type(data: bytes) -> int:
    position = 240
    while position + 2 < len(data) and data[position] != 255:
        if data[position] == 53:
            return data[position + 2]
        position += 1 if data[position] == 0 else 2 + data[position + 1]
    return 0


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF
