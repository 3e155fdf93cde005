"""The main process's side of workers, with fake processes: when they get their sockets, and how they are replaced."""

import errno
import os
import socket
from functools import partial
from typing import Any, NoReturn

import pytest
from attrs import define, field
from narrowing import of_type
from twisted.internet.error import CannotListenError, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from bootfw.events import Event, WorkerLost
from bootfw.net.tftp.handover import Handover
from bootfw.net.workers.channel import Channel, packed, socket_connection
from bootfw.net.workers.packetqueries import WAIT
from bootfw.net.workers.sharedport import open_shared
from bootfw.net.workers.supervisor import Workers
from bootfw.values import Address
from bootfw.wire.pcapng import Datagram

TO, FROM = 3, 4


class Process:
    """A child process: the messages and signals that it has received."""

    def __init__(self, protocol: ProcessProtocol) -> None:
        self.messages: list[str] = []
        self.signals: list[str] = []
        self.open = {TO}
        self._channel = Channel(lambda kind, values: self.messages.append(kind))
        self._protocol = protocol
        protocol.makeConnection(self)

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        if descriptor not in self.open:
            raise KeyError(descriptor)  # as Twisted's does
        self._channel.dataReceived(data)  # type: ignore[no-untyped-call]

    def closeChildFD(self, descriptor: int) -> None:
        self.open.discard(descriptor)

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)

    def say(self, kind: str, *values: Any) -> None:
        message = packed(kind, *values)
        self._protocol.childDataReceived(FROM, len(message).to_bytes(4, "big") + message)

    def disconnect(self) -> None:
        """Its end of the pipe is closed, and the reactor has found out."""
        self.open.discard(TO)
        self._protocol.childConnectionLost(TO)

    def end(self) -> None:
        self._protocol.processEnded(Failure(ProcessTerminated(1)))


