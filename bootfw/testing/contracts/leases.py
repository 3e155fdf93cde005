"""ILeaseStore, IOfflineStore and IReservationStore."""

from collections.abc import Sequence

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from bootfw.ability import provides
from bootfw.interfaces import ILeaseStore, IOfflineStore, IReservationStore
from bootfw.lease import NEVER, Lease, LeaseState, Reservation
from bootfw.testing.contracts.answers import Answers

LEASES = (
    Lease("192.0.2.1", b"h\x01\x52\x54\x00\x12\x34\x56", "52:54:00:12:34:56", LeaseState.ACTIVE, 1e9, 1e9 + 3600.25),
    Lease(
        address="255.255.255.254",
        client=b"i\xff\x00'\"",
        mac="",
        state=LeaseState.RELEASED,
        granted=0.0,
        expires=1763640000.125,
        client_id=bytes(range(256)),
        uuid="00000000-0000-0000-0000-000000000001",
        # What a client puts into option 12 is its own affair.
        hostname="\udcff\0'; --\n\N{SNOWMAN}",
        kind="firmware",
    ),
    Lease("0.0.0.1", b"", "", LeaseState.DECLINED, 1e9, 1e9),
    Lease("10.0.0.10", b"h\x06", "00:11", LeaseState.ACTIVE, 1.5, NEVER, kind="bootp"),
    Lease("fd77::1000", b"6\0\0\0\x07\0\x04", "52:54:00:12:34:56", LeaseState.ACTIVE, 1e9, 1e9 + 60, b"\0\x04"),
    Lease("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", b"6", "", LeaseState.RELEASED, 1e9, 1e9, kind="system"),
)
"""One of each kind."""

RESERVATIONS = (
    Reservation("192.0.2.9", mac="52:54:00:12:34:56"),
    Reservation("", client_id=b"\0\xff", hostname="\N{SNOWMAN}"),
    Reservation("192.0.2.1", uuid="00000000-0000-0000-0000-000000000001", options={6: b"\x01\x02\x03\x04", 255: b""}),
    Reservation("", circuit_id=b"eth0\0", lease_seconds=7200),
    Reservation("192.0.2.11", mac="52:54:00:12:34:57", other_macs=("52:54:00:12:34:58", "52:54:00:12:34:59")),
    Reservation("2001:db8::9", mac="52:54:00:12:34:56", client_id=b"\0\3\0\1", options={65000: b"\0"}),
)


