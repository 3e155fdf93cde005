"""The retransmission timer of a session: counts attempts, gets the waits from the watchdog, measures round trips."""

from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from attrs import define, field

from bootfw.tftp.flight import Flight

SHORTEST_GRACE = 0.002
"""Seconds: below that, timers and schedulers are not to be relied on."""


class WatchdogFailed(Exception):
    """The watchdog raised, or gave something that is no number of seconds. The cause says what."""


class Watchdog(Protocol):
    """An IWatchdog, for this layer, which is pure and knows no interfaces.

    One with ``progressed(seconds)`` learns from round trips: from all of them, or, with the attributes of an
    ILearningWatchdog too, from those outside of its bounds.
    """

    def wait(self, attempt: int) -> float | None:
        """Seconds after sending number *attempt*; None: give up."""


@define(eq=False)
class RetransmitTimer:
    """The waits of one transfer; all times in seconds."""

    _watchdog: Watchdog
    _flight: Flight
    attempt: int = field(default=1, init=False)
    """How often the newest datagrams have been sent."""
    usual: float = field(default=0.0, init=False)
    """The wait after the first attempt, as the watchdog gave it last."""
    soonest: float = field(default=0.0, init=False)
    """Half of the smallest round trip: what comes sooner after a sending is no answer to it. 0 before the first."""
    shortest: float = field(default=inf, init=False)
    """The smallest round trip."""
    _learn: Callable[[float | None], None] | None = field(init=False)
    _get_wait: Callable[[int], float | None] = field(init=False)
    _selective: bool = field(init=False)
    """The watchdog has bounds between which it need not learn."""

    def __attrs_post_init__(self) -> None:
        try:
            self._learn = getattr(self._watchdog, "progressed", None)
            self._get_wait = self._watchdog.wait
        except Exception as error:
            raise WatchdogFailed from error
        self._selective = hasattr(self._watchdog, "unremarkable")

    @property
    def grace(self) -> float:
        """Twice the latest round trip: what has not been answered by then got lost, or was not going to be answered."""
        return max(2 * self._flight.round_trip, SHORTEST_GRACE)

    def first(self) -> float:
        """The wait after something has been sent for the first time."""
        self.attempt = 1
        # The contract says that wait(1) is never None; if it is, we give up at once. The addition refuses what is no
        # number; a try costs nothing while nothing is raised.
        try:
            self.usual = usual = (self._get_wait(1) or 0.0) + 0.0
        except Exception as error:
            raise WatchdogFailed from error
        return usual

    def again(self) -> float | None:
        """The wait after the same has been sent once more, or None: give up instead."""
        self.attempt += 1
        try:
            wait = self._get_wait(self.attempt)
            return None if wait is None else wait + 0.0
        except Exception as error:
            raise WatchdogFailed from error

    def progressed(self, seconds: float | None) -> float:
        """The peer has answered; gives the wait after what is sent next.

        :param seconds: the round trip; None when the answer can't be matched to one sending (Karn's rule, RFC 6298
            section 3).
        """
        if self._learn is not None:
            least, calm = self.bounds
            if seconds is None or not least <= seconds <= calm:
                try:
                    self._learn(seconds)
                except Exception as error:
                    raise WatchdogFailed from error
        if seconds is not None:
            self._flight.round_trip = seconds
            if seconds < self.shortest:
                self.shortest = seconds
                self.soonest = seconds / 2
        return self.first()

    @property
    def bounds(self) -> tuple[float, float]:
        """Bounds in seconds; a round trip outside of them may change the wait, so progressed() has to be called."""
        if self._learn is None:
            return 0.0, inf
        if not self._selective:
            return 0.0, 0.0
        watchdog: Any = self._watchdog
        try:
            return watchdog.unremarkable_from, watchdog.unremarkable
        except Exception as error:
            raise WatchdogFailed from error
