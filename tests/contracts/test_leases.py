"""The built-in lease stores keep the contract that the kit checks for strangers."""

from pathlib import Path

import pytest
from sqlitestores import SqliteStores

from bootfw.stores.memory import MemoryStore
from bootfw.stores.sqlite import SqliteStore
from bootfw.testing import LeaseStoreContract, OfflineStoreContract


class TestMemory(LeaseStoreContract):
    def make_store(self) -> MemoryStore:
        return MemoryStore()


class TestSqlite(SqliteStores, LeaseStoreContract):
    pass


class TestSqliteOffline(OfflineStoreContract):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    def make_store(self) -> SqliteStore:
        return SqliteStore(self.directory / "bootfw.sqlite", None)
