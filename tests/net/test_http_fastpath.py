"""The fast path of HTTP answers as twisted.web does: the same bytes and events, whatever the requests and segments."""

import gc
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from bootfw.backends.directory import DirectoryBackend
from bootfw.boot.backends import LayeredBackend
from bootfw.boot.generated import GeneratedFiles
from bootfw.net.http import site, smallfiles
from bootfw.net.http.plainrequest import parse
from bootfw.readers import FileReader
from net.webclient import Dated, Reader, Tagged, Web


def opener(path: str) -> Callable[[], Any]:
    """A function that opens a reader of the file."""
    return lambda: FileReader(os.open(path, os.O_RDONLY))


READERS: Sequence[Callable[[], Any]] = [
    lambda: Reader(b"0123456789" * 30, size=300),
    lambda: Reader(b"0123456789" * 30),
    lambda: Reader(b"", size=0),
    lambda: Dated(b"MZ" + b"0" * 98, size=100),
    lambda: Tagged(bytes(200_000), size=200_000),
    lambda: Reader(b"short", size=10),
    opener(__file__),
    opener(site.__file__),
    opener(sys.executable),  # large
]

HEADERS = [
    b"Host: 10.9.0.1",
    b"User-Agent: iPXE/1.21.1+",
    b"Connection: keep-alive",
    b"connection:Keep-Alive",
    b"Connection: close",
    b"Range: bytes=5-20",
    b"Range: bytes=900-",
    b"range: bytes=0-0",
    b'If-None-Match: "one"',
    b'If-Match: "other"',
    b"If-Modified-Since: Mon, 07 Nov 1994 08:49:37 GMT",
    b'If-Range: "one"',
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Transfer-Encoding: chunked",
    b"Expect: 100-continue",
    b"Accept: */*",
    b"X:y",
    b"Bad Header: x",
    b"NoColon",
    b"Latin: \xe9",
    b" continued",
]
TARGETS = [
    b"/a",
    b"/",
    b"/dir/b.efi",
    b"/../a",
    b"/a/",
    b"//a",
    b"/a%20b",
    b"/a?b",
    b"http://h/a",
    b"a",
    b"*",
    b"/a b",
    b"/@:~+=,_-.",
]

requests = st.builds(
    lambda method, target, version, headers, end: end.join([b" ".join([method, target, version]), *headers, b"", b""]),
    st.sampled_from([b"GET", b"HEAD", b"POST", b"get", b"GETX"]) | st.just(b"GET"),
    st.sampled_from(TARGETS),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"http/1.1"]) | st.just(b"HTTP/1.1"),
    st.lists(st.sampled_from(HEADERS), max_size=4),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]),
)


def exchange(
    reader: Callable[[], Any], segments: Sequence[bytes], fast: bool, late: bool = False
) -> tuple[bytes, list[Any], bool]:
    """Send *segments* on one connection. Returns (what is received, the events, whether the connection was closed).

    :param fast: with the fast path, not by twisted.web alone.
    :param late: segments also arrive while the connection is being closed.
    """
    web = Web(reader)
    wire = web.connect()
    monkeypatch = pytest.MonkeyPatch()
    if not fast:
        monkeypatch.setattr(site, "parse", lambda *arguments: None)
    try:
        for segment in segments:
            if late or not wire.disconnecting:
                wire.protocol.dataReceived(segment)
            for _ in range(5):
                wire.take()
    finally:
        monkeypatch.undo()
    received = re.sub(rb"Date: [^\r]*", b"Date: now", wire.value())
    return received, [*map(str, web.events)], wire.disconnecting or wire.aborted


@given(st.sampled_from(READERS), st.lists(requests, min_size=1, max_size=3), st.data())
def test_fast_path_answers_as_twisted_does(reader: Callable[[], Any], sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(sent)
    whole = data.draw(st.booleans(), label="a request in each segment")
    if whole:
        segments = sent
    else:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4), label="cuts"))
        segments = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]
    assert exchange(reader, segments, fast=True) == exchange(reader, segments, fast=False)


