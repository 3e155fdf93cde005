"""Hypothesis simulates peer, adapter and clock for each session; driving.step() checks the invariants."""

import pytest
from driving import OACK, Reading, Waits, Writing, numbered
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bootfw.errors import DiskFull, TransferError
from bootfw.table import IllegalInput
from bootfw.tftp import read, write
from bootfw.values import Agreed, Outcome
from bootfw.wire import tftp as wire

numbers = st.integers(0, 12) | st.integers(0, 0xFFFF)
seconds = st.sampled_from([0.0, 0.001, 0.3, 2.0, 100.0])
errors = st.tuples(st.integers(0, 9), st.text(max_size=3))


class ReadMachine(RuleBasedStateMachine):
    """A ReadSession of a small file."""

    @initialize(
        size=st.integers(0, 80),
        windowsize=st.integers(1, 6),
        oack=st.booleans(),
        tsize=st.booleans(),
        known=st.booleans(),
        lazy=st.booleans(),
    )
    def begin(self, size: int, windowsize: int, oack: bool, tsize: bool, known: bool, lazy: bool) -> None:
        self.content = numbered(size)
        agreed = Agreed(8, windowsize, tsize=size if tsize else None, acknowledged=OACK if oack else ())
        self.reading = Reading(self.content, agreed, Waits((1.0, 2.0)), known, lazy)
        self.session = self.reading.session
        self.ticks = 0

    def give(self, event: read.Input, argument: object = None, delay: float = 0.0) -> None:
        closed = self.session.outcome is not None
        sent = self.reading.give(event, argument, self.reading.now + delay)
        if closed:
            assert sent == []
        for packet in sent:
            if isinstance(packet, wire.Data):
                assert packet.payload == self.content[8 * packet.block - 8 : 8 * packet.block]
                windowsize = self.session.agreed.windowsize
                last_allowed = self.session.acked + windowsize + (read.BEYOND_WINDOW if windowsize > 1 else 0)
                is_marker = windowsize > 1 and not packet.payload and packet.block > len(self.content) // 8 + 1
                assert packet.block <= last_allowed or is_marker

    @rule(number=numbers, delay=seconds)
    def ack(self, number: int, delay: float) -> None:
        self.give(read.Input.ACK, number, delay)

    @rule(ahead=st.integers(-2, 6), delay=seconds)
    def ack_nearby(self, ahead: int, delay: float) -> None:
        self.give(read.Input.ACK, max(0, self.session.acked + ahead), delay)

    @precondition(lambda self: self.session.wants is not None)
    @rule()
    def fetched(self) -> None:
        self.reading.fetch()

    @precondition(lambda self: self.session.wants is not None)
    @rule()
    def failed(self) -> None:
        self.give(read.Input.FAILED, TransferError("no"))
        assert self.session.outcome is Outcome.FAILED

    @precondition(lambda self: self.session.state in (read.State.NEGOTIATING, read.State.AWAITING_ACK))
    @rule(event=st.sampled_from([read.Input.FETCHED, read.Input.FAILED]))
    def illegal_input(self, event: read.Input) -> None:
        with pytest.raises(IllegalInput):
            self.session.handle(event, None, self.reading.now)

    @precondition(lambda self: self.session.deadline is not None)
    @rule()
    def tick(self) -> None:
        assert self.session.deadline is not None
        self.give(read.Input.TICK, None, max(0.0, self.session.deadline - self.reading.now))

    @rule(delay=seconds)
    def tick_at_any_time(self, delay: float) -> None:
        self.give(read.Input.TICK, None, delay)

    @rule()
    def requested(self) -> None:
        deadline = self.session.deadline
        self.give(read.Input.REQUESTED)
        if not self.reading.lazy:
            assert self.session.deadline == (deadline if deadline is None else pytest.approx(deadline))

    @rule(error=errors)
    def peer_error(self, error: tuple[int, str]) -> None:
        sent = len(self.reading.datagrams)
        self.give(read.Input.PEER_ERROR, error)
        assert len(self.reading.datagrams) == sent, "an ERROR is never answered"

    @rule(event=st.sampled_from([read.Input.CANCEL, read.Input.REPLACED]))
    def stop(self, event: read.Input) -> None:
        self.give(event, "stop")
        assert self.session.outcome is not None

    @invariant()
    def complete_means_the_whole_file(self) -> None:
        if self.session.outcome is Outcome.COMPLETE:
            assert self.session.bytes_transferred == len(self.content)
            assert self.session.acked == len(self.content) // 8 + 1


