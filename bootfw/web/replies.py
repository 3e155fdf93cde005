"""Responses of the pages, and the headers that all of them have."""

import json
from typing import Any

from twisted.web.resource import Resource

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""The Content-Security-Policy: nothing from other hosts, no inline script or style, and no frame around the page."""

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def set_headers(request: Any) -> None:
    """Set the headers of every response. There is no CORS header, so pages of other origins can't read a response."""
    for name, value in _HEADERS.items():
        request.setHeader(name.encode(), value.encode())


def as_json(request: Any, value: Any, status: int = 200) -> bytes:
    """Return *value* as the body of a JSON response."""
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"application/json")
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


class Page(Resource):
    """A path where a subclass serves GET, and may serve POST."""

    isLeaf = True
    methods = "GET, HEAD"

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def render(self, request: Any) -> Any:
        """See IResource."""
        request.setHeader(b"Server", b"bootfw")  # replace the type that twisted.web has set
        method = "GET" if request.method == b"HEAD" else request.method.decode("ascii", "replace")
        if method not in self.methods:
            request.setHeader(b"Allow", self.methods.encode())
            return refusal(request, 405, f"only {self.methods} can be used here")
        return self.post(request) if method == "POST" else self.get(request)

    def get(self, request: Any) -> Any:
        """Return the body, or NOT_DONE_YET; also for HEAD, whose response has no body."""
        raise NotImplementedError

    def post(self, request: Any) -> Any:
        """Make the change that a POST requests; results as of get()."""
        raise NotImplementedError


def refusal(request: Any, status: int, reason: str) -> bytes:
    """Return the body of an error response. *reason* says what was wrong, and what would be right."""
    return as_json(request, {"error": reason}, status)
