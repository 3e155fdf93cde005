"""What a worker tells, without a process: events on their way to the observers of the one that started it."""

import pytest
from attrs import evolve
from twisted.internet.task import Clock

from bootfw.backends.memory import MemoryBackend
from bootfw.events import BackendProblem, EventsDropped, ListenerBound, TransferBegun, TransferEnded, TransferRefused
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.workers.channel import Channel, packed
from bootfw.net.workers.supervisor import with_lookup, without_lookup
from bootfw.net.workers.worker import BEHIND, Telling, Worker
from bootfw.values import Agreed, Client, Outcome, TransferReport, TransferRequest
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp

REQUEST = TransferRequest(
    "file",
    "file",
    ("10.0.0.9", 2070),
    lookup=lambda peer: Client(peer[0]),
    own_urls=lambda server: (f"http://{server}", ""),  # no function can go to another process
)
BEGUN = TransferBegun(1.0, REQUEST, Agreed())
REFUSED = TransferRefused(2.0, REQUEST, 1, "File not found")
ENDED = TransferEnded(3.0, TransferReport(REQUEST, Agreed(), Outcome.COMPLETE, "", 5, 1, 0, 1.0, 3.0))


class Pipe:
    """From one Channel to another, in pieces."""

    def __init__(self, size: int = 7) -> None:
        self.heard: list[tuple[str, tuple]] = []
        self._size = size
        self._far = Channel(lambda kind, values: self.heard.append((kind, values)))
        self.near = Channel(lambda kind, values: None)
        self.near.makeConnection(self)

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), self._size):
            self._far.dataReceived(data[start : start + self._size])


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def telling(clock: Clock, pipe: Pipe) -> Telling:
    return Telling(clock, pipe.near)


def test_a_message_arrives_whole_and_in_its_order(pipe: Pipe) -> None:
    pipe.near.tell("client", Client("10.0.0.9"), 5)
    pipe.near.tell_packed(packed("nothing"))
    assert pipe.heard == [("client", (Client("10.0.0.9"), 5)), ("nothing", ())]


def test_events_of_one_turn_go_together(clock: Clock, pipe: Pipe, telling: Telling) -> None:
    for event in (REFUSED, ENDED):
        telling.publish(event)
    assert pipe.heard == []
    clock.advance(0)
    assert pipe.heard == [("events", ([REFUSED, ENDED],))]
    telling.publish(ENDED)
    clock.advance(0)
    assert len(pipe.heard) == 2


def test_that_a_transfer_begins_is_told_before_anything_else_happens(clock, pipe: Pipe, telling: Telling) -> None:
    """Its client is answered next; should this process end then, the one that follows must know of it."""
    telling.publish(ENDED)
    telling.publish(BEGUN)
    assert pipe.heard == [("events", ([ENDED, BEGUN],))]
    clock.advance(0)
    assert len(pipe.heard) == 1


def test_a_client_is_answered_when_its_transfer_has_been_told(clock, pipe: Pipe, telling: Telling) -> None:
    """One that has an answer asks no more for the file, only for what follows. Who takes over must understand that."""
    told_before_answers = []

    class Transport:
        def write(self, data: bytes, peer: object) -> None:
            told_before_answers.append(len(pipe.heard))

    protocol = TFTPProtocol(clock, MemoryBackend({"file": b"content"}), Fixed(), telling.publish)
    protocol.transport = Transport()
    for port, request in enumerate(
        (tftp.request(False, "file", "octet"), tftp.request(False, "file", "octet", [("tsize", "0")])), 1
    ):
        protocol.datagramReceived(request, ("10.0.0.9", port))
    assert told_before_answers == [1, 2]
    assert [type(event) for _, (events,) in pipe.heard for event in events] == [TransferBegun, TransferBegun]
    protocol.close()


@pytest.mark.parametrize("event", [BEGUN, REFUSED])
def test_who_asks_is_not_sent_along(event) -> None:
    bare = without_lookup(evolve(event, request=evolve(event.request, own_urls=lambda local: ("", ""))))
    assert bare.request.lookup is bare.request.own_urls is None
    assert without_lookup(event) == event


@pytest.mark.parametrize("event", [BEGUN, REFUSED, ENDED])
def test_where_it_arrives_it_is_known_who_asks(event) -> None:
    known = with_lookup(without_lookup(event), lambda peer: Client(peer[0], "52:54:00:00:00:01"))
    request = known.report.request if isinstance(known, TransferEnded) else known.request
    assert request.client == Client("10.0.0.9", "52:54:00:00:00:01")


def test_nor_with_a_report() -> None:
    assert without_lookup(ENDED).report.request.lookup is None
    assert without_lookup(ENDED) == ENDED


@pytest.mark.parametrize("event", [ListenerBound(0.0, "tftp", ("::", 69)), BackendProblem(0.0, "directory", "no")])
def test_what_the_other_one_says_itself_is_left_out(clock: Clock, pipe: Pipe, telling: Telling, event) -> None:
    telling.publish(event)
    clock.advance(0)
    assert pipe.heard == []


def test_while_the_other_one_does_not_read_events_are_kept_and_then_counted(clock, pipe, telling) -> None:
    telling.publish(REFUSED)
    telling.pauseProducing()
    for number in range(BEHIND + 3):
        telling.publish(evolve(BEGUN, at=float(number)))
    clock.advance(1)
    assert pipe.heard == []
    telling.resumeProducing()
    clock.advance(0)
    telling.publish(BEGUN)
    clock.advance(0)
    told = [event for _, (events,) in pipe.heard for event in events]
    assert [event.at for event in told[:BEHIND]] == [REFUSED.at, *(float(number) for number in range(BEHIND - 1))]
    assert told[BEHIND:] == [EventsDropped(1.0, 4), BEGUN]


def test_a_worker_hears_what_it_wants_to(pipe: Pipe) -> None:
    worker = Worker(pipe.near, Telling(Clock(), pipe.near), {})
    clients = []
    worker.join({"client": clients.append}, publish=None)
    worker.heard("client", ("one",))
    worker.heard("of a later version", ("two",))
    assert clients == ["one"]
    worker.tell("loader", "10.0.0.9")
    assert pipe.heard == [("loader", ("10.0.0.9",))]