class WriteMachine(RuleBasedStateMachine):
    """A WriteSession of a small file."""

    @initialize(size=st.integers(0, 80), windowsize=st.integers(1, 6), oack=st.booleans(), lazy=st.booleans())
    def begin(self, size: int, windowsize: int, oack: bool, lazy: bool) -> None:
        self.content = numbered(size)
        self.writing = Writing(Agreed(8, windowsize, acknowledged=OACK if oack else ()), Waits((1.0, 2.0)), lazy)
        self.session = self.writing.session
        self.writing.take()

    def give(self, event: write.Input, argument: object = None, delay: float = 0.0) -> None:
        closed = self.session.state is write.State.CLOSED
        sent = self.writing.give(event, argument, self.writing.now + delay)
        if closed:
            assert sent == []
        for packet in sent:
            if isinstance(packet, wire.Ack):
                assert packet.block == self.session.stored, "nothing is acknowledged that is not stored"

    def block(self, number: int) -> bytes:
        return self.content[8 * number - 8 : 8 * number] if number else b"nonsense"

    @rule(ahead=st.integers(-2, 6), delay=seconds)
    def data(self, ahead: int, delay: float) -> None:
        number = max(0, self.session.stored + ahead)
        if number <= len(self.content) // 8 + 1:
            self.give(write.Input.DATA, (number, self.block(number)), delay)

    @rule()
    def next_data(self) -> None:
        self.data(1, 0.001)

    @rule(number=st.integers(2000, 0xFFFF))
    def data_from_nowhere(self, number: int) -> None:
        self.give(write.Input.DATA, (number, b"junk"))

    @precondition(lambda self: self.session.stores is not None)
    @rule()
    def stored(self) -> None:
        self.writing.store()

    @precondition(lambda self: self.session.stores is not None)
    @rule()
    def failed(self) -> None:
        acked = self.session.acked
        self.give(write.Input.FAILED, DiskFull())
        assert self.session.outcome is Outcome.FAILED
        assert self.session.acked == acked

    @precondition(lambda self: self.session.state not in (write.State.STORING, write.State.CLOSED))
    @rule(event=st.sampled_from([write.Input.STORED, write.Input.FAILED]))
    def illegal_input(self, event: write.Input) -> None:
        with pytest.raises(IllegalInput):
            self.session.handle(event, None, self.writing.now)

    @precondition(lambda self: self.session.deadline is not None)
    @rule()
    def tick(self) -> None:
        assert self.session.deadline is not None
        self.give(write.Input.TICK, None, max(0.0, self.session.deadline - self.writing.now))

    @rule()
    def requested(self) -> None:
        deadline = self.session.deadline
        self.give(write.Input.REQUESTED)
        assert self.session.deadline == deadline

    @rule(error=errors)
    def peer_error(self, error: tuple[int, str]) -> None:
        sent = len(self.writing.datagrams)
        self.give(write.Input.PEER_ERROR, error)
        assert len(self.writing.datagrams) == sent, "an ERROR is never answered"

    @rule(event=st.sampled_from([write.Input.CANCEL, write.Input.REPLACED]))
    def stop(self, event: write.Input) -> None:
        self.give(event, "stop")
        assert self.session.state is write.State.CLOSED

    @invariant()
    def stored_content_is_right(self) -> None:
        if hasattr(self, "writing"):
            assert self.content.startswith(bytes(self.writing.content))
            assert self.session.bytes_transferred == len(self.writing.content)
            if self.session.outcome is Outcome.COMPLETE:
                assert self.writing.content == self.content
                assert self.writing.finished


TestReadMachine = ReadMachine.TestCase
TestReadMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestWriteMachine = WriteMachine.TestCase
TestWriteMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
