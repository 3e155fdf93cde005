"""Counts malformed datagrams and reports them at a limited rate."""

from collections.abc import Callable
from typing import Any

from bootfw.events import DatagramsMalformed, Event
from bootfw.net.reportlimit import ReportLimit
from bootfw.values import Address


class MalformedCounter:
    """Publishes at most one DatagramsMalformed event per second, with the number of datagrams since the last one.

    :param service: its name in the events.
    :param clock: an IReactorTime.
    """

    def __init__(self, service: str, publish: Callable[[Event], None], clock: Any) -> None:
        self._service = service
        self._publish = publish
        self.total = 0
        self._unreported = 0
        self._latest: tuple[str, Address] = ("", ("", 0))
        self._limit = ReportLimit(clock, self._report)
        self.stop = self._limit.stop
        """Report what has not been reported, and cancel the timer."""

    def count(self, reason: str, peer: Address, now: float) -> None:
        """Count a datagram. It is reported now, or at the end of the interval that the last event began."""
        self.total += 1
        self._unreported += 1
        self._latest = (reason, peer)
        self._limit.due(now)

    def _report(self, now: float) -> None:
        reason, peer = self._latest
        self._publish(DatagramsMalformed(now, self._service, self._unreported, reason, peer))
        self._unreported = 0
