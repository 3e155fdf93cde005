"""The session that sends an image: each cell of its table, and a model of what is sent."""

from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.frisbee.blockqueue import IN_FLIGHT, UNREAD
from bootfw.frisbee.pace import Pace
from bootfw.frisbee.session import MOST_RECEIVERS, REFUSED_WAIT, TABLE, Input, NoReply, Reply, Session, State
from bootfw.table import IllegalInput, ignore, illegal
from bootfw.wire.frisbee import CHUNK_SIZE, WHOLE_CHUNK, Join, Leave, PartialRequest, Request

SIZE = 2_500_123
"""Three chunks, the last of 394 blocks."""
IDLE = 180.0
ONE, OTHER = "10.0.0.11", "10.0.0.12"


def session(size: int = SIZE, idle: float = IDLE, limit: float = 50e6) -> Session:
    return Session(size, Pace(limit), idle, 0.0)


def whole(chunk: int, source: str = ONE) -> Request:
    return Request(source, chunk, 0, 1024)


def reading(limit: float = 50e6) -> Session:
    made = session(limit=limit)
    made.handle(Input.REQUEST, whole(0), 1.0)
    made.handle(Input.TICK, None, 1.0)
    assert made.state is State.READING
    return made


def pacing() -> Session:
    made = reading()
    made.handle(Input.READ, None, 1.0)
    assert made.state is State.PACING
    return made


def ended() -> Session:
    made = session()
    made.handle(Input.CANCEL, "the server stops", 1.0)
    return made


Make = Callable[[], Session]
OPEN: list[Make] = [session, pacing, reading]


@pytest.mark.parametrize("make", OPEN)
def test_join_gets_the_size_and_is_counted_once(make: Make) -> None:
    made = make()
    state = made.state
    join = Join(ONE, 7, 2)
    made.handle(Input.JOIN, join, 2.0)
    made.handle(Input.JOIN, join, 2.5)
    assert made.out == [Reply(ONE, join), Reply(ONE, join)]
    assert (made.joined, list(made.receivers), made.state) == (1, [ONE], state)


def test_waiting_join_puts_the_end_off() -> None:
    made = session()
    assert made.deadline == IDLE
    made.handle(Input.JOIN, Join(ONE, 7, 2), 100.0)
    assert made.deadline == 100.0 + IDLE


def test_join_of_version_1_gets_no_reply_unless_the_image_has_whole_chunks() -> None:
    made = session()
    made.handle(Input.JOIN, Join(ONE, 7, 1), 1.0)
    assert made.out == [NoReply(ONE, "its JOIN needs an image of whole MiB, and this one has 2500123 bytes")]
    assert not made.receivers
    made = session(3 * CHUNK_SIZE)
    made.handle(Input.JOIN, Join(ONE, 7, 1), 1.0)
    assert made.out == [Reply(ONE, Join(ONE, 7, 1))]


def test_receivers_that_are_counted_are_bounded() -> None:
    made = session()
    made.receivers = {str(number): inf for number in range(MOST_RECEIVERS)}
    made.handle(Input.JOIN, Join(ONE, 7, 2), 1.0)
    assert len(made.receivers) == MOST_RECEIVERS
    assert made.out == [Reply(ONE, Join(ONE, 7, 2))]


def test_waiting_request_begins_the_transmission_at_once() -> None:
    made = session()
    made.handle(Input.REQUEST, whole(1), 5.0)
    assert made.state is State.PACING
    assert made.deadline is not None
    assert made.deadline <= 5.0
    assert made.blocks_wanted == 1024


def test_waiting_request_for_nothing_of_the_image_changes_nothing() -> None:
    made = session()
    made.handle(Input.REQUEST, whole(3), 5.0)
    made.handle(Input.REQUEST, PartialRequest(ONE, 0, 0, 0), 5.0)
    assert (made.state, made.deadline) == (State.WAITING, IDLE)


@pytest.mark.parametrize("make", [pacing, reading])
def test_further_request_is_merged(make: Make) -> None:
    made = make()
    state, deadline, wants = made.state, made.deadline, made.wants
    made.handle(Input.REQUEST, whole(1, OTHER), 1.0)
    made.handle(Input.REQUEST, whole(1), 1.0)
    assert (made.state, made.deadline, made.wants) == (state, deadline, wants)
    assert 1024 < made.blocks_wanted < 2048


@pytest.mark.parametrize("make", OPEN)
def test_leave_of_one_that_has_joined_is_counted(make: Make) -> None:
    made = make()
    made.handle(Input.JOIN, Join(ONE, 7, 2), 1.0)
    state, wanted = made.state, made.blocks_wanted
    for _ in range(2):
        made.handle(Input.LEAVE, Leave(ONE, 7, 3), 2.0)
    assert (made.receivers, made.joined, made.completed) == ({}, 1, 1)
    assert (made.state, made.blocks_wanted) == (state, wanted)


