"""The messages of the server to a service manager. The server processes are real, the manager is a socket."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servicemanager import ServiceManager
from twistd import TWISTD, bootfw, fetch, free_port
from twisted.application.service import MultiService
from twisted.internet.task import Clock
from workerprocesses import workers_of
from zope.interface.verify import verifyObject

from bootfw.config.settings import DHCPSettings, Settings, TFTPSettings
from bootfw.interfaces import IBootObserver
from bootfw.net.linux.notifysocket import NotifySocket
from bootfw.service import BootService
from bootfw.supervision import Supervision, add_supervision
from bootfw.testing import MemoryNetwork

CONFIG = """
[bootfw]
state-dir = "state"
workers = 1
{interfaces}
[web]
listen = []
[tftp]
listen = ["{address}:{port}"]
[dhcp]
mode = "off"
[[backend]]
use = "memory"
files = {{ "motd" = "hello" }}
{more}
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceManager]:
    """The service manager of every process that the test starts."""
    manager = ServiceManager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    yield manager
    manager.close()


def config(directory: Path, port: int, *, address: str = "127.0.0.1", interfaces: str = "", more: str = "") -> Path:
    path = directory / "bootfw.toml"
    path.write_text(CONFIG.format(address=address, port=port, interfaces=interfaces, more=more))
    return path


def test_server_sends_ready_status_and_stopping(manager: ServiceManager, tmp_path: Path) -> None:
    with bootfw(config(tmp_path, free_port())) as server:
        manager.until("STATUS=serving")
        pid = server.pid
    manager.until("STOPPING=1")
    assert manager.messages == [f"READY=1\nMAINPID={pid}", "STATUS=serving tftp", "STOPPING=1\nSTATUS=stopping"]


def test_a_daemon_names_its_own_process(manager: ServiceManager, tmp_path: Path) -> None:
    """twistd forks; the process that the service manager has started ends."""
    path = config(tmp_path, free_port())
    subprocess.run([TWISTD, "--pidfile=pid", "bootfw", "-c", path], cwd=tmp_path, check=True)
    manager.until("READY=1")
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 15)
    manager.until("STOPPING=1")
    assert manager.messages[0] == f"READY=1\nMAINPID={pid}"


