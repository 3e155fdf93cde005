"""One transfer: a session between a peer and an open file. What sending and receiving have in common."""

from collections.abc import Callable
from secrets import randbelow
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from bootfw.boot.onceper import BlockingCalls, class_name
from bootfw.boot.pluginresult import traceback_of, transfer_error
from bootfw.errors import TransferError
from bootfw.events import Event, InternalError, PluginFailed, TransferBegun, TransferEnded
from bootfw.net.alarm import Alarm
from bootfw.net.tftp.fastpath import FastPath
from bootfw.net.tftp.framecache import FrameCache
from bootfw.tftp.retransmit import WatchdogFailed
from bootfw.values import Address, Agreed, Outcome, TFTPQuirks, TransferReport, TransferRequest, Via
from bootfw.wire import tftp as wire

Send = Callable[[bytes, Address, Via | None, int], None]
"""Sends (data, peer, via, segment) like IViaTransport.write_via; never raises."""

_NOTHING_AGREED = Agreed()

RESTART_SILENCE = 1.0
"""Seconds without a word from a peer whose transfer is under way, after which a copy of its request means that it has
started again. A late copy on the wire is milliseconds old; a client that uses its port again has rebooted meanwhile."""

BACKEND_TIMEOUT = 60.0
"""Seconds that a backend may take for one answer. No client waits longer, and what is never answered must not stay."""


class BackendTimeout(TransferError):
    """A backend has not answered in time."""


def send_nothing(data: bytes, peer: Address, via: Via | None, segment: int) -> None:
    """Send as a port that is not open does."""


@define(eq=False)
class TransferContext:
    """What all transfers of one listener share."""

    reactor: Any
    alarm: "Alarm[Transfer]"
    publish: Callable[[Event], None]
    on_stray: Callable[[bytes, Address, float], None]
    """Called with (data, peer, now) of what no transfer can make use of: it may be malformed."""
    on_finished: "Callable[[Transfer], None]"
    """Called once, when the transfer is over and has given everything back."""
    frame_cache: FrameCache
    randbelow: Callable[[int], int] = randbelow
    """Random numbers that a peer can't guess."""
    send: Send = field(default=send_nothing, init=False)
    """Set by the listener while its port is open, and so is the next."""
    fast_path: FastPath | None = field(default=None, init=False)
    """None: that port has none."""
    blocking: BlockingCalls = field(init=False)

    @blocking.default
    def _for_all_transfers(self) -> BlockingCalls:
        return BlockingCalls(self.publish, self.reactor.seconds)


