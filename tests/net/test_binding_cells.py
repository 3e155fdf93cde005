"""BindingStates: every cell of its table has a test that is named after it."""

import pytest

from bootfw.net import bindingstates
from bootfw.net.bindingstates import RETRY_EVERY, BindingStates, Do, Input, State
from bootfw.table import IllegalInput


def takes(state: State, event: Input, after: State, *out: Do, reason: str = "", deadline: float | None = None) -> None:
    binding = BindingStates(state)
    binding.reason = "before"
    binding.handle(event, reason or None, 10.0)
    expected = reason or ("before" if Do.BIND in out or after is state else "")
    assert (binding.state, binding.out, binding.reason, binding.deadline) == (after, [*out], expected, deadline)


def is_illegal(state: State, *events: Input) -> None:
    for event in events:
        with pytest.raises(IllegalInput):
            BindingStates(state).handle(event)


def test_it_waits_at_first() -> None:
    assert BindingStates().state is State.WAITING


def test_waiting_absent_notes_what_exists_now() -> None:
    takes(State.WAITING, Input.ABSENT, State.WAITING, reason="no interface s9; there are: lo, s8")


def test_waiting_present_binds() -> None:
    takes(State.WAITING, Input.PRESENT, State.BINDING, Do.BIND)


def test_waiting_recreated_binds() -> None:
    takes(State.WAITING, Input.RECREATED, State.BINDING, Do.BIND)


def test_waiting_closes() -> None:
    takes(State.WAITING, Input.CLOSE, State.CLOSED)


def test_waiting_has_nothing_under_way() -> None:
    is_illegal(State.WAITING, Input.OPENED, Input.HELD, Input.FAILED, Input.TICK)


def test_binding_absent_waits_again() -> None:
    takes(State.BINDING, Input.ABSENT, State.WAITING, reason="no interface s9")


def test_binding_opened_is_bound() -> None:
    takes(State.BINDING, Input.OPENED, State.BOUND)


def test_binding_held_is_retried() -> None:
    takes(State.BINDING, Input.HELD, State.HELD, reason="dnsmasq (pid 7)", deadline=10 + RETRY_EVERY)


def test_binding_failed_is_retried() -> None:
    takes(State.BINDING, Input.FAILED, State.FAILED, reason="no memory", deadline=10 + RETRY_EVERY)


def test_binding_closes_when_the_start_fails() -> None:
    takes(State.BINDING, Input.CLOSE, State.CLOSED)


def test_binding_takes_no_turn() -> None:
    is_illegal(State.BINDING, Input.PRESENT, Input.RECREATED, Input.TICK)


def test_bound_absent_is_waited_for() -> None:
    takes(State.BOUND, Input.ABSENT, State.WAITING, reason="this host has no such address")


def test_bound_present_stays() -> None:
    takes(State.BOUND, Input.PRESENT, State.BOUND)


def test_bound_recreated_binds_again() -> None:
    takes(State.BOUND, Input.RECREATED, State.BINDING, Do.BIND)


def test_bound_closes() -> None:
    takes(State.BOUND, Input.CLOSE, State.CLOSED)


def test_bound_has_nothing_under_way() -> None:
    is_illegal(State.BOUND, Input.OPENED, Input.HELD, Input.FAILED, Input.TICK)


@pytest.mark.parametrize("state", [State.HELD, State.FAILED], ids=lambda state: state.value)
def test_held_and_failed_are_tried_again_at_the_deadline(state: State) -> None:
    takes(state, Input.TICK, State.BINDING, Do.BIND)
    takes(state, Input.RECREATED, State.BINDING, Do.BIND)
    takes(state, Input.ABSENT, State.WAITING, reason="gone")
    takes(state, Input.PRESENT, state)
    takes(state, Input.CLOSE, State.CLOSED)
    is_illegal(state, Input.OPENED, Input.HELD, Input.FAILED)


def test_closed_is_the_end() -> None:
    takes(State.CLOSED, Input.CLOSE, State.CLOSED)
    is_illegal(State.CLOSED, *(event for event in Input if event is not Input.CLOSE))


def test_every_cell_is_covered() -> None:
    """The tests above reach each; a new state or input has to be added to them."""
    assert {state.name for state in State} == {"WAITING", "BINDING", "BOUND", "HELD", "FAILED", "CLOSED"}
    assert len(Input) == len(next(iter(bindingstates.TABLE.values()))) == 8
