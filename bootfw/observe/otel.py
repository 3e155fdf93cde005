"""The ``otel`` observer: exports each boot attempt as an OpenTelemetry trace, with a span for each stage.

OpenTelemetry (the extra ``bootfw[otel]``) exports in a thread of its own. It is imported when the service starts.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from attrs import define, field, validators
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from bootfw import __version__
from bootfw.attempts.attempt import BootAttempt, Stage, Verdict
from bootfw.errors import ConfigError
from bootfw.events import BootAttemptEnded, Event
from bootfw.interfaces import IBatchObserver, IBootObserver, IStartable
from bootfw.observe.record import plain
from bootfw.plugins import PluginContext, boot_plugin

DEFAULT_URL = "http://127.0.0.1:4318/v1/traces"
"""The default address of a collector on this host (OTLP over HTTP)."""

PACKAGE = "opentelemetry.exporter.otlp.proto.http"


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f'must be a URL, such as "{DEFAULT_URL}", not "{value}"', ("url",))
    if not _installed():
        raise ConfigError('traces need OpenTelemetry: pip install "bootfw[otel]"', ("url",))
    return value


def _installed() -> bool:
    try:
        return find_spec(PACKAGE) is not None
    except ModuleNotFoundError:  # of a parent
        return False


class _Messages(logging.Handler):
    """Receives what OpenTelemetry logs, which would be printed otherwise. Only this has the reason of a failure."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._first = ""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler. The first message of an export has the reason, the later ones are about retries."""
        if record.name.startswith("opentelemetry.exporter"):
            self._first = self._first or record.getMessage()

    def take(self) -> str:
        """Return the first message since the last call; "": there was none."""
        first, self._first = self._first, ""
        return first


@define(eq=False)
class _Exporter:
    """A SpanExporter that reports the result of each export.

    :param done: called with the number of spans, and with the reason of a failure or None.
    """

    _exporter: Any
    _messages: _Messages
    _done: Callable[[int, str | None], None]

    def export(self, spans: Sequence[Any]) -> Any:
        """See SpanExporter."""
        self._messages.take()
        result = self._exporter.export(spans)
        reason = None if result.name == "SUCCESS" else self._messages.take() or result.name
        self._done(len(spans), reason)
        return result

    def shutdown(self) -> None:
        """See SpanExporter."""
        self._exporter.shutdown()


