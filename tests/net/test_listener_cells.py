"""ListenerStates: every cell of its table has a test that is named after it."""

import pytest
from cellnames import cells_without_test

from bootfw.net.tftp import listenerstates
from bootfw.net.tftp.listenerstates import Do, Input, ListenerStates, State
from bootfw.table import IllegalInput


def check_input(state: State, event: Input, after: State, *out: Do) -> None:
    """Check the state after an input, and its output."""
    listener = ListenerStates(state)
    listener.handle(event)
    assert (listener.state, listener.out) == (after, [*out])


# STOPPED


def test_the_initial_state_is_stopped() -> None:
    assert ListenerStates().state is State.STOPPED


def test_stopped_start_serves() -> None:
    check_input(State.STOPPED, Input.START, State.SERVING)


def test_stopped_drain_has_nothing_to_drop() -> None:
    check_input(State.STOPPED, Input.DRAIN, State.STOPPED)


def test_stopped_close_ends_transfers_on_ports_of_their_own() -> None:
    check_input(State.STOPPED, Input.CLOSE, State.CLOSED, Do.END_TRANSFERS)


# SERVING


def test_serving_drain_drains() -> None:
    check_input(State.SERVING, Input.DRAIN, State.DRAINING)


def test_serving_close_ends_the_transfers() -> None:
    check_input(State.SERVING, Input.CLOSE, State.CLOSED, Do.END_TRANSFERS)


def test_serving_stop_ends_the_transfers() -> None:
    check_input(State.SERVING, Input.STOP, State.STOPPED, Do.END_TRANSFERS)


# DRAINING


def test_draining_drain_changes_nothing() -> None:
    check_input(State.DRAINING, Input.DRAIN, State.DRAINING)


def test_draining_close_ends_the_transfers() -> None:
    check_input(State.DRAINING, Input.CLOSE, State.CLOSED, Do.END_TRANSFERS)


def test_draining_stop_keeps_transfers_on_ephemeral_ports() -> None:
    check_input(State.DRAINING, Input.STOP, State.STOPPED)


# CLOSED


def test_closed_start_serves() -> None:
    check_input(State.CLOSED, Input.START, State.SERVING)


def test_closed_drain_changes_nothing() -> None:
    check_input(State.CLOSED, Input.DRAIN, State.CLOSED)


def test_closed_close_is_done_already() -> None:
    check_input(State.CLOSED, Input.CLOSE, State.CLOSED)


def test_closed_stop_has_no_transfers_to_end() -> None:
    check_input(State.CLOSED, Input.STOP, State.STOPPED)


# What can't happen

ILLEGAL = [
    (State.STOPPED, Input.STOP),
    (State.SERVING, Input.START),
    (State.DRAINING, Input.START),
]


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_illegal_inputs_raise(state: State, event: Input) -> None:
    listener = ListenerStates(state)
    with pytest.raises(IllegalInput, match=f"in {state}"):
        listener.handle(event)
    assert (listener.state, listener.out) == (state, [])


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), State, Input, ILLEGAL) == []


def test_it_is_run_by_the_table_of_its_module() -> None:
    assert ListenerStates.table is listenerstates.TABLE
