"""A transfer connects a session to its peer, its file and its timer. This is the base of reading and writing."""

from collections.abc import Callable
from secrets import randbelow
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from bootfw.boot.flightrecorder import AT_TIMEOUT, LONGEST_KEPT, KeptPacket
from bootfw.boot.onceper import BlockingCalls, class_name
from bootfw.boot.pluginresult import traceback_of, transfer_error
from bootfw.errors import TransferError
from bootfw.events import Event, InternalError, PluginFailed, TransferBegun, TransferEnded
from bootfw.net.alarm import Alarm
from bootfw.net.nodes.elsewhere import TransferElsewhere
from bootfw.net.tftp.fastpath import FastPath
from bootfw.net.tftp.framecache import FrameCache
from bootfw.net.tftp.transferstates import Do, Input, State, TransferStates
from bootfw.tftp.retransmit import WatchdogFailed
from bootfw.values import Address, Agreed, Outcome, TFTPQuirks, TransferReport, TransferRequest, Via
from bootfw.wire import tftp as wire

Send = Callable[[bytes, Address, Via | None, int], None]
"""Sends (data, peer, via, segment) like IViaTransport.write_via; never raises."""

_NOTHING_AGREED = Agreed()
_RUNNING = State.RUNNING
_FINISHED = State.FINISHED
_DATA = 3

RESTART_SILENCE = 1.0
"""Seconds of silence after which a copy of the request of a running transfer means that the client has started again.

A duplicate on the wire arrives milliseconds late; a client that reuses its port has rebooted."""

BACKEND_TIMEOUT = 60.0
"""Seconds that a backend may take for one result. No client waits longer, and a result may never come."""


LATE_COPY = "A copy of the request came late, start again"
"""The error for a client that has not started again, and whose transfer can't go on where it was."""


@frozen
class Reached:
    """How far a transfer was that a copy of its request has ended. Blocks are absolute numbers."""

    acked: int
    """The last block that may be acknowledged, in either direction."""
    sent: int
    """The last block that may be acknowledged or sent next."""
    began: float
    """See TransferBegun.at."""


class BackendTimeout(TransferError):
    """A backend has not answered in time."""


def keep_nothing(packet: KeptPacket) -> None:
    """Take the place of FlightRecorder.keep_tftp where there is no flight recorder: drop the packet."""


def send_nothing(data: bytes, peer: Address, via: Via | None, segment: int) -> None:
    """The send function of a closed port: drops the datagram."""


@define(eq=False)
class TransferContext:
    """What all transfers of one listener share."""

    reactor: Any
    alarm: "Alarm[Transfer]"
    publish: Callable[[Event], None]
    on_stray: Callable[[bytes, Address, float], None]
    """Called with (data, peer, now) for a datagram that a transfer can't use: it may be malformed."""
    on_finished: "Callable[[Transfer], None]"
    """Called once, when the transfer has ended and released its resources."""
    frame_cache: FrameCache
    randbelow: Callable[[int], int] = randbelow
    """Random numbers that a peer can't guess."""
    send: Send = field(default=send_nothing, init=False)
    """Set by the listener while its port is open, as ``fast_path`` is."""
    fast_path: FastPath | None = field(default=None, init=False)
    """None: the port has no fast path."""
    keep: Callable[[KeptPacket], None] = keep_nothing
    """Takes packets for the flight recorder."""
    blocking: BlockingCalls = field(init=False)

    @blocking.default
    def _for_all_transfers(self) -> BlockingCalls:
        return BlockingCalls(self.publish, self.reactor.seconds)


