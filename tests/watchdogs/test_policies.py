"""The built-in watchdog policies."""

from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from bootfw.api import Agreed, ConfigError, IAdaptiveWatchdog, IWatchdog, IWatchdogPolicy, PluginContext
from bootfw.plugins import configure, load
from bootfw.watchdogs.adaptive import Adaptive, AdaptiveWatchdog
from bootfw.watchdogs.exponential import Exponential
from bootfw.watchdogs.fixed import Fixed
from bootfw.watchdogs.hpa import HPA

NAMES = ["adaptive", "exponential", "fixed", "hpa"]
CONTEXT = PluginContext(reactor=None, directory=Path())


def configured(name: str, **options: Any) -> Any:
    """The policy as it is configured by its options."""
    plugin = load(f"bootfw.watchdogs.{name}:plugin", "bootfw.watchdogs")
    return configure(plugin, {key.replace("_", "-"): value for key, value in options.items()}, CONTEXT)


def waits(policy: Any, agreed: Agreed | None = None) -> list[float]:
    """All waits for a peer that never answers."""
    watchdog = policy.begin(agreed or Agreed())
    waited: list[float] = []
    while (seconds := watchdog.wait(len(waited) + 1)) is not None:
        waited.append(seconds)
        assert len(waited) < 10_000
    return waited


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_policy(name: str) -> None:
    policy = configured(name)
    verifyObject(IWatchdogPolicy, policy)
    for agreed in (Agreed(), Agreed(timeout=5)):
        verifyObject(IWatchdog, policy.begin(agreed))


def test_fixed_is_1_3_7_by_default() -> None:
    assert waits(configured("fixed")) == [1, 3, 7]


def test_fixed_takes_any_list() -> None:
    assert waits(configured("fixed", seconds=[0.5, 2, 2])) == [0.5, 2, 2]


def test_fixed_uses_the_clients_timeout_for_each_of_its_waits() -> None:
    assert waits(configured("fixed", seconds=[1, 3, 7, 9]), Agreed(timeout=2)) == [2, 2, 2, 2]


def test_hpa_waits_six_times_for_a_second() -> None:
    assert waits(configured("hpa")) == [1] * 6
    assert waits(configured("hpa"), Agreed(timeout=5)) == [5] * 6


def test_exponential_by_default() -> None:
    assert waits(configured("exponential")) == [1, 2, 4, 8, 8, 8, 8, 8, 8, 5]


def test_exponential_gives_up_exactly_at_the_configured_time() -> None:
    assert waits(configured("exponential", first_seconds=0.5, factor=3, max_seconds=4, give_up_after_seconds=10)) == [
        0.5,
        1.5,
        4,
        4,
    ]
    assert waits(configured("exponential", first_seconds=20, max_seconds=90, give_up_after_seconds=5)) == [5]


def test_exponential_uses_the_clients_timeout() -> None:
    assert waits(configured("exponential"), Agreed(timeout=7)) == [7] * 9
    assert waits(configured("exponential", give_up_after_seconds=5), Agreed(timeout=7)) == [7]


def test_adaptive_before_any_round_trip() -> None:
    assert waits(configured("adaptive")) == [1, 2, 4, 8, 8, 8, 8, 8, 8, 8]


@pytest.mark.parametrize("timeout", [1, 6, 15, 255])
def test_adaptive_measures_whatever_timeout_the_client_requests(timeout: int) -> None:
    watchdog = configured("adaptive").begin(Agreed(timeout=timeout))
    assert verifyObject(IAdaptiveWatchdog, watchdog)
    assert watchdog.wait(1) == 1
    watchdog.progressed(0.001)
    assert watchdog.wait(1) == 0.02


def adaptive(*samples: float | None) -> AdaptiveWatchdog:
    """A watchdog that has learned these round trips; None for progress without a measured one."""
    watchdog = Adaptive().begin(Agreed())
    assert isinstance(watchdog, AdaptiveWatchdog)
    for sample in samples:
        watchdog.wait(1)
        watchdog.progressed(sample)
    return watchdog


def test_adaptive_learns_by_rfc_6298() -> None:
    assert verifyObject(IAdaptiveWatchdog, adaptive())
    # Section 2: R, then R/2; the first RTO is R + 4 * R/2.
    assert adaptive(0.2).wait(1) == pytest.approx(0.6)
    # RTTVAR = 3/4 * 0.1 + 1/4 * |0.2 - 0.4|, SRTT = 7/8 * 0.2 + 1/8 * 0.4
    assert adaptive(0.2, 0.4).wait(1) == pytest.approx(0.225 + 4 * 0.125)


