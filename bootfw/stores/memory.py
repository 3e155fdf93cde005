"""The ``memory`` store: nothing survives a restart."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from bootfw.api import (
    BootAttempt,
    IAttemptStore,
    ILeaseStore,
    IOrderStore,
    IReservationStore,
    Lease,
    Reservation,
    boot_plugin,
)


@implementer(ILeaseStore, IReservationStore, IOrderStore, IAttemptStore)
@define(eq=False)
class MemoryStore:
    """Keeps leases in memory: after a restart an address in use may be leased to another client.

    For tests, and for networks where all clients boot again whenever the server starts.
    """

    _leases: dict[str, Lease] = field(factory=dict, init=False, repr=False)
    """Address -> lease."""
    _reservations: Sequence[Reservation] = field(default=(), init=False, repr=False)
    _orders: dict[str, dict[str, Mapping[str, object]]] = field(factory=dict, init=False, repr=False)
    """Kind -> MAC -> order."""
    _attempts: dict[str, BootAttempt] = field(factory=dict, init=False, repr=False)
    """Id of a boot attempt -> boot attempt."""

    def load(self) -> Iterable[Lease]:
        """See ILeaseStore."""
        return list(self._leases.values())

    def reservations(self) -> Iterable[Reservation]:
        """See IReservationStore."""
        return self._reservations

    def commit(self, leases: Sequence[Lease]) -> "Deferred[Any]":
        """See ILeaseStore."""
        self._leases.update((lease.address, lease) for lease in leases)
        return succeed(None)

    def save_reservations(self, reservations: Sequence[Reservation]) -> "Deferred[Any]":
        """See IReservationStore."""
        self._reservations = tuple(reservations)
        return succeed(None)

    def close(self) -> "Deferred[Any]":
        """See ILeaseStore."""
        return succeed(None)

    def load_orders(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        """See IOrderStore."""
        return dict(self._orders.get(kind, {}))

    def save_orders(self, kind: str, orders: Mapping[str, Mapping[str, object] | None]) -> "Deferred[Any]":
        """See IOrderStore."""
        stored = self._orders.setdefault(kind, {})
        for mac, order in orders.items():
            stored.pop(mac, None)
            if order is not None:
                stored[mac] = order
        return succeed(None)

    def close_orders(self, kind: str) -> "Deferred[Any]":
        """See IOrderStore."""
        return succeed(None)

    def save_attempts(self, attempts: Sequence[BootAttempt], keep: int, since: float) -> "Deferred[Any]":
        """See IAttemptStore."""
        self._attempts.update((attempt.id, attempt) for attempt in attempts)
        latest = self._latest()
        self._attempts = {attempt.id: attempt for attempt in reversed(latest[:keep]) if attempt.began >= since}
        return succeed(None)

    def find_attempts(
        self, machine: str = "", verdict: str = "", since: float = 0.0, before: float = 0.0, limit: int = 100
    ) -> "Deferred[Any]":
        """See IAttemptStore."""
        found = (
            attempt
            for attempt in self._latest()
            if (not machine or attempt.client == machine)
            and (not verdict or attempt.verdict.value == verdict)
            and attempt.began >= since
            and (not before or attempt.began < before)
        )
        return succeed(list(islice(found, limit)))

    def close_attempts(self) -> "Deferred[Any]":
        """See IAttemptStore."""
        return succeed(None)

    def _latest(self) -> list[BootAttempt]:
        return sorted(self._attempts.values(), key=lambda attempt: attempt.began, reverse=True)


plugin = boot_plugin(ILeaseStore, MemoryStore)
