"""The fast path does what the session's table does: the same datagrams, deadlines, events and counts."""

import os
import resource
import socket
from collections.abc import Callable, Iterable, Iterator
from ctypes import string_at
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st
from narrowing import of_type, present
from twisted.internet.task import Clock
from zope.interface import implementer

from bootfw import readers, table
from bootfw.backends.directory import DirectoryBackend
from bootfw.errors import TransferError
from bootfw.events import Event, TransferEnded
from bootfw.interfaces import IWatchdog, IWatchdogPolicy
from bootfw.net.linux.openfiles import allow_many_files
from bootfw.net.tftp import framecache
from bootfw.net.tftp.fastpath import FastPath, Flow
from bootfw.net.tftp.framecache import Chunk, FrameCache
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.udp import mmsg
from bootfw.net.udp.packetinfo import Destination
from bootfw.net.udp.port import DatagramPort
from bootfw.net.udp.sender import Counters
from bootfw.readers import FileReader
from bootfw.tftp import proof
from bootfw.tftp import read as read_session
from bootfw.tftp.blocks import Blocks, frame
from bootfw.tftp.flight import CLOSED, Flight
from bootfw.tftp.read import Input, ReadSession, State
from bootfw.values import Agreed, Outcome, TransferReport
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp

from .byhand import UnusedReactor, read

CLIENTS = 3
SIZES = (0, 63, 64, 4000, 64 * 40)
BLKSIZES = (None, 8, 64, 600)

Packets = Iterable[tuple[int, bytes | int]]
"""(number of the client, the datagram or the distance of its ACK from the last block that it has received)."""

Step = tuple[tuple[Packets, float], str | None]
"""((the packets that arrive together, the seconds until the next step), the change that is made before them)."""

VisibleState = tuple[list[list[bytes]], list[int], dict[int, float | None], list[tuple[int, TransferReport]], int, int]


