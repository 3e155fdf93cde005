"""The session that sends: every cell of its table has a test that is named after it."""

import pytest
from cellnames import cells_without_test
from driving import OACK, Mute, Reading, Waits, numbered
from narrowing import of_type

from bootfw.errors import FileMissing, TransferError
from bootfw.table import IllegalInput
from bootfw.tftp import read
from bootfw.tftp.blocks import Blocks
from bootfw.tftp.read import BEYOND_WINDOW, Input, ReadSession, State
from bootfw.values import Agreed, Outcome
from bootfw.wire.tftp import Data, Error, OptionAck, Packet

CONTENT = numbered(20)
BLOCK = [Data(1, CONTENT[:8]), Data(2, CONTENT[8:16]), Data(3, CONTENT[16:])]
OACK_PACKET = OptionAck(OACK)


def negotiating(tsize: bool = False, **reading_options: object) -> Reading:
    agreed = Agreed(8, tsize=len(CONTENT) if tsize else None, acknowledged=OACK)
    reading = Reading(CONTENT, agreed, **reading_options)  # type: ignore[arg-type]
    assert reading.session.state is State.NEGOTIATING
    assert reading.take() == [OACK_PACKET]
    return reading


def fetching(windowsize: int = 1, **reading_options: object) -> Reading:
    """Block 1 and, with a window, those after it are being read."""
    reading = Reading(CONTENT, Agreed(8, windowsize), lazy=True, **reading_options)  # type: ignore[arg-type]
    assert reading.session.state is State.FETCHING
    return reading


def refetching(windowsize: int = 1) -> Reading:
    """The window was in flight, and is being read again."""
    reading = fetching(windowsize)
    reading.fetch()
    reading.tick()
    assert reading.session.state is State.FETCHING
    return reading


def awaiting(
    acked: int = 0, windowsize: int = 1, content: bytes = CONTENT, tsize: bool = False, **reading_options: object
) -> Reading:
    """The block after *acked* is in flight."""
    agreed = Agreed(8, windowsize, tsize=len(content) if tsize else None)
    reading = Reading(content, agreed, **reading_options)  # type: ignore[arg-type]
    for block in range(1, acked + 1):
        reading.ack(block)
    assert reading.session.state is State.AWAITING_ACK
    reading.take()
    return reading


def closed() -> Reading:
    reading = awaiting(acked=2)
    reading.ack(3)
    assert reading.session.state is State.CLOSED
    return reading


def outcome_of(reading: Reading) -> Outcome | None:
    assert reading.session.state is State.CLOSED
    assert reading.session.out == []
    return reading.session.outcome


# NEGOTIATING


def test_negotiating_ack_0_starts_the_transfer() -> None:
    reading = negotiating()
    assert reading.ack(0, at=0.25) == [BLOCK[0]]
    assert reading.session.deadline == 1.25
    assert reading.watchdog.samples == [0.25]
    assert reading.session.last_heard == 0.25


@pytest.mark.parametrize(("windowsize", "cached_through", "count"), [(1, 1, 1), (2, 2, 2), (2, 40, 2)])
def test_negotiating_ack_0_sends_a_cached_window_without_fetching(
    windowsize: int, cached_through: int, count: int
) -> None:
    reading = Reading(CONTENT, Agreed(8, windowsize, acknowledged=OACK), lazy=True)
    session = reading.session
    session.out.clear()
    session.cached_through = cached_through
    session.handle(Input.ACK, 0, 0.25)
    assert (session.state, session.out, session.wants) == (State.AWAITING_ACK, [Blocks(1, count)], None)
    assert (session.deadline, session.sent, session.acked) == (1.25, count, 0)


def test_negotiating_ack_0_fetches_a_window_of_which_only_a_part_is_cached() -> None:
    reading = Reading(CONTENT, Agreed(8, 2, acknowledged=OACK), lazy=True)
    reading.session.cached_through = 1
    reading.session.handle(Input.ACK, 0, 0.25)
    assert (reading.session.state, reading.session.wants) == (State.FETCHING, Blocks(1, 2))


@pytest.mark.parametrize("number", [1, 2, 65535])
def test_negotiating_ack_of_anything_else_is_ignored(number: int) -> None:
    reading = negotiating()
    assert reading.ack(number) == []
    assert reading.session.state is State.NEGOTIATING
    assert reading.session.deadline == 1.0


def test_negotiating_ack_0_after_a_second_oack_gives_no_round_trip() -> None:
    reading = negotiating()
    assert reading.tick() == [OACK_PACKET]
    assert reading.ack(0, at=1.5) == [BLOCK[0]]
    assert reading.watchdog.samples == [None]


def test_negotiating_ack_0_comes_as_often_as_the_oack_and_starts_once() -> None:
    reading = Reading(CONTENT, Agreed(8, 2, acknowledged=OACK))
    reading.tick()
    assert reading.ack(0, at=1.5) == BLOCK[:2]
    assert reading.ack(0, at=1.6) == [], "it answers the other OACK; nothing got lost"


