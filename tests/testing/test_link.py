"""The lossy link: it is deterministic, and has the rates of its parameters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.testing import LossyLink

SENDER, RECEIVER = ("10.0.0.1", 1), ("10.0.0.2", 2)


@given(st.integers())
def test_links_of_one_seed_behave_alike(seed: int) -> None:
    first, second = (LossyLink(seed, 0.3, 0.3, 0.3) for _ in range(2))
    assert [first(b"a", SENDER, RECEIVER) for _ in range(50)] == [second(b"b", RECEIVER, SENDER) for _ in range(50)]


def test_rates_match_the_parameters() -> None:
    link = LossyLink(1, drop=0.1, duplicate=0.2, reorder=0.3, delay=0.01)
    fates = [link(b"", SENDER, RECEIVER) for _ in range(10_000)]
    arrived = [fate for fate in fates if fate]
    assert link.dropped == 10_000 - len(arrived) == pytest.approx(1000, rel=0.15)
    assert link.duplicated == sum(len(fate) == 2 for fate in fates) == pytest.approx(1800, rel=0.15)
    reordered = [delay for fate in arrived for delay in fate if delay != 0.01]
    assert link.reordered == len(reordered) == pytest.approx(0.3 * sum(map(len, arrived)), rel=0.15)
    assert all(0.02 <= delay <= 0.05 for delay in reordered)


def test_good_link_only_delays() -> None:
    link = LossyLink(1, 0, 0, 0, delay=0.5)
    assert [link(b"", SENDER, RECEIVER) for _ in range(100)] == [[0.5]] * 100


def test_changing_one_rate_leaves_the_rest_alone() -> None:
    calm, busy = LossyLink(7, drop=0.2, duplicate=0), LossyLink(7, drop=0.2, duplicate=1)
    for _ in range(200):
        assert bool(calm(b"", SENDER, RECEIVER)) == bool(busy(b"", SENDER, RECEIVER))
