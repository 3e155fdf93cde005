"""``tools/walk`` traces every flow, and its figures are about those of the table in docs/architecture.md."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("calls until it leaves", "calls", "functions", "modules", "switches")
STALE = 1.05
"""A figure that has moved further than this factor has to be written down anew."""


def documented() -> dict[str, dict[str, int]]:
    rows = {}
    for line in (ROOT / "docs/architecture.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 1 + len(COLUMNS) and all(cell.isdecimal() for cell in cells[1:]):
            rows[cells[0]] = dict(zip(COLUMNS, map(int, cells[1:]), strict=True))
    return rows


def test_the_documented_walks_are_those_of_this_code() -> None:
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("needs unshare and ip")
    command = [sys.executable, str(ROOT / "tools/walk"), "--json"]
    measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)
    expected = documented()
    assert expected.keys() == measured.keys()
    for flow, figures in measured.items():
        assert 0 < figures["calls until it leaves"] < figures["calls"]
        for column, figure in figures.items():
            assert 1 / STALE <= figure / expected[flow][column] <= STALE, (flow, column, figure, expected[flow][column])
