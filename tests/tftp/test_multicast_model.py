"""Many clients of one multicast group: Hypothesis simulates the clients, the network and the clock."""

from collections.abc import Iterator
from random import Random

from attrs import define, field
from driving import numbered
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from multicasting import BLKSIZE, OPTIONS, Multicasting, Sent

from bootfw.errors import TransferError
from bootfw.tftp.multicast import Input, Member, State
from bootfw.values import Agreed, Outcome
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import tftp as wire

MAX_STEPS = 3000


class GroupMachine(RuleBasedStateMachine):
    """Any inputs in any order; Multicasting checks its invariants after each of them."""

    @initialize(size=st.integers(0, 40), lazy=st.booleans())
    def begin(self, size: int, lazy: bool) -> None:
        self.group = Multicasting(numbered(size), lazy)
        self.members: list[Member] = []

    def give(self, event: Input, member: Member | None, argument: object = None, delay: float = 0.0) -> None:
        for name, packet in self.group.give(event, member, argument, self.group.now + delay):
            if isinstance(packet, wire.Data):
                assert name == "group"
                assert packet.payload == self.group.content[BLKSIZE * (packet.block - 1) :][:BLKSIZE]
            else:
                assert name != "group"

    @rule(tsize=st.booleans())
    def join(self, tsize: bool) -> None:
        agreed = Agreed(BLKSIZE, tsize=len(self.group.content) if tsize else None, acknowledged=OPTIONS)
        self.members.append(self.group.join(str(len(self.members)), agreed)[0])

    @precondition(lambda self: self.members)
    @rule(data=st.data(), number=st.integers(0, 7) | st.integers(0, 0xFFFF), delay=st.sampled_from([0.0, 0.1, 2.0]))
    def ack(self, data: st.DataObject, number: int, delay: float) -> None:
        member = data.draw(st.sampled_from(self.members))
        if member.outcome is None:
            self.give(Input.ACK, member, number, delay)

    @precondition(lambda self: self.group.session.master is not None)
    @rule(ahead=st.integers(-1, 2))
    def ack_nearby(self, ahead: int) -> None:
        session = self.group.session
        self.give(Input.ACK, session.master, max(0, session.block + ahead))

    @precondition(lambda self: self.members)
    @rule(
        data=st.data(),
        event_and_argument=st.sampled_from(
            [
                (Input.PEER_ERROR, (0, "no")),
                (Input.CANCEL, "stop"),
                (Input.REPLACED, None),
                (Input.REQUESTED, None),
            ]
        ),
    )
    def leave(self, data: st.DataObject, event_and_argument: tuple[Input, object]) -> None:
        member = data.draw(st.sampled_from(self.members))
        if member.outcome is None:
            self.give(event_and_argument[0], member, event_and_argument[1])
            assert (member.outcome is None) == (event_and_argument[0] is Input.REQUESTED)

    @precondition(lambda self: self.group.session.wants is not None)
    @rule()
    def fetched(self) -> None:
        self.group.fetch()

    @precondition(lambda self: self.group.session.wants is not None)
    @rule()
    def failed(self) -> None:
        self.give(Input.FAILED, self.group.session.master, TransferError("no"))
        assert not self.group.session.members

    @precondition(lambda self: self.group.session.deadline is not None)
    @rule()
    def tick(self) -> None:
        self.group.tick()

    def teardown(self) -> None:
        """Without further inputs, every group ends."""
        if not hasattr(self, "group"):
            return
        self.group.lazy = False
        self.group.fetch()
        for _ in range(MAX_STEPS):
            if self.group.session.state is State.IDLE:
                break
            self.group.tick()
        assert all(member.outcome is not None for member in self.members)


TestGroup = GroupMachine.TestCase
TestGroup.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@define(eq=False)
class Client:
    """Receives as atftp and iPXE do: as the master it acknowledges what it has without a gap."""

    member: Member
    blocks: dict[int, bytes] = field(factory=dict)
    master: bool = False
    dead: bool = False
    done: bool = False

    def acked(self) -> int:
        number = 0
        while number + 1 in self.blocks:
            number += 1
        return number

    def receive(self, packet: wire.Packet) -> Iterator[int]:
        """The ACK that it sends, if any."""
        if self.dead or self.done:
            return
        if isinstance(packet, wire.OptionAck):
            self.master = dict(packet.options)["multicast"].endswith(",1")
        elif isinstance(packet, wire.Data):
            self.blocks[packet.block] = packet.payload
        if self.master:
            number = self.acked()
            self.done = number > 0 and len(self.blocks[number]) < BLKSIZE
            yield number


@settings(max_examples=40, deadline=None, phases=[Phase.generate])
@given(
    # A seed: Hypothesis itself would choose a network that loses everything.
    seed=st.integers(0, 1 << 32),
    size=st.integers(0, 300),
    clients=st.integers(1, 6),
    loss=st.sampled_from([0.0, 0.02, 0.05]),
    clients_to_die=st.integers(0, 5),
)
def test_every_client_that_lives_gets_the_file_through_a_lossy_network(
    seed: int, size: int, clients: int, loss: float, clients_to_die: int
) -> None:
    content = numbered(size)
    group = Multicasting(content)
    random = Random(seed)
    clients_to_die = min(clients_to_die, clients - 1)
    clients_by_name: dict[str, Client] = {}
    in_transit: list[tuple[str, wire.Packet | int]] = []
    """Packets to clients, and the block numbers of ACKs from clients; each with the client's name."""

    def send(sent: list[Sent]) -> None:
        for name, packet in sent:
            for receiver in clients_by_name if name == "group" else [name]:
                for _ in range(2 if random.random() < loss else 1):
                    if random.random() >= loss:
                        in_transit.append((receiver, packet))

    def join() -> None:
        name = str(len(clients_by_name))
        policy = Adaptive()
        member, sent = group.join(name, watchdog=policy.begin(Agreed(BLKSIZE)))
        clients_by_name[name] = Client(member)
        send(sent)

    join()
    for _ in range(20 * MAX_STEPS):
        if len(clients_by_name) < clients and random.random() < 0.1:
            join()
        if clients_to_die and len(clients_by_name) == clients and random.random() < 0.05:
            clients_to_die -= 1
            random.choice(list(clients_by_name.values())).dead = True
        if in_transit:
            name, packet = in_transit.pop(0 if random.random() >= loss else random.randrange(len(in_transit)))
            client = clients_by_name[name]
            if isinstance(packet, int):
                if client.member.outcome is None:
                    send(group.ack(client.member, packet, group.now + 0.0001))
            else:
                in_transit += [(name, number) for number in client.receive(packet) if random.random() >= loss]
        elif group.session.deadline is not None:
            send(group.tick())
        elif len(clients_by_name) == clients:
            break
    assert group.session.state is State.IDLE
    for client in clients_by_name.values():
        assert client.dead or client.done, (client.member.outcome, client.member.detail)
        if client.done:
            assert b"".join(client.blocks[number] for number in sorted(client.blocks)) == content
            assert client.member.outcome in (Outcome.COMPLETE, Outcome.UNCONFIRMED, Outcome.TIMED_OUT)
