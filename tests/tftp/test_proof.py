"""What a peer gets that may not be there: how often, how much, and how it proves that packets reach it."""

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from driving import OACK, Reading, Writing, numbered
from exchange import ATFTP, EDK2, Exchange, Firmware, Sender, UBoot, perfect
from hypothesis import given
from hypothesis import strategies as st

from bootfw.tftp.proof import SAFETY, Proof
from bootfw.tftp.read import Input, State
from bootfw.values import Agreed, Outcome
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import tftp as wire
from bootfw.wire.tftp import Data, OptionAck

REQUEST = 45
BLKSIZE = 1408
CONTENT = numbered(400 * BLKSIZE + 100)


def reading(windowsize: int, seed: int = 1, blksize: int = BLKSIZE, request_bytes: int = REQUEST) -> Reading:
    agreed = Agreed(blksize, windowsize, acknowledged=(("windowsize", str(windowsize)),))
    dice: Callable[[int], int] = Random(seed).randrange
    return Reading(CONTENT, agreed, Adaptive().begin(agreed), request_bytes=request_bytes, randbelow=dice)


def wait_out(reading: Reading) -> None:
    while reading.session.outcome is None:
        reading.tick()


def sent(reading: Reading) -> int:
    return sum(map(len, reading.datagrams))


# Nothing but a request


@pytest.mark.parametrize("windowsize", [1, 4, 64])
def test_an_oack_is_sent_three_times_and_waited_for_as_long_as_ever(windowsize: int) -> None:
    silent = reading(windowsize)
    wait_out(silent)
    assert len(silent.datagrams) == 3
    assert silent.session.outcome is Outcome.TIMED_OUT
    assert silent.now > 60


def test_a_client_that_answers_the_oack_after_40_seconds_is_served() -> None:
    late = reading(1)
    while late.session.deadline is not None and late.session.deadline < 40:
        late.tick()
    assert late.ack(0, at=40.0) == [Data(1, CONTENT[:BLKSIZE])]


def test_each_copy_of_the_request_gets_an_oack_and_no_more() -> None:
    silent = reading(1)
    for _ in range(20):
        silent.give(Input.REQUESTED)
    wait_out(silent)
    assert len(silent.datagrams) == 3 + 20


@pytest.mark.parametrize(("request_bytes", "sendings"), [(18, 1), (21, 2), (40, 3), (400, 3)])
def test_the_first_block_is_sent_up_to_three_times_by_the_length_of_the_request(
    request_bytes: int, sendings: int
) -> None:
    silent = Reading(CONTENT, Agreed(512), Adaptive().begin(Agreed()), request_bytes=request_bytes)
    wait_out(silent)
    assert len(silent.datagrams) == sendings
    assert sent(silent) <= 52 * request_bytes
    assert silent.now > 60


def test_a_small_file_is_repeated_by_its_own_size() -> None:
    silent = Reading(b"menu", Agreed(512), Adaptive().begin(Agreed()), request_bytes=18)
    wait_out(silent)
    assert len(silent.datagrams) == 3


def test_repeated_request_during_a_pause_gets_the_first_block_again() -> None:
    silent = Reading(CONTENT, Agreed(512), Adaptive().begin(Agreed()), request_bytes=18)
    silent.take()
    for _ in range(5):
        assert silent.tick() == []
    assert silent.give(Input.REQUESTED) == [Data(1, CONTENT[:512])]
    assert silent.tick() == []


def test_an_upload_is_offered_three_times_and_waited_for() -> None:
    for agreed in (Agreed(8), Agreed(8, acknowledged=OACK)):
        writing = Writing(agreed, Adaptive().begin(agreed))
        while writing.session.outcome is None:
            writing.tick()
        assert len(writing.datagrams) == 3
        assert writing.now > 60


# A client that aborts at a second OACK


