"""The wait for the transfers under way before a stop."""

import pytest
from twisted.internet.task import Clock

from bootfw.net.draining import DRAIN_WITHIN, Draining


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_without_a_transfer_there_is_no_wait(clock: Clock) -> None:
    assert Draining(clock, set).start().called
    assert clock.getDelayedCalls() == []


def test_it_ends_with_the_last_transfer(clock: Clock) -> None:
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


def test_it_ends_after_its_time(clock: Clock) -> None:
    done = Draining(clock, lambda: {1}).start()
    clock.pump([0.1] * int(DRAIN_WITHIN * 10 - 1))
    assert not done.called
    clock.advance(0.2)
    assert done.called
    assert clock.getDelayedCalls() == []


def test_it_can_be_ended(clock: Clock) -> None:
    draining = Draining(clock, lambda: {1})
    done = draining.start()
    draining.end()
    draining.end()
    assert done.called
    assert clock.getDelayedCalls() == []
