"""Files that are sent by sendfile(2), over real TCP connections."""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor

from bootfw.backends.directory import DirectoryBackend
from bootfw.config.settings import HTTPSettings
from bootfw.interfaces import IBackend
from bootfw.net.http import download, sendfile
from bootfw.net.http.download import CHUNK, TAIL
from bootfw.net.http.sendfile import MOST, PIECE, TURN, FileSender, file_sender
from bootfw.readers import FileReader, MemoryReader
from bootfw.service import BootService
from bootfw.values import Outcome, TransferReport

from .webclient import Backend, request
from .webservice import Observer, WebService, address_of

pytestmark = pytest.mark.usefixtures("failures", "bounded")

MAX_CALLS = 10_000
"""Calls of sendfile in one test, far more than any of them needs. A download that never pauses would go on for ever."""

SETTINGS = HTTPSettings((("127.0.0.1", 0),))

Serve = Callable[[IBackend], tuple[BootService, Observer]]
Sent = list[tuple[int, int]]


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that calls sendfile for ever fails the test."""
    sendfile = os.sendfile
    calls: list[int] = []

    def counted(out: int, source: int, offset: int, count: int) -> int:
        calls.append(offset)
        if len(calls) > MAX_CALLS:
            pytest.fail("the download does not pause when the connection takes no more")
        return sendfile(out, source, offset, count)

    monkeypatch.setattr(os, "sendfile", counted)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, bounded: None) -> Sent:
    """(offset, length) of each call that sent something."""
    calls: Sent = []
    sendfile = os.sendfile

    def recorded(out: int, source: int, offset: int, count: int) -> int:
        length = sendfile(out, source, offset, count)
        calls.append((offset, length))
        return length

    monkeypatch.setattr(os, "sendfile", recorded)
    return calls


@pytest.fixture
def file(tmp_path: Path) -> tuple[Path, bytes]:
    """A file "a" that is too large for one chunk, as (its directory, its content)."""
    root = tmp_path / "root"
    root.mkdir()
    content = os.urandom(5_000_000)
    (root / "a").write_bytes(content)
    return root, content


@pytest.fixture
def serve(web_service: WebService) -> Serve:
    return lambda backend: web_service(backend, SETTINGS)


@contextlib.contextmanager
def connected(service: BootService, **headers: Any) -> Iterator[socket.socket]:
    """The socket of a client that has requested /a. It reads nothing by itself."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
        sock.connect(address_of(service))
        sock.sendall(request(target="/a", **headers))
        sock.setblocking(False)
        yield sock


def read(sock: socket.socket, length: int = 10_000_000) -> bytes | None:
    """What has arrived, at most *length* bytes; None: the server has closed the connection."""
    try:
        return sock.recv(length) or None
    except BlockingIOError:
        return b""


def read_all(sock: socket.socket, turn_until: TurnUntil, size: int) -> bytes:
    """Read a response, and return its body of *size* bytes."""
    received = bytearray()

    def is_complete() -> bool:
        received.extend(read(sock) or b"")
        end_of_head = received.find(b"\r\n\r\n")
        return end_of_head >= 0 and len(received) == end_of_head + 4 + size

    turn_until(is_complete)
    return bytes(received[-size:])


def test_sendfile_sends_all_but_the_first_chunk_and_the_tail(
    serve: Serve, turn_until: TurnUntil, sent: Sent, file: tuple[Path, bytes]
) -> None:
    root, content = file
    service, observer = serve(DirectoryBackend(root))
    with connected(service) as sock:
        assert read_all(sock, turn_until, len(content)) == content
    assert sent[0][0] == CHUNK
    assert sum(length for _, length in sent) == len(content) - CHUNK - TAIL
    turn_until(lambda: observer.reports)
    (report,) = observer.reports
    assert (report.outcome, report.bytes_transferred) == (Outcome.COMPLETE, len(content))


