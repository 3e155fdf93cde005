"""The watchdog of a transfer that begins, and whether the client's timeout is acknowledged."""

from collections.abc import Callable
from functools import lru_cache

from attrs import frozen

from bootfw.ability import provides
from bootfw.interfaces import IAdaptiveWatchdog, ILearningWatchdog, ITimeoutWatchdog, IWatchdog, IWatchdogPolicy
from bootfw.tftp.negotiation import without_timeout
from bootfw.tftp.retransmit import Watchdog
from bootfw.values import Agreed

_without_timeout = lru_cache(1024)(without_timeout)  # machines that boot together request the same


@frozen
class _EveryRoundTrip:
    """A watchdog that has to learn of every round trip: without the attributes of an ILearningWatchdog."""

    wait: Callable[[int], float | None]
    progressed: Callable[[float | None], None]


def begin_watchdog(policy: IWatchdogPolicy, agreed: Agreed) -> tuple[Agreed, Watchdog]:
    """Return *agreed* and a watchdog of *policy*, without the client's timeout if the watchdog does not keep to it."""
    watchdog = policy.begin(agreed)
    if agreed.timeout is not None and not _honours_timeout(watchdog):
        agreed = _without_timeout(agreed)
    # A subclass that overrides wait() or progressed() inherits the attributes, but not the ability.
    if (
        not provides(watchdog, ILearningWatchdog)
        and IAdaptiveWatchdog.providedBy(watchdog)
        and hasattr(watchdog, "unremarkable")
    ):
        return agreed, _EveryRoundTrip(watchdog.wait, watchdog.progressed)
    return agreed, watchdog


def _honours_timeout(watchdog: IWatchdog) -> bool:
    if provides(watchdog, ITimeoutWatchdog):
        return watchdog.honours_timeout
    return not IAdaptiveWatchdog.providedBy(watchdog)
