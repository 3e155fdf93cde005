"""The alarm, by itself and compared with a model that has no heap."""

import gc
import weakref
from collections.abc import Callable
from typing import Literal

import pytest
from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st
from narrowing import present
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from bootfw.net.alarm import Alarm


@define(eq=False, slots=True, weakref_slot=True)
class Owner:
    """An owner of a deadline."""

    deadline: float | None = None
    name: str = ""


class CountingClock(Clock):
    """Counts the delayed calls that are scheduled."""

    delayed_calls = 0

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> IDelayedCall:
        self.delayed_calls += 1
        return super().callLater(delay, callable, *args, **kw)


class RecordingRing:
    """Records the owner and time of each ring, and returns what *then* returns."""

    def __init__(self, then: Callable[[Owner, float], float | None] = lambda owner, now: None) -> None:
        self.calls: list[tuple[Owner, float]] = []
        self.then = then

    def __call__(self, owner: Owner, now: float) -> float | None:
        self.calls.append((owner, now))
        return self.then(owner, now)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_alarm_fires_once_at_the_deadline(clock: Clock) -> None:
    ring = RecordingRing()
    alarm = Alarm(clock, ring)
    owner = Owner(2.0)
    alarm.watch(owner)
    clock.advance(1.75)
    assert ring.calls == []
    clock.advance(0.25)
    assert ring.calls == [(owner, 2.0)]
    clock.advance(100)
    assert len(ring.calls) == 1


def test_no_delayed_call_is_left_after_the_last_ring(clock: Clock) -> None:
    alarm = Alarm(clock, RecordingRing())
    owner = Owner(60.0)
    alarm.watch(owner)
    owner.deadline = 1.0
    alarm.watch(owner)
    clock.advance(1)
    assert clock.getDelayedCalls() == []


def test_later_deadline_needs_no_second_watch(clock: Clock) -> None:
    ring = RecordingRing()
    alarm = Alarm(clock, ring)
    owner = Owner(1.0)
    alarm.watch(owner)
    for deadline in (2.0, 3.0, 4.0):
        owner.deadline = deadline
        alarm.watch(owner)
    clock.pump([0.5] * 7)
    assert ring.calls == []
    clock.advance(0.5)
    assert ring.calls == [(owner, 4.0)]


def test_later_deadline_adds_no_delayed_call_and_no_heap_entry(clock: Clock) -> None:
    alarm = Alarm(clock, RecordingRing())
    owner = Owner(1.0)
    alarm.watch(owner)
    (before,) = clock.getDelayedCalls()
    for deadline in (5.0, 6.0, 7.0):
        owner.deadline = deadline
        alarm.watch(owner)
    assert clock.getDelayedCalls() == [before]
    assert before.getTime() == 1.0
    assert len(alarm._heap) == 1


def test_owner_with_a_later_deadline_is_rescheduled(clock: Clock) -> None:
    def reschedule(owner: Owner, now: float) -> float | None:
        owner.deadline = now + 2 if now < 5 else None
        return owner.deadline

    ring = RecordingRing(reschedule)
    alarm = Alarm(clock, ring)
    owner = Owner(1.0)
    alarm.watch(owner)
    clock.advance(1)
    owner.deadline = 2.5
    alarm.watch(owner)
    clock.pump([0.5] * 20)
    assert ring.calls == [(owner, 1.0), (owner, 2.5), (owner, 4.5), (owner, 6.5)]
    assert clock.getDelayedCalls() == []


def test_watch_of_a_later_deadline_during_the_ring_rings_once(clock: Clock) -> None:
    def reschedule(owner: Owner, now: float) -> float | None:
        owner.deadline = 2.0 if now < 2 else None
        alarm.watch(owner)
        return owner.deadline

    ring = RecordingRing(reschedule)
    alarm = Alarm(clock, ring)
    owner = Owner(1.0)
    alarm.watch(owner)
    clock.pump([0.5] * 8)
    assert ring.calls == [(owner, 1.0), (owner, 2.0)]


def test_forgotten_owner_with_a_later_deadline_is_not_called(clock: Clock) -> None:
    ring = RecordingRing(lambda owner, now: now + 1)
    alarm = Alarm(clock, ring)
    owner = Owner(1.0)
    alarm.watch(owner)
    clock.advance(1)
    alarm.forget(owner)
    clock.advance(5)
    assert ring.calls == [(owner, 1.0)]
    assert clock.getDelayedCalls() == []


def test_earlier_deadline_rings_at_its_time(clock: Clock) -> None:
    ring = RecordingRing()
    alarm = Alarm(clock, ring)
    owner = Owner(10.0)
    alarm.watch(owner)
    owner.deadline = 1.0
    alarm.watch(owner)
    clock.advance(1.0)
    assert ring.calls == [(owner, 1.0)]
    clock.advance(20)
    assert len(ring.calls) == 1


