"""Why a request that twisted.web's Agent sent to a server has failed, in words for the operator."""

import sys
from types import ModuleType

from twisted.internet import defer, error
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed, ResponseNeverReceived
from twisted.web.error import InfiniteRedirection, RedirectWithNoLocation, SchemeNotSupported

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (defer.TimeoutError, "it has not answered in time"),
    (defer.CancelledError, "it has not answered in time"),  # Agent wraps the cancellation by addTimeout()
    (error.TimeoutError, "it has not answered in time"),
    (error.DNSLookupError, "its name has no address"),
    (error.ConnectionRefusedError, "it refused the connection"),
    (error.NoRouteError, "there is no route to it"),
    (InfiniteRedirection, "it redirects too often"),
    (RedirectWithNoLocation, "its redirect names no URL"),
    (SchemeNotSupported, "its redirect is neither to http nor to https"),
)


def request_failure_reason(failure: Failure) -> str:
    """Return why a request by twisted.web's Agent or RedirectAgent, or the body of its response, has failed: part of a
    sentence about the server, such as "it refused the connection"."""
    # Agent wraps what happens on an open connection: ResponseNeverReceived([Failure of ConnectionLost]).
    reasons = getattr(failure.value, "reasons", None)
    cause: Failure = reasons[0] if reasons else failure
    for kind, reason in _REASONS:
        if cause.check(kind):
            return reason
    if cause.check(error.ConnectionClosed):
        received = failure.check(ResponseFailed) and not failure.check(ResponseNeverReceived)
        return "its answer was cut off" if received else "it closed the connection without an answer"
    reason = _tls_reason(cause)
    if not reason and failure.check(ResponseFailed):
        return "its answer is not HTTP"
    return reason or cause.getErrorMessage().rstrip(".")


def _tls_reason(cause: Failure) -> str:
    """Return what is wrong with the server's TLS, or "". pyOpenSSL and service-identity are optional; where TLS has
    failed, they have been imported."""
    if _is(cause, sys.modules.get("service_identity"), "VerificationError"):
        return "its certificate is for another name"
    if not _is(cause, sys.modules.get("OpenSSL.SSL"), "Error"):
        return ""
    # The only argument is OpenSSL's queue of errors: [(library, function, reason)].
    reasons = [reason for _, _, reason in next(iter(getattr(cause.value, "args", ())), ())]
    if "certificate verify failed" in reasons:
        return "its certificate has expired, or no authority that this system trusts has signed it"
    return "TLS failed: " + ", ".join(reasons)


def _is(cause: Failure, module: ModuleType | None, name: str) -> bool:
    return module is not None and isinstance(cause.value, getattr(module, name))
