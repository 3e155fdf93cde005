"""A session that continues where another one has left the transfer: it has the same limits, and forgets nothing."""

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


def most(below: int) -> int:
    return below - 1


def block(number: int) -> Data:
    return Data(number, CONTENT[(number - 1) * 8 : number * 8])


def reading(windowsize: int = 1, **more: object) -> Reading:
    return Reading(CONTENT, Agreed(8, windowsize), **more)  # type: ignore[arg-type]


def after(before: Reading, watchdog: object = None) -> Reading:
    """What continues *before*, a second later, in another process."""
    position = pickle.loads(pickle.dumps(before.session.position(before.now)))
    watchdog = watchdog or Waits()
    return evolve(before, resumed=position, now=before.now + 1, watchdog=watchdog)


def test_nothing_is_sent_before_the_timer_is_due() -> None:
    before = reading()
    before.ack(1, at=0.1)
    now = after(before)
    assert now.take() == []
    assert now.session.state is State.AWAITING_ACK
    assert now.tick() == [block(2)]
    assert now.now == 2.1
    assert now.ack(2) == [block(3)]


def test_continued_transfer_keeps_its_deadline() -> None:
    """It is 6 s where a packet got lost several times in a row."""
    before = reading()
    before.ack(1, at=0.1)
    before.now = 0.5
    now = after(before)
    assert now.session.deadline == pytest.approx(now.now + 0.6)
    before.now = 7.0  # the process was busy with something else
    assert after(before).session.deadline == 8.0


def test_time_of_the_last_sending_is_kept() -> None:
    """An ACK that repeats the one before is answered when it comes later than a round trip."""
    before = reading(4)
    before.ack(4, at=0.5)
    before.now = 1.0
    now = after(before)
    assert now.ack(4, at=now.now + 0.01) == [block(number) for number in range(5, 9)]


def test_the_ack_that_was_under_way_counts_for_all_that_was_in_flight() -> None:
    before = reading(4)
    now = after(before)
    assert now.ack(4) == [block(number) for number in range(5, 9)]


def test_round_trips_are_kept_and_not_measured_across_the_handover() -> None:
    before = reading()
    before.ack(1, at=0.25)
    now = after(before)
    now.ack(2, at=now.now + 0.01)
    now.ack(3, at=now.now + 0.02)
    assert now.watchdog.samples == [0.25, None, pytest.approx(0.02)]


def test_pending_read_is_repeated() -> None:
    before = reading(lazy=True)
    before.fetch()
    before.ack(1, at=0.1)
    assert before.session.state is State.FETCHING
    now = after(before)
    assert now.session.state is State.FETCHING
    assert now.fetch() == [block(2)]


def test_last_block_is_kept_if_the_size_is_unknown() -> None:
    before = Reading(CONTENT[:20], Agreed(8), known=False)
    for number in (1, 2):
        before.ack(number, at=0.1 * number)
    now = after(before)
    assert now.tick() == [Data(3, CONTENT[16:20])]
    now.ack(3)
    assert now.session.outcome is Outcome.COMPLETE


@pytest.mark.parametrize("repeated", range(3))
def test_the_oack_is_sent_three_times_in_all(repeated: int) -> None:
    before = Reading(CONTENT, Agreed(8, acknowledged=OACK), Adaptive().begin(Agreed()))
    for _ in range(repeated):
        before.tick()
    now = after(before, Adaptive().begin(Agreed()))
    sent = now.take()
    while now.session.outcome is None:
        sent += now.tick()
    assert sent == [OptionAck(OACK)] * (2 - repeated)
    assert now.session.outcome is Outcome.TIMED_OUT
    assert now.session.retransmitted == 2


def test_continued_transfer_times_out_after_the_remaining_attempts() -> None:
    before = reading()
    before.tick()
    before.tick()
    now = after(before)
    assert now.session.deadline == now.now + 7
    assert now.tick() == []
    assert now.session.outcome is Outcome.TIMED_OUT


def test_a_block_is_sent_three_times_in_all() -> None:
    before = reading(request_bytes=400)
    before.tick()
    before.tick()
    now = after(before, Adaptive().begin(Agreed()))
    for _ in range(5):
        assert now.tick() == []
    assert now.session.retransmitted == 2


def test_first_block_of_the_transfer_is_kept() -> None:
    """What may be sent again counts from there."""
    before = reading(request_bytes=400)
    for number in range(1, 4):
        before.ack(number, at=0.1 * number)
    now = after(before, Adaptive().begin(Agreed()))
    assert [now.tick() for _ in range(4)] == [[block(4)]] * 4


def test_repeated_ack_during_a_pause_gets_the_block() -> None:
    before = Reading(CONTENT, Agreed(8), Adaptive().begin(Agreed()), request_bytes=0)
    while before.tick():
        pass
    now = after(before, Adaptive().begin(Agreed()))
    assert now.ack(0) == [block(1)]


def test_a_repeated_ack_that_was_answered_is_not_answered_again() -> None:
    before = reading(4)
    assert before.ack(0, at=0.5)
    now = after(before)
    assert now.ack(0, at=now.now + 0.5) == []


def test_a_repeated_ack_of_a_window_that_was_sent_twice_is_not_answered() -> None:
    before = reading(4)
    before.tick()
    before.ack(4, at=before.now + 0.2)
    now = after(before)
    assert now.ack(4, at=now.now + 0.5) == []


def test_a_client_that_repeats_acks_gets_no_window_twice() -> None:
    before = reading(4)
    before.ack(0, at=0.5)
    now = after(before)
    assert now.ack(2, at=now.now + 0.1) == [block(5), block(6)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rounds", range(12))
def test_address_proof_continues_at_the_same_burst(rounds: int, seed: int) -> None:
    """After each number of right answers there are as many blocks in flight as without."""
    sizes = []
    for left in (False, True):
        peer = Reading(numbered(40_000), Agreed(8, 16), request_bytes=49, randbelow=Random(seed).randrange)
        for turn in range(20):
            if left and turn == rounds:
                before = peer
                position = before.session.position(before.now)
                peer = evolve(before, resumed=position, watchdog=Waits())
            peer.ack(peer.session.sent & 0xFFFF, at=peer.now + 0.1)
        sizes.append(peer.session.sent)
    assert sizes[0] == sizes[1]
    assert sizes[1] > 100


def test_burst_size_still_proves_the_address() -> None:
    """An ACK of only a part of it is a wrong answer."""
    before = Reading(numbered(40_000), Agreed(512, 16), request_bytes=49, randbelow=most)
    end = before.session._burst_end
    assert end > 2
    assert before.session.state is State.PROVING
    now = after(before)
    now.ack(end - 1, at=now.now + 0.5)
    assert now.session._proof is not None
    assert now.session._proof.odds < 1


def test_time_of_the_last_packet_is_kept() -> None:
    before = reading()
    before.ack(1, at=0.1)
    assert after(before).session.last_heard == 0.1


def test_a_repeated_request_gets_the_oack_again() -> None:
    before = Reading(CONTENT, Agreed(8, acknowledged=OACK))
    now = after(before)
    assert now.take() == []
    assert now.give(Input.REQUESTED) == [OptionAck(OACK)]
    assert now.ack(0, at=now.now + 0.1) == [block(1)]
    assert now.watchdog.samples == [None]
