"""The sockets of a service, which of them are bound, and whether it is ready, as JSON values."""

from typing import Any

from bootfw.events import Event, ListenerBound, ListenerClosed
from bootfw.net.listening import Listening
from bootfw.service import BootService


class Sockets:
    """Follows the events about the sockets of *boot*."""

    def __init__(self, boot: BootService) -> None:
        self._boot = boot
        self._bound: dict[tuple[Any, ...], float] = {}
        """(service, address, note) -> since when."""

    def observe(self, event: Event) -> bool:
        """Take an event. Returns whether it was about sockets."""
        if type(event) is ListenerBound:
            self._bound[event.service, event.address, event.note] = event.at
        elif type(event) is ListenerClosed:
            self._bound = {key: at for key, at in self._bound.items() if key[:2] != (event.service, event.address)}
        else:
            return False
        return True

    def readiness(self) -> dict[str, Any]:
        """``ready``, and ``waiting``: what keeps the service from that."""
        if not self._boot.running:
            return {"ready": False, "waiting": [{"reason": "the service is not running"}]}
        waiting = [
            {"service": record["service"], "address": record["address"], "reason": record["reason"]}
            for record in self.records()
            if record["state"] != "bound"
        ]
        return {"ready": not waiting, "waiting": waiting}

    def records(self) -> list[dict[str, Any]]:
        """The wanted sockets, each with its state."""
        return [self._record(row) for row in self._boot.summary()]

    def _record(self, row: Listening) -> dict[str, Any]:
        since = self._bound.get((row.service, row.address, row.note))
        device = row.note.removeprefix("on ")
        return {
            "service": row.service,
            "address": row.address[0],
            "port": row.address[1],
            "device": device,
            "state": "waiting" if since is None else "bound",
            "reason": f"interface {device or row.address[0]} does not exist" if since is None else "",
            "since": since,
        }
