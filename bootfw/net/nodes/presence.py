"""Presence: what each node says of itself once a second, and which nodes were heard lately."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall

from bootfw.net.nodes.announcements import Announcements, Unreadable

PRESENT = "present"
"""A node says of itself: an object with "name", "pid" and more, see Presence."""

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
class _Heard:
    """Another node."""

    said: Mapping[str, Any]
    """What it said of itself."""
    at: float
    """When, in seconds of the reactor's clock."""
    has_stopped: bool = False


@define(eq=False)
class Presence:
    """Announces this node from start() to stop(), and remembers what the others announce.

    :param reactor: IReactorTime.
    :param describe: returns what this node says of itself, JSON values by name: "name" (the host's), "pid" and more.
        Others show it as it is; a node of another version may leave something out.
    """

    _reactor: Any
    _announcements: Announcements
    _describe: Callable[[], Mapping[str, Any]]
    _heard: dict[str, _Heard] = field(factory=dict, init=False)
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
        """Announce this node now: what it says of itself has changed."""
        self._announcements.announce(PRESENT, self._describe())

    def stop(self) -> None:
        """Say goodbye."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._announcements.announce(GOODBYE)

    def here(self) -> Sequence[str]:
        """Return the other nodes that were heard lately, see Announcements.node."""
        now = self._reactor.seconds()
        return [node for node, heard in self._heard.items() if self._state(heard, now) == "here"]

    def said(self) -> Sequence[Mapping[str, Any]]:
        """Return what the other nodes that were heard lately said of themselves. A node of another version may leave
        something out, or say it in another form."""
        return [self._heard[node].said for node in self.here()]

    def addresses(self) -> Iterator[str]:
        """Return the addresses of the other nodes, also of those that have stopped or are gone."""
        for heard in self._heard.values():
            listed = heard.said.get("addresses")
            if isinstance(listed, list):
                yield from (each for each in listed if isinstance(each, str))

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        """Return all nodes, this one first, the others by name.

        Each is what it said of itself, with "node" (see Announcements.node), "heard" (seconds since then) and "state":
        "here"; "stopped", which it has said; "gone", when it was not heard; or "unknown", when this node hears none,
        since it does not reach the store. A name that two nodes have is made distinct by their process ids.
        """
        now = self._reactor.seconds()
        own = {**self._describe(), "node": self._announcements.node, "state": "here", "heard": 0.0}
        rows = [
            {**heard.said, "node": node, "state": self._state(heard, now), "heard": round(now - heard.at, 1)}
            for node, heard in self._heard.items()
            if now - heard.at <= FORGOTTEN_AFTER
        ]
        rows = [own, *sorted(rows, key=lambda row: (row["name"], row["pid"]))]
        count = Counter(row["name"] for row in rows)
        return [
            row if count[row["name"]] == 1 else {**row, "name": f"{row['name']} (pid {row['pid']})"} for row in rows
        ]

    def _present(self, node: str, items: Sequence[Any]) -> None:
        for said in items:
            if not isinstance(said, Mapping) or not isinstance(said.get("name"), str):
                raise Unreadable("it has no name")
            if node in self._heard or len(self._heard) < MOST_NODES:
                self._heard[node] = _Heard({"pid": 0, **said}, self._reactor.seconds())
                self._forget_former(node, said["name"])

    def _goodbye(self, node: str, items: Sequence[Any]) -> None:
        heard = self._heard.get(node)
        if heard is not None:
            self._heard[node] = _Heard(heard.said, self._reactor.seconds(), True)

    def _forget_former(self, node: str, name: str) -> None:
        """Forget processes of the same name that are not heard any more: this one was started in their place."""
        now = self._reactor.seconds()
        for other, heard in list(self._heard.items()):
            succeeded = other != node and heard.said["name"] == name and self._state(heard, now) != "here"
            if succeeded or now - heard.at > FORGOTTEN_AFTER:
                del self._heard[other]

    def _state(self, heard: _Heard, now: float) -> str:
        if heard.has_stopped:
            return "stopped"
        if now - heard.at <= GONE_AFTER:
            return "here"
        behind = self._announcements.behind
        return "unknown" if behind is None or behind > GONE_AFTER else "gone"
