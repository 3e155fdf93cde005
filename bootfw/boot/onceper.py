"""Saying the same thing seldom."""

from collections import OrderedDict
from collections.abc import Hashable

_REMEMBERED = 1000

BLOCKED_SECONDS = 0.1
"""A call of a plugin that takes longer is said in the log: meanwhile no packet is answered."""

BLOCKED_AGAIN = 60.0
"""Seconds within which that is not said again of the same plugin."""


class Seldom:
    """Tells whether something that was said is to be said again.

    :param seconds: not within this time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._said: OrderedDict[Hashable, float] = OrderedDict()

    def due(self, subject: Hashable, now: float) -> bool:
        """Whether it is time to say something of *subject*, which is then taken for said."""
        last = self._said.get(subject)
        if last is not None and now < last + self._seconds:
            return False
        self._said[subject] = now
        self._said.move_to_end(subject)
        if len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        return True
