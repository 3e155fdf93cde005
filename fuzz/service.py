"""Targets: the whole service on virtual time, its HTTP connections, and its control socket."""

import json
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import firmware
from attrs import define, field
from net.webclient import Dated, Web, Wire
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.memory import MemoryBackend
from bootfw.config.settings import DHCP6Settings, DHCPSettings, Settings, TFTPSettings
from bootfw.dhcp.subnet import Subnet
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.errors import BootRefused, StateError, WireError
from bootfw.events import Event, TransferBegun, TransferEnded
from bootfw.interfaces import IBootFileResolver, IBootObserver
from bootfw.lease import Lease
from bootfw.net.control import ControlFactory
from bootfw.net.dhcp.duid import own_duid
from bootfw.net.http import site
from bootfw.net.linux.netlink import Link, LinkAddress, Netlink
from bootfw.resolvers.by_architecture import ByArchitecture
from bootfw.resolvers.loop_breaker import LoopBreaker
from bootfw.resolvers.next_boot import NextBoot
from bootfw.resolvers.pxe_menu import PXEMenu
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.testing import FakePeer, MemoryNetwork, Received
from bootfw.testing.network import MemoryHost
from bootfw.testing.port import BROADCAST
from bootfw.values import BootFile, BootRequest
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.web import WebSite
from bootfw.wire import dhcp4, dhcp6, tftp
from fuzz import packets
from fuzz.target import Target, scratch

SERVER, SERVER6 = "10.77.0.1", "fd77::1"

_GROUP = dhcp6.ALL_AGENTS
_MOST_TIMERS = 100
_PATIENCE = 2000.0
"""Seconds after the last packet in which every transfer and every other wait ends."""


@contextmanager
def _assert_no_bug_is_logged() -> Iterator[None]:
    """What is raised and caught on the way is logged as a failure; here it is raised."""
    failures: list[Any] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "log_failure" in event or event.get("log_level") is LogLevel.critical:
            failures.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
    if failures:
        failure = failures[0].get("log_failure")
        raise AssertionError(f"logged: {failures[0].get('log_format')}") from (failure.value if failure else None)


@implementer(IBootObserver)
@define(eq=False)
class _Transfers:
    """How many have begun and not ended."""

    running: int = 0

    def observe(self, event: Event) -> None:
        if isinstance(event, TransferBegun):
            self.running += 1
        elif isinstance(event, TransferEnded):
            self.running -= 1


# The service


class _Kernel(Netlink):
    """What the kernel says of the interfaces and neighbours of the server, on every machine the same."""

    def refresh(self) -> int:
        return 1

    def links(self) -> Mapping[int, Link]:
        return {MemoryHost.interface: Link(MemoryHost.interface, "eth0", 1500, 1, b"RT\0\0\0\xff")}

    def addresses(self) -> Sequence[LinkAddress]:
        return _ADDRESSES

    def hardware_address(self, peer: Any) -> str:
        return ""

    def set_neighbour(self, address: str, hardware: bytes, interface: int) -> bool:
        return False


_ADDRESSES = (
    LinkAddress(MemoryHost.interface, socket.AF_INET, SERVER, 24, 0, 0),
    LinkAddress(MemoryHost.interface, socket.AF_INET6, SERVER6, 64, 0, 0),
)


@define(eq=False)
class _Client:
    """A machine with the ports that its firmware sends from."""

    address: str
    address6: str
    mac: bytes
    host: MemoryHost
    ports: dict[str, FakePeer] = field(factory=dict)
    sent: int = 0
    """Bytes to TFTP."""
    proven: bool = False
    """It has sent more than requests to TFTP, such as an ACK."""
    last: bytes = b""
    """The latest packet."""

    def port(self, kind: str) -> FakePeer:
        """One of its ports, opened when it is used first."""
        if kind not in self.ports:
            number, interface = {
                "dhcp": (68, ""),
                "boot-server": (4011, ""),
                "dhcp6": (546, "::"),
                "boot-server6": (4011, "::"),
            }.get(kind, (0, self.address))
            self.ports[kind] = FakePeer(self.host, number, interface)
        return self.ports[kind]


