"""The built-in lease stores keep the contract that the kit checks for strangers."""

import pytest
from callbacks import Callbacks

from bootfw.stores.memory import MemoryStore
from bootfw.stores.sqlite import SqliteStore
from bootfw.testing import LeaseStoreContract


class TestMemory(LeaseStoreContract):
    def make_store(self):
        return MemoryStore()


class TestSqlite(LeaseStoreContract):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path):
        self.directory = tmp_path
        self.reactor = Callbacks()

    def make_store(self):
        return SqliteStore(self.directory / "state" / "bootfw.sqlite", self.reactor)

    def wait(self, deferred):
        self.reactor.wait(deferred)
