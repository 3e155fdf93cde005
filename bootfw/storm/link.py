"""The link between a simulated machine and its servers: loss, delay, duplication and order of packets. Pure, and
seeded."""

import random
from collections.abc import Sequence

from attrs import define, field, frozen


@frozen
class LinkQuality:
    """How bad a link is, in each direction. Shares are 0 to 1."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    """The share of packets that are held back until later ones have passed."""
    delay: float = 0.0
    """Seconds that every packet takes."""
    jitter: float = 0.0
    """Seconds that a packet takes longer, at most."""

    @property
    def perfect(self) -> bool:
        """Whether every packet passes at once."""
        return self == LinkQuality()


HELD_BACK = 0.02
"""Seconds that a reordered packet takes longer than others."""


@define
class Link:
    """Decides what happens to each packet, in turn."""

    quality: LinkQuality
    seed: int
    _random: random.Random = field(init=False)

    @_random.default
    def _seeded(self) -> random.Random:
        return random.Random(self.seed)

    def delays(self) -> Sequence[float]:
        """Return when each copy of the next packet arrives, in seconds from now; empty: it is lost."""
        quality, chance = self.quality, self._random.random
        if chance() < quality.loss:
            return ()
        copies = 2 if chance() < quality.duplication else 1
        return [
            quality.delay
            + (quality.jitter * chance() if quality.jitter else 0.0)
            + (HELD_BACK if chance() < quality.reordering else 0.0)
            for _ in range(copies)
        ]
