"""The session that receives an image: a table, driven by what comes from the group and by time.

``handle()`` takes what happened; the session publishes packets to send, and chunks to store. Nothing that a peer does
raises.
"""

from collections.abc import Callable, Container
from math import inf
from typing import ClassVar

from attrs import define, field

from bootfw.table import STAY, Key, Machine, Table, check, goes, ignore, illegal
from bootfw.wire.frisbee import (
    BLOCK_SIZE,
    CHUNK_BLOCKS,
    CHUNK_SIZE,
    Block,
    Join,
    Join2Reply,
    Leave,
    PartialRequest,
    Request,
    blocks_in,
    blocks_of,
)

JOIN_INTERVAL = 0.5
"""Seconds between two JOINs, as of Emulab's client."""
REQUESTED_CHUNKS = 2
"""Chunks that it has requested and not completed, at least, so that the server always has something to send."""
OPEN_CHUNKS = 16
"""Chunks that it collects at a time, each of which takes 1 MiB. Others, which other receivers have requested, are left
out, and requested later."""
OVERHEARD_FOR = 1.0
"""Seconds for which the request of another receiver stands for one of our own: what it gets comes here, too."""
QUIET = 0.1
"""Seconds without a block that is missing here, after which what is missing is requested again; the pause grows by as
much each time, up to LONGEST_QUIET."""
LONGEST_QUIET = 1.1


class State(Key):
    """The states of a reception."""

    JOINING = "joining"
    """The reply to JOIN2 is awaited."""
    RECEIVING = "receiving"
    COMPLETE = "complete"
    """Each chunk is stored."""
    FAILED = "failed"
    """``detail`` says why."""


class Input(Key):
    """What can happen to a reception."""

    REPLY = "reply"
    """A Join2Reply."""
    BLOCK = "block"
    """A Block."""
    OVERHEARD = "overheard"
    """A Request or PartialRequest of another receiver."""
    STORED = "stored"
    """The number of a chunk of ``complete`` that is stored."""
    REJECTED = "rejected"
    """The number of a chunk of ``complete`` that is not what it should be: it is received again."""
    TICK = "tick"
    """``deadline`` has come."""


@define(eq=False)
class _Chunk:
    """A chunk that is being collected."""

    count: int
    """Its blocks."""
    missing: int
    """Map of the blocks that have not come."""
    data: bytearray
    last_expected: int
    """The highest block that is still to come. When it has come, the others that are missing were lost: the server
    sends the blocks of a chunk in ascending order."""
    is_requested: bool = False
    """Whether we have requested blocks of it."""


