"""A web server that is none: the test sends each piece of an answer itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bootfw_http_mirror.mirror import MirrorBackend
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IResponse
from zope.interface import implementer


@implementer(IResponse)
class Response:
    """An answer; ``send`` and ``end`` give its body."""

    version = (b"HTTP", 1, 1)
    phrase = b"OK"
    request = previousResponse = None

    def __init__(self, code: int, body: bytes | None = None, headers: dict[str, str] | None = None) -> None:
        self.code = code
        self.length: Any = UNKNOWN_LENGTH if body is None else len(body)
        self.headers = Headers({name: [value] for name, value in (headers or {}).items()})
        self.protocol: Any = None
        self.connection_lost = False

    def deliverBody(self, protocol: Any) -> None:
        self.protocol = protocol
        protocol.makeConnection(self)

    def setPreviousResponse(self, response: Any) -> None:
        raise NotImplementedError

    def loseConnection(self) -> None:
        self.connection_lost = True

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def end(self, reason: type[Exception] = ResponseDone) -> None:
        self.protocol.connectionLost(Failure(reason()))


@implementer(IAgent)
class Upstream:
    """Remembers what was asked; the test answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.pending: list[Deferred[Any]] = []

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Any:
        assert method == b"GET"
        request_headers = {name.decode().lower(): values[0].decode() for name, values in headers.getAllRawHeaders()}
        del request_headers["user-agent"]
        self.requests.append((uri.decode(), request_headers))
        self.pending.append(Deferred())
        return self.pending[-1]

    def answer(self, response: Any) -> Any:
        self.pending.pop(0).callback(response)
        return response

    def refuse(self) -> None:
        self.pending.pop(0).errback(ConnectionRefusedError())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def mirror(clock: Clock, upstream: Upstream, tmp_path: Path) -> MirrorBackend:
    return MirrorBackend(clock, "http://up.example/boot/", tmp_path / "cache", agent=upstream)


@pytest.fixture
def store_file(mirror: MirrorBackend, upstream: Upstream, clock: Clock) -> Callable[..., None]:
    """Fetches a file, so that it is in the cache."""

    def store_file(name: str, body: bytes, **headers: str) -> None:
        opening: Any = mirror.open(name, None)
        response = upstream.answer(
            Response(200, body, {key.replace("_", "-"): value for key, value in headers.items()})
        )
        clock.advance(0)
        response.send(body)
        response.end()
        opening.result.close()

    return store_file
