"""The main process and its workers, with fake processes: when they get their sockets, and how they are replaced."""

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from attrs import define, field
from narrowing import of_type
from twistd import free_port
from twisted.internet.error import CannotListenError, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from bootfw.events import Event, WorkerLost
from bootfw.net.listening import PortSpec
from bootfw.net.tftp.handover import Handover
from bootfw.net.workers.channel import Channel, packed, received_sockets
from bootfw.net.workers.packetqueries import WAIT
from bootfw.net.workers.supervisor import CHECK_WITHIN, READY_WITHIN, Workers
from bootfw.net.workers.workerstates import KILL_AFTER, SILENT_AFTER
from bootfw.values import Address
from bootfw.wire.pcapng import Datagram

TO, FROM, SOCKETS = 3, 4, 5


class Process:
    """A child process: the messages and signals that it has received."""

    def __init__(self, protocol: ProcessProtocol, sockets: int) -> None:
        self.sockets = socket.socket(fileno=os.dup(sockets))
        self.sockets.setblocking(False)
        self.messages: list[str] = []
        self.signals: list[str] = []
        self.open_descriptors = {TO}
        self._channel = Channel(lambda kind, values: self.messages.append(kind))
        self._protocol = protocol
        protocol.makeConnection(self)

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        if descriptor not in self.open_descriptors:
            raise KeyError(descriptor)  # as Twisted's does
        self._channel.dataReceived(data)  # type: ignore[no-untyped-call]

    def closeChildFD(self, descriptor: int) -> None:
        self.open_descriptors.discard(descriptor)

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)

    def send(self, kind: str, *values: Any) -> None:
        """The process sends a message to the main process."""
        message = packed(kind, *values)
        self._protocol.childDataReceived(FROM, len(message).to_bytes(4, "big") + message)

    def disconnect(self) -> None:
        """The process closes its end of the pipe, and the reactor notices."""
        self.open_descriptors.discard(TO)
        self._protocol.childConnectionLost(TO)

    def exit(self) -> None:
        self._protocol.processEnded(Failure(ProcessTerminated(1)))


class Reactor(Clock):
    """Starts fake processes."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.error: OSError | None = None
        """What spawnProcess() raises."""

    def spawnProcess(self, protocol: ProcessProtocol, *arguments: list[str] | str, **options: Any) -> Process:
        if self.error is not None:
            raise self.error
        self.processes.append(process := Process(protocol, options["childFDs"][SOCKETS]))
        return process


@define(eq=False)
class InterimServer:
    """Stands in for bootfw's InterimServer, without ports, and records its calls."""

    is_busy: bool = False
    calls: list[str] = field(factory=list)

    def stored_uploads(self) -> list[tuple[Address, int]]:
        return []

    def hand_over(self) -> list[tuple[Address, Handover]]:
        self.calls.append("hand over")
        return []

    def drain(self) -> None:
        self.calls.append("drain")

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    for process in reactor.processes:
        process.sockets.close()


def no_ports(*arguments: Any) -> NoReturn:
    """Called to serve a socket, of which there is none."""
    pytest.fail("there is no socket to serve")


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def workers(reactor: Reactor, events: list[Event]) -> Workers:
    """Two workers, started."""
    workers = Workers(reactor, 2, "bootfw.cli.worker", None)
    workers.join(lambda kind, values: False, publish=events.append, shared_state=list, serve=no_ports)
    workers.startService()
    reactor.advance(0)
    return workers


@pytest.fixture
def interim(workers: Workers) -> InterimServer:
    """The interim server of the first worker."""
    interim = InterimServer()
    workers._workers[0].interim = interim  # type: ignore[assignment]  # as far as a worker looks at one
    return interim


def test_a_process_gets_its_sockets_when_it_and_the_interim_server_are_ready(
    workers: Workers, reactor: Reactor, interim: InterimServer
) -> None:
    first, second = reactor.processes
    assert (first.messages, second.messages) == (["prepare"], ["prepare"])
    first.send("prepared")
    assert (first.messages, second.messages) == (["prepare", "begin"], ["prepare"])
    assert interim.calls == ["hand over"]


