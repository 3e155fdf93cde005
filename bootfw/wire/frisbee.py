"""Packets of frisbee, Emulab's multicast distribution of disk images (Hibler et al., USENIX ATC 2003).

An image is a row of chunks of 1,024 blocks of 1,024 bytes. A client joins, requests blocks of a chunk, and gets them
from the server, like all clients that have joined. Integers are little endian, except for the address of the sender.

``parse()`` raises WireError and nothing else, on any input. Bytes behind a packet are ignored, as by the programs of
Emulab.
"""

import enum
import socket
import struct
from collections.abc import Callable, Sequence
from typing import ClassVar

from attrs import astuple, frozen

from bootfw.errors import WireError

BLOCK_SIZE = 1024
"""Bytes of a block. Emulab's clients exit if it is another number."""
CHUNK_BLOCKS = 1024
"""Blocks of a chunk; the last chunk of an image may have fewer."""
CHUNK_SIZE = BLOCK_SIZE * CHUNK_BLOCKS
"""Bytes of a chunk."""
WHOLE_CHUNK = (1 << CHUNK_BLOCKS) - 1
"""The map of all blocks of a chunk."""
PACKET_SIZE = 24 + BLOCK_SIZE
"""Bytes of a BLOCK packet."""
LARGEST_IMAGE = (1 << 31) * CHUNK_SIZE - 1
"""Bytes; numbers of chunks are signed and have 32 bits."""


class Type(enum.IntEnum):
    """Whether a packet is a request or a reply. Only the answers to JOIN and JOIN2 are replies; BLOCK is a request."""

    REQUEST = 1
    REPLY = 2


class Subtype(enum.IntEnum):
    """The kinds of packets."""

    JOIN = 1
    LEAVE = 2
    BLOCK = 3
    REQUEST = 4
    LEAVE2 = 5
    PREQUEST = 6
    JOIN2 = 7


@frozen
class Join:
    """JOIN or JOIN2: a client wants the size of the image."""

    source: str
    """The IPv4 address of the sender in the packet. Receivers drop packets that come from another one."""
    client: int
    """A random number that the client has chosen for this run, 32 bits."""
    version: int
    """1: JOIN, whose reply counts blocks. 2: JOIN2, whose reply counts bytes."""
    chunk_size: int = CHUNK_BLOCKS
    """Blocks of a chunk that the client can receive. A JOIN does not say it."""
    block_size: int = BLOCK_SIZE
    """Bytes of a block that the client can receive. A JOIN does not say it."""


@frozen
class JoinReply:
    """The reply to a JOIN: how many blocks the image has."""

    source: str
    """See Join."""
    blocks: int


@frozen
class Join2Reply:
    """The reply to a JOIN2: how many bytes the image has."""

    source: str
    """See Join."""
    client: int
    """The client of the JOIN2."""
    size: int
    """Bytes."""
    chunk_size: int = CHUNK_BLOCKS
    """Blocks of a chunk."""
    block_size: int = BLOCK_SIZE
    """Bytes of a block."""


@frozen
class Block:
    """BLOCK: one block of the image."""

    source: str
    """See Join."""
    chunk: int
    block: int
    """Number of the block in the chunk."""
    data: bytes
    """1,024 bytes; zeros follow the end of the image."""


@frozen
class Request:
    """REQUEST: a client wants a run of blocks of a chunk."""

    source: str
    """See Join."""
    chunk: int
    first: int
    """Number of the first block in the chunk."""
    count: int

    @property
    def block_map(self) -> int:
        """A map of the blocks: bit n is set if block n is requested."""
        return ((1 << self.count) - 1) << self.first


@frozen
class PartialRequest:
    """PREQUEST: a client wants those blocks of a chunk that it has not received."""

    source: str
    """See Join."""
    chunk: int
    retries: int
    """1: this client has requested blocks of this chunk before. 0: it has not."""
    block_map: int
    """A map of the blocks: bit n is set if block n is requested."""


