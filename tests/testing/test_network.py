"""The in-memory network: the behaviour that our other tests rely on."""

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, InvalidAddressError, MessageLengthError
from twisted.internet.interfaces import IReactorTime, IReactorUDP, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from bootfw.interfaces import IBatchReceiver, IViaTransport
from bootfw.testing import FakePeer, MemoryNetwork, Received
from bootfw.values import Address, Via


@implementer(IBatchReceiver)
class Batches(DatagramProtocol):
    noisy = False

    def __init__(self) -> None:
        self.batches: list[list[tuple[bytes, Address, Via | None]]] = []

    def datagrams_received(self, batch: Sequence[tuple[bytes, Address, Via | None]]) -> None:
        self.batches.append(list(batch))


def pair(**kwargs: Any) -> tuple[MemoryNetwork, FakePeer, FakePeer]:
    network = MemoryNetwork(**kwargs)
    server = FakePeer(network.host("10.0.0.1"), 69)
    client = FakePeer(network.host("10.0.0.2"))
    return network, server, client


def test_datagram_arrives_with_source_and_time() -> None:
    network, server, client = pair(delay=0.25)
    client.send(b"hello", ("10.0.0.1", 69))
    assert server.received == []
    network.advance(1)
    assert server.received == [Received(0.25, b"hello", client.address)]
    assert network.clock.seconds() == 1


def test_hosts_are_reactors_and_ports_transports() -> None:
    network = MemoryNetwork()
    for rich in (False, True):
        host = network.host(rich=rich)
        verifyObject(IReactorTime, host)
        verifyObject(IReactorUDP, host)
        port = host.listenUDP(0, DatagramProtocol())
        assert IUDPTransport.providedBy(port)
        assert IViaTransport.providedBy(port) is rich
    verifyObject(IViaTransport, port)


def test_calls_happen_at_their_own_time_within_one_advance() -> None:
    network = MemoryNetwork()
    host = network.host("10.0.0.1")
    times: list[float] = []

    def tick() -> None:
        times.append(host.seconds())
        if len(times) < 3:
            host.callLater(0.1, tick)

    host.callLater(0.1, tick)
    network.advance(10)
    assert times == pytest.approx([0.1, 0.2, 0.3])


def test_the_test_may_advance_its_own_clock() -> None:
    clock = Clock()
    _, server, client = pair(clock=clock)
    client.send(b"x", ("10.0.0.1", 69))
    clock.advance(0.5)
    assert [received.data for received in server.received] == [b"x"]


def test_link_function_decides_how_often_and_when_a_datagram_arrives() -> None:
    network, server, client = pair(link=lambda data, source, destination: {b"twice": (0.3, 0.1)}.get(data, ()))
    client.send(b"twice", ("10.0.0.1", 69))
    client.send(b"never", ("10.0.0.1", 69))
    network.advance(1)
    assert [(received.at, received.data) for received in server.received] == [(0.1, b"twice"), (0.3, b"twice")]
    assert (network.sent, network.delivered, network.lost) == (2, 2, 1)


def test_without_a_listener_a_datagram_is_lost() -> None:
    network, server, _ = pair()
    server.send(b"x", ("10.0.0.2", 9))
    server.send(b"x", ("10.9.9.9", 9))
    network.advance(1)
    assert network.lost == 2


def test_broadcast_reaches_every_wildcard_port_and_its_sender() -> None:
    network = MemoryNetwork()
    peers = [FakePeer(network.host(f"10.0.0.{number}"), 67) for number in (1, 2)]
    bound = FakePeer(network.host("10.0.0.3"), 67, "10.0.0.3")
    client = FakePeer(network.host(), 67)
    client.send(b"discover", ("255.255.255.255", 67))
    network.advance(1)
    for peer in (*peers, client):
        assert [(received.data, received.peer) for received in peer.received] == [(b"discover", ("0.0.0.0", 67))]
    assert bound.received == []


def test_broadcast_needs_permission() -> None:
    port = MemoryNetwork().host("10.0.0.1").listenUDP(0, DatagramProtocol())
    with pytest.raises(PermissionError):
        port.write(b"x", ("255.255.255.255", 67))
    port.setBroadcastAllowed(True)
    port.write(b"x", ("<broadcast>", 67))


def test_stock_port_answers_from_the_first_address() -> None:
    network = MemoryNetwork()
    server = FakePeer(network.host("10.0.0.1", "10.0.0.2"), 69, answer=lambda received: received.data)
    client = FakePeer(network.host("10.0.0.9"))
    client.send(b"x", ("10.0.0.2", 69))
    network.advance(1)
    assert client.take()[0].peer == ("10.0.0.1", 69)
    assert server.take()[0].peer == client.address
    assert client.take() == []


