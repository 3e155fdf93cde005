"""How fast an image is sent: as fast as the link and the slowest receiver can take it, and not faster.

Frisbee's receivers acknowledge nothing. But a receiver that has completed a chunk requests another one, and one that
lacks blocks says which. A link that is too slow by half loses half of the blocks; so the share that is lost says how
fast the link is. Where a slower rate loses as much, it was not the rate: the link is bad, and it is sent on as fast as
before, until that has to be found out again.
"""

from math import inf

from attrs import define, field

from bootfw.wire.frisbee import CHUNK_BLOCKS, PACKET_SIZE

START = 12.5e6
"""Bytes per second at the beginning, 100 Mbit/s."""
SLOWEST = 1e6
"""Bytes per second; losses never lead to a slower rate."""
SHORTEST_INTERVAL = 0.002
"""Seconds between two bursts, while they are shorter than LARGEST_BURST. Timers are not more precise than a
millisecond."""
LARGEST_BURST = 32
"""Packets in a burst. Receivers have room for some 200, if they are busy for a moment; small switches for less."""
CREDIT = 0.004
"""Seconds that a burst may be late without being lost for the rate. What has not been sent for longer was not sent
because there was other work to do, and that goes first."""
TOLERANCE = 0.04
"""Share of the blocks that may be lost without a reason to be slower."""
_GROWTH = 1.1
"""Factor of the rate for each chunk that a receiver has completed."""
_PROBING = 0.0005
"""Share by which the rate grows, when it is what the link could take at the latest loss, for each chunk that has been
completed since: slowly at first, as the link may be full; to twice the rate in 50 chunks, where a receiver was busy."""
_MARGIN = 0.95
"""Share of what the link can take."""
_LEAST_SHARE = 0.5
"""Share of the rate that remains at least: a receiver that was busy for a moment has lost much, and says little about
the link."""
_UNCHANGED = 0.7
"""Where at least this share of the loss remains at a slower rate, the rate was not the reason."""
_FORGETTING = 0.98
"""Factor of what is tolerated beyond TOLERANCE for each chunk that a receiver has completed. A link that was bad for a
while would else be sent more than it takes from then on; one that stays bad is tried at a slower rate once in 20."""
_MOST_TOLERATED = 0.5
"""Share of the blocks: a link that loses more is not used as fast as one that loses nothing."""
_MEANINGFUL_BLOCKS = 200
"""Blocks of a chunk that must have been sent before the share that was lost counts."""
_MOST_PASSES = 64
"""Chunks whose latest transmissions are kept."""
_ARRIVAL_SECONDS = 0.05
"""Seconds after which a block has arrived, been read, and would not be requested any more."""


@define
class _Pass:
    """One transmission of a chunk."""

    began: float
    rate: float
    """The lowest during it."""
    sent: int = 0
    """Map of the blocks."""
    latest: float = 0.0
    """When its latest block was sent."""