def test_negotiating_fetched_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        negotiating().give(Input.FETCHED, 8)


def test_negotiating_failed_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        negotiating().give(Input.FAILED, TransferError())


@pytest.mark.parametrize("code", [0, 8])
def test_negotiating_peer_error_after_tsize_is_a_size_probe(code: int) -> None:
    reading = negotiating(tsize=True)
    assert reading.give(Input.PEER_ERROR, (code, "User aborted the transfer")) == []
    assert outcome_of(reading) is Outcome.SIZE_PROBE


@pytest.mark.parametrize(("code", "tsize"), [(0, False), (8, False), (3, True), (5, False), (5, True)])
def test_negotiating_peer_error_stops_it(code: int, tsize: bool) -> None:
    reading = negotiating(tsize=tsize)
    assert reading.give(Input.PEER_ERROR, (code, "no\nroom")) == []
    assert outcome_of(reading) is Outcome.STOPPED_BY_PEER
    assert reading.session.detail == f"error {code}: 'no\\nroom'"


def test_negotiating_peer_error_0_for_an_unknown_size_is_a_failure() -> None:
    reading = negotiating(known=False)
    reading.give(Input.PEER_ERROR, (0, ""))
    assert outcome_of(reading) is Outcome.STOPPED_BY_PEER


def test_negotiating_requested_repeats_the_oack_and_not_the_deadline() -> None:
    reading = negotiating()
    for at in (0.2, 0.4, 0.9):
        assert reading.give(Input.REQUESTED, at=at) == [OACK_PACKET]
    assert reading.session.deadline == 1.0
    assert reading.session.retransmitted == 3
    reading.ack(0, at=0.95)
    assert reading.watchdog.samples == [None]


def test_negotiating_requested_does_not_use_up_attempts() -> None:
    reading = negotiating()
    for _ in range(10):
        reading.give(Input.REQUESTED)
    assert [reading.tick() for _ in range(2)] == [[OACK_PACKET], [OACK_PACKET]]
    assert reading.session.deadline == 11.0


def test_negotiating_tick_repeats_the_oack_and_then_gives_up() -> None:
    reading = negotiating()
    assert reading.tick() == [OACK_PACKET]
    assert reading.session.deadline == 4.0
    assert reading.tick() == [OACK_PACKET]
    assert reading.session.deadline == 11.0
    assert reading.session.retransmitted == 2
    assert reading.tick() == []
    assert outcome_of(reading) is Outcome.TIMED_OUT
    assert reading.session.detail == "the OACK was not answered"


def test_negotiating_tick_too_early_does_nothing() -> None:
    reading = negotiating()
    assert reading.give(Input.TICK, at=0.999) == []
    assert reading.session.deadline == 1.0


@pytest.mark.parametrize(("timeout", "late_repeat"), [(None, 12.0), (1, 12.0), (5, 12.0), (6, 14.4), (255, 612.0)])
def test_negotiating_tick_repeats_an_oack_that_may_end_the_client_once_and_late(
    timeout: int | None, late_repeat: float
) -> None:
    """The client's own timer would have expired twice by then, so the client repeats nothing."""
    reading = Reading(CONTENT, Agreed(8, timeout=timeout, acknowledged=OACK), oack_once=True)
    assert reading.take() == [OACK_PACKET]
    assert reading.tick() == []
    assert reading.session.deadline == pytest.approx(late_repeat)
    assert reading.tick() == [OACK_PACKET]
    assert reading.session.deadline == pytest.approx(late_repeat + 3)
    assert reading.tick() == []
    assert reading.session.deadline == pytest.approx(late_repeat + 3 + 7)
    assert reading.tick() == []
    assert outcome_of(reading) is Outcome.TIMED_OUT


def test_negotiating_tick_does_not_come_before_the_wait_of_the_watchdog() -> None:
    reading = Reading(CONTENT, Agreed(8, acknowledged=OACK), Waits((30.0, 30.0)), oack_once=True)
    reading.take()
    assert reading.tick() == [OACK_PACKET]
    assert reading.now == 30.0


def test_negotiating_requested_delays_the_late_oack_by_two_more_timeouts_of_the_client() -> None:
    reading = negotiating(oack_once=True)
    assert reading.give(Input.REQUESTED, at=5.0) == [OACK_PACKET]
    assert reading.tick() == []
    assert reading.give(Input.REQUESTED, at=10.0) == [OACK_PACKET]
    assert reading.tick() == []
    assert reading.tick() == [OACK_PACKET]
    assert reading.now == 22.0


def test_negotiating_requested_again_and_again_still_times_out() -> None:
    reading = negotiating(oack_once=True)
    while reading.session.outcome is None:
        assert reading.now < 60
        deadline = reading.session.deadline
        assert deadline is not None
        if reading.now + 0.5 < deadline:
            reading.give(Input.REQUESTED, at=reading.now + 0.5)
        else:
            reading.tick()
    assert reading.session.outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize("at", [3.0, 12.5])
