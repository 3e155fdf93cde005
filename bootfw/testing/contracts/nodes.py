"""INodes."""

import time
from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from bootfw.interfaces import INodes
from bootfw.testing.contracts.answers import Answers

_PATIENCE = 60.0
"""Seconds until a test fails for what has not come."""

VALUES = (1, 2.5, "\N{SNOWMAN}\udcff\0'", None, True, ["a", {"b": []}])


@define(eq=False)
class _Node:
    """A node, and what it has received."""

    nodes: INodes
    received: list[tuple[str, Sequence[object]]] = field(factory=list)
    leave: Callable[[], Deferred[None]] = field(init=False)

    def join(self) -> None:
        self.leave = self.nodes.join_nodes(lambda kind, values: self.received.append((kind, list(values))))

    def numbers(self) -> list[object]:
        """Return the values of the kind "number"."""
        return [values[0] for kind, values in self.received if kind == "number"]


class NodesContract(Answers):
    """What every store does that carries announcements. Override ``make_nodes`` and ``turn``."""

    def make_nodes(self) -> Sequence[INodes]:
        """Two or more stores as the configurations of several servers would make them, which share what they store."""
        raise NotImplementedError

    def turn(self) -> None:
        """Let a little time pass, at least as long as one call of the reactor takes."""
        raise NotImplementedError

    def joined(self) -> list[_Node]:
        """Nodes that hear of each other. What is announced before that may be lost."""
        nodes = [_Node(each) for each in self.make_nodes()]
        for node in nodes:
            node.join()

        def greeted() -> bool:
            for number, node in enumerate(nodes):
                node.nodes.announce("hello", number)
            pairs = {(str(values), id(node)) for node in nodes for kind, values in node.received if kind == "hello"}
            return len(pairs) == len(nodes) * (len(nodes) - 1)

        self.until(greeted)
        return nodes

    def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until *condition* holds."""
        give_up = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < give_up, "what was announced has not come"
            self.turn()

    def left(self, nodes: Sequence[_Node]) -> None:
        """Have all of them leave."""
        for node in nodes:
            self.answer(node.leave())

    def test_provides_the_interface(self) -> None:
        for nodes in self.make_nodes():
            verifyObject(INodes, nodes)

    def test_announcements_reach_all_other_nodes_in_order(self) -> None:
        sender, *others = nodes = self.joined()
        for number in range(300):
            sender.nodes.announce("number", number)
        self.until(lambda: all(len(node.numbers()) >= 300 for node in others))
        for node in others:
            assert node.numbers() == list(range(300))
        assert sender.numbers() == []
        self.left(nodes)

    def test_behind_says_when_an_announcement_got_through(self) -> None:
        nodes = self.joined()
        for node in nodes:
            self.until(lambda node=node: node.nodes.behind is not None)  # type: ignore[misc]
            behind = node.nodes.behind
            assert behind is not None
            assert 0.0 <= behind < _PATIENCE
        self.left(nodes)

    def test_values_come_back_exactly(self) -> None:
        sender, other, *_ = nodes = self.joined()
        sender.nodes.announce("values", *VALUES)
        self.until(lambda: "values" in (kind for kind, _ in other.received))
        assert [values for kind, values in other.received if kind == "values"] == [list(VALUES)]
        self.left(nodes)

    def test_who_has_left_receives_nothing_and_announces_nothing(self) -> None:
        leaving, sender, *_ = nodes = self.joined()
        left = leaving.leave()
        assert isinstance(left, Deferred)
        assert self.answer(left) is None
        before = list(leaving.received)
        leaving.nodes.announce("number", 1)
        sender.nodes.announce("number", 2)
        self.answer(sender.leave())
        assert (leaving.received, sender.numbers()) == (before, [])
        for node in nodes[:2]:
            node.join()

        def heard() -> bool:
            sender.nodes.announce("number", 3)
            return bool(leaving.numbers())

        self.until(heard)
        assert set(leaving.numbers()) == {3}
        self.left(nodes)

    def test_what_is_announced_before_joining_is_dropped(self) -> None:
        sender, *others = nodes = [_Node(each) for each in self.make_nodes()]
        for node in others:
            node.join()
        sender.nodes.announce("number", 1)
        sender.join()

        def heard() -> bool:
            sender.nodes.announce("number", 2)
            return all(node.numbers() for node in others)

        self.until(heard)
        assert {number for node in others for number in node.numbers()} == {2}
        self.left(nodes)