@pytest.mark.parametrize(
    "segments",
    [
        # What looks like a request is the rest of a line, of a header or of a body.
        [b"GET /bootfw/up HTTP/1.1\r\n\r\n"],
        [b"GET /bootfw/failed HTTP/1.1\r\n\r\n"],
        [b"FOO", b"GET /a HTTP/1.1\r\n\r\n"],
        [b"GET /b HTTP/1.1\r\nX: ", b"GET /a HTTP/1.1\r\n\r\n"],
        [b"GET /b HTTP/1.1\r\n", b"GET /a HTTP/1.1\r\n\r\n"],
        [b"POST /b HTTP/1.1\r\nContent-Length: 19\r\n\r\n", b"GET /a HTTP/1.1\r\n\r\n"],
        [b"GET /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n13\r\n", b"GET /a HTTP/1.1\r\n\r\n"],
        # The connection ends with the first response.
        [b"GET /b HTTP/1.1\r\nConnection: close\r\n\r\n", b"GET /a HTTP/1.1\r\n\r\n"],
        [b"GET /b HTTP/1.1\r\nConnection: close\r\n\r\n", b"GET /a HTTP/1.1\r\n\r\n", b"GET /a HTTP/1.1\r\n\r\n"],
        [b"GET /b HTTP/1.1\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", b"GET /a HTTP/1.1\r\n\r\n"],
        [b"GET /b HTTP/1.0\r\n\r\n", b"GET /a HTTP/1.1\r\n\r\n"],
        [b"\r\n", b"GET /a HTTP/1.1\r\n\r\n"],
    ],
)
def test_fast_path_takes_requests_at_request_boundaries_only(segments: list[bytes]) -> None:
    reader = READERS[0]
    assert exchange(reader, segments, True, late=True) == exchange(reader, segments, False, late=True)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /a HTTP/1.1\r\n\r\n",
        b"GET /boot/vmlinuz-6.1 HTTP/1.1\r\nHost: 10.9.0.1:8069\r\nUser-Agent: iPXE\r\nConnection: keep-alive\r\n\r\n",
        b"HEAD /a.efi HTTP/1.1\r\nHost: 10.9.0.1\r\nAccept: */*\r\nUser-Agent: UefiHttpBoot/1.0\r\n\r\n",
        b"GET /preseed.cfg HTTP/1.1\r\nHost: 10.9.0.1\r\nUser-Agent: Wget\r\nConnection: close\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nRange: bytes=1-2\r\n\r\n",
    ],
)
def test_requests_of_boot_programs_take_the_fast_path(request_bytes: bytes) -> None:
    assert parse(request_bytes) is not None


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /a HTTP/1.1\r\n",
        b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /a HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
        b"GET /a HTTP/1.1\r\nConnection: close, TE\r\n\r\n",
        b"GET /a HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
        b"GET /a HTTP/1.1\r\nX: " + b"x" * 5000 + b"\r\n\r\n",
        b"GET /%41 HTTP/1.1\r\n\r\n",
        b"get /a HTTP/1.1\r\n\r\n",
        b"GET /a http/1.1\r\n\r\n",
    ],
)
def test_other_requests_are_passed_to_twisted(request_bytes: bytes) -> None:
    assert parse(request_bytes) is None


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file was changed long ago."""
    monkeypatch.setattr("bootfw.readers.time.time_ns", lambda: 2**62)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of each read of a file."""
    lengths: list[int] = []
    pread = os.pread

    def recording_pread(fd: int, length: int, offset: int) -> bytes:
        lengths.append(length)
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", recording_pread)
    return lengths


def get(web: Web, target: bytes = b"/a") -> bytes:
    """The body of a response."""
    wire = web.connect()
    wire.protocol.dataReceived(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target)
    return wire.value().partition(b"\r\n\r\n")[2]


@pytest.mark.usefixtures("settled")
def test_a_small_file_of_another_backend_is_read_once_and_opened_for_every_request(
    tmp_path: Path, reads: list[int]
) -> None:
    (tmp_path / "a").write_bytes(b"one")
    web = Web(opener(str(tmp_path / "a")))
    assert [get(web), get(web), reads] == [b"one", b"one", [3]]
    (tmp_path / "b").write_bytes(b"two")
    (tmp_path / "b").replace(tmp_path / "a")
    assert [get(web), get(web), reads] == [b"two", b"two", [3, 3]]


