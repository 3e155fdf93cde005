"""Nodes in memory: what one announces is delivered to the others when the test says so."""

import json
from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from bootfw.interfaces import INodes

Receive = Callable[[str, Sequence[object]], None]


@define(eq=False)
class Cluster:
    """The nodes, and the announcements under way between them."""

    nodes: "list[MemoryNodes]" = field(factory=list)
    lost: bool = False
    """Announcements get lost from now on."""

    def node(self) -> "MemoryNodes":
        self.nodes.append(node := MemoryNodes(self))
        return node

    def deliver(self) -> int:
        """Deliver all announcements, and those that are made in answer; return how many there were."""
        count = 0
        while any(node.waiting for node in self.nodes):
            for node in self.nodes:
                waiting, node.waiting = node.waiting, []
                for kind, values in waiting:
                    count += 1
                    if node.receive is not None:
                        node.receive(kind, json.loads(values))
        return count


@implementer(INodes)
@define(eq=False)
class MemoryNodes:
    """One node of a cluster."""

    cluster: Cluster
    receive: Receive | None = None
    behind: float | None = 0.0
    waiting: list[tuple[str, str]] = field(factory=list)
    sent: list[tuple[str, Sequence[object]]] = field(factory=list)
    """All its announcements."""

    def join_nodes(self, receive: Receive) -> Callable[[], Deferred[None]]:
        self.receive = receive
        return self._leave

    def announce(self, kind: str, *values: object) -> None:
        if self.receive is None:
            return
        text = json.dumps(values)
        assert len(text) <= 7000
        self.sent.append((kind, values))
        if not self.cluster.lost:
            for other in self.cluster.nodes:
                if other is not self:
                    other.waiting.append((kind, text))

    def _leave(self) -> "Deferred[None]":
        self.receive = None
        self.waiting.clear()
        return succeed(None)
