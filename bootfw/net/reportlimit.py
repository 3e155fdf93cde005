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
        self._callback = report
        self._next = 0.0
        """Before this time there is no report."""
        self._timer: Any = None

    def due(self, now: float) -> None:
        """Report now, or at the end of the interval that began with the last report."""
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
        self._callback(now)
