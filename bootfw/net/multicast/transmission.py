"""One transmission of an image: to a group on one network, to a broadcast address, or to one receiver."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

from attrs import define, field
from twisted.python.failure import Failure

from bootfw.boot.pluginresult import as_deferred, checked_bytes, reported_error
from bootfw.errors import TransferError
from bootfw.events import Event, ImageSent
from bootfw.frisbee.blockqueue import Burst
from bootfw.frisbee.pace import LARGEST_BURST
from bootfw.frisbee.session import Input, NoReply, Reply, Session, State
from bootfw.interfaces import IReader
from bootfw.net.alarm import Alarm
from bootfw.values import Address, Via
from bootfw.wire import frisbee
from bootfw.wire.frisbee import PACKET_SIZE
from bootfw.wire.frisbeemaster import Method

Send = Callable[[Any, Address, Via, int], bool]
"""(data, peer, how requests arrive, bytes of a segment; 0: it is one datagram) -> whether the kernel took it."""


@define(eq=False)
class Transmission:
    """Reads the blocks that its session publishes, and sends them when they are due.

    :param send: sends from the port of the image.
    :param on_ended: called once when it has ended.
    :param on_busy_changed: called when it begins to be busy, or is no longer.
    """

    image: str
    method: Method
    destination: Address
    """Where the blocks go."""
    session: Session
    began: float
    _via: Via
    _reader: IReader
    _reactor: Any
    _alarm: "Alarm[Any]"
    _send: Send
    _publish: Callable[[Event], None]
    _on_ended: Callable[["Transmission"], None]
    _on_busy_changed: Callable[[], None]
    _drop: Callable[[str, Address, float], None]
    is_busy: bool = field(default=False, init=False)
    """Whether receivers have requested blocks that are not sent yet."""
    _frames: memoryview = field(init=False)
    _reading: Any = field(default=None, init=False)
    """The Deferred of a read that has not fired; None: there is none."""
    _source: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._source = socket.inet_aton(self._via.local)
        self._frames = memoryview(bytearray(LARGEST_BURST * PACKET_SIZE))
        self._alarm.watch(self)

    @property
    def deadline(self) -> float | None:
        """When ring() is due."""
        return self.session.deadline

    def ring(self, now: float) -> float | None:
        """Act on the deadline of the session, and return the next one."""
        self._handle(Input.TICK, None, now)
        return self.session.deadline

    def take(self, event: Input, packet: frisbee.Packet, peer: Address, now: float) -> None:
        """Take a packet of a receiver."""
        self._handle(event, packet, now)
        for reply in self.session.out:
            if isinstance(reply, Reply):
                for data in self._replies(reply):
                    self._send(data, peer, self._via, 0)
            elif isinstance(reply, NoReply):
                self._drop(f"{self.image}: {reply.reason}", peer, now)
        self.session.out.clear()
        self._alarm.watch(self)

    def end(self, reason: str) -> None:
        """End it from our side."""
        self._handle(Input.CANCEL, reason, self._reactor.seconds())

    def _replies(self, reply: Reply) -> Iterator[bytes]:
        """Yield the packets that are sent for a JOIN.

        In a busy group Emulab's receiver (2011) takes the reply to its JOIN2 only if that is the first packet that
        comes after it. It then takes the reply to a JOIN, which is right for an image of whole blocks.
        """
        join, session, source = reply.join, self.session, self._via.local
        if join.version == 2:
            yield frisbee.pack(frisbee.Join2Reply(source, join.client, session.size))
        if join.version == 1 or session.size % frisbee.BLOCK_SIZE == 0:
            yield frisbee.pack(frisbee.JoinReply(source, session.blocks))

    def _handle(self, event: Input, argument: object, now: float) -> None:
        session = self.session
        if self._has_ended():
            return
        session.handle(event, argument, now)
        burst = session.wants
        if burst is not None and self._reading is None:
            self._read(burst, now)
        elif self._has_ended():
            self._end(now)
            return
        # If the reader has answered at once, the session has gone on meanwhile.
        is_busy = session.state in (State.PACING, State.READING)
        if is_busy is not self.is_busy:
            self.is_busy = is_busy
            self._on_busy_changed()

    def _has_ended(self) -> bool:
        return self.session.state is State.ENDED

    def _read(self, burst: Burst, now: float) -> None:
        try:
            answer = self._reader.read(burst.offset, self._length(burst))
            pending = as_deferred(answer)
        except Exception as error:
            self._failed(error)
            return
        if pending is None:
            self._send_burst(burst, answer, now)
        else:
            self._reading = pending
            pending.addCallbacks(self._read_answered, self._read_failed, callbackArgs=(burst,))

    def _read_answered(self, data: Any, burst: Burst) -> None:
        self._reading = None
        # If the session has ended meanwhile, it wants nothing.
        if self.session.wants is burst:
            self._send_burst(burst, data, self._reactor.seconds())
            self._alarm.watch(self)

    def _read_failed(self, failure: Failure) -> None:
        self._reading = None
        if self.session.wants is not None:
            self._failed(failure.value)

    def _failed(self, error: BaseException | None) -> None:
        assert error is not None
        now = self._reactor.seconds()
        reader = f"reader {type(self._reader).__name__}"
        reported = reported_error(error, self._publish, now, reader, f"send {self.image}")
        self._handle(Input.FAILED, reported.reason, now)

    def _length(self, burst: Burst) -> int:
        """Bytes of a burst that the image has."""
        return min(burst.length, self.session.size - burst.offset)

    def _send_burst(self, burst: Burst, answer: Any, now: float) -> None:
        length = self._length(burst)
        try:
            data = checked_bytes(answer, length, self._reader)
            if len(data) < length:
                raise TransferError(f"the file ended at byte {burst.offset + len(data)}, before its size")
        except TransferError as error:
            self._failed(error)
            return
        if length < burst.length:
            data = data.ljust(burst.length, b"\0")
        frames = frisbee.fill_blocks(self._frames, self._source, burst.chunk, burst.blocks, data)
        sent = self._send(frames, self.destination, self._via, PACKET_SIZE)
        self._handle(Input.READ if sent else Input.REFUSED, None, now)

    def _end(self, now: float) -> None:
        self._alarm.forget(self)
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
        self._reader.close()
        self.is_busy = False
        session = self.session
        self._publish(
            ImageSent(
                now,
                self.image,
                self.method_name,
                self.destination,
                session.size,
                session.joined,
                session.completed,
                session.blocks_sent,
                session.blocks_lost,
                now - self.began,
                session.detail,
            )
        )
        self._on_ended(self)

    @property
    def method_name(self) -> str:
        """``multicast``, ``unicast`` or ``broadcast``."""
        return (self.method.name or "").lower()

    def record(self) -> dict[str, Any]:
        """Return its state for the operator."""
        session = self.session
        sent = session.blocks_sent * max(1, session.joined)
        return {
            "image": self.image,
            "method": self.method_name,
            "address": self.destination[0],
            "port": self.destination[1],
            "size": session.size,
            "receivers": len(session.receivers),
            "joined": session.joined,
            "completed": session.completed,
            "sent": session.blocks_sent * frisbee.BLOCK_SIZE,
            "wanted": session.blocks_wanted * frisbee.BLOCK_SIZE,
            "loss": session.blocks_lost / sent if sent else 0.0,
            "rate": session.pace.rate if self.is_busy else 0.0,
        }