@pytest.fixture(autouse=True, scope="module")
def small_chunks_of_settled_files() -> Iterator[None]:
    """Chunks are small, and no file is too new to be cached."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_TICK", -1)
        patch.setattr(framecache, "CHUNK_SIZE", 500)
        yield


@define(eq=False)
class Server:
    """A real port and clients on loopback; virtual time."""

    frame_cache: FrameCache
    policy: IWatchdogPolicy
    root: str
    address: str = "127.0.0.1"
    count: int = CLIENTS
    clock: Clock = field(factory=Clock, init=False)
    events: list[Event] = field(factory=list, init=False)
    protocol: TFTPProtocol = field(init=False)
    port: DatagramPort = field(init=False)
    clients: list[socket.socket] = field(init=False)
    last_blocks: list[int] = field(init=False)
    """The last block that each client has received."""

    def __attrs_post_init__(self) -> None:
        backend = DirectoryBackend(self.root)
        self.protocol = TFTPProtocol(
            self.clock,
            backend,
            self.policy,
            self.events.append,
            frame_cache=self.frame_cache,
            randbelow=lambda below: below - 1,
        )
        self.port = DatagramPort(UnusedReactor(), self.protocol, self.address, 0)
        self.port.startListening()
        loopback = "::1" if ":" in self.address else "127.0.0.1"
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self.clients = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(self.count)]
        self.last_blocks = [0] * self.count
        for client in self.clients:
            client.setblocking(False)
            client.bind((loopback, 0))
            client.connect((loopback, self.port.getHost().port))

    def send(self, packets: Packets) -> None:
        """Let packets arrive together."""
        sent = 0
        for number, packet in packets:
            data = packet if isinstance(packet, bytes) else tftp.ack((self.last_blocks[number] + packet) & 0xFFFF)
            sent += self.clients[number].send(data) == len(data)
        read(self.port, sent)

    def received(self) -> list[list[bytes]]:
        """The datagrams that have arrived at each client since the last call."""
        return [self._received_by(number) for number in range(self.count)]

    def _received_by(self, number: int) -> list[bytes]:
        datagrams: list[bytes] = []
        while True:
            try:
                datagrams.append(self.clients[number].recv(2000))
            except BlockingIOError:
                return datagrams
            if datagrams[-1][1] == tftp.Opcode.DATA:
                block = int.from_bytes(datagrams[-1][2:4], "big")
                if len(datagrams[-1]) > 4 or block == (self.last_blocks[number] + 1) & 0xFFFF:
                    self.last_blocks[number] = block
            elif datagrams[-1][1] == tftp.Opcode.OACK:
                self.last_blocks[number] = 0

    def visible_state(self) -> VisibleState:
        """What clients and observers can see, and the deadline of each transfer."""
        ports = {client.getsockname(): number for number, client in enumerate(self.clients)}
        deadlines = {ports[peer]: transfer.deadline for peer, transfer in self.protocol._transfers.items()}
        reports = [
            # The requests came from other ports.
            (ports[e.report.request.peer], evolve(e.report, request=None))  # type: ignore[arg-type]
            for e in self.ended()
        ]
        # Those of one batch end in an order that is not defined.
        reports.sort(key=lambda report: report[0])
        return (
            self.received(),
            self.last_blocks,
            deadlines,
            reports,
            self.port.counters.sent,
            self.port.counters.received,
        )

    def ended(self) -> list[TransferEnded]:
        return [event for event in self.events if isinstance(event, TransferEnded)]

    def close(self) -> None:
        self.protocol.close()
        self.port.connectionLost()
        for client in self.clients:
            client.close()
        assert not self.clock.getDelayedCalls()


def request(size: int, blksize: int | None, window: int | None) -> bytes:
    options = [("blksize", str(blksize))] if blksize else []
    return tftp.request(False, f"{size}", "octet", [*options, *([("windowsize", str(window))] if window else [])])


common_requests = st.sampled_from([request(4000, 64, 1), request(4000, 64, None), request(4000, 64, 2)])
"""Requests that most examples have in common, so that a chunk of the file is cached."""
requests = st.builds(request, st.sampled_from(SIZES), st.sampled_from(BLKSIZES), st.sampled_from([None, 1, 2, 5]))
acks = st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 1, -1, 2, -2, 300])
other_packets = st.sampled_from(
    [b"\0\5\0\5", b"\0\5\0\0\0", tftp.error(5, "who?"), b"\0\4\0", b"\0\4\0\1\0", b"\0\3\0\1", b""]
)
packets = st.tuples(
    st.integers(0, CLIENTS - 1), st.one_of(acks, acks, acks, acks, acks, acks, other_packets, requests, common_requests)
)
steps = st.tuples(
    st.lists(packets, min_size=1, max_size=40), st.sampled_from([0.0, 0.0001, 0.0001, 0.003, 0.02, 0.04, 1.0, 9.0])
)
policies = st.sampled_from([Adaptive(), Fixed([1.0, 3.0])])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("root")
    for size in SIZES:
        (root / str(size)).write_bytes(os.urandom(size))
    return str(root)


LARGE_CACHE = 1 << 20
"""Bytes; a cache of this size evicts nothing in these tests."""

changes = st.sampled_from([*[None] * 20, "evicted", "overwritten", "cancelled"])


@settings(max_examples=100, deadline=None)
@given(
    first_requests=st.lists(requests, min_size=CLIENTS, max_size=CLIENTS),
    course=st.lists(st.tuples(steps, changes), max_size=30),
    capacity=st.sampled_from([2000, 8000, LARGE_CACHE]),
    policy=policies,
    address=st.sampled_from(["127.0.0.1", "0.0.0.0", "::1"]),
)
@example([request(4000, 64, 1)] * CLIENTS, [(([(0, 0), (1, 0), (2, 0)], 0.001), None)] * 70, 1 << 20, Adaptive(), "::1")
@example(
    [request(4000, 64, None)] * CLIENTS,
    # Deadlines move on for 24 ms, and then two clients are silent.
    [*[(([(0, 0), (1, 0), (2, 0)], 0.004), None)] * 9, *[(([(0, 0)], 0.004), None)] * 8],
    1 << 20,
    Adaptive(),
    "127.0.0.1",
)
@example(
    [request(4000, 64, 1)] * CLIENTS,
    # A copy of the request while the fast path is at work, more than a second after it came.
    [*[(([(0, 0)], 0.005), None)] * 4, *[(([(0, 0)], 0.1), None)] * 12, (([(0, request(4000, 64, 1))], 0.0), None)],
    1 << 20,
    Fixed([1.0, 3.0]),
    "127.0.0.1",
)
@example(
    [request(4000, 64, 1)] * CLIENTS,
    # The frames are evicted, and new ones are made for another client, while one transfer sends from the old ones.
    [*[(([(0, 0)], 0.001), None)] * 4, (([(1, 0)], 0.001), "evicted"), *[(([(0, 0), (1, 0)], 0.001), None)] * 20],
    2000,
    Adaptive(),
    "127.0.0.1",
)
def test_fast_path_sends_the_same_datagrams_as_the_session(
    root: str, first_requests: list[bytes], course: list[Step], capacity: int, policy: IWatchdogPolicy, address: str
) -> None:
    """Compares servers with the fast path, with cached frames only, and with neither."""
    fast, framed, plain = (Server(FrameCache(size), policy, root, address) for size in (capacity, capacity, 0))
    servers = [fast, framed, plain]
    framed.port.first_look = None
    original = {size: Path(root, f"{size}").read_bytes() for size in SIZES}
    changed = False
    try:
        begin: Step = (([*enumerate(first_requests)], 0.0), None)
        evicted = False
        for (arriving, wait), change in [begin, *course]:
            evicted = evicted or change == "evicted"
            changed = changed or change == "overwritten"
            if changed and (evicted or capacity < LARGE_CACHE):
                # Frames that no transfer holds are read again, from the new file, and the fast path holds more of them.
                break
            if change == "overwritten":
                # Cached frames have the old content; the server without them sends an error, and is compared no more.
                for size in SIZES:
                    Path(root, f"{size}").write_bytes(bytes(size))
            outcomes = []
            for server in servers:
                if change == "evicted":
                    server.frame_cache.clear()
                elif change == "cancelled":
                    for transfer in server.protocol.on_this_port[:1]:
                        transfer.cancel("enough", server.clock.seconds())
                server.send(arriving)
                server.clock.advance(wait)
                outcomes.append(server.visible_state())
                if not changed:
                    assert server.frame_cache.evicted_in_use <= CLIENTS * 2500
            assert outcomes[0] == outcomes[1]
            if changed:
                if plain in servers:
                    servers.remove(plain)
                    plain.close()
            else:
                assert outcomes[0] == outcomes[2]
        assert fast.frame_cache.used <= capacity
    finally:
        for server in servers:
            server.close()
            assert server.frame_cache.evicted_in_use == 0
        if changed:
            for size, content in original.items():
                Path(root, f"{size}").write_bytes(content)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("round_trip", [0.0, 0.001, 0.015])
def test_fast_path_answers_acks(
    root: str, address: str, window: int | None, round_trip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this test, the comparisons would also pass if the fast path were never used."""
    # With the usual ratio, all windows of such small blocks could be sent to a peer that has proven nothing, and the
    # fast path would not be used.
    monkeypatch.setattr(read_session, "RATIO", 1)
    monkeypatch.setattr(proof, "RATIO", 1)
    server = Server(FrameCache(1 << 20), Adaptive(), root, address)
    calls: list[int] = []
    handle = ReadSession.handle

    def counted(*arguments: Any) -> None:
        calls.append(1)
        handle(*arguments)

    monkeypatch.setattr(ReadSession, "handle", counted)
    try:
        server.send([(number, request(64 * 40, 8, window)) for number in range(CLIENTS)])
        content = [b""] * CLIENTS
        batches_before = server.port.counters.batches
        while len(server.ended()) < CLIENTS:
            for number, datagrams in enumerate(server.received()):
                content[number] += b"".join(data[4:] for data in datagrams if data[1] == tftp.Opcode.DATA)
            server.clock.advance(round_trip)
            server.send([(number, 0) for number in range(CLIENTS)])
        assert set(content) == {Path(root, f"{64 * 40}").read_bytes()}
        assert all(event.report.outcome is Outcome.COMPLETE for event in server.ended())
        # 321 blocks; without the fast path there would be a delivery to the protocol for each round.
        assert server.port.counters.batches - batches_before < (80 if window is None else 40)
        # The session is called at the end of each chunk only, unless the watchdog learns from the round trip. It is not
        # called at a deadline that has moved on meanwhile, as it does with the longest of these round trips.
        if round_trip:
            assert len(calls) < 55 * CLIENTS
        else:
            assert len(calls) > 100 * CLIENTS / (window or 1)
    finally:
        server.close()


