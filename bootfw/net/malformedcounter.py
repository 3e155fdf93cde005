"""Counting what can't be understood, and saying it seldom."""

from collections.abc import Callable
from typing import Any

from bootfw.events import DatagramsMalformed, Event
from bootfw.values import Address

INTERVAL = 1.0
"""Seconds between two events of one service."""


class MalformedCounter:
    """Publishes at most one DatagramsMalformed a second, with the number since the last one.

    :param clock: an IReactorTime.
    """

    def __init__(self, service: str, publish: Callable[[Event], None], clock: Any) -> None:
        self._service = service
        self._publish = publish
        self._clock = clock
        self.total = 0
        self._unsaid = 0
        self._latest: tuple[str, Address] = ("", ("", 0))
        self._next = 0.0
        self._call: Any = None

    def count(self, reason: str, peer: Address, now: float) -> None:
        """One more. What comes within the second after an event is said when that is over."""
        self.total += 1
        self._unsaid += 1
        self._latest = (reason, peer)
        if self._call is not None:
            return
        if now >= self._next:
            self._say()
        else:
            self._call = self._clock.callLater(self._next - now, self._say)

    def stop(self) -> None:
        """Say what has not been said, and leave no timer behind."""
        if self._call is not None:
            self._call.cancel()
            self._say()

    def _say(self) -> None:
        self._call = None
        now = self._clock.seconds()
        self._next = now + INTERVAL
        reason, peer = self._latest
        self._publish(DatagramsMalformed(now, self._service, self._unsaid, reason, peer))
        self._unsaid = 0
