"""The built-in stores keep boot attempts as the kit demands of any store."""

from typing import Any

import pytest
from sqlitestores import SqliteStores

from bootfw.api import StateError
from bootfw.stores.memory import MemoryStore
from bootfw.stores.sqlite import SqliteStore
from bootfw.testing import AttemptStoreContract
from bootfw.testing.contracts.attempts import attempt
from bootfw.testing.contracts.leases import LEASES


class TestMemory(AttemptStoreContract):
    def make_store(self) -> MemoryStore:
        return MemoryStore()


class TestSqlite(SqliteStores, AttemptStoreContract):
    def test_finding_attempts_makes_no_file(self) -> None:
        store = self.make_store()
        assert self.find(store) == []
        self.answer(store.close_attempts())
        assert not (self.directory / "state").exists()

    def test_leases_and_attempts_share_the_file(self) -> None:
        store = self.make_store()
        list(store.load())
        self.answer(store.commit(LEASES))
        self.save(store, attempt(1))
        self.answer(store.close())
        self.save(store, attempt(2))
        self.answer(store.close_attempts())
        assert len(list(store.load())) == len(LEASES)
        assert self.ids(store) == ["id-2", "id-1"]
        self.answer(store.close())
        self.answer(store.close_attempts())

    def test_a_directory_that_can_not_be_made(self) -> None:
        (self.directory / "state").write_text("a file")
        store = self.make_store()
        with pytest.raises(StateError, match="state"):
            self.save(store, attempt(1))
        (self.directory / "state").unlink()
        self.save(store, attempt(2))
        assert self.ids(store) == ["id-2"]
        self.answer(store.close_attempts())


class TestWithoutReactor(TestSqlite):
    """As the ``bootfw`` command uses it: each call blocks."""

    def make_store(self) -> SqliteStore:
        return SqliteStore(self.directory / "state" / "bootfw.sqlite")

    def wait(self, deferred: Any) -> None:
        raise AssertionError("a call has not blocked")
