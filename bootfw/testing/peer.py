"""A peer whose packets a test sends and receives itself."""

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.protocol import DatagramProtocol

from bootfw.testing.network import MemoryHost
from bootfw.values import Address


@frozen
class Received:
    """A datagram that a FakePeer got."""

    at: float
    """Seconds on the network's clock."""
    data: bytes
    peer: Address
    """Where it came from."""


class FakePeer(DatagramProtocol):
    """A UDP port whose datagrams are a list::

        peer = FakePeer(network.host("10.0.0.9"))
        peer.send(rrq, ("10.0.0.1", 69))
        network.advance(1)
        [reply] = peer.take()

    :param port: 0: an ephemeral one.
    :param interface: one of the host's addresses; "": all of IPv4; "::": all of IPv6.
    :param answer: called with each Received; its result is sent back to the sender, unless it is None.
    """

    noisy = False

    def __init__(
        self,
        host: MemoryHost,
        port: int = 0,
        interface: str = "",
        answer: Callable[[Received], bytes | None] | None = None,
    ) -> None:
        self.host = host
        self.answer = answer
        self.received: list[Received] = []
        self._port = host.listenUDP(port, self, interface, maxPacketSize=65536)
        self._port.setBroadcastAllowed(True)

    @property
    def address(self) -> tuple[str, int]:
        """Its own address: (host, port)."""
        interface = self._port.interface
        return (self.host.source(interface or "0.0.0.0") if self._port.wildcard else interface, self._port.port)

    def send(self, data: bytes, to: Any) -> None:
        """Send *data* to the address *to*."""
        self._port.write(data, to)

    def take(self) -> list[Received]:
        """Return the datagrams that have arrived since the last call."""
        received, self.received = self.received, []
        return received

    def close(self) -> None:
        """Stop listening; what is sent to it from now on is lost."""
        self._port.stopListening()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See DatagramProtocol."""
        received = Received(self.host.seconds(), datagram, addr)
        self.received.append(received)
        reply = self.answer(received) if self.answer is not None else None
        if reply is not None:
            self.send(reply, addr)
