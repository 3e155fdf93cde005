"""Decides which requests may change something: those with the token that do not come from another site's page."""

import hmac
from typing import Any

from twisted.logger import Logger

from bootfw.boot.onceper import OncePer
from bootfw.tokenbuckets import TokenBuckets

_REPORT_AGAIN = 60.0
"""Seconds until another wrong token from the same address is logged."""

_LINES_AT_ONCE, _LINES_PER_SECOND = 100, 1.0
"""Limits of these lines. A host can have many addresses: all of 127.0.0.0/8, or of a /64."""


class Access:
    """Checks the requests that change something.

    A browser adds no Authorization header by itself, so a foreign page can't make it send a valid request (CSRF).
    Requests whose body is not JSON, or whose Origin is not ours, are refused before that.

    :param token: "": nothing may be changed.
    """

    log = Logger(namespace="bootfw.web")

    def __init__(self, reactor: Any, token: str) -> None:
        self._reactor = reactor
        self._reports = OncePer(_REPORT_AGAIN)
        self._lines = TokenBuckets(1)
        self.use(token)

    def use(self, token: str) -> None:
        """Require *token* from now on; "": nothing may be changed."""
        self._token = token.encode()

    @property
    def writable(self) -> bool:
        """Whether there is a token."""
        return bool(self._token)

    def refuses(self, request: Any) -> tuple[int, str] | None:
        """Return (status, reason) if the request is refused; None: it may change something."""
        if not self._token:
            return 403, "these pages are read-only: [web] token is not set"
        origin = request.getHeader(b"origin")
        scheme = b"https" if request.isSecure() else b"http"
        if origin is not None and origin != scheme + b"://" + (request.getHeader(b"host") or b""):
            return 403, "the request comes from a page of another site"
        if (request.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower() != b"application/json":
            return 415, "the body must be JSON, with Content-Type: application/json"
        kind, _, given = (request.getHeader(b"authorization") or b"").partition(b" ")
        if kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token):
            return None
        request.setHeader(b"WWW-Authenticate", b"Bearer")
        if not given:
            return 401, "the token is missing: send Authorization: Bearer TOKEN"
        peer, now = request.getClientAddress().host, self._reactor.seconds()
        if self._reports.due(peer, now) and self._lines.take("", _LINES_PER_SECOND, _LINES_AT_ONCE, now):
            self.log.warn("web {peer}: refused, the token is wrong", peer=peer)
        return 401, "the token is wrong"