_KINDS: Mapping[str, tuple[str, int]] = {
    "dhcp": (BROADCAST, 67),
    "boot-server": (SERVER, 4011),
    "dhcp6": (_GROUP, 547),
    "boot-server6": (SERVER6, 4011),
    "tftp": (SERVER, 69),
}
_DELAYS = (0.0, 0.0005, 0.01, 0.3, 1.0, 4.0, 20.0, 130.0)
_TFTP = tuple(packets.tftp_requests())
_DHCP = tuple(packets.dhcp4_requests())
_DHCP6 = tuple(packets.dhcp6_requests(own_duid()))
_POOL6 = socket.inet_pton(socket.AF_INET6, "fd77::1000")[:15]
_RELAY = socket.inet_aton("10.0.0.2")
_SERVER_ID = b"\x36\4" + socket.inet_aton(SERVER)
_SEEDS = {"dhcp": _DHCP, "boot-server": _DHCP, "dhcp6": _DHCP6, "boot-server6": _DHCP6, "tftp": _TFTP}


_COMMITTED_AFTER = 0.5
"""Seconds that a slow store takes."""
_FAILS_EACH = 3
"""So many of its commits, and one of them fails."""


@define(eq=False)
class _SlowStore(MemoryStore):
    """A disk that is slow, and full now and then."""

    clock: Clock
    commits: int = 0

    def commit(self, leases: Sequence[Lease]) -> "Deferred[Any]":
        self.commits += 1
        deferred: Deferred[Any] = Deferred()
        if self.commits % _FAILS_EACH:
            super().commit(leases)
            self.clock.callLater(_COMMITTED_AFTER, deferred.callback, None)
        else:
            self.clock.callLater(_COMMITTED_AFTER, deferred.errback, StateError("the disk is full"))
        return deferred


@implementer(IBootFileResolver)
@define(eq=False)
class _SlowResolver:
    """One that looks machines up elsewhere: the first is unknown, the others get a file, no answer, or a refusal."""

    clock: Clock

    def resolve(self, request: BootRequest) -> "Deferred[BootFile | None]":
        answer: Deferred[BootFile | None] = Deferred()
        machine = int(request.mac[-1:] or "0", 16) % 4
        if machine == 0:
            self.clock.callLater(0.1, answer.callback, None)
        elif machine == 1:
            self.clock.callLater(0.3, answer.callback, BootFile("x.efi"))
        elif machine == 3:
            self.clock.callLater(0.01, answer.errback, BootRefused("it is not known"))
        return answer


