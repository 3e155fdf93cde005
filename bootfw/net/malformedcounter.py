"""Counts malformed datagrams and reports them at a limited rate."""

from collections.abc import Callable
from typing import Any

from bootfw.events import DatagramsMalformed, Event
from bootfw.values import Address

INTERVAL = 1.0
"""Minimum seconds between two events of one service."""


class MalformedCounter:
    """Publishes at most one DatagramsMalformed event per INTERVAL, with the number of datagrams since the last one.

    :param service: its name in the events.
    :param clock: an IReactorTime.
    """

    def __init__(self, service: str, publish: Callable[[Event], None], clock: Any) -> None:
        self._service = service
        self._publish = publish
        self._clock = clock
        self.total = 0
        self._unreported = 0
        self._latest: tuple[str, Address] = ("", ("", 0))
        self._next = 0.0
        self._timer: Any = None

    def count(self, reason: str, peer: Address, now: float) -> None:
        """Count a datagram. It is reported now, or at the end of the interval that the last event began."""
        self.total += 1
        self._unreported += 1
        self._latest = (reason, peer)
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
        self._next = now + INTERVAL
        reason, peer = self._latest
        self._publish(DatagramsMalformed(now, self._service, self._unreported, reason, peer))
        self._unreported = 0
