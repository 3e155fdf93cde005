"""A worker's end of what it has in common with the process that has started it, and with the other workers."""

import socket
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from bootfw.events import BackendProblem, Event, EventsDropped, ListenerBound, ListenerClosed
from bootfw.interfaces import IBootObserver
from bootfw.net.channel import Channel
from bootfw.net.workers import without_lookup

Place = tuple[str, tuple[str, int]]
"""(service, (address, port) as configured)."""

_OURS_ALONE = (BackendProblem, ListenerBound, ListenerClosed)
"""What the process that has started this one says itself."""


@define(eq=False)
class Worker:
    """Takes the place of Workers in a process that is one.

    :param sockets: what it listens on.
    """

    channel: Channel
    _sockets: Mapping[Place, socket.socket]
    publish: Callable[[Event], None] = field(default=lambda event: None, init=False)
    """Not used: what happens here is told by Telling."""
    lookup: Any = field(default=None, init=False)
    """Not used either."""
    memory: Callable[[], list[tuple[str, tuple[Any, ...]]]] = field(default=list, init=False)
    """Not used: nobody is started here."""
    hear: dict[str, Callable[..., None]] = field(factory=dict, init=False)
    """By the kind of a message: what is done with what others tell."""

    def open(self, service: str, address: tuple[str, int]) -> None:
        """Nothing is shared with others from here."""

    def socket(self, service: str, address: tuple[str, int]) -> socket.socket:
        """The one that was made for it."""
        return self._sockets[service, address]

    def start(self) -> None:
        """There is nobody to be started."""

    def stop(self) -> None:
        """There is nobody to be stopped."""

    def tell(self, kind: str, *values: Any) -> None:
        """Tell all the others."""
        self.channel.tell(kind, *values)

    def heard(self, kind: str, values: tuple[Any, ...]) -> None:
        """Somebody has told something."""
        if kind in self.hear:
            self.hear[kind](*values)


BEHIND = 20_000
"""Events that are kept while the other process does not read."""


@implementer(IBootObserver)
@define(eq=False)
class Telling:
    """Has the observers of another process told what happens in this one, some at a time."""

    _reactor: IReactorTime
    _channel: Channel
    _events: list[Event] = field(factory=list, init=False)
    _waiting: bool = field(default=False, init=False)
    _paused: bool = field(default=False, init=False)
    _dropped: int = field(default=0, init=False)

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        if isinstance(event, _OURS_ALONE):
            return
        if len(self._events) >= BEHIND:
            self._dropped += 1
            return
        self._events.append(without_lookup(event))
        if not self._waiting and not self._paused:
            self._waiting = True
            self._reactor.callLater(0, self.flush)

    def flush(self) -> None:
        """Tell now."""
        self._waiting = False
        if self._dropped:
            self._events.append(EventsDropped(self._reactor.seconds(), self._dropped))
            self._dropped = 0
        events, self._events = self._events, []
        if events:
            self._channel.tell("events", events)

    # IPushProducer: the pipe is full, or empty again.

    def pauseProducing(self) -> None:
        """Keep what happens."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Tell what was kept."""
        self._paused = False
        if self._events and not self._waiting:
            self._waiting = True
            self._reactor.callLater(0, self.flush)

    def stopProducing(self) -> None:
        """Nobody reads any more."""
        self._paused = True
