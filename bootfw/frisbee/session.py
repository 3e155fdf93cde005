"""The session that sends an image to its receivers: a table, driven by what they send and by time.

``handle()`` takes what happened, and the session publishes what to do. Nothing that a peer does raises.
"""

from math import inf
from typing import ClassVar

from attrs import define, field, frozen

from bootfw.frisbee.blockqueue import IN_FLIGHT, UNREAD, BlockQueue, Burst
from bootfw.frisbee.pace import Pace
from bootfw.table import STAY, Key, Machine, Table, check, goes, ignore, illegal
from bootfw.wire.frisbee import (
    CHUNK_BLOCKS,
    CHUNK_SIZE,
    WHOLE_CHUNK,
    Join,
    Leave,
    PartialRequest,
    Request,
    blocks_in,
    blocks_of,
)

MOST_RECEIVERS = 4096
"""Receivers that are counted; further ones are served all the same."""

REFUSED_WAIT = 0.005
"""Seconds until a burst is tried again that the kernel had no room for. At 1 Gbit/s its buffer is empty by then."""


class State(Key):
    """The states of a session."""

    WAITING = "waiting"
    """All blocks that were requested are sent."""
    PACING = "pacing"
    """Requested blocks are not sent yet; the next burst is due at ``deadline``."""
    READING = "reading"
    """The blocks of the next burst are being read."""
    ENDED = "ended"


class Input(Key):
    """What can happen to a session."""

    JOIN = "join"
    """A Join has come."""
    REQUEST = "request"
    """A Request or PartialRequest has come."""
    LEAVE = "leave"
    """A Leave has come."""
    TICK = "tick"
    """``deadline`` has come."""
    READ = "read"
    """What ``wants`` names was read and sent."""
    REFUSED = "refused"
    """What ``wants`` names was read, and the kernel had no room for it."""
    FAILED = "failed"
    """What ``wants`` names can't be read. The argument says why."""
    CANCEL = "cancel"
    """We end the session. The argument says why."""


@frozen
class Reply:
    """To be sent to a receiver: the reply to its JOIN."""

    peer: str
    """Its address."""
    join: Join


@frozen
class NoReply:
    """A receiver gets no reply, for *reason*."""

    peer: str
    """Its address."""
    reason: str


