"""The short way of a read that goes on as it should: what the table would come to, without it.

Nothing is decided here. Whatever the table would have to think about is left to it, and the property tests of
``tests/net/test_express.py`` hold both ways to the same.
"""

import enum
from typing import Any, ClassVar, TypeVar

from bootfw.tftp.proof import Proof
from bootfw.tftp.session import Session
from bootfw.values import Agreed

_State = TypeVar("_State", bound=enum.Enum)


class ShortWay(Session[_State]):
    """A part of ReadSession, and of no use without it."""

    __slots__ = ()

    plain: ClassVar[Any]
    """The state in which there is a short way."""
    offered: ClassVar[Any]
    """The state before it, in which ACK 0 is awaited."""
    agreed: Agreed
    acked: int
    last_heard: float
    _base: int
    _sent: int
    _once: int
    _final: int
    _proof: Proof | None

    @property
    def sent(self) -> int:
        """The highest block that has been sent, an absolute number."""
        return self._sent

    def proceed(self, number: int, limit: int, now: float) -> int:
        """The short way of a plain transfer: ACK and FETCHED at once, for an ACK of all that is in flight.

        ``out`` and ``wants`` are not used, the caller sends the next window.

        :param number: as for ACK.
        :param limit: absolute number of the last block of which the content is at hand; the file's size is known.
        :return: the first block of the window that is to be sent now; 0: nothing has been done, give it to handle().
        """
        sent = self._sent
        last = min(sent + self.agreed.windowsize, self._final)
        if (number ^ sent) & 0xFFFF or not sent < last <= limit or sent < self._once:
            return 0
        if self.state is not self.plain:
            if self.state is not self.offered or self._proof is not None:
                return 0
            self._enter(self.plain)
        self.acked = self._base = sent
        self.last_heard = now
        wait = self._patience.progressed(now - self._sent_at)
        self._sent_at = now
        self._once = sent + 1
        self._sent = last
        self._wait = wait
        self.deadline = now + wait
        return sent + 1

    @property
    def in_flight(self) -> int | None:
        """The last block of a whole window that is in flight, not the last one, and was sent once; an absolute number,
        0 for the OACK. None: it is not so."""
        sent = self._sent
        if sent < self._once or sent == self._final:
            return None
        plain = self.state is self.plain and sent - self.acked == self.agreed.windowsize
        return sent if plain or (self.state is self.offered and self._proof is None) else None

    @property
    def sent_at(self) -> float:
        """When the latest window left."""
        return self._sent_at

    @property
    def news(self) -> tuple[float, float]:
        """See Patience. With single blocks the shortest round trip is of no use to anybody."""
        least, calm = self._patience.news
        return (max(least, self._patience.shortest) if self.agreed.windowsize > 1 else least), calm

    def due(self, at: float) -> float:
        """The deadline that proceeded() would come to.

        :param at: when the last window left; at least one has.
        """
        return at + self._patience.first()

    def proceeded(self, windows: int, seconds: float, now: float) -> None:
        """Somebody has done so many times, one right after the other, what proceed() does.

        Only from ``in_flight`` on, and only if no round trip was ``news``.

        :param seconds: the last round trip.
        :param now: when the last window left.
        """
        windowsize = self.agreed.windowsize
        if self.state is not self.plain:
            self._enter(self.plain)
        self._sent += windows * windowsize
        self.acked = self._base = self._sent - windowsize
        self._once = self.acked + 1
        self.last_heard = self._sent_at = now
        self._wait = self._patience.went_on(seconds)
        self.deadline = now + self._wait
