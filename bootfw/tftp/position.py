"""The position of a ReadSession, from which a session in another process can continue the transfer."""

from math import inf

from attrs import frozen

from bootfw.tftp.proof import Proof
from bootfw.tftp.proving import Proving
from bootfw.tftp.readstates import State


@frozen
class Position:
    """The state of a ReadSession that another process needs. Times are in seconds, blocks are absolute numbers."""

    state: State
    acked: int
    sent: int
    """The highest block that has been sent."""
    burst_end: int
    """The last block of the burst in flight, where the peer has to prove itself."""
    size: int | None
    """Bytes of the file, if the session knew or found out."""
    proof: Proof | None
    """What the peer has shown until now; None: enough, or there are no windows."""
    start_block: int
    resent: int
    retransmitted: int
    attempt: int
    """How often what is in flight has been sent."""
    wait: float
    """How long to wait for an answer to that."""
    sent_ago: float
    """How long ago it was sent for the last time."""
    remaining: float
    """How long it is until the deadline, which is not always the end of the wait. It is no point in time, as another
    process may have another clock: it may have begun before the clock was set."""
    round_trip: float | None
    """The shortest one; None: none was measured."""
    last_heard: float
    repeats_acks: bool
    resent_at: int
    resent_end: int
    paused_at: int


class Continuing(Proving):
    """The part of ReadSession that gives and takes a Position. It is used only as a base class of that."""

    __slots__ = ()

    _acked_before_fetch: int
    _repeats_acks: bool
    _resent_at: int
    _resent_end: int
    _paused_at: int

    def position(self, now: float) -> Position:
        """Return the state that another session needs to continue this one, which must not have ended."""
        self.flight.close()
        shortest = self._timer.shortest_round_trip
        return Position(
            state=self.state,
            acked=self.flight.acked,
            sent=self.flight.sent,
            burst_end=self._burst_end,
            size=self.size,
            proof=self._proof,
            start_block=self._start_block,
            resent=self._resent,
            retransmitted=self.retransmitted,
            attempt=self._timer.attempt,
            wait=self.flight.wait,
            sent_ago=now - self.flight.sent_at,
            remaining=0.0 if self.flight.deadline is None else max(0.0, self.flight.deadline - now),
            round_trip=shortest if shortest < inf else None,
            last_heard=self.last_heard,
            repeats_acks=self._repeats_acks,
            resent_at=self._resent_at,
            resent_end=self._resent_end,
            paused_at=self._paused_at,
        )

    def _continue(self, position: Position) -> None:
        """Wait for the rest of the time that the session before would have waited, or fetch what it fetched. The timer
        sends again what was in flight and got lost, within the same limits."""
        if self.size is None:
            self.size = position.size
        if self.size is not None:
            self._set_size(self.size)
        self.flight.acked = self._acked_before_fetch = position.acked
        self.flight.sent, self._burst_end, self._start_block = position.sent, position.burst_end, position.start_block
        # The answer has also waited for this process to begin, so the time until now measures no round trip.
        self._sent_once_from = self.flight.sent + 1
        self._proof = position.proof
        self._resent, self.retransmitted = position.resent, position.retransmitted
        self._repeats_acks, self._resent_at = position.repeats_acks, position.resent_at
        self._resent_end, self._paused_at = position.resent_end, position.paused_at
        if position.round_trip is not None:
            self._timer.progressed(position.round_trip)
        self._timer.attempt, self.flight.wait = position.attempt, position.wait
        self.flight.heard_at = position.last_heard
        now, self.flight.sent_at = self.flight.sent_at, self.flight.sent_at - position.sent_ago
        if position.state is State.FETCHING:
            self._enter(self._fetch(self.flight.acked + 1, self.flight.wait))
        else:
            self.flight.deadline = now + position.remaining
            self._enter(position.state)

    # Defined by ReadSession.

    def _set_size(self, size: int) -> None:
        raise NotImplementedError
