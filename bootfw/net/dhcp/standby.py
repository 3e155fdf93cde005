"""The DHCP port of a standby: another server answers."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from bootfw.interfaces import IBatchReceiver
from bootfw.net.nodes.leadership import Leadership
from bootfw.values import Address, Via


@implementer(IBatchReceiver)
class StandbyPort(DatagramProtocol):
    """Drops all requests unread, and counts them.

    The socket stays open, so that a takeover has nothing to bind: the protocol of the port is replaced.
    """

    noisy = False

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    def startProtocol(self) -> None:
        """See DatagramProtocol."""
        # The port may have served a DHCPPort before, whose backlog must not count these requests.
        transport: Any = self.transport
        if hasattr(transport, "trim_backlog"):
            transport.trim_backlog = None

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See DatagramProtocol."""
        self._leadership.dropped += 1

    def datagrams_received(self, batch: Sequence[tuple[bytes, Address, Via]]) -> None:
        """See IBatchReceiver."""
        self._leadership.dropped += len(batch)

    def drain(self) -> None:
        """Nothing is pending."""

    def close(self) -> None:
        """There is nothing to close."""