class _Network:
    """A service that does all that it can do without TCP, and clients around it.

    :param slow: its store and a resolver take their time.
    """

    def __init__(self, ports: str, mode: str, slow: bool = False) -> None:
        self.network = MemoryNetwork(link=self._link)
        clock = self.network.clock
        self.store = _SlowStore(clock) if slow else MemoryStore()
        self.transfers = _Transfers()
        self.dhcp_room = 0
        """Bytes that DHCP and DHCPv6 may still send for what they have received."""
        self.sent_to: dict[str, int] = {}
        """Bytes of TFTP to each address."""
        server = self.network.host(SERVER, SERVER6, _GROUP, name="server", rich=True)
        subnet = Subnet(network="10.77.0.0/24", pool=["10.77.0.100-10.77.0.103"])
        subnet6 = Subnet6(network="fd77::/64", pool=["fd77::1000-fd77::1003"])
        names: dict[str, Any] = {
            "ipxe": "boot/loader",
            "x86-bios": "boot/loader",
            "x86_64-uefi": "x.efi",
            "unknown": "{mac}",
        }
        self.service = BootService(
            server,
            settings=Settings(
                tftp=TFTPSettings(ports=ports, writable=True),
                dhcp=DHCPSettings(mode=mode, subnets=(subnet,) if mode == "server" else (), probe_seconds=0.0),
                dhcp6=DHCP6Settings(mode=mode, subnets=(subnet6,) if mode == "server" else ()),
            ),
            backends=[MemoryBackend({}, writable=True), DirectoryBackend(_files())],
            resolvers=[
                *([_SlowResolver(clock)] if slow else []),
                NextBoot(self.store),
                LoopBreaker(2, 300.0, 60.0, server, self.store),
                PXEMenu([{"description": "Install", "file": "boot/loader"}, {"description": "Disk"}]),
                ByArchitecture(names),
            ],
            watchdog=Adaptive(),  # the default one is looked up among the plugins, which takes 20 ms
            observers=[self.transfers],
            store=self.store,
            attempts=self.store,
        )
        self.service._kernel.__class__ = _Kernel
        self.clients = [
            _Client(
                f"10.77.0.{9 + number}",
                f"fe80::5054:ff:fe00:{number}",
                b"RT\0\0\0" + bytes((number,)),
                self._host(number),
            )
            for number in range(4)
        ]

    def _host(self, number: int) -> MemoryHost:
        return self.network.host(f"10.77.0.{9 + number}", f"fe80::5054:ff:fe00:{number}")

    def _link(self, data: bytes, source: Any, destination: Any) -> list[float]:
        if source[0] in (SERVER, SERVER6, _GROUP):
            if source[1] in (67, 547, 4011):
                self.dhcp_room -= len(data)
            else:
                self.sent_to[destination[0]] = self.sent_to.get(destination[0], 0) + len(data)
        return [0.001]

    def send(self, client: _Client, kind: str, data: bytes, port: int | None = None) -> None:
        """Send a packet of a client to the service."""
        host, default_port = _KINDS[kind]
        if kind == "dhcp" and data[12:16].strip(b"\0"):
            host = SERVER  # a client with an address sends from it
        client.last = data
        client.port(kind).send(data, (host, default_port if port is None else port))
        if kind == "tftp":
            client.sent += len(data)
            client.proven |= data[:2] not in (b"\0\1", b"\0\2")
        elif kind in ("dhcp", "boot-server"):
            self.dhcp_room += max(dhcp4.REPLY_RATIO * len(data), dhcp4.MINIMUM_SIZE)
        else:
            self.dhcp_room += dhcp6.LARGEST  # all clients here are link-local

    def check(self) -> None:
        """Check the bytes sent to addresses that have proven nothing, and that the number of timers is bounded."""
        assert self.dhcp_room >= 0, "DHCP has sent more than three times the bytes of its requests"
        for client in self.clients:
            sent = self.sent_to.get(client.address, 0)
            assert client.proven or sent <= 52 * client.sent, f"{sent} bytes for {client.sent}"
        assert len(self.network.clock.getDelayedCalls()) <= _MOST_TIMERS
        assert self.transfers.running >= 0

    def stop(self) -> None:
        """Let all waits end, stop the service, and look for what it leaves behind."""
        self.network.advance(_PATIENCE)
        self.check()
        assert self.transfers.running == 0, "a transfer does not end"
        self.network.result_of(self.service.stopService())
        for client in self.clients:
            for peer in client.ports.values():
                peer.close()
        self.network.advance(0)
        assert self.network.leaks() == []


def service(data: bytes) -> None:
    """Whatever clients send, and when: no bug is logged, replies have the bounds of docs/security.md, and all ends."""
    mode_bits = data[0] if data else 0
    with _assert_no_bug_is_logged():
        testbed = _Network(
            "ephemeral" if mode_bits & 1 else "single", "proxy" if mode_bits & 2 else "server", bool(mode_bits & 4)
        )
        testbed.service.startService()
        testbed.network.advance(1)
        try:
            for step in _steps(data[1:]):
                step(testbed)
                testbed.check()
        finally:
            testbed.stop()


@cache
def _files() -> Path:
    """The directory that is served."""
    root = scratch() / "served"
    (root / "boot").mkdir(parents=True)
    for name, data in (
        *(("boot/loader", b"loader\r\n" * 5000), ("empty", b""), ("block", bytes(1024))),
        *(("x.efi", b"MZ" + bytes(3000)), ("large", bytes(200_000))),
    ):
        (root / name).write_bytes(data)
    return root


Step = Callable[[_Network], None]


def _steps(data: bytes) -> Iterator[Step]:
    """Decode steps of four bytes: the kind of step, the client and the delay after it, and two parameters."""
    for position in range(0, min(len(data) - 3, 4 * 64), 4):
        operation, client_and_delay, first, second = data[position : position + 4]
        yield lambda testbed, operation=operation, client_and_delay=client_and_delay, first=first, second=second: _step(
            testbed, operation, client_and_delay, first, second
        )  # type: ignore[misc]


