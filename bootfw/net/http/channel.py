"""Connections and requests of twisted.web that write nothing into the log, whatever a client sends."""

from typing import Any

from twisted.web.http import HTTPChannel
from twisted.web.server import NOT_DONE_YET, Request

_LONGEST_LENGTH = 64
"""Bytes of a line with a Content-Length: int() takes up to 4300 digits, and twisted.web does not count them."""


class Channel(HTTPChannel):
    """An HTTPChannel that answers a Content-Length of thousands of digits with 400; Twisted's would log a traceback."""

    def headerReceived(self, line: bytes) -> bool:
        """See HTTPChannel."""
        if len(line) > _LONGEST_LENGTH and line[:15].lower() == b"content-length:":
            line = b"Content-Length: too long"  # which Twisted refuses
        received: bool = super().headerReceived(line)  # type: ignore[no-untyped-call]
        return received


class QuietRequest(Request):
    """A request that is not logged if it is a HEAD; Twisted's logs that the body is left out."""

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
