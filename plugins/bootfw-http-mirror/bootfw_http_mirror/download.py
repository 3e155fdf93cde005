"""A file that is being downloaded, and can be read meanwhile."""

import os
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from zope.interface import implementer

from bootfw.api import IReader, TransferError

LOST = "The file could not be fetched completely"


class Download(TimeoutMixin, Protocol):
    """Writes the body of a response into a file, and wakes the readers that wait for a part of it.

    :param fd: the file. This object owns it, and closes it after the last reader was closed.
    :param size: bytes that will come; None: not known.
    :param ended: called once, with whether the file is complete.
    """

    def __init__(self, reactor: Any, fd: int, size: int | None, timeout: float, ended: Callable[[bool], None]) -> None:
        self.callLater = reactor.callLater  # type: ignore[method-assign]
        self._fd = fd
        self._timeout = timeout
        self._ended = ended
        self._readers = 0
        self._waiting: list[tuple[int, Deferred[None]]] = []
        self.size = size
        self.received = 0
        self.complete: bool | None = None
        """None: it is still being downloaded."""

    def reader(self) -> "GrowingReader":
        """Another reader of the file."""
        self._readers += 1
        return GrowingReader(self)

    def forget_reader(self) -> None:
        """A reader was closed."""
        self._readers -= 1
        self._close_unused()

    def wait_for(self, end: int) -> "Deferred[None]":
        """Fires when *end* bytes have arrived, or the download has ended."""
        arrival: Deferred[None] = Deferred(self.stop_waiting)
        self._waiting.append((end, arrival))
        return arrival

    def stop_waiting(self, cancelled: "Deferred[None]") -> None:
        """*cancelled* is no longer to be fired."""
        self._waiting = [(end, arrival) for end, arrival in self._waiting if arrival is not cancelled]

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of that part that have arrived."""
        return os.pread(self._fd, max(0, min(length, self.received - offset)), offset)

    def connectionMade(self) -> None:
        """See IProtocol: the body begins."""
        self.setTimeout(self._timeout)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        """See IProtocol."""
        if self.complete is not None:
            return
        self.resetTimeout()  # type: ignore[no-untyped-call]
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(self._fd, view, self.received)
                self.received += written
                view = view[written:]
        except OSError:
            self._end(False)
            self._hang_up()
            return
        self._wake(self.received)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """See IProtocol: the body ends. Only with a length, or chunks, is it known to be complete."""
        if self.complete is None:
            self._end(isinstance(reason.value, ResponseDone) and self.size in (None, self.received))

    def timeoutConnection(self) -> None:
        """See TimeoutMixin: no data has arrived for too long."""
        if self.complete is None:
            self._end(False)
            self._hang_up()

    def _end(self, complete: bool) -> None:
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self.complete = complete
        self._ended(complete)
        self._wake(None)
        self._close_unused()

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def _wake(self, received: int | None) -> None:
        ready = [arrival for end, arrival in self._waiting if received is None or end <= received]
        self._waiting = [(end, arrival) for end, arrival in self._waiting if arrival not in ready]
        for arrival in ready:
            arrival.callback(None)

    def _close_unused(self) -> None:
        if self.complete is not None and not self._readers and self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


@implementer(IReader)
@define(eq=False)
class GrowingReader:
    """Reads what has arrived of a download, and waits for the rest."""

    _download: Download
    size: int | None = field(init=False)
    _waiting: "Deferred[None] | None" = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        # A download that is complete by now has a size, even if the response had no Content-Length.
        download = self._download
        self.size = download.received if download.complete else download.size

    def read(self, offset: int, length: int) -> "bytes | Deferred[bytes]":
        """See IReader."""
        end = offset + length if self.size is None else min(offset + length, self.size)
        if self._download.received >= end or self._download.complete is not None:
            return self._answer(offset, end)
        self._waiting = arrival = self._download.wait_for(end)
        return arrival.addCallback(lambda _: self._answer(offset, end))

    def close(self) -> None:
        """See IReader."""
        arrival, self._waiting = self._waiting, None
        if arrival is not None:
            self._download.stop_waiting(arrival)
        self._download.forget_reader()

    def _answer(self, offset: int, end: int) -> bytes:
        self._waiting = None
        if self._download.received < end and self._download.complete is False:
            raise TransferError(LOST)
        return self._download.read(offset, end - offset)
