"""Decides which requests may change something, and which may use ``/api/v1``: by tokens."""

import hmac
from collections.abc import Sequence
from typing import Any

from twisted.logger import Logger

from bootfw.boot.onceper import OncePer
from bootfw.config.settings import APIToken
from bootfw.tokenbuckets import TokenBuckets

_REPORT_AGAIN = 60.0
"""Seconds until another wrong token from the same address is logged."""

_LINES_AT_ONCE, _LINES_PER_SECOND = 100, 1.0
"""Limits for the lines of all addresses. A host can have many: all of 127.0.0.0/8, or of a /64."""


class Access:
    """Checks the requests that change something.

    A browser adds no Authorization header by itself, so a foreign page can't make it send a valid request (CSRF).
    Requests whose body is not JSON, or whose Origin is not ours, are refused before that.

    :param token: for changes by the pages; "": nothing may be changed.
    :param api_tokens: for ``/api/v1``; without any it is off.
    """

    log = Logger(namespace="bootfw.web")

    def __init__(self, reactor: Any, token: str, api_tokens: Sequence[APIToken] = ()) -> None:
        self._reactor = reactor
        self._reports = OncePer(_REPORT_AGAIN)
        self._lines = TokenBuckets(1)
        self.use(token, api_tokens)

    def use(self, token: str, api_tokens: Sequence[APIToken] = ()) -> None:
        """Require these tokens from now on; parameters as of the class."""
        self._token = token.encode()
        self._api_tokens = tuple(api_tokens)

    @property
    def writable(self) -> bool:
        """Whether there is a token for changes by the pages."""
        return bool(self._token)

    @property
    def has_api(self) -> bool:
        """Whether there is a token for ``/api/v1``."""
        return bool(self._api_tokens)

    def change_refusal(self, request: Any) -> tuple[int, str] | None:
        """Return (HTTP status, reason) if a change by the pages is refused; None: it is allowed."""
        if not self._token:
            return 403, "these pages are read-only: [web] token is not set"
        origin = request.getHeader(b"origin")
        scheme = b"https" if request.isSecure() else b"http"
        if origin is not None and origin != scheme + b"://" + (request.getHeader(b"host") or b""):
            return 403, "the request comes from a page of another site"
        if (request.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower() != b"application/json":
            return 415, "the body must be JSON, with Content-Type: application/json"
        token = _bearer(request)
        if token and hmac.compare_digest(token, self._token):
            return None
        return self._unauthorized(request, token)

    def api_refusal(self, request: Any, scope: str) -> tuple[int, str] | None:
        """Return (HTTP status, reason) if a request of ``/api/v1`` is refused; None: its token has *scope*."""
        token = self._api_token(request)
        if token is None:
            return self._unauthorized(request, _bearer(request))
        if scope not in token.scopes:
            return 403, f'the token of {token.name} does not have the scope "{scope}"'
        return None

    def token_name(self, request: Any) -> str:
        """Return the name of the token in a request of ``/api/v1``; "": there is no valid one."""
        token = self._api_token(request)
        return token.name if token is not None else ""

    def _api_token(self, request: Any) -> APIToken | None:
        token = _bearer(request)
        # Do not stop at the first match: the response time would show which token it was.
        found = [each for each in self._api_tokens if hmac.compare_digest(token, each.token.encode())]
        return found[0] if found else None

    def _unauthorized(self, request: Any, token: bytes) -> tuple[int, str]:
        request.setHeader(b"WWW-Authenticate", b"Bearer")
        if not token:
            return 401, "the token is missing: send Authorization: Bearer TOKEN"
        peer, now = request.getClientAddress().host, self._reactor.seconds()
        if self._reports.due(peer, now) and self._lines.take("", _LINES_PER_SECOND, _LINES_AT_ONCE, now):
            self.log.warn("web {peer}: refused, the token is wrong", peer=peer)
        return 401, "the token is wrong"


def _bearer(request: Any) -> bytes:
    """Return the token that a request has; b"": there is none."""
    kind, _, token = (request.getHeader(b"authorization") or b"").partition(b" ")
    return token.strip() if kind.lower() == b"bearer" else b""