def test_negotiating_ack_0_that_the_clients_timer_has_repeated_gives_no_round_trip(at: float) -> None:
    reading = negotiating(oack_once=True)
    while reading.session.deadline is not None and reading.session.deadline < at:
        reading.tick()
    assert reading.ack(0, at=at) == [BLOCK[0]]
    assert reading.watchdog.samples == [None]


def test_negotiating_cancel_sends_an_error() -> None:
    reading = negotiating()
    assert reading.give(Input.CANCEL, "the server is stopping") == [Error(0, "the server is stopping")]
    assert outcome_of(reading) is Outcome.CANCELLED


def test_negotiating_replaced_sends_nothing() -> None:
    reading = negotiating()
    assert reading.give(Input.REPLACED) == []
    assert outcome_of(reading) is Outcome.CANCELLED


# FETCHING


def test_fetching_ack_of_nothing_in_flight_is_ignored() -> None:
    reading = fetching()
    for number in (0, 1, 2, 65535):
        assert reading.ack(number) == []
    assert reading.fetch() == [BLOCK[0]]
    assert reading.session.acked == 0


def test_fetching_ack_that_was_late_moves_the_window() -> None:
    reading = refetching()
    assert reading.ack(1, at=1.5) == []
    assert reading.session.state is State.FETCHING
    assert reading.session.acked == 1
    assert reading.session.wants is not None
    assert reading.session.wants.first == 1, "one read at a time"
    assert reading.fetch() == [], "block 1 is not needed any more"
    assert reading.fetch() == [BLOCK[1]]
    assert reading.session.retransmitted == 0
    assert reading.watchdog.samples == [1.5], "it was sent once when this answer came"


def test_fetching_ack_within_the_window_moves_it() -> None:
    reading = refetching(windowsize=2)
    assert reading.ack(1) == []
    assert reading.fetch() == []
    assert reading.fetch() == [BLOCK[1], BLOCK[2]]
    assert reading.session.retransmitted == 1


def test_fetching_ack_of_the_last_block_completes() -> None:
    reading = refetching(windowsize=4)
    assert reading.ack(3) == []
    assert outcome_of(reading) is Outcome.COMPLETE
    assert reading.session.bytes_transferred == 20


def test_fetching_fetched_sends_the_window() -> None:
    reading = fetching(windowsize=2)
    reading.now = 5.0
    assert reading.fetch() == BLOCK[:2]
    assert reading.session.state is State.AWAITING_ACK
    assert reading.session.deadline == 6.0, "the wait begins with the sending"


def test_fetching_fetched_never_reads_beyond_the_known_end() -> None:
    reading = fetching(windowsize=16)
    assert reading.fetch() == BLOCK
    assert reading.fetched == [(0, 20)]


def test_fetching_fetched_short_ends_a_file_of_unknown_size() -> None:
    reading = fetching(windowsize=4, known=False)
    assert reading.session.size is None
    assert reading.fetch() == BLOCK
    assert reading.fetched == [(0, 32)]
    assert reading.session.size == 20
    reading.ack(3)
    assert outcome_of(reading) is Outcome.COMPLETE


@pytest.mark.parametrize("length", [0, 15, 19])
def test_fetching_fetched_short_of_the_known_size_fails(length: int) -> None:
    reading = fetching(windowsize=4)
    reading.give(Input.FETCHED, length)
    assert reading.session.outcome is Outcome.FAILED
    assert reading.session.detail == "file changed while being sent"


def test_fetching_fetched_short_of_what_was_sent_before_fails() -> None:
    reading = fetching(windowsize=2, known=False)
    reading.fetch()
    reading.ack(0)
    assert reading.give(Input.FETCHED, 9) == [Error(0, "file changed while being sent")]
    assert outcome_of(reading) is Outcome.FAILED


def test_fetching_fetched_again_may_find_the_end_behind_what_was_sent() -> None:
    reading = Reading(CONTENT, Agreed(8, 2), known=False, lazy=True)
    reading.fetch()
    reading.content = CONTENT[:16]
    reading.ack(0)
    assert reading.fetch() == BLOCK[:2]
    reading.ack(2)
    assert reading.fetch() == [Data(3, b"")]


def test_fetching_fetched_too_much_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        fetching().give(Input.FETCHED, 9)


def test_fetching_failed_sends_an_error() -> None:
    reading = fetching()
    assert reading.give(Input.FAILED, FileMissing("gone")) == [Error(1, "gone")]
    assert outcome_of(reading) is Outcome.FAILED
    assert reading.session.detail == "gone"


def test_fetching_peer_error_stops_it() -> None:
    reading = fetching()
    assert reading.give(Input.PEER_ERROR, (0, "closed")) == []
    assert outcome_of(reading) is Outcome.STOPPED_BY_PEER
    assert reading.session.wants is None


