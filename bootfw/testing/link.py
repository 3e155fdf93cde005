"""Links of a MemoryNetwork: loss, duplication, delay and order of datagrams."""

from collections.abc import Callable, Iterable
from random import Random

from attrs import define, field

from bootfw.values import Address

Link = Callable[[bytes, Address, Address], Iterable[float]]
"""Called with (data, source, destination) for each datagram; returns the seconds after which each copy of it arrives.
An empty result: it is lost; two numbers: it is duplicated."""


@define(eq=False)
class LossyLink:
    """A Link that loses, duplicates and reorders datagrams pseudo-randomly: the same *seed* gives the same result.

    :param drop: probability that a datagram is lost, 0.0 to 1.0.
    :param duplicate: probability that it arrives twice.
    :param reorder: probability that a copy is delayed by up to four more *delay*, so that later ones overtake it.
    :param delay: one-way delay in seconds.
    """

    seed: int
    drop: float = 0.05
    duplicate: float = 0.02
    reorder: float = 0.02
    delay: float = 0.001
    dropped: int = field(default=0, init=False)
    duplicated: int = field(default=0, init=False)
    reordered: int = field(default=0, init=False)
    _random: Random = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._random = Random(self.seed)

    def __call__(self, data: bytes, source: Address, destination: Address) -> list[float]:
        """See Link. The content and the addresses make no difference."""
        # Always draw the same numbers, so that a change of one rate does not change the effect of the others.
        drop, duplicate = self._random.random(), self._random.random()
        delays = [self._delay(), self._delay()]
        if drop < self.drop:
            self.dropped += 1
            return []
        if duplicate < self.duplicate:
            self.duplicated += 1
        else:
            del delays[1]
        self.reordered += sum(delay > self.delay for delay in delays)
        return delays

    def _delay(self) -> float:
        reorder, held = self._random.random(), self._random.uniform(1, 4)
        return self.delay * (1 + held) if reorder < self.reorder else self.delay
