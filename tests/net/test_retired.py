"""Parts that a reload has put out of use are closed when nothing uses them."""

from types import SimpleNamespace
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.task import Clock

from bootfw.net.retired import CHECKED_EVERY, RetiredParts


@define
class Scene:
    """Retired parts, and what this process serves."""

    clock: Clock = field(factory=Clock)
    under_way: set[str] = field(factory=set)
    closed: list[str] = field(factory=list)
    parts: RetiredParts = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.parts = RetiredParts(self.clock, lambda: self.under_way)

    def add(self, name: str, *, chain: Any = None, under_way: set[str] | None = None, **until: float) -> None:
        self.parts.add(chain, under_way or set(), [lambda: self.closed.append(name)], **until)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_unused_part_is_closed_at_once(scene: Scene) -> None:
    scene.add("plugin")
    scene.parts.close_unused()
    assert (scene.closed, len(scene.parts), scene.clock.getDelayedCalls()) == (["plugin"], 0, [])


def test_a_part_is_closed_when_its_last_transfer_has_ended(scene: Scene) -> None:
    scene.under_way = {"old", "older", "new"}
    scene.add("plugin", under_way={"old", "older"})
    scene.parts.close_unused()
    scene.under_way = {"older", "new"}
    scene.clock.advance(CHECKED_EVERY)
    assert scene.closed == []
    scene.under_way = {"new"}
    scene.clock.advance(CHECKED_EVERY)
    assert (scene.closed, scene.clock.getDelayedCalls()) == (["plugin"], [])


def test_a_part_is_closed_when_its_chain_has_answered(scene: Scene) -> None:
    chain = SimpleNamespace(is_busy=True)
    scene.add("resolver", chain=chain)
    scene.parts.close_unused()
    assert (scene.closed, len(scene.parts)) == ([], 1)
    chain.is_busy = False
    scene.clock.advance(CHECKED_EVERY)
    assert scene.closed == ["resolver"]


def test_a_part_is_closed_at_its_time_even_if_it_is_used(scene: Scene) -> None:
    scene.under_way = {"old"}
    scene.add("socket", under_way={"old"}, until=2.5)
    scene.parts.close_unused()
    scene.clock.pump([1.0, 1.0])
    assert scene.closed == []
    scene.clock.advance(1.0)
    assert scene.closed == ["socket"]


def test_another_reload_leaves_one_timer(scene: Scene) -> None:
    scene.under_way = {"old"}
    for name in ("first", "second"):
        scene.add(name, under_way={"old"})
        scene.parts.close_unused()
    assert len(scene.clock.getDelayedCalls()) == 1


def test_a_stop_closes_nothing_later(scene: Scene) -> None:
    scene.under_way = {"old"}
    scene.add("plugin", under_way={"old"})
    scene.parts.close_unused()
    scene.parts.forget()
    scene.under_way = set()
    assert (scene.clock.getDelayedCalls(), len(scene.parts)) == ([], 0)
    scene.parts.close_unused()
    assert scene.closed == []
