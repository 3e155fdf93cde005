"""The limit of open files is reached: transfers under way go on, new clients are refused, and the log says why."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from twistd import Process, bootfw, fetch, free_port

FILES, LIMIT = 150, 100
ERROR, DATA = b"\0\5", b"\0\3"


@pytest.fixture
def ports() -> tuple[int, int]:
    """The ports of TFTP and HTTP."""
    return free_port(), free_port(socket.SOCK_STREAM)


@pytest.fixture
def server(tmp_path: Path, ports: tuple[int, int], request: pytest.FixtureRequest) -> Iterator[Process]:
    """A server with few descriptors and many files."""
    root = tmp_path / "files"
    root.mkdir()
    for number in range(FILES):
        (root / str(number)).write_bytes(b"content of a file" * 1000)
    (root / "small").write_bytes(b"small")
    configuration = tmp_path / "bootfw.toml"
    configuration.write_text(
        f'[bootfw]\nstate-dir = "state"\nworkers = {request.param}\n[web]\nlisten = []\n'
        f'[tftp]\nlisten = ["127.0.0.1:{ports[0]}"]\n[http]\nlisten = ["127.0.0.1:{ports[1]}"]\n'
        '[dhcp]\nmode = "off"\n[watchdog]\nuse = "fixed"\nseconds = [90.0]\n'
        '[[backend]]\nuse = "directory"\nroot = "files"\n'
    )
    with bootfw(configuration, before=("sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh")) as process:
        process.until("every wanted socket is bound")
        yield process


def requests(server: tuple[str, int], stack: ExitStack) -> list[tuple[socket.socket, bytes]]:
    """Clients that request a file each, and acknowledge nothing: (socket, first reply)."""
    found = []
    for number in range(FILES):
        client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        client.settimeout(60)
        client.sendto(b"\0\1%d\0octet\0" % number, server)
        found.append((client, client.recvfrom(600)[0]))
    return found


def get(port: int) -> bytes:
    """The status line of a small file, or b"" where the connection is closed at once."""
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        try:
            client.sendall(b"GET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return client.makefile("rb").readline()
        except ConnectionError:
            return b""


@pytest.mark.parametrize("server", [1, 2], indirect=True)
def test_clients_are_refused_while_the_limit_of_open_files_is_reached(server: Process, ports: tuple[int, int]) -> None:
    tftp, http = ("127.0.0.1", ports[0]), ports[1]
    assert fetch(tftp, "small") == b"small"
    with ExitStack() as stack:
        clients = requests(tftp, stack)
        refused = [answer for _, answer in clients if answer[:2] == ERROR]
        served = [client for client, answer in clients if answer[:2] == DATA]
        assert served
        assert len(served) + len(refused) == FILES
        if refused:  # with several processes that depends on how the kernel spreads the clients
            assert set(refused) == {ERROR + b"\0\0The file can't be opened now, try again later\0"}
        for _ in range(2 * LIMIT):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", http), 60))
            connection.setblocking(False)
        for _ in range(10):
            assert get(http) in (b"", b"HTTP/1.1 503 Service Unavailable\r\n", b"HTTP/1.1 200 OK\r\n")
        for client in served:
            client.sendto(b"\0\4\0\1", tftp)
            while (answer := client.recv(600))[:4] == DATA + b"\0\1":
                continue
            assert answer[:4] == DATA + b"\0\2", "a transfer that has begun goes on"
            client.sendto(b"\0\5\0\0enough\0", tftp)
    assert fetch(tftp, "small", seconds=60) == b"small"
    while get(http) != b"HTTP/1.1 200 OK\r\n":
        pass
    text = server.stop()
    assert "Traceback" not in text
    assert "EMFILE encountered" not in text
    assert text.count("TCP connections are closed at once") <= 3, "one for each process"
    if refused:
        assert f"the limit of {LIMIT} open files is reached: raise LimitNOFILE=" in text
