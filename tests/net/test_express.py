"""The express way of ACKs comes to the same as the other one: every datagram, deadline, event and count."""

import os
import resource
import socket
from pathlib import Path

import pytest
from attrs import define, evolve, field
from byhand import Unused, read
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from bootfw import readers
from bootfw.backends.directory import DirectoryBackend
from bootfw.events import TransferEnded
from bootfw.net.linux.openfiles import allow_many_files
from bootfw.net.tftp import framecache as images
from bootfw.net.tftp.framecache import Images
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.udp.port import DatagramPort
from bootfw.tftp import proof
from bootfw.tftp import read as read_session
from bootfw.tftp.read import Input, ReadSession, State
from bootfw.values import Agreed, Outcome
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp

CLIENTS = 3
SIZES = (0, 63, 64, 4000, 64 * 40)
BLKSIZES = (None, 8, 64, 600)


@pytest.fixture(autouse=True, scope="module")
def small_pieces_of_files_that_are_never_too_new():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_TICK", -1)
        patch.setattr(images, "PIECE", 500)
        yield


@define(eq=False)
class Server:
    """A real port and clients on loopback; virtual time."""

    images: Images
    policy: object
    root: str
    address: str = "127.0.0.1"
    count: int = CLIENTS
    clock: Clock = field(factory=Clock, init=False)
    events: list = field(factory=list, init=False)
    protocol: TFTPProtocol = field(init=False)
    port: DatagramPort = field(init=False)
    clients: list = field(init=False)
    heard: list = field(init=False)
    """The block that each client has got last."""

    def __attrs_post_init__(self):
        backend = DirectoryBackend(self.root)
        self.protocol = TFTPProtocol(
            self.clock, backend, self.policy, self.events.append, images=self.images, randbelow=lambda below: below - 1
        )
        self.port = DatagramPort(Unused(), self.protocol, self.address, 0)
        self.port.startListening()
        loopback = "::1" if ":" in self.address else "127.0.0.1"
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self.clients = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(self.count)]
        self.heard = [0] * self.count
        for client in self.clients:
            client.setblocking(False)
            client.bind((loopback, 0))
            client.connect((loopback, self.port.getHost().port))

    def send(self, packets):
        """Have packets arrive together: (number of the client, data or how far its ACK is from what it has got)."""
        sent = 0
        for number, what in packets:
            data = what if isinstance(what, bytes) else tftp.ack((self.heard[number] + what) & 0xFFFF)
            sent += self.clients[number].send(data) == len(data)
        read(self.port, sent)

    def took(self):
        """What has come to each client."""
        return [self._taken(number) for number in range(self.count)]

    def _taken(self, number):
        found = []
        while True:
            try:
                found.append(self.clients[number].recv(2000))
            except BlockingIOError:
                return found
            if found[-1][1] == tftp.Opcode.DATA:
                block = int.from_bytes(found[-1][2:4], "big")
                if len(found[-1]) > 4 or block == (self.heard[number] + 1) & 0xFFFF:
                    self.heard[number] = block
            elif found[-1][1] == tftp.Opcode.OACK:
                self.heard[number] = 0

    def seen(self):
        """All that can be told apart from outside, and when each transfer will do something by itself."""
        ports = {client.getsockname(): number for number, client in enumerate(self.clients)}
        deadlines = {ports[peer]: deadline(transfer) for peer, transfer in self.protocol._transfers.items()}
        reports = [(ports[e.report.request.peer], evolve(e.report, request=None)) for e in self.ended()]
        # Those of one batch end in an order that nobody is promised.
        reports.sort(key=lambda report: report[0])
        return self.took(), self.heard, deadlines, reports, self.port.counters.sent, self.port.counters.received

    def ended(self):
        return [event for event in self.events if isinstance(event, TransferEnded)]

    def close(self):
        self.protocol.close()
        self.port.connectionLost()
        for client in self.clients:
            client.close()
        assert not self.clock.getDelayedCalls()


def deadline(transfer):
    """When the transfer will do something by itself, once it has looked at what its lane has done."""
    lane = transfer._lane
    on_its_way = lane is not None and lane.expected != lane.since
    return lane.at + transfer.session.watchdog.wait(1) if on_its_way else transfer.deadline


