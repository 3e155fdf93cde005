"""The loop of a server: bootfw's TFTP on a reactor of its own, and the threads that handlers run in."""

import logging
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from bootfw.api import (
    DatagramsMalformed,
    Event,
    InternalError,
    PluginFailed,
    TFTPProtocol,
    TFTPSettings,
    TransferBegun,
    TransferEnded,
)
from fbtftp.requests import HandlerBackend
from fbtftp.retries import RetryPolicy

if TYPE_CHECKING:
    from fbtftp.base_server import BaseServer

_END_WITHIN = 5.0
"""Seconds that handlers have to end when the server is closed. Then their threads end with the process."""


class _DaemonPool(ThreadPool):
    """Threads that don't keep the process alive."""

    threadFactory = staticmethod(partial(Thread, daemon=True))  # type: ignore[assignment]


@implementer(IReadDescriptor)
class _Listener:
    """The socket of *server*, as a reactor and a protocol see it."""

    def __init__(self, server: "BaseServer") -> None:
        self._server = server

    def fileno(self) -> int:
        """See IReadDescriptor."""
        return self._server._listener.fileno()

    def doRead(self) -> None:
        """See IReadDescriptor."""
        self._server.on_new_data()

    def connectionLost(self, reason: Any) -> None:
        """See IReadDescriptor. The server closes the socket."""

    def logPrefix(self) -> str:
        """See IReadDescriptor."""
        return "fbtftp"

    def write(self, data: bytes, addr: Any) -> None:
        """See IUDPTransport. What can't be sent counts as lost on the wire."""
        try:
            self._server._listener.sendto(data, addr)
        except OSError:
            return


class Loop:
    """Runs *server*, one turn at a time."""

    def __init__(self, server: "BaseServer") -> None:
        self._server = server
        self._reactor: Any = EPollReactor()
        self._pool = _DaemonPool(0, server.max_threads, "fbtftp")
        self._listener: Any = _Listener(server)
        self._backend = HandlerBackend(server, self._reactor, self._pool)
        self._protocol: Any = TFTPProtocol(
            self._reactor,
            self._backend,
            RetryPolicy(server._retries, server._timeout),
            self._publish,
            settings=TFTPSettings(
                listen=(), ports="ephemeral", max_blksize=server.max_blksize, max_windowsize=server.max_windowsize
            ),
            listen=self._open_port,
        )
        self._started = False

    def turn(self) -> None:
        """Wait until something happens, and handle it."""
        if not self._started:
            self._started = True
            self._pool.start()
            self._protocol.makeConnection(self._listener)
            self._reactor.addReader(self._listener)
        self._reactor.iterate(self._reactor.timeout())

    def datagram_received(self, data: bytes, peer: Any) -> None:
        """Take a datagram."""
        self._protocol.datagramReceived(data, peer)

    def wake(self) -> None:
        """End the wait of turn(). May be called from any thread, and from a signal handler."""
        self._reactor.wakeUp()

    def close(self) -> None:
        """End all transfers, with an ERROR to each client, and wait a little for their handlers."""
        if not self._started:
            return
        self._protocol.close()
        self._reactor.removeReader(self._listener)
        # The handlers get their reports in the turn after that in which their transfers end; the ports close then, too.
        self._reactor.iterate(0)
        self._reactor.iterate(0)
        self._protocol.doStop()
        stopping = Thread(target=self._pool.stop, daemon=True)
        stopping.start()
        stopping.join(_END_WITHIN)

    def _open_port(self, protocol: Any, local: str) -> Any:
        return self._reactor.listenUDP(0, protocol, local or self._server._address)

    def _publish(self, event: Event) -> None:
        match event:
            case TransferBegun():
                self._backend.transfer_begun(event.request, event.agreed)
            case TransferEnded():
                self._backend.transfer_ended(event.report)
            case PluginFailed() | InternalError():
                logging.error("%s", event)
            case DatagramsMalformed():
                logging.warning("%s", event)
