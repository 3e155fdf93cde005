"""The channel between the main process and a worker, on real pipes."""

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
    """Has readers and writers, and never calls them."""

    readers: set[object] = field(factory=set)
    writers: set[object] = field(factory=set)

    def addReader(self, reader: object) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: object) -> None:
        self.readers.discard(reader)

    def addWriter(self, writer: object) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: object) -> None:
        self.writers.discard(writer)


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: (the descriptor to read from, the one to write to)."""
    descriptors = os.pipe()
    yield descriptors
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_written_data_is_in_the_pipe_at_once(reactor: Reactor, pipe: tuple[int, int]) -> None:
    """So the message of a process that is killed right afterwards arrives."""
    outgoing = Outgoing(reactor, pipe[1], lambda: None)
    outgoing.write(b"one")
    assert os.read(pipe[0], 100) == b"one"
    assert reactor.writers == set()


def test_buffered_data_is_sent_when_the_pipe_has_room(reactor: Reactor, pipe: tuple[int, int]) -> None:
    outgoing = Outgoing(reactor, pipe[1], lambda: None)
    content = os.urandom(1_000_000)
    outgoing.write(content)
    outgoing.write(b"more")
    assert reactor.writers == {outgoing}
    received = b""
    while len(received) < len(content) + 4:
        received += os.read(pipe[0], 100_000)
        outgoing.doWrite()  # type: ignore[no-untyped-call]
    assert received == content + b"more"
    assert reactor.writers == set()


def test_a_producer_is_paused_while_the_pipe_is_full(reactor: Reactor, pipe: tuple[int, int]) -> None:
    calls: list[str] = []

    @implementer(IPushProducer)
    class Producer:
        def pauseProducing(self) -> None:
            calls.append("pause")

        def resumeProducing(self) -> None:
            calls.append("resume")

        def stopProducing(self) -> None:
            calls.append("stop")

    outgoing = Outgoing(reactor, pipe[1], lambda: None)
    outgoing.registerProducer(Producer(), True)
    outgoing.write(bytes(200_000))
    assert calls == ["pause"]
    while calls[-1] == "pause":
        os.read(pipe[0], 100_000)
        outgoing.doWrite()  # type: ignore[no-untyped-call]
    assert calls == ["pause", "resume"]


def test_message_arrives_before_the_end_of_the_pipe(reactor: Reactor, pipe: tuple[int, int]) -> None:
    received: list[tuple[str, tuple[int]]] = []
    ended: list[str] = []
    sender, receiver = Channel(lambda *message: None), Channel(lambda *message: received.append(message))
    outgoing = Outgoing(reactor, pipe[1], lambda: ended.append("outgoing"))
    sender.makeConnection(outgoing)  # type: ignore[no-untyped-call]
    incoming = Incoming(reactor, pipe[0], receiver.dataReceived, lambda: ended.append("incoming"))
    sender.send("client", 1)
    assert incoming.doRead() is None
    assert received == [("client", (1,))]
    outgoing.loseConnection()  # type: ignore[no-untyped-call]
    outgoing.connectionLost(outgoing.doWrite())  # type: ignore[no-untyped-call]
    incoming.connectionLost(incoming.doRead())
    assert ended == ["outgoing", "incoming"]
    outgoing.write(b"nobody is there")


def test_writing_to_a_closed_pipe_ends_the_channel(reactor: Reactor, pipe: tuple[int, int]) -> None:
    """The reactor finds that out, with its next doWrite()."""
    outgoing = Outgoing(reactor, pipe[1], lambda: None)
    os.close(pipe[0])
    outgoing.write(b"nobody is there")
    assert reactor.writers == {outgoing}
    assert outgoing.doWrite() is not None  # type: ignore[no-untyped-call]