def test_occupied_port_prevents_readiness(manager: ServiceManager, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        with bootfw(config(tmp_path, holder.getsockname()[1])) as server:
            server.rest()
            assert server.code == 1
    assert not manager.receive(0)


@pytest.mark.interop
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip(8)")
def test_a_server_is_not_ready_before_its_interface_exists(manager: ServiceManager, tmp_path: Path) -> None:
    name = f"bootfw-ready-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        path = config(tmp_path, 69, address="0.0.0.0", interfaces='interfaces = ["late0"]')
        in_namespace = ("ip", "netns", "exec", name)
        with bootfw(path, before=in_namespace):
            manager.until("STATUS=waiting for tftp on late0")
            assert manager.messages == ["STATUS=waiting for tftp on late0"]
            subprocess.run(["ip", "-n", name, "link", "add", "late0", "type", "veth"], check=True)
            manager.until("STATUS=serving tftp")
            assert [message.partition("\n")[0] for message in manager.messages[1:]] == [
                "READY=1",
                "STATUS=serving tftp",
            ]
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


BLOCKING = """
from attrs import frozen
from zope.interface import implementer
from bootfw.api import IBootObserver, TransferBegun, boot_plugin

@implementer(IBootObserver)
@frozen
class Blocking:
    "Blocks the reactor when a transfer begins, until the test opens its FIFO."
    def observe(self, event):
        if isinstance(event, TransferBegun):
            open("entered", "w").close()
            open("fifo").read()

plugin = boot_plugin(IBootObserver, Blocking)
"""


def test_no_watchdog_message_is_sent_while_the_reactor_is_blocked(
    manager: ServiceManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "blocking.py").write_text(BLOCKING)
    os.mkfifo(tmp_path / "fifo")
    port = free_port()
    with bootfw(config(tmp_path, port, more='[[observer]]\nuse = "blocking:plugin"')):
        for _ in range(3):
            manager.until("WATCHDOG=1")
        fetch(("127.0.0.1", port), "motd")
        while manager.receive(1):  # those from before it was blocked; half a second of it would be two more
            pass
        assert (tmp_path / "entered").exists()
        (tmp_path / "fifo").write_text("")
        manager.until("WATCHDOG=1")


def test_a_worker_does_not_speak_for_the_server(manager: ServiceManager, tmp_path: Path) -> None:
    path = config(tmp_path, free_port())
    path.write_text(path.read_text().replace("workers = 1", "workers = 2"))
    # Not a fork: the /proc/PID/environ of a fork is that of the process which forks.
    with bootfw(path, before=("env",)) as server:
        manager.until("READY=1")
        pid = server.pid
        while len(workers_of(pid)) < 2:
            server.until("", seconds=0)
        for child in workers_of(pid):
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{child}/environ").read_bytes()


# With a clock of the test


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork()


@pytest.fixture
def service(network: MemoryNetwork) -> BootService:
    settings = Settings(tftp=TFTPSettings(listen=(("10.0.0.1", 69),)), dhcp=DHCPSettings(mode="off"))
    return BootService(network.host("10.0.0.1"), settings=settings)


def test_the_watchdog_message_is_sent_twice_in_its_time(manager: ServiceManager, service: BootService) -> None:
    clock = Clock()
    supervision = Supervision(clock, service, NotifySocket(manager.name, 10))
    assert verifyObject(IBootObserver, supervision)
    supervision.startService()
    beats = 0
    for _ in range(20):
        while message := manager.receive(0):
            beats += message == "WATCHDOG=1"
        clock.advance(1)
    assert beats == 4
    supervision.stopService()
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("during", ["start", "reload"])
def test_ready_is_sent_again_after_the_queue_of_the_manager_was_full(
    manager: ServiceManager, network: MemoryNetwork, service: BootService, during: str
) -> None:
    """Many services send messages while a host starts; the queue has net.unix.max_dgram_qlen entries, 10 to 512."""
    notify_socket = NotifySocket(manager.name)
    supervision = Supervision(network.clock, service, notify_socket)
    service.startService()
    supervision.startService()
    if during == "reload":
        network.advance(0)
        while manager.receive(0):
            pass
        manager.messages.clear()
        supervision.reloading()
    while notify_socket.notify(STATUS="of others"):
        pass
    if during == "reload":
        supervision.reloaded()
    network.advance(0)
    while manager.receive(0):
        pass
    assert "READY=1" not in {message.partition("\n")[0] for message in manager.messages}
    network.advance(1)
    while manager.receive(0):
        pass
    states = [message.partition("\n")[0] for message in manager.messages if "of others" not in message]
    assert states == (["READY=1", "STATUS=serving tftp"] if during == "start" else ["RELOADING=1", "READY=1"])
    supervision.stopService()
    network.result_of(service.stopService())
    assert network.clock.getDelayedCalls() == []


def test_supervision_can_be_started_again(
    manager: ServiceManager, network: MemoryNetwork, service: BootService
) -> None:
    supervision = add_supervision(network.clock, service, {"NOTIFY_SOCKET": manager.name})
    assert supervision is not None
    application = MultiService()
    service.setServiceParent(application)  # type: ignore[no-untyped-call]
    supervision.setServiceParent(application)  # type: ignore[no-untyped-call]
    for _ in range(2):
        application.startService()
        network.advance(0.1)
        application.stopService()
        network.advance(0.1)
    while manager.receive(0):
        pass
    once = ["READY=1", "STATUS=serving tftp", "STOPPING=1"]
    assert [message.partition("\n")[0] for message in manager.messages] == once * 2


def test_without_a_service_manager_nothing_is_added(service: BootService) -> None:
    assert add_supervision(Clock(), service, {}) is None