def test_oack_once_is_repeated_for_the_request_only() -> None:
    agreed = Agreed(8, acknowledged=OACK)
    atftp = Reading(numbered(20), agreed, Adaptive().begin(agreed), oack_once=True)
    assert atftp.take() == [OptionAck(OACK)]
    for at in (5.0, 10.0):
        assert atftp.tick() == []
        assert atftp.give(Input.REQUESTED, at=at) == [OptionAck(OACK)]
    assert atftp.ack(0, at=15.0) == [Data(1, numbered(8))]


def test_oack_once_still_gives_up() -> None:
    agreed = Agreed(8, acknowledged=OACK)
    atftp = Reading(numbered(20), agreed, Adaptive().begin(agreed), oack_once=True)
    wait_out(atftp)
    assert atftp.session.outcome is Outcome.TIMED_OUT
    assert atftp.now > 60


# Without windows


def test_after_a_blind_ack_0_the_first_block_is_sent_three_times() -> None:
    silent = reading(1, request_bytes=31)
    silent.ack(0, at=0.01)
    wait_out(silent)
    assert silent.datagrams[1:] == [wire.data(1, CONTENT[:BLKSIZE])] * 3
    assert sent(silent) <= 130 * (31 + 4)


def test_with_large_blocks_it_is_sent_once() -> None:
    silent = reading(1, blksize=8192)
    silent.ack(0, at=0.01)
    wait_out(silent)
    assert len(silent.datagrams) == 2


@pytest.mark.parametrize("acks", [1, 2, 5, 50])
def test_three_blocks_are_sent_for_each_ack_on_balance_and_four_more_in_all(acks: int) -> None:
    silent = reading(1)
    for number in range(acks):
        silent.ack(number, at=(number + 1) / 100)
    wait_out(silent)
    assert len(silent.datagrams) - 1 <= 3 * acks + 4
    assert silent.now > 60


def test_a_second_block_that_is_lost_five_times_is_sent_again_although_the_first_was_slow() -> None:
    """curl repeats its ACK after 72 s only. Sixteen that started at once were slow to answer the first block."""
    curl = reading(1)
    curl.ack(0, at=0.01)
    while curl.tick():
        pass  # what may be sent again within a second has been
    curl.ack(1)
    lost = [Data(2, CONTENT[BLKSIZE : 2 * BLKSIZE])]
    again = 0
    while curl.now < 20 and again < 5:
        again += curl.tick() == lost
    assert again == 5


def test_the_four_more_are_not_sent_within_a_second() -> None:
    slow = reading(1)
    slow.ack(0, at=0.01)
    times = [0.01]
    while slow.session.outcome is None:
        if slow.tick():
            times.append(slow.now)
    assert len(times) > 3
    assert [later - earlier >= 1 for earlier, later in pairwise(times)][2:] == [True] * (len(times) - 3)


def test_a_client_without_a_timer_is_helped_for_long_once_it_has_gone_on() -> None:
    grub = reading(1)
    for number in range(6):
        grub.ack(number, at=number / 100 + 0.01)
    before = len(grub.datagrams)
    while grub.session.deadline is not None and grub.session.deadline < 34:
        grub.tick()
    assert len(grub.datagrams) - before >= 10


def test_a_repeated_ack_gets_the_block_when_the_timer_has_stopped() -> None:
    ipxe = reading(1)
    ipxe.ack(0, at=0.01)
    repeats = [ipxe.tick() for _ in range(5)]
    assert repeats == [[Data(1, CONTENT[:BLKSIZE])]] * 2 + [[]] * 3
    deadline = ipxe.session.deadline
    assert ipxe.ack(0) == [Data(1, CONTENT[:BLKSIZE])]
    assert ipxe.session.deadline == pytest.approx(deadline)
    assert ipxe.ack(0) == [], "one for each time that the timer was due"
    assert ipxe.ack(1) == [Data(2, CONTENT[BLKSIZE : 2 * BLKSIZE])]
    assert ipxe.ack(1) == [], "a copy of an ACK is not answered while the timer runs"


