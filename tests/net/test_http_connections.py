"""The limits of HTTP connections: their number, time and memory are bounded, whatever clients do."""

import resource
import socket
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from bootfw.events import RequestsDropped
from bootfw.net.http import site
from bootfw.net.http.downloadstates import STALLED_SECONDS
from bootfw.net.http.site import SPARED
from bootfw.net.linux.interfaces import Interfaces
from bootfw.values import Via
from net.webclient import Reader, Web, Wire

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def small() -> Reader:
    return Reader(b"content", size=7)


def answered(wire: Wire) -> bool:
    """Whether a request on this connection is answered at once."""
    if wire.aborted or wire.gone:
        return False
    before = len(wire.value())
    wire.protocol.dataReceived(GET)
    return wire.value()[before:].endswith(b"content")


@pytest.fixture
def limit_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than three connections."""
    monkeypatch.setattr(site, "MOST_CONNECTIONS", 3)


@pytest.mark.usefixtures("limit_of_three")
def test_longest_idle_connection_is_closed_for_a_new_one() -> None:
    web = Web(small)
    first, second, third = wires = [web.connect() for _ in range(3)]
    assert all(map(answered, wires))
    web.clock.advance(1)
    assert answered(first)
    web.clock.advance(SPARED)
    new = web.connect()
    assert [wire.aborted for wire in (first, second, third, new)] == [False, True, False, False]
    web.clock.advance(0)
    assert [answered(wire) for wire in (first, third, new)] == [True, True, True]


@pytest.mark.usefixtures("limit_of_three")
def test_recently_used_connections_are_not_closed() -> None:
    web = Web(small)
    wires = [web.connect() for _ in range(3)]
    web.clock.advance(SPARED - 0.1)
    assert all(map(answered, wires))
    web.clock.advance(SPARED - 0.1)
    new = web.connect()
    assert (new.aborted, [wire.aborted for wire in wires]) == (True, [False] * 3)


@pytest.mark.usefixtures("limit_of_three")
def test_downloads_are_never_cut_to_make_room() -> None:
    opening: list[Deferred[Any]] = []

    def later() -> Any:
        opening.append(Deferred())
        return opening[-1]

    web = Web(later)
    wires = [web.connect() for _ in range(3)]
    for wire in wires:
        wire.protocol.dataReceived(GET)
    web.clock.advance(STALLED_SECONDS / 2)
    assert web.connect().aborted
    for each in opening:
        each.callback(small())
    assert [wire.value().endswith(b"content") for wire in wires] == [True] * 3


@pytest.mark.usefixtures("limit_of_three")
@pytest.mark.parametrize("request_bytes", [GET, b"GET /%61 HTTP/1.1\r\n\r\n"], ids=["fast path", "twisted.web"])
def test_closed_connection_frees_its_slot(request_bytes: bytes) -> None:
    web = Web(small)
    wires = [web.connect() for _ in range(3)]
    for wire in wires:
        wire.protocol.dataReceived(request_bytes)
    wires[1].lose(Exception("gone"))
    assert answered(web.connect())


@pytest.mark.usefixtures("limit_of_three")
def test_a_flood_of_connections_is_logged_once_a_minute() -> None:
    web = Web(small)
    with capturedLogs() as logs:
        for _ in range(100):
            web.connect()
            web.clock.advance(0.01)
    assert len([event for event in logs if "connections" in event.get("log_format", "")]) == 1


def test_no_more_than_half_of_the_open_files_are_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (8, 8))
    web = Web(small)
    wires = [web.connect() for _ in range(6)]
    assert [wire.aborted for wire in wires] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("piece", [b"x", b"X-Header: y\r\n"])
def test_slow_request_times_out(piece: bytes) -> None:
    web = Web(small)
    wire = web.connect()
    wire.protocol.dataReceived(b"GET /a HTTP/1.1\r\n")
    for _ in range(int(STALLED_SECONDS) - 1):
        web.clock.advance(1)
        wire.protocol.dataReceived(piece)
    assert not wire.disconnecting
    web.clock.advance(1.1)
    assert wire.disconnecting


@pytest.mark.parametrize("length", ["9" * 5000, "+1", "1_0", "-1"])
def test_content_length_that_is_no_number_is_refused(length: str) -> None:
    wire = Web(small).connect()
    wire.protocol.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + length.encode() + b"\r\n\r\n")
    assert wire.value().startswith(b"HTTP/1.1 400 ")
    assert wire.disconnecting


def test_headers_without_end_are_refused_before_they_fill_memory() -> None:
    web = Web(small)
    wire = web.connect()
    sent = 0
    while not wire.disconnecting:
        wire.protocol.dataReceived(b"X: " + b"y" * 997)
        sent += 1000
        assert sent < 100_000
    assert not wire.value().startswith(b"HTTP/1.1 200")


def test_client_that_does_not_read_is_bounded_in_memory() -> None:
    web = Web(lambda: Reader(bytes(60_000), size=60_000))
    wire = web.connect()
    wire.takes_all = False
    for _ in range(20):
        if wire.producerState == "producing":
            wire.protocol.dataReceived(GET)
    assert wire.unread < 200_000


def test_connections_of_one_client_are_limited_to_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "MOST_CONNECTIONS", 20)
    web = Web(small)
    wires = [web.connect() for _ in range(15)]
    assert [wire.aborted for wire in wires] == [False] * 10 + [True] * 5
    other = web.connect("10.9.0.8")
    assert answered(other)
    wires[0].lose(Exception("gone"))
    web.clock.advance(0)
    assert answered(web.connect())


def test_a_connection_by_an_interface_that_is_not_served_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web(small)
    monkeypatch.setattr(site, "arrived_by", lambda transport: Via("10.9.0.1", socket.if_nametoindex("lo"), ""))
    web.site._interfaces = interfaces = Interfaces(excepted=["lo"])
    assert web.connect().aborted
    interfaces.serve([])
    assert answered(web.connect())


def test_a_client_that_is_not_allowed_gets_no_connection() -> None:
    web = Web(small, deny=["10.9.0.8"])
    assert web.connect("10.9.0.8").aborted
    assert answered(web.connect("10.9.0.9"))
    assert [event.service for event in web.events if isinstance(event, RequestsDropped)] == ["http"]


@pytest.mark.parametrize("request_bytes", [GET, b"GET /%61 HTTP/1.1\r\n\r\n"], ids=["fast path", "twisted.web"])
def test_requests_beyond_the_rate_are_refused_and_their_connection_is_closed(request_bytes: bytes) -> None:
    web = Web(small, requests_per_second=3)
    web.connect("10.9.0.8").protocol.dataReceived(request_bytes)
    wire = web.connect()
    for _ in range(6):
        wire.protocol.dataReceived(request_bytes)
        assert wire.value().endswith(b"content")
    wire.clear()
    wire.protocol.dataReceived(request_bytes)
    assert wire.value().startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n")
    assert wire.disconnecting
    web.clock.advance(1)
    assert answered(web.connect())
