"""The rate at which an image is sent: on slow links, on links that lose packets, and on links that do both."""

import random

import pytest

from bootfw.frisbee.pace import CREDIT, LARGEST_BURST, SLOWEST, START, TOLERANCE, Pace
from bootfw.wire.frisbee import PACKET_SIZE, WHOLE_CHUNK


def random_losses(loss_rate: float, random_source: random.Random) -> int:
    """A map of the blocks of a chunk that a link loses by chance."""
    return sum(1 << block for block in range(1024) if random_source.random() < loss_rate)


class Link:
    """A link with a receiver behind it: what exceeds its bandwidth is lost, and a share of the rest."""

    def __init__(self, pace: Pace, bandwidth: float, loss_rate: float = 0.0) -> None:
        self.pace, self.bandwidth, self.loss_rate = pace, bandwidth, loss_rate
        self.random_source = random.Random(1)
        self.lost = self.sent = self.number = 0

    def send(self, chunks: int) -> None:
        """Send so many chunks; the receiver reports the losses of each of them."""
        for _ in range(chunks):
            self.pace.begin(self.number, 0.0)
            arriving = min(1.0, self.bandwidth / self.pace.rate) * (1 - self.loss_rate)
            self.pace.sent(self.number, WHOLE_CHUNK, 1024, 0.0)
            lost_blocks = random_losses(1 - arriving, self.random_source)
            self.sent, self.lost = self.sent + 1024, self.lost + lost_blocks.bit_count()
            if lost_blocks:
                self.pace.lost(self.number, lost_blocks, 0.0, 1.0)
            self.number += 1

    def measure_loss(self, chunks: int) -> float:
        """Send so many more chunks; returns the share of their blocks that was lost."""
        self.lost = self.sent = 0
        self.send(chunks)
        return self.lost / self.sent


def test_a_link_that_loses_nothing_is_used_up_to_the_limit() -> None:
    pace = Pace(120e6)
    assert pace.rate == START
    Link(pace, 1e9).send(30)
    assert pace.rate == 120e6


@pytest.mark.parametrize("bandwidth", [1.2e6, 11.9e6, 60e6])
def test_a_slow_link_is_filled_almost_without_loss(bandwidth: float) -> None:
    pace = Pace(1e9)
    link = Link(pace, bandwidth)
    link.send(30)
    assert 0.9 * bandwidth < pace.rate < 1.04 * bandwidth
    assert link.measure_loss(200) < 0.02
    assert pace.rate > 0.9 * bandwidth


@pytest.mark.parametrize("loss_rate", [0.02, 0.05, 0.1, 0.3])
def test_a_link_that_loses_at_any_rate_is_used_up_to_the_limit(loss_rate: float) -> None:
    pace = Pace(50e6)
    Link(pace, 1e9, loss_rate).send(100)
    assert pace.rate > 35e6


def test_a_slow_link_that_loses_is_filled() -> None:
    pace = Pace(1e9)
    link = Link(pace, 12e6, 0.02)
    link.send(40)
    assert 0.85 * 12e6 < pace.rate < 1.05 * 12e6
    assert link.measure_loss(80) < 0.06


@pytest.mark.parametrize("loss_rate", [0.1, 0.3])
def test_a_link_that_was_bad_for_a_while_is_filled_almost_without_loss(loss_rate: float) -> None:
    pace = Pace(1e9)
    link = Link(pace, 12e6)
    link.send(40)
    link.loss_rate = loss_rate
    link.send(12)
    link.loss_rate = 0.0
    link.send(150)
    assert link.measure_loss(150) < 0.02
    assert 0.9 * 12e6 < pace.rate < 1.05 * 12e6


@pytest.mark.parametrize("loss_rate", [0.1, 0.3])
def test_a_link_that_stays_bad_is_slower_for_few_chunks_only(loss_rate: float) -> None:
    pace = Pace(50e6)
    link = Link(pace, 1e9, loss_rate)
    link.send(60)
    rates = []
    for _ in range(200):
        link.send(1)
        rates.append(pace.rate)
    assert sum(rates) > 0.95 * 50e6 * 200


def test_the_rate_recovers_soon_from_a_receiver_that_was_busy_for_a_moment() -> None:
    pace = Pace(1e9)
    link = Link(pace, 12e6)
    link.send(60)
    link.loss_rate = 0.6
    link.send(1)
    link.loss_rate = 0.0
    assert pace.rate < 0.6 * 12e6
    link.send(60)
    assert pace.rate > 0.9 * 12e6