def test_range_is_sent_by_sendfile(serve: Serve, turn_until: TurnUntil, sent: Sent, file: tuple[Path, bytes]) -> None:
    root, content = file
    service, _ = serve(DirectoryBackend(root))
    with connected(service, Range="bytes=1000001-3000000") as sock:
        assert read_all(sock, turn_until, 2_000_000) == content[1_000_001:3_000_001]
    assert sum(length for _, length in sent) == 2_000_000 - CHUNK - TAIL


def test_a_small_file_is_sent_with_its_head(
    serve: Serve, turn_until: TurnUntil, sent: Sent, file: tuple[Path, bytes]
) -> None:
    root, _ = file
    (root / "a").write_bytes(bytes(CHUNK))
    service, _ = serve(DirectoryBackend(root))
    with connected(service) as sock:
        assert read_all(sock, turn_until, CHUNK) == bytes(CHUNK)
    assert sent == []


def test_several_files_are_sent_on_one_connection(
    serve: Serve, turn_until: TurnUntil, file: tuple[Path, bytes]
) -> None:
    root, content = file
    service, observer = serve(DirectoryBackend(root))
    with connected(service) as sock:
        assert read_all(sock, turn_until, len(content)) == content
        sock.setblocking(True)
        sock.sendall(request(target="/a"))
        sock.setblocking(False)
        assert read_all(sock, turn_until, len(content)) == content
    turn_until(lambda: len(observer.reports) == 2)


def test_pipelined_requests_are_answered(serve: Serve, turn_until: TurnUntil, file: tuple[Path, bytes]) -> None:
    root, content = file
    service, observer = serve(DirectoryBackend(root))
    with connected(service) as sock:
        sock.sendall(request(target="/none") + request(target="/a"))
        received = bytearray()

        def is_complete() -> bool:
            received.extend(read(sock) or b"")
            return received.count(content[:1000]) == 2 and received.endswith(content[-1000:])

        turn_until(is_complete)
    assert b"File not found" in received[len(content) : len(content) + 1000]
    turn_until(lambda: len(observer.reports) == 2)


def test_http_1_0_connection_is_closed_at_the_end(
    serve: Serve, turn_until: TurnUntil, file: tuple[Path, bytes]
) -> None:
    root, content = file
    service, _ = serve(DirectoryBackend(root))
    with socket.create_connection(address_of(service)) as sock:
        sock.sendall(request(target="/a", version="1.0"))
        sock.setblocking(False)
        assert read_all(sock, turn_until, len(content)) == content
        turn_until(lambda: read(sock) is None)


def test_a_slow_client_is_sent_no_more_than_its_connection_takes(
    serve: Serve, private_reactor: EPollReactor, turn_until: TurnUntil, sent: Sent, file: tuple[Path, bytes]
) -> None:
    root, content = file
    (root / "a").write_bytes(content * 10)
    service, observer = serve(DirectoryBackend(root))
    with connected(service) as sock:
        before = -1
        while before != len(sent):
            before = len(sent)
            for _ in range(20):
                private_reactor.iterate(0.005)
        assert sum(length for _, length in sent) < len(content) * 5
        calls = len(sent)
        for _ in range(20):
            private_reactor.iterate(0)
        assert len(sent) == calls, "sendfile is not tried while the connection is full"
        assert read_all(sock, turn_until, len(content) * 10) == content * 10
    turn_until(lambda: observer.reports)
    assert observer.reports[0].outcome is Outcome.COMPLETE


def test_client_that_does_not_read_is_disconnected(
    serve: Serve, turn_until: TurnUntil, file: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "STALLED_SECONDS", 0.3)
    root, content = file
    (root / "a").write_bytes(content * 10)
    service, observer = serve(DirectoryBackend(root))
    with connected(service):
        turn_until(lambda: observer.reports)
    assert observer.reports[0].outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize("reset", [True, False])
def test_disconnect_ends_the_download(
    serve: Serve, turn_until: TurnUntil, sent: Sent, file: tuple[Path, bytes], reset: bool
) -> None:
    root, content = file
    (root / "a").write_bytes(content * 10)
    service, observer = serve(DirectoryBackend(root))
    with connected(service) as sock:
        turn_until(lambda: sent)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    turn_until(lambda: observer.reports)
    assert [report.outcome for report in observer.reports] == [Outcome.STOPPED_BY_PEER]


