"""The site of the pages: for which names, for how many, health and readiness."""

import json
import socket
from contextlib import closing
from http.client import HTTPConnection

import pytest
from observers import EventList
from turning import Alongside, Result
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from bootfw.api import DHCPSettings, Settings, TFTPSettings, WebSettings
from bootfw.events import ListenerBound, ListenerClosed, ListenerFailed
from bootfw.service import BootService
from bootfw.testing import MemoryNetwork
from bootfw.web import WebSite, add_web
from bootfw.web.site import CONNECTIONS, LONGEST_BODY

from .visiting import Visitor

ONLY_PAGES = Settings(tftp=TFTPSettings(listen=()), dhcp=DHCPSettings(mode="off"))


@pytest.fixture
def visitor() -> Visitor:
    """Of a service that is started."""
    network = MemoryNetwork()
    service = BootService(network.host("10.0.0.1"), settings=ONLY_PAGES)
    service.startService()
    return Visitor(WebSite(network.clock, service, ["boot.example.org"]), network.clock)


def test_content_length_that_is_no_number_is_refused(visitor: Visitor) -> None:
    wire = visitor.send("POST", "/api/order", Content_Length="9" * 5000)
    assert wire.value().startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("target", ["/", "/healthz", "/api/status", "/nothing", "/api"])
def test_head_is_not_logged(visitor: Visitor, target: str) -> None:
    body = visitor.get(target).body
    with capturedLogs() as logged:
        response = visitor.response_to("HEAD", target)
    assert (response.body, response.headers["Content-Length"]) == (b"", str(len(body)))
    assert logged == []


def test_health(visitor: Visitor) -> None:
    assert visitor.json("/healthz") == {"alive": True}
    assert visitor.get("/healthz").headers["Content-Type"] == "application/json"
    assert visitor.response_to("HEAD", "/healthz").status == 200


def test_a_service_that_is_not_started_is_not_ready() -> None:
    clock = Clock()
    network = MemoryNetwork(clock)
    service = BootService(network.host("10.0.0.1"), settings=ONLY_PAGES)
    visitor = Visitor(WebSite(clock, service), clock)
    response = visitor.get("/readyz")
    assert (response.status, json.loads(response.body)["ready"]) == (503, False)
    assert json.loads(response.body)["waiting"] != []
    service.startService()
    assert visitor.json("/readyz") == {"ready": True, "waiting": []}
    network.result_of(service.stopService())
    assert visitor.get("/readyz").status == 503
    assert visitor.get("/healthz").status == 200


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8067",
        "10.0.0.1",
        "[::1]:8067",
        "[fd00::1]",
        "localhost",
        "LOCALHOST:8067",
        "localhost.",
        socket.gethostname(),
        "boot.example.org:8067",
        "Boot.Example.Org.",
        None,
    ],
)
def test_addresses_and_names_of_this_host_are_served(visitor: Visitor, host: str | None) -> None:
    assert visitor.get("/healthz", Host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8067", "localhost.evil.example", "", "::1.x", "127.0.0.1.x"]
)
@pytest.mark.parametrize("target", ["/healthz", "/", "/missing"])
def test_other_names_are_refused(visitor: Visitor, host: str, target: str) -> None:
    """A page of evil.example whose name was made to lead here sends that name."""
    response = visitor.get(target, Host=host)
    assert response.status == 421
    assert "[web] hosts" in json.loads(response.body)["error"]


def test_every_response_has_the_policy_and_no_cors(visitor: Visitor) -> None:
    for target in ("/healthz", "/readyz", "/missing"):
        headers = visitor.get(target, Origin="http://127.0.0.1:9").headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Server"] == "bootfw"
        assert not [name for name in headers if name.startswith("Access-Control")]


def test_missing_path_is_answered_with_404(visitor: Visitor) -> None:
    for target in ("/missing", "/missing/below", "/%3Cb%3E"):
        response = visitor.get(target)
        assert (response.status, response.headers["Content-Type"]) == (404, "application/json")
        assert b"<" not in response.body


