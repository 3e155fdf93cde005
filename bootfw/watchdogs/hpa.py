"""The policy ``hpa``: what tftpd-hpa does."""

from attrs import frozen
from zope.interface import implementer

from bootfw.api import Agreed, IWatchdogPolicy, boot_plugin
from bootfw.watchdogs.schedule import Schedule

SENDINGS = 6


@implementer(IWatchdogPolicy)
@frozen
class HPA:
    """Six sendings, a second apart, or as far apart as the client requests."""

    def begin(self, agreed: Agreed) -> Schedule:
        """See IWatchdogPolicy."""
        return Schedule((float(agreed.timeout or 1),) * SENDINGS)


plugin = boot_plugin(IWatchdogPolicy, HPA)
