"""Leases in the store are by the wall clock, those in memory by one that is never set."""

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define, evolve
from leasing import BEGIN, Machine, server
from narrowing import present
from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from bootfw.dhcp.server import AddressServer
from bootfw.errors import StateError
from bootfw.interfaces import ILeaseStore
from bootfw.lease import NEVER, Lease, LeaseState, Reservation
from bootfw.net.dhcp.walltime import WallTimeLeases
from bootfw.stores.memory import MemoryStore

HOUR, YEAR = 3600.0, 365 * 86400.0


class FullStore(MemoryStore):
    """A store that may refuse leases."""

    refuses = False

    def commit(self, leases: Sequence[Lease]) -> "Deferred[Any]":
        return fail(StateError("the disk is full")) if self.refuses else super().commit(leases)


@define(slots=False)
class Place:
    """A server, its store, and the clocks of its machine."""

    now: float = BEGIN
    shift: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.kept = FullStore()
        self.server = AddressServer([], [])
        self.store = WallTimeLeases(self.kept, lambda: self.now, lambda: self.shift, lambda: self.server.leases())

    def starts(self) -> None:
        self.server = server(leases=self.store.load())

    def restarts(self) -> None:
        """The wall clock is what counts from then on."""
        self.now, self.shift = self.now + self.shift, 0.0
        self.store = WallTimeLeases(self.kept, lambda: self.now, lambda: self.shift, lambda: self.server.leases())
        self.starts()

    def boots(self, number: int) -> str:
        held = Machine(number, self.server, now=self.now).boots()
        self.store.commit([present(self.server.lease(held))])
        return held

    def left(self, held: str) -> float:
        """How long the lease goes on."""
        return present(self.server.lease(held)).expires - self.now

    def stored(self, held: str) -> Lease:
        return next(lease for lease in self.kept.load() if lease.address == held)


@pytest.fixture
def place() -> Place:
    made = Place()
    made.starts()
    return made


def test_small_clock_difference_changes_nothing(place: Place) -> None:
    held = place.boots(1)
    place.shift = 0.4
    assert place.stored(held) is place.server.lease(held)
    assert place.store.to_wall_clock(place.stored(held)) is place.stored(held)


@pytest.mark.parametrize("step", [-YEAR, -HOUR, HOUR, 56 * YEAR])
def test_clock_step_does_not_change_the_end_of_a_lease(place: Place, step: float) -> None:
    first = place.boots(1)
    place.now, place.shift = place.now + 600, step
    with capturedLogs() as logs:
        second = place.boots(2)

    assert [place.left(first), place.left(second)] == [3000, 3600]
    assert [place.stored(each).expires for each in (first, second)] == [BEGIN + 3600 + step, BEGIN + 4200 + step]
    assert place.stored(first).granted == BEGIN + step
    assert len(logs) == 1
    place.restarts()
    assert [place.left(first), place.left(second)] == [3000, 3600]


def test_step_is_noticed_without_a_new_lease(place: Place) -> None:
    held = place.boots(1)
    place.shift = HOUR
    place.store.check()
    assert place.stored(held).expires == BEGIN + 2 * HOUR
    place.shift = -HOUR
    place.store.close()
    assert place.stored(held).expires == BEGIN


def test_failed_store_of_all_leases_is_logged_once_and_retried(place: Place) -> None:
    held = place.boots(1)
    place.shift = HOUR
    place.kept.refuses = True
    with capturedLogs() as logs:
        for _ in range(3):
            place.store.check()
    assert [event.get("reason") for event in logs] == [None, "the disk is full"]

    place.kept.refuses = False
    place.store.check()
    assert place.stored(held).expires == BEGIN + 2 * HOUR
    place.kept.commit([])
    place.store.check()
    assert place.stored(held).expires == BEGIN + 2 * HOUR


def test_clock_that_is_set_back_restores_the_stored_times(place: Place) -> None:
    held = place.boots(1)
    for place.shift in (YEAR, 0.0):
        place.store.check()
    assert place.stored(held) == place.server.lease(held)


@pytest.mark.parametrize(
    ("state", "expires", "then"),
    [
        (LeaseState.ACTIVE, BEGIN + YEAR + HOUR, BEGIN + HOUR),
        (LeaseState.DECLINED, BEGIN + YEAR + HOUR, BEGIN + HOUR),
        (LeaseState.RELEASED, BEGIN + YEAR + 5, BEGIN),
        (LeaseState.ACTIVE, NEVER, NEVER),
    ],
)
def test_a_lease_granted_in_the_future_starts_now(place: Place, state: LeaseState, expires: float, then: float) -> None:
    """The clock was wrong before, or is wrong now: a machine without a clock of its own begins in 1970."""
    place.kept.commit([Lease("10.77.0.100", b"h\1client", "", state, BEGIN + YEAR, expires)])
    [lease] = place.store.load()
    assert (lease.granted, lease.expires) == (BEGIN, then)


def test_clock_step_keeps_a_lease_without_an_end(place: Place) -> None:
    lease = Lease("10.77.0.100", b"h\1client", "", LeaseState.ACTIVE, BEGIN, NEVER)
    place.shift = YEAR
    place.store.commit([lease])
    assert place.stored("10.77.0.100") == evolve(lease, granted=BEGIN + YEAR)


def test_wall_time_leases_are_a_lease_store(place: Place) -> None:
    assert verifyObject(ILeaseStore, place.store)
    one = Reservation(mac="02:00:00:00:00:01")
    place.store.save_reservations([one])
    assert list(place.store.reservations()) == [one]