def test_read_only_paths_refuse_post(visitor: Visitor) -> None:
    response = visitor.response_to("POST", "/healthz", b"x")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    assert json.loads(response.body) == {"error": "only GET, HEAD can be used here"}


def test_long_body_is_discarded(visitor: Visitor) -> None:
    assert visitor.response_to("POST", "/missing", bytes(LONGEST_BODY)).status == 405
    assert visitor.response_to("POST", "/missing", bytes(LONGEST_BODY + 1)).status == 413


def test_more_connections_than_allowed_are_closed(visitor: Visitor) -> None:
    wires = [visitor.connect() for _ in range(CONNECTIONS)]
    assert all(wires)
    assert visitor.connect() is None
    assert wires[0] is not None
    wires[0].loseConnection()
    visitor.clock.advance(0)
    assert visitor.get("/healthz").status == 200


def test_a_connection_without_a_request_is_closed(visitor: Visitor) -> None:
    wire = visitor.connect()
    assert wire is not None
    wire.protocol.dataReceived(b"GET /healthz HT")
    visitor.clock.advance(31)
    assert wire.gone


# Bound by a service


def status_of(port: int, target: str) -> int:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", target)
        return connection.getresponse().status


@pytest.mark.parametrize(("device", "ready"), [("eth99", False), ("lo", True)])
def test_ready_means_that_every_socket_is_bound(
    private_reactor: EPollReactor, result: Result, device: str, ready: bool
) -> None:
    """A port whose interface does not exist is open, and bound when it does."""
    settings = Settings(interfaces=[device], tftp=TFTPSettings(listen=["0.0.0.0:0"]), dhcp=DHCPSettings(mode="off"))
    service = BootService(private_reactor, settings=settings)
    clock = Clock()
    visitor = Visitor(WebSite(clock, service), clock)
    service.startService()
    private_reactor.iterate()
    response = visitor.get("/readyz")
    assert response.status == (200 if ready else 503)
    (record,) = visitor.json("/api/status")["sockets"]
    assert (record["device"], record["state"]) == (device, "bound" if ready else "waiting")
    waiting = json.loads(response.body)["waiting"]
    if ready:
        assert waiting == []
    else:
        assert waiting[0]["service"] == "tftp"
        assert waiting[0]["reason"].startswith("no interface eth99; there are: ")
    result(service.stopService())
    assert visitor.get("/readyz").status == 503


def test_a_service_binds_the_pages_with_its_ports(
    private_reactor: EPollReactor, alongside: Alongside, result: Result
) -> None:
    service = BootService(private_reactor, settings=ONLY_PAGES)
    observer = EventList()
    service.add_observer(observer)
    add_web(private_reactor, service, WebSettings(listen=["127.0.0.1:0"]))
    for _ in range(2):  # it can be started again
        service.startService()
        (row,) = service.summary()
        assert row.service == "web"
        assert alongside(status_of, row.address[1], "/readyz") == 200
        connection = socket.create_connection(row.address[:2])  # is cut by the stop
        result(service.stopService())
        connection.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(row.address[:2])
    assert [event.service for event in observer.of(ListenerBound)] == ["web"] * 2
    assert [event.service for event in observer.of(ListenerClosed)] == ["web"] * 2


@pytest.mark.parametrize("optional", [False, True])
def test_a_port_that_another_program_holds(private_reactor: EPollReactor, result: Result, optional: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        service = BootService(private_reactor, settings=ONLY_PAGES)
        observer = EventList()
        service.add_observer(observer)
        listen = WebSettings(listen=[holder.getsockname()[:2]])
        add_web(private_reactor, service, listen, optional=optional)
        if optional:
            service.startService()
            assert service.running
        else:
            with pytest.raises(CannotListenError):
                service.startService()
        assert service.summary() == []
        result(service.stopService())
    (failed,) = observer.of(ListenerFailed)
    assert failed.service == "web"
    assert "(pid " in failed.reason