def test_no_process_is_created_before_the_reactor_turns(reactor: Reactor) -> None:
    """Until then SIGTERM ends the main process without its handler, and workers would keep its ports for a while."""
    workers = Workers(reactor, 2, "bootfw.cli.worker", None)
    workers.join(lambda kind, values: False, publish=lambda event: None, shared_state=list, serve=no_ports)
    workers.startService()
    assert reactor.processes == []
    reactor.advance(0)
    assert len(reactor.processes) == 2


def test_transfer_that_cannot_be_handed_over_delays_the_handover(
    workers: Workers, reactor: Reactor, interim: InterimServer
) -> None:
    interim.is_busy = True
    reactor.processes[0].send("prepared")
    reactor.pump([0.1] * 40)
    assert (reactor.processes[0].messages, interim.calls) == (["prepare"], [])
    interim.is_busy = False
    reactor.advance(0.1)
    assert (reactor.processes[0].messages, interim.calls) == (["prepare", "begin"], ["hand over"])


def test_an_interim_server_with_such_transfers_is_drained_and_hands_over_at_last(
    workers: Workers, reactor: Reactor, interim: InterimServer
) -> None:
    interim.is_busy = True
    reactor.processes[0].send("prepared")
    reactor.pump([0.1] * 70)
    assert set(interim.calls) == {"drain"}
    reactor.pump([0.1] * 600)
    assert interim.calls[-1] == "hand over"
    assert reactor.processes[0].messages == ["prepare", "begin"]


def test_the_interim_server_continues_while_a_process_that_never_served_is_replaced(
    workers: Workers, reactor: Reactor, interim: InterimServer, events: list[Event]
) -> None:
    interim.is_busy = True
    reactor.processes[0].send("prepared")
    reactor.processes[0].exit()
    reactor.advance(1)
    assert of_type(WorkerLost, events[0]).transfers == 0
    assert len(reactor.processes) == 3
    assert interim.calls == []
    interim.is_busy = False
    reactor.processes[2].send("prepared")
    assert (reactor.processes[2].messages, interim.calls) == (["prepare", "begin"], ["hand over"])


def test_at_a_stop_a_serving_process_gets_time_to_exit_and_any_other_is_killed(
    workers: Workers, reactor: Reactor
) -> None:
    first, second = reactor.processes
    first.send("prepared")
    stopped = workers.stopService()
    reactor.advance(0)
    assert (first.signals, second.signals) == ([], ["KILL"])
    for process in (first, second):
        process.exit()
    assert stopped.called
    reactor.advance(10)
    assert (first.signals, second.signals) == ([], ["KILL"])


def test_a_process_that_is_prepared_after_a_stop_gets_no_message(
    workers: Workers, reactor: Reactor, interim: InterimServer
) -> None:
    workers.stopService()
    reactor.processes[0].send("prepared")
    assert reactor.processes[0].messages == ["prepare"]
    assert interim.calls == []


def test_a_message_goes_to_the_serving_processes(workers: Workers, reactor: Reactor) -> None:
    first, second = reactor.processes
    first.send("prepared")
    workers.broadcast("client", "value")
    assert (first.messages, second.messages) == (["prepare", "begin", "client"], ["prepare"])


def test_a_message_is_not_sent_to_a_process_whose_pipes_are_closed(workers: Workers, reactor: Reactor) -> None:
    """Between the end of the pipes and the report of the exit, Twisted has no pipe to write to."""
    first, second = reactor.processes
    for process in (first, second):
        process.send("prepared")
    first.disconnect()
    workers.broadcast("client", "value")
    assert second.messages == ["prepare", "begin", "client"]
    first.exit()
    reactor.advance(0)
    assert len(reactor.processes) == 3


