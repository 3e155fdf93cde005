"""Requests: a handler for each, and its content as a reader of bootfw."""

import logging
from threading import Lock
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from bootfw.api import (
    AccessViolation,
    Address,
    Agreed,
    FileMissing,
    IBackend,
    IReader,
    Outcome,
    TransferError,
    TransferReport,
    TransferRequest,
    relative_path,
)
from fbtftp import constants
from fbtftp.base_handler import BaseHandler

if TYPE_CHECKING:
    from fbtftp.base_server import BaseServer

_HELD_READS = 5
"""The window and four blocks beyond it are in flight at most, and may be read again."""

_SUCCESSFUL = (Outcome.COMPLETE, Outcome.SIZE_PROBE)


@implementer(IReader)
@define(eq=False)
class HandlerReader:
    """The content of *handler*, which is read once, from its beginning to its end; what may be sent again is held."""

    handler: BaseHandler
    size: int | None
    _backend: "HandlerBackend"
    peer: Address
    blksize: int = constants.DEFAULT_BLKSIZE
    """Bytes of a block. Some contents refuse to read more at once, since fbtftp never did."""
    report: TransferReport | None = None
    """How the transfer ended."""
    _held: bytearray = field(factory=bytearray, init=False)
    _held_from: int = field(default=0, init=False)
    """The offset of what is held."""
    _longest: int = field(default=0, init=False)
    """The most bytes that one read was for."""
    _lock: Lock = field(factory=Lock, init=False)

    def read(self, offset: int, length: int) -> Any:
        """See bootfw.api.IReader."""
        start = offset - self._held_from
        if len(self._held) - start >= length:
            return bytes(self._held[start : start + length])
        return self._backend.in_thread(self._read_on, offset, length)

    def _read_on(self, offset: int, length: int) -> bytes:
        with self._lock:
            self._longest = max(self._longest, length)
            end = offset + length - self._held_from
            while len(self._held) < end:
                data = self.handler._response_data.read(min(self.blksize, end - len(self._held)))
                if not data:
                    break
                self._held += data
            start = offset - self._held_from
            content = bytes(self._held[start : start + length])
            dropped = len(self._held) - _HELD_READS * self._longest
            if dropped > 0:
                del self._held[:dropped]
                self._held_from += dropped
            return content

    def close(self) -> None:
        """See bootfw.api.IReader."""
        self._backend.reader_closed(self)

    def end(self) -> None:
        """Report to the handler how the transfer ended. Called in a thread; waits for a read() that is running."""
        with self._lock:
            if self.report is not None:
                _fill_in(self.handler._stats, self.report)
            else:
                self.handler._stats.error = {
                    "error_code": constants.ERR_UNDEFINED,
                    "error_message": "the client did not wait for the handler",
                }
            self.handler._close()


def _fill_in(stats: Any, report: TransferReport) -> None:
    options = dict(report.agreed.acknowledged)
    stats.options = stats.options_acked = options
    stats.blksize = report.agreed.blksize
    # An OACK is a packet like a block: ACK 0 acknowledges it.
    stats.packets_acked = report.blocks + (1 if options and report.blocks else 0)
    complete = report.outcome is Outcome.COMPLETE
    stats.packets_sent = stats.packets_acked + (0 if complete else 1) + report.retransmitted
    stats.bytes_sent = report.bytes_transferred
    stats.retransmits = report.retransmitted
    if report.outcome not in _SUCCESSFUL:
        message = report.detail or report.outcome.value
        stats.error = {"error_code": constants.ERR_UNDEFINED, "error_message": message}


@implementer(IBackend)
class HandlerBackend:
    """Opens the content that the handlers of *server* return. The handlers run in *pool*."""

    def __init__(self, server: "BaseServer", reactor: Any, pool: Any) -> None:
        self._server = server
        self._reactor = reactor
        self._pool = pool
        self._readers: dict[Address, HandlerReader] = {}
        """Of the transfers that are under way, by the address of the client."""

    def in_thread(self, call: Any, *arguments: Any) -> "Deferred[Any]":
        """Call *call* in a thread."""
        return deferToThreadPool(self._reactor, self._pool, call, *arguments)

    def open(self, path: str, request: TransferRequest) -> "Deferred[Any]":
        """See bootfw.api.IBackend."""
        opened: Deferred[Any] = Deferred(lambda cancelled: None)

        def answer_open(reader: HandlerReader) -> None:
            if opened.called:  # cancelled: the client did not wait
                reader.close()
                return
            self._readers[reader.peer] = reader
            opened.callback(reader)

        def fail_open(failure: Any) -> None:
            if not opened.called:
                opened.errback(failure)

        # Quirks of some clients have another path than the client sent.
        name = request.filename if path == relative_path(request.filename) else path
        self.in_thread(self._handle, name, request).addCallbacks(answer_open, fail_open)
        return opened

    def _handle(self, name: str, request: TransferRequest) -> HandlerReader:
        """Make a handler, in a thread.

        :raise TransferError: for the client.
        """
        server = self._server
        filename = name.encode("utf-8", "surrogateescape").decode("latin-1")
        requested = {"mode": request.mode.value} | {option.lower(): value for option, value in request.options}
        options = {
            "mode": request.mode.value,
            "default_timeout": server._timeout,
            "retries": server._retries,
        } | requested
        peer = request.peer[0], request.peer[1]
        server._server_stats.increment_counter("process_count")
        try:
            handler = server.get_handler((server._address, server._port), peer, filename, options)
        except Exception:
            logging.exception("get_handler raised an exception for %s", filename)
            raise TransferError("Internal error") from None
        if handler is None:
            logging.warning("get_handler has no handler for %s, which %s requests", filename, peer[0])
            raise AccessViolation("Not served")
        if not isinstance(handler, BaseHandler):
            logging.error("get_handler has returned %r, which is no BaseHandler", handler)
            raise TransferError("Internal error")
        handler._stats.options_in = requested
        if handler._refusal is not None or handler._stats.error:
            handler._close()
            raise _refusal_for_client(handler)
        try:
            size = handler._response_data.size()
        except Exception as error:
            logging.exception("The size of %s is not known", filename)
            handler._stats.error = {"error_code": constants.ERR_UNDEFINED, "error_message": str(error)}
            handler._close()
            raise TransferError("Internal error") from None
        return HandlerReader(handler, size, self, request.peer)

    def transfer_begun(self, request: TransferRequest, agreed: Agreed) -> None:
        """Take what is agreed for a transfer, before its content is read."""
        self._readers[request.peer].blksize = agreed.blksize

    def transfer_ended(self, report: TransferReport) -> None:
        """Take the report of a transfer. Its reader is closed in the same turn of the reactor, before or after."""
        reader = self._readers.pop(report.request.peer, None)
        if reader is not None:
            reader.report = report

    def reader_closed(self, reader: HandlerReader) -> None:
        """Report to the handler, once the report of the transfer has come."""

        def end() -> None:
            if self._readers.get(reader.peer) is reader:
                del self._readers[reader.peer]
            self._pool.callInThread(reader.end)

        self._reactor.callLater(0, end)


def _refusal_for_client(handler: BaseHandler) -> TransferError:
    """The ERROR for the client. The text of the system's errors names paths of this host, so it is left out."""
    error = handler._stats.error
    cause = handler._refusal
    text = "" if isinstance(cause, OSError) and cause.errno is not None else str(error["error_message"])
    if error["error_code"] == constants.ERR_FILE_NOT_FOUND:
        return FileMissing(text)
    refusal = TransferError(text or "Internal error")
    refusal.tftp_code = int(error["error_code"])
    return refusal
