"""A worker's end of what it has in common with the process that has started it, and with the other workers."""

import socket
from collections.abc import Mapping
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from bootfw.events import BackendProblem, Event, EventsDropped, ListenerBound, ListenerClosed, TransferBegun
from bootfw.net.workers.channel import Channel
from bootfw.net.workers.supervisor import Hear, without_lookup

Place = tuple[str, tuple[str, int], str]
"""(service, (address, port) as configured, interface or "")."""

_OURS_ALONE = (BackendProblem, ListenerBound, ListenerClosed)
"""What the process that has started this one says itself."""


@define(eq=False)
class Worker:
    """Takes the place of Workers in a process that is one.

    :param sockets: what it listens on.
    """

    channel: Channel
    telling: "Telling"
    """Where what happens here is published."""
    _sockets: Mapping[Place, socket.socket]
    _hear: Hear = field(factory=dict, init=False)

    def join(self, hear: Hear, **_: Any) -> None:
        """See Workers. What only the process that starts workers needs is not looked at."""
        self._hear = hear

    def open(self, service: str, address: tuple[str, int], device: str = "") -> None:
        """Nothing is shared with others from here."""

    def socket(self, service: str, address: tuple[str, int], device: str = "") -> socket.socket:
        """The one that was made for it."""
        return self._sockets[service, address, device]

    def start(self) -> None:
        """There is nobody to be started."""

    def stop(self) -> None:
        """There is nobody to be stopped."""

    def tell(self, kind: str, *values: Any) -> None:
        """Tell all the others."""
        self.channel.tell(kind, *values)

    def heard(self, kind: str, values: tuple[Any, ...]) -> None:
        """Somebody has told something."""
        if kind in self._hear:
            self._hear[kind](*values)


BEHIND = 20_000
"""Events that are kept while the other process does not read."""


@define(eq=False)
class Telling:
    """Takes the place of Publisher in a worker: the observers are another process's, which is told.

    That happens once in a turn of the reactor. Only that a transfer begins is told before its client is answered:
    should this process end then, its successor must know what the client will go on with.
    """

    _reactor: IReactorTime
    _channel: Channel
    _events: list[Event] = field(factory=list, init=False)
    _waiting: bool = field(default=False, init=False)
    _paused: bool = field(default=False, init=False)
    _dropped: int = field(default=0, init=False)

    def publish(self, event: Event) -> None:
        """Never blocks, never raises; beyond the limit the event is dropped and that is counted."""
        if isinstance(event, _OURS_ALONE):
            return
        if len(self._events) >= BEHIND:
            self._dropped += 1
            return
        self._events.append(without_lookup(event))
        if self._paused:
            return
        if type(event) is TransferBegun:
            self.flush()
        else:
            self._tell_soon()

    def _tell_soon(self) -> None:
        if not self._waiting:
            self._waiting = True
            self._reactor.callLater(0, self._tell)

    def _tell(self) -> None:
        self._waiting = False
        if not self._paused:
            self.flush()

    def flush(self) -> None:
        """Tell now."""
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
        if self._events:
            self._tell_soon()

    def stopProducing(self) -> None:
        """Nobody reads any more."""
        self._paused = True