@frozen
class Statistics:
    """What a client reports about its run in a LEAVE2, in the order of the packet. Nothing depends on it."""

    STRUCT: ClassVar[struct.Struct] = struct.Struct("<4i2Q9i10Ii2I")

    version: int = 1
    run_seconds: int = 0
    run_milliseconds: int = 0
    start_delay_milliseconds: int = 0
    written: int = 0
    """Bytes that were written to the disk."""
    effective: int = 0
    """Bytes of the disk that the image covers."""
    chunk_buffers: int = 0
    most_readahead: int = 0
    most_in_progress: int = 0
    packet_timeout: int = 0
    """In microseconds."""
    start_delay: int = 0
    """In seconds."""
    idle_timer_count: int = 0
    idle_delay: int = 0
    """In microseconds."""
    redo_delay: int = 0
    """In microseconds."""
    randomize: int = 0
    no_chunk_ready: int = 0
    no_free_chunk: int = 0
    """Blocks that were dropped because no buffer was free."""
    duplicates_done: int = 0
    """Blocks of chunks that were complete."""
    duplicates_in_progress: int = 0
    """Blocks that the client had, of chunks that were not complete."""
    partial_requests: int = 0
    receive_idles: int = 0
    joins: int = 0
    requests: int = 0
    decompressed_blocks: int = 0
    writer_idles: int = 0
    write_buffer: int = 0
    """MiB."""
    lost_blocks: int = 0
    requested_again: int = 0
    """Blocks."""


STATISTICS_SIZE = 1028
"""Bytes of the statistics in a LEAVE2; zeros follow those that are defined."""


@frozen
class Leave:
    """LEAVE or LEAVE2: a client has the image. It is sent once, and has no reply."""

    source: str
    """See Join."""
    client: int
    """See Join."""
    seconds: int
    """Seconds since its JOIN."""
    statistics: Statistics | None = None
    """None: a LEAVE, of a client that was built without statistics."""


Packet = Join | JoinReply | Join2Reply | Block | Request | PartialRequest | Leave

_HEADER = struct.Struct("<iii4s")
_JOIN = struct.Struct("<I")
_JOIN_REPLY = struct.Struct("<i")
_JOIN2 = struct.Struct("<IiiiQ")
_RUN = struct.Struct("<iii")
_CHUNK_AND_NUMBER = struct.Struct("<ii")
_LEAVE = struct.Struct("<Ii")
_MAP_SIZE = CHUNK_BLOCKS // 8

_SIZES = {
    Subtype.JOIN: _JOIN.size,
    Subtype.LEAVE: _LEAVE.size,
    Subtype.BLOCK: _CHUNK_AND_NUMBER.size + BLOCK_SIZE,
    Subtype.REQUEST: _RUN.size,
    Subtype.LEAVE2: _LEAVE.size + STATISTICS_SIZE,
    Subtype.PREQUEST: _CHUNK_AND_NUMBER.size + _MAP_SIZE,
    Subtype.JOIN2: _JOIN2.size,
}
"""Subtype -> bytes behind the header."""


def parse(data: bytes) -> Packet:
    """Parse the packet in one datagram.

    :raise WireError: it is not a packet of frisbee.
    """
    if len(data) < _HEADER.size:
        raise WireError(f"{len(data)} bytes are no frisbee packet, whose header has {_HEADER.size}")
    kind, number, length, address = _HEADER.unpack_from(data)
    if kind not in (Type.REQUEST, Type.REPLY):
        raise WireError(f"unknown packet type {kind}")
    try:
        subtype = Subtype(number)
    except ValueError:
        raise WireError(f"unknown packet subtype {number}") from None
    if length < _SIZES[subtype]:
        raise WireError(f"{subtype.name} with {length} bytes behind its header; it has {_SIZES[subtype]}")
    if len(data) < _HEADER.size + length:
        raise WireError(f"{subtype.name} of {len(data)} bytes; it says that it has {_HEADER.size + length}")
    if kind == Type.REPLY:
        if subtype not in _REPLIES:
            raise WireError(f"a reply to {subtype.name}, which has none")
        return _REPLIES[subtype](socket.inet_ntoa(address), data)
    return _REQUESTS[subtype](socket.inet_ntoa(address), data)


