"""Files by HTTP: requests and responses, in simulated time."""

import errno
import struct
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from narrowing import of_type, present
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from bootfw.errors import AccessViolation, DiskFull, FileMissing, TransferError
from bootfw.events import InstallationReported, PluginFailed, SystemUp, TransferBegun, TransferRefused
from bootfw.net.http.download import CHUNK
from bootfw.observe.log import transfer_line
from bootfw.readers import MemoryReader
from bootfw.tftp.path import LONGEST_NAME
from bootfw.values import Agreed, Outcome, TransferRequest

from .webclient import Backend, Dated, Reader, Tagged, Web, Wire, parse, request

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
TAG = f'"{784111777250000:x}-3e8"'
THOUSAND = bytes(range(250)) * 4

pytestmark = pytest.mark.usefixtures("failures")


def test_file_is_sent_whole() -> None:
    reader = Dated(THOUSAND, size=1000)
    web = Web(reader)
    response = web.get(target="/boot/vmlinuz", Accept_Encoding="gzip, deflate")
    assert response.status == 200
    del response.headers["Date"]
    assert response.headers == {
        "Server": "bootfw",
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": TAG,
        "Last-Modified": DATE,
        "Content-Length": "1000",
    }
    assert response.body == THOUSAND
    assert reader.closed == 1


def test_observers_get_the_events_of_a_download() -> None:
    web = Web(Reader(THOUSAND, size=1000))
    web.get(target="/boot/vmlinuz?x=1")
    expected = TransferRequest("/boot/vmlinuz", "boot/vmlinuz", ("10.9.0.9", 4000), "10.9.0.1", protocol="http")
    assert web.backend.requests == [expected]
    assert web.event_names == ["TransferBegun", "TransferEnded"]
    begun = of_type(TransferBegun, web.events[0])
    assert (begun.request, begun.agreed) == (expected, Agreed())
    report = web.report
    assert (report.request, report.outcome) == (expected, Outcome.COMPLETE)
    assert (report.bytes_transferred, report.detail) == (1000, "")
    line = "http 10.9.0.9:4000 got '/boot/vmlinuz': complete, 1000 bytes in 0.00 s"
    assert transfer_line(report) == line


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/EFI/BOOTX64.EFI", "application/efi"),
        ("/a.efi?x=.iso", "application/efi"),
        ("/a.iso", "application/vnd.efi-iso"),
        ("/a.Img", "application/vnd.efi-img"),
        ("/boot.ipxe", "text/plain; charset=utf-8"),
        ("/grub.cfg", "text/plain; charset=utf-8"),
        ("/efi", "application/octet-stream"),
        ("/a.efi/b", "application/octet-stream"),
        ("/initrd.gz", "application/octet-stream"),
    ],
)
def test_content_type_is_one_that_firmware_accepts(target: str, kind: str) -> None:
    response = Web(Reader(b"x", size=1)).get(target=target)
    assert response.headers["Content-Type"] == kind
    assert "Content-Encoding" not in response.headers


def portable_executable(subsystem: int = 10, start: int = 64) -> bytes:
    """The headers of a portable executable; subsystem 10 is a UEFI application, 3 a program for Windows."""
    head = b"MZ".ljust(60, b"\0") + struct.pack("<I", start)
    head = head.ljust(start, b"\0") + b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 240, 0x22E)
    return head + struct.pack("<H66xH", 0x20B, subsystem) + bytes(4096)


def boot_sector(partition_type: int = 0, data: bytes = b"", offset: int = 0) -> bytes:
    """The first sector of a disk with one partition, with *data* at *offset*, and 64 KiB after it."""
    sector = bytearray(512)
    sector[450] = partition_type
    sector[offset : offset + len(data)] = data
    sector[510:512] = b"\x55\xaa"
    return bytes(sector) + bytes(65536)


CD = bytes(0x8001) + b"CD001\1" + bytes(2048)
HYBRID = boot_sector(0xEF)[:0x8001] + b"CD001\1" + bytes(2048)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
@pytest.mark.parametrize("answer", [bytes, succeed], ids=["at once", "later"])
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (portable_executable(), "application/efi"),
        (portable_executable(start=0x180), "application/efi"),
        (portable_executable()[:157], "application/octet-stream"),
        (portable_executable(subsystem=3), "application/octet-stream"),
        (b"MZ", "application/octet-stream"),
        (b"MZ" + b"\xff" * 100, "application/octet-stream"),
        (CD, "application/vnd.efi-iso"),
        (HYBRID, "application/vnd.efi-iso"),
        (boot_sector(0xEE), "application/vnd.efi-img"),
        (boot_sector(0xEF), "application/vnd.efi-img"),
        (boot_sector(0, b"FAT32", 82), "application/vnd.efi-img"),
        (boot_sector(0, b"FAT16", 54), "application/vnd.efi-img"),
        (boot_sector(0x83), "application/octet-stream"),
        (boot_sector(0xEF)[:510] + bytes(512), "application/octet-stream"),
        (boot_sector(0xEE)[:514] + b"HdrS" + bytes(4096), "application/octet-stream"),
        (THOUSAND, "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_type_of_an_unknown_name_is_found_by_content(
    data: bytes, kind: str, answer: type[bytes] | Callable[..., Any], sized: bool, method: str
) -> None:
    reader = Reader(data, answer, len(data) if sized else None)
    response = Web(reader).get(method, target="/grubnetx64.efi.signed")
    assert (response.status, response.headers["Content-Type"]) == (200, kind)
    assert response.body == (data if method == "GET" else b"")
    assert reader.closed == 1


