"""Address conflict detection: probes an address before it is offered to a client (RFC 2131 section 3.1).

ArpProbe probes on our own links, where no firewall drops the probe; IcmpProbe pings through routers.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from attrs import define
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.net.alarm import Alarm
from bootfw.net.dhcp.proxyarp import ProxyARP
from bootfw.net.linux.netlink import Netlink

Done = Callable[[str | None], None]
"""Called with the MAC address of the host that uses the address, with "" when a host uses it whose MAC address is not
known, or with None when no host has replied within the timeout."""

_BATCH = 256
"""Datagrams read at a time: as many as there are probes that a turn of the reactor can start."""

_SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("@HBBI")

_ETH_P_ARP = 0x0806
_ARPHRD_ETHER = 1
_ETHERNET_BROADCAST = b"\xff" * 6
_ETHERNET_ADDRESS_SIZE = 6
_ARP_REQUEST, _ARP_REPLY = 1, 2
_ARP = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826 for Ethernet and IPv4
_ARP_HEADER = (1, 0x0800, 6, 4)

# Replies only (the operation is at byte 6): otherwise every ARP broadcast of a large network would wake us.
_ARP_FILTER = ((0x28, 0, 0, 6), (0x15, 0, 1, _ARP_REPLY), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0))

_ECHO = 8
_COOKIE_SIZE = 16
_ICMP_HEADER = struct.Struct("!BBHHH")  # RFC 792: type, code, checksum, identifier, sequence number


@define(eq=False)
class _Probe:
    """A probe that waits for its reply."""

    address: str
    interface: str
    client: bytes | None
    done: Done
    deadline: float


@implementer(IReadDescriptor)
class PendingProbes:
    """The pending probes of an ArpProbe or IcmpProbe, with the socket for replies and one timer for all timeouts.

    :param reactor: IReactorFDSet and IReactorTime.
    :param timeout: seconds to wait for a reply.
    :param sock: a non-blocking socket; it is closed with this.
    :param received: called with each datagram and its sender, as recvfrom() returns them.
    :param kind: name of the probe in the log.
    """

    _log = Logger(namespace="bootfw")

    def __init__(
        self, reactor: Any, timeout: float, sock: socket.socket, received: Callable[[bytes, Any], None], kind: str
    ) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._socket = sock
        self._received = received
        self._kind = kind
        self._pending: dict[tuple[str, str], _Probe] = {}
        """(address, interface) -> its probe; the interface is "" for a ping."""
        self._alarm: Alarm[_Probe] = Alarm(reactor, self._timed_out)
        self._read_at = 0.0
        """When the socket was read last, in seconds of the clock."""
        reactor.addReader(self)

    def start(
        self, address: str, send: Callable[[], object], done: Done, *, interface: str = "", client: bytes | None = None
    ) -> None:
        """Probe *address*.

        :param send: sends the probe. If it raises OSError, *done* is called in the next turn with None.
        :param done: called once, never before this returns; not at all after close().
        :param interface: replies on other interfaces are ignored.
        :param client: replies of this MAC address are ignored: it is the client that gets the address.
        """
        timeout = self._timeout
        try:
            send()
        except OSError as error:
            # *done* must not be called before this returns, so the timer calls it.
            timeout = 0.0
            self._log.debug("{address}: no {kind}: {error}", address=address, kind=self._kind, error=error)
        probe = _Probe(address, interface, client, done, self._reactor.seconds() + timeout)
        self._pending[address, interface] = probe
        self._alarm.watch(probe)

    def is_pending(self, address: str, interface: str = "", sender: bytes = b"") -> bool:
        """Return whether a probe of *address* waits for a reply by *sender*."""
        probe = self._pending.get((address, interface))
        return probe is not None and sender != probe.client

    def replied(self, address: str, interface: str = "", sender: bytes = b"") -> None:
        """End the probe of *address*: a host uses it.

        :param sender: MAC address of the host; b"": unknown.
        """
        if not self.is_pending(address, interface, sender):
            return
        probe = self._pending.pop((address, interface))
        self._alarm.forget(probe)
        probe.done(sender.hex(":"))

    def close(self) -> None:
        """Drop all pending probes, and close the socket."""
        self._alarm.stop()
        self._pending.clear()
        if self.fileno() >= 0:
            self._reactor.removeReader(self)
            self._socket.close()

    # IReadDescriptor

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._socket.fileno()

    def doRead(self) -> None:
        """See IReadDescriptor."""
        self._read_at = self._reactor.seconds()
        for _ in range(_BATCH):
            try:
                packet, sender = self._socket.recvfrom(2048)
            except OSError:
                return
            self._received(packet, sender)

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor."""
        self.close()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return self._kind

    def _timed_out(self, probe: _Probe, now: float) -> None:
        if self._read_at < now:
            # The reactor was busy: the reply may have come in time, and wait in the socket's buffer.
            self.doRead()
        if self._pending.get((probe.address, probe.interface)) is probe:
            del self._pending[probe.address, probe.interface]
            probe.done(None)


