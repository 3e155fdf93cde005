"""The built-in stores keep orders as the kit demands of any store."""

from typing import Any

from sqlitestores import SqliteStores

from bootfw.stores.memory import MemoryStore
from bootfw.stores.sqlite import SqliteStore
from bootfw.testing import OrderStoreContract
from bootfw.testing.contracts.leases import LEASES


class TestMemory(OrderStoreContract):
    def make_store(self) -> MemoryStore:
        return MemoryStore()


class TestSqlite(SqliteStores, OrderStoreContract):
    def test_loading_orders_makes_no_file(self) -> None:
        store = self.make_store()
        store.load_orders("one")
        self.answer(store.close_orders("one"))
        assert not (self.directory / "state").exists()

    def test_leases_and_orders_share_the_file(self) -> None:
        """It is open until the last of them is closed."""
        store = self.make_store()
        store.load_orders("one")
        list(store.load())
        deferreds = [store.commit(LEASES), store.save_orders("one", {"a": {"n": 1}}), store.close_orders("one")]
        assert [self.answer(each) for each in deferreds] == [None, None, None]
        self.answer(store.commit(LEASES[:1]))
        self.answer(store.save_orders("one", {"b": {"n": 2}}))  # late
        self.answer(store.close())
        assert len(list(store.load())) == len(LEASES)
        assert store.load_orders("one") == {"a": {"n": 1}, "b": {"n": 2}}
        self.answer(store.close())
        self.answer(store.close_orders("one"))

    def test_an_order_while_the_leases_are_being_closed(self) -> None:
        store = self.make_store()
        list(store.load())
        store.load_orders("one")
        store.close_orders("one")
        store.commit(LEASES)
        closed = store.close()
        saved = store.save_orders("one", {"a": {}})
        assert saved.called
        self.answer(closed)
        assert store.load_orders("one") == {"a": {}}
        self.answer(store.close_orders("one"))


class TestWithoutReactor(TestSqlite):
    """As the ``bootfw`` command uses it: each call blocks."""

    def make_store(self) -> SqliteStore:
        return SqliteStore(self.directory / "state" / "bootfw.sqlite")

    def wait(self, deferred: Any) -> None:
        raise AssertionError("a call has not blocked")
