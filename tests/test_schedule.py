"""The order of the tests under pytest-xdist."""

from collections.abc import Sequence

import pytest
from schedule import dealt, recorded, units_of


def cut(items: Sequence[str], processes: int) -> list[list[str]]:
    """Cut the list into a piece for each process, as xdist's worksteal does at the start."""
    pieces = []
    for remaining in range(processes, 0, -1):
        count = len(items) // remaining
        pieces.append(list(items[:count]))
        items = items[count:]
    return pieces


SHORT = [f"short {number}" for number in range(41)]
LONG = {"boot": 30.0, "big boot": 60.0, "small boot": 20.0, "wait": 25.0, "long wait": 50.0, "pause": 1.0}
MACHINES = {"boot", "big boot", "small boot"}


def alone(names: Sequence[str]) -> list[list[str]]:
    """Units of one test each."""
    return [[name] for name in names]


def test_long_tests_go_to_the_process_with_least_to_do_and_machines_to_half_of_them() -> None:
    names = [*SHORT[:20], *LONG, *SHORT[20:]]
    order = dealt(alone(names), LONG, MACHINES, 4)
    assert sorted(order) == sorted(names)
    first, second, third, fourth = cut(order, 4)
    assert first[:3] == ["big boot", "small boot", "short 0"]
    assert second[:3] == ["long wait", "boot", second[2]]
    assert (third[0], fourth[0]) == ("wait", "pause")
    assert not MACHINES & {*third, *fourth}


def test_no_test_is_lost_or_doubled_whatever_the_numbers() -> None:
    for count in (0, 1, 3, 41):
        for processes in (2, 3, 4, 5, 64):
            for long in ({}, LONG):
                names = [*SHORT[:count], *long]
                assert sorted(dealt(alone(names), LONG, MACHINES, processes)) == sorted(names)


def test_units_that_take_equally_long_come_in_one_order() -> None:
    units = [["a", "b"], ["c"], ["d", "e", "f"], *alone(SHORT)]
    seconds = {"a": 0.7, "b": 0.5, "c": 1.2, "d": 0.4, "e": 0.4, "f": 0.4}
    order = dealt(units, seconds, set(), 2)
    assert dealt([*reversed(units[:3]), *units[3:]], seconds, set(), 2) == order


def test_long_tests_alone_are_ordered() -> None:
    order = dealt(alone(list(LONG)), LONG, MACHINES, 2)
    assert order == ["big boot", "boot", "small boot", "long wait", "wait", "pause"]


def test_a_unit_stays_with_one_process_and_counts_as_the_sum_of_its_tests() -> None:
    units = [["a", "b", "c"], *alone(list(LONG)), *alone(SHORT)]
    order = dealt(units, {"a": 20.0, "b": 25.0, **LONG}, MACHINES, 3)
    assert sorted(order) == sorted(name for unit in units for name in unit)
    assert [piece[0] for piece in cut(order, 3)] == ["big boot", "long wait", "a"]
    assert cut(order, 3)[2][:3] == ["a", "b", "c"]


def test_recorded_durations_of_removed_tests_are_ignored() -> None:
    assert dealt([["a"]], {"gone": 9.0}, {"gone"}, 2) == ["a"]


def test_each_process_of_this_run_begins_with_its_longest_tests(request: pytest.FixtureRequest) -> None:
    """Whatever the marks have excluded from the run."""
    processes = getattr(request.config, "workerinput", {}).get("workercount", 0)
    if processes < 2:
        pytest.skip("there is one process")
    seconds, machines = recorded()
    names = [item.nodeid for item in request.session.items]
    assert dealt(units_of(request.session.items), seconds, machines, processes) == names
