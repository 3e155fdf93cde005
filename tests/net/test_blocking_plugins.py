"""Plugins that block the reactor, and backends that answer late: events and the log name them, and say what to do."""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from tftpserver import Direct
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer, implementer_only

from bootfw import readers
from bootfw.boot.backends import LayeredBackend
from bootfw.boot.resolverchain import ResolverChain
from bootfw.errors import FileMissing
from bootfw.events import Event, PluginBlocked, PluginFailed, ResolverAnswered, TransferEnded, TransferRefused
from bootfw.interfaces import IBackend, IBootFileResolver, IBootObserver, IFileReader, IStartable, IWritableBackend
from bootfw.net.pluginlifecycle import PluginLifecycle
from bootfw.net.tftp.framecache import FrameCache
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.udp.port import DatagramPort
from bootfw.observe.log import LogObserver, transfer_line
from bootfw.observe.publisher import Publisher
from bootfw.readers import FileReader, MemoryReader
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.values import BootFile, BootRequest, Outcome, TransferRequest
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import tftp

from .byhand import UnusedReactor, read
from .webclient import Reader, Web

REQUEST = TransferRequest("file", "file", ("192.0.2.7", 2070))


@implementer(IBackend, IBootFileResolver)
@define
class SlowPlugin:
    """A backend and resolver whose calls block for some seconds of the clock."""

    clock: Clock
    seconds: float
    answer: Any = FileMissing

    def open(self, path: str, request: TransferRequest) -> Any:
        self.clock.advance(self.seconds)
        if self.answer is FileMissing:
            raise FileMissing()
        return self.answer

    def resolve(self, request: BootRequest) -> Any:
        self.clock.advance(self.seconds)
        return self.answer


def open_file(backend: LayeredBackend) -> None:
    """Open a file that *backend* may not have."""
    try:
        backend.open("file", REQUEST)
    except FileMissing:
        return


@pytest.mark.parametrize("answer", [MemoryReader(b""), FileMissing])
def test_a_backend_that_blocks_is_named_once_a_minute(answer: MemoryReader | type[FileMissing]) -> None:
    clock = Clock()
    events: list[Event] = []
    slow, quick = SlowPlugin(clock, 3.0, answer), SlowPlugin(clock, 0.05)
    layered = LayeredBackend([("quick", quick), ("slow", slow)], None, events.append, clock.seconds)
    for _ in range(5):
        open_file(layered)
    [event] = events
    assert isinstance(event, PluginBlocked)
    assert (event.plugin, event.doing) == ("backend slow", "open('file')")
    assert event.seconds == pytest.approx(3.0)
    clock.advance(60)
    open_file(layered)
    assert len(events) == 2


def test_a_resolver_that_blocks_is_named() -> None:
    clock = Clock()
    events: list[Event] = []
    resolvers = [
        ("quick", SlowPlugin(clock, 0.05, None)),
        ("slow", SlowPlugin(clock, 3.0, BootFile("a", server="192.0.2.1"))),
    ]
    chain = ResolverChain(clock, resolvers, events.append, 0.8)
    for _ in range(2):
        chain.resolve(BootRequest("52:54:00:00:00:01", "discover", "pxe-bios", "x86-bios"))
    [event] = [event for event in events if isinstance(event, PluginBlocked)]
    assert (event.plugin, event.doing) == ("resolver slow", "resolve() for 52:54:00:00:00:01")
    assert len([event for event in events if isinstance(event, ResolverAnswered)]) == 4


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        ("open('file')", ": it has to return a Deferred, such as deferToThread makes"),
        ("start()", ""),  # which returns None
    ],
)
def test_log_line_of_a_blocking_plugin_has_a_remedy(call: str, remedy: str) -> None:
    observer = LogObserver()
    with capturedLogs() as lines:
        observer.observe(PluginBlocked(0.0, "backend slow", call, 3.0))
    [line] = [line["log_format"].format(**line) for line in lines]
    assert line == f"backend slow blocked the server for 3.00 s in {call}{remedy}"


@implementer(IBackend)
@define
class PendingBackend:
    """A backend that opens a file when the test fires the Deferred in ``openings``."""

    openings: list[Deferred[Any]]

    def open(self, path: str, request: TransferRequest) -> Deferred[Any]:
        opening: Deferred[Any] = Deferred()
        self.openings.append(opening)
        return opening


