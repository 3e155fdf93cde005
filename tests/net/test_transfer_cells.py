"""TransferStates: every cell of its table has a test that is named after it."""

from cellnames import cells_without_test

from bootfw.net.tftp import transferstates
from bootfw.net.tftp.transferstates import Do, Input, State, TransferStates
from bootfw.values import Outcome


def check_input(state: State, event: Input, after: State, *out: Do) -> None:
    """Check the state after an input, and its output."""
    transfer = TransferStates(state)
    transfer.handle(event, (Outcome.COMPLETE, "well"), 7.0)
    assert (transfer.state, transfer.out) == (after, [*out])


def test_it_runs_at_first() -> None:
    assert TransferStates().state is State.RUNNING


def test_running_outcome_is_reported() -> None:
    check_input(State.RUNNING, Input.OUTCOME, State.REPORTED, Do.REPORT)
    transfer = TransferStates()
    transfer.handle(Input.OUTCOME, (Outcome.COMPLETE, "well"), 7.0)
    transfer.handle(Input.OUTCOME, (Outcome.FAILED, "later"), 8.0)
    assert (transfer.outcome, transfer.detail, transfer.ended) == (Outcome.COMPLETE, "well", 7.0)


def test_running_close_is_reported_and_then_released() -> None:
    check_input(State.RUNNING, Input.CLOSE, State.FINISHED, Do.REPORT, Do.RELEASE)
    transfer = TransferStates()
    transfer.handle(Input.CLOSE, (Outcome.COMPLETE, "well"), 7.0)
    transfer.handle(Input.CLOSE, (Outcome.FAILED, "later"), 8.0)
    assert (transfer.outcome, transfer.detail, transfer.ended) == (Outcome.COMPLETE, "well", 7.0)


def test_running_finish_releases_without_a_report() -> None:
    check_input(State.RUNNING, Input.FINISH, State.FINISHED, Do.RELEASE)


def test_reported_outcome_is_reported_once() -> None:
    check_input(State.REPORTED, Input.OUTCOME, State.REPORTED)


def test_reported_close_releases_without_another_report() -> None:
    check_input(State.REPORTED, Input.CLOSE, State.FINISHED, Do.RELEASE)


def test_reported_finish_releases() -> None:
    check_input(State.REPORTED, Input.FINISH, State.FINISHED, Do.RELEASE)


def test_finished_outcome_is_not_reported() -> None:
    check_input(State.FINISHED, Input.OUTCOME, State.FINISHED)


def test_finished_close_changes_nothing() -> None:
    check_input(State.FINISHED, Input.CLOSE, State.FINISHED)


def test_finished_finish_changes_nothing() -> None:
    check_input(State.FINISHED, Input.FINISH, State.FINISHED)


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), State, Input) == []


def test_it_is_run_by_the_table_of_its_module() -> None:
    assert TransferStates.table is transferstates.TABLE
