"""The limits on what is sent to a peer whose address may be forged, and how a peer proves its address."""

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


def new_reading(windowsize: int, seed: int = 1, blksize: int = BLKSIZE, request_bytes: int = REQUEST) -> Reading:
    agreed = Agreed(blksize, windowsize, acknowledged=(("windowsize", str(windowsize)),))
    dice: Callable[[int], int] = Random(seed).randrange
    return Reading(CONTENT, agreed, Adaptive().begin(agreed), request_bytes=request_bytes, randbelow=dice)


def wait_out(reading: Reading) -> None:
    """Let the timer expire until the session gives up."""
    while reading.session.outcome is None:
        reading.tick()


def sent(reading: Reading) -> int:
    """The number of bytes that were sent."""
    return sum(map(len, reading.datagrams))


# Only a request has come


@pytest.mark.parametrize("windowsize", [1, 4, 64])
def test_an_oack_is_sent_three_times_and_its_ack_is_waited_for_more_than_a_minute(windowsize: int) -> None:
    silent = new_reading(windowsize)
    wait_out(silent)
    assert len(silent.datagrams) == 3
    assert silent.session.outcome is Outcome.TIMED_OUT
    assert silent.now > 60


def test_a_client_that_answers_the_oack_after_40_seconds_is_served() -> None:
    late = new_reading(1)
    while late.session.deadline is not None and late.session.deadline < 40:
        late.tick()
    assert late.ack(0, at=40.0) == [Data(1, CONTENT[:BLKSIZE])]


def test_each_copy_of_the_request_gets_an_oack_and_no_more() -> None:
    silent = new_reading(1)
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


def test_a_small_file_is_sent_three_times_after_a_short_request() -> None:
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
    silent = new_reading(1, request_bytes=31)
    silent.ack(0, at=0.01)
    wait_out(silent)
    assert silent.datagrams[1:] == [wire.data(1, CONTENT[:BLKSIZE])] * 3
    assert sent(silent) <= 130 * (31 + 4)


def test_after_a_blind_ack_0_a_large_first_block_is_sent_once() -> None:
    silent = new_reading(1, blksize=8192)
    silent.ack(0, at=0.01)
    wait_out(silent)
    assert len(silent.datagrams) == 2


@pytest.mark.parametrize("acks", [1, 2, 5, 50])
def test_three_blocks_are_sent_for_each_ack_on_balance_and_four_more_in_all(acks: int) -> None:
    silent = new_reading(1)
    for number in range(acks):
        silent.ack(number, at=(number + 1) / 100)
    wait_out(silent)
    assert len(silent.datagrams) - 1 <= 3 * acks + 4
    assert silent.now > 60


def test_a_second_block_that_is_lost_five_times_is_sent_again_although_the_first_was_slow() -> None:
    """curl repeats its ACK only after 72 s. Sixteen curls that started at once answered the first block slowly."""
    curl = new_reading(1)
    curl.ack(0, at=0.01)
    while curl.tick():
        pass  # until all repeats that are allowed within a second have been sent
    curl.ack(1)
    lost_block = [Data(2, CONTENT[BLKSIZE : 2 * BLKSIZE])]
    again = 0
    while curl.now < 20 and again < 5:
        again += curl.tick() == lost_block
    assert again == 5


def test_the_four_additional_blocks_are_sent_at_least_a_second_apart() -> None:
    slow = new_reading(1)
    slow.ack(0, at=0.01)
    times = [0.01]
    while slow.session.outcome is None:
        if slow.tick():
            times.append(slow.now)
    assert len(times) > 3
    assert [later - earlier >= 1 for earlier, later in pairwise(times)][2:] == [True] * (len(times) - 3)


def test_a_client_without_a_timer_is_sent_a_block_many_times_once_it_has_made_progress() -> None:
    grub = new_reading(1)
    for number in range(6):
        grub.ack(number, at=number / 100 + 0.01)
    sent_before = len(grub.datagrams)
    while grub.session.deadline is not None and grub.session.deadline < 34:
        grub.tick()
    assert len(grub.datagrams) - sent_before >= 10


