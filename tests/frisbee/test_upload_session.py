"""The session that receives an uploaded image: each cell of its table, and a model of what is stored."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.frisbee.upload import CONNECT_SECONDS, TABLE, Input, Part, State, UploadSession
from bootfw.table import IllegalInput, ignore, illegal
from bootfw.values import Outcome
from bootfw.wire.frisbee import CHUNK_SIZE

SECONDS = 600.0
MAX_SIZE = 8 * CHUNK_SIZE
CHUNK = bytes(CHUNK_SIZE)
SIZE = CHUNK_SIZE + 3


def connecting(announced: int = SIZE, max_size: int = MAX_SIZE) -> UploadSession:
    return UploadSession(announced, max_size, SECONDS, 10.0)


def receiving(announced: int = SIZE, max_size: int = MAX_SIZE) -> UploadSession:
    session = connecting(announced, max_size)
    session.handle(Input.CONNECTED, None, 20.0)
    assert session.state is State.RECEIVING
    return session


def storing(announced: int = SIZE, max_size: int = MAX_SIZE) -> UploadSession:
    session = receiving(announced, max_size)
    session.handle(Input.DATA, CHUNK, 30.0)
    assert session.state is State.STORING
    return session


def draining() -> UploadSession:
    session = storing()
    session.handle(Input.DATA, b"abc", 30.0)
    session.handle(Input.END, None, 31.0)
    assert session.state is State.DRAINING
    return session


def finishing() -> UploadSession:
    session = draining()
    while session.state is State.DRAINING:
        session.handle(Input.STORED, None, 32.0)
    assert session.state is State.FINISHING
    return session


def ended() -> UploadSession:
    session = connecting()
    session.handle(Input.CANCEL, "the server ends it", 11.0)
    return session


def outcome_of(session: UploadSession) -> tuple[Outcome | None, str]:
    assert session.state is State.ENDED
    assert session.deadline is None
    assert session.wants is None
    return session.outcome, session.detail


Factory = Callable[[], UploadSession]
STATES: dict[State, Factory] = {
    State.CONNECTING: connecting,
    State.RECEIVING: receiving,
    State.STORING: storing,
    State.DRAINING: draining,
    State.FINISHING: finishing,
    State.ENDED: ended,
}


def test_connecting_client_gets_its_time_when_it_connects() -> None:
    session = connecting()
    assert session.deadline == 10.0 + CONNECT_SECONDS
    session.handle(Input.CONNECTED, None, 20.0)
    assert (session.state, session.deadline) == (State.RECEIVING, 20.0 + SECONDS)


def test_connecting_client_has_no_longer_than_for_the_upload() -> None:
    assert UploadSession(1, 1, 5.0, 10.0).deadline == 15.0


def test_connecting_client_that_never_connects_is_given_up() -> None:
    session = connecting()
    session.handle(Input.TICK, None, 40.0)
    assert outcome_of(session) == (Outcome.TIMED_OUT, "the client has not connected to the port that it was given")


def test_receiving_data_is_stored_in_parts_of_a_chunk() -> None:
    session = receiving()
    session.handle(Input.DATA, b"a" * (CHUNK_SIZE - 1), 21.0)
    assert (session.state, session.wants) == (State.RECEIVING, None)
    session.handle(Input.DATA, b"bc", 22.0)
    assert (session.state, session.wants) == (State.STORING, Part(0, b"a" * (CHUNK_SIZE - 1) + b"bc"))
    assert (session.received, session.stored, session.deadline) == (CHUNK_SIZE + 1, 0, 20.0 + SECONDS)


def test_receiving_more_than_announced_ends_it() -> None:
    session = receiving(3)
    session.handle(Input.DATA, b"abcd", 21.0)
    assert outcome_of(session) == (Outcome.FAILED, "the client sent more than the 3 bytes that it announced")


def test_receiving_more_than_allowed_ends_it() -> None:
    session = receiving(0, 3)
    session.handle(Input.DATA, b"abc", 21.0)
    assert session.state is State.RECEIVING
    session.handle(Input.DATA, b"d", 21.0)
    assert outcome_of(session) == (Outcome.FAILED, "it is larger than 3 bytes ([multicast] max-upload)")


@pytest.mark.parametrize("announced", [3, 0])
def test_receiving_the_end_has_the_rest_stored(announced: int) -> None:
    session = receiving(announced)
    session.handle(Input.DATA, b"abc", 21.0)
    session.handle(Input.END, None, 22.0)
    assert (session.state, session.wants, session.deadline) == (State.DRAINING, Part(0, b"abc"), None)


def test_receiving_the_end_when_all_is_stored_finishes() -> None:
    session = storing(CHUNK_SIZE)
    session.handle(Input.STORED, None, 31.0)
    session.handle(Input.END, None, 32.0)
    assert (session.state, session.wants, session.deadline) == (State.FINISHING, None, None)


@pytest.mark.parametrize(
    ("announced", "data", "detail"),
    [
        (4, b"abc", "the client closed the connection after 3 of 4 bytes"),
        (4, b"", "the client closed the connection after 0 of 4 bytes"),
        (0, b"", "the client closed the connection after 0 bytes"),
    ],
)
def test_receiving_the_end_early_is_a_failure(announced: int, data: bytes, detail: str) -> None:
    session = receiving(announced)
    session.handle(Input.DATA, data, 21.0)
    session.handle(Input.END, None, 22.0)
    assert outcome_of(session) == (Outcome.STOPPED_BY_PEER, detail)


def test_receiving_and_lost_after_all_that_was_announced_is_complete() -> None:
    session = receiving(3)
    session.handle(Input.DATA, b"abc", 21.0)
    session.handle(Input.LOST, None, 22.0)
    assert (session.state, session.wants) == (State.DRAINING, Part(0, b"abc"))


@pytest.mark.parametrize(
    ("announced", "detail"),
    [(4, "the connection was lost after 3 of 4 bytes"), (0, "the connection was lost after 3 bytes")],
)
def test_receiving_and_lost_before_the_end_is_a_failure(announced: int, detail: str) -> None:
    session = receiving(announced)
    session.handle(Input.DATA, b"abc", 21.0)
    session.handle(Input.LOST, None, 22.0)
    assert outcome_of(session) == (Outcome.STOPPED_BY_PEER, detail)


@pytest.mark.parametrize("new_session", [receiving, storing])
def test_receiving_and_storing_end_when_the_time_is_over(new_session: Factory) -> None:
    session = new_session()
    session.handle(Input.TICK, None, 620.0)
    assert outcome_of(session) == (
        Outcome.TIMED_OUT,
        f"not complete within 600 s, after {session.received} of {SIZE} bytes",
    )


def test_storing_data_is_kept_for_later() -> None:
    session = storing()
    part = session.wants
    session.handle(Input.DATA, b"abc", 31.0)
    assert (session.state, session.wants, session.received) == (State.STORING, part, SIZE)
    session.handle(Input.STORED, None, 32.0)
    assert (session.state, session.wants, session.stored) == (State.RECEIVING, None, CHUNK_SIZE)
    session.handle(Input.END, None, 33.0)
    assert (session.state, session.wants) == (State.DRAINING, Part(CHUNK_SIZE, b"abc"))


def test_storing_more_than_announced_ends_it() -> None:
    session = storing()
    session.handle(Input.DATA, b"abcd", 31.0)
    assert outcome_of(session) == (Outcome.FAILED, f"the client sent more than the {SIZE} bytes that it announced")


def test_storing_and_then_a_whole_part_more_is_stored_at_once() -> None:
    session = storing(0)
    session.handle(Input.DATA, CHUNK, 31.0)
    session.handle(Input.STORED, None, 32.0)
    assert (session.state, session.wants, session.stored) == (State.STORING, Part(CHUNK_SIZE, CHUNK), CHUNK_SIZE)


@pytest.mark.parametrize("event", [Input.END, Input.LOST])
def test_storing_and_the_end_of_the_whole_image(event: Input) -> None:
    session = storing()
    part = session.wants
    session.handle(Input.DATA, b"abc", 31.0)
    session.handle(event, None, 32.0)
    assert (session.state, session.wants, session.deadline) == (State.DRAINING, part, None)
    session.handle(Input.STORED, None, 33.0)
    assert (session.state, session.wants) == (State.DRAINING, Part(CHUNK_SIZE, b"abc"))
    session.handle(Input.STORED, None, 34.0)
    assert (session.state, session.wants, session.stored) == (State.FINISHING, None, SIZE)


@pytest.mark.parametrize(
    ("event", "announced", "detail"),
    [
        (Input.END, SIZE, f"the client closed the connection after {CHUNK_SIZE} of {SIZE} bytes"),
        (Input.LOST, SIZE, f"the connection was lost after {CHUNK_SIZE} of {SIZE} bytes"),
        (Input.LOST, 0, f"the connection was lost after {CHUNK_SIZE} bytes"),
    ],
)
def test_storing_and_the_end_before_it_is_whole(event: Input, announced: int, detail: str) -> None:
    session = storing(announced)
    session.handle(event, None, 32.0)
    assert outcome_of(session) == (Outcome.STOPPED_BY_PEER, detail)


@pytest.mark.parametrize("new_session", [storing, draining, finishing])
def test_a_writer_that_fails_ends_it(new_session: Factory) -> None:
    session = new_session()
    session.handle(Input.FAILED, "Disk full", 40.0)
    assert outcome_of(session) == (Outcome.FAILED, "Disk full")


def test_finishing_and_finished_is_complete() -> None:
    session = finishing()
    session.handle(Input.FINISHED, None, 40.0)
    assert outcome_of(session) == (Outcome.COMPLETE, "")
    assert session.received == session.stored == SIZE


@pytest.mark.parametrize(
    "new_session", [new_session for state, new_session in STATES.items() if state is not State.ENDED]
)
def test_cancel_ends_every_state(new_session: Factory) -> None:
    session = new_session()
    session.handle(Input.CANCEL, "the server ends it", 40.0)
    assert outcome_of(session) == (Outcome.CANCELLED, "the server ends it")


@pytest.mark.parametrize("event", Input)
def test_ended_ignores_all_events(event: Input) -> None:
    session = ended()
    session.handle(event, b"data", 40.0)
    assert outcome_of(session) == (Outcome.CANCELLED, "the server ends it")


CELLS = [(state, event) for state, row in TABLE.items() for event, cell in row.items() if cell is illegal]


@pytest.mark.parametrize(("state", "event"), CELLS)
def test_illegal_cells_raise(state: State, event: Input) -> None:
    with pytest.raises(IllegalInput):
        STATES[state]().handle(event, b"", 40.0)


def test_only_the_ended_state_ignores_events() -> None:
    assert {state for state, row in TABLE.items() if ignore in row.values()} == {State.ENDED}


@given(st.lists(st.tuples(st.sampled_from([1, 4096, 65536, CHUNK_SIZE, CHUNK_SIZE + 1]), st.booleans()), max_size=12))
def test_the_stored_content_is_the_received_content(steps: list[tuple[int, bool]]) -> None:
    """The writer answers at once or later; in the end it has stored each byte once and in order."""
    session = receiving(0, 1 << 40)
    stored, offset, sent = [], 0, bytearray()
    for number, (length, at_once) in enumerate(steps):
        data = bytes([number]) * length
        sent += data
        session.handle(Input.DATA, data, 21.0)
        while at_once and session.wants is not None:
            assert session.wants.offset == offset
            stored.append(session.wants.content)
            offset += len(session.wants.content)
            session.handle(Input.STORED, None, 21.0)
    session.handle(Input.END, None, 22.0)
    while session.wants is not None:
        assert session.wants.offset == offset
        stored.append(session.wants.content)
        offset += len(session.wants.content)
        session.handle(Input.STORED, None, 23.0)
    assert b"".join(stored) == bytes(sent)
    assert session.state is (State.FINISHING if sent else State.ENDED)
