"""Bytes per second, from transfers that have ended."""

from hypothesis import given
from hypothesis import strategies as st

from bootfw.values import Agreed, Outcome, TransferReport, TransferRequest
from bootfw.web.throughput import SECONDS, Throughput

REQUEST = TransferRequest("a", "a", ("10.0.0.9", 1))


def report(count: int, began: float, ended: float) -> TransferReport:
    return TransferReport(REQUEST, Agreed(), Outcome.COMPLETE, "", count, 1, 0, began, ended)


def test_bytes_are_spread_over_the_time_of_the_transfer() -> None:
    throughput = Throughput()
    throughput.add(report(4000, 1000.5, 1002.5))
    assert throughput.rates(1003)[-4:] == [1000, 2000, 1000, 0]
    throughput.add(report(10, 1003.2, 1003.2))
    assert throughput.rates(1003.9)[-4:] == [1000, 2000, 1000, 10]


def test_transfers_before_the_window_are_left_out() -> None:
    throughput = Throughput()
    throughput.add(report(1_000_000, 0, 1000))
    assert throughput.rates(1000) == [1000] * (SECONDS - 1) + [0]
    assert throughput.rates(1000 + SECONDS) == [0] * SECONDS
    throughput.add(report(1000, 10, 11))
    assert sum(throughput.rates(2000)) == 0


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 100), st.floats(0, 50))))
def test_no_byte_is_lost_or_counted_twice(transfers: list[tuple[int, float, float]]) -> None:
    throughput = Throughput()
    for count, began, duration in transfers:
        throughput.add(report(count, 10_000 + began, 10_000 + began + duration))
    found = throughput.rates(10_000 + 200)
    assert len(found) == SECONDS
    assert abs(sum(found) - sum(count for count, _, _ in transfers)) <= SECONDS
