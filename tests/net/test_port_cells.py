"""PortStates: every cell of its table has a test that is named after it."""

import pytest
from cellnames import cells_without_test

from bootfw.net.udp import portstates
from bootfw.net.udp.portstates import Do, Input, PortStates, State
from bootfw.table import IllegalInput


def check_input(state: State, event: Input, after: State, *out: Do) -> None:
    """Check the state after an input, and its output."""
    port = PortStates(state)
    port.handle(event)
    assert (port.state, port.out) == (after, [*out])


# CLOSED


def test_it_is_closed_at_first() -> None:
    assert PortStates().state is State.CLOSED


def test_closed_bound_connects_the_protocol() -> None:
    check_input(State.CLOSED, Input.BOUND, State.CONNECTING)


def test_closed_stop_changes_nothing() -> None:
    check_input(State.CLOSED, Input.STOP, State.CLOSED)


def test_closed_lost_changes_nothing() -> None:
    check_input(State.CLOSED, Input.LOST, State.CLOSED)


# CONNECTING


def test_connecting_connected_reads() -> None:
    check_input(State.CONNECTING, Input.CONNECTED, State.READING, Do.READ)


def test_connecting_failed_closes_without_the_protocol() -> None:
    check_input(State.CONNECTING, Input.FAILED, State.CLOSED, Do.ABANDON)


def test_connecting_stop_closes_in_the_next_turn() -> None:
    check_input(State.CONNECTING, Input.STOP, State.STOPPING, Do.CLOSE_SOON)


# READING


def test_reading_stop_closes_in_the_next_turn() -> None:
    check_input(State.READING, Input.STOP, State.STOPPING, Do.CLOSE_SOON)


def test_reading_lost_closes() -> None:
    check_input(State.READING, Input.LOST, State.CLOSED, Do.CLOSE)


# STOPPING


def test_stopping_connected_does_not_read() -> None:
    check_input(State.STOPPING, Input.CONNECTED, State.STOPPING)


def test_stopping_failed_closes_without_the_protocol() -> None:
    check_input(State.STOPPING, Input.FAILED, State.CLOSED, Do.ABANDON)


def test_stopping_stop_changes_nothing() -> None:
    check_input(State.STOPPING, Input.STOP, State.STOPPING)


def test_stopping_lost_closes() -> None:
    check_input(State.STOPPING, Input.LOST, State.CLOSED, Do.CLOSE)


# What can't happen

ILLEGAL = [
    (State.CLOSED, Input.CONNECTED),
    (State.CLOSED, Input.FAILED),
    (State.CONNECTING, Input.BOUND),
    (State.CONNECTING, Input.LOST),
    (State.READING, Input.BOUND),
    (State.READING, Input.CONNECTED),
    (State.READING, Input.FAILED),
    (State.STOPPING, Input.BOUND),
]


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_illegal(state: State, event: Input) -> None:
    port = PortStates(state)
    with pytest.raises(IllegalInput, match=f"in {state}"):
        port.handle(event)
    assert (port.state, port.out) == (state, [])


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), State, Input, ILLEGAL) == []


def test_it_is_run_by_the_table_of_its_module() -> None:
    assert PortStates.table is portstates.TABLE
