"""Our own UDP port: batches in and out, arrival addresses, windows in one call.

Twisted's port reads one datagram a call, knows no packet info and cuts IPv6 scope ids. This one drives the same protocol
classes. A DatagramProtocol that provides IBatchReceiver gets its datagrams in lists, and may answer by IViaTransport.
"""

import errno
import fcntl
import socket
import struct
import sys
import termios
from typing import Any

from attrs import define
from twisted.internet import defer
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IListeningPort,
    ILoggingContext,
    IReactorFDSet,
    IReadDescriptor,
    ISystemHandle,
    IUDPTransport,
)
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.interfaces import IBatchReceiver, IViaTransport
from bootfw.net import mmsg
from bootfw.net.packetinfo import IPV6, NOWHERE, Cache, Destination, control_message
from bootfw.net.udpsocket import open_socket
from bootfw.values import Address, Via

# Datagrams read in one wake-up, so that timers and other ports get their turn.
_PER_WAKE_UP = 4 * mmsg.BATCH

# UDP_SEGMENT (udp(7)): 64 segments and what fits an IPv4 packet. Newer kernels take more segments.
_UDP_SEGMENT = 103
_SEGMENTS = 64
_LARGEST_RUN = 65507

_UNSIGNED_SHORT = struct.Struct("@H")
_ANCILLARY = 64  # octets of room for control messages; packet info takes 40 at most

Arrival = tuple[bytes, Address, Via]
Ancillary = list[tuple[int, int, bytes]]
"""Control messages as socket.sendmsg() takes them."""
Controls = tuple[Ancillary, bytes]
"""The same, and packed as an Outbox takes them."""

_NOTHING: Controls = ([], b"")


@define
class Counters:
    """What has gone through a port since it was made, in datagrams unless said otherwise."""

    received: int = 0
    batches: int = 0
    """Deliveries to the protocol."""
    sent: int = 0
    send_errors: int = 0
    """Datagrams that the kernel did not take: lost, as if on the wire."""
    receive_errors: int = 0
    """Errors that the socket reported instead of a datagram."""


def listen(reactor: Any, protocol: Any, address: str, port: int) -> Any:
    """Have *protocol* listen on a UDP port, on a DatagramPort where the reactor can drive one.

    :param reactor: an IReactorUDP. One without descriptors, such as an in-memory one, makes its own port.
    :param protocol: a DatagramProtocol, as for ``listenUDP``.
    :param address: numeric, "0.0.0.0" and "::" for every address of that family.
    :return: an IListeningPort.
    :raise CannotListenError: ``socketError`` says why.
    """
    if sys.platform != "linux" or not IReactorFDSet.providedBy(reactor):
        return reactor.listenUDP(port, protocol, interface=address, maxPacketSize=mmsg.LARGEST)
    listening = DatagramPort(reactor, protocol, address, port)
    listening.startListening()
    return listening


