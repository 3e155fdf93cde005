"""Saying the same thing seldom."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from bootfw.events import Event, PluginBlocked

_REMEMBERED = 1000

BLOCKED_SECONDS = 0.1
"""A call of a plugin that takes longer is said in the log: meanwhile no packet is answered."""

START_SECONDS = 1.0
"""The same for the start() of a plugin, which delays the service only."""

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


class BlockingCalls:
    """Publishes a PluginBlocked for calls of plugins that took long, once in BLOCKED_AGAIN seconds for each plugin.

    :param publish: must not raise.
    :param seconds: the clock.
    """

    def __init__(self, publish: Callable[[Event], None], seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._publish = publish
        self._seldom = Seldom(BLOCKED_AGAIN)

    def report(self, plugin: str, doing: str, took: float) -> None:
        """A call took that long, in seconds: more than BLOCKED_SECONDS."""
        now = self._seconds()
        if self._seldom.due(plugin, now):
            self._publish(PluginBlocked(now, plugin, doing, took))


def class_name(plugin: object) -> str:
    """The class of *plugin*, as the configuration would name it."""
    kind = type(plugin)
    return f"{kind.__module__}:{kind.__qualname__}"
