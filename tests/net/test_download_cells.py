"""An HTTP download: every cell of its table has a test that is named after it."""

import pytest
from cellnames import cells_without_test

from bootfw.net.http import downloadstates
from bootfw.net.http.downloadstates import Do, DownloadStates, Input, State
from bootfw.table import IllegalInput
from bootfw.values import Outcome


def check_transition(state: State, event: Input, after: State, argument: object = None) -> None:
    """Check the state after an input that has no actions and does not end the download."""
    states = DownloadStates(state)
    states.handle(event, argument)
    assert (states.state, states.out, states.outcome) == (after, [], None)


def check_end(state: State, event: Input, do: Do, outcome: Outcome, detail: str, argument: object = None) -> None:
    """Check the action and the outcome of an input that ends the download."""
    states = DownloadStates(state)
    states.handle(event, argument)
    assert (states.state, states.out) == (State.ENDED, [do])
    assert (states.outcome, states.detail) == (outcome, detail)


def check_illegal(state: State, event: Input) -> None:
    states = DownloadStates(state)
    with pytest.raises(IllegalInput, match=f"in {state}"):
        states.handle(event)
    assert (states.state, states.out, states.outcome) == (state, [], None)


def check_cancel(state: State) -> None:
    check_end(state, Input.CANCEL, Do.ABORT, Outcome.CANCELLED, "the server is stopping", "the server is stopping")


def check_lost(state: State) -> None:
    check_end(state, Input.LOST, Do.RELEASE, Outcome.STOPPED_BY_PEER, "bytes 0-9 of 20", "bytes 0-9 of 20")


def check_failed(state: State) -> None:
    check_end(state, Input.FAILED, Do.ABORT, Outcome.FAILED, "File not found", "File not found")


def check_reader_timeout(state: State) -> None:
    check_end(state, Input.TICK, Do.ABORT, Outcome.FAILED, "the backend had not answered after 60 s")


# OPENING


def test_opening_opened_begins_to_send() -> None:
    check_transition(State.OPENING, Input.OPENED, State.SENDING)


def test_opening_refused_ends_it() -> None:
    check_transition(State.OPENING, Input.REFUSED, State.ENDED)


def test_opening_answered_finishes_without_a_body() -> None:
    check_end(State.OPENING, Input.ANSWERED, Do.FINISH, Outcome.SIZE_PROBE, "", (Outcome.SIZE_PROBE, ""))


def test_opening_wait_is_illegal() -> None:
    check_illegal(State.OPENING, Input.WAIT)


def test_opening_read_is_illegal() -> None:
    check_illegal(State.OPENING, Input.READ)


def test_opening_failed_is_illegal() -> None:
    check_illegal(State.OPENING, Input.FAILED)


def test_opening_complete_is_illegal() -> None:
    check_illegal(State.OPENING, Input.COMPLETE)


def test_opening_pause_is_illegal() -> None:
    check_illegal(State.OPENING, Input.PAUSE)


def test_opening_resume_is_illegal() -> None:
    check_illegal(State.OPENING, Input.RESUME)


def test_opening_tick_refuses_late() -> None:
    states = DownloadStates(State.OPENING)
    states.handle(Input.TICK)
    assert (states.state, states.out, states.outcome) == (State.ENDED, [Do.REFUSE_LATE], None)


def test_opening_cancel_cuts_the_connection() -> None:
    check_cancel(State.OPENING)


def test_opening_lost_releases() -> None:
    check_lost(State.OPENING)


# SENDING


def test_sending_opened_is_illegal() -> None:
    check_illegal(State.SENDING, Input.OPENED)


def test_sending_refused_is_illegal() -> None:
    check_illegal(State.SENDING, Input.REFUSED)


def test_sending_answered_is_illegal() -> None:
    check_illegal(State.SENDING, Input.ANSWERED)


def test_sending_wait_waits() -> None:
    check_transition(State.SENDING, Input.WAIT, State.WAITING)


def test_sending_read_is_illegal() -> None:
    check_illegal(State.SENDING, Input.READ)


def test_sending_failed_cuts_the_connection() -> None:
    check_failed(State.SENDING)


def test_sending_complete_finishes() -> None:
    check_end(State.SENDING, Input.COMPLETE, Do.FINISH, Outcome.COMPLETE, "bytes 0-9 of 20", "bytes 0-9 of 20")


def test_sending_pause_pauses() -> None:
    check_transition(State.SENDING, Input.PAUSE, State.PAUSED)


def test_sending_resume_is_ignored() -> None:
    check_transition(State.SENDING, Input.RESUME, State.SENDING)


def test_sending_tick_is_illegal() -> None:
    check_illegal(State.SENDING, Input.TICK)


def test_sending_cancel_cuts_the_connection() -> None:
    check_cancel(State.SENDING)


def test_sending_lost_releases() -> None:
    check_lost(State.SENDING)


# WAITING


def test_waiting_opened_is_illegal() -> None:
    check_illegal(State.WAITING, Input.OPENED)


def test_waiting_refused_is_illegal() -> None:
    check_illegal(State.WAITING, Input.REFUSED)


def test_waiting_answered_is_illegal() -> None:
    check_illegal(State.WAITING, Input.ANSWERED)


def test_waiting_wait_is_illegal() -> None:
    check_illegal(State.WAITING, Input.WAIT)


def test_waiting_read_writes_the_next_chunk() -> None:
    check_transition(State.WAITING, Input.READ, State.SENDING)