def test_fetching_peer_error_5_is_ignored_from_a_peer_that_has_answered() -> None:
    reading = Reading(CONTENT, Agreed(8, acknowledged=OACK), lazy=True)
    reading.ack(0)
    assert reading.give(Input.PEER_ERROR, (5, "Unknown transfer ID")) == []
    assert reading.session.state is State.FETCHING
    assert reading.fetch() == [BLOCK[0]]


def test_fetching_requested_is_ignored() -> None:
    reading = fetching()
    assert reading.give(Input.REQUESTED) == []
    assert reading.fetch() == [BLOCK[0]]


def test_fetching_tick_is_ignored() -> None:
    reading = fetching()
    assert reading.give(Input.TICK, at=1e9) == []
    assert reading.session.state is State.FETCHING


def test_fetching_cancel_sends_an_error() -> None:
    reading = fetching()
    assert reading.give(Input.CANCEL, "stop") == [Error(0, "stop")]
    assert outcome_of(reading) is Outcome.CANCELLED


def test_fetching_replaced_sends_nothing() -> None:
    reading = fetching()
    assert reading.give(Input.REPLACED) == []
    assert outcome_of(reading) is Outcome.CANCELLED


# AWAITING_ACK


def test_awaiting_ack_ack_brings_the_next_block() -> None:
    reading = awaiting()
    assert reading.ack(1, at=0.5) == [BLOCK[1]]
    assert reading.session.deadline == 1.5
    assert reading.session.bytes_transferred == 8
    assert reading.watchdog.samples == [0.5]


def test_awaiting_ack_ack_of_the_last_block_completes() -> None:
    reading = awaiting(acked=2)
    assert reading.ack(3) == []
    assert outcome_of(reading) is Outcome.COMPLETE
    assert (reading.session.acked, reading.session.bytes_transferred, reading.session.detail) == (3, 20, "")


@pytest.mark.parametrize("number", [0, 1, 65535, 4, 5, 32768])
def test_awaiting_ack_ack_of_another_block_is_ignored(number: int) -> None:
    reading = awaiting(acked=2)
    assert reading.ack(number) == []
    assert reading.session.state is State.AWAITING_ACK
    assert reading.session.acked == 2


def test_awaiting_ack_ack_of_a_whole_window_slides_it() -> None:
    reading = awaiting(windowsize=2)
    assert reading.ack(2) == [BLOCK[2]]


def test_awaiting_ack_ack_within_the_window_goes_back_to_what_follows_it() -> None:
    reading = awaiting(windowsize=2)
    assert reading.ack(1) == [BLOCK[1], BLOCK[2]]
    assert reading.session.retransmitted == 1


def test_awaiting_ack_ack_repeated_sends_a_window_again_once() -> None:
    reading = awaiting(windowsize=2)
    assert [reading.ack(0) for _ in range(3)] == [BLOCK[:2], [], []]
    assert reading.session.deadline == 1.0


def test_awaiting_ack_ack_repeated_by_the_timer_of_the_client_is_answered_each_time() -> None:
    reading = awaiting(windowsize=2, watchdog=Waits((9, 9)))
    assert [reading.ack(0, at=at) for at in (0.0, 0.99, 1.0, 1.99, 2.0)] == [BLOCK[:2], [], BLOCK[:2], [], BLOCK[:2]]


def test_awaiting_ack_ack_repeated_at_the_end_of_a_window_sent_twice_is_answered_for_the_timer_of_the_client() -> None:
    reading = awaiting(windowsize=2, watchdog=Waits((9, 9)))
    assert reading.ack(0, at=9.0) == BLOCK[:2]
    assert reading.ack(2, at=9.5) == [BLOCK[2]]
    assert [reading.ack(2, at=at) for at in (10.49, 10.5)] == [[], [BLOCK[2]]]


def repeating_acks(**reading_options: object) -> Reading:
    """A file of seven blocks; the peer repeats its ACKs: it has acknowledged 2 twice, and 3 to 6 were sent twice."""
    reading = Reading(numbered(49), Agreed(8, 4), **reading_options)  # type: ignore[arg-type]
    reading.take()
    assert [len(reading.ack(2)) for _ in range(2)] == [4, 4]
    return reading


def test_awaiting_ack_ack_that_echoes_an_old_block_brings_only_the_new_end() -> None:
    reading = repeating_acks()
    assert reading.ack(3, at=0.5) == [Data(7, b"\0")]
    assert reading.session.deadline == 0.5 + 0.002, "a round trip later it is taken for what it says"
    assert reading.ack(4, at=0.75) == [], "the end is out already"
    assert reading.session.deadline == 0.75 + 0.002, "but it is progress"
    assert reading.ack(4, at=0.875) != [], "repeated: so block 5 did get lost"


def test_awaiting_ack_ack_within_the_window_goes_back_for_a_peer_that_does_not_repeat() -> None:
    reading = Reading(numbered(49), Agreed(8, 4))
    reading.take()
    assert [packet.block for packet in reading.ack(2) if isinstance(packet, Data)] == [3, 4, 5, 6]
    assert [packet.block for packet in reading.ack(3) if isinstance(packet, Data)] == [4, 5, 6, 7]


