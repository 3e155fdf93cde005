"""The ``http-mirror`` backend."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from attrs import define, field
from twisted.internet import defer, error
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, RedirectAgent, RequestTransmissionFailed, ResponseFailed
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse
from zope.interface import implementer

from bootfw.api import (
    ConfigError,
    FileMissing,
    FileReader,
    IBackend,
    IReader,
    PluginContext,
    TransferError,
    boot_plugin,
    request_failure_reason,
)
from bootfw_http_mirror.download import Download
from bootfw_http_mirror.store import Entry, Store

UNREACHABLE = (
    defer.TimeoutError,
    error.ConnectError,
    error.ConnectingCancelledError,
    error.ConnectionClosed,
    error.DNSLookupError,
    error.TimeoutError,
    RequestTransmissionFailed,
    ResponseFailed,
    SchemeNotSupported,
    NotImplementedError,  # a redirection to https without pyOpenSSL
)
"""Errors of twisted.web's agent when the server can't be reached or breaks off."""

Source = Callable[[], IReader]
"""Returns another reader of a file that was found."""


@implementer(IBackend)
@define(eq=False)
class MirrorBackend:
    """Files below a URL, cached on disk.

    A file that many clients request at once is downloaded once, and they read it while it arrives. A cached file is
    served again after the web server has confirmed that it has not changed, or while the server can't be reached. For a
    file that the server does not have the next backend is tried.

    :param url: prefix of the paths, such as ``http://mirror.example/boot/``; http or https.
    :param cache: the directory of the cache; one for each mirror. Relative to the configuration's.
    :param cache_megabytes: size of the cache in 10^6 bytes; beyond it the least recently used files are evicted.
    :param fresh_seconds: how long a cached file is served without a request to the server.
    :param timeout_seconds: timeout of the connection, of the response, and between two parts of a file.
    """

    reactor: Any
    url: str
    cache: Path
    cache_megabytes: int = 4000
    fresh_seconds: float = 10.0
    timeout_seconds: float = 10.0
    agent: IAgent = field(kw_only=True)
    log: Logger = field(init=False, factory=Logger)
    _store: Store | None = field(init=False, default=None)
    _checked: dict[str, float] = field(init=False, factory=dict)
    _pending: "dict[str, list[Deferred[Source]]]" = field(init=False, factory=dict)
    _downloads: dict[str, Download] = field(init=False, factory=dict)

    @agent.default
    def _agent(self) -> IAgent:
        agent = Agent(self.reactor, connectTimeout=self.timeout_seconds)
        return RedirectAgent(agent)

    @classmethod
    def configured(
        cls,
        context: PluginContext,
        url: str,
        cache: str,
        cache_megabytes: int = 4000,
        fresh_seconds: float = 10.0,
        timeout_seconds: float = 10.0,
    ) -> "MirrorBackend":
        """Called by boot_plugin."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f'must be a URL such as "http://mirror.example/boot/", not "{url}"', ("url",))
        if parts.scheme == "https" and importlib.util.find_spec("OpenSSL") is None:
            raise ConfigError("https needs pyOpenSSL: install bootfw-http-mirror[tls]", ("url",))
        if not cache:
            raise ConfigError("must be the path of a directory", ("cache",))
        for key, value in (("cache-megabytes", cache_megabytes), ("timeout-seconds", timeout_seconds)):
            if not value > 0:
                raise ConfigError(f"must be more than 0, not {value}", (key,))
        if not fresh_seconds >= 0:
            raise ConfigError(f"must be 0 or more, not {fresh_seconds}", ("fresh-seconds",))
        cache_directory = context.directory / cache
        return cls(context.reactor, url, cache_directory, cache_megabytes, fresh_seconds, timeout_seconds)

    def open(self, path: str, request: Any) -> "IReader | Deferred[IReader]":
        """See IBackend."""
        name = relative(path)
        if not name:
            raise FileMissing
        store = self._opened_store()
        download = self._downloads.get(name)
        if download is not None:
            return download.reader()
        if self.reactor.seconds() - self._checked.get(name, float("-inf")) < self.fresh_seconds and store.find(name):
            return self._stored(name)
        source_found: Deferred[Source] = Deferred(lambda cancelled: self._pending[name].remove(cancelled))
        if name in self._pending:
            self._pending[name].append(source_found)
        else:
            self._pending[name] = [source_found]
            ensureDeferred(self._find(name)).addBoth(self._answer, name)
        return source_found.addCallback(lambda source: source())

    def _answer(self, source: Any, name: str) -> None:
        while self._pending[name]:
            self._pending[name].pop(0).callback(source)
        del self._pending[name]

    async def _find(self, name: str) -> Source:
        store = self._opened_store()
        entry = store.find(name)
        try:
            response = await self._request(name, entry)
        except UNREACHABLE as failed:
            return self._stale(name, entry, request_failure_reason(Failure(failed)))
        if response.code == 200:
            return self._fetch(name, response).reader
        response.deliverBody(_BodyDropper())
        if response.code == 304 and entry is not None:
            self._checked[name] = self.reactor.seconds()
            return lambda: self._stored(name)
        if response.code in (404, 410):
            store.forget(name)
            raise FileMissing
        return self._stale(name, entry, f"it answers {response.code}")

    def _request(self, name: str, entry: Entry | None) -> "Deferred[IResponse]":
        headers = Headers({"User-Agent": ["bootfw-http-mirror"]})
        if entry is not None and entry.etag:
            headers.addRawHeader("If-None-Match", entry.etag)
        if entry is not None and entry.last_modified:
            headers.addRawHeader("If-Modified-Since", entry.last_modified)
        url = self.url.rstrip("/") + "/" + quote(os.fsencode(name))
        response = self.agent.request(b"GET", url.encode("ascii"), headers, None)
        return response.addTimeout(self.timeout_seconds, self.reactor)

    def _fetch(self, name: str, response: IResponse) -> Download:
        store = self._opened_store()
        fd, part = store.begin()
        length = response.length if isinstance(response.length, int) else None
        etag, last_modified = _header(response, "etag"), _header(response, "last-modified")

        def ended(complete: bool) -> None:
            del self._downloads[name]
            if not complete:
                self.log.warn("{url}: {name} came only in part", url=self.url, name=name)
                store.discard(part)
                return
            try:
                store.keep(part, Entry(name, download.received, etag, last_modified))
            except OSError as failed:
                self.log.warn("{cache}: {name} can't be kept: {why}", cache=self.cache, name=name, why=failed.strerror)
                store.discard(part)
            else:
                self._checked[name] = self.reactor.seconds()

        download = self._downloads[name] = Download(self.reactor, fd, length, self.timeout_seconds, ended)
        # In the next turn: waiting requests get their readers first, since a complete file without readers is closed.
        self.reactor.callLater(0, response.deliverBody, download)
        return download

    def _stale(self, name: str, entry: Entry | None, reason: str) -> Source:
        if entry is None:
            raise TransferError("The upstream server does not give the file", f"{self.url}: {reason}")
        self.log.warn("{url}: {name} is served as stored: {reason}", url=self.url, name=name, reason=reason)
        return lambda: self._stored(name)

    def _stored(self, name: str) -> IReader:
        return FileReader(self._opened_store().open(name))

    def _opened_store(self) -> Store:
        if self._store is None:
            self._store = Store(self.cache, self.cache_megabytes * 10**6)
        return self._store


class _BodyDropper(Protocol):
    """Drops the body of a response."""

    def connectionMade(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def relative(path: str) -> str:
    """*path* in one spelling, so that none leads out of the URL: ``..`` stops at its root."""
    parts: list[str] = []
    for part in path.replace("\\", "/").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _header(response: IResponse, name: str) -> str:
    values: list[str] = response.headers.getRawHeaders(name) or [""]
    return values[0]


plugin = boot_plugin(IBackend, MirrorBackend)
