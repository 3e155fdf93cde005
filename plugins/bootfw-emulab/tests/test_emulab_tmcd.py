"""tmcd by TCP and UDP: when a request is answered, what ends a connection, and how much fits into a datagram."""

from collections.abc import Iterator
from typing import Any

import pytest
from bootfw_emulab import tmcdserver
from bootfw_emulab.connectionstates import READ_WITHIN, TLS_TAG
from bootfw_emulab.tmcdserver import Arrival, TmcdConnection, TmcdConnections, TmcdDatagrams
from emulabcaptures import TMCC
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from bootfw.testing import FakePeer, MemoryNetwork

STATUS = b"VERSION=34 status "
REPLY = TMCC[STATUS]


class FakeTmcd:
    """tmcd, of which only what it is asked matters here."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, Arrival]] = []
        self.reply: Deferred[bytes] | bytes = REPLY

    def answer(self, line: bytes, arrival: Arrival) -> "Deferred[bytes]":
        self.requests.append((line, arrival))
        return succeed(self.reply) if isinstance(self.reply, bytes) else self.reply


class Transport(StringTransport):
    """What a connection does with its transport."""

    @property
    def sent(self) -> bytes:
        sent: bytes = self.io.getvalue()
        return sent

    def startTLS(self, certificate: Any) -> None:
        self.secured_by = certificate
        self.protocol = FakeTLS()


class FakeTLS:
    """The wrapper of TLS."""

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class Listener:
    def __init__(self, certificate: Any = None) -> None:
        self.clock = Clock()
        self.tmcd = FakeTmcd()
        tmcd: Any = self.tmcd
        self.factory = TmcdConnections(self.clock, tmcd, certificate, READ_WITHIN)

    def connected(self) -> tuple[TmcdConnection, Transport]:
        connection = self.factory.buildProtocol(None)
        assert connection is not None
        peer, host = IPv4Address("TCP", "10.9.0.11", 40000), IPv4Address("TCP", "10.9.0.1", 7777)
        transport = Transport(hostAddress=host, peerAddress=peer)
        connection.makeConnection(transport)
        return connection, transport


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    assert listener.clock.getDelayedCalls() == []


def close(connection: TmcdConnection) -> None:
    connection.connectionLost(Failure(ConnectionDone()))


def test_a_request_is_answered_before_the_client_closes_its_half(listener: Listener) -> None:
    connection, transport = listener.connected()
    connection.dataReceived(STATUS)
    assert (transport.sent, transport.disconnecting) == (REPLY, True)
    assert listener.tmcd.requests == [(STATUS, Arrival(("10.9.0.11", 40000), "10.9.0.1", by_tcp=True))]
    connection.readConnectionLost()
    connection.writeConnectionLost()
    assert transport.sent == REPLY
    close(connection)


def test_a_request_in_pieces_is_one_request(listener: Listener) -> None:
    connection, transport = listener.connected()
    for piece in (b"VERS", b"ION=34 st", b"atus"):
        connection.dataReceived(piece)
        assert listener.tmcd.requests == []
    connection.readConnectionLost()
    assert [line for line, _ in listener.tmcd.requests] == [b"VERSION=34 status"]
    assert transport.sent == REPLY
    close(connection)


def test_a_silent_connection_is_closed_after_three_seconds(listener: Listener) -> None:
    connection, transport = listener.connected()
    listener.clock.advance(READ_WITHIN - 0.1)
    assert not transport.disconnecting
    listener.clock.advance(0.1)
    assert (transport.sent, transport.disconnecting, listener.tmcd.requests) == (b"", True, [])
    close(connection)


def test_a_client_that_does_not_take_its_reply_is_dropped(listener: Listener) -> None:
    connection, transport = listener.connected()
    connection.dataReceived(STATUS)
    assert not transport.disconnected
    listener.clock.advance(READ_WITHIN)
    assert transport.disconnected
    close(connection)


def test_nothing_to_say_is_a_close_without_bytes(listener: Listener) -> None:
    connection, transport = listener.connected()
    listener.tmcd.reply = b""
    connection.dataReceived(STATUS)
    assert (transport.sent, transport.disconnecting) == (b"", True)
    close(connection)


def test_a_late_reply_is_sent(listener: Listener) -> None:
    connection, transport = listener.connected()
    late: Deferred[bytes] = Deferred()
    listener.tmcd.reply = late
    connection.dataReceived(STATUS)
    listener.clock.advance(60)
    assert not transport.disconnecting
    late.callback(REPLY)
    assert (transport.sent, transport.disconnecting) == (REPLY, True)
    close(connection)


def test_a_late_reply_to_a_client_that_has_left_is_dropped(listener: Listener) -> None:
    connection, transport = listener.connected()
    late: Deferred[bytes] = Deferred()
    listener.tmcd.reply = late
    connection.dataReceived(STATUS)
    close(connection)
    late.callback(REPLY)
    assert transport.sent == b""


def test_without_a_certificate_tls_is_refused_by_a_close(listener: Listener) -> None:
    connection, transport = listener.connected()
    connection.dataReceived(TLS_TAG + b"\x16\x03\x01")
    assert (transport.sent, transport.disconnecting, listener.tmcd.requests) == (b"", True, [])
    close(connection)


def test_bytes_after_the_tag_go_to_tls() -> None:
    listener = Listener("the certificate")
    connection, transport = listener.connected()
    connection.dataReceived(TLS_TAG + b"\x16\x03\x01")
    assert transport.secured_by == "the certificate"
    assert transport.protocol.received == b"\x16\x03\x01"
    connection.dataReceived(STATUS)  # decrypted
    assert transport.sent == REPLY
    close(connection)


def test_connections_are_bounded(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tmcdserver, "CONNECTIONS", 2)
    first, second = listener.connected()[0], listener.connected()[0]
    assert listener.factory.buildProtocol(None) is None
    close(first)
    third = listener.connected()[0]
    for each in (second, third):
        close(each)


def test_a_stop_drops_the_connections(listener: Listener) -> None:
    connection, transport = listener.connected()
    listener.factory.close()
    assert transport.disconnected
    close(connection)


# UDP


@pytest.fixture
def datagrams() -> tuple[FakeTmcd, FakePeer, MemoryNetwork]:
    network, tmcd = MemoryNetwork(), FakeTmcd()
    fake: Any = tmcd
    network.host("10.9.0.1", "10.9.0.2", rich=True).listenUDP(7777, TmcdDatagrams(fake))
    return tmcd, FakePeer(network.host("10.9.0.11")), network


def replies(datagrams: tuple[FakeTmcd, FakePeer, MemoryNetwork], line: bytes, address: str = "10.9.0.1") -> list[bytes]:
    _, peer, network = datagrams
    peer.send(line, (address, 7777))
    network.advance(0.1)
    received = peer.take()
    assert all(each.peer == (address, 7777) for each in received)
    return [each.data for each in received]


def test_a_datagram_is_answered_by_one(datagrams: tuple[FakeTmcd, FakePeer, MemoryNetwork]) -> None:
    assert replies(datagrams, STATUS) == [REPLY]
    (request,) = datagrams[0].requests
    assert request == (STATUS, Arrival(datagrams[1].address, "10.9.0.1", by_tcp=False))


def test_the_reply_leaves_from_the_address_that_was_asked(
    datagrams: tuple[FakeTmcd, FakePeer, MemoryNetwork],
) -> None:
    assert replies(datagrams, STATUS, "10.9.0.2") == [REPLY]


def test_nothing_to_say_is_no_datagram(datagrams: tuple[FakeTmcd, FakePeer, MemoryNetwork]) -> None:
    datagrams[0].reply = b""
    assert replies(datagrams, STATUS) == []


def test_a_datagram_has_limits_in_both_directions(datagrams: tuple[FakeTmcd, FakePeer, MemoryNetwork]) -> None:
    datagrams[0].reply = b"x" * 9000
    assert replies(datagrams, b"y" * 3000) == [b"x" * 8192]
    assert datagrams[0].requests[0][0] == b"y" * 2047
