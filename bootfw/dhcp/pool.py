"""The addresses of one pool, and which of them is assigned next."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any, Generic, TypeVar

from attrs import define

from bootfw.dhcp.ranges import Range
from bootfw.dhcp.subnet import AnySubnet
from bootfw.lease import Lease, LeaseState, Reservation

_ENTRIES_PER_CHOICE = 8
"""Queue entries examined at most for each address that is chosen."""
_ENTRIES_PER_CHANGE = 2
"""Queue entries examined at most for each new lease or offer: more than one, so that the queue does not grow."""
_STALE_ENTRIES = 64
"""Outdated entries that a queue may hold, in addition to one for each of its addresses."""

SubnetT = TypeVar("SubnetT", bound=AnySubnet)


@define(eq=False)
class Binding(Generic[SubnetT]):
    """The state of one address (RFC 2131 and RFC 8415 call it a binding)."""

    number: int
    address: str
    """The address as text."""
    subnet: SubnetT
    pool: "Pool[SubnetT] | None"
    """None: the address is in no pool; only the client of its reservation can get it."""
    lease: Lease | None = None
    """The latest lease, current or not."""
    reservation: Reservation | None = None
    """The reservation of the address."""
    offered_to: bytes = b""
    """Key of the client that the address was offered to last; b"": none."""
    offered_until: float = 0.0
    probed: bool = False
    """Conflict detection found the address unused, for the latest offer."""
    queued_until: float | None = None
    """Time of its entry in the pool's queue; None: it is not queued."""
    free_entry: tuple[float, "Binding[SubnetT]"] | None = None
    """Its latest entry among the free addresses. An earlier one is outdated, even with the same time."""

    def free_at(self) -> float:
        """Return when both its lease and its offer have ended."""
        lease = self.lease
        if lease is None or lease.expires < self.offered_until:
            return self.offered_until
        return lease.expires

    def free_for(self, key: bytes, now: float) -> bool:
        """Return whether no lease or offer of another client, and no quarantine, keeps this client from the address."""
        lease = self.lease
        if lease is not None and lease.expires > now and lease.state is not LeaseState.RELEASED:
            if lease.state is LeaseState.DECLINED:
                return self.offered_to == key  # it was offered because no other address was left
            return lease.client == key
        return self.offered_to == key or self.offered_until <= now


