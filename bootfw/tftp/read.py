"""The session that sends a file (RRQ): RFC 1350, 2347, 7440, and RFC 1123 section 4.2.3.

It is told what happened by ``handle()`` and publishes what is to be done. It never raises on what a peer does.
"""

from collections.abc import Callable
from secrets import randbelow

from attrs import define, field

from bootfw.errors import TransferError
from bootfw.table import STAY, IllegalInput, Transition, goes, ignore, illegal
from bootfw.tftp.blocks import Blocks, advance
from bootfw.tftp.position import Continuing, Position
from bootfw.tftp.proof import RATIO, Proof
from bootfw.tftp.readstates import Input as Input
from bootfw.tftp.readstates import State as State
from bootfw.tftp.retransmit import Watchdog
from bootfw.values import Agreed, Outcome
from bootfw.wire.tftp import ErrorCode


@define(eq=False)
class ReadSession(Continuing):
    """Sends a file. ``deadline`` is set exactly while NEGOTIATING, AWAITING_ACK or PROVING, ``outcome`` exactly when
    CLOSED.

    ``out`` holds datagrams and Blocks. Blocks stand for what was fetched last; ``blocks.frame`` makes datagrams of it.
    """

    agreed: Agreed
    size: int | None
    """Octets of the file; None: not known, then a short read ends it and sets this."""
    watchdog: Watchdog
    last_heard: float = field(alias="now")
    """When the peer's latest ACK came; at first, when the session began."""
    resumed: int | Position | None = None
    """Where an earlier session has left the transfer, or the block that the peer has just acknowledged to one that left
    no word (0: the OACK); None: there was none."""
    request_bytes: int = 0
    """Length of the request's datagram; what is sent before the peer has proven itself is in proportion to it."""
    own_port: bool = False
    """The transfer has a port that can't be guessed, so an ACK that comes there proves that our packets arrive."""
    oack_once: bool = False
    """A second OACK may end the client: the timer sends it once more only, and late. See Treatment."""
    randbelow: Callable[[int], int] = randbelow
    """Random numbers that a peer can't guess."""

    wants: Blocks | None = field(default=None, init=False)
    """What the adapter has to read now; set exactly while FETCHING. After FETCHED it may want again."""
    wants_octets: int = field(default=0, init=False)
    """How much that is, from ``(wants.first - 1) * blksize`` on. Not more, though a file may have grown; may be 0."""
    acked: int = field(default=0, init=False)
    """The last block that the peer has acknowledged, an absolute number."""

    _final: int = field(default=-1, init=False)
    """The last block of the file; -1 while that is not known."""
    _base: int = field(default=0, init=False)
    """``acked`` when the fetch began."""
    _sent: int = field(default=0, init=False)
    """The highest block that has been sent."""
    _once: int = field(default=0, init=False)
    """From this block on, what is in flight was sent once only, and that at ``_sent_at`` (0: the OACK)."""
    _repeats: bool = field(default=False, init=False)
    """This peer has repeated an ACK; perhaps it is one that answers each block it does not expect, as EDK2 does."""
    _nacked: int = field(default=-1, init=False)
    """The value of ``acked`` at which a repeated ACK has been answered with the window."""
    _doubtful: int = field(default=-1, init=False)
    """The end of the latest window that was sent again although it may have arrived (0: the OACK)."""
    _proof: Proof | None = field(default=None, init=False)
    """None: the peer has proven itself, or there are no windows."""
    _end: int = field(default=0, init=False)
    """The last block of the burst that is in flight."""
    _start_block: int = field(default=0, init=False)
    """``acked`` when the session began."""
    _resent: int = field(default=0, init=False)
    """Blocks that the timer has sent again, of a transfer without windows."""
    _quiet: int = field(default=-1, init=False)
    """The value of ``acked`` at which the timer was due and the block after it was not sent again."""

    def __attrs_post_init__(self) -> None:
        self._start(self.watchdog, self.last_heard)
        if isinstance(self.resumed, Position):
            self._continue(self.resumed)
            return
        windowsize = self.agreed.windowsize
        if windowsize > 1 and not self.own_port:
            self._proof = Proof(windowsize, self.agreed.blksize + 4, RATIO * self.request_bytes, self.randbelow)
        if self.size is not None:
            self._learn(self.size)
        block = self.acked = self._sent = self._start_block = self.resumed or 0
        if self.resumed is None and self.agreed.acknowledged:
            self._offer()
            self.deadline = self._sent_at + self._wait
            self._enter(State.NEGOTIATING)
        else:
            self._enter(self._close(Outcome.COMPLETE) if 0 < self._final <= block else self._fetch_next(self._wait))

    @property
    def octets(self) -> int:
        """Octets of the file that the peer has acknowledged."""
        octets = self.acked * self.agreed.blksize
        return octets if self.size is None else min(octets, self.size)

    # Transitions

    @goes(STAY, State.FETCHING)
    def _accepted(self, number: int, now: float) -> State:
        """ACK 0: the options are agreed, fetch the first window. Any other number is ignored."""
        self.last_heard = now
        if number:
            return self.state
        wait = self._patience.progressed(now - self._sent_at if self._once == 0 else None)
        if self._proof is not None:
            self._proof.heard()
        return self._fetch_next(wait)

    @goes(State.CLOSED)
    def _declined(self, argument: tuple[int, str], now: float) -> State:
        """The peer doesn't go on after the OACK: with tsize in it, that was a size probe."""
        return self._stopped(*argument)

    @goes(STAY, State.FETCHING, State.CLOSED)
    def _acked(self, number: int, now: float) -> State:
        """Progress: fetch what follows the acknowledged block, or done after the last one. A repeated ACK makes a
        window (never a single block) be sent again, once. Everything else is ignored."""
        self.last_heard = now
        block = advance(self.acked, number, self._sent - self.acked)
        if block is None:
            return self.state
        if block == self.acked:
            return self._missed(now)
        # RFC 7440 section 4: an ACK inside the window asks for what follows it. But EDK2 answers old blocks, too: when
        # it gets one of those that were sent twice, it says how far it is. Then what follows is on its way, and only
        # the window's new end is missing; all of it sent again would be answered in the same way, for ever. If a block
        # did get lost, EDK2 repeats this ACK. Others don't: atftp says so once, and then is silent. So a round trip
        # later it is taken for what it says.
        echo = self._repeats and block < self._once
        wait = self._progress(block, now)
        if block == self._final:
            return self._close(Outcome.COMPLETE)
        if not echo:
            return self._fetch(block + 1, wait)
        wait = min(wait, self._patience.grace)
        if self._sent == self._final:
            self.deadline = now + wait
            return self.state
        return self._fetch(self._sent + 1, wait)

    @goes(STAY, State.CLOSED)
    def _acked_meanwhile(self, number: int, now: float) -> State:
        """A late answer to what is about to be sent again: progress, or done after the last block."""
        self.last_heard = now
        if self._proof is not None:
            self._proof.heard()
            self._proof.wrong()
        block = advance(self.acked, number, self._sent - self.acked)
        if block is None or block == self.acked:
            return self.state
        self._wait = self._progress(block, now)
        return self._close(Outcome.COMPLETE) if block == self._final else self.state

    @goes(STAY, State.AWAITING_ACK, State.PROVING, State.CLOSED)
    def _fetched(self, octets: int, now: float) -> State:
        """Send the window or burst; fetch anew when the peer has moved on meanwhile; fail when the file has shrunk."""
        blocks = self.wants
        assert blocks is not None
        if octets > self.wants_octets:
            raise IllegalInput(f"{octets} octets for {blocks}, {self.wants_octets} were wanted")
        if octets < self.wants_octets:
            blksize = self.agreed.blksize
            size = (blocks.first - 1) * blksize + octets
            if self.size is not None or size < self._sent * blksize:
                return self._fail(TransferError("file changed while being sent"))
            self._learn(size)
            blocks = Blocks(blocks.first, octets // blksize + 1)
        if self.acked != self._base:
            return self._fetch(self.acked + 1, self._wait)
        repeated = min(self._sent, blocks.last) - blocks.first + 1
        if repeated > 0:
            self.retransmitted += repeated
        self._once = self._sent + 1
        if blocks.last > self._sent:
            self._sent = blocks.last
        self._sent_at = now
        self.out.append(blocks)
        self.wants = None
        self.deadline = now + self._wait
        if self._proof is None:
            return State.AWAITING_ACK
        self._end = blocks.last
        self._proof.sent(blocks.count, octets)
        # A peer sends an ACK by itself at the end, and after a window, which a repeated one need not be for it.
        if repeated > 0 or (blocks.count < self.agreed.windowsize and blocks.last != self._final):
            self._mark()
        return State.PROVING

    @goes(STAY, State.FETCHING, State.CLOSED)
    def _send_again(self, argument: None, now: float) -> State:
        """Send the window again from the first block that is not acknowledged, or give up. Without windows a block is
        sent three times for each ACK that has come, on balance, and four times more in all; then wait."""
        if self._early(now):
            return self.state
        wait = self._patience.again()
        if wait is None:
            return self._give_up()
        if self.agreed.windowsize == 1 and not self._may_resend(now):
            self._quiet = self.acked
            self._once = self._sent + 1  # What comes now comes by the client's timer, and is no round trip.
            self.deadline = now + wait
            return self.state
        self._nacked = -1
        self._doubtful = self._sent
        return self._fetch(self.acked + 1, wait)

    @goes(STAY, State.FETCHING)
    def _repeat_first(self, argument: None, now: float) -> State:
        """DATA 1 without an OACK has not arrived: send it again, the deadline stays. Later copies are ignored."""
        if self.acked or self.agreed.acknowledged:
            return self.state
        assert self.deadline is not None
        return self._fetch(1, self.deadline - now)

    @goes(STAY, State.CLOSED)
    def _refused(self, argument: tuple[int, str], now: float) -> State:
        """The peer ends the transfer. ERROR 5 is ignored once the peer has acknowledged something."""
        # RFC 1350 section 4: "unknown transfer ID" goes to a stranger and leaves the transfer alone. A peer that
        # has acknowledged something knows us, so it is not about this transfer. Before that, the stranger is us.
        if argument[0] == ErrorCode.UNKNOWN_TID and self._heard():
            return self.state
        return self._stopped(*argument)

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

    def _learn(self, size: int) -> None:
        self.size = size
        # The last block is the one that is not full: after an exact multiple of blksize it is empty.
        self._final = size // self.agreed.blksize + 1

    def _fetch_next(self, wait: float) -> State:
        """Want the next window or burst."""
        if self._proof is not None:
            self._proof.draw()
        return self._fetch(self.acked + 1, wait)

    def _fetch(self, first: int, wait: float) -> State:
        """Want everything from block *first* to the end of the window or burst."""
        blksize = self.agreed.blksize
        last = self.acked + (self.agreed.windowsize if self._proof is None else self._proof.burst)
        if self.size is not None and last >= self._final:
            last = self._final
            self.wants_octets = self.size - (first - 1) * blksize
        else:
            self.wants_octets = (last - first + 1) * blksize
        self.wants = Blocks(first, last - first + 1)
        self.deadline = None
        self._base = self.acked
        self._wait = wait
        return State.FETCHING

    def _progress(self, block: int, now: float) -> float:
        """The peer has everything up to *block*; gives the wait after the next sending."""
        self.acked = block
        return self._patience.progressed(now - self._sent_at if block >= self._once else None)

    def _missed(self, now: float) -> State:
        """The ACK of before has come again.

        With single blocks it is never answered (Sorcerer's Apprentice, RFC 1123 section 4.2.3.1). With windows it means
        that the first block got lost, but not always:

        * EDK2 says so for each block behind the gap. So it is answered once, and then it is the timer's turn.
        * A network may duplicate it. So what comes sooner than an answer can is none.
        * EDK2 says it for each old block, too. A window that was sent twice is echoed by as many of these, and a window
          that is sent again for an echo has an echo itself: the Sorcerer's Apprentice once more. So what repeats the
          end of such a window is not answered.
        """
        if self.agreed.windowsize == 1:
            if self._quiet != self.acked:
                return self.state
            # The timer has stopped, so it is the client's repeated ACK that has the block sent again.
            self._quiet = -1
            assert self.deadline is not None
            return self._fetch(self.acked + 1, self.deadline - now)
        self._repeats = True
        if self.acked in (self._nacked, self._doubtful) or now - self._sent_at < self._patience.soonest:
            return self.state
        self._nacked = self.acked
        self._doubtful = self._sent
        return self._fetch(self.acked + 1, self._wait)

    def _heard(self) -> bool:
        """The peer has acknowledged something."""
        return self.acked > 0 or bool(self.agreed.acknowledged)

    def _give_up(self) -> State:
        # Many clients close their port with the last block in hand, and their last ACK is nobody's to repeat. But a
        # peer that never said a word has perhaps received nothing.
        if self._sent == self._final and self._heard():
            return self._close(Outcome.UNCONFIRMED, f"no ACK after block {self.acked} of {self._sent}")
        return self._close(Outcome.TIMED_OUT, f"no ACK after block {self.acked}")

    def _stopped(self, code: int, text: str) -> State:
        """The peer's ERROR has ended it. It is never answered."""
        detail = f"error {code}: {text!r}"
        ended = code in (ErrorCode.NOT_DEFINED, ErrorCode.OPTION_NEGOTIATION)
        if ended and self.acked <= 1 and self.agreed.tsize is not None:
            return self._close(Outcome.SIZE_PROBE, detail)
        if code == ErrorCode.NOT_DEFINED and self._sent == self._final:
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
        Input.REQUESTED: ReadSession._repeat_offer,
        Input.TICK: ReadSession._offer_again,
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
        Input.ACK: ReadSession._shown,
        Input.FETCHED: illegal,
        Input.FAILED: illegal,
        Input.PEER_ERROR: ReadSession._refused,
        Input.REQUESTED: ignore,
        Input.TICK: ReadSession._inquire,
        Input.CANCEL: ReadSession._cancelled,
        Input.REPLACED: ReadSession._replaced,
    },
    State.CLOSED: dict.fromkeys(Input, ignore),
}

ReadSession.run_by(TABLE, State, Input)
ReadSession.plain = State.AWAITING_ACK
ReadSession.offered = State.NEGOTIATING
