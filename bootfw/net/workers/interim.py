"""Serves a worker's sockets in the main process until the worker is ready.

A worker takes most of a second to start. Its sockets are open before that, so clients would wait for a reply.
"""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define
from twisted.internet.defer import DeferredList, maybeDeferred

from bootfw.net.tftp.handover import Handover
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.values import Address

Serve = Callable[..., tuple[Any, Any]]
"""Called with (service, address, socket, publish). Starts to serve the socket and returns (protocol, port)."""


@define(eq=False)
class InterimServer:
    """Serves until hand_over(). Transfers on ports of their own can't be handed over, and finish here afterwards."""

    _serving: Sequence[tuple[Any, Any]]
    """Pairs of (protocol, port)."""

    @property
    def is_busy(self) -> bool:
        """Whether there are transfers on the worker's sockets that another process can't continue."""
        # An upload has a writer, and a netascii transfer a translation, that can't move to another process.
        under_way = (transfer for tftp in self._tftps() for transfer in tftp.on_this_port)
        return any(not transfer.can_hand_over and not transfer.is_reported for transfer in under_way)

    def drain(self) -> None:
        """Drop new requests, which their clients retry, so that ``is_busy`` becomes false."""
        for tftp in self._tftps():
            tftp.drain()

    def stored_uploads(self) -> list[tuple[Address, int]]:
        """Return (peer, the last block as numbered on the wire) of uploads whose clients may not have the last ACK."""
        transfers = [transfer for tftp in self._tftps() for transfer in tftp.on_this_port]
        blocks = [(transfer.request.peer, transfer.stored_block) for transfer in transfers]
        return [(peer, block) for peer, block in blocks if block is not None]

    def hand_over(self) -> list[tuple[Address, Handover]]:
        """Stop reading the sockets.

        :return: (peer, state) of each transfer that another process has to continue.
        """
        # All states are taken before anything ends, in one turn of the reactor: no datagram is read in between.
        handed_over = []
        for number, tftp in enumerate(self._tftps()):
            movable = [transfer for transfer in tftp.on_this_port if transfer.can_hand_over]
            handed_over += [(transfer.request.peer, transfer.handover(number)) for transfer in movable]
        for tftp in self._tftps():
            tftp.abandon_transfers()
        # Transfers on ports of their own finish here, but no others begin.
        self.drain()
        # These are copies of the worker's sockets. What arrives from now on waits in the kernel for its process.
        for _, port in self._serving:
            port.stopListening()
        return handed_over

    def close(self) -> Any:
        """End all transfers and close all ports."""
        closing = [maybeDeferred(protocol.close) for protocol, _ in self._serving]
        closing += [maybeDeferred(port.stopListening) for _, port in self._serving]
        return DeferredList(closing)

    def _tftps(self) -> list[TFTPProtocol]:
        return [protocol for protocol, _ in self._serving if isinstance(protocol, TFTPProtocol)]
