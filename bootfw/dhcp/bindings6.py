"""Who has which IPv6 address of a subnet, and which one is next."""

import math
from collections.abc import Collection, Iterator
from hashlib import blake2b
from heapq import heapify, heappop, heappush, heapreplace
from ipaddress import IPv6Address
from itertools import chain, islice
from socket import AF_INET6, inet_ntop, inet_pton

from attrs import evolve, frozen

from bootfw.dhcp.quarantine import Quarantine
from bootfw.dhcp.subnet6 import Host6, Subnet6
from bootfw.lease import Lease, LeaseState

QUARANTINE_SECONDS = 3600.0
"""That a declined address rests for."""

_CANDIDATES = 64
"""Resting addresses that are looked at for one client; a few are reserved or have left the pool."""

FIRMWARE, SYSTEM = "firmware", "system"

_TRIES = 4

PLENTY = 65536
"""Leases that are known of a subnet before those that have ended are used again, though there are addresses that nobody
ever had: the pools of IPv6 have no end, and memory has."""


@frozen
class Holder:
    """One identity association of a client: what an address is given to."""

    duid: bytes
    iaid: int
    mac: str
    """"" when it is not known."""
    kind: str
    """FIRMWARE or SYSTEM."""

    @property
    def key(self) -> bytes:
        """What its lease is kept under."""
        return b"6" + self.iaid.to_bytes(4, "big") + self.duid


