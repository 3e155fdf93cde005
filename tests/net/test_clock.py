"""Delayed calls that do not depend on the wall clock, on a real reactor."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from turning import TurnUntil
from twistd import free_port
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IReactorFDSet, IReactorTime
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from bootfw.backends.memory import MemoryBackend
from bootfw.config.settings import DHCPSettings, HTTPSettings, Settings, TFTPSettings, WebSettings
from bootfw.dhcp.subnet import Subnet
from bootfw.net.clock import MonotonicReactor, monotonic, shift_of
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.testing import MemoryNetwork
from bootfw.web.site import add_web

from .webservice import RunClient


class WallClock:
    """The clock of a machine, which the test sets."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def wall() -> WallClock:
    return WallClock()


@pytest.fixture
def reactor(private_reactor: EPollReactor, wall: WallClock) -> Iterator[MonotonicReactor]:
    """A reactor whose delayed calls use CLOCK_MONOTONIC. After the test, none of its timers and calls may be left."""
    before = set(private_reactor.getReaders()), os.listdir("/proc/self/fd")
    monotonic_reactor = MonotonicReactor(private_reactor, wall=wall)
    yield monotonic_reactor
    for call in monotonic_reactor.getDelayedCalls():
        call.cancel()
    assert (set(private_reactor.getReaders()), os.listdir("/proc/self/fd")) == before
    assert private_reactor.getDelayedCalls() == []


def test_delayed_calls_run_sorted_by_time(reactor: MonotonicReactor, turn_until: TurnUntil) -> None:
    called: list[float] = []
    due: list[tuple[float, float]] = []
    for delay in (0.02, 0, 0.01, 0):
        before = reactor.seconds()
        due.append((reactor.callLater(delay, called.append, delay).getTime(), delay))
        assert before + delay <= due[-1][0] <= reactor.seconds() + delay
    turn_until(lambda: len(called) == 4)

    # By their times: where this process had to wait between two calls, the shorter delay may be due later.
    assert called == [delay for _, delay in sorted(due)]


def test_seconds_are_those_of_the_wall_clock_until_that_is_set(private_reactor: EPollReactor, wall: WallClock) -> None:
    now = [5.0]
    reactor = MonotonicReactor(private_reactor, lambda: now[0], wall)
    assert (reactor.seconds(), shift_of(reactor)()) == (1_700_000_000.0, 0.0)

    now[0], wall.time = 8.0, 1_700_000_003.0 - 3600

    assert (reactor.seconds(), shift_of(reactor)()) == (1_700_000_003.0, -3600.0)


@pytest.mark.parametrize("step", [-86400.0, 86400.0])
def test_delayed_calls_are_not_affected_by_setting_the_clock(
    reactor: MonotonicReactor, wall: WallClock, turn_until: TurnUntil, step: float
) -> None:
    called: list[str] = []
    reactor.callLater(3600, called.append, "later")
    reactor.callLater(0.02, called.append, "soon")
    wall.time += step
    turn_until(lambda: called)

    assert called == ["soon"]


def test_cancelling_twice_or_after_the_call_raises(reactor: MonotonicReactor, turn_until: TurnUntil) -> None:
    called: list[int] = []
    call, cancelled = reactor.callLater(0, called.append, 1), reactor.callLater(0, called.append, 2)
    cancelled.cancel()
    turn_until(lambda: called)

    with pytest.raises(AlreadyCalled):
        call.cancel()
    with pytest.raises(AlreadyCancelled):
        cancelled.cancel()
    assert called == [1]


def test_call_can_be_moved_earlier_and_later(reactor: MonotonicReactor, turn_until: TurnUntil) -> None:
    called: list[str] = []
    sooner, later = reactor.callLater(600, called.append, "sooner"), reactor.callLater(0, called.append, "later")
    later.reset(0.03)
    sooner.reset(0.01)
    turn_until(lambda: len(called) == 2)

    assert called == ["sooner", "later"]
    assert reactor.getDelayedCalls() == []