def test_a_process_that_closes_its_pipe_and_does_not_exit_is_killed_and_replaced(
    workers: Workers, reactor: Reactor, events: list[Event]
) -> None:
    first = reactor.processes[0]
    first.send("prepared")
    first.disconnect()
    reactor.pump([1.0] * 4)
    assert first.signals == []
    reactor.pump([1.0] * 5)
    assert first.signals == ["KILL"]
    first.exit()
    reactor.advance(0)
    assert len(reactor.processes) == 3
    assert [of_type(WorkerLost, event).worker for event in events] == [0]


def test_a_process_that_hangs_is_killed_and_replaced(
    workers: Workers, serving: list[Process], reactor: Reactor, events: list[Event]
) -> None:
    first, second = serving
    for _ in range(20):
        for process in serving:
            process.send("heartbeat")
        reactor.advance(1)
    for _ in range(14):
        assert first.signals == []
        second.send("heartbeat")
        reactor.advance(1)
    assert [record["state"] for record in workers.records()] == ["overdue", "serving"]
    assert (first.signals, second.signals) == (["KILL"], [])
    first.exit()
    reactor.advance(0)
    assert [(of_type(WorkerLost, event).worker, of_type(WorkerLost, event).reason) for event in events] == [
        (0, "it was killed, since it had sent no heartbeat for 15 s")
    ]
    assert reactor.processes[2].messages == ["prepare"]


def test_silent_process_gets_broadcast_messages(workers: Workers, serving: list[Process], reactor: Reactor) -> None:
    serving[0].send("heartbeat")
    reactor.advance(SILENT_AFTER)
    assert workers.records()[0]["state"] == "silent"
    workers.broadcast("client", "value")
    assert [process.messages for process in serving] == [["client"], ["client"]]


def test_suspended_machine_kills_no_process(workers: Workers, serving: list[Process], reactor: Reactor) -> None:
    for _ in range(3):
        for process in serving:
            process.send("heartbeat")
        reactor.advance(3600)
        assert {record["state"] for record in workers.records()} == {"silent"}
    for process in serving:
        process.send("heartbeat")
    reactor.advance(KILL_AFTER)
    assert {record["state"] for record in workers.records()} == {"serving"}
    assert [process.signals for process in serving] == [[], []]


def test_a_process_that_loads_another_configuration_need_not_send_heartbeats(
    workers: Workers, serving: list[Process], reactor: Reactor
) -> None:
    for process in serving:
        process.send("heartbeat")
    workers.check("other", [])
    for process in serving:
        process.send("heartbeat")  # sent before it read the message about the configuration
    reactor.advance(CHECK_WITHIN - 1)
    assert {record["state"] for record in workers.records()} == {"loading"}
    for process in serving:
        process.send("checked", [])
    workers.use()
    assert serving[0].messages == ["check", "use"]
    reactor.advance(SILENT_AFTER)
    reactor.advance(KILL_AFTER)
    assert [process.signals for process in serving] == [["KILL"], ["KILL"]]


def test_failed_fork_is_retried_later(workers: Workers, reactor: Reactor, events: list[Event]) -> None:
    first = reactor.processes[0]
    reactor.error = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    first.exit()
    reactor.pump([0.1] * 20)
    assert [of_type(WorkerLost, event).reason for event in events[1:]] == [
        "it can't be started, which is tried again and again: Resource temporarily unavailable"
    ]
    reactor.error = None
    reactor.pump([0.1] * 30)
    assert len(reactor.processes) == 3
    assert reactor.processes[2].messages == ["prepare"]


def test_a_stop_while_no_process_runs_is_complete_at_once_and_leaves_no_timer(
    workers: Workers, reactor: Reactor
) -> None:
    for process in reactor.processes:
        process.exit()
    assert workers.stopService().called
    assert reactor.getDelayedCalls() == []


class NullProtocolAndPort:
    """The protocol or the port of an interim server that serves nothing."""

    def close(self) -> None:
        pass

    def stopListening(self) -> None:
        pass


