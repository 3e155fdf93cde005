"""A TFTP server of this package on a network in memory, for its tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from tftp.backend import IBackend, IReader, IWriter
from tftp.errors import FileNotFound
from tftp.protocol import TFTP
from twisted.internet.defer import Deferred, succeed
from twisted.logger import globalLogPublisher
from twisted.python.context import get
from zope.interface import implementer

from bootfw.testing import FakePeer, MemoryNetwork, TFTPClient, Transferred

ADDRESS = "10.0.0.1"


@implementer(IReader)
class Reader:
    """Reads bytes, and counts what is called. With a *clock*, each read takes *delay* seconds."""

    def __init__(self, content: bytes, clock: Any = None, delay: float = 0.0) -> None:
        self.size: int | None = len(content)
        self.reads = self.finished = 0
        self._file = BytesIO(content)
        self._clock, self._delay = clock, delay

    def read(self, size: int) -> Any:
        self.reads += 1
        data = self._file.read(size)
        if self._clock is None:
            return data
        deferred: Deferred[bytes] = Deferred()
        self._clock.callLater(self._delay, deferred.callback, data)
        return deferred

    def finish(self) -> None:
        self.finished += 1


@implementer(IWriter)
class Writer:
    """Keeps what is written, and how it ended."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.calls: list[str] = []

    def write(self, data: bytes) -> None:
        self.content += data

    def finish(self) -> None:
        self.calls.append("finished")

    def cancel(self) -> None:
        self.calls.append("cancelled")


@implementer(IBackend)
class Files:
    """Readers and writers by file name, and the addresses that each request had in its context."""

    def __init__(self, **files: Any) -> None:
        self.files = files
        self.requests: list[tuple[bytes, Any, Any]] = []

    def get_reader(self, file_name: bytes) -> "Deferred[Any]":
        return self._get(file_name)

    def get_writer(self, file_name: bytes) -> "Deferred[Any]":
        return self._get(file_name)

    def _get(self, file_name: bytes) -> "Deferred[Any]":
        self.requests.append((file_name, get("local"), get("remote")))
        answer = self.files.get(file_name.decode())
        if answer is None:
            raise FileNotFound(file_name)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Deferred) else succeed(answer)


class Served:
    """A server with *backend*, and a host for clients."""

    def __init__(
        self, backend: Any, kind: type[TFTP] = TFTP, addresses: tuple[str, ...] = (ADDRESS,), interface: str = ""
    ) -> None:
        self.network = MemoryNetwork()
        self.host = self.network.host(*addresses)
        self.backend = backend
        self.tftp = kind(backend, _clock=self.host)
        self.port = self.host.listenUDP(69, self.tftp, interface)
        self.address = addresses[-1]
        self.client_host = self.network.host("10.0.0.9", "fd77::9")
        self._peers: list[FakePeer] = []

    def client(self, options: Any = (), **arguments: Any) -> TFTPClient:
        return TFTPClient(self.client_host, (self.address, 69), options, **arguments)

    def download(self, options: Any = (), name: str = "file", **arguments: Any) -> Transferred:
        return self._result(self.client(options, **arguments).download(name))

    def upload(self, data: bytes, options: Any = (), name: str = "file", **arguments: Any) -> Transferred:
        return self._result(self.client(options, **arguments).upload(name, data))

    def _result(self, transfer: "Deferred[Transferred]") -> Transferred:
        result: Transferred = self.network.result_of(transfer, 300)
        self.network.advance(0.1)  # the client's last packet is on its way
        return result

    def peer(self) -> FakePeer:
        self._peers.append(FakePeer(self.client_host))
        return self._peers[-1]

    def request(self, peer: FakePeer, *fields: bytes, opcode: bytes = b"\0\1") -> None:
        peer.send(opcode + b"".join(field + b"\0" for field in fields), (self.address, 69))

    def close(self) -> None:
        """Stop, after which nothing may be left."""
        self.port.stopListening()
        for peer in self._peers:
            peer.close()
        self.network.advance(60)
        assert self.network.leaks() == []


@contextmanager
def log_events() -> Iterator[list[Any]]:
    """The events of Twisted's log meanwhile."""
    events: list[Any] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(observer)


def failures(events: list[Any]) -> list[BaseException]:
    """The exceptions whose tracebacks were logged."""
    return [event["failure"].value for event in events if "failure" in event]