def test_waiting_tick_ends_it() -> None:
    made = session()
    made.handle(Input.TICK, None, IDLE)
    assert (made.state, made.detail, made.deadline) == (State.ENDED, "", None)


def test_a_session_can_wait_for_ever() -> None:
    made = session(idle=inf)
    assert made.deadline is None
    made.handle(Input.JOIN, Join(ONE, 7, 2), 1.0)
    assert made.deadline is None


def test_pacing_tick_has_a_burst_read() -> None:
    made = pacing()
    made.handle(Input.TICK, None, 1.1)
    assert made.state is State.READING
    assert made.deadline is None
    assert made.wants is not None
    assert made.wants.chunk == 0
    assert len(made.wants.blocks) == made.pace.burst


def test_read_is_counted_and_the_next_burst_is_due() -> None:
    made = reading()
    assert made.wants is not None
    count = len(made.wants.blocks)
    made.handle(Input.READ, None, 1.0)
    assert made.state is State.PACING
    assert made.blocks_sent == count
    assert made.deadline == made.pace.due > 0.99


def test_read_of_the_last_block_waits_for_requests() -> None:
    made = session()
    made.handle(Input.REQUEST, Request(ONE, 2, 393, 1), 1.0)
    made.handle(Input.TICK, None, 1.0)
    made.handle(Input.READ, None, 1.5)
    assert (made.state, made.deadline) == (State.WAITING, 1.5 + IDLE)


def test_refused_sends_the_same_blocks_later() -> None:
    made = reading()
    burst = made.wants
    made.handle(Input.REFUSED, None, 1.0)
    assert made.state is State.PACING
    assert made.blocks_sent == 0
    assert made.deadline == 1.0 + REFUSED_WAIT
    made.handle(Input.TICK, None, 1.1)
    assert made.wants == burst


@pytest.mark.parametrize("event", [Input.FAILED, Input.CANCEL])
def test_reading_failed_or_cancelled_ends_it_with_the_reason(event: Input) -> None:
    made = reading()
    made.handle(event, "the file has become shorter", 1.0)
    assert (made.state, made.detail) == (State.ENDED, "the file has become shorter")
    assert (made.wants, made.deadline, made.blocks_wanted) == (None, None, 0)


@pytest.mark.parametrize("make", OPEN)
def test_cancel_ends_it(make: Make) -> None:
    made = make()
    made.handle(Input.CANCEL, "the server stops", 1.0)
    assert (made.state, made.detail, made.deadline, made.wants) == (State.ENDED, "the server stops", None, None)


def test_ended_ignores_everything() -> None:
    made = ended()
    for event in Input:
        made.handle(event, Join(ONE, 7, 2), 2.0)
    assert (made.state, made.out, made.receivers) == (State.ENDED, [], {})


@pytest.mark.parametrize(
    ("state", "event"), [(s, e) for s, row in TABLE.items() for e, cell in row.items() if cell is illegal]
)
def test_illegal_cells_raise(state: State, event: Input) -> None:
    made = {State.WAITING: session, State.PACING: pacing, State.READING: reading}[state]()
    with pytest.raises(IllegalInput):
        made.handle(event, None, 1.0)


def test_every_cell_of_ended_is_ignored() -> None:
    assert set(TABLE[State.ENDED].values()) == {ignore}


def test_what_was_sent_to_a_receiver_and_is_requested_is_lost() -> None:
    made = session()
    made.handle(Input.JOIN, Join(ONE, 7, 2), 0.0)
    made.handle(Input.REQUEST, whole(0), 1.0)
    made.handle(Input.REQUEST, Request(ONE, 2, 0, 394), 1.0)
    now = run(made, 1.0)
    made.handle(Input.JOIN, Join(OTHER, 8, 2), now)
    made.handle(Input.REQUEST, PartialRequest(ONE, 0, 1, 0b111), now + 1)
    made.handle(Input.REQUEST, PartialRequest(ONE, 0, 1, 0b111), now + 1)  # wanted already
    made.handle(Input.REQUEST, PartialRequest(OTHER, 0, 0, 0b11000), now + 1)  # it had not joined
    made.handle(Input.REQUEST, whole(1), now + 1)  # not sent yet
    made.handle(Input.REQUEST, PartialRequest(ONE, 2, 1, 1 << 394), now + 1)  # not in the image
    assert made.blocks_lost == 3


