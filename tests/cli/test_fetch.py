"""The TFTP and HTTP client of ``bootfw probe``, against servers of the test."""

import http.server
import threading
from typing import Any

import pytest
from playedtftp import Answer, scripted_server
from twistd import refusing_port

from bootfw.cli.fetch import Fetched, FetchError, fetch_http, fetch_tftp, kind_of
from bootfw.wire import tftp


def fetch(answer: Answer, waits: tuple[float, ...] = (5.0,), **options: Any) -> Fetched:
    """Fetch a file from a TFTP server that sends what *answer* returns."""
    with scripted_server(answer) as port:
        return fetch_tftp("127.0.0.1", "file", [("blksize", "8")], port=port, waits=waits, **options)


def blocks(packet: tftp.Packet, windowsize: int = 1, content: bytes = b"0123456789abcdefXYZ") -> list[bytes]:
    """What a server sends for a packet of its client: an OACK, or the blocks of the next window."""
    if isinstance(packet, tftp.Request):
        options = [("blksize", "8"), ("tsize", str(len(content))), ("windowsize", str(windowsize))]
        return [tftp.option_ack(options)]
    assert isinstance(packet, tftp.Ack)
    numbers = range(packet.block + 1, min(packet.block + windowsize, len(content) // 8 + 1) + 1)
    return [tftp.data(number, content[8 * number - 8 : 8 * number]) for number in numbers]


@pytest.mark.parametrize("windowsize", [1, 2, 4])
def test_file_is_fetched_with_windows(windowsize: int) -> None:
    found = fetch(lambda packet: blocks(packet, windowsize))
    assert (found.size, found.begin, found.announced, found.retries) == (19, b"0123456789abcdefXYZ", 19, 0)


def test_lost_block_is_requested_again() -> None:
    to_drop = [2]

    def answer(packet: tftp.Packet) -> list[bytes]:
        replies = blocks(packet, 3)
        if isinstance(packet, tftp.Ack) and to_drop:
            del replies[to_drop.pop() - 1]
        return replies

    found = fetch(answer)
    assert (found.size, found.retries) == (19, 1)


def test_lost_request_is_repeated() -> None:
    packets: list[tftp.Packet] = []

    def answer(packet: tftp.Packet) -> list[bytes]:
        packets.append(packet)
        return blocks(packet) if len(packets) > 1 else []

    found = fetch(answer, (0.05, 5.0))
    assert (found.size, found.retries) == (19, 1)


def test_server_without_option_support_is_accepted() -> None:
    found = fetch(lambda packet: [] if isinstance(packet, tftp.Ack) else [tftp.data(1, b"x" * 100)])
    assert (found.size, found.options, found.announced) == (100, (), None)


def test_transfer_can_end_after_the_first_block() -> None:
    packets: list[tftp.Packet] = []

    def answer(packet: tftp.Packet) -> list[bytes]:
        packets.append(packet)
        return [] if isinstance(packet, tftp.Error) else blocks(packet)

    assert fetch(answer, whole=False).size == 8
    assert isinstance(packets[-1], tftp.Error)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda packet: [tftp.error(1, "no such file")], 'TFTP server 127.0.0.1 refuses: error 1, "no such file"'),
        (lambda packet: [], "TFTP server 127.0.0.1 does not answer: it does not run, or a firewall drops UDP port "),
        (
            lambda packet: blocks(packet) if isinstance(packet, tftp.Request) else [],
            "the transfer from 127.0.0.1 stops after 0 bytes: packets of 8 bytes and more do not arrive (MTU), or",
        ),
        (
            lambda packet: [tftp.option_ack([("blksize", "x")])],
            "TFTP server 127.0.0.1 acknowledges options that are no numbers: (('blksize', 'x'),)",
        ),
    ],
)
def test_failed_downloads_are_errors(answer: Answer, message: str) -> None:
    with pytest.raises(FetchError) as caught:
        fetch(answer, (0.05, 0.05))
    assert str(caught.value).startswith(message)


def test_wrong_announced_size_is_noted() -> None:
    def answer(packet: tftp.Packet) -> list[bytes]:
        if isinstance(packet, tftp.Request):
            return [tftp.option_ack([("blksize", "8"), ("tsize", "20")])]
        return blocks(packet)

    assert fetch(answer).notes == ["the server announced 20 bytes and sent 19"]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/a%20b" else 404)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"#!ipxe")

    def log_message(self, *arguments: Any) -> None:
        pass


def test_file_is_fetched_by_http() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            found = fetch_http(f"{url}/a%20b")
            with pytest.raises(FetchError) as caught:
                fetch_http(f"{url}/gone")
        finally:
            server.shutdown()
            thread.join()
    assert (found.size, found.announced, kind_of(found.begin)) == (6, 6, "an iPXE script")
    assert str(caught.value) == f"{url}/gone: the server answers 404 Not Found"


def test_refused_http_connection_is_an_error() -> None:
    with refusing_port() as port, pytest.raises(FetchError, match="can't be fetched: Connection refused"):
        fetch_http(f"http://127.0.0.1:{port}/x")


def _endless_file(packet: tftp.Packet) -> list[bytes]:
    """A file that never ends."""
    if isinstance(packet, tftp.Request):
        return [tftp.data(1, bytes(512))]
    assert isinstance(packet, tftp.Ack)
    return [tftp.data((packet.block + 1) & 0xFFFF, bytes(512))]


def test_download_is_an_error_when_its_time_is_over() -> None:
    with pytest.raises(FetchError, match=r"^only \d+ bytes have come within 0\.2 s$"):
        fetch(_endless_file, within=0.2)


def test_missing_answer_is_an_error_when_the_time_is_over() -> None:
    with pytest.raises(FetchError, match="does not answer"):
        fetch(lambda packet: [], within=0.1)
