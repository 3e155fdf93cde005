"""The wait for the transfers under way before a stop."""

import pytest
from twisted.internet.task import Clock

from bootfw.net.draining import DRAIN_WITHIN, Draining


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_draining_without_transfers_ends_at_once(clock: Clock) -> None:
    assert Draining(clock, set).start().called
    assert clock.getDelayedCalls() == []


def test_draining_ends_with_the_last_transfer(clock: Clock) -> None:
    under_way: set[object] = {1, 2}
    draining = Draining(clock, lambda: under_way)
    done = draining.start()
    assert draining.count == 2
    under_way.discard(1)
    clock.pump([0.1] * 10)
    assert not done.called
    under_way.discard(2)
    clock.advance(0.1)
    assert done.called
    assert clock.getDelayedCalls() == []


def test_draining_ends_after_its_time_limit(clock: Clock) -> None:
    done = Draining(clock, lambda: {1}).start()
    clock.pump([0.1] * int(DRAIN_WITHIN * 10 - 1))
    assert not done.called
    clock.advance(0.2)
    assert done.called
    assert clock.getDelayedCalls() == []


def test_draining_can_be_ended(clock: Clock) -> None:
    draining = Draining(clock, lambda: {1})
    done = draining.start()
    draining.end()
    draining.end()
    assert done.called
    assert clock.getDelayedCalls() == []