def all_sent_to_one() -> tuple[Session, float]:
    """A session that has sent each chunk for ONE, and the time."""
    made = session()
    made.handle(Input.JOIN, Join(ONE, 7, 2), 0.0)
    for chunk in range(3):
        made.handle(Input.REQUEST, Request(ONE, chunk, 0, 1024), 1.0)
    return made, run(made, 1.0)


@pytest.mark.parametrize(("after", "sent"), [(0.01, 0), (UNREAD - 0.25, 0), (UNREAD + 0.1, 1024)])
def test_a_chunk_of_which_a_receiver_has_read_nothing_yet_is_not_sent_again(after: float, sent: int) -> None:
    made, now = all_sent_to_one()
    made.handle(Input.REQUEST, whole(1), now + after)
    assert made.blocks_wanted == sent


def test_a_whole_chunk_is_sent_again_to_a_receiver_that_began_after_it_was_sent() -> None:
    made, now = all_sent_to_one()
    now += 2 * IN_FLIGHT
    made.handle(Input.REQUEST, whole(0, "10.0.0.13"), now)  # it has not joined
    assert made.blocks_wanted == 1024
    made.handle(Input.JOIN, Join(OTHER, 8, 2), now)
    made.handle(Input.REQUEST, whole(1, OTHER), now)
    assert made.blocks_wanted == 2048


def test_a_part_of_a_chunk_is_sent_again_soon() -> None:
    made, now = all_sent_to_one()
    part = PartialRequest(ONE, 1, 1, WHOLE_CHUNK - 1)
    short = Request(ONE, 2, 0, 394)  # it can be lost as a whole
    for request in (part, short):
        made.handle(Input.REQUEST, request, now + 2 * IN_FLIGHT)
    assert made.blocks_wanted == 1023 + 394


def test_completed_chunks_make_it_faster_and_losses_slower() -> None:
    made = session(20 * CHUNK_SIZE, limit=1e9)
    made.handle(Input.JOIN, Join(ONE, 7, 2), 0.0)
    now, before = 1.0, made.pace.rate
    for chunk in range(4):
        made.handle(Input.REQUEST, whole(chunk), now)
        now = run(made, now)
    faster = made.pace.rate
    assert faster > before
    made.handle(Input.REQUEST, PartialRequest(ONE, 3, 0, (1 << 256) - 1), now + 1)
    # It became faster when the last chunk had been sent.
    assert made.pace.rate == pytest.approx(faster / 1.1 * 0.75, rel=0.06)


def run(made: Session, now: float) -> float:
    """Send all that is wanted; returns the time when it is sent."""
    while made.state is State.PACING:
        assert made.deadline is not None
        now = max(now, made.deadline)
        made.handle(Input.TICK, None, now)
        made.handle(Input.READ, None, now)
    return now


_REQUESTS = st.tuples(
    st.sampled_from([ONE, OTHER]),
    st.integers(0, 3),
    st.one_of(st.just(WHOLE_CHUNK), st.sets(st.integers(0, 1023), max_size=8).map(lambda s: sum(1 << n for n in s))),
)
_STEPS = st.one_of(_REQUESTS, st.sampled_from(["send", "refuse"]), st.floats(0.0, 0.1))


@given(st.lists(_STEPS, max_size=60))
def test_every_requested_block_is_sent_once_after_its_request(steps: list[object]) -> None:
    made = session(limit=5e6)
    now = 0.0
    owed: dict[tuple[int, int], float] = {}
    """Block -> when it was requested first since it was sent last."""
    sent: dict[tuple[int, int], float] = {}

    def has(chunk: int) -> int:
        return 1024 if chunk < 2 else 394 if chunk == 2 else 0

    def tick(result: Input) -> None:
        nonlocal now
        assert made.deadline is not None
        now = max(now, made.deadline)
        made.handle(Input.TICK, None, now)
        burst = made.wants
        assert burst is not None
        assert len(burst.blocks) <= made.pace.burst
        made.handle(result, None, now)
        if result is Input.READ:
            for block in burst.blocks:
                owed.pop((burst.chunk, block))  # no block is sent that is not owed
                sent[burst.chunk, block] = now

    for step in steps:
        if isinstance(step, tuple):
            source, chunk, wanted = step
            made.handle(Input.REQUEST, PartialRequest(source, chunk, 0, wanted), now)
            for block in range(has(chunk)):
                place = chunk, block
                if wanted >> block & 1 and now - sent.get(place, -inf) > IN_FLIGHT:
                    owed.setdefault(place, now)
        elif isinstance(step, float):
            now += step
        elif made.state is State.PACING:
            tick(Input.READ if step == "send" else Input.REFUSED)
        assert made.blocks_wanted == len(owed)
        assert (made.state is State.PACING) == bool(owed)
    while made.state is State.PACING:
        tick(Input.READ)
    assert not owed
    assert made.blocks_sent >= len(sent)
