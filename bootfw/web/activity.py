"""Counts the transfers that run, their throughput and the boots that change, for the pages, from the events."""

from collections.abc import Callable, Sequence

from zope.interface import implementer

from bootfw.attempts.attempt import BootAttempt
from bootfw.events import (
    BootAttemptChanged,
    BootAttemptEnded,
    Event,
    TransferBegun,
    TransferEnded,
)
from bootfw.interfaces import IBatchObserver
from bootfw.values import Address
from bootfw.web.sockets import Sockets
from bootfw.web.throughput import Throughput

_MOST_RUNNING = 50_000
"""Most transfers that are counted as running. A full queue of events may drop the end of one, which would otherwise be
counted until the server stops."""


@implementer(IBatchObserver)
class Activity:
    """Follows the events of a service.

    :param boot_changed: called with each attempt that has changed; must not raise.
    :param status_changed: called when something about the sockets has changed; must not raise.
    """

    def __init__(
        self, sockets: Sockets, boot_changed: Callable[[BootAttempt], None], status_changed: Callable[[], None]
    ) -> None:
        self.sockets = sockets
        self.throughput = Throughput()
        self.ended = 0
        """Number of transfers that have ended since the start."""
        self._boot_changed = boot_changed
        self._status_changed = status_changed
        # The keys are (protocol, peer). A dictionary, since its first key is the oldest one; a set has no order.
        self._running: dict[tuple[str, Address], None] = {}

    @property
    def running(self) -> int:
        """Number of transfers that have begun and not ended."""
        return len(self._running)

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        self.observe_many((event,))

    def observe_many(self, events: Sequence[Event]) -> None:
        """See IBatchObserver."""
        running = self._running
        for event in events:
            kind = type(event)
            if kind is TransferEnded:
                report = event.report  # type: ignore[attr-defined]
                running.pop((report.request.protocol, report.request.peer), None)
                self.ended += 1
                self.throughput.add(report)
            elif kind is TransferBegun:
                if len(running) >= _MOST_RUNNING:
                    del running[next(iter(running))]
                request = event.request  # type: ignore[attr-defined]
                running[request.protocol, request.peer] = None
            elif kind is BootAttemptChanged or kind is BootAttemptEnded:
                self._boot_changed(event.attempt)  # type: ignore[attr-defined]
            elif self.sockets.changed_by(event):
                self._status_changed()
