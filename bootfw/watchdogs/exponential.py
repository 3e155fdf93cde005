"""The policy ``exponential``: each wait is a multiple of the one before."""

from attrs import field, frozen
from zope.interface import implementer

from bootfw.api import Agreed, ConfigError, IWatchdogPolicy, boot_plugin
from bootfw.watchdogs.schedule import Schedule, above, repeated

MAX_SENDINGS = 1000
"""Most transmissions of one block; more are a mistake in the configuration."""


@implementer(IWatchdogPolicy)
@frozen
class Exponential:
    """Waits longer and longer, up to a maximum, and gives up when a given time has passed without an answer.

    A client that requests a timeout gets it as every wait.
    """

    first_seconds: float = field(default=1.0, validator=above(0))
    factor: float = field(default=2.0, validator=above(1, inclusive=True))
    """Each wait is that much longer than the one before."""
    max_seconds: float = field(default=8.0, validator=above(0))
    """No wait is longer."""
    give_up_after_seconds: float = field(default=60.0, validator=above(0))
    """The sum of the waits; the last one is cut to fit."""
    _schedule: Schedule = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # After the validators, which a default of the field would precede.
        object.__setattr__(self, "_schedule", Schedule(tuple(self._waits())))

    def _waits(self) -> list[float]:
        waits: list[float] = []
        wait, left = float(self.first_seconds), float(self.give_up_after_seconds)
        while left > 0:
            if len(waits) == MAX_SENDINGS:
                raise ConfigError(f"means more than {MAX_SENDINGS} sendings; wait longer", ("give-up-after-seconds",))
            wait = min(wait, self.max_seconds, left)
            waits.append(wait)
            left -= wait
            wait *= self.factor
        return waits

    def begin(self, agreed: Agreed) -> Schedule:
        """See IWatchdogPolicy."""
        if agreed.timeout is not None:
            return repeated(agreed.timeout, self.give_up_after_seconds)
        return self._schedule


plugin = boot_plugin(IWatchdogPolicy, Exponential)