def _parse_join(source: str, data: bytes) -> Join:
    (client,) = _JOIN.unpack_from(data, _HEADER.size)
    return Join(source, client, 1)


def _parse_join_reply(source: str, data: bytes) -> JoinReply:
    (blocks,) = _JOIN_REPLY.unpack_from(data, _HEADER.size)
    if blocks < 0:
        raise WireError(f"JOIN reply with {blocks} blocks")
    return JoinReply(source, blocks)


def _parse_join2(source: str, data: bytes) -> Join:
    client, _, chunk_size, block_size, _ = _JOIN2.unpack_from(data, _HEADER.size)
    return Join(source, client, 2, chunk_size, block_size)


def _parse_join2_reply(source: str, data: bytes) -> Join2Reply:
    client, _, chunk_size, block_size, size = _JOIN2.unpack_from(data, _HEADER.size)
    return Join2Reply(source, client, size, chunk_size, block_size)


def _parse_block(source: str, data: bytes) -> Block:
    chunk, block = _CHUNK_AND_NUMBER.unpack_from(data, _HEADER.size)
    _check(Subtype.BLOCK, chunk, block, 1)
    return Block(source, chunk, block, data[PACKET_SIZE - BLOCK_SIZE : PACKET_SIZE])


def _parse_request(source: str, data: bytes) -> Request:
    chunk, first, count = _RUN.unpack_from(data, _HEADER.size)
    _check(Subtype.REQUEST, chunk, first, count)
    return Request(source, chunk, first, count)


def _parse_partial_request(source: str, data: bytes) -> PartialRequest:
    chunk, retries = _CHUNK_AND_NUMBER.unpack_from(data, _HEADER.size)
    _check(Subtype.PREQUEST, chunk, 0, 1)
    start = _HEADER.size + _CHUNK_AND_NUMBER.size
    return PartialRequest(source, chunk, retries, int.from_bytes(data[start : start + _MAP_SIZE], "little"))


def _parse_leave(source: str, data: bytes) -> Leave:
    return Leave(source, *_LEAVE.unpack_from(data, _HEADER.size))


def _parse_leave2(source: str, data: bytes) -> Leave:
    client, seconds = _LEAVE.unpack_from(data, _HEADER.size)
    statistics = Statistics(*Statistics.STRUCT.unpack_from(data, _HEADER.size + _LEAVE.size))
    return Leave(source, client, seconds, statistics)


_REQUESTS: dict[Subtype, Callable[[str, bytes], Packet]] = {
    Subtype.JOIN: _parse_join,
    Subtype.LEAVE: _parse_leave,
    Subtype.BLOCK: _parse_block,
    Subtype.REQUEST: _parse_request,
    Subtype.LEAVE2: _parse_leave2,
    Subtype.PREQUEST: _parse_partial_request,
    Subtype.JOIN2: _parse_join2,
}
_REPLIES: dict[Subtype, Callable[[str, bytes], Packet]] = {
    Subtype.JOIN: _parse_join_reply,
    Subtype.JOIN2: _parse_join2_reply,
}


def _check(subtype: Subtype, chunk: int, first: int, count: int) -> None:
    if chunk < 0:
        raise WireError(f"{subtype.name} of chunk {chunk}")
    if not (0 <= first < CHUNK_BLOCKS and 0 < count <= CHUNK_BLOCKS - first):
        raise WireError(f"{subtype.name} of {count} blocks from block {first} on; a chunk has {CHUNK_BLOCKS}")


