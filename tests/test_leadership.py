"""Several services that share a store: one answers DHCP, and another one takes over when it fails."""

from collections.abc import Iterator, Sequence
from socket import inet_aton
from typing import Any

import pytest
from attrs import define, evolve, field
from firmware6 import LINK_LOCAL, LINUX, relayed
from leasing import subnet
from memorycluster import Content, Link
from memorynodes import Cluster
from narrowing import present
from observers import EventList
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from bootfw.config.settings import DHCP6Settings, DHCPSettings, Settings, TFTPSettings
from bootfw.dhcp.storedends import CLOCK_DIFFERENCE
from bootfw.dhcp.subnet import Subnet
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.errors import StateError
from bootfw.events import LeadershipChanged, LeasesNotKept
from bootfw.leadershipstates import LOOK_EVERY, SILENCE, Standing
from bootfw.net.control import ControlError
from bootfw.net.dhcp.duid import duid_of
from bootfw.resolvers.next_boot import NextBoot
from bootfw.service import BootService
from bootfw.testing import FakePeer, MemoryHost, MemoryNetwork
from bootfw.wire.dhcp4 import BOOTREQUEST, Message, MessageType, pack, parse
from bootfw.wire.dhcp6 import Message as Message6
from bootfw.wire.dhcp6 import MessageType as MessageType6
from bootfw.wire.dhcp6 import Relay
from bootfw.wire.dhcp6 import parse as parse6
from bootfw.wire.options6 import Option as Option6
from bootfw.wire.options6 import identity_association, options_bytes

DISCOVER, REQUEST = 1, 3
OFFER, ACK = MessageType.OFFER, MessageType.ACK
TAKEOVER = SILENCE + 2 * LOOK_EVERY + 0.1
"""Seconds from the death of a leader until another one answers."""
MAC = "02:00:00:00:00:01"


@implementer(ILogObserver)
@define(eq=False)
class Failures:
    """The tracebacks in Twisted's log."""

    tracebacks: list[str] = field(factory=list)

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self.tracebacks.append(event["log_failure"].getTraceback())


class LeadershipObserver(EventList):
    def states(self) -> list[tuple[str, str]]:
        """The published states of the leadership: (state, reason or leader)."""
        return [(each.state, each.reason or each.leader) for each in self.of(LeadershipChanged)]


@define(eq=False)
class Node:
    """A service, its host and its link to the store."""

    host: MemoryHost
    link: Link
    service: BootService
    observer: LeadershipObserver
    next_boot: NextBoot

    @property
    def state(self) -> str:
        record = self.service.leadership
        assert record is not None
        return str(record["state"])


