"""SIGTERM during transfers: they have some time to end, then the clients of the others get an ERROR."""

import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from twistd import Process, bootfw, fetch, free_port
from workerprocesses import serves, workers_of

from bootfw.net.draining import DRAIN_WITHIN

CLIENTS, ACTIVE = 500, 5
CONTENT = bytes(range(256)) * 8  # four blocks, and an empty one
DATA, ERROR = b"\0\3", b"\0\5"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def http_port() -> int:
    return free_port(socket.SOCK_STREAM)


@pytest.fixture
def server(tmp_path: Path, port: int, http_port: int, request: pytest.FixtureRequest) -> Iterator[Process]:
    """A server that waits 90 s for an ACK."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "file").write_bytes(CONTENT)
    (tmp_path / "files" / "small").write_bytes(b"small")
    (tmp_path / "files" / "large").write_bytes(bytes(20_000_000))
    configuration = tmp_path / "bootfw.toml"
    configuration.write_text(
        f'[bootfw]\nstate-dir = "state"\nworkers = {request.param}\n[web]\nlisten = []\n'
        f'[tftp]\nlisten = ["127.0.0.1:{port}"]\n[http]\nlisten = ["127.0.0.1:{http_port}"]\n[dhcp]\nmode = "off"\n'
        '[watchdog]\nuse = "fixed"\nseconds = [90.0]\n[[backend]]\nuse = "directory"\nroot = "files"\n'
    )
    with bootfw(configuration) as process:
        process.until("every wanted socket is bound")
        fetched = 0
        while request.param > 1 and sum(map(serves, workers_of(process.pid))) < request.param:
            assert fetch(("127.0.0.1", port), "small") == b"small"
            fetched += 1
            process.until("'small': complete", times=fetched)
        yield process


def block(client: socket.socket, number: int) -> bytes:
    """The block with this number, or an ERROR."""
    while True:
        answer = client.recv(600)
        if answer[:2] == ERROR or answer[:4] == DATA + number.to_bytes(2):
            return answer


def begin_downloads(server: tuple[str, int], stack: ExitStack, count: int) -> Sequence[socket.socket]:
    """Clients that have the first block and have acknowledged it."""
    clients = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(count)]
    for client in clients:
        client.settimeout(60)
        client.connect(server)
        client.send(b"\0\1file\0octet\0")
        assert block(client, 1)[4:] == CONTENT[:512]
        client.send(b"\0\4\0\1")
        assert block(client, 2)[:2] == DATA
    return clients


def wait_until_requests_are_dropped(server: tuple[str, int]) -> None:
    """Wait until the server, which has begun to stop, drops new requests."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.5)
            client.connect(server)
            client.send(b"\0\1file\0octet\0")
            try:
                client.recv(600)
            except TimeoutError:
                return
            client.send(b"\0\5\0\0enough\0")


@pytest.mark.parametrize("server", [1, 2], indirect=True)
def test_transfers_may_end_and_others_get_an_error(server: Process, port: int) -> None:
    with ExitStack() as stack:
        clients = begin_downloads(("127.0.0.1", port), stack, CLIENTS)
        server.send(signal.SIGTERM)
        wait_until_requests_are_dropped(("127.0.0.1", port))
        for client in clients[:ACTIVE]:
            for number in (2, 3, 4):
                client.send(b"\0\4" + number.to_bytes(2))
                assert block(client, number + 1) == DATA + (number + 1).to_bytes(2) + CONTENT[number * 512 :][:512]
            client.send(b"\0\4\0\5")
        answers = [block(client, 0) for client in clients[ACTIVE:]]
    assert set(answers) == {ERROR + b"\0\0the server is stopping\0"}
    text = server.rest()
    assert text.count("'file': complete") == ACTIVE
    assert text.count("cancelled (the server is stopping)") == CLIENTS - ACTIVE
    assert "Traceback" not in text


@pytest.mark.parametrize("server", [1], indirect=True)
def test_a_second_signal_ends_the_wait(server: Process, port: int) -> None:
    with ExitStack() as stack:
        [client] = begin_downloads(("127.0.0.1", port), stack, 1)
        server.send(signal.SIGTERM)
        server.until("stopping: 1 transfer(s) have 5 s to end")
        began = time.monotonic()
        server.send(signal.SIGTERM)
        assert block(client, 0)[:2] == ERROR
        assert time.monotonic() - began < DRAIN_WITHIN
    assert "Traceback" not in server.rest()


def was_reset(client: socket.socket) -> bool:
    """Whether a connection ended by a reset, so that the client knows that the file is not complete."""
    try:
        while client.recv(1 << 20):
            continue
    except ConnectionResetError:
        return True
    return False


@pytest.mark.parametrize("server", [1, 2], indirect=True)
def test_downloads_may_end_and_others_are_disconnected(server: Process, port: int, http_port: int) -> None:
    get = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as stack:
        active, idle = (stack.enter_context(socket.create_connection(("127.0.0.1", http_port), 60)) for _ in range(2))
        for client in (active, idle):
            client.sendall(get)
            assert client.recv(1).startswith(b"H")
        server.send(signal.SIGTERM)
        wait_until_requests_are_dropped(("127.0.0.1", port))
        received = 1
        while received < 20_000_000:
            data = active.recv(1 << 20)
            assert data, "the download has ended early"
            received += len(data)
        text = server.rest()
        assert was_reset(idle)
    assert text.count("'/large': complete") == 1
    assert text.count("'/large': cancelled (the server is stopping)") == 1
    assert "Traceback" not in text
