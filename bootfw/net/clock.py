"""A reactor with a monotonic clock.

Twisted's reactors schedule by the wall clock: when that is set back by an hour, no delayed call comes for an hour.
"""

import ctypes
import os
import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from zope.interface import directlyProvides, implementer, providedBy

_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_SHORTEST = 1e-9  # timerfd_settime(2) disarms a timer that is set to 0

_SOON_AT_LATEST = 1.0
"""Seconds after which a call without a delay is made although the reactor has not made it."""

_DEAD_TOLERATED = 64
"""Cancelled calls that are tolerated before the queue is swept, in addition to one for each pending call."""


class _Setting(ctypes.Structure):
    """struct itimerspec"""

    _fields_ = [(name, ctypes.c_long) for name in ("again", "again_ns", "seconds", "nanoseconds")]


def _functions() -> tuple[Any, Any] | None:
    """timerfd_create(2) and timerfd_settime(2); None where there are none."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        return library.timerfd_create, library.timerfd_settime
    except (AttributeError, OSError):
        return None


_TIMERFD = _functions()


def monotonic(reactor: Any) -> Any:
    """*reactor* with a clock that is never set. A reactor with a clock of its own, such as a fake, is returned as it
    is."""
    if isinstance(reactor, ReactorBase) and IReactorFDSet.providedBy(reactor) and _TIMERFD is not None:
        return MonotonicReactor(reactor)
    return reactor


def shift_of(reactor: Any) -> Callable[[], float]:
    """Seconds by which the wall clock was set since *reactor*'s clock began; always 0 for a fake."""
    return reactor.shift if isinstance(reactor, MonotonicReactor) else lambda: 0.0


def hold(reactor: Any) -> bool:
    """Keep the timer of a MonotonicReactor; false: it is none, and there is nothing to let go."""
    if not isinstance(reactor, MonotonicReactor):
        return False
    reactor.hold()
    return True