@define(eq=False)
class Lab:
    """Two servers on one link with their clients."""

    network: MemoryNetwork
    content: Content
    settings: Settings
    nodes: list[Node] = field(factory=list)
    cluster: Cluster = field(factory=Cluster)
    """Delivers the announcements of the nodes, when the test says so."""

    def meet(self) -> None:
        """Deliver the announcements of each node to the others."""
        self.network.advance(1.0)
        self.cluster.deliver()

    def add(self, monkeypatch: pytest.MonkeyPatch, address: str) -> Node:
        name = f"node{len(self.nodes) + 1}"
        monkeypatch.setattr("bootfw.service.gethostname", lambda: name)
        host = self.network.host(address, f"fd77::{address.rpartition('.')[2]}", rich=True)
        link, observer = Link(self.content, nodes=self.cluster.node()), LeadershipObserver()
        next_boot = NextBoot(link)
        service = BootService(host, settings=self.settings, resolvers=[next_boot], store=link, observers=[observer])
        self.nodes.append(node := Node(host, link, service, observer, next_boot))
        service.startService()
        return node

    def send(self, number: int, kind: int, options: dict[int, bytes] | None = None, **header: Any) -> list[Message]:
        """Broadcast a message of client *number*; the replies to it."""
        host = self.network.host()
        port = FakePeer(host, 68)
        fields = {"op": BOOTREQUEST, "xid": number, "chaddr": b"\2\0" + number.to_bytes(4, "big"), "flags": 0x8000}
        message = Message(**{**fields, **header}, options={53: bytes((kind,)), **(options or {})})
        port.send(pack(message, 548), ("255.255.255.255", 67))
        self.network.advance(0.01)
        replies = [parse(received.data) for received in port.take() if received.data[0] == 2]
        port.close()
        self.network.hosts.remove(host)
        return replies

    def send6(self, kind: MessageType6, *options: tuple[int, bytes], ia: bytes = b"") -> Message6 | None:
        """Send a DHCPv6 message by a relay that forwards to all servers; the reply."""
        host = self.network.host("fd77::9")
        relay = FakePeer(host, 547, "::")
        data = relayed(LINUX.message(kind, *options, ia=ia), Relay(0, "fd77::9", LINK_LOCAL))
        for node in self.nodes:
            relay.send(data, (node.host.source("fd77::9"), 547))
        self.network.advance(0.01)
        replies = [parse6(received.data)[0] for received in relay.take()]
        relay.close()
        self.network.hosts.remove(host)
        assert len(replies) < 2
        return replies[0] if replies else None

    def get_lease(self, number: int) -> str:
        """Get a lease for a client; its address."""
        [offer] = self.send(number, DISCOVER)
        [ack] = self.send(number, REQUEST, {50: inet_aton(offer.yiaddr), 54: offer.options[54]})
        assert ack.message_type is ACK
        address: str = ack.yiaddr
        return address

    def reboot(self, number: int, address: str) -> Sequence[Message]:
        """The replies to a client that has an address and comes again (INIT-REBOOT)."""
        return self.send(number, REQUEST, {50: inet_aton(address)})


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Lab]:
    settings = Settings(
        tftp=TFTPSettings(listen=()),
        dhcp=DHCPSettings(
            mode="server",
            subnets=(getattr(request, "param", subnet(lease_seconds=120)),),
            foreign_networks=True,
            store_outage_seconds=60,
        ),
        dhcp6=DHCP6Settings(
            mode="server", subnets=(Subnet6(network="fd77::/64", pool=["fd77::100-fd77::1ff"]),), foreign_networks=True
        ),
    )
    failures = Failures()
    globalLogPublisher.addObserver(failures)
    lab = Lab(MemoryNetwork(), Content(), settings)
    lab.add(monkeypatch, "10.77.0.1")
    lab.network.advance(0.01)
    lab.add(monkeypatch, "10.77.0.2")
    lab.network.advance(1.0)
    yield lab
    for node in lab.nodes:
        node.link.cut = node.link.hangs = node.link.loses = False
        node.link.answer_all()
        lab.network.result_of(node.service.stopService())
    lab.network.advance(0)
    globalLogPublisher.removeObserver(failures)
    assert lab.network.leaks() == []
    assert failures.tracebacks == []


def test_only_one_of_two_servers_answers(lab: Lab) -> None:
    first, second = lab.nodes
    assert [node.state for node in lab.nodes] == ["leading", "standby"]
    assert (first.observer.states(), second.observer.states()) == ([("leading", "node1")], [("standby", "node1")])
    assert lab.get_lease(1) == "10.77.0.100"
    assert second.service.leadership is not None
    assert second.service.leadership["dropped"] == 2
    assert first.service.leadership is not None
    assert first.service.leadership["dropped"] == 0


def test_after_the_leader_has_stopped_the_other_one_answers_at_once(lab: Lab) -> None:
    first, second = lab.nodes
    address = lab.get_lease(1)
    lab.network.result_of(first.service.stopService())
    lab.network.advance(LOOK_EVERY + 0.01)
    assert second.state == "leading"
    [ack] = lab.reboot(1, address)
    assert (ack.message_type, ack.yiaddr) == (ACK, address)
    assert lab.get_lease(2) != address
    first.service.startService()
    lab.network.advance(1.0)
    assert first.state == "standby"


