"""The transfers of other nodes: what this one needs to go on with them when their clients' packets arrive here.

A block's number has 16 bits on the wire: in a file of up to 65,535 blocks it says where the client is. In a longer one
the position is needed that its node has announced, four times a second. While announcements do not get through, the
client may move on by more blocks than there are numbers. So one that may have done that, by its speed until then, has
to begin anew.
"""

from collections.abc import Sequence
from typing import Any

from attrs import define, field

from bootfw.events import TransferBegun, TransferEnded
from bootfw.net.nodes.items import EVENTS, POSITIONS, event_of, positions_of
from bootfw.values import Address

MOST = 16384
"""Transfers that are remembered; the one of which nothing was heard for the longest time is dropped first."""

FORGET_AFTER = 150.0
"""Seconds without news, after which a transfer is forgotten. A client that writes to flash may pause for so long."""

REPEATED_EVERY = 15.0
"""Seconds until a node announces its transfers again, for those who have missed them."""

_CLOCK_KEPT = 60.0
"""Seconds after which it is found out again how far the clock of a node is behind ours: no two run equally fast."""

_MOST_CLOCKS = 64

_NUMBERS = 1 << 16
"""How many block numbers there are."""

_FIRST_SPEED = 10_000.0
"""Blocks per second that a client may have until it is known how many it has."""

_SLACK = 1.5
"""So many times its highest speed until now a client may have later on."""

_Key = tuple[str, int]


def _key(peer: Address) -> _Key:
    # The scope of a link-local address has another number on each host.
    return peer[0].partition("%")[0], peer[1]


@define(eq=False)
class TransferElsewhere:
    """A transfer that another node has begun and, as far as is known, has not ended."""

    node: str
    """See Announcements.node."""
    begun_event: TransferBegun
    position: int
    """The block that the client had acknowledged when that was announced last; 0: none."""
    heard: float
    """When the latest announcement of it came, in seconds of our clock."""
    _positioned: float = field(init=False)
    """When the client had that position, at the earliest."""
    _speed: float = field(default=0.0, init=False)
    """Blocks per second, the highest between two positions; 0: there was only one."""

    def __attrs_post_init__(self) -> None:
        self._positioned = self.heard

    def move(self, position: int, at: float, now: float) -> None:
        """Note a later position, which the client had *at* some time of our clock."""
        if at > self._positioned:
            self._speed = max(self._speed, (position - self.position) / (at - self._positioned))
            self.position, self._positioned = position, at
        self.heard = now

    def shift(self, later: float) -> None:
        """Have it in another process, by whose clock everything was that much later."""
        self.heard, self._positioned = self.heard + later, self._positioned + later

    def block(self, number: int, size: int | None, now: float) -> int | None:
        """Return the absolute number of the block that the client acknowledges as *number* on the wire.

        :param size: bytes of the file; None: not known.
        :return: None: it is not known.
        """
        agreed = self.begun_event.agreed
        last = _NUMBERS if size is None else size // agreed.blksize + 1
        if last < _NUMBERS:
            return number if number <= last else None
        ahead = (number - self.position) % _NUMBERS
        reach = agreed.windowsize + _SLACK * (self._speed or _FIRST_SPEED) * (now - self._positioned)
        block = self.position + ahead
        return block if ahead <= reach < _NUMBERS - agreed.windowsize and block <= last else None


@define(eq=False)
class _Clock:
    """The clock of another node.

    Announcements that were under way for the shortest time show how far it is behind ours. So one that comes later than
    these, since the store was slow, is known to be old.
    """

    _behind: float
    """Seconds, at most."""
    _lately: float
    """The same, of the announcements since then."""
    _since: float

    def ours(self, at: float, now: float) -> float:
        """Return the point in time of our clock that is *at* by that clock, of an announcement that has just come."""
        if now - self._since > _CLOCK_KEPT:
            self._behind, self._lately, self._since = self._lately, now - at, now
        self._lately = min(self._lately, now - at)
        return at + min(self._behind, self._lately)


