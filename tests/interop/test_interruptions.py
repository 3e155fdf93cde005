"""Processes that are stopped for a while, as in a container that is frozen, and links that are down for a while."""

import os
import signal
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import workerprocesses
from attrs import define

from .clients import CURL
from .lab import Host, Lab, Program, need, wait_until
from .service import start_bootfw

pytestmark = pytest.mark.interop

SERVER = "10.77.0.1"
SECONDS = 120
SIZE = 3_000_000
STOPPED = 5.0
"""Seconds that the processes do nothing. A block that is not acknowledged is sent again after 1 s."""
DOWN = 1.0
"""Seconds that a link is down."""


@define(eq=False)
class Scene:
    """A server, and a client that downloads a file by TFTP and by HTTP, slowly."""

    lab: Lab
    server: Host
    station: Host
    served: Path
    service: Program
    downloads: Mapping[str, Program]

    def wait_for(self, size: int) -> None:
        """Until each download has so many bytes, or has ended."""
        for name, program in self.downloads.items():
            has_size = partial(_has_size, self.lab.directory / name, size)
            program.wait_until(has_size, SECONDS, f"{name} has {size} bytes")

    def assert_complete(self) -> None:
        """Each download has the whole file, and the log has no complaint."""
        for name, program in self.downloads.items():
            assert program.wait(SECONDS) == 0, program.output
            assert (self.lab.directory / name).read_bytes() == self.served.read_bytes()
        wait_until(lambda: self.service.output.count("complete, ") == len(self.downloads), SECONDS, "a line for each")
        assert "Traceback" not in self.service.output
        assert "worker" not in self.service.output


@pytest.fixture
def scene(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    """Of so many worker processes."""
    need(CURL.program)
    served = tmp_path / "large"
    served.write_bytes(os.urandom(SIZE))
    server, station = lab.host("server", f"{SERVER}/24"), lab.host("station", "10.77.0.9/24")
    configuration = f'''
        [bootfw]
        workers = {request.param}
        state-dir = "{lab.directory}/state"
        [web]
        listen = []
        [dhcp]
        mode = "off"
        [http]
        listen = ["0.0.0.0:80"]
        [[backend]]
        use = "directory"
        root = "{tmp_path}"
    '''
    service = start_bootfw(server, lab.directory, configuration, 69)
    if request.param > 1:
        wait_until(lambda: _serving_workers(service) == request.param, SECONDS, "the workers serve")
    downloads = {}
    for url in (f"tftp://{SERVER}/large", f"http://{SERVER}/large"):
        name = url.partition(":")[0]
        options = "--silent", "--show-error", "--no-buffer", "--limit-rate", "300k", "--max-time", str(SECONDS)
        downloads[name] = station.start("curl", *options, "--output", lab.directory / name, url, name=name)
    return Scene(lab, server, station, served, service, downloads)


def _has_size(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size >= size


def _serving_workers(service: Program) -> int:
    return sum(map(workerprocesses.serves, workerprocesses.workers_of(service.pid)))


@pytest.mark.parametrize("scene", [1, 2], indirect=True)
def test_transfers_continue_after_all_processes_were_stopped_for_a_while(scene: Scene) -> None:
    scene.wait_for(1)
    pids = [scene.service.pid, *workerprocesses.workers_of(scene.service.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(STOPPED)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    scene.assert_complete()
    assert [scene.service.pid, *workerprocesses.workers_of(scene.service.pid)] == pids


@pytest.mark.parametrize("scene", [1, 2], indirect=True)
@pytest.mark.parametrize("link_end", ["server", "switch"])
def test_transfers_survive_a_flapping_link(scene: Scene, link_end: str) -> None:
    host, link = (scene.server, "eth0") if link_end == "server" else (scene.lab.switch, "server")
    for size in (1, SIZE // 4, SIZE // 2):
        scene.wait_for(size)
        host.ip("link", "set", link, "down")
        time.sleep(DOWN)
        host.ip("link", "set", link, "up")
    scene.assert_complete()
