"""A DatagramPort that no reactor wakes: it is read by hand."""

from bootfw.net.udp.port import DatagramPort


class Unused:
    """The port's reactor."""

    def addReader(self, reader: DatagramPort) -> None:
        pass

    removeReader = addReader


def read(port: DatagramPort, count: int) -> None:
    """Have *port* take *count* datagrams that have been sent to it."""
    end = port.counters.received + count
    while port.counters.received < end:
        port.doRead()
