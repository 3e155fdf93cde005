"""WorkerStates: every cell of its table has a test that is named after it."""

import pytest
from cellnames import cells_without_test

from bootfw.net.draining import DRAIN_WITHIN
from bootfw.net.workers import workerstates
from bootfw.net.workers.workerstates import (
    CHECK_INTERIM_EVERY,
    DRAIN_AFTER,
    EARLY_EXIT,
    EXIT_WITHIN,
    HAND_OVER_AFTER,
    KILL_AFTER,
    MAX_WAIT,
    PREPARE_WITHIN,
    SILENT_AFTER,
    Do,
    Input,
    State,
    WorkerStates,
)
from bootfw.table import IllegalInput

NOW = 1000.0


def worker_in(state: State, started: float = NOW - 1, deadline: float | None = None) -> WorkerStates:
    worker = WorkerStates(state)
    worker.started, worker.deadline = started, deadline
    return worker


def check_input(
    worker: WorkerStates, event: Input, after: State, *out: Do, argument: object = None, deadline: float | None = None
) -> None:
    """Check the state after an input, its output, and the deadline."""
    worker.handle(event, argument, NOW)
    assert (worker.state, worker.out, worker.deadline) == (after, [*out], deadline)


def check_illegal(state: State, event: Input) -> None:
    """Check that the input is refused and changes nothing."""
    worker = worker_in(state)
    with pytest.raises(IllegalInput, match=f"in {state}"):
        worker.handle(event, None, NOW)
    assert (worker.state, worker.out, worker.deadline) == (state, [], None)


# STOPPED


def test_it_is_stopped_at_first() -> None:
    assert WorkerStates().state is State.STOPPED


def test_stopped_start_waits_for_a_turn_of_the_reactor() -> None:
    check_input(WorkerStates(), Input.START, State.SCHEDULED, deadline=NOW)


def test_stopped_stop_changes_nothing() -> None:
    check_input(worker_in(State.STOPPED), Input.STOP, State.STOPPED)


# STARTING


def test_starting_spawn_failed_is_a_lost_worker_that_is_started_again() -> None:
    worker = worker_in(State.STARTING)
    check_input(worker, Input.SPAWN_FAILED, State.SCHEDULED, Do.REPORT, argument="no memory", deadline=NOW)
    assert (worker.reason, worker.failures) == ("no memory", 1)
    worker.handle(Input.TICK, None, NOW)
    worker.out.clear()
    check_input(worker, Input.SPAWN_FAILED, State.SCHEDULED, argument="no memory", deadline=NOW + 1)
    worker.handle(Input.TICK, None, NOW)
    worker.out.clear()
    check_input(worker, Input.SPAWN_FAILED, State.SCHEDULED, Do.REPORT, argument="no room", deadline=NOW + 2)


def test_starting_prepared_checks_the_interim_server() -> None:
    check_input(worker_in(State.STARTING), Input.PREPARED, State.READY, Do.CHECK_INTERIM)


def test_starting_disconnected_waits_for_the_exit() -> None:
    check_input(worker_in(State.STARTING), Input.DISCONNECTED, State.DISCONNECTED, deadline=NOW + EXIT_WITHIN)


def test_starting_exited_is_a_lost_worker_that_is_started_again() -> None:
    check_input(worker_in(State.STARTING), Input.EXITED, State.SCHEDULED, Do.REPORT, argument="why", deadline=NOW)


def test_starting_tick_kills_a_process_that_does_not_become_ready() -> None:
    worker = worker_in(State.STARTING, deadline=NOW)
    check_input(worker, Input.TICK, State.OVERDUE, Do.KILL)
    assert worker.reason == "it was not ready within 120 s"


def test_starting_stop_kills_in_the_next_turn() -> None:
    check_input(worker_in(State.STARTING), Input.STOP, State.STOPPING, Do.CLOSE, deadline=NOW)


# READY


def test_ready_prepared_is_repeated() -> None:
    check_input(worker_in(State.READY, deadline=NOW + 1), Input.PREPARED, State.READY, deadline=NOW + 1)


