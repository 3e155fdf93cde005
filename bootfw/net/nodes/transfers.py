"""Announces the transfers of this node: so that another node can go on with them, and for the observers there."""

from collections.abc import Iterable
from math import inf
from typing import Any

from attrs import define, evolve, field

from bootfw.events import Event, TransferBegun, TransferEnded
from bootfw.net.nodes.items import EVENTS, POSITIONS, RUNNING, begun_item, event_item, position_item
from bootfw.net.nodes.outbox import Outbox
from bootfw.values import Address, Outcome

MOST = 8192
"""Transfers of this node that are announced again."""


@define(eq=False)
class TransferAnnouncer:
    """Gets the events of this node, and announces those of transfers.

    :param reactor: IReactorTime.
    """

    _reactor: Any
    _outbox: Outbox
    latest: float = field(default=-inf, init=False)
    """When a transfer began or ended last, in seconds of the reactor's clock; a drain waits for a pause."""
    _running: dict[Address, TransferBegun] = field(factory=dict, init=False)
    """Client -> its TFTP transfer."""
    _positions: dict[Address, int] = field(factory=dict, init=False)
    """Client -> the block that it has acknowledged, for files of more blocks than there are numbers on the wire."""

    def take(self, event: Event) -> None:
        """Take an event."""
        item = event_item(event, self._reactor.seconds())
        if item is None:
            return
        self.latest = event.at
        if type(event) is TransferBegun:
            self._has_begun(event)
        elif type(event) is TransferEnded:
            self._has_ended(event)
            # Another node goes on with it, or can: the others must not forget it.
            if event.report.outcome is Outcome.HANDED_OVER:
                return
        self._outbox.add(EVENTS, item)

    def take_positions(self, positions: Iterable[tuple[Address, int]]) -> None:
        """Take positions of transfers of long files: (client, the block that it has acknowledged)."""
        now = self._reactor.seconds()
        for peer, block in positions:
            if peer in self._running:
                self._positions[peer] = block
                self._outbox.add(POSITIONS, position_item(peer, block, now))

    def repeat(self) -> None:
        """Announce all transfers that are under way: an announcement may be lost, and a node may have just joined."""
        now = self._reactor.seconds()
        for peer, event in self._running.items():
            self._outbox.add(RUNNING, begun_item(evolve(event, acked=self._positions.get(peer)), now))

    def _has_begun(self, event: TransferBegun) -> None:
        peer = event.request.peer
        if event.request.protocol != "tftp" or (len(self._running) >= MOST and peer not in self._running):
            return
        self._running[peer] = event
        self._positions.pop(peer, None)
        if event.acked:
            self._positions[peer] = event.acked

    def _has_ended(self, event: TransferEnded) -> None:
        if event.report.request.protocol == "tftp":
            self._running.pop(event.report.request.peer, None)
            self._positions.pop(event.report.request.peer, None)
