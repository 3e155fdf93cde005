"""The policy ``fixed``: a list of waits."""

from typing import Any

from attrs import field, frozen
from zope.interface import implementer

from bootfw.api import Agreed, ConfigError, IWatchdogPolicy, boot_plugin
from bootfw.watchdogs.schedule import Schedule, check


def _waits(policy: Any, attribute: Any, value: list[float]) -> None:
    if not value:
        raise ConfigError("must not be empty", (attribute.name,))
    for position, seconds in enumerate(value):
        check(seconds, 0, False, attribute.name, position)


@implementer(IWatchdogPolicy)
@frozen
class Fixed:
    """Waits the seconds of a list: after the first sending, after the second and so on.

    For a client that requests a timeout, each of these waits has that length.
    """

    seconds: list[float] = field(factory=lambda: [1.0, 3.0, 7.0], validator=_waits)
    """The last one is waited out too: [1, 3, 7] gives up after 11 s."""

    def begin(self, agreed: Agreed) -> Schedule:
        """See IWatchdogPolicy."""
        if agreed.timeout is not None:
            return Schedule((float(agreed.timeout),) * len(self.seconds))
        return Schedule(tuple(map(float, self.seconds)))


plugin = boot_plugin(IWatchdogPolicy, Fixed)
