"""How fast an image is sent: on links that take less, on links that lose, on both."""

import random

import pytest

from bootfw.frisbee.pace import CREDIT, LARGEST_BURST, SLOWEST, START, TOLERANCE, Pace
from bootfw.wire.frisbee import PACKET_SIZE, WHOLE_CHUNK


def missing(share: float, chance: random.Random) -> int:
    """A map of the blocks of a chunk that a link loses."""
    return sum(1 << block for block in range(1024) if chance.random() < share)


class Link:
    """A link and a receiver behind it: what is sent faster than it takes is lost, and of the rest a share."""

    def __init__(self, pace: Pace, takes: float, loses: float = 0.0) -> None:
        self.pace, self.takes, self.loses = pace, takes, loses
        self.chance = random.Random(1)
        self.lost = self.sent = self.number = 0

    def carry(self, chunks: int) -> None:
        """Send so many chunks, each of which the receiver reports on when it has come."""
        for _ in range(chunks):
            self.pace.begin(self.number, 0.0)
            passes = min(1.0, self.takes / self.pace.rate) * (1 - self.loses)
            self.pace.sent(self.number, WHOLE_CHUNK, 1024, 0.0)
            lacks = missing(1 - passes, self.chance)
            self.sent, self.lost = self.sent + 1024, self.lost + lacks.bit_count()
            if lacks:
                self.pace.lost(self.number, lacks, 0.0, 1.0)
            self.number += 1

    def loss(self, chunks: int) -> float:
        """The share that is lost of so many chunks more."""
        self.lost = self.sent = 0
        self.carry(chunks)
        return self.lost / self.sent


def test_a_link_that_loses_nothing_is_used_up_to_the_limit() -> None:
    pace = Pace(120e6)
    assert pace.rate == START
    Link(pace, 1e9).carry(30)
    assert pace.rate == 120e6


@pytest.mark.parametrize("takes", [1.2e6, 11.9e6, 60e6])
def test_a_slow_link_is_filled_almost_without_loss(takes: float) -> None:
    pace = Pace(1e9)
    link = Link(pace, takes)
    link.carry(30)
    assert 0.9 * takes < pace.rate < 1.04 * takes
    assert link.loss(200) < 0.02
    assert pace.rate > 0.9 * takes


@pytest.mark.parametrize("loses", [0.02, 0.05, 0.1, 0.3])
def test_a_link_that_loses_at_any_rate_is_used_all_the_same(loses: float) -> None:
    pace = Pace(50e6)
    Link(pace, 1e9, loses).carry(100)
    assert pace.rate > 35e6


def test_a_slow_link_that_loses_is_filled() -> None:
    pace = Pace(1e9)
    link = Link(pace, 12e6, 0.02)
    link.carry(40)
    assert 0.85 * 12e6 < pace.rate < 1.05 * 12e6
    assert link.loss(80) < 0.06


@pytest.mark.parametrize("loses", [0.1, 0.3])
def test_a_link_that_was_bad_for_a_while_is_filled_almost_without_loss(loses: float) -> None:
    pace = Pace(1e9)
    link = Link(pace, 12e6)
    link.carry(40)
    link.loses = loses
    link.carry(12)
    link.loses = 0.0
    link.carry(150)
    assert link.loss(150) < 0.02
    assert 0.9 * 12e6 < pace.rate < 1.05 * 12e6


@pytest.mark.parametrize("loses", [0.1, 0.3])
def test_a_link_that_stays_bad_is_slower_for_few_chunks_only(loses: float) -> None:
    pace = Pace(50e6)
    link = Link(pace, 1e9, loses)
    link.carry(60)
    rates = []
    for _ in range(200):
        link.carry(1)
        rates.append(pace.rate)
    assert sum(rates) > 0.95 * 50e6 * 200


def test_it_recovers_soon_from_a_receiver_that_was_busy_for_a_moment() -> None:
    pace = Pace(1e9)
    link = Link(pace, 12e6)
    link.carry(60)
    link.loses = 0.6
    link.carry(1)
    link.loses = 0.0
    assert pace.rate < 0.6 * 12e6
    link.carry(60)
    assert pace.rate > 0.9 * 12e6


def test_it_recovers_when_the_link_does() -> None:
    pace = Pace(50e6)
    link = Link(pace, 2e6)
    link.carry(20)
    assert pace.rate < 2.2e6
    link.takes = 1e9
    link.carry(2_000)
    assert pace.rate == 50e6


def test_a_link_that_takes_nothing_gets_the_slowest_rate() -> None:
    pace = Pace(50e6)
    Link(pace, 1e3).carry(50)
    assert pace.rate == pytest.approx(SLOWEST, rel=0.1)


def sent_once() -> Pace:
    pace = Pace(50e6)
    pace.begin(0, 1.0)
    pace.sent(0, WHOLE_CHUNK, 1024, 2.0)
    return pace


def test_few_losses_and_those_of_few_blocks_mean_nothing() -> None:
    pace = sent_once()
    before = pace.rate
    assert pace.lost(0, (1 << int(1024 * TOLERANCE)) - 1, 0.0, 3.0) == int(1024 * TOLERANCE)
    assert pace.lost(7, WHOLE_CHUNK, 0.0, 3.0) == 0  # a chunk that was not sent
    pace.begin(1, 1.0)
    pace.sent(1, 0b1111, 4, 2.0)
    assert pace.lost(1, 0b1111, 0.0, 3.0) == 4
    assert pace.rate == before


@pytest.mark.parametrize(("joined", "now", "lost"), [(1.5, 3.0, 0), (0.5, 2.01, 0), (0.5, 3.0, 1024)])
def test_what_was_sent_before_a_receiver_joined_or_may_be_on_its_way_is_not_lost(
    joined: float, now: float, lost: int
) -> None:
    pace = sent_once()
    before = pace.rate
    assert pace.lost(0, WHOLE_CHUNK, joined, now) == lost
    assert (pace.rate < before) == bool(lost)


def test_a_chunk_that_is_wanted_again_is_no_progress() -> None:
    pace = sent_once()
    before = pace.rate
    pace.begin(0, 3.0)
    pace.sent(0, WHOLE_CHUNK, 1024, 3.0)
    assert pace.rate == before
    pace.begin(1, 3.0)
    pace.sent(1, WHOLE_CHUNK, 1024, 3.0)
    assert pace.rate > before


def test_chunks_that_are_requested_at_once_make_it_faster_when_they_are_sent() -> None:
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


def test_time_that_was_late_is_not_made_up_for_beyond_the_credit() -> None:
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
