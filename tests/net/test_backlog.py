"""Requests that have waited in the socket's buffer, while the server was busy, until their clients no longer wait: they
are dropped."""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import firmware
import pytest
from attrs import define, evolve
from dhcpports import boot_server6_port, boot_server_port, proxy6_port, proxy_port, server_port
from firmware6 import OVMF
from leasing import pool
from tftpserver import Files
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock

from bootfw.boot.resolverchain import ResolverChain
from bootfw.config.settings import Settings
from bootfw.dhcp.server import AddressServer
from bootfw.events import Event, RequestsDropped, StaleRequestsDropped
from bootfw.net.admission import Admission
from bootfw.net.backlog import RELAY_ALONE, Backlog, RequestKind
from bootfw.net.dhcp.ipv4 import IPv4
from bootfw.net.dhcp.ipv6 import IPv6
from bootfw.net.dhcp.journal import Journal
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.udp import mmsg
from bootfw.net.udp.mmsg import BATCH
from bootfw.net.udp.packetinfo import UNKNOWN_VIA
from bootfw.net.udp.port import DatagramPort
from bootfw.observe.log import LogObserver
from bootfw.stores.memory import MemoryStore
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.values import Address, Via
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import dhcp6, tftp
from bootfw.wire.dhcp4 import pack

from .byhand import UnusedReactor, read
from .bypersona import ByPersona
from .recorders import Batches

SERVER, SERVER6 = "10.77.0.1", "fd77::1"
DUID = b"\0\3\0\1RT\0\0\0\1"
FILE = bytes(2000)

_BoundProtocol = tuple[Any, int, str]
"""A protocol, its port and its address."""
_MakeProtocol = Callable[[Any, ResolverChain, Callable[[Event], None]], _BoundProtocol]
"""Called with a host, a resolver chain, and the function that publishes events."""


def proxy(host: Any, chain: ResolverChain, publish: Callable[[Event], None]) -> _BoundProtocol:
    return proxy_port(host, chain, publish, server=SERVER), 67, SERVER


def boot_server(host: Any, chain: ResolverChain, publish: Callable[[Event], None]) -> _BoundProtocol:
    return boot_server_port(host, chain, publish, server=SERVER), 4011, SERVER


def server(host: Any, chain: ResolverChain, publish: Callable[[Event], None]) -> _BoundProtocol:
    addresses = AddressServer([pool(100)])
    journal = Journal(MemoryStore(), publish, host)
    return server_port(host, chain, publish, addresses, journal, server=SERVER), 67, SERVER


def proxy6(host: Any, chain: ResolverChain, publish: Callable[[Event], None]) -> _BoundProtocol:
    return proxy6_port(host, chain, publish, DUID, server=SERVER6), 547, SERVER6


def boot_server6(host: Any, chain: ResolverChain, publish: Callable[[Event], None]) -> _BoundProtocol:
    return boot_server6_port(host, chain, publish, DUID, server=SERVER6), 4011, SERVER6


def files(host: Any, chain: ResolverChain, publish: Callable[[Event], None]) -> _BoundProtocol:
    return TFTPProtocol(host, Files({"file": FILE}), Adaptive(), publish), 69, SERVER


def discover(number: int) -> bytes:
    return pack(evolve(firmware.BIOS_ROM.message(), chaddr=b"\2\0\0\0" + number.to_bytes(2, "big")), 1472)


def boot_request(number: int) -> bytes:
    return firmware.OVMF.changed({53: b"\3"}).datagram()


def inform(number: int) -> bytes:
    return firmware.DHCLIENT.changed({53: b"\x08"}).datagram()


def solicit(number: int) -> bytes:
    return dhcp6.pack(OVMF.message())


def request6(number: int) -> bytes:
    return dhcp6.pack(OVMF.message(dhcp6.MessageType.REQUEST))


def read_request(number: int) -> bytes:
    return tftp.request(False, "file", "octet")


def missing(number: int) -> bytes:
    return tftp.request(False, "missing", "octet")


