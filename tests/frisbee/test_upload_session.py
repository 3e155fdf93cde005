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
MOST = 8 * CHUNK_SIZE
CHUNK = bytes(CHUNK_SIZE)
SIZE = CHUNK_SIZE + 3


def connecting(announced: int = SIZE, most: int = MOST) -> UploadSession:
    return UploadSession(announced, most, SECONDS, 10.0)


def receiving(announced: int = SIZE, most: int = MOST) -> UploadSession:
    made = connecting(announced, most)
    made.handle(Input.CONNECTED, None, 20.0)
    assert made.state is State.RECEIVING
    return made


def storing(announced: int = SIZE, most: int = MOST) -> UploadSession:
    made = receiving(announced, most)
    made.handle(Input.DATA, CHUNK, 30.0)
    assert made.state is State.STORING
    return made


def draining() -> UploadSession:
    made = storing()
    made.handle(Input.DATA, b"abc", 30.0)
    made.handle(Input.END, None, 31.0)
    assert made.state is State.DRAINING
    return made


def finishing() -> UploadSession:
    made = draining()
    while made.state is State.DRAINING:
        made.handle(Input.STORED, None, 32.0)
    assert made.state is State.FINISHING
    return made


def ended() -> UploadSession:
    made = connecting()
    made.handle(Input.CANCEL, "the server ends it", 11.0)
    return made


def end_of(made: UploadSession) -> tuple[Outcome | None, str]:
    assert made.state is State.ENDED
    assert made.deadline is None
    assert made.wants is None
    return made.outcome, made.detail


Make = Callable[[], UploadSession]
STATES: dict[State, Make] = {
    State.CONNECTING: connecting,
    State.RECEIVING: receiving,
    State.STORING: storing,
    State.DRAINING: draining,
    State.FINISHING: finishing,
    State.ENDED: ended,
}


def test_connecting_client_gets_its_time_when_it_connects() -> None:
    made = connecting()
    assert made.deadline == 10.0 + CONNECT_SECONDS
    made.handle(Input.CONNECTED, None, 20.0)
    assert (made.state, made.deadline) == (State.RECEIVING, 20.0 + SECONDS)


def test_connecting_client_has_no_longer_than_for_the_upload() -> None:
    assert UploadSession(1, 1, 5.0, 10.0).deadline == 15.0


def test_connecting_client_that_never_connects_is_given_up() -> None:
    made = connecting()
    made.handle(Input.TICK, None, 40.0)
    assert end_of(made) == (Outcome.TIMED_OUT, "the client has not connected to the port that it was given")


def test_receiving_data_is_stored_in_parts_of_a_chunk() -> None:
    made = receiving()
    made.handle(Input.DATA, b"a" * (CHUNK_SIZE - 1), 21.0)
    assert (made.state, made.wants) == (State.RECEIVING, None)
    made.handle(Input.DATA, b"bc", 22.0)
    assert (made.state, made.wants) == (State.STORING, Part(0, b"a" * (CHUNK_SIZE - 1) + b"bc"))
    assert (made.received, made.stored, made.deadline) == (CHUNK_SIZE + 1, 0, 20.0 + SECONDS)


def test_receiving_more_than_announced_ends_it() -> None:
    made = receiving(3)
    made.handle(Input.DATA, b"abcd", 21.0)
    assert end_of(made) == (Outcome.FAILED, "the client sent more than the 3 bytes that it announced")


def test_receiving_more_than_allowed_ends_it() -> None:
    made = receiving(0, 3)
    made.handle(Input.DATA, b"abc", 21.0)
    assert made.state is State.RECEIVING
    made.handle(Input.DATA, b"d", 21.0)
    assert end_of(made) == (Outcome.FAILED, "it is larger than 3 bytes ([multicast] max-upload)")


@pytest.mark.parametrize("announced", [3, 0])
def test_receiving_the_end_has_the_rest_stored(announced: int) -> None:
    made = receiving(announced)
    made.handle(Input.DATA, b"abc", 21.0)
    made.handle(Input.END, None, 22.0)
    assert (made.state, made.wants, made.deadline) == (State.DRAINING, Part(0, b"abc"), None)


def test_receiving_the_end_when_all_is_stored_finishes() -> None:
    made = storing(CHUNK_SIZE)
    made.handle(Input.STORED, None, 31.0)
    made.handle(Input.END, None, 32.0)
    assert (made.state, made.wants, made.deadline) == (State.FINISHING, None, None)


@pytest.mark.parametrize(
    ("announced", "data", "detail"),
    [
        (4, b"abc", "the client closed the connection after 3 of 4 bytes"),
        (4, b"", "the client closed the connection after 0 of 4 bytes"),
        (0, b"", "the client closed the connection after 0 bytes"),
    ],
)
def test_receiving_the_end_early_is_no_image(announced: int, data: bytes, detail: str) -> None:
    made = receiving(announced)
    made.handle(Input.DATA, data, 21.0)
    made.handle(Input.END, None, 22.0)
    assert end_of(made) == (Outcome.STOPPED_BY_PEER, detail)


def test_receiving_and_lost_after_all_that_was_announced_is_complete() -> None:
    made = receiving(3)
    made.handle(Input.DATA, b"abc", 21.0)
    made.handle(Input.LOST, None, 22.0)
    assert (made.state, made.wants) == (State.DRAINING, Part(0, b"abc"))


@pytest.mark.parametrize(
    ("announced", "detail"),
    [(4, "the connection was lost after 3 of 4 bytes"), (0, "the connection was lost after 3 bytes")],
)
def test_receiving_and_lost_before_is_no_image(announced: int, detail: str) -> None:
    made = receiving(announced)
    made.handle(Input.DATA, b"abc", 21.0)
    made.handle(Input.LOST, None, 22.0)
    assert end_of(made) == (Outcome.STOPPED_BY_PEER, detail)