@define(eq=False)
class Reception(Machine):
    """Receives an image. ``deadline`` is set while JOINING and RECEIVING.

    ``out`` has packets to send to the group.
    """

    table: ClassVar[Table]

    source: str
    """Our IPv4 address."""
    client: int
    """A random number of 32 bits."""
    patience: float
    """Seconds without a packet of the server after which it fails; inf: never."""
    shuffle: Callable[[list[int]], None]
    """Shuffles the chunks into the order in which they are requested. Each receiver has its own order, so that together
    they request all of the image."""
    began: float = field(alias="now")
    have: Container[int] = field(default=())
    """Chunks that are stored already."""
    state: State = field(default=State.JOINING, init=False)
    deadline: float | None = field(default=None, init=False)
    detail: str = field(default="", init=False)
    size: int = field(default=0, init=False)
    """Bytes of the image; 0 while JOINING."""
    complete: list[tuple[int, bytes]] = field(factory=list, init=False)
    """(chunk, content): to be stored. The adapter clears it, and answers each with STORED or REJECTED."""
    received: int = field(default=0, init=False)
    """Blocks that were missing, and came."""
    repeated: int = field(default=0, init=False)
    """Blocks that came and were not missing."""
    _not_stored: set[int] = field(factory=set, init=False)
    """Chunks that are not stored."""
    _not_begun: list[int] = field(factory=list, init=False)
    """Chunks of which nothing has come, the next one to be requested at the end."""
    _open: dict[int, _Chunk] = field(factory=dict, init=False)
    _overheard_at: dict[int, float] = field(factory=dict, init=False)
    """Chunk -> when another receiver has requested it."""
    _last_heard: float = field(default=0.0, init=False)
    """When a packet of the server came last."""
    _pause: float = field(default=QUIET, init=False)
    """Seconds without a block after which what is missing is requested again."""

    def __attrs_post_init__(self) -> None:
        self._last_heard = self.began
        self._join(self.began)

    @property
    def chunks(self) -> int:
        """How many the image has."""
        return -(-self.size // CHUNK_SIZE)

    @property
    def stored(self) -> int:
        """How many chunks are stored."""
        return self.chunks - len(self._not_stored)

    # Transitions

    @goes(State.RECEIVING, State.COMPLETE, State.FAILED)
    def _joined(self, reply: Join2Reply, now: float) -> State:
        """Request the first chunks."""
        if (reply.chunk_size, reply.block_size) != (CHUNK_BLOCKS, BLOCK_SIZE):
            return self._fail(f"the server sends chunks of {reply.chunk_size} blocks of {reply.block_size} bytes")
        self.size = reply.size
        self._last_heard = now
        self._not_stored = {chunk for chunk in range(self.chunks) if chunk not in self.have}
        self._not_begun = list(self._not_stored)
        self.shuffle(self._not_begun)
        if not self._not_stored:
            return self._finish(now)
        self._request_more(now)
        self._wait(now)
        return State.RECEIVING

    @goes(STAY, State.FAILED)
    def _join_again(self, argument: object, now: float) -> State:
        """Send the JOIN again, or fail."""
        assert self.deadline is not None
        if now < self.deadline:
            return self.state
        if now - self._last_heard >= self.patience:
            return self._fail(f"no server has answered for {self.patience:.0f} s")
        self._join(now)
        return self.state

    @goes(STAY)
    def _block(self, block: Block, now: float) -> State:
        """Keep it. After the last block of a chunk, request what is missing of it, or the next chunk."""
        self._last_heard = now
        number = block.chunk
        # A chunk that only another receiver has requested is collected, too.
        chunk = self._open.get(number) or self._begin(number)
        bit = 1 << block.block
        if chunk is None or not chunk.missing & bit:
            self.repeated += 1
            return self.state
        self.received += 1
        start = block.block * BLOCK_SIZE
        chunk.data[start : start + BLOCK_SIZE] = block.data
        chunk.missing ^= bit
        self._pause = QUIET
        if not chunk.missing:
            self._complete(number, chunk)
            self._request_more(now)
        elif block.block >= chunk.last_expected:
            self._request_missing(number, chunk)
        self._wait(now)
        return self.state

    @goes(STAY)
    def _overheard(self, request: Request | PartialRequest, now: float) -> State:
        """What it gets will come here, too: do not request it for a while."""
        if request.chunk in self._not_stored:
            # A PartialRequest brings only what another receiver has lost.
            if isinstance(request, Request):
                self._overheard_at[request.chunk] = now
            self._wait(now)
        return self.state

    @goes(STAY, State.COMPLETE)
    def _stored(self, chunk: int, now: float) -> State:
        """After the last one: leave."""
        self._not_stored.discard(chunk)
        self._overheard_at.pop(chunk, None)
        return self.state if self._not_stored else self._finish(now)

    @goes(STAY)
    def _rejected(self, chunk: int, now: float) -> State:
        """Receive the chunk again."""
        self._not_begun.append(chunk)
        self._overheard_at.pop(chunk, None)
        self._request_more(now)
        self._wait(now)
        return self.state

    @goes(STAY, State.FAILED)
    def _quiet_for_long(self, argument: object, now: float) -> State:
        """Request everything that is missing of what has begun, and the next chunks; or fail."""
        assert self.deadline is not None
        if now < self.deadline:
            return self.state
        if now - self._last_heard >= self.patience:
            return self._fail(f"the server has sent nothing for {self.patience:.0f} s")
        for number, chunk in self._open.items():
            self._request_missing(number, chunk)
        self._request_more(now)
        self._pause = min(self._pause + QUIET, LONGEST_QUIET)
        self._wait(now)
        return self.state

    # Shared by transitions

    def _join(self, now: float) -> None:
        self.out.append(Join(self.source, self.client, 2))
        self.deadline = now + JOIN_INTERVAL

    def _begin(self, number: int) -> _Chunk | None:
        """Collect a chunk; None: it is stored or complete, or there is no room or no such chunk."""
        if number not in self._not_stored or len(self._open) >= OPEN_CHUNKS or number not in self._not_begun:
            return None
        self._not_begun.remove(number)
        count = blocks_in(number, blocks_of(self.size))
        self._open[number] = chunk = _Chunk(count, (1 << count) - 1, bytearray(count * BLOCK_SIZE), count - 1)
        return chunk

    def _complete(self, number: int, chunk: _Chunk) -> None:
        del self._open[number]
        length = min(len(chunk.data), self.size - number * CHUNK_SIZE)
        self.complete.append((number, bytes(memoryview(chunk.data)[:length])))

    def _request_more(self, now: float) -> None:
        """Request whole chunks, in order, without those that others have requested just now."""
        requested = sum(chunk.is_requested for chunk in self._open.values())
        for number in reversed(self._not_begun[:]):  # a copy, since _begin() removes from the list
            if requested >= REQUESTED_CHUNKS or len(self._open) >= OPEN_CHUNKS:
                break
            if now - self._overheard_at.get(number, -inf) < OVERHEARD_FOR:
                continue
            chunk = self._begin(number)
            assert chunk is not None
            chunk.is_requested = True
            requested += 1
            self.out.append(Request(self.source, number, 0, chunk.count))

    def _request_missing(self, number: int, chunk: _Chunk) -> None:
        self.out.append(PartialRequest(self.source, number, int(chunk.is_requested), chunk.missing))
        chunk.is_requested = True
        chunk.last_expected = chunk.missing.bit_length() - 1

    def _wait(self, now: float) -> None:
        self.deadline = now + self._pause

    def _finish(self, now: float) -> State:
        self.deadline = None
        self.out.append(Leave(self.source, self.client, int(now - self.began)))
        return State.COMPLETE

    def _fail(self, detail: str) -> State:
        self.deadline = None
        self.detail = detail
        return State.FAILED


TABLE: Table = {
    State.JOINING: {
        Input.REPLY: Reception._joined,
        Input.BLOCK: ignore,
        Input.OVERHEARD: ignore,
        Input.STORED: illegal,
        Input.REJECTED: illegal,
        Input.TICK: Reception._join_again,
    },
    State.RECEIVING: {
        Input.REPLY: ignore,
        Input.BLOCK: Reception._block,
        Input.OVERHEARD: Reception._overheard,
        Input.STORED: Reception._stored,
        Input.REJECTED: Reception._rejected,
        Input.TICK: Reception._quiet_for_long,
    },
    State.COMPLETE: {
        Input.REPLY: ignore,
        Input.BLOCK: ignore,
        Input.OVERHEARD: ignore,
        Input.STORED: illegal,
        Input.REJECTED: illegal,
        Input.TICK: ignore,
    },
    State.FAILED: {
        Input.REPLY: ignore,
        Input.BLOCK: ignore,
        Input.OVERHEARD: ignore,
        Input.STORED: ignore,
        Input.REJECTED: ignore,
        Input.TICK: ignore,
    },
}

check(TABLE, State, Input)
Reception.table = TABLE
