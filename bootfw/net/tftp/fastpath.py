"""The express way of ACKs: a port answers them with the next blocks of a framed file, and asks nobody.

A transfer that goes on as it should needs no thought: an ACK of all that is in flight is answered with the window that
follows, and nothing is learnt from its round trip. A Lane knows of one transfer what that takes. What it has done is
told to the session when something else happens (``Lane.account``).
"""

from collections.abc import Callable
from struct import Struct

from bootfw.net.tftp.framecache import Piece
from bootfw.net.udp import mmsg
from bootfw.net.udp.packetinfo import Destination, control_message
from bootfw.net.udp.sender import LARGEST_RUN, NOT_SEGMENTED, SEGMENTATION, SEGMENTS, Controls, Sender
from bootfw.values import Address, Via

Take = Callable[[int, float], bool]
"""Given (the four octets as a big-endian number, now). False: it is not for this way, and nothing has been done."""

_ACK = 4 << 16
_LARGEST_NUMBER = 0xFFFF
_CLOSED = -1
_SOONEST = 1e-9  # seconds; two ACKs of one batch are never one the answer to the other

_segment = Struct("@H").pack

Left = list[tuple[int, bytes | int, "Lane | None", int]]
"""(slot, key of the source, its lane if it is of four octets, these as a number)."""


class Lane(mmsg.Prepared):
    """What one transfer sends next, ready to be sent.

    :param take: is asked about what the lane has no answer to.
    :param windowsize: blocks that leave together, *blksize* octets each.
    """

    __slots__ = (
        "_controls",
        "_destination",
        "_windows_possible",
        "at",
        "base",
        "calm",
        "expected",
        "key",
        "least",
        "limit",
        "piece",
        "since",
        "stride",
        "take",
        "waited",
        "windowsize",
    )

    def __init__(self, destination: Destination, controls: Controls, take: Take, blksize: int, windowsize: int) -> None:
        self.stride = blksize + 4
        control = controls[1]
        if windowsize > 1:
            control += control_message(*SEGMENTATION, _segment(self.stride))
        super().__init__(destination.raw, control)
        self.vector[1] = self.stride * windowsize
        self.key = destination.key
        self._destination = destination
        self._controls = controls
        self.take = take
        self.windowsize = windowsize
        self._windows_possible = windowsize <= SEGMENTS and self.stride * windowsize <= LARGEST_RUN
        self.piece: Piece | None = None
        self.expected = self.since = 0
        """The ACK that is answered next; and the first one that has not been accounted for."""
        self.limit = _CLOSED
        """The last ACK that can be answered."""
        self.base = 0
        """Where block n of the wire begins, less (ACK of block n - 1) times the stride."""
        self.at = 0.0
        """When the last window left."""
        self.waited = 0.0
        """The last round trip."""
        self.least = self.calm = 0.0
        """Seconds: shorter and longer round trips are news."""

    def open(self, piece: Piece, sent: int, at: float, news: tuple[float, float]) -> None:
        """From now on the ACK of all that is in flight is answered, as far as *piece* reaches.

        :param sent: the last block in flight, and the last one of its window; absolute.
        :param at: when it left.
        :param news: round trips below the first and above the second are for the session to see.
        """
        if not self._windows_possible:
            return
        number = sent & _LARGEST_NUMBER
        last = min(piece.last - self.windowsize - sent, _LARGEST_NUMBER - self.windowsize - number)
        if last < 0:
            return
        if piece is not self.piece:
            if self.piece is not None:
                self.piece.lanes.discard(self)
            self.piece = piece
        piece.lanes.add(self)
        self.expected = self.since = _ACK + number
        self.limit = self.expected + last
        self.base = piece.address + (sent + 1 - piece.first) * self.stride - self.expected * self.stride
        self.at = at
        self.least, self.calm = max(news[0], _SOONEST), news[1]

    def close(self) -> None:
        """Answer nothing any more, until it is opened again."""
        self.limit = _CLOSED

    def has_sent(self) -> bool:
        """There is something to account for."""
        return self.expected != self.since

    def account(self) -> int:
        """How many windows have been sent since it was opened, and the like; it is closed now."""
        self.limit = _CLOSED
        windows = (self.expected - self.since) // self.windowsize
        self.since = self.expected
        return windows

    def leave(self) -> None:
        """The transfer is over."""
        self.limit = _CLOSED
        if self.piece is not None:
            self.piece.lanes.discard(self)
            self.piece = None

    def send(self, sender: Sender, piece: Piece, first: int) -> None:
        """Send one window, from block *first* on, an absolute number."""
        assert piece.view is not None
        start = (first - piece.first) * self.stride
        run = piece.view[start : start + self.stride * self.windowsize]
        sender.send_to(run, self._destination, self._controls, self.stride)

    def send_otherwise(self, sender: Sender) -> None:
        """The kernel can't send the latest window in one piece; send its blocks one by one, and so from now on."""
        self._windows_possible = False
        piece, windowsize = self.piece, self.windowsize
        assert piece is not None
        self.close()
        at = (self.base + (self.expected - windowsize) * self.stride - piece.address) // self.stride
        self.send(sender, piece, piece.first + at)


class Express:
    """The lanes of a port.

    What no lane answers is delivered as ever.

    :param seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float], sender: Sender) -> None:
        self._seconds = seconds
        self.sender = sender
        self.lanes: dict[bytes | int, Lane] = {}
        """By Destination.key of the peer. The port looks here for each datagram."""
        self._burst = mmsg.Burst()

    def lane(self, peer: Address, via: Via | None, take: Take, blksize: int, windowsize: int) -> Lane:
        """Make the lane of a transfer; *via* as for write_via()."""
        destination, controls = self.sender.way(peer, via)
        lane = self.lanes[destination.key] = Lane(destination, controls, take, blksize, windowsize)
        return lane

    def end(self, lane: Lane) -> None:
        """Undo lane()."""
        lane.leave()
        if self.lanes.get(lane.key) is lane:
            del self.lanes[lane.key]

    def answer(self, inbox: mmsg.Inbox, count: int) -> tuple[float, Left]:
        """Answer what the lanes can of the first *count* slots; gives the time, and the others in order."""
        now = self._seconds()
        find = self.lanes.get
        headers: list[bytes] = []
        left: Left = []
        sent = 0
        for i, key, length, head in inbox.heads(count):
            lane = find(key)
            if lane is None:
                left.append((i, key, None, head))
            elif head == lane.expected and head <= lane.limit and length == 4:
                waited = now - lane.at
                if lane.least <= waited <= lane.calm:
                    lane.at = now
                    lane.waited = waited
                    lane.vector[0] = lane.base + head * lane.stride
                    windowsize = lane.windowsize
                    lane.expected = head + windowsize
                    sent += windowsize
                    headers.append(lane.header)
                else:
                    lane.limit = _CLOSED
                    left.append((i, key, lane, head))
            else:
                # Later ones of the same peer must not overtake this one.
                lane.limit = _CLOSED
                left.append((i, key, lane if length == 4 else None, head))
        if headers:
            counters = self.sender.counters
            counters.received += len(headers)
            counters.sent += sent
            for position, code in self._burst.send(self.sender.descriptor, headers):
                self._not_sent(headers[position], code)
        return now, left

    def _not_sent(self, header: bytes, code: int) -> None:
        lane = next(lane for lane in self.lanes.values() if lane.header is header)
        self.sender.counters.sent -= lane.windowsize
        if lane.windowsize > 1 and code in NOT_SEGMENTED:
            lane.send_otherwise(self.sender)
        else:
            self.sender.lost(code, lane.windowsize)
