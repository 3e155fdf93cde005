"""The master server: one request and one reply for each connection."""

from typing import Any, cast

import pytest
from frisbeecaptures import REQUESTS
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from bootfw.config.settings import Settings, networks
from bootfw.events import DatagramsMalformed, Event
from bootfw.net.admission import Admission
from bootfw.net.multicast.master import CONNECTION_SECONDS, CONNECTIONS, Master
from bootfw.net.multicast.sender import ImageSender
from bootfw.net.multicast.uploads import Uploads
from bootfw.values import Address
from bootfw.wire import frisbeemaster
from bootfw.wire.frisbeemaster import Error, GetReply, GetRequest, PutReply, PutRequest

PEER = IPv4Address("TCP", "10.0.0.11", 40000)
REQUEST = frisbeemaster.pack(GetRequest("disk.img"))


class FakeSender:
    """Takes the place of an ImageSender."""

    def __init__(self) -> None:
        self.requests: list[tuple[GetRequest, Address, str]] = []
        self.reply: Deferred[GetReply] = succeed(GetReply(port=21700))

    def get(self, request: GetRequest, peer: Address, local: str) -> "Deferred[GetReply]":
        self.requests.append((request, peer, local))
        return self.reply


class FakeUploads:
    """Takes the place of Uploads."""

    def __init__(self) -> None:
        self.requests: list[tuple[PutRequest, Address, str]] = []

    def put(self, request: PutRequest, peer: Address, local: str) -> "Deferred[PutReply]":
        self.requests.append((request, peer, local))
        return succeed(PutReply(Error.TOO_BIG, most=7))


class Scene:
    """A master server, what it calls, and its events."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.sender = FakeSender()
        admission = Admission(self.clock, self.events.append, settings)
        self.uploads = FakeUploads()
        sender, uploads = cast(ImageSender, self.sender), cast(Uploads, self.uploads)
        self.master = Master(self.clock, sender, uploads, admission, self.events.append)

    def connect(self) -> tuple[Any, StringTransport]:
        protocol: Any = self.master.buildProtocol(PEER)
        transport = StringTransport(IPv4Address("TCP", "10.0.0.1", frisbeemaster.PORT), PEER)
        protocol.makeConnection(transport)
        return protocol, transport


def test_a_request_gets_a_reply_and_the_connection_is_closed() -> None:
    scene = Scene()
    protocol, transport = scene.connect()
    for byte in REQUEST[:-1]:
        protocol.dataReceived(bytes([byte]))
    assert not transport.value()
    protocol.dataReceived(REQUEST[-1:])
    assert frisbeemaster.parse_get_reply(transport.value()) == GetReply(port=21700)
    assert transport.disconnecting
    assert scene.sender.requests == [(GetRequest("disk.img"), ("10.0.0.11", 40000), "10.0.0.1")]
    protocol.dataReceived(REQUEST)
    assert len(scene.sender.requests) == 1


def test_a_reply_to_a_lost_connection_is_dropped() -> None:
    scene = Scene()
    scene.sender.reply = Deferred()
    protocol, transport = scene.connect()
    protocol.dataReceived(REQUEST)
    protocol.connectionLost()
    scene.sender.reply.callback(GetReply())
    assert not transport.value()
    assert not scene.clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("data", "request_"), [(data, request) for data, request in REQUESTS.items() if isinstance(request, PutRequest)]
)
def test_a_put_gets_the_reply_of_the_uploads(data: bytes, request_: PutRequest) -> None:
    scene = Scene()
    protocol, transport = scene.connect()
    protocol.dataReceived(data)
    assert scene.uploads.requests == [(request_, ("10.0.0.11", 40000), "10.0.0.1")]
    assert frisbeemaster.parse_put_reply(transport.value()) == PutReply(Error.TOO_BIG, most=7)
    assert transport.disconnecting


def test_another_protocol_is_counted_and_closed() -> None:
    scene = Scene()
    protocol, transport = scene.connect()
    protocol.dataReceived(b"GET / HTTP/1.1\r\n")
    assert transport.disconnecting
    (event,) = scene.events
    assert isinstance(event, DatagramsMalformed)
    assert "no message of frisbee's master server" in event.reason
    scene.master.close()


def test_a_connection_without_a_request_is_closed() -> None:
    scene = Scene()
    _, transport = scene.connect()
    scene.clock.advance(CONNECTION_SECONDS)
    assert transport.disconnected


def test_connections_are_bounded_and_closed_with_the_server() -> None:
    scene = Scene()
    transports = [scene.connect()[1] for _ in range(CONNECTIONS)]
    assert scene.master.buildProtocol(PEER) is None
    scene.master.close()
    assert all(transport.disconnected for transport in transports)


def test_clients_that_are_not_served_get_no_connection() -> None:
    assert Scene(Settings(deny=networks(["10.0.0.0/8"]))).master.buildProtocol(PEER) is None
