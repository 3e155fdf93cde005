"""Collects what is to be announced in one turn of the reactor."""

from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from bootfw.net.nodes.announcements import Announcements


@define(eq=False)
class Outbox:
    """Announces items at the end of the turn, those of a kind together: a batch of requests becomes one announcement.

    :param reactor: IReactorTime.
    """

    _reactor: Any
    _announcements: Announcements
    _items: dict[str, list[object]] = field(factory=dict, init=False)
    """Kind -> items that are to be announced."""
    _turn: "IDelayedCall | None" = field(default=None, init=False)
    """The call that announces them; None: there are none."""

    def add(self, kind: str, item: object) -> None:
        """Announce *item* at the end of this turn."""
        self._items.setdefault(kind, []).append(item)
        if self._turn is None:
            self._turn = self._reactor.callLater(0, self._send)

    def flush(self) -> None:
        """Announce now what was added."""
        if self._turn is not None:
            self._turn.cancel()
            self._send()

    def _send(self) -> None:
        self._turn = None
        waiting, self._items = self._items, {}
        for kind, items in waiting.items():
            self._announcements.announce(kind, *items)