def test_owner_without_a_deadline_does_not_ring(clock: Clock) -> None:
    ring = RecordingRing()
    alarm = Alarm(clock, ring)
    owner = Owner(1.0)
    alarm.watch(owner)
    owner.deadline = None
    alarm.watch(owner)
    clock.advance(5)
    assert ring.calls == []
    assert clock.getDelayedCalls() == []
    owner.deadline = 6.0
    alarm.watch(owner)
    clock.advance(1)
    assert ring.calls == [(owner, 6.0)]


def test_alarm_without_owners_has_no_delayed_call(clock: Clock) -> None:
    alarm = Alarm(clock, RecordingRing())
    assert clock.getDelayedCalls() == []
    owners = [Owner(float(n)) for n in range(5)]
    for owner in owners:
        alarm.watch(owner)
    assert len(clock.getDelayedCalls()) == 1
    for owner in owners:
        alarm.forget(owner)
    assert clock.getDelayedCalls() == []


def test_forgotten_owner_does_not_ring(clock: Clock) -> None:
    ring = RecordingRing()
    alarm = Alarm(clock, ring)
    gone, stays = Owner(1.0), Owner(1.0)
    for owner in (gone, stays):
        alarm.watch(owner)
    alarm.forget(gone)
    alarm.forget(gone)
    clock.advance(1)
    assert ring.calls == [(stays, 1.0)]


def test_a_deadline_in_the_past_rings_in_the_next_turn(clock: Clock) -> None:
    ring = RecordingRing()
    alarm = Alarm(clock, ring)
    clock.advance(10)
    alarm.watch(Owner(3.0))
    assert ring.calls == []
    clock.advance(0)
    assert [now for _, now in ring.calls] == [10.0]


def test_stop_forgets_all_and_the_alarm_can_be_used_again(clock: Clock) -> None:
    ring = RecordingRing()
    alarm = Alarm(clock, ring)
    alarm.watch(Owner(1.0))
    alarm.stop()
    alarm.stop()
    assert clock.getDelayedCalls() == []
    clock.advance(5)
    assert ring.calls == []
    owner = Owner(6.0)
    alarm.watch(owner)
    clock.advance(1)
    assert ring.calls == [(owner, 6.0)]


def test_ring_may_watch_again_with_the_next_deadline(clock: Clock) -> None:
    def watch_again(owner: Owner, now: float) -> None:
        owner.deadline = now + 1
        alarm.watch(owner)

    ring = RecordingRing(watch_again)
    alarm = Alarm(clock, ring)
    alarm.watch(Owner(1.0))
    clock.pump([0.5] * 8)
    assert [now for _, now in ring.calls] == [1.0, 2.0, 3.0, 4.0]
    assert len(clock.getDelayedCalls()) == 1


def test_watch_during_a_ring_schedules_one_delayed_call() -> None:
    def watch_again(owner: Owner, now: float) -> None:
        owner.deadline = now + 10
        alarm.watch(owner)

    clock = CountingClock()
    alarm = Alarm(clock, RecordingRing(watch_again))
    for _ in range(3):
        alarm.watch(Owner(1.0))
    clock.advance(1)
    assert [call.getTime() for call in clock.getDelayedCalls()] == [11.0]
    assert clock.delayed_calls == 2


def test_ring_may_forget_another_that_is_due_too(clock: Clock) -> None:
    first, second = Owner(1.0), Owner(1.0)
    ring = RecordingRing(lambda owner, now: alarm.forget(second))
    alarm = Alarm(clock, ring)
    alarm.watch(first)
    alarm.watch(second)
    clock.advance(1)
    assert ring.calls == [(first, 1.0)]
    assert clock.getDelayedCalls() == []


def test_ring_may_stop_the_alarm(clock: Clock) -> None:
    ring = RecordingRing(lambda owner, now: alarm.stop())
    alarm = Alarm(clock, ring)
    for _ in range(3):
        alarm.watch(Owner(1.0))
    clock.advance(1)
    assert len(ring.calls) == 1
    assert clock.getDelayedCalls() == []


def test_a_ring_that_raises_is_logged_and_the_others_still_ring(clock: Clock) -> None:
    def fail(owner: Owner, now: float) -> None:
        if owner.name == "bad":
            raise ValueError("no")

    ring = RecordingRing(fail)
    alarm = Alarm(clock, ring)
    owners = [Owner(1.0, "good"), Owner(1.0, "bad"), Owner(1.0, "good"), Owner(2.0, "good")]
    for owner in owners:
        alarm.watch(owner)
    with capturedLogs() as logged:
        clock.advance(1)
        clock.advance(1)
    assert [owner for owner, _ in ring.calls] == owners
    (event,) = logged
    assert event["log_failure"].check(ValueError)