def test_call_that_is_moved_twice_is_made_once(reactor: MonotonicReactor, turn_until: TurnUntil) -> None:
    called: list[int] = []
    call = reactor.callLater(0.02, called.append, 1)
    for delay in (0.01, 5, 0.005, 3, 0.001):
        call.reset(delay)
    reactor.callLater(0.04, called.append, 2)
    turn_until(lambda: 2 in called)

    assert called == [1, 2]


def test_call_that_is_moved_later_is_not_made_early(reactor: MonotonicReactor, turn_until: TurnUntil) -> None:
    called: list[str] = []
    call = reactor.callLater(0.02, called.append, "moved")
    call.reset(0.01)
    call.reset(60)
    reactor.callLater(0.05, called.append, "other")
    turn_until(lambda: called)

    assert called == ["other"]


def test_calls_scheduled_by_calls_run_in_a_later_turn(
    reactor: MonotonicReactor, private_reactor: EPollReactor, turn_until: TurnUntil
) -> None:
    """So that the sockets are read although a call schedules itself again and again."""
    called: list[object] = []

    def call_again() -> None:
        called.append(len(called))
        reactor.callLater(0, call_again)

    read, write = os.pipe()
    os.write(write, b"x")
    calls_before_read: list[int] = []

    class Pipe:
        fileno = staticmethod(lambda: read)
        logPrefix = staticmethod(lambda: "pipe")
        connectionLost = staticmethod(lambda reason: None)

        def doRead(self) -> None:
            calls_before_read.append(len(called))
            private_reactor.removeReader(self)

    call_again()
    private_reactor.addReader(Pipe())
    turn_until(lambda: calls_before_read)
    os.close(read)
    os.close(write)

    assert calls_before_read[0] < 10


def test_a_call_without_a_delay_is_made_at_the_end_of_the_turn(
    reactor: MonotonicReactor, private_reactor: EPollReactor
) -> None:
    called: list[int] = []
    call = reactor.callLater(0, called.append, 1)
    assert reactor.getDelayedCalls() == [call]
    assert called == []

    private_reactor.runUntilCurrent()
    assert called == [1]
    assert reactor.getDelayedCalls() == []


