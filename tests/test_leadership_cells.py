"""LeadershipStates: every cell of its table has a test that is named after it."""

from math import inf

import pytest
from cellnames import cells_without_test

from bootfw import leadershipstates
from bootfw.leadershipstates import (
    CONFIRM_EVERY,
    LOOK_EVERY,
    SILENCE,
    VALID,
    Do,
    Input,
    LeadershipStates,
    Standing,
    State,
)
from bootfw.table import IllegalInput

OURS = Standing(True, 2, 7, "a")
NEWER = Standing(True, 4, 0, "a")
OTHER = Standing(False, 3, 1, "b")


def states_in(state: State) -> LeadershipStates:
    """The states of a node that leads, or led, in the epoch 2, confirmed at 100."""
    states = LeadershipStates(state)
    states.note_confirmation(OURS, 100.0)
    return states


def check_input(
    state: State, event: Input, after: State, *out: Do, argument: object = None, now: float = 100.5
) -> LeadershipStates:
    states = states_in(state)
    states.handle(event, argument, now)
    assert (states.state, states.out) == (after, [*out])
    return states


def check_confirmed(state: State) -> None:
    """A confirmation counts from the time of the request to the store, not from that of its answer."""
    states = check_input(state, Input.LEADS, State.LEADING, argument=(OURS, 101.0), now=101.0 + VALID - 0.01)
    assert states.until == 101.0 + VALID
    states = check_input(state, Input.LEADS, State.UNCONFIRMED, argument=(OURS, 101.0), now=101.0 + VALID)
    states = check_input(state, Input.LEADS, State.LOADING, Do.FOLLOW, Do.LOAD, argument=(NEWER, 101.0), now=101.0)
    assert (states.epoch, states.until) == (4, 101.0 + VALID)


def check_deposed(state: State, *out: Do) -> None:
    states = check_input(state, Input.FOLLOWS, State.STANDBY, *out, argument=(OTHER, 101.0), now=101.5)
    assert (states.standing, states.seen, states.seen_at) == (OTHER, OTHER, 101.5)


def check_refused(state: State, event: Input) -> None:
    with pytest.raises(IllegalInput):
        states_in(state).handle(event)


# STANDBY


def test_a_node_is_a_standby_at_first() -> None:
    states = LeadershipStates()
    assert (states.state, states.silent(inf)) == (State.STANDBY, None)


def test_standby_leads_loads() -> None:
    states = check_input(State.STANDBY, Input.LEADS, State.LOADING, Do.LOAD, argument=(NEWER, 101.0))
    assert (states.epoch, states.until) == (4, 101.0 + VALID)


def test_standby_follows_waits_for_a_leader_that_is_silent() -> None:
    states = check_input(State.STANDBY, Input.FOLLOWS, State.STANDBY, argument=(OTHER, 100.0), now=100.1)
    states.handle(Input.FOLLOWS, (OTHER, 101.0), 101.1)
    assert states.silent(100.1 + SILENCE - 0.01) is None
    assert states.silent(100.1 + SILENCE + 0.01) == OTHER
    later = Standing(False, 3, 2, "b")
    states.handle(Input.FOLLOWS, (later, 101.0), 101.2)
    assert states.silent(101.2 + SILENCE - 0.01) is None
    assert states.silent(101.2 + SILENCE + 0.01) == later


def test_standby_unavailable_begins_to_wait_again() -> None:
    states = states_in(State.STANDBY)
    states.handle(Input.FOLLOWS, (OTHER, 100.0), 100.0)
    states.handle(Input.UNAVAILABLE, None, 101.0)
    assert (states.state, states.silent(200.0)) == (State.STANDBY, None)
    states.handle(Input.FOLLOWS, (OTHER, 200.0), 200.0)
    assert states.silent(200.0 + SILENCE - 0.01) is None
    assert states.silent(200.0 + SILENCE + 0.01) == OTHER


def test_standby_lapsed_is_ignored() -> None:
    check_input(State.STANDBY, Input.LAPSED, State.STANDBY)


def test_standby_loaded_is_out_of_date() -> None:
    check_input(State.STANDBY, Input.LOADED, State.STANDBY)


def test_standby_not_loaded_is_out_of_date() -> None:
    check_input(State.STANDBY, Input.NOT_LOADED, State.STANDBY)


def test_standby_resign() -> None:
    check_input(State.STANDBY, Input.RESIGN, State.RESIGNED)


# LOADING


def test_loading_leads_confirms() -> None:
    states = check_input(State.LOADING, Input.LEADS, State.LOADING, argument=(OURS, 101.0))
    assert states.until == 101.0 + VALID
    states = check_input(State.LOADING, Input.LEADS, State.LOADING, Do.LOAD, argument=(NEWER, 101.0))
    assert (states.epoch, states.until) == (4, 101.0 + VALID)


