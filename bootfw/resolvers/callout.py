"""The ``callout`` resolver: queries an HTTP API for what a machine boots, in the style of Pixiecore's API mode."""

from collections import OrderedDict
from collections.abc import Callable
from importlib.util import find_spec
from math import inf
from typing import Any, Literal
from urllib.parse import urlsplit

from attrs import define, field, frozen, validators
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.api import (
    BootFile,
    BootRefused,
    BootRequest,
    ConfigError,
    Event,
    IBootFileResolver,
    ISelectiveResolver,
    IStartable,
    PluginContext,
    ResolverUnavailable,
    boot_plugin,
    ipxe_can_load,
    request_failure_reason,
)
from bootfw.resolvers.bootapi import BootAnswer, boot_answer
from bootfw.resolvers.httpclient import HTTPClient
from bootfw.resolvers.scripts import local_boot, script

BODY_MAX = 64 << 10
"""Largest answer, in bytes."""

CACHE_MAX = 16 << 20
"""Most bytes of cached answers; the oldest are evicted first."""

REQUEST_SECONDS = 5.0
"""Timeout of a request to the API. An answer that arrives after ``within_seconds`` is cached for the client's retry."""

MAX_QUERIES = 2048
"""Most pending requests to the API. Beyond it, machines are treated as if the API did not answer."""

LINES_PER_SECOND = 20
"""Most log lines per second about machines without an answer."""

_NOT_FOUND = 404


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f'must be the URL of a boot API, such as "http://10.0.0.5:8000", not "{value}"', ("url",))
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError("must be ASCII without blanks", ("url",))
    if parts.scheme == "https" and find_spec("OpenSSL") is None:
        raise ConfigError("https needs pyOpenSSL: pip install bootfw[tls]", ("url",))
    return value.rstrip("/").removesuffix("/v1")


@frozen
class _Cached:
    answer: BootAnswer
    at: float


@define(eq=False)
class _Query:
    """A pending request to the API. Further DHCP requests of the same machine wait for it too."""

    response: "Deferred[Any] | None" = None
    waiting: "list[Deferred[BootAnswer | None]]" = field(factory=list)


