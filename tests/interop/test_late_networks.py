"""A network that comes late, or goes and comes back: real servers with worker processes, and real clients."""

import contextlib
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
import workerprocesses
from narrowing import present

from .clients import CURL, HPA
from .lab import Host, Lab, Program, need, wait_until
from .service import BOOTFW

pytestmark = pytest.mark.interop

ADDRESSES = {"address": "10.77.0.1", "interface": "10.77.0.2"}
"""Of the servers: the client knows the hardware address of each for half a minute."""
CONTENT = b"a small file"
ROUNDS, SEED, LATEST = 50, 13, 3.0

CONFIGURATION = """
[bootfw]
workers = 2
state-dir = "{root}/state"
{interfaces}
[dhcp]
mode = "off"
[tftp]
listen = ["{listen}:69"]
[http]
listen = ["{listen}:8069"]
[web]
listen = ["127.0.0.1:8067"]
[[backend]]
use = "directory"
root = "{root}/files"
"""


class LateServer:
    """A server whose address, or whose interface with the address, does not exist yet.

    :param kind: "address" or "interface": what the configuration names, and what comes late.
    """

    def __init__(self, lab: Lab, root: Path, kind: str) -> None:
        self.kind, self._lab, self._root = kind, lab, root
        self._address = ADDRESSES[kind]
        self.host = lab.host(f"by-{kind}")
        if kind == "interface":
            self.host.ip("link", "delete", "eth0")
        (root / "files").mkdir(exist_ok=True)
        (root / "files" / "small").write_bytes(CONTENT)
        self._configuration = root / f"{kind}.toml"
        listen, interfaces = (self._address, "") if kind == "address" else ("0.0.0.0", 'interfaces = ["eth0"]')
        self._configuration.write_text(CONFIGURATION.format(root=root, listen=listen, interfaces=interfaces))

    def start(self) -> Program:
        return self.host.start(*BOOTFW, "-c", self._configuration, name="bootfw")

    def arrive(self) -> None:
        if self.kind == "address":
            self.host.ip("address", "add", f"{self._address}/24", "dev", "eth0")
        else:
            self._lab.plug_again(self.host, f"{self._address}/24")

    def leave(self) -> None:
        if self.kind == "address":
            self.host.ip("address", "delete", f"{self._address}/24", "dev", "eth0")
        else:
            self.host.ip("link", "delete", "eth0")

    def readiness(self) -> tuple[int, Any] | None:
        """Status and content of /readyz; None: the server does not answer yet."""
        page = HTTPConnection("127.0.0.1", 8067)
        with contextlib.suppress(OSError, HTTPException), contextlib.closing(page):
            page.sock = self.host.connection(("127.0.0.1", 8067))
            page.request("GET", "/readyz")
            response = page.getresponse()
            return response.status, json.load(response)
        return None

    def is_ready(self) -> bool:
        readiness = self.readiness()
        return readiness is not None and readiness[0] == 200

    def status(self) -> int:
        """The exit code of ``bootfw status``."""
        command = Path(sys.executable).with_name("bootfw")
        return self.host.run(command, "status", "-c", self._configuration, seconds=30).wait(0)

    def fetch(self, station: Host) -> None:
        """The file by TFTP and by HTTP."""
        tftp_copy, http_copy = self._root / "by-tftp", self._root / "by-http"
        for path in (tftp_copy, http_copy):
            path.unlink(missing_ok=True)
        url = f"http://{self._address}:8069/small"
        for command in (
            HPA.get((self._address, 69), "small", tftp_copy),
            ["curl", "--fail", "--silent", "-o", http_copy, url],
        ):
            program = station.run(*command, seconds=30)
            assert program.exit_code == 0, program.output
        assert (tftp_copy.read_bytes(), http_copy.read_bytes()) == (CONTENT, CONTENT)


@pytest.fixture
def station(lab: Lab) -> Host:
    for client in (CURL, HPA):
        need(client.program)
    return lab.host("station", "10.77.0.9/24")


def duration_of(step: Callable[[], object]) -> float:
    began = time.monotonic()
    step()
    return time.monotonic() - began


@pytest.mark.parametrize("kind", ["address", "interface"])
def test_late_and_returning_addresses_are_served_within_a_second(
    lab: Lab, station: Host, tmp_path: Path, kind: str
) -> None:
    late = LateServer(lab, tmp_path, kind)
    service = late.start()
    service.wait_for("not ready", 30)
    wait_until(lambda: len(workerprocesses.workers_of(service.pid)) == 2, 30, "two workers")
    wait_until(lambda: all(map(workerprocesses.serves, workerprocesses.workers_of(service.pid))), 30, "they serve")
    seconds = []
    for _ in range(3):
        status, content = present(wait_until(late.readiness, 30, "/readyz"))
        assert status == 503
        assert "tftp" in {socket["service"] for socket in content["waiting"]}
        assert late.status() == 1
        late.arrive()
        ready = duration_of(lambda: wait_until(late.is_ready, 30, "ready"))
        fetched = duration_of(lambda: late.fetch(station))
        seconds.append(ready + fetched)
        for _ in range(6):  # by both workers
            late.fetch(station)
        assert late.status() == 0
        late.leave()
        wait_until(lambda: not late.is_ready(), 30, "not ready")
    assert min(seconds) < 1, "other tests use the processors, too, but not each time"
    assert "Traceback" not in service.output


@pytest.mark.firmware  # the test above is quicker
def test_fifty_starts_with_a_late_network(lab: Lab, station: Host, tmp_path: Path) -> None:
    """The network comes while the server starts, or after that. Each round starts another server.

    The delay is counted from the start of the process and from its first answer, in turn: on a busy machine a start
    takes longer than the longest delay.
    """
    dice = random.Random(SEED)
    servers = {kind: LateServer(lab, tmp_path, kind) for kind in ("address", "interface")}
    rounds: list[tuple[str, float, bool, float, float]] = []
    for number in range(ROUNDS):
        late, delay = servers[dice.choice(sorted(servers))], dice.uniform(0, LATEST)
        service, began = late.start(), time.monotonic()
        answered = arrived = 0.0
        while True:
            now = time.monotonic()
            counted_from = began if number % 2 else answered
            if not arrived and counted_from and now > counted_from + delay:
                late.arrive()
                arrived = time.monotonic()
            answer = late.readiness()
            answered = answered or (time.monotonic() if answer else 0.0)
            if answer is not None and answer[0] == 200:
                assert arrived, "it is not ready before"
                break
            assert now < began + 30, f"not ready: {service.output}"
            time.sleep(0.01)
        ready = time.monotonic() - max(arrived, answered)
        rounds.append((late.kind, delay, answered > arrived, ready, duration_of(lambda: late.fetch(station))))  # noqa: B023
        service.stop()
        assert "Traceback" not in service.output
        late.leave()
    for kind, delay, during_start, ready, fetched in rounds:
        phase = "during the start" if during_start else "after the start"
        print(f"{kind:9} {delay:.2f} s late, {phase}: ready after {ready:.3f} s, both files {fetched:.3f} s later")
    for name, values in (("ready", [each[3] for each in rounds]), ("both files", [each[4] for each in rounds])):
        print(f"{name}: median {statistics.median(values):.3f} s, longest {max(values):.3f} s")
    assert max(ready + fetched for *_, ready, fetched in rounds) < 1