@pytest.mark.parametrize("fault", ["cut", "loses", "hangs"])
def test_a_leader_that_is_cut_off_is_replaced_and_stops_answering(lab: Lab, fault: str) -> None:
    first, second = lab.nodes
    address = lab.get_lease(1)
    setattr(first.link, fault, True)
    servers = []
    for number in range(40):
        lab.network.advance(TAKEOVER / 40)
        replies = lab.send(9, DISCOVER, xid=number)
        assert len(replies) < 2
        servers.append(replies[0].options[54] if replies else None)
    assert servers[0] == inet_aton("10.77.0.1")
    assert servers[-1] == inet_aton("10.77.0.2")
    takeover = servers.index(inet_aton("10.77.0.2"))
    assert inet_aton("10.77.0.1") not in servers[takeover:]
    assert second.state == "leading"
    other_addresses = {lab.get_lease(number) for number in range(2, 6)}
    assert address not in other_addresses

    setattr(first.link, fault, False)
    first.link.answer_all()
    lab.network.advance(1.0)
    assert first.state == "standby"
    assert len(lab.send(7, DISCOVER)) == 1
    assert not [event for event in first.observer.events if isinstance(event, LeasesNotKept)]


def test_a_leader_that_was_suspended_does_not_answer_messages_that_waited(lab: Lab) -> None:
    """After SIGSTOP its clock has advanced when it reads its sockets again, before it knows of another leader."""
    first = lab.nodes[0]
    lab.get_lease(1)
    first.link.hangs = True
    lab.network.advance(TAKEOVER)
    assert [node.state for node in lab.nodes] == ["leading", "leading"]
    [offer] = lab.send(2, DISCOVER)
    assert offer.options[54] == inet_aton("10.77.0.2")
    assert first.state == "unconfirmed"


def test_a_lease_that_is_not_stored_in_time_is_not_acknowledged(lab: Lab) -> None:
    """It is stored, but another server has begun to lead before the store's answer came."""
    first, second = lab.nodes
    [offer] = lab.send(1, DISCOVER)
    first.link.hangs = True
    assert lab.send(1, REQUEST, {50: inet_aton(offer.yiaddr), 54: offer.options[54]}) == []
    lab.network.advance(TAKEOVER)
    assert second.state == "leading"
    client = FakePeer(lab.network.host(), 68)
    first.link.hangs = False
    first.link.answer_all()
    lab.network.advance(0.1)
    assert client.take() == []
    client.close()
    assert first.state == "standby"
    assert lab.get_lease(1) == offer.yiaddr  # the second one knows it


def test_a_store_that_no_node_reaches_changes_no_leader(lab: Lab) -> None:
    first, second = lab.nodes
    address = lab.get_lease(1)
    for node in lab.nodes:
        node.link.cut = True
    lab.network.advance(60)
    assert [node.state for node in lab.nodes] == ["cut off", "standby"]
    reason = "the store can't be reached"
    assert first.observer.states() == [("leading", "node1"), ("cut off", reason)]
    assert second.observer.states() == [("standby", "node1"), ("standby", reason)]
    assert lab.send(2, DISCOVER) == []
    for node in lab.nodes:
        node.link.cut = False
    lab.network.advance(1.0)
    assert [node.state for node in lab.nodes] == ["leading", "standby"]
    assert first.observer.states()[2:] == [("leading", "node1")]
    [ack] = lab.reboot(1, address)
    assert ack.yiaddr == address


