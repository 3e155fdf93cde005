"""The ``otel`` observer: what a collector receives, decoded by the definition of OTLP."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from narrowing import of_type
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from twisted.internet.epollreactor import EPollReactor
from twisted.logger import capturedLogs, formatEvent
from webservers import PostReceiver

from bootfw.attempts.attempt import BootAttempt, Cause, Stage, StageKind, Verdict
from bootfw.errors import ConfigError
from bootfw.events import BootAttemptEnded, EventsDropped
from bootfw.observe import otel
from bootfw.observe.otel import OpenTelemetry
from bootfw.plugins import PluginContext, configure, load

MAC = "52:54:00:00:00:01"
BOOT = BootAttempt(
    "boot-1",
    1000.0,
    1009.5,
    mac=MAC,
    addresses=("10.77.0.5",),
    persona="uefi",
    architecture="x86_64-uefi",
    stages=(
        Stage(1000.0, StageKind.DISCOVER, {"persona": "uefi", "stack": "pxe"}, 2, 1004.0),
        Stage(1000.001, StageKind.OFFER, {"file": "snponly.efi", "address": "10.77.0.5", "menu": None}),
        Stage(1005.0, StageKind.TRANSFER, {"file": "snponly.efi", "bytes": 1000}, 1, 1005.25),
    ),
    files=("snponly.efi",),
    bytes=1000,
    verdict=Verdict.FAILED,
    cause=Cause("path-mtu", "The first full block was never acknowledged", "Look at the MTU"),
)


@pytest.fixture
def collector() -> Iterator[PostReceiver]:
    collector = PostReceiver(200, "/v1/traces")
    yield collector
    collector.stop()


def observer(reactor: EPollReactor, **options: Any) -> OpenTelemetry:
    plugin = configure(load("otel", "bootfw.observers"), options, PluginContext(reactor, Path()))
    observer = of_type(OpenTelemetry, plugin)
    observer.start(lambda event: None)
    return observer


def close(reactor: EPollReactor, observer: OpenTelemetry) -> None:
    results: list[object] = []
    observer.close().addBoth(results.append)
    deadline = time.monotonic() + 20
    while not results:
        assert time.monotonic() < deadline, "it did not come"
        reactor.iterate(0.01)
    assert results == [None]


def attributes(span: Any) -> dict[str, Any]:
    attributes = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        attributes[attribute.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return attributes


def test_a_boot_is_a_trace_and_its_stages_are_spans(private_reactor: EPollReactor, collector: PostReceiver) -> None:
    plugin = observer(
        private_reactor, **{"url": collector.url, "headers": {"authorization": "Bearer x"}, "service-name": "lab"}
    )
    plugin.observe_many([EventsDropped(1.0, 1), BootAttemptEnded(1.0, BOOT)])
    close(private_reactor, plugin)
    ((headers, body),) = collector.posts
    assert headers["authorization"] == "Bearer x"
    export = ExportTraceServiceRequest.FromString(body)
    (resource,) = export.resource_spans
    assert attributes(resource.resource)["service.name"] == "lab"
    spans = {span.name: span for scope in resource.scope_spans for span in scope.spans}
    assert set(spans) == {"boot", "discover", "offer", "transfer"}
    boot = spans.pop("boot")
    assert boot.parent_span_id == b""
    assert (boot.start_time_unix_nano, boot.end_time_unix_nano) == (1000 * 10**9, 1009_500_000_000)
    assert boot.status.code == Status.STATUS_CODE_ERROR
    assert boot.status.message == "The first full block was never acknowledged"
    assert attributes(boot) == {
        "bootfw.boot.id": "boot-1",
        "bootfw.mac": MAC,
        "bootfw.persona": "uefi",
        "bootfw.architecture": "x86_64-uefi",
        "bootfw.verdict": "failed",
        "bootfw.cause": "path-mtu",
        "bootfw.bytes": 1000,
        "bootfw.files": ["snponly.efi"],
        "client.address": "10.77.0.5",
    }
    for span in spans.values():
        assert (span.trace_id, span.parent_span_id) == (boot.trace_id, boot.span_id)
    discover, transfer = spans["discover"], spans["transfer"]
    assert (discover.start_time_unix_nano, discover.end_time_unix_nano) == (1000 * 10**9, 1004 * 10**9)
    assert attributes(discover) == {"bootfw.persona": "uefi", "bootfw.stack": "pxe", "bootfw.count": 2}
    assert transfer.end_time_unix_nano - transfer.start_time_unix_nano == 250_000_000
    assert "bootfw.menu" not in attributes(spans["offer"])


def test_each_boot_is_a_trace_of_its_own(private_reactor: EPollReactor, collector: PostReceiver) -> None:
    plugin = observer(private_reactor, url=collector.url)
    plugin.observe(BootAttemptEnded(1.0, BOOT))
    plugin.observe(BootAttemptEnded(1.0, BootAttempt("boot-2", 2000.0, verdict=Verdict.BOOTED)))
    close(private_reactor, plugin)
    ((_, body),) = collector.posts
    spans = [
        span
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert len({span.trace_id for span in spans}) == 2
    (second,) = [span for span in spans if attributes(span).get("bootfw.boot.id") == "boot-2"]
    assert second.status.code == Status.STATUS_CODE_UNSET
    assert second.start_time_unix_nano == second.end_time_unix_nano == 2000 * 10**9


def test_a_collector_that_does_not_answer_holds_nothing_up(
    private_reactor: EPollReactor, collector: PostReceiver
) -> None:
    plugin = observer(private_reactor, **{"url": collector.url, "timeout-seconds": 0.5})
    collector.may_answer.clear()
    began = time.monotonic()
    for _ in range(100):
        plugin.observe(BootAttemptEnded(1.0, BOOT))
    assert time.monotonic() - began < 20, "100 timeouts are 50 s"
    close(private_reactor, plugin)
    plugin.observe(BootAttemptEnded(1.0, BOOT))  # is dropped


def test_a_collector_that_hangs_does_not_delay_the_end_of_the_process(
    private_reactor: EPollReactor, collector: PostReceiver
) -> None:
    """The process waits for the threads of the reactor, and for others that are no daemons."""
    plugin = observer(private_reactor, **{"url": collector.url, "timeout-seconds": 0.5})
    collector.may_answer.clear()
    plugin.observe(BootAttemptEnded(1.0, BOOT))
    threads_before = {thread for thread in threading.enumerate() if not thread.daemon}
    began = time.monotonic()
    close(private_reactor, plugin)
    assert time.monotonic() - began < 20, "OpenTelemetry waits for 30 s"
    assert {thread for thread in threading.enumerate() if not thread.daemon} <= threads_before


def test_failed_exports_are_one_line_and_their_end_another(
    private_reactor: EPollReactor, collector: PostReceiver, capfd: pytest.CaptureFixture[str]
) -> None:
    plugin = observer(private_reactor, **{"url": collector.url, "timeout-seconds": 0.5})
    logger = logging.getLogger("opentelemetry.exporter.test")

    def export(*reasons: str) -> None:
        """Each reason is that of an export that fails; "": it does not."""
        for reason in reasons:
            logger.warning(reason)
            collector.status = 403 if reason else 200
            plugin.observe(BootAttemptEnded(1.0, BOOT))
            plugin._provider.force_flush()
        private_reactor.iterate(0.01)

    with capturedLogs() as logged:
        export("", "one", "another", "")
        export("")
        close(private_reactor, plugin)
    lines = [formatEvent(event) for event in logged if event.get("log_namespace") == "bootfw"]
    assert lines == [
        f"otel: boots can't be exported to {collector.url}: Failed to export spans batch code: 403, reason: Forbidden",
        f"otel: boots are exported to {collector.url} again; 8 spans were lost",
    ]
    assert capfd.readouterr().err == ""
    assert logging.getLogger("opentelemetry").handlers == []


def test_invalid_options_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r'^url: must be a URL, such as "http://127.0.0.1:4318/v1/traces", not "x"'):
        OpenTelemetry("x")
    monkeypatch.setattr(otel, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'^url: traces need OpenTelemetry: pip install "bootfw\[otel\]"'):
        OpenTelemetry()
