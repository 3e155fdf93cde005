"""The session that receives a file (WRQ): RFC 1350, 2347, 7440.

``handle()`` takes what happened; ``out``, ``stores`` and ``deadline`` say what to do. It never raises for what a client
sends, and acknowledges no block before it is stored.
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
    """The OACK or ACK 0 is sent; it waits for DATA 1."""
    RECEIVING = "receiving"
    """It waits for the next DATA."""
    STORING = "storing"
    """The adapter writes ``stores``, and answers with STORED or FAILED."""
    LINGERING = "lingering"
    """The file is complete. A client that lost the last ACK repeats its last block, and gets the ACK again (RFC 1350
    section 6)."""
    CLOSED = "closed"
    """The transfer has ended; ``outcome`` says how."""


class Input(Key):
    """What can happen, and the argument of each."""

    DATA = "DATA"
    """(block number on the wire, payload)."""
    STORED = "stored"
    """None. ``stores`` is written; if it was final, the file is finished."""
    FAILED = "failed"
    """A TransferError: the writer failed."""
    PEER_ERROR = "peer error"
    """(code, text) of the peer's ERROR."""
    REQUESTED = "requested"
    """None. A copy of the request has arrived."""
    TICK = "tick"
    """None. ``deadline`` has passed; a TICK before it is ignored."""
    CANCEL = "cancel"
    """The text of the ERROR that is sent: our side ends the transfer."""
    REPLACED = "replaced"
    """None. The client has begun another transfer from the same port."""


@frozen
class Store:
    """One block to be stored."""

    offset: int
    """Bytes received before it. In a netascii transfer the offset in the file differs."""
    payload: bytes
    final: bool
    """It is the last block: finish the file before STORED."""