class ArpProbe:
    """Probes addresses on the links of this machine (RFC 5227 section 2.1.1).

    :param reactor: IReactorFDSet and IReactorTime.
    :param timeout: seconds to wait for a reply.
    :param proxy_found: see ProxyARP; replies by such equipment don't count.
    :raise OSError: this process lacks CAP_NET_RAW or AF_NETLINK, or the system is not Linux.
    """

    def __init__(
        self,
        reactor: Any,
        timeout: float,
        proxy_found: Callable[[str, str, tuple[str, ...]], None] = lambda interface, mac, addresses: None,
    ) -> None:
        self._clock = reactor
        self._proxies = ProxyARP(proxy_found)
        self._kernel = Netlink()
        self._kernel.links()
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_ARP))
        attach_filter(self._socket, _ARP_FILTER)
        self._probes = PendingProbes(reactor, timeout, self._socket, self._received, "ARP probe")

    def start(self, address: str, done: Done, *, interface: str, server: str, client: bytes) -> None:
        """Probe *address* on *interface*.

        :param done: called once, never before this returns; not at all after close().
        :param server: our address there.
        :param client: hardware address of the client that will be offered the address, and may use it already.
        """

        def send() -> None:
            link = self._kernel.link(interface)
            if link is None or len(link.hardware) != _ETHERNET_ADDRESS_SIZE:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            sender, target = socket.inet_aton(server), socket.inet_aton(address)
            packet = _ARP.pack(*_ARP_HEADER, _ARP_REQUEST, link.hardware, sender, bytes(6), target)
            self._socket.sendto(packet, (interface, _ETH_P_ARP, 0, _ARPHRD_ETHER, _ETHERNET_BROADCAST))

        def finished(user: str | None) -> None:
            if user is None:
                self._proxies.probe_timed_out(interface)
            done(user)

        self._probes.start(address, send, finished, interface=interface, client=client)

    def close(self) -> None:
        """Drop all pending probes, and close the sockets."""
        self._probes.close()
        self._kernel.close()

    def _received(self, packet: bytes, sender: Any) -> None:
        if len(packet) < _ARP.size:
            return
        *header, operation, hardware, packed, _, _ = _ARP.unpack_from(packet)
        if tuple(header) != _ARP_HEADER or operation != _ARP_REPLY:
            return
        address, interface = socket.inet_ntoa(packed), sender[0]
        if self._probes.is_pending(address, interface, hardware) and self._proxies.reply_received(
            interface, hardware, address, self._clock.seconds()
        ):
            self._probes.replied(address, interface, hardware)


class IcmpProbe:
    """Probes addresses wherever packets are routed to, by ICMP echo (RFC 792): for clients behind relays.

    Every probe is the same packet: the source address of a reply shows which address it is about, and the packet has a
    secret that only a host that got a probe can return. A reply to an earlier probe of an address counts like one to
    the latest. A reply shows that a host has the address, but not which host.

    :param reactor: IReactorFDSet and IReactorTime.
    :param timeout: seconds to wait for a reply.
    :raise OSError: the kernel allows it neither by CAP_NET_RAW nor by net.ipv4.ping_group_range.
    """

    def __init__(self, reactor: Any, timeout: float) -> None:
        identifier = int.from_bytes(os.urandom(2), "big")
        self._cookie = os.urandom(_COOKIE_SIZE)
        self._packet = _echo(identifier, self._cookie)
        self._socket = _icmp_socket(identifier)
        self._probes = PendingProbes(reactor, timeout, self._socket, self._received, "ping")

    def start(self, address: str, done: Done) -> None:
        """Probe *address*.

        :param done: called once, never before this returns; not at all after close(). Without a route to the address it
            is called in the next turn of the reactor.
        """
        self._probes.start(address, partial(self._socket.sendto, self._packet, (address, 0)), done)

    def close(self) -> None:
        """Drop all pending probes, and close the socket."""
        self._probes.close()

    def _received(self, packet: bytes, sender: Any) -> None:
        # The kernel's filter lets only echo replies with our identifier through.
        if packet.endswith(self._cookie):
            self._probes.replied(sender[0])


def _icmp_socket(identifier: int) -> socket.socket:
    """Return a socket that receives only the replies to echo requests of *identifier*, or of the one that the kernel
    chooses."""
    flags = socket.SOCK_NONBLOCK
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | flags, socket.IPPROTO_ICMP)
    except PermissionError:
        # A ping socket has an identifier of its own: icmp(7).
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | flags, socket.IPPROTO_ICMP)
    attach_filter(
        raw,
        (
            (0xB1, 0, 0, 0),  # X: the length of the IP header
            (0x48, 0, 0, 0),  # type and code
            (0x15, 0, 3, 0),  # echo reply, else drop
            (0x48, 0, 0, 4),
            (0x15, 0, 1, identifier),
            (0x06, 0, 0, 0xFFFF),
            (0x06, 0, 0, 0),
        ),
    )
    return raw


def _echo(identifier: int, data: bytes) -> bytes:
    """Return an echo request with *data*, of an even number of bytes; its checksum is that of RFC 1071."""
    total = (_ECHO << 8) + identifier + sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return _ICMP_HEADER.pack(_ECHO, 0, ~total & 0xFFFF, identifier, 0) + data


def attach_filter(sock: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Let only packets that a BPF program accepts through to *sock* (bpf(4)), so that other packets don't wake us.

    :param program: code, offset if true, offset if false, and operand of each instruction.
    :raise OSError: the kernel is not Linux, or has no filters; *sock* is closed then.
    """
    try:
        instructions = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*instruction) for instruction in program))
        filtered = struct.pack("@HP", len(program), ctypes.addressof(instructions))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtered)
    except OSError:
        sock.close()
        raise