def test_fetching_ack_while_the_new_end_is_read_fetches_again() -> None:
    reading = repeating_acks()
    reading.lazy = True
    reading.ack(3)
    assert reading.session.wants == Blocks(7, 1)
    reading.ack(4)
    assert reading.fetch() == []
    assert reading.session.wants == Blocks(5, 3)


def test_awaiting_ack_ack_repeated_is_answered_once_more_after_the_timer() -> None:
    reading = awaiting(windowsize=2)
    assert reading.ack(0) == BLOCK[:2]
    assert reading.ack(0) == []
    assert reading.tick() == BLOCK[:3]
    assert reading.ack(0) == BLOCK[:2]
    assert reading.ack(0) == []


def test_awaiting_ack_ack_gives_no_round_trip_after_a_second_sending() -> None:
    reading = awaiting()
    reading.tick()
    reading.ack(1)
    assert reading.watchdog.samples == [None]


def test_awaiting_ack_ack_gives_a_round_trip_for_what_was_sent_once() -> None:
    reading = awaiting(windowsize=2)
    assert reading.ack(1, at=0.5) == [BLOCK[1], BLOCK[2]]
    reading.ack(3, at=0.75)
    assert reading.watchdog.samples == [0.5, 0.25], "block 3 went out once, at 0.5"


def test_awaiting_ack_ack_works_with_a_watchdog_that_does_not_learn() -> None:
    reading = Reading(CONTENT, watchdog=Mute())
    assert reading.take() == [BLOCK[0]]
    assert [reading.ack(number) for number in (1, 2, 3)] == [[BLOCK[1]], [BLOCK[2]], []]


def test_awaiting_ack_fetched_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        awaiting().give(Input.FETCHED, 8)


def test_awaiting_ack_failed_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        awaiting().give(Input.FAILED, TransferError())


@pytest.mark.parametrize(
    ("acked", "code", "tsize", "outcome"),
    [
        (0, 0, True, Outcome.SIZE_PROBE),
        (1, 8, True, Outcome.SIZE_PROBE),
        (1, 0, False, Outcome.STOPPED_BY_PEER),
        (1, 3, True, Outcome.STOPPED_BY_PEER),
        (2, 0, False, Outcome.UNCONFIRMED),
        (2, 0, True, Outcome.UNCONFIRMED),
        (2, 8, True, Outcome.STOPPED_BY_PEER),
        (2, 3, True, Outcome.STOPPED_BY_PEER),
        (0, 5, True, Outcome.STOPPED_BY_PEER),
    ],
)
def test_awaiting_ack_peer_error_ends_it(acked: int, code: int, tsize: bool, outcome: Outcome) -> None:
    reading = awaiting(acked, tsize=tsize)
    assert reading.give(Input.PEER_ERROR, (code, "why")) == []
    assert outcome_of(reading) is outcome
    assert reading.session.detail == f"error {code}: 'why'"


def test_awaiting_ack_peer_error_5_is_ignored_from_a_peer_that_has_answered() -> None:
    reading = awaiting(acked=1)
    assert reading.give(Input.PEER_ERROR, (5, "Unknown transfer ID")) == []
    assert reading.ack(2) == [BLOCK[2]]


def test_awaiting_ack_requested_repeats_the_first_block_and_not_the_deadline() -> None:
    reading = awaiting()
    assert reading.give(Input.REQUESTED, at=0.4) == [BLOCK[0]]
    assert reading.session.deadline == 1.0
    assert reading.session.retransmitted == 1
    reading.ack(1, at=0.6)
    assert reading.watchdog.samples == [None]


def test_awaiting_ack_requested_is_ignored_once_the_peer_has_acknowledged_something() -> None:
    reading = awaiting(acked=1)
    assert reading.give(Input.REQUESTED) == []
    reading = negotiating()
    reading.ack(0)
    assert reading.give(Input.REQUESTED) == []


def after_timeouts(ticks: int, content: bytes = numbered(8 * 40), **reading_options: object) -> Reading:
    """Windows of 4; blocks 1 to 4 are acknowledged, 5 to 8 were sent, followed by so many timeouts."""
    reading = Reading(content, Agreed(8, 4), Waits((1.0,) * 9), **reading_options)  # type: ignore[arg-type]
    reading.take()
    reading.ack(4, at=0.01)
    for _ in range(ticks):
        reading.tick()
    return reading


def blocks(packets: list[Packet]) -> list[int]:
    """The numbers of the blocks in DATA packets; 0 for a marker, which has no data."""
    return [packet.block if packet.payload else 0 for packet in packets if isinstance(packet, Data)]


def test_awaiting_ack_tick_sends_one_new_block_and_a_marker() -> None:
    reading = after_timeouts(0)
    assert blocks(reading.tick()) == [9, 0]
    assert reading.session.retransmitted == 0
    # The client had the window, and has the new block.
    assert blocks(reading.ack(9, at=1.02)) == [10, 11, 12, 13]
    assert of_type(Waits, reading.watchdog).samples[-1] == pytest.approx(0.01)


