"""The state of the sockets of a service and its readiness, as JSON values."""

from typing import Any

from bootfw.events import Event, ListenerBound, ListenerClosed, ReadinessChanged, SocketChanged
from bootfw.service import BootService
from bootfw.values import SocketStatus

_CHANGES = (ListenerBound, ListenerClosed, SocketChanged, ReadinessChanged)


class Sockets:
    """The wanted sockets of *boot*."""

    def __init__(self, boot: BootService) -> None:
        self._boot = boot

    def changed_by(self, event: Event) -> bool:
        """Return whether *event* changes the state of a socket or the readiness."""
        return type(event) in _CHANGES

    def readiness(self) -> dict[str, Any]:
        """Return ``ready``, and ``waiting``: the sockets that keep the service from being ready."""
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
        """Return a record of each wanted socket, with its state."""
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
