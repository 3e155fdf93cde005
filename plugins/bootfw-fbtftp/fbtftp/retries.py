"""How often a packet is sent: the ``retries`` and the ``timeout`` of a server."""

from attrs import frozen
from zope.interface import implementer

from bootfw.api import Agreed, IWatchdog, IWatchdogPolicy


@implementer(IWatchdog)
@frozen
class RetryWatchdog:
    """Waits *timeout* seconds after each sending. After ``retries + 1`` retransmissions the client is given up."""

    retries: int
    timeout: float

    def wait(self, attempt: int) -> float | None:
        """See IWatchdog."""
        return self.timeout if attempt <= self.retries + 2 else None


@implementer(IWatchdogPolicy)
@frozen
class RetryPolicy:
    """Makes RetryWatchdogs. A timeout that the client requests takes the place of the server's."""

    retries: int
    timeout: float

    def begin(self, agreed: Agreed) -> RetryWatchdog:
        """See IWatchdogPolicy."""
        return RetryWatchdog(self.retries, agreed.timeout or self.timeout)
