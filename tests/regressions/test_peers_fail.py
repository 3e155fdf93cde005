"""What other TFTP servers got wrong when we tested them: dnsmasq, tftpd-hpa, atftpd and others."""

import errno
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from narrowing import present
from tftpserver import Files, MemoryWire, Pending, Serve, SocketWire, Wire, at_once, blocks, numbered
from twisted.internet.epollreactor import EPollReactor

from bootfw.backends.directory import DirectoryBackend
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.udp.port import listen
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp

FILE = numbered(20 * 512)


def block(number: int) -> tftp.Data:
    return tftp.Data(number, FILE[(number - 1) * 512 : number * 512])


# Option values


@pytest.mark.parametrize(
    "value", ["abc", "-1", "0", "9" * 300, "18446744073709551616", "1" * 300, "0x200", "5 12", "+9"]
)
@pytest.mark.parametrize("name", ["blksize", "windowsize", "timeout"])
def test_value_that_makes_no_sense_is_never_echoed(serve: Serve, name: str, value: str) -> None:
    """dnsmasq acknowledges blksize "abc" as 1."""
    served = serve({"file": FILE})
    options: dict[str, Any] = {name: value, "tsize": 0}
    assert served.peer().request("file", **options) == [tftp.OptionAck((("tsize", "10240"),))]


@pytest.mark.parametrize("value", ["-1", "abc", "9" * 300, "99999999999999999999999"])
@pytest.mark.parametrize("write", [False, True])
def test_invalid_tsize_is_ignored(serve: Serve, write: bool, value: str) -> None:
    """tftpd-hpa answers -1 with 2^64 - 1."""
    served = serve({"file": FILE})
    [answer] = served.peer().request("new" if write else "file", write=write, tsize=value)
    assert answer == (tftp.Ack(0) if write else block(1))


def test_option_named_twice_is_acknowledged_once(serve: Serve) -> None:
    served = serve({"file": FILE})
    request = tftp.request(False, "file", "octet", [("blksize", "64"), ("BLKSIZE", "128"), ("blksize", "256")])
    assert served.peer().send(request) == [tftp.OptionAck((("blksize", "64"),))]


# ERROR


@pytest.mark.parametrize("code", [0, 1, 4, 5, 8, 99, 65535])
@pytest.mark.parametrize("text", [b"text\0", b"", b"no NUL", b"\xff\xfe\0"])
def test_error_is_never_answered_with_an_error(serve: Serve, code: int, text: bytes) -> None:
    """CVE-2024-2169: two servers that do so keep each other busy for ever."""
    served = serve({"file": FILE})
    error = b"\0\5" + code.to_bytes(2, "big") + text
    stranger, peer = served.peer(), served.peer()
    assert stranger.send(error) == []
    assert peer.request("missing") == [tftp.Error(1, "File not found")]
    assert peer.send(error) == []
    peer.request("file")
    assert stranger.send(error, to=peer.tid) == []
    assert peer.send(error) == []
    served.advance(30)
    assert {type(packet) for packet in peer.take()} <= {tftp.Data}
    assert served.protocol.transfers == 0


@pytest.mark.every_port
@pytest.mark.parametrize("datagram", [b"\0\5", b"\0\5\0", tftp.error(4, "Illegal TFTP operation")])
def test_two_servers_do_not_talk_to_each_other(start: Serve, wire: Wire, datagram: bytes) -> None:
    """A forged ERROR with the one's address as its sender, sent to the other."""
    server, other_server = start({}), start({})
    present(server.protocol.transport).write(datagram, other_server.address)
    wire.advance(5)
    for served in (server, other_server):
        assert len(served.events) <= 1
        assert served.protocol.transfers == 0


# Files


