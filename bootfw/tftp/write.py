"""The session that receives a file (WRQ): RFC 1350, 2347, 7440.

It is told what happened by ``handle()`` and publishes what is to be done. It never raises on what a peer does, and it
acknowledges nothing that is not stored.
"""

from typing import Any

from attrs import define, field, frozen

from bootfw.errors import IllegalOperation, TransferError
from bootfw.table import STAY, Key, Transition, goes, ignore, illegal
from bootfw.tftp.blocks import advance, wire_number
from bootfw.tftp.proof import SENDINGS
from bootfw.tftp.retransmit import Watchdog
from bootfw.tftp.session import Session
from bootfw.values import Agreed, Outcome
from bootfw.wire.tftp import ErrorCode, ack, option_ack


class State(Key):
    """What the session waits for."""

    NEGOTIATING = "negotiating"
    """The OACK or ACK 0 is out, DATA 1 is awaited."""
    RECEIVING = "receiving"
    """The next DATA is awaited."""
    STORING = "storing"
    """The adapter owes us that ``stores`` is safe."""
    LINGERING = "lingering"
    """The file is complete. If the last ACK gets lost, the peer repeats its last block and is answered (RFC 1350
    section 6)."""
    CLOSED = "closed"
    """It is over; ``outcome`` says how."""


class Input(Key):
    """What can happen, with the argument that goes with it."""

    DATA = "DATA"
    """(block number on the wire, payload)."""
    STORED = "stored"
    """None: ``stores`` is safe; if it was final, the file is finished."""
    FAILED = "failed"
    """A TransferError: the writer could not."""
    PEER_ERROR = "peer error"
    """(code, text) of the peer's ERROR."""
    REQUESTED = "requested"
    """None: an identical copy of the request has come."""
    TICK = "tick"
    """None: ``deadline`` is reached; too early does no harm."""
    CANCEL = "cancel"
    """A sentence for the peer: our side ends it."""
    REPLACED = "replaced"
    """None: the peer has begun another transfer from the same port."""


@frozen
class Store:
    """One block to be stored."""

    offset: int
    """Bytes before it in what was received. In a netascii transfer the file's own offset is another one."""
    payload: bytes
    final: bool
    """It is the last one: finish the file before answering STORED."""


