"""Reports that the kernel's neighbour table is full.

By default the kernel keeps the hardware addresses of at most 1,024 neighbours. More machines than that on one
link get no answers: the kernel drops what is sent to those that it has no room for, broadcasts too, and reports success
(udp_send_skb() in net/ipv4/udp.c hides ENOBUFS). From the server's side they are clients that fall silent.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from math import inf

from attrs import define, field
from zope.interface import implementer

from bootfw.events import BootAttemptEnded, Event, NeighbourTableFull, TransferEnded
from bootfw.interfaces import IBatchObserver
from bootfw.net.linux.netlink import NeighbourTable
from bootfw.values import Outcome

INTERVAL = 10.0
"""Minimum seconds between two looks at the table."""

SETTINGS: Mapping[int, str] = {
    socket.AF_INET: "net.ipv4.neigh.default.gc_thresh3",
    socket.AF_INET6: "net.ipv6.neigh.default.gc_thresh3",
}
"""Address family -> the sysctl with the number of its entries."""


@implementer(IBatchObserver)
@define(eq=False)
class NeighbourObserver:
    """Reads the tables when a client has fallen silent, and publishes an event if they have overflowed since the last
    time.

    A table that overflows without a client that falls silent harms no boot.

    :param tables: returns the tables; it raises OSError where this process may not read them.
    """

    _tables: Callable[[], Sequence[NeighbourTable]]
    _publish: Callable[[Event], None]
    _overflows: dict[int, int] | None = field(default=None, init=False)
    """Address family -> overflows when the table was read last; None: it was not read yet."""
    _read_at: float = field(default=-inf, init=False)
    """When the tables were read last, in seconds of the clock."""

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        self.observe_many((event,))

    def observe_many(self, events: Sequence[Event]) -> None:
        """See IBatchObserver."""
        # The first events are those of the start: overflows before that are none of this server's.
        if self._overflows is None:
            self._overflows = {table.family: table.overflows for table in self._read()}
        for event in events:
            kind = type(event)
            if kind is TransferEnded:
                is_silent = event.report.outcome is Outcome.TIMED_OUT  # type: ignore[attr-defined]
            else:
                is_silent = kind is BootAttemptEnded
            if is_silent and not 0 <= event.at - self._read_at < INTERVAL:
                self._read_at = event.at
                self._compare(event.at)

    def _compare(self, now: float) -> None:
        assert self._overflows is not None
        for table in self._read():
            before = self._overflows.get(table.family, 0)
            if table.overflows > before:
                self._overflows[table.family] = table.overflows
                setting = SETTINGS[table.family]
                self._publish(NeighbourTableFull(now, setting, table.most, table.overflows - before))

    def _read(self) -> Sequence[NeighbourTable]:
        try:
            return [table for table in self._tables() if table.family in SETTINGS]
        except OSError:
            return ()
