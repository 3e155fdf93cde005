"""Transfers that another process has begun.

When it has crashed, their clients go on asking, and one look tells how far they are. When it has handed them over, they
go on by themselves.
"""

from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall

from bootfw.ability import ability
from bootfw.events import Event, TransferBegun, TransferEnded
from bootfw.interfaces import IReader
from bootfw.tftp.position import Position
from bootfw.values import Address, Mode, Outcome, TransferReport, Via

KEPT = 120.0
"""Seconds that a client may be silent; one that writes to flash may pause for as long as that."""

WRAP = 1 << 16
"""Blocks after which the numbers on the wire come again (RFC 1350 has two octets for them)."""


@frozen
class Handover:
    """What a process says of a transfer that it leaves to another one."""

    position: Position
    raw: bytes
    """The request's datagram."""
    via: Via | None
    port: int = 0
    """Which of the ports for TFTP it is on, in the order of the configuration."""


@frozen
class Orphan:
    """A transfer without its process."""

    begun: TransferBegun
    position: int
    """A block that the client had acknowledged, less than WRAP ago; 0: at its beginning."""
    handover: Handover | None = None
    """None: its process has crashed."""

    @property
    def port(self) -> int:
        """As in Handover. After a crash that is not known: the first one, which shares its Orphans with the others."""
        return self.handover.port if self.handover is not None else 0

    def block(self, number: int) -> int:
        """The absolute number of the block that the client acknowledges.

        :param number: that of the wire.
        """
        return self.position + ((number - self.position) % WRAP)


def has_changed(file: IReader, begun: TransferBegun) -> bool:
    """Whether *file* may be another one than at the beginning: half of each would be worse than none."""
    if begun.agreed.tsize is not None and file.size != begun.agreed.tsize:
        return True
    changed: float | None = ability(file, "changed", "read")
    return changed is None or changed >= begun.at


@define(eq=False)
class Orphans:
    """The transfers of a process that has crashed, until their clients are heard. All ports of a service share one, so
    that each of these transfers has one end.

    :param reactor: IReactorTime.
    :param publish: receives the end of each transfer that does not go on.
    """

    _reactor: Any
    _publish: Callable[[Event], None]
    _waiting: dict[Address, Orphan] = field(factory=dict, init=False)
    _timeout: IDelayedCall | None = field(default=None, init=False)

    def add(self, orphans: Iterable[Orphan]) -> list[tuple[TransferBegun, Handover]]:
        """Wait for their clients, KEPT seconds at most. Uploads do not go on: what was stored is not known.

        :return: those that were handed over, which need not wait.
        """
        handed = []
        for orphan in orphans:
            request = orphan.begun.request
            if orphan.handover is not None:
                handed.append((orphan.begun, orphan.handover))
            elif request.write or request.mode is not Mode.OCTET:
                self.ended(orphan.begun, "its worker ended")
            else:
                self._waiting[request.peer] = orphan
        if self._waiting and self._timeout is None:
            reason = "its worker ended, and the client was not heard again"
            self._timeout = self._reactor.callLater(KEPT, self._timed_out, reason)
        return handed

    def take(self, peer: Address) -> Orphan | None:
        """Remove the transfer of *peer*, which has been heard, and return it; None: there is none."""
        return self._waiting.pop(peer, None)

    def ended(self, begun: TransferBegun, reason: str) -> None:
        """Publish that this transfer does not go on."""
        now = self._reactor.seconds()
        report = TransferReport(begun.request, begun.agreed, Outcome.FAILED, reason, 0, 0, 0, begun.at, now)
        self._publish(TransferEnded(now, report))

    def give_up(self, reason: str) -> None:
        """End all that are left."""
        if self._timeout is not None:
            self._timeout.cancel()
        self._timed_out(reason)

    def _timed_out(self, reason: str) -> None:
        self._timeout = None
        waiting, self._waiting = self._waiting, {}
        for orphan in waiting.values():
            self.ended(orphan.begun, reason)
