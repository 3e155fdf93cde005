"""An in-memory datagram network on a ``task.Clock``."""

import errno
import heapq
import itertools
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IReactorUDP
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.testing.link import Link
from bootfw.testing.port import BROADCAST, MemoryPort, RichMemoryPort, is_ipv6
from bootfw.values import Via

_FIRST_EPHEMERAL = 32768
_PRIVILEGED = 1024


class MemoryNetwork:
    """A network segment with hosts::

        network = MemoryNetwork()
        server = network.host("10.0.0.1", "10.0.0.2", rich=True)
        server.listenUDP(69, protocol)
        peer = FakePeer(network.host("10.0.0.9"))
        peer.send(b"...", ("10.0.0.1", 69))
        network.advance(1)

    There is no ICMP: a datagram without a listener is dropped silently. IPv6 ports don't take IPv4 datagrams.

    :param clock: the clock of the test; None: a new one.
    :param link: decides when, how often and whether a datagram arrives; may be replaced at any time.
    :param delay: one-way delay in seconds if there is no link.
    """

    def __init__(self, clock: Clock | None = None, *, link: Link | None = None, delay: float = 0.001) -> None:
        self.clock = Clock() if clock is None else clock
        self.link = link
        self.delay = delay
        self.hosts: list[MemoryHost] = []
        self.sent = 0
        """Datagrams that hosts have handed over."""
        self.delivered = 0
        """Datagrams that reached a port, duplicates included."""
        self.lost = 0
        """Datagrams that the link dropped, that had no listener, or that could not be sent at all."""
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []  # a heap
        self._order = itertools.count()
        self._alarm: IDelayedCall | None = None  # for the first on the agenda
        self._running = False

    def host(self, *addresses: str, name: str = "", rich: bool = False, privileged: bool = True) -> "MemoryHost":
        """Add a host. A host without an address sends from 0.0.0.0.

        :param addresses: IPv4 and IPv6 in text form; the first one of a family is the default source address.
        :param rich: true: its ports behave like bootfw's own datagram port; false: like Twisted's.
        :param privileged: whether it may bind ports below 1024.
        """
        for address in addresses:
            if any(address in host.addresses for host in self.hosts):
                raise ValueError(f"another host has {address}")
        host = MemoryHost(self, list(addresses), name or f"host{len(self.hosts) + 1}", rich, privileged)
        self.hosts.append(host)
        return host

    def advance(self, seconds: float) -> None:
        """Let time pass. Every delayed call runs at its own time, in order; its exceptions are raised here."""
        end = self.clock.seconds() + seconds
        while self._step(end):
            pass
        self.clock.rightNow = end

    def run_until(self, done: Callable[[], object], limit: float = 60.0) -> None:
        """Let time pass until *done()* is true.

        :raise AssertionError: it is still false after *limit* seconds, or there is no further delayed call.
        """
        end = self.clock.seconds() + limit
        while not done():
            if not self._step(end):
                raise AssertionError(f"still waiting after {limit} s; pending: {self.leaks()}")

    def result_of(self, deferred: "Deferred[Any]", limit: float = 60.0) -> Any:
        """Let time pass until *deferred* has its result; return it, or raise its failure."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.run_until(lambda: results, limit)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def leaks(self) -> list[str]:
        """Describe each open port and each pending call; datagrams in flight are not listed.

        The list is empty after a clean stop and ``advance(0)``.
        """
        found = [
            f"{host.name}: port {port.getHost()} of {port.protocol!r}" for host in self.hosts for port in host.ports
        ]
        found += [f"pending call: {call}" for call in self.clock.getDelayedCalls() if call is not self._alarm]
        return found

    def _step(self, end: float) -> bool:
        """Run the next delayed call at its own time, if that is not after *end*. (Clock.advance() would run it with the
        clock at *end*.)"""
        calls = self.clock.getDelayedCalls()
        if not calls:
            return False
        due = min(call.getTime() for call in calls)
        if due > end:
            return False
        self.clock.rightNow = max(due, self.clock.seconds())
        self.clock.advance(0)
        return True

    # Towards hosts and ports

    def transmit(
        self, sender: "MemoryHost", data: bytes, source: tuple[str, int], destination: tuple[str, int]
    ) -> None:
        """Put a datagram on the wire."""
        self.sent += 1
        delays = [self.delay] if self.link is None else list(self.link(data, source, destination))
        if not delays:
            self.lost += 1
        for delay in delays:
            self.turn(self._arrive, sender, data, source, destination, delay=delay)

    def turn(self, call: Callable[..., None], *args: Any, delay: float = 0.0) -> None:
        """Schedule a call of the network itself, which leaks() does not list."""
        due = self.clock.seconds() + delay
        heapq.heappush(self._agenda, (due, next(self._order), call, args))
        if not self._running:
            self._arm()

    def _arm(self) -> None:
        if not self._agenda:
            return
        # One delayed call for all datagrams in flight: Clock sorts its calls at each callLater().
        due = self._agenda[0][0]
        if self._alarm is not None and self._alarm.getTime() > due:
            self._alarm.cancel()
            self._alarm = None
        if self._alarm is None:
            self._alarm = self.clock.callLater(due - self.clock.seconds(), self._run)

    def _run(self) -> None:
        self._alarm, self._running = None, True
        try:
            while self._agenda and self._agenda[0][0] <= self.clock.seconds():
                _, _, call, args = heapq.heappop(self._agenda)
                call(*args)
        finally:
            self._running = False
            self._arm()

    def _arrive(self, sender: "MemoryHost", data: bytes, source: tuple[str, int], destination: tuple[str, int]) -> None:
        to, port = destination
        # As in Linux the sender of a broadcast hears it too.
        if to in ("127.0.0.1", "::1"):
            receivers = [sender]
        else:
            receivers = [host for host in self.hosts if to == BROADCAST or to in host.addresses]
        ports = [found for host in receivers if (found := host.port_for(to, port)) is not None]
        if not ports:
            self.lost += 1
        for found in ports:
            self.delivered += 1
            local = found.host.source(to) if to == BROADCAST else to
            found.arrive(data, source, Via(local, found.host.interface, to))


@implementer(IReactorTime, IReactorUDP)
class MemoryHost:
    """A machine, which is the reactor of the programs that run on it. Created by ``MemoryNetwork.host()``."""

    interface = 2
    """Index of its only network interface, as in ``Via.interface``."""

    def __init__(self, network: MemoryNetwork, addresses: list[str], name: str, rich: bool, privileged: bool) -> None:
        self.network = network
        self.addresses = addresses
        """May be changed by a test at any time."""
        self.name = name
        self.rich = rich
        self.privileged = privileged
        self.ports: list[MemoryPort] = []
        self.busy_until = 0.0
        """May be set by a test: datagrams that arrive earlier wait in the sockets' buffers. Timers are not delayed."""
        self._next_ephemeral = _FIRST_EPHEMERAL

    def __repr__(self) -> str:
        return f"<MemoryHost {self.name} {' '.join(self.addresses)}>"

    # IReactorTime

    def seconds(self) -> float:
        """See IReactorTime."""
        return self.network.clock.seconds()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> IDelayedCall:
        """See IReactorTime."""
        return self.network.clock.callLater(delay, callable, *args, **kw)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """See IReactorTime; of all hosts, for they share a clock."""
        return list(self.network.clock.getDelayedCalls())

    # IReactorUDP

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> MemoryPort:
        """See IReactorUDP.

        :raise CannotListenError: the port is taken (EADDRINUSE), the address is another's (EADDRNOTAVAIL), or the host
            is not privileged (EACCES).
        """
        kind = RichMemoryPort if self.rich else MemoryPort
        listening = kind(self, port or self._ephemeral(), protocol, interface, maxPacketSize)
        if not listening.wildcard and not self.owns(interface):
            raise self._cannot_listen(interface, port, errno.EADDRNOTAVAIL)
        if listening.port < _PRIVILEGED and not self.privileged:
            raise self._cannot_listen(interface, port, errno.EACCES)
        if any(self._collide(listening, other) for other in self.ports):
            raise self._cannot_listen(interface, port, errno.EADDRINUSE)
        self.ports.append(listening)
        listening.startListening()
        return listening

    @staticmethod
    def _collide(one: MemoryPort, other: MemoryPort) -> bool:
        same_address = one.wildcard or other.wildcard or one.interface == other.interface
        return one.port == other.port and one.ipv6 == other.ipv6 and same_address

    @staticmethod
    def _cannot_listen(interface: str, port: int, number: int) -> CannotListenError:
        reason = OSError(number, os.strerror(number))
        return CannotListenError(interface, port, reason)

    def _ephemeral(self) -> int:
        ports_in_use = {port.port for port in self.ports}
        while self._next_ephemeral in ports_in_use:
            self._next_ephemeral += 1
        self._next_ephemeral += 1
        return self._next_ephemeral - 1

    # Towards ports and the network

    def owns(self, address: str) -> bool:
        """Whether a datagram may leave from *address*."""
        return address in self.addresses or address in ("127.0.0.1", "::1", "0.0.0.0", "::")

    def source(self, destination: str) -> str:
        """Return the source address of a datagram to *destination* from a port that is not bound to an address."""
        if destination in self.addresses or destination in ("127.0.0.1", "::1"):
            return destination
        ipv6 = is_ipv6(destination)
        return next((known for known in self.addresses if is_ipv6(known) == ipv6), "::" if ipv6 else "0.0.0.0")

    def transmit(self, data: bytes, source: tuple[str, int], destination: tuple[str, int]) -> None:
        """Hand a datagram to the network."""
        self.network.transmit(self, data, source, destination)

    def port_for(self, address: str, port: int) -> MemoryPort | None:
        """Return the port that receives a datagram to *address*. As in Linux, a broadcast reaches only ports that are
        not bound to an address."""
        ipv6 = is_ipv6(address)
        anywhere = None
        for known in self.ports:
            if known.port == port and known.ipv6 == ipv6:
                if known.interface == address:
                    return known
                if anywhere is None and known.wildcard:
                    anywhere = known
        return anywhere

    def forget(self, port: MemoryPort) -> None:
        """*port* is closed."""
        self.ports.remove(port)
