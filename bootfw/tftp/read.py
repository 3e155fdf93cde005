"""The session that sends a file (RRQ): RFC 1350, 2347, 7440, and RFC 1123 section 4.2.3.

``handle()`` takes what happened, and the session publishes what to do. Nothing that a peer does raises.
"""

from collections.abc import Callable
from secrets import randbelow

from attrs import define, field

from bootfw.errors import TransferError
from bootfw.table import STAY, IllegalInput, Transition, goes, ignore, illegal
from bootfw.tftp.blocks import Blocks, advance
from bootfw.tftp.flight import CLOSED
from bootfw.tftp.position import Continuing, Position
from bootfw.tftp.proof import RATIO, Proof
from bootfw.tftp.readstates import Input as Input
from bootfw.tftp.readstates import State as State
from bootfw.tftp.retransmit import CLIENT_TIMEOUT, Watchdog
from bootfw.values import Agreed, Outcome
from bootfw.wire.tftp import ErrorCode

BEYOND_WINDOW = 4
"""Blocks beyond the window that may be in flight after timeouts."""

_NO_PROMPT = 0, -1


@define(eq=False)
class ReadSession(Continuing):
    """Sends a file. ``deadline`` is set exactly while NEGOTIATING, AWAITING_ACK or PROVING, ``outcome`` exactly when
    CLOSED.

    ``out`` holds datagrams and Blocks. Blocks stand for what was fetched last; ``blocks.frame`` makes datagrams of it.
    """

    agreed: Agreed
    size: int | None
    """Bytes of the file; None: not known, then a short read ends the file and sets this."""
    watchdog: Watchdog
    _began: float = field(alias="now")
    resumed: int | Position | None = None
    """The position of a session in another process; after a crash, the block that the peer has just acknowledged (0:
    the OACK). None: the transfer begins here."""
    request_bytes: int = 0
    """Length of the request's datagram; what is sent before the peer has proven itself is in proportion to it."""
    own_port: bool = False
    """The transfer has a port that can't be guessed, so an ACK that comes there proves that our packets arrive."""
    oack_once: bool = False
    """A second OACK may end the client: the timer sends it once more only, and late. See TFTPQuirks."""
    randbelow: Callable[[int], int] = randbelow
    """Random numbers that a peer can't guess."""

    wants: Blocks | None = field(default=None, init=False)
    """What the adapter has to read now; set exactly while FETCHING. FETCHED may set it again."""
    wanted_bytes: int = field(default=0, init=False)
    """Bytes of ``wants``, from ``(wants.first - 1) * blksize`` on. Not more, even if the file has grown; may be 0."""
    cached_through: int = field(default=0, init=False)
    """Set by the adapter: everything after what is in flight, up to this block, is framed and is sent without FETCHING.
    0: nothing is."""

    _last_block: int = field(default=-1, init=False)
    """The last block of the file; -1 while that is not known."""
    _acked_before_fetch: int = field(default=0, init=False)
    """``acked`` when the fetch began."""
    _sent_once_from: int = field(default=0, init=False)
    """From this block on, what is in flight was sent once only, and that at ``flight.sent_at`` (0: the OACK). The fast
    path leaves it as it is: it then lies before ``flight.acked``, which means the same."""
    _repeats_acks: bool = field(default=False, init=False)
    """This peer has repeated an ACK; perhaps it is one that answers each block it does not expect, as EDK2 does."""
    _resent_at: int = field(default=-1, init=False)
    """The value of ``acked`` at which a repeated ACK has been answered with the window."""
    _resent_end: int = field(default=-1, init=False)
    """The end of the latest window that was sent again although it may have arrived (0: the OACK)."""
    _is_prompt: bool = field(default=False, init=False)
    """Whether what is being fetched is for _prompt(), so that a marker follows it."""
    _prompt_range: tuple[int, int] = field(default=_NO_PROMPT, init=False)
    """(The last block before those that only timeouts have sent, the last of these). If nothing was lost, and the timer
    was early, the ACKs of all from the one to the other may come one after the other."""
    _proof: Proof | None = field(default=None, init=False)
    """None: the peer has proven itself, or there are no windows."""
    _burst_end: int = field(default=0, init=False)
    """The last block of the burst that is in flight."""
    _start_block: int = field(default=0, init=False)
    """``acked`` when the session began."""
    _resent: int = field(default=0, init=False)
    """Blocks that the timer has sent again, of a transfer without windows."""
    _paused_at: int = field(default=-1, init=False)
    """The value of ``acked`` at which the timer was due and the block after it was not sent again."""

    def __attrs_post_init__(self) -> None:
        self._start(self.watchdog, self._began)
        self.flight.windowsize = self.agreed.windowsize
        if isinstance(self.resumed, Position):
            self._continue(self.resumed)
            return
        windowsize = self.agreed.windowsize
        # Without windows no ACK is answered with more than one block, so there is nothing to prove.
        if windowsize > 1 and not self.own_port:
            self._proof = Proof(windowsize, self.agreed.blksize + 4, RATIO * self.request_bytes, self.randbelow)
        if self.size is not None:
            self._set_size(self.size)
        block = self.flight.acked = self.flight.sent = self._start_block = self.resumed or 0
        if self.resumed is not None and windowsize > 1 and self._last_block >= 0:
            # The process before may have sent as much. If one of these blocks got lost, its client acknowledges those
            # before that, again and again, and answers none of them when they come from here.
            self.flight.sent = min(block + windowsize + BEYOND_WINDOW, self._last_block)
        if self.resumed is None and self.agreed.acknowledged:
            self._send_oack()
            self.flight.deadline = self.flight.sent_at + self.flight.wait
            self._enter(State.NEGOTIATING)
        else:
            self._enter(
                self._close(Outcome.COMPLETE) if 0 < self._last_block <= block else self._fetch_next(self.flight.wait)
            )

    @property
    def bytes_transferred(self) -> int:
        """Bytes of the file that the peer has acknowledged."""
        length = self.acked * self.agreed.blksize
        return length if self.size is None else min(length, self.size)

    @property
    def acked(self) -> int:
        """The last block that the peer has acknowledged, an absolute number."""
        flight = self.flight
        return flight.acked if flight.limit == CLOSED else flight.sent - flight.windowsize

    @property
    def sent(self) -> int:
        """The highest block that has been sent, an absolute number."""
        return self.flight.sent

    @property
    def proven(self) -> bool:
        """Whether whole windows are sent: the peer has shown that it receives them, or there are no windows."""
        return self._proof is None

    @property
    def steady(self) -> bool:
        """Whether an ACK for everything in flight means nothing but the next window, so the fast path may answer it.

        A whole window is in flight that was sent once, and the wait for its ACK is the usual one; so the wait after the
        next window is the same, and no retransmission has to be remembered.
        """
        flight, timer = self.flight, self._timer
        return (
            self.state is State.AWAITING_ACK
            and flight.sent >= self._sent_once_from
            and flight.wait == timer.usual_wait
            and flight.derivable
        )

    @property
    def ignored_round_trips(self) -> tuple[float, float]:
        """Bounds in seconds, both included: round trips between them teach neither the watchdog nor the timer."""
        least, most = self._timer.bounds
        # A shorter one than ever before changes what comes too soon to be an answer. That matters with windows only.
        return (max(least, self._timer.shortest_round_trip) if self.flight.windowsize > 1 else least), most

    # Transitions

    @goes(STAY, State.FETCHING, State.AWAITING_ACK)
    def _accepted(self, number: int, now: float) -> State:
        """ACK 0: the options are agreed, send the first window if it is cached, else fetch it. Any other number is
        ignored."""
        self.flight.heard_at = now
        if number:
            return self.state
        # After two OACKs the ACK may answer either, so it measures no round trip (Karn's rule, RFC 6298 section 3).
        wait = self._timer.progressed(now - self.flight.sent_at if self._sent_once_from == 0 else None)
        if self._proof is None:
            return self._send_next(wait, now)
        self._proof.oack_acknowledged()
        return self._fetch_next(wait)

    @goes(State.CLOSED)
    def _declined(self, argument: tuple[int, str], now: float) -> State:
        """The peer doesn't go on after the OACK: with tsize in it, that was a size probe."""
        return self._stopped(*argument)

    @goes(STAY, State.FETCHING, State.CLOSED)
    def _acked(self, number: int, now: float) -> State:
        """Progress: send what follows the acknowledged block if it is cached, else fetch it, or done after the last
        one. A repeated ACK makes a window (never a single block) be sent again, once. Everything else is ignored."""
        self.flight.heard_at = now
        block = advance(self.flight.acked, number, self.flight.sent - self.flight.acked)
        if block is None:
            return self.state
        if block == self.flight.acked:
            return self._ack_repeated(now)
        # RFC 7440 section 4: an ACK inside the window requests what follows it. But EDK2 answers old blocks, too: when
        # it gets one of those that were sent twice, it acknowledges the last one that it has. Then what follows is on
        # its way, and only the window's new end is missing; all of it sent again would be answered in the same way, for
        # ever. If a block did get lost, EDK2 repeats this ACK. Others don't: atftp sends it once, and then nothing. So
        # a round trip later it is taken as the RFC has it.
        echo = self._repeats_acks and block < self._sent_once_from
        wait = self._progress(block, now)
        if block == self._last_block:
            return self._close(Outcome.COMPLETE)
        if block == self.flight.sent and not echo:
            return self._send_next(wait, now)
        # The same happens if the timer was early: the ACK of the window comes first, and then that of the new block.
        first, last = self._prompt_range
        if not echo and not (first <= block <= last and now - self.flight.sent_at < CLIENT_TIMEOUT):
            self._prompt_range = _NO_PROMPT
            return self._fetch(block + 1, wait)
        wait = min(wait, self._timer.grace)
        if self.flight.sent == self._last_block or self.flight.sent >= block + self.agreed.windowsize:
            self.flight.deadline = now + wait
            return self.state
        return self._fetch(self.flight.sent + 1, wait)

    @goes(STAY, State.CLOSED)
    def _acked_meanwhile(self, number: int, now: float) -> State:
        """A late answer to what is about to be sent again: progress, or done after the last block."""
        self.flight.heard_at = now
        if self._proof is not None:
            self._proof.burst_failed()
        block = advance(self.flight.acked, number, self.flight.sent - self.flight.acked)
        if block is None or block == self.flight.acked:
            return self.state
        # The fetch can't be taken back. _fetched() sees that `acked` has moved, and wants what follows it instead.
        self.flight.wait = self._progress(block, now)
        return self._close(Outcome.COMPLETE) if block == self._last_block else self.state

    @goes(STAY, State.AWAITING_ACK, State.PROVING, State.CLOSED)
    def _fetched(self, length: int, now: float) -> State:
        """Send the window or burst; fetch again when the peer has moved on meanwhile; fail when the file has shrunk."""
        blocks = self.wants
        assert blocks is not None
        if length > self.wanted_bytes:
            raise IllegalInput(f"{length} bytes for {blocks}, {self.wanted_bytes} were wanted")
        if length < self.wanted_bytes:
            blksize = self.agreed.blksize
            size = (blocks.first - 1) * blksize + length
            # A short read means that the file has shrunk, unless its size was not known. Then the read gives the size,
            # which can't be less than what was sent.
            if self.size is not None or size < self.flight.sent * blksize:
                return self._fail(TransferError("file changed while being sent"))
            self._set_size(size)
            blocks = Blocks(blocks.first, length // blksize + 1)
        if self.flight.acked != self._acked_before_fetch:
            return self._fetch(self.flight.acked + 1, self.flight.wait)
        repeated = min(self.flight.sent, blocks.last) - blocks.first + 1
        if repeated > 0:
            self.retransmitted += repeated
        # Before `sent` moves: only what lies beyond it leaves for the first time.
        self._sent_once_from = self.flight.sent + 1
        if blocks.last > self.flight.sent:
            self.flight.sent = blocks.last
        self.flight.sent_at = now
        self.out.append(blocks)
        self.wants = None
        self.flight.deadline = now + self.flight.wait
        is_prompt, self._is_prompt = self._is_prompt, False
        if self._proof is None:
            if is_prompt and blocks.last != self._last_block:
                self._send_marker(blocks.last)
            return State.AWAITING_ACK
        self._burst_end = blocks.last
        self._proof.sent(blocks.count, length)
        # At the end of the file, and after a window, the peer sends an ACK anyway; a retransmitted window need not end
        # at one.
        if repeated > 0 or (blocks.count < self.agreed.windowsize and blocks.last != self._last_block):
            self._send_marker(blocks.last)
        return State.PROVING

    @goes(STAY, State.FETCHING, State.CLOSED)
    def _send_again(self, argument: None, now: float) -> State:
        """With windows: send one new block and a marker, at later timeouts everything that is not acknowledged with one
        more; or give up. Without windows: send the block again, three times for each ACK that has come, on balance, and
        four times more in all; then wait."""
        if self._is_early(now):
            return self.state
        wait = self._timer.again()
        if wait is None:
            return self._give_up()
        if self.agreed.windowsize == 1 and not self._may_resend(now):
            self._paused_at = self.flight.acked
            # The next ACK is triggered by the client's timer, so it does not measure a round trip.
            self._sent_once_from = self.flight.sent + 1
            self.flight.deadline = now + wait
            return self.state
        self._resent_at = -1
        self._resent_end = self.flight.sent
        return self._fetch(self.flight.acked + 1, wait) if self.agreed.windowsize == 1 else self._prompt(wait)

    @goes(STAY, State.FETCHING)
    def _repeat_first(self, argument: None, now: float) -> State:
        """DATA 1 without an OACK has not arrived: send it again, the deadline stays. Later copies are ignored."""
        if self.flight.acked or self.agreed.acknowledged:
            return self.state
        assert self.flight.deadline is not None
        return self._fetch(1, self.flight.deadline - now)

    @goes(STAY, State.CLOSED)
    def _refused(self, argument: tuple[int, str], now: float) -> State:
        """The peer ends the transfer. ERROR 5 is ignored once the peer has acknowledged something."""
        # RFC 1350 section 4: "unknown transfer ID" answers a packet from an unknown port and ends no transfer. A peer
        # that has acknowledged something knows our port, so the ERROR is about another transfer.
        if argument[0] == ErrorCode.UNKNOWN_TID and self._peer_has_acked():
            return self.state
        return self._stopped(*argument)

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
        """End without an ERROR: the peer's port belongs to another transfer now."""
        return self._replace()

    # Shared by transitions

    def _set_size(self, size: int) -> None:
        self.size = size
        # The last block is the one that is not full: after an exact multiple of blksize it is empty.
        self._last_block = size // self.agreed.blksize + 1

    def _fetch_next(self, wait: float) -> State:
        """Publish the next window or burst in ``wants``."""
        if self._proof is not None:
            self._proof.draw()
        return self._fetch(self.flight.acked + 1, wait)

    def _prompt(self, wait: float) -> State:
        """Publish in ``wants`` what makes a client with windows acknowledge, after a timeout, the last block it has.

        Mostly an ACK was lost. Then the client has the whole window, and would answer a copy of it once at most (atftp)
        or never (U-Boot), and send its ACK again after some seconds. A new block moves it on, and the marker behind
        that has it send another ACK. If it lacks a block of the window, it acknowledges the one before that instead,
        but only once: so the whole window is sent again at the next timeout.
        """
        flight, attempt = self.flight, self._timer.attempt
        last = min(flight.sent + 1, flight.acked + self.agreed.windowsize + BEYOND_WINDOW)
        if self._last_block >= 0:
            last = min(last, self._last_block)
        self._prompt_range = flight.sent if attempt == 2 else self._prompt_range[0], last
        # What was sent twice was lost before: then it is more likely that blocks are missing than that an ACK is.
        is_first = attempt == 2 and self._sent_once_from <= flight.acked + 1
        return self._fetch(last if is_first and last > flight.sent else flight.acked + 1, wait, last)

    def _fetch(self, first: int, wait: float, last: int = 0) -> State:
        """Publish in ``wants`` the blocks from *first* to the end of the window or burst, or to *last* for a prompt."""
        blksize = self.agreed.blksize
        self._is_prompt = last > 0
        if not last:
            last = self.flight.acked + (self.agreed.windowsize if self._proof is None else self._proof.burst)
        if self.size is not None and last >= self._last_block:
            last = self._last_block
            self.wanted_bytes = self.size - (first - 1) * blksize
        else:
            self.wanted_bytes = (last - first + 1) * blksize
        self.wants = Blocks(first, last - first + 1)
        self.flight.deadline = None
        self._acked_before_fetch = self.flight.acked
        self.flight.wait = wait
        return State.FETCHING

    def _send_next(self, wait: float, now: float) -> State:
        """Everything in flight is acknowledged: send the next window, at once if it is cached.

        Then it equals _fetch() and _fetched() with all that was wanted. The fast path does the same for whole windows.
        """
        flight = self.flight
        first = flight.sent + 1
        last = flight.sent + flight.windowsize
        if self._last_block >= 0:
            last = min(last, self._last_block)
        if last > self.cached_through:
            return self._fetch(first, wait)
        self._sent_once_from = first
        flight.sent = last
        flight.sent_at = now
        flight.wait = wait
        flight.deadline = now + wait
        self.out.append(Blocks(first, last - first + 1))
        return State.AWAITING_ACK

    def _progress(self, block: int, now: float) -> float:
        """Note that the peer has everything up to *block*, and return the wait after the next sending."""
        self.flight.acked = block
        # The ACK of a block that was sent twice may answer either sending: Karn's rule again.
        return self._timer.progressed(now - self.flight.sent_at if block >= self._sent_once_from else None)

    def _ack_repeated(self, now: float) -> State:
        """Take a repetition of the latest ACK.

        With single blocks it is never answered (Sorcerer's Apprentice, RFC 1123 section 4.2.3.1). With windows it means
        that the first block got lost, but not always:

        * EDK2 repeats it for each block behind the gap. So it is answered once, and then it is the timer's turn.
        * A network may duplicate it. So what comes sooner than an answer can is none.
        * EDK2 repeats it for each old block, too. A window that was sent twice is echoed by as many of these, and a
          window that is sent again for an echo has an echo itself: the Sorcerer's Apprentice once more. So what repeats
          the end of such a window is not answered.

        What the client's timer repeats is always answered: atftp waits for that only, and our waits have become long
        where no round trip could be measured.
        """
        if self.agreed.windowsize == 1:
            if self._paused_at != self.flight.acked:
                return self.state
            # The timer has stopped, so it is the client's repeated ACK that has the block sent again.
            self._paused_at = -1
            assert self.flight.deadline is not None
            return self._fetch(self.flight.acked + 1, self.flight.deadline - now)
        self._repeats_acks = True
        waited = now - self.flight.sent_at
        echo = waited < CLIENT_TIMEOUT and self.flight.acked in (self._resent_at, self._resent_end)
        if echo or waited < self._timer.soonest_answer:
            return self.state
        self._resent_at = self.flight.acked
        self._resent_end = self.flight.sent
        return self._fetch(self.flight.acked + 1, self.flight.wait)

    def _peer_has_acked(self) -> bool:
        """Return whether the peer has acknowledged something."""
        return self.flight.acked > 0 or bool(self.agreed.acknowledged)

    def _give_up(self) -> State:
        # Many clients close their port with the last block in hand, and a lost last ACK is never repeated. But a
        # peer that has never acknowledged anything may have received nothing.
        if self.flight.sent == self._last_block and self._peer_has_acked():
            return self._close(Outcome.UNCONFIRMED, f"no ACK after block {self.flight.acked} of {self.flight.sent}")
        return self._close(Outcome.TIMED_OUT, f"no ACK after block {self.flight.acked}")

    def _stopped(self, code: int, text: str) -> State:
        """End because of the peer's ERROR, which is never answered."""
        detail = f"error {code}: {text!r}"
        ended = code in (ErrorCode.NOT_DEFINED, ErrorCode.OPTION_NEGOTIATION)
        if ended and self.flight.acked <= 1 and self.agreed.tsize is not None:
            return self._close(Outcome.SIZE_PROBE, detail)
        if code == ErrorCode.NOT_DEFINED and self.flight.sent == self._last_block:
            # GRUB and PXELINUX close a file that they have read to its end with ERROR 0.
            return self._close(Outcome.UNCONFIRMED, detail)
        return self._close(Outcome.STOPPED_BY_PEER, detail)

    def _close(self, outcome: Outcome, detail: str = "") -> State:
        self.wants = None
        return super()._close(outcome, detail)


TABLE: dict[State, dict[Input, Transition]] = {
    State.NEGOTIATING: {
        Input.ACK: ReadSession._accepted,
        Input.FETCHED: illegal,
        Input.FAILED: illegal,
        Input.PEER_ERROR: ReadSession._declined,
        Input.REQUESTED: ReadSession._resend_oack,
        Input.TICK: ReadSession._oack_timed_out,
        Input.CANCEL: ReadSession._cancelled,
        Input.REPLACED: ReadSession._replaced,
    },
    State.FETCHING: {
        Input.ACK: ReadSession._acked_meanwhile,
        Input.FETCHED: ReadSession._fetched,
        Input.FAILED: ReadSession._failed,
        Input.PEER_ERROR: ReadSession._refused,
        Input.REQUESTED: ignore,
        Input.TICK: ignore,
        Input.CANCEL: ReadSession._cancelled,
        Input.REPLACED: ReadSession._replaced,
    },
    State.AWAITING_ACK: {
        Input.ACK: ReadSession._acked,
        Input.FETCHED: illegal,
        Input.FAILED: illegal,
        Input.PEER_ERROR: ReadSession._refused,
        Input.REQUESTED: ReadSession._repeat_first,
        Input.TICK: ReadSession._send_again,
        Input.CANCEL: ReadSession._cancelled,
        Input.REPLACED: ReadSession._replaced,
    },
    State.PROVING: {
        Input.ACK: ReadSession._burst_acked,
        Input.FETCHED: illegal,
        Input.FAILED: illegal,
        Input.PEER_ERROR: ReadSession._refused,
        Input.REQUESTED: ignore,
        Input.TICK: ReadSession._resend_burst,
        Input.CANCEL: ReadSession._cancelled,
        Input.REPLACED: ReadSession._replaced,
    },
    State.CLOSED: dict.fromkeys(Input, ignore),
}

ReadSession.use_table(TABLE, State, Input)
