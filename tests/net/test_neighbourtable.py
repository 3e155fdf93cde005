"""Clients that fall silent because the kernel has no room for their hardware addresses."""

import socket

from bootfw.events import Event, NeighbourTableFull, TransferEnded
from bootfw.net.linux.neighbourtable import INTERVAL, NeighbourObserver
from bootfw.net.linux.netlink import NeighbourTable
from bootfw.values import Agreed, Outcome, TransferReport, TransferRequest


def ended(now: float, outcome: Outcome = Outcome.TIMED_OUT) -> Event:
    report = TransferReport(
        request=TransferRequest("kernel", "kernel", ("10.0.0.9", 2070), "10.0.0.1"),
        agreed=Agreed(),
        outcome=outcome,
        detail="",
        bytes_transferred=0,
        blocks=0,
        retransmitted=0,
        began=0.0,
        ended=now,
    )
    return TransferEnded(now, report)


class Kernel:
    """The neighbour tables of a kernel; that of IPv4 overflows."""

    def __init__(self, overflows: int = 0) -> None:
        self.overflows = overflows
        self.readable = True
        self.reads = 0

    def tables(self) -> list[NeighbourTable]:
        self.reads += 1
        if not self.readable:
            raise PermissionError
        return [
            NeighbourTable(socket.AF_INET, 1024, 1024, self.overflows),
            NeighbourTable(socket.AF_INET6, 3, 1024, 0),
        ]


def test_an_overflow_is_reported_when_a_client_falls_silent() -> None:
    kernel, events = Kernel(overflows=5), list[Event]()
    observer = NeighbourObserver(kernel.tables, events.append)
    observer.observe(ended(1.0))
    assert not events, "it was before the start"
    kernel.overflows = 12
    observer.observe(ended(2.0))
    assert not events, "too soon for another look"
    observer.observe(ended(1.0 + INTERVAL))
    assert events == [NeighbourTableFull(1.0 + INTERVAL, "net.ipv4.neigh.default.gc_thresh3", 1024, 7)]
    observer.observe(ended(1.0 + 2 * INTERVAL))
    assert len(events) == 1, "it has not happened again"


def test_the_kernel_is_not_queried_while_transfers_succeed() -> None:
    kernel = Kernel()
    observer = NeighbourObserver(kernel.tables, list[Event]().append)
    observer.observe_many([ended(100.0 * number, Outcome.COMPLETE) for number in range(50)])
    assert kernel.reads == 1, "at the start"


def test_without_netlink_nothing_is_reported() -> None:
    kernel, events = Kernel(), list[Event]()
    observer = NeighbourObserver(kernel.tables, events.append)
    observer.observe(ended(1.0))
    kernel.readable, kernel.overflows = False, 9
    observer.observe(ended(20.0))
    assert not events