def test_awaiting_ack_tick_sends_all_at_the_second_time_and_one_more_block() -> None:
    reading = after_timeouts(1)
    assert blocks(reading.tick()) == [5, 6, 7, 8, 9, 10, 0]
    assert reading.session.retransmitted == 5
    assert blocks(reading.ack(6)) == [7, 8, 9, 10]


def test_awaiting_ack_tick_sends_four_blocks_beyond_the_window_at_most() -> None:
    reading = after_timeouts(3)
    assert BEYOND_WINDOW == 4
    assert [blocks(reading.tick()) for _ in range(2)] == [[*range(5, 13), 0]] * 2


def test_awaiting_ack_tick_sends_all_at_once_if_a_part_was_sent_twice() -> None:
    """A client reports a gap once, so a block was lost again, and not an ACK."""
    reading = after_timeouts(0)
    assert blocks(reading.ack(6)) == [7, 8, 9, 10]
    assert blocks(reading.tick()) == [7, 8, 9, 10, 11, 0]


def test_awaiting_ack_tick_at_the_end_of_the_file_needs_no_marker() -> None:
    reading = after_timeouts(0, numbered(8 * 8 + 4))
    assert blocks(reading.tick()) == [9]
    assert blocks(reading.tick()) == [5, 6, 7, 8, 9]


def test_awaiting_ack_late_acks_after_a_tick_have_nothing_sent_twice() -> None:
    reading = after_timeouts(1)
    assert blocks(reading.ack(8, at=1.012)) == [10, 11, 12]
    assert blocks(reading.ack(9, at=1.013)) == [13]
    assert reading.session.retransmitted == 0
    # The ACK of the new block may also report a gap behind it: then the block is sent again soon.
    assert reading.session.deadline is not None
    assert reading.session.deadline < 1.1


def test_awaiting_ack_tick_while_the_answer_to_an_ack_is_fetched_sends_no_marker() -> None:
    reading = after_timeouts(0)
    reading.lazy = True
    reading.tick()
    assert reading.session.state is State.FETCHING
    reading.ack(8)
    # The fetched block is no longer needed; the next window is fetched.
    assert reading.fetch() == []
    assert blocks(reading.fetch()) == [9, 10, 11, 12]


def test_awaiting_ack_tick_sends_the_window_again_and_then_gives_up() -> None:
    reading = awaiting(windowsize=2)
    assert reading.tick() == [BLOCK[2]]
    assert reading.session.deadline == 4.0
    assert reading.tick() == BLOCK[:3]
    assert reading.session.deadline == 11.0
    assert reading.session.retransmitted == 3
    assert reading.tick() == []
    assert outcome_of(reading) is Outcome.TIMED_OUT
    assert reading.session.detail == "no ACK after block 0"


def test_awaiting_ack_tick_restarts_after_progress() -> None:
    reading = awaiting()
    reading.tick()
    reading.ack(1)
    assert reading.session.deadline == 2.0
    assert [bool(reading.tick()) for _ in range(3)] == [True, True, False]


def test_awaiting_ack_tick_too_early_does_nothing() -> None:
    reading = awaiting()
    assert reading.give(Input.TICK, at=0.999) == []
    assert reading.session.state is State.AWAITING_ACK


def test_awaiting_ack_tick_without_the_last_ack_ends_it_unconfirmed() -> None:
    reading = awaiting(acked=2)
    assert [bool(reading.tick()) for _ in range(3)] == [True, True, False]
    assert outcome_of(reading) is Outcome.UNCONFIRMED
    assert (reading.session.acked, reading.session.bytes_transferred) == (2, 16)


def test_awaiting_ack_tick_without_the_ack_of_the_last_window_ends_it_unconfirmed() -> None:
    reading = awaiting(windowsize=2)
    reading.ack(2)
    while reading.session.state is not State.CLOSED:
        reading.tick()
    assert reading.session.outcome is Outcome.UNCONFIRMED
    assert reading.session.detail == "no ACK after block 2 of 3"


def test_awaiting_ack_tick_ends_it_with_a_timeout_when_the_peer_never_answered() -> None:
    reading = awaiting(content=b"tiny")
    while reading.session.state is not State.CLOSED:
        reading.tick()
    assert reading.session.outcome is Outcome.TIMED_OUT


def test_awaiting_ack_cancel_sends_an_error() -> None:
    reading = awaiting()
    assert reading.give(Input.CANCEL, "stop") == [Error(0, "stop")]
    assert outcome_of(reading) is Outcome.CANCELLED
    assert reading.session.detail == "stop"


def test_awaiting_ack_replaced_sends_nothing() -> None:
    reading = awaiting()
    assert reading.give(Input.REPLACED) == []
    assert outcome_of(reading) is Outcome.CANCELLED


# PROVING