def test_only_the_first_bytes_are_read_for_the_type_and_only_once_for_each_version_of_a_file() -> None:
    readers = [Tagged(CD, size=len(CD), etag=etag) for etag in ("one", "one", "two")]
    web: Web = Web(lambda: readers[len(web.backend.requests) - 1])
    kinds = [web.get("HEAD", target="/disc").headers["Content-Type"] for _ in readers]
    assert kinds == ["application/vnd.efi-iso"] * 3
    assert [reader.reads for reader in readers] == [[(0, 0x8006)], [], [(0, 0x8006)]]


def test_the_type_of_a_file_without_a_tag_is_not_remembered() -> None:
    readers = [Reader(data, size=len(data)) for data in (CD, portable_executable())]
    web: Web = Web(lambda: readers[len(web.backend.requests) - 1])
    kinds = [web.get("HEAD", target="/file").headers["Content-Type"] for _ in readers]
    assert kinds == ["application/vnd.efi-iso", "application/efi"]


@pytest.mark.parametrize("answer", [lambda data: fail(OSError(errno.EIO, "no")), lambda data: None])
def test_a_file_whose_first_bytes_can_t_be_read_has_no_type(answer: Callable[..., Any]) -> None:
    readers = [Tagged(CD, answer, len(CD)), Tagged(CD, size=len(CD))]
    web: Web = Web(lambda: readers[len(web.backend.requests) - 1])
    response = web.get("HEAD", target="/disc")
    assert (response.status, response.headers["Content-Type"]) == (200, "application/octet-stream")
    assert web.get("HEAD", target="/disc").headers["Content-Type"] == "application/vnd.efi-iso"


def test_cache_of_content_types_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootfw.net.http.mediatype.REMEMBERED", 2)
    readers: list[Tagged] = []
    web = Web(lambda: readers[-1])
    for name in ("a", "b", "c", "c", "a"):
        readers.append(Tagged(CD, size=len(CD)))
        assert web.get("HEAD", target=f"/{name}").headers["Content-Type"] == "application/vnd.efi-iso"
    assert [len(reader.reads) for reader in readers] == [1, 1, 1, 0, 1]


def test_type_of_a_known_name_needs_no_content() -> None:
    reader = Reader(CD, size=len(CD))
    assert Web(reader).get("HEAD", target="/a.efi").headers["Content-Type"] == "application/efi"
    assert reader.reads == []


def test_disconnect_during_type_detection_closes_the_file() -> None:
    cancelled: list[Deferred[None]] = []
    reader = Reader(THOUSAND, lambda data: Deferred(cancelled.append), 1000)
    web = Web(reader)
    wire = web.send(target="/kernel")
    wire.abortConnection()
    assert is_closed(web, wire)
    assert (len(cancelled), reader.closed, web.events) == (1, 1, [])


def test_timeout_of_type_detection_is_answered_with_an_error() -> None:
    web = Web(Reader(THOUSAND, lambda data: Deferred(), 1000))
    wire = web.send(target="/kernel")
    web.clock.advance(60)
    assert parse(wire.value())[0].status == 503


def test_head_has_the_headers_of_get_and_does_not_read_the_file() -> None:
    reader, other = Dated(THOUSAND, size=1000), Dated(THOUSAND, size=1000)
    web = Web(reader)
    head, get = web.get("HEAD", Range="bytes=1-2"), Web(other).get()
    for response in (head, get):
        del response.headers["Date"]
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")
    assert (reader.reads, reader.closed) == ([], 1)
    assert (web.report.outcome, web.report.bytes_transferred) == (Outcome.SIZE_PROBE, 0)


def test_a_file_without_a_size_is_sent_in_chunks() -> None:
    data = THOUSAND * 200
    web = Web(Reader(data))
    response = web.get(Range="bytes=1-2")
    assert response.body == data
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in response.headers
    assert "Accept-Ranges" not in response.headers
    assert (web.report.outcome, web.report.bytes_transferred) == (Outcome.COMPLETE, len(data))


