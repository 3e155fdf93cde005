"""``/api/events``: changes, as server-sent events (WHATWG HTML, section 9.2).

Each has a name and JSON: "boot", the short record of a boot that has begun or changed; "status", as ``/api/status``;
"throughput", once a second; "resync": the server dropped events for this client, which must load what it shows again.
"""

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from bootfw.attempts.attempt import BootAttempt
from bootfw.attempts.record import attempt_record
from bootfw.web.replies import Page, refusal

STREAMS = 16
"""Most clients at a time; further ones are refused."""

BATCHED = 0.25
"""Seconds in which changes of the same boot are collected into one event."""

STALLED = 60.0
"""Seconds until a client that reads nothing is disconnected."""


@implementer(IPushProducer)
class _Stream:
    """One client.

    While it reads nothing, its events are dropped: Twisted would keep them in memory without a limit. When it reads
    again it gets "resync" in their place.
    """

    def __init__(self, request: Any, seconds: Callable[[], float]) -> None:
        self._request = request
        self._seconds = seconds
        self._paused_at: float | None = None
        self._has_dropped = False
        """Events were dropped since it was paused."""

    def send(self, message: bytes) -> None:
        if self._paused_at is None:
            self._request.write(message)
            return
        self._has_dropped = True
        # The events themselves serve as the timer: "throughput" comes once a second.
        if self._seconds() - self._paused_at > STALLED:
            self._request.transport.abortConnection()

    def pauseProducing(self) -> None:
        """See IPushProducer. The transport's buffer is full: the client does not read."""
        if self._paused_at is None:
            self._paused_at = self._seconds()

    def resumeProducing(self) -> None:
        """See IPushProducer."""
        self._paused_at = None
        if self._has_dropped:
            self._has_dropped = False
            self._request.write(message_of("resync", {}))

    def stopProducing(self) -> None:
        """See IProducer. Nothing to do: Streams removes the client when notifyFinish() fires."""


class Streams(Page):
    """The clients of the stream, and the events for all of them. Without clients it has no timer.

    :param reactor: IReactorTime.
    :param tick: returns (name, value) of the events that are sent each second.
    """

    def __init__(self, reactor: Any, tick: Callable[[], list[tuple[str, Any]]]) -> None:
        super().__init__()
        self._reactor = reactor
        self._tick = tick
        self._streams: set[_Stream] = set()
        self._changed: dict[str, BootAttempt] = {}
        """Id -> boot, for boots that have changed since the last event."""
        self._status_pending = False
        """The status has changed since the last event."""
        self._flushing: Any = None
        """The scheduled call of _flush(); None: nothing has changed."""
        self._ticking: Any = None
        """The scheduled call of _send_tick(); None: there are no clients."""

    def get(self, request: Any) -> Any:
        """See Page."""
        if request.method == b"HEAD":
            request.setHeader(b"Content-Type", b"text/event-stream")
            return b""
        if len(self._streams) >= STREAMS:
            request.setHeader(b"Retry-After", b"10")
            return refusal(request, 503, f"{STREAMS} clients follow already; close a page")
        request.setHeader(b"Content-Type", b"text/event-stream")
        stream = _Stream(request, self._reactor.seconds)
        request.notifyFinish().addBoth(self._left, stream)
        request.registerProducer(stream, True)
        self._streams.add(stream)
        request.write(b"retry: 2000\n\n")
        if self._ticking is None:
            self._ticking = self._reactor.callLater(1, self._send_tick)
        return NOT_DONE_YET

    def boot_changed(self, attempt: BootAttempt) -> None:
        """Send the boot within BATCHED seconds, with others that change until then.

        A boot changes with each file that it loads, often several times within this time.
        """
        if self._streams:
            self._changed[attempt.id] = attempt
            self._flush_soon()

    def status_changed(self) -> None:
        """Send the status within BATCHED seconds."""
        if self._streams:
            self._status_pending = True
            self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flushing is None:
            self._flushing = self._reactor.callLater(BATCHED, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        changed, self._changed = self._changed, {}
        message = b"".join(message_of("boot", attempt_record(each, stages=False)) for each in changed.values())
        if self._status_pending:
            self._status_pending = False
            message += b"".join(message_of(name, value) for name, value in self._tick() if name == "status")
        self._send(message)

    def _send_tick(self) -> None:
        self._ticking = self._reactor.callLater(1, self._send_tick)
        self._send(b"".join(message_of(name, value) for name, value in self._tick()))

    def _send(self, message: bytes) -> None:
        for stream in list(self._streams):
            stream.send(message)

    def _left(self, reason: Any, stream: _Stream) -> None:
        self._streams.discard(stream)
        if not self._streams:
            for call in (self._ticking, self._flushing):
                if call is not None:
                    call.cancel()
            self._ticking = self._flushing = None
            self._changed.clear()
            self._status_pending = False


def message_of(name: str, value: Any) -> bytes:
    """Return the bytes of one server-sent event."""
    return f"event: {name}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
