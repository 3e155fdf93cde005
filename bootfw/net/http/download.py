"""One download by HTTP: a GET or HEAD request, from the opening of its file to the end of its response.

Its states and what may happen in each are the table of downloadstates.py; this module does what the table says.
"""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.ability import provides
from bootfw.boot.pluginresult import as_deferred, checked_bytes, traceback_of, transfer_error
from bootfw.errors import TemporarilyUnavailable, TransferError
from bootfw.events import PluginFailed, TransferBegun, TransferEnded, TransferRefused
from bootfw.interfaces import IReader, IVerifiableReader
from bootfw.net.http import headers
from bootfw.net.http.downloadcontext import DownloadContext
from bootfw.net.http.downloadstates import STALLED_SECONDS, Do, DownloadStates, Input, State
from bootfw.net.http.mediatype import HEAD, UNKNOWN
from bootfw.net.http.sendfile import FileSender, file_sender
from bootfw.values import Agreed, Outcome, TransferReport, TransferRequest
from bootfw.wire.http import Validators, as_named, failed_precondition, requested_range

CHUNK = 65536
"""Bytes per read, which bounds what a download holds in memory. With the response's header it is more than the
transport's bufferSize, so that each write makes the transport pause us until it has sent it."""

TAIL = 4096
"""Bytes at the end that are read and never sent by sendfile(2): they are sent only if the file is still unchanged, so
that a changed file never makes a complete response."""

NO_OPTIONS = Agreed()
"""HTTP has nothing to agree on."""

_STATUSES = {1: 404, 2: 403}
"""TFTP error code -> HTTP status; others are 500."""


def status_of(error: TransferError | None) -> int:
    """Return the HTTP status for an error of a backend; None: an exception that it should not raise."""
    if isinstance(error, TemporarilyUnavailable):
        return 503
    return 500 if error is None else _STATUSES.get(error.tftp_code, 500)