def test_one_time_boots_are_kept_at_a_takeover(lab: Lab) -> None:
    first, second = lab.nodes
    order = first.service.operations()["order"]
    lab.network.result_of(order({"mac": MAC, "file": "memtest"}))
    first.link.cut = True
    lab.network.advance(TAKEOVER)
    [listed] = second.service.operations()["next"]({})
    assert (listed["mac"], listed["file"]) == (MAC, "memtest")
    first.link.cut = False
    lab.network.advance(1.0)
    for name, arguments in (("cancel", {"mac": MAC}), ("release", {"address": "10.77.0.100"}), ("reserve", {})):
        with pytest.raises(ControlError, match="this server is a standby; node2 leads: ask there"):
            first.service.operations()[name](arguments)


def test_a_standby_lists_what_the_store_has(lab: Lab) -> None:
    second = lab.nodes[1]
    leader, standby = (node.service.operations() for node in lab.nodes)
    address = lab.get_lease(1)
    lab.get_lease(2)
    lab.network.result_of(leader["order"]({"mac": MAC, "file": "memtest"}))
    lab.network.result_of(leader["reserve"]({"address": "10.77.0.109", "mac": MAC}))
    [lease] = lab.network.result_of(standby["leases"]({"who": MAC, "state": "active"}))
    [leader_lease] = leader["leases"]({"who": MAC})
    assert lease == {**leader_lease, "expires": leader_lease["expires"] + 60 + CLOCK_DIFFERENCE}
    assert (lease["address"], lease["mac"]) == (address, MAC)
    assert len(list(lab.network.result_of(standby["leases"]({})))) == 2
    assert list(lab.network.result_of(standby["reservations"]({}))) == list(leader["reservations"]({}))
    assert lab.network.result_of(standby["next"]({})) == leader["next"]({}) != []
    with pytest.raises(ControlError, match="the state must be one of active"):
        standby["leases"]({"state": "gone"})
    second.link.cut = True
    for name in ("leases", "reservations", "next"):
        with pytest.raises(StateError, match="can't be reached"):
            lab.network.result_of(standby[name]({}))


def test_a_server_that_can_not_use_the_stored_orders_stays_a_standby(lab: Lab) -> None:
    first, second = lab.nodes
    lab.content.orders["next-boot"] = {MAC: {"file": "a"}}
    first.link.cut = True
    lab.network.advance(TAKEOVER)
    assert second.observer.states()[-1] == ("standby", f"the stored one-time boot of {MAC} is invalid: {{'file': 'a'}}")
    assert len(second.observer.states()) == 2
    assert lab.send(1, DISCOVER) == []
    lab.content.orders.clear()
    lab.network.advance(1.0)
    assert second.state == "leading"
    assert lab.get_lease(1)


def test_another_node_answers_at_once_when_the_leader_drains(lab: Lab) -> None:
    first, second = lab.nodes
    address = lab.get_lease(1)
    lab.meet()
    draining = first.service.drain(60)
    drained = draining.start()
    lab.network.advance(LOOK_EVERY + 0.01)
    assert [node.state for node in lab.nodes] == ["resigned", "leading"]
    assert first.observer.states()[-1] == ("resigned", "node1")
    [ack] = lab.reboot(1, address)
    assert (ack.message_type, ack.yiaddr, ack.options[54]) == (ACK, address, inet_aton("10.77.0.2"))
    assert lab.get_lease(2) != address
    assert not drained.called
    draining.end()
    lab.cluster.deliver()
    record = second.service.cluster_record()
    assert record is not None
    rows = {row["pid"]: (row["leadership"], row["draining"]) for row in record["nodes"][1:]}
    assert list(rows.values()) == [("resigned", True)]
    with pytest.raises(ControlError, match="does not lead, since it is about to stop: ask another one"):
        first.service.operations()["release"]({})
    lab.network.result_of(first.service.stopService())
    first.service.startService()
    lab.network.advance(1.0)
    assert [node.state for node in lab.nodes] == ["standby", "leading"]