PendingTransfer = tuple[MemoryNetwork, list[Deferred[Any]], FakePeer, list[Event]]
"""A network, the pending calls of open(), a client, and the events."""


@pytest.fixture
def pending_transfer() -> Iterator[PendingTransfer]:
    """A client has requested a file of two layers, of which the first has not answered."""
    network = MemoryNetwork()
    events: list[Event] = []
    openings: list[Deferred[Any]] = []
    layered = LayeredBackend([("first", PendingBackend(openings)), ("second", PendingBackend(openings))])
    protocol = TFTPProtocol(network.clock, layered, Adaptive(), events.append)
    network.host("192.0.2.1").listenUDP(69, protocol)
    peer = FakePeer(network.host("192.0.2.7"))
    peer.send(tftp.request(False, "file", "octet", []), ("192.0.2.1", 69))
    network.advance(0.1)
    yield network, openings, peer, events
    protocol.close()
    network.advance(1.0)


def test_log_line_of_a_transfer_has_the_wait_for_its_backend(pending_transfer: PendingTransfer) -> None:
    network, openings, peer, events = pending_transfer
    network.advance(2.0)
    openings[0].errback(FileMissing())
    openings[1].callback(MemoryReader(b"content"))
    network.advance(0.1)
    peer.send(tftp.ack(1), ("192.0.2.1", 69))
    network.advance(0.1)
    [report] = [event.report for event in events if isinstance(event, TransferEnded)]
    assert report.waited == pytest.approx(2.0, abs=0.2)
    assert report.backend == "backend second"
    assert " s of waiting for backend second" in transfer_line(report)


def test_a_backend_that_never_answers_is_named(pending_transfer: PendingTransfer) -> None:
    network, openings, _, events = pending_transfer
    openings[0].errback(FileMissing())
    network.advance(61.0)
    [refused] = [event for event in events if isinstance(event, TransferRefused)]
    assert refused.detail == "backend second has not answered"


def blocked_plugins(events: Sequence[Event]) -> list[tuple[str, str, Any]]:
    """(plugin, call, seconds) of each PluginBlocked."""
    return [(e.plugin, e.doing, pytest.approx(e.seconds)) for e in events if isinstance(e, PluginBlocked)]


@define(eq=False)
class SlowWriter:
    """A writer that blocks in one of its methods."""

    clock: Clock
    method: str

    def write(self, offset: int, data: bytes) -> None:
        self._block_in("write")

    def finish(self) -> None:
        self._block_in("finish")

    def cancel(self) -> None:
        self._block_in("cancel")

    def _block_in(self, method: str) -> None:
        if method == self.method:
            self.clock.advance(2.0)


@implementer(IWritableBackend)
@define(eq=False)
class SameFile:
    """A backend that returns the same reader or writer for every path."""

    file: Any = None

    def open(self, path: str, request: TransferRequest) -> Any:
        return self.file

    create = open


def test_a_reader_that_blocks_is_named_once_a_minute() -> None:
    backend = SameFile()
    direct = Direct(backend)

    def answer(data: bytes) -> bytes:
        direct.clock.advance(2.0)
        return data

    backend.file = Reader(bytes(1000), answer)
    for number in range(3):
        direct.send(tftp.request(False, f"file-{number}", "octet", []))
        direct.send(tftp.ack(1))
        direct.send(tftp.ack(2))
        backend.file.closed = 0
    assert blocked_plugins(direct.events) == [(f"reader {Reader.__module__}:Reader", "read() of 'file-0'", 2.0)]


def test_blocking_reader_of_an_http_download_is_named() -> None:
    def answer(data: bytes) -> bytes:
        web.clock.advance(2.0)
        return data

    web = Web(Reader(bytes(1000), answer))
    assert web.get().body == bytes(1000)
    assert blocked_plugins(web.events) == [(f"reader {Reader.__module__}:Reader", "read() of '/file.img'", 2.0)]


@implementer_only(IFileReader)
@define(eq=False)
class SlowDescriptor(FileReader):
    """Blocks where its descriptor is read, as a disk does that has to spin up."""

    clock: Clock

    def fileno(self) -> int:
        self.clock.advance(2.0)
        return super().fileno()


