"""The machines of a service that runs: its operations, and their store."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from bootfw.api import DHCPSettings, Settings, StateError, TFTPSettings
from bootfw.attempts.attempt import BootAttempt, Verdict
from bootfw.backends.imagelibrary.backend import ImagesBackend
from bootfw.config.settings import MachineSettings
from bootfw.inventory import KIND, NoSuchImage
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.testing import MemoryNetwork

MAC, OTHER = "52:54:00:12:34:56", "52:54:00:00:00:01"
BOOT = BootAttempt("1", 100.0, 130.0, MAC, addresses=("10.0.0.9",), verdict=Verdict.BOOTED)


def result(answer: Any) -> Any:
    """What the Deferred has fired with, or raises."""
    results: list[Any] = []
    answer.addBoth(results.append)
    assert len(results) == 1
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]


class ServiceWithStore:
    """A service with a store, without DHCP."""

    def __init__(self, store: MemoryStore, *machines: MachineSettings, backends: Sequence[Any] = ()) -> None:
        settings = Settings(tftp=TFTPSettings(listen=()), dhcp=DHCPSettings(mode="off"), machine=machines)
        self.network = MemoryNetwork()
        self.service = BootService(
            self.network.host("10.0.0.1"),
            settings=settings,
            backends=backends,
            attempts=store,
            orders=store,
            store=store,
        )
        self.service.startService()

    def operate(self, operation: str, /, **arguments: Any) -> Any:
        return result(self.service.operations()[operation](arguments))


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.save_attempts([BOOT], 10, 0.0)
    return store


def test_entry_survives_a_restart(store: MemoryStore) -> None:
    site = ServiceWithStore(store)
    (machine,) = site.operate("set-machine", mac=MAC, name="web1", tags=["rack1"])
    assert [machine[key] for key in ("mac", "name", "tags", "boots")] == [MAC, "web1", ["rack1"], 1]
    site.service.stopService()
    restarted = ServiceWithStore(store)
    assert restarted.operate("machines") == [machine]
    assert restarted.operate("machines", machine="web1") == [machine]
    assert restarted.operate("machines", limit=0) == restarted.operate("machines", tag="x") == []


def test_tables_of_the_configuration_need_no_backend(store: MemoryStore) -> None:
    site = ServiceWithStore(
        store, MachineSettings(name="web1", mac=[MAC], image="debian-12"), MachineSettings(mac=[OTHER, MAC])
    )
    (machine,) = site.operate("machines", machine="web1")
    assert [machine[key] for key in ("mac", "name", "host", "image")] == [MAC, "web1", "web1", "debian-12"]


def test_an_image_must_exist(tmp_path: Path, store: MemoryStore) -> None:
    site = ServiceWithStore(store, backends=[ImagesBackend(tmp_path), ImagesBackend(tmp_path / "none")])
    with pytest.raises(NoSuchImage, match="there is no image debian-12; this server has none"):
        site.operate("set-machine", mac=MAC, image="debian-12")
    (tmp_path / "debian-12").mkdir()
    (tmp_path / "rescue.iso").write_bytes(b"")
    assert site.operate("images") == [{"name": "debian-12"}, {"name": "rescue"}]
    assert site.operate("set-machine", mac=MAC, image="debian-12")[0]["image"] == "debian-12"
    with pytest.raises(NoSuchImage, match="there is no image debian; known: debian-12, rescue"):
        site.operate("set-machine", mac=MAC, image="debian", name="web1")
    (tmp_path / "debian-12").rmdir()
    assert site.operate("set-machine", mac=MAC, image="")[0]["name"] == ""


def test_removed_entry_is_no_longer_stored(store: MemoryStore) -> None:
    site = ServiceWithStore(store)
    site.operate("set-machine", mac=OTHER, name="web2")
    assert [machine["name"] for machine in site.operate("forget-machine", mac=OTHER)] == ["web2"]
    assert site.operate("forget-machine", mac=OTHER) == []
    site.operate("set-machine", mac=MAC, name="web1")
    site.operate("set-machine", mac=MAC, name="")
    assert store.load_orders(KIND) == {}


def test_a_change_that_can_not_be_stored_is_undone(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    site = ServiceWithStore(store)
    site.operate("set-machine", mac=MAC, name="web1")

    def refuse(kind: str, orders: Mapping[str, Mapping[str, object] | None]) -> "Deferred[None]":
        return fail(StateError("the disk is full"))

    monkeypatch.setattr(MemoryStore, "save_orders", lambda self, *arguments: refuse(*arguments))
    with pytest.raises(StateError, match="the disk is full"):
        site.operate("set-machine", mac=MAC, name="web2")
    with pytest.raises(StateError, match="the disk is full"):
        site.operate("forget-machine", mac=MAC)
    assert site.operate("machines")[0]["name"] == "web1"


def test_changes_that_follow_each_other_build_on_each_other(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = ServiceWithStore(store)
    pending: list[Deferred[None]] = []

    def save_later(self: MemoryStore, kind: str, orders: Mapping[str, Mapping[str, object] | None]) -> "Deferred[None]":
        pending.append(Deferred())
        return pending[-1]

    monkeypatch.setattr(MemoryStore, "save_orders", save_later)
    operation = site.service.operations()["set-machine"]
    first, second = operation({"mac": MAC, "add_tags": ["a"]}), operation({"mac": MAC, "add_tags": ["b"]})
    for deferred in pending:
        deferred.callback(None)
    assert [deferred["tags"] for deferred in (*result(first), *result(second))] == [["a", "b"], ["a", "b"]]


def test_a_mistake_is_refused(store: MemoryStore) -> None:
    with pytest.raises(StateError, match="name must be a host name"):
        ServiceWithStore(store).operate("set-machine", mac=MAC, name="a b")


def test_a_service_without_a_store_of_orders_has_no_machines() -> None:
    assert "machines" not in BootService(MemoryNetwork().host("10.0.0.1")).operations()


def test_with_an_invalid_entry_none_is_used_or_changed(store: MemoryStore) -> None:
    store.save_orders(KIND, {MAC: {"name": 1}})
    site = ServiceWithStore(store)
    assert [machine["name"] for machine in site.operate("machines")] == [""]
    with pytest.raises(StateError, match=f"what is stored for the machine {MAC} is invalid"):
        site.operate("set-machine", mac=OTHER, name="web2")


class LockedStore(MemoryStore):
    """Its orders can't be loaded while another server has them."""

    is_locked = True

    def load_orders(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        if kind == KIND and self.is_locked:
            raise StateError("another process uses it")
        return super().load_orders(kind)


def test_a_service_whose_entries_can_not_be_read_serves_and_changes_none() -> None:
    store = LockedStore()
    store.save_attempts([BOOT], 10, 0.0)
    store.save_orders(KIND, {MAC: {"name": "web1", "tags": [], "image": ""}})
    site = ServiceWithStore(store)
    assert [machine["name"] for machine in site.operate("machines")] == [""]
    with pytest.raises(StateError, match="another process uses it"):
        site.operate("set-machine", mac=MAC, name="web2")
    site.service.stopService()
    store.is_locked = False
    assert [machine["name"] for machine in ServiceWithStore(store).operate("machines")] == ["web1"]
