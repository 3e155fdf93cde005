"""One HTTP question, with bounds: twisted.web's client, for resolvers that ask elsewhere."""

from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, PartialDownloadError, RedirectAgent, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

REDIRECTS = 3


class TooLong(ValueError):
    """The answer has more bytes than are read."""


class Asker:
    """Asks by GET. A connection is for one question: it is made anew, so that none has gone stale.

    :param reactor: IReactorTime and IReactorTCP.
    :param seconds: for each question, redirects included.
    :param bytes: of an answer.
    """

    def __init__(self, reactor: Any, seconds: float, limit: int) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._limit = limit
        self._agent: Any = None

    def ask(self, url: str) -> "Deferred[tuple[int, bytes]]":
        """Status and body; cancelling it closes the connection.

        The Deferred fails with TooLong, TimeoutError, or what Twisted's client and the system say: see why().
        """
        if self._agent is None:
            agent = Agent(self._reactor, connectTimeout=self._seconds)
            self._agent = RedirectAgent(agent, REDIRECTS)
        headers = Headers({"User-Agent": ["bootfw"], "Accept": ["application/json"]})
        asked: Deferred[Any] = self._agent.request(b"GET", url.encode("ascii"), headers)
        asked.addCallback(self._read)
        return asked.addTimeout(self._seconds, self._reactor)

    def _read(self, response: Any) -> "Deferred[tuple[int, bytes]]":
        body = _Body(self._limit)
        response.deliverBody(body)
        return body.whole.addCallback(lambda body: (response.code, body))


class _Body(Protocol):
    """Collects a body."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._length = 0
        self.whole: Deferred[bytes] = Deferred(lambda _: self._stop())

    def dataReceived(self, data: bytes) -> None:
        """See IProtocol."""
        self._length += len(data)
        if self._length <= self._limit:
            self._parts.append(data)
        elif not self.whole.called:
            self.whole.errback(TooLong(f"the answer has more than {self._limit} bytes"))
            self._stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See IProtocol."""
        if self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(reason)

    def _stop(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.stopProducing()


def why(failure: Failure) -> str:
    """The failure of a question, for the operator."""
    if failure.check(TimeoutError):
        return "it has not answered in time"
    if failure.check(ResponseFailed, PartialDownloadError):
        return "its answer was cut off"
    return str(failure.getErrorMessage())
