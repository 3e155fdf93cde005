"""The queue of the blocks that receivers have requested."""

from hypothesis import given
from hypothesis import strategies as st

from bootfw.frisbee.blockqueue import MOST_CHUNKS, SPAN, UNREAD, BlockQueue, Burst
from bootfw.wire.frisbee import WHOLE_CHUNK

BLOCKS = 2 * 1024 + 394


def take_all(queue: BlockQueue, max_blocks: int = 32, now: float = 0.0) -> list[Burst]:
    bursts = []
    while queue:
        bursts.append(queue.take(max_blocks, now))
    return bursts


def test_chunks_are_sent_in_the_order_of_their_requests() -> None:
    queue = BlockQueue(BLOCKS)
    for chunk in (1, 0, 1, 2):
        queue.add(chunk, 0b11, 0.0)
    assert [burst.chunk for burst in take_all(queue)] == [1, 0, 2]


def test_requests_of_one_chunk_are_merged() -> None:
    queue = BlockQueue(BLOCKS)
    assert queue.add(0, 0b0011, 0.0) == 0b0011
    assert queue.add(0, 0b0110, 0.0) == 0b0100
    assert len(queue) == 3
    assert take_all(queue) == [Burst(0, (0, 1, 2))]


def test_a_request_while_its_chunk_is_sent_is_merged_into_what_is_left() -> None:
    queue = BlockQueue(BLOCKS)
    queue.add(0, WHOLE_CHUNK, 0.0)
    queue.take(32, 0.0)
    assert queue.add(0, WHOLE_CHUNK, 0.0) == 0
    assert queue.add(0, WHOLE_CHUNK, 0.01) == (1 << 32) - 1
    assert queue.take(32, 1.0) == Burst(0, tuple(range(32)))


def test_blocks_beyond_the_image_are_left_out() -> None:
    queue = BlockQueue(BLOCKS)
    assert queue.add(3, WHOLE_CHUNK, 0.0) == queue.add(2**31 - 1, 1, 0.0) == 0
    assert queue.add(2, WHOLE_CHUNK, 0.0).bit_count() == 394
    assert not BlockQueue(0).add(0, 1, 0.0)


def test_a_burst_spans_no_more_than_is_read_at_once() -> None:
    queue = BlockQueue(BLOCKS)
    queue.add(0, 1 << 5 | 1 << (5 + SPAN - 1) | 1 << (5 + SPAN), 0.0)
    assert take_all(queue) == [Burst(0, (5, 5 + SPAN - 1)), Burst(0, (5 + SPAN,))]


def test_offset_and_length_of_a_burst_in_the_image() -> None:
    burst = Burst(2, (3, 7))
    assert (burst.offset, burst.length, burst.map) == (2 * 2**20 + 3 * 1024, 5 * 1024, 0b10001000)


def test_a_burst_that_was_put_back_is_next_and_not_in_flight() -> None:
    queue = BlockQueue(BLOCKS)
    queue.add(0, 0b1111, 0.0)
    queue.add(1, 1, 0.0)
    burst = queue.take(2, 0.0)
    queue.put_back(burst)
    assert len(queue) == 5
    assert take_all(queue) == [Burst(0, (0, 1, 2, 3)), Burst(1, (0,))]
    queue.add(0, 1, 0.0)
    assert not queue  # the block was sent a moment ago, so it is in flight


def test_blocks_that_were_sent_since_a_time_are_in_flight() -> None:
    queue = BlockQueue(BLOCKS)
    queue.add(0, WHOLE_CHUNK, 0.0)
    for now in (1.0, 1.1, 1.2):
        queue.take(2, now)
    take_all(queue, now=1.3)
    assert queue.add(0, 0b11_1111, 1.1) == 0b11
    assert queue.add(0, 0b11_1100, 1.15) == 0b1100


def test_blocks_that_were_sent_long_ago_are_forgotten() -> None:
    queue = BlockQueue(BLOCKS)
    for now, chunk in ((1.0, 0), (1.1, 1), (1.2, 0), (1.1 + UNREAD, 2), (1.15 + UNREAD, 2)):
        queue.add(chunk, 1 << round(10 * now), now)
        queue.take(1, now)
    # Chunk 1 is forgotten, and of chunk 0 what was sent first.
    assert queue.add(1, 1 << 11, 0.0) == 1 << 11
    assert queue.add(0, 1 << 10 | 1 << 12, 0.0) == 1 << 10


def test_chunks_in_the_queue_are_bounded() -> None:
    queue = BlockQueue((MOST_CHUNKS + 1) * 1024)
    for chunk in range(MOST_CHUNKS):
        assert queue.add(chunk, 1, 0.0)
    assert not queue.add(MOST_CHUNKS, 1, 0.0)
    assert queue.add(0, 2, 0.0)


@given(st.integers(1, WHOLE_CHUNK), st.integers(1, 64))
def test_bursts_are_the_requested_blocks_in_order(block_map: int, max_blocks: int) -> None:
    queue = BlockQueue(1024)
    queue.add(0, block_map, 0.0)
    bursts = take_all(queue, max_blocks)
    assert [block for burst in bursts for block in burst.blocks] == [n for n in range(1024) if block_map >> n & 1]
    assert all(len(burst.blocks) <= max_blocks and burst.blocks[-1] - burst.blocks[0] < SPAN for burst in bursts)
