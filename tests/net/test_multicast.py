"""Images that are sent to many receivers: over a network in memory, and by multicast with a real kernel."""

import errno
import socket
from typing import Any, cast

import pytest
from attrs import define, evolve, field
from frisbeereceiver import FrisbeeReceiver, image_of
from turning import TurnUntil
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import DatagramProtocol

from bootfw.config.settings import MulticastImage, MulticastSettings, Settings
from bootfw.errors import FileMissing
from bootfw.events import Event, ImageSent, PluginFailed, RequestsDropped, TransferRefused
from bootfw.interfaces import IReader
from bootfw.net.admission import Admission
from bootfw.net.linux.interfaces import Interfaces
from bootfw.net.multicast.channel import Channel
from bootfw.net.multicast.sender import ImageSender
from bootfw.net.udp.port import listen
from bootfw.readers import MemoryReader
from bootfw.testing.network import MemoryHost, MemoryNetwork
from bootfw.values import TransferRequest
from bootfw.wire import frisbee
from bootfw.wire.frisbee import Block, Join, Request
from bootfw.wire.frisbeemaster import ANY_METHOD, Error, GetReply, GetRequest, Method

from .namespaces import Host

GROUP, PORT = "239.192.9.9", 3564
SERVER = "10.0.0.1"
SIZE = 1_100_123
BLOCKS = 1075
IMAGE = image_of(SIZE)
ALL = MulticastSettings(methods=("multicast", "unicast", "broadcast"), idle_seconds=60)


