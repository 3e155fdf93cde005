"""The status of a running server as one record: the operation "status" of the control socket.

``bootfw status`` prints it.
"""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field
from zope.interface import implementer

from bootfw import __version__
from bootfw.events import Event, TransferBegun, TransferEnded
from bootfw.interfaces import IBatchObserver
from bootfw.net.workers.supervisor import Workers
from bootfw.service import BootService
from bootfw.values import Address
from bootfw.web.sockets import Sockets
from twisted import __version__ as twisted_version

_MOST_COUNTED = 50_000
"""Most transfers that are counted as in flight. A full event queue may drop the event that ends one."""


@implementer(IBatchObserver)
@define(eq=False)
class Status:
    """Answers the operation "status" for a service.

    :param source: the configuration file; "": there is none.
    """

    _boot: BootService
    _source: str = ""
    _began: float = field(factory=time.time, init=False)
    _sockets: Sockets = field(init=False)
    _transfers: dict[tuple[str, Address], None] = field(factory=dict, init=False)
    """(protocol, peer) of the transfers that have begun and not ended."""

    def __attrs_post_init__(self) -> None:
        self._sockets = Sockets(self._boot)

    def operation(self, arguments: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """See Operation: one record."""
        return [self.record()]

    def record(self) -> dict[str, Any]:
        """Return the status. Times are in seconds since the epoch."""
        boot = self._boot
        workers = [record for child in boot if isinstance(child, Workers) for record in child.records()]
        return {
            **self._sockets.readiness(),
            "version": __version__,
            "python": platform.python_version(),
            "twisted": twisted_version,
            "pid": os.getpid(),
            "since": self._began,
            "configuration": self._source,
            "sockets": self._sockets.records(),
            "workers": workers,
            "transfers": len(self._transfers),
            "images": boot.images_sent(),
            "uploads": boot.images_uploaded(),
            "leases": self._leases(),
            "cluster": boot.cluster_record(),
        }

    def _leases(self) -> list[dict[str, Any]]:
        """Return for each subnet the number of addresses by the state of their lease, and of free addresses."""
        leases, free = self._boot.lease_counts()
        found: dict[str, dict[str, Any]] = {
            network: {"network": network, "free": count} for (network,), count in free.items()
        }
        for (network, state), count in leases.items():
            found.setdefault(network, {"network": network, "free": 0})[state] = count
        return list(found.values())

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        self.observe_many((event,))

    def observe_many(self, events: Sequence[Event]) -> None:
        """See IBatchObserver."""
        transfers = self._transfers
        for event in events:
            if isinstance(event, TransferEnded):
                transfers.pop((event.report.request.protocol, event.report.request.peer), None)
            elif isinstance(event, TransferBegun) and len(transfers) < _MOST_COUNTED:
                transfers[event.request.protocol, event.request.peer] = None


def add_status(boot: BootService, source: str = "") -> None:
    """Add the operation "status" to the control socket of *boot*."""
    status = Status(boot, source)
    boot.add_observer(status, "status")
    boot.add_operations({"status": status.operation})
