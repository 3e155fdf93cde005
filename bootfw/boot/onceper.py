"""Limits reports, such as log lines, to one per subject and interval."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from bootfw.events import Event, PluginBlocked

_CAPACITY = 1000
"""Subjects that are remembered; the oldest one is dropped first."""

BLOCKED_SECONDS = 0.1
"""A plugin call that takes longer than this is reported: meanwhile the reactor answers no packet."""

START_SECONDS = 1.0
"""The same limit for start() of a plugin, which delays the service only once."""

BLOCKED_AGAIN = 60.0
"""Seconds until the same plugin is reported again."""


class OncePer:
    """Limits reports about a subject to one per interval.

    :param seconds: the interval.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._reported: OrderedDict[Hashable, float] = OrderedDict()

    def due(self, subject: Hashable, now: float) -> bool:
        """Return whether to report *subject* now. If so, note the time of the report."""
        last = self._reported.get(subject)
        if last is not None and now < last + self._seconds:
            return False
        self._reported[subject] = now
        self._reported.move_to_end(subject)
        if len(self._reported) > _CAPACITY:
            self._reported.popitem(last=False)
        return True


class BlockingCalls:
    """Publishes a PluginBlocked for plugin calls that block the reactor, once in BLOCKED_AGAIN seconds per plugin.

    :param publish: must not raise.
    :param seconds: the clock.
    """

    def __init__(self, publish: Callable[[Event], None], seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._publish = publish
        self._once_per = OncePer(BLOCKED_AGAIN)

    def report(self, plugin: str, doing: str, took: float) -> None:
        """Report a call that took *took* seconds, which is more than BLOCKED_SECONDS.

        :param plugin: kind and name, such as "backend directory".
        :param doing: the call, such as "open('kernel')".
        """
        now = self._seconds()
        if self._once_per.due(plugin, now):
            self._publish(PluginBlocked(now, plugin, doing, took))


def class_name(plugin: object) -> str:
    """Return the class of *plugin* as the configuration would name it: "package.module:Class"."""
    kind = type(plugin)
    return f"{kind.__module__}:{kind.__qualname__}"
