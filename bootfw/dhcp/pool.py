"""The addresses of one pool, and which of them is given next."""

from collections import deque
from collections.abc import Collection, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Generic, TypeVar

from attrs import define

from bootfw.dhcp.subnet import AnySubnet
from bootfw.lease import Lease, LeaseState, Reservation

_ENTRIES_PER_CHOICE = 8
"""Queue entries that are looked at, at most, before an address is chosen."""
_ENTRIES_PER_CHANGE = 2
"""The same for every lease and offer: more than these add, so that the queue does not fall behind."""
_STALE_ENTRIES = 64
"""Outdated entries that the queue may hold beside one for each of its addresses."""

S = TypeVar("S", bound=AnySubnet)


@define(eq=False)
class Binding(Generic[S]):
    """What is known of one address (RFC 2131 and RFC 8415 both call it a binding)."""

    number: int
    address: str
    """The same as text."""
    subnet: S
    pool: "Pool[S] | None"
    """None: the address is in no pool, so that only its reservation gives it away."""
    lease: Lease | None = None
    """The latest."""
    reservation: Reservation | None = None
    """The client that the address is reserved for."""
    offered_to: bytes = b""
    """Key of the client that it was offered to last."""
    offered_until: float = 0.0
    probed: bool = False
    """Conflict detection found the address unused, for the latest offer."""
    queued_until: float | None = None
    """Time of its entry in the pool's queue; None: it is not queued."""
    free_entry: tuple[float, "Binding[S]"] | None = None
    """Its latest entry among the free addresses. An earlier one is outdated, even with the same time."""

    def free_at(self) -> float:
        """When its lease and its offer have both ended."""
        lease = self.lease
        if lease is None or lease.expires < self.offered_until:
            return self.offered_until
        return lease.expires

    def free_for(self, key: bytes, now: float) -> bool:
        """No lease or offer of another client, and no quarantine, keeps it from this client."""
        lease = self.lease
        if lease is not None and lease.expires > now and lease.state is not LeaseState.RELEASED:
            if lease.state is LeaseState.DECLINED:
                return self.offered_to == key  # it was offered because no other address was left
            return lease.client == key
        return self.offered_to == key or self.offered_until <= now


