"""``bootfw status``: what a running server does."""

import json
import sys
from pathlib import Path

import pytest
from twistd import Process, free_port

from bootfw.cli.main import main
from bootfw.cli.status import duration

CONFIG = """
[bootfw]
state-dir = "state"
workers = {workers}
[dhcp]
mode = "off"
[web]
listen = []
[tftp]
listen = ["127.0.0.1:{port}"]
"""


def status(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["status", "-c", "bootfw.toml", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_runs(capsys: pytest.CaptureFixture[str], here: Path, workers: int) -> None:
    port = free_port()
    (here / "bootfw.toml").write_text(CONFIG.format(port=port, workers=workers))
    command = Path(sys.executable).with_name("bootfw")
    with Process(command, "run", "-c", "bootfw.toml", cwd=here) as running:
        running.until(f"tftp listens on 127.0.0.1:{port}")
        code, out, err = status(capsys)
        assert (code, err) == (0, "")
        assert " is ready; it has run for " in out
        assert f"pid {running.pid}, Python " in out
        assert "configuration bootfw.toml" in out
        assert f"tftp     127.0.0.1:{port}" in out
        assert out.endswith("transfers in flight: 0\n")
        code, out, _ = status(capsys, "--json")
        found = json.loads(out)
        assert (code, found["running"], found["ready"]) == (0, True, True)
        assert len(found["workers"]) == (workers if workers > 1 else 0)
        assert all(each["pid"] for each in found["workers"])


def test_no_server_runs(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "bootfw.toml").write_text(CONFIG.format(port=69, workers=1))
    code, out, err = status(capsys)
    assert (code, out) == (3, "")
    assert err.startswith(f"bootfw: no server runs with the state directory {here}/state; another one is meant by")
    code, out, _ = status(capsys, "--json")
    assert (code, json.loads(out)["running"]) == (3, False)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (7380, "2 h 3 min"), (90061, "1 d 1 h")],
)
def test_time_spans(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