@implementer(IBatchObserver, IStartable)
@define(eq=False)
class OpenTelemetry:
    """Sends each boot as a trace to an OpenTelemetry collector, by OTLP over HTTP: its stages are the spans.

    Up to 2,048 spans wait for a collector that is slow or can't be reached; OpenTelemetry drops further ones. The log
    has a line with the reason when exports begin to fail, and one when they succeed again.
    """

    url: str = field(default=DEFAULT_URL, converter=_url)
    """The URL to which the collector accepts traces."""
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    """Headers of each request, such as `{"authorization" = "Bearer ..."}`."""
    service_name: str = "bootfw"
    """The attribute `service.name` of the traces."""
    timeout_seconds: float = field(default=10.0, validator=[validators.gt(0), validators.le(300)])
    """Timeout of an export, and how long a stop of the service may wait for the last one."""
    _reactor: Any = None
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False, repr=False)
    _provider: Any = field(default=None, init=False, repr=False)
    _messages: _Messages = field(factory=_Messages, init=False, repr=False)
    _lost: int = field(default=0, init=False)
    """Spans that were not exported since an export succeeded."""

    @classmethod
    def configured(
        cls,
        context: PluginContext,
        url: str = DEFAULT_URL,
        headers: Mapping[str, str] | None = None,
        service_name: str = "bootfw",
        timeout_seconds: float = 10.0,
    ) -> "OpenTelemetry":
        """Called by boot_plugin."""
        return cls(url, headers or {}, service_name, timeout_seconds, context.reactor)

    def start(self, publish: Callable[[Event], None]) -> None:
        """See IStartable: load OpenTelemetry and start its thread."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": self.service_name, "service.version": __version__})
        exporter = OTLPSpanExporter(endpoint=self.url, headers=dict(self.headers), timeout=self.timeout_seconds)
        watched: Any = _Exporter(exporter, self._messages, self._note_export)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(watched))
        logging.getLogger("opentelemetry").addHandler(self._messages)

    def close(self) -> "Deferred[Any]":
        """See IStartable: fires when the pending spans have been exported, or after the timeout."""
        provider, self._provider = self._provider, None
        stopping: Deferred[Any] = Deferred()

        def shut_down() -> None:
            provider.shutdown()
            if not stopping.called:  # else the reactor may have ended
                self._reactor.callFromThread(stopping.callback, None)

        # A collector that does not answer holds it up for 30 s. When the process ends, it waits for the threads of the
        # reactor, and not for this one.
        threading.Thread(target=shut_down, daemon=True).start()
        stopping.addTimeout(self.timeout_seconds, self._reactor)
        stopping.addErrback(lambda failure: self._log.warn("otel: the last boots were not exported"))
        return stopping.addCallback(lambda _: logging.getLogger("opentelemetry").removeHandler(self._messages))

    def _note_export(self, spans: int, reason: str | None) -> None:
        """Handle the result of an export. Called in the thread of OpenTelemetry.

        :param reason: why it failed; None: it succeeded.
        """
        self._reactor.callFromThread(self._exported if reason is None else self._not_exported, spans, reason)

    def _exported(self, spans: int, reason: None) -> None:
        if self._lost:
            self._log.info(
                "otel: boots are exported to {url} again; {lost} spans were lost", url=self.url, lost=self._lost
            )
        self._lost = 0

    def _not_exported(self, spans: int, reason: str) -> None:
        if not self._lost:
            self._log.warn("otel: boots can't be exported to {url}: {reason}", url=self.url, reason=reason)
        self._lost += spans

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        self.observe_many((event,))

    def observe_many(self, events: Sequence[Event]) -> None:
        """See IBatchObserver: queue the trace of each boot that has ended."""
        if self._provider is None:
            return
        for event in events:
            if type(event) is BootAttemptEnded:
                self._add(event.attempt)

    def _add(self, attempt: BootAttempt) -> None:
        from opentelemetry import trace

        tracer = self._provider.get_tracer("bootfw", __version__)
        ended = attempt.ended if attempt.ended is not None else _last(attempt)
        root = tracer.start_span(
            "boot",
            context=trace.set_span_in_context(trace.INVALID_SPAN),
            kind=trace.SpanKind.SERVER,
            start_time=_nanoseconds(attempt.began),
            attributes=boot_attributes(attempt),
        )
        within = trace.set_span_in_context(root)
        for stage in attempt.stages:
            span = tracer.start_span(
                stage.kind.value,
                context=within,
                start_time=_nanoseconds(stage.at),
                attributes=stage_attributes(stage),
            )
            span.end(_nanoseconds(max(stage.at, stage.until)))
        cause = attempt.cause
        if attempt.verdict is Verdict.FAILED:
            root.set_status(trace.StatusCode.ERROR, cause.sentence if cause is not None else None)
        root.end(_nanoseconds(max(ended, _last(attempt))))


def _last(attempt: BootAttempt) -> float:
    return max([attempt.began, *(max(stage.at, stage.until) for stage in attempt.stages)])


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def boot_attributes(attempt: BootAttempt) -> dict[str, Any]:
    """Return the attributes of the span of a boot; those without a value are left out."""
    cause = attempt.cause
    return _supported(
        {
            "bootfw.boot.id": attempt.id,
            "bootfw.mac": attempt.mac,
            "bootfw.uuid": attempt.uuid,
            "bootfw.persona": attempt.persona,
            "bootfw.architecture": attempt.architecture,
            "bootfw.interface": attempt.interface,
            "bootfw.verdict": attempt.verdict.name.lower(),
            "bootfw.cause": cause.key if cause is not None else "",
            "bootfw.bytes": attempt.bytes,
            "bootfw.files": attempt.files,
            "client.address": attempt.addresses[-1] if attempt.addresses else "",
        }
    )


def stage_attributes(stage: Stage) -> dict[str, Any]:
    """Return the attributes of the span of a stage: its data, with the prefix ``bootfw.`` for each key."""
    attributes = {f"bootfw.{key}": plain(value) for key, value in stage.data.items()}
    attributes["bootfw.count"] = stage.count
    return _supported(attributes)


def _supported(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that have a value, converted to types that OpenTelemetry supports."""
    return {
        key: value if isinstance(value, str | bool | int | float) else [str(item) for item in value]
        for key, value in attributes.items()
        if value is not None and value != "" and value != () and value != [] and not isinstance(value, dict)
    }


plugin = boot_plugin(IBootObserver, OpenTelemetry)
