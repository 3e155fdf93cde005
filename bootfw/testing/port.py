"""UDP ports of a MemoryHost."""

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import address, error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IUDPTransport
from zope.interface import implementer

from bootfw.interfaces import IBatchReceiver, IViaTransport
from bootfw.net.udp.mmsg import BATCH
from bootfw.values import Address, Via

if TYPE_CHECKING:
    from bootfw.net.udp.port import TrimBacklog
    from bootfw.testing.network import MemoryHost

BROADCAST = "255.255.255.255"
_LARGEST = 65507  # bytes of UDP payload in IPv4


def is_ipv6(host: str) -> bool:
    """Return whether the address *host* is an IPv6 address."""
    return ":" in host


@implementer(IListeningPort, IUDPTransport)
class MemoryPort:
    """The port that ``MemoryHost.listenUDP`` returns. Like Twisted's, it has IPv6 peers as (host, port), and does not
    report how a datagram arrived.

    Unlike with Twisted's, exceptions of the protocol are not logged: ``MemoryNetwork.advance()`` raises them.
    """

    def __init__(self, host: "MemoryHost", port: int, protocol: Any, interface: str, max_packet_size: int) -> None:
        self.host = host
        self.port = port
        self.interface = interface
        self.protocol = protocol
        self.ipv6 = is_ipv6(interface)
        self.max_packet_size = max_packet_size
        self.connected_to: tuple[str, int] | None = None
        self._broadcast = False
        self._reading = True
        self._open = True
        self._inbox: list[tuple[bytes, Address, Via]] = []
        self._arrived: list[float] = []
        """When each of ``_inbox`` arrived."""

    @property
    def wildcard(self) -> bool:
        """Bound to every address of its family."""
        return self.interface in ("", "0.0.0.0", "::")

    # IListeningPort, which Twisted's ports are too

    def startListening(self) -> None:
        """See IListeningPort."""
        self.protocol.makeConnection(self)

    def stopListening(self) -> "Deferred[None] | None":
        """See IListeningPort. As in Twisted it happens in the next turn, ``advance(0)``; writing works until then."""
        if not self._reading:
            return None
        self._reading = False
        stopped: Deferred[None] = Deferred()
        self.host.callLater(0, self._stopped, stopped)
        return stopped

    def _stopped(self, stopped: "Deferred[None]") -> None:
        self._open = False
        self.host.forget(self)
        self.protocol.doStop()
        stopped.callback(None)

    def getHost(self) -> "address.IPv4Address | address.IPv6Address":
        """See IListeningPort."""
        if self.ipv6:
            return address.IPv6Address("UDP", self.interface, self.port)
        return address.IPv4Address("UDP", self.interface or "0.0.0.0", self.port)

    # IUDPTransport

    def write(self, packet: bytes, addr: Any = None) -> None:
        """See IUDPTransport; raises where Twisted's port does."""
        if not self._open:
            raise AttributeError("the port is closed")  # Twisted's has no socket any more
        destination = self.connected_to or addr
        assert destination is not None
        assert addr in (None, destination)
        peer = ("255.255.255.255" if destination[0] == "<broadcast>" else destination[0], destination[1])
        if is_ipv6(peer[0]) != self.ipv6:
            raise error.InvalidAddressError(peer[0], "the address is not of the port's family")
        if len(packet) > _LARGEST:
            raise error.MessageLengthError("message too long")
        if peer[0] == BROADCAST and not self._broadcast:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self.host.transmit(bytes(packet), (self._source(peer[0]), self.port), peer)

    def writeSequence(self, iovec: Any, addr: Any = None) -> None:
        """See IUDPTransport of old."""
        self.write(b"".join(iovec), addr)

    def connect(self, host: str, port: int) -> None:
        """See IUDPTransport: from now on, datagrams from other peers are dropped."""
        if self.connected_to:
            raise RuntimeError("already connected, reconnecting is not currently supported")
        self.connected_to = (host, port)

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """See IUDPTransport."""
        self._broadcast = enabled

    def getBroadcastAllowed(self) -> bool:
        """See IUDPTransport."""
        return self._broadcast

    def _source(self, destination: str) -> str:
        return self.host.source(destination) if self.wildcard else self.interface

    # Towards the protocol

    def arrive(self, data: bytes, source: tuple[str, int], via: Via) -> None:
        """Take a datagram into the socket's buffer. Datagrams that arrive at the same time are read in one turn."""
        if self.connected_to not in (None, source):
            return
        if not self._inbox:
            self.host.network.turn(self._read, delay=max(0.0, self.host.busy_until - self.host.seconds()))
        self._arrived.append(self.host.seconds())
        self._inbox.append((data[: self.max_packet_size], self._peer(source), via))

    def _peer(self, source: tuple[str, int]) -> Address:
        return source

    def _read(self) -> None:
        inbox, self._inbox = self._inbox, []
        arrived, self._arrived = self._arrived, []
        if self._reading:
            self._received(inbox, arrived)

    def _received(self, inbox: list[tuple[bytes, Address, Via]], arrived: list[float]) -> None:
        for data, peer, _ in inbox:
            if self._reading:
                self.protocol.datagramReceived(data, peer)


@implementer(IViaTransport)
class RichMemoryPort(MemoryPort):
    """A port like bootfw's own datagram port: batches, arrival addresses, IPv6 peers with their scope, and a choice of
    the source address.
    """

    trim_backlog: "TrimBacklog | None" = None
    """See DatagramPort."""

    def write_via(self, data: Any, peer: Any, via: Via | None, segment: int = 0) -> None:
        """See IViaTransport."""
        source = via.local if via is not None and via.local else self._source(peer[0])
        size = segment or max(len(data), 1)
        for start in range(0, max(len(data), 1), size):
            packet = bytes(data[start : start + size])
            if self._open and len(packet) <= _LARGEST and self.host.owns(source):
                self.host.transmit(packet, (source, self.port), (peer[0], peer[1]))
            else:
                self.host.network.lost += 1

    def _peer(self, source: tuple[str, int]) -> Address:
        if not self.ipv6:
            return source
        # The kernel gives the scope of link-local addresses only.
        link_local = (socket.inet_pton(socket.AF_INET6, source[0])[:2]) == b"\xfe\x80"
        return (*source, 0, self.host.interface if link_local else 0)

    def _received(self, inbox: list[tuple[bytes, Address, Via]], arrived: list[float]) -> None:
        kept, now = [], self.host.seconds()
        for start in range(0, len(inbox), BATCH):
            batch = inbox[start : start + BATCH]
            if len(batch) == BATCH and self.trim_backlog is not None:
                batch = self.trim_backlog(batch, now - arrived[start + BATCH - 1])
            kept += batch
        if kept and IBatchReceiver.providedBy(self.protocol):
            self.protocol.datagrams_received(kept)
        else:
            super()._received(kept, arrived)
