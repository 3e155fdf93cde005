"""The policy ``adaptive``: waits fitted to the measured round trip, with much patience. The default."""

from attrs import define, field, frozen
from zope.interface import implementer

from bootfw.api import Agreed, ConfigError, IAdaptiveWatchdog, IWatchdog, IWatchdogPolicy, boot_plugin
from bootfw.watchdogs.schedule import above, repeated

SENDINGS = 4
"""At the least, when the client has asked for a timeout: 60 s of patience is nothing with waits of 255 s."""


@implementer(IAdaptiveWatchdog)
@define(eq=False)
class AdaptiveWatchdog:
    """The retransmission timer of RFC 6298, in seconds."""

    _policy: "Adaptive"
    _rto: float = field(init=False)
    _srtt: float | None = field(default=None, init=False)
    _rttvar: float = field(default=0.0, init=False)
    _attempt: int = field(default=1, init=False)

    def __attrs_post_init__(self) -> None:
        self._rto = self._policy.first_seconds

    def wait(self, attempt: int) -> float | None:
        """See IWatchdog."""
        self._attempt = attempt
        if attempt == 1:
            return self._rto
        waited = sum(map(self._backed_off, range(1, attempt)))
        return self._backed_off(attempt) if waited < self._policy.patience_seconds else None

    def progressed(self, seconds: float | None) -> None:
        """See IAdaptiveWatchdog."""
        if seconds is None:
            # Karn: what was needed to get through is kept until a round trip can be measured again (RFC 6298
            # section 5, 5.5 and 5.7).
            self._rto = self._backed_off(self._attempt)
        elif self._srtt is None:
            self._srtt, self._rttvar = seconds, seconds / 2
            self._fit()
        else:
            self._rttvar += (abs(self._srtt - seconds) - self._rttvar) / 4
            self._srtt += (seconds - self._srtt) / 8
            self._fit()

    def _fit(self) -> None:
        assert self._srtt is not None
        policy = self._policy
        self._rto = min(max(self._srtt + 4 * self._rttvar, policy.min_seconds), policy.max_seconds)

    def _backed_off(self, attempt: int) -> float:
        """Doubled for each attempt after the first."""
        # 2.0 ** 1024 would overflow; the maximum is reached long before.
        return min(self._rto * 2.0 ** min(attempt - 1, 64), max(self._policy.max_seconds, self._rto))


@implementer(IWatchdogPolicy)
@frozen
class Adaptive:
    """Waits a little longer than an answer takes, doubles that with each loss, and gives up only after a minute.

    A client that asks for a timeout gets exactly that wait each time: it may count on it.
    """

    first_seconds: float = field(default=1.0, validator=above(0))
    """The wait while no round trip is known (RFC 6298 section 2)."""
    min_seconds: float = field(default=0.05, validator=above(0))
    """RFC 6298 has 1 s, for the internet and for TCP's delayed ACKs. TFTP has none, and on the wire that machines boot
    from a round trip takes less than 1 ms. A lock-step transfer stands still for one such wait with each lost packet:
    at 2 % loss a kernel of 14 MB takes minutes with 1 s and seconds with 0.05 s. A client that really is slower is
    measured to be, and one needless block is all it gets."""
    max_seconds: float = field(default=8.0, validator=above(0))
    """Where doubling ends."""
    patience_seconds: float = field(default=60.0, validator=above(0))
    """Clients pause: PXELINUX shows a menu between the OACK and ACK 0, GRUB verifies what it has. It gives up at the
    end of the wait with which this is reached."""

    def __attrs_post_init__(self) -> None:
        if not self.min_seconds <= self.max_seconds:
            raise ConfigError("must not be less than min-seconds", ("max-seconds",))
        if self.patience_seconds > 1000 * self.max_seconds:
            raise ConfigError("must not be more than 1000 times max-seconds", ("patience-seconds",))

    def begin(self, agreed: Agreed) -> IWatchdog:
        """See IWatchdogPolicy."""
        if agreed.timeout is not None:
            return repeated(agreed.timeout, self.patience_seconds, SENDINGS)
        return AdaptiveWatchdog(self)


plugin = boot_plugin(IWatchdogPolicy, Adaptive)
