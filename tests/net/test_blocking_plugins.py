"""Plugins that block the reactor, and backends that take long: the log says which, and what to do."""

import pytest
from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from bootfw.boot.backends import LayeredBackend
from bootfw.boot.resolverchain import ResolverChain
from bootfw.errors import FileMissing
from bootfw.events import PluginBlocked, ResolverAnswered, TransferEnded, TransferRefused
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.observe.log import LogObserver
from bootfw.observe.told import transfer_line
from bootfw.readers import MemoryReader
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.values import BootFile, BootRequest, TransferRequest
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import tftp

REQUEST = TransferRequest("file", "file", ("192.0.2.7", 2070))


@define
class Slow:
    """Takes some seconds of the clock for each call."""

    clock: Clock
    seconds: float
    answer: object = FileMissing

    def open(self, path, request):
        self.clock.advance(self.seconds)
        if self.answer is FileMissing:
            raise FileMissing()
        return self.answer

    def resolve(self, request):
        self.clock.advance(self.seconds)
        return self.answer


def attempt(backend):
    try:
        backend.open("file", REQUEST)
    except FileMissing:
        return


@pytest.mark.parametrize("answer", [MemoryReader(b""), FileMissing])
def test_a_backend_that_blocks_is_named_once_a_minute(answer):
    clock, events = Clock(), []
    slow, quick = Slow(clock, 3.0, answer), Slow(clock, 0.05)
    layered = LayeredBackend([("quick", quick), ("slow", slow)], None, events.append, clock.seconds)
    for _ in range(5):
        attempt(layered)
    [event] = events
    assert (event.plugin, event.doing, event.seconds) == ("backend slow", "open('file')", pytest.approx(3.0))
    clock.advance(60)
    attempt(layered)
    assert len(events) == 2


def test_a_resolver_that_blocks_is_named():
    clock, events = Clock(), []
    resolvers = [("quick", Slow(clock, 0.05, None)), ("slow", Slow(clock, 3.0, BootFile("a", server="192.0.2.1")))]
    chain = ResolverChain(clock, resolvers, events.append, 0.8)
    for _ in range(2):
        chain.resolve(BootRequest("52:54:00:00:00:01", "discover", "pxe-bios", "x86-bios"))
    [event] = [event for event in events if isinstance(event, PluginBlocked)]
    assert (event.plugin, event.doing) == ("resolver slow", "resolve() for 52:54:00:00:00:01")
    assert len([event for event in events if isinstance(event, ResolverAnswered)]) == 4


def test_the_log_says_what_to_do():
    lines = []
    observer = LogObserver()
    globalLogPublisher.addObserver(lines.append)
    try:
        observer.observe(PluginBlocked(0.0, "backend slow", "open('file')", 3.0))
    finally:
        globalLogPublisher.removeObserver(lines.append)
    [line] = [line["log_format"].format(**line) for line in lines]
    assert line.startswith("backend slow took 3.00 s for open('file')")
    assert "deferToThread" in line


@define
class Late:
    """Answers when the test does."""

    answers: list

    def open(self, path, request):
        answer = Deferred()
        self.answers.append(answer)
        return answer


@pytest.fixture
def late():
    network, events, answers = MemoryNetwork(), [], []
    layered = LayeredBackend([("first", Late(answers)), ("second", Late(answers))])
    protocol = TFTPProtocol(network.clock, layered, Adaptive(), events.append)
    network.host("192.0.2.1").listenUDP(69, protocol)
    peer = FakePeer(network.host("192.0.2.7"))
    peer.send(tftp.request(False, "file", "octet", []), ("192.0.2.1", 69))
    network.advance(0.1)
    yield network, answers, peer, events
    protocol.close()
    network.advance(1.0)


def test_the_wait_for_a_backend_is_in_the_line_of_the_transfer(late):
    network, answers, peer, events = late
    network.advance(2.0)
    answers[0].errback(FileMissing())
    answers[1].callback(MemoryReader(b"content"))
    network.advance(0.1)
    peer.send(tftp.ack(1), ("192.0.2.1", 69))
    network.advance(0.1)
    [report] = [event.report for event in events if isinstance(event, TransferEnded)]
    assert report.waited == pytest.approx(2.0, abs=0.2)
    assert report.backend == "backend second"
    assert " s of waiting for backend second" in transfer_line(report)


def test_a_backend_that_never_answers_is_named(late):
    network, answers, _, events = late
    answers[0].errback(FileMissing())
    network.advance(61.0)
    [refused] = [event for event in events if isinstance(event, TransferRefused)]
    assert refused.detail == "backend second has not answered"