def test_a_repeated_ack_gets_the_block_when_the_timer_has_stopped() -> None:
    ipxe = new_reading(1)
    ipxe.ack(0, at=0.01)
    repeats = [ipxe.tick() for _ in range(5)]
    assert repeats == [[Data(1, CONTENT[:BLKSIZE])]] * 2 + [[]] * 3
    deadline = ipxe.session.deadline
    assert ipxe.ack(0) == [Data(1, CONTENT[:BLKSIZE])]
    assert ipxe.session.deadline == pytest.approx(deadline)
    assert ipxe.ack(0) == [], "one answer for each expiry of the timer"
    assert ipxe.ack(1) == [Data(2, CONTENT[BLKSIZE : 2 * BLKSIZE])]
    assert ipxe.ack(1) == [], "a copy of an ACK is not answered while the timer runs"


def test_on_a_port_of_its_own_the_first_ack_proves_the_peer() -> None:
    for windowsize in (1, 4):
        agreed = Agreed(8, windowsize, acknowledged=OACK)
        reading = Reading(numbered(400), agreed, Adaptive().begin(agreed))
        reading.take()
        assert len(reading.ack(0, at=0.01)) == windowsize
        while reading.session.deadline is not None and reading.session.deadline < 34:
            reading.tick()
        assert len(reading.datagrams) > 8 * windowsize


# With windows


def test_after_a_blind_ack_0_there_are_one_block_and_three_markers() -> None:
    silent = new_reading(64)
    silent.ack(0, at=0.01)
    wait_out(silent)
    _oack, block, *markers = silent.datagrams
    assert block == wire.data(1, CONTENT[:BLKSIZE])
    assert len(markers) == 3
    assert {len(marker) for marker in markers} == {4}
    assert sent(silent) <= 52 * (REQUEST + 4)
    assert silent.now > 60


def test_the_number_of_a_marker_is_random_and_far_from_the_expected_blocks() -> None:
    numbers = set()
    for seed in range(20):
        silent = new_reading(64, seed)
        silent.ack(0, at=0.01)
        wait_out(silent)
        numbers |= {int.from_bytes(marker[2:], "big") for marker in silent.datagrams[2:]}
    assert all(0x2000 <= number < 0x6000 for number in numbers)
    assert len(numbers) > 50


def test_client_that_resumes_after_a_pause_is_retransmitted_as_before() -> None:
    late = new_reading(64)
    late.ack(0, at=0.01)
    while late.session.deadline is not None and late.session.deadline < 5:
        late.tick()
    sent_before = len(late.datagrams)
    late.ack(0, at=5.0)
    for _ in range(4):
        late.tick()
    assert [len(packet) > 4 for packet in late.datagrams[sent_before:]] == [True, False, True, False, False]


def test_a_burst_gets_one_block_more_while_the_ratio_allows_that() -> None:
    """U-Boot and atftp repeat an ACK only when they receive a new block."""
    silent = new_reading(8, request_bytes=90)
    silent.ack(0, at=0.01)
    first = silent.datagrams[1:]
    assert [packet[2:4] for packet in first[:-1]] == [b"\0\1"]
    silent.tick()
    assert [packet[2:4] for packet in silent.datagrams[3:-1]] == [b"\0\2"]
    wait_out(silent)
    assert sent(silent) <= 52 * (90 + 4)