def _step(testbed: _Network, operation: int, client_and_delay: int, first: int, second: int) -> None:
    client = testbed.clients[client_and_delay & 3]
    kinds = (*_SEEDS, "tftp", "dhcp", "tftp")
    kind = kinds[operation & 7]
    change = operation >> 3
    seeds = _SEEDS[kind]
    if change < 12:  # what a real client sends
        testbed.send(client, kind, _as_client(kind, seeds[first % len(seeds)], client, second))
    elif change < 18:  # the same with one byte changed, or cut
        packet = bytearray(_as_client(kind, seeds[first % len(seeds)], client, 0))
        position = second * len(packet) // 256
        packet[position] ^= 1 << (client_and_delay >> 5)
        testbed.send(client, kind, bytes(packet) if change < 15 else bytes(packet[:position]))
    elif change < 20:
        testbed.send(client, kind, client.last)
    elif change < 28:
        _answer(testbed, client, first, second)
    elif change < 30:
        testbed.send(client, "tftp", struct.pack("!HBB", first % 8, second >> 4, second & 15) + bytes(second * 4))
    else:
        testbed.send(client, kind, bytes((first, second)) * (1 + client_and_delay % 16))
    testbed.network.advance(_DELAYS[client_and_delay >> 2 & 7])


def _as_client(kind: str, data: bytes, client: _Client, number: int) -> bytes:
    """A packet of the seeds as this client sends it.

    :param number: makes the transaction, the address and the name of the file differ. The address is mostly the one of
        the latest reply.
    """
    if kind in ("dhcp", "boot-server"):
        address = _address_of(client.port("dhcp"), number) or bytes((10, 77, 0, 100 + number % 4))
        data = data.replace(b"\x32\4\x0a\0\0\x0a", b"\x32\4" + address).replace(b"\x36\4\x0a\0\0\1", _SERVER_ID)
        if data[12:16] != bytes(4):
            data = data[:12] + address + data[16:]
        if data[24:28] == _RELAY:
            data = data[:24] + socket.inet_aton(client.address) + data[28:]
        data = data.replace(firmware.MAC, client.mac)
        return data[:4] + bytes((0, 0, 1, number)) + data[8:]
    if kind in ("dhcp6", "boot-server6"):
        address = _address6_of(client.port("dhcp6"), number)
        address = address or socket.inet_pton(socket.AF_INET6, f"fd77::100{number % 4}")
        return data.replace(firmware.MAC, client.mac).replace(socket.inet_pton(socket.AF_INET6, "fd77::1000"), address)
    names = (b"boot/loader", b"empty", b"block", b"x.efi", b"new", b"../a", b"large")
    return data.replace(b"boot/loader", names[number % len(names)])


def _address_of(port: FakePeer, number: int) -> bytes:
    """The address in the latest reply; b"": there is none, or another one is wanted."""
    reply = port.received[-1].data if port.received and number % 4 else b""
    return reply[16:20].strip(b"\0") and reply[16:20]


def _address6_of(port: FakePeer, number: int) -> bytes:
    reply = port.received[-1].data if port.received and number % 4 else b""
    position = reply.find(_POOL6)
    return reply[position : position + 16] if position >= 0 else b""


def _answer(testbed: _Network, client: _Client, first: int, second: int) -> None:
    """Reply to the latest TFTP packet that the client has got: an ACK, a DATA or an ERROR."""
    received: list[Received] = client.port("tftp").received
    if not received:
        return
    port, block = received[-1].peer[1], 0
    try:
        packet = tftp.parse(received[-1].data)
    except WireError:
        return
    if isinstance(packet, tftp.Data | tftp.Ack):
        block = packet.block
    testbed.send(
        client,
        "tftp",
        (
            *(tftp.ack(block), tftp.ack(block), tftp.ack(block), tftp.ack((block + second) & 0xFFFF)),
            *(tftp.data((block + 1) & 0xFFFF, bytes(512)), tftp.data((block + 1) & 0xFFFF, bytes(second))),
            *(tftp.data((block - second) & 0xFFFF, bytes(first)), tftp.error(second % 9, "no")),
        )[first % 8],
        port,
    )


def _life(kind: int, discover: int, leased: Sequence[int]) -> Iterator[int]:
    """A client takes an address again and again, and does one other thing with it each time."""
    for number in leased:
        for packet in (discover, leased[0], number):
            yield from (kind, 0b1000, packet, 1)


