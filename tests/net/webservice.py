"""A BootService with HTTP only, as tests see it."""

from collections.abc import Callable
from typing import Any, Protocol

from observers import EventList

from bootfw.config.settings import HTTPSettings
from bootfw.service import BootService


class Observer(EventList):
    """Keeps the events that it observes, and with them the reports of the transfers."""

    @property
    def reports(self) -> list[Any]:
        return [event.report for event in self.events if hasattr(event, "report")]


WebService = Callable[[Any, HTTPSettings], tuple[BootService, Observer]]
"""The fixture ``web_service``: starts a service with a backend."""

Curl = Callable[..., tuple[int, bytes]]
"""The fixture ``curl``: runs curl with arguments, and returns its exit code and output."""


class RunClient(Protocol):
    """The fixture ``run_client``: runs a program, and returns its exit code and output."""

    def __call__(self, program: str, *arguments: object, seconds: float = 60) -> tuple[int, bytes]: ...


def address_of(service: BootService) -> tuple[str, int]:
    """Return the address and port on which its HTTP server listens."""
    host, port = service.summary()[0].address[:2]
    return host, port
