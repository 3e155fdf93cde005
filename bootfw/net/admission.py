"""Decides which requests are served: by lists of addresses, and by how much one client requests.

It is called for each request, and never for the packets of a transfer. One object decides for all ports of a process.
"""

from collections.abc import Callable, Hashable
from ipaddress import ip_address
from math import inf
from typing import Any

from bootfw.config.settings import Settings
from bootfw.events import Event, RequestsDropped
from bootfw.net.dropcounter import DropCounter
from bootfw.net.udp.packetinfo import Cache
from bootfw.tokenbuckets import TokenBuckets
from bootfw.values import Address

NETWORK_SHARE = 4
"""A network may send so many times the requests that one client may."""

BURST_SECONDS = 2.0
"""The requests of so many seconds may arrive at once, after a pause."""

DHCP_PER_SECOND = 100
"""Requests by DHCP in a second from one network card. Firmware sends about four, and a boot about ten in all."""

DHCP_PER_ADDRESS = 1000
"""The same from one address, where requests wait already. A router may send for a hall whose machines are switched on
together, to the boot server for example."""

REMEMBERED = 16_384
"""Clients whose requests for files are counted, at most; as many networks, and as many clients of DHCP."""

ALONE = 10.0
"""Seconds without a request of another address, after which a client has no limit: there is no other client to
protect."""

REPORT_SECONDS = 10.0
"""Minimum seconds between two events about dropped requests of one service."""

DENIED, NOT_ALLOWED = "its address is in [bootfw] deny", "its address is not in [bootfw] allow"

_DHCP_BURST = BURST_SECONDS * DHCP_PER_SECOND

_Source = tuple[str, Hashable]
"""(why requests from an address are not served, or ""; its network, None: without limits)."""


class Admission:
    """Decides for all services of a process which requests are served.

    :param reactor: IReactorTime.
    :param publish: called with the events about dropped requests; must not raise.
    """

    def __init__(self, reactor: Any, publish: Callable[[Event], None], settings: Settings | None = None) -> None:
        self._reactor = reactor
        self._publish = publish
        self._clients, self._networks, self._dhcp_clients = (TokenBuckets(REMEMBERED) for _ in range(3))
        self._counters: dict[str, DropCounter] = {}
        """By service."""
        self._latest = ""
        """The address of the latest request."""
        self._shared_at = -inf
        """When a request last came from another address than the one before it. If that is long ago, one client is
        alone with this server, and has no limit."""
        self.use(settings or Settings())

    def use(self, settings: Settings) -> None:
        """Use the lists and limits of *settings* for the requests that come from now on."""
        self._allow, self._deny = settings.allow, settings.deny
        self._per_second = settings.requests_per_second
        self._sources: Cache[str, _Source] = Cache(self._source)

    def most(self) -> float:
        """Return how many requests for files one client may send in a second; math.inf: any number."""
        most = self._per_second
        return most if most and self._reactor.seconds() - self._shared_at < ALONE else inf

    def most_dhcp(self) -> float:
        """Return how many requests by DHCP one address may send in a second; math.inf: any number."""
        return DHCP_PER_ADDRESS if self._per_second else inf

    def stop(self) -> None:
        """Report what has not been reported, and cancel the timers."""
        for counter in self._counters.values():
            counter.stop()

    def serves(self, service: str, peer: Address, now: float) -> bool:
        """Return whether the lists allow to serve the client at *peer*. If not, its request is counted as dropped."""
        refused = self._sources[peer[0]][0]
        if refused:
            self.drop(service, refused, peer, now)
        return not refused

    def admits(self, service: str, peer: Address, now: float) -> bool:
        """Return whether to serve a request for a file from *peer*. If not, it is counted as dropped."""
        refused, network = self._sources[peer[0]]
        most = self._per_second
        if refused:
            self.drop(service, refused, peer, now)
            return False
        if peer[0] != self._latest:
            self._note(peer[0], now)
        if not most or network is None or now - self._shared_at >= ALONE:
            return True
        if not self._clients.take(peer[0], most, BURST_SECONDS * most, now):
            self.drop(service, f"more than {most} requests a second of one client", peer, now)
            return False
        most *= NETWORK_SHARE
        if not self._networks.take(network, most, BURST_SECONDS * most, now):
            self.drop(service, f"more than {most} requests a second of one network", peer, now)
            return False
        return True

    def admits_dhcp(self, service: str, peer: Address, hardware: Hashable, now: float) -> bool:
        """Return whether to serve a request by DHCP. If not, it is counted as dropped.

        :param peer: where it comes from: a relay or a client. One without an address of its own is in no list.
        :param hardware: identifies the client, whatever its address is.
        """
        address = peer[0]
        refused = "" if address == "0.0.0.0" or address.startswith("fe80:") else self._sources[address][0]
        if refused:
            self.drop(service, refused, peer, now)
            return False
        if address != self._latest:
            self._note(address, now)
        if not self._per_second or self._dhcp_clients.take(hardware, DHCP_PER_SECOND, _DHCP_BURST, now):
            return True
        self.drop(service, f"more than {DHCP_PER_SECOND} requests a second of one client", peer, now)
        return False

    def drop(self, service: str, reason: str, peer: Address, now: float) -> None:
        """Count a request of *peer* that is dropped."""
        counter = self._counters.get(service)
        if counter is None:
            counter = DropCounter(service, self._publish, self._reactor, RequestsDropped, REPORT_SECONDS)
            self._counters[service] = counter
        counter.count(reason, peer, now)

    def _note(self, address: str, now: float) -> None:
        """Note a request of another address than the one before it."""
        if self._latest:
            self._shared_at = now
        self._latest = address

    def _source(self, address: str) -> _Source:
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return "", None  # of a UNIX socket, in an application that has a site of its own
        if any(parsed in network for network in self._deny):
            return DENIED, None
        if self._allow and not any(parsed in network for network in self._allow):
            return NOT_ALLOWED, None
        # Programs of this host have no limit: a loopback address can't come from a network (RFC 1122 section 3.2.1.3).
        # The limit of a network is for a /24 of IPv4 and a /64 of IPv6.
        return "", None if parsed.is_loopback else parsed.packed[: 3 if parsed.version == 4 else 8]