def test_pending_leases_are_stored_before_a_leader_resigns(lab: Lab) -> None:
    first, second = lab.nodes
    lab.meet()
    [offer] = lab.send(1, DISCOVER)
    first.link.hangs = True
    lab.send(1, REQUEST, {50: inet_aton(offer.yiaddr), 54: offer.options[54]})
    first.service.drain(60)
    lab.network.advance(2 * LOOK_EVERY)
    assert [node.state for node in lab.nodes] == ["resigned", "standby"]
    first.link.hangs = False
    first.link.answer_all()
    lab.network.advance(LOOK_EVERY + 0.01)
    assert second.state == "leading"
    assert lab.content.leases[offer.yiaddr].mac == MAC
    assert lab.get_lease(1) == offer.yiaddr


@pytest.mark.parametrize("lab", [Subnet(network="10.77.0.0/16", pool=["10.77.1.0/24"])], indirect=True)
def test_the_next_leader_offers_other_addresses_than_the_one_before(lab: Lab) -> None:
    """Only the leader knows its offers, and a client that has got one may select it at the next leader."""
    offers = {number: lab.send(number, DISCOVER)[0] for number in range(1, 31)}
    lab.nodes[0].link.cut = True
    lab.network.advance(TAKEOVER)
    other_addresses = {lab.get_lease(number) for number in range(101, 131)}
    for number, offer in offers.items():
        [reply] = lab.send(number, REQUEST, {50: inet_aton(offer.yiaddr), 54: inet_aton("10.77.0.2")})
        assert (reply.message_type, reply.yiaddr) == (ACK, offer.yiaddr)
        assert offer.yiaddr not in other_addresses


def test_a_dhcpv6_client_keeps_its_lease_with_the_next_leader(lab: Lab) -> None:
    """Its messages name the server that advertised or assigned its address; it would ignore another one's reply."""
    first, second = lab.nodes
    advertise = present(lab.send6(MessageType6.SOLICIT))
    server = Option6.SERVER_ID, duid_of(Standing(True, 1, 0, "", lab.content.cluster))
    assert advertise.first(Option6.SERVER_ID) == server[1]
    first.link.cut = True
    lab.network.advance(TAKEOVER)
    assert second.state == "leading"
    association = identity_association(present(advertise.first(Option6.IA_NA)))
    for kind in (MessageType6.REQUEST, MessageType6.RENEW):
        reply = present(lab.send6(kind, server, ia=options_bytes(association.options)))
        assert (reply.kind, reply.first(Option6.SERVER_ID)) == (MessageType6.REPLY, server[1])
        assert identity_association(present(reply.first(Option6.IA_NA))) == association
    [lease] = lab.content.leases.values()
    assert lease.client_id == LINUX.options[Option6.CLIENT_ID]


def test_a_leader_that_drains_leads_to_the_end_if_no_other_node_can(lab: Lab) -> None:
    """The other node drains as well, so it has resigned."""
    first, second = lab.nodes
    lab.meet()
    second.service.drain(60)
    lab.cluster.deliver()
    assert second.state == "resigned"
    first.service.drain(60)
    assert first.state == "leading"
    assert len(lab.send(1, DISCOVER)) == 1


def test_a_reload_of_a_standby_is_used_when_it_leads(lab: Lab) -> None:
    first, second = lab.nodes
    dhcp = evolve(lab.settings.dhcp, subnets=(subnet(pool=["10.77.0.200"]),))
    for node in (first, second):
        node.service.reload(evolve(lab.settings, dhcp=dhcp), [], [node.next_boot], node.service._configured.watchdog)
    assert lab.get_lease(1) == "10.77.0.200"
    first.link.cut = True
    lab.network.advance(TAKEOVER)
    acks = lab.reboot(1, "10.77.0.200")  # the first one, which is cut off, renews what is stored
    assert {ack.options[54] for ack in acks} == {inet_aton("10.77.0.1"), inet_aton("10.77.0.2")}
    assert {ack.yiaddr for ack in acks} == {"10.77.0.200"}


