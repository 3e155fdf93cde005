"""A sender, a receiver and a network between them, in simulated time. Each firmware class receives as that firmware."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol

from attrs import define, field
from driving import Reading, Writing

from bootfw.tftp import read, write
from bootfw.wire import tftp as wire

Fate = Callable[[bytes], list[float]]
"""After how many seconds each copy of a datagram arrives; [] when it is lost."""


class End(Protocol):
    """A sender or receiver at one end of the network."""

    sent: list[bytes]

    @property
    def deadline(self) -> float | None: ...
    @property
    def open(self) -> bool: ...
    def receive(self, datagram: bytes, now: float) -> None: ...
    def ring(self, now: float) -> None:
        """The deadline has come."""


def perfect(datagram: bytes) -> list[float]:
    """Half a millisecond each way."""
    return [0.0005]


@define(eq=False)
class Sender:
    """Our session that sends. With *fetch_seconds* its reader answers that much later."""

    reading: Reading
    fetch_seconds: float = 0.0
    _fetch_at: float | None = None

    @property
    def sent(self) -> list[bytes]:
        return self.reading.datagrams

    @property
    def open(self) -> bool:
        return self.reading.session.outcome is None

    @property
    def deadline(self) -> float | None:
        if self.reading.session.wants is None:
            self._fetch_at = None
        elif self._fetch_at is None:
            self._fetch_at = self.reading.now + self.fetch_seconds
        return self.reading.session.deadline if self._fetch_at is None else self._fetch_at

    def receive(self, datagram: bytes, now: float) -> None:
        packet = wire.parse(datagram)
        if isinstance(packet, wire.Ack):
            self.reading.put(read.Input.ACK, packet.block, now)
        elif isinstance(packet, wire.Error):
            self.reading.put(read.Input.PEER_ERROR, (packet.code, packet.message), now)

    def ring(self, now: float) -> None:
        self.reading.now = now
        if self.reading.session.wants is not None:
            self._fetch_at = None
            self.reading.fetch()
        else:
            self.reading.put(read.Input.TICK, None, now)


@define(eq=False)
class Receiver:
    """Our session that receives. With *store_seconds* its writer answers that much later."""

    writing: Writing
    store_seconds: float = 0.0
    _store_at: float | None = None

    @property
    def sent(self) -> list[bytes]:
        return self.writing.datagrams

    @property
    def open(self) -> bool:
        return self.writing.session.state is not write.State.CLOSED

    @property
    def deadline(self) -> float | None:
        if self.writing.session.stores is None:
            self._store_at = None
        elif self._store_at is None:
            self._store_at = self.writing.now + self.store_seconds
        return self.writing.session.deadline if self._store_at is None else self._store_at

    def receive(self, datagram: bytes, now: float) -> None:
        packet = wire.parse(datagram)
        if isinstance(packet, wire.Data):
            self.writing.give(write.Input.DATA, (packet.block, packet.payload), now)
        elif isinstance(packet, wire.OptionAck):
            # A client's answer to a repeated OACK is ACK 0 once more, as long as no DATA has come.
            self.writing.give(write.Input.REQUESTED, None, now)
        elif isinstance(packet, wire.Error):
            self.writing.give(write.Input.PEER_ERROR, (packet.code, packet.message), now)

    def ring(self, now: float) -> None:
        self.writing.now = now
        if self.writing.session.stores is not None:
            self._store_at = None
            self.writing.store()
        else:
            self.writing.give(write.Input.TICK, None, now)


@define(eq=False)
class Firmware:
    """A client that downloads; a subclass defines how it answers blocks that it did not expect."""

    windowsize: int = 1
    blksize: int = 8
    content: bytearray = field(factory=bytearray)
    complete: bool = False
    sent: list[bytes] = field(factory=list)
    deadline: float | None = None
    block: int = 0
    """The last one that was received in order."""
    acknowledged: int = 0
    """The block acknowledged last."""

    @property
    def open(self) -> bool:
        return not self.complete and self.deadline is not None

    def receive(self, datagram: bytes, now: float) -> None:
        packet = wire.parse(datagram)
        if isinstance(packet, wire.OptionAck):
            if not self.block:
                self.ack()
        elif isinstance(packet, wire.Data):
            if packet.block == (self.block + 1) % 65536:
                self.good(packet.payload)
            else:
                self.unexpected(packet.block)

    def good(self, payload: bytes) -> None:
        if self.complete:
            return
        self.block += 1
        self.content += payload
        self.complete = len(payload) < self.blksize
        if self.complete or self.block - self.acknowledged == self.windowsize:
            self.ack()

    def ack(self) -> None:
        self.acknowledged = self.block
        self.sent.append(wire.ack(self.block % 65536))

    def unexpected(self, number: int) -> None:
        raise NotImplementedError

    def ring(self, now: float) -> None:
        raise NotImplementedError


class EDK2(Firmware):
    """Answers each unexpected block, old or new, by acknowledging the last good one, which it also does every 4 s."""

    def unexpected(self, number: int) -> None:
        self.ack()

    def ring(self, now: float) -> None:
        self.ack()
        self.deadline = now + 4


@define(eq=False)
class UBoot(Firmware):
    """Ignores old blocks, reports each gap once, and acknowledges again every 5 s."""

    gap: int = -1

    def receive(self, datagram: bytes, now: float) -> None:
        block = self.block
        Firmware.receive(self, datagram, now)
        if self.block != block or self.deadline is None:
            self.deadline = now + 5

    def unexpected(self, number: int) -> None:
        # net/tftp.c compares the expected number with this one as a signed short.
        expected, signed = (self.block + 1) % 65536, number - 65536 if number >= 32768 else number
        if expected <= signed and self.gap != self.block:
            self.gap = self.block
            self.ack()

    def ring(self, now: float) -> None:
        self.ack()
        self.deadline = now + 5


@define(eq=False)
class ATFTP(Firmware):
    """Acknowledges unexpected blocks, old or new, once until the next good one; and after 5 s without a datagram."""

    extra: bool = False

    def receive(self, datagram: bytes, now: float) -> None:
        self.deadline = now + 5
        Firmware.receive(self, datagram, now)

    def good(self, payload: bytes) -> None:
        self.extra = False
        Firmware.good(self, payload)

    def unexpected(self, number: int) -> None:
        if not self.extra:
            self.extra = True
            self.ack()

    def ring(self, now: float) -> None:
        self.extra = False
        self.ack()
        self.deadline = now + 5


class GRUB(Firmware):
    """Answers an old block with that block's number, ignores new ones, and has no timer at all."""

    def unexpected(self, number: int) -> None:
        if (self.block - number) % 65536 < 32768:
            self.sent.append(wire.ack(number))