def _boots() -> Iterator[bytes]:
    """Whole boots as the steps above spell them: an address, the boot server, a file with its ACKs, an upload."""
    acks = bytes((20 << 3, 0b100, 0, 0)) * 40
    for mode_bits in (0, 1, 2, 3, 4, 6):
        boot = bytearray((mode_bits,))
        for client in range(4):
            discover = packets.AFTER_LEASES + 3 * client
            boot += bytes((0, client | 0b100, discover, 1)) + bytes((0, client | 0b100, discover + 2, 1))
            boot += bytes((0, client | 0b1100, discover + 1, 1))
            boot += bytes((1, client | 0b100, 2 * client, 1)) + bytes((2, client | 0b100, client, 1))
        yield bytes(boot)
        yield bytes((mode_bits, *_life(0, packets.AFTER_LEASES, packets.LEASED))) + bytes(_life(2, 0, packets.LEASED6))
        yield bytes((mode_bits, 4, 0b100, 8, 0)) + acks
        yield bytes((mode_bits, 4, 0b100, 16, 2, *acks[:80]))
        yield bytes((mode_bits, 4, 0b100, 24, 4)) + bytes((20 << 3, 0b100, 4, 0)) * 3 + bytes((20 << 3, 0b100, 5, 9))
        yield bytes((mode_bits, 3, 0b100, 1, 0, 2, 0b101, 3, 0, 19 << 3 | 4, 0b11100, 0, 0))


# HTTP

_FILE = b"0123456789" * 300
_SITE: Any = site
"""Where the parser of the fast path is looked up."""


def http(data: bytes) -> None:
    """Whatever comes, in whatever pieces: no bug is logged, it ends, and the fast path of HTTP answers alike."""
    with _assert_no_bug_is_logged():
        fast = _answered(data)
        fast_path, _SITE.parse = _SITE.parse, lambda *arguments: None
        try:
            plain = _answered(data)
        finally:
            _SITE.parse = fast_path
    assert fast == plain


def _answered(data: bytes) -> tuple[bytes, list[str], bool]:
    """What comes back, the events, and whether the connection was closed."""
    web = Web(lambda: Dated(_FILE, size=len(_FILE)))
    wire = web.connect()
    for chunk in data.split(b"\0\0"):
        if not wire.disconnecting and not wire.gone:
            wire.protocol.dataReceived(chunk)
        for _ in range(3):
            wire.take()
    received, closed = re.sub(rb"Date: [^\r]*", b"Date: now", wire.value()), wire.disconnecting or wire.aborted
    assert received[:5] in (b"", b"HTTP/")
    web.clock.advance(200)
    web.clock.advance(200)
    if not wire.gone:
        wire.lose(ConnectionDone())
    assert web.clock.getDelayedCalls() == []
    return received, [*map(str, web.events)], closed


def _requests() -> Iterator[bytes]:
    yield b"GET /boot/vmlinuz HTTP/1.1\r\nHost: 10.9.0.1:8069\r\nUser-Agent: iPXE\r\nConnection: keep-alive\r\n\r\n" * 2
    yield b"HEAD /a.efi HTTP/1.1\r\nHost: 10.9.0.1\r\nAccept: */*\r\nUser-Agent: UefiHttpBoot/1.0\r\n\r\n"
    yield b"GET /preseed.cfg HTTP/1.0\r\nHost: 10.9.0.1\r\nConnection: close\r\nRange: bytes=5-20\r\n\r\n"
    yield b'GET /a HTTP/1.1\r\nRange: bytes=-9\r\nIf-Range: "x"\r\n\r\n\0\0GET /a b HTTP/1.1\r\nRange: bytes=1-\r\n\r\n'
    yield b'GET /a HTTP/1.1\r\nIf-None-Match: W/"1", *\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n'
    yield b'GET /a HTTP/1.1\r\nIf-Match: "1"\r\nIf-Unmodified-Since: Sun Nov  6 08:49:36 1994\r\n\r\n'
    yield b"POST /bootfw/up?mac=52-54-00-12-34-56 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"
    yield b"GET /bootfw/up?mac=525400123456 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    yield b"GET http://10.9.0.1/%41%zz/../b\xff HTTP/1.1\r\nExpect: 100-continue\r\nX: y\r\n z\r\n\r\n"


# The operator's pages

_TOKEN = "0123456789abcdef"