@implementer(IPushProducer)
@define(eq=False)
class Download:
    """Answers one GET or HEAD: opens the file, sends the requested part, closes it.

    :param http: twisted.web's request, or a PlainRequest.
    """

    request: TransferRequest
    _http: Any
    _context: DownloadContext
    deadline: float | None = field(default=None, init=False)
    """When the alarm calls ring(); None: not watched."""
    _reader: "IReader | None" = field(default=None, init=False)
    _sender: FileSender | None = field(default=None, init=False)
    """Sends by sendfile(2) all but the last TAIL bytes; None: what is left is read and written."""
    _drained: bool = field(default=False, init=False)
    """Whether the transport has sent everything that was written to it. sendfile(2) would overtake what it has not
    sent."""
    _awaited: "Deferred[Any] | None" = field(default=None, init=False)
    """The pending Deferred of the backend, for the file or for one read. Cancelled when the download ends first."""
    _offset: int = field(default=0, init=False)
    """Offset of the next read."""
    _stop: int | None = field(default=None, init=False)
    """Offset at which the response ends; None: the size is not known yet."""
    _sent: int = field(default=0, init=False)
    """Bytes of the body that the transport or the socket has taken, for the report."""
    _detail: str = field(default="", init=False)
    """The range of the file that is sent, for the report; "": the whole file."""
    _opening: "Deferred[Any] | None" = field(default=None, init=False)
    """The Deferred that the backend's open() returned; None: it answered at once."""
    _opening_since: float = field(default=0.0, init=False)
    _waited: tuple[float, str] = field(default=(0.0, ""), init=False)
    """(seconds that open() took, name of the backend), for the report."""
    _began: float | None = field(default=None, init=False)
    """When the response began; None: it has not, or it is an error, so no end is reported."""
    _states: DownloadStates = field(factory=DownloadStates, init=False)
    _looping: bool = field(default=False, init=False)
    """Whether _go_on() is running further up the stack and will look at the state again: a nested call returns at once.
    A transport may call resumeProducing() within write(); without this each chunk would deepen the stack."""

    def open(self) -> None:
        """Have the backend open the file, and answer as soon as it has."""
        try:
            answer = self._context.open(self.request)
        except Exception as error:
            self.not_opened(error)
            return
        self.opened(answer)

    def opened(self, answer: Any) -> None:
        """Answer with the file.

        :param answer: what the backend's open() returned.
        """
        self._context.downloads.add(self)
        self._progress()
        headers.when_lost(self._http, self._lost)
        try:
            waiting = as_deferred(answer)
        except Exception as error:
            self.not_opened(error)
            return
        if waiting is None:
            self._opened(answer)
        else:
            self._opening, self._opening_since = waiting, self._now()
            self._wait_for(waiting, self._opened_late, self.not_opened, self._close)

    def ring(self, now: float) -> None:
        """See Alarm. No progress was made for STALLED_SECONDS seconds."""
        self._handle(Input.TICK)

    def cancel(self, reason: str) -> None:
        """End the download from our side. The connection is reset, which no client takes for the end of the file.

        :param reason: for the report.
        """
        self._handle(Input.CANCEL, reason)

    # Called by the transport.

    def resumeProducing(self) -> None:
        """See IPushProducer."""
        self._drained = True
        self._handle(Input.RESUME)
        if self._states.state is not State.ENDED:
            self._progress()
            self._go_on()

    def pauseProducing(self) -> None:
        """See IPushProducer."""
        self._handle(Input.PAUSE)

    def stopProducing(self) -> None:
        """See IPushProducer: the connection is lost."""
        self._lost()

    # Opening.

    def _opened_late(self, reader: Any) -> None:
        self._waited = self._now() - self._opening_since, self._context.backend_of(self._opening)
        self._opened(reader)

    def _opened(self, reader: Any) -> None:
        self._reader = reader
        try:
            size = reader.size
            validators = headers.all_validators_of(reader, size)
        except Exception as error:
            self.not_opened(error)
            return
        kind = self._context.types.of(self.request.path, validators.etag)
        if kind is not None:
            self._respond(kind, validators, size)
        elif size == 0:
            self._respond(UNKNOWN, validators, size)
        else:
            self._look_inside(reader, validators, size)

    def _look_inside(self, reader: Any, validators: Validators, size: int | None) -> None:
        """Find the media type by the file's first bytes.

        A read that fails is not reported here: it fails again, and is reported, when the body is sent.
        """

        def on_head(head: Any) -> None:
            first_bytes = head if isinstance(head, bytes) else b""
            self._respond(
                self._context.types.examine(self.request.path, validators.etag, first_bytes), validators, size
            )

        try:
            head = self._context.read(reader, self.request.filename, 0, HEAD)
            waiting = as_deferred(head)
        except Exception:
            on_head(b"")
            return
        if waiting is None:
            on_head(head)
        else:
            self._wait_for(waiting, on_head, lambda _: on_head(b""), lambda _: None)

    def _respond(self, kind: bytes, validators: Validators, size: int | None) -> None:
        http = self._http
        header = headers.look_up(http)
        headers.describe(http, kind, as_named(header, validators), size)
        status = failed_precondition(header, validators)
        # RFC 9110 section 14.2: a range is for GET only.
        part = requested_range(header, validators, size) if size is not None and http.method == b"GET" else None
        if status == 412:
            self._refuse(412, "The file has changed")
        elif status == 304:
            http.setResponseCode(304)
            self._begin()
            self._handle(Input.ANSWERED, (Outcome.COMPLETE, "not modified"))
        elif part is not None and not part:
            http.setHeader(b"Content-Range", f"bytes */{size}".encode())
            self._refuse(416, f"The file has {size} bytes")
        else:
            self._answer(part, size)

    def _answer(self, part: range | None, size: int | None) -> None:
        http = self._http
        self._stop = size
        if part is not None:
            self._offset, self._stop = part.start, part.stop
            described = f"bytes {part.start}-{part.stop - 1}"
            self._detail = f"{described} of {size}"
            http.setResponseCode(206)
            http.setHeader(b"Content-Range", f"{described}/{size}".encode())
        if self._stop is not None:
            http.setHeader(b"Content-Length", b"%d" % (self._stop - self._offset))
        self._begin()
        if http.method == b"HEAD":
            self._handle(Input.ANSWERED, (Outcome.SIZE_PROBE, ""))
        else:
            self._handle(Input.OPENED)
            if self._stop is not None and self._reader is not None:
                self._sender = file_sender(http.transport, self._reader, self._context.reactor.seconds)
            http.registerProducer(self, True)
            self._progress()
            self._go_on()

    def not_opened(self, error: BaseException) -> None:
        """Answer with an error.

        :param error: what the backend's open() raised.
        """
        client_error = transfer_error(error)
        if client_error is None:
            # Not an error that the contract names: a bug of the plugin, whose traceback goes to the log and not to the
            # client.
            self._report_failure(error, "open")
            self._refuse(500, "Internal error")
        else:
            self._refuse(status_of(client_error), client_error.message, client_error.detail)

    def _refuse(self, status: int, message: str, detail: str = "") -> None:
        self._handle(Input.REFUSED)
        self._answer_error(status, message, detail)

    def _answer_error(self, status: int, message: str, detail: str) -> None:
        self._release()
        self._context.publish(TransferRefused(self._now(), self.request, status, message, detail))
        headers.refuse(self._http, status, message)

    # Sending.

    def _begin(self) -> None:
        self._began = self._now()
        self._context.publish(TransferBegun(self._began, self.request, NO_OPTIONS))

    def _go_on(self) -> None:
        """Read and write until the transport pauses us or the reader returns a Deferred."""
        if self._looping:
            return
        self._looping = True
        try:
            while self._states.state is State.SENDING:
                if self._offset == self._stop:
                    self._http.unregisterProducer()
                    self._handle(Input.COMPLETE, self._detail)
                elif self._sender is not None and self._drained:
                    self._send(self._sender)
                else:
                    # Also the first chunk of a file that sendfile(2) sends: it leaves with the head of the response.
                    self._read()
        finally:
            self._looping = False

    def _send(self, sender: FileSender) -> None:
        if self._send_turn(sender):
            try:
                sender.wait(self._on_writable)
            except OSError:
                self._sender = None  # no descriptor is left: the rest is read
            else:
                self._handle(Input.PAUSE)

    def _on_writable(self) -> None:
        """Send more: the connection takes it. A turn of a large file is this and nothing else, and the download stays
        PAUSED: the table, the transport and the producer are needed again when sendfile(2) has sent its part."""
        assert self._sender is not None
        if self._send_turn(self._sender):
            self._progress()
        else:
            self.resumeProducing()

    def _send_turn(self, sender: FileSender) -> bool:
        """Send what the connection takes now; false: the rest is to be read."""
        assert self._stop is not None
        stop = self._stop - TAIL
        sent, goes_on = sender.send(self._offset, stop) if self._offset < stop else (0, False)
        self._offset += sent
        self._sent += sent
        if goes_on and self._offset < stop:
            return True
        self._sender = None
        sender.stop()
        return False

    def _read(self) -> None:
        assert self._reader is not None
        try:
            answer = self._context.read(self._reader, self.request.filename, self._offset, self._next_length())
            waiting = as_deferred(answer)
        except Exception as error:
            self._read_failed(error)
            return
        if waiting is None:
            self._write(answer)
        else:
            self._handle(Input.WAIT)
            self._wait_for(waiting, self._on_read, self._read_failed, lambda _: None)

    def _next_length(self) -> int:
        """Return how many bytes to read next."""
        return CHUNK if self._stop is None else min(CHUNK, self._stop - self._offset)

    def _on_read(self, answer: Any) -> None:
        self._handle(Input.READ)
        self._write(answer)
        self._go_on()

    def _write(self, answer: Any) -> None:
        length = self._next_length()
        try:
            data = checked_bytes(answer, length, self._reader)
            # Before the last bytes are written: without them the client has no complete response of a changed file.
            if self._offset + len(data) == self._stop and provides(self._reader, IVerifiableReader):
                self._reader.verify()
        except Exception as error:
            self._read_failed(error)
            return
        self._offset += len(data)
        self._sent += len(data)
        if len(data) < length:
            if self._stop is not None:
                self._handle(Input.FAILED, f"the file ended at byte {self._offset}, before its size")
                return
            # A reader without a size has ended. _go_on() finds that the response is complete.
            self._stop = self._offset
        self._drained = False
        self._http.write(data)

    def _read_failed(self, error: BaseException) -> None:
        client_error = transfer_error(error)
        if client_error is None:
            self._report_failure(error, "go on with")
            client_error = TransferError("Internal error")
        self._handle(Input.FAILED, client_error.reason)

    # Ending.

    def _lost(self) -> None:
        self._handle(Input.LOST, self._detail)

    def _handle(self, event: Input, argument: Any = None) -> None:
        """Give the table one input, and do what it says."""
        states = self._states
        states.handle(event, argument)
        # An action may lead to another input, at once or later: a connection that is cut calls stopProducing(). The
        # table ignores these inputs, since the download has ended.
        while states.out:
            do = states.out.pop(0)
            if do is Do.REFUSE_LATE:
                detail = f"{self._context.backend_of(self._opening)} has not answered"
                self._answer_error(503, "The file could not be opened in time, try again later", detail)
                continue
            self._report()
            if do is Do.FINISH:
                self._http.finish()
            elif do is Do.ABORT:
                self._http.transport.abortConnection()

    def _report(self) -> None:
        self._release()
        outcome = self._states.outcome
        if self._began is None or outcome is None:
            return
        now = self._now()
        report = TransferReport(
            request=self.request,
            agreed=NO_OPTIONS,
            outcome=outcome,
            detail=self._states.detail,
            bytes_transferred=self._sent,
            blocks=0,
            retransmitted=0,
            began=self._began,
            ended=now,
            waited=self._waited[0],
            backend=self._waited[1],
        )
        self._context.publish(TransferEnded(now, report))

    def _release(self) -> None:
        """Close the file, cancel what is pending, and leave the alarm and the set of downloads."""
        self.deadline = None
        self._context.alarm.forget(self)
        self._context.downloads.discard(self)
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.stop()
        # _awaited is cleared before cancel(): the failure that this causes is not an error of the backend, see
        # _wait_for().
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            try:
                awaited.cancel()
            except Exception as error:  # out of the canceller of the plugin's own Deferred
                self._report_failure(error, "give up")
        reader, self._reader = self._reader, None
        if reader is not None:
            self._close(reader)

    def _close(self, reader: Any) -> None:
        try:
            reader.close()
        except Exception as error:
            self._report_failure(error, "close")

    # Shared by opening and sending.

    def _wait_for(
        self,
        answer: "Deferred[Any]",
        on_result: Callable[[Any], None],
        on_error: Callable[[BaseException], None],
        dispose: Callable[[Any], None],
    ) -> None:
        """Call *on_result* or *on_error* when *answer* fires.

        :param dispose: called with a result that comes after the end of the download: a file has to be closed.
        """
        self._awaited = answer

        def on_value(value: Any) -> None:
            if self._awaited is not answer:
                dispose(value)
                return
            self._awaited = None
            self._progress()
            on_result(value)

        def on_failure(failure: Failure) -> None:
            # A failure after the end is ignored: most are our own cancel().
            if self._awaited is answer:
                self._awaited = None
                assert failure.value is not None
                on_error(failure.value)

        answer.addCallbacks(on_value, on_failure)

    def _progress(self) -> None:
        self.deadline = self._now() + STALLED_SECONDS
        self._context.alarm.watch(self)

    def _report_failure(self, error: BaseException, doing: str) -> None:
        event = PluginFailed(
            self._now(), plugin="backend", doing=f"{doing} {self.request.filename!r}", traceback=traceback_of(error)
        )
        self._context.publish(event)

    def _now(self) -> float:
        return float(self._context.reactor.seconds())