def test_restarted_workers_get_the_port_while_the_old_processes_end() -> None:
    def serve(
        service: str, address: Address, sock: socket.socket, publish: Any
    ) -> tuple[NullProtocolAndPort, NullProtocolAndPort]:
        sock.close()
        return NullProtocolAndPort(), NullProtocolAndPort()

    def workers_on(reactor: Reactor) -> Workers:
        workers = Workers(reactor, 2, "bootfw.cli.worker", None)
        workers.join(lambda kind, values: False, publish=lambda event: None, shared_state=list, serve=serve)
        return workers

    address = ("127.0.0.1", free_port())
    reactor = Reactor()
    workers = workers_on(reactor)
    first = workers.listen(PortSpec("tftp", address, None))
    inherited = [sock.dup() for sock in first.sockets]  # as the processes have them
    workers.startService()
    reactor.advance(0)
    stopped = workers.stopService()
    first.stopListening()

    second = workers.listen(PortSpec("tftp", address, None))
    workers.startService()
    assert not stopped.called
    for process in reactor.processes[:2]:
        process.exit()
    assert stopped.called
    second.stopListening()

    # The sockets of the old processes were shared only during the stop: the port of another program never is.
    with pytest.raises(CannotListenError):
        workers.listen(PortSpec("tftp", address, None))
    with pytest.raises(CannotListenError):
        workers_on(reactor).listen(PortSpec("tftp", address, None))
    for sock in inherited:
        sock.close()


# The recorded packets

PACKET = Datagram(1.0, ("10.0.0.9", 2000), ("10.0.0.1", 69), b"\0\1file\0octet\0")


@pytest.fixture
def serving(workers: Workers, reactor: Reactor) -> list[Process]:
    """Both processes, after they have started to serve."""
    for process in reactor.processes:
        process.send("prepared")
        process.messages.clear()
    return reactor.processes


def packets_of(workers: Workers) -> list[list[Datagram]]:
    """Ask for the packets of a client; the result is appended to the returned list."""
    found: list[list[Datagram]] = []
    workers.packets_of(("10.0.0.9",), 0.5).addCallback(found.append)
    return found


def test_packets_of_a_client_are_collected_from_every_process(workers: Workers, serving: list[Process]) -> None:
    found = packets_of(workers)
    assert [process.messages for process in serving] == [["packets-of"], ["packets-of"]]
    serving[0].send("packets", 0, [PACKET])
    assert found == []
    serving[1].send("packets", 0, [])
    assert found == [[PACKET]]
    assert [process.messages for process in serving] == [["packets-of"], ["packets-of"]], "a result is not broadcast"


def test_packets_of_a_process_that_does_not_answer_are_left_out(
    workers: Workers, serving: list[Process], reactor: Reactor
) -> None:
    found = packets_of(workers)
    serving[1].send("packets", 0, [PACKET])
    reactor.advance(WAIT - 0.1)
    assert found == []
    reactor.advance(0.1)
    assert found == [[PACKET]]
    serving[0].send("packets", 0, [PACKET])
    assert found == [[PACKET]]
    found = packets_of(workers)
    for process in serving:
        process.send("packets", 1, [PACKET])
    assert found == [[PACKET, PACKET]]


def test_without_a_serving_process_there_are_no_packets(workers: Workers, reactor: Reactor) -> None:
    waiting = len(reactor.getDelayedCalls())
    assert packets_of(workers) == [[]]
    assert len(reactor.getDelayedCalls()) == waiting


def test_a_stop_does_not_wait_for_packets(workers: Workers, serving: list[Process], reactor: Reactor) -> None:
    found = packets_of(workers)
    serving[0].send("packets", 0, [PACKET])
    workers.stopService()
    assert found == [[PACKET]]


