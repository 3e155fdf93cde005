"""Announcements between nodes: subscribers, packing of items, and announcements of another version."""

from collections.abc import Sequence
from typing import Any

import pytest
from memorynodes import Cluster
from twisted.logger import capturedLogs

from bootfw.net.nodes.announcements import JOINED, LONGEST, Announcements, Unreadable

Received = list[tuple[str, Sequence[Any]]]
"""(node, items) of each announcement."""


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def joined_node(cluster: Cluster, *kinds: str) -> tuple[Announcements, Received]:
    """A node that has joined, and the list of the announcements of these kinds that it receives."""
    announcements, received = Announcements(cluster.node()), Received()
    for kind in kinds:
        announcements.subscribe(kind, lambda node, items: received.append((node, items)))
    announcements.join()
    return announcements, received


def test_items_go_to_the_subscribers_of_their_kind_at_all_other_nodes(cluster: Cluster) -> None:
    one, received_by_one = joined_node(cluster, "kind")
    _, received_by_two = joined_node(cluster, "kind")
    _, received_by_three = joined_node(cluster, "other")
    one.announce("kind", 1, ["a", None])
    one.announce("other")
    cluster.deliver()
    assert received_by_one == []
    assert received_by_two == [(one.node, [1, ["a", None]])]
    assert received_by_three == [(one.node, [])]


def test_items_are_announced_together_as_far_as_one_announcement_carries_them(cluster: Cluster) -> None:
    one, _ = joined_node(cluster)
    _, received = joined_node(cluster, "kind")
    items = [f"{number:03}" + "x" * 97 for number in range(200)]
    one.announce("kind", *items)
    cluster.deliver()
    assert [item for _, part in received for item in part] == items
    items_in_one = LONGEST // len(items[0])
    assert 200 / items_in_one <= len(received) <= 200 // items_in_one + 2


def test_an_item_that_no_announcement_can_carry_is_dropped(cluster: Cluster) -> None:
    one, _ = joined_node(cluster)
    _, received = joined_node(cluster, "kind")
    one.announce("kind", "before", "x" * 7000, "after")
    cluster.deliver()
    assert [item for _, items in received for item in items] == ["before", "after"]


def test_a_node_that_receives_an_announcement_announces_once_that_it_has_joined(cluster: Cluster) -> None:
    one, received = joined_node(cluster, JOINED)
    two, _ = joined_node(cluster)
    assert received == []
    one.announce("kind")
    one.announce("kind")
    cluster.deliver()
    assert received == [(two.node, [])]
    two.leave()
    two.join()
    one.announce("kind")
    cluster.deliver()
    assert received == [(two.node, [])] * 2


def test_a_node_that_has_left_receives_nothing(cluster: Cluster) -> None:
    one, _ = joined_node(cluster)
    two, received = joined_node(cluster, "kind")
    ended: list[object] = []
    one.announce("kind")
    two.leave().addCallback(ended.append)
    cluster.deliver()
    assert (received, ended) == ([], [None])


@pytest.mark.parametrize("values", [(), (1, "item"), (None,)])
def test_announcements_without_a_node_are_ignored(cluster: Cluster, values: tuple[object, ...]) -> None:
    _, received = joined_node(cluster, "kind")
    stranger = cluster.node()
    stranger.join_nodes(lambda kind, values: None)
    stranger.announce("kind", *values)
    cluster.deliver()
    assert received == []


def test_unreadable_announcements_are_logged_once_for_each_kind(cluster: Cluster) -> None:
    one, _ = joined_node(cluster)
    two, received = joined_node(cluster, "good")

    def refuse(node: str, items: Sequence[Any]) -> None:
        raise Unreadable("no number")

    two.subscribe("bad", refuse)
    two.subscribe("bad", lambda node, items: received.append((node, items)))
    with capturedLogs() as log:
        for _ in range(2):
            one.announce("bad", 1)
        one.announce("good", 2)
        cluster.deliver()
    assert received == [(one.node, [1]), (one.node, [1]), (one.node, [2])]
    (event,) = [event for event in log if event.get("kind") == "bad"]
    assert "is it of another version" in str(event["log_format"])