class MonotonicReactor:
    """A reactor whose IReactorTime is by CLOCK_MONOTONIC. Everything else is that of the reactor it is made of.

    Its seconds are those of the wall clock as that was in the beginning: what people read is right until the clock is
    set, and differences are right for ever.

    :param reactor: an IReactorFDSet; its time is not used.
    :param now: CLOCK_MONOTONIC.
    :param wall: the wall clock.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        # Callers, Twisted's and ours, check which interfaces a reactor provides before they use it.
        directlyProvides(self, providedBy(reactor))
        self._reactor = reactor
        began = wall() - now()
        self._now, self._began = now, began
        self.seconds: Callable[[], float] = lambda: now() + began
        self.shift: Callable[[], float] = lambda: wall() - now() - began
        self._timer = _Timer(reactor, self._run)
        self._queue: list[tuple[float, int, Any]] = []
        """Entries of calls that were moved or cancelled are passed over when their turn comes."""
        self._soon: list[Any] = []
        """Calls without a delay, which are made at the end of the reactor's turn."""
        self._end_of_turn: IDelayedCall | None = None
        """The reactor's own call that makes them."""
        self._order = 0
        self._pending = 0
        self._holders = 0
        self._running = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    # IReactorTime

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        """See IReactorTime."""
        assert delay >= 0, f"{delay} is before now"
        due = self._now() + self._began + delay  # seconds(), inlined: this runs for each delivery of events
        call: Any = DelayedCall(due, callable, args, kw, self._cancelled, self._put, self.seconds)
        self._pending += 1
        if delay:
            self._put(call)
            return call
        if self._end_of_turn is None:
            self._end_of_turn = self._reactor.callLater(0, self._run_soon)
            # The reactor's clock is the wall clock. If that has just been set back, the timer makes the calls.
            if due + _SOON_AT_LATEST < self._timer.due:
                self._timer.set(due + _SOON_AT_LATEST, due)
        self._soon.append(call)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """See IReactorTime."""
        # A call that was moved has several entries.
        calls = [*self._soon, *(call for _, _, call in self._queue)]
        return list({id(call): call for call in calls if call.active()}.values())

    # The timer

    def hold(self) -> None:
        """Keep the timer's descriptor though no call is pending: there will be more."""
        self._holders += 1
        self._timer.open()

    def let_go(self) -> None:
        """End a hold(). Without any, the reactor has nothing of ours while no call is pending."""
        self._holders -= 1
        self._close_idle()

    def _put(self, call: Any) -> None:
        self._order += 1
        heappush(self._queue, (call.time, self._order, call))
        # While calls run, _run() sets the timer once, at its end.
        if not self._running:
            self._timer.set(call.time, self.seconds())

    def _cancelled(self, call: Any) -> None:
        self._pending -= 1
        if self._running:
            return  # _run() sets or closes the timer when it is done
        # With nothing pending, nothing of ours stays in the reactor: trial reports a test that leaves something there.
        if not self._pending:
            self._queue.clear()
            self._forget_soon()
            self._close_idle()
        elif len(self._queue) > 2 * self._pending + _DEAD_TOLERATED:
            self._queue = [entry for entry in self._queue if entry[2] is not call and entry[2].active()]
            heapify(self._queue)

    def _close_idle(self) -> None:
        if not self._pending and not self._holders:
            self._timer.close()

    def _run_soon(self) -> None:
        """Run the calls without a delay. Those that these schedule wait for the next turn."""
        for call in self._forget_soon():
            if call.active():
                self._call(call)
        self._close_idle()

    def _forget_soon(self) -> list[Any]:
        """Return the calls without a delay, and begin another list."""
        calls, self._soon = self._soon, []
        end_of_turn, self._end_of_turn = self._end_of_turn, None
        if end_of_turn is not None and end_of_turn.active():
            end_of_turn.cancel()
        return calls

    def _call(self, call: Any) -> None:
        """Make an active call, or wait longer for it if it has been put off."""
        if call.delayed_time > 0:
            call.activate_delay()
            self._put(call)
            return
        # Before the function runs, as in ReactorBase: cancel() of a call that has begun raises AlreadyCalled.
        call.called = 1
        self._pending -= 1
        try:
            call.func(*call.args, **call.kw)
        except Exception:
            self._log.failure("A delayed call failed.")

    def _run(self) -> None:
        """Run the calls that are due. Calls that these schedule wait for the next turn, so that descriptors are read
        first."""
        # The reactor should have made these calls: its clock has been set back, see callLater().
        if self._soon and self._soon[0].time + _SOON_AT_LATEST <= self.seconds():
            self._run_soon()
        queue, now = self._queue, self.seconds()
        self._running = True
        try:
            while queue and queue[0][0] <= now:
                due, _, call = heappop(queue)
                # A call that was moved has another entry, with its new time.
                if call.active() and due == call.time:
                    self._call(call)
        finally:
            self._running = False
            while queue and not queue[0][2].active():
                heappop(queue)
            if queue:
                self._timer.set(queue[0][0], self.seconds())
            else:
                self._close_idle()


@implementer(IReadDescriptor)
class _Timer:
    """A timerfd(2) among the reactor's descriptors."""

    def __init__(self, reactor: Any, ring: Callable[[], None]) -> None:
        self._reactor = reactor
        self._ring = ring
        self._descriptor = -1
        self.due = inf
        """When it rings; math.inf: it is not set."""
        self._setting = _Setting()

    def set(self, due: float, now: float) -> None:
        """Ring when it is *due*, or before."""
        if self._descriptor < 0:
            self.open()
        if due >= self.due:
            return  # _run() sets it again when it rings
        self.due = due
        seconds, part = divmod(max(due - now, _SHORTEST), 1.0)
        setting = self._setting
        # Rounded down, a time of less than a nanosecond would be 0, which disarms the timer.
        setting.seconds, setting.nanoseconds = int(seconds), max(int(part * 1e9), not seconds)
        assert _TIMERFD is not None
        if _TIMERFD[1](self._descriptor, 0, ctypes.byref(setting), None):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def open(self) -> None:
        """Have a descriptor.

        :raise OSError: there is none left.
        """
        if self._descriptor >= 0:
            return
        assert _TIMERFD is not None
        self._descriptor = _TIMERFD[0](time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._descriptor < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._reactor.addReader(self)

    def close(self) -> None:
        """Give the descriptor up."""
        if self._descriptor >= 0:
            # Before close(2): the next file that is opened may get the number, and the reactor would watch that one.
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor, self.due = -1, inf

    # IReadDescriptor

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._descriptor

    def doRead(self) -> None:
        """See IReadDescriptor."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # it was set to a later time after the reactor had found it readable
        self.due = inf
        self._ring()

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor."""
        self.close()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "timer"