@pytest.mark.parametrize(
    ("destination", "arrived_at", "client_address"),
    [
        ("10.0.0.2", "10.0.0.2", ("10.0.0.9", 32768)),
        ("255.255.255.255", "10.0.0.1", ("10.0.0.9", 32768)),
        ("fd00::2", "fd00::2", ("fd00::9", 32768, 0, 0)),
        ("fe80::2", "fe80::2", ("fe80::9", 32768, 0, 2)),
    ],
)
def test_rich_port_reports_the_arrival_address_and_replies_from_it(
    destination: str, arrived_at: str, client_address: Address
) -> None:
    network = MemoryNetwork()
    host = network.host("10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "fe80::2", rich=True)
    protocol = Batches()
    interface = "::" if ":" in destination else ""
    host.listenUDP(69, protocol, interface)
    source = client_address[0] if ":" in destination else ""
    client = FakePeer(network.host("10.0.0.9", "fd00::9", "fe80::9"), 0, source)
    client.send(b"x", (destination, 69))
    client.send(b"y", (destination, 69))
    network.advance(1)
    via = Via(arrived_at, 2, destination)
    assert protocol.batches == [[(b"x", client_address, via), (b"y", client_address, via)]]
    assert IViaTransport.providedBy(protocol.transport)
    protocol.transport.write_via(b"aabbc", client_address, via, 2)
    protocol.transport.write_via(b"", client_address, None)
    network.advance(1)
    received = client.take()
    assert [each.data for each in received] == [b"aa", b"bb", b"c", b""]
    assert {each.peer for each in received[:3]} == {(arrived_at, 69)}


def test_write_via_never_raises() -> None:
    network = MemoryNetwork()
    port = network.host("10.0.0.1", rich=True).listenUDP(69, DatagramProtocol())
    assert IViaTransport.providedBy(port)
    port.write_via(b"x", ("10.0.0.2", 9), Via("10.7.7.7", 2, ""))
    port.write_via(bytes(65508), ("10.0.0.2", 9), None)
    assert (network.sent, network.lost) == (0, 2)


def test_listen_refuses_invalid_arguments() -> None:
    network = MemoryNetwork()
    host = network.host("10.0.0.1", "10.0.0.2", privileged=False)
    host.listenUDP(6900, DatagramProtocol(), "10.0.0.1")
    host.listenUDP(6900, DatagramProtocol(), "10.0.0.2")
    host.listenUDP(6900, DatagramProtocol(), "::")
    for port, interface, reason in [(6900, "", "Address already in use"), (6901, "10.3.3.3", "Cannot assign"),
                                    (69, "", "Permission denied")]:  # fmt: skip
        with pytest.raises(CannotListenError, match=reason):
            host.listenUDP(port, DatagramProtocol(), interface)


def test_ephemeral_ports_differ() -> None:
    host = MemoryNetwork().host("10.0.0.1")
    host.listenUDP(32769, DatagramProtocol())
    ports = [host.listenUDP(0, DatagramProtocol()).getHost().port for _ in range(3)]
    assert ports == [32768, 32770, 32771]


def test_connected_port_receives_from_its_peer_only() -> None:
    network, server, client = pair()
    stranger = FakePeer(network.host("10.0.0.3"))
    server._port.connect(*client.address)
    for peer in (stranger, client):
        peer.send(b"x", server.address)
    network.advance(1)
    assert [received.peer for received in server.received] == [client.address]


def test_large_datagrams_are_cut_as_by_recvfrom() -> None:
    network, _, client = pair()
    received: list[bytes] = []

    class Small(DatagramProtocol):
        def datagramReceived(self, datagram: bytes, addr: Address) -> None:
            received.append(datagram)

    network.hosts[0].listenUDP(70, Small(), maxPacketSize=100)
    client.send(bytes(200), ("10.0.0.1", 70))
    network.advance(1)
    assert received == [bytes(100)]


def test_write_refuses_invalid_arguments() -> None:
    port = MemoryNetwork().host("10.0.0.1").listenUDP(0, DatagramProtocol())
    with pytest.raises(MessageLengthError):
        port.write(bytes(65508), ("10.0.0.2", 9))
    with pytest.raises(InvalidAddressError):
        port.write(b"", ("fd00::1", 9))


def test_stopping_takes_a_turn_and_leaves_nothing() -> None:
    network, server, client = pair()
    protocol = server._port.protocol
    port = protocol.transport
    assert len(network.leaks()) == 2
    stopped = port.stopListening()
    assert port.stopListening() is None
    port.write(b"last words", client.address)
    assert not stopped.called
    client.send(b"too late", server.address)
    network.advance(1)
    assert stopped.called
    assert protocol.transport is None
    assert server.received == []
    assert [received.data for received in client.received] == [b"last words"]
    with pytest.raises(AttributeError):
        port.write(b"x", client.address)
    client.close()
    network.advance(0)
    assert network.leaks() == []


def test_leaks_are_ports_and_calls_but_not_datagrams_on_their_way() -> None:
    network, server, client = pair()
    client.send(b"x", server.address)
    call = network.hosts[0].callLater(5, print)
    assert len(network.leaks()) == 3
    call.cancel()
    assert [leak.split(":")[0] for leak in network.leaks()] == ["host1", "host2"]


def test_exception_of_a_protocol_is_raised_by_advance() -> None:
    network, server, client = pair()

    def fail(received: Received) -> bytes | None:
        raise ZeroDivisionError

    server.answer = fail
    client.send(b"x", server.address)
    with pytest.raises(ZeroDivisionError):
        network.advance(1)


def test_run_until_stops_at_the_event_and_lists_pending_calls() -> None:
    network, server, client = pair(delay=0.5)
    client.send(b"x", server.address)
    network.run_until(lambda: server.received)
    assert network.clock.seconds() == 0.5
    with pytest.raises(AssertionError, match=r"after 3 s.*port"):
        network.run_until(lambda: False, 3)


def test_result_of_returns_or_raises() -> None:
    network = MemoryNetwork()
    good, bad = Deferred[str](), Deferred[str]()
    network.clock.callLater(2, good.callback, "fine")
    network.clock.callLater(4, bad.errback, ValueError("no"))
    assert network.result_of(good) == "fine"
    with pytest.raises(ValueError, match="no"):
        network.result_of(bad)


def test_two_hosts_cannot_have_one_address() -> None:
    network = MemoryNetwork()
    network.host("10.0.0.1")
    with pytest.raises(ValueError, match=r"10\.0\.0\.1"):
        network.host("10.0.0.2", "10.0.0.1")
