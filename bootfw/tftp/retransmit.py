"""The retransmission timer of a session: counts attempts, gets waits from the watchdog, measures round trips.

It holds no delayed call: the session publishes a deadline, and the adapter's Alarm calls back.
"""

from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from attrs import define, field

from bootfw.tftp.flight import Flight

SHORTEST_GRACE = 0.002
"""Seconds, the least ``grace``. Timers and schedulers are not more precise than this."""

CLIENT_TIMEOUT = 1.0
"""Seconds since the last sending after which a repeated ACK is one of the client's timer, and no answer to a block that
was on its way. No known client has a shorter timeout: RFC 2349 has none below 1 s, most of them take 3 to 5 s."""


class WatchdogFailed(Exception):
    """The watchdog raised, or returned something that is no number of seconds; see ``__cause__``."""


class Watchdog(Protocol):
    """The type of an IWatchdog in this layer, which does not import zope.interface.

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
    usual_wait: float = field(default=0.0, init=False)
    """The wait after the first attempt, as the watchdog gave it last."""
    soonest_answer: float = field(default=0.0, init=False)
    """Half of the shortest round trip: an ACK that comes sooner after a sending is no answer to it. At first 0."""
    shortest_round_trip: float = field(default=inf, init=False)
    """The shortest round trip."""
    _learn: Callable[[float | None], None] | None = field(init=False)
    _get_wait: Callable[[int], float | None] = field(init=False)
    _has_bounds: bool = field(init=False)
    """Whether the watchdog is an ILearningWatchdog: round trips within its bounds need not be reported."""

    def __attrs_post_init__(self) -> None:
        try:
            self._learn = getattr(self._watchdog, "progressed", None)
            self._get_wait = self._watchdog.wait
        except Exception as error:
            raise WatchdogFailed from error
        self._has_bounds = hasattr(self._watchdog, "unremarkable")

    @property
    def grace(self) -> float:
        """Twice the latest round trip: an answer that has not come by then is not on its way."""
        return max(2 * self._flight.round_trip, SHORTEST_GRACE)

    def first(self) -> float:
        """Start attempt 1, and return the wait after it."""
        self.attempt = 1
        # By contract wait(1) is never None; if it is, the wait is 0 and the transfer is given up at once. Adding 0.0
        # raises for anything but a number, which is cheaper than a check of the type.
        try:
            self.usual_wait = usual_wait = (self._get_wait(1) or 0.0) + 0.0
        except Exception as error:
            raise WatchdogFailed from error
        return usual_wait

    def again(self) -> float | None:
        """Start the next attempt, and return the wait after it. None: give up instead."""
        self.attempt += 1
        try:
            wait = self._get_wait(self.attempt)
            return None if wait is None else wait + 0.0
        except Exception as error:
            raise WatchdogFailed from error

    def progressed(self, seconds: float | None) -> float:
        """Take an answer of the peer, and return the wait after the next transmission.

        :param seconds: the round trip; None when the answer can't be matched to one sending (Karn's rule, RFC 6298
            section 3).
        """
        if self._learn is not None:
            least, most = self.bounds
            if seconds is None or not least <= seconds <= most:
                try:
                    self._learn(seconds)
                except Exception as error:
                    raise WatchdogFailed from error
        if seconds is not None:
            self._flight.round_trip = seconds
            if seconds < self.shortest_round_trip:
                self.shortest_round_trip = seconds
                self.soonest_answer = seconds / 2
        return self.first()

    @property
    def bounds(self) -> tuple[float, float]:
        """Bounds in seconds, both included. Only round trips outside of them may change the wait, and are reported."""
        if self._learn is None:
            return 0.0, inf
        if not self._has_bounds:
            return 0.0, 0.0
        watchdog: Any = self._watchdog
        try:
            return watchdog.unremarkable_from, watchdog.unremarkable
        except Exception as error:
            raise WatchdogFailed from error
