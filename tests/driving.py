"""Drives the sessions as an adapter does, without clock, socket or reactor: now is a number."""

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from bootfw import table
from bootfw.tftp import read, write
from bootfw.tftp.blocks import Blocks, frame
from bootfw.tftp.position import Position
from bootfw.values import Agreed
from bootfw.wire import tftp as wire

OACK = (("blksize", "8"),)
"""The options of an OACK, where they don't matter."""


@define(eq=False)
class Waits:
    """A watchdog with a list of waits, which records the round trips that are reported to it."""

    seconds: tuple[float, ...] = (1.0, 3.0, 7.0)
    samples: list[float | None] = field(factory=list)

    def wait(self, attempt: int) -> float | None:
        return self.seconds[attempt - 1] if attempt <= len(self.seconds) else None

    def progressed(self, seconds: float | None) -> None:
        self.samples.append(seconds)


@frozen
class Mute:
    """A watchdog that doesn't learn."""

    seconds: tuple[float, ...] = (1.0, 3.0, 7.0)

    def wait(self, attempt: int) -> float | None:
        return self.seconds[attempt - 1] if attempt <= len(self.seconds) else None


def numbered(size: int) -> bytes:
    """Content in which no two places look alike."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def step(session: Any, event: Any, argument: Any, now: float) -> None:
    """Give the session one input, and check what must hold after each."""
    before, outcome = session.state, session.outcome
    cell = session._table[before][event]
    acked, size = session.acked, session.bytes_transferred
    session.handle(event, argument, now)
    after = session.state
    if cell is table.ignore:
        assert after is before
    else:
        assert after in cell.successors or (after is before and table.STAY in cell.successors)
    assert session.acked >= acked
    assert session.bytes_transferred >= size
    if outcome is not None:
        assert session.outcome is outcome
    check_attributes(session)


def check_attributes(session: Any) -> None:
    """Check that the public attributes agree with the state."""
    state = session.state.name
    assert (session.outcome is not None) == (state in ("CLOSED", "LINGERING"))
    if isinstance(session, read.ReadSession):
        assert (session.wants is not None) == (state == "FETCHING")
        assert (session.deadline is not None) == (state in ("NEGOTIATING", "AWAITING_ACK", "PROVING"))
        if session.wants is not None:
            blksize = session.agreed.blksize
            windowsize = session.agreed.windowsize
            # A timeout adds a block to a window or burst.
            most = windowsize
            if session._proof is not None:
                most += session._proof.repeats
            elif windowsize > 1:
                most += read.BEYOND_WINDOW
            assert 1 <= session.wants.count <= most
            assert session.wants.last <= session.acked + most
            assert (session.wants.count - 1) * blksize <= session.wanted_bytes <= session.wants.count * blksize
    else:
        assert (session.stores is not None) == (state == "STORING")
        assert (session.deadline is None) == (state in ("STORING", "CLOSED"))
        assert session.acked <= session.stored <= session.acked + session.agreed.windowsize


@define(eq=False)
class Reading:
    """A ReadSession and its file. With *lazy* nothing is fetched before fetch(). Its peer is proven with its first ACK,
    unless *request_bytes* are given: then it has to prove itself."""

    content: bytes
    agreed: Agreed = field(factory=lambda: Agreed(blksize=8))
    watchdog: Any = field(factory=Waits)
    known: bool = True
    """Whether the size of the file is known."""
    lazy: bool = False
    resumed: int | Position | None = None
    request_bytes: int | None = None
    oack_once: bool = False
    randbelow: Callable[[int], int] = lambda below: below - 1
    now: float = 0.0
    session: read.ReadSession = field(init=False)
    fetched: list[tuple[int, int]] = field(factory=list, init=False)
    """(offset, length) of every read."""
    datagrams: list[bytes] = field(factory=list, init=False)
    _untaken: list[bytes] = field(factory=list, init=False)
    """Those that take() has not returned yet."""

    def __attrs_post_init__(self) -> None:
        size = len(self.content) if self.known else None
        self.session = read.ReadSession(
            self.agreed,
            size,
            self.watchdog,
            self.now,
            self.resumed,
            self.request_bytes or 0,
            own_port=self.request_bytes is None,
            oack_once=self.oack_once,
            randbelow=self.randbelow,
        )
        check_attributes(self.session)
        self._go_on()

    def take(self) -> list[wire.Packet]:
        """What has been sent since the last call."""
        sent = list(map(wire.parse, self._untaken))
        self._untaken.clear()
        return sent

    def put(self, event: read.Input, argument: Any = None, at: float | None = None) -> None:
        """Give the session one input."""
        self.now = self.now if at is None else at
        step(self.session, event, argument, self.now)
        self._go_on()

    def give(self, event: read.Input, argument: Any = None, at: float | None = None) -> list[wire.Packet]:
        """Give the session one input; returns what is sent then."""
        self.put(event, argument, at)
        return self.take()

    def ack(self, number: int, at: float | None = None) -> list[wire.Packet]:
        return self.give(read.Input.ACK, number, at)

    def tick(self) -> list[wire.Packet]:
        """TICK, just when it is due."""
        assert self.session.deadline is not None
        return self.give(read.Input.TICK, None, self.session.deadline)

    def fetch(self) -> list[wire.Packet]:
        """Let the reader answer."""
        self._fetch()
        self._drain()
        return self.take()

    def _fetch(self) -> None:
        wants = self.session.wants
        assert wants is not None
        offset = (wants.first - 1) * self.agreed.blksize
        self._fetched_bytes = self.content[offset : offset + self.session.wanted_bytes]
        self.fetched.append((offset, self.session.wanted_bytes))
        step(self.session, read.Input.FETCHED, len(self._fetched_bytes), self.now)

    def _go_on(self) -> None:
        self._drain()
        while not self.lazy and self.session.wants is not None:
            self._fetch()
            self._drain()

    def _drain(self) -> None:
        for item in self.session.out:
            if isinstance(item, Blocks):
                run = frame(item, self.agreed.blksize, self._fetched_bytes)
                size = self.agreed.blksize + 4
                datagrams = [run[at : at + size] for at in range(0, len(run), size)]
                assert len(datagrams) == item.count
            else:
                datagrams = [item]
            self.datagrams += datagrams
            self._untaken += datagrams
        self.session.out.clear()

    _fetched_bytes: bytes = field(default=b"", init=False)


@define(eq=False)
class Writing:
    """A WriteSession and its file. With *lazy* nothing is stored before store()."""

    agreed: Agreed = field(factory=lambda: Agreed(blksize=8))
    watchdog: Any = field(factory=Waits)
    lazy: bool = False
    now: float = 0.0
    session: write.WriteSession = field(init=False)
    sent: list[wire.Packet] = field(factory=list, init=False)
    datagrams: list[bytes] = field(factory=list, init=False)
    content: bytearray = field(factory=bytearray, init=False)
    finished: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.session = write.WriteSession(self.agreed, self.watchdog, self.now)
        check_attributes(self.session)
        self._go_on()

    def take(self) -> list[wire.Packet]:
        """What has been sent since the last call."""
        sent, self.sent = self.sent, []
        return sent

    def give(self, event: write.Input, argument: Any = None, at: float | None = None) -> list[wire.Packet]:
        """Give the session one input; returns what is sent then."""
        self.now = self.now if at is None else at
        step(self.session, event, argument, self.now)
        self._go_on()
        return self.take()

    def data(self, number: int, payload: bytes, at: float | None = None) -> list[wire.Packet]:
        return self.give(write.Input.DATA, (number, payload), at)

    def tick(self) -> list[wire.Packet]:
        """TICK, just when it is due."""
        assert self.session.deadline is not None
        return self.give(write.Input.TICK, None, self.session.deadline)

    def store(self) -> list[wire.Packet]:
        """Let the writer answer, once."""
        self._store()
        self._drain()
        return self.take()

    def _store(self) -> None:
        store = self.session.stores
        assert store is not None
        assert store.offset == len(self.content)
        assert not self.finished
        self.content += store.payload
        self.finished = store.final
        step(self.session, write.Input.STORED, None, self.now)

    def _go_on(self) -> None:
        self._drain()
        while not self.lazy and self.session.stores is not None:
            self._store()
            self._drain()

    def _drain(self) -> None:
        self.datagrams += self.session.out
        self.sent += map(wire.parse, self.session.out)
        self.session.out.clear()