def test_a_process_gets_reopened_sockets(workers: Workers, reactor: Reactor) -> None:
    port = workers.listen(PortSpec("tftp", ("127.0.0.1", 0), None))
    first, second = reactor.processes
    second.send("prepared")
    received_sockets(second.sockets, 1)[0].close()
    port.on_reopened()
    assert (first.messages, second.messages) == (["prepare"], ["prepare", "begin", "reopened"])
    [sock] = received_sockets(second.sockets, 1)
    with sock:
        assert os.fstat(sock.fileno()).st_ino == os.fstat(port.sockets[1].fileno()).st_ino
    second.sockets.close()
    port.on_reopened()  # that the second process has ended is no error
    first.send("prepared")
    [sock] = received_sockets(first.sockets, 1)
    with sock:
        assert os.fstat(sock.fileno()).st_ino == os.fstat(port.sockets[0].fileno()).st_ino
    port.stopListening()


def test_the_connection_for_sockets_ends_with_the_process(workers: Workers, reactor: Reactor) -> None:
    process = reactor.processes[0]
    process.exit()
    assert process.sockets.recv(1) == b"", "the other end is closed"


# Reloads


@pytest.fixture
def in_service(workers: Workers, reactor: Reactor) -> Workers:
    """Two workers that serve."""
    for process in reactor.processes:
        process.send("prepared")
        process.messages.clear()
    return workers


def test_every_process_loads_another_configuration_before_any_uses_it(in_service: Workers, reactor: Reactor) -> None:
    first, second = reactor.processes
    timers = len(reactor.getDelayedCalls())
    results: list[list[str]] = []
    in_service.check("new", []).addCallback(results.append)
    assert first.messages == second.messages == ["check"]
    first.send("checked", [])
    assert results == []
    second.send("checked", [])
    assert results == [[]]
    assert in_service.configuration is None
    in_service.use()
    assert first.messages == second.messages == ["check", "use"]
    assert in_service.configuration == "new"
    assert len(reactor.getDelayedCalls()) == timers


def test_worker_that_cannot_load_a_configuration_is_named(in_service: Workers, reactor: Reactor) -> None:
    first, second = reactor.processes
    timers = len(reactor.getDelayedCalls())
    results: list[list[str]] = []
    in_service.check("new", []).addCallback(results.append)
    first.send("checked", [])
    second.send("checked", ["backend[0].root: no such directory"])
    assert results == [["worker 1: backend[0].root: no such directory"]]
    ended: list[Any] = []
    in_service.abandon().addCallback(ended.append)
    assert first.messages == second.messages == ["check", "abandon"]
    assert in_service.configuration is None
    second.send("checked", [])
    assert ended == []
    first.send("checked", [])
    assert ended == [None], "both have closed the sockets for it"
    assert len(reactor.getDelayedCalls()) == timers
    second.exit()
    reactor.advance(0)
    reactor.processes[2].send("prepared")
    assert reactor.processes[2].messages == ["prepare", "begin"], "it has the old configuration"


@pytest.mark.parametrize("ending", ["disconnect", "exit"])
def test_worker_exit_fails_the_reload(in_service: Workers, reactor: Reactor, ending: str) -> None:
    first, second = reactor.processes
    results: list[list[str]] = []
    in_service.check("new", []).addCallback(results.append)
    first.send("checked", [])
    getattr(second, ending)()
    assert results == [["worker 1: it has ended"]]
    if ending == "disconnect":  # after its exit it sends nothing
        second.send("checked", [])
    assert results == [["worker 1: it has ended"]]


def test_worker_timeout_fails_the_reload(in_service: Workers, reactor: Reactor) -> None:
    first, second = reactor.processes
    results: list[list[str]] = []
    in_service.check("new", []).addCallback(results.append)
    second.send("checked", [])
    reactor.advance(CHECK_WITHIN)
    assert results == [["worker 0: it has not loaded the configuration within 60 s"]]
    first.send("checked", [])
    assert len(results) == 1


def test_worker_started_before_a_reload_loads_it_before_serving(in_service: Workers, reactor: Reactor) -> None:
    first, second = reactor.processes
    second.exit()
    reactor.advance(0)
    third = reactor.processes[2]
    results: list[list[str]] = []
    in_service.check("new", []).addCallback(results.append)
    first.send("checked", [])
    assert results == [[]]
    in_service.use()
    third.send("prepared")
    assert third.messages == ["prepare", "check", "use", "begin"]
    third.send("checked", [])
    assert third.messages[-1] == "begin"


