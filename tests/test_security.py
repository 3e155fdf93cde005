"""The page about security: each threat in its table names a test that exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = [
    line.strip("| ").split(" | ")
    for line in PAGE.split("## Threats")[1].split("\n## ")[0].splitlines()
    if "`tests/" in line
]


@cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]} {row[1]}"[:60] for row in ROWS])
def test_the_tests_that_a_row_names_exist(row: list[str]) -> None:
    attacker, attempt, outcome, tests = row
    assert all((attacker, attempt, outcome))
    named = re.findall(r"`(tests/[a-z0-9_/]+\.py)::(test_[A-Za-z0-9_]+)`", tests)
    assert named
    for path, name in named:
        assert name in names_in(path), f"{path} has no {name}"


def test_the_page_begins_with_the_measured_ratios() -> None:
    assert PAGE.splitlines()[2] == "## Bytes sent for each byte received"


def test_every_row_of_the_table_names_a_test() -> None:
    table = PAGE.split("## Threats")[1].split("\n## ")[0]
    assert len(ROWS) == len([line for line in table.splitlines() if line.startswith("| ")]) - 2
