"""AttemptStates: every cell of its table has a test that is named after it."""

import pytest
from cellnames import cells_without_test

from bootfw.attempts.attemptstates import AttemptStates, Do, Input, State


def check_input(state: State, event: Input, after: State, *out: Do) -> None:
    machine = AttemptStates(state)
    machine.handle(event)
    assert (machine.state, machine.out) == (after, [*out])


def test_it_is_provisional_at_first() -> None:
    assert AttemptStates().state is State.PROVISIONAL


# PROVISIONAL


def test_provisional_seen_is_ignored() -> None:
    check_input(State.PROVISIONAL, Input.SEEN, State.PROVISIONAL)


def test_provisional_boots_begins_it() -> None:
    check_input(State.PROVISIONAL, Input.BOOTS, State.RUNNING, Do.CHANGED)


def test_provisional_silent_is_dropped() -> None:
    check_input(State.PROVISIONAL, Input.SILENT, State.CLOSED, Do.DROP)


def test_provisional_up_is_judged() -> None:
    check_input(State.PROVISIONAL, Input.UP, State.ENDED, Do.JUDGE)


def test_provisional_failed_is_judged() -> None:
    check_input(State.PROVISIONAL, Input.FAILED, State.ENDED, Do.JUDGE)


def test_provisional_replaced_was_no_boot() -> None:
    check_input(State.PROVISIONAL, Input.REPLACED, State.CLOSED, Do.DROP)


def test_provisional_forgotten_is_dropped() -> None:
    check_input(State.PROVISIONAL, Input.FORGOTTEN, State.CLOSED, Do.DROP)


def test_provisional_stopped_is_dropped() -> None:
    check_input(State.PROVISIONAL, Input.STOPPED, State.CLOSED, Do.DROP)


# RUNNING


def test_running_seen_is_published() -> None:
    check_input(State.RUNNING, Input.SEEN, State.RUNNING, Do.CHANGED)


def test_running_boots_is_published() -> None:
    check_input(State.RUNNING, Input.BOOTS, State.RUNNING, Do.CHANGED)


def test_running_silent_is_judged() -> None:
    check_input(State.RUNNING, Input.SILENT, State.ENDED, Do.JUDGE)


def test_running_up_is_judged() -> None:
    check_input(State.RUNNING, Input.UP, State.ENDED, Do.JUDGE)


def test_running_failed_is_judged() -> None:
    check_input(State.RUNNING, Input.FAILED, State.ENDED, Do.JUDGE)


def test_running_replaced_is_judged_and_closed() -> None:
    check_input(State.RUNNING, Input.REPLACED, State.CLOSED, Do.JUDGE, Do.DROP)


def test_running_forgotten_has_no_verdict() -> None:
    check_input(State.RUNNING, Input.FORGOTTEN, State.CLOSED, Do.DROP)


def test_running_stopped_is_interrupted_and_closed() -> None:
    check_input(State.RUNNING, Input.STOPPED, State.CLOSED, Do.INTERRUPT, Do.DROP)


# ENDED


def test_ended_seen_is_ignored() -> None:
    check_input(State.ENDED, Input.SEEN, State.ENDED)


def test_ended_boots_runs_again() -> None:
    check_input(State.ENDED, Input.BOOTS, State.RUNNING, Do.CHANGED)


def test_ended_silent_is_ignored() -> None:
    check_input(State.ENDED, Input.SILENT, State.ENDED)


def test_ended_up_is_judged_again() -> None:
    check_input(State.ENDED, Input.UP, State.ENDED, Do.JUDGE)


def test_ended_failed_is_judged_again() -> None:
    check_input(State.ENDED, Input.FAILED, State.ENDED, Do.JUDGE)


def test_ended_replaced_is_closed() -> None:
    check_input(State.ENDED, Input.REPLACED, State.CLOSED, Do.DROP)


def test_ended_forgotten_is_closed() -> None:
    check_input(State.ENDED, Input.FORGOTTEN, State.CLOSED, Do.DROP)


def test_ended_stopped_is_closed() -> None:
    check_input(State.ENDED, Input.STOPPED, State.CLOSED, Do.DROP)


# CLOSED


@pytest.mark.parametrize("event", Input)
def test_closed_ignores_everything(event: Input) -> None:
    check_input(State.CLOSED, event, State.CLOSED)


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), set(State) - {State.CLOSED}, Input) == []
