"""``/healthz`` and ``/readyz``, for probes of load balancers, containers and systemd units."""

from typing import Any

from bootfw.web.replies import Page, as_json
from bootfw.web.sockets import Sockets


class Alive(Page):
    """``/healthz``: 200 while the reactor runs; while it is blocked there is no response."""

    def get(self, request: Any) -> bytes:
        """See Page."""
        return as_json(request, {"alive": True})


class Ready(Page):
    """``/readyz``: 200 when every wanted socket is bound, else 503 with those that are not, and why."""

    def __init__(self, sockets: Sockets) -> None:
        super().__init__()
        self._sockets = sockets

    def get(self, request: Any) -> bytes:
        """See Page."""
        found = self._sockets.readiness()
        return as_json(request, found, 200 if found["ready"] else 503)
