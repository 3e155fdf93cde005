"""Plugins that inherit an ability and override the method that it describes: what they override is called."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer

from bootfw.api import ILearningWatchdog, IWatchdog, IWatchdogPolicy
from bootfw.backends.directory import DirectoryBackend
from bootfw.boot.backends import LayeredBackend
from bootfw.config.settings import HTTPSettings
from bootfw.events import Event, TransferEnded
from bootfw.net.tftp.framecache import FrameCache
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.tftp.watchdog import begin_watchdog
from bootfw.net.udp.port import DatagramPort
from bootfw.observe.log import LogObserver
from bootfw.observe.publisher import Publisher
from bootfw.readers import FileReader
from bootfw.tftp.flight import Flight
from bootfw.tftp.retransmit import RetransmitTimer
from bootfw.values import Agreed, Outcome, TransferReport, TransferRequest
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import tftp

from .byhand import UnusedReactor, read
from .webservice import RunClient, WebService

OLD = 1_000_000_000

ServePort = Callable[[DirectoryBackend], DatagramPort]
"""The fixture ``serve_port``: a port, to be read by hand, where a backend is served."""


class PerHostBackend(DirectoryBackend):
    """Each host has its own directory."""

    def open(self, path: str, request: TransferRequest) -> Any:
        return super().open(f"{request.peer[0]}/{path}", request)


class UppercaseReader(FileReader):
    """Changes the content of the file to upper case."""

    def read(self, offset: int, length: int) -> bytes:
        return super().read(offset, length).upper()


class UppercaseBackend(DirectoryBackend):
    """Serves files in upper case."""

    def open(self, path: str, request: TransferRequest) -> Any:
        reader = super().open(path, request)
        with contextlib.closing(reader):
            return UppercaseReader(os.dup(reader.fileno()))


@pytest.fixture
def serve_port() -> Iterator[ServePort]:
    opened: list[tuple[TFTPProtocol, DatagramPort]] = []

    def serve_port(backend: DirectoryBackend) -> DatagramPort:
        layered = LayeredBackend([("plugin", backend)])
        protocol = TFTPProtocol(Clock(), layered, Adaptive(), lambda event: None, frame_cache=FrameCache(1 << 20))
        port = DatagramPort(UnusedReactor(), protocol, "127.0.0.1", 0)
        port.startListening()
        opened.append((protocol, port))
        return port

    yield serve_port
    for protocol, port in opened:
        protocol.close()
        port.connectionLost()


def client_socket(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


def test_requests_that_arrive_together_get_the_file_of_their_own_host(serve_port: ServePort, tmp_path: Path) -> None:
    hosts = [f"127.0.0.{number}" for number in (9, 10, 11)]
    for host in hosts[:2]:
        (tmp_path / host).mkdir()
        (tmp_path / host / "file").write_text(host)
    port = serve_port(PerHostBackend(tmp_path))
    clients = [client_socket(host) for host in hosts * 4]
    for client in clients:
        client.sendto(tftp.request(False, "file", "octet", []), ("127.0.0.1", port.getHost().port))
    read(port, len(clients))
    for client in clients:
        host = client.getsockname()[0]
        expected = tftp.error(1, "File not found") if host == hosts[2] else tftp.data(1, host.encode())
        assert client.recv(600) == expected
        client.close()


def write_old_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, (OLD, OLD))


def test_a_file_that_its_reader_changes_is_sent_as_changed_by_tftp(
    serve_port: ServePort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootfw.readers._TICK", -1)
    content = b"abcdefgh" * 8000
    write_old_file(tmp_path / "file", content)
    port = serve_port(UppercaseBackend(tmp_path))
    client = client_socket("127.0.0.1")
    client.sendto(tftp.request(False, "file", "octet", []), ("127.0.0.1", port.getHost().port))
    received = b""
    for block in range(1, len(content) // 512 + 2):
        read(port, 1)
        data = client.recv(600)
        assert data[:4] == tftp.data(block, b"")
        received += data[4:]
        client.sendto(tftp.ack(block), ("127.0.0.1", port.getHost().port))
    read(port, 1)
    client.close()
    assert received == content.upper()


def test_a_file_that_its_reader_changes_is_sent_as_changed_by_http(
    web_service: WebService, run_client: RunClient, tmp_path: Path
) -> None:
    content = b"abcdefgh" * 100_000
    write_old_file(tmp_path / "file", content)
    service, _ = web_service(UppercaseBackend(tmp_path), HTTPSettings(listen=(("127.0.0.1", 0),)))
    [row] = service.summary()
    code, output = run_client("curl", "-s", "-D", "-", f"http://127.0.0.1:{row.address[1]}/file")
    assert code == 0
    head, _, body = output.partition(b"\r\n\r\n")
    assert body == content.upper()
    # They would be those of the file, whose content the client does not get.
    assert b"ETag" not in head
    assert b"Last-Modified" not in head


def test_an_observer_that_overrides_observe_is_called_for_each_event() -> None:
    observed: list[Event] = []

    class OverridingObserver(LogObserver):
        def observe(self, event: Event) -> None:
            observed.append(event)

    request = TransferRequest("file", "file", ("192.0.2.9", 2070), "192.0.2.1")
    report = TransferReport(request, Agreed(), Outcome.COMPLETE, "", 0, 0, 0, 0.0, 0.0)
    reactor = Clock()
    publisher = Publisher(reactor, [("mine", OverridingObserver())])
    publisher.publish(TransferEnded(0.0, report))
    publisher.publish(TransferEnded(1.0, report))
    reactor.advance(0)
    assert [event.at for event in observed] == [0.0, 1.0]


@implementer(IWatchdogPolicy)
class Policy:
    """Begins every transfer with the same watchdog."""

    def __init__(self, watchdog: IWatchdog) -> None:
        self._watchdog = watchdog

    def begin(self, agreed: Agreed) -> IWatchdog:
        return self._watchdog


def timer_of(watchdog: IWatchdog) -> RetransmitTimer:
    return RetransmitTimer(begin_watchdog(Policy(watchdog), Agreed())[1], Flight(0.0, 0.0))


@pytest.mark.parametrize("name", ["wait", "progressed"])
def test_watchdog_that_overrides_its_methods_is_called_for_each_round_trip(name: str) -> None:
    @implementer(ILearningWatchdog)
    class Schedule:
        unremarkable_from = 0.0
        unremarkable = 1000.0

        def wait(self, attempt: int) -> float:
            return 1.0

        def progressed(self, seconds: float | None) -> None:
            """Learn nothing."""

    round_trips: list[float | None] = []

    class OverridingSchedule(Schedule):
        if name == "wait":

            def wait(self, attempt: int) -> float:
                return 2.0

        else:

            def progressed(self, seconds: float | None) -> None:
                round_trips.append(seconds)

    assert timer_of(Schedule()).bounds == (0.0, 1000.0)
    timer = timer_of(OverridingSchedule())
    assert timer.bounds == (0.0, 0.0)
    timer.progressed(0.5)
    assert round_trips == ([0.5] if name == "progressed" else [])
