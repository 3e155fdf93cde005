"""Adopted transfers: those that another process began and this one continues.

A transfer that was handed over continues at once, because its whole session state is known. After a crash of its
process, the next ACK of its client says where to continue.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol
from weakref import WeakSet

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall

from bootfw.ability import provides
from bootfw.boot.etag import has_etag
from bootfw.events import Event, TransferBegun, TransferEnded
from bootfw.interfaces import ICacheableReader, IReader
from bootfw.net.nodes.elsewhere import TransferElsewhere, TransfersElsewhere
from bootfw.tftp.position import Position
from bootfw.values import Address, Mode, Outcome, TransferReport, Via
from bootfw.wire.tftp import ErrorCode, ack, error

_DATA = b"\0\3"
_ACK = b"\0\4"

ADOPTION_TIMEOUT = 120.0
"""Seconds after an adoption within which the next datagram of a client has to come. A client that writes to flash may
pause for so long."""

POSITIONS_EVERY = 0.25
"""Seconds between two reports of positions. In this time no transfer sends WRAP blocks."""

WRAP = 1 << 16
"""Number of blocks after which wire numbers repeat (RFC 1350: two bytes)."""


@frozen
class Handover:
    """The state of a transfer, as one process hands it over to another."""

    position: Position
    raw: bytes
    """The request's datagram."""
    via: Via | None
    port: int = 0
    """Index of its TFTP port, in the order of the configuration."""


@frozen
class AdoptedTransfer:
    """A transfer whose process has ended."""

    begun_event: TransferBegun
    position: int
    """A block that the client has acknowledged, fewer than WRAP blocks before the latest one; 0: none."""
    handover: Handover | None = None
    """None: the process crashed."""

    @property
    def port(self) -> int:
        """See Handover. After a crash it is not known, and 0: all ports of a service share their AdoptedTransfers."""
        return self.handover.port if self.handover is not None else 0

    def block(self, number: int) -> int:
        """Return the absolute number of the block that the client acknowledges as *number* on the wire."""
        # The client is less than WRAP blocks ahead of the position, so 16 bits identify one block.
        return self.position + ((number - self.position) % WRAP)


def has_changed(file: IReader, begun_event: TransferBegun) -> bool:
    """Return whether *file* may have changed since the transfer began: half of each version is worse than none."""
    if begun_event.agreed.tsize is not None and file.size != begun_event.agreed.tsize:
        return True
    changed = file.changed if provides(file, ICacheableReader) else None
    return changed is None or changed >= begun_event.at


def is_same(file: IReader, elsewhere: TransferElsewhere) -> bool:
    """Return whether *file* has the content that another node sends."""
    return has_etag(file, file.size, elsewhere.begun_event.etag)


class ServingPort(Protocol):
    """A port with transfers of its own."""

    def begun_elsewhere(self, event: TransferBegun, now: float) -> None:
        """Note that another node has begun this transfer, or goes on with it."""


