"""The transitions of a ReadSession whose peer has not proven itself: what is sent, and how often again."""

from collections.abc import Callable
from functools import lru_cache
from math import inf

from bootfw.table import STAY, goes
from bootfw.tftp.blocks import advance
from bootfw.tftp.proof import RATIO, SENDINGS, SPARE, Proof, marker
from bootfw.tftp.readstates import State
from bootfw.tftp.retransmit import CLIENT_TIMEOUT
from bootfw.tftp.session import Session
from bootfw.values import OACK_UNANSWERED, Agreed, Outcome
from bootfw.wire.tftp import option_ack

_ACKED_RATIO = 125
"""Bytes for each byte received after ACK 0 to an OACK: three blocks of 1408 for the shortest requests."""

_LATE, _LATE_TIMEOUTS = 12.0, 2.4
"""Seconds, and timeouts that the client requests, until the timer repeats an OACK that may end the client. atftp and
tftpy repeat their request and their ACK 0 after 5 s, if not set otherwise. A client that repeats neither needs this."""

_SPARE_AFTER = 1.0
"""Seconds since the last sending after which the timer of a transfer without windows may use SPARE.

The first blocks have no balance yet, and curl repeats an ACK after 72 s only: where 10 % of the round trips are lost,
one transfer in 1,000 would wait for that. The pause saves them for losses: a client that is slow to start uses none."""

_option_ack = lru_cache(1024)(option_ack)  # machines that boot together get the same


class Proving(Session[State]):
    """The part of ReadSession for PROVING and NEGOTIATING. It is used only as a base class of that."""

    __slots__ = ()

    agreed: Agreed
    size: int | None
    request_bytes: int
    own_port: bool
    oack_once: bool
    _sent_once_from: int
    _resent_end: int
    _last_block: int
    randbelow: Callable[[int], int]
    _resent_at: int
    _proof: Proof | None
    _burst_end: int
    _start_block: int
    _resent: int

    @goes(STAY, State.FETCHING, State.CLOSED)
    def _burst_acked(self, number: int, now: float) -> State:
        """All of the burst or a part: go on from there with another burst, or with windows once the peer is proven; or
        done after the last block. A repeated ACK: send a burst from there, once. Everything else is ignored."""
        self.flight.heard_at = now
        proof = self._proof
        assert proof is not None
        acked = self.flight.acked
        block = advance(acked, number, self.flight.sent - acked)
        if block is None:
            if (number - acked) & 0xFFFF < 0x8000:
                proof.burst_failed()  # It acknowledges what was not sent.
            return self.state
        proof.ack_received(progress=block > acked)
        if block == acked == self._resent_at and now - self.flight.sent_at < CLIENT_TIMEOUT:
            return self.state  # EDK2 sends an ACK for each block that it does not expect. The first one was answered.
        # The time from the OACK to ACK 0 includes the client's preparations: it is no round trip to compare with, so
        # the ACK of the first burst is never too early.
        timer = self._timer
        waited = now - self.flight.sent_at if acked > self._start_block else inf
        if not self._burst_end - proof.repeats <= block <= self._burst_end:
            if waited < timer.shortest_round_trip < inf:
                if block == acked:
                    return self.state  # The same, of the burst before.
                # Blocks of an earlier burst have arrived after all; what the timer sends next begins behind them.
                proof.burst_failed()
                self.flight.acked = block
                timer.progressed(None)
                return self._close(Outcome.COMPLETE) if block == self._last_block else self.state
            proof.burst_failed()
        elif waited < timer.soonest_answer:
            proof.burst_failed()
        elif proof.burst_confirmed():
            self._proof = None
        if block == acked:
            self._resent_at = acked
            return self._fetch_next(timer.first())
        wait = self._progress(block, now)
        return self._close(Outcome.COMPLETE) if block == self._last_block else self._fetch_next(wait)

    @goes(STAY, State.FETCHING, State.CLOSED)
    def _resend_burst(self, argument: None, now: float) -> State:
        """Send the end of the burst or all of it again, with one block more, if that is little enough for a peer that
        may not be there, or only the marker; later wait, or give up."""
        if self._is_early(now):
            return self.state
        wait = self._timer.again()
        if wait is None:
            return self._give_up()
        proof = self._proof
        assert proof is not None
        self.flight.deadline = now + wait
        self._sent_once_from = self.flight.sent + 1
        self._resent_at = -1
        acked, end = self.flight.acked, self._burst_end
        blocks = proof.repeat(whole=end != acked + proof.burst or end == self._last_block)
        if blocks:
            return self._fetch(acked + proof.burst - blocks + 1, wait)
        if self._timer.attempt > SENDINGS:
            # The client repeats its last ACK when nothing has come for some seconds; what we send puts that off.
            return self.state
        self._send_marker(self._burst_end)
        return self.state

    @goes(STAY, State.CLOSED)
    def _oack_timed_out(self, argument: None, now: float) -> State:
        """Send the OACK again, three times in all, then wait; or give up. Where a second OACK may end the client: once,
        when its own timer has had two turns."""
        if self._is_early(now):
            return self.state
        self._sent_once_from = 1
        if self.oack_once and self._timer.attempt == 1:
            late = self.flight.sent_at + max(_LATE, _LATE_TIMEOUTS * (self.agreed.timeout or 0))
            if now < late:
                self.flight.deadline = late
                return self.state
        wait = self._timer.again()
        if wait is None:
            return self._close(Outcome.TIMED_OUT, OACK_UNANSWERED)
        self.flight.deadline = now + wait
        if self._timer.attempt > (2 if self.oack_once else SENDINGS):
            return self.state
        return self._resend_oack(argument, now)

    @goes(STAY)
    def _resend_oack(self, argument: None, now: float) -> State:
        """Send the OACK again; the deadline stays."""
        # This restarts the client's timer. A few times only, so that no client can make us wait for ever.
        self._send_oack()
        if self.retransmitted < SENDINGS:
            self.flight.sent_at = now
        self.retransmitted += 1
        self._sent_once_from = 1
        self._resent_end = 0
        return self.state

    def _send_oack(self) -> None:
        oack = _option_ack(self.agreed.acknowledged)
        self.out.append(oack)
        if self._proof is not None:
            self._proof.balance -= len(oack)

    def _send_marker(self, block: int) -> None:
        self.out.append(marker(block, self.randbelow))

    def _may_resend(self, now: float) -> bool:
        """The timer may send the block again. Without windows all ACKs can be guessed, so nothing proves the peer."""
        if self.own_port and self._peer_has_acked():
            return True
        if not self.flight.acked:
            # The ratio is that of three sendings for an ACK of an OACK.
            received, ratio = self.request_bytes, RATIO
            if self.agreed.acknowledged:
                received, ratio = received + 4, _ACKED_RATIO
            block = min(self.agreed.blksize, self.size or self.agreed.blksize) + 4
            if self.request_bytes and (self._resent + 2) * block > ratio * received:
                return False
        spare = SPARE if self._peer_has_acked() and now - self.flight.sent_at >= _SPARE_AFTER else 0
        if self._resent >= (SENDINGS - 1) * (self.flight.acked - self._start_block + 1) + spare:
            return False
        self._resent += 1
        return True

    # Defined by ReadSession.

    def _peer_has_acked(self) -> bool:
        raise NotImplementedError

    def _progress(self, block: int, now: float) -> float:
        raise NotImplementedError

    def _fetch(self, first: int, wait: float) -> State:
        raise NotImplementedError

    def _fetch_next(self, wait: float) -> State:
        raise NotImplementedError

    def _give_up(self) -> State:
        raise NotImplementedError
