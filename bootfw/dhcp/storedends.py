"""The stored ends of leases, which say how long a lease can be renewed while the store can't be reached.

A lease is stored with a later end than the one that its client gets. Another server, which knows the store only, gives
the address to no other client before that end, by its own clock. So the lease can be renewed without the store, until
the latest time at which no server's clock has come to that end.
"""

from collections.abc import Iterable, Mapping
from math import inf

from attrs import evolve

from bootfw.lease import NEVER, Lease, LeaseState
from bootfw.wire.options import Option, uint32_bytes

CLOCK_DIFFERENCE = 60.0
"""Seconds by which the clocks of servers with one store may differ."""


class StoredEnds:
    """The stored ends of all leases, by the clock of the server that has stored them."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[bytes, float]] = {}
        """Address -> (client, the earliest end that its lease may have in the store)."""
        self._writing: dict[str, Lease] = {}
        """Address -> the latest lease that is being written."""

    def end(self, address: str, client: bytes) -> float:
        """Return the stored end of the client's lease of an address; -inf: it has none for certain."""
        holder, end = self._ends.get(address, (b"", -inf))
        return end if holder == client else -inf

    def seconds(self, address: str, client: bytes, now: float) -> int:
        """Return how long the client may keep an address without the store; 0: not at all.

        :param now: the time by the clock of this server.
        """
        return int(max(0.0, self.end(address, client) - CLOCK_DIFFERENCE - now))

    def load(self, leases: Iterable[Lease]) -> None:
        """Take the leases that are stored, in place of all that is known."""
        self._ends = {lease.address: (lease.client, lease.expires) for lease in leases if _is_held(lease)}
        self._writing.clear()

    def begin(self, leases: Iterable[Lease]) -> None:
        """Note that leases are being written.

        Until it is known that they are stored, the store may have these or the earlier ones, so the earlier of both
        ends counts.
        """
        for lease in leases:
            end = min(self.end(lease.address, lease.client), lease.expires)
            if _is_held(lease) and end > -inf:
                self._ends[lease.address] = lease.client, end
            else:
                self._ends.pop(lease.address, None)
            self._writing[lease.address] = lease

    def finish(self, leases: Iterable[Lease], *, stored: bool) -> None:
        """Note that a write has ended.

        :param stored: the leases are stored; false: it is not known.
        """
        for lease in leases:
            # A later one for the address may be stored already.
            if self._writing.get(lease.address) is lease:
                del self._writing[lease.address]
                if stored and _is_held(lease):
                    self._ends[lease.address] = lease.client, lease.expires


def extended(lease: Lease, outage: float) -> Lease:
    """Return a lease as it is stored, so that it can be renewed for *outage* seconds beyond its end."""
    if lease.state is not LeaseState.ACTIVE or lease.expires == NEVER:
        return lease
    return evolve(lease, expires=lease.expires + outage + CLOCK_DIFFERENCE)


def _is_held(lease: Lease) -> bool:
    """Return whether the lease keeps its address for a client."""
    return lease.state is LeaseState.ACTIVE and bool(lease.client)


def limited(options: Mapping[int, bytes], seconds: int) -> Mapping[int, bytes]:
    """Return the options of a DHCPv4 answer with a lease time of at most *seconds*."""
    limit = uint32_bytes(seconds)
    if options.get(Option.LEASE_TIME, limit) <= limit:
        return options
    times = (Option.RENEWAL_TIME, Option.REBINDING_TIME)
    remaining = {code: value for code, value in options.items() if code not in times or value < limit}
    return {**remaining, Option.LEASE_TIME: limit}
