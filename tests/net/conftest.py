"""Two network namespaces as hosts on two wires, for tests that need a real kernel; HTTP services and their clients."""

import contextlib
import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from descriptors import open_descriptors
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor

from bootfw.config.settings import DHCPSettings, HTTPSettings, Settings, TFTPSettings
from bootfw.service import BootService

from .namespaces import Host
from .webservice import Curl, Observer, RunClient, WebService


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    """A server and a client with two wires between them, wire 0 and wire 1.

    The server's interfaces are s0 (10.9.0.1, 10.9.0.2, fd00:9::1, fd00:9::2) and s1 (10.9.1.1, fd00:9:1::1), the
    client's are c0 (10.9.0.9, fd00:9::9) and c1 (10.9.1.9, fd00:9:1::9). Every interface of the server also has the
    address fe80::1, and every interface of the client fe80::9.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and ip(8)")
    server, client = Host(f"bootfw-udp-s{os.getpid()}"), Host(f"bootfw-udp-c{os.getpid()}")
    created: list[Host] = []
    try:
        for host in (server, client):
            process = subprocess.run(["ip", "netns", "add", host.name], capture_output=True, text=True)
            if process.returncode:
                pytest.skip(f"no network namespaces here: {process.stderr.strip()}")
            created.append(host)
        for wire in (0, 1):
            server.ip("link", "add", f"s{wire}", "type", "veth", "peer", "name", f"c{wire}", "netns", client.name)
            for host, interface, number in ((server, f"s{wire}", 1), (client, f"c{wire}", 9)):
                host.ip("link", "set", interface, "addrgenmode", "none", "up")
                host.ip("address", "add", f"10.9.{wire}.{number}/24", "broadcast", "+", "dev", interface)
                host.ip("address", "add", f"fe80::{number}/64", "dev", interface, "nodad")
                host.ip("address", "add", f"fd00:9:{wire}::{number}/64", "dev", interface, "nodad")
        server.ip("address", "add", "10.9.0.2/24", "dev", "s0")
        server.ip("address", "add", "fd00:9:0::2/64", "dev", "s0", "nodad")
        yield server, client
    finally:
        for host in created:
            subprocess.run(["ip", "netns", "delete", host.name], check=True)


def _open_files() -> Iterator[str]:
    for number in open_descriptors():
        with contextlib.suppress(FileNotFoundError):  # the one that listed them
            yield os.readlink(f"/proc/self/fd/{number}")


@pytest.fixture
def web_service(private_reactor: EPollReactor, turn_until: TurnUntil) -> Iterator[WebService]:
    """Starts a BootService with HTTP only, with a backend and HTTPSettings, and returns (service, observer).

    After the test, none of its files, readers and delayed calls may be left.
    """
    started: list[BootService] = []

    def resources() -> "Counter[object]":
        # Twisted keeps /dev/null open, once, against the day when there is no descriptor left.
        files = [file for file in _open_files() if file != "/dev/null"]
        return Counter[object]([*private_reactor.getReaders(), *private_reactor.getDelayedCalls(), *files])

    before = resources()

    def start(backend: Any, http: HTTPSettings) -> tuple[BootService, Observer]:
        observer = Observer()
        settings = Settings(tftp=TFTPSettings(listen=()), dhcp=DHCPSettings(mode="off"), http=http)
        service = BootService(private_reactor, settings=settings, backend=backend, observers=[observer])
        service.startService()
        started.append(service)
        return service, observer

    yield start
    for service in started:
        stopped: list[object] = []
        service.stopService().addBoth(stopped.append)
        turn_until(lambda: stopped)  # noqa: B023 (it is called in this turn of the loop)
    private_reactor.iterate(0)
    # What earlier tests have left may be closed meanwhile, by the garbage collector or by a thread that ends.
    assert resources() <= before


@pytest.fixture
def run_client(turn_until: TurnUntil) -> RunClient:
    """Runs a program while the reactor turns, and returns (exit code, output)."""

    def run(program: str, *arguments: object, seconds: float = 60) -> tuple[int, bytes]:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: tools/install-clients installs it on Debian")
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        process = subprocess.Popen([program, *map(str, arguments)], stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None
        pipe, output = process.stdout, list[bytes]()
        reader = threading.Thread(target=lambda: output.append(pipe.read()))
        reader.start()
        turn_until(lambda: process.poll() is not None and not reader.is_alive(), seconds)
        pipe.close()
        return process.returncode, output[0]

    return run


@pytest.fixture
def curl(run_client: RunClient) -> Curl:
    """Runs curl."""
    return lambda *arguments: run_client("curl", "--silent", "--max-time", "60", *arguments)