@define(eq=False)
class Session(Machine):
    """Sends an image. ``wants`` is set exactly while READING; ``deadline`` is set while WAITING and PACING.

    ``out`` holds a Reply or NoReply for each JOIN.
    """

    table: ClassVar[Table]

    size: int
    """Bytes of the image."""
    pace: Pace
    idle_seconds: float
    """Seconds without a request and without a JOIN after which it ends; inf: never."""
    _began: float = field(alias="now")
    state: State = field(default=State.WAITING, init=False)
    deadline: float | None = field(default=None, init=False)
    wants: Burst | None = field(default=None, init=False)
    """What the adapter has to read and send now."""
    detail: str = field(default="", init=False)
    """Why it has ended; "": it was idle, or it has not."""
    receivers: dict[str, float] = field(factory=dict, init=False)
    """Address of a receiver that has joined and not left -> when it sent its first request. Infinite until then: it may
    not have got the reply to its JOIN."""
    joined: int = field(default=0, init=False)
    """Receivers that have joined so far."""
    completed: int = field(default=0, init=False)
    """Receivers that have left, so they have the image."""
    blocks_sent: int = field(default=0, init=False)
    blocks_lost: int = field(default=0, init=False)
    """Blocks that receivers have requested again, counted for each receiver."""
    _queue: BlockQueue = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._queue = BlockQueue(self.blocks)
        self.deadline = self._idle_end(self._began)

    @property
    def blocks(self) -> int:
        """How many the image has."""
        return blocks_of(self.size)

    @property
    def blocks_wanted(self) -> int:
        """How many are wanted now."""
        return len(self._queue)

    # Transitions

    @goes(STAY)
    def _joins(self, join: Join, now: float) -> State:
        """Reply with the size. A JOIN of version 1 counts whole blocks, so it gets a reply for whole chunks only."""
        if join.version == 1 and self.size % CHUNK_SIZE:
            self.out.append(
                NoReply(join.source, f"its JOIN needs an image of whole MiB, and this one has {self.size} bytes")
            )
            return self.state
        self.out.append(Reply(join.source, join))
        # It repeats its JOIN until it gets the reply.
        if join.source not in self.receivers and len(self.receivers) < MOST_RECEIVERS:
            self.joined += 1
            self.receivers[join.source] = inf
        if self.state is State.WAITING:
            self.deadline = self._idle_end(now)
        return self.state

    @goes(State.WAITING, State.PACING)
    def _first_request(self, request: Request | PartialRequest, now: float) -> State:
        """Add its blocks, and send the first of them as soon as the pace allows."""
        return self._pace() if self._add(request, now) else State.WAITING

    @goes(STAY)
    def _further_request(self, request: Request | PartialRequest, now: float) -> State:
        """Add its blocks to those that were requested already, each of them once."""
        self._add(request, now)
        return self.state

    @goes(STAY)
    def _leaves(self, leave: Leave, now: float) -> State:
        """Count a receiver that has the image. What it has requested is sent all the same: others may need it."""
        if self.receivers.pop(leave.source, None) is not None:
            self.completed += 1
        return self.state

    @goes(State.READING)
    def _burst_due(self, argument: object, now: float) -> State:
        """Have the next burst read."""
        self.wants = self._queue.take(self.pace.burst, now)
        self.deadline = None
        return State.READING

    @goes(State.WAITING, State.PACING)
    def _burst_sent(self, argument: object, now: float) -> State:
        """Go on with the next burst, if there is one."""
        burst = self._take_wanted()
        count = len(burst.blocks)
        self.blocks_sent += count
        self.pace.sent(burst.chunk, burst.map, count, now)
        return self._next(now)

    @goes(State.PACING)
    def _burst_refused(self, argument: object, now: float) -> State:
        """The kernel's buffer is full: the link is slower. Wait, and send the same blocks."""
        self._queue.put_back(self._take_wanted())
        self.pace.hold(now + REFUSED_WAIT)
        return self._pace()

    @goes(State.ENDED)
    def _ends_idle(self, argument: object, now: float) -> State:
        """End: no receiver has requested anything for a long time."""
        return self._end("")

    @goes(State.ENDED)
    def _ends(self, detail: str, now: float) -> State:
        """End, for the reason that is given. The protocol has no message for the receivers about that."""
        return self._end(detail)

    # Parts of them

    def _add(self, request: Request | PartialRequest, now: float) -> int:
        """Add the blocks of a request, and return the map of those that are new in the queue."""
        chunk, wanted = request.chunk, request.block_map
        first_request = self.receivers.get(request.source)
        # What was sent so recently is on its way to this receiver, and not lost. See the two constants.
        in_flight = now - IN_FLIGHT
        if first_request is not None and wanted == WHOLE_CHUNK:
            in_flight = min(in_flight, max(first_request, now - UNREAD))
        new = self._queue.add(chunk, wanted, in_flight)
        if first_request is not None:
            self.receivers[request.source] = first_request = min(first_request, now)
            self.blocks_lost += self.pace.lost(chunk, new, first_request, now)
        # Most of a chunk is sent again for a receiver that has nothing of it: a new transmission. Less is a repair of
        # the latest one, whose losses are still counted.
        if new.bit_count() > CHUNK_BLOCKS // 2 or new.bit_count() == blocks_in(chunk, self.blocks):
            self.pace.begin(chunk, now)
        return new

    def _next(self, now: float) -> State:
        if self._queue:
            return self._pace()
        self.deadline = self._idle_end(now)
        return State.WAITING

    def _pace(self) -> State:
        self.deadline = self.pace.due
        return State.PACING

    def _take_wanted(self) -> Burst:
        burst, self.wants = self.wants, None
        assert burst is not None
        return burst

    def _idle_end(self, now: float) -> float | None:
        return None if self.idle_seconds == inf else now + self.idle_seconds

    def _end(self, detail: str) -> State:
        self.detail = detail
        self.wants = self.deadline = None
        self._queue.clear()
        return State.ENDED


TABLE: Table = {
    State.WAITING: {
        Input.JOIN: Session._joins,
        Input.REQUEST: Session._first_request,
        Input.LEAVE: Session._leaves,
        Input.TICK: Session._ends_idle,
        Input.READ: illegal,
        Input.REFUSED: illegal,
        Input.FAILED: illegal,
        Input.CANCEL: Session._ends,
    },
    State.PACING: {
        Input.JOIN: Session._joins,
        Input.REQUEST: Session._further_request,
        Input.LEAVE: Session._leaves,
        Input.TICK: Session._burst_due,
        Input.READ: illegal,
        Input.REFUSED: illegal,
        Input.FAILED: illegal,
        Input.CANCEL: Session._ends,
    },
    State.READING: {
        Input.JOIN: Session._joins,
        Input.REQUEST: Session._further_request,
        Input.LEAVE: Session._leaves,
        Input.TICK: illegal,
        Input.READ: Session._burst_sent,
        Input.REFUSED: Session._burst_refused,
        Input.FAILED: Session._ends,
        Input.CANCEL: Session._ends,
    },
    State.ENDED: dict.fromkeys(Input, ignore),
}

check(TABLE, State, Input)
Session.table = TABLE
