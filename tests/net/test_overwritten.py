"""A file that is overwritten during a download: the client gets an ERROR before the last block, cached or not."""

import os
import socket
from pathlib import Path

import pytest
from narrowing import of_type, present
from twisted.internet.task import Clock

from bootfw import readers
from bootfw.backends.directory import DirectoryBackend
from bootfw.events import Event, TransferEnded
from bootfw.net.tftp.framecache import FrameCache
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.udp.port import DatagramPort
from bootfw.values import Outcome
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import tftp

from .byhand import UnusedReactor, read


@pytest.mark.parametrize("size", [5_000, 5_120, 300_000])
@pytest.mark.parametrize("capacity", [0, 1 << 20], ids=["no frame cache", "frame cache"])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("change", ["as large", "larger", "appended"])
def test_transfer_of_an_overwritten_file_ends_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, capacity: int, cached: bool, change: str
) -> None:
    """Unless bytes were only appended to the file."""
    new = {"as large": b"b" * size, "larger": b"b" * (size + 3000), "appended": b"a" * size + b"b" * 3000}[change]
    monkeypatch.setattr(readers, "_TICK", -1)
    path = tmp_path / "file"
    events: list[Event] = []
    path.write_bytes(b"a" * size)
    os.utime(path, (1, 1))
    protocol = TFTPProtocol(
        Clock(), DirectoryBackend(tmp_path), Adaptive(), events.append, frame_cache=FrameCache(capacity)
    )
    port = DatagramPort(UnusedReactor(), protocol, "127.0.0.1", 0)
    port.startListening()

    def download(overwritten_at: int | None) -> tuple[bytes, bytes | None] | None:
        received = bytearray()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", port.getHost().port))
            client.send(tftp.request(False, "file", "octet", []))
            for block in range(1, size // 512 + 10):
                read(port, 1)
                data = client.recv(600)
                if data[:2] != b"\0\3":
                    return bytes(received), data
                received += data[4:]
                if len(data) < 516:
                    client.send(tftp.ack(block))
                    read(port, 1)
                    return bytes(received), None
                if block == overwritten_at:
                    path.write_bytes(new)
                client.send(tftp.ack(block))
        return None

    try:
        if cached:  # by an earlier download
            assert download(None) == (b"a" * size, None)
        received, error = present(download(1))
        # If the frame cache has the whole old content, the client gets that, and nothing of the new content.
        assert error is not None or change == "appended" or (capacity and (cached or size < 256 * 1024))
        assert error is None or change != "appended"
        if error is None:
            assert received == b"a" * size
        else:
            assert error == tftp.error(0, "The file has changed meanwhile, start again")
            report = of_type(TransferEnded, events[-1]).report
            assert (report.outcome, report.detail) == (Outcome.FAILED, "The file has changed meanwhile, start again")
        assert download(None) == (new, None)
    finally:
        protocol.close()
        port.connectionLost()
