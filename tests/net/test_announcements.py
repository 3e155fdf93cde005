"""Announcements between nodes: by kind, in as few as carry the items, and whatever another version sends."""

from collections.abc import Sequence
from typing import Any

import pytest
from memorynodes import Cluster
from twisted.logger import capturedLogs

from bootfw.net.nodes.announcements import JOINED, LONGEST, Announcements, Unreadable

Heard = list[tuple[str, Sequence[Any]]]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def joined(cluster: Cluster, *kinds: str) -> tuple[Announcements, Heard]:
    """A node, and what it hears of these kinds: (node, items)."""
    made, heard = Announcements(cluster.node()), Heard()
    for kind in kinds:
        made.subscribe(kind, lambda node, items: heard.append((node, items)))
    made.join()
    return made, heard


def test_items_go_to_the_subscribers_of_their_kind_at_all_other_nodes(cluster: Cluster) -> None:
    one, own = joined(cluster, "kind")
    _, second = joined(cluster, "kind")
    _, third = joined(cluster, "other")
    one.announce("kind", 1, ["a", None])
    one.announce("other")
    cluster.deliver()
    assert own == []
    assert second == [(one.node, [1, ["a", None]])]
    assert third == [(one.node, [])]


def test_items_are_announced_together_as_far_as_one_announcement_carries_them(cluster: Cluster) -> None:
    one, _ = joined(cluster)
    _, heard = joined(cluster, "kind")
    items = [f"{number:03}" + "x" * 97 for number in range(200)]
    one.announce("kind", *items)
    cluster.deliver()
    assert [item for _, part in heard for item in part] == items
    each = LONGEST // len(items[0])
    assert 200 / each <= len(heard) <= 200 // each + 2


def test_an_item_that_no_announcement_can_carry_is_dropped(cluster: Cluster) -> None:
    one, _ = joined(cluster)
    _, heard = joined(cluster, "kind")
    one.announce("kind", "before", "x" * 7000, "after")
    cluster.deliver()
    assert [item for _, items in heard for item in items] == ["before", "after"]


def test_a_node_that_hears_another_one_says_that_it_has_joined_once(cluster: Cluster) -> None:
    one, joining = joined(cluster, JOINED)
    two, _ = joined(cluster)
    assert joining == []
    one.announce("kind")
    one.announce("kind")
    cluster.deliver()
    assert joining == [(two.node, [])]
    two.leave()
    two.join()
    one.announce("kind")
    cluster.deliver()
    assert joining == [(two.node, [])] * 2


def test_who_has_left_hears_nothing(cluster: Cluster) -> None:
    one, _ = joined(cluster)
    two, heard = joined(cluster, "kind")
    left: list[object] = []
    one.announce("kind")
    two.leave().addCallback(left.append)
    cluster.deliver()
    assert (heard, left) == ([], [None])


@pytest.mark.parametrize("values", [(), (1, "item"), (None,)])
def test_what_names_no_node_is_ignored(cluster: Cluster, values: tuple[object, ...]) -> None:
    _, heard = joined(cluster, "kind")
    stranger = cluster.node()
    stranger.join_nodes(lambda kind, values: None)
    stranger.announce("kind", *values)
    cluster.deliver()
    assert heard == []


def test_what_can_not_be_read_is_said_once_for_each_kind(cluster: Cluster) -> None:
    one, _ = joined(cluster)
    two, heard = joined(cluster, "good")

    def refuse(node: str, items: Sequence[Any]) -> None:
        raise Unreadable("no number")

    two.subscribe("bad", refuse)
    two.subscribe("bad", lambda node, items: heard.append((node, items)))
    with capturedLogs() as events:
        for _ in range(2):
            one.announce("bad", 1)
        one.announce("good", 2)
        cluster.deliver()
    assert heard == [(one.node, [1]), (one.node, [1]), (one.node, [2])]
    (said,) = [event for event in events if event.get("kind") == "bad"]
    assert "is it of another version" in str(said["log_format"])