def test_adaptive_ignores_round_trips_that_change_little() -> None:
    at_the_floor = adaptive(0.0002, 0.0003)
    assert (at_the_floor.unremarkable_from, at_the_floor.unremarkable) == pytest.approx((0, 0.0101), abs=0.0001)
    # Below twice the floor, no shorter round trip changes the wait by half.
    above_the_floor = adaptive(0.012, 0.03)
    assert above_the_floor.wait(1) == pytest.approx(0.01425 + 4 * 0.009)
    assert above_the_floor.unremarkable_from == pytest.approx(0.01425 / 2)
    assert adaptive(0.01, 0.021).unremarkable_from == 0
    # The first one alone: until a datagram is lost, the wait stays.
    first = adaptive(0.06)
    assert (first.unremarkable_from, first.unremarkable) == pytest.approx((0, 0.12))
    assert adaptive(0.06, None, 0.001).wait(1) == 0.02
    assert adaptive(0.07).unremarkable_from == pytest.approx(0.035)
    slow = adaptive(0.2)
    assert (slow.unremarkable_from, slow.unremarkable) == pytest.approx((0.1, 0.4))
    unsure = adaptive(0.2, None)
    assert unsure.unremarkable == 0


@given(st.lists(st.floats(0.0001, 4.0), min_size=1, max_size=30), st.data())
def test_adaptive_waits_hardly_differ_without_ignored_round_trips(samples: list[float], data: Any) -> None:
    watchdog = adaptive(*samples)
    wait_before = watchdog.wait(1)
    watchdog.progressed(data.draw(st.floats(watchdog.unremarkable_from, watchdog.unremarkable)))
    wait_after = watchdog.wait(1)
    assert wait_before is not None
    assert wait_after is not None
    assert 0.5 * wait_before <= wait_after <= 1.5 * wait_before
    assert wait_after > watchdog.unremarkable  # so the wait is enough for each of them


def test_adaptive_has_a_floor_and_a_ceiling() -> None:
    assert adaptive(0.0002, 0.0003).wait(1) == 0.02
    assert adaptive(5.0).wait(1) == 8


def test_adaptive_begins_again_behind_a_first_round_trip_that_was_slow() -> None:
    """The first round trip includes the time for other requests that arrived together with this one."""
    assert adaptive(0.1, 0.002).wait(1) == 0.02
    # A round trip that was not learned and a lost datagram may come between.
    assert adaptive(0.012, 0.002, None, 0.002).wait(1) == 0.02
    # Only a second round trip that is far shorter restarts the estimate; otherwise RFC 6298 applies.
    assert adaptive(0.2, 0.1).wait(1) == pytest.approx(0.1875 + 4 * 0.1)
    assert adaptive(0.2, 0.2, 0.02).wait(1) == pytest.approx(0.1775 + 4 * 0.10125)


def test_adaptive_waits_longer_after_some_quick_retransmissions() -> None:
    waited = waits_of(adaptive(0.001))
    assert waited[:5] == pytest.approx([0.02, 0.03, 0.12, 0.18, 0.27])
    assert set(waited[5:]) == {6}
    assert 60 <= sum(waited) < 68


def test_adaptive_waits_for_busybox_from_the_third_transmission_on() -> None:
    """BusyBox repeats an ACK when nothing has come for 100 ms, and does not answer a block that it already has."""
    assert min(waits_of(adaptive(0.0001))[2:]) > 0.1


def waits_of(watchdog: AdaptiveWatchdog) -> list[float]:
    """The waits from now on, for a peer that does not answer any more."""
    waited: list[float] = []
    while (seconds := watchdog.wait(len(waited) + 1)) is not None:
        waited.append(seconds)
    return waited


def test_adaptive_grows_up_to_its_maximum() -> None:
    watchdog = adaptive(1.0)
    assert [watchdog.wait(attempt) for attempt in range(1, 6)] == pytest.approx([3, 4.5, 6.75, 8, 8])


def test_adaptive_takes_one_ambiguous_answer_for_a_loss_and_two_for_a_slower_link() -> None:
    watchdog = adaptive(0.1)
    for attempt in (1, 2, 3):
        watchdog.wait(attempt)
    watchdog.progressed(None)
    assert watchdog.wait(1) == pytest.approx(0.3)
    for attempt in (2, 3):
        watchdog.wait(attempt)
    watchdog.progressed(None)
    assert watchdog.wait(1) == pytest.approx(0.3 * 1.5**2)
    watchdog.progressed(0.1)
    assert watchdog.wait(1) == pytest.approx(0.1 + 4 * 0.0375)
    watchdog.wait(2)
    watchdog.progressed(None)
    assert watchdog.wait(1) == pytest.approx(0.1 + 4 * 0.0375)