def test_blocking_descriptor_of_a_reader_is_named_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame cache reads by it."""
    monkeypatch.setattr(readers, "_TICK", -1)
    (tmp_path / "file").write_bytes(bytes(5000))
    clock = Clock()
    events: list[Event] = []
    file = SlowDescriptor(os.open(tmp_path / "file", os.O_RDONLY), clock)
    protocol = TFTPProtocol(clock, SameFile(file), Adaptive(), events.append, frame_cache=FrameCache(1 << 20))
    port = DatagramPort(UnusedReactor(), protocol, "127.0.0.1", 0)
    port.startListening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port.getHost().port))
        for datagram in (tftp.request(False, "file", "octet", []), *map(tftp.ack, range(1, 11))):
            client.send(datagram)
            read(port, 1)
    protocol.close()
    port.connectionLost()
    assert blocked_plugins(events) == [(f"reader {__name__}:SlowDescriptor", "reading the descriptor of 'file'", 2.0)]


@implementer_only(IFileReader)
@define(eq=False)
class BrokenDescriptor(FileReader):
    """A reader whose fileno() raises an exception that is not documented."""

    def fileno(self) -> int:
        raise ValueError("no descriptor")


@pytest.mark.parametrize("options", [[], [("blksize", "512")]])
def test_a_reader_whose_descriptor_fails_is_reported_and_read_by_its_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(readers, "_TICK", -1)
    (tmp_path / "file").write_bytes(bytes(700))
    events: list[Event] = []
    file = BrokenDescriptor(os.open(tmp_path / "file", os.O_RDONLY))
    protocol = TFTPProtocol(Clock(), SameFile(file), Adaptive(), events.append, frame_cache=FrameCache(1 << 20))
    port = DatagramPort(UnusedReactor(), protocol, "127.0.0.1", 0)
    port.startListening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port.getHost().port))
        for datagram in (tftp.request(False, "file", "octet", options), *map(tftp.ack, range(0 if options else 1, 3))):
            client.send(datagram)
            read(port, 1)
    protocol.close()
    port.connectionLost()
    failures = [event for event in events if isinstance(event, PluginFailed)]
    assert [(event.plugin, event.doing) for event in failures] == [("backend", "read the descriptor of 'file'")]
    assert "no descriptor" in failures[0].traceback
    assert [event.report.outcome for event in events if isinstance(event, TransferEnded)] == [Outcome.COMPLETE]


@pytest.mark.parametrize("mode", ["octet", "netascii"])
@pytest.mark.parametrize("method", ["write", "finish", "cancel"])
def test_a_writer_that_blocks_is_named(method: str, mode: str) -> None:
    backend = SameFile()
    direct = Direct(backend)
    backend.file = SlowWriter(direct.clock, method)
    direct.send(tftp.request(True, "file", mode, []))
    direct.send(tftp.error(0, "enough") if method == "cancel" else tftp.data(1, b"x"))
    assert blocked_plugins(direct.events) == [(f"writer {__name__}:SlowWriter", f"{method}() of 'file'", 2.0)]


@implementer(IBootObserver)
class SlowObserver:
    """Blocks for each event that it observes."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.events: list[Event] = []

    def observe(self, event: Event) -> None:
        self.events.append(event)
        self.clock.advance(2.0)


def test_an_observer_that_blocks_is_named_once_a_minute() -> None:
    clock = Clock()
    slow = SlowObserver(clock)
    publisher = Publisher(clock, [("slow", slow)])
    for _ in range(3):
        publisher.publish(Event(0.0))
        clock.advance(0)
    assert blocked_plugins(slow.events) == [("observer slow", "1 event(s)", 2.0)]


def test_an_observer_that_blocks_in_a_flush_is_named_too() -> None:
    clock = Clock()
    slow = SlowObserver(clock)
    publisher = Publisher(clock, [("slow", slow)])
    publisher.publish(Event(0.0))
    publisher.flush()
    assert [type(event) for event in slow.events] == [Event, PluginBlocked]
    assert not clock.getDelayedCalls()


@implementer(IStartable)
@define
class SlowToStart:
    """A plugin whose start() blocks."""

    clock: Clock
    seconds: float

    def start(self, publish: Callable[..., Any]) -> None:
        self.clock.advance(self.seconds)

    def close(self) -> None:
        pass


def test_a_plugin_whose_start_blocks_is_named() -> None:
    clock = Clock()
    events: list[Event] = []
    plugins = [("quick", SlowToStart(clock, 0.5)), ("slow", SlowToStart(clock, 3.0))]
    PluginLifecycle(clock, plugins, events.append, "backend").start()
    assert blocked_plugins(events) == [("backend slow", "start()", 3.0)]