class Pool(Generic[S]):
    """The addresses of one subnet that are given to any client.

    Every address that is offered or leased is in one queue, ordered by the time when it becomes free. A renewal does
    not touch the queue: an entry that is due while the lease goes on is put back, a few with each call. So no call
    looks at all leases.

    :param bindings: every address that is known to the lease book, by number.
    :param own: addresses of the server itself; may grow.
    """

    def __init__(self, subnet: S, bindings: dict[int, Binding[S]], own: Collection[str]) -> None:
        self.subnet = subnet
        self.size = sum(last - first + 1 for first, last in subnet.free)
        self._family, self._length = (AF_INET, 4) if subnet.network.version == 4 else (AF_INET6, 16)
        self._bindings = bindings
        self._own = own
        self._numbers: Iterator[int] = chain.from_iterable(range(first, last + 1) for first, last in subnet.free)
        self._next = next(self._numbers, None)
        """The first address, in the order of the pool, that may be unknown to the lease book."""
        self._queue: list[tuple[float, int, Binding[S]]] = []
        self.queued = 0
        """Addresses in the queue, some of which may be free again. The queue may hold outdated entries, too."""
        self._unleased: deque[tuple[float, Binding[S]]] = deque()
        """Known and free, and never leased, in the order in which they became free."""
        self._expired: deque[tuple[float, Binding[S]]] = deque()
        """Free again after a lease, in the order in which they became free."""

    def at(self, index: int) -> int:
        """The address at *index* of the pool, from 0 to ``size - 1``."""
        for first, last in self.subnet.free:
            if index <= last - first:
                return first + index
            index -= last - first + 1
        raise IndexError(index)

    def gives(self, binding: Binding[S]) -> bool:
        """Any client may have the address, apart from leases and offers."""
        return binding.reservation is None and binding.address not in self._own

    def enter(self, binding: Binding[S], now: float) -> None:
        """Queue *binding*, whose lease or offer has just changed."""
        if self._queue and self._queue[0][0] <= now:
            self._settle(now, _ENTRIES_PER_CHANGE)
        time = binding.free_at()
        if binding.queued_until is None:
            self.queued += 1
        elif binding.queued_until <= time:
            return
        binding.queued_until = time
        heappush(self._queue, (time, binding.number, binding))
        if len(self._queue) > 2 * self.queued + _STALE_ENTRIES:
            self._queue = [entry for entry in self._queue if entry[0] == entry[2].queued_until]
            heapify(self._queue)

    def unreserve(self, binding: Binding[S]) -> None:
        """Any client may have *binding* from now on: it was passed over when its turn came."""
        if binding.queued_until is None:
            self.enter(binding, 0.0)

    def next(self, now: float, besides: Collection[int] = ()) -> Binding[S] | None:
        """The address for a client that may have any: one that was never leased, or the one that is free for longest.

        :param besides: addresses that are taken already.
        :return: None: the pool is exhausted.
        """
        if self._queue and self._queue[0][0] <= now:
            self._settle(now, _ENTRIES_PER_CHOICE)
        return self.unleased(besides) or self.longest_free(now, besides)

    def unleased(self, besides: Collection[int] = ()) -> Binding[S] | None:
        """An address that was never leased. Its Binding may be a new one, which is not entered in the lease book."""
        found = self._first(self._unleased, besides) if self._unleased else None
        if found is not None:
            return found
        bindings = self._bindings
        while (number := self._next) is not None:
            if number not in bindings:
                address = inet_ntop(self._family, number.to_bytes(self._length, "big"))
                if address not in self._own:
                    binding = Binding(number, address, self.subnet, self)
                    if number not in besides:
                        return binding
                    # It may be left over in the end, so it goes first among those for the next client.
                    bindings[number] = binding
                    self._line_up(binding, 0.0)
            self._next = next(self._numbers, None)
        return None

    def longest_free(self, now: float, besides: Collection[int] = ()) -> Binding[S] | None:
        """The address whose lease ended first, if one has ended."""
        found = self._first(self._expired, besides)
        if found is None and self._queue and self._queue[0][0] <= now:
            self._settle(now, float("inf"))
            found = self._first(self._unleased, besides) or self._first(self._expired, besides)
        return found

    def _settle(self, now: float, most: float) -> None:
        """Move addresses that have become free from the queue to the lines that they are given from.

        :param most: entries to look at.
        """
        queue = self._queue
        while queue and queue[0][0] <= now and most > 0:
            most -= 1
            time, number, binding = queue[0]
            if time != binding.queued_until:
                heappop(queue)
                continue
            free_at = binding.free_at()
            if free_at > time:
                heapreplace(queue, (free_at, number, binding))
                binding.queued_until = free_at
                continue
            heappop(queue)
            binding.queued_until = None
            self.queued -= 1
            self._line_up(binding, free_at)

    def _line_up(self, binding: Binding[S], free_at: float) -> None:
        line = self._unleased if binding.lease is None else self._expired
        binding.free_entry = entry = (free_at, binding)
        line.append(entry)
        if len(line) > 2 * len(self._bindings) + _STALE_ENTRIES:
            # Each lease that expired and went to its client again has left an entry.
            current = [each for each in line if each is each[1].free_entry]
            line.clear()
            line.extend(current)

    def _first(self, line: "deque[tuple[float, Binding[S]]]", besides: Collection[int]) -> Binding[S] | None:
        """The first of *line* that is still free. It stays in line until it is leased or offered."""
        index = 0
        while index < len(line):
            entry = time, binding = line[index]
            if entry is not binding.free_entry or time != binding.free_at() or not self.gives(binding):
                del line[index]
            elif binding.number in besides:
                index += 1
            else:
                return binding
        return None
