"""DeliveryStates: every cell of its table has a test that is named after it."""

import pytest

from bootfw.observe import deliverystates
from bootfw.observe.deliverystates import LAST_RETRY, DeliveryStates, Do, Input, State
from bootfw.table import IllegalInput, illegal

NOW = 100.0


def machine(state: State, failures: int = 0) -> DeliveryStates:
    states = DeliveryStates(2.0, 3, state=state)
    states.failures = failures
    return states


def check_transition(
    state: State,
    event: Input,
    next_state: State,
    *expected_out: Do,
    argument: object = None,
    deadline: float | None = None,
    failures: int = 0,
) -> DeliveryStates:
    delivery = machine(state, failures)
    delivery.handle(event, argument, NOW)
    assert (delivery.state, delivery.out, delivery.deadline) == (next_state, [*expected_out], deadline)
    return delivery


# IDLE


def test_it_is_idle_at_first() -> None:
    assert DeliveryStates(2.0, 3).state is State.IDLE


def test_idle_event_gathers() -> None:
    check_transition(State.IDLE, Input.EVENT, State.GATHERING, deadline=NOW + 2.0)


def test_idle_stop_ends() -> None:
    check_transition(State.IDLE, Input.STOP, State.ENDED, Do.FINISHED)


# GATHERING


def test_gathering_event_waits() -> None:
    check_transition(State.GATHERING, Input.EVENT, State.GATHERING)


def test_gathering_tick_sends() -> None:
    assert check_transition(State.GATHERING, Input.TICK, State.SENDING, Do.SEND, failures=2).failures == 0


def test_gathering_stop_sends_queued_events() -> None:
    check_transition(State.GATHERING, Input.STOP, State.FINISHING, Do.SEND)


# SENDING


def test_sending_event_waits() -> None:
    check_transition(State.SENDING, Input.EVENT, State.SENDING)


def test_sending_delivered_with_more_sends_on() -> None:
    assert (
        check_transition(State.SENDING, Input.DELIVERED, State.SENDING, Do.SEND, argument=7, failures=2).failures == 0
    )


def test_sending_delivered_without_more_is_idle() -> None:
    check_transition(State.SENDING, Input.DELIVERED, State.IDLE, argument=0)


@pytest.mark.parametrize(("failures", "wait"), [(0, 1.0), (1, 2.0), (2, 4.0)])
def test_sending_failed_retries_later_and_later(failures: int, wait: float) -> None:
    check_transition(State.SENDING, Input.FAILED, State.RETRYING, argument=7, deadline=NOW + wait, failures=failures)


def test_sending_failed_waits_no_longer_than_a_minute() -> None:
    delivery = DeliveryStates(2.0, 20, state=State.SENDING)
    delivery.failures = 15
    delivery.handle(Input.FAILED, 0, NOW)
    assert delivery.deadline == NOW + LAST_RETRY


@pytest.mark.parametrize(("queued", "next_state", "next_out"), [(0, State.IDLE, ()), (7, State.SENDING, (Do.SEND,))])
def test_sending_failed_for_the_last_time_drops_the_batch(
    queued: int, next_state: State, next_out: tuple[Do, ...]
) -> None:
    check_transition(State.SENDING, Input.FAILED, next_state, Do.DROP, *next_out, argument=queued, failures=3)


@pytest.mark.parametrize(("queued", "next_state", "next_out"), [(0, State.IDLE, ()), (7, State.SENDING, (Do.SEND,))])
def test_sending_refused_drops_the_batch(queued: int, next_state: State, next_out: tuple[Do, ...]) -> None:
    check_transition(State.SENDING, Input.REFUSED, next_state, Do.DROP, *next_out, argument=queued)


def test_sending_stop_waits_for_the_request() -> None:
    check_transition(State.SENDING, Input.STOP, State.FINISHING)


# RETRYING


def test_retrying_event_waits() -> None:
    check_transition(State.RETRYING, Input.EVENT, State.RETRYING)


def test_retrying_tick_sends_the_same_batch() -> None:
    assert check_transition(State.RETRYING, Input.TICK, State.SENDING, Do.SEND, failures=2).failures == 2


def test_retrying_stop_tries_once_more() -> None:
    check_transition(State.RETRYING, Input.STOP, State.FINISHING, Do.SEND)


# FINISHING


def test_finishing_event_waits() -> None:
    check_transition(State.FINISHING, Input.EVENT, State.FINISHING)


def test_finishing_delivered_with_more_sends_on() -> None:
    check_transition(State.FINISHING, Input.DELIVERED, State.FINISHING, Do.SEND, argument=7)


def test_finishing_delivered_without_more_ends() -> None:
    check_transition(State.FINISHING, Input.DELIVERED, State.ENDED, Do.FINISHED, argument=0)


@pytest.mark.parametrize("event", [Input.FAILED, Input.REFUSED])
def test_finishing_failed_or_refused_drops_the_rest(event: Input) -> None:
    check_transition(State.FINISHING, event, State.ENDED, Do.DROP_ALL, Do.FINISHED, argument=7)


# ENDED


def test_ended_event_is_ignored() -> None:
    check_transition(State.ENDED, Input.EVENT, State.ENDED)


# Cells that can't happen


IMPOSSIBLE = [
    *((State.IDLE, event) for event in (Input.TICK, Input.DELIVERED, Input.FAILED, Input.REFUSED)),
    *((State.GATHERING, event) for event in (Input.DELIVERED, Input.FAILED, Input.REFUSED)),
    (State.SENDING, Input.TICK),
    *((State.RETRYING, event) for event in (Input.DELIVERED, Input.FAILED, Input.REFUSED)),
    *((State.FINISHING, event) for event in (Input.TICK, Input.STOP)),
    *((State.ENDED, event) for event in Input if event is not Input.EVENT),
]


@pytest.mark.parametrize(("state", "event"), IMPOSSIBLE)
def test_illegal_inputs_raise(state: State, event: Input) -> None:
    with pytest.raises(IllegalInput):
        machine(state).handle(event)


def test_impossible_cells_are_those_that_the_table_calls_illegal() -> None:
    cells = [
        (state, event) for state, row in deliverystates.TABLE.items() for event, cell in row.items() if cell is illegal
    ]
    assert cells == IMPOSSIBLE
