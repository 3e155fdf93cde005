"""ILeadership."""

from collections.abc import Sequence
from typing import Any

from attrs import evolve
from zope.interface.verify import verifyObject

from bootfw.errors import StateError
from bootfw.interfaces import ILeadership, IReadableStore
from bootfw.leadershipstates import Standing
from bootfw.testing.contracts.answers import Answers
from bootfw.testing.contracts.leases import LEASES, RESERVATIONS

_KIND, _MAC = "next-boot", "52:54:00:12:34:56"


class LeadershipContract(Answers):
    """What every store does that chooses a leader. Override ``make_nodes``.

    The stores are Any here: they provide ILeadership, ILeaseStore, IReservationStore and IOrderStore, and Python has no
    type for something of several interfaces.
    """

    def make_nodes(self) -> Sequence[Any]:
        """Two stores as the configurations of two servers would make them, which share what they store: nothing yet."""
        raise NotImplementedError

    def stands(self, nodes: Any, name: str, silent: Standing | None = None) -> Standing:
        """Have a node stand for the leadership, and return the answer of the store."""
        standing = self.answer(nodes.stand(name, silent))
        assert isinstance(standing, Standing)
        return standing

    def leading(self) -> tuple[Any, Any]:
        """Return (the leader, which has the name "a" and has loaded, a standby)."""
        leader, standby = self.make_nodes()[:2]
        assert self.stands(leader, "a").leads
        self.load(leader)
        return leader, standby

    def load(self, leader: Any) -> dict[str, object]:
        """Load everything as a service does that has become the leader."""
        assert self.answer(leader.prepare()) is None
        leases = {lease.address: lease for lease in leader.load()}
        orders = leader.load_orders(_KIND)
        return {"leases": leases, "reservations": list(leader.reservations()), "orders": dict(orders)}

    def close(self, leader: Any) -> None:
        """Close everything as a service does that leads no more."""
        self.answer(leader.close_orders(_KIND))
        self.answer(leader.close())

    def test_provides_the_interface(self) -> None:
        for nodes in self.make_nodes():
            verifyObject(ILeadership, nodes)

    def test_one_leads(self) -> None:
        leader, standby = self.make_nodes()[:2]
        first = self.stands(leader, "a")
        assert (first.leads, first.leader) == (True, "a")
        seen = self.stands(standby, "b")
        assert (seen.leads, seen.leader, seen.epoch) == (False, "a", first.epoch)
        again = self.stands(leader, "a")
        assert (again.leads, again.epoch) == (True, first.epoch)
        assert again.confirmations != first.confirmations
        assert self.stands(standby, "b").confirmations == again.confirmations
        self.answer(leader.resign())
        self.answer(standby.resign())

    def test_after_a_resignation_another_one_leads(self) -> None:
        leader, standby = self.leading()
        before = self.stands(standby, "b")
        self.close(leader)
        assert self.answer(leader.resign()) is None
        after = self.stands(standby, "b")
        assert (after.leads, after.leader) == (True, "b")
        assert after.epoch > before.epoch
        assert not self.stands(leader, "a").leads
        self.answer(leader.resign())
        self.answer(standby.resign())

    def test_all_have_the_cluster_in_common_for_good(self) -> None:
        leader, standby = self.leading()
        first = self.stands(leader, "a")
        assert first.cluster is not None
        assert self.stands(standby, "b").cluster == first.cluster
        self.close(leader)
        self.answer(leader.resign())
        after = self.stands(standby, "b")
        assert (after.leads, after.cluster) == (True, first.cluster)
        assert self.stands(standby, "b").cluster == first.cluster
        self.answer(standby.resign())

    def test_a_leader_that_confirms_stays(self) -> None:
        leader, standby = self.make_nodes()[:2]
        self.stands(leader, "a")
        seen = self.stands(standby, "b")
        self.stands(leader, "a")
        assert not self.stands(standby, "b", seen).leads
        assert self.stands(leader, "a").leads
        self.answer(leader.resign())
        self.answer(standby.resign())

    def test_a_silent_leader_is_replaced_with_all_that_was_written(self) -> None:
        leader, standby = self.leading()
        order = {_MAC: {"file": "a"}}
        self.answer(leader.commit(LEASES))
        self.answer(leader.save_reservations(RESERVATIONS))
        self.answer(leader.save_orders(_KIND, order))
        seen = self.stands(standby, "b")
        after = self.stands(standby, "b", seen)
        assert (after.leads, after.epoch > seen.epoch) == (True, True)
        assert self.load(standby) == {
            "leases": {lease.address: lease for lease in LEASES},
            "reservations": list(RESERVATIONS),
            "orders": order,
        }
        now = self.stands(leader, "a")
        assert (now.leads, now.leader) == (False, "b")
        self.close(leader)
        self.close(standby)
        self.answer(leader.resign())
        self.answer(standby.resign())

    def test_what_an_earlier_leader_writes_is_refused(self) -> None:
        leader, standby = self.leading()
        self.answer(leader.commit(LEASES[:1]))
        self.stands(standby, "b", self.stands(standby, "b"))
        for late in (
            leader.commit(LEASES),
            leader.save_reservations(RESERVATIONS),
            leader.save_orders(_KIND, {_MAC: {"file": "late"}}),
        ):
            assert isinstance(self.refusal(lambda late=late: late), StateError)
        first = {LEASES[0].address: LEASES[0]}
        assert self.load(standby) == {"leases": first, "reservations": [], "orders": {}}
        self.close(leader)
        assert isinstance(self.refusal(lambda: leader.save_orders(_KIND, {_MAC: {}})), StateError | None)
        self.answer(standby.commit([evolve(LEASES[0], granted=2.0)]))
        self.close(standby)
        self.answer(leader.resign())
        self.answer(standby.resign())

    def test_who_leads_again_loads_what_was_written_meanwhile(self) -> None:
        leader, standby = self.leading()
        self.answer(leader.commit(LEASES[:1]))
        self.stands(standby, "b", self.stands(standby, "b"))
        self.load(standby)
        self.answer(standby.commit(LEASES[1:2]))
        self.stands(leader, "a")
        self.close(leader)
        self.close(standby)
        self.answer(standby.resign())
        assert self.stands(leader, "a").leads
        loaded = self.load(leader)
        assert loaded["leases"] == {lease.address: lease for lease in LEASES[:2]}
        assert self.answer(leader.commit(LEASES)) is None
        self.close(leader)
        self.answer(leader.resign())

    def test_a_standby_prepares_nothing(self) -> None:
        leader, standby = self.leading()
        self.stands(standby, "b")
        assert isinstance(self.refusal(standby.prepare), StateError)
        self.close(leader)
        self.answer(leader.resign())
        self.answer(standby.resign())

    def test_all_can_read_what_is_stored_at_any_time(self) -> None:
        nodes = self.make_nodes()
        if not IReadableStore.providedBy(nodes[0]):
            return
        verifyObject(IReadableStore, nodes[0])
        leader, standby = nodes[:2]
        assert self._read(standby) == ({}, [], {})
        self.stands(leader, "a")
        self.load(leader)
        self.answer(leader.commit(LEASES))
        self.answer(leader.save_reservations(RESERVATIONS))
        self.answer(leader.save_orders(_KIND, {_MAC: {"file": "a"}}))
        self.stands(standby, "b")
        stored = {lease.address: lease for lease in LEASES}, list(RESERVATIONS), {_MAC: {"file": "a"}}
        assert self._read(standby) == self._read(leader) == stored
        self.close(leader)
        self.answer(leader.resign())
        self.answer(standby.resign())
        assert self._read(leader) == stored

    def _read(self, nodes: Any) -> tuple[object, object, object]:
        leases: Any = self.answer(nodes.read_leases())
        reservations: Any = self.answer(nodes.read_reservations())
        orders: Any = self.answer(nodes.read_orders(_KIND))
        return {lease.address: lease for lease in leases}, list(reservations), dict(orders)

    def test_preparing_twice_uses_the_latest(self) -> None:
        leader = self.make_nodes()[0]
        self.stands(leader, "a")
        first, second = leader.prepare(), leader.prepare()
        self.answer(first)
        self.answer(second)
        assert list(leader.load()) == []
        assert self.answer(leader.commit(LEASES)) is None
        self.answer(leader.close())
        self.answer(leader.resign())

    def test_who_has_not_stood_can_resign(self) -> None:
        for nodes in self.make_nodes():
            assert self.answer(nodes.resign()) is None
