"""``tools/measure`` counts correctly, and the table in docs/architecture.md is about what it measures."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STALE = 1.25
"""A figure that has moved further than this factor, and by more than SMALL, has to be written down again."""
SMALL = 5

MODULE = '''"""Two lines
of docstring."""

from typing import Any


class Thing:
    """A docstring."""

    first: Any = 1  # a comment, Any
    """Of an attribute, Any."""
    second, third = 1, 2

    def method(self, a, /, b, *c, d, **e) -> Any:
        self.fourth = self.fourth, self.fifth = 1, 2
        self.sixth: int = 1
        other.seventh = 1
        # a comment, Any
        async def inner(self): "docstring"
'''


def measure(*arguments: Path) -> dict[str, float]:
    command = [sys.executable, str(ROOT / "tools/measure"), "--json", *map(str, arguments)]
    figures: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return figures


def test_measure_counts_modules_lines_and_functions(tmp_path: Path) -> None:
    package, tests = tmp_path / "package", tmp_path / "tests"
    for directory in (package / "inner", tests):
        directory.mkdir(parents=True)
    (package / "inner" / "module.py").write_text(MODULE)
    (package / "small.py").write_text("x = 1\n")
    (package / "__init__.py").write_text("")
    (tests / "test_it.py").write_text("\n" * 30)
    assert measure(package) == {
        "modules": 2,
        "lines": 20,
        "lines of a module: median": 10,
        "lines of a module: 90 of 100 have at most": 1,
        "lines of a module: most": 19,
        "lines of tests for one of code": 1.5,
        "functions": 2,
        "lines of a function: median": 3.5,
        "functions of more than 40 lines": 0,
        "functions with more than 6 parameters": 0,
        "parameters of a function: most": 5,
        "classes": 1,
        "classes with more than 10 attributes": 0,
        "comment lines in 1,000": 100,
        "docstring lines in 1,000": 250,
        "lines with `Any`": 2,
    }


def test_the_limits_of_figures_are_those_in_their_names(tmp_path: Path) -> None:
    long, fits = ["    pass\n" * 40, "    pass\n" * 39]
    (tmp_path / "module.py").write_text(
        f"def f(a, b, c, d, e, f, g):\n{long}def f(a, b, c, d, e, f):\n{fits}"
        + "".join(f"class C:\n    {' = '.join(map(chr, range(97, 97 + count)))} = 1\n" for count in (10, 11))
    )
    figures = measure(tmp_path)
    assert figures["functions of more than 40 lines"] == 1
    assert figures["functions with more than 6 parameters"] == 1
    assert figures["classes with more than 10 attributes"] == 1


def test_the_documented_figures_are_those_of_this_code() -> None:
    measured = measure()
    rows = (line.strip("| ").split(" | ") for line in (ROOT / "docs/architecture.md").read_text().splitlines())
    documented = {row[0]: float(row[1].replace(",", "")) for row in rows if row[0] in measured}
    assert documented.keys() == measured.keys()
    moved = {
        name: (figure, documented[name])
        for name, figure in measured.items()
        if abs(figure - documented[name]) > SMALL and not 1 / STALE <= figure / documented[name] <= STALE
    }
    assert moved == {}, "(measured, written): print the table again with tools/measure"
