"""What the downloads of one HTTP site share."""

from collections.abc import Callable, Hashable
from typing import Any

from attrs import define, field

from bootfw.ability import provides
from bootfw.boot.backends import LayeredBackend
from bootfw.boot.onceper import BLOCKED_SECONDS, BlockingCalls, class_name
from bootfw.errors import FileMissing
from bootfw.events import Event
from bootfw.interfaces import IBackend, IBatchingBackend, IReader, IVersionedBackend
from bootfw.net.alarm import Alarm
from bootfw.net.http.mediatype import MediaTypes
from bootfw.values import TransferRequest
from bootfw.wire.http import names_directory


@define(eq=False)
class DownloadContext:
    """What all downloads of one site share: the backend, their alarm, and the set of those under way."""

    reactor: Any
    backend: IBackend
    publish: Callable[[Event], None]
    alarm: Alarm[Any]
    """Calls ring() of downloads, and of the site's connections. Idle connections keep it armed: to arm a timer for each
    download would cost more than a small download itself."""
    downloads: set[Any] = field(factory=set, init=False)
    """The downloads under way, without those that smallfiles.py answers."""
    types: MediaTypes = field(factory=MediaTypes, init=False)
    blocking: BlockingCalls = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.blocking = BlockingCalls(self.publish, self.reactor.seconds)

    def open(self, request: TransferRequest) -> Any:
        """Return what the backend's open() returns for *request*.

        :raise FileMissing: the name can't be that of a file.
        """
        if "\0" in request.filename:
            raise FileMissing()
        if names_directory(request.filename):
            if not isinstance(self.backend, LayeredBackend):
                raise FileMissing()
            return self.backend.open_directory(request.path, request)
        return self.backend.open(request.path, request)

    def version(self, request: TransferRequest) -> Hashable | None:
        """Return the identity of the content that open() would find; None: only open() finds out."""
        if not provides(self.backend, IVersionedBackend):
            return None
        try:
            return self.backend.version(request.path, request)
        except Exception:
            return None  # open() reports it

    def read(self, reader: IReader, name: str, offset: int, length: int) -> Any:
        """Return what *reader*, of the file *name*, returns. A call that has blocked the reactor is published."""
        began = self.reactor.seconds()
        answer = reader.read(offset, length)
        took = self.reactor.seconds() - began
        if took > BLOCKED_SECONDS:
            self.blocking.report(f"reader {class_name(reader)}", f"read() of {name!r}", took)
        return answer

    def backend_of(self, answer: Any) -> str:
        """Return the name of the backend that *answer*, a Deferred that open() returned, waits for."""
        return self.backend.pending_backend(answer) if provides(self.backend, IBatchingBackend) else "the backend"