def test_an_unanswered_burst_is_sent_again_as_a_whole_while_the_reserve_allows_that() -> None:
    """When three packets in a row are lost, the client would otherwise wait for its own timer of 5 s."""
    reading = new_reading(8)
    reading.ack(0, at=0.01)
    reading.ack(1, at=0.02)
    sent_again = []
    while reading.session.outcome is None:
        sent_again.append([packet.block for packet in reading.tick() if isinstance(packet, Data) and packet.payload])
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
@pytest.mark.parametrize("interval", [0.0001, 0.01, 0.7])
def test_a_guessing_peer_gets_little_more_than_without_windows(guess: str, windowsize: int, interval: float) -> None:
    """Without windows it gets one block for each ACK, and the repeats of the timer."""
    blocks = acks = 0
    for seed in range(20):
        blind = new_reading(windowsize, seed)
        dice = Random(seed + 1000)
        blind.ack(0, at=interval)
        for step in range(1, 101):
            now = blind.now + interval
            while blind.session.deadline is not None and blind.session.deadline <= now:
                blind.put(Input.TICK, at=blind.session.deadline)
            if blind.session.outcome is not None:
                break
            blind.put(Input.ACK, GUESSES[guess](step, windowsize, dice) & 0xFFFF, now)
            acks += 1
        blocks += sum(len(packet) > 4 for packet in blind.datagrams[1:])
    assert blocks / acks < 3.1


def test_acks_of_unsent_blocks_get_no_further_blocks() -> None:
    blind = new_reading(64)
    for number in range(0, 6400, 64):
        blind.ack(number, at=blind.now + 0.02)
    wait_out(blind)
    assert sum(len(packet) > 4 for packet in blind.datagrams) <= 2


@pytest.mark.parametrize("client", [ATFTP, EDK2, UBoot])
@pytest.mark.parametrize("windowsize", [2, 4, 8, 16, 64])
def test_a_client_has_proven_itself_within_few_round_trips(client: type[Firmware], windowsize: int) -> None:
    for seed in range(20):
        reading = new_reading(windowsize, seed)
        firmware = client(windowsize, BLKSIZE)
        exchange = Exchange(Sender(reading), firmware, perfect).run()
        assert firmware.content == CONTENT
        assert reading.session.outcome is Outcome.COMPLETE
        assert reading.session.retransmitted == 0
        acks = len(exchange.sent(4))
        assert acks <= 401 / windowsize + 14


@pytest.mark.parametrize("client", [ATFTP, EDK2, UBoot])
@pytest.mark.parametrize("windowsize", [4, 16])
def test_a_link_that_loses_and_reorders_causes_no_storm_of_packets(client: type[Firmware], windowsize: int) -> None:
    """EDK2 answers each block and each marker that it does not expect, so no such answer may cause two packets."""
    for seed in range(4):
        dice = Random(seed)

        def fate(datagram: bytes, dice: Random = dice) -> list[float]:
            return [] if dice.random() < 0.05 else [0.0001 * dice.uniform(1, 2)]

        reading = new_reading(windowsize, seed)
        firmware = client(windowsize, BLKSIZE, deadline=5.0)
        Exchange(Sender(reading), firmware, fate).run(most=6000)
        assert firmware.content == CONTENT


def test_ack_of_an_unsent_block_lowers_the_odds() -> None:
    reading = new_reading(4)
    reading.ack(0, at=0.01)
    while (proof := reading.session._proof) is not None and proof._choices == 1:
        reading.ack(reading.session.sent, at=reading.now + 0.01)
    assert proof is not None
    odds_before = proof.odds
    assert reading.ack(reading.session.sent + 1, at=reading.now + 0.01) == []
    assert reading.session.state is State.PROVING
    assert proof.odds < odds_before


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
    reading = new_reading(windowsize, seed, blksize, request_bytes)
    reading.ack(0, at=0.001)
    for ahead, delay in acks:
        if reading.session.outcome is not None:
            break
        number = max(0, reading.session.acked + ahead)
        for packet in reading.ack(number & 0xFFFF, at=reading.now + delay):
            assert isinstance(packet, Data)
            if packet.payload:
                assert reading.session.acked < packet.block <= reading.session.acked + windowsize
        if reading.session.state is State.PROVING:
            assert reading.session.deadline is not None