def test_a_file_that_has_just_been_written_is_read_every_time(tmp_path: Path) -> None:
    # A second change in the same tick of the clock would not change its times.
    path = tmp_path / "a"
    path.write_bytes(b"one")
    web = Web(opener(str(path)))
    assert get(web) == b"one"
    status = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert get(web) == b"two"


@pytest.mark.usefixtures("settled")
def test_content_type_of_a_small_file_follows_the_requested_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    web = Web(opener(str(tmp_path / "a")))
    for target, kind in [(b"/a.efi", b"application/efi"), (b"/a.txt", b"text/plain; charset=utf-8")]:
        wire = web.connect()
        wire.protocol.dataReceived(b"GET %b HTTP/1.1\r\n\r\n" % target)
        assert b"Content-Type: %b\r\n" % kind in wire.value()


@pytest.mark.usefixtures("settled")
def test_small_files_leave_no_open_descriptor(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    gc.collect()  # what other tests have left is closed now, not while descriptors are compared
    before = len(os.listdir("/proc/self/fd"))
    web = Web(opener(str(tmp_path / "a")))
    get(web)
    get(web)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.usefixtures("settled")
def test_the_cache_of_small_files_is_bounded(tmp_path: Path, reads: list[int]) -> None:
    for number in range(5):
        (tmp_path / f"{number}").write_bytes(bytes(1000))
    names = iter([0, 1, 2, 2, 3, 4, 0])
    web = Web(lambda: opener(str(tmp_path / f"{next(names)}"))())
    small_files = smallfiles.SmallFiles(web.site.files._context, capacity=3500)
    web.site.files._small_files = small_files
    for number in (0, 1, 2, 2, 3, 4):
        get(web, b"/%d" % number)
        assert small_files.bytes_kept <= 3500
    assert len(reads) == 5
    get(web, b"/0")
    assert len(reads) == 6, "the oldest was dropped"


def test_pipelined_requests_wait_until_the_file_is_opened() -> None:
    opening: list[Deferred[Any]] = []

    def later() -> Any:
        opening.append(Deferred())
        return opening[-1]

    web = Web(later)
    wire = web.connect()
    wire.protocol.dataReceived(b"GET /a HTTP/1.1\r\n\r\n")
    wire.protocol.dataReceived(b"GET /b HTTP/1.1\r\n\r\n")
    assert len(opening) == 1
    opening[0].callback(Reader(b"one", size=3))
    assert (len(opening), wire.value().count(b"HTTP/1.1 200 OK")) == (2, 1)
    opening[1].callback(Reader(b"two", size=3))
    assert wire.value().endswith(b"\r\n\r\ntwo")


def test_a_flood_of_requests_pauses_the_connection_until_the_first_is_answered() -> None:
    opening: Deferred[Any] = Deferred()
    web = Web(lambda: opening)
    wire = web.connect()
    wire.protocol.dataReceived(b"GET /a HTTP/1.1\r\n\r\n")
    wire.protocol.dataReceived(b"GET /b HTTP/1.1\r\nX: " + b"x" * 20_000)
    assert wire.producerState == "paused"
    opening.callback(Reader(b"one", size=3))
    assert wire.producerState == "producing"


def test_lost_connection_cancels_the_open() -> None:
    cancelled: list[Deferred[Any]] = []
    web = Web(lambda: Deferred(cancelled.append))
    wire = web.connect()
    wire.protocol.dataReceived(b"GET /a HTTP/1.1\r\n\r\n")
    wire.loseConnection()
    web.clock.advance(0)
    assert (len(cancelled), web.events) == (1, [])


class Tree:
    """A directory, and two servers of it: one answers by the fast path, the other by twisted.web.

    No content has the length of an earlier one: two changes in the same tick of the clock are told apart.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.length = 0
        self.fast, self.plain = Web(None), Web(None)
        self.generated = GeneratedFiles()
        for web in (self.fast, self.plain):
            backends = [
                ("generated", self.generated),
                ("one", DirectoryBackend(root)),
                ("two", DirectoryBackend(root / "d")),
            ]
            # No time passes, so that a busy machine makes no call of a backend a long one.
            web.site.files.use(LayeredBackend(backends, publish=web.events.append, seconds=lambda: 0.0))

    def content(self) -> bytes:
        self.length += 1
        return b"x" * self.length

    def change(self, kind: str, name: str) -> None:
        path = self.root / name
        if kind == "replace":
            (self.root / "new").write_bytes(self.content())
            (self.root / "new").replace(path)
        elif kind == "overwrite":
            path.unlink(missing_ok=True)
            path.write_bytes(b"")
            path.write_bytes(self.content())
        elif kind == "append":
            with path.open("ab") as file:
                file.write(self.content())
        elif kind == "remove":
            path.unlink(missing_ok=True)
        elif kind == "link":
            path.unlink(missing_ok=True)
            path.symlink_to("d/b" if name != "d/b" else "../a")
        elif kind == "large":
            path.unlink(missing_ok=True)
            path.write_bytes(bytes(70_000 + self.length))
        elif kind == "generate":
            self.generated.keep(name, self.content())

    def compare(self, segments: Sequence[bytes]) -> None:
        """Send *segments* to both servers; their answers and events have to be the same."""
        answers = []
        for web in (self.fast, self.plain):
            monkeypatch = pytest.MonkeyPatch()
            if web is self.plain:
                monkeypatch.setattr(site, "parse", lambda data: None)
            wire = web.connect()
            try:
                for segment in segments:
                    if not wire.disconnecting:
                        wire.protocol.dataReceived(segment)
                    wire.take()
                    wire.take()
            finally:
                monkeypatch.undo()
            received = re.sub(rb"Date: [^\r]*", b"Date: now", wire.value())
            answers.append((received, [*map(str, web.events)], wire.disconnecting))
            web.events.clear()
        assert answers[0] == answers[1]


CHANGES = ["replace", "overwrite", "append", "remove", "link", "large", "generate"]
NAMES = ["a", "d/b", "b"]

gets = st.builds(
    lambda method, name, headers: b"%b /%b HTTP/1.1\r\n%b\r\n" % (method, name.encode(), headers),
    st.sampled_from([b"GET", b"GET", b"GET", b"HEAD"]),
    st.sampled_from([*NAMES, "a/", "none", "../a"]),
    st.sampled_from([b"", b"", b"Connection: close\r\n", b"Range: bytes=1-2\r\n", b"If-None-Match: *\r\n"]),
)
steps = st.one_of(
    st.tuples(st.sampled_from(CHANGES), st.sampled_from(NAMES)),
    st.lists(gets, min_size=1, max_size=3),
    st.lists(gets, min_size=1, max_size=3).map(lambda sent: [b"".join(sent)]),
)


@settings(max_examples=60)
@given(st.lists(steps, min_size=1, max_size=12))
def test_changed_files_are_served_with_their_new_content(actions: list[Any]) -> None:
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("bootfw.readers.time.time_ns", lambda: 2**62)
    try:
        with tempfile.TemporaryDirectory() as root:
            (Path(root) / "d").mkdir()
            tree = Tree(Path(root))
            tree.change("replace", "a")
            for action in actions:
                if isinstance(action, tuple):
                    tree.change(*action)
                else:
                    tree.compare(action)
    finally:
        monkeypatch.undo()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_by_the_next_request(tmp_path: Path, change: str) -> None:
    (tmp_path / "d").mkdir()
    tree = Tree(tmp_path)
    tree.change("replace", "a")
    tree.change("replace", "d/b")
    for _ in range(2):
        tree.compare([b"GET /a HTTP/1.1\r\n\r\n"] * 3)
        tree.change(change, "a")
        tree.compare([b"GET /a HTTP/1.1\r\n\r\n"] * 3)


@pytest.mark.usefixtures("settled")
def test_a_small_file_is_opened_once_for_each_version(tmp_path: Path, reads: list[int]) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "a").write_bytes(b"one")
    opened: list[str] = []

    class RecordingBackend(DirectoryBackend):
        def _open(self, name: bytes, ignore_case: bool) -> FileReader:
            opened.append(name.decode())
            return super()._open(name, ignore_case)

    web = Web(None)
    web.site.files.use(RecordingBackend(tmp_path))
    assert [get(web), get(web), get(web), opened, reads] == [b"one", b"one", b"one", ["a"], [3]]
    (tmp_path / "b").write_bytes(b"2")
    (tmp_path / "b").replace(tmp_path / "a")
    assert [get(web), get(web), opened, reads] == [b"2", b"2", ["a", "a"], [3, 1]]