def test_a_file_without_a_size_ends_with_the_connection_for_an_old_client() -> None:
    web = Web(Reader(THOUSAND))
    wire = web.send(version="1.0")
    assert parse(wire.value())[0].body == THOUSAND
    web.clock.advance(0)
    assert wire.gone
    assert not wire.aborted


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
@pytest.mark.parametrize("sized", [True, False])
def test_file_sizes_around_a_chunk_are_sent_completely(size: int, sized: bool) -> None:
    reader = Reader(bytes(size), size=size if sized else None)
    assert len(Web(reader).get().body) == size
    assert reader.closed == 1
    assert all(length <= CHUNK for _, length in reader.reads)
    assert len(reader.reads) == (-(-size // CHUNK) if sized else size // CHUNK + 1)


async def _coroutine(data: Reader | bytes) -> Reader | bytes:
    return await succeed(data)


@pytest.mark.parametrize("opens", [lambda reader: reader, succeed, _coroutine])
@pytest.mark.parametrize("answer", [succeed, _coroutine, memoryview, bytearray])
def test_backend_may_return_a_reader_deferred_or_coroutine(
    opens: Callable[..., Any], answer: type[memoryview] | type[bytearray] | Callable[..., Any]
) -> None:
    data = THOUSAND * 1000
    reader = Reader(data, answer, len(data))
    assert Web(lambda: opens(reader)).get().body == data
    assert reader.closed == 1


def test_a_slow_backend_delays_no_other_client() -> None:
    opening: Deferred[Reader] = Deferred()
    reading: Deferred[bytes] = Deferred()
    reader = Reader(THOUSAND, lambda data: reading, 1000)
    web = Web(Backend(lambda: opening))
    wire = web.send()
    web.backend.answer = MemoryReader(b"other")
    assert web.get().body == b"other"
    assert wire.value() == b""
    opening.callback(reader)
    assert wire.value() == b""
    assert reader.reads == [(0, 1000)]
    reading.callback(THOUSAND)
    assert parse(wire.value())[0].body == THOUSAND


# Ranges and preconditions; all their cases are in tests/wire/test_http_ranges.py.


@pytest.mark.parametrize(
    ("text", "first", "last"), [("0-0", 0, 0), ("100-199", 100, 199), ("990-", 990, 999), ("-10", 990, 999)]
)
def test_range_is_answered_with_206(text: str, first: int, last: int) -> None:
    reader = Dated(THOUSAND, size=1000)
    web = Web(reader)
    response = web.get(Range=f"bytes={text}")
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/1000"
    assert response.body == THOUSAND[first : last + 1]
    assert reader.reads == [(first, last - first + 1)]
    assert web.report.detail == f"bytes {first}-{last} of 1000"
    assert web.report.bytes_transferred == last - first + 1


def test_range_beyond_the_end_is_answered_with_416() -> None:
    reader = Dated(THOUSAND, size=1000)
    web = Web(reader)
    response = web.get(Range="bytes=1000-")
    assert (response.status, response.headers["Content-Range"]) == (416, "bytes */1000")
    assert (reader.reads, reader.closed) == ([], 1)
    assert web.event_names == ["TransferRefused"]
    refused = of_type(TransferRefused, web.events[0])
    assert (refused.code, refused.message) == (416, "The file has 1000 bytes")


@pytest.mark.parametrize("condition", [{"If_Match": TAG}, {"If_Unmodified_Since": DATE}, {"If_Range": TAG}])
def test_edk2_resumes_a_download(condition: dict[str, str]) -> None:
    web = Web(lambda: Dated(THOUSAND, size=1000))
    assert web.get("HEAD").headers["ETag"] == TAG
    response = web.get(Range="bytes=600-999", **condition)
    assert (response.status, response.headers["Content-Range"]) == (206, "bytes 600-999/1000")
    assert response.body == THOUSAND[600:]


def test_edk2_does_not_resume_another_file() -> None:
    web = Web(lambda: Dated(THOUSAND, size=1000))
    tag = web.get("HEAD").headers["ETag"]
    readers: list[Dated] = []

    def another() -> Dated:
        readers.append(Dated(THOUSAND, size=1000, modified=784111779.0))
        return readers[-1]

    web.backend.answer = another
    for condition in ({"If_Match": tag}, {"If_Unmodified_Since": DATE}):
        assert web.get(Range="bytes=600-999", **condition).status == 412
    assert web.get(Range="bytes=600-999", If_Range=tag).body == THOUSAND
    assert [reader.closed for reader in readers] == [1, 1, 1]
    assert [event.code for event in web.events if hasattr(event, "code")] == [412, 412]


def test_not_modified_file_is_answered_with_304() -> None:
    reader = Dated(THOUSAND, size=1000)
    web = Web(reader)
    response = web.get(If_None_Match=TAG)
    assert (response.status, response.body, reader.reads, reader.closed) == (304, b"", [], 1)
    assert (web.report.outcome, web.report.detail) == (Outcome.COMPLETE, "not modified")


def test_repeated_headers_are_joined() -> None:
    wire = Web(Dated(THOUSAND, size=1000)).connect()
    wire.protocol.dataReceived(
        b'GET /file HTTP/1.1\r\nHost: x\r\nIf-Match: "x"\r\nIf-Match: ' + TAG.encode() + b"\r\n\r\n"
    )
    assert parse(wire.value())[0].status == 200


def test_the_etag_of_a_reader_is_sent() -> None:
    assert Web(Tagged(b"x", size=1)).get().headers["ETag"] == '"one"'
    assert Web(Tagged(b"x")).get().headers["ETag"] == '"one"'


def test_etag_of_a_file_in_memory_depends_on_its_content() -> None:
    tags = [Web(MemoryReader(data)).get().headers["ETag"] for data in (b"a", b"a", b"b")]
    assert tags[0] == tags[1] != tags[2]


@pytest.mark.parametrize("modified", [-1.0, 1e15])
def test_mtime_out_of_range_has_no_last_modified_header(modified: float) -> None:
    response = Web(Dated(b"x", size=1, modified=modified)).get()
    assert response.status == 200
    assert "Last-Modified" not in response.headers
    assert "ETag" in response.headers


# Names.


@pytest.mark.parametrize(
    ("target", "filename", "path"),
    [
        ("/", "/", ""),
        ("//boot///a", "//boot///a", "boot/a"),
        ("/a%20b%2Fc", "/a b/c", "a b/c"),
        ("/%C3%A9", "/\xe9", "\xe9"),
        ("/%ff", "/\udcff", "\udcff"),
        ("/%255c", "/%5c", "%5c"),
        (r"/EFI\BOOT\a", r"/EFI\BOOT\a", "EFI/BOOT/a"),
        ("/../../etc/passwd", "/../../etc/passwd", "../../etc/passwd"),
        ("/%2e%2e/etc", "/../etc", "../etc"),
        ("/a?b=/c", "/a", "a"),
        ("http://10.9.0.1:8069/a/b", "/a/b", "a/b"),
        ("HTTP://[fd00::1]", "/", ""),
        ("/mirror/http://a/b", "/mirror/http://a/b", "mirror/http:/a/b"),
        # Requests of boot programs that do not encode the name.
        ("/My Boot Files/vmlinuz 6.1", "/My Boot Files/vmlinuz 6.1", "My Boot Files/vmlinuz 6.1"),
        ("/\xe9", "/\xe9", "\xe9"),
        ("/\udce9", "/\udce9", "\udce9"),
        ("/100%.img", "/100%.img", "100%.img"),
        ("/a%zz", "/a%zz", "a%zz"),
        ("/a#b", "/a#b", "a#b"),
        (" /a  ", "/a", "a"),
        ("boot/a", "/boot/a", "boot/a"),
        ("http://10.9.0.1/a b?c d", "/a b", "a b"),
    ],
)
def test_names_in_urls_are_decoded(target: str, filename: str, path: str) -> None:
    web = Web(FileMissing())
    assert web.get(target=target).status == 404
    assert (web.backend.requests[0].filename, web.backend.requests[0].path) == (filename, path)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "target",
    [
        "/a/",
        "/a//",
        "/a/.",
        "/a/./",
        "/a/..",
        "/a%2f",
        "/a/%2e",
        "/a%5c",
        "/a\\",
        "/a/?x",
        "//a/",
        "http://h/a/",
        "/..",
    ],
)
def test_path_below_a_file_is_not_found(target: str, method: str) -> None:
    web = Web(MemoryReader(b"x"))
    assert web.get(method, target=target).status == 404
    assert web.backend.requests == []
    assert web.event_names == ["TransferRefused"]


def test_lines_may_end_with_a_bare_lf() -> None:
    web = Web(lambda: Reader(THOUSAND, size=1000))
    wire = web.connect()
    for _ in range(2):
        wire.clear()
        wire.protocol.dataReceived(request(Range="bytes=1-2").replace(b"\r\n", b"\n"))
        response, rest = parse(wire.value())
        assert (response.status, response.body, rest) == (206, THOUSAND[1:3], b"")


def test_a_request_is_read_the_same_however_it_is_cut_into_segments() -> None:
    web = Web(lambda: Reader(THOUSAND, size=1000))
    wire = web.connect()
    for byte in request(target="/a b", Range="bytes=1-2") + request(target="/\xe9"):
        wire.protocol.dataReceived(bytes([byte]))
    assert [each.filename for each in web.backend.requests] == ["/a b", "/\xe9"]
    first, rest = parse(wire.value())
    second, rest = parse(rest)
    assert (first.status, second.status, rest) == (206, 200, b"")


@pytest.mark.parametrize(
    "line", [b"GET /a", b"GET", b"GET  HTTP/1.1", b"GET /a HTTP/2.0", b"GET /a HTTP/1.1 x", b"GET /a\tb HTTP/1.1", b" "]
)
def test_malformed_request_line_is_answered_with_400(line: bytes) -> None:
    web = Web(MemoryReader(b"x"))
    wire = web.connect()
    wire.protocol.dataReceived(line + b"\r\nHost: a\r\n\r\n")
    assert wire.value().startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert wire.disconnecting
    assert web.backend.requests == []


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"GET /" + b"a" * 20000, b"414"), (b"GET /a HTTP/1.1\r\nX: " + b"a" * 20000, b"400")],
)
def test_overlong_line_is_refused(sent: bytes, status: bytes) -> None:
    web = Web(MemoryReader(b"x"))
    wire = web.connect()
    wire.protocol.dataReceived(sent)
    assert wire.value().startswith(b"HTTP/1.1 " + status)
    assert is_closed(web, wire)


