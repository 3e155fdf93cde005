"""The operation "status": what a service tells about itself."""

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor

from bootfw import __version__
from bootfw.api import BootService, Settings, TFTPSettings
from bootfw.backends.memory import MemoryBackend
from bootfw.config.settings import DHCPSettings
from bootfw.status import add_status
from bootfw.stores.memory import MemoryStore
from bootfw.testing import MemoryNetwork
from bootfw.testing.tftp import TFTPClient


def service(network: MemoryNetwork, **settings: Any) -> BootService:
    made = BootService(
        network.host("10.0.0.1"),
        settings=Settings(tftp=TFTPSettings(listen=(("10.0.0.1", 69),)), **settings),
        backend=MemoryBackend({"file": b"x" * 2000}),
        store=MemoryStore(),
    )
    add_status(made, "/etc/bootfw/bootfw.toml")
    return made


def record(boot: BootService) -> Any:
    (found,) = boot.operations()["status"]({})
    return found


def test_status_of_a_running_service() -> None:
    network = MemoryNetwork()
    boot = service(network, dhcp=DHCPSettings(mode="off"))
    assert record(boot)["ready"] is False
    boot.startService()
    network.advance(1)
    found = record(boot)
    assert (found["ready"], found["waiting"]) == (True, [])
    assert (found["version"], found["pid"]) == (__version__, os.getpid())
    assert found["configuration"] == "/etc/bootfw/bootfw.toml"
    told = [(each["service"], each["address"], each["port"], each["state"]) for each in found["sockets"]]
    assert told == [("tftp", "10.0.0.1", 69, "bound")]
    assert (found["workers"], found["transfers"], found["leases"]) == ([], 0, [])
    network.result_of(boot.stopService())
    assert record(boot)["sockets"] == []


def test_transfers_in_flight() -> None:
    network = MemoryNetwork()
    boot = service(network, dhcp=DHCPSettings(mode="off"))
    boot.startService()
    client = TFTPClient(network.host("10.0.0.9"), ("10.0.0.1", 69), pause=lambda block: 5.0 * (block == 1))
    done = client.download("file")
    network.advance(1)
    assert record(boot)["transfers"] == 1
    network.result_of(done)
    network.advance(1)
    assert record(boot)["transfers"] == 0
    missing = TFTPClient(network.host("10.0.0.8"), ("10.0.0.1", 69)).download("gone")
    missing.addErrback(lambda failure: None)
    network.advance(1)
    assert record(boot)["transfers"] == 0
    network.result_of(boot.stopService())


def test_leases_of_each_subnet(monkeypatch: pytest.MonkeyPatch) -> None:
    boot = service(MemoryNetwork(), dhcp=DHCPSettings(mode="off"))
    counts = {("10.0.0.0/24", "active"): 3, ("10.0.0.0/24", "expired"): 1}, {("10.0.0.0/24",): 6, ("10.1.0.0/24",): 9}
    monkeypatch.setattr(boot, "lease_counts", lambda: counts)
    assert record(boot)["leases"] == [
        {"network": "10.0.0.0/24", "free": 6, "active": 3, "expired": 1},
        {"network": "10.1.0.0/24", "free": 9},
    ]


def test_control_socket_is_opened_without_dhcp(private_reactor: EPollReactor, tmp_path: Path) -> None:
    """The control socket is opened for this operation alone; where that can't be, the server starts without it."""
    for path, opened in ((tmp_path / "control.sock", True), (Path("/proc/control.sock"), False)):
        boot = BootService(
            private_reactor,
            settings=Settings(dhcp=DHCPSettings(mode="off"), tftp=TFTPSettings(listen=(("127.0.0.1", 0),))),
            control=path,
        )
        add_status(boot)
        boot.startService()
        assert path.exists() is opened
        boot.stopService()