def request(size, blksize, window):
    options = [("blksize", str(blksize))] if blksize else []
    return tftp.request(False, f"{size}", "octet", [*options, *([("windowsize", str(window))] if window else [])])


again = st.sampled_from([request(4000, 64, 1), request(4000, 64, None), request(4000, 64, 2)])
"""What somebody else has had most likely, so that a piece of it is there."""
requests = st.builds(request, st.sampled_from(SIZES), st.sampled_from(BLKSIZES), st.sampled_from([None, 1, 2, 5]))
acks = st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 1, -1, 2, -2, 300])
others = st.sampled_from(
    [b"\0\5\0\5", b"\0\5\0\0\0", tftp.error(5, "who?"), b"\0\4\0", b"\0\4\0\1\0", b"\0\3\0\1", b""]
)
packets = st.tuples(st.integers(0, CLIENTS - 1), st.one_of(acks, acks, acks, acks, acks, acks, others, requests, again))
steps = st.tuples(
    st.lists(packets, min_size=1, max_size=40), st.sampled_from([0.0, 0.0001, 0.0001, 0.003, 0.02, 0.04, 1.0, 9.0])
)
policies = st.sampled_from([Adaptive(), Fixed([1.0, 3.0])])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    for size in SIZES:
        (root / str(size)).write_bytes(os.urandom(size))
    return str(root)


@settings(max_examples=150, deadline=None)
@given(
    begins=st.lists(requests, min_size=CLIENTS, max_size=CLIENTS),
    course=st.lists(steps, max_size=30),
    room=st.sampled_from([2000, 8000, 1 << 20]),
    policy=policies,
    address=st.sampled_from(["127.0.0.1", "0.0.0.0", "::1"]),
)
@example([request(4000, 64, 1)] * CLIENTS, [([(0, 0), (1, 0), (2, 0)], 0.001)] * 70, 1 << 20, Adaptive(), "127.0.0.1")
@example(
    [request(4000, 64, None)] * CLIENTS,
    # Deadlines move on for 24 ms, and then two clients are silent.
    [*[([(0, 0), (1, 0), (2, 0)], 0.004)] * 9, *[([(0, 0)], 0.004)] * 8],
    1 << 20,
    Adaptive(),
    "127.0.0.1",
)
def test_with_and_without_are_the_same(root, begins, course, room, policy, address):
    both = [Server(Images(size), policy, root, address) for size in (room, 0)]
    try:
        begin = [[*enumerate(begins)]]
        for together, wait in [(begin[0], 0.0), *course]:
            outcomes = []
            for server in both:
                server.send(together)
                server.clock.advance(wait)
                outcomes.append(server.seen())
            assert outcomes[0] == outcomes[1]
        assert both[0].images.used <= room
    finally:
        for server in both:
            server.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("round_trip", [0.0, 0.001, 0.015])
def test_it_is_taken(root, address, window, round_trip, monkeypatch):
    """Without this, the comparison could be one of the same with the same."""
    # Windows of such small blocks could all be sent to a peer that has proven nothing; then there is no express way.
    monkeypatch.setattr(read_session, "RATIO", 1)
    monkeypatch.setattr(proof, "RATIO", 1)
    server = Server(Images(1 << 20), Adaptive(), root, address)
    asked = []
    proceed = ReadSession.proceed
    monkeypatch.setattr(ReadSession, "proceed", lambda *arguments: asked.append(1) or proceed(*arguments))
    try:
        server.send([(number, request(64 * 40, 8, window)) for number in range(CLIENTS)])
        content = [b""] * CLIENTS
        deliveries = server.port.counters.batches
        while len(server.ended()) < CLIENTS:
            for number, taken in enumerate(server.took()):
                content[number] += b"".join(data[4:] for data in taken if data[1] == tftp.Opcode.DATA)
            server.clock.advance(round_trip)
            server.send([(number, 0) for number in range(CLIENTS)])
        assert set(content) == {Path(root, f"{64 * 40}").read_bytes()}
        assert all(event.report.outcome is Outcome.COMPLETE for event in server.ended())
        # 321 blocks; without the express way there would be a delivery to the protocol for each round.
        assert server.port.counters.batches - deliveries < (80 if window is None else 40)
        # A lane asks its transfer at the end of each piece only, unless there is something to learn; not when a
        # deadline comes that has moved on meanwhile, as it does with the longest of these round trips.
        if round_trip:
            assert len(asked) < 25 * CLIENTS
        else:
            assert len(asked) > 100 * CLIENTS / (window or 1)
    finally:
        server.close()