def test_name_with_a_nul_is_not_found() -> None:
    web = Web(MemoryReader(b"x"))
    assert web.get(target="/a%00b").status == 404
    assert web.backend.requests == []
    assert web.event_names == ["TransferRefused"]


# Refusals.


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (FileMissing(), 404, "File not found"),
        (AccessViolation(), 403, "Access violation"),
        (AccessViolation("Not for you"), 403, "Not for you"),
        (DiskFull(), 500, "Disk full or allocation exceeded"),
        (TransferError("Upstream is d\udc80wn"), 500, "Upstream is d?wn"),
        (OSError(errno.ENOENT, "no", "/secret"), 404, "File not found"),
        (OSError(errno.EACCES, "no", "/secret"), 403, "Access violation"),
        (OSError(errno.EIO, "no", "/secret"), 500, "Input/output error"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_failed_open_is_answered_with_an_error_status(error: Exception, status: int, text: str, method: str) -> None:
    late: Deferred[Reader] = Deferred()
    for web in (Web(error), Web(lambda: late)):
        wire = web.send(method)
        if not wire.value():
            late.errback(error)
        response, rest = parse(wire.value(), head=method == "HEAD")
        assert (response.status, rest) == (status, b"")
        assert response.headers["Content-Length"] == str(len(text) + 1)
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.body == (b"" if method == "HEAD" else f"{text}\n".encode())
        assert web.event_names == ["TransferRefused"]
        refused = of_type(TransferRefused, web.events[0])
        assert (refused.code, refused.request.protocol) == (status, "http")
        assert not wire.disconnecting


class _Unsized:
    """A reader whose size raises."""

    closed = 0

    @property
    def size(self) -> None:
        raise ZeroDivisionError("/secret")

    def close(self) -> None:
        self.closed += 1


def test_details_for_the_operator_are_not_sent_to_the_client() -> None:
    web = Web(TransferError("It could not be made", "boot.j2:3: /secret"))
    response = web.get()
    assert (response.status, response.body) == (500, b"It could not be made\n")
    assert web.event_names == ["TransferRefused"]
    assert of_type(TransferRefused, web.events[0]).detail == "boot.j2:3: /secret"


@pytest.mark.parametrize(
    "answer", [ZeroDivisionError("/secret"), "no reader", _Unsized(), Dated(b"/secret", size=7, modified="today")]
)
def test_a_bug_of_a_backend_is_reported_in_the_log_only(answer: ZeroDivisionError | str | _Unsized | Dated) -> None:
    web = Web(answer)
    response = web.get()
    assert (response.status, response.body) == (500, b"Internal error\n")
    assert (web.event_names[0], web.event_names[-1]) == ("PluginFailed", "TransferRefused")
    failed = of_type(PluginFailed, web.events[0])
    assert failed.doing == "open '/file.img'"
    assert "Error" in failed.traceback
    assert getattr(answer, "closed", 1) == 1


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_answered_with_405(method: str) -> None:
    web = Web(MemoryReader(b"x"))
    response = web.get(method, body=b"a=1", Content_Length=3, Content_Type="application/x-www-form-urlencoded")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    assert web.backend.requests == []
    refused = [of_type(TransferRefused, event) for event in web.events]
    assert [(event.code, event.request.write) for event in refused] == [(405, method in ("PUT", "POST"))]


def test_an_overlong_name_is_refused_and_is_truncated_in_the_event() -> None:
    web = Web(MemoryReader(b"x"))
    assert web.get(target="/" + "a" * (LONGEST_NAME - 1)).status == 200
    response = web.get(target="/" + "a" * LONGEST_NAME)
    assert (response.status, response.body) == (414, b"A name has 4095 characters at most\n")
    assert len(web.backend.requests) == 1
    refused = of_type(TransferRefused, web.events[-1])
    assert (refused.code, len(refused.request.filename)) == (414, LONGEST_NAME)


def test_request_body_is_discarded() -> None:
    web = Web(MemoryReader(b"x"))
    wire = web.send("PUT", Content_Length=1000 * CHUNK)
    (put,) = wire.protocol.requests
    for _ in range(999):
        wire.protocol.dataReceived(bytes(CHUNK))
        assert (wire.value(), put.content.getvalue()) == (b"", b"")
    wire.protocol.dataReceived(bytes(CHUNK))
    assert parse(wire.value())[0].status == 405


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 50 + b"\r\n", b"A" * 20000])
def test_malformed_request_is_answered_once_and_the_connection_closed(sent: bytes) -> None:
    web = Web(MemoryReader(b"x"))
    wire = web.connect()
    wire.protocol.dataReceived(sent)
    web.clock.advance(61)
    assert wire.value()[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 414")
    assert wire.gone
    assert web.events == []


# Several requests on one connection.


def test_two_requests_on_one_connection() -> None:
    web = Web(lambda: MemoryReader(THOUSAND))
    wire = web.send()
    first, rest = parse(wire.value())
    wire.clear()
    web.clock.advance(59)
    wire.protocol.dataReceived(request(Range="bytes=5-6", Connection="close"))
    second, more = parse(wire.value())
    assert (first.body, rest, second.body, more) == (THOUSAND, b"", THOUSAND[5:7], b"")
    web.clock.advance(0)
    assert wire.gone
    assert not wire.aborted


def test_requests_that_come_at_once_are_answered_in_order() -> None:
    answers: list[Deferred[MemoryReader]] = [Deferred(), Deferred()]
    web: Web = Web(Backend(lambda: answers[len(web.backend.requests) - 1]))
    wire = web.connect()
    wire.protocol.dataReceived(request(target="/a") + request(target="/b"))
    assert [each.filename for each in web.backend.requests] == ["/a"]
    answers[0].callback(MemoryReader(b"first"))
    answers[1].errback(FileMissing())
    first, rest = parse(wire.value())
    second, rest = parse(rest)
    assert (first.body, second.status, rest) == (b"first", 404, b"")


def test_a_burst_of_requests_on_one_connection() -> None:
    web = Web(lambda: MemoryReader(b"x"))
    wire = web.connect()
    wire.protocol.dataReceived(request() * 500)
    rest = wire.value()
    for _ in range(500):
        response, rest = parse(rest)
        assert response.body == b"x"
    assert rest == b""


# Flow control.


def test_reading_pauses_while_the_transport_is_full() -> None:
    data = THOUSAND * 1000
    reader = Reader(data, size=len(data))
    web = Web(reader)
    wire = web.connect()
    wire.takes_all = False
    wire.protocol.dataReceived(request())
    unread = []
    while not reader.closed:
        assert wire.unread <= 3 * CHUNK
        unread.append(wire.unread)
        wire.take()
    assert len(unread) >= len(data) // (2 * CHUNK)
    assert parse(wire.value())[0].body == data
    assert web.report.outcome is Outcome.COMPLETE


def test_immediate_answers_do_not_recurse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootfw.net.http.download.CHUNK", 1)
    data = THOUSAND * 5
    assert Web(Reader(data, succeed, len(data))).get().body == data


def _answer_later(answers: list[tuple[Deferred[bytes], bytes]]) -> Callable[[bytes], Deferred[bytes]]:
    """Answers each read with a Deferred, and appends it to *answers* with the data to fire it with."""

    def answer(data: bytes) -> Deferred[bytes]:
        answers.append((Deferred(), data))
        return answers[-1][0]

    return answer


def test_no_read_begins_while_the_transport_is_full() -> None:
    answers: list[tuple[Deferred[bytes], bytes]] = []
    reader = Reader(bytes(10 * CHUNK), _answer_later(answers), 10 * CHUNK)
    wire = Web(reader).send()
    answers[0][0].callback(answers[0][1])
    wire.takes_all = False
    present(wire.producer).pauseProducing()
    answers[1][0].callback(answers[1][1])
    assert len(reader.reads) == 2
    wire.take()
    assert len(reader.reads) == 3
    wire.take()
    assert len(reader.reads) == 3, "one read at a time"


@given(
    st.integers(0, 3 * CHUNK),
    st.integers(0, 3 * CHUNK),
    st.integers(0, 3 * CHUNK),
    st.sampled_from([bytes, succeed, _coroutine]),
    st.booleans(),
)
def test_the_received_bytes_are_those_of_the_file(
    size: int, first: int, last: int, answer: type[bytes] | Callable[..., Any], takes_all: bool
) -> None:
    data = (THOUSAND * 200)[:size]
    reader = Reader(data, answer, size)
    web = Web(reader)
    wire = web.connect()
    wire.takes_all = takes_all
    wire.protocol.dataReceived(request(Range=f"bytes={first}-{last}"))
    while not reader.closed:
        wire.take()
    response, rest = parse(wire.value())
    assert rest == b""
    if last < first:
        assert (response.status, response.body) == (200, data)
    elif first >= size:
        assert response.status == 416
    else:
        assert (response.status, response.body) == (206, data[first : last + 1])
    assert reader.closed == 1
    assert len(web.site.files._context.downloads) == 0


# Downloads that end early.


def is_closed(web: Web, wire: Wire) -> bool:
    """Whether the connection is closed; no timer may be left."""
    web.clock.advance(0)
    assert wire.gone
    assert web.clock.getDelayedCalls() == []
    return True


def test_disconnect_ends_the_download() -> None:
    reader = Reader(bytes(10 * CHUNK), size=10 * CHUNK)
    web = Web(reader)
    wire = web.connect()
    wire.takes_all = False
    wire.protocol.dataReceived(request())
    wire.abortConnection()
    assert is_closed(web, wire)
    assert reader.closed == 1
    assert web.report.outcome is Outcome.STOPPED_BY_PEER
    assert 0 < web.report.bytes_transferred < 10 * CHUNK


def test_disconnect_during_a_read_ends_the_download() -> None:
    cancelled: list[Deferred[None]] = []
    reader = Reader(THOUSAND, lambda data: Deferred(cancelled.append), 1000)
    web = Web(reader)
    wire = web.send()
    wire.abortConnection()
    assert is_closed(web, wire)
    assert (len(cancelled), reader.closed) == (1, 1)
    assert web.report.outcome is Outcome.STOPPED_BY_PEER


def test_disconnect_during_the_open_closes_the_file() -> None:
    opening: Deferred[Reader] = Deferred(lambda deferred: None)
    reader = Reader(THOUSAND, size=1000)
    web = Web(lambda: opening.addErrback(lambda failure: reader))  # a backend that answers all the same
    wire = web.send()
    wire.abortConnection()
    assert is_closed(web, wire)
    assert (reader.reads, reader.closed) == ([], 1)
    assert web.events == []


@pytest.mark.parametrize("later", [False, True])
def test_a_file_that_has_become_shorter_is_never_passed_off_as_whole(later: bool) -> None:
    reader = Reader(THOUSAND * 100, succeed if later else bytes, 200_000)
    web = Web(reader)
    wire = web.send()
    assert wire.aborted
    assert len(parse(wire.value())[0].body) < 200_000
    assert is_closed(web, wire)
    assert reader.closed == 1
    assert web.report.outcome is Outcome.FAILED
    assert web.report.detail == "the file ended at byte 100000, before its size"
    assert reader.reads == [(0, CHUNK), (CHUNK, CHUNK)]


def _fails(error: OSError | TransferError | ZeroDivisionError) -> Callable[[bytes], None]:
    def answer(data: bytes) -> None:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "detail", "bug"),
    [
        (_fails(OSError(errno.EIO, "no")), "Input/output error", False),
        (_fails(TransferError("Upstream is down")), "Upstream is down", False),
        (_fails(ZeroDivisionError()), "Internal error", True),
        (
            lambda data: "text",
            f"Internal error: read() of {Reader.__module__}.Reader returned str instead of bytes",
            False,
        ),
        (lambda data: data + b"x", f"Internal error: read() of {Reader.__module__}.Reader returned", False),
        (lambda data: succeed(None), f"Internal error: read() of {Reader.__module__}.Reader returned NoneType", False),
    ],
)
@pytest.mark.parametrize("size", [1000, None])
def test_failing_reader_ends_the_download(answer: Callable[..., Any], detail: str, bug: bool, size: int | None) -> None:
    reader = Reader(bytes(CHUNK), answer, size)
    web = Web(reader)
    wire = web.send()
    assert wire.aborted, "an ordinary end would pass for the end of the file"
    assert is_closed(web, wire)
    assert reader.closed == 1
    assert web.report.outcome is Outcome.FAILED
    assert web.report.detail.startswith(detail)
    assert ("PluginFailed" in web.event_names) == bug