def test_worker_that_exits_before_the_commit_restarts_with_the_new_configuration(
    in_service: Workers, reactor: Reactor
) -> None:
    first, second = reactor.processes
    in_service.check("new", [])
    first.send("checked", [])
    second.send("checked", [])
    second.disconnect()
    in_service.use()
    assert (first.messages, second.messages) == (["check", "use"], ["check"])
    second.exit()
    reactor.advance(0)
    reactor.processes[2].send("prepared")
    assert reactor.processes[2].messages == ["prepare", "begin"]


def test_a_stop_while_workers_load_a_configuration_ends_the_reload(in_service: Workers) -> None:
    results: list[list[str]] = []
    in_service.check("new", []).addCallback(results.append)
    in_service.stopService()
    assert results == [["the server is stopping"]]
    in_service.use()
    in_service.abandon()


def test_a_reload_waits_until_the_first_processes_serve(
    workers: Workers, interim: InterimServer, reactor: Reactor
) -> None:
    results: list[list[str]] = []
    workers.ready().addCallback(results.append)
    assert results == []
    for process in reactor.processes:
        process.send("prepared")
    assert results == [[]]


def test_reload_times_out_if_a_worker_does_not_answer(
    workers: Workers, interim: InterimServer, reactor: Reactor
) -> None:
    results: list[list[str]] = []
    workers.ready().addCallback(results.append)
    reactor.advance(READY_WITHIN)
    assert len(results) == 1
    assert results[0][0] == "worker 0 is still starting: try again"


def test_port_is_closed_when_every_process_has_closed_it(in_service: Workers, reactor: Reactor) -> None:
    first_port, second_port = (in_service.listen(PortSpec("tftp", ("127.0.0.1", port), None)) for port in (0, 0))
    key = "tftp", ("127.0.0.1", 0), ""
    closed: list[object] = []
    first_port.stopListening()
    first_port.stopListening().addCallback(closed.append)
    first, second = reactor.processes
    first.send("closed", ("http", ("127.0.0.1", 0), ""))
    first.send("closed", key)
    first.send("closed", key)
    assert closed == []
    second.send("closed", key)
    assert closed == [None]
    second_port.stopListening().addCallback(closed.append)
    first.send("closed", key)
    assert closed == [None]
    second.exit()
    assert closed == [None, None], "a process that has ended has no port"


def test_port_of_an_abandoned_configuration_is_closed_when_the_processes_have_closed_it(
    in_service: Workers, reactor: Reactor
) -> None:
    """A process that could not load the configuration has opened no port for it."""
    port = in_service.listen(PortSpec("tftp", ("127.0.0.1", 0), None))
    in_service.check("new", [])
    first, second = reactor.processes
    first.send("checked", [])
    second.send("checked", ["backend[0].root: no such directory"])
    closed: list[object] = []
    port.stopListening().addCallback(closed.append)
    in_service.abandon()
    for process in (first, second):
        assert closed == []
        process.send("checked", [])
    assert closed == [None]


def test_only_the_sockets_of_new_ports_are_sent_to_the_processes(in_service: Workers, reactor: Reactor) -> None:
    old = in_service.listen(PortSpec("tftp", ("127.0.0.1", 0), None))
    before = in_service.ports
    new = in_service.listen(PortSpec("http", ("127.0.0.1", 0), None))
    in_service.check("new", before)
    for number, process in enumerate(reactor.processes):
        [sock] = received_sockets(process.sockets, 1)
        with sock:
            assert sock.getsockname() == new.sockets[number].getsockname()
            assert not os.get_inheritable(sock.fileno())
        with pytest.raises(BlockingIOError):
            received_sockets(process.sockets, 1)
    new.stopListening()
    assert in_service.ports == [old]
    old.stopListening()
