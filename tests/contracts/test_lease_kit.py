"""The kit for lease stores notices each promise that is broken."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

from bootfw.lease import Lease, Reservation
from bootfw.stores.memory import MemoryStore
from bootfw.testing import LeaseStoreContract
from bootfw.testing.contracts.leases import LEASES


class Forgetful(MemoryStore):
    def load(self) -> list[Lease]:
        return []


class Changed(MemoryStore):
    """What it gives back is not what it was given."""

    changes: Mapping[str, Callable[[Any], Any]] = {}

    def load(self) -> list[Lease]:
        changes = self.changes.items()
        return [
            evolve(each, **{name: change(getattr(each, name)) for name, change in changes}) for each in super().load()
        ]


class RoundsTimes(Changed):
    changes = {"expires": round}


class KeepsText(Changed):
    changes = {"hostname": lambda name: name.encode(errors="replace").decode()}


class KeepsTextOfClients(Changed):
    changes = {"client": lambda client: client.decode("utf-8", "replace").encode()}


class KeepsTheFirst(MemoryStore):
    def commit(self, leases: Sequence[Lease]) -> Deferred[None]:
        known = {lease.address for lease in self.load()}
        return super().commit([lease for lease in leases if lease.address not in known])


class KeepsTheFirstOfACall(MemoryStore):
    def commit(self, leases: Sequence[Lease]) -> Deferred[None]:
        return super().commit(list(reversed(leases)))


class KeepsAll(MemoryStore):
    def load(self) -> list[Lease]:
        return [*super().load(), *super().load()]


class TakesFew(MemoryStore):
    def commit(self, leases: Sequence[Lease]) -> Deferred[None]:
        return super().commit(leases[:1000])


class AnswersAtOnce(MemoryStore):
    def commit(self, leases: Sequence[Lease]) -> None:  # type: ignore[override]  # on purpose
        super().commit(leases)


class AnswersWithACount(MemoryStore):
    def commit(self, leases: Sequence[Lease]) -> Deferred[int]:
        return super().commit(leases).addCallback(lambda _: len(leases))


class NeverAnswers(MemoryStore):
    def commit(self, leases: Sequence[Lease]) -> Deferred[Any]:
        super().commit(leases)
        return Deferred()


class ClosesTooSoon(MemoryStore):
    """As if the disk were slower than close()."""

    def commit(self, leases: Sequence[Lease]) -> Deferred[None]:
        return Deferred() if leases else super().commit(leases)


class IsNotNew(MemoryStore):
    def load(self) -> list[Lease]:
        return [*super().load(), LEASES[0]]


class CanNotBeClosed(MemoryStore):
    loaded = False

    def load(self) -> Iterable[Lease]:
        type(self).loaded = True
        return super().load()

    def close(self) -> Deferred[Any]:
        assert self.loaded
        return super().close()


class WaitsForTheOneBefore(MemoryStore):
    """Takes no leases while others are on their way."""

    calls = 0

    def commit(self, leases: Sequence[Lease]) -> Deferred[None]:
        type(self).calls += 1
        if len(leases) == 1 and self.calls > 10:
            return Deferred()
        return super().commit(leases)


class AddsReservations(MemoryStore):
    def save_reservations(self, reservations: Sequence[Reservation]) -> Deferred[None]:
        return super().save_reservations([*self.reservations(), *reservations])


class SortsReservations(MemoryStore):
    def save_reservations(self, reservations: Sequence[Reservation]) -> Deferred[None]:
        return super().save_reservations(sorted(reservations, key=lambda each: each.address))


class ForgetsOptions(MemoryStore):
    def reservations(self) -> list[Reservation]:
        return [evolve(reservation, options={}) for reservation in super().reservations()]


class IsNoStore:
    def load(self) -> list[Lease]:
        return []


BROKEN = [
    (Forgetful, "what_is_committed_comes_back_exactly"),
    (RoundsTimes, "what_is_committed_comes_back_exactly"),
    (KeepsText, "what_is_committed_comes_back_exactly"),
    (KeepsTextOfClients, "what_is_committed_comes_back_exactly"),
    (KeepsTheFirst, "the_latest_lease_of_an_address_counts"),
    (KeepsTheFirstOfACall, "the_latest_lease_of_an_address_counts"),
    (KeepsAll, "what_is_committed_comes_back_exactly"),
    (TakesFew, "many_leases_in_one_call"),
    (AnswersAtOnce, "it_answers_later_with_none"),
    (AnswersWithACount, "it_answers_later_with_none"),
    (NeverAnswers, "it_answers_later_with_none"),
    (ClosesTooSoon, "close_waits_for_what_was_committed"),
    (IsNotNew, "a_new_one_is_empty"),
    (CanNotBeClosed, "one_that_was_not_loaded_can_be_closed"),
    (WaitsForTheOneBefore, "calls_do_not_wait_for_each_other"),
    (AddsReservations, "reservations_are_replaced_altogether"),
    (SortsReservations, "reservations_come_back_exactly_and_in_order"),
    (ForgetsOptions, "reservations_come_back_exactly_and_in_order"),
    (IsNoStore, "provides_the_interfaces"),
]


@pytest.mark.parametrize(("store", "promise"), BROKEN)
def test_a_broken_promise_is_noticed(store: Callable[[], object], promise: str) -> None:
    class Kit(LeaseStoreContract):
        def make_store(self) -> object:  # type: ignore[override]  # on purpose
            return store()

    test = getattr(Kit(), f"test_{promise}")
    with pytest.raises(Exception):  # noqa: B017, PT011
        test()


def test_each_test_of_the_kit_can_fail() -> None:
    broken_tests = {f"test_{promise}" for _, promise in BROKEN}
    kit_tests = {name for name in dir(LeaseStoreContract) if name.startswith("test_")}
    assert kit_tests == broken_tests
