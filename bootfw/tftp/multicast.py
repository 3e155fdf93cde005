"""The session that sends one file to many clients at once (RFC 2090).

All clients of a group receive every block. One of them, the master client, acknowledges, and an ACK of block n requests
block n + 1: a client requests what it has missed when it is the master. The oldest client is the master until it has
the file, leaves or falls silent; then the next one becomes it, by an OACK.

RFC 2090 does not say what a window is (RFC 7440), nor what follows block 65535. So there are no windows, and a file has
at most MOST_BLOCKS.

iPXE (net/udp/tftp.c) sends nothing when it has every block and is not the master. So those that may have the file are
the last to be made the master, and are given up after one silence.
"""

from array import array
from math import inf
from typing import Any, ClassVar

from attrs import define, field

from bootfw.errors import TransferError
from bootfw.table import STAY, Key, Machine, Table, check, goes, ignore, illegal
from bootfw.tftp.flight import Flight
from bootfw.tftp.proof import SENDINGS, SPARE
from bootfw.tftp.retransmit import CLIENT_TIMEOUT, RetransmitTimer, Watchdog
from bootfw.values import Agreed, Outcome
from bootfw.wire.tftp import ErrorCode, data, error, option_ack

OPTION = "multicast"

MOST_BLOCKS = 65535
"""Clients number what they miss by the 16 bits on the wire; atftp has a bitmap of that size."""

MASTER_SILENCE = 3.0
"""Seconds without an ACK of the master client after which another one becomes it. The others receive nothing meanwhile,
and atftp gives up after 30 s without a datagram."""

MOST_SILENCES = 2
"""How often in a row a client may fall silent as the master; then it has left."""


class State(Key):
    """What the session waits for."""

    IDLE = "idle"
    """It has no client."""
    APPOINTING = "appointing"
    """A client has been made the master by an OACK; its first ACK is awaited."""
    FETCHING = "fetching"
    """The adapter reads block ``wants``, and answers with FETCHED or FAILED."""
    AWAITING_ACK = "awaiting ACK"
    """A block is in flight; the ACK of the master client is awaited."""


class Input(Key):
    """What can happen. The argument of each is a pair: the Member that it is about, and what follows here."""

    JOINED = "joined"
    """None: a client has requested the file."""
    ACK = "ACK"
    """Block number on the wire."""
    FETCHED = "fetched"
    """The content of block ``wants``."""
    FAILED = "failed"
    """A TransferError of the reader."""
    PEER_ERROR = "peer error"
    """(code, text) of the client's ERROR."""
    REQUESTED = "requested"
    """None: a copy of the client's request has come."""
    TICK = "tick"
    """None: ``deadline`` is reached; too early does no harm."""
    CANCEL = "cancel"
    """A sentence for the client: our side ends its transfer."""
    REPLACED = "replaced"
    """None: the client has begun another transfer from the same port, or goes on without us."""


@define(eq=False)
class Member:
    """One client of a MulticastSession. To the transfer that connects it, it is a session like others."""

    Input: ClassVar[Any] = Input

    group: "MulticastSession" = field(repr=False)
    agreed: Agreed
    """With the multicast option among what is acknowledged."""
    watchdog: Watchdog
    last_heard: float = field(alias="now")
    """When its latest ACK came; at first, when it joined."""
    outcome: Outcome | None = field(default=None, init=False)
    """How its transfer ended; None: it has not."""
    detail: str = field(default="", init=False)
    """A sentence for the operator, or ""."""
    acked: int = field(default=0, init=False)
    """The highest block that it has acknowledged."""
    retransmitted: int = field(default=0, init=False)
    """Datagrams that were sent again while it was the master, and OACKs of its own."""
    silences: int = field(default=0, init=False)
    """How often in a row it has fallen silent as the master client."""
    sent_before: int = field(default=0, init=False)
    """How many blocks had been sent to the group when it joined."""
    has_requested: bool = field(default=False, init=False)
    """It has requested a block, as the master."""
    reminded_at: float = field(default=-inf, init=False)
    """When an OACK has last reminded it that it is not the master."""

    @property
    def is_master(self) -> bool:
        """Whether it is the one that acknowledges."""
        return self.group.master is self

    @property
    def deadline(self) -> float | None:
        """That of the group, for the master client; the others have none."""
        return self.group.deadline if self.is_master else None

    @property
    def sent(self) -> int:
        """The block that has been sent last."""
        return self.group.block

    @property
    def bytes_transferred(self) -> int:
        """Bytes of the file that it has acknowledged."""
        return min(self.acked * self.group.blksize, self.group.size)

    def handle(self, event: Key, argument: Any, now: float) -> None:
        """Take one input that is about this client."""
        self.group.handle(event, (self, argument), now)


