"""Leases in the store have times of the wall clock, those in memory have times of a monotonic clock."""

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


class LimitedStore(MemoryStore):
    """A store that may be full."""

    is_full = False

    def commit(self, leases: Sequence[Lease]) -> "Deferred[Any]":
        return fail(StateError("the disk is full")) if self.is_full else super().commit(leases)


@define(slots=False)
class Host:
    """An address server, its lease store, and the clocks of its host."""

    now: float = BEGIN
    shift: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.wall_time_store = LimitedStore()
        self.server = AddressServer([], [])
        self.store = WallTimeLeases(
            self.wall_time_store, lambda: self.now, lambda: self.shift, lambda: self.server.leases()
        )

    def start(self) -> None:
        self.server = server(leases=self.store.load())

    def restart(self) -> None:
        """The monotonic clock starts anew at the time of the wall clock."""
        self.now, self.shift = self.now + self.shift, 0.0
        self.store = WallTimeLeases(
            self.wall_time_store, lambda: self.now, lambda: self.shift, lambda: self.server.leases()
        )
        self.start()

    def boot_client(self, number: int) -> str:
        """A client gets a lease, which is stored. Returns its address."""
        address = Machine(number, self.server, now=self.now).get_lease()
        self.store.commit([present(self.server.lease(address))])
        return address

    def seconds_left(self, address: str) -> float:
        """The remaining time of the lease of *address*."""
        return present(self.server.lease(address)).expires - self.now

    def stored(self, address: str) -> Lease:
        return next(lease for lease in self.wall_time_store.load() if lease.address == address)


@pytest.fixture
def host() -> Host:
    host = Host()
    host.start()
    return host


def test_small_clock_difference_changes_nothing(host: Host) -> None:
    address = host.boot_client(1)
    host.shift = 0.4
    assert host.stored(address) is host.server.lease(address)
    assert host.store.to_wall_clock(host.stored(address)) is host.stored(address)


@pytest.mark.parametrize("step", [-YEAR, -HOUR, HOUR, 56 * YEAR])
def test_clock_step_does_not_change_the_end_of_a_lease(host: Host, step: float) -> None:
    first = host.boot_client(1)
    host.now, host.shift = host.now + 600, step
    with capturedLogs() as logs:
        second = host.boot_client(2)

    assert [host.seconds_left(first), host.seconds_left(second)] == [3000, 3600]
    assert [host.stored(each).expires for each in (first, second)] == [BEGIN + 3600 + step, BEGIN + 4200 + step]
    assert host.stored(first).granted == BEGIN + step
    assert len(logs) == 1
    host.restart()
    assert [host.seconds_left(first), host.seconds_left(second)] == [3000, 3600]


def test_clock_step_is_noticed_without_a_new_lease(host: Host) -> None:
    address = host.boot_client(1)
    host.shift = HOUR
    host.store.check()
    assert host.stored(address).expires == BEGIN + 2 * HOUR
    host.shift = -HOUR
    host.store.close()
    assert host.stored(address).expires == BEGIN


def test_failure_to_store_all_leases_is_logged_once_and_retried(host: Host) -> None:
    address = host.boot_client(1)
    host.shift = HOUR
    host.wall_time_store.is_full = True
    with capturedLogs() as logs:
        for _ in range(3):
            host.store.check()
    assert [event.get("reason") for event in logs] == [None, "the disk is full"]

    host.wall_time_store.is_full = False
    host.store.check()
    assert host.stored(address).expires == BEGIN + 2 * HOUR
    host.wall_time_store.commit([])
    host.store.check()
    assert host.stored(address).expires == BEGIN + 2 * HOUR


def test_clock_that_is_set_back_restores_the_stored_times(host: Host) -> None:
    address = host.boot_client(1)
    for host.shift in (YEAR, 0.0):
        host.store.check()
    assert host.stored(address) == host.server.lease(address)


@pytest.mark.parametrize(
    ("state", "expires", "expected"),
    [
        (LeaseState.ACTIVE, BEGIN + YEAR + HOUR, BEGIN + HOUR),
        (LeaseState.DECLINED, BEGIN + YEAR + HOUR, BEGIN + HOUR),
        (LeaseState.RELEASED, BEGIN + YEAR + 5, BEGIN),
        (LeaseState.ACTIVE, NEVER, NEVER),
    ],
)
def test_a_lease_granted_in_the_future_starts_now(
    host: Host, state: LeaseState, expires: float, expected: float
) -> None:
    """The clock was wrong before, or is wrong now: a machine without a battery-backed clock starts in 1970."""
    host.wall_time_store.commit([Lease("10.77.0.100", b"h\1client", "", state, BEGIN + YEAR, expires)])
    [lease] = host.store.load()
    assert (lease.granted, lease.expires) == (BEGIN, expected)


def test_clock_step_keeps_a_lease_without_an_end(host: Host) -> None:
    lease = Lease("10.77.0.100", b"h\1client", "", LeaseState.ACTIVE, BEGIN, NEVER)
    host.shift = YEAR
    host.store.commit([lease])
    assert host.stored("10.77.0.100") == evolve(lease, granted=BEGIN + YEAR)


def test_wall_time_leases_are_a_lease_store(host: Host) -> None:
    assert verifyObject(ILeaseStore, host.store)
    reservation = Reservation(mac="02:00:00:00:00:01")
    host.store.save_reservations([reservation])
    assert list(host.store.reservations()) == [reservation]
