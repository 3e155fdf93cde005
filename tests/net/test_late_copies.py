"""A copy of a request that comes long after its transfer has begun: from a client that has started again, or late.

A client repeats its request while a busy server does not answer. If the network delivers the copy after the client has
gone on, nothing but its next packet tells that it has not started again.
"""

import os
import time
from pathlib import Path

import pytest
from tftpserver import Direct, numbered

from bootfw import readers
from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.memory import MemoryBackend
from bootfw.events import TransferEnded
from bootfw.net.tftp.framecache import FrameCache
from bootfw.net.tftp.transfer import LATE_COPY
from bootfw.net.udp import mmsg
from bootfw.values import Outcome
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import tftp

from . import test_fastpath as fastpath

CONTENT = numbered(70_000)
OPTIONS = [("blksize", "1000")]
ERROR = tftp.error(0, LATE_COPY)


@pytest.fixture
def direct(tmp_path: Path) -> Direct:
    """A server with the file, which is older than any transfer."""
    (tmp_path / "file").write_bytes(CONTENT)
    direct = Direct(DirectoryBackend(tmp_path))
    direct.clock.advance(time.time() + 60)
    return direct


def request(*options: tuple[str, str], write: bool = False, mode: str = "octet") -> bytes:
    return tftp.request(write, "file", mode, list(options))


def outcomes(direct: Direct) -> list[tuple[Outcome, str]]:
    return [(e.report.outcome, e.report.detail) for e in direct.events if isinstance(e, TransferEnded)]


def data(block: int, blksize: int = 1000) -> bytes:
    return tftp.data(block, CONTENT[(block - 1) * blksize : block * blksize])


def begin(direct: Direct, request: bytes) -> None:
    direct.send(request)
    direct.clock.advance(0.001)


def copy_after_pause(direct: Direct, block: int, copy: bytes, first: int = 0, window: int = 1) -> list[bytes]:
    """The client acknowledges each window from *first* to *block*, and after a pause a copy of its request comes."""
    begin(direct, copy)
    for number in (*range(first, block, window), block):
        direct.send(tftp.ack(number))
    direct.clock.advance(1.5)
    direct.take()
    return direct.send(copy)


@pytest.mark.parametrize("acked", [1, 5, 6])
def test_client_that_continues_gets_the_next_block(direct: Direct, acked: int) -> None:
    """Block 6 is in flight: the client has it or not."""
    copy_after_pause(direct, 5, request(*OPTIONS))
    if acked < 5:
        assert direct.send(tftp.ack(acked)) == []
        acked = 5
    assert direct.send(tftp.ack(acked)) == [data(acked + 1)]
    for number in range(acked + 1, 71):
        assert direct.send(tftp.ack(number)) == [data(number + 1)]
    assert direct.send(tftp.ack(71)) == []
    assert outcomes(direct)[-1] == (Outcome.COMPLETE, "")
    assert direct.protocol.transfers == 0


def test_client_without_options_that_continues_gets_the_next_block(direct: Direct) -> None:
    assert copy_after_pause(direct, 5, request(), first=1) == [data(1, 512)]
    assert direct.send(tftp.ack(5)) == [data(6, 512)]


@pytest.mark.parametrize("options", [OPTIONS, []])
def test_a_client_that_has_started_again_gets_the_file_from_its_beginning(
    direct: Direct, options: list[tuple[str, str]]
) -> None:
    copy_after_pause(direct, 5, request(*options), first=0 if options else 1)
    blksize = 1000 if options else 512
    for number in range(0 if options else 1, 4):
        assert direct.send(tftp.ack(number)) == [data(number + 1, blksize)]
    # What the client has sent since then belongs to this transfer.
    assert direct.send(tftp.ack(5)) == []


def test_transfer_continues_after_a_second_late_copy(direct: Direct) -> None:
    copy_after_pause(direct, 5, request(*OPTIONS))
    # An ACK of an old block: the server has now heard the client in the second transfer.
    assert direct.send(tftp.ack(2)) == []
    direct.clock.advance(1.5)
    direct.take()
    direct.send(request(*OPTIONS))
    assert direct.send(tftp.ack(5)) == [data(6)]