def test_a_reload_that_was_prepared_before_a_takeover_is_committed_after_it(lab: Lab) -> None:
    first = lab.nodes[0]
    dhcp = evolve(lab.settings.dhcp, subnets=(subnet(pool=["10.77.0.200"]),))
    changed = evolve(lab.settings, dhcp=dhcp)
    prepared = [
        node.service.prepare(changed, [], [node.next_boot], node.service._configured.watchdog) for node in lab.nodes
    ]
    first.link.cut = True
    lab.network.advance(TAKEOVER)
    first.link.cut = False
    lab.network.advance(1.0)
    assert [node.state for node in lab.nodes] == ["standby", "leading"]
    for node, each in zip(lab.nodes, prepared, strict=True):
        node.service.commit(each)
    assert lab.get_lease(1) == "10.77.0.200"


def test_each_new_leader_has_all_leases_of_the_store(lab: Lab) -> None:
    addresses: dict[int, str] = {}
    for index in range(6):
        number = index + 1
        addresses[number] = lab.get_lease(number)
        leader = next(node for node in lab.nodes if node.state == "leading")
        leader.link.cut = True
        lab.network.advance(TAKEOVER)
        leader.link.cut = False
        lab.network.advance(1.0)
        for client, address in addresses.items():
            [ack] = lab.reboot(client, address)
            assert ack.yiaddr == address
    assert len(set(addresses.values())) == len(addresses)
    assert {lease.address for lease in lab.content.leases.values()} == set(addresses.values())


LEASE_TIME = 51


def seconds_of(ack: Message) -> int:
    return int.from_bytes(ack.options[LEASE_TIME], "big")


def test_leases_are_renewed_while_the_store_is_away_up_to_their_stored_end(lab: Lab) -> None:
    """Each server that comes to lead meanwhile keeps the address for the client until then."""
    first, second = lab.nodes
    address = lab.get_lease(1)
    leased = lab.network.clock.seconds()
    lease, outage = 120.0, lab.settings.dhcp.store_outage_seconds
    stored = lab.content.leases[address].expires
    assert abs(stored - (leased + lease + outage + CLOCK_DIFFERENCE)) < 0.1
    for node in lab.nodes:
        node.link.cut = True
    lab.network.advance(lease / 2)
    [ack] = lab.reboot(1, address)
    assert (ack.yiaddr, seconds_of(ack)) == (address, 119)  # half of the lease, and the time of an outage
    lab.network.advance(lease / 2)
    [ack] = lab.reboot(1, address)
    assert 0 < seconds_of(ack) <= stored - CLOCK_DIFFERENCE - lab.network.clock.seconds()
    assert lab.send(2, DISCOVER) == []
    assert lab.send(1, 7, ciaddr=address) == []  # a RELEASE that is not stored
    [ack] = lab.reboot(1, address)
    second.link.cut = False
    lab.network.advance(TAKEOVER)
    assert second.state == "leading"
    assert address not in {lab.get_lease(number) for number in range(2, 11)}
    lab.network.advance(stored - lab.network.clock.seconds() - 2)
    replies = lab.reboot(1, address)
    assert replies
    assert first.state == "cut off"


def test_nothing_is_renewed_after_the_stored_end_or_for_another_client(lab: Lab) -> None:
    first = lab.nodes[0]
    address = lab.get_lease(1)
    [offer] = lab.send(3, DISCOVER)
    for node in lab.nodes:
        node.link.cut = True
    lab.network.advance(10.0)
    assert first.state == "cut off"
    assert lab.send(3, REQUEST, {50: inet_aton(offer.yiaddr), 54: offer.options[54]}) == []
    assert lab.reboot(2, address) == []
    assert lab.reboot(2, "10.77.0.109") == []
    lab.network.advance(lab.content.leases[address].expires - lab.network.clock.seconds() + 1)
    assert lab.reboot(1, address) == []
