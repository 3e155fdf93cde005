"""Connections and requests of twisted.web that write nothing into the log, whatever a client sends."""

import re
from typing import Any

from twisted.web.http import HTTPChannel
from twisted.web.server import NOT_DONE_YET, Request

_LONGEST_LENGTH = 64
"""Bytes of a line with a Content-Length: int() takes up to 4300 digits, and twisted.web does not count them."""


_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e\x80-\xff]+ HTTP/1\.[01]")
"""RFC 9112, section 3. Later versions of HTTP have no request line."""


class Channel(HTTPChannel):
    """An HTTPChannel that answers with 400 where Twisted's accepts a request or logs a traceback.

    It does so for a Content-Length of thousands of digits and, with Twisted before 24.10, for a malformed request line.
    """

    def lineReceived(self, line: bytes) -> None:
        """See HTTPChannel."""
        # Only HTTPChannel knows whether the line is a header or the first line of a request, for which it adds a
        # request.
        before = len(self.requests)
        super().lineReceived(line)  # type: ignore[no-untyped-call]
        transport: Any = self.transport
        is_request_line = len(self.requests) > before
        if is_request_line and not transport.disconnecting and not _REQUEST_LINE.fullmatch(line):
            transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.loseConnection()  # type: ignore[no-untyped-call]

    def headerReceived(self, line: bytes) -> bool:
        """See HTTPChannel."""
        if len(line) > _LONGEST_LENGTH and line[:15].lower() == b"content-length:":
            line = b"Content-Length: too long"  # which Twisted refuses
        received: bool = super().headerReceived(line)  # type: ignore[no-untyped-call]
        return received


class QuietRequest(Request):
    """A Request that logs nothing for a HEAD; Twisted's logs that the body is left out."""

    def render(self, resrc: Any) -> None:
        """See Request."""
        if self.method != b"HEAD":
            super().render(resrc)  # type: ignore[no-untyped-call]
            return
        body = resrc.render(self)
        if body is not NOT_DONE_YET:
            self.setHeader(b"Content-Length", b"%d" % len(body))  # type: ignore[no-untyped-call]
            self.write(b"")  # type: ignore[no-untyped-call]
            self.finish()  # type: ignore[no-untyped-call]
