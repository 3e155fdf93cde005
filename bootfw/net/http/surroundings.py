"""What the downloads of one HTTP site share."""

from collections.abc import Callable
from typing import Any

from attrs import define, field

from bootfw.events import Event
from bootfw.interfaces import IBackend
from bootfw.net.alarm import Alarm
from bootfw.net.http.mediatype import MediaTypes


@define(eq=False)
class Surroundings:
    """The backend, and the downloads that are under way."""

    reactor: Any
    backend: IBackend
    publish: Callable[[Event], None]
    alarm: Alarm[Any] = field(init=False)
    downloads: set[Any] = field(factory=set, init=False)
    types: MediaTypes = field(factory=MediaTypes, init=False)

    def __attrs_post_init__(self) -> None:
        self.alarm = Alarm(self.reactor, lambda download, now: download.ring(now))

    def backend_of(self, answer: Any) -> str:
        """Which backend is waited for, when open() has answered with the Deferred *answer*."""
        name: Callable[[Any], str] | None = getattr(self.backend, "backend_of", None)
        return name(answer) if name is not None else "the backend"
