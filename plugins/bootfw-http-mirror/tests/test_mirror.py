"""The mirror against a web server whose every answer the test gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bootfw_http_mirror.mirror import MirrorBackend, plugin, relative
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.web.client import ResponseFailed
from twisted.web.http import PotentialDataLoss

from bootfw.api import ConfigError, FileMissing, PluginContext, TransferError

from .conftest import Response, Upstream


class ConnectionCut(ResponseFailed):
    """The connection broke."""

    def __init__(self) -> None:
        super().__init__([])


def failure_of(deferred: Any) -> Any:
    caught: list[Any] = []
    deferred.addErrback(caught.append)
    return caught[0].value


def test_a_file_is_served_while_it_comes(mirror: MirrorBackend, upstream: Upstream, clock: Clock) -> None:
    opening: Any = mirror.open("a/b.efi", None)
    assert upstream.requests == [("http://up.example/boot/a/b.efi", {})]
    response = upstream.answer(Response(200, b"x" * 10))
    clock.advance(0)
    reader = opening.result
    assert reader.size == 10
    early = reader.read(0, 4)
    assert not early.called
    response.send(b"abc")
    assert not early.called
    response.send(b"def")
    assert early.result == b"abcd"
    late = reader.read(4, 8)
    response.send(b"ghij")
    assert late.result == b"efghij"
    response.end()
    assert reader.read(8, 4) == b"ij"
    assert reader.read(10, 4) == b""
    reader.close()


def test_concurrent_requests_share_one_download(mirror: MirrorBackend, upstream: Upstream, clock: Clock) -> None:
    openings: list[Any] = [mirror.open("k", None) for _ in range(3)]
    response = upstream.answer(Response(200, b"12345"))
    clock.advance(0)
    response.send(b"123")
    readers = [opening.result for opening in openings]
    readers.append(mirror.open("k", None))
    assert [reader.read(0, 3) for reader in readers] == [b"123"] * 4
    reads = [reader.read(3, 3) for reader in readers]
    response.send(b"45")
    assert [read.result for read in reads] == [b"45"] * 4
    response.end()
    assert len(upstream.requests) == 1
    for reader in readers:
        reader.close()


def test_a_cancelled_request_does_not_disturb_others(mirror: MirrorBackend, upstream: Upstream, clock: Clock) -> None:
    first, second = mirror.open("k", None), mirror.open("k", None)
    first.addErrback(lambda failure: None)  # type: ignore[union-attr]
    first.cancel()  # type: ignore[union-attr]
    upstream.answer(Response(200, b"12345"))
    assert second.result.size == 5  # type: ignore[union-attr]


def test_a_download_goes_on_without_readers(mirror: MirrorBackend, upstream: Upstream, clock: Clock) -> None:
    opening: Any = mirror.open("k", None)
    response = upstream.answer(Response(200, b"12345"))
    clock.advance(0)
    read = opening.result.read(0, 5)
    opening.result.close()
    response.send(b"12345")
    response.end()
    assert not read.called
    reader: Any = mirror.open("k", None)
    assert reader.read(0, 9) == b"12345"
    reader.close()


def test_a_stored_file_is_fresh_for_a_while(
    mirror: MirrorBackend, upstream: Upstream, clock: Clock, store_file: Callable[..., None]
) -> None:
    store_file("k", b"old", etag='"1"')
    clock.advance(9.9)
    reader: Any = mirror.open("k", None)
    assert (reader.size, reader.read(0, 9)) == (3, b"old")
    reader.close()
    assert len(upstream.requests) == 1


def test_stale_file_is_revalidated(
    mirror: MirrorBackend, upstream: Upstream, clock: Clock, store_file: Callable[..., None]
) -> None:
    store_file("k", b"old", etag='"1"', last_modified="Fri, 20 Nov 2026 12:00:00 GMT")
    clock.advance(10)
    opening: Any = mirror.open("k", None)
    assert upstream.requests[1][1] == {"if-none-match": '"1"', "if-modified-since": "Fri, 20 Nov 2026 12:00:00 GMT"}
    upstream.answer(Response(304))
    assert opening.result.read(0, 9) == b"old"
    opening.result.close()
    assert mirror.open("k", None).size == 3  # type: ignore[union-attr]
    assert len(upstream.requests) == 2


def test_a_changed_file_replaces_the_stored_one(
    mirror: MirrorBackend, upstream: Upstream, clock: Clock, store_file: Callable[..., None]
) -> None:
    store_file("k", b"old", etag='"1"')
    old: Any = mirror.open("k", None)
    clock.advance(10)
    store_file("k", b"newer", etag='"2"')
    assert old.read(0, 9) == b"old"
    new: Any = mirror.open("k", None)
    assert new.read(0, 9) == b"newer"


REASONS = {"refused": "it refused the connection", "500": "it answers 500", "silence": "it has not answered in time"}


@pytest.mark.parametrize("problem", REASONS)
def test_without_the_server_the_stored_file_is_served(
    mirror: MirrorBackend, upstream: Upstream, clock: Clock, store_file: Callable[..., None], problem: str
) -> None:
    store_file("k", b"old")
    clock.advance(10)
    opening: Any = mirror.open("k", None)
    with capturedLogs() as logs:
        cause_problem(problem, upstream, clock)
    [line] = [formatEvent(event) for event in logs]
    assert line == f"http://up.example/boot/: k is served as stored: {REASONS[problem]}"
    assert opening.result.read(0, 9) == b"old"


@pytest.mark.parametrize("problem", REASONS)
def test_without_the_server_and_the_file_there_is_an_error(
    mirror: MirrorBackend, upstream: Upstream, clock: Clock, problem: str
) -> None:
    openings: list[Any] = [mirror.open("k", None), mirror.open("k", None)]
    cause_problem(problem, upstream, clock)
    for opening in openings:
        error = failure_of(opening)
        assert type(error) is TransferError
        assert "example" not in str(error)
        assert error.detail == f"http://up.example/boot/: {REASONS[problem]}"


def cause_problem(problem: str, upstream: Upstream, clock: Clock) -> None:
    if problem == "refused":
        upstream.refuse()
    elif problem == "500":
        response = upstream.answer(Response(500, b"a page"))
        assert response.connection_lost
    else:
        clock.advance(10)


@pytest.mark.parametrize("code", [404, 410])
def test_file_missing_on_the_server_calls_the_next_backend(
    mirror: MirrorBackend, upstream: Upstream, clock: Clock, store_file: Callable[..., None], code: int
) -> None:
    store_file("k", b"old")
    clock.advance(10)
    opening: Any = mirror.open("k", None)
    upstream.answer(Response(code))
    assert isinstance(failure_of(opening), FileMissing)
    second_opening: Any = mirror.open("k", None)
    upstream.refuse()
    assert type(failure_of(second_opening)) is TransferError


@pytest.mark.parametrize("reason", [ConnectionCut, PotentialDataLoss])
def test_incomplete_download_is_an_error_and_not_stored(
    mirror: MirrorBackend, upstream: Upstream, clock: Clock, tmp_path: Path, reason: type[Exception]
) -> None:
    opening: Any = mirror.open("k", None)
    response = upstream.answer(Response(200, b"1234567890"))
    clock.advance(0)
    reader = opening.result
    response.send(b"12345")
    read = reader.read(4, 4)
    response.end(reason)
    assert isinstance(failure_of(read), TransferError)
    assert reader.read(0, 5) == b"12345"
    with pytest.raises(TransferError):
        reader.read(5, 5)
    reader.close()
    assert list((tmp_path / "cache").iterdir()) == []
    mirror.open("k", None)
    assert len(upstream.requests) == 2


def test_shorter_download_than_announced_is_incomplete(mirror: MirrorBackend, upstream: Upstream, clock: Clock) -> None:
    opening: Any = mirror.open("k", None)
    response = upstream.answer(Response(200, b"1234567890"))
    clock.advance(0)
    read = opening.result.read(0, 10)
    response.send(b"12345")
    response.end()
    assert isinstance(failure_of(read), TransferError)


def test_a_server_that_stops_sending_is_left(mirror: MirrorBackend, upstream: Upstream, clock: Clock) -> None:
    opening: Any = mirror.open("k", None)
    response = upstream.answer(Response(200, b"1234567890"))
    clock.advance(0)
    clock.advance(9)
    response.send(b"1")
    read = opening.result.read(0, 10)
    clock.advance(9)
    assert not response.connection_lost
    clock.advance(1)
    assert response.connection_lost
    assert isinstance(failure_of(read), TransferError)
    response.end(ConnectionCut)
    opening.result.close()
    assert clock.getDelayedCalls() == []


def test_without_a_length_the_size_is_not_known(mirror: MirrorBackend, upstream: Upstream, clock: Clock) -> None:
    opening: Any = mirror.open("k", None)
    response = upstream.answer(Response(200))
    clock.advance(0)
    reader = opening.result
    assert reader.size is None
    response.send(b"123")
    read = reader.read(2, 8)
    assert not read.called
    response.end()
    assert read.result == b"3"
    assert reader.read(3, 8) == b""
    reader.close()


def test_a_full_disk_ends_the_download(
    mirror: MirrorBackend, upstream: Upstream, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening: Any = mirror.open("k", None)
    response = upstream.answer(Response(200, b"12345"))
    clock.advance(0)
    read = opening.result.read(0, 5)

    def raise_disk_full(*arguments: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", raise_disk_full)
    response.send(b"12345")
    assert response.connection_lost
    assert isinstance(failure_of(read), TransferError)


def test_closed_mirror_leaves_nothing_open(
    mirror: MirrorBackend, clock: Clock, store_file: Callable[..., None]
) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    store_file("a", b"1")
    store_file("b", b"2")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("path", "relative_path"),
    [
        ("a/b", "a/b"),
        ("/a//./b/", "a/b"),
        ("..\\..\\a", "a"),
        ("a/../../b", "b"),
        ("..", ""),
    ],
)
def test_paths_stay_below_the_url(path: str, relative_path: str) -> None:
    assert relative(path) == relative_path


def test_names_are_quoted(mirror: MirrorBackend, upstream: Upstream) -> None:
    mirror.open("a b?c#d%2e/\udcfc", None)
    assert upstream.requests[0][0] == "http://up.example/boot/a%20b%3Fc%23d%252e/%FC"


def test_the_root_is_no_file(mirror: MirrorBackend, upstream: Upstream) -> None:
    with pytest.raises(FileMissing):
        mirror.open("..", None)
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": "c"}, '"url" is missing'),
        ({"url": "ftp://a/", "cache": "c"}, 'url: must be a URL such as "http://mirror.example/boot/", not "ftp://a/"'),
        (
            {"url": "http://a/?b", "cache": "c"},
            'url: must be a URL such as "http://mirror.example/boot/", not "http://a/?b"',
        ),
        ({"url": "http://a/", "cache": ""}, "cache: must be the path of a directory"),
        ({"url": "http://a/", "cache": "c", "cache-megabytes": 0}, "cache-megabytes: must be more than 0, not 0"),
        ({"url": "http://a/", "cache": "c", "fresh-seconds": -1}, "fresh-seconds: must be 0 or more, not -1"),
        ({"url": "http://a/", "cache": "c", "timeout-seconds": "1"}, 'timeout-seconds: must be a number, not "1"'),
    ],
)
def test_invalid_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugin.configure(options, PluginContext(Clock(), Path("/etc/bootfw")))
    assert str(caught.value) == message


def test_options_are_configured() -> None:
    options = {"url": "http://a/", "cache": "c", "cache-megabytes": 1, "fresh-seconds": 0, "timeout-seconds": 2.5}
    mirror = plugin.configure(options, PluginContext(Clock(), Path("/etc/bootfw")))
    assert isinstance(mirror, MirrorBackend)
    assert (mirror.url, mirror.cache, mirror.cache_megabytes) == ("http://a/", Path("/etc/bootfw/c"), 1)
    assert (mirror.fresh_seconds, mirror.timeout_seconds) == (0, 2.5)
