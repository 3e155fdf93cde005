"""Stream ports of Twisted without Twisted's log lines about starts and ends, which our events report."""

from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Port
from twisted.python.log import callWithContext

_SILENT = {"log_format": ""}
"""Context of a log call: the event has no text, and a log file leaves it out."""


def quiet_port(listen: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The port that *listen* returns for these arguments; it logs neither its start nor its end.

    Its connectionLost() may be called before the reactor does so, and is then not repeated.
    """
    port = callWithContext(_SILENT, listen, *arguments, **options)
    if isinstance(port, Port):
        close = port.connectionLost

        def close_once(reason: Any) -> None:
            if port.connected:
                callWithContext(_SILENT, close, reason)

        port.connectionLost = close_once  # type: ignore
    return port
