"""When machines are switched on. Pure, and seeded."""

import random
from collections.abc import Iterator
from typing import Literal

from attrs import field, frozen
from attrs.validators import ge, gt

Pattern = Literal["at-once", "poisson", "racks"]


@frozen
class Arrivals:
    """A pattern of arrivals."""

    pattern: Pattern = "at-once"
    """"at-once": all at the same moment, as when power comes back. "poisson": independent of each other, *rate* a
    second. "racks": *rack* machines at once, the next *rack* after *rack_seconds*."""
    rate: float = field(default=50.0, validator=gt(0))
    rack: int = field(default=40, validator=ge(1))
    rack_seconds: float = field(default=5.0, validator=ge(0))

    def times(self, count: int, seed: int) -> Iterator[float]:
        """Yield *count* times, in seconds from the start, in order."""
        if self.pattern == "racks":
            yield from (number // self.rack * self.rack_seconds for number in range(count))
        elif self.pattern == "poisson":
            chance, now = random.Random(seed), 0.0
            for _ in range(count):
                now += chance.expovariate(self.rate)
                yield now
        else:
            yield from (0.0 for _ in range(count))
