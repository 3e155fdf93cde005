"""The JSON API: what it reads, what it orders and for whom, and the stream of events."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from attrs import evolve
from net.webclient import Response, Wire, parse
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from bootfw import __version__
from bootfw.api import DHCPSettings, Settings, StateError, TFTPSettings
from bootfw.attempts.attempt import BootAttempt, Verdict
from bootfw.backends.memory import MemoryBackend
from bootfw.config.settings import WebSettings
from bootfw.events import BootAttemptChanged, BootAttemptEnded, Event, TransferBegun, TransferEnded
from bootfw.net.control import ControlError
from bootfw.service import BootService
from bootfw.testing import MemoryNetwork
from bootfw.values import Agreed, Outcome, TransferReport, TransferRequest
from bootfw.web import WebSite
from bootfw.web.api import LIMIT
from bootfw.web.streams import BATCHED, STALLED, STREAMS

from .visiting import Visitor

TOKEN = "0123456789abcdef"

JSON = {"Content_Type": "application/json"}

MAC = "52:54:00:00:00:01"


class Pages(Visitor):
    """Those of a service whose operations are the test's; ``publish`` is what its observers get."""

    def __init__(self, token: str = TOKEN) -> None:
        network = MemoryNetwork()
        settings = Settings(tftp=TFTPSettings(listen=()), dhcp=DHCPSettings(mode="off"))
        files = MemoryBackend({"install.ipxe": b"#!ipxe\n"})
        self.service = BootService(network.host("10.0.0.1"), settings=settings, backend=files)
        self.service.startService()
        network.advance(0)  # the events of the start have been delivered
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        """(operation, what it was given)."""
        super().__init__(WebSite(network.clock, self.service, token=token), network.clock)

    def answer_operation(self, name: str, answer: Callable[[], Any]) -> None:
        def operation(arguments: Mapping[str, Any]) -> Any:
            self.calls.append((name, arguments))
            return answer()

        self.service.add_operations({name: operation})

    def return_records(self, name: str, records: Any) -> None:
        self.answer_operation(name, lambda: records)

    def raise_in_operation(self, name: str, error: Exception) -> None:
        def answer() -> Any:
            raise error

        self.answer_operation(name, answer)

    def publish(self, *events: Event) -> None:
        self.site.activity.observe_many(events)

    def post(self, target: str, value: Any, **headers: str | None) -> Response:
        all_headers = {**JSON, "Authorization": f"Bearer {TOKEN}", **headers}
        wire = self.send("POST", target, json.dumps(value).encode(), **all_headers)
        self.clock.advance(0)
        return parse(wire.value())[0]


@pytest.fixture
def pages() -> Pages:
    return Pages()