class PolledServer(Server):
    """Records how many datagrams each look at the socket finds."""

    def watch(self, on_empty: Callable[[], object] = lambda: None) -> None:
        """Call *on_empty* after each look that finds nothing."""
        self.looks: list[int] = []
        inbox: Any = present(self.port._inbox)
        take: Callable[[int], int] = inbox.take

        def counting(descriptor: int) -> int:
            self.looks.append(take(descriptor))
            if not self.looks[-1]:
                on_empty()
            return self.looks[-1]

        inbox.take = counting

    def wake_up(self, packet: bytes | int = 0) -> list[int]:
        """Send one datagram of the first client and wake the port up once. Returns what each look found."""
        del self.looks[:]
        self.clients[0].send(packet if isinstance(packet, bytes) else tftp.ack(self.last_blocks[0] + packet))
        self.port.doRead()
        self.received()
        return self.looks


@pytest.fixture
def polled_server(root: str) -> Iterator[PolledServer]:
    """A server on which the first client's transfer is under way."""
    server = PolledServer(FrameCache(1 << 20), Adaptive(), root)
    server.send([(0, request(64 * 40, 8, None))])
    for _ in range(3):
        server.received()
        server.send([(0, 0)])
    server.received()
    server.port._pause = server.port._pause_left = 0
    yield server
    server.close()


