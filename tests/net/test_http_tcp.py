"""Files by HTTP over real connections: BootService, its ports, and curl."""

import contextlib
import os
import socket
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from archives import make_tar
from turning import Alongside, TurnUntil
from twistd import free_port
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import CannotListenError

from bootfw.backends.archive.backend import ArchiveBackend
from bootfw.backends.directory import DirectoryBackend
from bootfw.config.settings import HTTPSettings
from bootfw.net.http.site import listen_http, open_stream_socket
from bootfw.observe.log import transfer_line
from bootfw.values import Outcome

from .webclient import Backend, Reader, request
from .webservice import Curl, Observer, RunClient, WebService, address_of

pytestmark = pytest.mark.usefixtures("failures")

ANY = ("127.0.0.1", 0)


@pytest.fixture
def start_service(web_service: WebService) -> Callable[..., Any]:
    """Starts a service with this backend and these listeners."""
    return lambda backend, *listen: web_service(backend, HTTPSettings(listen or (ANY,)))


def fetch(address: tuple[str, int], *targets: str) -> list[tuple[int, bytes]]:
    """Statuses and bodies of GETs on one connection."""
    connection = HTTPConnection(*address, timeout=30)
    with contextlib.closing(connection):
        found = []
        for target in targets:
            connection.request("GET", target)
            response = connection.getresponse()
            found.append((response.status, response.read()))
            assert connection.sock is not None
        return found


def test_ipv4_and_ipv6_listen_on_one_port(
    start_service: Callable[..., Any], alongside: Alongside, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"content")
    port = free_port(socket.SOCK_STREAM)
    service, observer = start_service(DirectoryBackend(tmp_path), ("0.0.0.0", port), ("::", port))
    rows = service.summary()
    assert [(row.service, row.address) for row in rows] == [("http", ("0.0.0.0", port)), ("http", ("::", port))]
    for host in ("127.0.0.1", "::1"):
        assert alongside(fetch, (host, port), "/a", "/b", "/a") == [
            (200, b"content"),
            (404, b"File not found\n"),
            (200, b"content"),
        ]
    peers = {report.request.peer[0] for report in observer.reports}
    assert peers == {"127.0.0.1", "::1"}
    assert {report.request.local for report in observer.reports} == peers
    assert {len(report.request.peer) for report in observer.reports} == {2, 4}


def test_range_of_a_file_is_sent(start_service: Callable[..., Any], alongside: Alongside, tmp_path: Path) -> None:
    """As for a member of an archive: the kernel sends it from where it begins."""
    path, data = tmp_path / "a.tar", bytes(range(256)) * 1000
    make_tar(path, {"first": b"x" * 3000, "second": data})
    service, _ = start_service(ArchiveBackend(path))
    assert alongside(fetch, address_of(service), "/second", "/first") == [(200, data), (200, b"x" * 3000)]


def test_service_can_be_started_again(
    start_service: Callable[..., Any], turn_until: TurnUntil, alongside: Alongside, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"content")
    service, observer = start_service(DirectoryBackend(tmp_path))
    with socket.create_connection(address_of(service)) as idle:
        idle.sendall(request(target="/a"))
        turn_until(lambda: observer.reports)
        assert idle.recv(10_000).endswith(b"content")
        stopped: list[None] = []
        service.stopService().addBoth(stopped.append)
        turn_until(lambda: stopped)
        assert idle.recv(1) == b""
    assert service.summary() == []
    service.startService()
    assert alongside(fetch, address_of(service), "/a") == [(200, b"content")]
    turn_until(lambda: observer.reports)
    assert observer.reports[-1].outcome is Outcome.COMPLETE


def _read_all(client: socket.socket) -> None:
    while client.recv(1_000_000):
        pass


