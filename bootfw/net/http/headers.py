"""The headers of an HTTP response for a file."""

from collections.abc import Callable
from typing import Any

from attrs import evolve

from bootfw.ability import provides
from bootfw.boot.etag import etag_of, former_etag_of
from bootfw.interfaces import ICacheableReader, IReader
from bootfw.net.http.plainrequest import PlainRequest
from bootfw.wire.http import Header, Validators, http_date

_YEAR_10000 = 253402300800
"""Seconds since the epoch. Headers have no room for later dates."""


def look_up(http: Any) -> Header:
    """Return a function that looks up a header of a request, twisted.web's or a PlainRequest."""
    if isinstance(http, PlainRequest):
        return http.header

    def header(name: str) -> str | None:
        values = http.requestHeaders.getRawHeaders(name.encode())
        return None if values is None else b", ".join(values).decode("latin-1")

    return header


def when_lost(http: Any, call: Callable[[], None]) -> None:
    """Have *call* called if the connection is lost before the response is complete."""
    if isinstance(http, PlainRequest):
        http.when_lost(call)
    else:
        http.notifyFinish().addErrback(lambda _: call())


def validators_of(reader: IReader, size: int | None) -> Validators:
    """Return what identifies this version of a file; empty unless *reader* is an ICacheableReader."""
    if not provides(reader, ICacheableReader):
        return Validators("", None)
    etag, modified = etag_of(reader, size), reader.modified
    if modified is not None and not 0 <= modified < _YEAR_10000:
        modified = None
    return Validators(_quoted(etag), None if modified is None else int(modified))


def all_validators_of(reader: IReader, size: int | None) -> Validators:
    """Return the same with the former entity tag, for a request that may have conditions."""
    return evolve(validators_of(reader, size), former_etag=_quoted(former_etag_of(reader, size)))


def _quoted(etag: str) -> str:
    return f'"{etag}"' if etag else ""


def describe(http: Any, kind: bytes, validators: Validators, size: int | None) -> None:
    """Set the media type, and what another request needs to resume the file."""
    http.setHeader(b"Content-Type", kind)
    if size is not None:
        http.setHeader(b"Accept-Ranges", b"bytes")
    if validators.etag:
        http.setHeader(b"ETag", validators.etag.encode())
    if validators.modified is not None:
        http.setHeader(b"Last-Modified", http_date(validators.modified).encode())


def refuse(http: Any, status: int, message: str) -> None:
    """Answer a request with an error and a line of text."""
    http.setResponseCode(status)
    text = f"{message}\n".encode(errors="replace")
    http.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    http.setHeader(b"Content-Length", b"%d" % len(text))
    http.write(text)
    http.finish()
