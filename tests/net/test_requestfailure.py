"""Why a request to a web server has failed: real servers that answer wrongly, and the words for it."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from certificates import Authority
from turning import TurnUntil, connections
from twistd import refusing_port
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectError, DNSLookupError, NoRouteError
from twisted.python.failure import Failure

from bootfw.api import request_failure_reason
from bootfw.resolvers.httpclient import HTTPClient

Reason = Callable[..., str]
"""Sends a request to a URL, with a timeout in seconds, and returns why it or the body of its response has failed."""


@pytest.fixture
def reason(private_reactor: EPollReactor, turn_until: TurnUntil) -> Reason:
    def reason_of(url: str, seconds: float = 60.0) -> str:
        results: list[Failure | tuple[int, bytes]] = []
        HTTPClient(private_reactor, seconds, limit=100).get(url).addBoth(results.append)
        turn_until(lambda: results)
        turn_until(lambda: not connections(private_reactor))
        [failure] = results
        assert isinstance(failure, Failure), failure
        return request_failure_reason(failure)

    return reason_of


@contextmanager
def server(response: bytes | None, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server that sends *response* to each connection and closes it; with None it does not answer."""
    ended = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            while True:
                answer(listening.accept()[0])

    def answer(accepted: socket.socket) -> None:
        with suppress(OSError), accepted:
            accepted.settimeout(10)
            with context.wrap_socket(accepted, server_side=True) if context else accepted as connection:
                connection.recv(4096)
                if response is None:
                    ended.wait(10)
                else:
                    connection.sendall(response)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (b"", "it closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "its answer is not HTTP"),
        (b"HTTP/1.0 200 OK\r\nContent-Type: text", "its answer was cut off"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nbody", "its answer was cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbody", "its answer was cut off"),
        (b"HTTP/1.0 302 Found\r\nLocation: /again\r\n\r\n", "it redirects too often"),
        (b"HTTP/1.0 302 Found\r\n\r\n", "its redirect names no URL"),
        (b"HTTP/1.0 302 Found\r\nLocation: ftp://x/y\r\n\r\n", "its redirect is neither to http nor to https"),
    ],
)
def test_server_that_answers_wrongly(reason: Reason, response: bytes, expected: str) -> None:
    with server(response) as port:
        assert reason(f"http://127.0.0.1:{port}/") == expected


def test_server_that_does_not_answer(reason: Reason) -> None:
    with server(None) as port:
        assert reason(f"http://127.0.0.1:{port}/", 0.1) == "it has not answered in time"


def test_server_that_can_not_be_reached(reason: Reason) -> None:
    with refusing_port() as port:
        assert reason(f"http://127.0.0.1:{port}/") == "it refused the connection"
    assert request_failure_reason(Failure(DNSLookupError())) == "its name has no address"
    assert request_failure_reason(Failure(NoRouteError())) == "there is no route to it"
    # Without words of our own: the system's.
    assert request_failure_reason(Failure(ConnectError(105, "No buffer space available"))) == (
        "An error occurred while connecting: 105: No buffer space available"
    )


UNTRUSTED = "its certificate has expired, or no authority that this system trusts has signed it"


@pytest.mark.parametrize(
    ("name", "days", "trusted", "expected"),
    [
        ("127.0.0.1", 30, False, UNTRUSTED),
        ("127.0.0.1", -1, True, UNTRUSTED),
        ("127.0.0.9", 30, True, "its certificate is for another name"),
    ],
)
def test_server_whose_certificate_is_refused(
    reason: Reason,
    name: str,
    days: int,
    trusted: bool,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("OpenSSL", reason="pyOpenSSL is not installed: pip install bootfw[tls]")
    authority = Authority()
    chain, key = authority.issue(name, days=days, curve=True)
    (tmp_path / "chain.pem").write_bytes(chain)
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "trusted.pem").write_bytes((authority if trusted else Authority()).pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
    with server(b"HTTP/1.0 200 OK\r\n\r\n", context) as port:
        assert reason(f"https://127.0.0.1:{port}/") == expected


def test_server_without_tls(reason: Reason) -> None:
    pytest.importorskip("OpenSSL", reason="pyOpenSSL is not installed: pip install bootfw[tls]")
    with server(b"HTTP/1.0 400 Bad Request\r\n\r\n") as port:
        assert reason(f"https://127.0.0.1:{port}/") == "TLS failed: wrong version number"
