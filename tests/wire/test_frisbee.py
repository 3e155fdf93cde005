"""Frisbee's packets, and the messages of its master server."""

import contextlib
import socket
import struct
from typing import cast

import pytest
from attrs import evolve
from frisbeecaptures import LOST, PACKETS, REPLIES, REQUESTS
from hypothesis import given
from hypothesis import strategies as st

from bootfw.errors import WireError
from bootfw.wire import frisbee, frisbeemaster
from bootfw.wire.frisbee import CHUNK_BLOCKS, Block, Join, Join2Reply, JoinReply, Leave, PartialRequest, Request
from bootfw.wire.frisbeemaster import GetReply, GetRequest, Method, PutReply, PutRequest

_WORD = st.integers(0, 2**32 - 1)
_INT = st.integers(-(2**31), 2**31 - 1)
_CHUNK = st.integers(0, 2**31 - 1)
_LONG = st.integers(0, 2**64 - 1)
_ADDRESS = st.ip_addresses(v=4).map(str)
_MAP = st.integers(0, frisbee.WHOLE_CHUNK)
_RUN = st.tuples(st.integers(0, CHUNK_BLOCKS - 1), st.integers(1, CHUNK_BLOCKS)).map(
    lambda run: (run[0], min(run[1], CHUNK_BLOCKS - run[0]))
)
_STATISTICS = st.builds(
    frisbee.Statistics,
    version=_INT,
    run_seconds=_INT,
    written=_LONG,
    randomize=_INT,
    no_chunk_ready=_WORD,
    write_buffer=_INT,
    lost_blocks=_WORD,
    requested_again=_WORD,
)
_PACKETS: st.SearchStrategy[frisbee.Packet] = st.one_of(
    st.builds(Join, _ADDRESS, _WORD, st.just(1)),
    st.builds(Join, _ADDRESS, _WORD, st.just(2), _INT, _INT),
    st.builds(JoinReply, _ADDRESS, st.integers(0, 2**31 - 1)),
    st.builds(Join2Reply, _ADDRESS, _WORD, _LONG, _INT, _INT),
    st.builds(Block, _ADDRESS, _CHUNK, st.integers(0, CHUNK_BLOCKS - 1), st.binary(min_size=1024, max_size=1024)),
    st.builds(lambda source, chunk, run: Request(source, chunk, *run), _ADDRESS, _CHUNK, _RUN),
    st.builds(PartialRequest, _ADDRESS, _CHUNK, _INT, _MAP),
    st.builds(Leave, _ADDRESS, _WORD, _INT, st.none() | _STATISTICS),
)


@pytest.mark.parametrize("data", PACKETS, ids=[type(packet).__name__ for packet in PACKETS.values()])
def test_captured_packets_of_emulabs_programs_are_parsed_and_packed(data: bytes) -> None:
    assert frisbee.parse(data) == PACKETS[data]
    assert frisbee.pack(PACKETS[data]) == data


@given(_PACKETS)
def test_a_packet_survives_its_encoding(packet: frisbee.Packet) -> None:
    assert frisbee.parse(frisbee.pack(packet)) == packet


@pytest.mark.parametrize("data", PACKETS, ids=[type(packet).__name__ for packet in PACKETS.values()])
def test_each_truncation_is_an_error_with_its_length(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(WireError, match=rf"\b{length} bytes"):
            frisbee.parse(data[:length])


def test_bytes_behind_a_packet_are_ignored() -> None:
    data, packet = next(iter(PACKETS.items()))
    assert frisbee.parse(data + b"padding") == packet


@given(
    st.binary(max_size=200)
    | st.tuples(st.sampled_from(sorted(PACKETS)), st.binary(max_size=40)).map(
        lambda pair: pair[1] + pair[0][len(pair[1]) :]
    )
)
def test_other_bytes_raise_a_wire_error_only(data: bytes) -> None:
    with contextlib.suppress(WireError):
        frisbee.parse(data)


def _header(kind: int, subtype: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack("<iii4s", kind, subtype, len(body) if length is None else length, bytes(4)) + body


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_header(3, 1, bytes(4)), "unknown packet type 3"),
        (_header(1, 8, bytes(4)), "unknown packet subtype 8"),
        (_header(1, 4, bytes(12), 11), "REQUEST with 11 bytes behind its header; it has 12"),
        (_header(1, 4, bytes(12), -1), "REQUEST with -1 bytes"),
        (_header(2, 4, struct.pack("<iii", 0, 0, 1)), "a reply to REQUEST, which has none"),
        (_header(2, 1, struct.pack("<i", -1)), "JOIN reply with -1 blocks"),
        (_header(1, 4, struct.pack("<iii", -1, 0, 1)), "REQUEST of chunk -1"),
        (_header(1, 4, struct.pack("<iii", 0, 1, 1024)), "REQUEST of 1024 blocks from block 1 on; a chunk has 1024"),
        (_header(1, 4, struct.pack("<iii", 0, 0, 0)), "REQUEST of 0 blocks"),
        (_header(1, 4, struct.pack("<iii", 0, 2**31 - 1, 2**31 - 1)), "from block 2147483647 on"),
        (_header(1, 6, struct.pack("<ii", -2, 0) + bytes(128)), "PREQUEST of chunk -2"),
        (_header(1, 3, struct.pack("<ii", 0, 1024) + bytes(1024)), "BLOCK of 1 blocks from block 1024 on"),
    ],
)
def test_an_impossible_packet_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        frisbee.parse(data)


