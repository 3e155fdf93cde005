"""The wait for the transfers under way, before a server stops."""

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred, succeed

DRAIN_WITHIN = 5.0
"""Seconds that the transfers under way have to end by themselves. The clients of those that have not ended get an ERROR
after that, and before Docker kills the container, 10 s after SIGTERM."""

QUIET = 2.0
"""Seconds without a transfer after which the clients of a node have been moved to others. Balancers check about once a
second whether a node is ready."""

_CHECKED_EVERY = 0.05
"""Seconds between two looks at what is under way."""


class Draining:
    """Waits until nothing is under way.

    :param reactor: IReactorTime.
    :param under_way: returns the transfers and downloads under way.
    :param within: seconds that it waits at most.
    :param latest: of a node that serves new clients until other nodes do: returns when a transfer began or ended last.
        The wait is over when that is QUIET seconds ago. None: there are no new clients.
    """

    def __init__(
        self,
        reactor: Any,
        under_way: Callable[[], Collection[object]],
        within: float = DRAIN_WITHIN,
        latest: Callable[[], float] | None = None,
    ) -> None:
        self._reactor = reactor
        self._under_way = under_way
        self._began = reactor.seconds()
        self.within = within
        self._latest = latest
        self._call: Any = None
        self._done: Deferred[None] = Deferred()

    @property
    def count(self) -> int:
        """The number of transfers and downloads under way."""
        return len(self._under_way())

    @property
    def hands_over(self) -> bool:
        """Whether other nodes go on with the transfers that have not ended."""
        return self._latest is not None

    def start(self) -> "Deferred[None]":
        """Return a Deferred that fires when the wait is over."""
        if self._is_over():
            return succeed(None)
        self._call = self._reactor.callLater(_CHECKED_EVERY, self._check)
        return self._done

    def end(self) -> None:
        """End the wait now."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self._done.callback(None)

    def _is_over(self) -> bool:
        now = self._reactor.seconds()
        if now - self._began >= self.within:
            return True
        if self._under_way():
            return False
        return self._latest is None or now - max(self._began, self._latest()) >= QUIET

    def _check(self) -> None:
        self._call = None
        if self._is_over():
            self._done.callback(None)
        else:
            self._call = self._reactor.callLater(_CHECKED_EVERY, self._check)