def test_owners_due_at_once_ring_in_several_reactor_turns(clock: Clock) -> None:
    ring = RecordingRing()
    alarm = Alarm(clock, ring)
    owners = [Owner(1.0) for _ in range(1000)]
    for owner in owners:
        alarm.watch(owner)
    rung: list[int] = []
    clock.callLater(1, lambda: clock.callLater(0, lambda: rung.append(len(ring.calls))))
    clock.advance(1)
    clock.advance(0)
    assert [owner for owner, _ in ring.calls] == owners
    assert 0 < rung[0] < 1000


def test_forgotten_owners_are_released_at_once_and_their_entries_soon(clock: Clock) -> None:
    """Ten thousand transfers begin and end while a deadline of the first is far away."""
    alarm = Alarm(clock, RecordingRing())
    alarm.watch(Owner(1e6))
    watched: weakref.WeakSet[Owner] = weakref.WeakSet()
    for n in range(10_000):
        owner = Owner(1000.0 + n)
        watched.add(owner)
        alarm.watch(owner)
        alarm.forget(owner)
    del owner
    gc.collect()
    assert len(watched) == 0
    assert len(alarm._heap) <= 100


def test_dead_entries_are_swept(clock: Clock) -> None:
    """The remaining owners ring on time, so sweeping keeps the order."""
    ring = RecordingRing()
    alarm = Alarm(clock, ring)
    owners = [Owner(1.0 + n * 7919 % 3000) for n in range(3000)]
    for owner in owners:
        alarm.watch(owner)
    stay = owners[::100]
    for owner in owners:
        if owner not in stay:
            alarm.forget(owner)
    assert len(alarm._heap) <= 130
    clock.pump([1.0] * 3000)
    assert ring.calls == [(owner, owner.deadline) for owner in sorted(stay, key=lambda owner: present(owner.deadline))]


def test_earlier_deadlines_leave_no_dead_entries(clock: Clock) -> None:
    alarm = Alarm(clock, RecordingRing())
    owner = Owner()
    for n in range(10_000):
        owner.deadline = 20_000.0 - n
        alarm.watch(owner)
    assert len(alarm._heap) <= 100
    assert len(clock.getDelayedCalls()) == 1


# Quarters of a second are exact in binary, so that the model may compare with ==.
_TIMES = st.one_of(st.none(), st.integers(-2, 40).map(lambda n: n / 4))
_OWNERS = st.integers(0, 4)
_STEPS = st.one_of(
    st.tuples(st.just("watch"), _OWNERS, _TIMES),
    st.tuples(st.just("forget"), _OWNERS),
    st.tuples(st.just("turn"), st.integers(1, 8)),
)
Step = tuple[Literal["watch"], int, float | None] | tuple[Literal["forget"], int] | tuple[Literal["turn"], int]


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(_STEPS, max_size=60), after_ring=st.lists(_TIMES, max_size=20))
def test_alarm_behaves_like_a_model_without_a_heap(steps: list[Step], after_ring: list[float | None]) -> None:
    """*after_ring* has the seconds from each ring to the next deadline of its owner; None: it has no more deadlines."""
    clock = Clock()
    owners = [Owner() for _ in range(5)]
    waits = iter(after_ring)
    rung: list[tuple[int, float]] = []
    expected_waits = iter(after_ring)
    expected: list[tuple[int, float]] = []
    watched: dict[int, float | None] = {}

    def ring(owner: Owner, now: float) -> None:
        rung.append((owners.index(owner), now))
        wait = next(waits, None)
        owner.deadline = None if wait is None else now + max(wait, 0.25)
        alarm.watch(owner)

    alarm = Alarm(clock, ring)
    for step in steps:
        if step[0] == "watch":
            _, number, wait = step
            owners[number].deadline = None if wait is None else clock.seconds() + wait
            alarm.watch(owners[number])
            watched[number] = owners[number].deadline
        elif step[0] == "forget":
            alarm.forget(owners[step[1]])
            watched.pop(step[1], None)
        else:
            for _ in range(step[1]):
                clock.advance(0.25)
                now = clock.seconds()
                due = sorted(n for n, deadline in watched.items() if deadline is not None and deadline <= now)
                assert sorted(n for n, _ in rung[len(expected) :]) == due
                assert all(at == now for _, at in rung[len(expected) :])
                expected = list(rung)
                for number, _ in rung[len(rung) - len(due) :]:
                    wait = next(expected_waits, None)
                    watched[number] = None if wait is None else now + max(wait, 0.25)
        assert len(clock.getDelayedCalls()) <= 1
        if any(deadline is not None for deadline in watched.values()):
            assert len(clock.getDelayedCalls()) == 1
