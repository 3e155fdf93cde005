"""IWatchdogPolicy and the kinds of watchdogs."""

import math
from collections.abc import Iterator

from zope.interface.verify import verifyObject

from bootfw.ability import abilities_of, provides
from bootfw.interfaces import IAdaptiveWatchdog, ITimeoutWatchdog, IWatchdog, IWatchdogPolicy
from bootfw.values import Agreed

AGREED = (
    Agreed(),
    Agreed(timeout=1),
    Agreed(timeout=255),
    Agreed(blksize=1468, windowsize=64, tsize=1 << 32),
    Agreed(blksize=8, windowsize=65535, timeout=5),
)


class WatchdogContract:
    """The tests of every watchdog policy. Override ``make_policy``."""

    longest_patience = 4 * 3600.0
    """Seconds without an answer after which any transfer must be over, also with a client that requested 255 s."""
    most_attempts = 10_000

    def make_policy(self) -> IWatchdogPolicy:
        """Return a policy as the configuration would make it."""
        raise NotImplementedError

    def watchdogs(self) -> Iterator[IWatchdog]:
        """Yield a watchdog for each kind of transfer; the adaptive ones also after some round trips."""
        for agreed in AGREED:
            policy = self.make_policy()
            yield policy.begin(agreed)
            for lesson in ([0.0], [0.0001] * 50, [None], [30.0], [0.5, None, 1e6, None], [1e-9, 100.0] * 5):
                watchdog = policy.begin(agreed)
                if IAdaptiveWatchdog.providedBy(watchdog):
                    for seconds in lesson:
                        watchdog.progressed(seconds)
                    yield watchdog

    def waits(self, watchdog: IWatchdog) -> list[float]:
        """Return all its waits until it gives up."""
        waits: list[float] = []
        while (wait := watchdog.wait(len(waits) + 1)) is not None:
            waits.append(wait)
            assert len(waits) < self.most_attempts, "it never gives up"
        return waits

    def test_provides_the_interfaces(self) -> None:
        policy = self.make_policy()
        verifyObject(IWatchdogPolicy, policy)
        for watchdog in self.watchdogs():
            verifyObject(IAdaptiveWatchdog if IAdaptiveWatchdog.providedBy(watchdog) else IWatchdog, watchdog)

    def test_watchdogs_have_what_they_declare(self) -> None:
        for watchdog in self.watchdogs():
            for ability in abilities_of(watchdog):
                verifyObject(ability, watchdog)

    def test_a_timeout_that_is_honoured_is_each_wait(self) -> None:
        for agreed in AGREED:
            watchdog = self.make_policy().begin(agreed)
            if agreed.timeout and provides(watchdog, ITimeoutWatchdog) and watchdog.honours_timeout:
                assert set(self.waits(watchdog)) == {agreed.timeout}

    def test_first_wait_is_never_none(self) -> None:
        for watchdog in self.watchdogs():
            assert watchdog.wait(1) is not None

    def test_waits_are_seconds(self) -> None:
        for watchdog in self.watchdogs():
            for wait in self.waits(watchdog):
                assert math.isfinite(wait), wait
                assert wait > 0, wait

    def test_it_gives_up_in_finite_time(self) -> None:
        for watchdog in self.watchdogs():
            assert math.fsum(self.waits(watchdog)) <= self.longest_patience

    def test_given_up_is_given_up(self) -> None:
        for watchdog in self.watchdogs():
            end = len(self.waits(watchdog)) + 1
            assert [watchdog.wait(end + more) for more in (0, 1, 100)] == [None, None, None]

    def test_it_begins_anew_after_progress(self) -> None:
        for watchdog in self.watchdogs():
            self.waits(watchdog)
            if IAdaptiveWatchdog.providedBy(watchdog):
                watchdog.progressed(None)
            assert watchdog.wait(1) is not None
            assert self.waits(watchdog)

    def test_asking_changes_nothing(self) -> None:
        for watchdog in self.watchdogs():
            assert watchdog.wait(1) == watchdog.wait(1)
            assert self.waits(watchdog) == self.waits(watchdog)

    def test_watchdogs_of_one_policy_are_independent(self) -> None:
        policy = self.make_policy()
        for agreed in AGREED:
            expected = self.waits(self.make_policy().begin(agreed))
            one, other = policy.begin(agreed), policy.begin(agreed)
            if IAdaptiveWatchdog.providedBy(one):
                one.progressed(20.0)
            self.waits(one)
            assert self.waits(other) == expected
