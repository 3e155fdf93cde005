"""The order of the tests: long ones first, each to the process of pytest-xdist that has least to do so far, and those
with machines under emulation to half of the processes.

``pytest --record-durations`` writes ``durations.json`` anew, from what it runs; tests that it does not run keep their
line. A test without a line is taken for a short one, which costs time only.
"""

import json
from collections import defaultdict
from collections.abc import Generator, Sequence
from itertools import islice
from pathlib import Path

import pytest

_FILE = Path(__file__).with_name("durations.json")
_LONG = 0.5
"""Seconds; shorter tests are not recorded."""

MACHINE = "machine"
"""The user property of a report whose test has switched on a machine under emulation."""


def dealt(units: Sequence[list[str]], seconds: dict[str, float], machines: set[str], processes: int) -> list[str]:
    """An order in which xdist's worksteal gives each process its share, the longest units first.

    xdist cuts the list into one piece for each process, and moves the ends of pieces to idle processes later. Tests
    with machines go to half of the processes, so that the others don't wait for a machine's turn.

    :param units: tests that stay with one process, mostly a single one.
    """
    # In whole tenths: sums of fractions would depend on the order of the tests.
    tenths = {item: round(10 * time) for item, time in seconds.items()}
    timed = [(sum(tenths.get(item, 0) for item in unit), not machines.isdisjoint(unit), unit) for unit in units]
    # By name where the times are equal: the same order, wherever the tests come from.
    timed.sort(key=lambda entry: (-entry[0], entry[1], entry[2] if entry[0] else []))
    for_machines = max(1, processes // 2)
    pieces: list[list[str]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for load, machine, unit in timed:
        if load:
            process = min(range(for_machines if machine else processes), key=loads.__getitem__)
            loads[process] += load
            pieces[process].extend(unit)
    # As xdist cuts: the remaining tests, divided by the remaining processes. A piece too long runs into the next.
    remaining, rest = sum(map(len, units)), iter([item for load, _, unit in timed if not load for item in unit])
    for index, piece in enumerate(pieces):
        share = remaining // (processes - index)
        piece.extend(islice(rest, max(0, share - len(piece))))
        remaining -= share
    return [item for piece in pieces for item in piece] + list(rest)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help="note in tests/durations.json how long tests take")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests, after pytest has removed those that the marks exclude."""
    processes = getattr(config, "workerinput", {}).get("workercount", 0)
    if processes > 1:
        by_name = {item.nodeid: item for item in items}
        items[:] = [by_name[name] for name in dealt(units_of(items), *recorded(), processes)]


def units_of(items: Sequence[pytest.Item]) -> list[list[str]]:
    """The tests of a module that is marked ``together`` are one unit, each other test is one of its own."""
    units: dict[str, list[str]] = defaultdict(list)
    for item in items:
        together = item.get_closest_marker("together") is not None
        units[item.nodeid.partition("::")[0] if together else item.nodeid].append(item.nodeid)
    return list(units.values())


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder())


class _Recorder:
    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._machines: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration
        waited = dict(report.user_properties).get(MACHINE)
        if isinstance(waited, float) and report.when == "call":
            self._machines.add(report.nodeid)
            self._seconds[report.nodeid] -= waited

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self) -> Generator[None, None, None]:
        yield
        entries = {name: entry for name, entry in _recorded().items() if name not in self._seconds}
        for name, seconds in self._seconds.items():
            if seconds >= _LONG:
                entries[name] = {"seconds": round(seconds, 1)} | ({MACHINE: True} if name in self._machines else {})
        lines = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(entries.items()))
        _FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def recorded() -> tuple[dict[str, float], set[str]]:
    """Test -> seconds that it takes, and the tests that switch on a machine."""
    entries = _recorded()
    seconds = {name: entry["seconds"] for name, entry in entries.items()}
    return seconds, {name for name, entry in entries.items() if entry.get(MACHINE)}


def _recorded() -> dict[str, dict[str, float]]:
    recorded: dict[str, dict[str, float]] = json.loads(_FILE.read_text()) if _FILE.exists() else {}
    return recorded