@pytest.mark.parametrize("round_trip", [0.05, 0.1, 0.5, 2.0])
def test_adaptive_finds_a_round_trip_that_has_become_slower(round_trip: float) -> None:
    """It is unknown which of two copies an ACK answers; nevertheless the needless copies come to an end."""
    watchdog = adaptive(*[0.001] * 20)
    sent = 0
    for _ in range(12):
        waited, attempt = watchdog.wait(1), 1
        assert waited is not None
        while waited < round_trip:
            attempt += 1
            seconds = watchdog.wait(attempt)
            assert seconds is not None
            waited += seconds
        sent += attempt
        watchdog.progressed(round_trip if attempt == 1 else None)
    waited = watchdog.wait(1)
    assert waited is not None
    assert waited > round_trip
    assert sent <= 12 + 3 * 12


@given(st.lists(st.none() | st.floats(0, 100), max_size=30), st.integers(1, 5))
def test_adaptive_gives_up_after_a_minute_at_any_round_trip_time(samples: list[float | None], attempts: int) -> None:
    watchdog = adaptive()
    for sample in samples:
        for attempt in range(1, attempts + 1):
            watchdog.wait(attempt)
        watchdog.progressed(sample)
    waited: list[float] = []
    while (seconds := watchdog.wait(len(waited) + 1)) is not None:
        waited.append(seconds)
    assert 60 <= sum(waited) <= 75
    assert all(0.02 <= seconds <= 8 for seconds in waited)
    assert waited == sorted(waited)
    assert len(waited) <= 30


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("timeout", [None, 1, 255])
def test_the_first_wait_is_never_none_and_the_sum_is_finite(name: str, timeout: int | None) -> None:
    waited = waits(configured(name), Agreed(timeout=timeout))
    assert waited
    assert 3 <= sum(waited) <= 6 * 255


@pytest.mark.parametrize(
    ("name", "options", "path"),
    [
        ("fixed", {"seconds": []}, "seconds"),
        ("fixed", {"seconds": [1, -3]}, "seconds[1]"),
        ("fixed", {"seconds": [0]}, "seconds[0]"),
        ("fixed", {"seconds": [1, 2, nan]}, "seconds[2]"),
        ("fixed", {"seconds": [inf]}, "seconds[0]"),
        ("fixed", {"seconds": 3}, "seconds"),
        ("fixed", {"seconds": ["1"]}, "seconds[0]"),
        ("hpa", {"seconds": [1]}, "seconds"),
        ("exponential", {"first_seconds": 0}, "first-seconds"),
        ("exponential", {"first_seconds": -1}, "first-seconds"),
        ("exponential", {"first_seconds": nan}, "first-seconds"),
        ("exponential", {"first_seconds": True}, "first-seconds"),
        ("exponential", {"factor": 0.99}, "factor"),
        ("exponential", {"factor": inf}, "factor"),
        ("exponential", {"max_seconds": 0}, "max-seconds"),
        ("exponential", {"give_up_after_seconds": inf}, "give-up-after-seconds"),
        ("exponential", {"first_seconds": 0.001, "factor": 1}, "give-up-after-seconds"),
        ("adaptive", {"first_seconds": 0}, "first-seconds"),
        ("adaptive", {"min_seconds": nan}, "min-seconds"),
        ("adaptive", {"min_seconds": 2, "max_seconds": 1}, "max-seconds"),
        ("adaptive", {"patience_seconds": inf}, "patience-seconds"),
        ("adaptive", {"patience_seconds": 1e9}, "patience-seconds"),
        ("adaptive", {"patience": 60}, "patience"),
    ],
)
def test_invalid_options_are_errors(name: str, options: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(name, **options)
    assert str(caught.value).startswith(f"{path}: ")


def test_errors_name_a_valid_value() -> None:
    with pytest.raises(ConfigError, match=r"^seconds\[1\]: must be a finite number above 0, not -3$"):
        configured("fixed", seconds=[1, -3])
    with pytest.raises(ConfigError, match=r"^factor: must be a finite number at least 1, not 0\.5$"):
        configured("exponential", factor=0.5)


def test_policies_can_be_created_without_a_configuration() -> None:
    assert waits(Fixed([2, 4])) == [2, 4]
    assert waits(HPA()) == [1] * 6
    assert sum(waits(Exponential(give_up_after_seconds=30))) == 30
    assert sum(waits(Adaptive(patience_seconds=100))) >= 100
