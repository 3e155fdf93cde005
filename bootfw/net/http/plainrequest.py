"""The fast path of HTTP: a GET or HEAD as boot programs send it, without twisted.web's Request.

twisted.web takes half of the CPU time of a small file: for headers as objects, a resource tree, a Request with cookies,
session and site. A request that arrives whole, has a target of plain characters and no body needs none of these. Every
other one is left to twisted.web, see parse(). The responses of both are the same bytes, which
tests/net/test_http_fastpath.py compares.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from time import time
from typing import Any, NamedTuple

from attrs import define, field
from twisted.internet.tcp import Connection as TCPConnection
from twisted.web.http import NO_BODY_CODES, RESPONSES, datetimeToString

from bootfw.tftp.path import relative
from bootfw.wire.http import names_directory

LARGEST = 4096
"""Bytes of a request, at most, for the fast path. Those of boot programs have 60 to 400."""

_REQUEST = re.compile(
    rb"(GET|HEAD) (/[A-Za-z0-9/._~+=,@:-]*) HTTP/1\.1\r\n"
    # Headers about a body, a protocol or the connection are left to twisted.web, but for the usual values of
    # Connection.
    rb"((?i:(?!content-length|transfer-encoding|expect|upgrade|connection:(?![ \t]*(?:keep-alive|close)\r))"
    rb"[A-Za-z0-9-]+:[ \t]*[\x21-\x7e][\x20-\x7e]*\r\n)*)\r\n",
)
_CLOSING = re.compile(rb"^connection:[ \t]*(?:(close)|keep-alive)", re.IGNORECASE | re.MULTILINE)
_CONDITIONAL = re.compile(rb"^(?:if-|range:)", re.IGNORECASE | re.MULTILINE)


class RequestHead(NamedTuple):
    """The parts of a request of the fast path."""

    method: bytes
    target: str
    path: str
    """See TransferRequest."""
    fields: bytes
    """The lines of the headers, as they came, each with its CRLF."""
    closes: bool
    """Whether the connection ends with the response."""
    is_plain_get: bool
    """Whether it is a GET of the whole file in any version: without Range, without a condition (RFC 9110 section
    13)."""


@define(eq=False)
class PlainRequest:
    """A request and its response, with those methods of twisted.web's Request that a Download calls.

    :param channel: the connection.
    :param done: called when the response is complete.
    """

    channel: Any
    head: RequestHead
    _done: Callable[[], None]
    _status: int = field(default=200, init=False)
    _headers: dict[bytes, bytes] = field(factory=dict, init=False)
    _length: int | None = field(default=None, init=False)
    """Of the body; None: it is not known when the response begins."""
    _started: bool = field(default=False, init=False)
    _chunked: bool = field(default=False, init=False)
    _on_lost: Callable[[], None] | None = field(default=None, init=False)

    @property
    def method(self) -> bytes:
        """See IRequest."""
        return self.head.method

    @property
    def transport(self) -> Any:
        """The connection's transport, for a file that is sent by sendfile(2)."""
        return self.channel.transport

    def header(self, name: str) -> str | None:
        """Return the value of the condition or Range *name*; None: it is absent. Several of one name are joined by
        commas."""
        # A download looks up conditions and Range only, which few requests have.
        if not _CONDITIONAL.search(self.head.fields):
            return None
        key = name.lower().encode()
        lines = (line.partition(b":") for line in self.head.fields.split(b"\r\n"))
        values = [value.strip(b" \t") for field_name, _, value in lines if field_name.lower() == key]
        return b", ".join(values).decode("latin-1") if values else None

    def when_lost(self, call: Callable[[], None]) -> None:
        """Have *call* called when the connection is lost before the response is complete."""
        self._on_lost = call

    def lost(self) -> None:
        """Note that the connection is lost."""
        if self._on_lost is not None:
            self._on_lost()

    def setResponseCode(self, status: int) -> None:
        """See IRequest."""
        self._status = status

    def setHeader(self, name: bytes, value: bytes) -> None:
        """See IRequest."""
        if name == b"Content-Length":
            self._length = int(value)
        self._headers[name] = value

    def write(self, data: bytes) -> None:
        """See IRequest."""
        if not self._started:
            head = self._begin()
            if self.method == b"HEAD" or self._status in NO_BODY_CODES:
                send_whole(self.transport, head)
            elif len(data) == self._length:
                send_whole(self.transport, head + data)
            else:
                self.transport.write(head + self._framed(data))
        elif data:
            self.transport.write(self._framed(data))

    def finish(self) -> None:
        """See IRequest."""
        if not self._started:
            self.write(b"")
        if self._chunked:
            self.transport.write(b"0\r\n\r\n")
        self._done()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See IConsumer."""
        self.channel.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See IConsumer."""
        self.channel.unregisterProducer()

    def respond(self, after_date: bytes) -> None:
        """Send a whole response, see respond(); finish() has to follow."""
        self._started = True
        respond(self.transport, self.head.closes, after_date)

    def end_of_head(self) -> bytes:
        """Return the end of the response's head: all that follows the date."""
        lines = [name + b": " + value for name, value in self._headers.items()]
        return b"\r\n".join([b"", *lines, b"", b""])

    def _begin(self) -> bytes:
        self._started = True
        if self._length is None and self._status not in NO_BODY_CODES and self.method != b"HEAD":
            self._chunked = True
            self._headers[b"Transfer-Encoding"] = b"chunked"
        return _head(self._status, self.head.closes) + _date(int(time())) + self.end_of_head()

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked and data else data


