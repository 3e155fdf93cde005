"""A server of this package in a thread, and a client of few lines, for its tests."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fbtftp import BaseHandler, BaseServer, SessionStats
from fbtftp.base_handler import ResponseData

LONGEST = 60.0
"""Seconds within which everything happens on a busy machine."""


class Content(ResponseData):
    """Bytes, and what was called."""

    def __init__(self, content: bytes, size: int | None = -1, longest_read: int = 1 << 20) -> None:
        self._content, self._size, self._longest_read = content, len(content) if size == -1 else size, longest_read
        self.threads: set[str] = set()
        self.largest_read = 0
        """The most bytes that one read was for."""
        self.closed = 0

    def read(self, n: int) -> bytes:
        self.threads.add(threading.current_thread().name)
        self.largest_read = max(self.largest_read, n)
        n = min(n, self._longest_read)
        data, self._content = self._content[:n], self._content[n:]
        return data

    def size(self) -> int | None:
        return self._size

    def close(self) -> None:
        self.closed += 1


class Handler(BaseHandler):
    """Serves what *find* returns for its path."""

    def __init__(self, find: Callable[[str], Any], *arguments: Any) -> None:
        self._find = find
        super().__init__(*arguments)

    def get_response_data(self) -> Any:
        return self._find(self._path)


class Server(BaseServer):
    """Serves what *find* returns, and keeps requests and statistics."""

    def __init__(self, find: Callable[[str], Any], address: str = "127.0.0.1", **arguments: Any) -> None:
        self.find = find
        self.requests: list[tuple[Any, ...]] = []
        self.finished = threading.Semaphore(0)
        self.stats: list[SessionStats] = []
        super().__init__(address, 0, arguments.pop("retries", 2), arguments.pop("timeout", 1), **arguments)

    def get_handler(self, server_addr: Any, peer: Any, path: str, options: dict[str, Any]) -> Any:
        self.requests.append((server_addr, peer, path, dict(options)))
        return Handler(self.find, server_addr, peer, path, options, self._on_end)

    def _on_end(self, stats: SessionStats) -> None:
        self.stats.append(stats)
        self.finished.release()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def wait(self) -> SessionStats:
        """The statistics of the transfer that ends next."""
        assert self.finished.acquire(timeout=LONGEST)
        return self.stats[-1]


@contextmanager
def running(server: BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.close()
        thread.join(LONGEST)
        assert not thread.is_alive()


class Client:
    """A socket that requests files."""

    def __init__(self, server: Server, address: str = "127.0.0.1") -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(LONGEST)
        self.server = address, server.port
        self.peer: Any = None

    def request(self, name: bytes, mode: bytes = b"octet", **options: int) -> bytes:
        """Send a request; the first answer."""
        fields = [name, mode, *(text for key, value in options.items() for text in (key.encode(), b"%d" % value))]
        self.sock.sendto(b"\0\1" + b"".join(field + b"\0" for field in fields), self.server)
        return self.receive()

    def receive(self) -> bytes:
        answer, self.peer = self.sock.recvfrom(70000)
        return answer

    def send(self, datagram: bytes) -> None:
        self.sock.sendto(datagram, self.peer)

    def fetch(self, name: bytes, mode: bytes = b"octet", **options: int) -> bytes:
        """Read a file block by block."""
        answer, content = self.request(name, mode, **options), b""
        block, blksize = 1, options.get("blksize", 512)
        if answer[:2] == b"\0\6":
            self.send(b"\0\4\0\0")
            answer = self.receive()
        while True:
            assert answer[:4] == b"\0\3" + (block & 0xFFFF).to_bytes(2, "big")
            content += answer[4:]
            self.send(b"\0\4" + answer[2:4])
            if len(answer) - 4 < blksize:
                self.sock.close()
                return content
            answer = self.receive()
            block += 1