def test_the_ratio_allows_a_larger_first_burst_and_keeps_one_block_to_send_again() -> None:
    reading = new_reading(4, blksize=128)
    packets = [packet for packet in reading.ack(0, at=0.01) if isinstance(packet, Data) and packet.payload]
    assert len(packets) > 1
    sizes: list[int] = []
    proof = Proof(64, 1412, 5 * 1412, lambda limit: sizes.append(limit) or limit - 1)  # type: ignore[func-returns-value]
    proof.draw()
    assert sizes == [4]


@pytest.mark.parametrize("choices", [2, 3, 4])
@pytest.mark.parametrize("repeats", range(4))
def test_the_mean_of_the_odds_of_a_peer_that_guesses_does_not_grow(choices: int, repeats: int) -> None:
    """Its chance of the right answer is 1 in *choices*, and more when the burst was sent again."""

    def odds_after(answer: Callable[[Proof], object]) -> float:
        proof = Proof(64, 1412, 0, lambda below: 0)
        proof._choices, proof.repeats = choices, repeats
        answer(proof)
        return proof.odds

    chance = min(1.0, (repeats + 1) / choices)
    mean = chance * odds_after(Proof.burst_confirmed) + (1 - chance) * odds_after(Proof.burst_failed)
    assert mean == pytest.approx(1)


@pytest.mark.parametrize("windowsize", [2, 4, 16])
def test_a_peer_that_guesses_for_long_is_proven_as_rarely_as_promised(windowsize: int) -> None:
    """The peer always acknowledges one more block: it knows where each burst begins, and may guess right each time."""
    proven = 0
    for seed in range(200):
        blind = new_reading(windowsize, seed)
        blind.ack(0, at=0.01)
        while blind.session.acked < 200 and not blind.session.proven:
            blind.put(Input.ACK, blind.session.acked + 1, blind.now + 0.01)
        proven += blind.session.proven
    assert proven / 200 < 1.5 / (SAFETY * windowsize)


def test_ack_faster_than_a_round_trip_does_not_prove() -> None:
    reading = new_reading(4)
    reading.ack(0, at=0.01)
    for _ in range(2):
        reading.ack(reading.session.sent, at=reading.now + 0.01)
    assert reading.session._proof is not None
    odds_before = reading.session._proof.odds
    reading.ack(reading.session._burst_end, at=reading.now + 0.0001)
    assert reading.session._proof.odds < odds_before


def test_ack_sent_by_the_clients_timer_is_not_a_round_trip() -> None:
    agreed = Agreed(8, acknowledged=OACK)
    atftp = Reading(numbered(20), agreed, oack_once=True)
    atftp.tick()
    atftp.ack(0, at=3.0)
    assert atftp.watchdog.samples == [None]


def test_there_is_no_fast_path_before_the_proof() -> None:
    reading = new_reading(4)
    assert not reading.session.proven
    reading.session.cached_through = 400
    reading.ack(0, at=0.01)
    assert not reading.session.steady
    proven = Reading(CONTENT, reading.agreed)
    assert proven.session.proven
    proven.ack(0, at=0.01)
    assert proven.session.steady


def test_a_late_ack_of_an_earlier_burst_counts_however_early_it_comes() -> None:
    """A client whose timer expires together with the server's repeats an ACK for none of the bursts in flight."""
    reading = new_reading(16)
    reading.ack(0, at=0.01)
    while reading.session.sent - reading.session.acked < 4:
        reading.ack(reading.session.sent, at=reading.now + 0.01)
    start, end = reading.session.acked, reading.session.sent
    while reading.session._burst_end >= end - 1:
        reading.ack(reading.session.acked, at=reading.now + 0.02)
        reading.tick()
        if reading.session.sent > end:
            end = reading.session.sent
    assert reading.session.acked == start
    sent_at = reading.session.flight.sent_at
    assert reading.ack(end, at=sent_at + 0.001) == []
    assert reading.session.acked == end
    assert end + 1 in [packet.block for packet in reading.tick() if isinstance(packet, Data)]
