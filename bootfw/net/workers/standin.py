"""What serves the sockets of a worker in the main process, from the moment the port is open until the worker is ready.

A worker needs most of a second to start. Until then its clients would wait, and the port would be open all the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import DeferredList, maybeDeferred

from bootfw.net.tftp.handover import Handover
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.tftp.transfer import Transfer
from bootfw.values import Address

Serve = Callable[..., tuple[Any, Any]]
"""Called with a service, its address, a socket and where to publish: serves there, and returns (protocol, port)."""


@define(eq=False)
class StandIn:
    """Serves until it is asked to leave; what can't be handed over it brings to its end all the same."""

    _serving: Sequence[tuple[Any, Any]]
    """(protocol, port) each."""
    _left: bool = field(default=False, init=False)

    @property
    def busy(self) -> bool:
        """There are transfers that another process can't go on with."""
        under_way = (transfer for tftp in self._tftps() for transfer in tftp.on_this_port)
        return any(not transfer.movable and not _is_reported(transfer) for transfer in under_way)

    def drain(self) -> None:
        """Ignore new requests, which will come again, so that it is busy no more."""
        for tftp in self._tftps():
            tftp.leave()

    def leave(self) -> list[tuple[Address, Handover]]:
        """Read the sockets no more.

        :return: (peer, what is known of it) of the transfers that another process has to go on with.
        """
        self._left = True
        here = [transfer for tftp in self._tftps() for transfer in tftp.on_this_port]
        moved = []
        for number, tftp in enumerate(self._tftps()):
            movable = [transfer for transfer in tftp.on_this_port if transfer.movable]
            moved += [(transfer.request.peer, transfer.handover(number)) for transfer in movable]
        for transfer in here:
            transfer.finish()  # without a word: its client goes on with the worker
        self.drain()
        for _, port in self._serving:
            port.stopListening()
        return moved

    def close(self) -> Any:
        """End what there is."""
        closing = [maybeDeferred(protocol.close) for protocol, _ in self._serving]
        if not self._left:
            closing += [maybeDeferred(port.stopListening) for _, port in self._serving]
        return DeferredList(closing)

    def _tftps(self) -> list[TFTPProtocol]:
        return [protocol for protocol, _ in self._serving if isinstance(protocol, TFTPProtocol)]


def _is_reported(transfer: Transfer) -> bool:
    """It is over, and only waits for a last packet that may come again."""
    return transfer.session is not None and transfer.session.outcome is not None