def test_fifo_device_and_directory_do_not_hang(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    names = ["directory", "fifo"]
    if os.geteuid() == 0:
        os.mknod(tmp_path / "device", 0o666 | 0o020000, os.makedev(5, 0))  # /dev/tty
        names.append("device")
    served = serve(DirectoryBackend(tmp_path))
    for name in names:
        assert served.peer().request(name, tsize=0) == [tftp.Error(1, "File not found")]
        assert served.peer().put(name) == [tftp.Error(6, "File already exists")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    result = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"a small file system needs root: {result.stderr.strip()}")
    yield path
    # Lazily: a test that fails may still have a file open there.
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.parametrize("options", [{}, {"blksize": 1400, "windowsize": 8}])
def test_full_disk(serve: Serve, small_disk: Path, options: dict[str, Any]) -> None:
    """Two of our peers acknowledge to the end and lose data without a word."""
    served = serve(DirectoryBackend(small_disk))
    peer = served.peer()
    peer.put("large", **options)
    window, blksize = options.get("windowsize", 1), options.get("blksize", 512)
    acked = 0
    for first in range(1, 1000, window):
        window_blocks = [tftp.data(number, bytes([number & 0xFF]) * blksize) for number in range(first, first + window)]
        received = peer.send(*window_blocks)
        if isinstance(received[-1], tftp.Error):
            break
        acked = blocks(received)[-1]
    assert received[-1] == tftp.Error(3, "Disk full or allocation exceeded")
    assert 40 * 1024 < acked * blksize <= 64 * 1024
    assert served.outcomes == ["FAILED"]
    assert acked * blksize <= served.reports[0].bytes_transferred <= 64 * 1024
    assert os.listdir(small_disk) == []
    served.peer().upload("small", b"x" * 1000)
    assert (small_disk / "small").read_bytes() == b"x" * 1000


def test_upload_larger_than_the_free_space_is_refused(serve: Serve, small_disk: Path) -> None:
    served = serve(DirectoryBackend(small_disk))
    assert served.peer().put("large", tsize=65_537 * 2) == [tftp.Error(3, "Disk full or allocation exceeded")]
    assert served.peer().put("small", tsize=100) == [tftp.OptionAck((("tsize", "100"),))]
    served.stop()


def test_full_disk_at_the_end_of_an_upload_is_an_error(serve: Serve) -> None:
    """The last block is not acknowledged either."""

    def raise_disk_full(call: Callable[[], None]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    served = serve(Files({}, {"finish": raise_disk_full}))
    peer = served.peer()
    peer.put("file")
    assert peer.send(tftp.data(1, b"x")) == [tftp.Error(3, "Disk full or allocation exceeded")]


# Sequence


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("ahead", [1, 2, 100, 40_000])
@pytest.mark.usefixtures("proven_peers")
def test_ack_from_the_future_skips_nothing(serve: Serve, window: int, ahead: int) -> None:
    served = serve({"file": FILE})
    peer = served.peer()
    peer.request("file", windowsize=window)
    peer.send(tftp.ack(0))
    assert peer.send(tftp.ack(window + ahead)) == []
    assert peer.send(tftp.ack(window)) == [block(number) for number in range(window + 1, 2 * window + 1)]


@pytest.mark.every_port
@pytest.mark.parametrize("options", [{}, {"tsize": 0}, {"windowsize": 4}])
@pytest.mark.usefixtures("proven_peers")
def test_late_copy_of_the_request(serve: Serve, options: dict[str, Any]) -> None:
    served = serve({"file": FILE})
    peer = served.peer()
    received = peer.request("file", **options)
    if options:
        received = peer.send(tftp.ack(0))
    tid, last = peer.tid, blocks(received)[-1]
    while received := peer.send(tftp.ack(last), to=tid):
        assert blocks(received) == list(range(last + 1, last + 1 + len(received)))
        last = blocks(received)[-1]
        assert peer.request("file", **options) == []
    assert last == 21
    assert served.outcomes == ["COMPLETE"]
    assert len(served.backend.readers) == 1


@pytest.mark.every_port
@pytest.mark.parametrize("options", [{}, {"tsize": 0}])
def test_late_copy_of_an_upload_request(serve: Serve, options: dict[str, Any]) -> None:
    served = serve()
    peer = served.peer()
    peer.put("file", **options)
    for number in (1, 2, 3):
        assert peer.send(tftp.data(number, FILE[:512])) == [tftp.Ack(number)]
        tid = peer.tid
        assert peer.put("file", **options) == []
        peer.tid = tid
    assert peer.send(tftp.data(4, b"")) == [tftp.Ack(4)]
    assert peer.put("file", **options) == []
    assert served.backend.files["file"] == FILE[:512] * 3


MOMENTS = {"the OACK": 0, "ACK 0": 1, "ACK 1": 2, "ACK 5": 6}
"""What the client has sent last before it was reset: its request, or so many ACKs."""


@pytest.mark.parametrize("acks_sent", MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("options", [{"tsize": 0}, {"windowsize": 4}])
@pytest.mark.usefixtures("proven_peers")
def test_restarted_client_gets_a_new_transfer(serve: Serve, acks_sent: int, options: dict[str, Any]) -> None:
    """Firmware numbers its ports from the same start after each reset. It is served at once, not after our patience."""
    served = serve({"file": FILE}, watchdog=Adaptive())
    peer = served.peer()
    oack = peer.request("file", **options)
    for number in range(acks_sent):
        peer.send(tftp.ack(number))
    served.advance(3)
    peer.take()
    assert peer.request("file", **options) == oack
    window = options.get("windowsize", 1)
    assert peer.send(tftp.ack(0)) == [block(number) for number in range(1, window + 1)]
    assert served.protocol.transfers == 1
    assert peer.download("file") == FILE


@pytest.mark.every_port
def test_restarted_client_without_options_gets_a_new_transfer(serve: Serve) -> None:
    served = serve({"file": FILE}, watchdog=Adaptive())
    peer = served.peer()
    for acks_sent in (0, 1, 5):
        peer.request("file")
        for number in range(acks_sent):
            peer.send(tftp.ack(number + 1))
        served.advance(3)
        peer.take()
        assert peer.request("file") == [block(1)]
        served.advance(3)
        peer.take()
    assert peer.download("file") == FILE


@pytest.mark.parametrize("blocks_sent", [0, 1, 3])
@pytest.mark.parametrize("options", [{"tsize": 0}, {"windowsize": 16}])
def test_restarted_upload_begins_again(serve: Serve, blocks_sent: int, options: dict[str, Any]) -> None:
    """Also in the middle of a window, when nothing has been acknowledged yet."""
    served = serve(watchdog=Adaptive())
    peer = served.peer()
    oack = peer.put("file", **options)
    for number in range(blocks_sent):
        peer.send(tftp.data(number + 1, FILE[:512]))
    served.advance(3)
    peer.take()
    assert peer.put("file", **options) == oack
    assert peer.send(tftp.data(1, b"short")) == [tftp.Ack(1)]
    assert served.backend.files["file"] == b"short"
    assert [writer.cancelled for writer in served.backend.writers] == [1] * (len(served.backend.writers) - 1) + [0]


@pytest.mark.every_port
def test_another_file_from_the_same_port(serve: Serve) -> None:
    """At once, and the old transfer ends without a word."""
    served = serve({"file": FILE, "other": b"other"})
    peer = served.peer()
    peer.request("file")
    peer.send(tftp.ack(1))
    assert peer.request("other") == [tftp.Data(1, b"other")]
    assert peer.send(tftp.ack(1)) == []
    assert served.outcomes == ["CANCELLED", "COMPLETE"]
    served.advance(30)
    assert peer.take() == []


@pytest.mark.every_port
def test_malformed_request_does_not_end_a_transfer(serve: Serve) -> None:
    served = serve({"file": FILE})
    peer = served.peer()
    peer.request("file")
    assert peer.send(b"\0\1x", to=served.address) == []
    assert peer.send(tftp.ack(1)) == [block(2)]


@pytest.mark.every_port
def test_slow_file_is_not_opened_twice(serve: Serve) -> None:
    """The client repeats its request while the backend is still looking for the file."""
    pending = Pending()
    handlers = iter([pending])
    served = serve(Files({"file": FILE}, {"open": lambda call: next(handlers, at_once)(call)}))
    peer = served.peer()
    for _ in range(5):
        assert peer.request("file") == []
        served.advance(2)
    pending.fire()
    served.settle()
    assert peer.take() == [block(1)]
    assert len(served.backend.readers) == 1


# Bursts


@pytest.mark.parametrize("options", [[], [("tsize", "0"), ("blksize", "1468")]])
def test_burst_of_three_hundred_requests(private_reactor: EPollReactor, options: list[tuple[str, str]]) -> None:
    """A rack is switched on. All are in the socket's buffer before the server gets to read the first."""
    backend = Files({"file": FILE})
    protocol = TFTPProtocol(private_reactor, backend, Fixed(), lambda event: None)
    port = listen(private_reactor, protocol, "127.0.0.1", 0)
    address = ("127.0.0.1", port.getHost().port)
    request = tftp.request(False, "file", "octet", options)
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(300)]
    try:
        for client in clients:
            client.setblocking(False)
            # Another server may still send to whoever had this port before.
            client.connect(address)
            client.send(request)
        for _ in range(20):
            private_reactor.iterate(0)
        answers = [tftp.parse(client.recv(2000)) for client in clients]
    finally:
        for client in clients:
            client.close()
    assert {type(answer) for answer in answers} == {tftp.OptionAck if options else tftp.Data}
    assert protocol.transfers == 300
    protocol.close()
    port.stopListening()
    private_reactor.iterate(0)
    assert backend.all_closed()


@pytest.mark.every_port
@pytest.mark.parametrize("wire", ["memory-rich", "socket-own"], indirect=True)
@pytest.mark.usefixtures("proven_peers")
def test_reply_leaves_from_the_requested_address_on_a_wildcard_socket(
    serve: Serve, wire: MemoryWire | SocketWire
) -> None:
    served = serve({"file": FILE})
    for number in (1, 2):
        served.address = (wire.address(number), served.address[1])
        peer = served.peer()
        peer.request("file", windowsize=8)
        assert blocks(peer.send(tftp.ack(0))) == list(range(1, 9))
        assert peer.request("missing") == [tftp.Error(1, "File not found")]
        assert {host for host, _ in peer.sources} == {wire.address(number)}