def web(data: bytes) -> None:
    """Whatever a browser sends to the operator's pages, with and without the token: no bug is logged, and it ends."""
    testbed = _Network("single", "server")
    testbed.service.startService()
    testbed.network.advance(1)
    pages = WebSite(testbed.network.clock, testbed.service, token=_TOKEN)
    try:
        with _assert_no_bug_is_logged():
            connection = pages.buildProtocol(IPv4Address("TCP", "127.0.0.1", 40000))
            wire = Wire(testbed.network.clock, connection)
            connection.makeConnection(wire)
            for chunk in data.split(b"\0\0"):
                if not wire.disconnecting and not wire.gone:
                    connection.dataReceived(chunk)
                testbed.network.advance(0.1)
                wire.take()
            assert wire.value()[:5] in (b"", b"HTTP/")
            assert b"HTTP/1.1 500" not in wire.value()
            testbed.network.advance(400)
            if not wire.gone:
                wire.lose(ConnectionDone())
            pages.close()
    finally:
        testbed.stop()


def _page_requests() -> Iterator[bytes]:
    head = b" HTTP/1.1\r\nHost: 127.0.0.1:8067\r\n"
    for target in (
        *(b"/", b"/app.js", b"/healthz", b"/readyz", b"/metrics", b"/api", b"/api/status", b"/api/throughput", b"/%zz"),
        b"/api/boots?machine=52:54:00:12:34:56&verdict=failed&since=5&before=7.5&limit=2",
        b"/api/leases?who=a&state=active&network=10.0.0.0/8&limit=5",
        *(b"/api/machines/52:54:00:12:34:56", b"/api/events", b"/machine/52:54:00:12:34:56"),
    ):
        yield b"GET " + target + head + b"\r\n"
    token = b"Authorization: Bearer " + _TOKEN.encode() + b"\r\nContent-Type: application/json\r\n"
    for target, body in (
        (b"/api/order", b'{"mac": "52:54:00:12:34:56", "file": "boot/loader"}'),
        (b"/api/cancel", b'{"mac": "52:54:00:12:34:56"}'),
        (b"/api/release", b'{"address": "10.77.0.100"}'),
    ):
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        yield b"POST " + target + head + token + length + body
        yield b"POST " + target + head + b"Origin: http://other\r\n" + token + length + body


# The control socket


def control(data: bytes) -> None:
    """Whatever an operator's program sends, it gets records or an error in words, and no bug is logged."""
    with _assert_no_bug_is_logged():
        testbed = _Network("single", "server")
        testbed.service.startService()
        testbed.network.advance(1)
        testbed.send(testbed.clients[0], "dhcp", _as_client("dhcp", _DHCP[0], testbed.clients[0], 1))
        testbed.send(testbed.clients[0], "dhcp", _as_client("dhcp", _DHCP[2], testbed.clients[0], 1))
        testbed.network.advance(1)
        factory = ControlFactory(testbed.service.operations())
        try:
            for line in data.split(b"\n")[:8]:
                transport = StringTransport()
                protocol: Any = factory.buildProtocol(None)
                protocol.makeConnection(transport)
                protocol.dataReceived(line + b"\n")
                testbed.network.advance(1)
                while transport.producer is not None:
                    transport.producer.resumeProducing()
                *_, result = (json.loads(each) for each in transport.value().splitlines())
                assert result.keys() <= {"done", "error"}, result
                assert transport.disconnecting
                protocol.connectionLost(Failure(ConnectionDone()))
        finally:
            testbed.stop()


def _lines() -> Iterator[bytes]:
    mac = firmware.MAC_TEXT
    for name, arguments in (
        ("leases", {"who": mac, "state": "active", "network": "10.77.0.0/24"}),
        ("release", {"address": "10.77.0.100"}),
        ("reservations", {}),
        ("reserve", {"address": "10.77.0.50", "mac": mac, "hostname": "n", "options": {"67": "00"}, "client_id": ""}),
        ("unreserve", {"who": "10.77.0.50"}),
        ("next", {}),
        ("order", {"mac": mac, "file": "boot/loader"}),
        ("cancel", {"mac": mac}),
        ("looping", {}),
        ("forgive", {"mac": mac}),
        ("boots", {"machine": mac, "verdict": "booted", "since": 0, "before": 9e9, "limit": 5}),
        ("boot", {"id": "1"}),
    ):
        yield json.dumps({"do": name, "with": arguments}).encode()
    yield b'{"do": "order", "with": {"mac": "52:54:00:12:34:56", "file": "x"}}\n{"do": "next"}\n{"do": "nothing"}\n[]'


TARGETS = (
    Target("service", service, _boots, 257),
    Target("http", http, _requests, 2000),
    Target("web", web, _page_requests, 2000),
    Target("control", control, _lines, 1500),
)