def test_near_client_is_answered_in_the_same_reactor_turn(polled_server: PolledServer) -> None:
    """On a quiet machine, a single transfer spent most of its time in falling asleep and waking up."""

    def answer() -> None:
        polled_server.received()
        polled_server.clients[0].send(tftp.ack(polled_server.last_blocks[0]))

    polled_server.watch(answer)
    first = polled_server.last_blocks[0]
    looks = polled_server.wake_up()
    assert polled_server.last_blocks[0] - first == sum(looks)
    # Other ports get their turn after a while.
    assert 20 < sum(looks) < 50


def test_a_slow_client_is_polled_for_less_and_less(polled_server: PolledServer) -> None:
    polled_server.watch()
    assert [len(polled_server.wake_up()) for _ in range(12)] == [34, 2, 34, 2, 2, 2, 34, 2, 2, 2, 2, 2]


def test_polling_resumes_when_the_client_answers_again(polled_server: PolledServer) -> None:
    answers = [False, True, True, False]

    def answer() -> None:
        if answers and answers.pop(0):
            polled_server.received()
            polled_server.clients[0].send(tftp.ack(polled_server.last_blocks[0]))

    polled_server.watch(answer)
    assert polled_server.wake_up()[:4] == [1, 0, 0, 1]
    assert len(polled_server.wake_up()) == 2
    assert len(polled_server.wake_up()) == 34


def test_a_port_does_not_poll_when_no_transfer_is_under_way(polled_server: PolledServer) -> None:
    polled_server.watch()
    polled_server.wake_up(tftp.error(0, "enough"))
    assert polled_server.wake_up(request(5, None, None)) == [1, 0]


def test_ended_transfer_takes_no_more_packets(root: str) -> None:
    server = Server(FrameCache(1 << 20), Adaptive(), root)
    try:
        for _ in range(2):
            server.send([(0, request(4000, 64, 1)), (1, request(4000, 64, 1))])
            server.received()
            for _ in range(5):
                server.send([(0, 0), (1, 0)])
                server.received()
            assert len(of_type(FastPath, server.port.first_look)._flows) == 2
            server.send([(0, tftp.error(0, "enough")), (1, tftp.error(0, "enough"))])
            server.last_blocks = [0] * CLIENTS
            assert not server.port.first_look
    finally:
        server.close()


def test_transfers_of_one_file_exceed_the_usual_limit_of_open_files(root: str) -> None:
    """Issue 5: 1024 is the usual limit; one image serves them all."""
    old_limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 1100
    if old_limits[1] < 2 * count + 100:
        pytest.skip("this machine allows too few open files")
    allow_many_files()
    server = Server(FrameCache(1 << 20), Adaptive(), root, count=count)
    try:
        content = [b""] * count
        for number in range(count):
            server.send([(number, request(4000, 600, None))])
        assert server.protocol.transfers == count
        while server.protocol.transfers:
            for number, datagrams in enumerate(server.received()):
                content[number] += b"".join(data[4:] for data in datagrams if data[1] == tftp.Opcode.DATA)
            server.send([(number, 0) for number in range(count)])
        assert set(content) == {Path(root, "4000").read_bytes()}
        assert [event.report.outcome for event in server.ended()] == [Outcome.COMPLETE] * count
        assert server.frame_cache.used < 20_000
    finally:
        server.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, old_limits)