@define(eq=False)
class MulticastSession(Machine):
    """Sends a file to a group. Pure: it holds no timer, socket or file. Times are in seconds.

    ``out`` has pairs of a Member and the datagram for it; None in place of the Member: it goes to the group.
    """

    table: ClassVar[Table]

    address: tuple[str, int]
    """The address of the group, where its clients receive blocks."""
    size: int
    """Bytes of the file."""
    blksize: int
    state: State = field(default=State.IDLE, init=False)
    members: dict[Member, None] = field(factory=dict, init=False)
    """The clients, the oldest first; one that has fallen silent goes to the end."""
    master: Member | None = field(default=None, init=False)
    """The master client; None exactly while IDLE."""
    ended: list[Member] = field(factory=list, init=False)
    """Clients whose outcome has been set; the adapter removes them."""
    wants: int | None = field(default=None, init=False)
    """The block to be read now; set exactly while FETCHING."""
    block: int = field(default=0, init=False)
    """The block that the master has requested last; 0: it has not acknowledged anything yet."""

    _sent_count: int = field(default=0, init=False)
    """How many blocks have been sent to the group."""
    _last_sending: "array[int]" = field(init=False)
    """For each block: ``_sent_count`` when it was sent last; 0: it was not. The first one is none."""
    _timer: RetransmitTimer = field(init=False)
    """The timer of the master. It and the next three fields begin anew with each master."""
    _heard_at: float = field(default=0.0, init=False)
    """When it was heard last, or became the master."""
    _requested: bytearray = field(factory=bytearray, init=False)
    """1 for each block that it has requested."""
    _resendings_left: int = field(default=0, init=False)
    """How many blocks the timer may send again before the next ACK."""
    _wait: float = field(default=0.0, init=False)
    """How long to wait for the answer to what is sent next."""
    _datagram: bytes = field(default=b"", init=False)
    """The DATA that is in flight."""
    _sent_at: float = field(default=0.0, init=False)
    """When it, or the OACK, was sent for the last time."""
    _was_sent_once: bool = field(default=True, init=False)
    """Whether it was sent only once: then the time until the answer is a round trip (Karn's algorithm)."""
    _resend_at: float = field(default=0.0, init=False)
    """When it is sent again, unless an ACK comes before."""

    def __attrs_post_init__(self) -> None:
        self._last_sending = array("Q", bytes(8 * (self.last_block + 1)))

    @property
    def last_block(self) -> int:
        """The last block of the file, which is shorter than the others."""
        return self.size // self.blksize + 1

    @property
    def deadline(self) -> float | None:
        """When TICK is due; None: no timer runs."""
        if self.state in (State.IDLE, State.FETCHING):
            return None
        if len(self.members) == 1:
            return self._resend_at
        return min(self._resend_at, self._heard_at + MASTER_SILENCE)

    @property
    def wanted(self) -> tuple[int, int]:
        """(offset, length) in the file of block ``wants``."""
        assert self.wants is not None
        offset = (self.wants - 1) * self.blksize
        return offset, min(self.blksize, self.size - offset)

    # Transitions

    @goes(State.APPOINTING)
    def _begin(self, argument: tuple[Member, None], now: float) -> State:
        """The first client is the master: send it an OACK that says so."""
        self._add(argument[0])
        return self._appoint(now)

    @goes(STAY)
    def _join(self, argument: tuple[Member, None], now: float) -> State:
        """One more client: send it an OACK; it receives from now on, and requests the rest when it is the master."""
        self._add(argument[0])
        self._send_oack(argument[0])
        return self.state

    @goes(STAY, State.FETCHING, State.APPOINTING, State.IDLE)
    def _appointed(self, argument: tuple[Member, int], now: float) -> State:
        """Of the master: fetch what follows the block. Of any client: the last block means that it has the file.
        Another ACK of another client is answered with an OACK that says that it is not the master, once a second."""
        member, number = argument
        if number > self.last_block:
            return self.state
        if number == self.last_block or member is not self.master:
            return self._heard(member, number, now)
        self._note_ack(number, now)
        self._wait = self._timer.progressed(now - self._sent_at if self._was_sent_once else None)
        return self._fetch(number + 1)

    @goes(STAY, State.FETCHING, State.APPOINTING, State.IDLE)
    def _acked(self, argument: tuple[Member, int], now: float) -> State:
        """Of the master: fetch what follows the block, unless that was sent within the last second. Otherwise as while
        APPOINTING."""
        member, number = argument
        if number > self.last_block:
            return self.state
        if number == self.last_block or member is not self.master:
            return self._heard(member, number, now)
        # A client acknowledges each copy of a block, and the network may repeat an ACK. If each of these had an answer,
        # there would be two blocks for each ACK from then on (RFC 1123 section 4.2.3.1).
        if self._requested[number + 1] and now - self._sent_at < CLIENT_TIMEOUT:
            return self.state
        answered = self._was_sent_once and number >= self.block
        self._note_ack(number, now)
        if number + 1 == self.block:
            self._repeat_block(now)
            return self.state
        self._wait = self._timer.progressed(now - self._sent_at if answered else None)
        return self._fetch(number + 1)

    @goes(STAY, State.APPOINTING, State.IDLE)
    def _acked_meanwhile(self, argument: tuple[Member, int], now: float) -> State:
        """Of the master: ignored, the next block is on its way. Otherwise as while APPOINTING."""
        member, number = argument
        if number > self.last_block or (member is self.master and number < self.last_block):
            return self.state
        return self._heard(member, number, now)

    @goes(State.AWAITING_ACK, State.IDLE)
    def _fetched(self, argument: tuple[Any, bytes], now: float) -> State:
        """Send the block to the group; fail if the file has shrunk."""
        assert self.wants is not None
        content = argument[1]
        if len(content) != self.wanted[1]:
            return self._end_all(TransferError("file changed while being sent"))
        self.wants = None
        self._datagram = data(self.block, content)
        self.out.append((None, self._datagram))
        self._note_sent()
        self._sent_at, self._was_sent_once = now, True
        self._resend_at = now + self._wait
        return State.AWAITING_ACK

    @goes(State.IDLE)
    def _failed(self, argument: tuple[Any, TransferError], now: float) -> State:
        """Send an ERROR to each client and end."""
        return self._end_all(argument[1])

    @goes(STAY, State.APPOINTING, State.IDLE)
    def _timed_out(self, argument: Any, now: float) -> State:
        """Send the OACK or block again; or make the next client the master, if there is one; or time out."""
        assert self.master is not None
        has_others = len(self.members) > 1
        if has_others and now >= self._heard_at + MASTER_SILENCE:
            return self._appoint_next(now)
        if now < self._resend_at:
            return self.state
        wait = self._timer.again()
        if wait is None:
            return self._appoint_next(now) if has_others else self._give_up(now)
        self._resend_at = now + wait
        if self.state is State.APPOINTING:
            # A client that has lost them all repeats its request.
            if self._timer.attempt <= SENDINGS:
                self._repeat_oack(self.master)
        elif self._resendings_left > 0:
            self._resendings_left -= 1
            self._repeat_block(now)
        return self.state

    @goes(STAY, State.APPOINTING, State.IDLE)
    def _stopped(self, argument: tuple[Member, tuple[int, str]], now: float) -> State:
        """The client leaves. If it was the master, the next one is it."""
        member, (code, text) = argument
        detail = f"error {code}: {text!r}"
        ended = code in (ErrorCode.NOT_DEFINED, ErrorCode.OPTION_NEGOTIATION)
        if ended and member is self.master and member.acked == 0 and member.agreed.tsize is not None:
            return self._leave(member, Outcome.SIZE_PROBE, detail, now)
        return self._leave(member, Outcome.STOPPED_BY_PEER, detail, now)

    @goes(STAY)
    def _requested_again(self, argument: tuple[Member, None], now: float) -> State:
        """Send the client its OACK again."""
        self._repeat_oack(argument[0])
        return self.state

    @goes(STAY, State.APPOINTING, State.IDLE)
    def _cancelled(self, argument: tuple[Member, str], now: float) -> State:
        """Send an ERROR to the client, and leave it out. If it was the master, the next one is it."""
        member, reason = argument
        self.out.append((member, error(ErrorCode.NOT_DEFINED, reason)))
        return self._leave(member, Outcome.CANCELLED, reason, now)

    @goes(STAY, State.APPOINTING, State.IDLE)
    def _replaced(self, argument: tuple[Member, None], now: float) -> State:
        """Leave the client out, without an ERROR. If it was the master, the next one is it."""
        detail = "the client began another transfer from the same port"
        return self._leave(argument[0], Outcome.CANCELLED, detail, now)

    # Shared by transitions

    def _appoint(self, now: float) -> State:
        """Make the oldest client that certainly lacks a block the master, or else the oldest one. Without a client,
        nothing is left to do."""
        self.wants = None
        self.block = 0
        oldest_sending = self._oldest_sending() if len(self.members) > 1 else 0
        lacking = (member for member in self.members if not self._may_be_complete(member, oldest_sending))
        self.master = master = next(lacking, None) or next(iter(self.members), None)
        if master is None:
            return State.IDLE
        self._timer = RetransmitTimer(master.watchdog, Flight(now, now))
        self._heard_at = self._sent_at = now
        self._requested = bytearray(self.last_block + 1)
        self._resendings_left = SPARE
        self._was_sent_once = True
        self._resend_at = now + self._timer.first()
        self._send_oack(master)
        return State.APPOINTING

    def _appoint_next(self, now: float) -> State:
        """Make the next client the master; the silent one goes to the end, or has left."""
        silent = self.master
        assert silent is not None
        silent.silences += 1
        if silent.silences >= MOST_SILENCES or self._may_be_complete(silent, self._oldest_sending()):
            return self._give_up(now)
        del self.members[silent]
        self.members[silent] = None
        state = self._appoint(now)
        if silent is not self.master:
            # It may only be slow: with the old OACK it would go on to acknowledge.
            self._send_oack(silent)
        return state

    def _give_up(self, now: float) -> State:
        """End the transfer of the master, which has not answered."""
        master = self.master
        assert master is not None
        if self.block == self.last_block and master.acked > 0:
            # Many clients close their port with the last block in hand, and a lost last ACK is never repeated.
            detail = f"no ACK after block {master.acked} of {self.last_block}"
            return self._leave(master, Outcome.UNCONFIRMED, detail, now)
        if self._may_be_complete(master, self._oldest_sending()):
            detail = "each block was sent to the group since it joined; it has requested none"
            return self._leave(master, Outcome.UNCONFIRMED, detail, now)
        return self._leave(master, Outcome.TIMED_OUT, f"no ACK after block {master.acked}", now)

    def _add(self, member: Member) -> None:
        member.sent_before = self._sent_count
        self.members[member] = None

    def _note_sent(self) -> None:
        self._sent_count += 1
        self._last_sending[self.block] = self._sent_count

    def _oldest_sending(self) -> int:
        """Return ``_last_sending`` of the block that was sent the longest ago; 0: one was not sent yet."""
        return min(self._last_sending[1:])

    def _may_be_complete(self, member: Member, oldest_sending: int) -> bool:
        """Return whether a client may have every block: each was sent since it joined, and it has requested none.

        :param oldest_sending: see _oldest_sending().
        """
        return not member.has_requested and member.sent_before < oldest_sending

    def _heard(self, member: Member, number: int, now: float) -> State:
        """Take an ACK of the last block, or one of a client that is not the master."""
        member.last_heard = now
        member.acked = max(member.acked, number)
        member.silences = 0
        if number == self.last_block:
            return self._leave(member, Outcome.COMPLETE, "", now)
        # Some clients answer every OACK with ACK 0. An answer to that would have the next one as its answer.
        if number and now - member.reminded_at >= CLIENT_TIMEOUT:
            member.reminded_at = now
            self._send_oack(member)
        return self.state

    def _note_ack(self, number: int, now: float) -> None:
        master = self.master
        assert master is not None
        self._heard_at = master.last_heard = now
        master.acked = max(master.acked, number)
        master.silences = 0
        self._resendings_left += SENDINGS

    def _fetch(self, block: int) -> State:
        self.wants = self.block = block
        self._requested[block] = 1
        assert self.master is not None
        self.master.has_requested = True
        return State.FETCHING

    def _repeat_block(self, now: float) -> None:
        assert self.master is not None
        self.out.append((None, self._datagram))
        self._note_sent()
        self.master.retransmitted += 1
        self._sent_at, self._was_sent_once = now, False

    def _repeat_oack(self, member: Member) -> None:
        self._send_oack(member)
        member.retransmitted += 1
        if member is self.master and self.state is State.APPOINTING:
            self._was_sent_once = False

    def _send_oack(self, member: Member) -> None:
        """Send a client its OACK with ``addr,port,mc`` (RFC 2090); mc is 1 for the master client."""
        host, port = self.address
        value = f"{host},{port},{int(member is self.master)}"
        acknowledged = member.agreed.acknowledged
        self.out.append((member, option_ack((n, value if n.lower() == OPTION else v) for n, v in acknowledged)))

    def _leave(self, member: Member, outcome: Outcome, detail: str, now: float) -> State:
        del self.members[member]
        self._end(member, outcome, detail)
        return self._appoint(now) if member is self.master else self.state

    def _end_all(self, failure: TransferError) -> State:
        for member in self.members:
            self.out.append((member, error(failure.tftp_code, failure.message)))
            self._end(member, Outcome.FAILED, failure.reason)
        self.members.clear()
        self.master = self.wants = None
        return State.IDLE

    def _end(self, member: Member, outcome: Outcome, detail: str) -> None:
        member.outcome, member.detail = outcome, detail
        self.ended.append(member)


