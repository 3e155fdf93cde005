"""The order of the tests under pytest-xdist."""

from collections.abc import Sequence

import pytest
from schedule import dealt, recorded


def cut(items: Sequence[str], processes: int) -> list[list[str]]:
    """As xdist's worksteal does at the start."""
    pieces = []
    for left in range(processes, 0, -1):
        count = len(items) // left
        pieces.append(list(items[:count]))
        items = items[count:]
    return pieces


SHORT = [f"short {number}" for number in range(41)]
LONG = {"boot": 30.0, "big boot": 60.0, "small boot": 20.0, "wait": 25.0, "long wait": 50.0, "pause": 1.0}
MACHINES = {"boot", "big boot", "small boot"}


def test_long_tests_go_to_the_process_with_least_to_do_and_machines_to_half_of_them() -> None:
    names = [*SHORT[:20], *LONG, *SHORT[20:]]
    order = dealt(names, LONG, MACHINES, 4)
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
                assert sorted(dealt(names, LONG, MACHINES, processes)) == sorted(names)


def test_all_tests_are_long() -> None:
    order = dealt(list(LONG), LONG, MACHINES, 2)
    assert order == ["big boot", "boot", "small boot", "long wait", "wait", "pause"]


def test_recorded_durations_of_removed_tests_are_ignored() -> None:
    assert dealt(["a"], {"gone": 9.0}, {"gone"}, 2) == ["a"]


def test_each_process_of_this_run_begins_with_its_longest_tests(request: pytest.FixtureRequest) -> None:
    """Whatever the marks have excluded from the run."""
    processes = getattr(request.config, "workerinput", {}).get("workercount", 0)
    if processes < 2:
        pytest.skip("there is one process")
    seconds, machines = recorded()
    names = [item.nodeid for item in request.session.items]
    # Dealing them again changes nothing but the order of tests that take equally long.
    again = dealt(names, seconds, machines, processes)
    assert [seconds.get(name, 0.0) for name in names] == [seconds.get(name, 0.0) for name in again]
