"""The ``callout`` resolver and a real HTTP server."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from firmware import ipxe_features
from narrowing import of_type, present
from turning import connections
from twistd import refusing_port
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs
from twisted.python.failure import Failure
from webservers import WebServer

from bootfw.errors import BootRefused, ConfigError
from bootfw.events import Event, ResolverUnavailable
from bootfw.plugins import PluginContext, configure, load
from bootfw.resolvers import callout
from bootfw.resolvers.callout import Callout
from bootfw.testing import ResolverContract
from bootfw.values import BootFile, BootRequest

EXAMPLES = Path(__file__).parents[2] / "examples"
MAC = "52:54:00:12:34:56"
IPXE = BootRequest(MAC, "discover", "ipxe", "x86-bios", ipxe=True)
NAME = "callout/52-54-00-12-34-56.ipxe"


class API(WebServer):
    """The server of the example; a test can delay its responses or replace them."""

    def __init__(self, reactor: EPollReactor) -> None:
        from boot_api import BootAPI  # the examples have just been put on the path

        self.reactor = reactor
        self.requested_paths: list[str] = []
        self.response: bytes | None = None
        self.later_response: bytes | None = None
        """The response from the second request on."""
        api = self

        class Handler(BootAPI):
            def do_GET(self) -> None:
                api.requested_paths.append(self.path)
                api.may_answer.wait(10)
                if api.response is None:
                    super().do_GET()
                else:
                    response, api.response = api.response, api.later_response or api.response
                    self.wfile.write(response)

        super().__init__(Handler)

    def resolver(self, **options: Any) -> Callout:
        resolver = configure(
            load("callout", "bootfw.resolvers"),
            {"url": self.url, "within-seconds": 5.0, **options},
            PluginContext(self.reactor, EXAMPLES),
        )
        assert isinstance(resolver, Callout)
        return resolver

    def wait(self, answer: Deferred[BootFile | None] | None) -> BootFile | BaseException | None:
        """The result; an exception is returned, not raised."""
        results: list[BootFile | Failure | None] = []
        maybeDeferred(lambda: answer).addBoth(results.append)
        self.turn(lambda: results)
        if isinstance(results[0], Failure):
            return results[0].value
        return results[0]

    def turn(self, until: Callable[..., Any]) -> None:
        deadline = time.monotonic() + 30
        while not until():
            assert time.monotonic() < deadline, "it did not come"
            self.reactor.iterate(0.01)


@pytest.fixture
def api(private_reactor: EPollReactor, monkeypatch: pytest.MonkeyPatch, failures: list[BaseException]) -> Iterator[API]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    server = API(private_reactor)
    yield server
    server.stop()
    server.turn(lambda: not private_reactor.getDelayedCalls() and not connections(private_reactor))


def http_response(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.0 {status} X", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def log_lines(logs: Sequence[LogEvent]) -> list[str]:
    return [event["log_format"].format(**event) for event in logs if event["log_namespace"] == "bootfw"]


# Answers of the API


def test_machine_gets_the_script_of_the_api(api: API) -> None:
    found = api.wait(api.resolver().resolve(IPXE))
    assert api.requested_paths == [f"/v1/boot/{MAC}"]
    assert isinstance(found, BootFile)
    assert found.name == NAME
    assert present(found.content).decode().splitlines() == [
        "#!ipxe",
        "echo Installing build-7",
        "kernel --name kernel http://10.77.0.1:8069/debian/linux",
        "initrd --name initrd0 http://10.77.0.1:8069/debian/initrd.gz",
        "boot kernel initrd=initrd0 console=ttyS0 auto=true",
    ]


def test_the_api_may_send_a_script_of_its_own(api: API) -> None:
    found = api.wait(api.resolver().resolve(evolve(IPXE, mac="52:54:00:12:34:57")))
    assert isinstance(found, BootFile)
    assert present(found.content).startswith(b"#!ipxe\nsanboot")


def test_status_404_calls_the_next_resolver(api: API) -> None:
    with capturedLogs() as logs:
        assert api.wait(api.resolver(fallback="local").resolve(evolve(IPXE, mac="02:00:00:00:00:01"))) is None
    assert log_lines(logs) == []


def test_a_client_that_is_not_ipxe_is_left_to_the_next_resolver_without_a_query(api: API) -> None:
    assert api.resolver().resolve(evolve(IPXE, ipxe=False)) is None
    assert api.requested_paths == []


@pytest.mark.parametrize("url", ["{}", "{}/", "{}/v1", "{}/api"])
def test_url_of_the_request_has_the_mac(api: API, url: str) -> None:
    api.wait(api.resolver(url=url.format(api.url)).resolve(IPXE))
    assert api.requested_paths == [f"{'/api' if 'api' in url else ''}/v1/boot/{MAC}"]


def test_redirects_are_followed(api: API) -> None:
    api.response = http_response(302, b"", f"Location: {api.url}/elsewhere")
    api.later_response = http_response(200, b'{"kernel": "/k"}')
    found = api.wait(api.resolver().resolve(IPXE))
    assert api.requested_paths == [f"/v1/boot/{MAC}", "/elsewhere"]
    assert isinstance(found, BootFile)
    assert f"kernel --name kernel {api.url}/k\n".encode() in present(found.content)


def test_an_ipxe_without_https_is_reported_to_the_operator(api: API) -> None:
    api.response = http_response(200, b'{"kernel": "https://files.local/k"}')
    request = evolve(IPXE, options={175: ipxe_features(0x13, 0x15)})
    with capturedLogs() as logs:
        assert api.wait(api.resolver().resolve(request)) is None
    assert "this build of iPXE has no HTTPS, which its answer needs; the next resolver is called" in log_lines(logs)[0]
    assert of_type(BootFile, api.wait(api.resolver().resolve(IPXE))).name == NAME


# When the API fails

FAILURES = {
    "error": (http_response(500, b""), "it answers 500"),
    "malformed": (http_response(200, b"<html>"), "the answer is no JSON"),
    "too long": (http_response(200, b"x" * 70_000), "the answer has more than 65536 bytes"),
    "cut off": (b'HTTP/1.0 200 X\r\nContent-Length: 100\r\n\r\n{"kernel"', "its answer was cut off"),
    "nothing": (b"", "it closed the connection without an answer"),
    "no http": (b"SSH-2.0-OpenSSH\r\n", "its answer is not HTTP"),
    "a loop": (http_response(302, b"", "Location: /again"), "it redirects too often"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_cached_answer_is_used_and_logged_while_the_api_fails(api: API, failure: str) -> None:
    resolver = api.resolver()
    cached = api.wait(resolver.resolve(IPXE))
    api.response, reason = FAILURES[failure]
    with capturedLogs() as logs:
        assert api.wait(resolver.resolve(IPXE)) == cached
    [line] = log_lines(logs)
    assert line.startswith(f"callout {MAC}: {api.url}: {reason}")
    assert line.endswith("Its answer of 0 s ago is used")


def test_cached_answer_is_used_while_the_api_is_down(api: API) -> None:
    resolver = api.resolver()
    cached = api.wait(resolver.resolve(IPXE))
    api.stop()
    with capturedLogs() as logs:
        assert api.wait(resolver.resolve(IPXE)) == cached
        assert api.wait(resolver.resolve(evolve(IPXE, mac="02:00:00:00:00:01"))) is None
    assert ["refused" in line for line in log_lines(logs)] == [True, True]
    assert log_lines(logs)[1].endswith("the next resolver is called")


def test_cached_answer_expires_after_stale_seconds(api: API) -> None:
    resolver = api.resolver(**{"stale-seconds": 0.01})
    assert api.wait(resolver.resolve(IPXE))
    expiry = time.monotonic() + 0.05
    api.turn(lambda: time.monotonic() > expiry)
    api.response = http_response(500, b"")
    assert api.wait(resolver.resolve(IPXE)) is None


def test_404_ends_the_use_of_the_last_answer(api: API) -> None:
    resolver = api.resolver()
    assert api.wait(resolver.resolve(IPXE))
    api.response = http_response(404, b"")
    assert api.wait(resolver.resolve(IPXE)) is None
    api.response = http_response(500, b"")
    assert api.wait(resolver.resolve(IPXE)) is None


@pytest.mark.parametrize("fallback", ["next", "local", "refuse"])
def test_fallback_decides_without_an_answer(api: API, fallback: str) -> None:
    api.response = http_response(500, b"")
    resolver, events = api.resolver(fallback=fallback), list[Event]()
    resolver.start(events.append)
    found = api.wait(resolver.resolve(IPXE))
    reason = "it answers 500"
    assert events == [ResolverUnavailable(events[0].at, IPXE, "callout", reason)]
    if fallback == "next":
        assert found is None
    elif fallback == "local":
        assert isinstance(found, BootFile)
        assert present(found.content).endswith(b"exit 0\n")
        assert b"it answers 500" in present(found.content)
    else:
        assert isinstance(found, BootRefused)
        assert found.reason == f"{api.url}: it answers 500"


# When it is slow


def test_a_slow_answer_is_used_for_the_next_request(api: API) -> None:
    resolver = api.resolver(**{"within-seconds": 0.05})
    api.may_answer.clear()
    with capturedLogs() as logs:
        assert api.wait(resolver.resolve(IPXE)) is None
    assert "it has not answered in time" in log_lines(logs)[0]
    api.may_answer.set()
    api.turn(lambda: not resolver._queries)
    api.may_answer.clear()
    assert of_type(BootFile, api.wait(resolver.resolve(IPXE))).name == NAME
    api.turn(lambda: len(api.requested_paths) == 2)
    api.may_answer.set()
    api.turn(lambda: not resolver._queries)


def test_a_machine_has_one_query_at_a_time(api: API) -> None:
    resolver = api.resolver()
    api.may_answer.clear()
    pending = [resolver.resolve(IPXE) for _ in range(5)]
    other = resolver.resolve(evolve(IPXE, mac="52:54:00:12:34:57"))
    api.turn(lambda: len(api.requested_paths) == 2)
    api.may_answer.set()
    assert {of_type(BootFile, api.wait(each)).name for each in pending} == {NAME}
    assert of_type(BootFile, api.wait(other)).name != NAME
    assert len(api.requested_paths) == 2


def test_a_flood_of_machines_makes_a_bounded_number_of_requests(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callout, "MAX_QUERIES", 2)
    resolver = api.resolver(**{"within-seconds": 30.0})
    api.may_answer.clear()
    pending = [resolver.resolve(evolve(IPXE, mac=f"52:54:00:12:34:{number:02}")) for number in range(2)]
    with capturedLogs() as logs:
        assert api.wait(resolver.resolve(IPXE)) is None
    assert "2 requests to it wait for an answer" in log_lines(logs)[0]
    api.may_answer.set()
    for each in pending:
        api.wait(each)
    api.turn(lambda: not resolver._queries)
    assert of_type(BootFile, api.wait(resolver.resolve(IPXE))).name == NAME


def test_an_api_that_is_down_writes_a_bounded_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callout, "MAX_QUERIES", 0)
    monkeypatch.setattr(callout, "LINES_PER_SECOND", 3)
    clock = Clock()
    resolver = Callout("http://10.0.0.5", reactor=clock)
    with capturedLogs() as logs:
        for _ in range(50):
            resolver.resolve(IPXE)
        assert len(log_lines(logs)) == 4
        assert log_lines(logs)[3] == "callout http://10.0.0.5: more machines get no answer in this second"
        clock.advance(1)
        resolver.resolve(IPXE)
    assert len(log_lines(logs)) == 5


def test_a_cancelled_resolution_gets_no_answer_and_nothing_is_logged(api: API) -> None:
    """The resolver chain cancels it when its own deadline is shorter."""
    resolver = api.resolver()
    api.may_answer.clear()
    pending = resolver.resolve(IPXE)
    results: list[Failure] = []
    assert pending is not None
    pending.addErrback(results.append)
    pending.cancel()
    assert len(results) == 1
    api.may_answer.set()
    api.turn(lambda: not resolver._queries)
    assert MAC in resolver._cache


def test_close_cancels_pending_queries(api: API) -> None:
    resolver = api.resolver()
    api.may_answer.clear()
    pending = resolver.resolve(IPXE)
    api.turn(lambda: api.requested_paths)
    resolver.close()
    assert not resolver._queries
    assert not isinstance(api.wait(pending), Deferred)
    api.turn(lambda: not api.reactor.getDelayedCalls())


def test_cache_is_bounded(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callout, "CACHE_MAX", 400)
    resolver = api.resolver()
    api.response = http_response(200, json.dumps({"ipxe-script": "#!ipxe" + "x" * 100}).encode())
    for number in range(6):
        assert api.wait(resolver.resolve(evolve(IPXE, mac=f"02:00:00:00:00:0{number}")))
    assert [mac[-1] for mac in resolver._cache] == ["3", "4", "5"]
    assert resolver._cache_size == 318


# Options


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, '"url" is missing'),
        ({"url": "10.0.0.5:8000"}, 'url: must be the URL of a boot API, such as "http://10.0.0.5:8000"'),
        ({"url": "ftp://10.0.0.5"}, "must be the URL of a boot API"),
        ({"url": "http://x/?a=b"}, "must be the URL of a boot API"),
        ({"url": "http://x/a b"}, "url: must be ASCII without blanks"),
        ({"url": "http://x", "fallback": "never"}, 'fallback: must be one of "next", "local", "refuse"'),
        ({"url": "http://x", "within-seconds": 0.0}, "within-seconds: must be > 0"),
        ({"url": "http://x", "stale-seconds": -1.0}, "stale-seconds: must be >= 0"),
    ],
)
def test_invalid_options_are_errors(options: dict[str, str | float], error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure(load("callout", "bootfw.resolvers"), options, PluginContext(Clock(), Path("/")))
    assert error in str(caught.value)


def test_https_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callout, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"url: https needs pyOpenSSL: pip install bootfw\[tls\]"):
        configure(load("callout", "bootfw.resolvers"), {"url": "https://x"}, PluginContext(Clock(), Path("/")))


def test_refused_connection_is_an_unavailable_resolver(private_reactor: EPollReactor) -> None:
    results: list[Failure] = []
    with refusing_port() as port:
        resolver = Callout(f"http://127.0.0.1:{port}", "refuse", 5.0, 0.0, private_reactor)
        present(resolver.resolve(IPXE)).addErrback(results.append)
        deadline = time.monotonic() + 30
        while not results:
            assert time.monotonic() < deadline
            private_reactor.iterate(0.01)
    assert "refused" in of_type(BootRefused, results[0].value).reason


class TestContract(ResolverContract):
    @pytest.fixture(autouse=True)
    def _api(self, api: API) -> None:
        self.api = api

    def make_resolver(self) -> Callout:
        return self.api.resolver()

    def wait(self, deferred: Deferred[Any]) -> None:
        self.api.turn(lambda: deferred.called)
