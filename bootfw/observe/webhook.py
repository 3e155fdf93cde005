"""The ``webhook`` observer: sends events to a web server, in batches, as JSON."""

import hashlib
import hmac
import inspect
import json
from collections import deque
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import islice
from time import time
from typing import Any
from urllib.parse import urlsplit

from attrs import define, field, validators
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from bootfw import events
from bootfw.boot.onceper import OncePer
from bootfw.errors import ConfigError, nearest
from bootfw.events import Event
from bootfw.interfaces import IBatchObserver, IBootObserver, IClientAware, IStartable
from bootfw.net.alarm import Alarm
from bootfw.net.requestfailure import request_failure_reason
from bootfw.observe.deliverystates import DeliveryStates, Do, Input, State
from bootfw.observe.log import LogObserver
from bootfw.observe.logtext import iso_time, json_record
from bootfw.observe.record import record
from bootfw.plugins import PluginContext, boot_plugin
from bootfw.values import Address, Client

BATCH = 100
"""Most events in a request."""

QUEUED = 10_000
"""Most queued events; further ones are dropped."""

RETRIES = 5
"""Retries of a batch before it is dropped: within 31 s, if the server refuses connections at once."""

REPORTED_AGAIN = 60.0
"""Seconds between two log lines about dropped events."""

KINDS = {
    name: kind
    for name, kind in vars(events).items()
    if inspect.isclass(kind) and issubclass(kind, Event) and kind is not Event
}
"""Name -> class of every kind of event."""

DEFAULT = (
    *("BootAttemptEnded", "OtherServerSeen", "PoolExhausted", "LeasesNotKept", "LoopBroken", "CertificateProblem"),
    *("ListenerFailed", "WorkerLost", "PluginFailed", "InternalError", "EventsDropped"),
)


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ConfigError(f'must be a URL, such as "https://example.org/boots", not "{value}"', ("url",))
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError("must be ASCII without blanks", ("url",))
    if parts.scheme == "https" and find_spec("OpenSSL") is None:
        raise ConfigError("https needs pyOpenSSL: pip install bootfw[tls]", ("url",))
    return value


def _kinds(names: Sequence[str]) -> frozenset[type[Event]]:
    for index, name in enumerate(names):
        if name not in KINDS:
            raise ConfigError(f'no event "{name}"{nearest(name, sorted(KINDS))}', ("events", index))
    return frozenset(KINDS[name] for name in names)


