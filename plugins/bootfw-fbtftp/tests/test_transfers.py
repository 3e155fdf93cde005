"""Transfers, their statistics, and what happens when a handler misbehaves."""

import threading
from typing import Any

import pytest
from fbtftp import constants
from fbtftp.base_handler import StringResponseData

from .serving import Client, Content, Server, running

CONTENT = bytes(range(256)) * 20


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 5120])
@pytest.mark.parametrize("longest_read", [1, 1 << 20], ids=["byte by byte", "at once"])
def test_a_file_arrives_and_is_closed(size: int, longest_read: int) -> None:
    content = Content(CONTENT[:size], longest_read=longest_read)
    server = Server(lambda path: content)
    with running(server):
        assert Client(server).fetch(b"file") == CONTENT[:size]
        stats = server.wait()
    assert content.closed == 1
    assert not content.threads & {threading.main_thread().name}
    blocks = size // 512 + 1
    assert (stats.packets_sent, stats.packets_acked, stats.bytes_sent) == (blocks, blocks, size)
    assert (stats.error, stats.retransmits, stats.options, stats.blksize) == ({}, 0, {}, 512)


def test_the_statistics_of_a_transfer() -> None:
    server = Server(lambda path: Content(CONTENT))
    with running(server):
        client = Client(server)
        assert client.fetch(b"dir/file", blksize=1024, tsize=0, timeout=3) == CONTENT
        stats = server.wait()
    [(server_addr, peer, path, options)] = server.requests
    assert (server_addr, peer[0], path) == (("127.0.0.1", 0), "127.0.0.1", "dir/file")
    requested = {"mode": "octet", "blksize": "1024", "tsize": "0", "timeout": "3"}
    assert options == {"default_timeout": 1, "retries": 2} | requested
    assert stats.options_in == requested
    assert stats.options == stats.options_acked == {"blksize": "1024", "tsize": "5120", "timeout": "3"}
    assert (stats.peer, stats.server_addr, stats.file_path) == (peer, ("127.0.0.1", 0), "dir/file")
    assert (stats.packets_sent, stats.packets_acked, stats.bytes_sent, stats.blksize) == (7, 7, 5120, 1024)
    assert 0 < stats.duration() < 60


def test_a_size_that_is_not_known_is_not_announced() -> None:
    server = Server(lambda path: Content(CONTENT, size=None))
    with running(server):
        assert Client(server).request(b"file", tsize=0) == b"\0\3\0\1" + CONTENT[:512]
        assert Client(server).fetch(b"file", blksize=1024) == CONTENT


def test_windows_are_served_and_sent_again() -> None:
    content = Content(CONTENT)
    server = Server(lambda path: content)
    with running(server):
        client = Client(server)
        assert client.request(b"file", windowsize=4).startswith(b"\0\6windowsize\x004\0")
        client.send(b"\0\4\0\0")
        first = [client.receive() for _ in range(4)]
        assert [each[:4] for each in first] == [b"\0\3\0" + bytes([number]) for number in (1, 2, 3, 4)]
        client.send(b"\0\4\0\2")  # the third was lost
        second = [client.receive() for _ in range(4)]
        assert second[:2] == first[2:]
        assert second[2] == b"\0\3\0\5" + CONTENT[2048:2560]
        client.send(b"\0\5\0\0enough\0")
        stats = server.wait()
    assert stats.error["error_code"] == constants.ERR_UNDEFINED
    assert "enough" in stats.error["error_message"]
    assert stats.retransmits == 2


@pytest.mark.parametrize("options", [{}, {"blksize": 1000}, {"blksize": 1000, "windowsize": 4}], ids=str)
def test_content_is_read_in_blocks(options: Any) -> None:
    """The server of Cobbler refuses more than it fetches at once."""
    content = Content(CONTENT)
    server = Server(lambda path: content)
    with running(server):
        client = Client(server)
        client.request(b"file", **options)
        if options:
            client.send(b"\0\4\0\0")
            client.receive()
        client.send(b"\0\5\0\0enough\0")
        server.wait()
    assert content.largest_read == options.get("blksize", 512)


def test_netascii_is_translated() -> None:
    server = Server(lambda path: StringResponseData("a\nb\r\xe9\n"))
    with running(server):
        assert Client(server).fetch(b"file", b"netascii") == b"a\r\nb\r\0\xe9\r\n"


def find_raising(error: BaseException) -> Any:
    def find(path: str) -> Any:
        raise error

    return find