def test_a_file_that_becomes_shorter_is_never_passed_off_as_whole(
    serve: Serve, turn_until: TurnUntil, sent: Sent, file: tuple[Path, bytes]
) -> None:
    root, content = file
    (root / "a").write_bytes(content * 10)
    service, observer = serve(DirectoryBackend(root))
    with connected(service) as sock:
        turn_until(lambda: sent)
        os.truncate(root / "a", 20_000_000)

        def ended() -> list[TransferReport]:
            with contextlib.suppress(ConnectionResetError):
                read(sock)
            return observer.reports

        turn_until(ended)
    (report,) = observer.reports
    assert report.outcome is Outcome.FAILED
    assert report.bytes_transferred <= 20_000_000


@pytest.mark.parametrize("appended", [0, 1000], ids=["as large", "larger"])
@pytest.mark.parametrize("headers", [{}, {"range": "bytes=0-4000000"}])
def test_a_file_that_is_overwritten_meanwhile_ends_without_its_last_bytes(
    serve: Serve,
    turn_until: TurnUntil,
    sent: Sent,
    file: tuple[Path, bytes],
    headers: dict[str, str],
    appended: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sendfile, "TURN", 0.0)  # a piece a turn, so that the file is being sent when it is overwritten
    root, content = file
    service, observer = serve(DirectoryBackend(root))
    with connected(service, range="bytes=0-0"):  # the type is known from now on, so its first bytes are not read again
        turn_until(lambda: observer.reports)
    with connected(service, **headers) as sock:
        turn_until(lambda: sent)
        with (root / "a").open("r+b") as writer:
            writer.seek(CHUNK)  # the bytes before that are read, not sent by sendfile(2)
            writer.write(bytes(len(content) - CHUNK + appended))
        received = bytearray()

        def ended() -> bool:
            with contextlib.suppress(ConnectionResetError):
                received.extend(read(sock) or b"")
            return len(observer.reports) == 2

        turn_until(ended)
    _, report = observer.reports
    assert (report.outcome, report.detail) == (Outcome.FAILED, "The file has changed meanwhile, start again")
    assert len(received.partition(b"\r\n\r\n")[2]) < (4_000_001 if headers else len(content))


def test_a_file_that_becomes_longer_is_sent_as_it_was(
    serve: Serve, turn_until: TurnUntil, sent: Sent, file: tuple[Path, bytes]
) -> None:
    root, content = file
    service, observer = serve(DirectoryBackend(root))
    with connected(service) as sock:
        turn_until(lambda: sent)
        with (root / "a").open("ab") as writer:
            writer.write(bytes(1_000_000))
        assert read_all(sock, turn_until, len(content)) == content
    turn_until(lambda: observer.reports)
    assert observer.reports[0].bytes_transferred == len(content)


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EIO, errno.ENOSYS])
def test_file_is_read_if_sendfile_fails(
    serve: Serve,
    turn_until: TurnUntil,
    file: tuple[Path, bytes],
    monkeypatch: pytest.MonkeyPatch,
    error: int,
) -> None:
    calls = []

    def fail(*arguments: int) -> None:
        calls.append(arguments)
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "sendfile", fail)
    root, content = file
    service, _ = serve(DirectoryBackend(root))
    with connected(service) as sock:
        assert read_all(sock, turn_until, len(content)) == content
    assert len(calls) == 1


def test_a_reader_without_a_descriptor_is_read(serve: Serve, turn_until: TurnUntil, sent: Sent) -> None:
    content = os.urandom(1_000_000)
    service, _ = serve(Backend(MemoryReader(content)))
    with connected(service) as sock:
        assert read_all(sock, turn_until, len(content)) == content
    assert sent == []