@define(eq=False)
class Exchange:
    """Runs sender and receiver until they are done."""

    sender: Any
    receiver: Any
    fate: Fate = perfect
    now: float = 0.0
    datagrams: list[tuple[float, bytes]] = field(factory=list)
    """Everything that was sent, and when."""
    _events: list[tuple[float, int, Any, bytes]] = field(factory=list)
    _serial: Any = field(factory=count)

    def run(self, until: float = 1e5, most: int = 100_000) -> "Exchange":
        """Until nothing moves any more; *until* seconds and *most* datagrams must not be exceeded."""
        while True:
            self._carry(self.sender, self.receiver)
            self._carry(self.receiver, self.sender)
            assert len(self.datagrams) <= most, "too many datagrams"
            rings = [
                (end.deadline, end) for end in (self.sender, self.receiver) if end.open and end.deadline is not None
            ]
            ring = min(rings, key=lambda entry: entry[0], default=None)
            if self._events and (ring is None or self._events[0][0] <= ring[0]):
                self.now, _, end, datagram = heappop(self._events)
                end.receive(datagram, self.now)
            elif ring is not None:
                self.now = max(self.now, ring[0])
                ring[1].ring(self.now)
            else:
                return self
            assert self.now <= until, "too long"

    def sent(self, opcode: int) -> list[bytes]:
        """The datagrams with that opcode."""
        return [datagram for _, datagram in self.datagrams if datagram[1] == opcode]

    def _carry(self, source: Any, destination: Any) -> None:
        for datagram in source.sent:
            self.datagrams.append((self.now, datagram))
            for delay in self.fate(datagram):
                heappush(self._events, (self.now + delay, next(self._serial), destination, datagram))
        source.sent.clear()
