"""A BootService with HTTP only, as tests see it."""

from collections.abc import Callable
from typing import Any, Protocol

from observers import EventList

from bootfw.config.settings import HTTPSettings
from bootfw.service import BootService


class Observer(EventList):
    @property
    def reports(self) -> list[Any]:
        return [event.report for event in self.events if hasattr(event, "report")]


WebService = Callable[[Any, HTTPSettings], tuple[BootService, Observer]]
"""The fixture ``web_service``: starts a service of a backend."""

Curl = Callable[..., tuple[int, bytes]]
"""The fixture ``curl``: runs it with these arguments, and gives its exit code and output."""


class RunClient(Protocol):
    """The fixture ``run_client``: runs a program, and gives its exit code and output."""

    def __call__(self, program: str, *words: object, seconds: float = 15) -> tuple[int, bytes]: ...


def where(service: BootService, row: int = 0) -> tuple[str, int]:
    """The address and port of a listener."""
    host, port = service.summary()[row].address[:2]
    return host, port
