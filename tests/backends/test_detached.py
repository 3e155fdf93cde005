"""The directory backend on a file system that hangs: a real FUSE file system that does not answer."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from descriptors import open_descriptors
from hangingfs import HangingFileSystem, mounted, threads
from turning import Result, TurnUntil
from twisted.internet.defer import CancelledError
from twisted.internet.epollreactor import EPollReactor

from bootfw.api import FileMissing, TransferError
from bootfw.backends import detached
from bootfw.backends.detached import DetachedReader, Threads
from bootfw.backends.directory import DirectoryBackend
from bootfw.interfaces import ICacheableReader

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "remote").mkdir(parents=True)
    (tmp_path / "root" / "local").write_bytes(b"local")
    (tmp_path / "root" / "link").symlink_to("remote/file")
    return tmp_path / "root"


@pytest.fixture
def remote(root: Path, all_threads_end: None) -> Iterator[HangingFileSystem]:
    file_system = mounted(root / "remote", {"file": CONTENT, **{f"f{number}": b"x" for number in range(20)}})
    yield file_system
    file_system.close()


@pytest.fixture
def backend(root: Path, private_reactor: EPollReactor) -> DirectoryBackend:
    return DirectoryBackend(root, reactor=private_reactor)


@pytest.fixture
def wait_for_threads(private_reactor: EPollReactor, turn_until: TurnUntil) -> Callable[[], None]:
    """Turn the reactor until no thread is left, also none that the earlier ones have started."""

    def wait_for_threads() -> None:
        for _ in range(3):
            turn_until(lambda: not threads())
            private_reactor.iterate(0)

    return wait_for_threads


@pytest.fixture(autouse=True)
def all_threads_end(wait_for_threads: Callable[[], None]) -> Iterator[None]:
    yield
    wait_for_threads()


def content(reader: ICacheableReader, result: Result) -> bytes:
    data = b""
    while block := result(reader.read(len(data), 1000)):
        data += block
    reader.close()
    return data


def test_file_on_a_network_file_system_is_read_in_a_thread(
    remote: HangingFileSystem, backend: DirectoryBackend, result: Result, wait_for_threads: Callable[[], None]
) -> None:
    before = open_descriptors()
    reader = result(backend.open("remote/file", None))
    assert isinstance(reader, DetachedReader)
    assert reader.size == len(CONTENT)
    assert reader.modified == 1_000_000_000
    assert content(reader, result) == CONTENT
    with pytest.raises(FileMissing):
        result(backend.open("remote/missing", None))
    wait_for_threads()
    assert open_descriptors() == before


@pytest.mark.parametrize("path", ["remote/file", "link", "Remote/file"])
def test_hanging_file_system_blocks_its_own_files_only(
    remote: HangingFileSystem,
    backend: DirectoryBackend,
    result: Result,
    wait_for_threads: Callable[[], None],
    path: str,
) -> None:
    backend.ignore_case = True
    remote.hang()
    openings = [backend.open(path, None), *(backend.open(f"remote/f{number}", None) for number in range(10))]
    local = backend.open("local", None)
    assert content(local, result) == b"local"
    with pytest.raises(FileMissing):
        backend.open("missing", None)
    assert len(threads()) == detached.THREADS
    assert not any(opening.called for opening in openings)
    remote.answer()
    assert content(result(openings[0]), result) == CONTENT
    for opening in openings[1:]:
        assert content(result(opening), result) == b"x"
    wait_for_threads()


def test_hanging_file_systems_do_not_block_each_other(
    remote: HangingFileSystem, root: Path, backend: DirectoryBackend, result: Result
) -> None:
    (root / "other").mkdir()
    other = mounted(root / "other", {"file": b"other"})
    try:
        remote.hang()
        openings = [backend.open(f"remote/f{number}", None) for number in range(10)]
        assert content(result(backend.open("other/file", None)), result) == b"other"
        remote.answer()
        for opening in openings:
            content(result(opening), result)
    finally:
        other.close()


def test_a_read_of_an_open_file_may_hang(remote: HangingFileSystem, backend: DirectoryBackend, result: Result) -> None:
    reader = result(backend.open("remote/file", None))
    assert result(reader.read(0, 512)) == CONTENT[:512]
    remote.hang()
    assert reader.read(512, 512) == CONTENT[512:1024]  # it was read together with the bytes before it
    reading = reader.read(200_000, 512)
    assert not reading.called
    remote.answer()
    assert result(reading) == CONTENT[200_000:200_512]
    reader.close()


def test_hanging_root_does_not_block_the_reactor(
    remote: HangingFileSystem, root: Path, private_reactor: EPollReactor, result: Result
) -> None:
    backend = DirectoryBackend(root / "remote", reactor=private_reactor)
    remote.hang()
    assert backend.problem() == ""
    opening = backend.open("file", None)
    remote.answer()
    assert content(result(opening), result) == CONTENT


def test_cancelled_request_closes_its_file(
    remote: HangingFileSystem, backend: DirectoryBackend, wait_for_threads: Callable[[], None]
) -> None:
    before = open_descriptors()
    remote.hang()
    openings = [backend.open(f"remote/f{number}", None) for number in range(10)]
    for opening in openings:
        opening.addErrback(lambda failure: failure.trap(CancelledError))
        opening.cancel()
    remote.answer()
    wait_for_threads()
    assert open_descriptors() == before


def test_number_of_waiting_requests_is_limited(
    remote: HangingFileSystem,
    backend: DirectoryBackend,
    wait_for_threads: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(detached, "PENDING", 2)
    remote.hang()
    openings = [backend.open(f"remote/f{number}", None) for number in range(detached.THREADS + 2)]
    with pytest.raises(TransferError, match="Too many requests wait for this directory"):
        backend.open("remote/file", None)
    for opening in openings:
        opening.addErrback(lambda failure: failure.trap(CancelledError))
        opening.cancel()
    remote.answer()
    wait_for_threads()


class RecordingWriter:
    """A writer that records its calls, and checks that they come from the threads for detached files."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bytes] | str] = []

    def write(self, offset: int, data: bytes) -> None:
        self.calls.append((offset, data))
        assert threading.current_thread() in threads()

    def finish(self) -> None:
        self.calls.append("finish")

    def cancel(self) -> None:
        self.calls.append("cancel")


@pytest.mark.parametrize("ending", ["finish", "cancel"])
def test_uploads_are_written_in_threads(
    private_reactor: EPollReactor, result: Result, wait_for_threads: Callable[[], None], ending: str
) -> None:
    writer = RecordingWriter()
    detached_writer = detached.DetachedWriter(writer, Threads(private_reactor), "place")
    result(detached_writer.write(0, b"a"))
    result(detached_writer.write(1, b"b"))
    result(getattr(detached_writer, ending)())
    wait_for_threads()
    assert writer.calls == [(0, b"a"), (1, b"b"), ending]


def test_read_only_directory_refuses_uploads(
    remote: HangingFileSystem, backend: DirectoryBackend, result: Result
) -> None:
    with pytest.raises((TransferError, OSError)) as caught:
        result(backend.create("remote/new", None))
    assert not isinstance(caught.value, OSError) or caught.value.errno in (errno.ENOSYS, errno.EIO)
    assert os.listdir(backend.root) != []