def test_the_rate_recovers_when_the_link_does() -> None:
    pace = Pace(50e6)
    link = Link(pace, 2e6)
    link.send(20)
    assert pace.rate < 2.2e6
    link.bandwidth = 1e9
    link.send(2_000)
    assert pace.rate == 50e6


def test_a_link_with_almost_no_bandwidth_gets_the_slowest_rate() -> None:
    pace = Pace(50e6)
    Link(pace, 1e3).send(50)
    assert pace.rate == pytest.approx(SLOWEST, rel=0.1)


def sent_once() -> Pace:
    pace = Pace(50e6)
    pace.begin(0, 1.0)
    pace.sent(0, WHOLE_CHUNK, 1024, 2.0)
    return pace


def test_few_losses_and_losses_of_few_blocks_do_not_change_the_rate() -> None:
    pace = sent_once()
    rate_before = pace.rate
    assert pace.lost(0, (1 << int(1024 * TOLERANCE)) - 1, 0.0, 3.0) == int(1024 * TOLERANCE)
    assert pace.lost(7, WHOLE_CHUNK, 0.0, 3.0) == 0  # a chunk that was not sent
    pace.begin(1, 1.0)
    pace.sent(1, 0b1111, 4, 2.0)
    assert pace.lost(1, 0b1111, 0.0, 3.0) == 4
    assert pace.rate == rate_before


@pytest.mark.parametrize(("joined", "now", "lost"), [(1.5, 3.0, 0), (0.5, 2.01, 0), (0.5, 3.0, 1024)])
def test_blocks_that_were_sent_before_a_receiver_joined_or_are_in_flight_are_not_lost(
    joined: float, now: float, lost: int
) -> None:
    pace = sent_once()
    rate_before = pace.rate
    assert pace.lost(0, WHOLE_CHUNK, joined, now) == lost
    assert (pace.rate < rate_before) == bool(lost)


def test_a_chunk_that_is_requested_again_is_no_progress() -> None:
    pace = sent_once()
    rate_before = pace.rate
    pace.begin(0, 3.0)
    pace.sent(0, WHOLE_CHUNK, 1024, 3.0)
    assert pace.rate == rate_before
    pace.begin(1, 3.0)
    pace.sent(1, WHOLE_CHUNK, 1024, 3.0)
    assert pace.rate > rate_before


def test_chunks_that_are_requested_at_once_raise_the_rate_when_they_are_sent() -> None:
    pace = Pace(50e6)
    for chunk in range(6):
        pace.begin(chunk, 1.0)
    assert pace.rate == START
    pace.sent(0, WHOLE_CHUNK >> 1, 1023, 1.0)
    assert pace.rate == START
    pace.sent(0, 1, 1, 1.0)
    assert pace.rate == pytest.approx(1.1 * START)
    pace.sent(1, WHOLE_CHUNK, 1024, 1.0)
    assert pace.rate == pytest.approx(1.1**2 * START)


def test_bursts_are_due_at_the_rate() -> None:
    pace = Pace(PACKET_SIZE * 1000.0)
    assert pace.burst == 2
    pace.sent(0, 0b11, 2, 10.0)
    assert pace.due == pytest.approx(10.002 - CREDIT)
    pace.sent(0, 0b11, 2, 10.0)
    pace.sent(0, 0b11, 2, 10.0)
    assert pace.due == pytest.approx(10.006 - CREDIT)
    pace.hold(11.0)
    assert pace.due == 11.0
    pace.hold(10.5)
    assert pace.due == 11.0


def test_a_delay_is_made_up_for_only_up_to_the_credit() -> None:
    pace = Pace(PACKET_SIZE * 1000.0)
    pace.sent(0, 1, 1, 10.0)
    pace.sent(0, 1, 1, 20.0)
    assert pace.due == pytest.approx(20.001 - CREDIT)


@pytest.mark.parametrize(("rate", "burst"), [(1e3, 1), (PACKET_SIZE * 8000.0, 16), (1e9, LARGEST_BURST)])
def test_the_size_of_a_burst(rate: float, burst: int) -> None:
    pace = Pace(rate)
    pace.rate = rate
    assert pace.burst == burst


def test_a_limit_that_is_set_later() -> None:
    pace = Pace(50e6)
    pace.limit_to(5e6)
    assert pace.rate == 5e6
    pace.limit_to(50e6)
    assert pace.rate == 5e6
