"""IAttemptStore."""

from collections.abc import Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from bootfw.attempts.attempt import BootAttempt, Cause, Stage, StageKind, Verdict
from bootfw.interfaces import IAttemptStore
from bootfw.testing.contracts.answers import Answers

BEGAN = 1_763_640_000.0

_STAGES = (
    Stage(BEGAN, StageKind.DISCOVER, {"persona": "uefi", "xid": 7}, 2, BEGAN + 4),
    Stage(BEGAN + 4, StageKind.REFUSED, {"file": "\N{SNOWMAN}'\";--\n", "nearest": ["a", "b"]}),
)


def attempt(number: int, verdict: Verdict = Verdict.BOOTED, mac: str = "") -> BootAttempt:
    """Return an attempt that began *number* seconds after BEGAN."""
    began = BEGAN + number
    mac = mac or f"52:54:00:00:00:{number:02x}"
    cause = Cause("key", "sentence", "remedy") if verdict is Verdict.FAILED else None
    return BootAttempt(
        f"id-{number}", began, began + 9, mac, "", ("10.0.0.1",), stages=_STAGES, verdict=verdict, cause=cause
    )


class AttemptStoreContract(Answers):
    """What every store of boot attempts does. Override ``make_store``."""

    def make_store(self) -> IAttemptStore:
        """Return a store as the configuration would make it, with nothing in it."""
        raise NotImplementedError

    def save(self, store: IAttemptStore, *attempts: BootAttempt, keep: int = 100, since: float = 0.0) -> None:
        """Store them, and wait."""
        assert self.answer(store.save_attempts(attempts, keep, since)) is None

    def find(self, store: IAttemptStore, **filters: Any) -> Sequence[BootAttempt]:
        """Return the attempts that the store finds."""
        found: Sequence[BootAttempt] = self.answer(store.find_attempts(**filters))
        return found

    def ids(self, store: IAttemptStore, **filters: Any) -> list[str]:
        """Return the ids of the attempts that the store finds."""
        return [each.id for each in self.find(store, **filters)]

    def test_provides_the_interface(self) -> None:
        verifyObject(IAttemptStore, self.make_store())

    def test_a_new_store_has_no_attempts(self) -> None:
        store = self.make_store()
        assert self.find(store) == []
        self.answer(store.close_attempts())

    def test_it_answers_later(self) -> None:
        store = self.make_store()
        for later in (store.save_attempts([attempt(1)], 9, 0.0), store.find_attempts(), store.close_attempts()):
            assert isinstance(later, Deferred)
            self.answer(later)

    def test_attempts_come_back_exactly_the_latest_first(self) -> None:
        store = self.make_store()
        attempts = [attempt(1), attempt(3, Verdict.FAILED), attempt(2, Verdict.UP)]
        self.save(store, *attempts)
        assert self.find(store) == [attempts[1], attempts[2], attempts[0]]
        self.answer(store.close_attempts())
        assert self.find(store) == [attempts[1], attempts[2], attempts[0]]
        self.answer(store.close_attempts())

    def test_a_later_one_replaces_that_of_the_same_id(self) -> None:
        store = self.make_store()
        self.save(store, attempt(1), attempt(2))
        better = evolve(attempt(1), verdict=Verdict.UP)
        self.save(store, better)
        assert self.find(store) == [attempt(2), better]
        self.answer(store.close_attempts())

    def test_they_are_selected(self) -> None:
        store = self.make_store()
        self.save(store, *(attempt(number) for number in range(5)), attempt(5, Verdict.FAILED), attempt(6, mac="m"))
        assert self.ids(store, limit=2) == ["id-6", "id-5"]
        assert self.ids(store, machine="m") == ["id-6"]
        assert self.ids(store, verdict="failed") == ["id-5"]
        self.save(store, evolve(attempt(7), mac="", uuid="u"), evolve(attempt(8), mac=""))
        assert (self.ids(store, machine="u"), self.ids(store, machine="10.0.0.1")) == (["id-7"], ["id-8"])
        assert self.ids(store, since=BEGAN + 4, before=BEGAN + 6) == ["id-5", "id-4"]
        assert self.ids(store, machine="m", verdict="failed") == []
        self.answer(store.close_attempts())

    def test_they_are_bounded_in_number(self) -> None:
        store = self.make_store()
        self.save(store, *(attempt(number) for number in range(5)), keep=3)
        assert self.ids(store) == ["id-4", "id-3", "id-2"]
        self.save(store, attempt(5), keep=3)
        assert self.ids(store) == ["id-5", "id-4", "id-3"]
        self.answer(store.close_attempts())

    def test_they_are_bounded_in_age(self) -> None:
        store = self.make_store()
        self.save(store, *(attempt(number) for number in range(5)), since=BEGAN + 3)
        assert self.ids(store) == ["id-4", "id-3"]
        self.answer(store.close_attempts())

    def test_close_waits_for_what_was_saved(self) -> None:
        store = self.make_store()
        answers: list[str] = []
        store.save_attempts([attempt(1)], 9, 0.0).addCallback(lambda _: answers.append("saved"))
        self.answer(store.close_attempts().addCallback(lambda _: answers.append("closed")))
        assert answers == ["saved", "closed"]
