"""Opens the ports of the plugin, again and again until their address exists and no other program has them."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall

from bootfw.api import Event, ListenerBound, ListenerFailed

RETRIED_EVERY = 1.0
"""Seconds until a port that can't be opened is tried again."""

HostPort = tuple[str, int]
"""(address, port)"""


@define(eq=False)
class _WantedPort:
    """A port that the configuration asks for."""

    service: str
    host_port: HostPort
    listen: Callable[[], Any]
    note: str
    open: Any = None
    """The IListeningPort; None: it is not open."""
    reason: str = ""
    """Why it could not be opened the last time."""


@define(eq=False)
class Ports:
    """Opens ports. At a reload the old instance of the plugin has them until its requests in progress have ended.

    :param reactor: IReactorTime.
    :param publish: takes the events: ListenerBound, and ListenerFailed when a reason is new.
    """

    _reactor: Any
    _publish: Callable[[Event], None]
    _wanted: list[_WantedPort] = field(factory=list, init=False)
    _timer: "IDelayedCall | None" = field(default=None, init=False)

    def add(self, service: str, host_port: HostPort, listen: Callable[[], Any], note: str = "") -> None:
        """Add a port, which open() opens.

        :param host_port: address and port, for the events.
        :param listen: opens it, and returns the IListeningPort or raises CannotListenError.
        :param note: what it is for, in the event ListenerBound.
        """
        self._wanted.append(_WantedPort(service, host_port, listen, note))

    def open(self) -> None:
        """Open the ports that are not open; repeated every RETRIED_EVERY seconds until all of them are."""
        self._timer = None
        now = self._reactor.seconds()
        for wanted in self._wanted:
            if wanted.open is not None:
                continue
            try:
                wanted.open = wanted.listen()
            except CannotListenError as error:
                reason = str(getattr(error, "socketError", error))
                if reason != wanted.reason:
                    wanted.reason = reason
                    self._publish(ListenerFailed(now, wanted.service, wanted.host_port, f"{reason}; it is tried again"))
            else:
                wanted.reason = ""
                self._publish(ListenerBound(now, wanted.service, wanted.host_port, wanted.note))
        if any(wanted.open is None for wanted in self._wanted):
            self._timer = self._reactor.callLater(RETRIED_EVERY, self.open)

    def close(self) -> list["Deferred[Any]"]:
        """Close the ports. Each Deferred fires when one of them is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        closing = [maybeDeferred(wanted.open.stopListening) for wanted in self._wanted if wanted.open is not None]
        self._wanted = []
        return closing