class Reactor(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.error: OSError | None = None
        """What spawnProcess() raises."""

    def spawnProcess(self, protocol: ProcessProtocol, *arguments: list[str] | str, **options: Any) -> Process:
        if self.error is not None:
            raise self.error
        self.processes.append(process := Process(protocol))
        return process


@define(eq=False)
class InterimServer:
    """Replaces an InterimServer: there are no ports."""

    busy: bool = False
    did: list[str] = field(factory=list)

    def stored_uploads(self) -> list[tuple[Address, int]]:
        return []

    def hand_over(self) -> list[tuple[Address, Handover]]:
        self.did.append("hand over")
        return []

    def drain(self) -> None:
        self.did.append("drain")

    def close(self) -> None:
        self.did.append("close")


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


def no_ports(*arguments: Any) -> NoReturn:
    """Serves a socket, of which there is none."""
    pytest.fail("there is no socket to serve")


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def workers(reactor: Reactor, events: list[Event]) -> Workers:
    """Two of them, started."""
    workers = Workers(reactor, 2, "bootfw.cli.worker", None)
    workers.join(lambda kind, values: False, publish=events.append, memory=list, serve=no_ports)
    workers.startService()
    reactor.advance(0)
    return workers


@pytest.fixture
def interim(workers: Workers) -> InterimServer:
    """The interim server of the first of them."""
    interim = InterimServer()
    workers._workers[0].interim = interim  # type: ignore[assignment]  # as far as a worker looks at one
    return interim


def test_a_process_gets_its_sockets_when_it_and_the_interim_server_are_ready(
    workers: Workers, reactor: Reactor, interim: InterimServer
) -> None:
    first, second = reactor.processes
    assert (first.messages, second.messages) == (["prepare"], ["prepare"])
    first.say("prepared")
    assert (first.messages, second.messages) == (["prepare", "begin"], ["prepare"])
    assert interim.did == ["hand over"]


def test_no_process_is_created_before_the_reactor_turns(reactor: Reactor) -> None:
    """Until then SIGTERM ends the main process without its handler, and workers would keep its ports for a while."""
    workers = Workers(reactor, 2, "bootfw.cli.worker", None)
    workers.join(lambda kind, values: False, publish=lambda event: None, memory=list, serve=no_ports)
    workers.startService()
    assert reactor.processes == []
    reactor.advance(0)
    assert len(reactor.processes) == 2


def test_transfers_that_can_not_be_handed_over_delay_it(
    workers: Workers, reactor: Reactor, interim: InterimServer
) -> None:
    interim.busy = True
    reactor.processes[0].say("prepared")
    reactor.pump([0.1] * 40)
    assert (reactor.processes[0].messages, interim.did) == (["prepare"], [])
    interim.busy = False
    reactor.advance(0.1)
    assert (reactor.processes[0].messages, interim.did) == (["prepare", "begin"], ["hand over"])


def test_an_interim_server_with_such_transfers_is_drained_and_in_the_end_hands_over(
    workers: Workers, reactor: Reactor, interim: InterimServer
) -> None:
    interim.busy = True
    reactor.processes[0].say("prepared")
    reactor.pump([0.1] * 70)
    assert set(interim.did) == {"drain"}
    reactor.pump([0.1] * 600)
    assert interim.did[-1] == "hand over"
    assert reactor.processes[0].messages == ["prepare", "begin"]


def test_the_interim_server_continues_while_a_process_that_never_served_is_replaced(
    workers: Workers, reactor: Reactor, interim: InterimServer, events: list[Event]
) -> None:
    interim.busy = True
    reactor.processes[0].say("prepared")
    reactor.processes[0].end()
    reactor.advance(1)
    assert of_type(WorkerLost, events[0]).transfers == 0
    assert len(reactor.processes) == 3
    assert interim.did == []
    interim.busy = False
    reactor.processes[2].say("prepared")
    assert (reactor.processes[2].messages, interim.did) == (["prepare", "begin"], ["hand over"])


def test_at_a_stop_a_process_that_serves_has_time_to_end_and_another_is_killed(
    workers: Workers, reactor: Reactor
) -> None:
    first, second = reactor.processes
    first.say("prepared")
    stopped = workers.stopService()
    reactor.advance(0)
    assert (first.signals, second.signals) == ([], ["KILL"])
    for process in (first, second):
        process.end()
    assert stopped.called
    reactor.advance(10)
    assert (first.signals, second.signals) == ([], ["KILL"])


def test_a_process_that_is_prepared_after_a_stop_gets_no_message(
    workers: Workers, reactor: Reactor, interim: InterimServer
) -> None:
    workers.stopService()
    reactor.processes[0].say("prepared")
    assert reactor.processes[0].messages == ["prepare"]
    assert interim.did == []


def test_a_message_goes_to_the_processes_that_serve(workers: Workers, reactor: Reactor) -> None:
    first, second = reactor.processes
    first.say("prepared")
    workers.broadcast("client", "value")
    assert (first.messages, second.messages) == (["prepare", "begin", "client"], ["prepare"])


def test_a_message_is_not_sent_to_a_process_that_is_about_to_end(workers: Workers, reactor: Reactor) -> None:
    """Between the end of its pipes and the report of its end Twisted has no pipe to write to."""
    first, second = reactor.processes
    for process in (first, second):
        process.say("prepared")
    first.disconnect()
    workers.broadcast("client", "value")
    assert second.messages == ["prepare", "begin", "client"]
    first.end()
    reactor.advance(0)
    assert len(reactor.processes) == 3


def test_a_process_that_closes_its_pipe_and_does_not_end_is_killed_and_replaced(
    workers: Workers, reactor: Reactor, events: list[Event]
) -> None:
    first = reactor.processes[0]
    first.say("prepared")
    first.disconnect()
    reactor.pump([1.0] * 4)
    assert first.signals == []
    reactor.pump([1.0] * 5)
    assert first.signals == ["KILL"]
    first.end()
    reactor.advance(0)
    assert len(reactor.processes) == 3
    assert [of_type(WorkerLost, event).worker for event in events] == [0]


def test_where_no_process_can_be_created_it_is_tried_again_later(
    workers: Workers, reactor: Reactor, events: list[Event]
) -> None:
    first = reactor.processes[0]
    reactor.error = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    first.end()
    reactor.pump([0.1] * 20)
    assert [of_type(WorkerLost, event).reason for event in events[1:]] == [
        "it can't be started: Resource temporarily unavailable",
        "it can't be started: Resource temporarily unavailable",
    ]
    reactor.error = None
    reactor.pump([0.1] * 30)
    assert len(reactor.processes) == 3
    assert reactor.processes[2].messages == ["prepare"]


def test_a_stop_while_no_process_runs_is_complete_at_once_and_leaves_no_timer(
    workers: Workers, reactor: Reactor
) -> None:
    for process in reactor.processes:
        process.end()
    assert workers.stopService().called
    assert reactor.getDelayedCalls() == []


class Served:
    """The protocol and the port of an interim server that serves nothing."""

    def close(self) -> None:
        pass

    def stopListening(self) -> None:
        pass


def test_a_restart_has_the_port_while_the_processes_before_it_end() -> None:
    def serve(service: str, address: Address, sock: socket.socket, publish: Any) -> tuple[Served, Served]:
        sock.close()
        return Served(), Served()

    def workers_on(reactor: Reactor) -> Workers:
        workers = Workers(reactor, 2, "bootfw.cli.worker", None)
        workers.join(lambda kind, values: False, publish=lambda event: None, memory=list, serve=serve)
        return workers

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    reactor = Reactor()
    workers = workers_on(reactor)
    first = workers.listen("tftp", address, None, "", None)
    inherited = [sock.dup() for sock in first.sockets]  # as a process has them
    workers.startService()
    reactor.advance(0)
    stopped = workers.stopService()
    first.stopListening()

    second = workers.listen("tftp", address, None, "", None)
    workers.startService()
    assert not stopped.called
    for process in reactor.processes[:2]:
        process.end()
    assert stopped.called
    second.stopListening()

    # Only then: the port of another program is never shared.
    with pytest.raises(CannotListenError):
        workers.listen("tftp", address, None, "", None)
    with pytest.raises(CannotListenError):
        workers_on(reactor).listen("tftp", address, None, "", None)
    for sock in inherited:
        sock.close()


# The packets that they have recorded

PACKET = Datagram(1.0, ("10.0.0.9", 2000), ("10.0.0.1", 69), b"\0\1file\0octet\0")


@pytest.fixture
def serving(workers: Workers, reactor: Reactor) -> list[Process]:
    """Both processes, which serve."""
    for process in reactor.processes:
        process.say("prepared")
        process.messages.clear()
    return reactor.processes


def packets_of(workers: Workers) -> list[list[Datagram]]:
    """What comes, as soon as it does."""
    found: list[list[Datagram]] = []
    workers.packets_of(("10.0.0.9",), 0.5).addCallback(found.append)
    return found


def test_the_packets_of_a_client_are_those_of_every_process(workers: Workers, serving: list[Process]) -> None:
    found = packets_of(workers)
    assert [process.messages for process in serving] == [["packets-of"], ["packets-of"]]
    serving[0].say("packets", 0, [PACKET])
    assert found == []
    serving[1].say("packets", 0, [])
    assert found == [[PACKET]]
    assert [process.messages for process in serving] == [["packets-of"], ["packets-of"]], "it is not for the other"


def test_a_process_that_does_not_answer_is_not_waited_for(
    workers: Workers, serving: list[Process], reactor: Reactor
) -> None:
    found = packets_of(workers)
    serving[1].say("packets", 0, [PACKET])
    reactor.advance(WAIT - 0.1)
    assert found == []
    reactor.advance(0.1)
    assert found == [[PACKET]]
    serving[0].say("packets", 0, [PACKET])
    assert found == [[PACKET]]
    found = packets_of(workers)
    for process in serving:
        process.say("packets", 1, [PACKET])
    assert found == [[PACKET, PACKET]]


def test_without_a_process_that_serves_there_are_no_packets(workers: Workers, reactor: Reactor) -> None:
    waiting = len(reactor.getDelayedCalls())
    assert packets_of(workers) == [[]]
    assert len(reactor.getDelayedCalls()) == waiting


def test_a_stop_does_not_wait_for_packets(workers: Workers, serving: list[Process], reactor: Reactor) -> None:
    found = packets_of(workers)
    serving[0].say("packets", 0, [PACKET])
    workers.stopService()
    assert found == [[PACKET]]


def test_a_process_gets_the_sockets_that_were_opened_again(workers: Workers, serving: list[Process]) -> None:
    port = open_shared("tftp", "127.0.0.1", 0, 2)
    port.on_reopened = partial(workers._reopened, port)
    workers._ports.append(port)
    ours, theirs = socket_connection()
    workers._workers[1].connection = ours
    workers._workers[0]._close_connection()
    inode = os.fstat(port.sockets[1].fileno()).st_ino
    port.on_reopened()
    message, descriptors, _, _ = socket.recv_fds(theirs, 4, 1)
    assert message == bytes(4)
    assert os.fstat(descriptors[0]).st_ino == inode
    os.close(descriptors[0])
    theirs.close()
    port.on_reopened()  # that process has ended, which is no error
    port.stopListening()


def test_the_connection_for_sockets_ends_with_the_process(workers: Workers, reactor: Reactor) -> None:
    first = workers._workers[0]
    assert first.connection is not None
    reactor.processes[0].end()
    assert first.connection is None
