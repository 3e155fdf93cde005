"""Limits how often something is reported."""

from collections.abc import Callable
from typing import Any

INTERVAL = 1.0
"""Minimum seconds between two reports, unless it is set otherwise."""


class ReportLimit:
    """Calls *report* at most once per interval.

    :param clock: an IReactorTime.
    :param report: called with the time; reports all that has happened since the last call.
    :param interval: minimum seconds between two calls.
    """

    def __init__(self, clock: Any, report: Callable[[float], None], interval: float = INTERVAL) -> None:
        self._interval = interval
        self._clock = clock
        self._publish = report
        self._next = 0.0
        self._timer: Any = None

    def due(self, now: float) -> None:
        """There is something to report: now, or at the end of the interval that the last report began."""
        if self._timer is not None:
            return
        if now >= self._next:
            self._report()
        else:
            self._timer = self._clock.callLater(self._next - now, self._report)

    def stop(self) -> None:
        """Report what has not been reported, and cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._report()

    def _report(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        self._next = now + self._interval
        self._publish(now)