@define(eq=False)
class Transfer:
    """What reading and writing have in common.

    It begins without a session: the file is being opened. ``begin()`` ends that.
    """

    request: TransferRequest
    raw: bytes
    """The request's datagram: a copy of it is a retransmission, anything else is a new request."""
    via: Via | None
    _context: TransferContext
    quirks: TFTPQuirks | None = None
    """What this client needs; None: the usual."""
    session: Any = field(default=None, init=False)
    port: Any = field(default=None, init=False)
    """The port of its own, when transfers have one."""
    port_is_unguessable: bool = field(default=False, init=False)
    """Only who gets its packets can know that port."""
    _own_send: Send | None = field(default=None, init=False)
    """None: the listener's port is used."""
    _agreed: Agreed = field(default=_NOTHING_AGREED, init=False)
    backend_wait: tuple[float, str] = field(default=(0.0, ""), init=False)
    """How long the backend of that name took to open the file."""
    begun_event: TransferBegun | None = field(default=None, init=False)
    """By another process; None: it begins here."""
    _started_at: float = field(default=0.0, init=False)
    _pending: "Deferred[Any] | None" = field(default=None, init=False)
    """The backend's answer that is outstanding: the file, or one read or write."""
    _pending_deadline: float = field(default=0.0, init=False)
    """When that takes too long."""
    _on_backend_timeout: Callable[[BaseException, float], None] = field(init=False)
    """Called when it does."""
    _reported: bool = field(default=False, init=False)
    _done: bool = field(default=False, init=False)

    @property
    def deadline(self) -> float | None:
        """When to ring; see Alarm. That of the session, unless it waits for the backend."""
        session = self.session
        if self._pending is not None and (session is None or session.outcome is None):
            return self._pending_deadline
        if session is None or self._done:
            return None
        deadline: float | None = session.deadline
        return deadline

    @property
    def can_hand_over(self) -> bool:
        """Another process can go on with it: see AdoptedTransfer."""
        return False

    def handover(self, port: int) -> Any:
        """What another process goes on with; see Handover. Only where it is ``movable``."""
        raise NotImplementedError

    # What the listener tells it.

    def file_opened(self, file: Any) -> None:
        """The backend has opened the file: from now on it is ours to give back."""
        raise NotImplementedError

    def begin(self, agreed: Agreed, watchdog: Any, now: float) -> None:
        """Make the session, and do what it asks for."""
        self._agreed = agreed
        self._started_at = now if self.begun_event is None else self.begun_event.at
        try:
            self.session = self._make_session(watchdog, now)
            self._advance(now)
        except Exception as error:
            self._session_raised(error, now)

    def discard_file(self, file: Any) -> None:
        """The backend has opened the file when nobody waited for it any more."""
        raise NotImplementedError

    def use_port(self, port: Any, send: Send, *, unguessable: bool) -> None:
        """From now on everything goes through a port of its own.

        :param secret: the kernel has chosen its number; those of a range can be guessed.
        """
        self.port, self._own_send, self.port_is_unguessable = port, send, unguessable

    def datagram(self, data: bytes, now: float) -> None:
        """Something of the peer that is not a request."""
        raise NotImplementedError

    def request_repeated(self, now: float) -> bool:
        """The peer's request has come once more. False: it is no copy, the peer has started again."""
        session = self.session
        if session is None:
            return True
        # A peer that has said nothing but its request may well repeat it for as long as it likes.
        if session.last_heard > self._started_at and now - session.last_heard >= RESTART_SILENCE:
            return False
        self._handle(session.Input.REQUESTED, None, now)
        return True

    def ring(self, now: float) -> float | None:
        """The deadline has come. None: see Alarm."""
        if self._pending is None:
            self._handle(self.session.Input.TICK, None, now)
            return None
        self._abandon_pending()
        self._on_backend_timeout(BackendTimeout(f"No answer about the file within {BACKEND_TIMEOUT:.0f} s"), now)
        return None

    def cancel(self, reason: str, now: float) -> None:
        """Our side ends it, and the peer is told why."""
        if self.session is None:
            self.send(wire.error(wire.ErrorCode.NOT_DEFINED, reason))
            self.finish()
        else:
            self._handle(self.session.Input.CANCEL, reason, now)

    def replace(self, now: float) -> None:
        """The peer has begun something else from the same port: this ends without a word."""
        if self.session is None:
            self.finish()
        else:
            self._handle(self.session.Input.REPLACED, None, now)

    def send(self, data: bytes, segment: int = 0) -> None:
        """Send to the peer."""
        (self._own_send or self._context.send)(data, self.request.peer, self.via, segment)

    def await_result(
        self,
        answer: "Deferred[Any]",
        on_result: Callable[[Any, float], None],
        failed: Callable[[BaseException, float], None],
        discard: Callable[[Any], None] | None = None,
    ) -> None:
        """Have *came* or *failed* called with the answer and the time.

        :param unwanted: called with an answer that comes too late; None: such an answer needs no care.
        """
        self._pending = answer
        self._on_backend_timeout = failed
        seconds = self._context.reactor.seconds
        self._pending_deadline = seconds() + BACKEND_TIMEOUT

        def on_value(value: Any) -> None:
            if self._pending is not answer:
                if discard is not None:
                    self._run_cleanup(discard, value)
                return
            self._pending = None
            on_result(value, seconds())

        def on_failure(failure: Failure) -> None:
            # What fails after the end, the cancelled answer above all, is nobody's concern any more.
            if self._pending is answer:
                self._pending = None
                assert failure.value is not None
                failed(failure.value, seconds())

        answer.addCallbacks(on_value, on_failure)
        if self._pending is answer:
            self._context.alarm.watch(self)

    def await_file(
        self,
        answer: "Deferred[Any]",
        backend_of: "Callable[[Deferred[Any]], str]",
        opened: "Callable[[Any, Any, float], None]",
        not_opened: "Callable[[Any, BaseException, float], None]",
    ) -> None:
        """Wait for what a backend opens, and note how long that takes.

        :param backend_of: which backend *answer* is of.
        :param opened, not_opened: called with this transfer, what came of it, and the time.
        """
        began = self._context.reactor.seconds()

        def on_result(file: Any, now: float) -> None:
            self.backend_wait = now - began, backend_of(answer)
            opened(self, file, now)

        def failed(error: BaseException, now: float) -> None:
            if isinstance(error, BackendTimeout):
                error.detail = f"{backend_of(answer)} has not answered"
            not_opened(self, error, now)

        self.await_result(answer, on_result, failed, self.discard_file)

    def finish(self) -> None:
        """Give everything back, once."""
        if self._done:
            return
        self._done = True
        self._context.alarm.forget(self)
        self._abandon_pending()
        self._run_cleanup(self._release)
        if self.port is not None:
            self.port.stopListening()
        self._context.on_finished(self)

    # What the kinds of transfer share.

    def _make_session(self, watchdog: Any, now: float) -> Any:
        raise NotImplementedError

    def _handle(self, event: Any, argument: Any, now: float) -> None:
        """Give the session one input, and do what it asks for."""
        try:
            self.session.handle(event, argument, now)
            self._advance(now)
        except Exception as error:
            self._session_raised(error, now)

    def _advance(self, now: float) -> None:
        """Do what the session asks for until it waits."""
        raise NotImplementedError

    def _release(self) -> None:
        """Give the file back."""
        raise NotImplementedError

    def _error_received(self, data: bytes, now: float) -> None:
        packet = wire.parse(data)
        assert isinstance(packet, wire.Error)
        if self.session is None:
            self.finish()
        else:
            self._handle(self.session.Input.PEER_ERROR, (packet.code, packet.message), now)

    def _blocked(self, kind: str, plugin: object, doing: str, took: float) -> None:
        """A call of a reader or writer took long: more than BLOCKED_SECONDS."""
        self._context.blocking.report(f"{kind} {class_name(plugin)}", f"{doing} of {self.request.filename!r}", took)

    def _file_failed(self, error: BaseException, now: float) -> None:
        """The file's side could not: the peer gets the error's code; a bug's traceback goes to the log."""
        reported = transfer_error(error)
        if reported is None:
            self._report_plugin_failure("backend", "go on with", error, now)
            reported = TransferError("Internal error")
        self._handle(self.session.Input.FAILED, reported, now)

    def _session_raised(self, error: Exception, now: float) -> None:
        """The session raised: the watchdog plugin failed, or we have a bug. Report which, and end the transfer."""
        if isinstance(error, WatchdogFailed):
            self._report_plugin_failure("watchdog", "go on with", error.__cause__ or error, now)
        else:
            doing = f"go on with {self.request.filename!r}"
            self._context.publish(InternalError(now, doing, traceback_of(error)))
        if self._done:
            return
        self.send(wire.error(wire.ErrorCode.NOT_DEFINED, "Internal error"))
        self._report(Outcome.FAILED, "Internal error", now)
        self.finish()

    def _abandon_pending(self) -> None:
        """Whatever is outstanding is not wanted any more."""
        pending, self._pending = self._pending, None
        # Cancelling a Deferred that can't be makes Twisted throw its late answer away: an open file that nobody closes.
        if pending is not None and pending._canceller is not None:
            self._run_cleanup(pending.cancel)

    def _run_cleanup(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Give something back. Should that fail, it must not keep the rest from being given back."""
        try:
            action(*arguments)
        except Exception as error:
            self._report_plugin_failure("backend", "give back", error, self._context.reactor.seconds())

    def _report_plugin_failure(self, plugin: str, doing: str, error: BaseException, now: float) -> None:
        what = f"{doing} {self.request.filename!r}"
        self._context.publish(PluginFailed(now, plugin=plugin, doing=what, traceback=traceback_of(error)))

    def _settle(self, now: float) -> None:
        """Follow the session's deadline, and its end."""
        session = self.session
        # The alarm finds out by itself that a deadline has moved later, which is what the fast path does to it.
        self._context.alarm.watch(self)
        if session.outcome is not None:
            self._report(session.outcome, session.detail, now)
            if session.deadline is None:
                self.finish()

    def _report(self, outcome: Outcome, detail: str, now: float) -> None:
        if self._reported:
            return
        self._reported = True
        session = self.session
        report = TransferReport(
            request=self.request,
            agreed=self._agreed,
            outcome=outcome,
            detail=detail,
            bytes_transferred=session.bytes_transferred if session is not None else 0,
            blocks=session.acked if session is not None else 0,
            retransmitted=session.retransmitted if session is not None else 0,
            began=self._started_at,
            ended=now,
            persona=self.quirks.persona if self.quirks is not None else "",
            waited=self.backend_wait[0],
            backend=self.backend_wait[1],
        )
        self._context.publish(TransferEnded(now, report))
