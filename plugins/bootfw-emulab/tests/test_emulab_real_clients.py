"""Emulab's own clients, where they are installed: tmcc and bootinfoclient."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bootfw_emulab.emulab import plugin
from emulabcaptures import HOST_FILES, TMCC
from emulabtestbed import NO_SERVICES, write_hosts
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.threads import deferToThreadPool

from bootfw.api import BootService, PluginContext

SECONDS = 60.0


def has_client(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} of Emulab on the PATH")


def reactor_with_plugin(tmp_path: Path, server: str) -> EPollReactor:
    """A reactor that runs the plugin on the well-known ports of *server*, a loopback address of each test its own."""
    text = {name: content.replace("10.9.0.11", "127.0.0.1") for name, content in HOST_FILES.items()}
    write_hosts(tmp_path, text)
    reactor = EPollReactor()
    options = {"hosts": "hosts", "bootinfo-listen": f"{server}:6969", "tmcd-listen": [f"{server}:7777"]}
    resolver: Any = plugin.configure(options, PluginContext(reactor, tmp_path, tmp_path))
    service = BootService(reactor, settings=NO_SERVICES, resolvers=[("emulab", resolver)])
    reactor.callWhenRunning(service.startService)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    return reactor


def run_client(reactor: EPollReactor, *command: str) -> bytes:
    """What a client prints while the reactor serves it."""
    results: list[subprocess.CompletedProcess[bytes]] = []

    def run() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)

    def store_result(result: subprocess.CompletedProcess[bytes]) -> None:
        results.append(result)

    def start_client() -> None:
        deferred: Deferred[subprocess.CompletedProcess[bytes]] = deferToThreadPool(
            reactor, reactor.getThreadPool(), run
        )
        deferred.addCallback(store_result).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start_client)
    reactor.run(installSignalHandlers=False)
    (result,) = results
    assert result.returncode == 0, result
    return result.stdout


@has_client("tmcc")
@pytest.mark.parametrize(
    ("request_", "server"),
    [
        ("status", "127.0.69.1"),
        ("ifconfig", "127.0.69.2"),
        ("creator", "127.0.69.3"),
        ("bogus", "127.0.69.4"),
        ("ntpinfo", "127.0.69.5"),
    ],
)
def test_tmcc_prints_the_reply(tmp_path: Path, request_: str, server: str) -> None:
    output = run_client(reactor_with_plugin(tmp_path, server), "tmcc", "-s", server, "-i", "-t", "30", request_)
    assert output == TMCC[f"VERSION=34 {request_} ".encode()]


@has_client("tmcc")
def test_tmcc_by_udp(tmp_path: Path) -> None:
    server = "127.0.69.6"
    assert (
        run_client(reactor_with_plugin(tmp_path, server), "tmcc", "-s", server, "-u", "-t", "30", "isalive")
        == b"UPDATE=0\n"
    )


@has_client("bootinfoclient")
def test_bootinfoclient_prints_what_it_boots(tmp_path: Path) -> None:
    server = "127.0.69.7"
    assert run_client(reactor_with_plugin(tmp_path, server), "bootinfoclient", "-s", server).split() == [b"partition:2"]