def test_the_connection_is_watched_once_and_closed(
    serve: Serve, private_reactor: EPollReactor, turn_until: TurnUntil, sent: Sent, file: tuple[Path, bytes]
) -> None:
    root, content = file
    (root / "a").write_bytes(content * 10)
    service, observer = serve(DirectoryBackend(root))
    watched: list[object] = []
    add = private_reactor.addWriter
    private_reactor.addWriter = lambda writer: (watched.append(writer), add(writer))  # type: ignore
    with connected(service) as sock:
        assert read_all(sock, turn_until, len(content) * 10) == content * 10
        turn_until(lambda: observer.reports)
        assert len(sent) > 2
        senders = [writer for writer in watched if isinstance(writer, FileSender)]
        assert len(senders) == 1
        assert senders[0].fileno() == -1, "its descriptor is closed while the connection goes on"
    assert observer.reports[0].outcome is Outcome.COMPLETE


def test_without_a_free_descriptor_the_file_is_read(
    serve: Serve, turn_until: TurnUntil, sent: Sent, file: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "dup", fail)
    root, content = file
    (root / "a").write_bytes(content * 10)
    service, observer = serve(DirectoryBackend(root))
    with connected(service) as sock:
        assert read_all(sock, turn_until, len(content) * 10) == content * 10
    turn_until(lambda: observer.reports)
    assert observer.reports[0].outcome is Outcome.COMPLETE
    assert sum(length for _, length in sent) < len(content) * 10 - CHUNK - TAIL


def test_a_disconnect_is_noticed_where_the_client_is_not_read(
    serve: Serve, turn_until: TurnUntil, sent: Sent, file: tuple[Path, bytes]
) -> None:
    root, content = file
    (root / "a").write_bytes(content * 10)
    service, observer = serve(DirectoryBackend(root))
    with connected(service) as sock:
        turn_until(lambda: sent)
        sock.setblocking(True)
        for _ in range(3):
            sock.sendall(b"GET /a HTTP/1.1\r\nX: " + b"x" * 20_000)  # more than the server buffers: it stops reading
            for _ in range(5):
                turn_until(lambda: True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    turn_until(lambda: observer.reports)
    assert [report.outcome for report in observer.reports] == [Outcome.STOPPED_BY_PEER]


# FileSender alone


@define
class Transport:
    """The part of a transport that FileSender uses."""

    sock: socket.socket

    def getHandle(self) -> socket.socket:
        return self.sock


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    sockets = socket.socketpair()
    for sock in sockets:
        sock.setblocking(False)
    yield sockets
    for sock in sockets:
        sock.close()


def test_sendfile_stops_when_the_connection_is_full(pair: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(4 * MOST))
    with open(tmp_path / "a", "rb") as source:
        sender = FileSender(Transport(pair[0]), source.fileno(), lambda: 0.0)
        length, may_continue = sender.send(0, 4 * MOST)
        assert length > 0
        assert may_continue
        while sender.send(0, 4 * MOST)[0]:
            pass
        assert sender.send(0, 4 * MOST) == (0, True), "the connection is full"


def test_short_sendfile_means_a_full_connection(
    pair: tuple[socket.socket, socket.socket], sent: Sent, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(bytes(2 * PIECE))
    with open(tmp_path / "a", "rb") as source:
        length, may_continue = FileSender(Transport(pair[0]), source.fileno(), lambda: 0.0).send(0, 2 * PIECE)
    assert sent == [(0, length)]
    assert 0 < length < PIECE
    assert may_continue


def test_bytes_per_reactor_turn_are_bounded(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sendfile", lambda out, source, offset, count: count)
    sender = FileSender(Transport(pair[0]), -1, lambda: 0.0)
    assert sender.send(7, 4 * MOST) == (MOST, True)
    assert sender.send(7, 100) == (93, True)


def test_time_per_reactor_turn_is_bounded(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def slow_disk(out: int, source: int, offset: int, count: int) -> int:
        now[0] += 0.6 * TURN
        return count

    monkeypatch.setattr(os, "sendfile", slow_disk)
    sender = FileSender(Transport(pair[0]), -1, lambda: now[0])
    assert sender.send(0, 4 * MOST) == (2 * PIECE, True)


def test_sendfile_needs_a_plain_tcp_connection(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    reader = FileReader(os.open(tmp_path / "a", os.O_RDONLY))
    try:
        assert file_sender(object(), reader, lambda: 0.0) is None
    finally:
        reader.close()
