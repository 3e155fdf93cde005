"""The life of a server: its statistics, its loop, its end."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fbtftp import BaseServer
from fbtftp.netascii import NetasciiReader

from .serving import LONGEST, Client, Content, Server, running

PROGRAM = """
import sys
from fbtftp.base_handler import BaseHandler, StringResponseData
from fbtftp.base_server import BaseServer

class Handler(BaseHandler):
    def get_response_data(self):
        return StringResponseData("content of " + self._path)

class Server(BaseServer):
    def get_handler(self, server_addr, peer, path, options):
        return Handler(server_addr, peer, path, options, lambda stats: print(stats.file_path, flush=True))

server = Server("127.0.0.1", 0, 5, 2, lambda stats: None)
print(server._listener.getsockname()[1], flush=True)
try:
    server.run()
except KeyboardInterrupt:
    server.close()
    print("interrupted", flush=True)
"""


def test_a_program_serves_tftp_hpa_and_ends_at_an_interrupt(tmp_path: Path) -> None:
    # Where the tests run in the background of a shell, SIGINT is ignored, and programs that they start inherit that.
    command = ["env", "--default-signal=INT", sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            tftp_command = ["tftp", "-m", "binary", "127.0.0.1", port, "-c", "get", "kernel", str(tmp_path / "got")]
            try:
                subprocess.run(tftp_command, check=True, timeout=LONGEST)
            except FileNotFoundError:
                pytest.skip("tftp-hpa is not installed")
            assert (tmp_path / "got").read_text() == "content of kernel"
            assert process.stdout.readline() == "kernel\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            assert process.wait(LONGEST) == 0
        finally:
            process.kill()


def test_a_server_may_be_made_before_a_fork() -> None:
    server = Server(lambda path: Content(b"x"))
    pid = os.fork()
    if not pid:
        try:
            server.run()
        finally:
            os._exit(1)
    try:
        assert Client(server).fetch(b"file") == b"x"
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        server._listener.close()


def test_close_ends_transfers_and_tells_their_handlers() -> None:
    content = Content(bytes(2000))
    server = Server(lambda path: content)
    client = Client(server)
    with running(server):
        client.request(b"file")
    assert client.receive() == b"\0\5\0\0the server is stopping\0"
    assert server.wait().error["error_message"] == "the server is stopping"
    assert content.closed == 1
    assert server._listener.fileno() == -1


def test_close_does_not_wait_for_a_handler_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fbtftp.loop._END_WITHIN", 0.1)
    may_continue, started = threading.Event(), threading.Event()

    def find(path: str) -> Any:
        started.set()
        may_continue.wait(LONGEST)
        return Content(b"")

    server = Server(find)
    client = Client(server)
    with running(server):
        client.sock.sendto(b"\0\1file\0octet\0", client.server)
        assert started.wait(LONGEST)
    may_continue.set()


def test_the_callback_for_the_server_is_called_again_and_again() -> None:
    calls = threading.Semaphore(0)
    counters: list[dict[str, int]] = []

    def report(stats: Any) -> None:
        counters.append(stats.get_and_reset_all_counters())
        calls.release()
        raise ZeroDivisionError("is logged")

    server = Server(lambda path: Content(b"x"), server_stats_callback=report, stats_interval_seconds=0.05)
    with running(server):
        Client(server).fetch(b"file")
        for _ in range(3):
            assert calls.acquire(timeout=LONGEST)
    assert sum(each.get("process_count", 0) for each in counters) <= 1
    assert server._server_stats.interval == 0.05


@pytest.mark.parametrize(
    "datagram", [b"", b"\0", b"\0\1", b"\0\1file", b"\0\1file\0", b"\0\2file\0octet\0", b"\0\4\0\1"]
)
def test_other_datagrams_make_no_handler(datagram: bytes) -> None:
    server = Server(lambda path: Content(b"x"))
    with running(server):
        client = Client(server)
        client.sock.sendto(datagram, client.server)
        assert Client(server).fetch(b"file") == b"x"
    assert len(server.requests) == 1


def test_a_loop_of_ones_own() -> None:
    server = Server(lambda path: Content(b"x"))
    fetched: list[bytes] = []
    client = threading.Thread(target=lambda: fetched.append(Client(server).fetch(b"file")))
    client.start()
    while not server.stats:
        server.run_once()
    client.join(LONGEST)
    assert fetched == [b"x"]
    server.close()
    server.run()


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="in use"):
            BaseServer("127.0.0.1", sock.getsockname()[1], 1, 1)


def test_the_socket_can_be_polled() -> None:
    server = Server(lambda path: Content(b"x"))
    client = Client(server)
    client.sock.sendto(b"\0\1file\0octet\0", client.server)
    assert select.select([server._listener], [], [], LONGEST)[0]
    server._listener.close()


def test_netascii_of_content_with_and_without_its_size() -> None:
    content = b"a\nb\rc\n" * 300
    wire = b"a\r\nb\r\0c\r\n" * 300
    unknown, known = NetasciiReader(Content(content)), NetasciiReader(Content(content))
    assert b"".join(iter(lambda: unknown.read(100), b"")) == wire
    assert known.size() == len(wire)
    assert b"".join(iter(lambda: known.read(100), b"")) == wire
