"""The wait for the transfers under way, before a server stops."""

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred, succeed

DRAIN_WITHIN = 5.0
"""Seconds that the transfers under way have to end by themselves. Docker kills a container 10 s after SIGTERM, and the
clients of the others are to be told before."""

_CHECKED_EVERY = 0.05


class Draining:
    """Waits until nothing is under way, DRAIN_WITHIN seconds at most.

    :param reactor: IReactorTime.
    :param under_way: returns what is.
    """

    def __init__(self, reactor: Any, under_way: Callable[[], Collection[object]]) -> None:
        self._reactor = reactor
        self._under_way = under_way
        self._until = reactor.seconds() + DRAIN_WITHIN
        self._call: Any = None
        self._done: Deferred[None] = Deferred()

    @property
    def count(self) -> int:
        """How many are under way."""
        return len(self._under_way())

    def start(self) -> "Deferred[None]":
        """Return what fires when the wait is over."""
        if not self._under_way():
            return succeed(None)
        self._call = self._reactor.callLater(_CHECKED_EVERY, self._check)
        return self._done

    def end(self) -> None:
        """End the wait now."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self._done.callback(None)

    def _check(self) -> None:
        self._call = None
        if self._under_way() and self._reactor.seconds() < self._until:
            self._call = self._reactor.callLater(_CHECKED_EVERY, self._check)
        else:
            self._done.callback(None)
