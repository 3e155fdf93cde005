"""Datagrams that need no look at what they are: a port gives them straight to the one they are for."""

from collections.abc import Callable

from attrs import define, field

from bootfw.net.sender import Line, Sender
from bootfw.values import Address, Via

Take = Callable[[int, float], bool]
"""Given (the four octets as a big-endian number, now). False: it is not for this way, and nothing has been done."""


@define(eq=False)
class Express:
    """Takes datagrams of exactly four octets, which is what an ACK is, by their source.

    What no one takes is delivered as ever, in its order.

    :param seconds: the clock of those who take.
    """

    seconds: Callable[[], float]
    _sender: Sender
    takers: dict[bytes | int, Take] = field(factory=dict, init=False)
    """By Destination.key of the source. The port looks here for each datagram."""

    def line(self, peer: Address, via: Via | None) -> Line:
        """See Sender.line."""
        return self._sender.line(peer, via)

    def give(self, peer: Address, take: Take) -> None:
        """From now on *take* is asked first about what comes from *peer*."""
        self.takers[self._sender.destination(peer).key] = take

    def end(self, peer: Address) -> None:
        """Undo give(); nothing happens where there was none."""
        self.takers.pop(self._sender.destination(peer).key, None)
