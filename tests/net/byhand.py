"""A DatagramPort that no reactor wakes: the test calls its doRead()."""

from bootfw.net.udp.port import DatagramPort


class UnusedReactor:
    """A reactor that never calls its readers."""

    def addReader(self, reader: DatagramPort) -> None:
        pass

    removeReader = addReader


def read(port: DatagramPort, count: int) -> None:
    """Have *port* read *count* datagrams that have been sent to it."""
    total = port.counters.received + count
    while port.counters.received < total:
        port.doRead()