@define(eq=False)
class Lab:
    """A protocol on a host that can be busy, and a client."""

    network: MemoryNetwork
    events: list[Event]
    host: Any
    client: FakePeer
    destination: tuple[str, int]
    protocol: Any
    received: list[Any]
    """The datagrams that the protocol has received."""

    def send_and_wait(self, make_request: Callable[[int], bytes], seconds: float, count: int = BATCH) -> None:
        """Send *count* requests, which then wait for so many *seconds* in the socket's buffer."""
        for number in range(count):
            self.client.send(make_request(number), self.destination)
        self.host.busy_until = self.network.clock.seconds() + self.network.delay + seconds
        self.network.advance(seconds + 3 * self.network.delay)

    @property
    def dropped(self) -> list[StaleRequestsDropped]:
        return [event for event in self.events if isinstance(event, StaleRequestsDropped)]


@pytest.fixture
def start_lab() -> Iterator[Callable[[_MakeProtocol], Lab]]:
    """Starts a protocol."""
    labs: list[Lab] = []

    def start(make_protocol: _MakeProtocol) -> Lab:
        network, events = MemoryNetwork(), list[Event]()
        host = network.host(SERVER, SERVER6, rich=True)
        chain = ResolverChain(host, [("by-persona", ByPersona({"uefi": "a", "pxe-bios": "b"}))], events.append, 0.8)
        protocol, port, address = make_protocol(host, chain, events.append)
        deliver, received = protocol.datagrams_received, list[Any]()

        def datagrams_received(batch: Any) -> None:
            received.extend(batch)
            deliver(batch)

        protocol.datagrams_received = datagrams_received
        host.listenUDP(port, protocol, interface=address)
        client_host = network.host("10.77.0.9", "fd77::9")
        client = FakePeer(client_host, 1068, interface="fd77::9" if ":" in address else "")
        labs.append(Lab(network, events, host, client, (address, port), protocol, received))
        return labs[-1]

    yield start
    for each in labs:
        each.protocol.close()


@define(eq=False)
class BacklogLab:
    """A Backlog on a clock, and its events."""

    backlog: Backlog
    clock: Clock
    events: list[Event]

    def trim(self, waited: float) -> int:
        """1 if a request that has *waited* so long is kept, else 0. It is trimmed 0.1 s after the last one."""
        self.clock.advance(0.1)
        return len(self.backlog.trim(arrivals(1, "10.0.0.9"), waited))


KINDS = [
    pytest.param(proxy, discover, "DISCOVER", 1.0, id="DISCOVER to the proxy"),
    pytest.param(server, discover, "DISCOVER", 1.0, id="DISCOVER to the server"),
    pytest.param(server, inform, "other", 2.0, id="INFORM"),
    pytest.param(boot_server, boot_request, "boot-server", 1.0, id="port 4011"),
    pytest.param(proxy6, solicit, "SOLICIT", 1.0, id="SOLICIT"),
    pytest.param(proxy6, request6, "other", 2.0, id="DHCPv6 REQUEST"),
    pytest.param(boot_server6, request6, "boot-server", 1.0, id="port 4011 of IPv6"),
    pytest.param(files, read_request, "file", 2.0, id="TFTP"),
    pytest.param(files, missing, "file", 2.0, id="TFTP, a missing file"),
]


@pytest.mark.parametrize(("make_protocol", "make_request", "kind", "patience"), KINDS)
def test_request_older_than_the_timeout_of_its_client_is_dropped(
    start_lab: Callable[[_MakeProtocol], Lab],
    make_protocol: _MakeProtocol,
    make_request: Callable[[int], bytes],
    kind: str,
    patience: float,
) -> None:
    lab = start_lab(make_protocol)
    lab.send_and_wait(make_request, patience + 0.1)

    assert lab.client.take() == []
    assert lab.received == []
    [event] = lab.dropped
    assert event.dropped == ((kind, BATCH),)
    assert event.waited == pytest.approx(patience + 0.1)


@pytest.mark.parametrize(("make_protocol", "make_request", "kind", "patience"), KINDS)
def test_request_within_the_timeout_of_its_client_is_read(
    start_lab: Callable[[_MakeProtocol], Lab],
    make_protocol: _MakeProtocol,
    make_request: Callable[[int], bytes],
    kind: str,
    patience: float,
) -> None:
    lab = start_lab(make_protocol)
    lab.send_and_wait(make_request, patience - 0.1)

    assert lab.dropped == []
    assert len(lab.received) == BATCH


