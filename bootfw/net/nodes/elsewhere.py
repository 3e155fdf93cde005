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
"""Seconds until a node announces its transfers again, for nodes that have missed them."""

_CLOCK_KEPT = 60.0
"""Seconds after which the difference between the clock of a node and ours is measured anew, since clocks drift."""

_MOST_CLOCKS = 64
"""Nodes whose clocks are remembered; a restarted node is a new one."""

_NUMBERS = 1 << 16
"""How many block numbers there are."""

_FIRST_SPEED = 10_000.0
"""Blocks per second that a client is assumed to load at most, until two positions show its speed."""

_SLACK = 1.5
"""The speed that a client may reach later, as a multiple of its highest one until now."""

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
    """When the client had that position, in seconds of our clock; rather too early than too late."""
    _speed: float = field(default=0.0, init=False)
    """Blocks per second, the highest between two positions; 0: not known, since there was only one."""

    def __attrs_post_init__(self) -> None:
        self._positioned = self.heard

    def move(self, position: int, at: float, now: float) -> None:
        """Take a later position.

        :param at: when the client had it, in seconds of our clock.
        """
        # One that is not later is a copy, or was overtaken: it would make the speed infinite or negative.
        if at > self._positioned:
            self._speed = max(self._speed, (position - self.position) / (at - self._positioned))
            self.position, self._positioned = position, at
        self.heard = now

    def shift(self, later: float) -> None:
        """Convert its times to the clock of another process, which is *later* seconds ahead."""
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
        # The number stands for every 65,536th block. The client is at the first of these behind its latest position,
        # provided that it can have come so far since then (a late copy of an older ACK looks as if it were far ahead),
        # but can't have come so far that the number has repeated.
        ahead = (number - self.position) % _NUMBERS
        reach = agreed.windowsize + _SLACK * (self._speed or _FIRST_SPEED) * (now - self._positioned)
        block = self.position + ahead
        return block if ahead <= reach < _NUMBERS - agreed.windowsize and block <= last else None


@define(eq=False)
class _Clock:
    """The clock of another node, compared with ours.

    The time of arrival by our clock less the time of sending by the other one is how far that clock is behind, plus the
    time that the announcement was under way. So the least of these differences is the best measurement, and a position
    that arrives late, since the store was slow, is known to be old.
    """

    _behind: float
    """Seconds that it is behind ours: the least difference of the former period and this one."""
    _behind_lately: float
    """The least difference of this period alone, for the next one. Clocks drift: the least difference ever would
    become wrong."""
    _since: float
    """When this period began; it has _CLOCK_KEPT seconds."""

    def ours(self, at: float, now: float) -> float:
        """Return the point in time of our clock that is *at* by that clock, of an announcement that has just come."""
        if now - self._since > _CLOCK_KEPT:
            self._behind, self._behind_lately, self._since = self._behind_lately, now - at, now
        self._behind_lately = min(self._behind_lately, now - at)
        return at + min(self._behind, self._behind_lately)


@define(eq=False)
class TransfersElsewhere:
    """The transfers of other nodes by client, bounded in number and age.

    Each of the server's processes has one: the client's next packet may come to any of them.
    """

    _transfers: dict[_Key, TransferElsewhere] = field(factory=dict, init=False)
    """Address of the client -> transfer, in the order in which they were heard of, so that the first is the oldest."""
    _clocks: dict[str, _Clock] = field(factory=dict, init=False)
    """Node (Announcements.node) -> its clock."""

    def note_begun(self, node: str, event: TransferBegun, now: float) -> None:
        """Note that a transfer has begun at *node*, or that *node* goes on with one from now on."""
        key = _key(event.request.peer)
        self._transfers.pop(key, None)
        self._transfers[key] = TransferElsewhere(node, event, event.acked or 0, now)
        self._forget(now)

    def note_running(self, node: str, event: TransferBegun, now: float) -> None:
        """Note that a transfer is still under way at *node*.

        :param event: ``acked`` is its position.
        """
        key = _key(event.request.peer)
        transfer = self._transfers.get(key)
        if transfer is not None and transfer.node == node and transfer.begun_event.request == event.request:
            transfer.heard = now
            self._transfers[key] = self._transfers.pop(key)
        # Of two nodes that announce a transfer of one client, the one where it began later has it: the other one has
        # not noticed yet that the client has left.
        elif transfer is None or transfer.node == node or transfer.begun_event.at < event.at:
            self.note_begun(node, event, now)

    def note_ended(self, node: str, peer: Address) -> None:
        """Note that the transfer of *peer* has ended at *node*."""
        # Not if another node has gone on with it: the end is that of the node which the client has left.
        transfer = self._transfers.get(_key(peer))
        if transfer is not None and transfer.node == node:
            del self._transfers[_key(peer)]

    def note_moved(self, node: str, peer: Address, position: int, at: float, now: float) -> None:
        """Note the position of the transfer of *peer* at *node*.

        :param at: when the client had it, by the clock of *node*.
        """
        transfer = self._transfers.get(_key(peer))
        if transfer is None or transfer.node != node:
            return
        clock = self._clocks.get(node)
        if clock is None:
            clock = self._clocks[node] = _Clock(now - at, now - at, now)
            if len(self._clocks) > _MOST_CLOCKS:
                del self._clocks[next(iter(self._clocks))]
        transfer.move(position, clock.ours(at, now), now)
        self._transfers[_key(peer)] = self._transfers.pop(_key(peer))

    def receive(self, kind: str, node: str, items: Sequence[Any], now: float) -> list[TransferBegun]:
        """Take an announcement of one of the kinds EVENTS, RUNNING and POSITIONS.

        :return: the TFTP transfers of which it says that *node* serves them now.
        :raise Unreadable: an item is of another shape; those before it are taken.
        """
        serves = []
        if kind == POSITIONS:
            for peer, block, at in positions_of(items):
                self.note_moved(node, peer, block, at, now)
            return []
        take = self.note_begun if kind == EVENTS else self.note_running
        for item in items:
            event = event_of(item, now)
            if isinstance(event, TransferBegun) and event.request.protocol == "tftp":
                take(node, event, now)
                serves.append(event)
            elif isinstance(event, TransferEnded) and event.report.request.protocol == "tftp":
                self.note_ended(node, event.report.request.peer)
        return serves

    def take(self, peer: Address, now: float) -> TransferElsewhere | None:
        """Remove and return the transfer of *peer*, which has sent a datagram here; None: none is known."""
        found = self._transfers.pop(_key(peer), None) if self._transfers else None
        return found if found is not None and now - found.heard < FORGET_AFTER else None

    def all(self) -> list[TransferElsewhere]:
        """Return all transfers, the one that was heard of last at the end."""
        return list(self._transfers.values())

    def remember(self, transfers: Sequence[TransferElsewhere], later: float) -> None:
        """Take over what all() has returned in another process of this server.

        :param later: seconds that our clock is ahead of the clock of that process.
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
