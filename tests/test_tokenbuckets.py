"""Token buckets, compared with a model that keeps the times of all events."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bootfw.tokenbuckets import TokenBuckets

KEYS = 3
PER_SECOND, BURST = 4, 5


class Model(RuleBasedStateMachine):
    """There is a token as long as no period that ends now has more events than one burst and the rate allow.

    All times are multiples of 1/64 s, so that the model is exact.
    """

    def __init__(self) -> None:
        super().__init__()
        self.buckets = TokenBuckets(KEYS)
        self.now = 1000.0
        self.admitted: dict[str, list[float]] = {}
        """Key -> the times of its admitted events. The keys are sorted by their latest event."""

    @rule(ticks=st.integers(1, 200))
    def time_passes(self, ticks: int) -> None:
        self.now += ticks / 64

    @rule(key=st.sampled_from("abcde"), count=st.integers(1, 2 * BURST))
    def events_happen(self, key: str, count: int) -> None:
        for _ in range(count):
            times = self.admitted.pop(key, [])
            fits = all(
                len(times) - index + 1 <= BURST + PER_SECOND * (self.now - began) for index, began in enumerate(times)
            )
            assert self.buckets.take(key, PER_SECOND, BURST, self.now) == fits
            self.admitted[key] = [*times, self.now] if fits else times
            if len(self.admitted) > KEYS:
                del self.admitted[next(iter(self.admitted))]

    @invariant()
    def the_number_of_keys_is_bounded(self) -> None:
        assert len(self.buckets) == len(self.admitted) <= KEYS


TestModel = Model.TestCase


def test_a_clock_that_goes_back_adds_no_token_twice() -> None:
    buckets = TokenBuckets(1)
    assert buckets.take("", 1, 1, 10.0)
    assert not buckets.take("", 1, 1, 9.0)
    assert not buckets.take("", 1, 1, 10.5)
    assert buckets.take("", 1, 1, 11.0)


def test_limits_may_change() -> None:
    buckets = TokenBuckets(1)
    assert [buckets.take("", 1, 4, 0.0) for _ in range(2)] == [True, True]
    assert [buckets.take("", 1, 1, 0.0) for _ in range(2)] == [True, False], "a smaller bucket holds less"
    assert [buckets.take("", 8, 4, 0.25) for _ in range(3)] == [True, True, False]
    assert not buckets.take("", 1, 0.5, 100.0), "no whole token fits"
