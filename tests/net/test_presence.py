"""Presence: which nodes run, stopped or are gone, by their announcements."""

from typing import Any

from attrs import define, field
from memorynodes import Cluster, MemoryNodes
from twisted.internet.task import Clock

from bootfw.net.nodes.announcements import Announcements
from bootfw.net.nodes.presence import FORGOTTEN_AFTER, GONE_AFTER, GOODBYE, MOST_NODES, PRESENT, Presence


@define
class Node:
    """One node of the cluster."""

    cluster: Cluster
    clock: Clock
    name: str
    pid: int = 1
    nodes: MemoryNodes = field(init=False)
    announcements: Announcements = field(init=False)
    presence: Presence = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.nodes = self.cluster.node()
        self.announcements = Announcements(self.nodes)
        self.presence = Presence(
            self.clock, self.announcements, lambda: {"name": self.name, "pid": self.pid, "version": "1"}
        )
        self.announcements.join()
        self.presence.start()

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.presence.nodes()}


def pass_time(cluster: Cluster, clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds * 2)):
        clock.advance(0.5)
        cluster.deliver()


def three_nodes() -> tuple[Cluster, Clock, list[Node]]:
    """Nodes called c, a and b that have heard of each other."""
    cluster, clock = Cluster(), Clock()
    nodes = [Node(cluster, clock, name) for name in ("c", "a", "b")]
    pass_time(cluster, clock, 1)
    return cluster, clock, nodes


def test_a_node_lists_itself_first_and_then_the_others_by_name() -> None:
    _, _, (first, *_) = three_nodes()
    rows = first.presence.nodes()
    assert [(row["name"], row["state"], row["version"]) for row in rows] == [
        ("c", "here", "1"),
        ("a", "here", "1"),
        ("b", "here", "1"),
    ]
    assert (rows[0]["node"], rows[0]["heard"]) == (first.announcements.node, 0.0)
    assert set(first.presence.others_here()) == {row["node"] for row in rows[1:]}


def test_a_node_that_is_not_heard_is_gone_and_then_forgotten() -> None:
    cluster, clock, (first, second, third) = three_nodes()
    second.nodes.receive = None  # killed: what it announces goes nowhere
    pass_time(cluster, clock, GONE_AFTER)
    assert first.states()["a"] == "here"
    pass_time(cluster, clock, 1)
    assert first.states() == {"c": "here", "a": "gone", "b": "here"}
    assert first.presence.others_here() == [third.announcements.node]
    (gone,) = (row for row in first.presence.nodes() if row["name"] == "a")
    assert gone["heard"] == GONE_AFTER + 1
    clock.advance(FORGOTTEN_AFTER)
    cluster.deliver()
    assert first.states() == {"c": "here", "b": "here"}


def test_a_node_announces_that_it_stops() -> None:
    cluster, clock, (first, second, _) = three_nodes()
    second.presence.stop()
    cluster.deliver()
    assert first.states()["a"] == "stopped"
    pass_time(cluster, clock, 100)
    assert first.states()["a"] == "stopped"
    second.presence.stop()
    assert [kind for kind, _ in second.nodes.sent].count(GOODBYE) == 1


def test_the_addresses_of_a_node_are_known_when_it_is_gone() -> None:
    """The next leader answers the clients that have selected an offer of the former one."""
    cluster, clock, (first, second, third) = three_nodes()
    second.announcements.announce(PRESENT, {"name": "a", "addresses": ["10.77.0.12", "fd77::12"]})
    third.announcements.announce(PRESENT, {"name": "b", "addresses": "of another version"})
    cluster.deliver()
    second.nodes.receive = None
    clock.advance(GONE_AFTER + 1)
    assert [*first.presence.addresses()] == ["10.77.0.12", "fd77::12"]
    assert first.states()["a"] != "here"


def test_a_restarted_process_replaces_the_one_before() -> None:
    cluster, clock, (first, second, _) = three_nodes()
    second.presence.stop()
    restarted = Node(cluster, clock, "a", pid=2)
    cluster.deliver()
    rows = [row for row in first.presence.nodes() if row["name"].startswith("a")]
    assert [(row["node"], row["state"]) for row in rows] == [(restarted.announcements.node, "here")]


def test_the_states_of_other_nodes_are_unknown_while_the_store_is_away() -> None:
    cluster, clock, (first, *_) = three_nodes()
    cluster.lost, first.nodes.behind = True, 60.0
    pass_time(cluster, clock, 10)
    assert first.states() == {"c": "here", "a": "unknown", "b": "unknown"}
    first.nodes.behind = None
    assert first.states()["a"] == "unknown"
    cluster.lost, first.nodes.behind = False, 0.0
    pass_time(cluster, clock, 1)
    assert first.states() == {"c": "here", "a": "here", "b": "here"}


def test_two_nodes_of_one_name_are_shown_with_their_pids() -> None:
    cluster, clock = Cluster(), Clock()
    first, second = Node(cluster, clock, "a", 7), Node(cluster, clock, "a", 8)
    pass_time(cluster, clock, 1)
    assert first.states() == {"a (pid 7)": "here", "a (pid 8)": "here"}
    assert list(second.states()) == ["a (pid 8)", "a (pid 7)"]


def test_fields_of_another_version_are_shown_and_malformed_announcements_ignored() -> None:
    cluster, _, (first, second, _) = three_nodes()

    def announce(*items: Any) -> None:
        second.announcements.announce(PRESENT, *items)
        cluster.deliver()

    announce({"name": "a", "later": [1]})
    assert next(row for row in first.presence.nodes() if row["name"] == "a")["later"] == [1]
    for malformed in ({}, {"name": 1}, 5, ["a"]):
        announce(malformed)
    assert first.states()["a"] == "here"


def test_the_number_of_nodes_is_bounded() -> None:
    cluster, clock = Cluster(), Clock()
    first = Node(cluster, clock, "first")
    for number in range(MOST_NODES + 5):
        announcements = Announcements(cluster.node())
        announcements.join()
        announcements.announce(PRESENT, {"name": str(number)})
    cluster.deliver()
    assert len(first.presence.nodes()) == 1 + MOST_NODES