@define(eq=False)
class TransfersElsewhere:
    """The transfers of other nodes, bounded in number and age."""

    _transfers: dict[_Key, TransferElsewhere] = field(factory=dict, init=False)
    """By the address of the client; the one that was heard of last is the last one."""
    _clocks: dict[str, _Clock] = field(factory=dict, init=False)
    """By node."""

    def begun(self, node: str, event: TransferBegun, now: float) -> None:
        """Take that a transfer has begun at *node*, or that *node* goes on with one from now on."""
        key = _key(event.request.peer)
        self._transfers.pop(key, None)
        self._transfers[key] = TransferElsewhere(node, event, event.acked or 0, now)
        self._forget(now)

    def running(self, node: str, event: TransferBegun, now: float) -> None:
        """Take that a transfer is still under way at *node*.

        :param event: ``acked`` is its position.
        """
        key = _key(event.request.peer)
        known = self._transfers.get(key)
        if known is not None and known.node == node and known.begun_event.request == event.request:
            known.heard = now
            self._transfers[key] = self._transfers.pop(key)
        elif known is None or known.node == node or known.begun_event.at < event.at:
            self.begun(node, event, now)

    def ended(self, node: str, peer: Address) -> None:
        """Take that the transfer of *peer* has ended at *node*."""
        known = self._transfers.get(_key(peer))
        if known is not None and known.node == node:
            del self._transfers[_key(peer)]

    def moved(self, node: str, peer: Address, position: int, at: float, now: float) -> None:
        """Take the position of the transfer of *peer* at *node*, and when that was, by its clock."""
        known = self._transfers.get(_key(peer))
        if known is None or known.node != node:
            return
        clock = self._clocks.get(node)
        if clock is None:
            clock = self._clocks[node] = _Clock(now - at, now - at, now)
            if len(self._clocks) > _MOST_CLOCKS:
                del self._clocks[next(iter(self._clocks))]
        known.move(position, clock.ours(at, now), now)
        self._transfers[_key(peer)] = self._transfers.pop(_key(peer))

    def receive(self, kind: str, node: str, items: Sequence[Any], now: float) -> list[TransferBegun]:
        """Take an announcement of one of the kinds EVENTS, RUNNING and POSITIONS.

        :return: the TFTP transfers that *node* serves now, as far as it says so.
        :raise Unreadable: an item is of another shape; those before it are taken.
        """
        serves = []
        if kind == POSITIONS:
            for peer, block, at in positions_of(items):
                self.moved(node, peer, block, at, now)
            return []
        take = self.begun if kind == EVENTS else self.running
        for item in items:
            event = event_of(item, now)
            if isinstance(event, TransferBegun) and event.request.protocol == "tftp":
                take(node, event, now)
                serves.append(event)
            elif isinstance(event, TransferEnded) and event.report.request.protocol == "tftp":
                self.ended(node, event.report.request.peer)
        return serves

    def take(self, peer: Address, now: float) -> TransferElsewhere | None:
        """Remove and return the transfer of *peer*, which has sent a datagram; None: there is none."""
        found = self._transfers.pop(_key(peer), None) if self._transfers else None
        return found if found is not None and now - found.heard < FORGET_AFTER else None

    def all(self) -> list[TransferElsewhere]:
        """Return them, the one that was heard of last at the end."""
        return list(self._transfers.values())

    def remember(self, transfers: Sequence[TransferElsewhere], later: float) -> None:
        """Take what all() of another process has returned.

        :param later: how much later it is by our clock than by its clock.
        """
        for each in transfers:
            each.shift(later)
            self._transfers[_key(each.begun_event.request.peer)] = each

    def __len__(self) -> int:
        return len(self._transfers)

    def _forget(self, now: float) -> None:
        transfers = self._transfers
        while len(transfers) > MOST or now - next(iter(transfers.values())).heard >= FORGET_AFTER:
            del transfers[next(iter(transfers))]
