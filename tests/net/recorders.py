"""Datagram protocols that write down what happens to them."""

from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from bootfw.interfaces import IBatchReceiver


class Echo(DatagramProtocol):
    """An ordinary protocol, which knows nothing of bootfw. The datagram ``crash`` makes it raise."""

    noisy = False

    def __init__(self):
        self.received = []
        self.life = []
        self.refusals = 0

    def startProtocol(self):
        self.life.append("started")

    def stopProtocol(self):
        self.life.append("stopped")

    def datagramReceived(self, datagram, addr):
        self.received.append((datagram, addr))
        if datagram == b"crash":
            raise ValueError("as asked")
        self.transport.write(datagram, addr)

    def connectionRefused(self):
        self.refusals += 1


@implementer(IBatchReceiver)
class Batches(DatagramProtocol):
    """Takes batches, and gives each datagram to *answer*, called with (transport, data, peer, via)."""

    noisy = False

    def __init__(self, answer=lambda transport, data, peer, via: transport.write_via(data, peer, via)):
        self.answer = answer
        self.batches = []

    @property
    def received(self):
        """All datagrams as (data, peer, via)."""
        return [arrival for batch in self.batches for arrival in batch]

    def datagrams_received(self, batch):
        self.batches.append(list(batch))
        for data, peer, via in batch:
            self.answer(self.transport, data, peer, via)