def test_requests_behind_stale_ones_are_answered(start_lab: Callable[[_MakeProtocol], Lab]) -> None:
    lab = start_lab(files)
    for _ in range(BATCH):
        lab.client.send(missing(0), lab.destination)
    lab.host.busy_until = lab.network.clock.seconds() + 4.0
    lab.network.advance(3.0)
    for _ in range(3):
        lab.client.send(missing(0), lab.destination)
    lab.network.advance(2.0)

    assert len(lab.client.take()) == 3
    assert [event.dropped for event in lab.dropped] == [(("file", BATCH),)]


def test_partial_batch_is_not_a_backlog(start_lab: Callable[[_MakeProtocol], Lab]) -> None:
    lab = start_lab(files)
    lab.send_and_wait(missing, 60.0, BATCH - 1)

    assert len(lab.client.take()) == BATCH - 1
    assert lab.dropped == []


def test_acks_are_never_dropped(start_lab: Callable[[_MakeProtocol], Lab]) -> None:
    lab = start_lab(files)
    lab.client.send(read_request(0), lab.destination)
    lab.network.advance(0.01)
    assert lab.client.take()
    lab.send_and_wait(lambda number: tftp.ack(1) if number == 5 else missing(number), 2.5)

    assert tftp.Data(2, FILE[512:1024]) in [tftp.parse(received.data) for received in lab.client.take()]
    assert [event.dropped for event in lab.dropped] == [(("file", BATCH - 1),)]


def test_inform_is_kept_longer_than_a_discover(start_lab: Callable[[_MakeProtocol], Lab]) -> None:
    lab = start_lab(server)
    lab.send_and_wait(lambda number: inform(number) if number == 7 else discover(number), 1.5)

    assert [event.dropped for event in lab.dropped] == [(("DISCOVER", BATCH - 1),)]
    assert lab.protocol.malformed.total == 0


def test_dropped_requests_are_reported_once_a_second(start_lab: Callable[[_MakeProtocol], Lab]) -> None:
    lab = start_lab(files)
    for _ in range(4):
        lab.send_and_wait(missing, 2.2, BATCH)
    assert [sum(count for _, count in event.dropped) for event in lab.dropped] == [BATCH] * 4

    lab.send_and_wait(missing, 2.2, 3 * BATCH)
    lab.send_and_wait(missing, 2.2, BATCH)
    assert len(lab.dropped) == 7
    assert sum(count for event in lab.dropped for _, count in event.dropped) == 8 * BATCH


def test_the_log_names_kinds_and_waits() -> None:
    event = StaleRequestsDropped(9.0, "dhcp", (("DISCOVER", 312), ("other", 4)), 1.26)
    [line] = LogObserver().log_events([event])
    assert line["log_format"].format(**line) == (
        "dhcp dropped 312 DISCOVER and 4 other requests that had waited 1.3 s unread: more arrive than can be answered"
    )


def arrivals(count: int, address: str, data: bytes = b"") -> list[tuple[bytes, Address, Via]]:
    """Datagrams of one address, from *count* ports."""
    return [(data or missing(0), (address, 1024 + number), UNKNOWN_VIA) for number in range(count)]


@pytest.fixture
def start_backlog() -> Iterator[Callable[..., BacklogLab]]:
    """Starts a Backlog for 100 requests a second of one address. *kind* returns the kind of a datagram."""
    labs: list[BacklogLab] = []

    def start(kind: Callable[[bytes], RequestKind | None]) -> BacklogLab:
        clock, events = Clock(), list[Event]()
        labs.append(BacklogLab(Backlog("tftp", kind, lambda: 100.0, events.append, clock), clock, events))
        return labs[-1]

    yield start
    for each in labs:
        each.backlog.stop()
        assert each.clock.getDelayedCalls() == []


ANY = RequestKind("file", 2.0)
RELAYED = RequestKind("DISCOVER", 1.0, relayed=True)


def test_persistent_backlog_shortens_the_limits(start_backlog: Callable[..., BacklogLab]) -> None:
    lab = start_backlog(lambda data: ANY)
    kept = [lab.trim(0.3) for _ in range(60)]  # 0.1 s between them

    assert kept == [1] * 51 + [0] * 9
    assert lab.trim(0.15) == 1  # less than a tenth of its patience
    assert lab.trim(0.05) == 1  # the backlog has ended
    assert lab.trim(0.3) == 1