@pytest.mark.parametrize(
    ("error", "reply", "code", "message"),
    [
        (FileNotFoundError(2, "No such file", "/srv/secret"), b"\0\5\0\1File not found\0", 1, "/srv/secret"),
        (FileNotFoundError("no menu for you"), b"\0\5\0\1no menu for you\0", 1, "no menu for you"),
        (ValueError("not today"), b"\0\5\0\0not today\0", 0, "not today"),
        (PermissionError(13, "Permission denied", "/srv/secret"), b"\0\5\0\0Internal error\0", 0, "/srv/secret"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_file_that_can_not_be_found(error: Any, reply: bytes, code: int, message: str) -> None:
    server = Server(find_raising(error))
    with running(server):
        assert Client(server).request(b"file") == reply
        stats = server.wait()
    assert stats.error["error_code"] == code
    assert message in stats.error["error_message"]


class NoHandler(Server):
    """Has none."""

    def get_handler(self, *arguments: Any) -> Any:
        if isinstance(self.find(""), Exception):
            raise self.find("")
        return self.find("")


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (None, b"\0\5\0\2Not served\0"),
        ("text", b"\0\5\0\0Internal error\0"),
        (ValueError("secret"), b"\0\5\0\0Internal error\0"),
    ],
    ids=str,
)
def test_without_a_handler_the_client_gets_an_error(answer: Any, reply: bytes) -> None:
    server = NoHandler(lambda path: answer)
    with running(server):
        assert Client(server).request(b"file") == reply
        assert server._server_stats.get_counter("process_count") == 1


@pytest.mark.parametrize("method", ["read", "size", "close"])
def test_content_that_raises(method: str) -> None:
    content = Content(CONTENT)

    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError("secret")

    setattr(content, method, broken)
    server = Server(lambda path: content)
    with running(server):
        answer = Client(server).fetch(b"file") if method == "close" else Client(server).request(b"file")
        stats = server.wait()
        assert answer == CONTENT if method == "close" else b"Internal error" in answer
        assert Client(server).request(b"file")  # it still serves
    assert bool(stats.error) == (method != "close")


def test_a_callback_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    content = Content(CONTENT)
    server = Server(lambda path: content)
    server._on_end = find_raising(ZeroDivisionError("x"))  # type: ignore[method-assign]
    closed = threading.Event()
    content.close = closed.set  # type: ignore[method-assign]
    with running(server):
        assert Client(server).fetch(b"file") == CONTENT
        assert closed.wait(60)
    assert "callback for the statistics" in caplog.text


def test_a_client_that_is_silent_is_given_up() -> None:
    content = Content(CONTENT)
    server = Server(lambda path: content, retries=0, timeout=1)
    with running(server):
        client = Client(server)
        client.request(b"file")
        client.send(b"\0\4\0\1")
        assert [client.receive()[:4] for _ in range(2)] == [b"\0\3\0\2"] * 2
        stats = server.wait()
    assert (stats.retransmits, stats.packets_sent, stats.packets_acked, stats.bytes_sent) == (1, 3, 1, 512)
    assert stats.error == {"error_code": 0, "error_message": "no ACK after block 1"}
    assert content.closed == 1


def test_a_size_probe_is_no_error() -> None:
    server = Server(lambda path: Content(CONTENT))
    with running(server):
        client = Client(server)
        assert client.request(b"file", tsize=0) == b"\0\6tsize\0005120\0"
        client.send(b"\0\5\0\x08enough\0")
        stats = server.wait()
    assert (stats.error, stats.bytes_sent) == ({}, 0)


def test_a_handler_that_blocks_holds_up_no_other_transfer() -> None:
    may_continue = threading.Event()

    def find(path: str) -> Any:
        if path == "slow":
            assert may_continue.wait(60)
        return Content(CONTENT)

    server = Server(find)
    with running(server):
        slow = Client(server)
        thread = threading.Thread(target=slow.fetch, args=(b"slow",))
        thread.start()
        for _ in range(3):
            assert Client(server).fetch(b"fast") == CONTENT
        may_continue.set()
        thread.join(60)
        assert not thread.is_alive()


def test_a_handler_whose_client_has_gone_on_is_closed() -> None:
    may_continue, started = threading.Event(), threading.Event()
    slow = Content(CONTENT)

    def find(path: str) -> Any:
        if path == "slow":
            started.set()
            assert may_continue.wait(60)
            return slow
        return Content(CONTENT)

    server = Server(find)
    with running(server):
        client = Client(server)
        client.sock.sendto(b"\0\1slow\0octet\0", client.server)
        assert started.wait(60)
        assert client.request(b"fast") == b"\0\3\0\1" + CONTENT[:512]
        may_continue.set()
        stats = server.wait()
        assert (stats.file_path, stats.error["error_message"]) == ("slow", "the client did not wait for the handler")
    assert slow.closed == 1


def test_no_more_threads_than_agreed_run_handlers() -> None:
    running_handlers, largest_number, lock = 0, 0, threading.Lock()
    barrier = threading.Barrier(2)

    def find(path: str) -> Any:
        nonlocal running_handlers, largest_number
        with lock:
            running_handlers += 1
            largest_number = max(largest_number, running_handlers)
        barrier.wait(60)
        with lock:
            running_handlers -= 1
        return Content(CONTENT)

    server = Server(find)
    server.max_threads = 2
    with running(server):
        clients = [threading.Thread(target=Client(server).fetch, args=(b"file",)) for _ in range(6)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
    assert largest_number == 2


@pytest.mark.parametrize("address", ["::1", "127.0.0.1"])
def test_both_families_on_the_wildcard(address: str) -> None:
    server = Server(lambda path: Content(CONTENT), "::")
    with running(server):
        assert Client(server, address).fetch(b"file") == CONTENT
        assert server.wait().peer[0].endswith(address)


def test_names_are_latin_1() -> None:
    server = Server(lambda path: Content(b""))
    with running(server):
        Client(server).fetch(b"/caf\xe9\\x/../y")
    assert server.requests[0][2] == "/caf\xe9\\x/../y"