def test_the_page_and_its_files(pages: Pages) -> None:
    page = pages.get("/")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b'<script type="module" src="app.js">' in page.body
    assert b"<style" not in page.body
    assert b" style=" not in page.body
    script = pages.get("/app.js")
    assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
    again = pages.get("/app.js", If_None_Match=script.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert pages.get("/app.js/below").status == 200  # a leaf takes what follows
    assert pages.get("/../site.py").status == 404


def test_status(pages: Pages) -> None:
    pages.return_records("boots", [])
    pages.return_records("order", [])
    request = TransferRequest("a", "a", ("10.0.0.9", 1))
    ended = TransferReport(request, Agreed(), Outcome.COMPLETE, "", 5, 1, 0, 0, 0)
    pages.publish(
        TransferBegun(0, request, Agreed()), TransferBegun(0, evolve(request, peer=("10.0.0.9", 2)), Agreed())
    )
    pages.publish(TransferEnded(0, ended))
    status = pages.json("/api/status")
    assert (status["version"], status["ready"], status["waiting"]) == (__version__, True, [])
    assert (status["has"], status["can"]) == (["boots"], ["order"])
    assert status["transfers"] == {"running": 1, "ended": 1}
    assert Pages(token="").json("/api/status")["can"] == []


def test_throughput(pages: Pages) -> None:
    pages.clock.advance(100)
    request = TransferRequest("a", "a", ("10.0.0.9", 1))
    pages.publish(TransferEnded(99, TransferReport(request, Agreed(), Outcome.COMPLETE, "", 600, 1, 0, 98, 99)))
    content = pages.json("/api/throughput")
    assert (content["until"], content["seconds"], content["bytes"][-2:]) == (100, 300, [600, 0])


def test_records_of_an_operation(pages: Pages) -> None:
    pages.return_records("boots", [{"id": "1"}, {"id": "2"}])
    assert pages.json("/api/boots?machine=52:54&verdict=failed&limit=2") == {
        "records": [{"id": "1"}, {"id": "2"}],
        "more": False,
    }
    assert pages.calls == [("boots", {"machine": "52:54", "verdict": "failed", "limit": 3})]
    assert pages.json("/api/boots?limit=1") == {"records": [{"id": "1"}], "more": True}
    pages.return_records("boots", [])
    assert pages.json("/api/boots") == {"records": [], "more": False}
    assert pages.response_to("HEAD", "/api/boots").status == 200


def test_times_of_a_query_are_numbers(pages: Pages) -> None:
    pages.return_records("boots", [])
    pages.json("/api/boots?since=5&before=7.5&limit=1")
    assert pages.calls == [("boots", {"since": 5.0, "before": 7.5, "limit": 2})]


def test_leases_are_selected(pages: Pages) -> None:
    """The operation of leases knows no limit."""
    pages.return_records("leases", [])
    pages.json("/api/leases?who=a&state=active&network=10.0.0.0/8&limit=5")
    assert pages.calls == [("leases", {"who": "a", "state": "active", "network": "10.0.0.0/8"})]


def test_the_api_lists_its_paths(pages: Pages) -> None:
    assert "boots" in pages.json("/api")["paths"]


def test_the_boots_of_one_machine(pages: Pages) -> None:
    pages.return_records("boot", [{"id": "1"}])
    assert pages.json(f"/api/machines/{MAC}") == {"records": [{"id": "1"}], "more": False}
    assert pages.calls == [("boot", {"machine": MAC, "limit": LIMIT + 1})]


def test_many_records_leave_the_reactor_its_turns(pages: Pages) -> None:
    count = 0

    def records() -> Iterator[dict[str, int]]:
        nonlocal count
        for count in range(1, 2001):
            yield {"number": count}

    pages.return_records("leases", records())
    wire = pages.send("GET", "/api/leases")
    assert count == 100
    counts = []

    def turn() -> None:
        counts.append(count)
        if len(counts) < 10:
            pages.clock.callLater(0, turn)

    pages.clock.callLater(0, turn)
    pages.clock.advance(0)
    assert counts == [200, 300, 400, 500, 600, 700, 800, 900, 1001, 1001]
    content = json.loads(parse(wire.value())[0].body)
    assert content["more"] is True
    assert [record["number"] for record in content["records"]] == list(range(1, LIMIT + 1))


def test_client_that_does_not_read_is_not_sent_more(pages: Pages) -> None:
    count = 0

    def records() -> Iterator[dict[str, str]]:
        nonlocal count
        for count in range(1, 2001):
            yield {"text": f"{count:02000}"}

    pages.return_records("leases", records())
    wire = pages.connect()
    assert wire is not None
    wire.takes_all = False
    wire.protocol.dataReceived(b"GET /api/leases HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for _ in range(5):
        pages.clock.advance(0)
    assert count == 100
    wire.unread = 0
    wire.take()
    pages.clock.advance(0)
    assert count == 200
    wire.loseConnection()
    wire.lose(ConnectionError())  # in the middle: nothing is left behind
    pages.clock.advance(1)
    assert count == 200


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("/api/boots?limit=0", 400, f"limit must be from 1 to {LIMIT}"),
        ("/api/boots?limit=1001", 400, f"limit must be from 1 to {LIMIT}"),
        ("/api/boots?limit=x", 400, f"limit must be from 1 to {LIMIT}"),
        ("/api/boots?since=x", 400, 'since must be seconds since the epoch, not "x"'),
        ("/api/boots?mca=1", 400, 'unknown parameter "mca"; known: before, limit, machine, since, verdict'),
        ("/api/boots?%ff=1", 400, 'unknown parameter "\ufffd"; known: before, limit, machine, since, verdict'),
        ("/api/boots/below", 404, "there is nothing at this path"),
        ("/api/leases", 404, 'this server has no "leases": its configuration has nothing to do with it'),
    ],
)
def test_refused_reads_are_answered_with_an_error(pages: Pages, target: str, status: int, reason: str) -> None:
    pages.return_records("boots", [])
    response = pages.get(target)
    assert (response.status, json.loads(response.body)) == (status, {"error": reason})