class Watched(Server):
    """Notes what each look at the socket has found. *near* is called after each that has found nothing."""

    def watch(self, near=lambda: None):
        self.looks = []
        take = self.port._inbox.take

        def watched(descriptor):
            self.looks.append(take(descriptor))
            if not self.looks[-1]:
                near()
            return self.looks[-1]

        self.port._inbox.take = watched

    def wake_up(self, what=0):
        """One datagram of the first client, and one wake-up of the port; how many looks found how much."""
        del self.looks[:]
        self.clients[0].send(what if isinstance(what, bytes) else tftp.ack(self.heard[0] + what))
        self.port.doRead()
        self.took()
        return self.looks


@pytest.fixture
def watched(root):
    """The first client's transfer is under way."""
    server = Watched(Images(1 << 20), Adaptive(), root)
    server.send([(0, request(64 * 40, 8, None))])
    for _ in range(3):
        server.took()
        server.send([(0, 0)])
    server.took()
    server.port._missed = server.port._rest = 0
    yield server
    server.close()


def test_a_near_client_is_answered_without_a_turn_of_the_reactor(watched):
    """On a quiet machine most of a single transfer's time was that of falling asleep and being woken."""

    def answer():
        watched.took()
        watched.clients[0].send(tftp.ack(watched.heard[0]))

    watched.watch(answer)
    before = watched.heard[0]
    looks = watched.wake_up()
    assert watched.heard[0] - before == sum(looks)
    # Other ports get their turn after a while.
    assert 20 < sum(looks) < 50


def test_one_that_does_not_answer_at_once_is_looked_for_less_and_less(watched):
    watched.watch()
    assert [len(watched.wake_up()) for _ in range(12)] == [34, 2, 34, 2, 2, 2, 34, 2, 2, 2, 2, 2]


def test_one_that_answers_again_is_looked_for_as_before(watched):
    answers = [False, True, True, False]

    def answer():
        if answers and answers.pop(0):
            watched.took()
            watched.clients[0].send(tftp.ack(watched.heard[0]))

    watched.watch(answer)
    assert watched.wake_up()[:4] == [1, 0, 0, 1]
    assert len(watched.wake_up()) == 2
    assert len(watched.wake_up()) == 34


def test_nobody_is_looked_for_where_no_transfer_is_under_way(watched):
    watched.watch()
    watched.wake_up(tftp.error(0, "enough"))
    assert watched.wake_up(request(5, None, None)) == [1, 0]


def test_a_transfer_that_has_ended_takes_nothing_any_more(root):
    server = Server(Images(1 << 20), Adaptive(), root)
    try:
        for _ in range(2):
            server.send([(0, request(4000, 64, 1)), (1, request(4000, 64, 1))])
            server.took()
            for _ in range(5):
                server.send([(0, 0), (1, 0)])
                server.took()
            assert len(server.port._express.lanes) == 2
            server.send([(0, tftp.error(0, "enough")), (1, tftp.error(0, "enough"))])
            server.heard = [0] * CLIENTS
            assert server.port._express.lanes == {}
    finally:
        server.close()


