"""BindingStates: every cell of its table has a test that is named after it."""

import pytest
from cellnames import cells_without_test

from bootfw.net import bindingstates
from bootfw.net.bindingstates import RETRY_EVERY, BindingStates, Do, Input, State
from bootfw.table import IllegalInput


def check_input(
    state: State, event: Input, after: State, *out: Do, reason: str = "", deadline: float | None = None
) -> None:
    """Check what an input at 10 s leads to: the state, its actions, the reason and the deadline."""
    binding = BindingStates(state)
    binding.reason = "before"
    binding.handle(event, reason or None, 10.0)
    expected = reason or ("before" if Do.BIND in out or after is state else "")
    assert (binding.state, binding.out, binding.reason, binding.deadline) == (after, [*out], expected, deadline)


def waiting_for_retry(state: State) -> BindingStates:
    """A socket that is held or has failed, with the deadline of its next attempt."""
    binding = BindingStates(state)
    binding.reason, binding.deadline = "before", 11.0
    return binding


def check_deadline_removed(state: State, event: Input, after: State, *out: Do, reason: str = "") -> None:
    """Check what an input before the deadline leads to, and that there is no deadline after it."""
    binding = waiting_for_retry(state)
    binding.handle(event, reason, 10.5)
    assert (binding.state, binding.out, binding.reason, binding.deadline) == (after, [*out], reason, None)


# WAITING


def test_first_state_is_waiting() -> None:
    assert BindingStates().state is State.WAITING


def test_waiting_absent_updates_the_reason() -> None:
    check_input(State.WAITING, Input.ABSENT, State.WAITING, reason="no interface s9; there are: lo, s8")


def test_waiting_present_binds() -> None:
    check_input(State.WAITING, Input.PRESENT, State.BINDING, Do.BIND)


def test_waiting_recreated_binds() -> None:
    check_input(State.WAITING, Input.RECREATED, State.BINDING, Do.BIND)


def test_waiting_close_is_final() -> None:
    check_input(State.WAITING, Input.CLOSE, State.CLOSED)


# BINDING


def test_binding_absent_waits_again() -> None:
    check_input(State.BINDING, Input.ABSENT, State.WAITING, reason="no interface s9")


def test_binding_opened_is_bound() -> None:
    check_input(State.BINDING, Input.OPENED, State.BOUND)


def test_binding_held_is_retried() -> None:
    check_input(State.BINDING, Input.HELD, State.HELD, reason="dnsmasq (pid 7)", deadline=10 + RETRY_EVERY)


def test_binding_failed_is_retried() -> None:
    check_input(State.BINDING, Input.FAILED, State.FAILED, reason="no memory", deadline=10 + RETRY_EVERY)


def test_binding_close_is_final_when_the_start_fails() -> None:
    check_input(State.BINDING, Input.CLOSE, State.CLOSED)


# BOUND


def test_bound_absent_is_waited_for() -> None:
    check_input(State.BOUND, Input.ABSENT, State.WAITING, reason="this host has no such address")


def test_bound_present_stays() -> None:
    check_input(State.BOUND, Input.PRESENT, State.BOUND)


def test_bound_recreated_binds_again() -> None:
    check_input(State.BOUND, Input.RECREATED, State.BINDING, Do.BIND)


def test_bound_close_is_final() -> None:
    check_input(State.BOUND, Input.CLOSE, State.CLOSED)


# HELD


def test_held_absent_is_waited_for() -> None:
    check_deadline_removed(State.HELD, Input.ABSENT, State.WAITING, reason="no interface s9")


def test_held_present_waits_for_the_deadline() -> None:
    binding = waiting_for_retry(State.HELD)
    binding.handle(Input.PRESENT, None, 10.5)
    assert (binding.state, binding.out, binding.reason, binding.deadline) == (State.HELD, [], "before", 11.0)


def test_held_recreated_binds_at_once() -> None:
    check_deadline_removed(State.HELD, Input.RECREATED, State.BINDING, Do.BIND, reason="before")


def test_held_tick_binds() -> None:
    check_deadline_removed(State.HELD, Input.TICK, State.BINDING, Do.BIND, reason="before")


def test_held_close_is_final() -> None:
    check_deadline_removed(State.HELD, Input.CLOSE, State.CLOSED)


# FAILED


def test_failed_absent_is_waited_for() -> None:
    check_deadline_removed(State.FAILED, Input.ABSENT, State.WAITING, reason="no interface s9")


def test_failed_present_waits_for_the_deadline() -> None:
    binding = waiting_for_retry(State.FAILED)
    binding.handle(Input.PRESENT, None, 10.5)
    assert (binding.state, binding.out, binding.reason, binding.deadline) == (State.FAILED, [], "before", 11.0)


def test_failed_recreated_binds_at_once() -> None:
    check_deadline_removed(State.FAILED, Input.RECREATED, State.BINDING, Do.BIND, reason="before")


def test_failed_tick_binds() -> None:
    check_deadline_removed(State.FAILED, Input.TICK, State.BINDING, Do.BIND, reason="before")


def test_failed_close_is_final() -> None:
    check_deadline_removed(State.FAILED, Input.CLOSE, State.CLOSED)


# CLOSED


def test_closed_close_is_ignored() -> None:
    check_input(State.CLOSED, Input.CLOSE, State.CLOSED)


# Inputs that are impossible

AFTER_BIND = (Input.OPENED, Input.HELD, Input.FAILED)
"""The results of BIND."""
ILLEGAL = [
    *((State.WAITING, event) for event in (*AFTER_BIND, Input.TICK)),
    # Binding takes no turn of the reactor, so no other input comes before its result.
    *((State.BINDING, event) for event in (Input.PRESENT, Input.RECREATED, Input.TICK)),
    *((State.BOUND, event) for event in (*AFTER_BIND, Input.TICK)),
    *((State.HELD, event) for event in AFTER_BIND),
    *((State.FAILED, event) for event in AFTER_BIND),
    *((State.CLOSED, event) for event in Input if event is not Input.CLOSE),
]


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_illegal(state: State, event: Input) -> None:
    binding = BindingStates(state)
    with pytest.raises(IllegalInput, match=f"in {state}"):
        binding.handle(event)
    assert (binding.state, binding.out) == (state, [])


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), State, Input, ILLEGAL) == []


def test_it_is_run_by_the_table_of_its_module() -> None:
    assert BindingStates.table is bindingstates.TABLE
