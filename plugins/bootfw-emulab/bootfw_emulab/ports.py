"""The ports of the plugin, which wait for their address, and for another program that has them."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall

from bootfw.api import Event, ListenerBound, ListenerFailed

RETRIED_EVERY = 1.0
"""Seconds until a port that can't be opened is tried again."""

Where = tuple[str, int]
"""(address, port)"""


@define(eq=False)
class _Wanted:
    """A port that is to be open."""

    service: str
    where: Where
    listen: Callable[[], Any]
    note: str
    open: Any = None
    """The IListeningPort; None: it is not open."""
    reason: str = ""
    """Why it could not be opened the last time."""


@define(eq=False)
class Ports:
    """Opens ports. At a reload the former instance of the plugin still has them, until what is under way has ended.

    :param reactor: IReactorTime.
    :param publish: takes the events: ListenerBound, and ListenerFailed when a reason is new.
    """

    _reactor: Any
    _publish: Callable[[Event], None]
    _wanted: list[_Wanted] = field(factory=list, init=False)
    _timer: "IDelayedCall | None" = field(default=None, init=False)

    def add(self, service: str, where: Where, listen: Callable[[], Any], note: str = "") -> None:
        """Want a port.

        :param where: address and port, for the events.
        :param listen: opens it, and returns the IListeningPort or raises CannotListenError.
        :param note: for the operator.
        """
        self._wanted.append(_Wanted(service, where, listen, note))

    def open(self) -> None:
        """Open those that are not open, now and again until all of them are."""
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
                    self._publish(ListenerFailed(now, wanted.service, wanted.where, f"{reason}; it is tried again"))
            else:
                wanted.reason = ""
                self._publish(ListenerBound(now, wanted.service, wanted.where, wanted.note))
        if any(wanted.open is None for wanted in self._wanted):
            self._timer = self._reactor.callLater(RETRIED_EVERY, self.open)

    def close(self) -> list["Deferred[Any]"]:
        """Close them. Each Deferred fires when one of them is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        closing = [maybeDeferred(wanted.open.stopListening) for wanted in self._wanted if wanted.open is not None]
        self._wanted = []
        return closing
