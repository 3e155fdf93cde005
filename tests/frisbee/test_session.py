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
RECEIVER, OTHER_RECEIVER = "10.0.0.11", "10.0.0.12"


def waiting(size: int = SIZE, idle: float = IDLE, limit: float = 50e6) -> Session:
    return Session(size, Pace(limit), idle, 0.0)


def request_of_chunk(chunk: int, source: str = RECEIVER) -> Request:
    return Request(source, chunk, 0, 1024)


def reading(limit: float = 50e6) -> Session:
    session = waiting(limit=limit)
    session.handle(Input.REQUEST, request_of_chunk(0), 1.0)
    session.handle(Input.TICK, None, 1.0)
    assert session.state is State.READING
    return session


def pacing() -> Session:
    session = reading()
    session.handle(Input.READ, None, 1.0)
    assert session.state is State.PACING
    return session


def ended() -> Session:
    session = waiting()
    session.handle(Input.CANCEL, "the server stops", 1.0)
    return session


Factory = Callable[[], Session]
FACTORIES: list[Factory] = [waiting, pacing, reading]


@pytest.mark.parametrize("new_session", FACTORIES)
def test_join_gets_the_size_and_is_counted_once(new_session: Factory) -> None:
    session = new_session()
    state = session.state
    join = Join(RECEIVER, 7, 2)
    session.handle(Input.JOIN, join, 2.0)
    session.handle(Input.JOIN, join, 2.5)
    assert session.out == [Reply(RECEIVER, join), Reply(RECEIVER, join)]
    assert (session.joined, list(session.receivers), session.state) == (1, [RECEIVER], state)


def test_waiting_join_puts_the_end_off() -> None:
    session = waiting()
    assert session.deadline == IDLE
    session.handle(Input.JOIN, Join(RECEIVER, 7, 2), 100.0)
    assert session.deadline == 100.0 + IDLE


def test_join_of_version_1_gets_no_reply_unless_the_image_has_whole_chunks() -> None:
    session = waiting()
    session.handle(Input.JOIN, Join(RECEIVER, 7, 1), 1.0)
    assert session.out == [NoReply(RECEIVER, "its JOIN needs an image of whole MiB, and this one has 2500123 bytes")]
    assert not session.receivers
    session = waiting(3 * CHUNK_SIZE)
    session.handle(Input.JOIN, Join(RECEIVER, 7, 1), 1.0)
    assert session.out == [Reply(RECEIVER, Join(RECEIVER, 7, 1))]


def test_receivers_that_are_counted_are_bounded() -> None:
    session = waiting()
    session.receivers = {str(number): inf for number in range(MOST_RECEIVERS)}
    session.handle(Input.JOIN, Join(RECEIVER, 7, 2), 1.0)
    assert len(session.receivers) == MOST_RECEIVERS
    assert session.out == [Reply(RECEIVER, Join(RECEIVER, 7, 2))]


def test_waiting_request_begins_the_transmission_at_once() -> None:
    session = waiting()
    session.handle(Input.REQUEST, request_of_chunk(1), 5.0)
    assert session.state is State.PACING
    assert session.deadline is not None
    assert session.deadline <= 5.0
    assert session.blocks_wanted == 1024


def test_waiting_request_for_nothing_of_the_image_changes_nothing() -> None:
    session = waiting()
    session.handle(Input.REQUEST, request_of_chunk(3), 5.0)
    session.handle(Input.REQUEST, PartialRequest(RECEIVER, 0, 0, 0), 5.0)
    assert (session.state, session.deadline) == (State.WAITING, IDLE)


@pytest.mark.parametrize("new_session", [pacing, reading])
def test_further_request_is_merged(new_session: Factory) -> None:
    session = new_session()
    state, deadline, burst = session.state, session.deadline, session.wants
    session.handle(Input.REQUEST, request_of_chunk(1, OTHER_RECEIVER), 1.0)
    session.handle(Input.REQUEST, request_of_chunk(1), 1.0)
    assert (session.state, session.deadline, session.wants) == (state, deadline, burst)
    assert 1024 < session.blocks_wanted < 2048


@pytest.mark.parametrize("new_session", FACTORIES)
def test_leave_of_a_receiver_that_has_joined_is_counted(new_session: Factory) -> None:
    session = new_session()
    session.handle(Input.JOIN, Join(RECEIVER, 7, 2), 1.0)
    state, blocks_wanted = session.state, session.blocks_wanted
    for _ in range(2):
        session.handle(Input.LEAVE, Leave(RECEIVER, 7, 3), 2.0)
    assert (session.receivers, session.joined, session.completed) == ({}, 1, 1)
    assert (session.state, session.blocks_wanted) == (state, blocks_wanted)


