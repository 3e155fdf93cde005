"""ResolutionStates: every cell of its table has a test that is named after it."""

import pytest
from cellnames import cells_without_test

from bootfw.boot import resolutionstates
from bootfw.boot.resolutionstates import Do, Input, ResolutionStates, State
from bootfw.errors import BootRefused
from bootfw.table import IllegalInput
from bootfw.values import BootFile

NOW = 1000.0
FILE = BootFile("one")
REFUSAL = BootRefused("not today")


def resolving(state: State, number: int = 0, unusable: str = "", seconds_left: float = 0.9) -> ResolutionStates:
    """A resolution at resolver *number* of three; *seconds_left* until the client has to be answered."""
    resolution = ResolutionStates(3, NOW + seconds_left, number, unusable, state)
    if state is State.WAITING:
        resolution.deadline = NOW + 0.3
    return resolution


def check_input(
    resolution: ResolutionStates, event: Input, after: State, *out: Do, argument: object = None, deadline: object = None
) -> None:
    """Check the state after an input, and its output."""
    resolution.handle(event, argument, NOW)
    assert (resolution.state, resolution.out, resolution.deadline) == (after, [*out], deadline)


def check_illegal(state: State, event: Input) -> None:
    """Check that the input is refused and changes nothing."""
    resolution = resolving(state)
    with pytest.raises(IllegalInput, match=f"in {state}"):
        resolution.handle(event, None, NOW)
    assert (resolution.state, resolution.out) == (state, [])


# CALLING


@pytest.mark.parametrize(("number", "seconds"), [(0, 0.3), (1, 0.45), (2, 0.9)])
def test_calling_wait_is_for_a_share_of_the_time(number: int, seconds: float) -> None:
    resolution = resolving(State.CALLING, number)
    check_input(resolution, Input.WAIT, State.WAITING, deadline=pytest.approx(NOW + seconds))


def test_calling_wait_ends_at_once_if_no_time_is_left() -> None:
    check_input(resolving(State.CALLING, seconds_left=-1.0), Input.WAIT, State.WAITING, deadline=NOW)


def test_calling_found_delivers_the_answer() -> None:
    resolution = resolving(State.CALLING)
    check_input(resolution, Input.FOUND, State.ANSWERED, Do.FINISH, argument=FILE)
    assert resolution.outcome is FILE


def test_calling_passed_calls_the_next() -> None:
    resolution = resolving(State.CALLING, 1)
    check_input(resolution, Input.PASSED, State.CALLING, Do.CALL, argument="")
    assert (resolution.number, resolution.unusable) == (2, "")


def test_calling_passed_by_the_last_is_no_answer() -> None:
    resolution = resolving(State.CALLING, 2)
    check_input(resolution, Input.PASSED, State.ANSWERED, Do.FINISH, argument="")
    assert resolution.outcome is None


def test_calling_passed_by_the_last_after_an_unusable_answer_is_a_refusal() -> None:
    resolution = resolving(State.CALLING, 2, "the first")
    check_input(resolution, Input.PASSED, State.REFUSED, Do.FINISH, argument="the last")
    assert isinstance(resolution.outcome, BootRefused)
    assert resolution.outcome.reason == "the first"


def test_calling_refused_delivers_the_refusal() -> None:
    resolution = resolving(State.CALLING)
    check_input(resolution, Input.REFUSED, State.REFUSED, Do.FINISH, argument=REFUSAL)
    assert resolution.outcome is REFUSAL


def test_calling_tick_is_illegal() -> None:
    check_illegal(State.CALLING, Input.TICK)


def test_calling_cancel_drops_pending_actions() -> None:
    resolution = resolving(State.CALLING)
    resolution.out.append(Do.CALL)
    check_input(resolution, Input.CANCEL, State.CANCELLED, Do.FINISH)


# WAITING


def test_waiting_wait_is_illegal() -> None:
    check_illegal(State.WAITING, Input.WAIT)


def test_waiting_found_delivers_the_answer() -> None:
    resolution = resolving(State.WAITING)
    check_input(resolution, Input.FOUND, State.ANSWERED, Do.FINISH, argument=FILE)
    assert resolution.outcome is FILE