@pytest.mark.parametrize("error", [ControlError("no such verdict"), StateError("no such verdict")])
def test_refused_operation_is_answered_with_its_reason(pages: Pages, error: Exception) -> None:
    pages.raise_in_operation("boots", error)
    response = pages.get("/api/boots")
    assert (response.status, json.loads(response.body)) == (400, {"error": "no such verdict"})


def test_failed_operation_is_answered_with_500(pages: Pages, failures: list[BaseException]) -> None:
    pages.raise_in_operation("boots", ZeroDivisionError("secret"))
    response = pages.get("/api/boots")
    assert response.status == 500
    assert b"secret" not in response.body
    assert [type(failure) for failure in failures] == [ZeroDivisionError]
    failures.clear()


def test_failure_during_records_ends_the_response(pages: Pages, failures: list[BaseException]) -> None:
    """The connection is cut, so that half a list is not taken for all of it."""

    def records() -> Iterator[dict[str, int]]:
        for number in range(150):
            yield {"number": number}
        raise ZeroDivisionError

    pages.return_records("boots", records())
    wire = pages.send("GET", "/api/boots")
    pages.clock.advance(0)
    assert wire.aborted
    assert [type(failure) for failure in failures] == [ZeroDivisionError]
    failures.clear()


def test_late_result_for_a_closed_connection_is_dropped(pages: Pages) -> None:
    deferreds: list[Deferred[Any]] = [Deferred(), Deferred()]
    pages.answer_operation("boots", lambda: deferreds[len(pages.calls) - 1])
    open_wire, closed_wire = pages.send("GET", "/api/boots"), pages.send("GET", "/api/boots")
    assert open_wire.value() == b""
    closed_wire.lose(ConnectionError())
    for deferred in deferreds:
        deferred.callback([{"id": "1"}])
    assert json.loads(parse(open_wire.value())[0].body)["records"] == [{"id": "1"}]
    assert closed_wire.value() == b""


# Orders


def test_machines_are_listed_and_the_boots_of_one_are_below(pages: Pages) -> None:
    pages.return_records("machines", [{"mac": MAC}, {"mac": "52:54:00:00:00:02"}])
    pages.return_records("boot", [{"id": "1"}])
    assert pages.json("/api/machines?tag=rack1&limit=1") == {"records": [{"mac": MAC}], "more": True}
    assert pages.json(f"/api/machines/{MAC}") == {"records": [{"id": "1"}], "more": False}
    assert pages.calls == [("machines", {"tag": "rack1", "limit": 2}), ("boot", {"limit": 1001, "machine": MAC})]
    assert "machines" in pages.json("/api/status")["has"]


def test_a_file_that_no_backend_has_is_refused(pages: Pages) -> None:
    pages.return_records("order", [])
    response = pages.post("/api/order", {"mac": MAC, "file": "instal.ipxe"})
    assert (response.status, json.loads(response.body)) == (
        400,
        {"error": "no backend has instal.ipxe; similar: install.ipxe"},
    )
    assert pages.calls == []
    assert pages.post("/api/order", {"mac": MAC, "file": "{http}/install.ipxe"}).status == 200
    assert pages.post("/api/order", {"mac": MAC, "file": "https://192.0.2.1/x.efi"}).status == 200


def test_post_sets_a_one_time_boot(pages: Pages) -> None:
    pages.return_records("order", [{"mac": MAC, "file": "install.ipxe"}])
    response = pages.post("/api/order", {"mac": MAC, "file": "install.ipxe"})
    assert json.loads(response.body) == {"records": [{"mac": MAC, "file": "install.ipxe"}]}
    assert response.status == 200
    assert pages.calls == [("order", {"mac": MAC, "file": "install.ipxe"})]
    pages.return_records("cancel", [])
    assert json.loads(pages.post("/api/cancel", {"mac": MAC}).body) == {"records": []}
    pages.raise_in_operation("release", ControlError("10.0.0.5 is not leased"))
    response = pages.post("/api/release", {"address": "10.0.0.5"}, Origin="http://127.0.0.1:8067")
    assert (response.status, json.loads(response.body)) == (400, {"error": "10.0.0.5 is not leased"})