class Bindings:
    """The leases of one subnet, and its pool. Nothing here is a scan.

    A machine is to keep one address through firmware, boot program and system, which name themselves differently
    (DUID, IAID) and give nothing back. So a lease passes on to who has the same hardware address and another DUID, if
    either of the two is firmware; two systems on one card go on beside each other.

    :param own: addresses of ours.
    """

    def __init__(self, subnet: Subnet6, own: Collection[str] = ()) -> None:
        self.subnet = subnet
        self.own = own
        self._leases: dict[str, Lease] = {}
        """By address, the latest of each."""
        self._held: dict[bytes, str] = {}
        """Holder's key -> address, also after it has ended, until somebody else has it."""
        self._of_mac: dict[str, dict[str, None]] = {}
        """Hardware address -> addresses, the latest last."""
        self._size = sum(last - first + 1 for first, last in self.subnet.free)
        self._unused: Iterator[str] = self._in_order()
        self._next = next(self._unused, None)
        """The first address, in the order of the pool, that may never have been leased."""
        self._ends: list[tuple[float, str]] = []
        """A heap of leases by their end. One that has been renewed meanwhile is put back when its turn comes."""
        self._quarantine = Quarantine()
        self._entries: dict[str, float] = {}
        """Address -> the one of its entries in the heap that counts."""
        self._hosts: dict[tuple[str, str | bytes], Host6] = {}
        """By everything that they are known by, the address too."""
        for host in subnet.hosts:
            self.reserve(host)

    def leases(self) -> Iterator[Lease]:
        """Every lease that is known, expired ones too."""
        return iter(self._leases.values())

    def lease(self, address: str) -> Lease | None:
        """The latest lease of *address*."""
        return self._leases.get(address)

    def has(self, address: str) -> bool:
        """It is an address of this network."""
        return IPv6Address(address) in self.subnet.network

    def host(self, duid: bytes, mac: str) -> Host6 | None:
        """What is reserved for a client."""
        return self._hosts.get(("duid", duid)) or self._hosts.get(("mac", mac))

    def hosts(self) -> Iterator[Host6]:
        """Everything that is reserved, each once."""
        seen = set()
        for host in self._hosts.values():
            if id(host) not in seen:
                seen.add(id(host))
                yield host

    def reserve(self, host: Host6) -> None:
        """Keep it, and no more what was kept for the same client or the same address."""
        for identifier in _known_by(host):
            if identifier in self._hosts:
                self.unreserve(self._hosts[identifier])
            self._hosts[identifier] = host

    def unreserve(self, host: Host6) -> None:
        """Forget it."""
        for identifier in _known_by(host):
            if self._hosts.get(identifier) is host:
                del self._hosts[identifier]
        address = host.address
        if address and address not in self._leases and self._in_pool(address):
            # It was passed over when its turn came.
            self._unused = chain((address,), () if self._next is None else (self._next,), self._unused)
            self._next = next(self._unused)

    def held_by(self, holder: Holder) -> Lease | None:
        """Its latest lease, which may have ended but for that is nobody else's."""
        address = self._held.get(holder.key)
        return None if address is None else self._leases[address]

    def choose(self, holder: Holder, now: float, wanted: str = "", besides: Collection[str] = ()) -> str:
        """The address for *holder*; "": there is none left. Nothing changes.

        :param wanted: what it asks for, or "".
        :param besides: that the same message gives to others.
        """
        if not self.serves(holder):
            return ""
        for address in self._preferred(holder, now, wanted):
            if address not in besides:
                return address
        return (
            (len(self._leases) < PLENTY and self._fresh(holder, besides))
            or self._ended(now, besides)
            or self._fresh(holder, besides)
            or self._resting(besides)
        )

    def serves(self, holder: Holder) -> bool:
        """Whether there are addresses for *holder* here: it is known, or need not be."""
        return not self.subnet.known_clients_only or self.host(holder.duid, holder.mac) is not None

    def grantable(self, holder: Holder, address: str, now: float) -> bool:
        """*holder* may have just this one: what it had before we forgot."""
        return self.serves(holder) and self._may_have(holder, address, now)

    def _may_have(self, holder: Holder, address: str, now: float) -> bool:
        return (self._in_pool(address) and self._free_for(holder, address, now)) or self._is_reserved(
            holder, address, now
        )

    def denies(self, holder: Holder, address: str) -> bool:
        """*holder*, which can't be granted it, is surely wrong to use it: it is of another network, or we have given
        it to another client, or it rests."""
        lease = self._leases.get(address)
        return not self.has(address) or (lease is not None and lease.client != holder.key)

    def grant(self, holder: Holder, address: str, now: float) -> tuple[Lease, bool]:
        """Give it, or go on giving it: the lease, to be stored, and whether the holder did not have it."""
        before = self._leases.get(address)
        new = before is None or before.client != holder.key or not _is_active(before, now)
        lease = Lease(
            address=address,
            client=holder.key,
            mac=holder.mac,
            state=LeaseState.ACTIVE,
            granted=now,
            expires=now + self.subnet.lease_seconds,
            client_id=holder.duid,
            kind=holder.kind,
        )
        self.put(lease)
        return lease, new

    def release(self, lease: Lease, now: float) -> Lease:
        """It has been given back."""
        released = evolve(lease, state=LeaseState.RELEASED, expires=min(now, lease.expires))
        self.put(released)
        return released

    def decline(self, lease: Lease, now: float) -> tuple[Lease, ...]:
        """Another machine uses the address.

        :return: every lease that changed by that: when the client has declined several, the earliest rests no longer.
        """
        declined = evolve(lease, state=LeaseState.DECLINED, granted=now, expires=now + QUARANTINE_SECONDS, client=b"")
        earliest = self.put(declined)
        return (declined, self.release(self._leases[earliest], now)) if earliest else (declined,)

    def put(self, lease: Lease) -> str:
        """Take over *lease*, over what is known of its address and of its client.

        :return: see Quarantine.add(); "" unless the lease is DECLINED.
        """
        address = lease.address
        before = self._leases.get(address)
        if lease.expires < self._entries.get(address, math.inf):
            self._entries[address] = lease.expires
            heappush(self._ends, (lease.expires, address))
        if before is not None:
            if self._held.get(before.client) == address:
                del self._held[before.client]
            self._forget_mac(before.mac, address)
        self._leases[address] = lease
        if lease.client:
            self._held[lease.client] = address
        if lease.mac:
            addresses = self._of_mac.setdefault(lease.mac, {})
            addresses[address] = None
        if lease.state is LeaseState.DECLINED:
            return self._quarantine.add(address, lease.client_id)
        self._quarantine.discard(address)
        return ""

    def _preferred(self, holder: Holder, now: float, wanted: str) -> Iterator[str]:
        host = self.host(holder.duid, holder.mac)
        if host is not None and host.address and self._is_reserved(holder, host.address, now):
            yield host.address
        held = self._held.get(holder.key)
        if held is not None and self._may_keep(holder, held, now):
            yield held
        for address in reversed(self._of_mac.get(holder.mac, {}) if holder.mac else {}):
            if self._passes_on(holder, address) and self._may_keep(holder, address, now):
                yield address
        if wanted and self._in_pool(wanted) and self._free_for(holder, wanted, now):
            yield wanted

    def _fresh(self, holder: Holder, besides: Collection[str]) -> str:
        """One that nobody has had; "": there is none."""
        seed = holder.mac.encode() or holder.duid
        for attempt in range(_TRIES if self._size else 0):
            # The same for the same machine, whatever has become of its lease.
            number = int.from_bytes(blake2b(seed + bytes((attempt,)), digest_size=8).digest(), "big") % self._size
            address = self._nth(number)
            if address not in self._leases and address not in besides and self._is_given_to_all(address):
                return address
        while self._next is not None and (self._next in self._leases or not self._is_given_to_all(self._next)):
            self._next = next(self._unused, None)
        return self._next if self._next is not None and self._next not in besides else ""

    def _ended(self, now: float, besides: Collection[str]) -> str:
        """The one that has been free for longest; "": there is none."""
        passed: list[tuple[float, str]] = []
        found = ""
        while self._ends and not found:
            end, address = self._ends[0]
            lease = self._leases[address]
            if self._entries[address] != end:
                heappop(self._ends)
            elif lease.expires != end:
                self._entries[address] = lease.expires
                heapreplace(self._ends, (lease.expires, address))
            elif end > now:
                break
            elif address in besides or not (self._in_pool(address) and self._is_given_to_all(address)):
                passed.append(heappop(self._ends))
            else:
                found = address
        self._ends += passed
        if passed:
            heapify(self._ends)
        return found

    def _resting(self, besides: Collection[str]) -> str:
        """One that rests, for a client that would get none; "": there is none."""
        for address in islice(self._quarantine.declined, _CANDIDATES):
            if address not in besides and self._in_pool(address) and self._is_given_to_all(address):
                return address
        return ""

    def _in_pool(self, address: str) -> bool:
        number = int.from_bytes(inet_pton(AF_INET6, address), "big")
        return any(first <= number <= last for first, last in self.subnet.free)

    def _is_given_to_all(self, address: str) -> bool:
        return ("address", address) not in self._hosts and address not in self.own

    def _is_reserved(self, holder: Holder, address: str, now: float) -> bool:
        """For it, and it can have it: not while another client of the same machine is alive there."""
        host = self._hosts.get(("address", address))
        if host is None or not _names(host, holder):
            return False
        lease = self._leases.get(address)
        if lease is None or (not _is_active(lease, now) and lease.state is not LeaseState.DECLINED):
            return True
        return lease.client == holder.key or (lease.client_id != holder.duid and lease.state is LeaseState.ACTIVE)

    def _may_keep(self, holder: Holder, address: str, now: float) -> bool:
        """What it had: unless it was declined, or has been taken out of the pool or reserved for another one."""
        lease = self._leases[address]
        if lease.state is LeaseState.DECLINED and lease.expires > now:
            return False
        return (self._in_pool(address) and self._is_given_to_all(address)) or self._is_reserved(holder, address, now)

    def _passes_on(self, holder: Holder, address: str) -> bool:
        lease = self._leases[address]
        return lease.client_id != holder.duid and FIRMWARE in (lease.kind, holder.kind)

    def _free_for(self, holder: Holder, address: str, now: float) -> bool:
        if not self._is_given_to_all(address):
            return False
        lease = self._leases.get(address)
        if lease is None or (lease.client == holder.key and lease.state is not LeaseState.DECLINED):
            return True
        return lease.expires <= now

    def _forget_mac(self, mac: str, address: str) -> None:
        addresses = self._of_mac.get(mac)
        if addresses is not None:
            addresses.pop(address, None)
            if not addresses:
                del self._of_mac[mac]

    def _in_order(self) -> Iterator[str]:
        return (_text(number) for first, last in self.subnet.free for number in range(first, last + 1))

    def _nth(self, number: int) -> str:
        for first, last in self.subnet.free:
            if number <= last - first:
                return _text(first + number)
            number -= last - first + 1
        raise IndexError(number)


def _is_active(lease: Lease, now: float) -> bool:
    return lease.state is LeaseState.ACTIVE and lease.expires > now


def _names(host: Host6, holder: Holder) -> bool:
    return bool((host.duid and host.duid == holder.duid) or (holder.mac and holder.mac in host.macs))


def _known_by(host: Host6) -> tuple[tuple[str, str | bytes], ...]:
    macs: tuple[tuple[str, str | bytes], ...] = tuple(("mac", mac) for mac in host.macs)
    known = (("address", host.address), *macs, ("duid", host.duid))
    return tuple((key, value) for key, value in known if value)


def _text(number: int) -> str:
    return inet_ntop(AF_INET6, number.to_bytes(16, "big"))