def proving(windowsize: int = 4, acked: int = 0, content: bytes = numbered(40_000)) -> Reading:
    """A burst is in flight. The first two bursts have one block, the third up to two, the fourth up to three, the fifth
    up to four; with the random numbers of the test they have as many as they may."""
    agreed = Agreed(500, windowsize, acknowledged=OACK)
    reading = Reading(content, agreed, Waits((1.0, 2.0, 3.0, 4.0, 5.0, 6.0)), request_bytes=1)
    for number in (0, 1, 2, 4, 7)[: acked + 1]:
        reading.ack(number, at=(number + 1) / 100)
    assert reading.session.state is State.PROVING
    reading.take()
    return reading


def odds(reading: Reading) -> float:
    assert reading.session._proof is not None
    return reading.session._proof.odds


def test_proving_ack_of_the_burst_makes_the_next_one_larger_as_the_acks_allow() -> None:
    reading = proving()
    sizes = []
    while reading.session.state is State.PROVING:
        sizes.append(reading.session.sent - reading.session.acked)
        reading.ack(reading.session.sent, at=reading.now + 0.01)
    assert sizes == [1, 1, 2, 3, 4, 4]


def test_proving_ack_of_enough_bursts_continues_with_windows() -> None:
    reading = proving(8)
    while reading.session.state is State.PROVING:
        packets = reading.ack(reading.session.sent, at=reading.now + 0.01)
    acked = reading.session.acked
    assert blocks(packets) == [*range(acked + 1, acked + 9)]
    assert reading.session.state is State.AWAITING_ACK


def test_proving_ack_of_a_part_goes_on_from_there_and_lowers_the_odds() -> None:
    reading = proving(acked=2)
    odds_before = odds(reading)
    assert blocks(reading.ack(3, at=0.04))[0] == 4
    assert reading.session.acked == 3
    assert odds(reading) == odds_before / 4


def test_proving_ack_repeated_sends_a_burst_from_there_once() -> None:
    reading = proving(acked=2)
    odds_before = odds(reading)
    assert blocks(reading.ack(2, at=0.04))[0] == 3
    assert odds(reading) == odds_before / 4
    assert reading.session.retransmitted == 2
    assert reading.ack(2, at=0.06) == []
    assert blocks(reading.tick())[-1:] == [0]
    assert blocks(reading.ack(2, at=reading.now + 0.02))[0] == 3, "once more after the timer"
    assert reading.ack(2, at=reading.now + 0.9) == []
    assert blocks(reading.ack(2, at=reading.now + 0.1))[0] == 3, "and for the timer of the client"


def test_proving_ack_faster_than_a_round_trip_does_not_prove() -> None:
    reading = proving(acked=2)
    odds_before = odds(reading)
    assert reading.ack(3, at=0.0301) == []
    assert odds(reading) == odds_before / 4
    assert blocks(reading.ack(4, at=0.0302))[0] == 5, "but it goes on"
    assert odds(reading) == odds_before / 16


def test_proving_ack_of_an_end_before_the_timer_made_the_burst_longer_counts_less() -> None:
    """The ACK took longer than usual."""
    reading = proving(acked=4)
    odds_before = odds(reading)
    burst_end = reading.session.sent
    reading.tick()
    assert reading.session.sent == burst_end + 1
    reading.ack(burst_end, at=reading.now + 0.02)
    assert odds_before < odds(reading) < odds_before * 3.25


def test_proving_ack_of_something_else_is_ignored() -> None:
    reading = proving(acked=2)
    for number in (0, 6, 0x3000, 0xFFFF):
        assert reading.ack(number, at=0.04) == []
    assert reading.session.state is State.PROVING


def test_proving_ack_of_the_last_block_is_the_end() -> None:
    reading = proving(acked=2, content=numbered(1520))
    assert reading.session.sent == 4
    assert reading.ack(4, at=0.05) == []
    assert outcome_of(reading) is Outcome.COMPLETE


def test_proving_fetched_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        proving().give(Input.FETCHED, 8)


def test_proving_failed_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        proving().give(Input.FAILED, TransferError())


def test_proving_peer_error_stops_it() -> None:
    reading = proving()
    assert reading.give(Input.PEER_ERROR, (3, "memory full")) == []
    assert outcome_of(reading) is Outcome.STOPPED_BY_PEER


def test_proving_requested_is_ignored() -> None:
    assert proving().give(Input.REQUESTED) == []


def test_proving_tick_sends_a_new_block_then_all_with_another_one_as_the_acks_allow() -> None:
    """A client that has the whole burst answers a new block. One that does not answer it lacks a block of the burst."""
    reading = proving(8, acked=4)
    burst_end = reading.session.sent
    assert (reading.session.acked, burst_end) == (7, 11)
    assert blocks(reading.tick()) == [burst_end + 1, 0]
    assert blocks(reading.tick()) == [*range(8, burst_end + 3), 0]
    while packets := reading.tick():
        assert len(packets) > 1
    assert blocks(reading.ack(burst_end, at=reading.now))[:1] == [burst_end + 1]


