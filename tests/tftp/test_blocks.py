"""bootfw.tftp.blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.tftp.blocks import Blocks, advance, frame, wire_number
from bootfw.wire import tftp as wire


def test_one_block() -> None:
    assert frame(Blocks(1, 1), 512, b"x" * 512) == b"\0\3\0\1" + b"x" * 512


def test_an_empty_last_block() -> None:
    assert frame(Blocks(3, 1), 512, b"") == b"\0\3\0\3"


def test_a_run_with_a_short_last_block() -> None:
    assert frame(Blocks(7, 3), 8, b"aaaaaaaabbbbbbbbcc") == b"\0\3\0\7aaaaaaaa\0\3\0\x08bbbbbbbb\0\3\0\x09cc"


def test_a_run_with_an_empty_last_block() -> None:
    assert frame(Blocks(7, 2), 8, b"aaaaaaaa") == b"\0\3\0\7aaaaaaaa\0\3\0\x08"


def test_numbers_wrap_to_0_within_a_run() -> None:
    assert frame(Blocks(65535, 3), 8, b"aaaaaaaabbbbbbbbcccccccc") == (
        b"\0\3\xff\xffaaaaaaaa\0\3\0\0bbbbbbbb\0\3\0\1cccccccc"
    )


@pytest.mark.parametrize("length", [7, 8 * 2 - 9, 8 * 3 + 1])
def test_data_of_a_wrong_length_raises(length: int) -> None:
    with pytest.raises(ValueError, match="bytes don't make 3 blocks of 8"):
        frame(Blocks(1, 3), 8, b"x" * length)


@given(st.integers(1, 200_000), st.integers(1, 40), st.integers(8, 100), st.integers(0, 100))
def test_frame_is_the_datagrams_in_order(first: int, count: int, blksize: int, last_length: int) -> None:
    data = bytes(i % 251 for i in range((count - 1) * blksize + min(last_length, blksize)))
    run = frame(Blocks(first, count), blksize, data)
    datagrams = [run[offset : offset + blksize + 4] for offset in range(0, len(run), blksize + 4)]
    assert [wire.parse(datagram) for datagram in datagrams] == [
        wire.Data((first + i) % 65536, data[i * blksize : (i + 1) * blksize]) for i in range(count)
    ]


def test_the_last_block_of_a_run() -> None:
    assert Blocks(5, 3).last == 7


def test_wire_number_rolls_over_to_0() -> None:
    assert [wire_number(block) for block in (1, 65535, 65536, 65537, 131072)] == [1, 65535, 0, 1, 0]


@pytest.mark.parametrize(
    ("acked", "number", "limit", "block"),
    [
        (0, 0, 1, 0),
        (0, 1, 1, 1),
        (0, 2, 1, None),
        (5, 4, 1, None),
        (65535, 0, 1, 65536),
        (65535, 65535, 1, 65535),
        (65534, 0, 4, 65536),
        (65536, 65535, 4, None),
        (131071, 3, 4, 131075),
        (131071, 4, 4, None),
        (7, 7, 0, 7),
        (7, 8, 0, None),
    ],
)
def test_advance_finds_the_block_of_a_number_in_reach(acked: int, number: int, limit: int, block: int | None) -> None:
    assert advance(acked, number, limit) == block


@given(st.integers(0, 10**6), st.integers(0, 65535), st.integers(-70_000, 140_000))
def test_advance_finds_exactly_what_is_in_reach(acked: int, limit: int, ahead: int) -> None:
    block = max(0, acked + ahead)
    found = advance(acked, wire_number(block), limit)
    candidates = [acked + step for step in range(limit + 1) if wire_number(acked + step) == wire_number(block)]
    assert found == (candidates[0] if candidates else None)
    assert len(candidates) <= 1
