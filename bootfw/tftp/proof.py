"""Proof that a peer receives what it is sent, and does not just guess the numbers that it acknowledges.

A request and an ACK can carry a forged source address. Block 1 is always block 1, so a window that is sent for an
ACK of 0 may go to a host that never sent that ACK. Until a peer with windows has acknowledged what it can't have
guessed, it is sent *bursts*: a random number of blocks, and behind them a *marker*, an empty DATA with a number that
is far out of order. RFC 7440 section 4 wants that answered at once with an ACK of the last block in order, so the peer
says how long the burst was. Each answer changes the odds that it does not guess.

``docs/adr/0012-proof.md`` has the measurements.
"""

from collections.abc import Callable
from struct import Struct

from attrs import define, field

RATIO = 50
"""Bytes that may be sent for each byte received while all that was acknowledged could have been guessed."""

SENDINGS = 3
"""How often the same OACK or block is sent to a peer that may not be there."""

SPARE = 4
"""Blocks that may be sent again in a transfer beyond SENDINGS for each ACK."""

RESERVE = 8
"""Blocks that may be sent again in a transfer with windows when the ACKs allow no more, once a block is acknowledged.

Where three packets in a row are lost, the next sending would be left to the client's timer: 5 s in atftp and U-Boot.
Where 5 % are lost, that happened in one transfer of thirty."""

LARGEST = 4
"""Blocks in a burst. Where 5 % are lost, four of five such bursts arrive whole and are acknowledged."""

SAFETY = 4
"""A peer is proven when the odds that it does not guess are this much for each block of its window. A peer that guesses
then gets less than one block more for each ACK, on average over all that it tries."""

WRONG = 0.25
"""The odds after a wrong answer, for each before. 5 % loss makes one answer in six wrong, guessing three in four."""

_ACK_BYTES = 4
_NEAREST, _SPREAD = 0x2000, 0x2000
_header = Struct("!HH").pack
_DATA = 3


@define(eq=False)
class Proof:
    """How far a peer with windows has proven itself."""

    windowsize: int
    _packet: int
    """Bytes of a full DATA packet."""
    balance: int
    """Bytes that may be sent by the ratio; it may be negative."""
    _randbelow: Callable[[int], int]

    burst: int = field(default=0, init=False)
    """Blocks that are sent next, or in flight."""
    repeats: int = field(default=0, init=False)
    """How often the burst has been sent again, each time with one block more: it may have ended at as many blocks
    before its end."""
    odds: float = field(default=1.0, init=False)
    """How many times likelier the answers are from a peer that receives the bursts than from one that guesses.

    For a peer that guesses the mean stays 1, whatever it does, so the chance that the odds ever reach N is at most 1
    in N (Ville's inequality). So trying for longer does not help."""
    _choices: int = field(default=1, init=False)
    """How many sizes the burst could have had."""
    _blocks: float = field(default=0.0, init=False)
    """How many blocks may be sent, by the ACKs received."""
    _reserve: int = field(default=0, init=False)
    """How far ``_blocks`` may fall below 0 for what is sent again."""
    _has_progressed: bool = field(default=False, init=False)
    """A block has been acknowledged."""

    def draw(self) -> None:
        """Choose the size of the next burst, such that it can be sent again twice."""
        # A burst of n blocks is sent as n packets, then again as 1, then as n + 2: see repeat(). The ratio has to pay
        # for the first two of these, or the ACKs for all three, which are 2 n + 3.
        by_ratio = self.balance // self._packet - 1
        by_acks = min(LARGEST, int(self._blocks - 3) // 2)
        self._choices = min(self.windowsize, max(1, by_ratio, by_acks))
        self.burst = 1 + self._randbelow(self._choices)
        self.repeats = 0

    def oack_acknowledged(self) -> None:
        """Count ACK 0."""
        self.balance += RATIO * _ACK_BYTES

    def ack_received(self, *, progress: bool) -> None:
        """Count an ACK of what was sent."""
        self.balance += RATIO * _ACK_BYTES
        # The likelier it is that the peer receives its packets, the more may be sent for each ACK; and never less than
        # a client needs whose packets get lost.
        self._blocks += SENDINGS * max(1.0, self.odds)
        if progress and not self._has_progressed:
            self._has_progressed = True
            self._blocks += SPARE
            self._reserve = RESERVE

    def sent(self, blocks: int, length: int) -> None:
        """Subtract what has been sent: from ``balance`` if that suffices, else from the blocks that the ACKs allow."""
        if length + 4 * blocks <= self.balance:
            self.balance -= length + 4 * blocks
        else:
            self._blocks -= blocks

    def burst_confirmed(self) -> bool:
        """Count an ACK of the whole burst. Returns whether the peer is proven now."""
        right = min(1.0, (self.repeats + 1) / self._choices)  # the chance of guessing it
        # The factor that keeps the mean at 1 for a peer that guesses: it is right with this chance, and wrong, which
        # multiplies the odds by WRONG, otherwise. right * factor + (1 - right) * WRONG = 1.
        self.odds *= (1 - (1 - right) * WRONG) / right
        return self.odds >= SAFETY * self.windowsize

    def burst_failed(self) -> None:
        """Count an ACK of something else: a block was lost, or the peer guesses."""
        # There is nothing to guess about a burst that could have had one size only, and the mean has to stay 1.
        if self._choices > 1:
            self.odds *= WRONG

    def repeat(self, *, whole: bool) -> int:
        """Make the burst one block longer. Returns how many blocks of its end to send; 0: the peer may be sent none.

        :param whole: send all of it.

        The new block is for a client whose ACK was lost: U-Boot and atftp answer a marker only once at each position.
        If there is no answer to that either, a block was lost, so from then on all are sent.
        """
        blocks = self.burst + 1 if whole or self.repeats else 1
        if blocks * self._packet > self.balance and blocks > self._blocks + self._reserve:
            return 0
        self.burst += 1
        self.repeats += 1
        return blocks


def marker(block: int, randbelow: Callable[[int], int]) -> bytes:
    """Return a DATA packet that is out of order for a client that expects one of the blocks around *block*."""
    # Not too far ahead: U-Boot takes a number 0x8000 ahead for an old one, and does not answer that.
    return _header(_DATA, (block + _NEAREST + randbelow(_SPREAD)) & 0xFFFF)