@define(eq=False)
class WriteSession(Session[State]):
    """Receives a file, block by block. ``deadline`` is None exactly while STORING or CLOSED.

    ``outcome`` is set while LINGERING or CLOSED: the file is finished then and can be reported, but a session that
    lingers (its outcome is COMPLETE and stays it) is to be kept until it is CLOSED.
    """

    agreed: Agreed
    watchdog: Watchdog
    _began: float = field(alias="now")

    stores: Store | None = field(default=None, init=False)
    """What the adapter has to store now; set exactly while STORING. After STORED there may be another."""
    stored: int = field(default=0, init=False)
    """The last block that is safe, an absolute number."""
    acked: int = field(default=0, init=False)
    """The last block that has been acknowledged."""
    bytes_transferred: int = field(default=0, init=False)
    """How much is safe."""

    _once: bool = field(default=True, init=False)
    """The newest ACK or OACK was sent once only, so the answer to it gives a round trip."""
    _backlog: list[bytes] = field(factory=list, init=False)
    """Payloads of the blocks behind ``stores``."""
    _missing: int = field(default=0, init=False)
    """The latest block that was told to be missing because one behind it came first."""
    _dropped: int = field(default=0, init=False)
    """The latest block that came too early while another one was being stored: it has to be sent again."""

    def __attrs_post_init__(self) -> None:
        self._start(self.watchdog, self._began)
        self.flight.deadline = self.flight.sent_at + self.flight.wait
        self.out.append(self._opening())
        self._enter(State.NEGOTIATING)

    # Transitions

    @goes(STAY, State.RECEIVING, State.STORING, State.CLOSED)
    def _begun(self, argument: tuple[int, bytes], now: float) -> State:
        """DATA 1 is to be stored. A later one of the first window shows that DATA 1 got lost: ACK 0. Anything else is
        ignored."""
        number, payload = argument
        if not 1 <= number <= self.agreed.windowsize:
            return self.state
        self.flight.heard_at = now
        if number == 1:
            return self._take(payload, now)
        self._lacking(1, now)
        return State.RECEIVING

    @goes(STAY, State.STORING, State.CLOSED)
    def _received(self, argument: tuple[int, bytes], now: float) -> State:
        """The next block is to be stored. One behind it shows a gap: ACK the last good one, once. A repeated single
        block gets its ACK again. Anything else is ignored: to a peer with windows a second ACK would mean that the next
        one got lost."""
        self.flight.heard_at = now
        number, payload = argument
        block = advance(self.stored, number, self.acked + self.agreed.windowsize - self.stored)
        if block is None:
            return self.state
        if block == self.stored + 1:
            return self._take(payload, now)
        if block > self.stored:
            self._lacking(self.stored + 1, now)
        elif self.agreed.windowsize == 1:
            self._acknowledge(now)
        return self.state

    @goes(STAY, State.CLOSED)
    def _queue(self, argument: tuple[int, bytes], now: float) -> State:
        """The next block is kept until it can be stored. Nothing is acknowledged meanwhile."""
        self.flight.heard_at = now
        number, payload = argument
        block = advance(self.stored, number, self.acked + self.agreed.windowsize - self.stored)
        ahead = self.stored + len(self._backlog) + 2
        if block is None or block < ahead:
            return self.state
        if block > ahead:
            self._dropped = block
            return self.state
        if len(payload) > self.agreed.blksize:
            return self._too_long(payload)
        self._backlog.append(payload)
        return self.state

    @goes(STAY, State.RECEIVING, State.LINGERING)
    def _saved(self, argument: None, now: float) -> State:
        """ACK what is stored, at the end of a window or of the file or before a gap; store what has queued up."""
        store = self.stores
        assert store is not None
        self.stores = None
        self.stored += 1
        self.bytes_transferred += len(store.payload)
        if store.final:
            self._acknowledge(now)
            self.outcome = Outcome.COMPLETE
            # Two repeats of a peer whose timer is the agreed one, or 5 s as in tftp-hpa, atftp and U-Boot.
            self.flight.deadline = now + 2 * (self.agreed.timeout or 5) + 2
            return State.LINGERING
        if self.stored - self.acked == self.agreed.windowsize:
            self._acknowledge(now)
        if self._backlog:
            return self._store(self._backlog.pop(0))
        if self._dropped > self.stored:
            self._lacking(self.stored + 1, now)
        self.flight.deadline = now + self.flight.wait
        return State.RECEIVING

    @goes(STAY)
    def _confirm_last(self, argument: tuple[int, bytes], now: float) -> State:
        """The last block once more: its ACK got lost, send it again. Anything else is ignored."""
        if argument[0] == wire_number(self.stored):
            self._acknowledge(now)
        return self.state

    @goes(STAY, State.CLOSED)
    def _open_again(self, argument: None, now: float) -> State:
        """Send the OACK or ACK 0 again, three times in all, then wait; or give up."""
        if self._early(now):
            return self.state
        wait = self._timer.again()
        if wait is None:
            return self._close(Outcome.TIMED_OUT, "no DATA came")
        self.flight.deadline = now + wait
        # A client that has not got it repeats its request.
        return self._repeat_opening(argument, now) if self._timer.attempt <= SENDINGS else self.state

    @goes(STAY)
    def _repeat_opening(self, argument: None, now: float) -> State:
        """Send the OACK or ACK 0 again; the deadline stays."""
        # The deadline is the watchdog's alone, so that no client can make us wait for ever.
        self.out.append(self._opening())
        self.retransmitted += 1
        self._once = False
        return self.state

    @goes(STAY, State.CLOSED)
    def _acknowledge_again(self, argument: None, now: float) -> State:
        """ACK the last good block again, or give up."""
        if self._early(now):
            return self.state
        wait = self._timer.again()
        if wait is None:
            return self._close(Outcome.TIMED_OUT, f"no DATA after block {self.stored}")
        self._missing = 0
        self._acknowledge(now)
        self.flight.deadline = now + wait
        return self.state

    @goes(STAY, State.CLOSED)
    def _leave(self, argument: None, now: float) -> State:
        """It has lingered long enough."""
        return self.state if self._early(now) else self._done(argument, now)

    @goes(State.CLOSED)
    def _done(self, argument: Any, now: float) -> State:
        """The file is complete all the same."""
        return self._close(Outcome.COMPLETE)

    @goes(State.CLOSED)
    def _declined(self, argument: tuple[int, str], now: float) -> State:
        """The peer does not go on."""
        return self._stopped(*argument)

    @goes(STAY, State.CLOSED)
    def _refused(self, argument: tuple[int, str], now: float) -> State:
        """The peer ends the transfer. ERROR 5 is ignored."""
        # RFC 1350 section 4: "unknown transfer ID" goes to a stranger and leaves the transfer alone. A peer that
        # has sent us DATA knows us, so it is not about this transfer.
        return self.state if argument[0] == ErrorCode.UNKNOWN_TID else self._stopped(*argument)

    @goes(State.CLOSED)
    def _failed(self, argument: TransferError, now: float) -> State:
        """Tell the peer and end."""
        return self._fail(argument)

    @goes(State.CLOSED)
    def _cancelled(self, argument: str, now: float) -> State:
        """Tell the peer and end."""
        return self._cancel(argument)

    @goes(State.CLOSED)
    def _replaced(self, argument: None, now: float) -> State:
        """End without a word: the peer's port belongs to another transfer now."""
        return self._replace()

    # What they have in common

    def _opening(self) -> bytes:
        return option_ack(self.agreed.acknowledged) if self.agreed.acknowledged else ack(0)

    def _take(self, payload: bytes, now: float) -> State:
        """The block after the last stored one has come."""
        if len(payload) > self.agreed.blksize:
            return self._too_long(payload)
        if self.stored == self.acked:
            self.flight.wait = self._timer.progressed(now - self.flight.sent_at if self._once else None)
        else:
            self.flight.wait = self._timer.first()
        return self._store(payload)

    def _store(self, payload: bytes) -> State:
        self.stores = Store(self.bytes_transferred, payload, final=len(payload) < self.agreed.blksize)
        self.flight.deadline = None
        return State.STORING

    def _acknowledge(self, now: float) -> None:
        """ACK the last stored block."""
        self._once = self.acked != self.stored
        if not self._once:
            self.retransmitted += 1
        self.acked = self.stored
        self.flight.sent_at = now
        self.out.append(ack(wire_number(self.stored)))

    def _lacking(self, block: int, now: float) -> None:
        """*block* is missing: say so once (RFC 7440 section 4), then it is the watchdog's turn."""
        if self._missing != block:
            self._missing = block
            self._acknowledge(now)

    def _too_long(self, payload: bytes) -> State:
        return self._fail(
            IllegalOperation("Block is longer than agreed"),
            f"the client sent a block of {len(payload)} bytes, {self.agreed.blksize} were agreed",
        )

    def _stopped(self, code: int, text: str) -> State:
        """The peer's ERROR has ended it. It is never answered."""
        return self._close(Outcome.STOPPED_BY_PEER, f"error {code}: {text!r}")

    def _close(self, outcome: Outcome, detail: str = "") -> State:
        self.stores = None
        self._backlog.clear()
        return super()._close(outcome, detail)