@define(eq=False)
class AdoptedTransfers:
    """Adopted transfers that wait for the next datagram of their clients: downloads of processes that have crashed, and
    uploads that another process has stored.

    All ports of a service share one instance, so that the end of each transfer is published once.

    :param reactor: IReactorTime.
    :param publish: called with the TransferEnded of each transfer that can't be continued.
    """

    _reactor: Any
    _publish: Callable[[Event], None]
    elsewhere: TransfersElsewhere = field(factory=TransfersElsewhere, init=False)
    """The transfers of other nodes. Each may be continued here, once its client is heard here."""
    ports: WeakSet[ServingPort] = field(factory=WeakSet, init=False)
    """The ports that share this. Weak, as a port that a reload removes does not take itself out."""
    _waiting: dict[Address, AdoptedTransfer] = field(factory=dict, init=False)
    _stored: dict[Address, int] = field(factory=dict, init=False)
    """Client -> the last block of its upload, as numbered on the wire. The other process has acknowledged it once."""
    _lost: set[Address] = field(factory=set, init=False)
    """Clients whose transfers can't go on, and that have not got an ERROR yet."""
    _timeout: "IDelayedCall | None" = field(default=None, init=False)

    def add(self, adopted: Iterable[AdoptedTransfer]) -> list[tuple[TransferBegun, Handover]]:
        """Wait for packets of their clients, for ADOPTION_TIMEOUT. Uploads end at once: what was stored is unknown.

        :return: the transfers that were handed over, to be continued at once.
        """
        handed = []
        for transfer in adopted:
            request = transfer.begun_event.request
            if transfer.handover is not None:
                handed.append((transfer.begun_event, transfer.handover))
            elif request.write or request.mode is not Mode.OCTET:
                self.publish_failed(transfer.begun_event, "its worker ended")
                self._lost.add(request.peer)
            else:
                self._waiting[request.peer] = transfer
        if self._waiting or self._lost:
            self._start_timeout()
        return handed

    def announced(self, kind: str, node: str, items: Sequence[Any]) -> None:
        """Take what another node has announced of its transfers; see TransfersElsewhere.receive()."""
        now = self._reactor.seconds()
        for event in self.elsewhere.receive(kind, node, items, now):
            for port in self.ports:
                port.begun_elsewhere(event, now)

    def remember(self, transfers: Sequence[TransferElsewhere], then: float) -> None:
        """Take what another process of this server knows of the transfers of other nodes, and when, by its clock."""
        self.elsewhere.remember(transfers, self._reactor.seconds() - then)

    def acknowledge_again(self, stored: Sequence[tuple[Address, int]]) -> None:
        """Acknowledge these uploads when their clients repeat the last block: the ACK of the other process was lost.

        :param stored: (client, the last block as numbered on the wire).
        """
        self._stored.update(stored)
        if self._stored:
            self._start_timeout()

    def reply(self, peer: Address, data: bytes) -> bytes | None:
        """Return the reply to *data*, which is of no transfer that goes on; None: there is none.

        It is the ACK of an upload that is stored, or one ERROR for a transfer that can't go on.
        """
        if peer in self._lost and data[:2] in (_DATA, _ACK):
            self._lost.discard(peer)
            return error(ErrorCode.NOT_DEFINED, "the process that served this has ended, start again")
        block = self._stored.get(peer)
        return ack(block) if block is not None and data[:4] == _DATA + block.to_bytes(2, "big") else None

    def _start_timeout(self) -> None:
        # One timer for all. A later adoption does not put it off, so what comes later may wait for less time.
        if self._timeout is None:
            reason = "its worker ended, and the client was not heard again"
            self._timeout = self._reactor.callLater(ADOPTION_TIMEOUT, self._timed_out, reason)

    def take(self, peer: Address) -> AdoptedTransfer | None:
        """Remove and return the transfer of *peer*, which has sent a datagram; None: there is none."""
        return self._waiting.pop(peer, None)

    def replace(self, peer: Address, now: float) -> None:
        """Forget the transfer of *peer*, here and at other nodes: the client has started again."""
        adopted = self._waiting.pop(peer, None)
        if adopted is not None:
            self.publish_failed(adopted.begun_event, "the client started again")
        self.elsewhere.take(peer, now)

    def publish_failed(self, begun_event: TransferBegun, reason: str) -> None:
        """Publish that this transfer failed."""
        now = self._reactor.seconds()
        report = TransferReport(
            begun_event.request, begun_event.agreed, Outcome.FAILED, reason, 0, 0, 0, begun_event.at, now
        )
        self._publish(TransferEnded(now, report))

    def give_up(self, reason: str) -> None:
        """Publish that all that still wait failed."""
        if self._timeout is not None:
            self._timeout.cancel()
        self._timed_out(reason)

    def _timed_out(self, reason: str) -> None:
        self._timeout = None
        self._stored.clear()
        self._lost.clear()
        waiting, self._waiting = self._waiting, {}
        for transfer in waiting.values():
            self.publish_failed(transfer.begun_event, reason)