def test_a_port_of_its_own_proves_the_peer_with_its_first_ack() -> None:
    for windowsize in (1, 4):
        agreed = Agreed(8, windowsize, acknowledged=OACK)
        own = Reading(numbered(400), agreed, Adaptive().begin(agreed))
        own.take()
        assert len(own.ack(0, at=0.01)) == windowsize
        while own.session.deadline is not None and own.session.deadline < 34:
            own.tick()
        assert len(own.datagrams) > 8 * windowsize


# With windows


def test_after_a_blind_ack_0_there_are_one_block_and_three_markers() -> None:
    silent = reading(64)
    silent.ack(0, at=0.01)
    wait_out(silent)
    _oack, block, *markers = silent.datagrams
    assert block == wire.data(1, CONTENT[:BLKSIZE])
    assert len(markers) == 3
    assert {len(marker) for marker in markers} == {4}
    assert sent(silent) <= 52 * (REQUEST + 4)
    assert silent.now > 60


def test_a_marker_is_far_from_all_that_is_awaited_and_never_the_same() -> None:
    numbers = set()
    for seed in range(20):
        silent = reading(64, seed)
        silent.ack(0, at=0.01)
        wait_out(silent)
        numbers |= {int.from_bytes(marker[2:], "big") for marker in silent.datagrams[2:]}
    assert all(0x2000 <= number < 0x6000 for number in numbers)
    assert len(numbers) > 50


def test_client_that_resumes_after_a_pause_is_retransmitted_as_before() -> None:
    late = reading(64)
    late.ack(0, at=0.01)
    while late.session.deadline is not None and late.session.deadline < 5:
        late.tick()
    before = len(late.datagrams)
    late.ack(0, at=5.0)
    for _ in range(4):
        late.tick()
    assert [len(packet) > 4 for packet in late.datagrams[before:]] == [True, False, True, False, False]


def test_a_burst_gets_one_block_more_while_the_ratio_allows_that() -> None:
    """U-Boot and atftp say nothing new twice, but for a new block."""
    silent = reading(8, request_bytes=90)
    silent.ack(0, at=0.01)
    first = silent.datagrams[1:]
    assert [packet[2:4] for packet in first[:-1]] == [b"\0\1"]
    silent.tick()
    assert [packet[2:4] for packet in silent.datagrams[3:-1]] == [b"\0\2"]
    wait_out(silent)
    assert sent(silent) <= 52 * (90 + 4)


def test_an_unanswered_burst_is_sent_again_as_a_whole_while_the_reserve_allows_that() -> None:
    """Where three packets in a row are lost, the client would wait for its own timer, of 5 s."""
    mine = reading(8)
    mine.ack(0, at=0.01)
    mine.ack(1, at=0.02)
    sent_again = []
    while mine.session.outcome is None:
        sent_again.append([packet.block for packet in mine.tick() if isinstance(packet, Data) and packet.payload])
    assert sent_again[:4] == [[4], [2, 3, 4, 5], [2, 3, 4, 5, 6], []]
    assert not any(sent_again[3:])


GUESSES: dict[str, Callable[[int, int, Random], int]] = {
    "0 again and again": lambda step, windowsize, dice: 0,
    "one after the other": lambda step, windowsize, dice: step,
    "window after window": lambda step, windowsize, dice: step * windowsize,
    "every third": lambda step, windowsize, dice: step * 3,
    "backwards": lambda step, windowsize, dice: max(0, 300 - step),
    "at random": lambda step, windowsize, dice: dice.randrange(4 * windowsize),
    "any number": lambda step, windowsize, dice: dice.randrange(0x10000),
    "every number of a window": lambda step, windowsize, dice: step % (windowsize + 1),
}


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("windowsize", [2, 4, 8, 16, 64])
@pytest.mark.parametrize("apart", [0.0001, 0.01, 0.7])
def test_a_guessing_peer_gets_little_more_than_without_windows(guess: str, windowsize: int, apart: float) -> None:
    """That is one block for each ACK, and whatever the timer may repeat."""
    blocks = acks = 0
    for seed in range(20):
        blind = reading(windowsize, seed)
        dice = Random(seed + 1000)
        blind.ack(0, at=apart)
        for step in range(1, 101):
            now = blind.now + apart
            while blind.session.deadline is not None and blind.session.deadline <= now:
                blind.put(Input.TICK, at=blind.session.deadline)
            if blind.session.outcome is not None:
                break
            blind.put(Input.ACK, GUESSES[guess](step, windowsize, dice) & 0xFFFF, now)
            acks += 1
        blocks += sum(len(packet) > 4 for packet in blind.datagrams[1:])
    assert blocks / acks < 3.1


