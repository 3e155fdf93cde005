"""The blocks of an image that receivers have requested: each is sent once for all that have requested it."""

from collections import deque
from collections.abc import Iterator

from attrs import define, field, frozen

from bootfw.wire.frisbee import BLOCK_SIZE, CHUNK_BLOCKS, CHUNK_SIZE, blocks_in

IN_FLIGHT = 0.1
"""Seconds after which a block that was sent has arrived or is lost. When receivers request the same chunk at the same
time, those blocks that were sent after the first request are on their way to all of them. A busy receiver requests what
waits in its socket, so this is longer than the way: with 0.01, ten receivers that lose 2 % had 35 to 76 % more blocks
sent, with 0.1 17 to 20 %. A receiver that lacks such a block repeats its request."""

UNREAD = 0.5
"""The same for a receiver that requests a whole chunk which was sent while it was receiving. No link loses a thousand
blocks in a row and no others, so this chunk is what waits in its socket. With IN_FLIGHT only, of 50 receivers on two
busy cores so many requested chunks again as made 4 % more blocks; the latest of them after 0.3 s."""

MOST_CHUNKS = 4096
"""Chunks that can be wanted at a time. A receiver requests two at a time, so this is enough for thousands; further
requests are ignored, and receivers repeat them."""

SPAN = 256
"""Blocks between the first and the last one of a burst, which are read at once."""


@frozen
class Burst:
    """Blocks of one chunk that are sent at once."""

    chunk: int
    blocks: tuple[int, ...]
    """Their numbers in the chunk, ascending; at least one, and the last is less than SPAN behind the first."""

    @property
    def offset(self) -> int:
        """Where the first block begins in the image, in bytes."""
        return self.chunk * CHUNK_SIZE + self.blocks[0] * BLOCK_SIZE

    @property
    def length(self) -> int:
        """Bytes from the beginning of the first block to the end of the last one."""
        return (self.blocks[-1] - self.blocks[0] + 1) * BLOCK_SIZE

    @property
    def map(self) -> int:
        """Bit n is set if block n is one of them."""
        found = 0
        for block in self.blocks:
            found |= 1 << block
        return found


@define(eq=False)
class BlockQueue:
    """The blocks to be sent, chunk by chunk, in the order of the requests.

    :param blocks: how many the image has.
    """

    _blocks: int
    _wanted: dict[int, int] = field(factory=dict, init=False)
    """Chunk -> map of its blocks that are wanted, never 0."""
    _sent: dict[int, deque[tuple[float, int]]] = field(factory=dict, init=False)
    """Chunk -> (when, map) of what was sent of it within UNREAD seconds, the oldest first. The chunk that was sent last
    is at the end."""

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def __len__(self) -> int:
        """How many blocks are wanted."""
        return sum(wanted.bit_count() for wanted in self._wanted.values())

    def add(self, chunk: int, wanted: int, in_flight: float) -> int:
        """Add the blocks of a chunk that are in a map. What the image does not have is left out.

        :param in_flight: what was sent at this time or later is on its way to the receiver: at most UNREAD seconds ago.
        :return: the map of those that were not wanted before and are not in flight.
        """
        new = wanted & ((1 << blocks_in(chunk, self._blocks)) - 1) & ~self._sent_since(in_flight, chunk)
        before = self._wanted.get(chunk, 0)
        new &= ~before
        if not new or (not before and len(self._wanted) >= MOST_CHUNKS):
            return 0
        self._wanted[chunk] = before | new
        return new

    def take(self, most: int, now: float) -> Burst:
        """Take the next blocks to be sent: up to *most* of the first chunk.

        :param most: at least 1.
        """
        chunk = next(iter(self._wanted))
        wanted = self._wanted[chunk]
        blocks = tuple(_lowest(wanted, most))
        burst = Burst(chunk, blocks)
        burst_map = burst.map
        if wanted == burst_map:
            del self._wanted[chunk]
        else:
            self._wanted[chunk] = wanted ^ burst_map
        self._sent[chunk] = sent = self._sent.pop(chunk, None) or deque()
        sent.append((now, burst_map))
        self._forget(now - UNREAD)
        return burst

    def put_back(self, burst: Burst) -> None:
        """Add the blocks of a burst, which could not be sent, before all others."""
        # It is not in flight, so a request of these blocks has to add them.
        sent = self._sent.get(burst.chunk)
        if sent and sent[-1][1] == burst.map:
            sent.pop()
        again = {burst.chunk: burst.map | self._wanted.pop(burst.chunk, 0)}
        self._wanted = again | self._wanted

    def clear(self) -> None:
        """Drop everything."""
        self._wanted.clear()
        self._sent.clear()

    def _sent_since(self, since: float, chunk: int) -> int:
        found = 0
        for sent_at, sent in reversed(self._sent.get(chunk, ())):
            if sent_at < since:
                break
            found |= sent
        return found

    def _forget(self, before: float) -> None:
        """Forget what was sent before a time."""
        # The chunks are in the order of their latest burst, so the first one with something left ends the search. What
        # is too old of the others is ignored by _sent_since().
        while True:
            chunk = next(iter(self._sent))
            sent = self._sent[chunk]
            while sent and sent[0][0] < before:
                sent.popleft()
            if sent:
                return
            del self._sent[chunk]


def _lowest(block_map: int, most: int) -> Iterator[int]:
    """Yield the lowest blocks of a map, up to *most*, within SPAN."""
    first = (block_map & -block_map).bit_length() - 1
    remaining = (block_map >> first) & ((1 << min(SPAN, CHUNK_BLOCKS)) - 1)
    for _ in range(most):
        if not remaining:
            return
        lowest = remaining & -remaining
        yield first + lowest.bit_length() - 1
        remaining ^= lowest
