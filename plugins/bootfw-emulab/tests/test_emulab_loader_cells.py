"""Each cell of the table of a boot loader."""

import pytest
from bootfw_emulab.bootwhat import BootWhat, boot_what
from bootfw_emulab.loaderstates import REPEATED, TABLE, USED_AFTER, Do, Input, LoaderStates, State

from bootfw.api import table

NOW = 100.0
PARTITION, WAIT, AUTO = map(boot_what, ("partition:2", "wait", "auto"))


def check_transition(
    loader: LoaderStates, event: Input, next_state: State, *expected_out: Do, argument: BootWhat | None = None
) -> None:
    loader.handle(event, argument, NOW)
    assert (loader.state, loader.out) == (next_state, list(expected_out))


def loader_in(state: State, *, requested_at: float = NOW - 60.0, repeated: bool = False) -> LoaderStates:
    return LoaderStates(state, requested_at=requested_at, is_repeated=repeated, deadline=NOW)


def test_idle_request_is_reported_and_resolved() -> None:
    check_transition(LoaderStates(), Input.REQUEST, State.RESOLVING, Do.REPORT_REQUEST, Do.RESOLVE)


@pytest.mark.parametrize("state", [State.ANSWERED, State.WAITING, State.IDLE])
@pytest.mark.parametrize("ago", [0.0, REPEATED])
def test_a_repeated_request_is_resolved_and_not_reported(state: State, ago: float) -> None:
    loader = loader_in(state, requested_at=NOW - ago)
    check_transition(loader, Input.REQUEST, State.RESOLVING, Do.RESOLVE)
    assert loader.deadline is None


@pytest.mark.parametrize("state", [State.ANSWERED, State.WAITING, State.IDLE])
def test_a_later_request_is_reported(state: State) -> None:
    loader = loader_in(state, requested_at=NOW - REPEATED - 0.1)
    check_transition(loader, Input.REQUEST, State.RESOLVING, Do.REPORT_REQUEST, Do.RESOLVE)


def test_resolving_request_waits_for_the_answer() -> None:
    check_transition(loader_in(State.RESOLVING), Input.REQUEST, State.RESOLVING)


def test_resolving_answer_is_sent() -> None:
    loader = loader_in(State.RESOLVING)
    check_transition(loader, Input.ANSWER, State.ANSWERED, Do.REPLY, Do.REPORT_ANSWER, argument=PARTITION)
    assert loader.deadline == NOW + USED_AFTER


def test_resolving_answer_to_wait() -> None:
    check_transition(loader_in(State.RESOLVING), Input.ANSWER, State.WAITING, Do.REPLY, Do.REPORT_ANSWER, argument=WAIT)


def test_resolving_answer_to_ask_again_is_used_at_once() -> None:
    loader = loader_in(State.RESOLVING)
    check_transition(loader, Input.ANSWER, State.IDLE, Do.REPLY, Do.REPORT_ANSWER, Do.USED, argument=AUTO)
    loader.out.clear()
    check_transition(loader, Input.REQUEST, State.RESOLVING, Do.REPORT_REQUEST, Do.RESOLVE)


def test_resolving_answer_with_nothing() -> None:
    check_transition(loader_in(State.RESOLVING), Input.ANSWER, State.IDLE, Do.REPLY, Do.REPORT_ANSWER)


def test_resolving_answer_to_a_repetition_is_not_reported() -> None:
    check_transition(
        loader_in(State.RESOLVING, repeated=True), Input.ANSWER, State.ANSWERED, Do.REPLY, argument=PARTITION
    )


@pytest.mark.parametrize("state", [State.IDLE, State.ANSWERED, State.WAITING])
def test_an_answer_that_was_not_asked_for_is_illegal(state: State) -> None:
    with pytest.raises(table.IllegalInput):
        loader_in(state).handle(Input.ANSWER, PARTITION, NOW)


@pytest.mark.parametrize("state", [State.IDLE, State.RESOLVING])
def test_an_order_is_sent(state: State) -> None:
    check_transition(loader_in(state), Input.ORDER, state, Do.SEND_ORDER, argument=PARTITION)


@pytest.mark.parametrize("state", [State.ANSWERED, State.WAITING])
def test_an_order_replaces_the_answer(state: State) -> None:
    loader = loader_in(state, requested_at=NOW)
    check_transition(loader, Input.ORDER, State.IDLE, Do.USED, Do.SEND_ORDER, argument=AUTO)
    assert loader.deadline is None
    loader.out.clear()
    check_transition(loader, Input.REQUEST, State.RESOLVING, Do.REPORT_REQUEST, Do.RESOLVE)


@pytest.mark.parametrize("event", [Input.FIRMWARE, Input.SYSTEM, Input.SILENT])
@pytest.mark.parametrize("state", [State.IDLE, State.RESOLVING])
def test_observation_of_the_last_boot_is_ignored(state: State, event: Input) -> None:
    check_transition(loader_in(state), event, state)


@pytest.mark.parametrize("event", [Input.FIRMWARE, Input.SYSTEM, Input.SILENT])
def test_answered_goes_on(event: Input) -> None:
    loader = loader_in(State.ANSWERED)
    check_transition(loader, event, State.IDLE, Do.USED)
    assert loader.deadline is None


@pytest.mark.parametrize("event", [Input.FIRMWARE, Input.SYSTEM])
def test_waiting_goes_on(event: Input) -> None:
    check_transition(loader_in(State.WAITING), event, State.IDLE, Do.USED)


def test_waiting_silent_waits() -> None:
    loader = loader_in(State.WAITING)
    check_transition(loader, Input.SILENT, State.WAITING, Do.USED)
    assert loader.deadline is None


def test_the_table_is_complete() -> None:
    table.check(TABLE, State, Input)
