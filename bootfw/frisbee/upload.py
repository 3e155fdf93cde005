"""The session that receives an image which a client uploads by TCP: a table, driven by its connection and the writer.

``handle()`` takes what happened, and the session publishes what to do. Nothing that a peer does raises.

The protocol has no length and no check: the image is what the connection carries until its end. The size that the
client has announced is what tells a whole image from one that was cut off.
"""

from typing import ClassVar

from attrs import define, field, frozen

from bootfw.table import STAY, Key, Machine, Table, check, goes, ignore, illegal
from bootfw.values import Outcome
from bootfw.wire.frisbee import CHUNK_SIZE

CONNECT_SECONDS = 30.0
"""Seconds within which the client connects. frisupload does so at once."""


class State(Key):
    """The states of a session."""

    CONNECTING = "connecting"
    """The client knows the port, and has not connected."""
    RECEIVING = "receiving"
    """It sends."""
    STORING = "storing"
    """What ``wants`` holds is being stored; meanwhile nothing should be read from the connection."""
    DRAINING = "draining"
    """The client has sent everything, and the rest of it is being stored."""
    FINISHING = "finishing"
    """Everything is stored, and the file gets its name."""
    ENDED = "ended"


class Input(Key):
    """What can happen to a session."""

    CONNECTED = "connected"
    """The client has connected."""
    DATA = "data"
    """Bytes of it have come."""
    END = "end"
    """It has closed the connection."""
    LOST = "lost"
    """The connection was reset, or lost in another way."""
    TICK = "tick"
    """``deadline`` has come."""
    STORED = "stored"
    """What ``wants`` holds is stored."""
    FINISHED = "finished"
    """The file has its name."""
    FAILED = "failed"
    """It can't be stored. The argument says why."""
    CANCEL = "cancel"
    """We end the session. The argument says why."""


@frozen
class Part:
    """Bytes to be stored at an offset of the file."""

    offset: int
    content: bytes


@define(eq=False)
class UploadSession(Machine):
    """Receives an image. ``wants`` is set exactly while STORING and DRAINING; ``deadline`` until the client has ended.

    Parts of CHUNK_SIZE or more are stored: a client is faster than the system calls for each of its packets.
    """

    table: ClassVar[Table]

    announced: int
    """Bytes that the client will send; 0: not known, and the end of the connection is the end of the image."""
    most: int
    """Bytes that an image may have."""
    seconds: float
    """How long the client may take, from its connection to its end."""
    _began: float = field(alias="now")
    state: State = field(default=State.CONNECTING, init=False)
    deadline: float | None = field(default=None, init=False)
    wants: Part | None = field(default=None, init=False)
    """What the adapter has to store now."""
    received: int = field(default=0, init=False)
    stored: int = field(default=0, init=False)
    outcome: Outcome | None = field(default=None, init=False)
    """How it has ended."""
    detail: str = field(default="", init=False)
    """Why, for the operator; "": the image is complete."""
    _parts: list[bytes] = field(factory=list, init=False)
    """The bytes that have come and are not in ``wants``."""
    _unpublished_bytes: int = field(default=0, init=False)
    """Bytes in ``_parts``."""

    def __attrs_post_init__(self) -> None:
        self.deadline = self._began + min(CONNECT_SECONDS, self.seconds)

    # Transitions

    @goes(State.RECEIVING)
    def _connects(self, argument: object, now: float) -> State:
        """Give the client its time."""
        self.deadline = now + self.seconds
        return State.RECEIVING

    @goes(State.RECEIVING, State.STORING, State.ENDED)
    def _receives(self, data: bytes, now: float) -> State:
        """Have a part stored as soon as there is a whole one. End when it is more than announced or allowed."""
        if not self._append(data):
            return self._too_large()
        return self._store() if self._unpublished_bytes >= CHUNK_SIZE else State.RECEIVING

    @goes(STAY, State.ENDED)
    def _receives_more(self, data: bytes, now: float) -> State:
        """Keep what had come before the connection was paused."""
        return self.state if self._append(data) else self._too_large()

    @goes(State.DRAINING, State.FINISHING, State.ENDED)
    def _client_ends(self, argument: object, now: float) -> State:
        """Have the rest stored, if it is the whole image."""
        return self._drain(f"the client closed the connection {self._progress()}")

    @goes(State.DRAINING, State.ENDED)
    def _client_ends_early(self, argument: object, now: float) -> State:
        """Have the rest stored after the part that is being stored, if it is the whole image."""
        if not self._is_whole():
            return self._end(Outcome.STOPPED_BY_PEER, f"the client closed the connection {self._progress()}")
        self.deadline = None
        return State.DRAINING

    @goes(State.DRAINING, State.FINISHING, State.ENDED)
    def _connection_lost(self, argument: object, now: float) -> State:
        """Have the rest stored if everything that was announced had come; without a size the end was not seen."""
        if self.announced and self._is_whole():
            return self._drain("")
        return self._end(Outcome.STOPPED_BY_PEER, f"the connection was lost {self._progress()}")

    @goes(State.DRAINING, State.ENDED)
    def _connection_lost_early(self, argument: object, now: float) -> State:
        """Have the rest stored after that part, under the same condition."""
        if self.announced and self._is_whole():
            self.deadline = None
            return State.DRAINING
        return self._end(Outcome.STOPPED_BY_PEER, f"the connection was lost {self._progress()}")

    @goes(State.RECEIVING, State.STORING)
    def _part_stored(self, argument: object, now: float) -> State:
        """Go on reading, unless another whole part is there."""
        self._note_stored()
        return self._store() if self._unpublished_bytes >= CHUNK_SIZE else State.RECEIVING

    @goes(State.DRAINING, State.FINISHING)
    def _rest_stored(self, argument: object, now: float) -> State:
        """Have the file get its name once everything is stored."""
        self._note_stored()
        return self._drained()

    @goes(State.ENDED)
    def _finishes(self, argument: object, now: float) -> State:
        """The image is complete."""
        return self._end(Outcome.COMPLETE, "")

    @goes(State.ENDED)
    def _never_connects(self, argument: object, now: float) -> State:
        """The client has not connected."""
        return self._end(Outcome.TIMED_OUT, "the client has not connected to the port that it was given")

    @goes(State.ENDED)
    def _takes_too_long(self, argument: object, now: float) -> State:
        """The client has not sent everything in time."""
        return self._end(Outcome.TIMED_OUT, f"not complete within {self.seconds:g} s, {self._progress()}")

    @goes(State.ENDED)
    def _fails(self, detail: str, now: float) -> State:
        """The writer has failed."""
        return self._end(Outcome.FAILED, detail)

    @goes(State.ENDED)
    def _ends(self, detail: str, now: float) -> State:
        """End, for the reason that is given."""
        return self._end(Outcome.CANCELLED, detail)

    # Parts of them

    def _append(self, data: bytes) -> bool:
        self.received += len(data)
        self._parts.append(data)
        self._unpublished_bytes += len(data)
        return self.received <= (self.announced or self.most)

    def _store(self) -> State:
        self._publish_part()
        return State.STORING

    def _publish_part(self) -> None:
        self.wants = Part(self.stored, b"".join(self._parts))
        self._parts, self._unpublished_bytes = [], 0

    def _note_stored(self) -> None:
        assert self.wants is not None
        self.stored += len(self.wants.content)
        self.wants = None

    def _is_whole(self) -> bool:
        """Return whether what has come can be the image. Without an announced size it must not be empty: a client that
        connects and dies sends nothing either."""
        return self.received == self.announced if self.announced else self.received > 0

    def _drain(self, otherwise: str) -> State:
        if not self._is_whole():
            return self._end(Outcome.STOPPED_BY_PEER, otherwise)
        self.deadline = None
        return self._drained()

    def _drained(self) -> State:
        if not self._unpublished_bytes:
            return State.FINISHING
        self._publish_part()
        return State.DRAINING

    def _progress(self) -> str:
        of = f" of {self.announced}" if self.announced else ""
        return f"after {self.received}{of} bytes"

    def _too_large(self) -> State:
        if self.announced:
            return self._end(Outcome.FAILED, f"the client sent more than the {self.announced} bytes that it announced")
        return self._end(Outcome.FAILED, f"it is larger than {self.most} bytes ([multicast] max-upload)")

    def _end(self, outcome: Outcome, detail: str) -> State:
        self.outcome, self.detail = outcome, detail
        self.deadline = self.wants = None
        self._parts, self._unpublished_bytes = [], 0
        return State.ENDED


