"""One timer for many deadlines.

Thousands of transfers move their deadlines with every packet. A delayed call for each would cost more than the packet;
here a deadline that moves later costs one dictionary lookup, and the heap finds out when the old time has come.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Generic, Protocol, TypeVar

from twisted.logger import Logger

# Owners that are called in one wake-up. The others wait for the next turn of the reactor, so that sockets are read too.
_PER_WAKE_UP = 256

# Dead entries that are tolerated before the heap is swept, in addition to one for each owner.
_DEAD_TOLERATED = 64


class Watched(Protocol):
    """An owner of a deadline; hashed by identity."""

    @property
    def deadline(self) -> float | None:
        """When to ring, in seconds of the Alarm's clock; None: there is no deadline."""


Owner = TypeVar("Owner", bound=Watched)


_Entry = list[Any]
"""[time, serial number, owner] in the heap. The number is unique, so owners are never compared. The time is never later
than the owner's deadline. With None in the place of its owner an entry is dead, and is dropped at the top of the
heap."""
_TIME, _NUMBER, _OWNER = 0, 1, 2


class Alarm(Generic[Owner]):
    """Calls *ring* for owners whose deadlines have come, with one delayed call for all of them.

    :param clock: an IReactorTime.
    :param ring: called as ``ring(owner, now)``. The owner is then no longer watched, until watch() is called for it
        again; ring may do so, or return the owner's new deadline, which costs less. What it raises is logged.
    """

    _log = Logger()

    def __init__(self, clock: Any, ring: Callable[[Owner, float], float | None]) -> None:
        self._clock = clock
        self._ring = ring
        self._heap: list[_Entry] = []
        self._entries: dict[Owner, _Entry] = {}
        """The entry of each watched owner. An entry of the heap that is not in here is dead."""
        self._order = 0
        self._call: Any = None
        self._call_at = 0.0
        """When _call is due: never later than the earliest deadline."""
        self._ringing = False

    def watch(self, owner: Owner) -> None:
        """Watch *owner*. To be called after each change of its deadline; a later deadline costs nothing now."""
        deadline = owner.deadline
        if deadline is None:
            return
        entry = self._entries.get(owner)
        if entry is not None:
            # The usual case, once for each packet: the deadline has moved later. The entry stays, and _serve() finds
            # the new deadline when the old time has come.
            if entry[_TIME] <= deadline:
                return
            # A heap can't remove an entry from its middle: leave a dead one, and push another.
            entry[_OWNER] = None
        self._order += 1
        self._entries[owner] = entry = [deadline, self._order, owner]
        heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + _DEAD_TOLERATED:
            self._sweep()
        if not self._ringing:
            self._arm()

    def forget(self, owner: Owner) -> None:
        """Stop watching *owner* and drop the reference to it. No error if it is not watched."""
        entry = self._entries.pop(owner, None)
        if entry is None:
            return
        entry[_OWNER] = None
        if not self._entries:
            self.stop()
        elif len(self._heap) > 2 * len(self._entries) + _DEAD_TOLERATED:
            self._sweep()

    def stop(self) -> None:
        """Forget every owner. The Alarm can be used again."""
        self._heap.clear()
        self._entries.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if entry[_OWNER] is not None]
        heapify(self._heap)

    def _arm(self) -> None:
        """Schedule the delayed call for the earliest entry. A call that is due earlier stays: _wake() then arms
        again."""
        if not self._entries:
            self._heap.clear()
            return
        earliest = self._heap[0][_TIME]
        if self._call is not None and self._call_at <= earliest:
            return
        # reset() keeps the one delayed call. Cancelled calls would stay in the reactor's own heap until it sweeps them.
        delay = max(0.0, earliest - self._clock.seconds())
        self._call_at = earliest
        if self._call is None:
            self._call = self._clock.callLater(delay, self._wake)
        else:
            self._call.reset(delay)

    def _wake(self) -> None:
        self._call = None
        # Owners that are watched while they ring must not arm the call each time: _arm() is called once, at the end.
        self._ringing = True
        now = self._clock.seconds()
        try:
            for _ in range(_PER_WAKE_UP):
                if not self._heap or self._heap[0][_TIME] > now:
                    break
                self._serve(heappop(self._heap), now)
        finally:
            self._ringing = False
            self._arm()

    def _serve(self, entry: _Entry, now: float) -> None:
        """Call ring for the owner of an entry whose time has come, or put the entry back for a deadline that is
        later."""
        owner: Owner | None = entry[_OWNER]
        if owner is None:
            return
        next_deadline = owner.deadline
        if next_deadline is None or next_deadline <= now:
            # Before the call, in which ring may watch or forget the owner.
            del self._entries[owner]
            next_deadline = self._call_ring(owner, now) if next_deadline is not None else None
            # If ring has called watch() for the owner, this entry is not needed any more.
            if next_deadline is None or owner in self._entries:
                return
            self._entries[owner] = entry
        # The deadline is later than this entry: reuse the entry for it.
        self._order += 1
        entry[_TIME], entry[_NUMBER] = next_deadline, self._order
        heappush(self._heap, entry)

    def _call_ring(self, owner: Owner, now: float) -> float | None:
        # An error in one owner must not keep the deadlines of the others from being served.
        try:
            return self._ring(owner, now)
        except Exception:
            self._log.failure("Unexpected error when a deadline came; other deadlines are not affected.")
            return None
