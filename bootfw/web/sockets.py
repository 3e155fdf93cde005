"""The sockets of a service, which of them are bound, and whether it is ready, as JSON values."""

from typing import Any

from bootfw.events import Event, ListenerBound, ListenerClosed, ReadinessChanged, SocketChanged
from bootfw.service import BootService
from bootfw.values import SocketStatus

_ABOUT_SOCKETS = (ListenerBound, ListenerClosed, SocketChanged, ReadinessChanged)


class Sockets:
    """The wanted sockets of *boot*."""

    def __init__(self, boot: BootService) -> None:
        self._boot = boot

    def observe(self, event: Event) -> bool:
        """Take an event. Returns whether the state of a socket or the readiness has changed."""
        return type(event) in _ABOUT_SOCKETS

    def readiness(self) -> dict[str, Any]:
        """``ready``, and ``waiting``: the sockets that keep the service from being ready."""
        if not self._boot.running:
            return {"ready": False, "waiting": [{"reason": "the service is not running"}]}
        waiting = [
            {"service": status.service, "address": status.address[0], "reason": status.reason}
            for status in self._boot.sockets()
            if status.state != "bound" and not status.optional
        ]
        if self._boot.draining:
            waiting.append({"reason": "the server drains: it is about to stop"})
        return {"ready": self._boot.ready, "waiting": waiting}

    def records(self) -> list[dict[str, Any]]:
        """The wanted sockets, each with its state."""
        return [_record(status) for status in self._boot.sockets()]


def _record(status: SocketStatus) -> dict[str, Any]:
    return {
        "service": status.service,
        "address": status.address[0],
        "port": status.address[1],
        "device": status.device,
        "state": status.state,
        "reason": status.reason,
        "since": status.since,
    }