def test_ready_busy_checks_the_interim_server_again_soon() -> None:
    check_input(worker_in(State.READY, NOW - DRAIN_AFTER), Input.BUSY, State.READY, deadline=NOW + CHECK_INTERIM_EVERY)


def test_ready_busy_drains_the_interim_server_after_a_while() -> None:
    worker = worker_in(State.READY, NOW - DRAIN_AFTER - 0.1)
    check_input(worker, Input.BUSY, State.READY, Do.DRAIN, deadline=NOW + CHECK_INTERIM_EVERY)


def test_ready_busy_hands_over_at_last() -> None:
    worker = worker_in(State.READY, NOW - HAND_OVER_AFTER, NOW)
    check_input(worker, Input.BUSY, State.SERVING, Do.BEGIN, deadline=NOW + PREPARE_WITHIN)


def test_ready_free_hands_over() -> None:
    worker = worker_in(State.READY, deadline=NOW)
    check_input(worker, Input.FREE, State.SERVING, Do.BEGIN, deadline=NOW + PREPARE_WITHIN)
    assert worker.heard == NOW


def test_ready_disconnected_waits_for_the_exit() -> None:
    check_input(
        worker_in(State.READY, deadline=NOW), Input.DISCONNECTED, State.DISCONNECTED, deadline=NOW + EXIT_WITHIN
    )


def test_ready_exited_is_a_lost_worker_that_is_started_again() -> None:
    worker = worker_in(State.READY, deadline=NOW + CHECK_INTERIM_EVERY)
    check_input(worker, Input.EXITED, State.SCHEDULED, Do.REPORT, argument="why", deadline=NOW)


def test_ready_tick_checks_the_interim_server_again() -> None:
    check_input(worker_in(State.READY, deadline=NOW), Input.TICK, State.READY, Do.CHECK_INTERIM)


def test_ready_stop_kills_in_the_next_turn() -> None:
    check_input(worker_in(State.READY, deadline=NOW + 1), Input.STOP, State.STOPPING, Do.CLOSE, deadline=NOW)


# SERVING


def test_serving_prepared_is_repeated() -> None:
    check_input(worker_in(State.SERVING), Input.PREPARED, State.SERVING)


def test_serving_disconnected_waits_for_the_exit() -> None:
    check_input(worker_in(State.SERVING), Input.DISCONNECTED, State.DISCONNECTED, deadline=NOW + EXIT_WITHIN)


def test_serving_exited_is_a_lost_worker_that_is_started_again() -> None:
    worker = worker_in(State.SERVING)
    check_input(worker, Input.EXITED, State.SCHEDULED, Do.REPORT, argument="killed", deadline=NOW)
    assert worker.reason == "killed"


def test_serving_exited_waits_longer_each_time_until_a_process_lasts() -> None:
    worker, waits = worker_in(State.STARTING), []
    for _ in range(8):
        worker.started = NOW - EARLY_EXIT + 0.1
        worker.handle(Input.EXITED, "why", NOW)
        assert worker.deadline is not None
        waits.append(worker.deadline - NOW)
        worker.handle(Input.TICK, None, NOW)
    assert waits == [0, 1, 2, 4, 8, 16, MAX_WAIT, MAX_WAIT]
    worker.started = NOW - EARLY_EXIT
    worker.handle(Input.EXITED, "why", NOW)
    assert (worker.deadline, worker.failures) == (NOW, 0)


def test_serving_stop_gives_time_for_the_transfers() -> None:
    check_input(
        worker_in(State.SERVING),
        Input.STOP,
        State.STOPPING,
        Do.FINISH,
        Do.CLOSE,
        deadline=NOW + DRAIN_WITHIN + EXIT_WITHIN,
    )


def test_serving_load_gives_as_much_time_as_a_start() -> None:
    worker = worker_in(State.SERVING, deadline=NOW + 1)
    check_input(worker, Input.LOAD, State.LOADING, deadline=NOW + PREPARE_WITHIN)