TABLE: dict[State, dict[Input, Transition]] = {
    State.NEGOTIATING: {
        Input.DATA: WriteSession._begun,
        Input.STORED: illegal,
        Input.FAILED: illegal,
        Input.PEER_ERROR: WriteSession._declined,
        Input.REQUESTED: WriteSession._repeat_opening,
        Input.TICK: WriteSession._open_again,
        Input.CANCEL: WriteSession._cancelled,
        Input.REPLACED: WriteSession._replaced,
    },
    State.RECEIVING: {
        Input.DATA: WriteSession._received,
        Input.STORED: illegal,
        Input.FAILED: illegal,
        Input.PEER_ERROR: WriteSession._refused,
        Input.REQUESTED: ignore,
        Input.TICK: WriteSession._acknowledge_again,
        Input.CANCEL: WriteSession._cancelled,
        Input.REPLACED: WriteSession._replaced,
    },
    State.STORING: {
        Input.DATA: WriteSession._queue,
        Input.STORED: WriteSession._saved,
        Input.FAILED: WriteSession._failed,
        Input.PEER_ERROR: WriteSession._refused,
        Input.REQUESTED: ignore,
        Input.TICK: ignore,
        Input.CANCEL: WriteSession._cancelled,
        Input.REPLACED: WriteSession._replaced,
    },
    State.LINGERING: {
        Input.DATA: WriteSession._confirm_last,
        Input.STORED: illegal,
        Input.FAILED: illegal,
        Input.PEER_ERROR: WriteSession._done,
        Input.REQUESTED: ignore,
        Input.TICK: WriteSession._leave,
        Input.CANCEL: WriteSession._done,
        Input.REPLACED: WriteSession._done,
    },
    State.CLOSED: dict.fromkeys(Input, ignore),
}

WriteSession.use_table(TABLE, State, Input)