class LeaseStoreContract(Answers):
    """What every lease store does. Override ``make_store``."""

    def make_store(self) -> ILeaseStore:
        """Return a store as the configuration would make it, with nothing in it."""
        raise NotImplementedError

    def loaded(self, *leases: Lease) -> ILeaseStore:
        """Return a store that keeps these, loaded."""
        store = self.make_store()
        list(store.load())
        self.answer(store.commit(leases))
        return store

    def reserving(self, store: ILeaseStore) -> IReservationStore:
        """Return the same store, as one for reservations: a lease store keeps these too."""
        assert provides(store, IReservationStore)
        return store

    def again(self, store: ILeaseStore) -> dict[str, Lease]:
        """Close and load the store, and return the leases in it, by address."""
        self.answer(store.close())
        leases: Sequence[Lease] = list(store.load())
        found = {lease.address: lease for lease in leases}
        assert len(found) == len(leases), "an address has several leases"
        return found

    def test_provides_the_interfaces(self) -> None:
        store = self.make_store()
        verifyObject(ILeaseStore, store)
        verifyObject(IReservationStore, store)

    def test_a_new_one_is_empty(self) -> None:
        store = self.make_store()
        assert list(store.load()) == []
        assert list(self.reserving(store).reservations()) == []
        self.answer(store.close())

    def test_one_that_was_not_loaded_can_be_closed(self) -> None:
        store = self.make_store()
        assert self.answer(store.close()) is None
        assert list(store.load()) == []
        self.answer(store.close())

    def test_what_is_committed_comes_back_exactly(self) -> None:
        store = self.loaded(*LEASES)
        assert self.again(store) == {lease.address: lease for lease in LEASES}
        self.answer(store.close())

    def test_it_answers_later_with_none(self) -> None:
        store = self.loaded()
        reserved = self.reserving(store).save_reservations(())
        for later in (store.commit(LEASES), store.commit([]), reserved, store.close()):
            assert isinstance(later, Deferred)
            assert self.answer(later) is None

    def test_the_latest_lease_of_an_address_counts(self) -> None:
        first = LEASES[0]
        second, third, fourth = (evolve(first, client=b"i%d" % turn, state=LeaseState.RELEASED) for turn in range(3))
        store = self.loaded(first, second)
        assert self.again(store) == {first.address: second}
        self.answer(store.commit([third]))
        assert self.again(store) == {first.address: third}
        waiting = [store.commit([fourth]), store.commit([first])]
        assert [self.answer(each) for each in waiting] == [None, None]
        assert self.again(store) == {first.address: first}
        self.answer(store.close())

    def test_calls_do_not_wait_for_each_other(self) -> None:
        store = self.loaded()
        leases = [evolve(LEASES[0], address=f"10.0.{high}.{low}") for high in range(20) for low in range(100)]
        waiting = [store.commit([lease]) for lease in leases]
        assert {self.answer(each) for each in waiting} == {None}
        assert self.again(store) == {lease.address: lease for lease in leases}
        self.answer(store.close())

    def test_many_leases_in_one_call(self) -> None:
        store = self.loaded()
        leases = [evolve(LEASES[0], address=f"10.0.{high}.{low}") for high in range(20) for low in range(200)]
        self.answer(store.commit(leases))
        assert self.again(store) == {lease.address: lease for lease in leases}
        self.answer(store.close())

    def test_close_waits_for_what_was_committed(self) -> None:
        store = self.loaded()
        answers: list[str] = []
        store.commit(LEASES).addCallback(lambda _: answers.append("leases"))
        self.reserving(store).save_reservations(RESERVATIONS).addCallback(lambda _: answers.append("reservations"))
        closed = store.close().addCallback(lambda _: answers.append("closed"))
        self.answer(closed)
        assert sorted(answers[:2]) == ["leases", "reservations"]
        assert answers[2:] == ["closed"]
        assert {lease.address: lease for lease in store.load()} == {lease.address: lease for lease in LEASES}
        assert list(self.reserving(store).reservations()) == list(RESERVATIONS)
        self.answer(store.close())

    def test_reservations_come_back_exactly_and_in_order(self) -> None:
        store = self.loaded(*LEASES)
        self.answer(self.reserving(store).save_reservations(RESERVATIONS))
        assert self.again(store) == {lease.address: lease for lease in LEASES}
        assert list(self.reserving(store).reservations()) == list(RESERVATIONS)
        self.answer(store.close())

    def test_reservations_are_replaced_altogether(self) -> None:
        store = self.loaded()
        reserving = self.reserving(store)
        first, second = reserving.save_reservations(RESERVATIONS), reserving.save_reservations(RESERVATIONS[1:2])
        self.answer(first)
        self.answer(second)
        self.again(store)
        assert list(self.reserving(store).reservations()) == [RESERVATIONS[1]]
        self.answer(self.reserving(store).save_reservations([]))
        self.again(store)
        assert list(self.reserving(store).reservations()) == []
        self.answer(store.close())


class OfflineStoreContract(LeaseStoreContract):
    """The tests of a lease store that the ``bootfw`` command uses while no server runs.

    ``make_store`` makes it without a reactor, as the command does.
    """

    def make_store(self) -> IOfflineStore:
        """Return a store as the command would make it, with nothing in it."""
        raise NotImplementedError

    def wait(self, deferred: "Deferred[object]") -> None:
        """Fail: no reactor runs, so nothing may answer later."""
        raise AssertionError("a Deferred has not fired, and no reactor runs")

    def test_provides_the_offline_interface(self) -> None:
        verifyObject(IOfflineStore, self.make_store())

    def test_exists_once_something_is_stored(self) -> None:
        store = self.make_store()
        assert not store.exists()
        list(store.load())
        self.answer(store.commit(LEASES))
        self.answer(store.close())
        assert store.exists()