@implementer(IBatchObserver, IClientAware, IStartable)
@define(eq=False)
class Webhook:
    """Sends events to a web server: `POST` with `{"events": [...]}`, each as the JSON log has it.

    A batch that fails is sent again up to five times, after longer and longer delays; then it is dropped. A batch to
    which the receiver answers with a status of 400 to 499 is dropped at once, except for 408, 425 and 429. The server
    never waits for the receiver.
    """

    url: str = field(converter=_url)
    """The URL, `http://` or `https://`."""
    kinds: frozenset[type[Event]] = field(converter=_kinds, default=DEFAULT, alias="events")
    """The events that are sent: names of classes of `bootfw.events`."""
    secret: str = field(default="", repr=False)
    """Key of the HMAC of the body in the header `X-Bootfw-Signature: sha256=...`. Empty: there is no such header."""
    batch_seconds: float = field(default=1.0, validator=[validators.ge(0), validators.le(3600)])
    """How long events are gathered before they are sent together."""
    timeout_seconds: float = field(default=10.0, validator=[validators.gt(0), validators.le(300)])
    """Timeout of a request, and how long a stop of the service may wait for the last one."""
    _reactor: Any = None
    dropped: int = field(default=0, init=False)
    """Events that were not delivered."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False, repr=False)
    _lines: LogObserver = field(factory=LogObserver, init=False, repr=False)
    """Formats the texts of the events."""
    _queue: deque[dict[str, Any]] = field(factory=deque, init=False, repr=False)
    """Records of events; the first ones are the batch that is being sent."""
    _batch: int = field(default=0, init=False)
    """Number of events in the batch that is being sent."""
    _states: DeliveryStates = field(init=False, repr=False)
    _actions: dict[Any, Callable[[], None]] = field(init=False, repr=False)
    _alarm: Any = field(init=False, repr=False)
    _agent: Any = field(default=None, init=False, repr=False)
    _finished: "Deferred[None] | None" = field(default=None, init=False, repr=False)
    _unreported: int = field(default=0, init=False)
    """Number of dropped events that have not been logged."""
    _reports: OncePer = field(factory=lambda: OncePer(REPORTED_AGAIN), init=False, repr=False)
    _reason: str = field(default="", init=False)
    """Why the last request failed."""

    def __attrs_post_init__(self) -> None:
        self._states = DeliveryStates(self.batch_seconds, RETRIES)
        self._alarm = Alarm(self._reactor, lambda states, now: self._handle(Input.TICK))
        self._actions = {
            Do.SEND: self._send,
            Do.DROP: self._drop_batch,
            Do.DROP_ALL: self._drop_all,
            Do.FINISHED: self._finish,
        }

    @classmethod
    def configured(
        cls,
        context: PluginContext,
        url: str,
        events: Sequence[str] = DEFAULT,
        secret: str = "",
        batch_seconds: float = 1.0,
        timeout_seconds: float = 10.0,
    ) -> "Webhook":
        """Called by boot_plugin."""
        return cls(url, events, secret, batch_seconds, timeout_seconds, context.reactor)

    def set_client_lookup(self, lookup: Callable[[Address], Client]) -> None:
        """See IClientAware."""
        self._lines.set_client_lookup(lookup)
        self._lines.names_macs = True

    def start(self, publish: Callable[[Event], None]) -> None:
        """See IStartable."""
        self._states = DeliveryStates(self.batch_seconds, RETRIES)

    def close(self) -> "Deferred[None]":
        """See IStartable: fires when what is queued has been sent or dropped."""
        finished = self._finished = Deferred()
        self._handle(Input.STOP)
        return finished

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        self.observe_many((event,))

    def observe_many(self, events: Sequence[Event]) -> None:
        """See IBatchObserver."""
        if self._states.state is State.ENDED:
            return
        kinds = self.kinds
        chosen = [event for event in events if type(event) in kinds]
        if not chosen:
            return
        room = QUEUED - len(self._queue)
        if len(chosen) > room:
            self._count_dropped(len(chosen) - room, self._reason or "events arrive faster than the receiver takes them")
            chosen = chosen[:room]
        for event in chosen:
            self._queue += self._records(event)
        if self._queue:
            self._handle(Input.EVENT)

    def _records(self, event: Event) -> list[dict[str, Any]]:
        """Return *event* as the JSON log has it; without a text where the log has none."""
        if not self._lines.has_line(event):
            return [{"time": iso_time(time()), "level": "info", "text": "", **record(event)}]
        return [json_record(log_event, log_event["line"]) for log_event in self._lines.log_events((event,))]

    def _handle(self, event: Input, argument: Any = None) -> None:
        self._states.run(self._actions, event, argument, self._reactor.seconds())
        if self._states.deadline is not None:
            self._alarm.watch(self._states)

    def _send(self) -> None:
        # The batch stays at the head of the queue until it is delivered or dropped, so that a retry sends the same
        # events.
        self._batch = min(BATCH, len(self._queue))
        batch = list(islice(self._queue, self._batch))
        body = json.dumps({"events": batch}).encode()
        headers = {"User-Agent": ["bootfw"], "Content-Type": ["application/json"]}
        if self.secret:
            headers["X-Bootfw-Signature"] = [f"sha256={signature(self.secret, body)}"]
        if self._agent is None:
            self._agent = Agent(self._reactor, connectTimeout=self.timeout_seconds)
        request = self._agent.request(b"POST", self.url.encode("ascii"), Headers(headers), _Body(body))
        request.addTimeout(self.timeout_seconds, self._reactor)
        request.addCallbacks(self._answered, self._failed)
        request.addErrback(lambda failure: self._log.failure("webhook {url}", failure, url=self.url))

    def _answered(self, response: Any) -> None:
        response.deliverBody(_Ignored())
        status = response.code
        if 200 <= status < 300:
            self._reason = ""
            for _ in range(self._batch):
                self._queue.popleft()
            self._handle(Input.DELIVERED, len(self._queue))
            return
        self._reason = f"it answers {status}"
        temporary = status >= 500 or status < 400 or status in (408, 425, 429)
        self._handle(Input.FAILED if temporary else Input.REFUSED, len(self._queue) - self._batch)

    def _failed(self, failure: Failure) -> None:
        self._reason = request_failure_reason(failure)
        self._handle(Input.FAILED, len(self._queue) - self._batch)

    def _drop_batch(self) -> None:
        for _ in range(self._batch):
            self._queue.popleft()
        self._count_dropped(self._batch, self._reason)

    def _drop_all(self) -> None:
        count = len(self._queue)
        self._queue.clear()
        self._count_dropped(count, self._reason)

    def _count_dropped(self, count: int, reason: str) -> None:
        self.dropped += count
        self._unreported += count
        if self._reports.due("", self._reactor.seconds()):
            count, self._unreported = self._unreported, 0
            self._log.warn(
                "webhook {url}: {count} event(s) were dropped: {reason}", url=self.url, count=count, reason=reason
            )

    def _finish(self) -> None:
        self._alarm.stop()
        finished, self._finished = self._finished, None
        if finished is not None:
            finished.callback(None)


def signature(secret: str, body: bytes) -> str:
    """Return the HMAC-SHA256 of *body*, in hexadecimal."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@implementer(IBodyProducer)
class _Body:
    """The body of a request, written in one call."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> "Deferred[None]":
        """See IBodyProducer."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """See IBodyProducer."""

    def resumeProducing(self) -> None:
        """See IBodyProducer."""

    def stopProducing(self) -> None:
        """See IBodyProducer."""


class _Ignored(Protocol):
    """Closes the connection instead of reading the body of the response."""

    def connectionMade(self) -> None:
        """See IProtocol."""
        transport: Any = self.transport
        transport.stopProducing()


plugin = boot_plugin(IBootObserver, Webhook)
