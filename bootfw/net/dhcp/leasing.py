"""The address servers of a running service with their store: load leases, commit them, and list them for the
operator."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorFDSet
from twisted.logger import Logger

from bootfw.config.settings import DHCP6Settings, DHCPSettings
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.server6 import AddressServer6
from bootfw.dhcp.subnet import AnySubnet
from bootfw.events import Event, ProxyARPSeen
from bootfw.interfaces import ILeaseStore
from bootfw.leadershipstates import Standing
from bootfw.lease import Lease, LeaseState
from bootfw.net.clock import MonotonicReactor, shift_of
from bootfw.net.control import Operation
from bootfw.net.dhcp.conflict import ArpProbe, IcmpProbe
from bootfw.net.dhcp.duid import duid_of
from bootfw.net.dhcp.journal import Journal
from bootfw.net.dhcp.leasecontrol import LeaseControl, server_for
from bootfw.net.dhcp.ratelimit import RateLimit
from bootfw.net.dhcp.renewable import RenewableLeases
from bootfw.net.dhcp.walltime import CHECK_INTERVAL, WallTimeLeases
from bootfw.net.linux.interfaces import own_addresses

_GOLDEN_RATIO = 0.6180339887498949
"""Its multiples, without their whole parts, are as far from each other as they can be. So a new leader looks for
addresses where none of the latest leaders has offered one, which only that leader knows."""


class Leasing:
    """The address servers of both versions of DHCP with the store of their leases.

    :param reactor: IReactorTime.
    :param settings: settings of DHCPv4; without subnets it assigns no addresses.
    :param dhcp6: settings of DHCPv6; in server mode its leases are in the same store.
    :param standing: what the store has answered to this server, which leads of those that share it; None: it is alone.
    :raise StateError: see ILeaseStore.load().
    """

    _log = Logger(namespace="bootfw")

    def __init__(
        self,
        reactor: Any,
        store: ILeaseStore,
        settings: DHCPSettings,
        publish: Callable[[Event], None],
        dhcp6: DHCP6Settings | None = None,
        *,
        standing: Standing | None = None,
    ) -> None:
        self._standing = standing
        self.server = self._new_server4(settings)
        self.server6 = server6 = self._new_server6(dhcp6)
        """The DHCPv6 address server; None: DHCPv6 assigns no addresses."""
        self._outside: dict[str, Lease] = {}
        """Address -> its lease, for addresses in no subnet: a reload may add the subnet again."""
        # The layers of the store: WallTimeLeases is the outer one, so that stored ends are by the wall clock, which
        # the servers that share a store have in common.
        renewable = RenewableLeases(store, settings.store_outage_seconds) if standing is not None else None
        self._ends = None if renewable is None else renewable.ends
        self._store = store = WallTimeLeases(renewable or store, reactor.seconds, shift_of(reactor), self._leases)
        self.journal = Journal(store, publish, reactor)
        self._clock = reactor
        self._publish = publish
        self.probe: ArpProbe | None = None
        self.ping: IcmpProbe | None = None
        try:
            self._restore(store.load())
            reservations = tuple(store.reservations())
            for reservation in reservations:
                try:
                    server_for(reservation, self.server, server6).reserve(reservation)
                except ValueError as error:
                    self._log.warn("a stored reservation is ignored: {error}", error=error)
            self._control = LeaseControl(reactor, self.server, store, reservations, server6, store.to_wall_clock)
            self.operations: Mapping[str, Operation] = self._control.operations()
            """The operations of ``bootfw leases``."""
        except BaseException:
            # The store is open: left so, it would be found in use by the next attempt to start or to lead.
            store.close()
            raise
        self._clock_check: Any = None
        """The delayed call of the next _check_clock(); None: there is no wall clock that could be set."""
        if isinstance(reactor, MonotonicReactor):
            self._check_clock()
        self.detect_conflicts(settings)

    def close(self) -> "Deferred[Any]":
        """Close the store, and end conflict detection.

        :return: fires when everything that was committed is durable.
        """
        if self._clock_check is not None:
            self._clock_check.cancel()
            self._clock_check = None
        for probe in (self.probe, self.ping):
            if probe is not None:
                probe.close()
        return maybeDeferred(self._store.close)

    def renewable_seconds(self, lease: Lease, now: float) -> int:
        """Return how long the client of *lease* may keep the address, by what is stored; see StoredEnds. 0: not at all.

        :param now: the time, as in the lease.
        """
        if self._ends is None or lease.state is not LeaseState.ACTIVE:
            return 0
        return self._ends.seconds(lease.address, lease.client, self._store.by_wall_clock(now))

    def use(self, settings: DHCPSettings, dhcp6: DHCP6Settings) -> None:
        """Replace the settings after a reload.

        Leases, offers, quarantines and the reservations of the store stay. A lease of an address that is in no subnet
        any more stays in the store until it expires, and is valid again if its subnet is configured again.
        """
        now = self._clock.seconds()
        before, before6 = self.server, self.server6
        self.server, self.server6 = self._new_server4(settings), self._new_server6(dhcp6)
        # What was outside of all subnets may be in one of the new settings, and the other way round.
        outside = [*self._outside.values(), *self.server.restore_from(before, now)]
        if before6 is not None:
            outside += before6.leases() if self.server6 is None else self.server6.restore_from(before6, now)
        self._outside = {}
        self._restore(lease for lease in outside if lease.expires > now)
        for error in self._control.use(self.server, self.server6):
            self._log.warn("a stored reservation is ignored: {error}", error=error)

    def _new_server4(self, settings: DHCPSettings) -> AddressServer:
        server = AddressServer(
            settings.subnets,
            classes=settings.classes,
            authoritative=settings.authoritative,
            by_client_id=settings.identify_by == "client-id",
            admit=RateLimit(settings.new_clients_per_second or math.inf).admit,
            probes=bool(settings.probe_seconds),
        )
        if self._standing is not None:
            server.begin_search_at((self._standing.epoch - 1) * _GOLDEN_RATIO % 1)
        return server

    def _new_server6(self, settings: DHCP6Settings | None) -> AddressServer6 | None:
        if settings is None or settings.mode != "server":
            return None
        admission = RateLimit(settings.new_clients_per_second or math.inf)
        return AddressServer6(settings.subnets, duid_of(self._standing), admission.admit6, settings.classes)

    def _restore(self, leases: Iterable[Lease]) -> None:
        """Enter leases in the server that has their subnet; those of no subnet are kept in ``_outside``."""
        for lease in leases:
            if not (self.server.restore(lease) or (self.server6 is not None and self.server6.restore(lease))):
                self._outside[lease.address] = lease

    def _leases(self) -> Iterator[Lease]:
        yield from self._outside.values()
        yield from self.server.leases()
        if self.server6 is not None:
            yield from self.server6.leases()

    def counts(self) -> tuple[dict[tuple[str, str], int], dict[tuple[str], int]]:
        """Count addresses by (subnet, state of the lease), and free addresses by (subnet,); see LeaseBooks."""
        now = self._clock.seconds()
        servers: list[Any] = [self.server, *([] if self.server6 is None else [self.server6])]
        leases: dict[tuple[str, str], int] = {}
        free: dict[tuple[str], int] = {}
        for server in servers:
            leases |= server.counts(now)
            free |= server.free()
        return leases, free

    def leased_to(self, address: str) -> str:
        """Return the MAC of the machine that has a valid lease of an IPv4 address; "": none has, or it is unknown."""
        lease = self.server.lease(address)
        return lease.mac if lease is not None and _is_valid(lease, self._clock.seconds()) else ""

    def leased(self) -> Iterator[tuple[str, str]]:
        """Yield (IPv4 address, MAC) of each valid lease whose MAC is known."""
        now = self._clock.seconds()
        return ((lease.address, lease.mac) for lease in self.server.leases() if lease.mac and _is_valid(lease, now))

    def _check_clock(self) -> None:
        self._store.check()
        self._clock_check = self._clock.callLater(CHECK_INTERVAL, self._check_clock)

    def proxy_found(self, interface: str, mac: str, addresses: Sequence[str]) -> None:
        """End the quarantine of those of *addresses* where the only reply to a probe was from *mac*.

        The machine does proxy ARP, so its replies do not prove that an address is in use.
        """
        now = self._clock.seconds()
        for address in addresses:
            # A quarantine with a client is that of a DECLINE, which a probe did not begin.
            lease = self.server.lease(address)
            if lease is not None and lease.state is LeaseState.DECLINED and not lease.client:
                self.journal.put(self.server.release(address, now))
        self.journal.flush()
        self._publish(ProxyARPSeen(now, interface, mac, tuple(addresses)))

    def detect_conflicts(self, settings: DHCPSettings) -> None:
        """Open ``probe`` and ``ping``, unless they are open or the settings need none."""
        reactor, seconds = self._clock, settings.probe_seconds
        if self.probe or self.ping or not (seconds and settings.subnets and IReactorFDSet.providedBy(reactor)):
            return
        # Each needs a right of its own: packet sockets CAP_NET_RAW, pings that or net.ipv4.ping_group_range. So one may
        # be missing.
        failures = []
        try:
            self.probe = ArpProbe(reactor, seconds, self.proxy_found)
        except OSError as error:
            failures.append(f"on our links, by ARP ({error.strerror})")
        try:
            self.ping = IcmpProbe(reactor, seconds)
        except OSError as error:
            failures.append(f"behind relays, by ping ({error.strerror})")
        if failures:
            self._log.warn("addresses are not probed before they are offered: {where}", where="; ".join(failures))


def required_networks(
    dhcp: DHCPSettings, dhcp6: DHCP6Settings
) -> Iterator[tuple[str, tuple[str, int], Callable[[], str]]]:
    """Yield the networks that DHCP serves without a relay: this host needs an address in each of them.

    :return: service, (network, port), and a function that returns which address is missing, or "".
    """
    if dhcp.mode == "server" and not dhcp.foreign_networks:
        for subnets in _by_link(dhcp.subnets):
            yield "dhcp", (str(subnets[0].network), dhcp.server_port), partial(_missing, "dhcp", subnets, AF_INET)
    if dhcp6.mode == "server" and not dhcp6.foreign_networks:
        for subnets in _by_link(dhcp6.subnets):
            yield "dhcp6", (str(subnets[0].network), dhcp6.server_port), partial(_missing, "dhcp6", subnets, AF_INET6)


def _by_link(subnets: Sequence[AnySubnet]) -> Iterator[list[AnySubnet]]:
    """Group subnets by link: this host needs an address in one subnet of each link, unless one of them has a relay."""
    links: dict[str, list[AnySubnet]] = {}
    for subnet in subnets:
        links.setdefault(subnet.link_name, []).append(subnet)
    return (listed for listed in links.values() if not any(subnet.relays for subnet in listed))


def _missing(section: str, subnets: Sequence[AnySubnet], family: int) -> str:
    addresses = own_addresses(family)
    if addresses is None or any(ip_address(address) in subnet.network for address in addresses for subnet in subnets):
        return ""
    return (
        f"this host has: {', '.join(sorted(addresses)) or 'none of this family'}; "
        f'if its clients are behind relays, name these ("relays") or set foreign-networks in [{section}]'
    )


def _is_valid(lease: Lease, now: float) -> bool:
    return lease.state is LeaseState.ACTIVE and now < lease.expires
