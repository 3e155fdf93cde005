"""The policy ``adaptive``: waits that follow the measured round trip; it gives up late. The default."""

from attrs import define, field, frozen
from zope.interface import implementer

from bootfw.api import Agreed, ConfigError, ILearningWatchdog, IWatchdog, IWatchdogPolicy, boot_plugin
from bootfw.watchdogs.schedule import above

GROWTH = 1.5
"""Factor from one wait to the next, once a round trip is known; RFC 6298 doubles. At 5 % loss a window of 16 blocks
arrives whole in 44 % of the cases, and clients report a gap only once: with doubling the mean wait would have no
bound."""

QUICK = 5
"""Number of transmissions with waits in the order of a round trip. At 5 % loss in each direction, so many are lost in a
row once in a hundred thousand blocks."""

PAUSE = 0.12
"""Least wait in seconds, from the third transmission on. If an ACK was lost, busybox ignores the block that it already
has, and repeats the ACK when it has received nothing for 100 ms; a datagram sent sooner restarts that time."""

SILENCE = 6.0
"""Least wait in seconds after QUICK transmissions: atftp and U-Boot repeat an ACK when they have received nothing for
5 s."""

FIRST_WAIT = 0.2
"""Seconds. Up to this, a wait that follows from the first round trip stays until a datagram is lost, even if the next
round trips are shorter."""


@implementer(ILearningWatchdog)
@define(eq=False)
class AdaptiveWatchdog:
    """The retransmission timer of RFC 6298, in seconds."""

    _policy: "Adaptive"
    _rto: float
    _srtt: float | None = field(default=None, init=False)
    _rttvar: float = field(default=0.0, init=False)
    _attempt: int = field(default=1, init=False)
    _previous_unmeasured: bool = field(default=False, init=False)
    """Whether the latest answer measured no round trip."""
    _has_one_sample: bool = field(default=False, init=False)
    """Whether only one round trip has been measured so far."""
    unremarkable_from: float = field(default=0.0, init=False)
    unremarkable: float = field(default=0.0, init=False)

    def wait(self, attempt: int) -> float | None:
        """See IWatchdog."""
        self._attempt = attempt
        if attempt == 1:
            return self._rto
        waited = sum(map(self._wait_after, range(1, attempt)))
        return self._wait_after(attempt) if waited < self._policy.patience_seconds else None

    def progressed(self, seconds: float | None) -> None:
        """See IAdaptiveWatchdog."""
        if seconds is None:
            # Karn: the wait that led to an answer is kept until a round trip can be measured again (RFC 6298 section 5,
            # 5.5 and 5.7). But not the first time: usually a datagram was lost, and the network has not become slower.
            # With windows on a lossy link few answers can be measured: each wait would grow with all earlier losses.
            if self._previous_unmeasured:
                self._rto = self._exponential_wait(min(self._attempt, 3))
            self._previous_unmeasured = True
            self.unremarkable = 0.0
            return
        if self.unremarkable_from == 0.0 and seconds <= self.unremarkable:
            return
        self._previous_unmeasured = False
        # The first round trip is that of the OACK. On a busy server it includes the time for all requests that arrived
        # with this one, and says little of those to come. The averages would need eight of these to forget it.
        is_first = self._srtt is None or (self._has_one_sample and seconds < self._srtt / 2)
        self._has_one_sample = self._srtt is None
        if self._srtt is None or is_first:
            self._srtt, self._rttvar = seconds, seconds / 2
        else:
            self._rttvar += (abs(self._srtt - seconds) - self._rttvar) / 4
            self._srtt += (seconds - self._srtt) / 8
        self._set_wait()

    def _set_wait(self) -> None:
        assert self._srtt is not None
        policy = self._policy
        least = policy.min_seconds
        self._rto = min(max(self._srtt + 4 * self._rttvar, least), policy.max_seconds)
        # A round trip in this range would change the wait by less than half: a short one can't while the wait is less
        # than twice the shortest wait. Processing each round trip of a thousand transfers would itself make the round
        # trips longer. And so it would to learn a second one of each small file: a longer wait matters only when a
        # datagram is lost, and then the next round trip is learned.
        fixed_below = max(2 * least, FIRST_WAIT if self._has_one_sample else 0.0)
        self.unremarkable_from = self._srtt / 2 if self._rto > fixed_below else 0.0
        self.unremarkable = (self._srtt + self._rto) / 2

    def _wait_after(self, attempt: int) -> float:
        """Return the wait for *attempt*: the exponential one, and from the third on at least PAUSE or SILENCE."""
        if attempt < 3:
            return self._exponential_wait(attempt)
        pause = PAUSE * GROWTH ** (attempt - 3) if attempt <= QUICK else SILENCE
        return max(self._exponential_wait(attempt), min(pause, self._policy.max_seconds))

    def _exponential_wait(self, attempt: int) -> float:
        """Return the wait for *attempt*, longer for each attempt after the first (RFC 6298 section 5.5)."""
        growth = 2.0 if self._srtt is None else GROWTH
        # 2.0 ** 1024 would overflow; the maximum is reached long before.
        return min(self._rto * growth ** min(attempt - 1, 64), max(self._policy.max_seconds, self._rto))


@implementer(IWatchdogPolicy)
@frozen
class Adaptive:
    """Waits a little longer than an answer takes, longer with each loss, and gives up only after a minute.

    A timeout that the client requests is not acknowledged (RFC 2349 leaves that to the server): as the only wait it
    would cost a client that requests 6 s, as curl does, 6 s for each lost packet.
    """

    first_seconds: float = field(default=1.0, validator=above(0))
    """The wait while no round trip is known (RFC 6298 section 2)."""
    min_seconds: float = field(default=0.02, validator=above(0))
    """RFC 6298 has 1 s, for the internet and for TCP's delayed ACKs. TFTP has none, and on the wire that machines boot
    from a round trip takes less than 1 ms. Each lost packet stops a lock-step transfer for one such wait: at 2 %
    loss a kernel of 14 MB takes minutes with 1 s and seconds with 0.02 s. If a client is slower, the measured round
    trip shows it after one needless block."""
    max_seconds: float = field(default=8.0, validator=above(0))
    """The longest wait that losses lead to."""
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
        return AdaptiveWatchdog(self, self.first_seconds)


plugin = boot_plugin(IWatchdogPolicy, Adaptive)