def test_serving_loaded_is_about_an_earlier_configuration() -> None:
    check_input(worker_in(State.SERVING, deadline=NOW + 1), Input.LOADED, State.SERVING, deadline=NOW + 1)


def test_serving_heartbeat_waits_for_the_next() -> None:
    worker = worker_in(State.SERVING, deadline=NOW + 1)
    check_input(worker, Input.HEARTBEAT, State.SERVING, deadline=NOW + SILENT_AFTER)
    assert worker.heard == NOW


def test_serving_tick_waits_for_a_late_heartbeat() -> None:
    check_input(worker_in(State.SERVING, deadline=NOW), Input.TICK, State.SILENT, deadline=NOW + KILL_AFTER)


# LOADING


def test_loading_prepared_is_repeated() -> None:
    check_input(worker_in(State.LOADING, deadline=NOW + 1), Input.PREPARED, State.LOADING, deadline=NOW + 1)


def test_loading_load_is_another_configuration() -> None:
    worker = worker_in(State.LOADING, deadline=NOW + 1)
    check_input(worker, Input.LOAD, State.LOADING, deadline=NOW + PREPARE_WITHIN)


def test_loading_loaded_waits_for_heartbeats() -> None:
    check_input(worker_in(State.LOADING, deadline=NOW + 1), Input.LOADED, State.SERVING, deadline=NOW + SILENT_AFTER)


def test_loading_heartbeat_was_sent_before_the_load() -> None:
    check_input(worker_in(State.LOADING, deadline=NOW + 50), Input.HEARTBEAT, State.LOADING, deadline=NOW + 50)


def test_loading_disconnected_waits_for_the_exit() -> None:
    check_input(worker_in(State.LOADING), Input.DISCONNECTED, State.DISCONNECTED, deadline=NOW + EXIT_WITHIN)


def test_loading_exited_is_a_lost_worker_that_is_started_again() -> None:
    check_input(worker_in(State.LOADING), Input.EXITED, State.SCHEDULED, Do.REPORT, argument="why", deadline=NOW)


def test_loading_tick_waits_for_a_late_heartbeat() -> None:
    check_input(worker_in(State.LOADING, deadline=NOW), Input.TICK, State.SILENT, deadline=NOW + KILL_AFTER)


def test_loading_stop_gives_time_for_the_transfers() -> None:
    worker = worker_in(State.LOADING)
    check_input(worker, Input.STOP, State.STOPPING, Do.FINISH, Do.CLOSE, deadline=NOW + DRAIN_WITHIN + EXIT_WITHIN)


# SILENT


def test_silent_prepared_is_repeated() -> None:
    check_input(worker_in(State.SILENT, deadline=NOW + 1), Input.PREPARED, State.SILENT, deadline=NOW + 1)


def test_silent_load_gives_as_much_time_as_a_start() -> None:
    worker = worker_in(State.SILENT, deadline=NOW + 1)
    check_input(worker, Input.LOAD, State.LOADING, deadline=NOW + PREPARE_WITHIN)


def test_silent_loaded_shows_that_it_runs() -> None:
    check_input(worker_in(State.SILENT, deadline=NOW + 1), Input.LOADED, State.SERVING, deadline=NOW + SILENT_AFTER)


def test_silent_heartbeat_shows_that_it_runs() -> None:
    worker = worker_in(State.SILENT, deadline=NOW + 1)
    check_input(worker, Input.HEARTBEAT, State.SERVING, deadline=NOW + SILENT_AFTER)
    assert worker.heard == NOW


def test_silent_disconnected_waits_for_the_exit() -> None:
    check_input(worker_in(State.SILENT), Input.DISCONNECTED, State.DISCONNECTED, deadline=NOW + EXIT_WITHIN)


def test_silent_exited_is_a_lost_worker_that_is_started_again() -> None:
    check_input(worker_in(State.SILENT), Input.EXITED, State.SCHEDULED, Do.REPORT, argument="why", deadline=NOW)


