"""The addresses of one subnet that are given to whoever comes, and which of them is next."""

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain
from socket import AF_INET, inet_ntop

from attrs import define

from bootfw.dhcp.subnet import Subnet
from bootfw.lease import Lease, LeaseState

_NOWHERE = -1.0
_SETTLED_AT_ONCE = 8
_SETTLED_BY_OTHERS = 2
_SLACK = 64


@define(eq=False)
class Binding:
    """What is known of one address."""

    address: str
    number: int
    subnet: Subnet
    pool: "Pool | None"
    """None: it is not given to whoever comes."""
    lease: Lease | None = None
    offered_to: bytes = b""
    """Key of the client that it was offered to last."""
    offered_until: float = 0.0
    probed: bool = False
    """Of that offer: nobody answered at the address."""
    queued: float = _NOWHERE
    """Time of its entry in the pool's queue; negative: it is not in there."""
    lined: tuple[float, "Binding"] | None = None
    """Its latest entry among the free ones; an earlier one counts no more, even if it has the same time."""

    def free_at(self) -> float:
        """When nobody's lease or offer is in the way any more."""
        lease = self.lease
        if lease is None or lease.expires < self.offered_until:
            return self.offered_until
        return lease.expires

    def free_for(self, key: bytes, now: float) -> bool:
        """Nobody's lease or offer is in the way of this client."""
        lease = self.lease
        if lease is not None and lease.expires > now and lease.state is not LeaseState.RELEASED:
            if lease.state is LeaseState.DECLINED:
                return self.offered_to == key  # for want of another one
            return lease.client == key
        return self.offered_to == key or self.offered_until <= now


class Pool:
    """Addresses that were never leased come first, then the one that has been free for longest.

    Each address that has been offered or leased is in one queue, by the time when it will be free. Renewals do not
    touch it: an entry whose time comes while its lease goes on is put back, a few with every call. So nothing here is
    a scan.

    :param usable: whether an address may be given to whoever comes, apart from leases and offers.
    """

    def __init__(self, subnet: Subnet, usable: Callable[[str], bool]) -> None:
        self.subnet = subnet
        self._usable = usable
        self._fresh = chain.from_iterable(range(first, last + 1) for first, last in subnet.free)
        self._queue: list[tuple[float, int, Binding]] = []
        self._unused: deque[tuple[float, Binding]] = deque()
        """Free again without ever having been leased."""
        self._expired: deque[tuple[float, Binding]] = deque()
        """Free again, in the order in which they became so."""
        self._known = 0
        self._size = sum(last - first + 1 for first, last in subnet.free)

    @property
    def free(self) -> int:
        """How many addresses are not in the queue: neither leased nor offered, as far as was looked at."""
        return self._size - self._known

    def enter(self, binding: Binding, now: float) -> None:
        """*binding* got a lease or an offer: have it back when that is over."""
        self._settle(now, _SETTLED_BY_OTHERS)
        time = binding.free_at()
        if binding.queued < 0:
            self._known += 1
        elif binding.queued <= time:
            return
        binding.queued = time
        heappush(self._queue, (time, binding.number, binding))
        if len(self._queue) > 2 * self._known + _SLACK:
            self._queue = [entry for entry in self._queue if entry[0] == entry[2].queued]
            heapify(self._queue)

    def take(self, now: float, bindings: "dict[str, Binding]") -> Binding | None:
        """The next free address; None: there is none.

        :param bindings: every address that is known; a new one is added.
        """
        self._settle(now, _SETTLED_AT_ONCE)
        return (
            self._first(self._unused)
            or self._never_used(bindings)
            or self._first(self._expired)
            or self._after_settling(now)
        )

    def give_back(self, binding: Binding) -> None:
        """*binding* may be given to whoever comes again."""
        if binding.queued < 0:
            self.enter(binding, 0.0)

    def _settle(self, now: float, most: float) -> None:
        """Look at entries whose time has come: what is free goes into the line that take() takes from."""
        queue = self._queue
        while queue and queue[0][0] <= now and most > 0:
            most -= 1
            time, number, binding = queue[0]
            if time != binding.queued:
                heappop(queue)
                continue
            free_at = binding.free_at()
            if free_at > time:
                heapreplace(queue, (free_at, number, binding))
                binding.queued = free_at
                continue
            heappop(queue)
            binding.queued = _NOWHERE
            self._known -= 1
            line = self._unused if binding.lease is None else self._expired
            binding.lined = entry = (free_at, binding)
            line.append(entry)

    def _first(self, line: "deque[tuple[float, Binding]]") -> Binding | None:
        while line:
            entry = line.popleft()
            time, binding = entry
            if entry is binding.lined and time == binding.free_at() and self._usable(binding.address):
                binding.lined = None
                return binding
        return None

    def _never_used(self, bindings: "dict[str, Binding]") -> Binding | None:
        for number in self._fresh:
            address = inet_ntop(AF_INET, number.to_bytes(4, "big"))
            if address not in bindings and self._usable(address):
                bindings[address] = binding = Binding(address, number, self.subnet, self)
                return binding
        return None

    def _after_settling(self, now: float) -> Binding | None:
        self._settle(now, float("inf"))
        return self._first(self._unused) or self._first(self._expired)