def test_stop_during_a_download_disconnects_the_client(
    start_service: Callable[..., Any], turn_until: TurnUntil
) -> None:
    reader = Reader(bytes(50_000_000), size=50_000_000)
    service, observer = start_service(Backend(reader))
    with socket.create_connection(address_of(service)) as client:
        client.sendall(request())
        turn_until(lambda: reader.reads)
        stopped: list[None] = []
        service.stopService().addBoth(stopped.append)
        turn_until(lambda: stopped)
        with pytest.raises(ConnectionResetError):
            _read_all(client)
    assert reader.closed == 1
    assert [report.outcome for report in observer.reports] == [Outcome.CANCELLED]


@pytest.mark.parametrize("reset", [True, False])
def test_disconnect_ends_the_download(start_service: Callable[..., Any], turn_until: TurnUntil, reset: bool) -> None:
    reader = Reader(bytes(50_000_000), size=50_000_000)
    service, observer = start_service(Backend(reader))
    client = socket.create_connection(address_of(service))
    client.sendall(request())
    turn_until(lambda: reader.reads)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    turn_until(lambda: observer.reports)
    assert [report.outcome for report in observer.reports] == [Outcome.STOPPED_BY_PEER]
    assert reader.closed == 1


def test_disconnect_during_a_read_ends_the_download(start_service: Callable[..., Any], turn_until: TurnUntil) -> None:
    cancelled: list[Deferred[None]] = []
    reader = Reader(b"x", lambda data: Deferred(cancelled.append), 1)
    service, observer = start_service(Backend(reader))
    with socket.create_connection(address_of(service)) as client:
        client.sendall(request())
        turn_until(lambda: reader.reads)
    turn_until(lambda: observer.reports)
    assert len(cancelled) == reader.closed == 1


def test_slow_reader_gets_the_whole_file(
    start_service: Callable[..., Any], private_reactor: EPollReactor, alongside: Alongside
) -> None:
    def later(data: bytes) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        private_reactor.callLater(0.02, answer.callback, data)
        return answer

    data = os.urandom(500_000)
    service, _ = start_service(Backend(Reader(data, later, len(data))))
    assert alongside(fetch, address_of(service), "/file") == [(200, data)]


def test_hundred_clients_download_at_once(
    start_service: Callable[..., Any], turn_until: TurnUntil, tmp_path: Path
) -> None:
    data = os.urandom(300_000)
    (tmp_path / "a").write_bytes(data)
    service, observer = start_service(DirectoryBackend(tmp_path))
    clients = [socket.create_connection(address_of(service)) for _ in range(100)]
    for client in clients:
        client.sendall(request(target="/a", Connection="close"))
        client.setblocking(False)
    received = dict.fromkeys(clients, b"")

    def all_complete() -> bool:
        for client in list(received):
            with contextlib.suppress(BlockingIOError):
                received[client] += client.recv(1_000_000)
        return all(data_so_far.endswith(data) for data_so_far in received.values())

    turn_until(all_complete)
    for client in clients:
        client.close()
    turn_until(lambda: len(observer.reports) == 100)
    assert {report.outcome for report in observer.reports} == {Outcome.COMPLETE}


def test_occupied_port_is_an_error(start_service: Callable[..., Any]) -> None:
    with socket.create_server(ANY) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotListenError) as caught:
            start_service(Backend(), ANY, ("127.0.0.1", port))
    assert str(caught.value.socketError).startswith(
        f"[Errno {caught.value.socketError.errno}] Address already in use by "
    )
    assert f"(pid {os.getpid()})" in str(caught.value)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::77"])
def test_port_of_an_absent_address_is_opened(address: str) -> None:
    """The address may be added later; until then no other program gets its port."""
    with open_stream_socket(address, 0) as sock:
        assert sock.getsockname()[0] == address
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_address_of_a_missing_interface_is_an_error(private_reactor: EPollReactor) -> None:
    with pytest.raises(CannotListenError, match=r"no interface eth99; there are: .*lo"):
        listen_http(private_reactor, None, "fe80::1%eth99", 0)


# curl, which uses more of HTTP than other clients.