@implementer(IReadDescriptor, IListeningPort, IUDPTransport, ISystemHandle, IViaTransport)
class DatagramPort:
    """A UDP port of Linux. It can be started again when it has stopped.

    What can't be sent or received is counted, never raised: to the protocol it is a lost datagram. IPv6 sources are
    4-tuples with their scope id, unlike those of Twisted's port.
    """

    _log = Logger()

    def __init__(self, reactor: Any, protocol: Any, address: str, port: int) -> None:
        self.counters = Counters()
        self._reactor = reactor
        self._protocol = protocol
        self._address = address
        self._port = port
        self._receive = protocol.datagrams_received if IBatchReceiver.providedBy(protocol) else self._receive_singly
        self._open = False
        self._reading = False
        self._stopped: list[defer.Deferred[None]] = []

    # Its life

    def startListening(self) -> None:
        """Bind, and tell the protocol.

        :raise CannotListenError: as open_socket().
        """
        sock, family = open_socket(self._address, self._port)
        self._socket, self._family = sock, family
        self._host = (IPv6Address if family is IPV6 else IPv4Address)("UDP", *sock.getsockname())
        self._connected: Address | None = None
        self._segmentation = _has_segmentation(sock)
        self._inbox: mmsg.Inbox | None = None
        self._outbox: mmsg.Outbox | None = None
        self._collecting = False
        self._pending = bytearray(4)
        self._peers = Cache(family.read_address)
        self._vias = Cache(family.read_info)
        self._destinations = Cache(family.destination)
        self._sources = Cache(self._from_source)
        self._wires = Cache(self._from_wire)
        self._open = self._reading = True
        self._protocol.makeConnection(self)
        if self._reading:
            self._reactor.addReader(self)

    def stopListening(self) -> defer.Deferred[None]:
        """Read no more from now on, and close in the next turn of the reactor.

        :return: a Deferred that fires when the socket is closed and the protocol knows.
        """
        if not self._open:
            return defer.succeed(None)
        stopped: defer.Deferred[None] = defer.Deferred()
        self._stopped.append(stopped)
        if self._reading:
            self._reading = False
            self._reactor.removeReader(self)
            self._reactor.callLater(0, self.connectionLost)
        return stopped

    def connectionLost(self, reason: Any = None) -> None:
        """Close. Called by stopListening(), and by the reactor when it ends or sees an error on the socket."""
        if not self._open or (self._reading and self._recovered()):
            return
        self._open = self._reading = False
        self._socket.close()
        self._inbox = self._outbox = None
        for cache in (self._peers, self._vias, self._destinations, self._sources, self._wires):
            cache.clear()
        try:
            self._protocol.doStop()
        except Exception:
            self._log.failure("A protocol failed to stop.")
        stopped, self._stopped = self._stopped, []
        for waiting in stopped:
            waiting.callback(None)

    def _recovered(self) -> bool:
        """Whether the reactor gave the port up for an ICMP error, of which a connected socket tells; then go on."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed_to_receive(code)
            if self._reading:
                self._reactor.addReader(self)
        return bool(code)

    # Receiving

    def doRead(self) -> None:
        """Deliver what has arrived, up to a number that is fair to others."""
        room = _PER_WAKE_UP
        # A datagram alone, which is the rule with one lock-step transfer, costs least by the plain call.
        batch = self._receive_one()
        while batch:
            self._deliver(batch)
            room -= len(batch)
            if room <= 0 or not self._reading or not self._has_more():
                return
            batch = self._receive_many() if mmsg.AVAILABLE else self._receive_one()

    def _receive_one(self) -> list[Arrival]:
        try:
            data, ancillary, _, peer = self._socket.recvmsg(mmsg.LARGEST, _ANCILLARY)
        except OSError as error:
            self._failed_to_receive(error.errno)
            return []
        return [(data, peer, self._vias[ancillary[0][2]] if ancillary else NOWHERE)]

    def _receive_many(self) -> list[Arrival]:
        if self._inbox is None:
            self._inbox = mmsg.Inbox(self._family.info_length)
        try:
            return self._inbox.receive(self._socket.fileno(), self._peers, self._vias, NOWHERE)
        except OSError as error:
            self._failed_to_receive(error.errno)
            return []

    def _has_more(self) -> bool:
        fcntl.ioctl(self._socket, termios.FIONREAD, self._pending)
        return any(self._pending)

    def _deliver(self, batch: list[Arrival]) -> None:
        self.counters.received += len(batch)
        self.counters.batches += 1
        self._collecting = mmsg.AVAILABLE and len(batch) > 1
        try:
            self._receive(batch)
        except Exception:
            self._log.failure("A protocol failed on datagrams that it received.")
        finally:
            if self._collecting:
                self._collecting = False
                self._flush()

    def _receive_singly(self, batch: list[Arrival]) -> None:
        for data, peer, _ in batch:
            try:
                self._protocol.datagramReceived(data, peer)
            except Exception:
                self._log.failure("A protocol failed on a datagram from {peer}.", peer=peer)

    def _failed_to_receive(self, code: int | None) -> None:
        if code in (errno.EAGAIN, errno.EINTR):
            return
        self.counters.receive_errors += 1
        if code == errno.ECONNREFUSED:
            self._refused()

    def _refused(self) -> None:
        if self._connected is None:
            return
        try:
            self._protocol.connectionRefused()
        except Exception:
            self._log.failure("A protocol failed to take that its peer has gone.")

    # Sending

    def write(self, packet: Any, addr: Any = None) -> None:
        """Send a datagram; the kernel chooses where it leaves. Without *addr* it goes to the connected peer."""
        self.write_via(packet, self._connected if addr is None else addr, None)

    def write_via(self, data: Any, peer: Any, via: Via | None, segment: int = 0) -> None:
        """See IViaTransport. In a delivery of several datagrams, what is sent leaves at its end, in order.

        :raise InvalidAddressError: *peer* isn't a numeric address of the port's family.
        """
        destination = self._destinations[peer]
        if via is None:
            ancillary, control = _NOTHING
        else:
            ancillary, control = (self._wires if destination.needs_interface else self._sources)[via]
        if 0 < segment < len(data):
            self._send_run(memoryview(data), destination, ancillary, control, segment)
        elif self._collecting:
            self._collect(data, destination, ancillary, control)
        else:
            self._send(data, destination, ancillary)

    def _send(self, data: Any, destination: Destination, ancillary: Ancillary) -> bool:
        try:
            if ancillary:
                self._socket.sendmsg([data], ancillary, 0, destination.address)
            else:
                self._socket.sendto(data, destination.address)
        except OSError as error:
            self._lost(error.errno)
            return False
        self.counters.sent += 1
        return True

    def _collect(self, data: Any, destination: Destination, ancillary: Ancillary, control: bytes) -> None:
        if len(data) > mmsg.SLOT:
            self._flush()
            self._send(data, destination, ancillary)
            return
        if self._outbox is None:
            self._outbox = mmsg.Outbox()
        if self._outbox.add(data, destination.raw, control):
            self._flush()

    def _flush(self) -> None:
        if self._outbox is not None:
            sent, errors = self._outbox.flush(self._socket.fileno())
            self.counters.sent += sent
            for code in errors:
                self._lost(code)

    def _lost(self, code: int | None, count: int = 1) -> None:
        self.counters.send_errors += count
        if code == errno.ECONNREFUSED:
            self._refused()

    def _send_run(
        self, data: memoryview, destination: Destination, ancillary: Ancillary, control: bytes, segment: int
    ) -> None:
        """A run of datagrams: by UDP_SEGMENT where kernel and path take it, else as many datagrams."""
        if self._collecting:
            self._flush()
        at_once = segment * max(1, min(_SEGMENTS, _LARGEST_RUN // segment))
        for start in range(0, len(data), at_once):
            run = data[start : start + at_once]
            if not self._segmentation or len(run) <= segment:
                self._send_each(run, destination, ancillary, control, segment)
                continue
            count = -(-len(run) // segment)
            try:
                segmented = [*ancillary, (socket.IPPROTO_UDP, _UDP_SEGMENT, _UNSIGNED_SHORT.pack(segment))]
                self._socket.sendmsg([run], segmented, 0, destination.address)
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.EINVAL, errno.EIO):
                    self._lost(error.errno, count)
                    continue
                lost_before = self.counters.send_errors
                self._send_each(run, destination, ancillary, control, segment)
                # EMSGSIZE: more than this path's MTU. EIO and EINVAL are the device's and the kernel's way to say that
                # they can't, if the same datagrams do pass one by one: then there is no use in asking again.
                if error.errno != errno.EMSGSIZE and self.counters.send_errors == lost_before:
                    self._segmentation = False
            else:
                self.counters.sent += count

    def _send_each(
        self, data: memoryview, destination: Destination, ancillary: Ancillary, control: bytes, segment: int
    ) -> None:
        for start in range(0, len(data), segment):
            piece = data[start : start + segment]
            if mmsg.AVAILABLE:
                self._collect(piece, destination, ancillary, control)
            else:
                self._send(piece, destination, ancillary)
        self._flush()

    def _from_source(self, via: Via) -> Controls:
        """Leave from the address that was asked, by the route to the peer."""
        # Not on the interface that was asked: that would break asymmetric routing.
        if via.local == self._host.host:
            return _NOTHING
        return self._controls(self._family.info(via, False))

    def _from_wire(self, via: Via) -> Controls:
        """Leave from the address and on the interface that was asked."""
        return self._controls(self._family.info(via, True))

    def _controls(self, info: bytes) -> Controls:
        if not info:
            return _NOTHING
        level, type = self._family.level, self._family.type
        return [(level, type, info)], control_message(level, type, info)

    # What Twisted asks a port

    def connect(self, host: str, port: int) -> None:
        """Have the kernel take datagrams from this peer only; ``write(data)`` then goes there."""
        destination = self._destinations[host, port]
        self._socket.connect(destination.address)
        self._connected = destination.address

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""
        return self._socket.fileno() if self._open else -1

    def getHandle(self) -> socket.socket:
        """The socket, for options."""
        return self._socket

    def getHost(self) -> IPv4Address | IPv6Address:
        """Where it listens; with port 0, the port that the kernel chose."""
        return self._host

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """Broadcasts are allowed from the start."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, enabled)

    def getBroadcastAllowed(self) -> bool:
        """Whether the kernel sends what goes to a broadcast address."""
        return bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))

    def logPrefix(self) -> str:
        """For the reactor's log lines."""
        named = ILoggingContext.providedBy(self._protocol)
        return f"{self._protocol.logPrefix() if named else type(self._protocol).__name__} (UDP)"


def _has_segmentation(sock: socket.socket) -> bool:
    """Whether the kernel knows UDP_SEGMENT. One that doesn't (before 4.18) ignores it and sends a single datagram."""
    try:
        sock.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True