def test_backlog_after_a_pause_has_the_full_limits(start_backlog: Callable[..., BacklogLab]) -> None:
    lab = start_backlog(lambda data: ANY)
    assert [lab.trim(0.3) for _ in range(53)][-1] == 0
    lab.clock.advance(0.5)
    assert lab.trim(0.3) == 1


def test_rate_of_one_address_is_limited_in_a_backlog(start_backlog: Callable[..., BacklogLab]) -> None:
    lab = start_backlog(lambda data: ANY)
    kept = lab.backlog.trim([*arrivals(150, "10.0.0.66"), *arrivals(100, "10.0.0.9")], 0.0)
    assert [peer[0] for _, peer, _ in kept] == ["10.0.0.66"] * 100 + ["10.0.0.9"] * 100
    assert lab.backlog.trim(arrivals(1, "10.0.0.66"), 0.0) == []
    lab.clock.advance(1.0)
    assert len(lab.backlog.trim(arrivals(150, "10.0.0.66"), 0.0)) == 100
    lab.clock.advance(10.0)

    dropped = [event for event in lab.events if isinstance(event, RequestsDropped)]
    assert [event.count for event in dropped] == [50, 51]
    assert dropped[0].reason == "more than 100 requests a second of one address"


def addresses_of(kept: list[tuple[bytes, Address, Via]]) -> Counter[str]:
    """How many datagrams of each address there are."""
    return Counter(peer[0] for _, peer, _ in kept)


def test_rate_of_relays_is_limited_singly_and_in_total(start_backlog: Callable[..., BacklogLab]) -> None:
    """With 100 requests a second of an address: 100 of a relay, up to 800 at once; 150 of all relays, up to 1,200 at
    once."""
    lab = start_backlog(lambda data: RELAYED if data == b"relayed" else ANY)
    lab.backlog.trim([*arrivals(1, "10.78.0.1", b"relayed"), *arrivals(1, "10.0.0.9")], 0.0)
    lab.clock.advance(1.0)
    kept = lab.backlog.trim(
        [
            *arrivals(1000, "10.0.0.66", b"relayed"),
            *arrivals(500, "10.78.0.1", b"relayed"),
            *arrivals(50, "10.79.0.1", b"relayed"),
            *arrivals(90, "10.0.0.9"),
        ],
        0.0,
    )
    assert addresses_of(kept) == {"10.0.0.66": 800, "10.78.0.1": 400, "10.0.0.9": 90}
    lab.clock.advance(1.0)
    kept = lab.backlog.trim([*arrivals(300, "10.0.0.66", b"relayed"), *arrivals(40, "10.79.0.1", b"relayed")], 0.0)
    assert addresses_of(kept) == {"10.0.0.66": 100, "10.79.0.1": 40}
    assert len(lab.backlog.trim(arrivals(2000, "127.0.0.1", b"relayed"), 0.0)) == 2000
    lab.clock.advance(10.0)

    dropped = [event for event in lab.events if isinstance(event, RequestsDropped)]
    assert [event.count for event in dropped] == [350, 200]
    assert [event.reason for event in dropped] == [
        "more than 150 requests a second of all relays",
        "more than 100 requests a second of one relay",
    ]


def test_single_relay_has_no_rate_limit(start_backlog: Callable[..., BacklogLab]) -> None:
    lab = start_backlog(lambda data: RELAYED)
    for _ in range(3):
        assert len(lab.backlog.trim(arrivals(2000, "10.78.0.1"), 0.0)) == 2000
        lab.clock.advance(1.0)
    lab.backlog.trim([*arrivals(1, "10.79.0.1"), *arrivals(1, "10.78.0.1")], 9.0)
    kept = []
    for seconds in (4, 4, RELAY_ALONE - 9, 1):
        lab.clock.advance(seconds)
        kept.append(len(lab.backlog.trim(arrivals(2000, "10.78.0.1"), 0.0)))
    assert kept == [499, 400, 800, 2000]


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "127.1.2.3", "::1"])
def test_unspecified_and_local_addresses_have_no_rate_limit(
    start_backlog: Callable[..., BacklogLab], address: str
) -> None:
    lab = start_backlog(lambda data: ANY)
    assert len(lab.backlog.trim(arrivals(500, address), 0.0)) == 500