@pytest.fixture
def files(start_service: Callable[..., Any], tmp_path: Path) -> tuple[Path, str, Observer]:
    """A directory that is served, as (directory, URL, observer)."""
    root = tmp_path / "root"
    root.mkdir()
    service, observer = start_service(DirectoryBackend(root))
    return root, "http://{}:{}".format(*address_of(service)), observer


@pytest.mark.interop
@pytest.mark.parametrize("size", [0, 512, 1_000_000, 40_000_000])
def test_curl_fetches(files: tuple[Path, str, Observer], curl: Curl, tmp_path: Path, size: int) -> None:
    root, url, _ = files
    data = os.urandom(size)
    (root / "a b").write_bytes(data)
    assert curl("-f", "--compressed", "-o", tmp_path / "downloaded", f"{url}/a%20b") == (0, b"")
    assert (tmp_path / "downloaded").read_bytes() == data


@pytest.mark.interop
def test_curl_fetches_ranges(files: tuple[Path, str, Observer], curl: Curl, turn_until: TurnUntil) -> None:
    root, url, observer = files
    (root / "a").write_bytes(b"0123456789")
    for text, expected in (("2-4", b"234"), ("7-", b"789"), ("-2", b"89"), ("0-100", b"0123456789")):
        assert curl("-f", "-r", text, f"{url}/a") == (0, expected)
    assert curl("-f", "-r", "10-", f"{url}/a") == (22, b"")
    turn_until(lambda: len(observer.reports) == 4)
    assert [report.bytes_transferred for report in observer.reports] == [3, 3, 2, 10]


@pytest.mark.interop
def test_curl_resumes_an_interrupted_download(
    files: tuple[Path, str, Observer], curl: Curl, turn_until: TurnUntil, tmp_path: Path
) -> None:
    root, url, observer = files
    data = os.urandom(1_000_000)
    (root / "a").write_bytes(data)
    (tmp_path / "downloaded").write_bytes(data[:400_000])
    assert curl("-f", "-C", "-", "-o", tmp_path / "downloaded", f"{url}/a") == (0, b"")
    assert (tmp_path / "downloaded").read_bytes() == data
    turn_until(lambda: observer.reports)
    (report,) = observer.reports
    peer = "{}:{}".format(*report.request.peer)
    assert transfer_line(report).startswith(
        f"http {peer} got '/a': complete (bytes 400000-999999 of 1000000), 600000 bytes in "
    )


@pytest.mark.interop
def test_curl_requests_the_head(files: tuple[Path, str, Observer], curl: Curl, turn_until: TurnUntil) -> None:
    root, url, observer = files
    (root / "a.efi").write_bytes(b"0123456789")
    code, output = curl("-f", "-I", f"{url}/a.efi")
    lines = output.decode().splitlines()
    assert (code, lines[0]) == (0, "HTTP/1.1 200 OK")
    assert {"Content-Length: 10", "Content-Type: application/efi"} <= set(lines)
    turn_until(lambda: observer.reports)
    assert [report.outcome for report in observer.reports] == [Outcome.SIZE_PROBE]


@pytest.mark.interop
def test_curl_keeps_its_connection(files: tuple[Path, str, Observer], curl: Curl) -> None:
    root, url, _ = files
    (root / "a").write_bytes(b"first ")
    (root / "b").write_bytes(b"second")
    code, output = curl("-w", " %{num_connects}\n", f"{url}/a", f"{url}/missing", f"{url}/b")
    assert (code, output) == (0, b"first  1\nFile not found\n 0\nsecond 0\n")


@pytest.mark.interop
def test_curl_fetches_the_end_of_a_file_beyond_4_gib(files: tuple[Path, str, Observer], curl: Curl) -> None:
    root, url, _ = files
    with open(root / "disk.img", "wb") as file:
        file.seek(5 * 2**30)
        file.write(b"the end")
    _, output = curl("-f", "-I", f"{url}/disk.img")
    assert f"Content-Length: {5 * 2**30 + 7}\r\n".encode() in output
    assert curl("-f", "-r", f"{5 * 2**30 - 2}-", f"{url}/disk.img") == (0, b"\0\0the end")
    assert curl("-f", "-r", "-7", f"{url}/disk.img") == (0, b"the end")
    for part in (f"-{300_007}", f"{2**32 - 100_000}-{2**32 + 100_000}"):  # by sendfile
        code, output = curl("-f", "-r", part, f"{url}/disk.img")
        assert (code, output.removesuffix(b"the end")) == (0, bytes(300_000 if part[0] == "-" else 200_001))