def test_failing_close_is_reported() -> None:
    class Stuck(Reader):
        def close(self) -> None:
            raise ZeroDivisionError

    web = Web(Stuck(THOUSAND, size=1000))
    assert web.get().body == THOUSAND
    assert web.event_names == ["TransferBegun", "PluginFailed", "TransferEnded"]


def test_failing_canceller_is_reported() -> None:
    def cancel(deferred: Deferred[Any]) -> None:
        raise ZeroDivisionError

    web = Web(Reader(THOUSAND, lambda data: Deferred(cancel), 1000))
    wire = web.send()
    wire.abortConnection()
    assert is_closed(web, wire)
    assert web.event_names == ["TransferBegun", "PluginFailed", "TransferEnded"]


# Time.


def test_client_that_does_not_read_is_disconnected() -> None:
    reader = Reader(bytes(10 * CHUNK), size=10 * CHUNK)
    web = Web(reader)
    wire = web.connect()
    wire.takes_all = False
    wire.protocol.dataReceived(request())
    for _ in range(3):
        web.clock.advance(59)
        wire.take()
    web.clock.advance(59)
    assert not wire.aborted
    web.clock.advance(1)
    assert wire.aborted
    assert is_closed(web, wire)
    assert reader.closed == 1
    assert (web.report.outcome, web.report.detail) == (Outcome.TIMED_OUT, "the client took nothing for 60 s")