def test_a_call_without_a_delay_is_made_although_the_clock_was_set_back(
    private_reactor: EPollReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [5.0]
    reactor = MonotonicReactor(private_reactor, lambda: now[0])
    called: list[int] = []
    # An earlier call has closed the timer, so that it has to be opened again.
    reactor.callLater(0, called.append, 0)
    private_reactor.runUntilCurrent()
    assert called.pop() == 0
    now[0] += 10.0
    reactor.callLater(0, called.append, 1)
    monkeypatch.setattr(private_reactor, "seconds", lambda: 0.0)
    private_reactor.runUntilCurrent()
    assert called == []

    now[0] += 1.0
    deadline = time.monotonic() + 10
    while not called and time.monotonic() < deadline:
        private_reactor.doIteration(0.1)
    assert called == [1]
    assert private_reactor.getDelayedCalls() == []


def test_cancelled_calls_without_delay_are_removed(reactor: MonotonicReactor, private_reactor: EPollReactor) -> None:
    reactor.callLater(0, print).cancel()
    assert private_reactor.getDelayedCalls() == []


def test_call_without_a_delay_can_be_delayed(reactor: MonotonicReactor, turn_until: TurnUntil) -> None:
    called: list[str] = []
    reactor.callLater(0, called.append, "put off").delay(60)
    reactor.callLater(0.01, called.append, "other")
    turn_until(lambda: called)

    assert called == ["other"]


def test_a_call_that_fails_is_logged_and_the_others_are_made(reactor: MonotonicReactor, turn_until: TurnUntil) -> None:
    called: list[int] = []
    with capturedLogs() as logs:
        reactor.callLater(0, lambda: 1 / 0)
        reactor.callLater(0, called.append, 1)
        turn_until(lambda: called)

    assert [event["log_failure"].type for event in logs] == [ZeroDivisionError]


def test_cancelled_calls_are_removed_from_the_queue(reactor: MonotonicReactor) -> None:
    pending = reactor.callLater(60, print)
    for _ in range(1000):
        reactor.callLater(30, print).cancel()

    assert reactor.getDelayedCalls() == [pending]
    assert len(reactor._queue) < 100


def test_only_a_hold_keeps_the_timer_among_the_descriptors(
    reactor: MonotonicReactor, private_reactor: EPollReactor
) -> None:
    before = set(private_reactor.getReaders())
    reactor.callLater(60, print).cancel()
    assert set(private_reactor.getReaders()) == before

    reactor.hold()
    call = reactor.callLater(60, print)
    call.cancel()
    assert len(set(private_reactor.getReaders()) - before) == 1
    reactor.let_go()
    assert set(private_reactor.getReaders()) == before


def test_a_pending_call_keeps_the_timer_after_its_holder_has_gone(
    reactor: MonotonicReactor, private_reactor: EPollReactor, turn_until: TurnUntil
) -> None:
    called: list[int] = []
    reactor.hold()
    reactor.callLater(0.01, called.append, 1)
    reactor.let_go()
    turn_until(lambda: called)

    assert called == [1]


def test_other_methods_are_those_of_the_reactor(reactor: MonotonicReactor, private_reactor: EPollReactor) -> None:
    assert verifyObject(IReactorTime, reactor)
    assert IReactorFDSet.providedBy(reactor)
    assert reactor.getReaders() == private_reactor.getReaders()


def test_fake_reactor_is_returned_unchanged(private_reactor: EPollReactor) -> None:
    clock, host = Clock(), MemoryNetwork().host("10.0.0.1")
    assert monotonic(clock) is clock
    assert monotonic(host) is host
    wrapped = monotonic(private_reactor)
    assert isinstance(wrapped, MonotonicReactor)
    assert monotonic(wrapped) is wrapped
    assert shift_of(clock)() == 0.0


def test_every_timer_uses_the_monotonic_clock(
    private_reactor: EPollReactor, run_client: RunClient, turn_until: TurnUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In TFTP, HTTP, the web pages and DHCP, no delayed call is scheduled with the reactor's own clock."""
    delays: list[float] = []
    call_later = private_reactor.callLater

    def recording_call_later(delay: float, *arguments: Any, **named: Any) -> Any:
        if delay:
            delays.append(delay)
        return call_later(delay, *arguments, **named)

    monkeypatch.setattr(private_reactor, "callLater", recording_call_later)
    any_port = (("127.0.0.1", 0),)
    subnet = Subnet(network="127.0.0.0/8", pool=["127.1.0.1-127.1.0.9"])
    settings = Settings(
        tftp=TFTPSettings(listen=any_port),
        http=HTTPSettings(listen=any_port),
        dhcp=DHCPSettings(mode="server", subnets=(subnet,), server_port=free_port(), probe_seconds=0),
    )
    backend = MemoryBackend(files={"file": "content"})
    reactor = monotonic(private_reactor)
    service = BootService(reactor, settings=settings, backend=backend, store=MemoryStore(), attempts=MemoryStore())
    add_web(reactor, service, WebSettings(listen=any_port))
    service.startService()
    try:
        ports = {row.service: row.address[1] for row in service.summary()}
        for url in ("tftp://127.0.0.1:{tftp}/file", "http://127.0.0.1:{http}/file"):
            assert run_client("curl", "--silent", url.format(**ports)) == (0, b"content")
        code, page = run_client("curl", "--silent", "http://127.0.0.1:{web}/healthz".format(**ports))
        assert (code, bool(page)) == (0, True)
    finally:
        stopped: list[object] = []
        service.stopService().addBoth(stopped.append)
        turn_until(lambda: stopped)
    assert delays == []
