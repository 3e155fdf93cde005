"""ControlStates: every cell of its table has a test that is named after it."""

import pytest

from bootfw.net import controlstates
from bootfw.net.controlstates import ControlStates, Do, Input, State
from bootfw.table import IllegalInput

REFUSAL = {"error": "no"}


def takes(state: State, event: Input, after: State, *out: Do, argument: object = None, last: object = None) -> None:
    control = ControlStates(state)
    control.handle(event, argument)
    assert (control.state, control.out, control.last_line) == (after, [*out], last or {})


def too_long(state: State) -> None:
    takes(state, Input.TOO_LONG, State.ENDED, Do.CLOSE, last={"error": "the request is too long"})


# RECEIVING


def test_it_receives_at_first() -> None:
    assert ControlStates().state is State.RECEIVING


def test_receiving_line_calls_the_operation() -> None:
    control = ControlStates()
    control.handle(Input.LINE, b"request")
    assert (control.state, control.out, control.request) == (State.WAITING, [Do.CALL], b"request")


def test_receiving_too_long_is_refused() -> None:
    too_long(State.RECEIVING)


def test_receiving_lost_ends_it() -> None:
    takes(State.RECEIVING, Input.LOST, State.ENDED, Do.RELEASE)


# WAITING


def test_waiting_line_is_a_second_request() -> None:
    takes(State.WAITING, Input.LINE, State.WAITING, argument=b"again")


def test_waiting_too_long_is_refused() -> None:
    too_long(State.WAITING)


def test_waiting_records_are_sent() -> None:
    takes(State.WAITING, Input.RECORDS, State.SENDING, Do.SEND)


def test_waiting_refused_sends_the_reason() -> None:
    takes(State.WAITING, Input.REFUSED, State.ENDED, Do.CLOSE, argument=REFUSAL, last=REFUSAL)


def test_waiting_lost_ends_it() -> None:
    takes(State.WAITING, Input.LOST, State.ENDED, Do.RELEASE)


# SENDING


def test_sending_line_is_a_second_request() -> None:
    takes(State.SENDING, Input.LINE, State.SENDING, argument=b"again")


def test_sending_too_long_is_refused() -> None:
    last = {"error": "the request is too long"}
    takes(State.SENDING, Input.TOO_LONG, State.ENDED, Do.STOP_SENDING, Do.CLOSE, last=last)


def test_sending_refused_sends_the_reason() -> None:
    takes(
        State.SENDING,
        Input.REFUSED,
        State.ENDED,
        Do.STOP_SENDING,
        Do.CLOSE,
        argument=REFUSAL,
        last={"error": "no"},
    )


def test_sending_pull_sends_more() -> None:
    takes(State.SENDING, Input.PULL, State.SENDING, Do.SEND_MORE)


def test_sending_last_sends_the_number() -> None:
    takes(State.SENDING, Input.LAST, State.ENDED, Do.STOP_SENDING, Do.CLOSE, argument=0, last={"done": 0})


def test_sending_lost_ends_it() -> None:
    takes(State.SENDING, Input.LOST, State.ENDED, Do.RELEASE)


# ENDED


def test_ended_line_is_ignored() -> None:
    takes(State.ENDED, Input.LINE, State.ENDED, argument=b"again")


def test_ended_too_long_is_ignored() -> None:
    takes(State.ENDED, Input.TOO_LONG, State.ENDED)


def test_ended_records_are_for_a_client_that_is_gone() -> None:
    takes(State.ENDED, Input.RECORDS, State.ENDED)


def test_ended_refused_is_for_a_client_that_is_gone() -> None:
    takes(State.ENDED, Input.REFUSED, State.ENDED, argument=REFUSAL)


def test_ended_pull_is_ignored() -> None:
    takes(State.ENDED, Input.PULL, State.ENDED)


def test_ended_lost_is_expected() -> None:
    takes(State.ENDED, Input.LOST, State.ENDED)


# What can't happen

ILLEGAL = [
    (State.RECEIVING, Input.RECORDS),
    (State.RECEIVING, Input.REFUSED),
    (State.RECEIVING, Input.PULL),
    (State.RECEIVING, Input.LAST),
    (State.WAITING, Input.PULL),
    (State.WAITING, Input.LAST),
    (State.SENDING, Input.RECORDS),
    (State.ENDED, Input.LAST),
]


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_illegal(state: State, event: Input) -> None:
    control = ControlStates(state)
    with pytest.raises(IllegalInput, match=f"in {state}"):
        control.handle(event)
    assert (control.state, control.out) == (state, [])


def test_every_cell_has_a_test() -> None:
    names = [name for name in globals() if name.startswith("test_")]

    def is_tested(state: State, event: Input) -> bool:
        if (state, event) in ILLEGAL:
            return True
        start = f"test_{state.name}_{event.name}_".lower()
        return any(name.startswith(start) for name in names)

    assert [(state, event) for state in State for event in Input if not is_tested(state, event)] == []


def test_it_is_run_by_the_table_of_its_module() -> None:
    assert ControlStates.table is controlstates.TABLE