@pytest.mark.parametrize(
    "packet",
    [
        Block("10.0.0.1", 0, 0, bytes(1023)),
        PartialRequest("10.0.0.1", 0, 0, 1 << 1024),
        Join("10.0.0.1", 0, 3),
        Request("10.0.0.1", 1 << 31, 0, 1),
    ],
)
def test_values_that_do_not_fit_into_a_packet_are_refused(packet: frisbee.Packet) -> None:
    with pytest.raises((ValueError, struct.error)):
        frisbee.pack(packet)


@given(_ADDRESS, _CHUNK, st.sets(st.integers(0, 9), min_size=1).map(sorted))
def test_blocks_are_written_into_a_buffer_as_their_packets(source: str, chunk: int, blocks: list[int]) -> None:
    image = b"".join(bytes([number]) * 1024 for number in range(10))
    data = image[blocks[0] * 1024 : (blocks[-1] + 1) * 1024]
    buffer = memoryview(bytearray(10 * frisbee.PACKET_SIZE))
    written = frisbee.fill_blocks(buffer, socket.inet_aton(source), chunk, blocks, data)
    packets = [Block(source, chunk, block, bytes([block]) * 1024) for block in blocks]
    assert bytes(written) == b"".join(map(frisbee.pack, packets))


def test_block_map_of_a_request() -> None:
    assert Request("10.0.0.1", 0, 3, 2).block_map == 0b11000
    assert Request("10.0.0.1", 0, 0, 1024).block_map == frisbee.WHOLE_CHUNK
    assert LOST.bit_count() == 5


@pytest.mark.parametrize(
    ("size", "blocks", "blocks_per_chunk"),
    [(0, 0, [0]), (1, 1, [1, 0]), (2**20, 1024, [1024, 0]), (2_500_123, 2442, [1024, 1024, 394, 0])],
)
def test_number_of_blocks_of_an_image_and_of_its_chunks(size: int, blocks: int, blocks_per_chunk: list[int]) -> None:
    assert frisbee.blocks_of(size) == blocks
    assert [frisbee.blocks_in(chunk, blocks) for chunk in range(len(blocks_per_chunk))] == blocks_per_chunk


# The master server

_NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=64)
_METHODS = st.integers(0, 7).map(Method)
_MESSAGES = st.one_of(
    st.builds(GetRequest, _NAME, _METHODS, st.booleans(), _ADDRESS),
    st.builds(PutRequest, _NAME, _LONG, _WORD, _WORD, st.booleans(), _ADDRESS),
    st.builds(
        GetReply,
        st.integers(0, 65535),
        _METHODS,
        st.booleans(),
        _ADDRESS,
        _ADDRESS,
        st.integers(0, 65535),
        st.none() | _WORD,
        _LONG,
    ),
    st.builds(
        PutReply,
        st.integers(0, 65535),
        _ADDRESS,
        st.integers(0, 65535),
        st.booleans(),
        st.none() | _WORD,
        _LONG,
        _LONG,
    ),
)
_Message = GetRequest | GetReply | PutRequest | PutReply


def _parse(message: _Message, data: bytes) -> _Message:
    if isinstance(message, GetReply):
        return frisbeemaster.parse_get_reply(data)
    return frisbeemaster.parse_put_reply(data) if isinstance(message, PutReply) else frisbeemaster.parse_request(data)


@given(_MESSAGES)
def test_a_message_survives_its_encoding(message: _Message) -> None:
    assert _parse(message, frisbeemaster.pack(message)) == message


_CAPTURED = cast("dict[bytes, _Message]", {**REQUESTS, **REPLIES})


@pytest.mark.parametrize("data", _CAPTURED, ids=[repr(message)[:40] for message in _CAPTURED.values()])
def test_captured_messages_of_emulabs_programs_are_parsed_and_packed(data: bytes) -> None:
    message = _CAPTURED[data]
    assert _parse(message, data) == message
    assert frisbeemaster.pack(message) == data
    for length in range(len(data)):
        with pytest.raises(WireError, match=rf"\b{length} bytes|begins with"):
            _parse(message, data[:length])


def test_the_size_of_a_request_is_read_from_its_header() -> None:
    for data in REQUESTS:
        sizes = [frisbeemaster.request_size(data[:length]) for length in range(12)]
        assert sizes == [0] * 8 + [len(data)] * 4


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1", "no message of frisbee's master server"),
        (b"V01\0\0\0\0\2", "message type 2 is no request"),
    ],
)
def test_an_invalid_header_of_a_request_is_refused_at_once(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        frisbeemaster.request_size(data)


def test_a_reply_of_another_kind_is_refused() -> None:
    with pytest.raises(WireError, match="message type 4; the reply has"):
        frisbeemaster.parse_get_reply(frisbeemaster.pack(PutReply()))


def test_a_name_longer_than_its_field_is_refused() -> None:
    data = bytearray(frisbeemaster.pack(GetRequest("x")))
    data[14:16] = b"\x01\x01"
    with pytest.raises(WireError, match="a name of 257 bytes; it may have 256"):
        frisbeemaster.parse_request(bytes(data))
    with pytest.raises(ValueError, match="a name of 257 bytes"):
        frisbeemaster.pack(evolve(GetRequest("x"), image="x" * 257))
