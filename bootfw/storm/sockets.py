"""The sockets of the simulator: raw frames for DHCP, UDP for TFTP, TCP for HTTP.

Every machine has an address of its own, which becomes a local one of this network namespace when the machine gets it.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from attrs import define, field

from bootfw.errors import BootfwError
from bootfw.net.linux.netlink import NETLINK_ROUTE, NetlinkSocket
from bootfw.net.udp.mmsg import Buffers, Inbox, Outbox
from bootfw.net.udp.packetinfo import IPV4, UNKNOWN_VIA, Cache, control_message
from bootfw.storm import frames
from bootfw.storm.frames import UDPFrame
from bootfw.storm.machine import PORTS
from bootfw.values import Via

_ETH_P_IP, _PACKET_OUTGOING = 0x0800, 4
_SO_ATTACH_FILTER, _SOL_PACKET, _PACKET_STATISTICS, _IP_PKTINFO = 26, 263, 6, 8
_IP_BIND_ADDRESS_NO_PORT = 24
_RECEIVE_BUFFER = 8 << 20
"""Bytes of the receive buffer, for packets that arrive while the driver is busy."""

# A classic BPF program that takes UDP in IPv4 to port 68 or 4011 (tcpdump's "udp dst port 68 or 4011" for IPv4).
_FILTER = [
    (0x28, 0, 0, 12),
    (0x15, 0, 7, _ETH_P_IP),
    (0x30, 0, 0, 23),
    (0x15, 0, 5, 17),
    (0xB1, 0, 0, 14),
    (0x48, 0, 0, 16),
    (0x15, 1, 0, 68),
    (0x15, 0, 1, 4011),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
]

_RTM_NEWROUTE, _CREATE, _ACK = 24, 0x400, 0x4
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_LOCAL_TABLE, _STATIC, _HOST_SCOPE, _LOCAL = 255, 4, 254, 2


class StormError(BootfwError):
    """A storm can't begin, or may not send packets to a server."""


