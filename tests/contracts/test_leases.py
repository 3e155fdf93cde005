"""The built-in lease stores keep the contract that the kit checks for strangers."""

from pathlib import Path
from typing import Any

import pytest
from callbacks import CallbackReactor
from twisted.internet.defer import Deferred

from bootfw.stores.memory import MemoryStore
from bootfw.stores.sqlite import SqliteStore
from bootfw.testing import LeaseStoreContract, OfflineStoreContract


class TestMemory(LeaseStoreContract):
    def make_store(self) -> MemoryStore:
        return MemoryStore()


class TestSqlite(LeaseStoreContract):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path
        self.reactor = CallbackReactor()

    def make_store(self) -> SqliteStore:
        return SqliteStore(self.directory / "state" / "bootfw.sqlite", self.reactor)

    def wait(self, deferred: Deferred[Any]) -> None:
        self.reactor.wait(deferred)


class TestSqliteOffline(OfflineStoreContract):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    def make_store(self) -> SqliteStore:
        return SqliteStore(self.directory / "bootfw.sqlite", None)