def test_read_timeout_ends_the_download() -> None:
    reader = Reader(THOUSAND, lambda data: Deferred(), 1000)
    web = Web(reader)
    wire = web.send()
    web.clock.advance(60)
    assert wire.aborted
    assert is_closed(web, wire)
    assert reader.closed == 1
    assert (web.report.outcome, web.report.detail) == (Outcome.FAILED, "the backend had not answered after 60 s")


def test_slow_backend_is_not_timed_out() -> None:
    answers: list[tuple[Deferred[bytes], bytes]] = []
    reader = Reader(bytes(3 * CHUNK), _answer_later(answers), 3 * CHUNK)
    web = Web(reader)
    wire = web.send()
    for number in range(3):
        web.clock.advance(59)
        answers[number][0].callback(answers[number][1])
    assert len(parse(wire.value())[0].body) == 3 * CHUNK


def test_open_timeout_is_answered_with_an_error() -> None:
    web = Web(Backend(lambda: Deferred()))
    wire = web.send()
    web.clock.advance(60)
    assert parse(wire.value())[0].status == 503
    assert [of_type(TransferRefused, event).code for event in web.events] == [503]


@pytest.mark.parametrize("answered", [False, True])
def test_an_idle_connection_is_closed(answered: bool) -> None:
    web = Web(lambda: MemoryReader(b"x"))
    wire = web.send() if answered else web.connect()
    web.clock.advance(59)
    assert not wire.disconnecting
    web.clock.advance(1)
    assert is_closed(web, wire)
    assert not wire.aborted