@implementer(IWatchdog, IWatchdogPolicy)
class Broken:
    """A watchdog that fails after a while."""

    def __init__(self) -> None:
        self.waits_left = 4

    def wait(self, attempt: int) -> float:
        self.waits_left -= 1
        return 1 / max(self.waits_left, 0)

    def begin(self, agreed: Agreed) -> "Broken":
        return Broken()


def test_a_broken_watchdog_ends_its_transfer_and_no_other(root: str) -> None:
    results = []
    for capacity in (1 << 20, 0):
        server = Server(FrameCache(capacity), Broken(), root)
        try:
            server.send([(0, request(4000, 64, None))])
            for _ in range(6):
                server.received()
                server.send([(0, 0), (1, b"\0\1missing\0octet\0")])
            results.append((server.visible_state(), [type(event) for event in server.events]))
        finally:
            server.close()
    assert results[0] == results[1]
    assert [report.outcome for _, report in results[0][0][3]] == [Outcome.FAILED]


# The session alone, with the real first_look(). Here it also waits for its reader; the transfer of a file never does.

KEY = b"the client's address"


def largest(below: int) -> int:
    """Takes the place of random numbers."""
    return below - 1


ADDRESS = ("192.0.2.1", 2000)


class Inbox(mmsg.Inbox):
    """One datagram of four bytes."""

    def __init__(self, head: int) -> None:
        self.head = head

    def heads(self, count: int) -> Iterator[tuple[int, bytes | int, int, int]]:
        return iter([(0, KEY, 4, self.head)])


@define
class Outgoing:
    """The sender of a port, as far as the fast path needs it; each message leaves."""

    counters: Counters = field(factory=Counters)
    descriptor: int = -1

    def route(self, peer: object, via: object) -> tuple[Destination, tuple[list[object], bytes]]:
        return Destination(ADDRESS, bytes(16), KEY, False), ([], b"")

    def send(self, descriptor: int, headers: list[bytes]) -> list[tuple[int, int]]:
        return []


@define(eq=False)
class DrivenSession:
    """A ReadSession of a file in memory; with a *cache* also the fast path before it."""

    session: ReadSession
    content: bytes
    cache: FrameCache | None
    now: float = 0.0
    datagrams: list[bytes] = field(factory=list)
    chunk: Chunk | None = None
    flow: Flow | None = None
    fast_path: FastPath | None = None
    reader: FileReader | None = None
    advanced: int = 0
    """The number of ACKs that the fast path has answered."""
    handled: bool = False
    """Whether the session has handled the last ACK."""

    def __attrs_post_init__(self) -> None:
        if self.cache is None:
            return
        outgoing: Any = Outgoing()
        self.fast_path = FastPath(lambda: self.now, outgoing)
        self.fast_path._batch_sender = outgoing
        self.flow = self.fast_path.add(ADDRESS, None, self.session.flight, self.take_ack, 8)
        descriptor = os.memfd_create("content")
        os.write(descriptor, self.content)
        self.reader = FileReader(descriptor)
        identity: Any = (1,)
        self.reader.identity = identity

    def take_ack(self, head: int, now: float) -> bool:
        self.handle(Input.ACK, head & 0xFFFF)
        return True

    def ack(self, number: int) -> None:
        if self.fast_path is None:
            self.handle(Input.ACK, number)
            return
        if self.session.state is State.NEGOTIATING and self.session.proven:
            self.load(1)
        before, self.handled = self.session.sent, False
        assert self.fast_path.first_look(Inbox(4 << 16 | number), 1) == []
        if not self.handled:
            assert self.session.sent > before
            self.advanced += 1
            # What the kernel would have read.
            vector = present(self.flow).vector
            data = string_at(vector[0], vector[1])
            self.datagrams += [data[start : start + 12] for start in range(0, len(data), 12)]

    def handle(self, event: Input, argument: Any, fetch: bool = True) -> None:
        self.handled = True
        if not fetch:
            self.session.cached_through = 0
        self.session.handle(event, argument, self.now)
        self.proceed(fetch)

    def proceed(self, fetch: bool = True) -> None:
        session = self.session
        while True:
            for item in session.out:
                self.datagrams += self.frames(item) if isinstance(item, Blocks) else [item]
            session.out.clear()
            if session.wants is None or not fetch:
                break
            self.load(session.wants.first)
            session.handle(Input.FETCHED, session.wanted_bytes, self.now)
        if self.flow is not None and session.steady:
            self.flow.open(session)

    def load(self, block: int) -> None:
        """Let the fast path send from the chunk of *block*."""
        if self.cache is None:
            return
        self.chunk = present(self.cache.chunk(self.reader, 8, block))
        self.session.cached_through = self.chunk.last
        present(self.flow).use(self.chunk)

    def frames(self, blocks: Blocks) -> list[bytes]:
        first, last = blocks.first, blocks.last
        if self.chunk is not None and self.chunk.first <= first and last <= self.chunk.last:
            data = bytes(self.chunk.frames(first, last))
        else:
            data = frame(blocks, 8, self.content[(first - 1) * 8 : last * 8])
        return [data[start : start + 12] for start in range(0, len(data), 12)]