@implementer(ISelectiveResolver, IStartable)
@define(eq=False)
class Callout:
    """Queries an HTTP API for what iPXE boots: `GET {url}/v1/boot/{mac}`, in the style of Pixiecore's API mode.

    After a 404 the next resolver is called, and also for a client that is not iPXE: the next resolver has to name iPXE
    for it. While the API does not answer, its last answer about the machine is used, and this is logged.
    """

    url: str = field(converter=_url)
    """The URL of the API, without `/v1`."""
    fallback: Literal["next", "local", "refuse"] = "next"
    """If there is neither an answer in time nor an earlier one: `"next"` calls the next resolver, `"local"` makes the
    machine boot its own disk, `"refuse"` sends no reply, so that its iPXE retries for a while."""
    within_seconds: float = field(default=0.25, validator=validators.gt(0))
    """Timeout of an answer. It has to be less than this resolver's share of `answer-within-seconds` in `[dhcp]`."""
    stale_seconds: float = field(default=86400.0, validator=validators.ge(0))
    """Largest age of an earlier answer that is used while the API does not answer."""
    _reactor: Any = None
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False, repr=False)
    _client: HTTPClient = field(init=False, repr=False)
    _publish: Callable[[Event], None] = field(default=lambda event: None, init=False, repr=False)
    _queries: dict[str, _Query] = field(factory=dict, init=False, repr=False)
    """By MAC."""
    _cache: "OrderedDict[str, _Cached]" = field(factory=OrderedDict, init=False, repr=False)
    """By MAC; the latest last."""
    _cache_size: int = field(default=0, init=False)
    """In bytes."""
    _lines: int = field(default=0, init=False)
    """Log lines about machines since ``_counted_from``, including those that were left out."""
    _counted_from: float = field(default=-inf, init=False)
    """When the present second of the rate limit began."""

    @_client.default
    def _new_client(self) -> HTTPClient:
        return HTTPClient(self._reactor, REQUEST_SECONDS, BODY_MAX)

    @classmethod
    def configured(
        cls,
        context: PluginContext,
        url: str,
        fallback: Literal["next", "local", "refuse"] = "next",
        within_seconds: float = 0.25,
        stale_seconds: float = 86400.0,
    ) -> "Callout":
        """Called by boot_plugin."""
        return cls(url, fallback, within_seconds, stale_seconds, context.reactor)

    def start(self, publish: Callable[[Event], None]) -> None:
        """See IStartable."""
        self._publish = publish

    def close(self) -> None:
        """See IStartable: pending requests are cancelled."""
        for query in list(self._queries.values()):
            if query.response is not None:
                query.response.cancel()

    def resolve(self, request: BootRequest) -> "Deferred[BootFile | None] | None":
        """See IBootFileResolver."""
        if not request.ipxe or not request.mac:
            return None
        waiting: Deferred[Any] = Deferred()
        query = self._queries.get(request.mac)
        if query is None and len(self._queries) >= MAX_QUERIES:
            return maybeDeferred(self._without_answer, f"{MAX_QUERIES} requests to it wait for an answer", request)
        if query is None:
            query = self._queries[request.mac] = _Query()
            query.waiting.append(waiting)
            query.response = self._client.get(f"{self.url}/v1/boot/{request.mac}")
            query.response.addCallback(self._read)
            query.response.addBoth(self._answered, request.mac, query)
        else:
            query.waiting.append(waiting)
        waiting.addTimeout(self.within_seconds, self._reactor)
        return waiting.addCallbacks(self._boot_file, self._failed, (request,), {}, (request,))

    def _read(self, response: tuple[int, bytes]) -> BootAnswer | None:
        code, body = response
        if code == _NOT_FOUND:
            return None
        if code != 200:
            raise ValueError(f"it answers {code}")
        return boot_answer(body, self.url)

    def _answered(self, result: Any, mac: str, query: _Query) -> None:
        """Cache the answer, even if it is late, and pass it to the DHCP requests that still wait."""
        del self._queries[mac]
        if not isinstance(result, Failure):
            self._store(mac, result)
        for waiting in query.waiting:
            if not waiting.called:
                waiting.callback(result)

    def _store(self, mac: str, answer: BootAnswer | None) -> None:
        before = self._cache.pop(mac, None)
        if before is not None:
            self._cache_size -= len(before.answer.script)
        if answer is None:
            return
        self._cache[mac] = _Cached(answer, self._reactor.seconds())
        self._cache_size += len(answer.script)
        while self._cache_size > CACHE_MAX:
            self._cache_size -= len(self._cache.popitem(last=False)[1].answer.script)

    def _boot_file(self, answer: BootAnswer | None, request: BootRequest) -> BootFile | None:
        if answer is None:
            return None
        missing = [scheme for scheme in sorted(answer.schemes) if not ipxe_can_load(scheme, request)]
        if missing:
            return self._fall_back(f"this build of iPXE has no {missing[0].upper()}, which its answer needs", request)
        return script("callout", answer.script, request)

    def _failed(self, failure: Failure, request: BootRequest) -> BootFile | None:
        if failure.check(CancelledError):
            failure.raiseException()
        return self._without_answer(request_failure_reason(failure), request)

    def _without_answer(self, reason: str, request: BootRequest) -> BootFile | None:
        """Return the last answer about the machine if it is not too old, or else the fallback."""
        cached = self._cache.get(request.mac)
        age = self._reactor.seconds() - cached.at if cached is not None else 0.0
        if cached is None or age > self.stale_seconds:
            return self._fall_back(reason, request)
        self._warn(
            "callout {mac}: {url}: {reason}. Its answer of {age:.0f} s ago is used",
            mac=request.mac,
            url=self.url,
            reason=reason,
            age=age,
        )
        return self._boot_file(cached.answer, request)

    def _warn(self, line: str, **fields: object) -> None:
        """Log a line about a machine, unless there have been too many in this second."""
        now = self._reactor.seconds()
        if now >= self._counted_from + 1:
            self._counted_from, self._lines = now, 0
        self._lines += 1
        if self._lines <= LINES_PER_SECOND:
            self._log.warn(line, **fields)
        elif self._lines == LINES_PER_SECOND + 1:
            self._log.warn("callout {url}: more machines get no answer in this second", url=self.url)

    def _fall_back(self, reason: str, request: BootRequest) -> BootFile | None:
        self._publish(ResolverUnavailable(self._reactor.seconds(), request, "callout", reason))
        consequences = {
            "next": "the next resolver is called",
            "local": "it boots its own disk",
            "refuse": "it is not answered",
        }
        self._warn(
            "callout {mac}: {url}: {reason}; {then}",
            mac=request.mac,
            url=self.url,
            reason=reason,
            then=consequences[self.fallback],
        )
        if self.fallback == "local":
            return local_boot(request, f"{self.url}: {reason}")
        if self.fallback == "refuse":
            raise BootRefused(f"{self.url}: {reason}")
        return None


plugin = boot_plugin(IBootFileResolver, Callout)