def test_request_sent_byte_by_byte_times_out() -> None:
    web = Web(lambda: MemoryReader(b"x"))
    wire = web.connect()
    for letter in request(Cookie="x" * 100):
        wire.protocol.dataReceived(bytes([letter]))
        web.clock.advance(1)
        web.clock.advance(0)
        if wire.gone:
            break
    assert web.clock.seconds() == 60
    assert is_closed(web, wire)


@pytest.mark.parametrize(("headers", "seconds"), [({}, 61), ({"Connection": "close"}, 60)])
def test_client_that_does_not_read_the_end_is_disconnected(headers: dict[str, Any], seconds: int) -> None:
    web = Web(lambda: MemoryReader(THOUSAND))
    wire = web.connect()
    wire.takes_all = False
    wire.protocol.dataReceived(request(**headers))
    for _ in range(seconds):
        assert not wire.aborted
        web.clock.advance(1)
    assert wire.aborted
    assert is_closed(web, wire)


# Stopping.


def test_close_ends_downloads_and_idle_connections() -> None:
    reader = Reader(bytes(10 * CHUNK), size=10 * CHUNK)
    web = Web(Backend(lambda: reader))
    busy = web.connect()
    busy.takes_all = False
    busy.protocol.dataReceived(request())
    web.backend.answer = Deferred
    opening = web.send()
    web.backend.answer = MemoryReader(b"x")
    idle, incomplete = web.send(), web.connect()
    incomplete.protocol.dataReceived(b"GET /file HTT")
    closed = web.site.close()
    assert web.site.close() is closed
    assert not closed.called
    web.clock.advance(0)
    assert closed.called
    for wire in (busy, opening, idle, incomplete):
        assert is_closed(web, wire)
    assert (busy.aborted, opening.aborted, idle.aborted, incomplete.aborted) == (True, True, False, False)
    assert reader.closed == 1
    reports = [event.report for event in web.events if hasattr(event, "report")]
    assert [(report.outcome, report.detail) for report in reports] == [
        (Outcome.COMPLETE, ""),
        (Outcome.CANCELLED, "the server is stopping"),
    ]


