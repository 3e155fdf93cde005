"""Transfers that another process has begun.

When it has crashed, their clients go on asking, and one look tells how far they are. When it has handed them over, they
go on by themselves.
"""

from collections.abc import Callable, Iterable

from attrs import define, field, frozen

from bootfw.ability import ability
from bootfw.events import TransferBegun
from bootfw.interfaces import IReader
from bootfw.tftp.position import Position
from bootfw.values import Address, Mode, Via

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
    """Those of a process that has crashed, while they may be heard yet.

    :param gone: is given what will not go on, with the reason.
    """

    _gone: Callable[[TransferBegun, str], None]
    _waiting: dict[Address, Orphan] = field(factory=dict, init=False)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, orphans: Iterable[Orphan]) -> list[tuple[TransferBegun, Handover]]:
        """Wait for their clients. Uploads do not go on: what was stored is not known.

        :return: those that were handed over, which need not wait.
        """
        handed = []
        for orphan in orphans:
            request = orphan.begun.request
            if orphan.handover is not None:
                handed.append((orphan.begun, orphan.handover))
            elif request.write or request.mode is not Mode.OCTET:
                self._gone(orphan.begun, "its worker ended")
            else:
                self._waiting[request.peer] = orphan
        return handed

    def take(self, peer: Address) -> Orphan | None:
        """The one of *peer*, who is heard."""
        return self._waiting.pop(peer, None)

    def give_up(self, reason: str) -> None:
        """None of the others is heard any more."""
        waiting, self._waiting = self._waiting, {}
        for orphan in waiting.values():
            self._gone(orphan.begun, reason)