def test_waiting_passed_calls_the_next() -> None:
    resolution = resolving(State.WAITING)
    check_input(resolution, Input.PASSED, State.CALLING, Do.CALL, argument="it does not fit")
    assert (resolution.number, resolution.unusable) == (1, "it does not fit")


def test_waiting_passed_by_the_last_is_no_answer() -> None:
    check_input(resolving(State.WAITING, 2), Input.PASSED, State.ANSWERED, Do.FINISH, argument="")


def test_waiting_refused_delivers_the_refusal() -> None:
    check_input(resolving(State.WAITING), Input.REFUSED, State.REFUSED, Do.FINISH, argument=REFUSAL)


def test_waiting_tick_calls_the_next() -> None:
    resolution = resolving(State.WAITING)
    check_input(resolution, Input.TICK, State.CALLING, Do.REPORT_LATE, Do.WITHDRAW, Do.CALL)
    assert resolution.number == 1


def test_waiting_tick_for_the_last_is_no_answer() -> None:
    check_input(resolving(State.WAITING, 2), Input.TICK, State.ANSWERED, Do.REPORT_LATE, Do.WITHDRAW, Do.FINISH)


def test_waiting_tick_for_the_last_after_an_unusable_answer_is_a_refusal() -> None:
    resolution = resolving(State.WAITING, 2, "the first")
    check_input(resolution, Input.TICK, State.REFUSED, Do.REPORT_LATE, Do.WITHDRAW, Do.FINISH)


def test_waiting_cancel_withdraws_the_call() -> None:
    check_input(resolving(State.WAITING), Input.CANCEL, State.CANCELLED, Do.WITHDRAW, Do.FINISH)


# ANSWERED and REFUSED


def test_answered_wait_is_illegal() -> None:
    check_illegal(State.ANSWERED, Input.WAIT)


def test_answered_found_is_illegal() -> None:
    check_illegal(State.ANSWERED, Input.FOUND)


def test_answered_passed_is_illegal() -> None:
    check_illegal(State.ANSWERED, Input.PASSED)


def test_answered_refused_is_illegal() -> None:
    check_illegal(State.ANSWERED, Input.REFUSED)


def test_answered_tick_is_illegal() -> None:
    check_illegal(State.ANSWERED, Input.TICK)


def test_answered_cancel_is_ignored() -> None:
    check_input(resolving(State.ANSWERED), Input.CANCEL, State.ANSWERED)


def test_refused_wait_is_illegal() -> None:
    check_illegal(State.REFUSED, Input.WAIT)


def test_refused_found_is_illegal() -> None:
    check_illegal(State.REFUSED, Input.FOUND)


def test_refused_passed_is_illegal() -> None:
    check_illegal(State.REFUSED, Input.PASSED)


def test_refused_refused_is_illegal() -> None:
    check_illegal(State.REFUSED, Input.REFUSED)


def test_refused_tick_is_illegal() -> None:
    check_illegal(State.REFUSED, Input.TICK)


def test_refused_cancel_is_ignored() -> None:
    check_input(resolving(State.REFUSED), Input.CANCEL, State.REFUSED)


# CANCELLED


def test_cancelled_wait_withdraws_the_call() -> None:
    check_input(resolving(State.CANCELLED), Input.WAIT, State.CANCELLED, Do.WITHDRAW)


def test_cancelled_found_is_ignored() -> None:
    check_input(resolving(State.CANCELLED), Input.FOUND, State.CANCELLED, argument=FILE)


def test_cancelled_passed_calls_no_resolver() -> None:
    check_input(resolving(State.CANCELLED), Input.PASSED, State.CANCELLED, argument="")


def test_cancelled_refused_is_ignored() -> None:
    check_input(resolving(State.CANCELLED), Input.REFUSED, State.CANCELLED, argument=REFUSAL)


def test_cancelled_tick_is_illegal() -> None:
    check_illegal(State.CANCELLED, Input.TICK)


def test_cancelled_cancel_changes_nothing() -> None:
    check_input(resolving(State.CANCELLED), Input.CANCEL, State.CANCELLED)


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), State, Input) == []


def test_it_is_run_by_the_table_of_its_module() -> None:
    assert ResolutionStates.table is resolutionstates.TABLE
