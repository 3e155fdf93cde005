"""A session that continues the transfer of another one: it has the same limits and the whole state."""

import pickle
from random import Random

import pytest
from attrs import evolve
from driving import OACK, Reading, Waits, numbered

from bootfw.tftp.read import Input, State
from bootfw.values import Agreed, Outcome
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire.tftp import Data, OptionAck

CONTENT = numbered(200)


def largest(below: int) -> int:
    """In place of random.randrange: always the largest number."""
    return below - 1


def block(number: int) -> Data:
    return Data(number, CONTENT[(number - 1) * 8 : number * 8])


def reading(windowsize: int = 1, **reading_options: object) -> Reading:
    return Reading(CONTENT, Agreed(8, windowsize), **reading_options)  # type: ignore[arg-type]


def continued_from(original: Reading, watchdog: object = None) -> Reading:
    """The session that continues *original* a second later, in another process."""
    position = pickle.loads(pickle.dumps(original.session.position(original.now)))
    watchdog = watchdog or Waits()
    return evolve(original, resumed=position, now=original.now + 1, watchdog=watchdog)


def test_nothing_is_sent_before_the_timer_is_due() -> None:
    original = reading()
    original.ack(1, at=0.1)
    continued = continued_from(original)
    assert continued.take() == []
    assert continued.session.state is State.AWAITING_ACK
    assert continued.tick() == [block(2)]
    assert continued.now == 2.1
    assert continued.ack(2) == [block(3)]


def test_continued_transfer_keeps_its_deadline() -> None:
    """The wait is 6 s when a packet was lost several times in a row."""
    original = reading()
    original.ack(1, at=0.1)
    original.now = 0.5
    continued = continued_from(original)
    assert continued.session.deadline == pytest.approx(continued.now + 0.6)
    original.now = 7.0  # the process was busy with something else
    assert continued_from(original).session.deadline == 8.0


def test_time_of_the_last_sending_is_kept() -> None:
    """A repeated ACK is answered when it arrives more than a round trip after the last sending."""
    original = reading(4)
    original.ack(4, at=0.5)
    original.now = 1.0
    continued = continued_from(original)
    assert continued.ack(4, at=continued.now + 0.01) == [block(number) for number in range(5, 9)]


def test_the_ack_that_was_under_way_counts_for_all_that_was_in_flight() -> None:
    original = reading(4)
    continued = continued_from(original)
    assert continued.ack(4) == [block(number) for number in range(5, 9)]


def test_round_trips_are_kept_and_not_measured_across_the_handover() -> None:
    original = reading()
    original.ack(1, at=0.25)
    continued = continued_from(original)
    continued.ack(2, at=continued.now + 0.01)
    continued.ack(3, at=continued.now + 0.02)
    assert continued.watchdog.samples == [0.25, None, pytest.approx(0.02)]


def test_pending_read_is_repeated() -> None:
    original = reading(lazy=True)
    original.fetch()
    original.ack(1, at=0.1)
    assert original.session.state is State.FETCHING
    continued = continued_from(original)
    assert continued.session.state is State.FETCHING
    assert continued.fetch() == [block(2)]


def test_last_block_is_kept_if_the_size_is_unknown() -> None:
    original = Reading(CONTENT[:20], Agreed(8), known=False)
    for number in (1, 2):
        original.ack(number, at=0.1 * number)
    continued = continued_from(original)
    assert continued.tick() == [Data(3, CONTENT[16:20])]
    continued.ack(3)
    assert continued.session.outcome is Outcome.COMPLETE


@pytest.mark.parametrize("repeated", range(3))
def test_the_oack_is_sent_three_times_in_all(repeated: int) -> None:
    original = Reading(CONTENT, Agreed(8, acknowledged=OACK), Adaptive().begin(Agreed()))
    for _ in range(repeated):
        original.tick()
    continued = continued_from(original, Adaptive().begin(Agreed()))
    sent = continued.take()
    while continued.session.outcome is None:
        sent += continued.tick()
    assert sent == [OptionAck(OACK)] * (2 - repeated)
    assert continued.session.outcome is Outcome.TIMED_OUT
    assert continued.session.retransmitted == 2