class CountingReader(MemoryReader):
    """A reader that counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


@define(eq=False)
class Scene:
    """A sender, its network and its events."""

    settings: MulticastSettings = ALL
    files: dict[str, Any] = field(factory=lambda: {"disk.img": IMAGE})
    network: MemoryNetwork = field(factory=MemoryNetwork)
    server: MemoryHost = field(init=False)
    sender: ImageSender = field(init=False)
    events: list[Event] = field(factory=list, init=False)
    readers: list[CountingReader] = field(factory=list, init=False)
    requests: list[TransferRequest] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.server = self.network.host(SERVER, rich=True)
        admission = Admission(self.server, self.events.append, Settings())
        self.sender = ImageSender(self.server, self.settings, self.open, self.events.append, Interfaces(), admission)

    def open(self, path: str, request: TransferRequest) -> Any:
        """The backends."""
        self.requests.append(request)
        found = self.files.get(path)
        if found is None:
            raise FileMissing()
        if not isinstance(found, bytes):
            return found
        self.readers.append(CountingReader(found))
        return self.readers[-1]

    def serve(self, host: str = SERVER) -> Channel:
        """Listen on the port of a configured image."""
        channel = self.sender.fixed("disk.img", GROUP, PORT)
        self.server.listenUDP(PORT, channel, interface=host).setBroadcastAllowed(True)
        return channel

    def receiver(self, address: str, to: str = SERVER) -> "ReceiverProtocol":
        protocol = ReceiverProtocol(FrisbeeReceiver(address), to)
        self.network.host(address).listenUDP(PORT, protocol, interface=address if to == SERVER else "0.0.0.0")
        return protocol

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]


class ReceiverProtocol(DatagramProtocol):
    """A FrisbeeReceiver on the network."""

    def __init__(self, receiver: FrisbeeReceiver, to: str) -> None:
        self.receiver = receiver
        self._to = to

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.receiver.receive(datagram)
        self.flush()

    def flush(self) -> None:
        out, self.receiver.out = self.receiver.out, []
        for data in out:
            self.send(data)

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data, (self._to, PORT))

    def request_missing(self) -> None:
        """Join, or request the missing blocks."""
        self.receiver.request_missing()
        self.flush()


def receive(scene: Scene, *receivers: ReceiverProtocol) -> None:
    """Run until all receivers have the image."""
    for _ in range(60):
        for each in receivers:
            if each.receiver.image is None:
                each.request_missing()
        scene.network.advance(0.5)
        if all(each.receiver.image is not None for each in receivers):
            return
    raise AssertionError("not received within 30 s")


def test_each_receiver_by_unicast_gets_the_image() -> None:
    scene = Scene()
    scene.serve()
    one, other = scene.receiver("10.0.0.11"), scene.receiver("10.0.0.12")
    receive(scene, one, other)
    assert one.receiver.image == other.receiver.image == IMAGE
    assert one.receiver.repeated == other.receiver.repeated == 0
    assert one.receiver.servers == {SERVER}
    records = scene.sender.records()
    assert [(each["method"], each["address"], each["receivers"]) for each in records] == [
        ("unicast", "10.0.0.11", 1),
        ("unicast", "10.0.0.12", 1),
    ]
    assert {each["sent"] for each in records} == {BLOCKS * 1024}
    assert scene.requests[0] == TransferRequest("disk.img", "disk.img", ("10.0.0.11", PORT), SERVER, protocol="frisbee")


def test_receivers_of_a_broadcast_get_the_same_blocks() -> None:
    scene = Scene()
    scene.serve("0.0.0.0")
    receivers = [scene.receiver(f"10.0.0.{last}", "255.255.255.255") for last in (11, 12, 13)]
    for each in receivers:
        cast(Any, each.transport).setBroadcastAllowed(True)
    receive(scene, *receivers)
    assert {each.receiver.image for each in receivers} == {IMAGE}
    (record,) = scene.sender.records()
    assert (record["method"], record["address"], record["joined"]) == ("broadcast", "255.255.255.255", 3)
    assert record["sent"] < 1.02 * BLOCKS * 1024


def test_a_transmission_ends_when_it_is_idle_and_begins_again() -> None:
    scene = Scene()
    channel = scene.serve()
    one = scene.receiver("10.0.0.11")
    receive(scene, one)
    one.receiver.leave()
    one.flush()
    scene.network.advance(61)
    (event,) = scene.of(ImageSent)
    assert (event.image, event.method, event.destination) == ("disk.img", "unicast", ("10.0.0.11", PORT))
    assert (event.size, event.joined, event.completed, event.blocks_sent, event.blocks_lost) == (SIZE, 1, 1, BLOCKS, 0)
    assert event.detail == ""
    assert not channel.transmissions
    assert [reader.closed for reader in scene.readers] == [1]
    other = scene.receiver("10.0.0.12")
    receive(scene, other)
    assert other.receiver.image == IMAGE


def test_a_receiver_that_joined_before_a_restart_of_the_server_continues() -> None:
    scene = Scene()
    scene.serve()
    one = scene.receiver("10.0.0.11")
    one.send(frisbee.pack(Request("10.0.0.11", 1, 0, 2)))
    scene.network.advance(1)
    assert sorted(one.receiver.blocks) == [(1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("size", "version", "replies"),
    [
        (2**20, 1, [frisbee.JoinReply(SERVER, 1024)]),
        (2**20, 2, [frisbee.Join2Reply(SERVER, 7, 2**20), frisbee.JoinReply(SERVER, 1024)]),
        (2**20 + 1, 2, [frisbee.Join2Reply(SERVER, 7, 2**20 + 1)]),
    ],
)
def test_a_join_of_an_image_of_whole_mib_gets_a_reply_that_emulabs_receiver_takes_in_a_busy_group(
    size: int, version: int, replies: list[frisbee.Packet]
) -> None:
    scene = Scene(files={"disk.img": bytes(size)})
    scene.serve()
    one = scene.receiver("10.0.0.11")
    received: list[frisbee.Packet] = []
    one.datagramReceived = lambda datagram, addr: received.append(frisbee.parse(datagram))  # type: ignore[method-assign]
    one.send(frisbee.pack(Join("10.0.0.11", 7, version)))
    scene.network.advance(1)
    assert received == replies


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frisbee.pack(Join("10.0.0.99", 7, 2)), "the packet says that it is from 10.0.0.99 port 3564"),
        (frisbee.pack(Block("10.0.0.11", 0, 0, bytes(1024))), "another server sends to the group and port"),
        (frisbee.pack(Join("10.0.0.11", 7, 1)), "its JOIN needs an image of whole MiB"),
    ],
)
def test_a_packet_that_gets_no_answer_is_counted_with_the_reason(data: bytes, reason: str) -> None:
    scene = Scene()
    scene.serve()
    one = scene.receiver("10.0.0.11")
    one.send(data)
    scene.network.advance(1)
    (event,) = scene.of(RequestsDropped)
    assert event.service == "multicast"
    assert f"disk.img: {reason}" in event.reason
    assert one.receiver.size is None


def test_a_method_that_is_off_is_not_answered() -> None:
    scene = Scene(MulticastSettings())
    scene.serve()
    scene.receiver("10.0.0.11").request_missing()
    scene.network.advance(1)
    (event,) = scene.of(RequestsDropped)
    assert event.reason == "disk.img: unicast is not one of [multicast] methods"
    assert scene.requests == []


def test_images_beyond_the_limit_are_not_sent() -> None:
    scene = Scene(evolve(ALL, sessions=1))
    scene.serve()
    one, other = scene.receiver("10.0.0.11"), scene.receiver("10.0.0.12")
    one.request_missing()
    scene.network.advance(0.1)
    other.request_missing()
    scene.network.advance(1)
    (event,) = scene.of(RequestsDropped)
    assert "1 images are sent already" in event.reason
    assert other.receiver.size is None


def test_a_missing_file_is_reported_once_a_minute() -> None:
    scene = Scene(files={})
    scene.serve()
    one = scene.receiver("10.0.0.11")
    for _ in range(10):
        one.request_missing()
        scene.network.advance(0.5)
    (event,) = scene.of(TransferRefused)
    assert (event.code, event.request.path) == (1, "disk.img")


def test_a_backend_may_answer_later() -> None:
    opening: Deferred[IReader] = Deferred()
    scene = Scene(files={"disk.img": opening})
    scene.serve()
    one = scene.receiver("10.0.0.11")
    one.request_missing()
    scene.network.advance(1)
    one.request_missing()
    scene.network.advance(1)
    assert len(scene.requests) == 1
    opening.callback(MemoryReader(IMAGE))
    receive(scene, one)
    assert one.receiver.image == IMAGE


def test_a_file_that_is_opened_after_the_end_is_closed() -> None:
    opening: Deferred[IReader] = Deferred()
    scene = Scene(files={"disk.img": opening})
    channel = scene.serve()
    scene.receiver("10.0.0.11").request_missing()
    scene.network.advance(1)
    assert len(scene.requests) == 1
    channel.end("the test ends it")
    reader = CountingReader(IMAGE)
    opening.callback(reader)
    assert (reader.closed, channel.transmissions) == (1, {})


class SlowReader(CountingReader):
    """Answers each read when the test says so."""

    pending: "Deferred[bytes] | None" = None
    cancelled = 0

    def read(self, offset: int, length: int) -> Any:
        assert self.pending is None

        def cancel(_: object) -> None:
            self.cancelled += 1

        self.pending = Deferred(cancel)
        self.pending_range = offset, length
        return self.pending

    def answer(self) -> None:
        pending, self.pending = self.pending, None
        assert pending is not None
        pending.callback(super().read(*self.pending_range))


def test_reads_may_answer_later_and_are_cancelled_at_the_end() -> None:
    reader = SlowReader(IMAGE)
    scene = Scene(files={"disk.img": reader})
    channel = scene.serve()
    one = scene.receiver("10.0.0.11")
    one.request_missing()
    for _ in range(3):
        scene.network.advance(0.1)
        reader.answer()
    scene.network.advance(0.1)
    assert one.receiver.blocks
    assert reader.pending is not None
    channel.end("the server stops")
    assert (reader.cancelled, reader.closed) == (1, 1)
    assert scene.of(ImageSent)[0].detail == "the server stops"


def test_an_unexpected_error_of_a_reader_ends_the_transmission_and_is_reported() -> None:
    class Broken(CountingReader):
        def read(self, offset: int, length: int) -> bytes:
            raise ZeroDivisionError

    reader = Broken(IMAGE)
    scene = Scene(files={"disk.img": reader})
    channel = scene.serve()
    scene.receiver("10.0.0.11").request_missing()
    scene.network.advance(1)
    assert "ZeroDivisionError" in scene.of(PluginFailed)[0].traceback
    assert scene.of(ImageSent)[0].detail == "Internal error"
    assert (reader.closed, channel.transmissions) == (1, {})


def test_a_file_that_became_shorter_ends_the_transmission() -> None:
    class Short(CountingReader):
        def read(self, offset: int, length: int) -> bytes:
            return super().read(offset, length)[:-1]

    scene = Scene(files={"disk.img": Short(IMAGE)})
    scene.serve()
    scene.receiver("10.0.0.11").request_missing()
    scene.network.advance(1)
    assert "before its size" in scene.of(ImageSent)[0].detail


def test_the_total_rate_is_shared_by_the_transmissions() -> None:
    scene = Scene(evolve(ALL, rate=1_000_000, total_rate=1_500_000))
    channel = scene.serve()
    receivers = [scene.receiver(f"10.0.0.{last}") for last in (11, 12, 13)]
    receivers[0].request_missing()
    scene.network.advance(0.1)
    assert [each.session.pace.limit for each in channel.transmissions.values()] == [1_000_000]
    for each in receivers[1:]:
        each.request_missing()
    scene.network.advance(0.1)
    assert [each.session.pace.limit for each in channel.transmissions.values()] == [500_000] * 3
    scene.sender.use(evolve(ALL, rate=1_000_000, total_rate=900_000))
    assert [each.session.pace.limit for each in channel.transmissions.values()] == [300_000] * 3


def test_another_image_of_the_same_port_is_sent_after_a_reload() -> None:
    other_image = image_of(5000)
    scene = Scene(files={"disk.img": IMAGE, "other.img": other_image})
    channel = scene.serve()
    scene.receiver("10.0.0.11").request_missing()
    scene.network.advance(0.1)
    scene.sender.use(evolve(ALL, images=(MulticastImage("disk.img", (GROUP, PORT)),)))
    assert channel.transmissions
    scene.sender.use(evolve(ALL, images=(MulticastImage("other.img", ("239.192.9.8", PORT)),)))
    assert scene.of(ImageSent)[0].detail == "the configuration has changed"
    assert (channel.transmissions, channel.image, channel.group) == ({}, "other.img", "239.192.9.8")
    receiver = scene.receiver("10.0.0.12")
    receive(scene, receiver)
    assert receiver.receiver.image == other_image
    assert reply_to(scene, GetRequest("other.img")).address == "239.192.9.8"


def test_closing_leaves_nothing_behind() -> None:
    scene = Scene()
    channel = scene.serve()
    scene.receiver("10.0.0.11").request_missing()
    scene.network.advance(0.1)
    channel.close()
    scene.sender.close()
    assert [reader.closed for reader in scene.readers] == [1]
    assert not scene.network.clock.getDelayedCalls()


# The replies of the master server.


def reply_to(scene: Scene, request: GetRequest) -> GetReply:
    """The reply to a GET of 10.0.0.11."""
    replies: list[GetReply] = []
    scene.sender.get(request, ("10.0.0.11", 40000), SERVER).addCallback(replies.append)
    (reply,) = replies
    return reply


def test_a_get_opens_a_port_that_is_named_in_later_replies_too() -> None:
    scene = Scene(evolve(ALL, groups="239.192.1.2-239.192.1.3", ports="21700-21701"))
    status = GetRequest("/disk.img", ANY_METHOD, status_only=True)
    assert reply_to(scene, status) == GetReply(method=ANY_METHOD, size=SIZE)
    expected = GetReply(Error.NONE, Method.MULTICAST, True, SERVER, "239.192.1.2", 21700, None, SIZE)
    assert reply_to(scene, GetRequest("/disk.img", ANY_METHOD)) == expected
    assert reply_to(scene, GetRequest("disk.img")) == reply_to(scene, status) == expected
    by_unicast = evolve(expected, method=Method.UNICAST, address=SERVER)
    assert reply_to(scene, GetRequest("disk.img", Method.UNICAST)) == by_unicast
    scene.network.advance(61)
    assert reply_to(scene, status).running is False
    assert all(reader.closed == 1 for reader in scene.readers)


def test_each_image_has_a_group_and_a_port_until_there_are_none() -> None:
    scene = Scene(
        evolve(ALL, groups="239.192.1.2-239.192.1.3", ports="21700-21709"), dict.fromkeys(("a", "b", "c"), IMAGE)
    )
    replies = [reply_to(scene, GetRequest(name)) for name in ("a", "b")]
    assert [(reply.address, reply.port) for reply in replies] == [("239.192.1.2", 21700), ("239.192.1.3", 21701)]
    assert reply_to(scene, GetRequest("c")) == GetReply(Error.TRY_AGAIN)
    scene.network.advance(61)
    assert reply_to(scene, GetRequest("c")).error == Error.NONE


def test_a_port_that_another_program_has_is_skipped() -> None:
    scene = Scene(evolve(ALL, ports="21700-21701"))
    scene.server.listenUDP(21700, DatagramProtocol(), interface="0.0.0.0")
    assert reply_to(scene, GetRequest("disk.img")).port == 21701


def test_a_configured_image_is_answered_with_its_address() -> None:
    scene = Scene()
    scene.serve()
    reply = reply_to(scene, GetRequest("disk.img"))
    assert (reply.address, reply.port, reply.running) == (GROUP, PORT, True)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (GetRequest("none.img"), Error.NO_IMAGE),
        (GetRequest("disk.img", Method.BROADCAST), Error.NO_METHOD),
        (GetRequest("broken.img"), Error.FAILED),
    ],
)
def test_an_image_that_is_not_sent_is_refused_with_the_reason(request_: GetRequest, error: Error) -> None:
    scene = Scene(MulticastSettings())
    assert scene.files
    broken: Deferred[IReader] = Deferred()
    broken.errback(OSError(errno.EIO, "it is broken"))
    scene.files["broken.img"] = broken
    assert reply_to(scene, request_) == GetReply(error)
    broken.addErrback(lambda failure: None)


def test_a_reply_for_unicast_has_the_address_of_the_server() -> None:
    scene = Scene()
    reply = reply_to(scene, GetRequest("disk.img", Method.UNICAST))
    assert (reply.method, reply.address) == (Method.UNICAST, SERVER)


# By multicast, with a real kernel.


def member(host: Host, interface: str, address: str) -> socket.socket:
    """A socket of a host that has joined the group on one of its interfaces."""
    with host.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        index = socket.if_nametoindex(interface)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    mreq = socket.inet_aton(GROUP) + socket.inet_aton(address) + index.to_bytes(4, "little")
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreq)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreq)
    sock.bind(("", PORT))
    return sock


def test_receivers_of_two_networks_get_the_image_by_multicast(
    private_reactor: EPollReactor, turn_until: TurnUntil, hosts: tuple[Host, Host]
) -> None:
    server, client = hosts
    events: list[Event] = []
    settings = MulticastSettings(rate=20_000_000)
    admission = Admission(private_reactor, events.append, Settings())
    sender = ImageSender(
        private_reactor, settings, lambda path, request: MemoryReader(IMAGE), events.append, Interfaces(), admission
    )
    with server.inside():
        port = listen(private_reactor, sender.fixed("disk.img", GROUP, PORT), "0.0.0.0", PORT)
        receivers = [
            (FrisbeeReceiver(address), member(client, interface, address))
            for interface, address in (("c0", "10.9.0.9"), ("c1", "10.9.1.9"))
        ]

        def all_received() -> bool:
            for receiver, sock in receivers:
                idle = True
                while True:
                    try:
                        receiver.receive(sock.recv(2048))
                    except BlockingIOError:
                        break
                    idle = False
                if idle and receiver.image is None and private_reactor.seconds() >= next_request[0]:
                    receiver.request_missing()
                    next_request[0] = private_reactor.seconds() + 0.1
                out, receiver.out = receiver.out, []
                for data in out:
                    sock.sendto(data, (GROUP, PORT))
            return all(receiver.image is not None for receiver, _ in receivers)

        next_request = [0.0]
        try:
            turn_until(all_received)
            records = sender.records()
        finally:
            sender.close()
            turn_until(lambda: port.stopListening().called)
            for _, sock in receivers:
                sock.close()
    assert [receiver.image for receiver, _ in receivers] == [IMAGE, IMAGE]
    assert [receiver.servers for receiver, _ in receivers] == [{"10.9.0.1"}, {"10.9.1.1"}]
    assert [(each["method"], each["address"], each["joined"]) for each in records] == [("multicast", GROUP, 1)] * 2