SessionInput = tuple[Input | str, Any]
"""An input with its argument, or "evict"."""

EVERY_INPUT: list[SessionInput] = [
    (Input.ACK, -1),
    (Input.TICK, None),
    (Input.REQUESTED, None),
    (Input.PEER_ERROR, (5, "who?")),
    (Input.PEER_ERROR, (0, "enough")),
    (Input.CANCEL, "the server is stopping"),
    (Input.REPLACED, None),
    (Input.FAILED, TransferError("gone")),
    ("evict", None),
]
inputs = st.one_of(
    *[st.tuples(st.just(Input.ACK), st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1, 2, -3, -4]))] * 4,
    st.sampled_from(EVERY_INPUT),
)
CONTENT = bytes(range(251)) * 2200
fetches_late = st.booleans()
"""Whether the content is fetched at the next input only."""


def test_fast_path_leaves_the_session_in_the_same_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every legal cell of the table is reached, with the fast path in use before and after it."""
    reached: set[tuple[State, Input]] = set()
    fast_path_used: set[bool] = set()
    handle = ReadSession.handle

    def noted(session: ReadSession, event: Input, argument: Any, now: float) -> None:
        cell = session._table[session.state][event]
        reached.add((session.state, event))
        assert cell is not table.illegal
        handle(session, event, argument, now)

    monkeypatch.setattr(ReadSession, "handle", noted)

    @seed(12)
    @settings(max_examples=600, deadline=None, database=None)
    @given(
        window=st.integers(1, 4),
        size=st.integers(0, 300),
        course=st.lists(st.tuples(inputs, st.sampled_from([0.0, 0.001, 0.002, 0.3, 2.0]), fetches_late), max_size=60),
        policy=policies,
        beginning=st.sampled_from(["offered", "unproven", "at once", "near the wrap"]),
    )
    @example(4, 4000, [((Input.ACK, 0), 0.001, False)] * 60, Adaptive(), "offered")
    @example(3, 4000, [((Input.ACK, 0), 0.001, False)] * 60, Adaptive(), "offered")
    def compare(
        window: int, size: int, course: list[tuple[SessionInput, float, bool]], policy: IWatchdogPolicy, beginning: str
    ) -> None:
        agreed = Agreed(
            blksize=8, windowsize=window, acknowledged=(("blksize", "8"),) if beginning == "offered" else ()
        )
        start = 65530 if beginning == "near the wrap" else None
        content = CONTENT[: size + (start or 0) * 8]
        both = []
        for cache in (None, FrameCache(1 << 20)):
            session = ReadSession(
                agreed,
                len(content),
                policy.begin(agreed),
                0.0,
                start,
                own_port=beginning != "unproven",
                randbelow=largest,
            )
            both.append(DrivenSession(session, content, cache))
        plain, fast = both
        for driven in both:
            driven.proceed()
        for (event, argument), wait, delayed in course:
            for driven in both:
                driven.now += wait
                session = driven.session
                if not isinstance(event, Input):
                    if driven.cache is not None:
                        driven.cache.clear()
                elif event is Input.ACK and not delayed:
                    driven.ack((session.sent + argument) & 0xFFFF)
                elif event is Input.FAILED:
                    if session.state is State.FETCHING:
                        driven.handle(event, argument)
                else:
                    value = (session.sent + argument) & 0xFFFF if event is Input.ACK else argument
                    driven.handle(event, value, fetch=not delayed)
            assert plain.datagrams == fast.datagrams
            assert state_of(plain.session) == state_of(fast.session)
        fast_path_used.add(fast.advanced > 3)
        present(fast.fast_path).remove(present(fast.flow))
        present(fast.reader).close()

    # Each input in each state, so that reaching all cells is not left to chance.
    acked: SessionInput = (Input.ACK, 0)
    # A window that was sent twice, and the ACKs of its first copy: only its new end is sent, with a short wait. The
    # fast path would keep that short wait for all later windows.
    course = [(each, 0.001, False) for each in [*[acked] * 8, (Input.ACK, -4), (Input.ACK, -2), acked, acked]]
    compare = example(4, 400, course, Fixed([1.0, 3.0]), "offered")(compare)
    # A new block for a timeout, with a marker, and the ACK of it.
    course = [(acked, 0.0, False), ((Input.TICK, None), 2.0, False), (acked, 0.0, False)]
    compare = example(2, 24, course, Adaptive(), "offered")(compare)
    prefixes: list[tuple[str, list[tuple[SessionInput, bool]]]] = [
        ("offered", []),
        ("offered", [(acked, True)]),
        ("offered", [(acked, False)] * 8),
        ("unproven", []),
        ("offered", [((Input.CANCEL, "enough"), False)]),
    ]
    for beginning, prefix in prefixes:
        for last in EVERY_INPUT:
            course = [(each, 0.001, delayed) for each, delayed in [*prefix, (last, False), (acked, False)]]
            compare = example(2, 400, course, Adaptive(), beginning)(compare)
    # Each input before the short last block, when all ten full ones have been sent.
    for last in EVERY_INPUT:
        course = [(each, 0.001, False) for each in [*[acked] * 10, last, acked, acked]]
        compare = example(1, 83, course, Adaptive(), "offered")(compare)
    compare()
    illegal = {
        (state, event) for state, row in read_session.TABLE.items() for event in row if row[event] is table.illegal
    }
    closed = {(State.CLOSED, event) for event in (Input.FETCHED, Input.FAILED)}
    assert {(state, event) for state in State for event in Input} - illegal - closed == reached - closed
    assert fast_path_used == {True, False}


@pytest.mark.parametrize(
    "changed", [{"acked": 3}, {"heard_at": 1.5}, {"deadline": 3.5}, {"deadline": None}, {"sent": 9}, {"wait": 0.5}]
)
def test_the_fast_path_is_opened_only_if_the_fields_that_it_does_not_write_follow_from_the_others(
    changed: dict[str, float | None],
) -> None:
    flight = Flight(heard_at=2.0, sent_at=2.0, wait=1.0, deadline=3.0, windowsize=4, acked=4, sent=8)
    assert flight.derivable
    for name, value in changed.items():
        setattr(flight, name, value)
    assert not flight.derivable


def test_frames_of_another_chunk_close_the_fast_path_until_it_is_opened_again() -> None:
    session = ReadSession(Agreed(blksize=8), 4000, Fixed([1.0]).begin(Agreed()), 0.0)
    driven = DrivenSession(session, bytes(4000), FrameCache(1 << 20))
    driven.proceed()
    driven.ack(1)
    driven.ack(2)
    assert session.flight.limit > 0
    driven.load(100)
    assert session.flight.limit == CLOSED
    present(driven.reader).close()


def state_of(session: ReadSession) -> tuple[object, ...]:
    """The state of a session, without what it has only while it waits for its reader."""
    flight = session.flight
    names = [name for cls in type(session).__mro__ for name in getattr(cls, "__slots__", ())]
    left_out = {
        "__weakref__",
        "watchdog",
        "_timer",
        "flight",
        "_row",
        "wanted_bytes",
        "cached_through",
        "_acked_before_fetch",
        "_sent_once_from",
    }
    state = {name: getattr(session, name) for name in names if name not in left_out}
    state["_proof"] = repr(session._proof)
    # The fast path does not move `_sent_once_from` on with the acknowledged blocks, which means the same.
    state["once"] = max(session._sent_once_from, session.acked + 1)
    timer, watchdog = session._timer, session.watchdog
    return (
        state,
        (session.acked, session.sent, session.deadline, session.last_heard),
        (flight.sent_at, flight.wait, flight.round_trip),
        (timer.attempt, timer.grace),
        # With single blocks nothing depends on the shortest round trip, and the fast path does not look for it.
        (timer.soonest_answer, timer.shortest_round_trip) if flight.windowsize > 1 else None,
        [getattr(watchdog, name, None) for name in ("_rto", "_srtt", "_rttvar", "_attempt")],
    )
