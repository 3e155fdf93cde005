"""Presence: each node announces a description of itself once a second; the others see from it which nodes are up."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall

from bootfw.net.nodes.announcements import Announcements, Unreadable

PRESENT = "present"
"""The description of a node: an object with "name", "pid" and more, see Presence."""

GOODBYE = "goodbye"
"""A node stops. There are no items."""

ANNOUNCED_EVERY = 1.0
"""Seconds between two announcements of a node."""

GONE_AFTER = 4.0
"""Seconds without an announcement after which a node counts as gone."""

FORGOTTEN_AFTER = 3600.0
"""Seconds without an announcement after which a node is not shown any more."""

MOST_NODES = 100
"""Nodes that are remembered; others are ignored."""


@frozen
class _OtherNode:
    """Another node, as its latest announcement described it."""

    description: Mapping[str, Any]
    """JSON values by name; "name" and "pid" are always there."""
    heard: float
    """When the announcement came, in seconds of the reactor's clock."""
    has_stopped: bool = False


@define(eq=False)
class Presence:
    """Announces this node from start() to stop(), and remembers what the others announce.

    :param reactor: IReactorTime.
    :param describe: returns the description of this node, JSON values by name: "name" (the host's), "pid" and more.
        Others show it as it is; a node of another version may leave something out.
    """

    _reactor: Any
    _announcements: Announcements
    _describe: Callable[[], Mapping[str, Any]]
    _others: dict[str, _OtherNode] = field(factory=dict, init=False)
    """Other nodes, see Announcements.node."""
    _timer: "IDelayedCall | None" = field(default=None, init=False)
    """The next announcement; None: not between start() and stop()."""

    def __attrs_post_init__(self) -> None:
        self._announcements.subscribe(PRESENT, self._present)
        self._announcements.subscribe(GOODBYE, self._goodbye)

    def start(self) -> None:
        """Announce this node now and once a second."""
        self._timer = self._reactor.callLater(ANNOUNCED_EVERY, self.start)
        self.announce()

    def announce(self) -> None:
        """Announce this node now, since its description has changed."""
        self._announcements.announce(PRESENT, self._describe())

    def stop(self) -> None:
        """Announce that this node stops, so that the others need not wait for GONE_AFTER to see it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._announcements.announce(GOODBYE)

    def others_here(self) -> Sequence[str]:
        """Return the identifiers (Announcements.node) of the other nodes whose state is "here"."""
        now = self._reactor.seconds()
        return [node for node, other in self._others.items() if self._state(other, now) == "here"]

    def descriptions(self) -> Sequence[Mapping[str, Any]]:
        """Return the descriptions of the other nodes whose state is "here".

        In that of a node of another version a value may be missing or have another form.
        """
        return [self._others[node].description for node in self.others_here()]

    def addresses(self) -> Iterator[str]:
        """Return the addresses of the other nodes, also of those that have stopped or are gone."""
        for other in self._others.values():
            listed = other.description.get("addresses")
            if isinstance(listed, list):
                yield from (each for each in listed if isinstance(each, str))

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        """Return all nodes, this one first, the others by name.

        Each is a node's description with "node" (see Announcements.node), "heard" (seconds since its latest
        announcement) and "state": "here", heard within GONE_AFTER; "stopped", as it has announced; "gone", not heard
        for longer; or "unknown", since this node does not reach the store and so hears none. Where two nodes have one
        name, their process ids are appended.
        """
        now = self._reactor.seconds()
        own_row = {**self._describe(), "node": self._announcements.node, "state": "here", "heard": 0.0}
        rows = [
            {**other.description, "node": node, "state": self._state(other, now), "heard": round(now - other.heard, 1)}
            for node, other in self._others.items()
            if now - other.heard <= FORGOTTEN_AFTER
        ]
        rows = [own_row, *sorted(rows, key=lambda row: (row["name"], row["pid"]))]
        count = Counter(row["name"] for row in rows)
        return [
            row if count[row["name"]] == 1 else {**row, "name": f"{row['name']} (pid {row['pid']})"} for row in rows
        ]

    def _present(self, node: str, items: Sequence[Any]) -> None:
        for description in items:
            if not isinstance(description, Mapping) or not isinstance(description.get("name"), str):
                raise Unreadable("it has no name")
            if node in self._others or len(self._others) < MOST_NODES:
                self._others[node] = _OtherNode({"pid": 0, **description}, self._reactor.seconds())
                self._forget_former(node, description["name"])

    def _goodbye(self, node: str, items: Sequence[Any]) -> None:
        other = self._others.get(node)
        if other is not None:
            self._others[node] = _OtherNode(other.description, self._reactor.seconds(), True)

    def _forget_former(self, node: str, name: str) -> None:
        """Forget processes of the same host that are not heard any more: *node* was started in their place."""
        # A restarted node has a new identifier. Without this its host would be listed twice for FORGOTTEN_AFTER, once
        # as "stopped". Two nodes of one host that are both heard are kept, and told apart by their process ids.
        now = self._reactor.seconds()
        for former, other in list(self._others.items()):
            is_replaced = former != node and other.description["name"] == name and self._state(other, now) != "here"
            if is_replaced or now - other.heard > FORGOTTEN_AFTER:
                del self._others[former]

    def _state(self, other: _OtherNode, now: float) -> str:
        if other.has_stopped:
            return "stopped"
        if now - other.heard <= GONE_AFTER:
            return "here"
        # While this node does not reach the store it hears none of the others, which may all be up.
        behind = self._announcements.behind
        return "unknown" if behind is None or behind > GONE_AFTER else "gone"
