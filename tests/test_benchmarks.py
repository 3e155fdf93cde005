"""The programs in benchmarks/, as far as that can be seen without a run."""

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_no_benchmark_shadows_a_module_of_the_standard_library() -> None:
    """A script's directory comes first in sys.path, so every script beside it would import it."""
    assert [path.name for path in BENCHMARKS.glob("*.py") if path.stem in sys.stdlib_module_names] == []


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ([], ["curl is the load", "HTTPS needs openssl", "HTTPS needs pyOpenSSL: pip install 'bootfw[tls]'"]),
        (["--servers", "nginx"], ["curl is the load", "HTTPS needs openssl"]),
        (["--only", "1 x 1 GB"], ["curl is the load"]),
    ],
)
def test_the_benchmark_of_http_says_at_once_what_it_needs(
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
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(BENCHMARKS / "webserver.py"), run_name="__main__")
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(missing)
    for line, start in zip(lines, missing, strict=True):
        assert line.startswith(f"webserver.py: {start}")