class LocalAddresses:
    """Makes addresses local to this network namespace, as ``ip route add local ADDRESS dev lo`` does."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(NETLINK_ROUTE)
        self._loopback = socket.if_nametoindex("lo")
        self._known: set[str] = set()

    def add(self, address: str) -> None:
        """Make *address* local; nothing to do for loopback addresses.

        :raise OSError: the process needs CAP_NET_ADMIN.
        """
        if address in self._known or address.startswith("127."):
            return
        self._known.add(address)
        body = _ROUTE.pack(socket.AF_INET, 32, 0, 0, _LOCAL_TABLE, _STATIC, _HOST_SCOPE, _LOCAL, 0)
        body += struct.pack("=HH4s", 8, 1, socket.inet_aton(address)) + struct.pack("=HHI", 8, 4, self._loopback)
        self._netlink.request(_RTM_NEWROUTE, body, _CREATE | _ACK)

    def close(self) -> None:
        """Close the socket. The addresses stay until the namespace goes."""
        self._netlink.close()


class FrameSocket:
    """Sends and receives the DHCP messages of every machine, each from its own MAC.

    :param interface: its name.
    :raise OSError: there is no such interface, or this process may not (CAP_NET_RAW).
    """

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        program = b"".join(struct.pack("HBBI", *each) for each in _FILTER)
        memory = ctypes.create_string_buffer(program)
        header = struct.pack("HL", len(_FILTER), ctypes.addressof(memory))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.bind((interface, _ETH_P_IP))
        self._socket.setblocking(False)
        self._servers: dict[str, bytes] = {}
        """Address -> MAC, of servers that have sent something."""
        self.fileno = self._socket.fileno
        self.close = self._socket.close

    def broadcast(self, mac: bytes, data: bytes) -> None:
        """Send a DHCP message of a machine without address."""
        self._send(UDPFrame(frames.BROADCAST, mac, "0.0.0.0", 68, "255.255.255.255", 67, data))

    def send(self, mac: bytes, source: tuple[str, int], server: tuple[str, int], data: bytes) -> None:
        """Send a DHCP message to one server."""
        self._send(UDPFrame(self._servers.get(server[0], frames.BROADCAST), mac, *source, *server, data))

    def _send(self, frame: UDPFrame) -> None:
        try:
            self._socket.send(frames.pack(frame))
        except BlockingIOError:
            return  # the frame is lost, as in a full queue
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise

    def receive(self) -> Iterator[UDPFrame]:
        """Yield the frames that have arrived, 64 at most, so that timers are not delayed for long."""
        for _ in range(64):
            try:
                raw, address = self._socket.recvfrom(65535)
            except BlockingIOError:
                return
            frame = frames.parse(raw) if address[2] != _PACKET_OUTGOING else None
            if frame is not None:
                self._servers[frame.from_address] = frame.source
                yield frame

    def dropped(self) -> int:
        """Return the number of frames that the kernel has dropped since the last call, since the buffer was full."""
        return int(struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1])


class DatagramSocket:
    """A UDP port that all machines share, each with its own address: (address, peer, data) in and out, in batches."""

    def __init__(self, buffers: Buffers) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.bind(("0.0.0.0", 0))
        self._socket.setblocking(False)
        self._inbox: Inbox = buffers.inbox(IPV4.name_length, IPV4.info_length)
        self._outbox = Outbox(IPV4.name_length, buffers)
        self._peers = Cache(IPV4.read_address)
        self._locals: Cache[bytes, str] = Cache(lambda raw: IPV4.read_info(raw).destination)
        self._names: Cache[tuple[str, int], bytes] = Cache(lambda peer: IPV4.destination(peer).raw)
        self._controls: Cache[str, bytes] = Cache(
            lambda address: control_message(IPV4.level, IPV4.type, IPV4.info(Via(address, 0, ""), False))
        )
        self.fileno = self._socket.fileno
        self.close = self._socket.close

    def receive(self) -> Iterator[tuple[str, tuple[str, int], bytes]]:
        """Yield (address of the machine, sender, data) of each datagram in the next batch."""
        count = self._inbox.take(self._socket.fileno())
        unknown = UNKNOWN_VIA.destination
        for data, peer, local in self._inbox.datagrams(range(count), self._peers, self._locals, unknown):
            yield local, (str(peer[0]), int(peer[1])), data

    def send(self, address: str, peer: tuple[str, int], data: bytes) -> None:
        """Queue a datagram from *address*. flush() sends the queue, and so does this when the queue is full."""
        if self._outbox.add(data, self._names[peer], self._controls[address]):
            self.flush()

    def flush(self) -> None:
        """Send the queue."""
        self._outbox.flush(self._socket.fileno())

    def dropped(self) -> int:
        """Return the number of datagrams that the kernel has dropped, since the buffer was full (proc(5),
        /proc/net/udp)."""
        inode = str(os.fstat(self._socket.fileno()).st_ino)
        for line in Path("/proc/self/net/udp").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[9] == inode:
                return int(columns[12])
        return 0


def open_ports() -> list[DatagramSocket]:
    """Return the PORTS sockets that all machines of a process send read requests from."""
    buffers = Buffers()
    return [DatagramSocket(buffers) for _ in range(PORTS)]


_BUFFER = bytearray(1 << 18)


@define(eq=False)
class Connection:
    """One HTTP request, on a connection of its own.

    :param address: the machine's.
    :param progress: called with the bytes of body so far.
    :param ended: called once, with (status, bytes of body), or with the reason of a failure.
    """

    address: str
    method: str
    url: str
    user_agent: str
    progress: Callable[[int], None]
    ended: Callable[[tuple[int, int] | str], None]
    check: Callable[[str], None]
    """Called with the server's address before anything is sent to it; raises if that is not allowed."""
    sock: socket.socket = field(
        factory=lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    )
    sent: bool = field(default=False, init=False)
    """The request has left."""
    _request: bytes = field(default=b"", init=False)
    _head: bytearray = field(factory=bytearray, init=False)
    _status: int = field(default=0, init=False)
    _length: int | None = field(default=None, init=False)
    _received: int = field(default=0, init=False)

    def open(self) -> None:
        """Begin to connect."""
        parts = urlsplit(self.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        agent = f"User-Agent: {self.user_agent}\r\n" if self.user_agent else ""
        request = f"{self.method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{agent}Connection: close\r\n\r\n"
        self._request = request.encode()
        self.check(parts.hostname or "")
        try:
            self.sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            self.sock.bind((self.address, 0))
            code = self.sock.connect_ex((parts.hostname or "", parts.port or 80))
        except OSError as error:
            self._end(f"the connection failed: {error}")
            return
        if code not in (0, errno.EINPROGRESS):
            self._end(f"the connection failed: {os.strerror(code)}")

    def write(self) -> bool:
        """Send the request, when the connection is established or has failed. Return False if it has failed."""
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._end(f"the connection failed: {os.strerror(code)}")
            return False
        self.sock.send(self._request)
        self.sent = True
        return True

    def read(self) -> None:
        """Read the part of the response that has arrived."""
        try:
            count = self.sock.recv_into(_BUFFER)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(f"the connection broke: {error.strerror}")
            return
        if not count:
            self._end("the connection ended early")
            return
        if self._length is None:
            self._head += _BUFFER[:count]
            end = self._head.find(b"\r\n\r\n")
            if end < 0 or not self._read_head(bytes(self._head[:end]).decode("latin-1")):
                return
            count = len(self._head) - end - 4
            self._head.clear()
        self._received += count
        if self._length is not None and self._received >= self._length:
            self._end((self._status, self._received))
        else:
            self.progress(self._received)

    def _read_head(self, head: str) -> bool:
        status, *lines = head.split("\r\n")
        try:
            self._status = int(status.split(" ")[1])
            fields = dict(line.lower().split(":", 1) for line in lines)
            self._length = 0 if self.method == "HEAD" else int(fields["content-length"])
        except (IndexError, ValueError, KeyError):
            self._end("the response has no status or length")
            return False
        return True

    def close(self) -> None:
        """Close the connection; neither *progress* nor *ended* is called any more."""
        self.sock.close()

    def _end(self, result: tuple[int, int] | str) -> None:
        self.sock.close()
        self.ended(result)
