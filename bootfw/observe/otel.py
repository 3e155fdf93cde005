"""The ``otel`` observer: exports each boot attempt as an OpenTelemetry trace, with a span for each stage.

OpenTelemetry (the extra ``bootfw[otel]``) exports in a thread of its own. It is imported when the service starts.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from attrs import define, field, validators
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
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


@implementer(IBatchObserver, IStartable)
@define(eq=False)
class OpenTelemetry:
    """Sends each boot as a trace to an OpenTelemetry collector, by OTLP over HTTP: its stages are the spans.

    Up to 2,048 spans wait for a collector that is slow or away; more are dropped, as OpenTelemetry does it.
    """

    url: str = field(default=DEFAULT_URL, converter=_url)
    """Where the collector takes traces."""
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    """Headers of each request, such as `{"authorization" = "Bearer ..."}`."""
    service_name: str = "bootfw"
    """The attribute `service.name` of the traces."""
    timeout_seconds: float = field(default=10.0, validator=[validators.gt(0), validators.le(300)])
    """Timeout of an export, and how long a stop of the service may wait for the last one."""
    _reactor: Any = None
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False, repr=False)
    _provider: Any = field(default=None, init=False, repr=False)

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
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))

    def close(self) -> "Deferred[Any]":
        """See IStartable: fires when the pending spans have been exported, or after the timeout."""
        provider, self._provider = self._provider, None
        stopping = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), provider.shutdown)
        stopping.addTimeout(self.timeout_seconds, self._reactor)
        return stopping.addErrback(lambda failure: self._log.warn("otel: the last boots were not exported"))

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
    return _given(
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
    found = {f"bootfw.{key}": plain(value) for key, value in stage.data.items()}
    found["bootfw.count"] = stage.count
    return _given(found)


def _given(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that have a value, converted to types that OpenTelemetry supports."""
    return {
        key: value if isinstance(value, str | bool | int | float) else [str(item) for item in value]
        for key, value in attributes.items()
        if value is not None and value != "" and value != () and value != [] and not isinstance(value, dict)
    }


plugin = boot_plugin(IBootObserver, OpenTelemetry)
