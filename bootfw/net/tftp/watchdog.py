"""The watchdog of a transfer that begins, and whether the client's timeout is acknowledged."""

from functools import lru_cache
from typing import Any

from bootfw.interfaces import IAdaptiveWatchdog, IWatchdogPolicy
from bootfw.tftp.negotiation import without_timeout
from bootfw.values import Agreed

_without_timeout = lru_cache(1024)(without_timeout)  # machines that boot together request the same


def begin_watchdog(policy: IWatchdogPolicy, agreed: Agreed) -> tuple[Agreed, Any]:
    """A watchdog of *policy*, and *agreed* without the client's timeout if the watchdog does not honour it."""
    watchdog = policy.begin(agreed)
    if agreed.timeout is not None and not _honours_timeout(watchdog):
        agreed = _without_timeout(agreed)
    return agreed, watchdog


def _honours_timeout(watchdog: Any) -> bool:
    """See IWatchdog."""
    return bool(getattr(watchdog, "honours_timeout", not IAdaptiveWatchdog.providedBy(watchdog)))
