"""A watchdog policy of your own: patient with a client that has gone to sleep, but never busy.

[watchdog]
use = "custom_watchdog:plugin"
first-seconds = 0.25
attempts = 12
"""

from typing import ClassVar

from attrs import field, frozen
from attrs.validators import gt
from zope.interface import implementer

from bootfw.api import Agreed, ITimeoutWatchdog, IWatchdog, IWatchdogPolicy, boot_plugin


@implementer(IWatchdogPolicy, ITimeoutWatchdog)
@frozen
class Doubling:
    """Doubles the wait each time, up to eight seconds."""

    first_seconds: float = field(default=0.5, validator=gt(0))
    attempts: int = field(default=8, validator=gt(0))

    honours_timeout: ClassVar[bool] = False
    """The timeout that a client requests is left out of the OACK: it makes no difference here."""

    def begin(self, agreed: Agreed) -> IWatchdog:
        """Called once for each transfer. This policy has no state per transfer, so it is its own watchdog."""
        return self

    def wait(self, attempt: int) -> float | None:
        """Seconds to wait after this sending; None: give up. It only computes: no timer, no clock."""
        return min(self.first_seconds * 2 ** (attempt - 1), 8.0) if attempt <= self.attempts else None


plugin = boot_plugin(IWatchdogPolicy, Doubling)
