"""``bootfw status``: what a running server does."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
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
    """Run ``bootfw status``, and return its exit code, output and errors."""
    code = main(["status", "-c", "bootfw.toml", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("workers", [1, 2])
def test_status_of_a_running_server(capsys: pytest.CaptureFixture[str], cwd: Path, workers: int) -> None:
    port = free_port()
    (cwd / "bootfw.toml").write_text(CONFIG.format(port=port, workers=workers))
    command = Path(sys.executable).with_name("bootfw")
    with Process(command, "run", "-c", "bootfw.toml", cwd=cwd) as server:
        server.until(f"tftp listens on 127.0.0.1:{port}")
        code, out, err = status(capsys)
        assert (code, err) == (0, "")
        assert " is ready; it has run for " in out
        assert f"pid {server.pid}, Python " in out
        assert "configuration bootfw.toml" in out
        assert f"tftp     127.0.0.1:{port}" in out
        assert out.endswith("transfers in flight: 0\n")
        code, out, _ = status(capsys, "--json")
        record = json.loads(out)
        assert (code, record["running"], record["ready"]) == (0, True, True)
        assert len(record["workers"]) == (workers if workers > 1 else 0)
        assert all(each["pid"] for each in record["workers"])


def test_server_is_found_with_a_configuration_that_became_invalid(
    capsys: pytest.CaptureFixture[str], cwd: Path
) -> None:
    """The operator has changed the file, the server refused to reload it, and runs on."""
    config = cwd / "bootfw.toml"
    config.write_text(CONFIG.format(port=free_port(), workers=1))
    command = Path(sys.executable).with_name("bootfw")
    with Process(command, "run", "-c", "bootfw.toml", cwd=cwd) as server:
        server.until("tftp listens on")
        valid = config.read_text()
        config.write_text(valid.replace("mode", "mood"))
        code, out, err = status(capsys)
        assert (code, " is ready; it has run for " in out) == (0, True)
        assert err.startswith("bootfw: not in use: bootfw.toml: dhcp.mood: unknown key")
        assert main(["boots", "-c", "bootfw.toml"]) == 1
        assert capsys.readouterr().err.endswith("bootfw: no boot is recorded yet\n")
        config.write_text(valid.replace("state-dir", "statedir"))
        assert status(capsys)[0] == 2
        config.write_text(valid.replace("mode", "mood"))
    code, _, err = status(capsys)
    assert (code, "mood: unknown key" in err, "not in use" in err) == (2, True, False)


def test_status_without_a_server_exits_with_3(capsys: pytest.CaptureFixture[str], cwd: Path) -> None:
    (cwd / "bootfw.toml").write_text(CONFIG.format(port=69, workers=1))
    code, out, err = status(capsys)
    assert (code, out) == (3, "")
    assert err.startswith(f"bootfw: no server runs with the state directory {cwd}/state; to see another server, ")
    code, out, _ = status(capsys, "--json")
    assert (code, json.loads(out)["running"]) == (3, False)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.2, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (7380, "2 h 3 min"), (90061, "1 d 1 h")],
)
def test_durations_are_shown_with_units(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


BOUND = {"state": "bound", "reason": "", "since": 9}


def test_status_shows_workers_leases_and_waiting_sockets(
    capsys: pytest.CaptureFixture[str], cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is not ready, and has leases, workers and cluster nodes."""
    record = {
        "ready": False,
        "waiting": [{"service": "tftp", "address": "10.0.0.1", "device": "eth1", "reason": "no such address"}],
        "version": "1",
        "python": "3",
        "twisted": "26",
        "pid": 7,
        "since": 0.0,
        "configuration": "",
        "sockets": [
            {
                "service": "tftp",
                "address": "fd00::1",
                "port": 69,
                "device": "",
                "state": "bound",
                "reason": "",
                "since": 9,
            },
            {"service": "dhcp", "address": "10.0.0.0/24", "port": 67, "device": "", **BOUND},
        ],
        "workers": [{"number": 0, "state": "serving", "pid": 8}],
        "transfers": 2,
        "images": [
            {
                "image": "win11.img",
                "method": "multicast",
                "address": "239.192.1.2",
                "port": 21700,
                "size": 22_020_096,
                "receivers": 10,
                "joined": 12,
                "completed": 2,
                "sent": 11_010_048,
                "wanted": 0,
                "loss": 0.0213,
                "rate": 62_500_000.0,
            }
        ],
        "uploads": [
            {"image": "a.img", "client": "10.0.0.9", "state": "receiving", "received": 3_000_000, "size": 5_000_000},
            {"image": "b.ndz", "client": "10.0.0.8", "state": "connecting", "received": 0, "size": 0},
        ],
        "leases": [{"network": "10.0.0.0/24", "free": 6, "active": 3}],
        "cluster": {
            "nodes": [
                {
                    "name": "build1",
                    "state": "here",
                    "heard": 0.0,
                    "version": "1",
                    "leadership": "leading",
                    "ready": True,
                    "draining": False,
                    "transfers": 12,
                    "addresses": ["10.0.0.1"],
                    "serves": ["tftp 0.0.0.0:69", "tftp [::]:69", "http 0.0.0.0:8069"],
                },
                {"name": "build2", "state": "here", "heard": 0.4, "ready": False, "addresses": ["10.0.0.2", "fd00::2"]},
                {"name": "build3", "state": "gone", "leadership": "leading", "heard": 70.0, "version": "0.9"},
                {"name": "build4", "state": "here", "heard": 0.0, "ready": False, "draining": True, "transfers": 0},
                {"name": "build5", "state": "stopped", "heard": 9.0, "draining": True, "transfers": 3},
            ],
            "behind": 61.0,
        },
    }
    monkeypatch.setattr("bootfw.cli.status.running", lambda state: FakeServer(record))
    monkeypatch.setattr("time.time", lambda: 7380.0)
    (cwd / "bootfw.toml").write_text(CONFIG.format(port=69, workers=1))
    code, out, err = status(capsys)
    assert (code, err) == (1, "")
    assert out == (
        "bootfw 1 is not ready; it has run for 2 h 3 min, since 1970-01-01 00:00:00\n"
        "pid 7, Python 3, Twisted 26, configuration none, so the defaults\n"
        "waiting: tftp 10.0.0.1 eth1: no such address\n"
        "\n"
        "SERVICE  ADDRESS       INTERFACE  STATE  SINCE                REASON\n"
        "tftp     [fd00::1]:69             bound  1970-01-01 00:00:09\n"
        "dhcp     10.0.0.0/24              bound  1970-01-01 00:00:09\n"
        "\n"
        "WORKER  STATE    PID\n"
        "0       serving  8\n"
        "\n"
        "transfers in flight: 2\n"
        "\n"
        "IMAGE      METHOD     TO                 RECEIVERS  COMPLETE  SENT         LOSS  RATE\n"
        "win11.img  multicast  239.192.1.2:21700  10         2         11 of 22 MB  2.1%  62.5 MB/s\n"
        "\n"
        "UPLOAD  FROM      STATE       RECEIVED\n"
        "a.img   10.0.0.9  receiving   3 of 5 MB\n"
        "b.ndz   10.0.0.8  connecting  0 MB\n"
        "\n"
        "SUBNET       ACTIVE  EXPIRED  RELEASED  DECLINED  FREE\n"
        "10.0.0.0/24  3       0        0         0         6\n"
        "\n"
        "NODE    STATE      ROLE     TRANSFERS  HEARD           VERSION  ADDRESSES          SERVES\n"
        "build1  here       leading  12         this node       1        10.0.0.1           tftp, http\n"
        "build2  not ready                      0 s ago                  10.0.0.2, fd00::2\n"
        "build3  gone                           1 min 10 s ago  0.9\n"
        "build4  draining            0          0 s ago\n"
        "build5  stopped                        9 s ago\n"
        "the store that the nodes share was last reached 1 min 1 s ago\n"
    )


@frozen
class FakeServer:
    """A running server whose status is *record*."""

    record: dict[str, Any]

    def call(self, name: str) -> list[dict[str, Any]]:
        assert name == "status"
        return [self.record]
