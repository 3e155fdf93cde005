"""The SQLite store as the contract kits of stores need it."""

from pathlib import Path
from typing import Any

import pytest
from callbacks import CallbackReactor
from twisted.internet.defer import Deferred

from bootfw.stores.sqlite import SqliteStore


class SqliteStores:
    """Part of the test class of a contract: stores with one state file, in ``directory``, and a reactor."""

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path
        self.reactor = CallbackReactor()

    def make_store(self) -> SqliteStore:
        return SqliteStore(self.directory / "state" / "bootfw.sqlite", self.reactor)

    def wait(self, deferred: Deferred[Any]) -> None:
        self.reactor.wait(deferred)