def test_proving_tick_at_the_end_of_the_file_sends_all_without_a_marker_behind_it() -> None:
    reading = proving(content=numbered(1020))
    reading.ack(1, at=0.02)
    reading.ack(2, at=0.03)
    assert reading.session.sent == 3
    assert [packet.block for packet in reading.tick() if isinstance(packet, Data)][:1] == [3]


def test_proving_tick_gives_up_at_last() -> None:
    reading = proving()
    while reading.session.state is not State.CLOSED:
        reading.tick()
    assert reading.session.outcome is Outcome.TIMED_OUT


def test_proving_tick_too_early_does_nothing() -> None:
    reading = proving()
    assert reading.give(Input.TICK, at=0.5) == []


def test_proving_cancel_sends_an_error() -> None:
    reading = proving()
    assert reading.give(Input.CANCEL, "stop") == [Error(0, "stop")]
    assert outcome_of(reading) is Outcome.CANCELLED


def test_proving_replaced_sends_nothing() -> None:
    reading = proving()
    assert reading.give(Input.REPLACED) == []
    assert outcome_of(reading) is Outcome.CANCELLED


# CLOSED


def still_closed(event: Input, argument: object = None) -> bool:
    reading = closed()
    before = reading.session.acked, reading.session.outcome, reading.session.detail
    assert reading.give(event, argument, at=1e6) == []
    assert (reading.session.acked, reading.session.outcome, reading.session.detail) == before
    return reading.session.state is State.CLOSED


def test_closed_ack_is_ignored() -> None:
    assert all(still_closed(Input.ACK, number) for number in (0, 2, 3, 4))


def test_closed_fetched_is_ignored() -> None:
    assert still_closed(Input.FETCHED, 8)


def test_closed_failed_is_ignored() -> None:
    assert still_closed(Input.FAILED, TransferError())


def test_closed_peer_error_is_ignored() -> None:
    assert still_closed(Input.PEER_ERROR, (8, "late"))


def test_closed_requested_is_ignored() -> None:
    assert still_closed(Input.REQUESTED)


def test_closed_tick_is_ignored() -> None:
    assert still_closed(Input.TICK)


def test_closed_cancel_is_ignored() -> None:
    assert still_closed(Input.CANCEL, "stop")


def test_closed_replaced_is_ignored() -> None:
    assert still_closed(Input.REPLACED)


# Continuing the transfer of another session


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("agreed", [Agreed(8), Agreed(8, acknowledged=OACK)], ids=["plain", "OACK"])
def test_it_continues_behind_the_acknowledged_blocks(agreed: Agreed, known: bool) -> None:
    reading = Reading(CONTENT, agreed, known=known, resumed=1)
    assert reading.session.state is State.AWAITING_ACK
    assert reading.take() == [BLOCK[1]]
    assert reading.tick() == [BLOCK[1]]
    assert reading.ack(2) == [BLOCK[2]]
    assert reading.ack(3) == []
    assert outcome_of(reading) is Outcome.COMPLETE
    assert reading.session.bytes_transferred == len(CONTENT)


def test_it_continues_with_a_window() -> None:
    reading = Reading(CONTENT, Agreed(8, 2), resumed=0)
    assert reading.take() == BLOCK[:2]


@pytest.mark.parametrize("request_bytes", [None, 30])
@pytest.mark.parametrize("received", [10, 18, 22])
def test_it_continues_behind_the_blocks_that_the_earlier_session_has_sent(
    received: int, request_bytes: int | None
) -> None:
    """The earlier session has sent more than it knows to be acknowledged, and the client has received it."""
    content = bytes(8 * 40)
    reading = Reading(content, Agreed(8, 16), resumed=3 if received > 10 else 0, request_bytes=request_bytes)
    reading.take()
    assert reading.ack(received, at=0.1)[0] == Data(received + 1, bytes(8))
    assert reading.session.acked == received


def test_it_ignores_acks_of_blocks_that_the_earlier_session_can_not_have_sent() -> None:
    reading = Reading(bytes(8 * 40), Agreed(8, 16), resumed=3)
    reading.take()
    assert reading.ack(3 + 16 + BEYOND_WINDOW + 1, at=0.1) == []
    assert reading.session.acked == 3


@pytest.mark.parametrize("acked", [3, 4])
def test_it_continues_at_the_end_of_the_file(acked: int) -> None:
    reading = Reading(CONTENT, resumed=acked)
    assert reading.take() == []
    assert outcome_of(reading) is Outcome.COMPLETE


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), State, Input) == []


def test_a_wait_of_none_after_the_first_sending_gives_up_at_once() -> None:
    reading = Reading(CONTENT, watchdog=Waits(()))
    assert reading.session.deadline == 0.0
    assert reading.take() == [BLOCK[0]]
    assert reading.tick() == []
    assert outcome_of(reading) is Outcome.TIMED_OUT


def test_the_session_uses_the_table_of_its_module() -> None:
    assert ReadSession._table is read.TABLE
    assert ReadSession.Input is Input