def respond(transport: Any, closes: bool, after_date: bytes) -> None:
    """Send a whole response with the status 200.

    :param closes: the connection ends with it.
    :param after_date: all after the date: other headers, as end_of_head() gives them, and the body.
    """
    send_whole(transport, b"%b%b%b" % (_head(200, closes), _date(int(time())), after_date))


def send_whole(transport: Any, data: bytes) -> None:
    """Send a whole response, at once if nothing else is to be sent before it: that saves a turn of the reactor.

    This is not for a part of a longer one: all that the client can take would be sent in one turn, while other clients
    wait.
    """
    is_plain = isinstance(transport, TCPConnection) and not transport.TLS
    # Twisted's write() only fills its buffer, and the reactor empties that in a later turn. Both attributes are its
    # buffer.
    if is_plain and not (transport.dataBuffer or transport._tempDataBuffer):
        sent = transport.writeSomeData(data)
        if isinstance(sent, int):  # else it is the reason of a lost connection, which the next write finds out
            if sent == len(data):
                return
            data = data[sent:]
    transport.write(data)


def parse(data: bytes) -> RequestHead | None:
    """Return the request if *data* is one whole request and nothing else; None: it is for twisted.web."""
    return _parsed(data) if len(data) <= LARGEST else None


@lru_cache(512)  # machines that boot alike send the same
def _parsed(data: bytes) -> RequestHead | None:
    found = _REQUEST.fullmatch(data)
    if found is None:
        return None
    method, target, fields = found[1], found[2].decode("ascii"), found[3]
    closing = _CLOSING.search(fields)
    return RequestHead(
        method,
        target,
        relative(target),
        fields,
        closing is not None and closing[1] is not None,
        method == b"GET" and not _CONDITIONAL.search(fields) and not names_directory(target),
    )


@lru_cache(64)
def _head(status: int, closes: bool) -> bytes:
    """Return the beginning of a response, up to the date."""
    connection = b"Connection: close\r\n" if closes else b""
    return b"HTTP/1.1 %d %b\r\n%bServer: bootfw\r\nDate: " % (status, RESPONSES[status], connection)


@lru_cache(1)
def _date(second: int) -> bytes:
    return bytes(datetimeToString(second))
