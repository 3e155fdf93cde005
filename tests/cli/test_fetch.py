"""The TFTP and HTTP client of ``bootfw probe``, against servers that are played by hand."""

import http.server
import socket
import threading
from typing import Any

import pytest
from playedtftp import Answer, played

from bootfw.cli.fetch import Fetched, FetchError, fetch_http, fetch_tftp, kind_of
from bootfw.wire import tftp


def fetch(answer: Answer, waits: tuple[float, ...] = (5.0,), **options: Any) -> Fetched:
    with played(answer) as port:
        return fetch_tftp("127.0.0.1", "file", [("blksize", "8")], port=port, waits=waits, **options)


def blocks(packet: tftp.Packet, windowsize: int = 1, content: bytes = b"0123456789abcdefXYZ") -> list[bytes]:
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
    lost = [2]

    def answer(packet: tftp.Packet) -> list[bytes]:
        replies = blocks(packet, 3)
        if isinstance(packet, tftp.Ack) and lost:
            del replies[lost.pop() - 1]
        return replies

    found = fetch(answer)
    assert (found.size, found.retries) == (19, 1)


def test_lost_request_is_repeated() -> None:
    heard: list[tftp.Packet] = []

    def answer(packet: tftp.Packet) -> list[bytes]:
        heard.append(packet)
        return blocks(packet) if len(heard) > 1 else []

    found = fetch(answer, (0.05, 5.0))
    assert (found.size, found.retries) == (19, 1)


def test_server_without_option_support_is_accepted() -> None:
    found = fetch(lambda packet: [] if isinstance(packet, tftp.Ack) else [tftp.data(1, b"x" * 100)])
    assert (found.size, found.options, found.announced) == (100, (), None)


def test_transfer_can_end_after_the_first_block() -> None:
    heard: list[tftp.Packet] = []

    def answer(packet: tftp.Packet) -> list[bytes]:
        heard.append(packet)
        return [] if isinstance(packet, tftp.Error) else blocks(packet)

    assert fetch(answer, whole=False).size == 8
    assert isinstance(heard[-1], tftp.Error)


@pytest.mark.parametrize(
    ("answer", "told"),
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
def test_failed_downloads_exit_with_an_error(answer: Answer, told: str) -> None:
    with pytest.raises(FetchError) as raised:
        fetch(answer, (0.05, 0.05))
    assert str(raised.value).startswith(told)


def test_wrong_announced_size_is_an_error() -> None:
    def answer(packet: tftp.Packet) -> list[bytes]:
        if isinstance(packet, tftp.Request):
            return [tftp.option_ack([("blksize", "8"), ("tsize", "20")])]
        return blocks(packet)

    assert fetch(answer).notes == ["the server announced 20 bytes and sent 19"]


class _Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/a%20b" else 404)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"#!ipxe")

    def log_message(self, *arguments: Any) -> None:
        pass


def test_file_is_fetched_by_http() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            found = fetch_http(f"{url}/a%20b")
            with pytest.raises(FetchError) as raised:
                fetch_http(f"{url}/gone")
        finally:
            server.shutdown()
            thread.join()
    assert (found.size, found.announced, kind_of(found.begin)) == (6, 6, "an iPXE script")
    assert str(raised.value) == f"{url}/gone: the server answers 404 Not Found"


def test_refused_http_connection_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(FetchError, match="can't be fetched: Connection refused"):
        fetch_http(f"http://127.0.0.1:{port}/x")


def _slowly(packet: tftp.Packet) -> list[bytes]:
    """A file that never ends."""
    if isinstance(packet, tftp.Request):
        return [tftp.data(1, bytes(512))]
    assert isinstance(packet, tftp.Ack)
    return [tftp.data((packet.block + 1) & 0xFFFF, bytes(512))]


def test_a_download_ends_when_its_time_is_over() -> None:
    with pytest.raises(FetchError, match=r"^only \d+ bytes have come within 0\.2 s$"):
        fetch(_slowly, within=0.2)


def test_no_answer_within_the_time() -> None:
    with pytest.raises(FetchError, match="does not answer"):
        fetch(lambda packet: [], within=0.1)
