"""The master server by TCP: receivers ask it where an image is sent, and clients where to upload one."""

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import TimeoutMixin

from bootfw.errors import WireError
from bootfw.events import Event
from bootfw.net.admission import Admission
from bootfw.net.dropcounter import DropCounter
from bootfw.net.multicast.sender import ImageSender
from bootfw.net.multicast.uploads import Uploads
from bootfw.wire import frisbeemaster as wire

SERVICE = "multicast-master"
"""The name of the service, in events and in the status."""

CONNECTIONS = 256
"""Most connections at a time; further ones are closed, and their receivers try again."""
CONNECTION_SECONDS = 15.0
"""Seconds after which a connection is reset. Receivers wait 5 s for the reply."""


class MasterProtocol(Protocol, TimeoutMixin):
    """A connection: one request, one reply."""

    factory: "Master"

    def connectionMade(self) -> None:
        """See IProtocol."""
        self._received = b""
        self._pending: Any = None
        self.callLater = self.factory.reactor.callLater  # type: ignore[method-assign]
        self.factory.connections.add(self)
        self.setTimeout(CONNECTION_SECONDS)  # type: ignore[no-untyped-call]

    def timeoutConnection(self) -> None:
        """See TimeoutMixin."""
        self.transport.abortConnection()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """See IProtocol."""
        if self._pending is not None:
            return  # A connection carries one request.
        self._received += data
        transport: Any = self.transport
        peer, local = transport.getPeer(), transport.getHost().host
        try:
            size = wire.request_size(self._received)
            if not size or len(self._received) < size:
                return
            request = wire.parse_request(self._received)
        except WireError as error:
            self.factory.malformed.count(str(error), (peer.host, peer.port), self.factory.reactor.seconds())
            transport.loseConnection()
            return
        if isinstance(request, wire.PutRequest):
            self._pending = self.factory.uploads.put(request, (peer.host, peer.port), local)
        else:
            self._pending = self.factory.sender.get(request, (peer.host, peer.port), local)
        self._pending.addCallback(self._reply)

    def _reply(self, reply: Any) -> None:
        # The connection may have been lost, or timed out, while a backend was answering.
        if self in self.factory.connections:
            self.transport.write(wire.pack(reply))  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        """See IProtocol."""
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self.factory.connections.discard(self)


class Master(Factory):
    """The connections to the master server."""

    noisy = False
    protocol = MasterProtocol  # type: ignore[assignment]

    def __init__(
        self,
        reactor: Any,
        sender: ImageSender,
        uploads: Uploads,
        admission: Admission,
        publish: Callable[[Event], None],
    ) -> None:
        self.reactor = reactor
        self.sender = sender
        self.uploads = uploads
        self.malformed = DropCounter(SERVICE, publish, reactor)
        self.connections: set[MasterProtocol] = set()
        self._admission = admission

    def buildProtocol(self, addr: Any) -> Any:
        """See IProtocolFactory. None: the client is not served, or there are too many."""
        now = self.reactor.seconds()
        if len(self.connections) >= CONNECTIONS or not self._admission.serves(SERVICE, (addr.host, addr.port), now):
            return None
        return super().buildProtocol(addr)

    def close(self) -> None:
        """Reset every connection."""
        self.malformed.stop()
        for connection in list(self.connections):
            connection.transport.abortConnection()  # type: ignore[union-attr]
