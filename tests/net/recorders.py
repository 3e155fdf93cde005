"""Datagram protocols that record the calls that they get."""

from collections.abc import Callable, Sequence
from typing import Any

from narrowing import present
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from bootfw.interfaces import IBatchReceiver
from bootfw.values import Address, Via


class Echo(DatagramProtocol):
    """An ordinary protocol of Twisted, which sends back what it receives. The datagram ``crash`` makes it raise."""

    noisy = False

    def __init__(self) -> None:
        self.received: list[tuple[bytes, tuple[str | int, ...]]] = []
        self.lifecycle: list[str] = []
        self.refusals = 0

    def startProtocol(self) -> None:
        self.lifecycle.append("started")

    def stopProtocol(self) -> None:
        self.lifecycle.append("stopped")

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        self.received.append((datagram, addr))
        if datagram == b"crash":
            raise ValueError("as asked")
        present(self.transport).write(datagram, addr)  # type: ignore[arg-type]  # IPv6's have four parts

    def connectionRefused(self) -> None:
        self.refusals += 1


@implementer(IBatchReceiver)
class Batches(DatagramProtocol):
    """Receives batches, and calls *answer* with (transport, data, peer, via) for each datagram."""

    noisy = False

    def __init__(
        self, answer: Callable[..., Any] = lambda transport, data, peer, via: transport.write_via(data, peer, via)
    ) -> None:
        self.answer = answer
        self.batches: list[list[tuple[bytes, tuple[str | int, ...], Via]]] = []

    @property
    def received(self) -> list[tuple[bytes, tuple[str | int, ...], Via]]:
        """All datagrams as (data, peer, via)."""
        return [datagram for batch in self.batches for datagram in batch]

    def datagrams_received(self, batch: Sequence[tuple[bytes, tuple[str | int, ...], Via]]) -> None:
        self.batches.append(list(batch))
        for data, peer, via in batch:
            self.answer(self.transport, data, peer, via)
