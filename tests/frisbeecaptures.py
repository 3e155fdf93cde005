"""What the programs of Emulab send to each other: frisbee, frisbeed and the master server.

Captured in November 2026. The server is 10.9.0.1, the client 10.9.0.11. Zeros at the ends are left out of the text.
"""

from collections.abc import Mapping

from bootfw.wire import frisbee, frisbeemaster
from bootfw.wire.frisbeemaster import Error, GetReply, GetRequest, Method, PutReply, PutRequest

CLIENT, SERVER = "10.9.0.11", "10.9.0.1"

LOST = 1 << 131 | 1 << 197 | 1 << 212 | 1 << 277 | 1 << 324
"""The blocks that the client which had losses wanted again."""

_STATISTICS = frisbee.Statistics(
    run_seconds=2,
    run_milliseconds=775,
    written=20_971_520,
    effective=20_971_520,
    chunk_buffers=64,
    most_readahead=2,
    most_in_progress=8,
    packet_timeout=30_000,
    idle_timer_count=3,
    idle_delay=1000,
    redo_delay=1_000_000,
    randomize=1,
    no_chunk_ready=2096,
    joins=1,
    requests=21,
    writer_idles=76,
    write_buffer=64,
)

PACKETS: Mapping[bytes, frisbee.Packet] = {
    bytes.fromhex(text).ljust(size, b"\0"): packet
    for text, size, packet in (
        ("0100000001000000040000000a09000b81537f44", 20, frisbee.Join(CLIENT, 1149195137, 1)),
        ("0200000001000000040000000a0900010054", 20, frisbee.JoinReply(SERVER, 21504)),
        (
            "0100000007000000180000000a09000b7d61fc2d00000000000400000004",
            40,
            frisbee.Join(CLIENT, 771514749, 2),
        ),
        (
            "0200000007000000180000000a0900017d61fc2d0000000000040000000400001b2626",
            40,
            frisbee.Join2Reply(SERVER, 771514749, 2_500_123),
        ),
        (
            "01000000040000000c0000000a09000b02000000000000008a01",
            28,
            frisbee.Request(CLIENT, 2, 0, 394),
        ),
        (
            "0100000006000000880000000a09000b02000000010000000000000000000000"
            "000000000000000008000000000000002000100000000000000020000000000010",
            152,
            frisbee.PartialRequest(CLIENT, 2, 1, LOST),
        ),
        (
            "01000000050000000c0400000a09000bd0911a5d0200000001000000020000000703000000000000000040010000000000004001"
            "00000000400000000200000008000000307500000000000003000000e803000040420f0001000000300800000000000000000000"
            "0000000000000000000000000100000015000000000000004c00000040",
            1052,
            frisbee.Leave(CLIENT, 1562022352, 2, _STATISTICS),
        ),
    )
}
"""Datagram -> the packet in it."""

_ANY = frisbeemaster.ANY_METHOD
_MTIME = 1795917946
_STATUS = GetReply(method=Method.UNICAST | Method.MULTICAST, mtime=_MTIME, size=22_020_096)
_RUNNING = GetReply(
    method=Method.MULTICAST,
    running=True,
    server=SERVER,
    address="239.192.1.2",
    port=1283,
    mtime=_MTIME,
    size=22_020_096,
)


def _bytes(*parts: tuple[str, int]) -> bytes:
    return b"".join(bytes.fromhex(text).ljust(size, b"\0") for text, size in parts)


REQUESTS: Mapping[bytes, frisbeemaster.Request] = {
    _bytes(("56303100000000010000000007010009726e6432302e6e647a", 272)): GetRequest(
        "rnd20.ndz", _ANY, status_only=True
    ),
    _bytes(("56303100000000010000000002000009726e6432302e6e647a", 272)): GetRequest("rnd20.ndz"),
    _bytes(("56303100000000010000000004000009726e6432302e6e647a", 272)): GetRequest("rnd20.ndz", Method.BROADCAST),
    _bytes(("56303100000000030000000000000675702e62696e", 275), ("0026261b6b0b88700000000a", 12)): PutRequest(
        "up.bin", 2_500_123, 1795917936, 10
    ),
}
"""Message to the master server -> the request in it."""

REPLIES: Mapping[bytes, GetReply | PutReply] = {
    _bytes(("5630310000000002030000000000000000000000000000016b0b887a", 284), ("01500000", 4)): _STATUS,
    _bytes(("5630310000000002020100000a090001efc00102050300016b0b887a", 284), ("01500000", 4)): _RUNNING,
    _bytes(("563031000000000200000003", 288)): GetReply(Error.NO_IMAGE),
    _bytes(("563031000000000200000005", 288)): GetReply(Error.NO_METHOD),
    _bytes(("563031000000000400000a0900010504", 287), ("540be400", 4)): PutReply(
        address=SERVER, port=1284, most=1_410_065_408
    ),
}
"""Message of the master server -> the reply in it."""
