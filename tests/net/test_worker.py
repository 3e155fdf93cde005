"""A worker without a process: the messages that it sends to the main process, and its sockets."""

import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from turning import TurnUntil
from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import Site

from bootfw.backends.memory import MemoryBackend
from bootfw.config.settings import DHCPSettings, HTTPSettings, Settings, TFTPSettings
from bootfw.events import (
    BackendProblem,
    Event,
    EventsDropped,
    ListenerBound,
    ListenerClosed,
    TransferBegun,
    TransferEnded,
    TransferRefused,
)
from bootfw.net.http.site import open_stream_socket
from bootfw.net.listening import PortSpec
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.udp.sockets import open_socket
from bootfw.net.workers.channel import Channel, packed, received_sockets, send_sockets, socket_connection
from bootfw.net.workers.worker import MAX_QUEUED, EventPipe, GivenSockets
from bootfw.service import BootService
from bootfw.testing import MemoryNetwork, TFTPClient
from bootfw.values import Agreed, Client, Outcome, TransferReport, TransferRequest
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp

REQUEST = TransferRequest("file", "file", ("10.0.0.9", 2070))
BEGUN = TransferBegun(1.0, REQUEST, Agreed())
REFUSED = TransferRefused(2.0, REQUEST, 1, "File not found")
ENDED = TransferEnded(3.0, TransferReport(REQUEST, Agreed(), Outcome.COMPLETE, "", 5, 1, 0, 1.0, 3.0))


class Pipe:
    """Connects one Channel to another, and passes at most *size* bytes at a time."""

    def __init__(self, size: int = 7) -> None:
        self.received: list[tuple[str, tuple[Any, ...]]] = []
        self._size = size
        self._receiver = Channel(lambda kind, values: self.received.append((kind, values)))
        self.sender = Channel(lambda kind, values: None)
        self.sender.makeConnection(self)  # type: ignore[no-untyped-call]  # Twisted's

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), self._size):
            self._receiver.dataReceived(data[start : start + self._size])  # type: ignore[no-untyped-call]


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sink(clock: Clock, pipe: Pipe) -> EventPipe:
    return EventPipe(clock, pipe.sender, GivenSockets(clock, {}))


def test_messages_arrive_whole_and_in_order(pipe: Pipe) -> None:
    pipe.sender.send("client", Client("10.0.0.9"), 5)
    pipe.sender.send_packed(packed("nothing"))
    assert pipe.received == [("client", (Client("10.0.0.9"), 5)), ("nothing", ())]


def test_events_of_one_turn_are_sent_in_one_message(clock: Clock, pipe: Pipe, sink: EventPipe) -> None:
    for event in (REFUSED, ENDED):
        sink.publish(event)
    assert pipe.received == []
    clock.advance(0)
    assert pipe.received == [("events", ([REFUSED, ENDED],))]
    sink.publish(ENDED)
    clock.advance(0)
    assert len(pipe.received) == 2


def test_transfer_begun_event_is_sent_at_once(clock: Clock, pipe: Pipe, sink: EventPipe) -> None:
    """The client gets its reply next. If this process ends then, the next worker must know of the transfer."""
    sink.publish(ENDED)
    sink.publish(BEGUN)
    assert pipe.received == [("events", ([ENDED, BEGUN],))]
    clock.advance(0)
    assert len(pipe.received) == 1


def test_client_is_answered_after_its_transfer_begun_event(clock: Clock, pipe: Pipe, sink: EventPipe) -> None:
    """A client that has a reply does not request the file again, only the next blocks. The next worker must know the
    transfer."""
    messages_before_reply = []

    class Transport:
        def write(self, data: bytes, peer: object) -> None:
            messages_before_reply.append(len(pipe.received))

    protocol = TFTPProtocol(clock, MemoryBackend({"file": b"content"}), Fixed(), sink.publish)
    protocol.makeConnection(Transport())  # type: ignore[arg-type]  # the protocol needs no more of it
    for port, request in enumerate(
        (tftp.request(False, "file", "octet"), tftp.request(False, "file", "octet", [("tsize", "0")])), 1
    ):
        protocol.datagramReceived(request, ("10.0.0.9", port))
    assert messages_before_reply == [1, 2]
    assert [type(event) for _, (events,) in pipe.received for event in events] == [TransferBegun, TransferBegun]
    protocol.close()


