"""The programs in benchmarks/: what can be tested without running the benchmarks."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_no_benchmark_shadows_a_module_of_the_standard_library() -> None:
    """A script's directory comes first in sys.path, so every script beside it would import it."""
    assert [path.name for path in BENCHMARKS.glob("*.py") if path.stem in sys.stdlib_module_names] == []


@pytest.fixture
def storm(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of benchmarks/storm.py."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "storm.py"))


def test_the_table_of_storms_equals_the_results(storm: dict[str, Any]) -> None:
    """``python benchmarks/storm.py --report`` writes it."""
    results = json.loads((BENCHMARKS / "storm.json").read_text())
    page = (BENCHMARKS.parent / "docs/storms.md").read_text()
    assert storm["BEGIN"] + storm["markdown"](results) + storm["END"] in page


def test_the_table_of_storms_says_where_not_all_have_booted(storm: dict[str, Any], tmp_path: Path) -> None:
    common = {"boot": "emulab", "loss": 0.02, "machines": 1000, "limited": False}
    results = {
        "a": {**common, "server": "bootfw", "booted": 1000, "longest": 15.24},
        "b": {**common, "server": "dnsmasq", "booted": 849, "longest": 63.99, "limited": True},
    }
    page = tmp_path / "page.md"
    page.write_text(f"before\n{storm['BEGIN']}old\n{storm['END']}after\n")
    storm["write_table"](results, page)
    storm["write_table"](results, page)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("before", "after", 7)
    assert lines[4] == "| emulab, 2 % | 1,000 | 15.2 s | 64.0 s, 849 booted † |  |  |"


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ([], ["curl is the load", "HTTPS needs openssl", "HTTPS needs pyOpenSSL: pip install 'bootfw[tls]'"]),
        (["--servers", "nginx"], ["curl is the load", "HTTPS needs openssl"]),
        (["--only", "1 x 1 GB"], ["curl is the load"]),
    ],
)
def test_the_http_benchmark_names_missing_programs_at_once(
    arguments: list[str],
    missing: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    monkeypatch.setattr(sys, "argv", ["webserver.py", *arguments])
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(BENCHMARKS / "webserver.py"), run_name="__main__")
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(missing)
    for line, start in zip(lines, missing, strict=True):
        assert line.startswith(f"webserver.py: {start}")
