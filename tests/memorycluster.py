"""A store in memory that several servers share: leases, reservations, orders and the leader, as in PostgreSQL.

Each server has its own link to it, which can be cut, or hang.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from attrs import define, field
from memorynodes import Cluster, MemoryNodes, Receive
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from bootfw.errors import StateError
from bootfw.interfaces import ILeadership, ILeaseStore, INodes, IOrderStore, IReadableStore, IReservationStore
from bootfw.leadershipstates import Standing
from bootfw.lease import Lease, Reservation


@define(eq=False)
class Content:
    """The content of the store."""

    leases: dict[str, Lease] = field(factory=dict)
    reservations: list[Reservation] = field(factory=list)
    orders: dict[str, dict[str, Mapping[str, object]]] = field(factory=dict)
    epoch: int = 0
    confirmations: int = 0
    leader: str = ""
    owner: object = None
    """The node that leads; None: none does."""
    cluster: UUID = field(factory=uuid4)


@implementer(ILeaseStore, IReservationStore, IOrderStore, ILeadership, INodes, IReadableStore)
@define(eq=False)
class Link:
    """The connection of one node to the store."""

    content: Content
    nodes: MemoryNodes = field(factory=lambda: Cluster().node(), kw_only=True)
    """Carries the announcements."""
    cut: bool = False
    """Each call fails."""
    hangs: bool = False
    """Calls are done, but answered by answer_all() only."""
    loses: bool = False
    """Calls are not done, and fail by answer_all() only."""
    waiting: list[Callable[[], object]] = field(factory=list)
    """Functions that answer the calls which wait."""
    epoch: int = 0
    """That in which this node led last."""
    _loaded: int | None = None
    """The epoch in which prepare() was called; writes count in that epoch only."""

    def _do(self, work: Callable[[], Any]) -> "Deferred[Any]":
        if self.cut:
            return fail(StateError("the store can't be reached"))
        if not (self.hangs or self.loses):
            return _answer(work)
        later: Deferred[Any] = Deferred()
        result = _answer(work) if self.hangs else fail(StateError("the store can't be reached"))
        self.waiting.append(lambda: result.chainDeferred(later))
        return later

    def answer_all(self) -> None:
        """Answer the calls that were made while the store hung."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each()

    # ILeadership

    def stand(self, node: str, silent: Standing | None) -> "Deferred[Any]":
        return self._do(lambda: self._stand(node, silent))

    def _stand(self, node: str, silent: Standing | None) -> Standing:
        content = self.content
        if content.owner is self and content.epoch == self.epoch:
            content.confirmations += 1
            return Standing(True, content.epoch, content.confirmations, node, content.cluster)
        given_up = silent is not None and (silent.epoch, silent.confirmations) == (
            content.epoch,
            content.confirmations,
        )
        if content.owner is None or given_up:
            content.owner, content.leader = self, node
            content.epoch += 1
            content.confirmations = 0
            self.epoch = content.epoch
            return Standing(True, content.epoch, 0, node, content.cluster)
        return Standing(False, content.epoch, content.confirmations, content.leader, content.cluster)

    def prepare(self) -> "Deferred[Any]":
        def prepared() -> None:
            self._loaded = self.epoch
            self._check_leads()

        return self._do(prepared)

    def resign(self) -> "Deferred[Any]":
        return self._do(self._resign).addErrback(lambda failure: None)

    def _resign(self) -> None:
        if self.content.owner is self:
            self.content.owner = None

    def _check_leads(self) -> None:
        if self.content.epoch != self._loaded or self.content.owner is not self:
            raise StateError(f"{self.content.leader} leads")

    # INodes

    @property
    def behind(self) -> float | None:
        return self.nodes.behind

    def join_nodes(self, receive: Receive) -> "Callable[[], Deferred[None]]":
        return self.nodes.join_nodes(receive)

    def announce(self, kind: str, *values: object) -> None:
        self.nodes.announce(kind, *values)

    # IReadableStore

    def read_leases(self) -> "Deferred[Any]":
        return self._do(lambda: list(self.content.leases.values()))

    def read_reservations(self) -> "Deferred[Any]":
        return self._do(lambda: list(self.content.reservations))

    def read_orders(self, kind: str) -> "Deferred[Any]":
        return self._do(lambda: dict(self.content.orders.get(kind, {})))

    # ILeaseStore, IReservationStore

    def load(self) -> Iterable[Lease]:
        return list(self.content.leases.values())

    def commit(self, leases: Sequence[Lease]) -> "Deferred[Any]":
        def committed() -> None:
            self._check_leads()
            self.content.leases.update({lease.address: lease for lease in leases})

        return self._do(committed)

    def close(self) -> "Deferred[Any]":
        return self._do(lambda: None).addErrback(lambda failure: None)  # after the calls before it

    def reservations(self) -> Iterable[Reservation]:
        return list(self.content.reservations)

    def save_reservations(self, reservations: Sequence[Reservation]) -> "Deferred[Any]":
        def saved() -> None:
            self._check_leads()
            self.content.reservations[:] = reservations

        return self._do(saved)

    # IOrderStore

    def load_orders(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        return dict(self.content.orders.get(kind, {}))

    def save_orders(self, kind: str, orders: Mapping[str, Mapping[str, object] | None]) -> "Deferred[Any]":
        def saved() -> None:
            self._check_leads()
            stored = self.content.orders.setdefault(kind, {})
            for mac, order in orders.items():
                stored.pop(mac, None)
                if order is not None:
                    stored[mac] = order

        return self._do(saved)

    def close_orders(self, kind: str) -> "Deferred[Any]":
        return succeed(None)


def _answer(work: Callable[[], Any]) -> "Deferred[Any]":
    try:
        return succeed(work())
    except StateError as error:
        return fail(error)