@pytest.mark.parametrize("event", [ListenerBound(0.0, "tftp", ("::", 69)), BackendProblem(0.0, "directory", "no")])
def test_events_of_the_main_process_are_not_sent(clock: Clock, pipe: Pipe, sink: EventPipe, event: Event) -> None:
    sink.publish(event)
    clock.advance(0)
    assert pipe.received == []


def test_events_are_queued_then_counted_while_the_pipe_is_full(clock: Clock) -> None:
    pipe = Pipe(65536)
    sink = EventPipe(clock, pipe.sender, GivenSockets(clock, {}))
    sink.publish(REFUSED)
    sink.pauseProducing()
    for number in range(MAX_QUEUED + 3):
        sink.publish(evolve(BEGUN, at=float(number)))
    clock.advance(1)
    assert pipe.received == []
    sink.resumeProducing()
    clock.advance(0)
    sink.publish(BEGUN)
    clock.advance(0)
    events = [event for _, (events,) in pipe.received for event in events]
    assert [event.at for event in events[:MAX_QUEUED]] == [
        REFUSED.at,
        *(float(number) for number in range(MAX_QUEUED - 1)),
    ]
    assert events[MAX_QUEUED:] == [EventsDropped(1.0, 4), BEGUN]


class AdoptingReactor:
    """Records the sockets that it adopts."""

    def __init__(self) -> None:
        self.adopted: list[int] = []
        """Their inodes."""

    def adoptStreamPort(self, descriptor: int, family: int, factory: object) -> object:
        self.adopted.append(os.fstat(descriptor).st_ino)
        return factory


def test_a_worker_listens_on_the_socket_of_the_main_process() -> None:
    with socket.socket() as first, socket.socket() as second:
        reactor = AdoptingReactor()
        inode = os.fstat(second.fileno()).st_ino
        sockets = {("http", ("::", 80), ""): first, ("http", ("0.0.0.0", 80), ""): second}
        given_sockets = GivenSockets(reactor, sockets)
        assert given_sockets.listen(PortSpec("http", ("0.0.0.0", 80), "protocol")) == "protocol"
        assert reactor.adopted == [inode]
        with pytest.raises(KeyError):
            given_sockets.listen(PortSpec("http", ("0.0.0.0", 81), "protocol"))


def test_messages_are_broadcast_to_the_other_processes() -> None:
    sent = []
    services = [
        BootService(MemoryNetwork().host("10.0.0.1"), broadcast=lambda kind, *values: sent.append((kind, values)))
        for _ in range(2)
    ]
    services[0]._second_stage.remember("10.0.0.9", "loader.efi", 0)
    [(kind, values)] = sent
    assert services[1].on_message(kind, values)
    assert [path for path, _ in services[1]._second_stage.all()] == ["10.0.0.9"]
    assert not services[1].on_message("of a later version", ("two",))


def test_a_worker_sends_the_recorded_packets_of_a_client(tmp_path: Path) -> None:
    sent: list[tuple[str, tuple[Any, ...]]] = []
    network = MemoryNetwork()
    host = network.host("10.0.0.1", rich=True)
    service = BootService(
        host,
        settings=Settings(dhcp=DHCPSettings(mode="off"), http=HTTPSettings(listen=())),
        backends=[MemoryBackend({"file": b"content"})],
        event_sink=NullSink(),
        broadcast=lambda kind, *values: sent.append((kind, values)),
        recordings=tmp_path,
    )
    service.startService()
    network.result_of(TFTPClient(network.host("10.0.0.9"), ("10.0.0.1", 69)).download("file"))
    sent.clear()
    assert service.on_message("packets-of", (7, ("10.0.0.9",), 0.0))
    [(kind, (number, packets))] = sent
    assert (kind, number) == ("packets", 7)
    assert [packet.data[1] for packet in packets][:2] == [1, 3]
    network.result_of(service.stopService())


class NullSink:
    """An EventSink that drops all events."""

    def publish(self, event: Event) -> None:
        """See EventSink."""

    def flush(self) -> None:
        """See EventSink."""


# Replaced sockets


@define(eq=False)
class Receiver(DatagramProtocol):
    """Keeps the datagrams that arrive."""

    noisy = False
    received: list[bytes] = field(factory=list)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.received.append(datagram)


