"""Proof that a peer receives what it is sent, and does not just guess the numbers that it acknowledges.

A request and an ACK can carry a forged source address. Block 1 is always block 1, so a window that is sent for an
ACK of 0 may go to a host that never sent that ACK. Until a peer with windows has acknowledged what it can't have
guessed, it is sent *bursts*: a random number of blocks, fewer than a window, and behind them a *marker*, an empty DATA
with a number that is far out of order. RFC 7440 section 4 wants that answered at once with an ACK of the last block in
order, so the peer says how long the burst was. The sizes grow with each right answer.

``docs/adr/0012-proof.md`` has the measurements.
"""

from collections.abc import Callable
from struct import Struct

from attrs import define, field

RATIO = 50
"""Bytes that may be sent for each byte received while all that was acknowledged could have been guessed."""

SENDINGS = 3
"""Of the same OACK or block to a peer that may not be there."""

GROWTH = 4
"""From the largest possible burst to the next one."""

LARGEST = 16
"""Blocks in a burst. Where 5 % are lost, half of such bursts arrive whole."""

SAFETY = 16
"""A peer is proven when the chance of having guessed is less than 1 in this many for each block of its window."""

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
    _choices: int = field(default=1, init=False)
    """How many sizes the burst could have had."""
    _most: int = field(default=1, init=False)
    """Blocks of a burst, however low the balance."""
    _odds: int = field(default=1, init=False)
    """The answers in a row were guessed with a chance of 1 to this."""
    _blocks: int = field(default=0, init=False)
    """That may be sent: three for each ACK, on balance."""
    _single: int = field(default=0, init=False)
    """Bursts of one block that have to be acknowledged before the next try with larger ones."""
    _penalty: int = field(default=1, init=False)
    """The same after the next wrong answer."""

    def draw(self) -> None:
        """Choose the size of the next burst: the whole window if the balance allows that."""
        fits = self.balance // self._packet
        if fits >= self.windowsize:
            self.burst, self._choices = self.windowsize, 1
            return
        self._choices = 1 if self._single else max(self._most, fits)
        self.burst = 1 + self._randbelow(self._choices)

    def ack_received(self) -> None:
        """Count an ACK, whatever it acknowledges."""
        self.balance += RATIO * _ACK_BYTES
        self._blocks += SENDINGS

    def sent(self, blocks: int, length: int) -> None:
        """Count what has been sent."""
        self.balance -= length + 4 * blocks
        self._blocks -= blocks

    def burst_confirmed(self) -> bool:
        """Count an ACK of the whole burst. Returns whether the peer is proven now."""
        if self._single:
            self._single -= 1
            return False
        self._odds *= self._choices
        self._most = min(GROWTH * self._most, LARGEST, self.windowsize)
        return self._odds >= SAFETY * self.windowsize

    def burst_failed(self) -> None:
        """Count an ACK of something else: a block was lost, or the peer guesses, and must not try often."""
        if self._choices > 1:
            self._single = self._penalty
            self._penalty = min(2 * self._penalty, GROWTH)
        self._most = self._odds = self._choices = 1

    def repeat(self, *, first: bool, attempt: int) -> bool:
        """Whether the burst may be sent again, now with one block more: a client that has the burst already says so
        only for something new.

        :param first: it is the first burst, of which the peer may know nothing.
        :param attempt: how often it would have been sent then.
        """
        more = min(self.burst + 1, self.windowsize)
        if first:
            allowed = more * self._packet <= self.balance
        else:
            allowed = attempt <= SENDINGS or more <= self._blocks
        if allowed:
            self.burst = more
        return allowed

    def marker(self, block: int) -> bytes:
        """A DATA packet that is out of order for a client that expects one of the blocks around *block*."""
        # Not too far ahead: U-Boot takes a number 0x8000 ahead for an old one, and does not answer that.
        return _header(_DATA, (block + _NEAREST + self._randbelow(_SPREAD)) & 0xFFFF)