def test_silent_tick_kills_and_keeps_the_reason() -> None:
    worker = worker_in(State.SILENT, deadline=NOW)
    worker.heard = NOW - SILENT_AFTER - KILL_AFTER
    check_input(worker, Input.TICK, State.OVERDUE, Do.KILL)
    assert worker.reason == "it was killed, since it had sent no heartbeat for 15 s"


def test_silent_stop_gives_time_for_the_transfers() -> None:
    worker = worker_in(State.SILENT)
    check_input(worker, Input.STOP, State.STOPPING, Do.FINISH, Do.CLOSE, deadline=NOW + DRAIN_WITHIN + EXIT_WITHIN)


# OVERDUE


def test_overdue_prepared_is_ignored() -> None:
    check_input(worker_in(State.OVERDUE), Input.PREPARED, State.OVERDUE)


def test_overdue_disconnected_waits_for_the_exit() -> None:
    check_input(worker_in(State.OVERDUE), Input.DISCONNECTED, State.OVERDUE)


def test_overdue_loaded_comes_too_late() -> None:
    check_input(worker_in(State.OVERDUE), Input.LOADED, State.OVERDUE)


def test_overdue_heartbeat_comes_too_late() -> None:
    check_input(worker_in(State.OVERDUE), Input.HEARTBEAT, State.OVERDUE)


def test_overdue_exited_is_a_lost_worker_that_is_started_again() -> None:
    worker = worker_in(State.OVERDUE, NOW - PREPARE_WITHIN)
    worker.reason = "why it was killed"
    check_input(worker, Input.EXITED, State.SCHEDULED, Do.REPORT, argument="by signal 9", deadline=NOW)
    assert (worker.reason, worker.failures) == ("why it was killed", 0)


def test_overdue_stop_waits_for_the_exit() -> None:
    check_input(worker_in(State.OVERDUE), Input.STOP, State.STOPPING)


# DISCONNECTED


def test_disconnected_prepared_was_sent_before_the_disconnect() -> None:
    check_input(worker_in(State.DISCONNECTED, deadline=NOW + 1), Input.PREPARED, State.DISCONNECTED, deadline=NOW + 1)


def test_disconnected_loaded_was_sent_before_the_disconnect() -> None:
    check_input(worker_in(State.DISCONNECTED, deadline=NOW + 1), Input.LOADED, State.DISCONNECTED, deadline=NOW + 1)


def test_disconnected_heartbeat_was_sent_before_the_disconnect() -> None:
    check_input(worker_in(State.DISCONNECTED, deadline=NOW + 1), Input.HEARTBEAT, State.DISCONNECTED, deadline=NOW + 1)


def test_disconnected_exited_is_a_lost_worker_that_is_started_again() -> None:
    worker = worker_in(State.DISCONNECTED, deadline=NOW + 1)
    check_input(worker, Input.EXITED, State.SCHEDULED, Do.REPORT, argument="why", deadline=NOW)


def test_disconnected_tick_kills() -> None:
    check_input(worker_in(State.DISCONNECTED, deadline=NOW), Input.TICK, State.DISCONNECTED, Do.KILL)


def test_disconnected_stop_waits_no_longer() -> None:
    check_input(worker_in(State.DISCONNECTED, deadline=NOW + 1), Input.STOP, State.STOPPING, deadline=NOW + 1)


# SCHEDULED


def test_scheduled_tick_creates_a_process() -> None:
    worker = worker_in(State.SCHEDULED, deadline=NOW)
    check_input(worker, Input.TICK, State.STARTING, Do.SPAWN, deadline=NOW + PREPARE_WITHIN)
    assert worker.started == NOW


def test_scheduled_stop_is_complete() -> None:
    check_input(worker_in(State.SCHEDULED, deadline=NOW + 1), Input.STOP, State.STOPPED, Do.STOPPED)


# STOPPING


def test_stopping_prepared_is_ignored() -> None:
    check_input(worker_in(State.STOPPING, deadline=NOW + 1), Input.PREPARED, State.STOPPING, deadline=NOW + 1)


def test_stopping_disconnected_is_expected() -> None:
    check_input(worker_in(State.STOPPING, deadline=NOW + 1), Input.DISCONNECTED, State.STOPPING, deadline=NOW + 1)


