"""Connects the BootService of a worker to the main process: its sockets come from there, and its events go there."""

import os
import socket
from collections.abc import Iterable
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from bootfw.events import (
    BackendProblem,
    Event,
    EventsDropped,
    ListenerBound,
    ListenerClosed,
    ReadinessChanged,
    TransferBegun,
)
from bootfw.net.listening import PortKey, PortSpec, listen_on
from bootfw.net.workers.channel import Channel

_NOT_SENT = (BackendProblem, ListenerBound, ListenerClosed, ReadinessChanged)
"""Events that the main process publishes itself."""


@define(eq=False)
class GivenSockets:
    """The SocketSource of a worker: the main process has opened every socket."""

    _reactor: Any
    _sockets: dict[PortKey, socket.socket]
    """The sockets that no port uses yet."""
    _ports: dict[PortKey, Any] = field(factory=dict, init=False)
    follow_interfaces: bool = field(default=False, init=False)
    """The main process does that, and sends "reopened" when it has replaced a socket."""

    def add(self, sockets: Iterable[tuple[PortKey, socket.socket]]) -> None:
        """Add sockets for the ports of another configuration."""
        self._sockets.update(sockets)

    def close_unused(self) -> None:
        """Close the sockets that no port uses: datagrams that arrive there would wait for ever."""
        unused, self._sockets = self._sockets, {}
        for sock in unused.values():
            sock.close()

    def listen(self, spec: PortSpec) -> Any:
        """See SocketSource."""
        sock = self._sockets.pop(spec.key)
        port = self._ports[spec.key] = listen_on(self._reactor, spec, sock)
        return port

    def take_closed(self) -> list[PortKey]:
        """Return the keys of the ports that are closed, and forget them."""
        closed = [key for key, port in self._ports.items() if port.fileno() < 0]
        for key in closed:
            del self._ports[key]
        return closed

    def replace(self, key: PortKey, sock: socket.socket) -> None:
        """Put another socket behind the descriptor of a port. Its transfers go on; *sock* itself is closed."""
        with sock:
            port = self._ports.get(key)
            # A reload may have closed the port here before the message came.
            if port is None or port.fileno() < 0:
                return
            # epoll(7) watches the open socket and not the number. The main process still has the old socket open, so
            # epoll would go on reporting it: remove it before dup2(2), and add the new one.
            reads = port in self._reactor.getReaders()
            if reads:
                self._reactor.removeReader(port)
            os.dup2(sock.fileno(), port.fileno(), inheritable=False)
            if reads:
                self._reactor.addReader(port)


MAX_QUEUED = 20_000
"""Events that are queued while the main process does not read."""


@define(eq=False)
class EventPipe:
    """The EventSink of a worker: sends its events to the main process, which has the observers.

    Events are sent once per turn of the reactor, except TransferBegun, which is sent before the client gets its reply:
    if this process dies then, its successor must know the transfer that the client will continue.
    """

    _reactor: IReactorTime
    _channel: Channel
    _given_sockets: GivenSockets
    _events: list[Event] = field(factory=list, init=False)
    _scheduled: "IDelayedCall | None" = field(default=None, init=False)
    """The call that sends the events in the next turn of the reactor; None: there is none."""
    _paused: bool = field(default=False, init=False)
    """Whether the pipe is full."""
    _dropped: int = field(default=0, init=False)

    def publish(self, event: Event) -> None:
        """See EventSink. Beyond MAX_QUEUED events are dropped and counted."""
        if type(event) is ListenerClosed:
            # The main process publishes it when no process has the port any more.
            for key in self._given_sockets.take_closed():
                self._channel.send("closed", key)
        if isinstance(event, _NOT_SENT):
            return
        if len(self._events) >= MAX_QUEUED:
            self._dropped += 1
            return
        self._events.append(event)
        if self._paused:
            return
        if type(event) is TransferBegun:
            self.flush()
        else:
            self._send_soon()

    def _send_soon(self) -> None:
        if self._scheduled is None:
            self._scheduled = self._reactor.callLater(0, self._send)

    def _send(self) -> None:
        self._scheduled = None
        if not self._paused:
            self.flush()

    def flush(self) -> None:
        """Send the queued events now."""
        # After the queued events, since those were published before the queue was full.
        if self._dropped:
            self._events.append(EventsDropped(self._reactor.seconds(), self._dropped))
            self._dropped = 0
        events, self._events = self._events, []
        if events:
            self._channel.send("events", events)

    # IPushProducer: the pipe is full, or empty again.

    def pauseProducing(self) -> None:
        """Queue the events."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Send the queued events."""
        self._paused = False
        if self._events:
            self._send_soon()

    def stopProducing(self) -> None:
        """Queue the events: the main process has ended."""
        self._paused = True
