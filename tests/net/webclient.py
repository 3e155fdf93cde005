"""A BootSite on a Clock, clients that send and receive bytes without a socket, and backends that the test controls."""

from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.config.settings import Settings
from bootfw.errors import FileMissing
from bootfw.events import Event
from bootfw.interfaces import IBackend, ICacheableReader, IReader
from bootfw.net.admission import Admission
from bootfw.net.http.site import BootSite
from bootfw.values import TransferReport, TransferRequest


@implementer(IReader)
@define(eq=False)
class Reader:
    """Reads *data*; read() calls *answer* with each piece, and returns its result."""

    data: bytes
    answer: Callable[[bytes], Any] = field(default=lambda data: data)
    size: Any = None
    closed: int = 0
    reads: list[tuple[int, int]] = field(factory=list)

    def read(self, offset: int, length: int) -> Any:
        assert not self.closed
        self.reads.append((offset, length))
        return self.answer(self.data[offset : offset + length])

    def close(self) -> None:
        self.closed += 1


@implementer(ICacheableReader)
@define(eq=False)
class Dated(Reader):
    """A reader with a modification time."""

    modified: object = 784111777.25
    changed: object = None
    etag: object = None


@implementer(ICacheableReader)
@define(eq=False)
class Tagged(Reader):
    """A reader with an etag and no modification time."""

    modified: object = None
    changed: object = None
    etag: object = "one"


@implementer(IBackend)
@define(eq=False)
class Backend:
    """Has the same answer for every path: what open() returns, a function that returns it, or an exception to raise."""

    answer: Any = field(factory=FileMissing)
    requests: list[TransferRequest] = field(factory=list)

    def open(self, path: str, request: TransferRequest) -> Any:
        self.requests.append(request)
        assert request.path == path
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer() if callable(self.answer) else self.answer


class Wire(StringTransport):
    """The transport of a server's connection. It is lost in the turn after it was closed, and pauses its producer as
    TCP's does."""

    bufferSize = 65536

    def __init__(self, clock: Clock, protocol: Any, client: str = "10.9.0.9") -> None:
        super().__init__(IPv4Address("TCP", "10.9.0.1", 8069), IPv4Address("TCP", client, 4000), lenient=True)
        self.clock = clock
        self.protocol = protocol
        self.takes_all = True  # the client reads all that is written at once, and not only in take()
        self.unread = 0  # bytes written that the client has not read
        self.aborted = False
        self.gone = False

    def value(self) -> bytes:
        written: bytes = super().value()
        return written

    def clear(self) -> None:
        super().clear()

    def write(self, data: bytes) -> None:
        super().write(data)
        if not self.takes_all:
            self.unread += len(data)
            if self.unread > self.bufferSize and self.producer is not None:
                self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def take(self) -> None:
        """The client reads all that has been written."""
        self.unread = 0
        if self.disconnecting:
            self.lose(ConnectionDone())
        elif self.producer is not None:
            self.producer.resumeProducing()

    def loseConnection(self) -> None:
        self.disconnecting = True
        if not self.unread:
            self.clock.callLater(0, self.lose, ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = True
        self.clock.callLater(0, self.lose, ConnectionAborted())

    def lose(self, reason: Exception) -> None:
        """End the connection for *reason*."""
        if not self.gone:
            self.gone = True
            if self.producer is not None:
                self.producer.stopProducing()
            self.protocol.connectionLost(Failure(reason))


@define
class Response:
    """A parsed response."""

    status: int
    headers: dict[str, Any]
    body: bytes


class Web:
    """A site and its clients."""

    def __init__(self, backend: Any, **settings: Any) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.backend: Backend = backend if isinstance(backend, Backend) else Backend(backend)
        admission = Admission(self.clock, self.events.append, Settings(**settings))
        self.site = BootSite(self.clock, self.backend, self.events.append, admission=admission)

    def connect(self, client: str = "10.9.0.9") -> Wire:
        """Return the Wire of a new connection of *client*."""
        protocol = self.site.buildProtocol(IPv4Address("TCP", client, 4000))
        wire = Wire(self.clock, protocol, client)
        protocol.makeConnection(wire)
        return wire

    def send(
        self, method: str = "GET", target: str = "/file.img", version: str = "1.1", body: bytes = b"", **headers: Any
    ) -> Wire:
        """Send one request on a new connection, and return its Wire."""
        wire = self.connect()
        wire.protocol.dataReceived(request(method, target, version, body, **headers))
        return wire

    def get(self, *arguments: Any, **options: Any) -> Response:
        """The response to one request that is answered at once."""
        wire = self.send(*arguments, **options)
        head = (arguments or ("GET",))[0] == "HEAD"
        response, rest = parse(wire.value(), head=head)
        assert rest == b""
        return response

    @property
    def event_names(self) -> list[str]:
        """The types of the events so far."""
        return [type(event).__name__ for event in self.events]

    @property
    def report(self) -> TransferReport:
        """The report of the only transfer that has ended."""
        report: TransferReport
        (report,) = [event.report for event in self.events if hasattr(event, "report")]
        return report


def request(
    method: str = "GET", target: str = "/file.img", version: str = "1.1", body: bytes = b"", **headers: str
) -> bytes:
    """The bytes of a request; an argument ``If_Match`` is the header ``If-Match``."""
    lines = [f"{method} {target} HTTP/{version}", "Host: 10.9.0.1:8069"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def parse(received: bytes, head: bool = False) -> tuple[Response, bytes]:
    """The first response in *received*, and the bytes that follow it.

    :param head: it is the response to a HEAD request, which has no body.
    """
    start, _, rest = received.partition(b"\r\n\r\n")
    line, *fields = start.decode().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    assert len(headers) == len(fields)
    status = int(line.split()[1])
    if head or status == 304:
        return Response(status, headers, b""), rest
    if headers.get("Transfer-Encoding") == "chunked":
        body, rest = _chunks(rest)
        return Response(status, headers, body), rest
    length = int(headers["Content-Length"]) if "Content-Length" in headers else len(rest)
    return Response(status, headers, rest[:length]), rest[length:]


def _chunks(received: bytes) -> tuple[bytes, bytes]:
    """The body in *received* in chunked transfer coding, and the bytes that follow it."""
    body = b""
    while True:
        size, _, received = received.partition(b"\r\n")
        length = int(size, 16)
        body += received[:length]
        assert received[length : length + 2] == b"\r\n"
        received = received[length + 2 :]
        if not length:
            return body, received
