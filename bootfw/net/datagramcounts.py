"""Counts of the datagrams that the UDP ports have received and sent, as events."""

from collections.abc import Callable, Iterable
from operator import sub
from typing import Any

from bootfw.events import DatagramsCounted, Event
from bootfw.net.binding import WantedSocket
from bootfw.net.udp.port import DatagramPort

_NONE = (0, 0, 0, 0)


class DatagramCounts:
    """Publishes what the counters of the ports have counted since they were read last.

    :param reactor: IReactorTime.
    :param publish: called with each event; must not raise.
    """

    def __init__(self, reactor: Any, publish: Callable[[Event], None]) -> None:
        self._reactor = reactor
        self._publish = publish
        self._reported: dict[DatagramPort, tuple[int, ...]] = {}
        """The counters of each port at the latest report()."""

    def report(self, sockets: Iterable[WantedSocket]) -> None:
        """Publish the counts of *sockets*: one event for each service that has received or sent something."""
        totals: dict[str, tuple[int, ...]] = {}
        for each in sockets:
            if isinstance(each.port, DatagramPort):
                counters = each.port.counters
                counted = (counters.received, counters.sent, counters.send_errors, counters.receive_errors)
                since = map(sub, counted, self._reported.get(each.port, _NONE))
                before = totals.get(each.service, _NONE)
                totals[each.service] = tuple(map(sum, zip(before, since, strict=True)))
                self._reported[each.port] = counted
        for service, total in totals.items():
            if any(total):
                self._publish(DatagramsCounted(self._reactor.seconds(), service, *total))

    def forget(self, port: Any) -> None:
        """Forget the counters of a port that is closed."""
        self._reported.pop(port, None)

    def clear(self) -> None:
        """Forget the counters of all ports: they are closed."""
        self._reported.clear()