def test_more_transfers_than_files_are_usually_open(root):
    """Issue 5: 1024 is the usual limit; one image serves them all."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 1500
    if before[1] < 2 * count + 100:
        pytest.skip("this machine allows too few open files")
    allow_many_files()
    server = Server(Images(1 << 20), Adaptive(), root, count=count)
    try:
        content = [b""] * count
        for number in range(count):
            server.send([(number, request(4000, 600, None))])
        assert server.protocol.transfers == count
        while server.protocol.transfers:
            for number, taken in enumerate(server.took()):
                content[number] += b"".join(data[4:] for data in taken if data[1] == tftp.Opcode.DATA)
            server.send([(number, 0) for number in range(count)])
        assert set(content) == {Path(root, "4000").read_bytes()}
        assert [event.report.outcome for event in server.ended()] == [Outcome.COMPLETE] * count
        assert server.images.used < 20_000
    finally:
        server.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Broken:
    """A watchdog that fails after a while."""

    def __init__(self):
        self.left = 4

    def wait(self, attempt):
        self.left -= 1
        return 1 / max(self.left, 0)

    def begin(self, agreed):
        return Broken()


def test_a_broken_watchdog_ends_its_transfer_and_no_other(root):
    seen = []
    for room in (1 << 20, 0):
        server = Server(Images(room), Broken(), root)
        try:
            server.send([(0, request(4000, 64, None))])
            for _ in range(6):
                server.took()
                server.send([(0, 0), (1, b"\0\1missing\0octet\0")])
            seen.append((server.seen(), [type(event) for event in server.events]))
        finally:
            server.close()
    assert seen[0] == seen[1]
    assert [report.outcome for _, report in seen[0][0][3]] == [Outcome.FAILED]


# The session alone: what the transfer can't reach as well.

inputs = st.one_of(
    st.tuples(st.just(Input.ACK), st.sampled_from([0, 0, 0, 0, 1, -1, 2, -3])),
    st.tuples(st.just(Input.TICK), st.none()),
    st.tuples(st.just(Input.REQUESTED), st.none()),
    st.tuples(st.just(Input.PEER_ERROR), st.just((5, "who?"))),
)


@settings(max_examples=300)
@given(
    window=st.integers(1, 4),
    size=st.integers(0, 200),
    course=st.lists(st.tuples(inputs, st.sampled_from([0.0, 0.001, 0.3, 2.0]), st.integers(0, 30)), max_size=60),
    policy=policies,
    start=st.sampled_from([None, 0, 65530]),
)
def test_the_session_is_in_the_same_state_either_way(window, size, course, policy, start):
    agreed = Agreed(blksize=8, windowsize=window, acknowledged=(("blksize", "8"),) if start is None else ())
    size += (start or 0) * 8
    plain, short = (ReadSession(agreed, size, policy.begin(agreed), 0.0, own_port=True) for _ in range(2))
    now = 0.0
    for session in (plain, short):
        if start:
            # As if `start` blocks had gone already: numbers wrap at 65536.
            session.acked = session._sent = start
            session._row = session._table[State.FETCHING]
            session._fetch(start + 1, session._wait)
    sent = [fetched(plain, now), fetched(short, now)]
    for (event, argument), wait, limit in course:
        now += wait
        if event is Input.ACK:
            argument = (plain.sent + argument) & 0xFFFF
        first = 0
        if event is Input.ACK:
            first = short.proceed(argument, min((start or 0) + limit, size // 8 + 1), now)
        if first:
            sent[1].append((first, short.sent - first + 1))
        else:
            short.handle(event, argument, now)
            sent[1] += fetched(short, now)
        plain.handle(event, argument, now)
        sent[0] += fetched(plain, now)
        assert sent[0] == sent[1]
        assert state_of(plain) == state_of(short)


def fetched(session, now):
    """Do what an adapter does; gives the runs of blocks that were sent."""
    found = []
    while True:
        found += [(item.first, item.count) if hasattr(item, "first") else item for item in session.out]
        session.out.clear()
        if session.wants is None:
            return found
        session.handle(Input.FETCHED, session.wants_octets, now)


def state_of(session):
    names = [name for cls in type(session).__mro__ for name in getattr(cls, "__slots__", ())]
    # `wants_octets` is about `wants`, which is None.
    left_out = {"__weakref__", "watchdog", "_patience", "_row", "wants_octets"}
    state = {name: getattr(session, name) for name in names if name not in left_out}
    patience = session._patience
    watchdog = session.watchdog
    return (
        state,
        (patience.attempt, patience.soonest, patience.grace, patience._shortest),
        [getattr(watchdog, name, None) for name in ("_rto", "_srtt", "_rttvar", "_attempt")],
    )
