"""The blocks that receivers want."""

from hypothesis import given
from hypothesis import strategies as st

from bootfw.frisbee.blockqueue import MOST_CHUNKS, SPAN, UNREAD, BlockQueue, Burst
from bootfw.wire.frisbee import WHOLE_CHUNK

BLOCKS = 2 * 1024 + 394


def drained(queue: BlockQueue, most: int = 32, now: float = 0.0) -> list[Burst]:
    bursts = []
    while queue:
        bursts.append(queue.take(most, now))
    return bursts


def test_chunks_are_sent_in_the_order_of_their_requests() -> None:
    queue = BlockQueue(BLOCKS)
    for chunk in (1, 0, 1, 2):
        queue.add(chunk, 0b11, 0.0)
    assert [burst.chunk for burst in drained(queue)] == [1, 0, 2]


def test_requests_of_one_chunk_are_merged() -> None:
    queue = BlockQueue(BLOCKS)
    assert queue.add(0, 0b0011, 0.0) == 0b0011
    assert queue.add(0, 0b0110, 0.0) == 0b0100
    assert len(queue) == 3
    assert drained(queue) == [Burst(0, (0, 1, 2))]


def test_a_request_during_the_chunk_is_merged_into_what_is_left() -> None:
    queue = BlockQueue(BLOCKS)
    queue.add(0, WHOLE_CHUNK, 0.0)
    queue.take(32, 0.0)
    assert queue.add(0, WHOLE_CHUNK, 0.0) == 0
    assert queue.add(0, WHOLE_CHUNK, 0.01) == (1 << 32) - 1
    assert queue.take(32, 1.0) == Burst(0, tuple(range(32)))


def test_what_the_image_does_not_have_is_left_out() -> None:
    queue = BlockQueue(BLOCKS)
    assert queue.add(3, WHOLE_CHUNK, 0.0) == queue.add(2**31 - 1, 1, 0.0) == 0
    assert queue.add(2, WHOLE_CHUNK, 0.0).bit_count() == 394
    assert not BlockQueue(0).add(0, 1, 0.0)


def test_a_burst_spans_no_more_than_is_read_at_once() -> None:
    queue = BlockQueue(BLOCKS)
    queue.add(0, 1 << 5 | 1 << (5 + SPAN - 1) | 1 << (5 + SPAN), 0.0)
    assert drained(queue) == [Burst(0, (5, 5 + SPAN - 1)), Burst(0, (5 + SPAN,))]


def test_where_a_burst_is_in_the_image() -> None:
    burst = Burst(2, (3, 7))
    assert (burst.offset, burst.length, burst.map) == (2 * 2**20 + 3 * 1024, 5 * 1024, 0b10001000)


def test_a_burst_that_was_put_back_is_next_and_not_in_flight() -> None:
    queue = BlockQueue(BLOCKS)
    queue.add(0, 0b1111, 0.0)
    queue.add(1, 1, 0.0)
    burst = queue.take(2, 0.0)
    queue.put_back(burst)
    assert len(queue) == 5
    assert drained(queue) == [Burst(0, (0, 1, 2, 3)), Burst(1, (0,))]
    queue.add(0, 1, 0.0)
    assert not queue  # but what was sent is


def test_what_is_in_flight_is_what_was_sent_since_a_time() -> None:
    queue = BlockQueue(BLOCKS)
    queue.add(0, WHOLE_CHUNK, 0.0)
    for now in (1.0, 1.1, 1.2):
        queue.take(2, now)
    drained(queue, now=1.3)
    assert queue.add(0, 0b11_1111, 1.1) == 0b11
    assert queue.add(0, 0b11_1100, 1.15) == 0b1100


def test_what_was_sent_is_forgotten_when_it_was_sent_long_ago() -> None:
    queue = BlockQueue(BLOCKS)
    for now, chunk in ((1.0, 0), (1.1, 1), (1.2, 0), (1.1 + UNREAD, 2), (1.15 + UNREAD, 2)):
        queue.add(chunk, 1 << round(10 * now), now)
        queue.take(1, now)
    # Chunk 1 is forgotten, and of chunk 0 what was sent first.
    assert queue.add(1, 1 << 11, 0.0) == 1 << 11
    assert queue.add(0, 1 << 10 | 1 << 12, 0.0) == 1 << 10


def test_there_is_a_bound() -> None:
    queue = BlockQueue((MOST_CHUNKS + 1) * 1024)
    for chunk in range(MOST_CHUNKS):
        assert queue.add(chunk, 1, 0.0)
    assert not queue.add(MOST_CHUNKS, 1, 0.0)
    assert queue.add(0, 2, 0.0)


@given(st.integers(1, WHOLE_CHUNK), st.integers(1, 64))
def test_bursts_are_the_wanted_blocks_in_order(wanted: int, most: int) -> None:
    queue = BlockQueue(1024)
    queue.add(0, wanted, 0.0)
    bursts = drained(queue, most)
    assert [block for burst in bursts for block in burst.blocks] == [n for n in range(1024) if wanted >> n & 1]
    assert all(len(burst.blocks) <= most and burst.blocks[-1] - burst.blocks[0] < SPAN for burst in bursts)
