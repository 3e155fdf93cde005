"""A UDP port that receives and sends batches of datagrams by one system call, with the address and interface of each.

Twisted's port reads one datagram a call, knows no packet info and cuts IPv6 scope ids. This one has the same protocol
classes; a protocol that provides IBatchReceiver gets its datagrams in lists, with the Via by which each of them
arrived.
"""

import errno
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

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
from bootfw.net.udp import mmsg
from bootfw.net.udp.packetinfo import IPV6, UNKNOWN_VIA, Cache
from bootfw.net.udp.portstates import Do, Input, PortStates, State
from bootfw.net.udp.sender import Counters, Sender
from bootfw.net.udp.sockets import family_of, open_socket, waited
from bootfw.values import Address, Via

# Datagrams read in one wake-up, so that timers and other ports get their turn.
_PER_WAKE_UP = 4 * mmsg.BATCH

# Polls for the answer of a client that is near, about 1.5 us each. Until the reactor has slept, has been woken and is
# back here, tens of microseconds pass, and for a single transfer they are most of the time that it takes.
_POLLS = 32
_POLLS_PER_WAKE_UP = 512  # under a millisecond, so that other ports get their turn
_POLLS_PER_ANSWER = 16  # the time that an answer takes, in polls
_LONGEST_PAUSE = 256  # wake-ups without polls

# Batches that are trimmed after a full one, even if they are not full: a flood does not fill each batch.
_TRIMS_AFTER_BACKLOG = 4096

_READING = State.READING

_ANCILLARY = 64  # bytes of room for control messages; packet info takes 40 at most

Arrival = tuple[bytes, Address, Via]
"""(data, source, how it arrived) of a datagram."""

TrimBacklog = Callable[[list[Arrival], float], list[Arrival]]
"""Called with datagrams and the seconds that they have been in the socket's buffer, at least. Returns those to deliver;
see Backlog."""


class FirstLook(Protocol):
    """A protocol may set this as ``first_look`` of its port, to answer datagrams before they are delivered: the fast
    path."""

    def __bool__(self) -> bool:
        """Return whether a datagram is expected soon, so that the port polls for it a little."""

    def first_look(self, inbox: mmsg.Inbox, count: int) -> Sequence[int]:
        """Answer those of the datagrams in slots 0 to *count* - 1 that the fast path can answer, and count them as
        received.

        :return: the slots of the others, which are to be delivered, in order.
        """


def listen(
    reactor: Any,
    protocol: Any,
    address: str,
    port: int,
    sock: socket.socket | None = None,
    buffers: mmsg.Buffers | None = None,
) -> Any:
    """Have *protocol* listen on a UDP port, on a DatagramPort where the reactor can drive one.

    :param reactor: an IReactorUDP. One without descriptors, such as an in-memory one, makes its own port.
    :param protocol: a DatagramProtocol, as for ``listenUDP``.
    :param address: numeric; "0.0.0.0" and "::" are every address of their family.
    :param sock: a bound socket of open_socket(), which the port takes over; None: the port opens one.
    :param buffers: shared with other ports, where there are many; None: the port has its own.
    :return: an IListeningPort.
    :raise CannotListenError: ``socketError`` says why.
    """
    if sys.platform != "linux" or not IReactorFDSet.providedBy(reactor):
        return reactor.listenUDP(port, protocol, interface=address, maxPacketSize=mmsg.LARGEST)
    listening = DatagramPort(reactor, protocol, address, port, sock, buffers)
    listening.startListening()
    return listening


def _no_descriptor() -> int:
    return -1