@define(eq=False)
class WriteSession(Session[State]):
    """Receives a file, block by block. ``deadline`` is None exactly while STORING or CLOSED.

    ``outcome`` is set while LINGERING or CLOSED. A session that lingers can be reported (its outcome stays
    COMPLETE), but must be kept until it is CLOSED.
    """

    agreed: Agreed
    watchdog: Watchdog
    _began: float = field(alias="now")

    stores: Store | None = field(default=None, init=False)
    """The block to write now; set exactly while STORING. After STORED there may be another."""
    stored: int = field(default=0, init=False)
    """The last block that is stored, an absolute number."""
    acked: int = field(default=0, init=False)
    """The last block that has been acknowledged."""
    bytes_transferred: int = field(default=0, init=False)
    """Bytes that are stored."""

    _was_sent_once: bool = field(default=True, init=False)
    """Whether the latest ACK or OACK was sent only once: then the time until its answer is a round trip (Karn's
    algorithm)."""
    _repeats: int = field(default=0, init=False)
    """How often the latest ACK or OACK was repeated."""
    _echoes: int = field(default=0, init=False)
    """Repeated blocks that the repeats of the ACK before may still cause."""
    _backlog: list[bytes] = field(factory=list, init=False)
    """Payloads of the blocks that follow ``stores``."""
    _reported_missing: int = field(default=0, init=False)
    """The latest block that an ACK has reported missing, because a later one arrived first; 0: none since a timeout."""
    _latest_dropped: int = field(default=0, init=False)
    """The latest block that was dropped because it arrived before its turn while another one was being stored."""

    def __attrs_post_init__(self) -> None:
        self._start(self.watchdog, self._began)
        self.flight.deadline = self.flight.sent_at + self.flight.wait
        self.out.append(self._opening())
        self._enter(State.NEGOTIATING)

    # Transitions

    @goes(STAY, State.RECEIVING, State.STORING, State.CLOSED)
    def _begun(self, argument: tuple[int, bytes], now: float) -> State:
        """Store DATA 1. A later block of the first window shows that DATA 1 was lost: ACK 0. Others are ignored."""
        number, payload = argument
        # In the first window the wire numbers are the absolute numbers: no window is longer than 65535 blocks.
        if not 1 <= number <= self.agreed.windowsize:
            return self.state
        self.flight.heard_at = now
        if number == 1:
            return self._take(payload, now)
        self._report_missing(1, now)
        return State.RECEIVING

    @goes(STAY, State.STORING, State.CLOSED)
    def _received(self, argument: tuple[int, bytes], now: float) -> State:
        """Store the next block. A later one shows a gap: ACK the last block before it, once.

        With windowsize 1 a repeated block gets its ACK again, but not as often as the ACK before it was repeated: curl
        sends its next block for each ACK, so each pair of ACKs would cause the next pair, to the end of the file
        (Sorcerer's Apprentice, RFC 1123 section 4.2.3.1). With larger windows it is ignored: the client takes a second
        ACK for a loss.
        """
        self.flight.heard_at = now
        number, payload = argument
        block = advance(self.stored, number, self.acked + self.agreed.windowsize - self.stored)
        if block is None:
            return self.state
        if block == self.stored + 1:
            return self._take(payload, now)
        if block > self.stored:
            self._report_missing(self.stored + 1, now)
        elif self.agreed.windowsize == 1:
            if self._echoes:
                self._echoes -= 1
            else:
                self._acknowledge(now)
        return self.state

    @goes(STAY, State.CLOSED)
    def _queue(self, argument: tuple[int, bytes], now: float) -> State:
        """Queue the next block until it can be stored. Nothing is acknowledged meanwhile."""
        self.flight.heard_at = now
        number, payload = argument
        block = advance(self.stored, number, self.acked + self.agreed.windowsize - self.stored)
        ahead = self.stored + len(self._backlog) + 2
        if block is None or block < ahead:
            return self.state
        if block > ahead:
            self._latest_dropped = block
            return self.state
        if len(payload) > self.agreed.blksize:
            return self._too_long(payload)
        self._backlog.append(payload)
        return self.state

    @goes(STAY, State.RECEIVING, State.LINGERING)
    def _saved(self, argument: None, now: float) -> State:
        """At the end of a window or of the file, or before a gap, ACK what is stored. Store the next queued block."""
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
        if self._latest_dropped > self.stored:
            self._report_missing(self.stored + 1, now)
        self.flight.deadline = now + self.flight.wait
        return State.RECEIVING

    @goes(STAY)
    def _confirm_last(self, argument: tuple[int, bytes], now: float) -> State:
        """The last block again: its ACK was lost, send it again. Anything else is ignored."""
        if argument[0] == wire_number(self.stored):
            self._acknowledge(now)
        return self.state

    @goes(STAY, State.CLOSED)
    def _resend_opening(self, argument: None, now: float) -> State:
        """Send the OACK or ACK 0 again, up to three times in all, then wait; or time out."""
        if self._is_early(now):
            return self.state
        wait = self._timer.again()
        if wait is None:
            return self._close(Outcome.TIMED_OUT, "no DATA came")
        self.flight.deadline = now + wait
        # A client that lost them all repeats its request.
        return self._repeat_opening(argument, now) if self._timer.attempt <= SENDINGS else self.state

    @goes(STAY)
    def _repeat_opening(self, argument: None, now: float) -> State:
        """Send the OACK or ACK 0 again; the deadline stays."""
        # The deadline is the watchdog's alone: a client that repeats its request must not extend it for ever.
        self.out.append(self._opening())
        self.retransmitted += 1
        self._repeats += 1
        self._was_sent_once = False
        return self.state

    @goes(STAY, State.CLOSED)
    def _acknowledge_again(self, argument: None, now: float) -> State:
        """ACK the last stored block again, or time out."""
        if self._is_early(now):
            return self.state
        wait = self._timer.again()
        if wait is None:
            return self._close(Outcome.TIMED_OUT, f"no DATA after block {self.stored}")
        self._reported_missing = 0
        self._acknowledge(now)
        self.flight.deadline = now + wait
        return self.state

    @goes(STAY, State.CLOSED)
    def _leave(self, argument: None, now: float) -> State:
        """End at the deadline."""
        return self.state if self._is_early(now) else self._done(argument, now)

    @goes(State.CLOSED)
    def _done(self, argument: Any, now: float) -> State:
        """End: the file is complete."""
        return self._close(Outcome.COMPLETE)

    @goes(State.CLOSED)
    def _declined(self, argument: tuple[int, str], now: float) -> State:
        """The client has answered the OACK with an ERROR."""
        return self._stopped(*argument)

    @goes(STAY, State.CLOSED)
    def _refused(self, argument: tuple[int, str], now: float) -> State:
        """The client ends the transfer. ERROR 5 is ignored."""
        # RFC 1350 section 4: "unknown transfer ID" answers a stray packet and does not end a transfer. A client that
        # has sent DATA knows our transfer ID, so the ERROR is about another one.
        return self.state if argument[0] == ErrorCode.UNKNOWN_TID else self._stopped(*argument)

    @goes(State.CLOSED)
    def _failed(self, argument: TransferError, now: float) -> State:
        """Send an ERROR and end."""
        return self._fail(argument)

    @goes(State.CLOSED)
    def _cancelled(self, argument: str, now: float) -> State:
        """Send an ERROR and end."""
        return self._cancel(argument)

    @goes(State.CLOSED)
    def _replaced(self, argument: None, now: float) -> State:
        """End without an ERROR: the client's port belongs to another transfer now."""
        return self._replace()

    # Shared by transitions

    def _opening(self) -> bytes:
        return option_ack(self.agreed.acknowledged) if self.agreed.acknowledged else ack(0)

    def _take(self, payload: bytes, now: float) -> State:
        """Store the block that follows the last stored one."""
        if len(payload) > self.agreed.blksize:
            return self._too_long(payload)
        # Only the first block after an ACK answers it. The other blocks of a window (RFC 7440) measure no round trip.
        if self.stored == self.acked:
            self.flight.wait = self._timer.progressed(now - self.flight.sent_at if self._was_sent_once else None)
        else:
            self.flight.wait = self._timer.first()
        return self._store(payload)

    def _store(self, payload: bytes) -> State:
        self.stores = Store(self.bytes_transferred, payload, final=len(payload) < self.agreed.blksize)
        self.flight.deadline = None
        return State.STORING

    def _acknowledge(self, now: float) -> None:
        """ACK the last stored block."""
        self._was_sent_once = self.acked != self.stored
        if self._was_sent_once:
            # Each copy of the previous ACK may have caused a copy of the next block. Those copies must not be
            # acknowledged again, or ACKs and blocks would double to the end of the file.
            self._echoes, self._repeats = self._repeats, 0
        else:
            self._repeats += 1
            self.retransmitted += 1
        self.acked = self.stored
        self.flight.sent_at = now
        self.out.append(ack(wire_number(self.stored)))

    def _report_missing(self, block: int, now: float) -> None:
        """Report that *block* is missing, once (RFC 7440 section 4); after that the timeout does."""
        if self._reported_missing != block:
            self._reported_missing = block
            self._acknowledge(now)

    def _too_long(self, payload: bytes) -> State:
        return self._fail(
            IllegalOperation("Block is longer than agreed"),
            f"the client sent a block of {len(payload)} bytes, {self.agreed.blksize} were agreed",
        )

    def _stopped(self, code: int, text: str) -> State:
        """End because of the client's ERROR, which is never answered."""
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
        Input.TICK: WriteSession._resend_opening,
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
