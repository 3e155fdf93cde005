"""Stream ports of Twisted without Twisted's log lines about starts and ends, which our events report."""

import resource
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Port
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.python.log import callWithContext
from zope.interface import implementer

_SILENT = {"log_format": ""}
"""Context of a log call: the event has no text, and a log file leaves it out."""


def quiet_port(listen: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call *listen* with these arguments, and return its port, which logs neither its start nor its end.

    Its connectionLost() may be called before the reactor does so, and is then not repeated.
    """
    port = callWithContext(_SILENT, listen, *arguments, **options)
    # The ports of other reactors, such as an in-memory one, log nothing.
    if isinstance(port, Port):
        close = port.connectionLost

        # The reactor calls it for each reader when it ends. A second call of Twisted's own raises: its socket is gone.
        def close_once(reason: Any) -> None:
            if port.connected:
                callWithContext(_SILENT, close, reason)

        port.connectionLost = close_once  # type: ignore
        # Twisted reports a lack of descriptors in three lines for each connection, by this logger.
        port._logger = Logger(namespace=port._logger.namespace, observer=_ReportOnce())
    return port


_AGAIN = 60.0
"""Seconds until the log repeats that descriptors are used up."""


@implementer(ILogObserver)
class _ReportOnce:
    """Replaces Twisted's reports that accept() has failed by one line in _AGAIN seconds."""

    _log = Logger(namespace="bootfw")

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._next = 0.0

    def __call__(self, event: LogEvent) -> None:
        now = self._seconds()
        if now < self._next:
            return
        self._next = now + _AGAIN
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._log.warn(
            "TCP connections are closed at once: accept() fails with {error}. The process may have {limit} files open: "
            "raise LimitNOFILE= of the unit, or ulimit -n",
            error=event.get("acceptError", "EMFILE"),
            limit=limit,
        )