def test_loading_follows_is_deposed() -> None:
    check_deposed(State.LOADING)


def test_loading_unavailable_is_ignored() -> None:
    check_input(State.LOADING, Input.UNAVAILABLE, State.LOADING)


def test_loading_lapsed_is_ignored() -> None:
    check_input(State.LOADING, Input.LAPSED, State.LOADING)


def test_loading_loaded_leads() -> None:
    check_input(State.LOADING, Input.LOADED, State.LEADING, now=100.0 + VALID - 0.01)
    check_input(State.LOADING, Input.LOADED, State.UNCONFIRMED, now=100.0 + VALID)


def test_loading_not_loaded_waits_for_the_next_answer() -> None:
    check_input(State.LOADING, Input.NOT_LOADED, State.STANDBY)


def test_loading_resign() -> None:
    check_input(State.LOADING, Input.RESIGN, State.RESIGNED)


# LEADING


def test_leading_leads_confirms() -> None:
    check_confirmed(State.LEADING)


def test_leading_follows_is_deposed() -> None:
    check_deposed(State.LEADING, Do.FOLLOW)


def test_leading_unavailable_is_cut_off() -> None:
    check_input(State.LEADING, Input.UNAVAILABLE, State.CUT_OFF)


def test_leading_lapsed_is_unconfirmed() -> None:
    check_input(State.LEADING, Input.LAPSED, State.UNCONFIRMED, now=100.0 + VALID)


def test_leading_loaded_can_not_happen() -> None:
    check_refused(State.LEADING, Input.LOADED)


def test_leading_not_loaded_can_not_happen() -> None:
    check_refused(State.LEADING, Input.NOT_LOADED)


def test_leading_resign() -> None:
    check_input(State.LEADING, Input.RESIGN, State.RESIGNED)


# UNCONFIRMED


def test_unconfirmed_leads_confirms() -> None:
    check_confirmed(State.UNCONFIRMED)


def test_unconfirmed_follows_is_deposed() -> None:
    check_deposed(State.UNCONFIRMED, Do.FOLLOW)


def test_unconfirmed_unavailable_is_cut_off() -> None:
    check_input(State.UNCONFIRMED, Input.UNAVAILABLE, State.CUT_OFF)


def test_unconfirmed_lapsed_is_ignored() -> None:
    check_input(State.UNCONFIRMED, Input.LAPSED, State.UNCONFIRMED)


def test_unconfirmed_loaded_can_not_happen() -> None:
    check_refused(State.UNCONFIRMED, Input.LOADED)


def test_unconfirmed_not_loaded_can_not_happen() -> None:
    check_refused(State.UNCONFIRMED, Input.NOT_LOADED)


def test_unconfirmed_resign() -> None:
    check_input(State.UNCONFIRMED, Input.RESIGN, State.RESIGNED)


# CUT_OFF


def test_cut_off_leads_confirms() -> None:
    check_confirmed(State.CUT_OFF)


def test_cut_off_follows_is_deposed() -> None:
    check_deposed(State.CUT_OFF, Do.FOLLOW)


def test_cut_off_unavailable_is_ignored() -> None:
    check_input(State.CUT_OFF, Input.UNAVAILABLE, State.CUT_OFF)


def test_cut_off_lapsed_is_ignored() -> None:
    check_input(State.CUT_OFF, Input.LAPSED, State.CUT_OFF)


def test_cut_off_loaded_can_not_happen() -> None:
    check_refused(State.CUT_OFF, Input.LOADED)


def test_cut_off_not_loaded_can_not_happen() -> None:
    check_refused(State.CUT_OFF, Input.NOT_LOADED)


def test_cut_off_resign() -> None:
    check_input(State.CUT_OFF, Input.RESIGN, State.RESIGNED)


# RESIGNED


@pytest.mark.parametrize("event", Input)
def test_resigned_everything_is_ignored(event: Input) -> None:
    check_input(State.RESIGNED, event, State.RESIGNED, argument=(NEWER, 101.0))


# The whole


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), set(State) - {State.RESIGNED}, Input) == []


def test_the_machine_runs_the_table() -> None:
    assert LeadershipStates.table is leadershipstates.TABLE


def test_a_leader_stops_before_a_standby_takes_its_place() -> None:
    """Whatever the time of the clocks is, and if one of them is 10 % faster than the other."""
    assert VALID * 1.1 < SILENCE * 0.9
    # A confirmation that takes as long as the time between two does not end the leader's time.
    assert 2 * CONFIRM_EVERY < VALID
    # From the death of a leader on: a confirmation that is seen late, the wait, the next look. The takeover itself has
    # the rest of three seconds.
    assert LOOK_EVERY + SILENCE + LOOK_EVERY < 2.5