TABLE: Table = {
    State.IDLE: {
        Input.JOINED: MulticastSession._begin,
        Input.ACK: ignore,
        Input.FETCHED: illegal,
        Input.FAILED: illegal,
        Input.PEER_ERROR: ignore,
        Input.REQUESTED: ignore,
        Input.TICK: ignore,
        Input.CANCEL: ignore,
        Input.REPLACED: ignore,
    },
    State.APPOINTING: {
        Input.JOINED: MulticastSession._join,
        Input.ACK: MulticastSession._appointed,
        Input.FETCHED: illegal,
        Input.FAILED: illegal,
        Input.PEER_ERROR: MulticastSession._stopped,
        Input.REQUESTED: MulticastSession._requested_again,
        Input.TICK: MulticastSession._timed_out,
        Input.CANCEL: MulticastSession._cancelled,
        Input.REPLACED: MulticastSession._replaced,
    },
    State.FETCHING: {
        Input.JOINED: MulticastSession._join,
        Input.ACK: MulticastSession._acked_meanwhile,
        Input.FETCHED: MulticastSession._fetched,
        Input.FAILED: MulticastSession._failed,
        Input.PEER_ERROR: MulticastSession._stopped,
        Input.REQUESTED: MulticastSession._requested_again,
        Input.TICK: ignore,
        Input.CANCEL: MulticastSession._cancelled,
        Input.REPLACED: MulticastSession._replaced,
    },
    State.AWAITING_ACK: {
        Input.JOINED: MulticastSession._join,
        Input.ACK: MulticastSession._acked,
        Input.FETCHED: illegal,
        Input.FAILED: illegal,
        Input.PEER_ERROR: MulticastSession._stopped,
        Input.REQUESTED: MulticastSession._requested_again,
        Input.TICK: MulticastSession._timed_out,
        Input.CANCEL: MulticastSession._cancelled,
        Input.REPLACED: MulticastSession._replaced,
    },
}

check(TABLE, State, Input)
MulticastSession.table = TABLE
