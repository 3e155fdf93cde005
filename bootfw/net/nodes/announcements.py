"""Announcements: what a node sends to all others by the store that they share, and the subscribers of each kind.

An announcement has a kind and items, which are JSON values; each kind is described where it is named. During an upgrade
of the cluster its nodes are of different versions: a node ignores kinds that it does not know, and whatever a later
version appends to an item.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from bootfw.interfaces import INodes

JOINED = "joined"
"""A node receives announcements from now on, and has missed the earlier ones, so the others repeat what it needs. There
are no items."""

LONGEST = 6900
"""Bytes of JSON in one announcement; see INodes.announce()."""

Receive = Callable[[str, Sequence[Any]], None]
"""Takes (node, items) of an announcement of another node."""


class Unreadable(ValueError):
    """An item is not of the shape that its kind has."""


@define(eq=False)
class Announcements:
    """Sends items to all other nodes, and gives theirs to the subscribers of their kind, from join() to leave().

    Items may be lost, or arrive twice; those of one node come in their order.
    """

    _nodes: INodes
    node: str = field(factory=lambda: uuid4().hex[:12])
    """Identifies this process among all nodes. A node that is started again is another one."""
    _receivers: dict[str, list[Receive]] = field(factory=dict, init=False)
    _leave: Callable[[], Deferred[None]] | None = field(default=None, init=False)
    """Ends what join() began; None: it has not joined."""
    _hears: bool = field(default=False, init=False)
    """An announcement of another node has come since join()."""
    _unreadable: set[str] = field(factory=set, init=False)
    """Kinds of which the log has said that they can't be read."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)

    @property
    def behind(self) -> float | None:
        """See INodes."""
        behind: float | None = self._nodes.behind
        return behind

    def subscribe(self, kind: str, receive: Receive) -> None:
        """Have *receive* called with each announcement of that kind. It may raise Unreadable."""
        self._receivers.setdefault(kind, []).append(receive)

    def announce(self, kind: str, *items: object) -> None:
        """Send items to all other nodes, in as few announcements as carry them. Returns at once.

        An item that is longer than an announcement can be is dropped.
        """
        # One encoder for many items takes a third of the time of one for each.
        if len(json.dumps(items, separators=(",", ":"))) <= LONGEST - len(kind) - len(self.node):
            self._nodes.announce(kind, self.node, *items)
        elif len(items) > 1:
            half = len(items) // 2
            self.announce(kind, *items[:half])
            self.announce(kind, *items[half:])

    def join(self) -> None:
        """Begin to send and to receive."""
        self._hears = False
        self._leave = self._nodes.join_nodes(self._received)

    def leave(self) -> "Deferred[None]":
        """Stop both. Nothing is received after the call.

        :return: fires when what was announced is sent or dropped.
        """
        leave, self._leave = self._leave, None
        return succeed(None) if leave is None else leave()

    def _received(self, kind: str, values: Sequence[Any]) -> None:
        if not values or not isinstance(values[0], str):
            return
        node, *items = values
        if not self._hears:
            # The store has subscribed this node at some time after join(). Announced any earlier, JOINED could be
            # answered before that, and the answers would be lost. Every node announces itself once a second
            # (presence.py), so this is soon.
            self._hears = True
            self.announce(JOINED)
        for receive in self._receivers.get(kind, ()):
            try:
                receive(node, items)
            except Unreadable as error:
                if kind not in self._unreadable:
                    self._unreadable.add(kind)
                    self._log.warn(
                        'another node has announced "{kind}" in a form that this one can\'t read, which it ignores: '
                        "{error}; is it of another version?",
                        kind=kind,
                        error=error,
                    )