def test_continued_transfer_times_out_after_the_remaining_attempts() -> None:
    original = reading()
    original.tick()
    original.tick()
    continued = continued_from(original)
    assert continued.session.deadline == continued.now + 7
    assert continued.tick() == []
    assert continued.session.outcome is Outcome.TIMED_OUT


def test_a_block_is_sent_three_times_in_all() -> None:
    original = reading(request_bytes=400)
    original.tick()
    original.tick()
    continued = continued_from(original, Adaptive().begin(Agreed()))
    for _ in range(5):
        assert continued.tick() == []
    assert continued.session.retransmitted == 2


def test_first_block_of_the_transfer_is_kept() -> None:
    """The limit on repeated blocks is counted from there."""
    original = reading(request_bytes=400)
    for number in range(1, 4):
        original.ack(number, at=0.1 * number)
    continued = continued_from(original, Adaptive().begin(Agreed()))
    assert [continued.tick() for _ in range(4)] == [[block(4)]] * 4


def test_repeated_ack_during_a_pause_gets_the_block() -> None:
    original = Reading(CONTENT, Agreed(8), Adaptive().begin(Agreed()), request_bytes=0)
    while original.tick():
        pass
    continued = continued_from(original, Adaptive().begin(Agreed()))
    assert continued.ack(0) == [block(1)]


def test_a_repeated_ack_that_was_answered_is_not_answered_again() -> None:
    original = reading(4)
    assert original.ack(0, at=0.5)
    continued = continued_from(original)
    assert continued.ack(0, at=continued.now + 0.5) == []


def test_a_repeated_ack_of_a_window_that_was_sent_twice_is_not_answered() -> None:
    original = reading(4)
    original.tick()
    original.ack(4, at=original.now + 0.2)
    continued = continued_from(original)
    assert continued.ack(4, at=continued.now + 0.5) == []


def test_a_client_that_repeats_acks_gets_no_window_twice() -> None:
    original = reading(4)
    original.ack(0, at=0.5)
    continued = continued_from(original)
    assert continued.ack(2, at=continued.now + 0.1) == [block(5), block(6)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rounds", range(12))
def test_address_proof_continues_at_the_same_burst(rounds: int, seed: int) -> None:
    """After each number of right answers as many blocks are in flight as without the handover."""
    sizes = []
    for handed_over in (False, True):
        peer = Reading(numbered(40_000), Agreed(8, 16), request_bytes=49, randbelow=Random(seed).randrange)
        for round_trip in range(20):
            if handed_over and round_trip == rounds:
                original = peer
                position = original.session.position(original.now)
                peer = evolve(original, resumed=position, watchdog=Waits())
            peer.ack(peer.session.sent & 0xFFFF, at=peer.now + 0.1)
        sizes.append(peer.session.sent)
    assert sizes[0] == sizes[1]
    assert sizes[1] > 100


def test_burst_size_still_proves_the_address() -> None:
    """An ACK of only a part of the burst is a wrong answer."""
    original = Reading(numbered(40_000), Agreed(512, 16), request_bytes=49, randbelow=largest)
    burst_end = original.session._burst_end
    assert burst_end > 2
    assert original.session.state is State.PROVING
    continued = continued_from(original)
    continued.ack(burst_end - 1, at=continued.now + 0.5)
    assert continued.session._proof is not None
    assert continued.session._proof.odds < 1


def test_time_of_the_last_packet_is_kept() -> None:
    original = reading()
    original.ack(1, at=0.1)
    assert continued_from(original).session.last_heard == 0.1


def test_a_repeated_request_gets_the_oack_again() -> None:
    original = Reading(CONTENT, Agreed(8, acknowledged=OACK))
    continued = continued_from(original)
    assert continued.take() == []
    assert continued.give(Input.REQUESTED) == [OptionAck(OACK)]
    assert continued.ack(0, at=continued.now + 0.1) == [block(1)]
    assert continued.watchdog.samples == [None]