def pack(packet: Packet) -> bytes:
    """Encode a packet as a datagram.

    :raise ValueError, struct.error: a number does not fit, or a block has another length than 1,024 bytes.
    """
    match packet:
        case Join(source, client, 1):
            return _packed(source, Subtype.JOIN, _JOIN.pack(client))
        case Join(source, client, 2, chunk_size, block_size):
            return _packed(source, Subtype.JOIN2, _JOIN2.pack(client, 0, chunk_size, block_size, 0))
        case JoinReply(source, blocks):
            return _packed(source, Subtype.JOIN, _JOIN_REPLY.pack(blocks), Type.REPLY)
        case Join2Reply(source, client, size, chunk_size, block_size):
            return _packed(source, Subtype.JOIN2, _JOIN2.pack(client, 0, chunk_size, block_size, size), Type.REPLY)
        case Block(source, chunk, block, data):
            if len(data) != BLOCK_SIZE:
                raise ValueError(f"a block has {BLOCK_SIZE} bytes, not {len(data)}")
            return _packed(source, Subtype.BLOCK, _CHUNK_AND_NUMBER.pack(chunk, block) + data)
        case Request(source, chunk, first, count):
            return _packed(source, Subtype.REQUEST, _RUN.pack(chunk, first, count))
        case PartialRequest(source, chunk, retries, block_map):
            try:
                packed_map = block_map.to_bytes(_MAP_SIZE, "little")
            except OverflowError:
                raise ValueError(f"a map of blocks has {CHUNK_BLOCKS} bits") from None
            return _packed(source, Subtype.PREQUEST, _CHUNK_AND_NUMBER.pack(chunk, retries) + packed_map)
        case Leave(source, client, seconds, None):
            return _packed(source, Subtype.LEAVE, _LEAVE.pack(client, seconds))
        case Leave(source, client, seconds, Statistics() as statistics):
            packed = Statistics.STRUCT.pack(*astuple(statistics)).ljust(STATISTICS_SIZE, b"\0")
            return _packed(source, Subtype.LEAVE2, _LEAVE.pack(client, seconds) + packed)
    raise ValueError(f"not a packet: {packet!r}")


def _packed(source: str, subtype: Subtype, body: bytes, kind: Type = Type.REQUEST) -> bytes:
    return _HEADER.pack(kind, subtype, len(body), socket.inet_aton(source)) + body


_BLOCK_HEADER = struct.Struct("<iii4sii")


def fill_blocks(buffer: memoryview, source: bytes, chunk: int, blocks: Sequence[int], data: bytes) -> memoryview:
    """Write a BLOCK packet for each of *blocks* into a buffer, one behind the other.

    :param buffer: has PACKET_SIZE bytes for each of them.
    :param source: the address of the sender, 4 bytes.
    :param blocks: their numbers in the chunk, ascending.
    :param data: the bytes from the beginning of the first block to the end of the last one.
    :return: the part of the buffer that was written.
    """
    pack_into, length, first = _BLOCK_HEADER.pack_into, _SIZES[Subtype.BLOCK], blocks[0]
    at = 0
    for block in blocks:
        pack_into(buffer, at, Type.REQUEST, Subtype.BLOCK, length, source, chunk, block)
        start = (block - first) * BLOCK_SIZE
        buffer[at + _BLOCK_HEADER.size : at + PACKET_SIZE] = data[start : start + BLOCK_SIZE]
        at += PACKET_SIZE
    return buffer[:at]


def blocks_of(size: int) -> int:
    """Return how many blocks an image of *size* bytes has."""
    return -(-size // BLOCK_SIZE)


def blocks_in(chunk: int, blocks: int) -> int:
    """Return how many blocks a chunk has, of an image of *blocks* blocks; 0: there is no such chunk."""
    return max(0, min(CHUNK_BLOCKS, blocks - chunk * CHUNK_BLOCKS))
