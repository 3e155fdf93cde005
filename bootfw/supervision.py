"""Reports the state of a BootService to a service manager such as systemd: ready, waiting, alive, stopping."""

from collections.abc import MutableMapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from bootfw.events import Event, ListenerBound, ListenerClosed, ReadinessChanged, SocketChanged
from bootfw.interfaces import IBootObserver
from bootfw.net.linux.notifysocket import NotifySocket
from bootfw.service import BootService
from bootfw.values import SocketStatus

_ABOUT_SOCKETS = (ListenerBound, ListenerClosed, SocketChanged, ReadinessChanged)

_SEND_AGAIN = 0.5
"""Seconds until a message is sent again that the service manager had no room for: while a host starts it has many."""

_MESSAGES_PER_TIMEOUT = 2
"""WATCHDOG=1 messages that are sent within the watchdog timeout of the service manager."""


@implementer(IBootObserver)
class Supervision(Service):
    """Sends READY=1 when every wanted socket is bound, STATUS= when that changes, and WATCHDOG=1 regularly.

    WATCHDOG=1 is sent by a timer of the reactor. If a plugin blocks the reactor, it is missing, and the service manager
    restarts the server.

    :param reactor: IReactorTime.
    """

    def __init__(self, reactor: Any, boot: BootService, notify_socket: NotifySocket) -> None:
        self._reactor = reactor
        self._boot = boot
        self._socket = notify_socket
        self._ready = False
        self._status = ""
        self._next_update: IDelayedCall | None = None
        """The first update, or another one after a message that could not be sent."""
        self._next_beat: IDelayedCall | None = None

    def startService(self) -> None:
        """See IService. Start it after the BootService."""
        super().startService()  # type: ignore[no-untyped-call]
        # In the next reactor turn, after the events about the sockets that are bound now have been delivered.
        self._update_after(0)
        if self._socket.watchdog is not None:
            self._keep_alive(self._socket.watchdog / _MESSAGES_PER_TIMEOUT)

    def stopService(self) -> None:
        """See IService."""
        super().stopService()  # type: ignore[no-untyped-call]
        for call in (self._next_update, self._next_beat):
            if call is not None and call.active():
                call.cancel()
        self._next_update = self._next_beat = None
        self._socket.stopping()
        self._ready, self._status = False, ""

    def reloading(self) -> None:
        """Report that the configuration is being reloaded."""
        if self._ready:
            self._socket.reloading()

    def reloaded(self) -> None:
        """Report that the reload has ended."""
        if self._ready:
            self._ready = False
            self._update()

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        if self.running and type(event) in _ABOUT_SOCKETS:
            self._update()

    def _update(self) -> None:
        sent = True
        if self._boot.ready and not self._ready:
            self._ready = sent = self._socket.ready()
        status = _in_words(self._boot.sockets())
        if sent and status != self._status:
            sent = self._socket.notify(STATUS=status)
            if sent:
                self._status = status
        if not sent:
            self._update_after(_SEND_AGAIN)

    def _update_after(self, seconds: float) -> None:
        if self._next_update is None or not self._next_update.active():
            self._next_update = self._reactor.callLater(seconds, self._update)

    def _keep_alive(self, interval: float) -> None:
        self._socket.notify(WATCHDOG="1")
        self._next_beat = self._reactor.callLater(interval, self._keep_alive, interval)


def _in_words(sockets: tuple[SocketStatus, ...]) -> str:
    serving = dict.fromkeys(socket.service for socket in sockets if socket.state == "bound")
    parts = [f"serving {', '.join(serving)}"] if serving else []
    waiting = [socket for socket in sockets if socket.state != "bound"]
    if waiting:
        parts.append("waiting for " + ", ".join(map(_waited_for, waiting)))
    return "; ".join(parts)


def _waited_for(socket: SocketStatus) -> str:
    return f"{socket.service} on {socket.device or socket.address[0]}"


def add_supervision(reactor: Any, boot: BootService, environ: MutableMapping[str, str]) -> Supervision | None:
    """Return a service that reports on *boot* to the service manager in *environ* (NOTIFY_SOCKET); None: there is
    none."""
    notify_socket = NotifySocket.from_environ(environ)
    if notify_socket is None:
        return None
    supervision = Supervision(reactor, boot, notify_socket)
    boot.add_observer(supervision, "service manager")
    return supervision