@pytest.mark.interop
def test_curl_gets_no_complete_response_for_a_file_that_shrinks(
    start_service: Callable[..., Any], curl: Curl, turn_until: TurnUntil
) -> None:
    service, observer = start_service(Backend(Reader(bytes(100_000), size=200_000)))
    code, output = curl("http://{}:{}/file".format(*address_of(service)))
    assert code in (18, 56)  # partial file; connection reset
    assert len(output) < 200_000
    turn_until(lambda: observer.reports)
    assert [report.outcome for report in observer.reports] == [Outcome.FAILED]


def test_download_keeps_the_old_content_when_the_file_is_replaced(
    files: tuple[Path, str, Observer], curl: Curl, turn_until: TurnUntil
) -> None:
    root, url, _ = files
    old, new = os.urandom(20_000_000), b"new"
    (root / "a").write_bytes(old)
    (root / "b").write_bytes(new)
    host, _, port = url.removeprefix("http://").partition(":")
    received = bytearray()
    with socket.create_connection((host, int(port))) as client:
        client.setblocking(False)
        client.send(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

        def receive() -> bool:
            try:
                piece = client.recv(1 << 20)
            except BlockingIOError:
                return False
            received.extend(piece)
            return bool(piece)

        turn_until(receive)
        os.replace(root / "b", root / "a")
        turn_until(lambda: not receive() and len(received) > len(old))
    assert bytes(received).partition(b"\r\n\r\n")[2] == old
    assert curl(f"{url}/a") == (0, new)


@pytest.mark.interop
def test_curl_may_not_upload(files: tuple[Path, str, Observer], curl: Curl, tmp_path: Path) -> None:
    root, url, _ = files
    (tmp_path / "new").write_bytes(bytes(2_000_000))
    assert curl("-w", "%{http_code}", "-T", tmp_path / "new", f"{url}/new") == (0, b"Only GET and HEAD are served\n405")
    assert list(root.iterdir()) == []


# wget, which resumes downloads in its own way.


@pytest.mark.interop
def test_wget_downloads_and_resumes(
    files: tuple[Path, str, Observer], run_client: RunClient, turn_until: TurnUntil, tmp_path: Path
) -> None:
    root, url, observer = files
    data = os.urandom(1_000_000)
    (root / "a").write_bytes(data)
    downloaded = tmp_path / "downloaded"
    for partial in (b"", data[:400_000]):
        downloaded.write_bytes(partial)
        assert run_client("wget", "--quiet", "--continue", "--output-document", downloaded, f"{url}/a") == (0, b"")
        assert downloaded.read_bytes() == data
    turn_until(lambda: len(observer.reports) == 2)
    assert [report.bytes_transferred for report in observer.reports] == [1_000_000, 600_000]


@pytest.mark.interop
def test_wget_downloads_only_newer_files(
    files: tuple[Path, str, Observer], run_client: RunClient, turn_until: TurnUntil, tmp_path: Path
) -> None:
    root, url, observer = files
    (root / "a").write_bytes(b"content")
    os.utime(root / "a", (1_700_000_000, 1_700_000_000))
    for _ in range(2):
        assert run_client("wget", "--quiet", "-N", "--directory-prefix", tmp_path, f"{url}/a") == (0, b"")
    turn_until(lambda: len(observer.reports) == 2)
    assert [report.bytes_transferred for report in observer.reports] == [7, 0]
    assert (tmp_path / "a").stat().st_mtime == 1_700_000_000