def test_post_changes_a_machine(pages: Pages) -> None:
    pages.return_records("set-machine", [{"mac": MAC, "name": "web1"}])
    for body in ({"mac": MAC, "name": "web1"}, {"mac": MAC, "tags": ["rack1"], "image": ""}, {"mac": MAC}):
        response = pages.post("/api/machine", body)
        assert json.loads(response.body) == {"records": [{"mac": MAC, "name": "web1"}]}
        assert pages.calls.pop() == ("set-machine", body)
    invalid_bodies: list[Any] = [{"name": "web1"}, {"mac": 1}, {"mac": MAC, "uuid": "x"}, []]
    for invalid_body in invalid_bodies:
        response = pages.post("/api/machine", invalid_body)
        assert (response.status, json.loads(response.body)) == (
            400,
            {"error": "the body must be a JSON object of texts: mac; it may have image, name, tags"},
        )
    assert pages.post("/api/machine", {"mac": MAC}, Authorization="Bearer no").status == 401
    assert pages.calls == []


def test_wrong_tokens_of_many_addresses_write_a_bounded_log(pages: Pages) -> None:
    with capturedLogs() as logged:
        for number in range(300):
            pages.address = f"127.0.1.{number % 250}"
            assert pages.post("/api/order", {}, Authorization="Bearer no", Connection="close").status == 401
    assert len(logged) == 100


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"Authorization": None}, 401, "the token is missing"),
        ({"Authorization": "Bearer 0123456789abcdee"}, 401, "the token is wrong"),
        ({"Authorization": "Bearer 0123456789abcde"}, 401, "the token is wrong"),
        ({"Authorization": f"Basic {TOKEN}"}, 401, "the token is missing"),
        ({"Origin": "http://evil.example"}, 403, "a page of another site"),
        ({"Origin": "null"}, 403, "a page of another site"),
        ({"Origin": "https://127.0.0.1:8067"}, 403, "a page of another site"),
        ({"Content_Type": "text/plain"}, 415, "must be JSON"),
        ({"Content_Type": None}, 415, "must be JSON"),
        ({"Host": "evil.example"}, 421, "does not have that name"),
    ],
)
def test_commands_of_other_origins_are_refused(
    pages: Pages, headers: dict[str, str | None], status: int, reason: str
) -> None:
    pages.return_records("order", [])
    response = pages.post("/api/order", {"mac": MAC, "file": "x"}, **headers)
    assert response.status == status
    assert reason in json.loads(response.body)["error"]
    assert pages.calls == []


def test_without_a_token_nothing_can_be_ordered() -> None:
    pages = Pages(token="")
    pages.return_records("order", [])
    for token in (TOKEN, "", " "):
        response = pages.post("/api/order", {"mac": MAC, "file": "x"}, Authorization=f"Bearer {token}")
        assert response.status == 403
        assert "[web] token is not set" in json.loads(response.body)["error"]
    assert pages.calls == []


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"{",
            b"[]",
            b'"x"',
            b'{"mac":"a"}',
            b'{"mac":"a","file":1}',
            b'{"mac":"a","file":"b","c":"d"}',
            b"\xff",
        ),
        b"[" * 4000,
    ],
)
def test_malformed_orders_are_refused(pages: Pages, body: bytes) -> None:
    pages.return_records("order", [])
    wire = pages.send("POST", "/api/order", body, Authorization=f"Bearer {TOKEN}", **JSON)
    response = parse(wire.value())[0]
    assert response.status == 400
    assert json.loads(response.body)["error"] == "the body must be a JSON object of texts: file, mac"
    assert pages.calls == []


def test_orders_are_not_taken_from_a_get(pages: Pages) -> None:
    pages.return_records("order", [])
    response = pages.get(f"/api/order?mac={MAC}&file=x", Authorization=f"Bearer {TOKEN}")
    assert (response.status, response.headers["Allow"]) == (405, "POST")
    assert pages.calls == []