def test_waiting_failed_cuts_the_connection() -> None:
    check_failed(State.WAITING)


def test_waiting_complete_is_illegal() -> None:
    check_illegal(State.WAITING, Input.COMPLETE)


def test_waiting_pause_waits_for_both() -> None:
    check_transition(State.WAITING, Input.PAUSE, State.WAITING_PAUSED)


def test_waiting_resume_is_ignored() -> None:
    check_transition(State.WAITING, Input.RESUME, State.WAITING)


def test_waiting_tick_blames_the_backend() -> None:
    check_reader_timeout(State.WAITING)


def test_waiting_cancel_cuts_the_connection() -> None:
    check_cancel(State.WAITING)


def test_waiting_lost_releases() -> None:
    check_lost(State.WAITING)


# WAITING_PAUSED


def test_waiting_paused_opened_is_illegal() -> None:
    check_illegal(State.WAITING_PAUSED, Input.OPENED)


def test_waiting_paused_refused_is_illegal() -> None:
    check_illegal(State.WAITING_PAUSED, Input.REFUSED)


def test_waiting_paused_answered_is_illegal() -> None:
    check_illegal(State.WAITING_PAUSED, Input.ANSWERED)


def test_waiting_paused_wait_is_illegal() -> None:
    check_illegal(State.WAITING_PAUSED, Input.WAIT)


def test_waiting_paused_read_still_waits_for_the_client() -> None:
    check_transition(State.WAITING_PAUSED, Input.READ, State.PAUSED)


def test_waiting_paused_failed_cuts_the_connection() -> None:
    check_failed(State.WAITING_PAUSED)


def test_waiting_paused_complete_is_illegal() -> None:
    check_illegal(State.WAITING_PAUSED, Input.COMPLETE)


def test_waiting_paused_pause_is_ignored() -> None:
    check_transition(State.WAITING_PAUSED, Input.PAUSE, State.WAITING_PAUSED)


def test_waiting_paused_resume_still_waits_for_the_reader() -> None:
    check_transition(State.WAITING_PAUSED, Input.RESUME, State.WAITING)


def test_waiting_paused_tick_blames_the_backend() -> None:
    check_reader_timeout(State.WAITING_PAUSED)


def test_waiting_paused_cancel_cuts_the_connection() -> None:
    check_cancel(State.WAITING_PAUSED)


def test_waiting_paused_lost_releases() -> None:
    check_lost(State.WAITING_PAUSED)


# PAUSED


def test_paused_opened_is_illegal() -> None:
    check_illegal(State.PAUSED, Input.OPENED)


def test_paused_refused_is_illegal() -> None:
    check_illegal(State.PAUSED, Input.REFUSED)


def test_paused_answered_is_illegal() -> None:
    check_illegal(State.PAUSED, Input.ANSWERED)


def test_paused_wait_waits_for_both() -> None:
    check_transition(State.PAUSED, Input.WAIT, State.WAITING_PAUSED)


def test_paused_read_is_illegal() -> None:
    check_illegal(State.PAUSED, Input.READ)


def test_paused_failed_cuts_the_connection() -> None:
    check_failed(State.PAUSED)


def test_paused_complete_is_illegal() -> None:
    check_illegal(State.PAUSED, Input.COMPLETE)


def test_paused_pause_is_ignored() -> None:
    check_transition(State.PAUSED, Input.PAUSE, State.PAUSED)


def test_paused_resume_reads_the_next_chunk() -> None:
    check_transition(State.PAUSED, Input.RESUME, State.SENDING)


def test_paused_tick_blames_the_client() -> None:
    check_end(State.PAUSED, Input.TICK, Do.ABORT, Outcome.TIMED_OUT, "the client took nothing for 60 s")


def test_paused_cancel_cuts_the_connection() -> None:
    check_cancel(State.PAUSED)


def test_paused_lost_releases() -> None:
    check_lost(State.PAUSED)


# ENDED


def test_ended_opened_is_illegal() -> None:
    check_illegal(State.ENDED, Input.OPENED)


def test_ended_refused_is_illegal() -> None:
    check_illegal(State.ENDED, Input.REFUSED)


def test_ended_answered_is_illegal() -> None:
    check_illegal(State.ENDED, Input.ANSWERED)


def test_ended_wait_is_illegal() -> None:
    check_illegal(State.ENDED, Input.WAIT)


def test_ended_read_is_illegal() -> None:
    check_illegal(State.ENDED, Input.READ)


def test_ended_failed_is_ignored() -> None:
    check_transition(State.ENDED, Input.FAILED, State.ENDED)


def test_ended_complete_is_illegal() -> None:
    check_illegal(State.ENDED, Input.COMPLETE)


def test_ended_pause_is_ignored() -> None:
    check_transition(State.ENDED, Input.PAUSE, State.ENDED)


def test_ended_resume_is_ignored() -> None:
    check_transition(State.ENDED, Input.RESUME, State.ENDED)


def test_ended_tick_is_illegal() -> None:
    check_illegal(State.ENDED, Input.TICK)


def test_ended_cancel_is_ignored() -> None:
    check_transition(State.ENDED, Input.CANCEL, State.ENDED)


def test_ended_lost_is_ignored() -> None:
    check_transition(State.ENDED, Input.LOST, State.ENDED)


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), State, Input) == []


def test_it_is_run_by_the_table_of_its_module() -> None:
    assert DownloadStates.table is downloadstates.TABLE