@define(eq=False)
class Pace:
    """Says when the next burst is due.

    :param limit: bytes per second, including the headers of frisbee's packets.
    """

    limit: float
    rate: float = field(init=False)
    """Bytes per second at present, or what they will be when there is something to send."""
    _due: float = field(default=0.0, init=False)
    _tolerance: float = field(default=TOLERANCE, init=False)
    _ceiling: float = field(default=inf, init=False)
    """What the link could take at the latest loss, less the margin."""
    _completed_since_loss: int = field(default=0, init=False)
    """Chunks that have been completed since then."""
    _latest_reduction: tuple[float, float] | None = field(default=None, init=False)
    """(rate before, share that was lost at it) of the latest reduction; None: there was none, or it was undone."""
    _requested_chunks: int = field(default=0, init=False)
    """Chunks that receivers have requested, and for which the rate has not grown. At first a receiver requests several
    without having completed any, so it grows no faster than chunks are sent."""
    _blocks_of_next_chunk: int = field(default=0, init=False)
    """Blocks of the next chunk that were sent."""
    _passes: dict[int, _Pass] = field(factory=dict, init=False)
    """Chunk -> its latest transmission; the oldest first."""

    def __attrs_post_init__(self) -> None:
        self.rate = min(START, self.limit)

    def limit_to(self, limit: float) -> None:
        """Be no faster than *limit* bytes per second from now on."""
        self.limit = limit
        self.rate = min(self.rate, limit)

    @property
    def burst(self) -> int:
        """Packets of the next burst."""
        return max(1, min(LARGEST_BURST, int(self.rate * SHORTEST_INTERVAL / PACKET_SIZE)))

    @property
    def due(self) -> float:
        """When the next burst may be sent."""
        return self._due

    def begin(self, chunk: int, now: float) -> None:
        """Begin a new transmission of a chunk, which was requested for the first time or again."""
        if self._passes.pop(chunk, None) is None:
            self._requested_chunks += 1
        if len(self._passes) >= _MOST_PASSES:
            del self._passes[next(iter(self._passes))]
        self._passes[chunk] = _Pass(now, self.rate)

    def sent(self, chunk: int, blocks: int, count: int, now: float) -> None:
        """Count a burst that was sent.

        :param blocks: map of its blocks.
        :param count: how many they are.
        """
        # What a timer was late is caught up with, up to CREDIT. Otherwise the rate would never be reached.
        self._due = max(self._due, now - CREDIT) + count * PACKET_SIZE / self.rate
        found = self._passes.get(chunk)
        if found is not None:
            found.sent |= blocks
            found.rate = min(found.rate, self.rate)
            found.latest = now
        self._blocks_of_next_chunk += count
        # The rate grows no faster than chunks are sent; see _requested_chunks.
        while self._blocks_of_next_chunk >= CHUNK_BLOCKS:
            self._blocks_of_next_chunk -= CHUNK_BLOCKS
            if self._requested_chunks:
                self._requested_chunks -= 1
                self._speed_up()

    def hold(self, until: float) -> None:
        """Send nothing before *until*."""
        self._due = max(self._due, until)

    def _speed_up(self) -> None:
        """Raise the rate: a receiver requests a chunk that was not sent lately, so it has completed another one."""
        self._tolerance = max(TOLERANCE, self._tolerance * _FORGETTING)
        growth = _GROWTH
        if self.rate >= self._ceiling:
            self._completed_since_loss += 1
            growth = min(_GROWTH, 1 + _PROBING * self._completed_since_loss)
        self.rate = min(self.limit, self.rate * growth)

    def lost(self, chunk: int, missing: int, since: float, now: float) -> int:
        """Take a request of blocks that may have been sent already, and lower the rate if too many were lost.

        :param missing: map of these blocks.
        :param since: when it began to receive.
        :return: how many of them were sent to it.
        """
        found = self._passes.get(chunk)
        # What was sent before it began to receive, or may still be on its way, is not lost.
        if found is None or since > found.began or now < found.latest + _ARRIVAL_SECONDS:
            return 0
        lost, count = (missing & found.sent).bit_count(), found.sent.bit_count()
        if count >= _MEANINGFUL_BLOCKS and lost > self._tolerance * count:
            self._slow_down(found, lost / count)
        return lost

    def _slow_down(self, found: _Pass, share: float) -> None:
        if self._latest_reduction is not None and found.rate <= self.rate * 1.01:
            # As much is lost at the lower rate, so the rate was not the reason: go back to it, and tolerate the loss.
            before, share_before = self._latest_reduction
            if share_before * _UNCHANGED <= share <= _MOST_TOLERATED:
                self._tolerance = share * 1.5
                self._latest_reduction, self._ceiling = None, inf
                self.rate = min(self.limit, before)
                return
        # A chunk that was sent before the rate was lowered says the same about the link.
        slower = max(SLOWEST, found.rate * max(_LEAST_SHARE, (1 - share) * _MARGIN))
        if slower < self.rate:
            self._latest_reduction = found.rate, share
            self.rate = self._ceiling = slower
            self._completed_since_loss = 0