def test_worker_serves_a_replaced_socket(private_reactor: EPollReactor, turn_until: TurnUntil) -> None:
    """The new socket arrives on the connection for sockets, and the port continues with it."""
    first, second = (open_socket("127.0.0.1", 0)[0] for _ in range(2))
    old_address, new_address = first.getsockname(), second.getsockname()
    key = "tftp", ("127.0.0.1", 69), ""
    given_sockets = GivenSockets(private_reactor, {key: first})
    protocol = Receiver()
    port = given_sockets.listen(PortSpec("tftp", ("127.0.0.1", 69), protocol))
    descriptor = port.fileno()
    ours, theirs = socket_connection()
    send_sockets(ours, [second])
    second.close()
    [sock] = received_sockets(theirs, 1)
    given_sockets.replace(key, sock)
    assert port.getHandle().getsockname() == new_address
    assert port.fileno() == descriptor
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"for the new one", new_address)
        turn_until(lambda: protocol.received)
        assert protocol.received == [b"for the new one"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(old_address)  # the old socket is closed
    ours.close()
    with theirs, pytest.raises(OSError, match="1 sockets are missing"):
        received_sockets(theirs, 1)
    stopped = port.stopListening()
    turn_until(lambda: stopped.called)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as third:
        given_sockets.replace(key, third)  # a reload has dropped the port


def test_worker_reports_the_ports_that_it_has_closed(
    private_reactor: EPollReactor, turn_until: TurnUntil, pipe: Pipe
) -> None:
    keys = [("tftp", ("127.0.0.1", 69), ""), ("http", ("127.0.0.1", 80), "")]
    sockets = {keys[0]: open_socket("127.0.0.1", 0)[0], keys[1]: open_stream_socket("127.0.0.1", 0, shared=True)}
    given_sockets = GivenSockets(private_reactor, sockets)
    sink = EventPipe(private_reactor, pipe.sender, given_sockets)
    protocols = Receiver(), Site(Resource())
    ports = [
        given_sockets.listen(PortSpec(key[0], key[1], protocol)) for key, protocol in zip(keys, protocols, strict=True)
    ]
    for key, port in zip(keys, ports, strict=True):
        stopped = maybeDeferred(port.stopListening)
        turn_until(partial(getattr, stopped, "called"))
        sink.publish(ListenerClosed(1.0, key[0], key[1]))
    assert pipe.received == [("closed", (key,)) for key in keys]


def test_sockets_that_no_port_uses_are_closed(private_reactor: EPollReactor) -> None:
    first, second = (socket.socket() for _ in range(2))
    given_sockets = GivenSockets(private_reactor, {("http", ("0.0.0.0", 80), ""): first})
    given_sockets.add([(("http", ("0.0.0.0", 81), ""), second)])
    given_sockets.close_unused()
    assert (first.fileno(), second.fileno()) == (-1, -1)


# URLs


def test_a_worker_offers_no_url_of_a_listener_that_clients_can_not_reach() -> None:
    """A worker has every socket from its start; the main process tells it which of them clients can reach."""
    sent: list[tuple[Any, ...]] = []
    network = MemoryNetwork()
    service = BootService(
        network.host("10.0.0.1", rich=True),
        settings=Settings(
            dhcp=DHCPSettings(mode="off"), tftp=TFTPSettings(listen=()), http=HTTPSettings(listen=("10.0.0.1:80",))
        ),
        event_sink=NullSink(),
        sockets=FakeSockets(),
        broadcast=lambda *message: sent.append(message),
    )
    service.startService()
    address = ("10.0.0.1", 80)
    assert service._urls.of("10.0.0.1")[0] == "http://10.0.0.1"
    for bound in (False, False, True, True, False):
        assert service.on_message("url", ("http", address, bound))
        assert service._urls.of("10.0.0.1")[0] == ("http://10.0.0.1" if bound else "")
    assert sent == [], "only the main process broadcasts this"
    network.result_of(service.stopService())


@define(eq=False)
class FakeSockets:
    """A SocketSource whose ports have no sockets."""

    follow_interfaces: bool = False

    def listen(self, spec: PortSpec) -> Any:
        """See SocketSource."""
        return FakeSockets.Port(*spec.address)

    @define
    class Port:
        """An IListeningPort."""

        host: str
        port: int

        def getHost(self) -> IPv4Address:
            """See IListeningPort."""
            return IPv4Address("TCP", self.host, self.port)

        def stopListening(self) -> None:
            """See IListeningPort."""