TABLE: Table = {
    State.CONNECTING: {
        Input.CONNECTED: UploadSession._connects,
        Input.DATA: illegal,
        Input.END: illegal,
        Input.LOST: illegal,
        Input.TICK: UploadSession._never_connects,
        Input.STORED: illegal,
        Input.FINISHED: illegal,
        Input.FAILED: illegal,
        Input.CANCEL: UploadSession._ends,
    },
    State.RECEIVING: {
        Input.CONNECTED: illegal,
        Input.DATA: UploadSession._receives,
        Input.END: UploadSession._client_ends,
        Input.LOST: UploadSession._connection_lost,
        Input.TICK: UploadSession._takes_too_long,
        Input.STORED: illegal,
        Input.FINISHED: illegal,
        Input.FAILED: illegal,
        Input.CANCEL: UploadSession._ends,
    },
    State.STORING: {
        Input.CONNECTED: illegal,
        Input.DATA: UploadSession._receives_more,
        Input.END: UploadSession._client_ends_early,
        Input.LOST: UploadSession._connection_lost_early,
        Input.TICK: UploadSession._takes_too_long,
        Input.STORED: UploadSession._part_stored,
        Input.FINISHED: illegal,
        Input.FAILED: UploadSession._fails,
        Input.CANCEL: UploadSession._ends,
    },
    State.DRAINING: {
        Input.CONNECTED: illegal,
        Input.DATA: illegal,
        Input.END: illegal,
        Input.LOST: illegal,
        Input.TICK: illegal,
        Input.STORED: UploadSession._rest_stored,
        Input.FINISHED: illegal,
        Input.FAILED: UploadSession._fails,
        Input.CANCEL: UploadSession._ends,
    },
    State.FINISHING: {
        Input.CONNECTED: illegal,
        Input.DATA: illegal,
        Input.END: illegal,
        Input.LOST: illegal,
        Input.TICK: illegal,
        Input.STORED: illegal,
        Input.FINISHED: UploadSession._finishes,
        Input.FAILED: UploadSession._fails,
        Input.CANCEL: UploadSession._ends,
    },
    # The connection is reset, and the writer may still answer.
    State.ENDED: dict.fromkeys(Input, ignore),
}

check(TABLE, State, Input)
UploadSession.table = TABLE