@pytest.mark.parametrize("make", [receiving, storing])
def test_receiving_and_storing_end_when_the_time_is_over(make: Make) -> None:
    made = make()
    made.handle(Input.TICK, None, 620.0)
    assert end_of(made) == (
        Outcome.TIMED_OUT,
        f"not complete within 600 s, after {made.received} of {SIZE} bytes",
    )


def test_storing_data_is_kept_for_later() -> None:
    made = storing()
    part = made.wants
    made.handle(Input.DATA, b"abc", 31.0)
    assert (made.state, made.wants, made.received) == (State.STORING, part, SIZE)
    made.handle(Input.STORED, None, 32.0)
    assert (made.state, made.wants, made.stored) == (State.RECEIVING, None, CHUNK_SIZE)
    made.handle(Input.END, None, 33.0)
    assert (made.state, made.wants) == (State.DRAINING, Part(CHUNK_SIZE, b"abc"))


def test_storing_more_than_announced_ends_it() -> None:
    made = storing()
    made.handle(Input.DATA, b"abcd", 31.0)
    assert end_of(made) == (Outcome.FAILED, f"the client sent more than the {SIZE} bytes that it announced")


def test_storing_and_then_a_whole_part_more_is_stored_at_once() -> None:
    made = storing(0)
    made.handle(Input.DATA, CHUNK, 31.0)
    made.handle(Input.STORED, None, 32.0)
    assert (made.state, made.wants, made.stored) == (State.STORING, Part(CHUNK_SIZE, CHUNK), CHUNK_SIZE)


@pytest.mark.parametrize("event", [Input.END, Input.LOST])
def test_storing_and_the_end_of_the_whole_image(event: Input) -> None:
    made = storing()
    part = made.wants
    made.handle(Input.DATA, b"abc", 31.0)
    made.handle(event, None, 32.0)
    assert (made.state, made.wants, made.deadline) == (State.DRAINING, part, None)
    made.handle(Input.STORED, None, 33.0)
    assert (made.state, made.wants) == (State.DRAINING, Part(CHUNK_SIZE, b"abc"))
    made.handle(Input.STORED, None, 34.0)
    assert (made.state, made.wants, made.stored) == (State.FINISHING, None, SIZE)


@pytest.mark.parametrize(
    ("event", "announced", "detail"),
    [
        (Input.END, SIZE, f"the client closed the connection after {CHUNK_SIZE} of {SIZE} bytes"),
        (Input.LOST, SIZE, f"the connection was lost after {CHUNK_SIZE} of {SIZE} bytes"),
        (Input.LOST, 0, f"the connection was lost after {CHUNK_SIZE} bytes"),
    ],
)
def test_storing_and_the_end_before_it_is_whole(event: Input, announced: int, detail: str) -> None:
    made = storing(announced)
    made.handle(event, None, 32.0)
    assert end_of(made) == (Outcome.STOPPED_BY_PEER, detail)


@pytest.mark.parametrize("make", [storing, draining, finishing])
def test_a_writer_that_fails_ends_it(make: Make) -> None:
    made = make()
    made.handle(Input.FAILED, "Disk full", 40.0)
    assert end_of(made) == (Outcome.FAILED, "Disk full")


def test_finishing_and_finished_is_complete() -> None:
    made = finishing()
    made.handle(Input.FINISHED, None, 40.0)
    assert end_of(made) == (Outcome.COMPLETE, "")
    assert made.received == made.stored == SIZE


@pytest.mark.parametrize("make", [make for state, make in STATES.items() if state is not State.ENDED])
def test_cancel_ends_every_state(make: Make) -> None:
    made = make()
    made.handle(Input.CANCEL, "the server ends it", 40.0)
    assert end_of(made) == (Outcome.CANCELLED, "the server ends it")


@pytest.mark.parametrize("event", Input)
def test_ended_ignores_what_comes_late(event: Input) -> None:
    made = ended()
    made.handle(event, b"data", 40.0)
    assert end_of(made) == (Outcome.CANCELLED, "the server ends it")


CELLS = [(state, event) for state, row in TABLE.items() for event, cell in row.items() if cell is illegal]


@pytest.mark.parametrize(("state", "event"), CELLS)
def test_what_the_adapter_can_not_give_raises(state: State, event: Input) -> None:
    with pytest.raises(IllegalInput):
        STATES[state]().handle(event, b"", 40.0)


def test_only_the_end_ignores() -> None:
    assert {state for state, row in TABLE.items() if ignore in row.values()} == {State.ENDED}


@given(st.lists(st.tuples(st.sampled_from([1, 4096, 65536, CHUNK_SIZE, CHUNK_SIZE + 1]), st.booleans()), max_size=12))
def test_what_is_stored_is_what_has_come(steps: list[tuple[int, bool]]) -> None:
    """The writer answers at once or later; in the end it has everything, in order and once."""
    made = receiving(0, 1 << 40)
    stored, offset, sent = [], 0, bytearray()
    for number, (length, at_once) in enumerate(steps):
        data = bytes([number]) * length
        sent += data
        made.handle(Input.DATA, data, 21.0)
        while at_once and made.wants is not None:
            assert made.wants.offset == offset
            stored.append(made.wants.content)
            offset += len(made.wants.content)
            made.handle(Input.STORED, None, 21.0)
    made.handle(Input.END, None, 22.0)
    while made.wants is not None:
        assert made.wants.offset == offset
        stored.append(made.wants.content)
        offset += len(made.wants.content)
        made.handle(Input.STORED, None, 23.0)
    assert b"".join(stored) == bytes(sent)
    assert made.state is (State.FINISHING if sent else State.ENDED)
