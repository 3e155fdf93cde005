"""The event queue: passes published events to the observers in a later reactor turn."""

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from bootfw.ability import provides
from bootfw.boot.onceper import BLOCKED_SECONDS, BlockingCalls
from bootfw.events import Event, EventsDropped
from bootfw.interfaces import IBatchObserver, IBootObserver

QUEUE_LIMIT = 10_000
"""Most queued events; further ones are dropped and counted. A boot publishes about twenty."""

EVENTS_PER_TURN = 500
"""Most events delivered in a reactor turn. More than a port can read in a turn, so that the queue does not grow in a
flood."""

PAUSE = 0.002
"""Seconds between two deliveries under load, at least. To deliver ten events together costs half as much as one by
one."""

LOAD = 16
"""The load is a counter: a delivery that is due within PAUSE of the one before it, or has FEW events or more, adds one,
and any other takes one away. From this value on the publisher is under load. The counter ends at twice the value, so
that a short gap does not end the load."""

FEW = 4
"""A delivery of fewer events is a small one."""

_Deliver = Callable[[Sequence[Event]], None]


class EventSink(Protocol):
    """Takes the events of a service."""

    def publish(self, event: Event) -> None:
        """Queue an event. Never blocks, never raises."""

    def flush(self) -> None:
        """Deliver all queued events now. Called last when a service stops."""


class Publisher:
    """An EventSink that delivers to observers in a later reactor turn, off the path of a packet."""

    log = Logger()

    def __init__(self, reactor: Any, observers: Sequence[tuple[str, IBootObserver]] = ()) -> None:
        self._reactor = reactor
        self._observers = [(name, self._delivery(name, observer), observer) for name, observer in observers]
        self._queue: deque[Event] = deque()
        self._dropped = 0
        self._scheduled: IDelayedCall | None = None
        """The next call of _deliver_some(); None: there is none."""
        self._pause_ends = -inf
        """When PAUSE after the latest delivery is over."""
        self._load = 0
        """See LOAD."""
        self._blocking = BlockingCalls(self.publish, reactor.seconds)

    def add(self, name: str, observer: IBootObserver) -> None:
        """Add an observer; it gets the events that are published from now on, and those still queued."""
        self._observers = [*self._observers, (name, self._delivery(name, observer), observer)]

    def replace(
        self, before: Sequence[tuple[str, IBootObserver]], observers: Sequence[tuple[str, IBootObserver]]
    ) -> None:
        """Replace the observers *before* by *observers*. The events that are queued now go to the former ones."""
        self._deliver(len(self._queue))
        replaced = {id(observer) for _, observer in before}
        kept = [each for each in self._observers if id(each[2]) not in replaced]
        self._observers = [*((name, self._delivery(name, observer), observer) for name, observer in observers), *kept]

    def publish(self, event: Event) -> None:
        """See EventSink. If the queue is full, the event is dropped and counted."""
        if not self._observers:
            return
        if len(self._queue) >= QUEUE_LIMIT:
            self._dropped += 1
            return
        self._queue.append(event)
        if self._scheduled is None:
            delay = max(0, self._pause_ends - self._reactor.seconds()) if self._load >= LOAD else 0
            self._scheduled = self._reactor.callLater(delay, self._deliver_some)

    def flush(self) -> None:
        """See EventSink."""
        self._cancel_scheduled()
        self._deliver(len(self._queue))
        # Once more for events that observers published meanwhile. No loop: an observer that publishes an event for each
        # event would never let it end.
        self._deliver(len(self._queue))
        self._cancel_scheduled()

    def _cancel_scheduled(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None

    def _deliver_some(self) -> None:
        self._scheduled = None
        now, count = self._reactor.seconds(), len(self._queue)
        if now < self._pause_ends or count >= FEW:
            self._load = min(self._load + 1, 2 * LOAD)
        elif self._load:
            self._load -= 1
        self._pause_ends = now + PAUSE
        self._deliver(min(count, EVENTS_PER_TURN))
        # An observer may have published, which has scheduled the next delivery already.
        if self._queue and self._scheduled is None:
            self._scheduled = self._reactor.callLater(0, self._deliver_some)

    def _deliver(self, count: int) -> None:
        # Removed from the queue before the first call: an observer that publishes or flushes must not deliver them
        # again.
        take = self._queue.popleft
        events = [take() for _ in range(count)]
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            events.append(EventsDropped(self._reactor.seconds(), dropped))
        if not events:
            return
        seconds = self._reactor.seconds
        for name, deliver, _ in self._observers:
            began = seconds()
            try:
                deliver(events)
            except Exception:
                self.log.failure("observer {name} failed on {count} event(s)", name=name, count=len(events))
            took = seconds() - began
            if took > BLOCKED_SECONDS:
                self._blocking.report(f"observer {name}", f"{len(events)} event(s)", took)

    def _delivery(self, name: str, observer: IBootObserver) -> _Deliver:
        if provides(observer, IBatchObserver):
            return observer.observe_many

        def one_by_one(events: Sequence[Event]) -> None:
            for event in events:
                try:
                    observer.observe(event)
                except Exception:
                    self.log.failure("observer {name} failed on {event}", name=name, event=type(event).__name__)

        return one_by_one