def test_acks_of_unsent_blocks_allow_nothing() -> None:
    blind = reading(64)
    for number in range(0, 6400, 64):
        blind.ack(number, at=blind.now + 0.02)
    wait_out(blind)
    assert sum(len(packet) > 4 for packet in blind.datagrams) <= 2


@pytest.mark.parametrize("client", [ATFTP, EDK2, UBoot])
@pytest.mark.parametrize("windowsize", [2, 4, 8, 16, 64])
def test_a_client_has_proven_itself_within_few_round_trips(client: type[Firmware], windowsize: int) -> None:
    for seed in range(20):
        mine = reading(windowsize, seed)
        firmware = client(windowsize, BLKSIZE)
        exchange = Exchange(Sender(mine), firmware, perfect).run()
        assert firmware.content == CONTENT
        assert mine.session.outcome is Outcome.COMPLETE
        assert mine.session.retransmitted == 0
        acks = len(exchange.sent(4))
        assert acks <= 401 / windowsize + 14


@pytest.mark.parametrize("client", [ATFTP, EDK2, UBoot])
@pytest.mark.parametrize("windowsize", [4, 16])
def test_a_link_that_loses_and_reorders_makes_no_storm(client: type[Firmware], windowsize: int) -> None:
    """EDK2 answers each block and each marker that it does not expect: no answer to that may cause two."""
    for seed in range(4):
        dice = Random(seed)

        def fate(datagram: bytes, dice: Random = dice) -> list[float]:
            return [] if dice.random() < 0.05 else [0.0001 * dice.uniform(1, 2)]

        mine = reading(windowsize, seed)
        firmware = client(windowsize, BLKSIZE, deadline=5.0)
        Exchange(Sender(mine), firmware, fate).run(most=6000)
        assert firmware.content == CONTENT


def test_ack_of_an_unsent_block_lowers_the_odds() -> None:
    mine = reading(4)
    mine.ack(0, at=0.01)
    while (proof := mine.session._proof) is not None and proof._choices == 1:
        mine.ack(mine.session.sent, at=mine.now + 0.01)
    assert proof is not None
    before = proof.odds
    assert mine.ack(mine.session.sent + 1, at=mine.now + 0.01) == []
    assert mine.session.state is State.PROVING
    assert proof.odds < before


@given(
    seed=st.integers(0, 2**32),
    windowsize=st.integers(2, 64),
    blksize=st.sampled_from([8, 512, 1408, 8192]),
    request_bytes=st.integers(0, 200),
    acks=st.lists(st.tuples(st.integers(-1, 70), st.sampled_from([0.0001, 0.02, 3.0])), max_size=40),
)
def test_transfer_continues_after_any_acknowledged_block(
    seed: int, windowsize: int, blksize: int, request_bytes: int, acks: list[tuple[int, float]]
) -> None:
    mine = reading(windowsize, seed, blksize, request_bytes)
    mine.ack(0, at=0.001)
    for ahead, after in acks:
        if mine.session.outcome is not None:
            break
        number = max(0, mine.session.acked + ahead)
        for packet in mine.ack(number & 0xFFFF, at=mine.now + after):
            assert isinstance(packet, Data)
            if packet.payload:
                assert mine.session.acked < packet.block <= mine.session.acked + windowsize
        if mine.session.state is State.PROVING:
            assert mine.session.deadline is not None


