"""An HTTP client for resolvers: GET requests with a timeout and a size limit, by twisted.web."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, RedirectAgent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

REDIRECTS = 3
"""Most redirects of a request that are followed."""


class ResponseTooLong(ValueError):
    """The body of a response is larger than the limit."""


class HTTPClient:
    """Sends GET requests, each on a connection of its own: the server may have closed a persistent connection when the
    next request is sent.

    :param reactor: IReactorTime and IReactorTCP.
    :param seconds: timeout of a request, redirects included.
    :param limit: largest body in bytes.
    """

    def __init__(self, reactor: Any, seconds: float, limit: int) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._limit = limit
        self._agent: Any = None

    def get(self, url: str) -> "Deferred[tuple[int, bytes]]":
        """Request *url*. The Deferred fires with (status, body); cancelling it closes the connection.

        It fails with ResponseTooLong, TimeoutError, or an error of twisted.web or of the system: see
        bootfw.api.request_failure_reason().
        """
        if self._agent is None:
            agent = Agent(self._reactor, connectTimeout=self._seconds)
            self._agent = RedirectAgent(agent, REDIRECTS)
        headers = Headers({"User-Agent": ["bootfw"], "Accept": ["application/json"]})
        response: Deferred[Any] = self._agent.request(b"GET", url.encode("ascii"), headers)
        response.addCallback(self._read)
        return response.addTimeout(self._seconds, self._reactor)

    def _read(self, response: Any) -> "Deferred[tuple[int, bytes]]":
        body = _Body(self._limit)
        response.deliverBody(body)
        return body.complete.addCallback(lambda data: (response.code, data))


class _Body(Protocol):
    """Collects the body of a response."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._length = 0
        self.complete: Deferred[bytes] = Deferred(lambda _: self._stop())

    def dataReceived(self, data: bytes) -> None:
        """See IProtocol."""
        self._length += len(data)
        if self._length <= self._limit:
            self._parts.append(data)
        elif not self.complete.called:
            self.complete.errback(ResponseTooLong(f"the answer has more than {self._limit} bytes"))
            self._stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See IProtocol."""
        if self.complete.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.complete.callback(b"".join(self._parts))
        else:
            self.complete.errback(reason)

    def _stop(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.stopProducing()