def test_stopping_loaded_comes_too_late() -> None:
    check_input(worker_in(State.STOPPING, deadline=NOW + 1), Input.LOADED, State.STOPPING, deadline=NOW + 1)


def test_stopping_heartbeat_gives_no_more_time() -> None:
    check_input(worker_in(State.STOPPING, deadline=NOW + 1), Input.HEARTBEAT, State.STOPPING, deadline=NOW + 1)


def test_stopping_exited_is_complete() -> None:
    check_input(worker_in(State.STOPPING, deadline=NOW + 1), Input.EXITED, State.STOPPED, Do.STOPPED, argument="why")


def test_stopping_tick_kills() -> None:
    check_input(worker_in(State.STOPPING, deadline=NOW), Input.TICK, State.STOPPING, Do.KILL)


def test_stopping_stop_changes_nothing() -> None:
    check_input(worker_in(State.STOPPING, deadline=NOW + 1), Input.STOP, State.STOPPING, deadline=NOW + 1)


# What can't happen

NOT_SERVED_YET = State.STOPPED, State.SCHEDULED, State.STARTING, State.READY
NO_SOCKETS = *NOT_SERVED_YET, State.OVERDUE, State.DISCONNECTED, State.STOPPING

ILLEGAL = [
    (State.STOPPED, Input.SPAWN_FAILED),
    (State.STOPPED, Input.PREPARED),
    (State.STOPPED, Input.BUSY),
    (State.STOPPED, Input.FREE),
    (State.STOPPED, Input.DISCONNECTED),
    (State.STOPPED, Input.EXITED),
    (State.STOPPED, Input.TICK),
    (State.STARTING, Input.START),
    (State.STARTING, Input.BUSY),
    (State.STARTING, Input.FREE),
    (State.READY, Input.START),
    (State.READY, Input.SPAWN_FAILED),
    (State.SERVING, Input.START),
    (State.SERVING, Input.SPAWN_FAILED),
    (State.SERVING, Input.BUSY),
    (State.SERVING, Input.FREE),
    (State.LOADING, Input.START),
    (State.LOADING, Input.SPAWN_FAILED),
    (State.LOADING, Input.BUSY),
    (State.LOADING, Input.FREE),
    (State.SILENT, Input.START),
    (State.SILENT, Input.SPAWN_FAILED),
    (State.SILENT, Input.BUSY),
    (State.SILENT, Input.FREE),
    (State.DISCONNECTED, Input.START),
    (State.DISCONNECTED, Input.SPAWN_FAILED),
    (State.DISCONNECTED, Input.BUSY),
    (State.DISCONNECTED, Input.FREE),
    (State.DISCONNECTED, Input.DISCONNECTED),
    (State.SCHEDULED, Input.START),
    (State.SCHEDULED, Input.SPAWN_FAILED),
    (State.OVERDUE, Input.START),
    (State.OVERDUE, Input.SPAWN_FAILED),
    (State.OVERDUE, Input.BUSY),
    (State.OVERDUE, Input.FREE),
    (State.OVERDUE, Input.TICK),
    (State.SCHEDULED, Input.PREPARED),
    (State.SCHEDULED, Input.BUSY),
    (State.SCHEDULED, Input.FREE),
    (State.SCHEDULED, Input.DISCONNECTED),
    (State.SCHEDULED, Input.EXITED),
    (State.STOPPING, Input.START),
    (State.STOPPING, Input.SPAWN_FAILED),
    (State.STOPPING, Input.BUSY),
    (State.STOPPING, Input.FREE),
    *((state, Input.LOAD) for state in NO_SOCKETS),
    *((state, event) for state in NOT_SERVED_YET for event in (Input.LOADED, Input.HEARTBEAT)),
]


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_illegal(state: State, event: Input) -> None:
    check_illegal(state, event)


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), State, Input, ILLEGAL) == []


def test_it_is_run_by_the_table_of_its_module() -> None:
    assert WorkerStates.table is workerstates.TABLE