@implementer(IReadDescriptor, IListeningPort, IUDPTransport, ISystemHandle, IViaTransport)
class DatagramPort:
    """A UDP port of Linux. It can be started again when it has stopped.

    A datagram that can't be sent or received is counted, and nothing is raised: for the protocol it is lost, as on the
    wire. IPv6 sources are 4-tuples with their scope id, unlike those of Twisted's port.

    :param reactor: IReactorFDSet and IReactorTime.
    :param address: as for open_socket().
    :param sock, buffers: see listen().
    :param wall_time: the wall clock, by which the kernel stamps datagrams.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        protocol: Any,
        address: str,
        port: int,
        sock: socket.socket | None = None,
        buffers: mmsg.Buffers | None = None,
        wall_time: Callable[[], float] = time.time,
    ) -> None:
        self.counters = Counters()
        self.first_look: FirstLook | None = None
        """The protocol may set it when it starts; None again when the port closes."""
        self.trim_backlog: TrimBacklog | None = None
        """The same. Called in a backlog: when a read has filled its whole batch, and for a while after that."""
        self._reactor = reactor
        self.protocol = protocol
        self._address = address
        self._port = port
        self._given_socket = sock
        self._wall_time = wall_time
        self._buffers = mmsg.Buffers() if buffers is None else buffers
        has_prefix = ILoggingContext.providedBy(protocol)
        prefix = f"{protocol.logPrefix() if has_prefix else type(protocol).__name__} (UDP)"
        # The reactor calls these two at each wake-up, so they are bound methods of C code, without a Python frame.
        self.logPrefix: Callable[[], str] = prefix.__str__
        """For the reactor's log lines."""
        self.fileno: Callable[[], int] = _no_descriptor
        """The descriptor; -1 when closed."""
        self._states = PortStates()
        self._actions: dict[Do, Callable[[], None]] = {
            Do.READ: self._read,
            Do.CLOSE_SOON: self._close_soon,
            Do.ABANDON: self._close_socket,
            Do.CLOSE: self._close,
        }
        self._stopped: list[defer.Deferred[None]] = []
        """What stopListening() has returned, until the port is closed."""

    @property
    def protocol(self) -> Any:
        """It gets what is received. A reload may replace it while the port is open."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self._receive = protocol.datagrams_received if IBatchReceiver.providedBy(protocol) else self._receive_singly

    # Start and stop

    def startListening(self) -> None:
        """Bind, and connect the protocol.

        :raise CannotListenError: as open_socket().
        """
        # A given socket is closed with the port, so a second start has to open one.
        sock, self._given_socket = self._given_socket, None
        if sock is None:
            self._socket, self._family = open_socket(self._address, self._port)
        else:
            self._socket, self._family = sock, family_of(sock)
        name = self._socket.getsockname()
        if not name[1]:  # it waits for its interface
            name = self._address, self._port
        self._host = IPv6Address("UDP", *name) if self._family is IPV6 else IPv4Address("UDP", *name)
        self.fileno = self._socket.fileno
        self.sender = Sender(self._socket, self._family, self.counters, self._refused, self._buffers)
        self.write_via: Callable[..., None] = self.sender.send
        """See IViaTransport. During a delivery of several datagrams, what is sent leaves at its end, in order.

        It raises an InvalidAddressError if the peer isn't a numeric address of the port's family.
        """
        self._connected: Any = None
        self._inbox: mmsg.Inbox | None = None
        self._peers = Cache(self._family.read_address)
        self._vias = Cache(self._family.read_info)
        # Polling: the length of the latest pause, and what is left of it, in wake-ups.
        self._pause = self._pause_left = 0
        self._trims_left = 0
        # Before makeConnection(), in which the protocol may stop the port.
        self._handle(Input.BOUND)
        try:
            self._protocol.makeConnection(self)
        except BaseException:
            self._handle(Input.FAILED)
            raise
        self._handle(Input.CONNECTED)

    def stopListening(self) -> defer.Deferred[None]:
        """Read no more from now on, and close in the next turn of the reactor.

        :return: a Deferred that fires when the protocol knows and the socket is closed.
        """
        if self._states.state is State.CLOSED:
            return defer.succeed(None)
        stopped: defer.Deferred[None] = defer.Deferred()
        self._stopped.append(stopped)
        self._handle(Input.STOP)
        return stopped

    def connectionLost(self, reason: Any = None) -> None:
        """Close. Called in the turn after stopListening(), and by the reactor when it ends or sees an error on the
        socket."""
        # While STOPPING it is our own call of _close_soon(), which no error on the socket may prevent.
        if self._states.state is not _READING or not self._recovered():
            self._handle(Input.LOST)

    def _handle(self, event: Input) -> None:
        self._states.run(self._actions, event)

    def _read(self) -> None:
        self._reactor.addReader(self)

    def _close_soon(self) -> None:
        self._reactor.removeReader(self)
        # Twisted's ports call connectionLost() in a later turn, never during stopListening(). Protocols rely on it.
        self._reactor.callLater(0, self.connectionLost)

    def _close(self) -> None:
        try:
            self._protocol.doStop()  # while the socket is open: it may send something
        except Exception:
            self._log.failure("A protocol failed to stop.")
        self._close_socket()

    def _close_socket(self) -> None:
        self._socket.close()
        self._inbox = self.first_look = self.trim_backlog = None
        self._peers.clear()
        self._vias.clear()
        # Replaced first: a callback may start the port again and stop it once more.
        stopped, self._stopped = self._stopped, []
        for waiting in stopped:
            waiting.callback(None)

    def _recovered(self) -> bool:
        """Go on after an ICMP error, for which the reactor calls connectionLost(): a connected socket reports such
        errors.

        :return: false: there was none, so the port has to close.
        """
        # Reading SO_ERROR clears it (socket(7)). Without an error the reactor is stopping, or the descriptor is bad.
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed_to_receive(code)
            if self._states.state is _READING:
                self._read()
        return bool(code)

    # Receiving

    def doRead(self) -> None:
        """Deliver what has arrived, up to _PER_WAKE_UP datagrams."""
        receive = self._receive_many if mmsg.AVAILABLE else self._receive_one
        room, polls = _PER_WAKE_UP, _POLLS_PER_WAKE_UP
        states = self._states
        # A protocol may stop the port in a delivery.
        while room > 0 and polls > 0 and states.state is _READING:
            # Also after a batch with room left: often something has come meanwhile, and a turn of the reactor costs
            # more than a read that finds nothing.
            count = receive()
            if not count:
                if self.first_look is None:
                    return
                count, polls = self._poll(receive, polls)
                if not count:
                    return
            room -= count
            polls -= _POLLS_PER_ANSWER

    def _poll(self, receive: Callable[[], int], polls: int) -> tuple[int, int]:
        """Poll for the answer of a near client. After polls without one, the next wake-ups do not poll.

        :param polls: how many there may be.
        :return: how many datagrams have come, and how many polls are left.
        """
        if self._pause_left:
            self._pause_left -= 1
        elif self.first_look:
            for polls_left in range(polls, polls - _POLLS, -1):
                count = receive()
                if count:
                    self._pause = 0
                    return count, polls_left
            # Each pause is twice as long as the one before it, so that polling costs little where clients are far away.
            self._pause_left = self._pause = min(2 * self._pause + 1, _LONGEST_PAUSE)
        return 0, 0

    def _receive_one(self) -> int:
        try:
            room = self._buffers.room()
            length, ancillary, _, peer = self._socket.recvmsg_into(room, _ANCILLARY)
        except OSError as error:
            self._failed_to_receive(error.errno)
            return 0
        self.counters.received += 1
        self._deliver([(bytes(room[0][:length]), peer, self._vias[ancillary[0][2]] if ancillary else UNKNOWN_VIA)])
        return 1

    def _receive_many(self) -> int:
        if self._inbox is None:
            self._inbox = self._buffers.inbox(self._family.name_length, self._family.info_length)
        inbox = self._inbox
        try:
            count = inbox.take(self._socket.fileno())
        except OSError as error:
            self._failed_to_receive(error.errno)
            return 0
        if not count:
            return 0
        # Answers to several datagrams leave in one system call; the only answer to one need not be collected.
        if count > 1:
            self.sender.collect()
        try:
            # The fast path answers ACKs, which are never trimmed, so it comes first.
            unhandled = range(count) if self.first_look is None else self.first_look.first_look(inbox, count)
            if unhandled:
                batch = inbox.datagrams(unhandled, self._peers, self._vias, UNKNOWN_VIA)
                self.counters.received += len(batch)
                if count == mmsg.BATCH and self.trim_backlog is not None:
                    self._trims_left = _TRIMS_AFTER_BACKLOG
                    batch = self.trim_backlog(batch, waited(self._socket, self._wall_time()))
                elif self._trims_left and self.trim_backlog is not None:
                    self._trims_left -= 1
                    batch = self.trim_backlog(batch, 0.0)
                self._deliver(batch)
        finally:
            # Also if the fast path raises: otherwise the replies would stay in the outbox until the next batch.
            if count > 1:
                self.sender.release()
        return count

    def _deliver(self, batch: list[Arrival]) -> None:
        if not batch:
            return
        self.counters.batches += 1
        try:
            self._receive(batch)
        except Exception:
            self._log.failure("A protocol failed on what it received.")

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
        try:
            self._protocol.connectionRefused()
        except Exception:
            self._log.failure("A protocol failed in connectionRefused().")

    # Sending

    def write(self, packet: Any, addr: Any = None) -> None:
        """Send a datagram; the kernel chooses its source and interface. Without *addr* it goes to the connected
        peer."""
        self.sender.send(packet, self._connected if addr is None else addr, None)

    # The rest of Twisted's interfaces

    def connect(self, host: str, port: int) -> None:
        """Have the kernel deliver datagrams of this peer only; ``write(data)`` then sends to it."""
        self._connected = self.sender.destination((host, port)).address
        self._socket.connect(self._connected)

    def getHandle(self) -> socket.socket:
        """Return the socket, for its options."""
        return self._socket

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the address; with port 0, that with the port that the kernel chose."""
        return self._host

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """Allow or forbid to send broadcasts; they are allowed from the start."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, enabled)

    def getBroadcastAllowed(self) -> bool:
        """Return whether the kernel sends broadcasts."""
        return bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))
