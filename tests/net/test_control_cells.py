"""ControlStates: every cell of its table has a test that is named after it."""

import pytest
from cellnames import cells_without_test

from bootfw.net import controlstates
from bootfw.net.controlstates import ControlStates, Do, Input, State
from bootfw.table import IllegalInput

REFUSAL = {"error": "no"}


def check_input(
    state: State, event: Input, after: State, *out: Do, argument: object = None, last_line: object = None
) -> None:
    """Check what an input leads to: the state, its actions and the last line of the response."""
    control = ControlStates(state)
    control.handle(event, argument)
    assert (control.state, control.out, control.last_line) == (after, [*out], last_line or {})


def check_too_long(state: State) -> None:
    check_input(state, Input.TOO_LONG, State.ENDED, Do.CLOSE, last_line={"error": "the request is too long"})


# RECEIVING


def test_first_state_is_receiving() -> None:
    assert ControlStates().state is State.RECEIVING


def test_receiving_line_calls_the_operation() -> None:
    control = ControlStates()
    control.handle(Input.LINE, b"request")
    assert (control.state, control.out, control.request) == (State.WAITING, [Do.CALL], b"request")


def test_receiving_too_long_is_refused() -> None:
    check_too_long(State.RECEIVING)


def test_receiving_lost_ends_it() -> None:
    check_input(State.RECEIVING, Input.LOST, State.ENDED, Do.RELEASE)


# WAITING


def test_waiting_line_is_a_second_request() -> None:
    check_input(State.WAITING, Input.LINE, State.WAITING, argument=b"again")


def test_waiting_too_long_is_refused() -> None:
    check_too_long(State.WAITING)


def test_waiting_records_are_sent() -> None:
    check_input(State.WAITING, Input.RECORDS, State.SENDING, Do.SEND)


def test_waiting_refused_sends_the_reason() -> None:
    check_input(State.WAITING, Input.REFUSED, State.ENDED, Do.CLOSE, argument=REFUSAL, last_line=REFUSAL)


def test_waiting_lost_ends_it() -> None:
    check_input(State.WAITING, Input.LOST, State.ENDED, Do.RELEASE)


# SENDING


def test_sending_line_is_a_second_request() -> None:
    check_input(State.SENDING, Input.LINE, State.SENDING, argument=b"again")


def test_sending_too_long_is_refused() -> None:
    last_line = {"error": "the request is too long"}
    check_input(State.SENDING, Input.TOO_LONG, State.ENDED, Do.STOP_SENDING, Do.CLOSE, last_line=last_line)


def test_sending_refused_sends_the_reason() -> None:
    check_input(
        State.SENDING,
        Input.REFUSED,
        State.ENDED,
        Do.STOP_SENDING,
        Do.CLOSE,
        argument=REFUSAL,
        last_line={"error": "no"},
    )


def test_sending_pull_sends_more() -> None:
    check_input(State.SENDING, Input.PULL, State.SENDING, Do.SEND_MORE)


def test_sending_last_sends_the_number() -> None:
    check_input(State.SENDING, Input.LAST, State.ENDED, Do.STOP_SENDING, Do.CLOSE, argument=0, last_line={"done": 0})


def test_sending_lost_ends_it() -> None:
    check_input(State.SENDING, Input.LOST, State.ENDED, Do.RELEASE)


# ENDED


def test_ended_line_is_ignored() -> None:
    check_input(State.ENDED, Input.LINE, State.ENDED, argument=b"again")


def test_ended_too_long_is_ignored() -> None:
    check_input(State.ENDED, Input.TOO_LONG, State.ENDED)


def test_ended_records_are_dropped() -> None:
    check_input(State.ENDED, Input.RECORDS, State.ENDED)


def test_ended_refused_is_dropped() -> None:
    check_input(State.ENDED, Input.REFUSED, State.ENDED, argument=REFUSAL)


def test_ended_pull_is_ignored() -> None:
    check_input(State.ENDED, Input.PULL, State.ENDED)


def test_ended_lost_is_ignored() -> None:
    check_input(State.ENDED, Input.LOST, State.ENDED)


# Inputs that are impossible

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


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), State, Input, ILLEGAL) == []


def test_it_is_run_by_the_table_of_its_module() -> None:
    assert ControlStates.table is controlstates.TABLE