class Pool(Generic[SubnetT]):
    """The addresses of one subnet that any client can get, or any client of one class.

    All offered and leased addresses are in one heap, sorted by the time when they become free. A renewal does not touch
    the heap: an entry that is due although its lease was renewed is pushed back, a few entries with each call. So no
    call examines all leases.

    :param ranges: the addresses, of the subnet.
    :param bindings: bindings of the lease book, by number.
    :param own_addresses: addresses of the server itself; the caller may add to it.
    :param client_class: the clients whose pool it is; None: any client.
    """

    def __init__(
        self,
        subnet: SubnetT,
        ranges: Sequence[Range],
        bindings: dict[int, Binding[SubnetT]],
        own_addresses: Collection[str],
        client_class: object = None,
    ) -> None:
        self.subnet = subnet
        self.client_class = client_class
        self._ranges = tuple(ranges)
        self.size = sum(last - first + 1 for first, last in ranges)
        self._family, self._length = (AF_INET, 4) if subnet.network.version == 4 else (AF_INET6, 16)
        self._bindings = bindings
        self._own_addresses = own_addresses
        self._numbers: Iterator[int]
        self._next_number: int | None
        """The first address of the pool that may have no binding yet; None: all have one."""
        self._queue: list[tuple[float, int, Binding[SubnetT]]] = []
        self.queued = 0
        """Number of addresses in the queue; some may be free again. The queue may hold outdated entries, too."""
        self._never_leased: deque[tuple[float, Binding[SubnetT]]] = deque()
        """Free addresses that were offered or excluded but never leased: (time when it became free, binding)."""
        self._expired: deque[tuple[float, Binding[SubnetT]]] = deque()
        """Free addresses with an expired lease, sorted: (time when it became free, binding)."""
        self.begin_at(0)

    def __contains__(self, number: int) -> bool:
        return any(first <= number <= last for first, last in self._ranges)

    def serves(self, client: Any) -> bool:
        """Return whether the pool is for *client*, which has ``classes``."""
        return self.client_class is None or self.client_class in client.classes

    def number_at(self, index: int) -> int:
        """Return the address at *index* of the pool, from 0 to ``size - 1``."""
        for first, last in self._ranges:
            if index <= last - first:
                return first + index
            index -= last - first + 1
        raise IndexError(index)

    def begin_at(self, index: int) -> None:
        """Have never_leased() begin at *index* of the pool, from 0 to ``size - 1``, and go on at its start."""
        before: list[range] = []
        after: list[range] = []
        for first, last in self._ranges:
            numbers = range(first, last + 1)
            before.append(numbers[: max(0, index)])
            after.append(numbers[max(0, index) :])
            index -= last - first + 1
        self._numbers = chain.from_iterable(after + before)
        self._next_number = next(self._numbers, None)

    def is_assignable(self, binding: Binding[SubnetT]) -> bool:
        """Return whether any client of the pool may have the address, whatever its lease and offer."""
        return binding.reservation is None and binding.address not in self._own_addresses

    def requeue(self, binding: Binding[SubnetT], now: float) -> None:
        """Queue *binding* again: its lease or offer has just changed."""
        if self._queue and self._queue[0][0] <= now:
            self._free_ended(now, _ENTRIES_PER_CHANGE)
        time = binding.free_at()
        if binding.queued_until is None:
            if binding.free_entry is not None and binding.free_entry[0] == time:
                return  # an expired lease was released: the address keeps its position
            self.queued += 1
        elif binding.queued_until <= time:
            return  # _free_ended() finds the later time when that entry is due
        binding.queued_until = time
        # The entry with the later time stays in the heap, outdated: a heap can't remove from its middle.
        heappush(self._queue, (time, binding.number, binding))
        if len(self._queue) > 2 * self.queued + _STALE_ENTRIES:
            self._queue = [entry for entry in self._queue if entry[0] == entry[2].queued_until]
            heapify(self._queue)

    def unreserve(self, binding: Binding[SubnetT]) -> None:
        """Make *binding* free for any client: it was skipped while it was reserved."""
        if binding.queued_until is None:
            self.requeue(binding, 0.0)

    def next(self, now: float, excluded: Collection[int] = ()) -> Binding[SubnetT] | None:
        """Return an address that was never leased, else the one that is free for longest.

        :param excluded: addresses that are taken already.
        :return: None: the pool is exhausted.
        """
        if self._queue and self._queue[0][0] <= now:
            self._free_ended(now, _ENTRIES_PER_CHOICE)
        return self.never_leased(excluded) or self.longest_free(now, excluded)

    def never_leased(self, excluded: Collection[int] = ()) -> Binding[SubnetT] | None:
        """Return an address that was never leased. If its binding is new, it is not in the lease book yet."""
        found = self._first_free(self._never_leased, excluded) if self._never_leased else None
        if found is not None:
            return found
        bindings = self._bindings
        while (number := self._next_number) is not None:
            if number not in bindings:
                address = inet_ntop(self._family, number.to_bytes(self._length, "big"))
                if address not in self._own_addresses:
                    binding = Binding(number, address, self.subnet, self)
                    if number not in excluded:
                        return binding
                    # The caller may not take it, so it comes first for the next client.
                    bindings[number] = binding
                    self._append_free(binding, 0.0)
            self._next_number = next(self._numbers, None)
        return None

    def longest_free(self, now: float, excluded: Collection[int] = ()) -> Binding[SubnetT] | None:
        """Return the address whose lease ended first; None: none has ended."""
        found = self._first_free(self._expired, excluded)
        if found is None and self._queue and self._queue[0][0] <= now:
            self._free_ended(now, float("inf"))
            found = self._first_free(self._never_leased, excluded) or self._first_free(self._expired, excluded)
        return found

    def _free_ended(self, now: float, limit: float) -> None:
        """Move addresses that have become free from the queue to the free lists.

        :param limit: number of entries to examine.
        """
        queue = self._queue
        while queue and queue[0][0] <= now and limit > 0:
            limit -= 1
            time, number, binding = queue[0]
            if time != binding.queued_until:
                heappop(queue)
                continue
            free_at = binding.free_at()
            if free_at > time:  # renewed since, which does not touch the queue
                heapreplace(queue, (free_at, number, binding))
                binding.queued_until = free_at
                continue
            heappop(queue)
            binding.queued_until = None
            self.queued -= 1
            self._append_free(binding, free_at)

    def _append_free(self, binding: Binding[SubnetT], free_at: float) -> None:
        free_list = self._never_leased if binding.lease is None else self._expired
        binding.free_entry = entry = (free_at, binding)
        free_list.append(entry)
        if len(free_list) > 2 * len(self._bindings) + _STALE_ENTRIES:
            # A lease that expired and was renewed later leaves an outdated entry.
            current = [each for each in free_list if each is each[1].free_entry]
            free_list.clear()
            free_list.extend(current)

    def _first_free(
        self, free_list: "deque[tuple[float, Binding[SubnetT]]]", excluded: Collection[int]
    ) -> Binding[SubnetT] | None:
        """Return the first binding of a free list that is still free. It stays in the list until it is leased or
        offered."""
        index = 0
        while index < len(free_list):
            entry = time, binding = free_list[index]
            if entry is not binding.free_entry or time != binding.free_at() or not self.is_assignable(binding):
                # It has been leased, offered or reserved since; when that ends, it is queued again.
                del free_list[index]
                if entry is binding.free_entry:
                    binding.free_entry = None
            elif binding.number in excluded:
                index += 1
            else:
                return binding
        return None