def test_waiting_tick_ends_it() -> None:
    session = waiting()
    session.handle(Input.TICK, None, IDLE)
    assert (session.state, session.detail, session.deadline) == (State.ENDED, "", None)


def test_a_session_can_wait_for_ever() -> None:
    session = waiting(idle=inf)
    assert session.deadline is None
    session.handle(Input.JOIN, Join(RECEIVER, 7, 2), 1.0)
    assert session.deadline is None


def test_pacing_tick_has_a_burst_read() -> None:
    session = pacing()
    session.handle(Input.TICK, None, 1.1)
    assert session.state is State.READING
    assert session.deadline is None
    assert session.wants is not None
    assert session.wants.chunk == 0
    assert len(session.wants.blocks) == session.pace.burst


def test_read_is_counted_and_the_next_burst_is_due() -> None:
    session = reading()
    assert session.wants is not None
    count = len(session.wants.blocks)
    session.handle(Input.READ, None, 1.0)
    assert session.state is State.PACING
    assert session.blocks_sent == count
    assert session.deadline == session.pace.due > 0.99


def test_read_of_the_last_block_waits_for_requests() -> None:
    session = waiting()
    session.handle(Input.REQUEST, Request(RECEIVER, 2, 393, 1), 1.0)
    session.handle(Input.TICK, None, 1.0)
    session.handle(Input.READ, None, 1.5)
    assert (session.state, session.deadline) == (State.WAITING, 1.5 + IDLE)


def test_refused_sends_the_same_blocks_later() -> None:
    session = reading()
    burst = session.wants
    session.handle(Input.REFUSED, None, 1.0)
    assert session.state is State.PACING
    assert session.blocks_sent == 0
    assert session.deadline == 1.0 + REFUSED_WAIT
    session.handle(Input.TICK, None, 1.1)
    assert session.wants == burst


@pytest.mark.parametrize("event", [Input.FAILED, Input.CANCEL])
def test_reading_failed_or_cancelled_ends_it_with_the_reason(event: Input) -> None:
    session = reading()
    session.handle(event, "the file has become shorter", 1.0)
    assert (session.state, session.detail) == (State.ENDED, "the file has become shorter")
    assert (session.wants, session.deadline, session.blocks_wanted) == (None, None, 0)


@pytest.mark.parametrize("new_session", FACTORIES)
def test_cancel_ends_it(new_session: Factory) -> None:
    session = new_session()
    session.handle(Input.CANCEL, "the server stops", 1.0)
    assert (session.state, session.detail, session.deadline, session.wants) == (
        State.ENDED,
        "the server stops",
        None,
        None,
    )


def test_ended_ignores_everything() -> None:
    session = ended()
    for event in Input:
        session.handle(event, Join(RECEIVER, 7, 2), 2.0)
    assert (session.state, session.out, session.receivers) == (State.ENDED, [], {})


@pytest.mark.parametrize(
    ("state", "event"), [(s, e) for s, row in TABLE.items() for e, cell in row.items() if cell is illegal]
)
def test_illegal_cells_raise(state: State, event: Input) -> None:
    session = {State.WAITING: waiting, State.PACING: pacing, State.READING: reading}[state]()
    with pytest.raises(IllegalInput):
        session.handle(event, None, 1.0)


def test_every_cell_of_ended_is_ignored() -> None:
    assert set(TABLE[State.ENDED].values()) == {ignore}


def test_blocks_that_a_receiver_requests_again_are_counted_as_lost() -> None:
    session = waiting()
    session.handle(Input.JOIN, Join(RECEIVER, 7, 2), 0.0)
    session.handle(Input.REQUEST, request_of_chunk(0), 1.0)
    session.handle(Input.REQUEST, Request(RECEIVER, 2, 0, 394), 1.0)
    now = run(session, 1.0)
    session.handle(Input.JOIN, Join(OTHER_RECEIVER, 8, 2), now)
    session.handle(Input.REQUEST, PartialRequest(RECEIVER, 0, 1, 0b111), now + 1)
    session.handle(Input.REQUEST, PartialRequest(RECEIVER, 0, 1, 0b111), now + 1)  # requested already
    session.handle(Input.REQUEST, PartialRequest(OTHER_RECEIVER, 0, 0, 0b11000), now + 1)  # it had not joined
    session.handle(Input.REQUEST, request_of_chunk(1), now + 1)  # not sent yet
    session.handle(Input.REQUEST, PartialRequest(RECEIVER, 2, 1, 1 << 394), now + 1)  # not in the image
    assert session.blocks_lost == 3


def all_sent_to_one() -> tuple[Session, float]:
    """A session that has sent each chunk for ONE, and the time."""
    session = waiting()
    session.handle(Input.JOIN, Join(RECEIVER, 7, 2), 0.0)
    for chunk in range(3):
        session.handle(Input.REQUEST, Request(RECEIVER, chunk, 0, 1024), 1.0)
    return session, run(session, 1.0)