def test_transfer_with_windows_continues_after_a_late_copy(direct: Direct) -> None:
    """The client proves once more that it receives our packets."""
    copy = request(*OPTIONS, ("windowsize", "4"))
    begin(direct, copy)
    last_block = 0
    for _ in range(6):
        for packet in direct.send(tftp.ack(last_block)):
            last_block += packet[2:4] == (last_block + 1).to_bytes(2, "big")
    assert last_block > 6
    direct.clock.advance(1.5)
    direct.take()
    direct.send(copy)
    first, *_ = direct.send(tftp.ack(last_block))
    assert first == data(last_block + 1)


def test_changed_file_ends_the_transfer(direct: Direct, tmp_path: Path) -> None:
    copy = request(*OPTIONS)
    begin(direct, copy)
    direct.send(tftp.ack(0))
    direct.send(tftp.ack(1))
    later = direct.clock.seconds() + 1
    os.utime(tmp_path / "file", (later, later))
    direct.clock.advance(1.5)
    direct.take()
    direct.send(copy)
    assert direct.send(tftp.ack(2)) == [ERROR]
    assert outcomes(direct)[-1] == (Outcome.CANCELLED, LATE_COPY)
    assert direct.protocol.transfers == 0


def test_file_without_a_change_time_ends_the_transfer() -> None:
    direct = Direct(MemoryBackend({"file": CONTENT}))
    copy_after_pause(direct, 5, request(*OPTIONS))
    assert direct.send(tftp.ack(5)) == [ERROR]


def test_netascii_transfer_ends_after_a_late_copy(direct: Direct) -> None:
    copy_after_pause(direct, 5, request(*OPTIONS, mode="netascii"))
    assert direct.send(tftp.ack(5)) == [ERROR]


@pytest.mark.usefixtures("proven_peers")
def test_ambiguous_block_number_ends_the_transfer(direct: Direct, tmp_path: Path) -> None:
    """ACK 0 is the one of the OACK, and that of block 65536."""
    (tmp_path / "file").write_bytes(bytes(8 * 66_000))
    copy = request(("blksize", "8"), ("windowsize", "64"))
    copy_after_pause(direct, 65_535, copy, window=64)
    assert direct.send(tftp.ack(0)) == [ERROR]


def test_upload_that_continues_gets_an_error(direct: Direct) -> None:
    copy = tftp.request(True, "new", "octet", OPTIONS)
    begin(direct, copy)
    for number in range(1, 4):
        assert direct.send(data(number)) == [tftp.ack(number)]
    direct.clock.advance(1.5)
    direct.take()
    direct.send(copy)
    assert direct.send(data(9)) == []
    assert direct.send(data(4)) == [ERROR]
    assert direct.protocol.transfers == 0


def test_restarted_upload_is_stored(direct: Direct, tmp_path: Path) -> None:
    copy = tftp.request(True, "new", "octet", OPTIONS)
    begin(direct, copy)
    for number in range(1, 4):
        direct.send(data(number))
    direct.clock.advance(1.5)
    direct.take()
    direct.send(copy)
    assert direct.send(data(1)) == [tftp.ack(1)]
    assert direct.send(tftp.data(2, b"end")) == [tftp.ack(2)]
    assert (tmp_path / "new").read_bytes() == CONTENT[:1000] + b"end"


@pytest.mark.skipif(not mmsg.AVAILABLE, reason="there is no fast path")
def test_transfer_on_the_fast_path_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real port: after the copy, blocks are sent from cached frames, and the fast path answers the ACKs."""
    monkeypatch.setattr(readers, "_TICK", -1)
    (tmp_path / "4000").write_bytes(CONTENT[:4000])
    server = fastpath.Server(FrameCache(1 << 20), Adaptive(), str(tmp_path), count=1)
    try:
        server.clock.advance(time.time() + 60)
        copy = fastpath.request(4000, 64, None)
        server.send([(0, copy)])
        server.received()
        for _ in range(20):
            server.clock.advance(0.001)
            server.send([(0, 0)])
            server.received()
        assert server.last_blocks[0] == 20
        server.clock.advance(1.5)
        server.received()
        server.send([(0, copy)])
        server.received()
        server.last_blocks[0] = 20
        content = b""
        batches = []
        while not (ended := server.ended()) or ended[-1].report.outcome is not Outcome.COMPLETE:
            server.clock.advance(0.001)
            batches.append(server.port.counters.batches)
            server.send([(0, 0)])
            [packets] = server.received()
            content += b"".join(packet[4:] for packet in packets)
        assert content == CONTENT[20 * 64 : 4000]
        assert batches[-1] - batches[3] < 10, "most ACKs were answered before the protocol saw them"
    finally:
        server.close()