@pytest.mark.parametrize(("per_second", "file_requests", "dhcp"), [(2000, 2000, 1000), (0, inf, inf)])
def test_rate_limits_follow_the_configuration(per_second: int, file_requests: float, dhcp: float) -> None:
    admission = Admission(Clock(), lambda event: None, Settings(requests_per_second=per_second))
    for address in ("10.0.0.1", "10.0.0.2"):
        admission.admits("tftp", (address, 1), 0.0)
    assert (admission.most(), admission.most_dhcp()) == (file_requests, dhcp)


def with_giaddr(data: bytes) -> bytes:
    """The message as a relay forwards it."""
    return data[:24] + bytes((10, 78, 0, 1)) + data[28:]


@pytest.mark.parametrize(
    ("family", "data", "relayed"),
    [
        (IPv4(), discover(1), False),
        (IPv4(), with_giaddr(discover(1)), True),
        (IPv4(), inform(1), False),
        (IPv4(), with_giaddr(inform(1)), True),
        (IPv4(), b"\xff" * 300, False),
        (IPv4(), b"", False),
        (IPv6(DUID), solicit(1), False),
        (IPv6(DUID), request6(1), False),
        (IPv6(DUID), b"\x0c" + bytes(40), True),
        (IPv6(DUID), b"", False),
    ],
)
def test_the_messages_of_relays_are_recognized(family: IPv4 | IPv6, data: bytes, relayed: bool) -> None:
    assert family.request_kind(data).relayed == relayed


# On a socket


class AgedPort:
    """A port whose wall clock is *age* seconds ahead of the kernel's: the datagrams that it reads seem to be so old.

    Its backlog drops the first datagram of each batch.
    """

    def __init__(self, protocol: DatagramProtocol, age: float) -> None:
        self.waits: list[float] = []  # the argument of each call of drop()
        self.port = DatagramPort(UnusedReactor(), protocol, "127.0.0.1", 0, wall_time=lambda: time.time() + age)
        self.port.startListening()
        self.port.trim_backlog = self.drop
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect(("127.0.0.1", self.port.getHost().port))

    def drop(self, batch: Any, waited: float) -> Any:
        self.waits.append(waited)
        return batch[1:]

    def close(self) -> None:
        self.sock.close()
        self.port.connectionLost()


@pytest.fixture
def start_aged() -> Iterator[Callable[[DatagramProtocol, float], AgedPort]]:
    """Starts an AgedPort."""
    ports: list[AgedPort] = []

    def start(protocol: DatagramProtocol, age: float) -> AgedPort:
        ports.append(AgedPort(protocol, age))
        return ports[-1]

    yield start
    for each in ports:
        each.close()


@pytest.mark.skipif(not mmsg.AVAILABLE, reason="datagrams are read and sent one by one")
def test_port_reports_the_age_of_a_full_batch(start_aged: Callable[[DatagramProtocol, float], AgedPort]) -> None:
    protocol = Batches(lambda *_: None)
    aged = start_aged(protocol, 5.0)
    for number in range(BATCH + 10):
        aged.sock.send(b"%d" % number)
    read(aged.port, BATCH + 10)

    [waited, *rest] = aged.waits
    assert 4.9 < waited < 60
    assert set(rest) == {0.0}  # the datagrams of a batch that is not full have not waited
    assert aged.port.counters.received == BATCH + 10
    assert len(protocol.received) == BATCH + 10 - len(aged.waits)


def test_without_a_full_batch_the_backlog_is_not_trimmed(
    start_aged: Callable[[DatagramProtocol, float], AgedPort],
) -> None:
    aged = start_aged(Batches(lambda *_: None), 5.0)
    for _ in range(BATCH - 1):
        aged.sock.send(b"x")
    read(aged.port, BATCH - 1)

    assert aged.waits == []


@pytest.mark.skipif(not mmsg.AVAILABLE, reason="datagrams are read and sent one by one")
def test_a_clock_that_was_set_back_makes_nothing_stale(
    start_aged: Callable[[DatagramProtocol, float], AgedPort],
) -> None:
    aged = start_aged(Batches(lambda *_: None), -3600.0)
    for _ in range(BATCH):
        aged.sock.send(b"x")
    read(aged.port, BATCH)

    assert aged.waits == [0.0]