@pytest.mark.parametrize(("delay", "sent"), [(0.01, 0), (UNREAD - 0.25, 0), (UNREAD + 0.1, 1024)])
def test_a_chunk_of_which_a_receiver_has_read_nothing_yet_is_not_sent_again(delay: float, sent: int) -> None:
    session, now = all_sent_to_one()
    session.handle(Input.REQUEST, request_of_chunk(1), now + delay)
    assert session.blocks_wanted == sent


def test_a_whole_chunk_is_sent_again_to_a_receiver_that_began_after_it_was_sent() -> None:
    session, now = all_sent_to_one()
    now += 2 * IN_FLIGHT
    session.handle(Input.REQUEST, request_of_chunk(0, "10.0.0.13"), now)  # it has not joined
    assert session.blocks_wanted == 1024
    session.handle(Input.JOIN, Join(OTHER_RECEIVER, 8, 2), now)
    session.handle(Input.REQUEST, request_of_chunk(1, OTHER_RECEIVER), now)
    assert session.blocks_wanted == 2048


def test_a_part_of_a_chunk_is_sent_again_soon() -> None:
    session, now = all_sent_to_one()
    part = PartialRequest(RECEIVER, 1, 1, WHOLE_CHUNK - 1)
    last_chunk = Request(RECEIVER, 2, 0, 394)  # it can be lost as a whole
    for request in (part, last_chunk):
        session.handle(Input.REQUEST, request, now + 2 * IN_FLIGHT)
    assert session.blocks_wanted == 1023 + 394


def test_completed_chunks_raise_the_rate_and_losses_lower_it() -> None:
    session = waiting(20 * CHUNK_SIZE, limit=1e9)
    session.handle(Input.JOIN, Join(RECEIVER, 7, 2), 0.0)
    now, rate_before = 1.0, session.pace.rate
    for chunk in range(4):
        session.handle(Input.REQUEST, request_of_chunk(chunk), now)
        now = run(session, now)
    faster = session.pace.rate
    assert faster > rate_before
    session.handle(Input.REQUEST, PartialRequest(RECEIVER, 3, 0, (1 << 256) - 1), now + 1)
    # It became faster when the last chunk had been sent.
    assert session.pace.rate == pytest.approx(faster / 1.1 * 0.75, rel=0.06)


def run(session: Session, now: float) -> float:
    """Send all requested blocks; returns the time when they are sent."""
    while session.state is State.PACING:
        assert session.deadline is not None
        now = max(now, session.deadline)
        session.handle(Input.TICK, None, now)
        session.handle(Input.READ, None, now)
    return now


_REQUESTS = st.tuples(
    st.sampled_from([RECEIVER, OTHER_RECEIVER]),
    st.integers(0, 3),
    st.one_of(st.just(WHOLE_CHUNK), st.sets(st.integers(0, 1023), max_size=8).map(lambda s: sum(1 << n for n in s))),
)
_STEPS = st.one_of(_REQUESTS, st.sampled_from(["send", "refuse"]), st.floats(0.0, 0.1))


@given(st.lists(_STEPS, max_size=60))
def test_every_requested_block_is_sent_once_after_its_request(steps: list[object]) -> None:
    session = waiting(limit=5e6)
    now = 0.0
    unsent: dict[tuple[int, int], float] = {}
    """Block -> when it was requested first since it was sent last."""
    sent_at: dict[tuple[int, int], float] = {}

    def block_count(chunk: int) -> int:
        return 1024 if chunk < 2 else 394 if chunk == 2 else 0

    def tick(result: Input) -> None:
        nonlocal now
        assert session.deadline is not None
        now = max(now, session.deadline)
        session.handle(Input.TICK, None, now)
        burst = session.wants
        assert burst is not None
        assert len(burst.blocks) <= session.pace.burst
        session.handle(result, None, now)
        if result is Input.READ:
            for block in burst.blocks:
                unsent.pop((burst.chunk, block))  # no block is sent that is not owed
                sent_at[burst.chunk, block] = now

    for step in steps:
        if isinstance(step, tuple):
            source, chunk, block_map = step
            session.handle(Input.REQUEST, PartialRequest(source, chunk, 0, block_map), now)
            for block in range(block_count(chunk)):
                key = chunk, block
                if block_map >> block & 1 and now - sent_at.get(key, -inf) > IN_FLIGHT:
                    unsent.setdefault(key, now)
        elif isinstance(step, float):
            now += step
        elif session.state is State.PACING:
            tick(Input.READ if step == "send" else Input.REFUSED)
        assert session.blocks_wanted == len(unsent)
        assert (session.state is State.PACING) == bool(unsent)
    while session.state is State.PACING:
        tick(Input.READ)
    assert not unsent
    assert session.blocks_sent >= len(sent_at)
