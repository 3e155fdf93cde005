"""The operation "status": the record of a running service."""

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


def make_service(network: MemoryNetwork, **settings: Any) -> BootService:
    service = BootService(
        network.host("10.0.0.1"),
        settings=Settings(tftp=TFTPSettings(listen=(("10.0.0.1", 69),)), **settings),
        backend=MemoryBackend({"file": b"x" * 2000}),
        store=MemoryStore(),
    )
    add_status(service, "/etc/bootfw/bootfw.toml")
    return service


def record(service: BootService) -> Any:
    (found,) = service.operations()["status"]({})
    return found


def test_status_of_a_running_service() -> None:
    network = MemoryNetwork()
    service = make_service(network, dhcp=DHCPSettings(mode="off"))
    assert record(service)["ready"] is False
    service.startService()
    network.advance(1)
    found = record(service)
    assert (found["ready"], found["waiting"]) == (True, [])
    assert (found["version"], found["pid"]) == (__version__, os.getpid())
    assert found["configuration"] == "/etc/bootfw/bootfw.toml"
    sockets = [(each["service"], each["address"], each["port"], each["state"]) for each in found["sockets"]]
    assert sockets == [("tftp", "10.0.0.1", 69, "bound")]
    assert (found["workers"], found["transfers"], found["leases"]) == ([], 0, [])
    network.result_of(service.stopService())
    assert record(service)["sockets"] == []


def test_transfers_in_flight_are_counted() -> None:
    network = MemoryNetwork()
    service = make_service(network, dhcp=DHCPSettings(mode="off"))
    service.startService()
    client = TFTPClient(network.host("10.0.0.9"), ("10.0.0.1", 69), pause=lambda block: 5.0 * (block == 1))
    download = client.download("file")
    network.advance(1)
    assert record(service)["transfers"] == 1
    network.result_of(download)
    network.advance(1)
    assert record(service)["transfers"] == 0
    missing = TFTPClient(network.host("10.0.0.8"), ("10.0.0.1", 69)).download("gone")
    missing.addErrback(lambda failure: None)
    network.advance(1)
    assert record(service)["transfers"] == 0
    network.result_of(service.stopService())


def test_leases_of_each_subnet_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    service = make_service(MemoryNetwork(), dhcp=DHCPSettings(mode="off"))
    counts = {("10.0.0.0/24", "active"): 3, ("10.0.0.0/24", "expired"): 1}, {("10.0.0.0/24",): 6, ("10.1.0.0/24",): 9}
    monkeypatch.setattr(service, "lease_counts", lambda: counts)
    assert record(service)["leases"] == [
        {"network": "10.0.0.0/24", "free": 6, "active": 3, "expired": 1},
        {"network": "10.1.0.0/24", "free": 9},
    ]


def test_control_socket_is_opened_without_dhcp(private_reactor: EPollReactor, tmp_path: Path) -> None:
    """The control socket is opened for this operation alone; a server that can't open it starts without it."""
    for path, can_be_opened in ((tmp_path / "control.sock", True), (Path("/proc/control.sock"), False)):
        service = BootService(
            private_reactor,
            settings=Settings(dhcp=DHCPSettings(mode="off"), tftp=TFTPSettings(listen=(("127.0.0.1", 0),))),
            control=path,
        )
        add_status(service)
        service.startService()
        assert path.exists() is can_be_opened
        service.stopService()
