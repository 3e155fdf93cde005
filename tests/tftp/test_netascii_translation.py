"""bootfw.tftp.netascii: the translation in both directions, for any division into blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.tftp.netascii import NetasciiReading, NetasciiWriting, encode

texts = st.lists(st.sampled_from([b"\r", b"\n", b"\0", b"a", b"bc"]), max_size=60).map(b"".join)


def encoded_by_octet(data: bytes) -> bytes:
    """RFC 764, octet by octet."""
    return b"".join({13: b"\r\0", 10: b"\r\n"}.get(octet, bytes([octet])) for octet in data)


def read_all(content: bytes, blksize: int, repeat: bool = False) -> list[bytes]:
    """The blocks as a transfer reads them; with *repeat* each is read twice."""
    reading = NetasciiReading()
    blocks: list[bytes] = []
    offset = 0
    while not blocks or len(blocks[-1]) == blksize:
        answers = []
        for _ in range(2 if repeat else 1):
            position, length = reading.need(offset, blksize)
            answers.append(reading.feed(content[position : position + length]))
        assert len(set(answers)) == 1
        blocks.append(answers[0])
        offset += len(answers[0])
    return blocks


@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (b"", b""),
        (b"a\nb", b"a\r\nb"),
        (b"a\rb", b"a\r\0b"),
        (b"a\r\nb", b"a\r\0\r\nb"),
        (b"\n\n", b"\r\n\r\n"),
        (b"\0", b"\0"),
        (b"\r", b"\r\0"),
    ],
)
def test_encode(data: bytes, wire: bytes) -> None:
    assert encode(data) == wire


@given(texts, texts)
def test_encode_follows_the_rfc_and_keeps_no_state_between_calls(first: bytes, second: bytes) -> None:
    assert encode(first) == encoded_by_octet(first)
    assert encode(first + second) == encode(first) + encode(second)


def test_a_pair_of_octets_may_be_split_between_two_blocks() -> None:
    assert read_all(b"aaaaaaa\nb", 8) == [b"aaaaaaa\r", b"\nb"]
    assert read_all(b"aaaaaaa\rb", 8) == [b"aaaaaaa\r", b"\0b"]


@given(texts, st.integers(8, 20), st.booleans())
def test_reading_gives_the_encoded_file_in_full_blocks(content: bytes, blksize: int, repeat: bool) -> None:
    blocks = read_all(content, blksize, repeat)
    assert b"".join(blocks) == encoded_by_octet(content)
    assert [len(block) for block in blocks[:-1]] == [blksize] * (len(blocks) - 1)
    assert len(blocks[-1]) < blksize


def test_read_at_another_offset_raises() -> None:
    reading = NetasciiReading()
    for offset in (0, 8):
        reading.need(offset, 8)
        reading.feed(b"12345678")
    assert reading.need(8, 8) == (8, 8)
    assert reading.need(16, 8) == (16, 8)
    with pytest.raises(ValueError, match="offset 0 is"):
        reading.need(0, 8)


def test_a_shorter_last_block_can_be_read_again() -> None:
    reading = NetasciiReading()
    reading.need(0, 8)
    assert reading.feed(b"a\n") == b"a\r\n"
    assert reading.need(0, 3) == (0, 3)
    assert reading.feed(b"a\n") == b"a\r\n"


def write_all(blocks: list[bytes]) -> bytes:
    writing = NetasciiWriting()
    content = b""
    for index, block in enumerate(blocks):
        offset, data = writing.feed(block, final=index == len(blocks) - 1)
        assert offset == len(content)
        content += data
    return content


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b"", b""),
        (b"a\r\nb", b"a\nb"),
        (b"a\r\0b", b"a\rb"),
        (b"a\r\0\nb", b"a\r\nb"),
        (b"a\r\0\r\nb", b"a\r\nb"),
        (b"a\nb", b"a\nb"),
        (b"a\rb", b"a\rb"),
        (b"a\r\r\nb", b"a\r\nb"),
        (b"a\r", b"a\r"),
    ],
)
def test_writing_translates_byte_by_byte(wire: bytes, content: bytes) -> None:
    assert write_all([wire]) == content
    assert write_all([bytes([octet]) for octet in wire] + [b""]) == content


@given(texts, st.integers(1, 20))
def test_translation_round_trips_for_any_split(content: bytes, length: int) -> None:
    wire = encode(content)
    assert write_all([wire[offset : offset + length] for offset in range(0, len(wire), length)] + [b""]) == content