def test_close_does_not_wait_for_a_client_that_takes_nothing() -> None:
    web = Web(lambda: MemoryReader(THOUSAND))
    wire = web.connect()
    wire.takes_all = False
    wire.protocol.dataReceived(request())
    closed = web.site.close()
    web.clock.advance(0.9)
    assert not closed.called
    web.clock.advance(0.1)
    assert is_closed(web, wire)
    assert closed.called


def test_close_without_connections() -> None:
    web = Web(FileMissing())
    assert web.site.close().called
    assert web.clock.getDelayedCalls() == []


# The log, and reports of installers and systems.


def test_twisted_writes_nothing_to_the_log() -> None:
    web = Web(lambda: MemoryReader(b"x"))
    log_events: list[LogEvent] = []
    observer = cast(ILogObserver, log_events.append)
    globalLogPublisher.addObserver(observer)
    try:
        web.site.doStart()  # type: ignore[no-untyped-call]
        web.get()
        web.get("HEAD")
        web.get("PUT")
        web.connect()
        web.clock.advance(60)
        web.clock.advance(1)
        web.site.doStop()  # type: ignore[no-untyped-call]
    finally:
        globalLogPublisher.removeObserver(observer)
    assert log_events == []
    assert web.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("method", "query", "mac"), [("GET", "", ""), ("POST", "?mac=52-54-00-12-34-56", "52:54:00:12:34:56")]
)
def test_phone_home_url_publishes_system_up(method: str, query: str, mac: str) -> None:
    web = Web(Reader(THOUSAND, size=1000))
    response = web.get(method, f"/bootfw/up{query}", Content_Length="0")
    assert (response.status, response.body) == (204, b"")
    assert web.events == [SystemUp(0.0, ("10.9.0.9", 4000), mac, "http")]


@pytest.mark.parametrize(
    ("target", "mac", "what", "failed"),
    [
        ("installing?what=40%20%25%20of%202%20MB&mac=52-54-00-12-34-56", "52:54:00:12:34:56", "40 % of 2 MB", False),
        ("failed?what=no%20disk%FF", "", "no disk\N{REPLACEMENT CHARACTER}", True),
        ("failed", "", "", True),
    ],
)
def test_report_of_an_installer_is_published(target: str, mac: str, what: str, failed: bool) -> None:
    web = Web(Reader(THOUSAND, size=1000))
    assert web.get(target=f"/bootfw/{target}").status == 204
    assert web.events == [InstallationReported(0.0, ("10.9.0.9", 4000), mac, what, failed)]


def test_invalid_mac_of_a_running_system_is_refused() -> None:
    web = Web(Reader(THOUSAND, size=1000))
    assert web.get(target="/bootfw/up?mac=x").status == 400
    assert web.get(target="/bootfw/failed?mac=x").status == 400
    assert web.events == []