@define(eq=False)
class Transfer:
    """Base of ReadTransfer and WriteTransfer.

    It has no session while the file is being opened; ``begin()`` makes it.
    """

    request: TransferRequest
    raw: bytes
    """The request's datagram: a copy of it is a retransmission, anything else is a new request."""
    via: Via | None
    _context: TransferContext
    quirks: TFTPQuirks | None = None
    """None: the client has none."""
    session: Any = field(default=None, init=False)
    port: Any = field(default=None, init=False)
    """Its own port, where each transfer has one."""
    port_is_unguessable: bool = field(default=False, init=False)
    """Only a host that receives its datagrams can know that port."""
    _own_send: Send | None = field(default=None, init=False)
    """None: the listener's port is used."""
    _agreed: Agreed = field(default=_NOTHING_AGREED, init=False)
    backend_wait: tuple[float, str] = field(default=(0.0, ""), init=False)
    """How long the backend of that name took to open the file."""
    packets_to_record: int = field(default=0, init=False)
    """How many of the next packets the flight recorder keeps, of those that the fast path does not handle."""
    recorded_port: int = field(default=0, init=False)
    """The number of the port that it sends from, for the flight recorder; 0: there is none."""
    earlier: Reached | None = field(default=None, init=False)
    """How far the transfer was that a copy of its request has ended, by which this one began. If that copy only came
    late, the client goes on with the former one, which its first packet shows. None: there was none, or that packet has
    come."""
    begun_event: TransferBegun | None = field(default=None, init=False)
    """Published by the process that began the transfer; None: it begins here."""
    elsewhere: TransferElsewhere | None = field(default=None, init=False)
    """The transfer of another node that goes on here; None: there is none."""
    _started_at: float = field(default=0.0, init=False)
    _pending: "Deferred[Any] | None" = field(default=None, init=False)
    """The pending result of the backend: the opened file, or that of one read or write."""
    _pending_deadline: float = field(default=0.0, init=False)
    """When the wait for it times out."""
    _on_backend_timeout: Callable[[BaseException, float], None] = field(init=False)
    """Called then."""
    _states: TransferStates = field(factory=TransferStates, init=False)

    @property
    def deadline(self) -> float | None:
        """When ring() is due; see Alarm. The deadline of the session, or of the backend while its result is pending."""
        session = self.session
        if self._pending is not None and (session is None or session.outcome is None):
            return self._pending_deadline
        if session is None or self._states.state is _FINISHED:
            return None
        deadline: float | None = session.deadline
        return deadline

    @property
    def stored_block(self) -> int | None:
        """The last block of a stored upload, as numbered on the wire: its client repeats it if the ACK was lost."""
        return None

    @property
    def is_reported(self) -> bool:
        """Whether its end is published. It may stay to answer a repeated last packet."""
        return self._states.state is not State.RUNNING

    @property
    def client_has_answered(self) -> bool:
        """Whether its client has sent an ACK or DATA after its request. A forged source address has not."""
        return self.session is not None and self.session.last_heard > self._started_at

    @property
    def is_recorded(self) -> bool:
        """Whether the flight recorder keeps its packets."""
        return self.recorded_port != 0

    @property
    def can_hand_over(self) -> bool:
        """Whether another process can continue it: see AdoptedTransfer."""
        return False

    def reached(self) -> Reached | None:
        """Return how far it is, for the transfer that a copy of its request begins in its place."""
        return self.earlier or self._reached()

    def handover(self, port: int) -> Any:
        """Return the state for another process. Only where ``can_hand_over`` is true."""
        raise NotImplementedError

    # Called by the listener.

    def file_opened(self, file: Any) -> None:
        """Take *file*, which the backend has opened. The transfer closes it."""
        raise NotImplementedError

    def begin(self, agreed: Agreed, watchdog: Any, now: float) -> None:
        """Create the session, and act on what it publishes."""
        self._agreed = agreed
        self._started_at = now if self.begun_event is None else self.begun_event.at
        try:
            # The session takes the first wait from its watchdog, a plugin, which may raise.
            self.session = self._make_session(watchdog, now)
            self._advance(now)
        except Exception as error:
            self._session_raised(error, now)

    def discard_file(self, file: Any) -> None:
        """Close or cancel *file*, which was opened after the transfer had ended."""
        raise NotImplementedError

    def use_port(self, port: Any, send: Send, *, unguessable: bool) -> None:
        """Send and receive on the transfer's own port from now on.

        :param unguessable: the kernel has chosen its number; those of a range can be guessed.
        """
        self.port, self._own_send, self.port_is_unguessable = port, send, unguessable
        # A recording shows the port that each packet was sent from, which is no longer that of the listener.
        if self.is_recorded:
            self.recorded_port = port.getHost().port

    def datagram(self, data: bytes, now: float) -> None:
        """Take a datagram of the peer that is no request."""
        raise NotImplementedError

    def request_repeated(self, now: float) -> bool:
        """Take another copy of the request. Returns False if the client has started again: it begins a new transfer."""
        if self.packets_to_record:
            self._keep(self.raw, now)
        session = self.session
        # The file is still being opened, and the client repeats its request because we have not answered.
        if session is None:
            return True
        # A client that has sent only its request may repeat it at any time.
        if session.last_heard > self._started_at and now - session.last_heard >= RESTART_SILENCE:
            return False
        self._handle(session.Input.REQUESTED, None, now)
        return True

    def ring(self, now: float) -> float | None:
        """Act on the deadline. Returns None: see Alarm."""
        if self._pending is None:
            if self.is_recorded:
                self.packets_to_record = max(self.packets_to_record, AT_TIMEOUT)
            self._handle(self.session.Input.TICK, None, now)
            return None
        # While a result of the backend is pending, the deadline is that of the backend.
        self._abandon_pending()
        self._on_backend_timeout(BackendTimeout(f"No answer about the file within {BACKEND_TIMEOUT:.0f} s"), now)
        return None

    @property
    def is_running(self) -> bool:
        """Whether its end has not been reported."""
        return self._states.state is _RUNNING

    def cancel(self, reason: str, now: float) -> None:
        """End the transfer from our side, with an ERROR that says why."""
        if self.session is None:
            # Before finish(), which closes the port where the transfer has one of its own.
            self.send(wire.error(wire.ErrorCode.NOT_DEFINED, reason))
            self.finish()
        else:
            self._handle(self.session.Input.CANCEL, reason, now)

    def replace(self, now: float) -> None:
        """End without an ERROR: the client has begun another transfer from the same port."""
        if self.session is None:
            self.finish()
        else:
            self._handle(self.session.Input.REPLACED, None, now)

    @property
    def can_go_on_elsewhere(self) -> bool:
        """Whether another node can go on with it, if that has the same file."""
        return False

    @property
    def numbers_repeat(self) -> bool:
        """Whether the file has more blocks than there are numbers on the wire."""
        return False

    def go_on_elsewhere(self, now: float) -> None:
        """End without an ERROR: another node goes on with it."""
        self._end(Input.CLOSE, (Outcome.HANDED_OVER, ""), now)

    def send(self, data: bytes, segment: int = 0) -> None:
        """Send to the peer."""
        (self._own_send or self._context.send)(data, self.request.peer, self.via, segment)
        if self.packets_to_record:
            self.packets_to_record -= 1
            context = self._context
            # A window is recorded as its first header; the recorder knows the others by the length of a segment.
            # Copied, since a slice of cached frames would keep their chunk in memory.
            recorded = bytes(data[:4]) if data[1] == _DATA else data
            now = context.reactor.seconds()
            context.keep((now, True, recorded, len(data), segment, self.request.peer, self.via, self.recorded_port))

    def _keep(self, data: bytes, now: float) -> None:
        """Keep a packet of the peer, if there is a flight recorder."""
        if self.packets_to_record:
            self.packets_to_record -= 1
            recorded = data[:4] if data[1] == _DATA else data[:LONGEST_KEPT]
            self._context.keep((now, False, recorded, len(data), 0, self.request.peer, self.via, self.recorded_port))

    def await_result(
        self,
        answer: "Deferred[Any]",
        on_result: Callable[[Any, float], None],
        failed: Callable[[BaseException, float], None],
        discard: Callable[[Any], None] | None = None,
    ) -> None:
        """Call *on_result* or *failed* with the result of *answer* and the time.

        :param discard: called with a result that comes too late; None: such a result needs no cleanup.
        """
        self._pending = answer
        self._on_backend_timeout = failed
        seconds = self._context.reactor.seconds
        self._pending_deadline = seconds() + BACKEND_TIMEOUT

        def on_value(value: Any) -> None:
            # The transfer has ended or the wait has timed out. A file that is opened late still has to be closed.
            if self._pending is not answer:
                if discard is not None:
                    self._run_cleanup(discard, value)
                return
            self._pending = None
            on_result(value, seconds())

        def on_failure(failure: Failure) -> None:
            # Failures after the end are dropped: most are the CancelledError of our own cancel().
            if self._pending is answer:
                self._pending = None
                assert failure.value is not None
                failed(failure.value, seconds())

        answer.addCallbacks(on_value, on_failure)
        # A Deferred that had fired already has called back above; then there is nothing to time out.
        if self._pending is answer:
            self._context.alarm.watch(self)

    def await_file(
        self,
        answer: "Deferred[Any]",
        backend_of: "Callable[[Deferred[Any]], str]",
        opened: "Callable[[Any, Any, float], None]",
        not_opened: "Callable[[Any, BaseException, float], None]",
    ) -> None:
        """Wait until a backend has opened the file, and note how long it takes.

        :param backend_of: returns the name of the backend whose result is pending.
        :param opened, not_opened: called with this transfer, the file or the exception, and the time.
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
        """Release everything, once."""
        self._end(Input.FINISH, None, 0.0)

    def _end(self, event: Input, argument: Any, now: float) -> None:
        """Take an input of TransferStates, and do what follows from it."""
        # The state has changed before anything is called: a plugin that ends the transfer again, while it releases
        # something, finds FINISHED, and nothing is released twice.
        states = self._states
        states.handle(event, argument, now)
        while states.out:
            if states.out.pop(0) is Do.REPORT:
                self._report()
            else:
                self._release_all()

    def _release_all(self) -> None:
        self._context.alarm.forget(self)
        self._abandon_pending()
        self._run_cleanup(self._release)
        if self.port is not None:
            self.port.stopListening()
        self._context.on_finished(self)

    # For subclasses.

    def _reached(self) -> Reached:
        raise NotImplementedError

    def _make_session(self, watchdog: Any, now: float) -> Any:
        raise NotImplementedError

    def _handle(self, event: Any, argument: Any, now: float) -> None:
        """Give the session one input and act on what it publishes."""
        try:
            self.session.handle(event, argument, now)
            self._advance(now)
        except Exception as error:
            # A session never raises for what a peer does, so this is a bug of ours or of the watchdog plugin.
            self._session_raised(error, now)

    def _advance(self, now: float) -> None:
        """Do what the session publishes until it waits for its peer or for the file."""
        raise NotImplementedError

    def _release(self) -> None:
        """Close or cancel the file."""
        raise NotImplementedError

    def _error_received(self, data: bytes, now: float) -> None:
        packet = wire.parse(data)
        assert isinstance(packet, wire.Error)
        if self.is_recorded:
            self.packets_to_record = max(self.packets_to_record, 1)
            self._keep(data, now)
        if self.session is None:
            self.finish()
        else:
            self._handle(self.session.Input.PEER_ERROR, (packet.code, packet.message), now)

    def _blocked(self, kind: str, plugin: object, doing: str, took: float) -> None:
        """Report a call of a reader or writer that took more than BLOCKED_SECONDS."""
        self._context.blocking.report(f"{kind} {class_name(plugin)}", f"{doing} of {self.request.filename!r}", took)

    def _file_failed(self, error: BaseException, now: float) -> None:
        """The reader or writer failed: send its error to the client, and publish the traceback of a bug."""
        client_error = transfer_error(error)
        if client_error is None:
            self._report_plugin_failure("backend", "go on with", error, now)
            client_error = TransferError("Internal error")
        self._handle(self.session.Input.FAILED, client_error, now)

    def _session_raised(self, error: Exception, now: float) -> None:
        """The session raised: the watchdog plugin failed, or we have a bug. Report which, and end the transfer."""
        if isinstance(error, WatchdogFailed):
            self._report_plugin_failure("watchdog", "go on with", error.__cause__ or error, now)
        else:
            doing = f"go on with {self.request.filename!r}"
            self._context.publish(InternalError(now, doing, traceback_of(error)))
        # If it was raised while the transfer was being released, the outcome is reported already.
        if self._states.state is _FINISHED:
            return
        self.send(wire.error(wire.ErrorCode.NOT_DEFINED, "Internal error"))
        self._end(Input.CLOSE, (Outcome.FAILED, "Internal error"), now)

    def _abandon_pending(self) -> None:
        """Drop the pending result."""
        # Clear first: cancel() calls the errback at once, which drops the CancelledError of what is not pending.
        pending, self._pending = self._pending, None
        # If a Deferred without a canceller is cancelled, Twisted drops its late result: a file that is never closed.
        if pending is not None and pending._canceller is not None:
            self._run_cleanup(pending.cancel)

    def _run_cleanup(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Call a plugin to release something. If it raises, that is reported, and the cleanup continues."""
        try:
            action(*arguments)
        except Exception as error:
            self._report_plugin_failure("backend", "give back", error, self._context.reactor.seconds())

    def _report_plugin_failure(self, plugin: str, doing: str, error: BaseException, now: float) -> None:
        operation = f"{doing} {self.request.filename!r}"
        self._context.publish(PluginFailed(now, plugin=plugin, doing=operation, traceback=traceback_of(error)))

    def _settle(self, now: float) -> None:
        """Update the alarm; report the session's outcome, once; finish when no timer of it runs."""
        session = self.session
        if session.outcome is not None:
            closed = session.deadline is None
            self._end(Input.CLOSE if closed else Input.OUTCOME, (session.outcome, session.detail), now)
            if closed:
                return
        # The alarm notices by itself that a deadline has moved later, as the fast path moves it.
        self._context.alarm.watch(self)

    def _report(self) -> None:
        session, states = self.session, self._states
        report = TransferReport(
            request=self.request,
            agreed=self._agreed,
            outcome=states.outcome,
            detail=states.detail,
            bytes_transferred=session.bytes_transferred if session is not None else 0,
            blocks=session.acked if session is not None else 0,
            retransmitted=session.retransmitted if session is not None else 0,
            began=self._started_at,
            ended=states.ended,
            persona=self.quirks.persona if self.quirks is not None else "",
            waited=self.backend_wait[0],
            backend=self.backend_wait[1],
        )
        self._context.publish(TransferEnded(states.ended, report))
