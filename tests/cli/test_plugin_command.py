"""``bootfw plugin new``: what it writes passes its own tests and the checks of ruff."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootfw.cli.main import main
from bootfw.cli.plugin import KINDS
from bootfw.plugins import GROUPS, kind_of


def test_each_kind_that_a_beginner_writes_has_a_template() -> None:
    """A first plugin is seldom a store or a power controller; the plugins for PostgreSQL and Redfish are examples."""
    assert {*KINDS, "store", "power"} == {kind_of(group) for group in GROUPS}


def test_new_plugins_pass_their_tests_and_are_formatted(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`make types` checks their types: mypy reads those of Twisted for that, which takes long without its cache."""
    pytest.importorskip("ruff")
    for kind in KINDS:
        assert main(["plugin", "new", f"my-{kind}", "--kind", kind]) == 0
    output = capsys.readouterr().out.splitlines()
    files = [str(path.relative_to(cwd)) for path in cwd.rglob("*") if path.is_file()]
    assert sorted(files) == sorted(line for line in output if not line.startswith("Next: "))
    roots = [f"bootfw-my-{kind}" for kind in KINDS]
    tests = [f"{root}/tests" for root in roots]
    run_tool(cwd, "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", *tests, PYTHONPATH=os.pathsep.join(roots))
    run_tool(cwd, "ruff", "check", "--no-cache", *roots)
    run_tool(cwd, "ruff", "format", "--no-cache", "--check", *roots)


def run_tool(directory: Path, module: str, *arguments: str, **environment: str) -> None:
    """Run a Python program, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["ByRack", "by_rack", "-rack", "by--rack", "1st", "../rack", ""])
def test_invalid_names_are_refused(name: str, cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "new", "--", name]) == 1
    assert "such as by-rack" in capsys.readouterr().err
    assert list(cwd.iterdir()) == []


def test_existing_files_are_not_overwritten(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "bootfw-by-rack").mkdir()
    assert main(["plugin", "new", "by-rack"]) == 0  # an empty directory holds nothing that could be lost
    capsys.readouterr()
    assert main(["plugin", "new", "by-rack"]) == 1
    assert "bootfw-by-rack is there already" in capsys.readouterr().err
