"""``bootfw plugin new``: what it writes passes its own tests and the checks of the tools at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootfw.cli.main import main
from bootfw.cli.plugin import KINDS
from bootfw.plugins import GROUPS, kind_of


def test_there_is_a_template_for_each_kind_that_a_beginner_writes() -> None:
    """A store or a management controller is seldom the first; the plugins for PostgreSQL and Redfish are examples."""
    assert {*KINDS, "store", "power"} == {kind_of(group) for group in GROUPS}


def test_new_plugins_pass_their_tests_and_are_formatted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`make types` checks their types: mypy reads those of Twisted for that, which takes long without its cache."""
    pytest.importorskip("ruff")
    for kind in KINDS:
        assert main(["plugin", "new", f"my-{kind}", "--kind", kind]) == 0
    printed = capsys.readouterr().out.splitlines()
    written = [str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()]
    assert sorted(written) == sorted(line for line in printed if not line.startswith("Next: "))
    roots = [f"bootfw-my-{kind}" for kind in KINDS]
    tests = [f"{root}/tests" for root in roots]
    check(here, "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", *tests, PYTHONPATH=os.pathsep.join(roots))
    check(here, "ruff", "check", "--no-cache", *roots)
    check(here, "ruff", "format", "--no-cache", "--check", *roots)


def check(directory: Path, module: str, *arguments: str, **environment: str) -> None:
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
def test_a_name_that_is_none_is_refused(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "new", "--", name]) == 1
    assert "such as by-rack" in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_what_is_there_is_not_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bootfw-by-rack").mkdir()
    assert main(["plugin", "new", "by-rack"]) == 0  # an empty directory holds nothing that could be lost
    capsys.readouterr()
    assert main(["plugin", "new", "by-rack"]) == 1
    assert "bootfw-by-rack is there already" in capsys.readouterr().err
