"""Emulab's own clients, where they are installed: tmcc and bootinfoclient."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bootfw_emulab.emulab import plugin
from emulabcaptures import HOST_FILES, TMCC
from emulabtestbed import OFF, write_hosts
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.threads import deferToThreadPool

from bootfw.api import BootService, PluginContext

SECONDS = 60.0


def has_client(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} of Emulab on the PATH")


def serving(tmp_path: Path, server: str) -> EPollReactor:
    """A reactor that runs the plugin on the well-known ports of *server*, a loopback address of each test its own."""
    text = {name: content.replace("10.9.0.11", "127.0.0.1") for name, content in HOST_FILES.items()}
    write_hosts(tmp_path, text)
    made = EPollReactor()
    options = {"hosts": "hosts", "bootinfo-listen": f"{server}:6969", "tmcd-listen": [f"{server}:7777"]}
    resolver: Any = plugin.configure(options, PluginContext(made, tmp_path, tmp_path))
    service = BootService(made, settings=OFF, resolvers=[("emulab", resolver)])
    made.callWhenRunning(service.startService)
    made.addSystemEventTrigger("before", "shutdown", service.stopService)
    return made


def runs(reactor: EPollReactor, *command: str) -> bytes:
    """What a client prints while the reactor serves it."""
    found: list[subprocess.CompletedProcess[bytes]] = []

    def run() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)

    def ended(done: subprocess.CompletedProcess[bytes]) -> None:
        found.append(done)

    def begin() -> None:
        running: Deferred[subprocess.CompletedProcess[bytes]] = deferToThreadPool(reactor, reactor.getThreadPool(), run)
        running.addCallback(ended).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    (done,) = found
    assert done.returncode == 0, done
    return done.stdout


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
    printed = runs(serving(tmp_path, server), "tmcc", "-s", server, "-i", "-t", "30", request_)
    assert printed == TMCC[f"VERSION=34 {request_} ".encode()]


@has_client("tmcc")
def test_tmcc_by_udp(tmp_path: Path) -> None:
    server = "127.0.69.6"
    assert runs(serving(tmp_path, server), "tmcc", "-s", server, "-u", "-t", "30", "isalive") == b"UPDATE=0\n"


@has_client("bootinfoclient")
def test_bootinfoclient_prints_what_it_boots(tmp_path: Path) -> None:
    server = "127.0.69.7"
    assert runs(serving(tmp_path, server), "bootinfoclient", "-s", server).split() == [b"partition:2"]
