"""Nodes over a store in any order of pauses, partitions, crashes and lost replies, with clocks of different rates.

The parts that decide are the real ones: LeadershipStates, AddressServer with its lease book, and StoredEnds. The store
is that of memorycluster.py. No address has two clients at a time, and no acknowledged lease is lost.
"""

from collections import Counter
from collections.abc import Callable
from socket import inet_aton
from typing import Any

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from leasing import BY_BROADCAST, SERVER, subnet
from memorycluster import Content, Link

from bootfw.dhcp.answer import Answer
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.storedends import StoredEnds, extended, limited
from bootfw.errors import StateError
from bootfw.leadershipstates import SILENCE, Do, Input, LeadershipStates, State
from bootfw.lease import Lease
from bootfw.wire.dhcp4 import BOOTREQUEST, Message, MessageType

DISCOVER, REQUEST, RELEASE, RAPID_COMMIT, LEASE_TIME = 1, 3, 7, 80, 51
LEASE, OUTAGE = 60, 30.0
NODES, CLIENTS = 3, 3
ANYWHERE = st.integers(0, NODES - 1)
ANYONE = st.integers(1, CLIENTS)


ANY = "0.0.0.0"


def message(client: int, kind: int, address: str = ANY, rapid: bool = True) -> Message:
    """:param address: that a REQUEST selects, or a RELEASE gives back."""
    options = {53: bytes((kind,)), **({RAPID_COMMIT: b""} if kind == DISCOVER and rapid else {})}
    if kind == REQUEST:
        # All nodes take the server identifier of any of them for their own; here they have the same one.
        options |= {50: inet_aton(address), 54: inet_aton(SERVER)}
    ciaddr = address if kind == RELEASE else ANY
    return Message(op=BOOTREQUEST, xid=client, chaddr=b"\2\0\0\0\0" + bytes((client,)), ciaddr=ciaddr, options=options)


def client_of(lease: Lease) -> int:
    return int(lease.mac[-2:], 16)


@define(eq=False)
class Call:
    """A call to the store: its work, and the node's function for the result. Only the result may be lost."""

    work: Callable[[], Any]
    then: Callable[[Any], None]
    is_stand: bool = False
    """Whether it is a call of stand()."""
    done: bool = False
    result: Any = None

    def forget(self) -> None:
        """The node is not interested in the result any more."""
        self.then = lambda result: None


@define(eq=False)
class Node:
    """A process: its clock, its state, and the calls that it waits for."""

    name: str
    link: Link
    rate: float
    states: LeadershipStates = field(factory=LeadershipStates)
    server: AddressServer | None = None
    ends: StoredEnds = field(factory=StoredEnds)
    stand_pending: bool = False
    """Whether a call of stand() has not been answered yet."""
    calls: list[Call] = field(factory=list)
    """Calls to the store, in their order."""
    paused: bool = False
    inbox: list[tuple[int, int, str, bool, int]] = field(factory=list)
    """The messages that came while it was paused."""


