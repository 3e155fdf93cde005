"""IOrderStore."""

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from bootfw.interfaces import IOrderStore
from bootfw.testing.contracts.answers import Answers

ORDERS: Mapping[str, Mapping[str, object]] = {
    "52:54:00:12:34:56": {"file": "debian/install.ipxe", "ordered": 1763640000.125},
    "52:54:00:12:34:57": {"text": "\N{SNOWMAN}'\";--\n", "list": [1, 2.5, None, True, {"nested": []}], "": {}},
    "02:00:00:00:00:01": {},
}
"""By MAC."""

A, B, C = ORDERS


class OrderStoreContract(Answers):
    """What every store of orders does. Override ``make_store``."""

    def make_store(self) -> IOrderStore:
        """Return a store as the configuration would make it, with nothing in it."""
        raise NotImplementedError

    def again(self, store: IOrderStore, kind: str = "one") -> Mapping[str, Mapping[str, object]]:
        """Close and load the orders of a kind, and return them."""
        self.answer(store.close_orders(kind))
        found: Mapping[str, Mapping[str, object]] = store.load_orders(kind)
        return found

    def test_provides_the_interface(self) -> None:
        verifyObject(IOrderStore, self.make_store())

    def test_a_new_store_has_no_orders(self) -> None:
        store = self.make_store()
        assert store.load_orders("one") == {}
        self.answer(store.close_orders("one"))

    def test_orders_that_were_not_loaded_can_be_closed(self) -> None:
        assert self.answer(self.make_store().close_orders("one")) is None

    def test_it_answers_later_with_none(self) -> None:
        store = self.make_store()
        store.load_orders("one")
        for later in (store.save_orders("one", ORDERS), store.save_orders("one", {}), store.close_orders("one")):
            assert isinstance(later, Deferred)
            assert self.answer(later) is None

    def test_orders_come_back_exactly(self) -> None:
        store = self.make_store()
        store.load_orders("one")
        self.answer(store.save_orders("one", ORDERS))
        assert self.again(store) == ORDERS
        self.answer(store.close_orders("one"))

    def test_the_latest_order_of_a_machine_counts_and_others_stay(self) -> None:
        store = self.make_store()
        store.load_orders("one")
        waiting = [store.save_orders("one", ORDERS), store.save_orders("one", {A: {"n": 1}, B: None})]
        waiting.append(store.save_orders("one", {A: {"n": 2}}))
        assert [self.answer(each) for each in waiting] == [None, None, None]
        assert self.again(store) == {A: {"n": 2}, C: {}}
        self.answer(store.close_orders("one"))

    def test_what_does_not_exist_can_be_removed(self) -> None:
        store = self.make_store()
        store.load_orders("one")
        self.answer(store.save_orders("one", {A: None}))
        assert self.again(store) == {}
        self.answer(store.close_orders("one"))

    def test_kinds_are_kept_apart(self) -> None:
        store = self.make_store()
        store.load_orders("one")
        store.load_orders("two")
        self.answer(store.save_orders("one", {A: {"n": 1}}))
        self.answer(store.save_orders("two", {A: {"n": 2}, B: {}}))
        self.answer(store.save_orders("one", {B: None}))
        assert self.again(store, "one") == {A: {"n": 1}}
        self.answer(store.close_orders("one"))
        self.answer(store.save_orders("two", {C: {"n": 3}}))
        assert self.again(store, "two") == {A: {"n": 2}, B: {}, C: {"n": 3}}
        self.answer(store.close_orders("two"))

    def test_close_waits_for_what_was_saved(self) -> None:
        store = self.make_store()
        store.load_orders("one")
        answers: list[str] = []
        store.save_orders("one", ORDERS).addCallback(lambda _: answers.append("saved"))
        self.answer(store.close_orders("one").addCallback(lambda _: answers.append("closed")))
        assert answers == ["saved", "closed"]
        assert store.load_orders("one") == ORDERS
        self.answer(store.close_orders("one"))

    def test_what_comes_after_close_is_kept(self) -> None:
        store = self.make_store()
        store.load_orders("one")
        self.answer(store.save_orders("one", ORDERS))
        self.answer(store.close_orders("one"))
        self.answer(store.save_orders("one", {A: None}))
        assert set(store.load_orders("one")) == {B, C}
        self.answer(store.close_orders("one"))
