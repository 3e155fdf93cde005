"""Responses to a plain GET of a small file, ready to be sent by one system call.

It sends the bytes and publishes the events that a Download does for a file that is opened, read and written in one
turn; tests/net/test_http_fastpath.py compares both. A response is kept for one version of a file, and the backend gives
the current version for each request. For a backend that has no versions (IVersionedBackend) the file is opened each
time.
"""

from typing import Any, NamedTuple

from attrs import define, field

from bootfw.ability import provides
from bootfw.events import TransferBegun, TransferEnded
from bootfw.interfaces import IFileReader
from bootfw.net.http import headers
from bootfw.net.http.download import CHUNK, NO_OPTIONS
from bootfw.net.http.downloadcontext import DownloadContext
from bootfw.net.http.mediatype import HEAD
from bootfw.net.http.plainrequest import PlainRequest, respond
from bootfw.values import Outcome, TransferReport, TransferRequest

LARGEST = CHUNK
"""Bytes of a small file: what a Download reads and writes at once."""

KEPT = 16 * 1024 * 1024
"""Bytes of responses that are kept; the oldest is dropped first."""


class _Response(NamedTuple):
    after_date: bytes
    """What follows the date."""
    size: int
    """Bytes of the file."""


@define(eq=False)
class SmallFiles:
    """The responses of one site.

    :param capacity: bytes of responses that are kept at most.
    """

    _context: DownloadContext
    _capacity: int = KEPT
    _responses: dict[tuple[str, object], _Response] = field(factory=dict, init=False)
    """Path and identity of the content -> its response."""
    bytes_kept: int = field(default=0, init=False)
    """Bytes of all responses that are kept now."""

    def repeat(self, transport: Any, request: TransferRequest, closes: bool) -> bool:
        """Answer a plain GET with a response that is kept.

        :param closes: the connection ends with it.
        :return: false: nothing was done, the file is to be opened.
        """
        version = self._context.version(request)
        response = self._responses.get((request.path, version)) if version is not None else None
        if response is None:
            return False
        began = self._begin(request)
        respond(transport, closes, response.after_date)
        self._end(request, began, response.size)
        return True

    def serve(self, http: PlainRequest, request: TransferRequest, reader: Any) -> bool:
        """Answer a plain GET, and close *reader*.

        :param reader: what the backend's open() returned.
        :return: false: nothing was done, it is for a Download.
        """
        if not provides(reader, IFileReader):
            return False
        # Without an identity nothing would say that the file has changed.
        size, identity = reader.size, reader.identity
        if identity is None or not size or size > LARGEST:
            return False
        key = request.path, identity
        response = self._responses.get(key)
        if response is None:
            after_date = self._prepare(http, request, reader, size)
            if after_date is None:
                return False
            response = _Response(after_date, size)
            self._keep(key, response)
        # The order of a Download: TransferBegun, the response, the reader is closed, TransferEnded.
        began = self._begin(request)
        http.respond(response.after_date)
        reader.close()
        self._end(request, began, size)
        http.finish()
        return True

    def _begin(self, request: TransferRequest) -> float:
        began = float(self._context.reactor.seconds())
        self._context.publish(TransferBegun(began, request, NO_OPTIONS))
        return began

    def _end(self, request: TransferRequest, began: float, size: int) -> None:
        ended = self._context.reactor.seconds()
        report = TransferReport(
            request=request,
            agreed=NO_OPTIONS,
            outcome=Outcome.COMPLETE,
            detail="",
            bytes_transferred=size,
            blocks=0,
            retransmitted=0,
            began=began,
            ended=ended,
        )
        self._context.publish(TransferEnded(ended, report))

    def _prepare(self, http: PlainRequest, request: TransferRequest, reader: Any, size: int) -> bytes | None:
        """Make the response; None: the file can't be read, which a Download will report."""
        try:
            validators = headers.validators_of(reader, size)
            body = self._context.read(reader, request.filename, 0, size)
        except Exception:
            return None
        # A Deferred, or bytes that a plugin may change later, or a file that has changed: a Download handles these.
        if type(body) is not bytes or len(body) != size:
            return None
        types = self._context.types
        kind = types.of(request.path, validators.etag) or types.examine(request.path, validators.etag, body[:HEAD])
        headers.describe(http, kind, validators, size)
        http.setHeader(b"Content-Length", b"%d" % size)
        return http.end_of_head() + body

    def _keep(self, key: tuple[str, object], response: _Response) -> None:
        self._responses[key] = response
        self.bytes_kept += len(response.after_date)
        while self.bytes_kept > self._capacity:
            self.bytes_kept -= len(self._responses.pop(next(iter(self._responses))).after_date)