def test_the_ratio_allows_a_larger_first_burst_and_keeps_one_block_to_send_again() -> None:
    mine = reading(4, blksize=128)
    packets = [packet for packet in mine.ack(0, at=0.01) if isinstance(packet, Data) and packet.payload]
    assert len(packets) > 1
    sizes: list[int] = []
    proof = Proof(64, 1412, 5 * 1412, lambda below: sizes.append(below) or below - 1)  # type: ignore[func-returns-value]
    proof.draw()
    assert sizes == [4]


@pytest.mark.parametrize("choices", [2, 3, 4])
@pytest.mark.parametrize("repeats", range(4))
def test_the_mean_of_the_odds_of_a_peer_that_guesses_does_not_grow(choices: int, repeats: int) -> None:
    """Its chance of the right answer is 1 in *choices*, and more when the burst was sent again."""

    def after(answer: Callable[[Proof], object]) -> float:
        proof = Proof(64, 1412, 0, lambda below: 0)
        proof._choices, proof.repeats = choices, repeats
        answer(proof)
        return proof.odds

    right = min(1.0, (repeats + 1) / choices)
    mean = right * after(Proof.burst_confirmed) + (1 - right) * after(Proof.burst_failed)
    assert mean == pytest.approx(1)


@pytest.mark.parametrize("windowsize", [2, 4, 16])
def test_a_peer_that_guesses_for_long_is_proven_as_rarely_as_promised(windowsize: int) -> None:
    """It always acknowledges one block more, so it knows where each burst begins, and may be right each time."""
    proven = 0
    for seed in range(200):
        blind = reading(windowsize, seed)
        blind.ack(0, at=0.01)
        while blind.session.acked < 200 and not blind.session.proven:
            blind.put(Input.ACK, blind.session.acked + 1, blind.now + 0.01)
        proven += blind.session.proven
    assert proven / 200 < 1.5 / (SAFETY * windowsize)


def test_ack_faster_than_a_round_trip_does_not_prove() -> None:
    mine = reading(4)
    mine.ack(0, at=0.01)
    for _ in range(2):
        mine.ack(mine.session.sent, at=mine.now + 0.01)
    assert mine.session._proof is not None
    before = mine.session._proof.odds
    mine.ack(mine.session._burst_end, at=mine.now + 0.0001)
    assert mine.session._proof.odds < before


def test_ack_sent_by_the_clients_timer_is_not_a_round_trip() -> None:
    agreed = Agreed(8, acknowledged=OACK)
    atftp = Reading(numbered(20), agreed, oack_once=True)
    atftp.tick()
    atftp.ack(0, at=3.0)
    assert atftp.watchdog.samples == [None]


def test_there_is_no_fast_path_before_the_proof() -> None:
    mine = reading(4)
    assert not mine.session.proven
    mine.session.cached_through = 400
    mine.ack(0, at=0.01)
    assert not mine.session.steady
    proven = Reading(CONTENT, mine.agreed)
    assert proven.session.proven
    proven.ack(0, at=0.01)
    assert proven.session.steady


def test_a_late_ack_of_an_earlier_burst_counts_however_early_it_comes() -> None:
    """A client whose timer rings with ours repeats an ACK that no burst of ours in flight ends with."""
    mine = reading(16)
    mine.ack(0, at=0.01)
    while mine.session.sent - mine.session.acked < 4:
        mine.ack(mine.session.sent, at=mine.now + 0.01)
    start, end = mine.session.acked, mine.session.sent
    while mine.session._burst_end >= end - 1:
        mine.ack(mine.session.acked, at=mine.now + 0.02)
        mine.tick()
        if mine.session.sent > end:
            end = mine.session.sent
    assert mine.session.acked == start
    sent_at = mine.session.flight.sent_at
    assert mine.ack(end, at=sent_at + 0.001) == []
    assert mine.session.acked == end
    assert end + 1 in [packet.block for packet in mine.tick() if isinstance(packet, Data)]
