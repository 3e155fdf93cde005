"""Counts dropped datagrams and requests, and reports them at a limited rate."""

from collections.abc import Callable
from typing import Any

from bootfw.events import DatagramsMalformed, Event, RequestsDropped
from bootfw.net.reportlimit import INTERVAL, ReportLimit
from bootfw.values import Address


class DropCounter:
    """Publishes at most one event per interval, with the number of datagrams or requests dropped since the last one.

    :param service: the name of the service in the events.
    :param clock: an IReactorTime.
    :param kind: the class of the events.
    :param interval: minimum seconds between two events.
    """

    def __init__(
        self,
        service: str,
        publish: Callable[[Event], None],
        clock: Any,
        kind: type[DatagramsMalformed | RequestsDropped] = DatagramsMalformed,
        interval: float = INTERVAL,
    ) -> None:
        self._service = service
        self._publish = publish
        self._kind = kind
        self.total = 0
        self._unreported = 0
        self._latest: tuple[str, Address] = ("", ("", 0))
        self._limit = ReportLimit(clock, self._report, interval)
        self.stop = self._limit.stop
        """Report what has not been reported, and cancel the timer."""

    def count(self, reason: str, peer: Address, now: float, by: int = 1) -> None:
        """Count *by* more. They are reported now, or at the end of the interval that began with the last event."""
        self.total += by
        self._unreported += by
        self._latest = (reason, peer)
        self._limit.due(now)

    def _report(self, now: float) -> None:
        reason, peer = self._latest
        self._publish(self._kind(now, self._service, self._unreported, reason, peer))
        self._unreported = 0
