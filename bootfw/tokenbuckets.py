"""Token buckets: each limits the rate of some events, and lets a number of them happen at once after a pause."""

from collections import OrderedDict
from collections.abc import Hashable

_ROUNDING = 1e-6
"""Tokens; sums of fractions are not exact."""


class TokenBuckets:
    """A token bucket for each key, such as the address of a client.

    A new bucket is full. Beyond a number of keys, the one whose latest event is the oldest is dropped.

    :param most: how many keys are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        """Key -> (tokens, time of the latest event)."""

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, per_second: float, burst: float, now: float) -> bool:
        """Take a token for an event, and return whether there was one. The limits may change from call to call.

        :param per_second: tokens that are added in a second.
        :param burst: tokens that the bucket holds.
        :param now: in seconds. A time before the latest event counts as the time of that event.
        """
        buckets = self._buckets
        found = buckets.get(key)
        if found is None:
            left = burst
            if len(buckets) >= self._most:
                buckets.popitem(last=False)
        else:
            left, latest = found
            if now > latest:
                left += (now - latest) * per_second
            else:
                now = latest
            if left > burst:
                left = burst
            buckets.move_to_end(key)
        there = left >= 1 - _ROUNDING
        buckets[key] = (left - 1 if there else left, now)
        return there
