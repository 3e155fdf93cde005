"""Asking whether somebody uses an address already, before a client is offered it: by ARP, which no firewall drops."""

import ctypes
import fcntl
import socket
import struct
from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.net.alarm import Alarm

Told = Callable[[str], None]
"""Called with the MAC address of who answered for the address, or with "": nobody did."""

_ETH_P_ARP = 0x0806
_ARPHRD_ETHER = 1
_EVERYBODY = b"\xff" * 6
_REPLY = 2
_PACKET = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826 for Ethernet and IPv4
_HEADER = (1, 0x0800, 6, 4)
_SIOCGIFHWADDR = 0x8927
_SO_ATTACH_FILTER = 26
_AT_ONCE = 64

# Replies only (the operation stands at octet 6): every other broadcast of a large network would wake us. bpf(4).
_FILTER = struct.pack("@" + "HBBI" * 4, 0x28, 0, 0, 6, 0x15, 0, 1, _REPLY, 0x06, 0, 0, 0xFFFF, 0x06, 0, 0, 0)


@define(eq=False)
class _Question:
    deadline: float
    address: str
    interface: str
    client: bytes
    told: Told


@implementer(IReadDescriptor)
class Probe:
    """Asks on the wires of this machine. The answers of many are waited for at once.

    :param reactor: IReactorFDSet and IReactorTime.
    :param seconds: how long an answer is waited for.
    :raise OSError: the kernel does not let us (CAP_NET_RAW), or is not Linux.
    """

    _log = Logger(namespace="bootfw")

    def __init__(self, reactor: Any, seconds: float) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._questions: dict[str, _Question] = {}
        self._alarm: Alarm[_Question] = Alarm(reactor, self._ring)
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_ARP))
        try:
            program = ctypes.create_string_buffer(_FILTER)
            filtered = struct.pack("@HP", 4, ctypes.addressof(program))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtered)
        except OSError:
            self._socket.close()
            raise
        reactor.addReader(self)

    def ask(self, address: str, interface: str, server: str, client: bytes, told: Told) -> None:
        """Ask for *address* on *interface*.

        :param server: our address there.
        :param client: hardware address of who is to be offered it; may well use it.
        :param told: called once, never before this returns; not at all after close().
        """
        question = _Question(self._reactor.seconds() + self._seconds, address, interface, client, told)
        self._questions[address] = question
        self._alarm.watch(question)
        try:
            own = fcntl.ioctl(self._socket, _SIOCGIFHWADDR, struct.pack("@16s24x", interface.encode()))[18:24]
            packet = _PACKET.pack(*_HEADER, 1, own, socket.inet_aton(server), bytes(6), socket.inet_aton(address))
            self._socket.sendto(packet, (interface, _ETH_P_ARP, 0, _ARPHRD_ETHER, _EVERYBODY))
        except OSError as error:
            # The wire is gone, or is none that knows ARP.
            self._log.debug(
                "{address} can't be probed on {interface}: {error}", address=address, interface=interface, error=error
            )

    def close(self) -> None:
        """Wait for nothing any more."""
        self._alarm.stop()
        self._questions.clear()
        if self.fileno() >= 0:
            self._reactor.removeReader(self)
            self._socket.close()

    # IReadDescriptor

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._socket.fileno()

    def doRead(self) -> None:
        """See IReadDescriptor."""
        for _ in range(_AT_ONCE):
            try:
                packet, (interface, *_rest) = self._socket.recvfrom(2048)
            except OSError:
                return
            if len(packet) >= _PACKET.size:
                *header, operation, sender, address, _, _ = _PACKET.unpack_from(packet)
                if tuple(header) == _HEADER and operation == _REPLY:
                    self._answered(socket.inet_ntoa(address), interface, sender)

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor."""
        self.close()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "ARP probe"

    def _answered(self, address: str, interface: str, sender: bytes) -> None:
        question = self._questions.get(address)
        if question is None or question.interface != interface or sender == question.client:
            return
        del self._questions[address]
        self._alarm.forget(question)
        question.told(sender.hex(":"))

    def _ring(self, question: _Question, now: float) -> None:
        if self._questions.get(question.address) is question:
            del self._questions[question.address]
            question.told("")
