"""The pipes of a worker: real ones."""

import contextlib
import os
from collections.abc import Iterator

import pytest
from attrs import define, field
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from bootfw.net.workers.channel import Channel, Incoming, Outgoing


@define(eq=False)
class Reactor:
    """Notes what it would look at."""

    reading: set[object] = field(factory=set)
    writing: set[object] = field(factory=set)

    def addReader(self, reader: object) -> None:
        self.reading.add(reader)

    def removeReader(self, reader: object) -> None:
        self.reading.discard(reader)

    def addWriter(self, writer: object) -> None:
        self.writing.add(writer)

    def removeWriter(self, writer: object) -> None:
        self.writing.discard(writer)


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """(to read from, to write to)."""
    pair = os.pipe()
    yield pair
    for descriptor in pair:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_written_data_is_in_the_pipe_at_once(reactor: Reactor, ends: tuple[int, int]) -> None:
    """So a process that is killed right afterwards has said it."""
    outgoing = Outgoing(reactor, ends[1], lambda: None)
    outgoing.write(b"one")
    assert os.read(ends[0], 100) == b"one"
    assert reactor.writing == set()


def test_buffered_data_is_sent_when_the_pipe_has_room(reactor: Reactor, ends: tuple[int, int]) -> None:
    outgoing = Outgoing(reactor, ends[1], lambda: None)
    content = os.urandom(1_000_000)
    outgoing.write(content)
    outgoing.write(b"more")
    assert reactor.writing == {outgoing}
    received = b""
    while len(received) < len(content) + 4:
        received += os.read(ends[0], 100_000)
        outgoing.doWrite()  # type: ignore[no-untyped-call]
    assert received == content + b"more"
    assert reactor.writing == set()


def test_a_producer_is_paused_while_it_is_full(reactor: Reactor, ends: tuple[int, int]) -> None:
    told: list[str] = []

    @implementer(IPushProducer)
    class Producer:
        def pauseProducing(self) -> None:
            told.append("pause")

        def resumeProducing(self) -> None:
            told.append("resume")

        def stopProducing(self) -> None:
            told.append("stop")

    outgoing = Outgoing(reactor, ends[1], lambda: None)
    outgoing.registerProducer(Producer(), True)
    outgoing.write(bytes(200_000))
    assert told == ["pause"]
    while told[-1] == "pause":
        os.read(ends[0], 100_000)
        outgoing.doWrite()  # type: ignore[no-untyped-call]
    assert told == ["pause", "resume"]


def test_message_arrives_before_the_end_of_the_pipe(reactor: Reactor, ends: tuple[int, int]) -> None:
    heard: list[tuple[str, tuple[int]]] = []
    ended: list[str] = []
    near, far = Channel(lambda *message: None), Channel(lambda *message: heard.append(message))
    outgoing = Outgoing(reactor, ends[1], lambda: ended.append("outgoing"))
    near.makeConnection(outgoing)  # type: ignore[no-untyped-call]
    incoming = Incoming(reactor, ends[0], far.dataReceived, lambda: ended.append("incoming"))
    near.send("client", 1)
    assert incoming.doRead() is None
    assert heard == [("client", (1,))]
    outgoing.loseConnection()  # type: ignore[no-untyped-call]
    outgoing.connectionLost(outgoing.doWrite())  # type: ignore[no-untyped-call]
    incoming.connectionLost(incoming.doRead())
    assert ended == ["outgoing", "incoming"]
    outgoing.write(b"nobody is there")


def test_writing_to_a_closed_pipe_ends_the_channel(reactor: Reactor, ends: tuple[int, int]) -> None:
    """The reactor is left to find that out."""
    outgoing = Outgoing(reactor, ends[1], lambda: None)
    os.close(ends[0])
    outgoing.write(b"nobody is there")
    assert reactor.writing == {outgoing}
    assert outgoing.doWrite() is not None  # type: ignore[no-untyped-call]
