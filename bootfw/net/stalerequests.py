"""Drops requests that have waited in the socket's buffer for longer than their clients wait.

When more requests arrive than the server can answer, the buffer fills, and each request waits until all before it are
answered. Its client has then sent it again or has given up: the answer is worth nothing, and costs as much as one in
time. Without stale requests the server keeps up with the new ones.

A request that continues an exchange may wait longer than one that begins it: where not all can be served, those that
have begun are.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from attrs import frozen

from bootfw.events import Event, StaleRequestsDropped
from bootfw.net.reportlimit import ReportLimit
from bootfw.values import Address, Via

_Arrival = TypeVar("_Arrival", bound=tuple[bytes, Address, Via])


@frozen
class RequestKind:
    """Requests that may wait equally long."""

    name: str
    """In events."""
    patience: float
    """Seconds that such a request may wait in the buffer."""


class StaleRequests:
    """The stale requests of one port. At most one event a second says how many were dropped.

    :param service: its name in the events.
    :param kind: returns the kind of a datagram; None: it is never dropped.
    :param clock: an IReactorTime.
    """

    def __init__(
        self, service: str, kind: Callable[[bytes], RequestKind | None], publish: Callable[[Event], None], clock: Any
    ) -> None:
        self._service = service
        self._kind = kind
        self._publish = publish
        self._clock = clock
        self._dropped: Counter[str] = Counter()
        """By kind, since the last event."""
        self._waited = 0.0
        self._limit = ReportLimit(clock, self._report)
        self.stop = self._limit.stop
        """Report what has not been reported, and cancel the timer."""

    def drop(self, batch: Sequence[_Arrival], waited: float) -> list[_Arrival]:
        """Return *batch* without the requests that are stale.

        :param waited: seconds that the datagrams have been in the buffer, at least.
        """
        kept = []
        for arrival in batch:
            kind = self._kind(arrival[0])
            if kind is None or waited <= kind.patience:
                kept.append(arrival)
            else:
                self._dropped[kind.name] += 1
        if len(kept) < len(batch):
            self._waited = waited
            self._limit.due(self._clock.seconds())
        return kept

    def _report(self, now: float) -> None:
        dropped = tuple(sorted(self._dropped.items()))
        self._dropped.clear()
        self._publish(StaleRequestsDropped(now, self._service, dropped, self._waited))
