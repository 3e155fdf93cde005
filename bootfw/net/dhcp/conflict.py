"""Addresses that it is asked for whether somebody uses them: what the ways to ask have in common."""

import ctypes
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.net.alarm import Alarm

Told = Callable[[str | None], None]
"""Called with the MAC address of who uses the address, with "": somebody whose MAC is not known, or with None: nobody
answered."""

_SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("@HBBI")
_AT_ONCE = 64


@define(eq=False)
class _Question:
    address: str
    wire: str
    client: bytes | None
    told: Told
    deadline: float


@implementer(IReadDescriptor)
class Questions:
    """Those that are open, and the socket that the answers come in by. One timer waits for all.

    :param reactor: IReactorFDSet and IReactorTime.
    :param seconds: how long an answer is waited for.
    :param sock: does not block; is closed with this.
    :param heard: called with each datagram and where it is from, as recvfrom() has it.
    :param way: what asking by that socket is called.
    """

    _log = Logger(namespace="bootfw")

    def __init__(
        self, reactor: Any, seconds: float, sock: socket.socket, heard: Callable[[bytes, Any], None], way: str
    ) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._socket = sock
        self._heard = heard
        self._way = way
        self._open: dict[tuple[str, str], _Question] = {}
        self._alarm: Alarm[_Question] = Alarm(reactor, self._ring)
        reactor.addReader(self)

    def ask(
        self, address: str, send: Callable[[], object], told: Told, *, wire: str = "", client: bytes | None = None
    ) -> None:
        """Ask for *address*.

        :param send: sends the question; an OSError means that it can't be asked, so that no answer is waited for.
        :param told: called once, never before this returns; not at all after close().
        :param wire: an answer has to come from there.
        :param client: an answer by this one does not count.
        """
        seconds = self._seconds
        try:
            send()
        except OSError as error:
            seconds = 0.0
            self._log.debug("{address}: no {way}: {error}", address=address, way=self._way, error=error)
        question = _Question(address, wire, client, told, self._reactor.seconds() + seconds)
        self._open[address, wire] = question
        self._alarm.watch(question)

    def waits(self, address: str, wire: str = "", sender: bytes = b"") -> bool:
        """Whether an answer by *sender* for *address* would count."""
        question = self._open.get((address, wire))
        return question is not None and sender != question.client

    def answered(self, address: str, wire: str = "", sender: bytes = b"") -> None:
        """Somebody uses *address*: *sender*, if it is known who."""
        if not self.waits(address, wire, sender):
            return
        question = self._open.pop((address, wire))
        self._alarm.forget(question)
        question.told(sender.hex(":"))

    def close(self) -> None:
        """Wait for nothing any more."""
        self._alarm.stop()
        self._open.clear()
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
                packet, sender = self._socket.recvfrom(2048)
            except OSError:
                return
            self._heard(packet, sender)

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor."""
        self.close()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return self._way

    def _ring(self, question: _Question, now: float) -> None:
        if self._open.get((question.address, question.wire)) is question:
            del self._open[question.address, question.wire]
            question.told(None)


def attach_filter(sock: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Let through to *sock* only what a BPF program does (bpf(4)), so that nothing else wakes us.

    :param program: code, offset if true, offset if false, and operand of each instruction.
    :raise OSError: the kernel is not Linux, or has none of these; *sock* is closed then.
    """
    try:
        instructions = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*instruction) for instruction in program))
        filtered = struct.pack("@HP", len(program), ctypes.addressof(instructions))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtered)
    except OSError:
        sock.close()
        raise
