"""The control socket: requests, responses and permissions."""

import errno
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from narrowing import of_type, present
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.internet.unix import Port
from twisted.python.failure import Failure

from bootfw.errors import StateError
from bootfw.net.control import ControlError, ControlFactory, Operation, listen_control


class ControlClient:
    """A connection that sends one request when it is made."""

    def __init__(self, operations: Mapping[str, Operation], request: Mapping[str, object] | bytes) -> None:
        self.transport = StringTransport()
        self.protocol = of_type(Protocol, ControlFactory(operations).buildProtocol(None))
        self.protocol.makeConnection(self.transport)
        self.protocol.dataReceived(request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n")

    def take(self) -> list[dict[str, Any]]:
        """Have the next portion sent, and return all lines that have arrived since the last call."""
        if self.transport.producer is not None:
            assert self.transport.streaming is False
            self.transport.producer.resumeProducing()
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [json.loads(line) for line in lines]


def refusing(error: ZeroDivisionError | ControlError | StateError) -> Operation:
    def operation(arguments: Mapping[str, Any]) -> None:
        raise error

    return operation


def test_records_are_sent_and_the_connection_closed() -> None:
    client = ControlClient(
        {"count": lambda arguments: [{"n": n} for n in range(arguments["to"])]}, {"do": "count", "with": {"to": 2}}
    )
    assert client.take() == [{"record": {"n": 0}}, {"record": {"n": 1}}, {"done": 2}]
    assert client.transport.disconnecting
    assert client.transport.producer is None


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_long_responses_are_sent_in_portions(count: int) -> None:
    """The next portion is not sent before the client has read the last one."""
    client = ControlClient({"count": lambda arguments: iter([{}] * count)}, {"do": "count"})
    portions = []
    while not client.transport.disconnecting:
        portions.append(client.take())
    assert [line for portion in portions for line in portion] == [{"record": {}}] * count + [{"done": count}]
    assert max(map(len, portions)) <= 101


def test_asynchronous_operation_is_answered() -> None:
    pending: Deferred[list[dict[str, int]]] = Deferred()
    client = ControlClient({"release": lambda arguments: pending}, {"do": "release"})
    assert client.transport.value() == b""
    pending.callback([{"a": 1}])
    assert client.take() == [{"record": {"a": 1}}, {"done": 1}]


@pytest.mark.parametrize("error", [ControlError("no"), StateError("no")])
def test_failed_operation_is_answered_with_its_reason(error: ControlError | StateError) -> None:
    client = ControlClient({"release": refusing(error)}, {"do": "release"})
    assert client.take() == [{"error": "no"}]
    assert client.transport.disconnecting
    pending: Deferred[list[dict[str, int]]] = Deferred()
    client = ControlClient({"release": lambda arguments: pending}, {"do": "release"})
    pending.errback(Failure(error))
    assert client.take() == [{"error": "no"}]


def broken(arguments: Mapping[str, Any]) -> Iterator[dict[str, int]]:
    yield {"n": 1}
    raise ZeroDivisionError


@pytest.mark.parametrize("operation", [refusing(ZeroDivisionError()), broken])
def test_exception_in_an_operation_is_logged_and_answered_without_details(
    operation: Operation, failures: list[BaseException]
) -> None:
    client = ControlClient({"list": operation}, {"do": "list"})
    assert client.take() == [{"error": "it failed in the server; its log has more"}]
    assert client.transport.disconnecting
    (found,) = failures
    assert isinstance(found, ZeroDivisionError)
    failures.clear()


@pytest.mark.parametrize("line", [b"\n", b"{\n", b"[]\n", b"1\n", b'"do"\n', b"{}\n", b'{"do": []}\n', b"\xff\n"])
def test_malformed_requests_are_refused(line: bytes) -> None:
    client = ControlClient({"list": lambda arguments: []}, line)
    assert client.take() == [{"error": "this server does not understand the request; is it of another version?"}]


def test_unknown_operation_is_refused() -> None:
    [response] = ControlClient({"list": lambda arguments: []}, {"do": "none"}).take()
    assert response["error"].startswith(
        'this server has no operation "none": its configuration has nothing to do with it'
    )


def test_request_longer_than_the_limit_is_refused() -> None:
    client = ControlClient({}, b"x" * 100_000)
    assert client.take() == [{"error": "the request is too long"}]
    assert client.transport.disconnecting


def test_a_connection_serves_one_request() -> None:
    calls: list[Mapping[str, Any]] = []
    pending: Deferred[list[dict[str, int]]] = Deferred()

    def operation(arguments: Mapping[str, Any]) -> Deferred[list[dict[str, int]]]:
        calls.append(arguments)
        return pending

    client = ControlClient({"list": operation}, b'{"do": "list"}\n{"do": "list"}\n')
    client.protocol.dataReceived(b'{"do": "list"}\n')
    pending.callback([])
    assert len(calls) == 1
    assert client.take() == [{"done": 0}]


def test_too_much_data_after_the_request_aborts_the_response() -> None:
    client = ControlClient({"count": lambda arguments: iter([{}] * 1000)}, {"do": "count"})
    assert len(client.take()) == 100
    client.protocol.dataReceived(b"x" * 20_000)
    assert client.transport.producer is None
    assert client.take() == [{"error": "the request is too long"}]
    assert client.transport.disconnecting


def test_the_response_to_a_client_that_is_gone_is_dropped() -> None:
    pending: Deferred[list[dict[str, int]]] = Deferred()
    client = ControlClient({"release": lambda arguments: pending}, {"do": "release"})
    client.protocol.connectionLost(Failure(ConnectionDone()))
    pending.callback([{"a": 1}])
    assert client.transport.producer is None
    assert client.transport.value() == b""


def test_client_disconnecting_during_the_response_is_handled() -> None:
    records: Iterator[dict[str, int]] = iter([{}] * 1000)
    client = ControlClient({"list": lambda arguments: records}, {"do": "list"})
    client.take()
    client.protocol.connectionLost(Failure(ConnectionDone()))
    present(client.transport.producer).resumeProducing()
    assert len(list(records)) == 900


# The socket


@pytest.fixture
def listen(private_reactor: EPollReactor, tmp_path: Path) -> Iterator[Callable[..., Port]]:
    ports: list[Port] = []

    def start(path: Path = tmp_path / "control.sock") -> Port:
        ports.append(listen_control(private_reactor, path, {}))
        return ports[-1]

    yield start
    for port in ports:
        port.stopListening()
    private_reactor.iterate(0)


def test_socket_is_accessible_to_its_owner_only(listen: Callable[..., Port], tmp_path: Path) -> None:
    listen()
    status = (tmp_path / "control.sock").stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_files_made_by_root_belong_to_the_owner_of_the_directory(listen: Callable[..., Port], tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65533)
    listen()
    status = (tmp_path / "control.sock").stat()
    assert (status.st_uid, status.st_gid) == (65534, 65533)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_link_in_place_of_the_socket_gives_nothing_away(
    listen: Callable[..., Port], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account of the server owns the directory, and could replace the socket by a link before root changes its
    owner."""
    target = tmp_path / "shadow"
    target.write_text("")
    os.chown(tmp_path, 65534, 65533)
    start_listening: Callable[[Port], None] = Port.startListening

    def start_and_replace(port: Port) -> None:
        start_listening(port)
        (tmp_path / "control.sock").unlink()
        (tmp_path / "control.sock").symlink_to(target)

    monkeypatch.setattr(Port, "startListening", start_and_replace)
    listen()
    assert (target.stat().st_uid, (tmp_path / "control.sock").lstat().st_uid) == (0, 65534)


def test_stale_socket_is_replaced(listen: Callable[..., Port], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "control.sock"))
    listen()


def test_socket_of_a_running_server_is_not_replaced(listen: Callable[..., Port], tmp_path: Path) -> None:
    listen()
    with pytest.raises(CannotListenError) as caught:
        listen()
    assert caught.value.socketError.errno == errno.EADDRINUSE
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "control.sock"))  # the first is still there


def test_file_at_the_socket_path_is_not_replaced(listen: Callable[..., Port], tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(CannotListenError) as caught:
        listen()
    assert caught.value.socketError.errno == errno.EADDRINUSE
    assert path.read_text() == "precious"


def test_path_that_is_too_long_is_an_error(listen: Callable[..., Port], tmp_path: Path) -> None:
    path = tmp_path / ("d" * 100) / "control.sock"
    os.mkdir(path.parent)
    with pytest.raises(CannotListenError) as caught:
        listen(path)
    assert caught.value.socketError.errno == errno.ENAMETOOLONG


def test_missing_directory_is_an_error(listen: Callable[..., Port], tmp_path: Path) -> None:
    with pytest.raises(CannotListenError) as caught:
        listen(tmp_path / "none" / "control.sock")
    assert caught.value.socketError.errno == errno.ENOENT