# The stream


def events(wire: Wire) -> list[tuple[str, Any]]:
    """(name, value) of what has come."""
    text = wire.value().partition(b"\r\n\r\n")[2]
    content = b"".join(line for line in text.split(b"\r\n") if line.startswith((b"event", b"data", b"retry")))
    events = []
    for block in content.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line)
        if "event" in lines:
            events.append((lines["event"], json.loads(lines["data"])))
    return events


def boot(number: int, verdict: Verdict = Verdict.IN_PROGRESS) -> BootAttempt:
    return BootAttempt(str(number), 100.0 + number, mac=MAC, verdict=verdict)


def test_boots_are_sent_as_they_happen(pages: Pages) -> None:
    wire = pages.send("GET", "/api/events")
    assert b"Content-Type: text/event-stream" in wire.value()
    pages.publish(BootAttemptChanged(0, boot(1)), BootAttemptChanged(0, boot(2)))
    pages.publish(BootAttemptEnded(0, boot(1, Verdict.BOOTED)))
    assert events(wire) == []
    pages.clock.advance(BATCHED)
    assert [(name, value["id"], value["verdict"]) for name, value in events(wire)] == [
        ("boot", "1", "booted"),
        ("boot", "2", "in progress"),
    ]
    assert "stages" not in events(wire)[0][1]


def test_the_status_and_the_throughput_are_sent_each_second(pages: Pages) -> None:
    wire = pages.send("GET", "/api/events")
    pages.clock.pump([1, 1])
    assert [name for name, _ in events(wire)] == ["status", "throughput"] * 2


def test_a_client_that_was_too_slow_has_to_load_again(pages: Pages) -> None:
    wire = pages.send("GET", "/api/events")
    assert wire.producer is not None
    wire.producer.pauseProducing()
    pages.clock.pump([1, 1])
    assert events(wire) == []
    wire.producer.resumeProducing()
    pages.clock.advance(1)
    assert [name for name, _ in events(wire)] == ["resync", "status", "throughput"]


def test_a_client_that_takes_nothing_for_long_is_disconnected(pages: Pages) -> None:
    wire = pages.send("GET", "/api/events")
    assert wire.producer is not None
    wire.producer.pauseProducing()
    pages.clock.pump([1] * int(STALLED))
    assert not wire.aborted
    pages.clock.pump([1, 1])
    assert wire.aborted
    pages.clock.advance(1)
    assert pages.clock.getDelayedCalls() == []


def test_no_timer_runs_without_a_client(pages: Pages) -> None:
    pages.publish(BootAttemptChanged(0, boot(1)))
    assert pages.clock.getDelayedCalls() == []
    wires = [pages.send("GET", "/api/events") for _ in range(2)]
    pages.publish(BootAttemptChanged(0, boot(1)))
    wires[0].lose(ConnectionError())
    pages.clock.advance(BATCHED)
    assert len(events(wires[1])) == 1
    pages.publish(BootAttemptChanged(0, boot(1)))
    wires[1].lose(ConnectionError())
    assert [call for call in pages.clock.getDelayedCalls() if "send" in str(call) or "flush" in str(call)] == []


def test_number_of_streams_is_limited(pages: Pages) -> None:
    for _ in range(STREAMS):
        pages.send("GET", "/api/events")
    assert pages.get("/api/events").status == 503


def test_a_stop_ends_the_streams(pages: Pages) -> None:
    wire = pages.send("GET", "/api/events")
    closed: list[object] = []
    pages.site.close().addCallback(closed.append)
    pages.clock.advance(0)
    assert wire.gone
    assert closed


def test_a_reload_changes_the_token_and_the_names() -> None:
    pages = Pages(token="")
    pages.return_records("order", [])
    assert not pages.site.serves(b"boot.example.org")
    pages.site.use(WebSettings(hosts=["boot.example.org"], token=TOKEN))
    assert pages.site.serves(b"boot.example.org")
    assert pages.json("/api/status")["can"] != []
    pages.site.use(WebSettings())
    assert not pages.site.serves(b"boot.example.org")
    assert pages.json("/api/status")["can"] == []
