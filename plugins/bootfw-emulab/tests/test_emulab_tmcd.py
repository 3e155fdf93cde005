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


class Answering:
    """tmcd, of which only what it is asked matters here."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, Arrival]] = []
        self.reply: Deferred[bytes] | bytes = REPLY

    def answer(self, line: bytes, arrival: Arrival) -> "Deferred[bytes]":
        self.asked.append((line, arrival))
        return succeed(self.reply) if isinstance(self.reply, bytes) else self.reply


class Transport(StringTransport):
    """What a connection does with its transport."""

    @property
    def sent(self) -> bytes:
        sent: bytes = self.io.getvalue()
        return sent

    def startTLS(self, certificate: Any) -> None:
        self.secured_by = certificate
        self.protocol = Decrypting()


class Decrypting:
    """The wrapper of TLS."""

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class Site:
    def __init__(self, certificate: Any = None) -> None:
        self.clock = Clock()
        self.tmcd = Answering()
        answering: Any = self.tmcd
        self.factory = TmcdConnections(self.clock, answering, certificate, READ_WITHIN)

    def connected(self) -> tuple[TmcdConnection, Transport]:
        made = self.factory.buildProtocol(None)
        assert made is not None
        peer, own = IPv4Address("TCP", "10.9.0.11", 40000), IPv4Address("TCP", "10.9.0.1", 7777)
        transport = Transport(hostAddress=own, peerAddress=peer)
        made.makeConnection(transport)
        return made, transport


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    assert made.clock.getDelayedCalls() == []


def close(connection: TmcdConnection) -> None:
    connection.connectionLost(Failure(ConnectionDone()))


def test_a_request_is_answered_before_the_client_closes_its_half(site: Site) -> None:
    connection, transport = site.connected()
    connection.dataReceived(STATUS)
    assert (transport.sent, transport.disconnecting) == (REPLY, True)
    assert site.tmcd.asked == [(STATUS, Arrival(("10.9.0.11", 40000), "10.9.0.1", by_tcp=True))]
    connection.readConnectionLost()
    connection.writeConnectionLost()
    assert transport.sent == REPLY
    close(connection)


def test_a_request_in_pieces_is_one_request(site: Site) -> None:
    connection, transport = site.connected()
    for piece in (b"VERS", b"ION=34 st", b"atus"):
        connection.dataReceived(piece)
        assert site.tmcd.asked == []
    connection.readConnectionLost()
    assert [line for line, _ in site.tmcd.asked] == [b"VERSION=34 status"]
    assert transport.sent == REPLY
    close(connection)


def test_a_client_that_is_silent_is_closed_after_three_seconds(site: Site) -> None:
    connection, transport = site.connected()
    site.clock.advance(READ_WITHIN - 0.1)
    assert not transport.disconnecting
    site.clock.advance(0.1)
    assert (transport.sent, transport.disconnecting, site.tmcd.asked) == (b"", True, [])
    close(connection)


def test_a_client_that_does_not_take_its_reply_is_dropped(site: Site) -> None:
    connection, transport = site.connected()
    connection.dataReceived(STATUS)
    assert not transport.disconnected
    site.clock.advance(READ_WITHIN)
    assert transport.disconnected
    close(connection)


def test_nothing_to_say_is_a_close_without_bytes(site: Site) -> None:
    connection, transport = site.connected()
    site.tmcd.reply = b""
    connection.dataReceived(STATUS)
    assert (transport.sent, transport.disconnecting) == (b"", True)
    close(connection)


def test_a_late_reply_is_sent(site: Site) -> None:
    connection, transport = site.connected()
    late: Deferred[bytes] = Deferred()
    site.tmcd.reply = late
    connection.dataReceived(STATUS)
    site.clock.advance(60)
    assert not transport.disconnecting
    late.callback(REPLY)
    assert (transport.sent, transport.disconnecting) == (REPLY, True)
    close(connection)


def test_a_late_reply_to_a_client_that_has_left_is_dropped(site: Site) -> None:
    connection, transport = site.connected()
    late: Deferred[bytes] = Deferred()
    site.tmcd.reply = late
    connection.dataReceived(STATUS)
    close(connection)
    late.callback(REPLY)
    assert transport.sent == b""


def test_without_a_certificate_tls_is_refused_by_a_close(site: Site) -> None:
    connection, transport = site.connected()
    connection.dataReceived(TLS_TAG + b"\x16\x03\x01")
    assert (transport.sent, transport.disconnecting, site.tmcd.asked) == (b"", True, [])
    close(connection)


def test_what_follows_the_tag_goes_to_tls() -> None:
    site = Site("the certificate")
    connection, transport = site.connected()
    connection.dataReceived(TLS_TAG + b"\x16\x03\x01")
    assert transport.secured_by == "the certificate"
    assert transport.protocol.received == b"\x16\x03\x01"
    connection.dataReceived(STATUS)  # decrypted
    assert transport.sent == REPLY
    close(connection)


def test_connections_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tmcdserver, "CONNECTIONS", 2)
    first, second = site.connected()[0], site.connected()[0]
    assert site.factory.buildProtocol(None) is None
    close(first)
    third = site.connected()[0]
    for each in (second, third):
        close(each)


def test_a_stop_drops_the_connections(site: Site) -> None:
    connection, transport = site.connected()
    site.factory.close()
    assert transport.disconnected
    close(connection)


# UDP


@pytest.fixture
def datagrams() -> tuple[Answering, FakePeer, MemoryNetwork]:
    network, tmcd = MemoryNetwork(), Answering()
    answering: Any = tmcd
    network.host("10.9.0.1", "10.9.0.2", rich=True).listenUDP(7777, TmcdDatagrams(answering))
    return tmcd, FakePeer(network.host("10.9.0.11")), network


def replies(datagrams: tuple[Answering, FakePeer, MemoryNetwork], line: bytes, to: str = "10.9.0.1") -> list[bytes]:
    _, peer, network = datagrams
    peer.send(line, (to, 7777))
    network.advance(0.1)
    received = peer.take()
    assert all(each.peer == (to, 7777) for each in received)
    return [each.data for each in received]


def test_a_datagram_is_answered_by_one(datagrams: tuple[Answering, FakePeer, MemoryNetwork]) -> None:
    assert replies(datagrams, STATUS) == [REPLY]
    (asked,) = datagrams[0].asked
    assert asked == (STATUS, Arrival(datagrams[1].address, "10.9.0.1", by_tcp=False))


def test_the_reply_leaves_from_the_address_that_was_asked(
    datagrams: tuple[Answering, FakePeer, MemoryNetwork],
) -> None:
    assert replies(datagrams, STATUS, "10.9.0.2") == [REPLY]


def test_nothing_to_say_is_no_datagram(datagrams: tuple[Answering, FakePeer, MemoryNetwork]) -> None:
    datagrams[0].reply = b""
    assert replies(datagrams, STATUS) == []


def test_a_datagram_has_limits_in_both_directions(datagrams: tuple[Answering, FakePeer, MemoryNetwork]) -> None:
    datagrams[0].reply = b"x" * 9000
    assert replies(datagrams, b"y" * 3000) == [b"x" * 8192]
    assert datagrams[0].asked[0][0] == b"y" * 2047