class Nodes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.content = Content()
        self.nodes = [Node(f"node{n}", Link(self.content), rate) for n, rate in enumerate((0.96, 1.0, 1.04))]
        self.leases: dict[int, tuple[str, float]] = {}
        """Client -> its address, and until when it may use it by its own clock, which is right."""
        self.offers: dict[int, str] = {}
        """Client -> the address in the latest offer to it."""
        self.released: Counter[int] = Counter()
        """Client -> how often it has released its address. It ignores ACKs to requests from before."""

    def clock(self, node: Node) -> float:
        # One time for both clocks of a node: the monotonic one, and the wall clock, which NTP keeps within ten seconds.
        return self.now + max(-10.0, min(10.0, (self.now - 1000.0) * (node.rate - 1.0)))

    def handle(self, node: Node, event: Input, argument: Any = None) -> None:
        node.states.run(
            {Do.LOAD: lambda: self.load(node), Do.FOLLOW: lambda: self.drop(node)}, event, argument, self.clock(node)
        )

    def drop(self, node: Node) -> None:
        node.server = None
        for call in node.calls:
            if not call.is_stand:
                call.forget()

    def may_decide(self, node: Node) -> bool:
        if node.states.state is not State.LEADING:
            return False
        if self.clock(node) < node.states.until:
            return True
        self.handle(node, Input.LAPSED)
        return False

    # What a node does

    def load(self, node: Node) -> None:
        epoch = node.states.epoch

        def loaded(result: Any) -> None:
            if node.states.state is not State.LOADING or epoch != node.states.epoch:
                return
            if isinstance(result, StateError):
                self.handle(node, Input.NOT_LOADED)
                return
            node.server = AddressServer(
                [subnet(pool=["10.77.0.100-10.77.0.101"], lease_seconds=LEASE, rapid_commit=True)]
            )
            node.server.begin_search_at((epoch - 1) / 2 % 1)
            for lease in result:
                node.server.restore(lease)
            node.ends = StoredEnds()
            node.ends.load(result)
            self.handle(node, Input.LOADED)

        def prepare() -> list[Lease]:
            node.link._loaded = node.link.epoch
            node.link._check_leads()
            return list(self.content.leases.values())

        node.calls.append(Call(prepare, loaded))

    @rule(n=ANYWHERE)
    def stand(self, n: int) -> None:
        node = self.nodes[n]
        if node.paused or node.stand_pending:
            return
        node.stand_pending = True
        asked_at = self.clock(node)
        silent = node.states.silent(asked_at)

        def stood(result: Any) -> None:
            node.stand_pending = False
            if isinstance(result, StateError):
                self.handle(node, Input.UNAVAILABLE)
            else:
                self.handle(node, Input.LEADS if result.leads else Input.FOLLOWS, (result, asked_at))

        node.calls.append(Call(lambda: node.link._stand(node.name, silent), stood, is_stand=True))

    def handle_message(self, node: Node, client: int, kind: int, address: str, rapid: bool, released: int) -> None:
        """Handle a message of a client."""
        may_decide = self.may_decide(node)
        if node.server is None or not (may_decide or node.states.state is State.CUT_OFF):
            return
        request = message(client, kind, address, rapid)
        answer = node.server.handle(request, BY_BROADCAST, self.clock(node))
        if isinstance(answer, Answer) and answer.probe:
            node.server.probe_finished(answer.address, False, self.clock(node))
            answer = node.server.handle(request, BY_BROADCAST, self.clock(node))
        if may_decide and isinstance(answer, Answer) and answer.kind is MessageType.OFFER:
            self.offers[client] = answer.address
        if not may_decide:
            if isinstance(answer, Answer) and answer.kind is MessageType.ACK and len(answer.commit) == 1:
                [lease] = answer.commit
                if seconds := node.ends.seconds(lease.address, lease.client, self.clock(node)):
                    self.acknowledge(client, lease.address, limited(answer.options, seconds), released)
            return
        leases = [extended(lease, OUTAGE) for lease in answer.commit]
        if not leases:
            return
        node.ends.begin(leases)
        ends, epoch = node.ends, node.states.epoch

        def committed(result: Any) -> None:
            ends.finish(leases, stored=not isinstance(result, StateError))
            may_answer = self.may_decide(node) or node.states.state is State.CUT_OFF
            if not isinstance(result, StateError) and isinstance(answer, Answer) and may_answer:
                self.acknowledge(client, answer.address, answer.options, released)

        def commit() -> None:
            if self.content.epoch != epoch or self.content.owner is not node.link:
                raise StateError("another node leads")
            self.content.leases.update({lease.address: lease for lease in leases})

        node.calls.append(Call(commit, committed))

    def acknowledge(self, client: int, address: str, options: Any, released: int) -> None:
        """The client gets an ACK."""
        if released != self.released[client]:
            return
        until = self.now + int.from_bytes(options[LEASE_TIME], "big")
        for other, (other_address, other_end) in self.leases.items():
            assert other == client or other_address != address or other_end <= self.now, (
                f"{address} has {other} and {client}"
            )
        assert client_of(self.content.leases[address]) == client
        self.leases[client] = address, until

    @invariant()
    def no_acknowledged_lease_is_lost(self) -> None:
        for client, (address, until) in self.leases.items():
            stored = self.content.leases[address]
            assert until <= self.now or (client_of(stored), stored.expires >= until) == (client, True), stored

    # What happens

    @rule(n=ANYWHERE, client=ANYONE)
    def discovers(self, n: int, client: int) -> None:
        self.message_arrives(n, client, DISCOVER, ANY)

    @rule(client=ANYONE)
    def discovers_at_all_nodes(self, client: int) -> None:
        for n in range(NODES):
            self.message_arrives(n, client, DISCOVER, ANY)

    @rule(n=ANYWHERE, client=ANYONE)
    def discovers_without_rapid_commit(self, n: int, client: int) -> None:
        self.message_arrives(n, client, DISCOVER, ANY, rapid=False)

    @rule(n=ANYWHERE, client=ANYONE)
    def selects(self, n: int, client: int) -> None:
        """Any node gets the REQUEST, also one that has not made the offer."""
        if client in self.offers:
            self.message_arrives(n, client, REQUEST, self.offers[client])

    @rule(n=ANYWHERE, client=ANYONE)
    def releases(self, n: int, client: int) -> None:
        if client in self.leases:
            address, _ = self.leases.pop(client)
            self.released[client] += 1
            self.message_arrives(n, client, RELEASE, address)

    def message_arrives(self, n: int, client: int, kind: int, address: str, rapid: bool = True) -> None:
        node = self.nodes[n]
        if node.paused:
            node.inbox.append((client, kind, address, rapid, self.released[client]))
        else:
            self.handle_message(node, client, kind, address, rapid, self.released[client])

    @rule(seconds=st.sampled_from([0.1, 0.3, 0.5, 1.0, 2.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(n=ANYWHERE)
    def store_works(self, n: int) -> None:
        """The store does the next call of a node. The node may be paused, or dead."""
        node = self.nodes[n]
        call = next((call for call in node.calls if not call.done), None)
        if call is not None and not node.link.cut:
            call.done = True
            try:
                call.result = call.work()
            except StateError as error:
                call.result = error

    @rule(n=ANYWHERE)
    def store_answers(self, n: int) -> None:
        node = self.nodes[n]
        if not node.paused and not node.link.cut and node.calls and node.calls[0].done:
            call = node.calls.pop(0)
            call.then(call.result)

    @rule(n=ANYWHERE)
    def call_fails(self, n: int) -> None:
        """The node abandons a call, whether or not the store has done it."""
        node = self.nodes[n]
        if not node.paused and node.calls:
            call = node.calls.pop(0)
            call.then(StateError("the store can't be reached"))

    @rule(n=ANYWHERE)
    def confirms(self, n: int) -> None:
        """A whole round without a failure, which random steps seldom are."""
        self.stand(n)
        for _ in range(6):
            self.store_works(n)
            self.store_answers(n)

    @rule(n=ANYWHERE)
    def takes_over(self, n: int) -> None:
        """A node that finds the leader silent, if it is."""
        self.confirms(n)
        self.now += SILENCE + 0.2
        self.confirms(n)

    @rule(n=ANYWHERE, client=ANYONE)
    def gets_a_lease(self, n: int, client: int) -> None:
        """A whole exchange without a failure."""
        self.discovers(n, client)
        for _ in range(3):
            self.store_works(n)
            self.store_answers(n)

    @rule(n=ANYWHERE, other=ANYWHERE, client=ANYONE, another=ANYONE)
    def writes_late(self, n: int, other: int, client: int, another: int) -> None:
        """A write of a leader reaches the store after another one has begun to lead, and has given addresses."""
        self.confirms(n)
        self.discovers(n, client)
        self.takes_over(other)
        self.gets_a_lease(other, another)
        for _ in range(3):
            self.store_works(n)
            self.store_answers(n)

    @rule(n=ANYWHERE, other=ANYWHERE, client=ANYONE, another=ANYONE)
    def selects_at_the_next_leader(self, n: int, other: int, client: int, another: int) -> None:
        """A leader dies after an offer; the next one has other clients too before it gets the REQUEST."""
        self.confirms(n)
        self.discovers_without_rapid_commit(n, client)
        self.crashes(n)
        self.takes_over(other)
        self.gets_a_lease(other, another)
        self.selects(other, client)
        for _ in range(3):
            self.store_works(other)
            self.store_answers(other)

    @rule(n=ANYWHERE)
    def drains(self, n: int) -> None:
        """It resigns: stores what it has acknowledged, and another one may lead. It starts again at once."""
        node = self.nodes[n]
        if node.paused:
            return
        self.handle(node, Input.RESIGN)
        for call in node.calls:
            call.forget()
        resigned = Call(node.link._resign, lambda result: None)
        self.nodes[n] = Node(node.name, Link(self.content, cut=node.link.cut), node.rate, calls=[*node.calls, resigned])

    @rule(n=ANYWHERE, other=ANYWHERE, client=ANYONE, another=ANYONE)
    def renews_beside_another(self, n: int, other: int, client: int, another: int) -> None:
        """A leader is cut off for long, and another one leads."""
        self.confirms(n)
        self.gets_a_lease(n, client)
        self.finds_itself_cut_off(n)
        self.takes_over(other)
        for _ in range(3):
            self.now += 40.0
            self.confirms(other)
            self.gets_a_lease(other, another)
            self.discovers(n, client)

    @rule(n=ANYWHERE)
    def finds_itself_cut_off(self, n: int) -> None:
        node = self.nodes[n]
        node.link.cut = True
        self.stand(n)
        while node.calls and not node.paused:
            self.call_fails(n)

    @rule(n=ANYWHERE)
    def pauses_or_goes_on(self, n: int) -> None:
        node = self.nodes[n]
        node.paused = not node.paused
        if not node.paused:
            messages, node.inbox = node.inbox, []
            for each in messages:
                self.handle_message(node, *each)

    @rule(n=ANYWHERE)
    def is_cut_or_heals(self, n: int) -> None:
        self.nodes[n].link.cut = not self.nodes[n].link.cut

    @rule(n=ANYWHERE)
    def crashes(self, n: int) -> None:
        """It starts again at once; the store may still do the calls of before."""
        node = self.nodes[n]
        for call in node.calls:
            call.forget()
        self.nodes[n] = Node(node.name, Link(self.content, cut=node.link.cut), node.rate)


TestNodes = Nodes.TestCase
TestNodes.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
