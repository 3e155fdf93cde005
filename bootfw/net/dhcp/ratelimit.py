"""Limits the rate of new clients, so that a flood of invented clients does not use up the pools."""

from collections.abc import Callable, Hashable
from math import inf
from typing import Any

from bootfw.dhcp.answer import Arrival
from bootfw.tokenbuckets import TokenBuckets
from bootfw.wire.dhcp4 import UNSPECIFIED, Message
from bootfw.wire.options import Option

_AGENT = Option.RELAY_AGENT_INFORMATION
_SOURCES = 4096
"""Sources that are remembered at most."""

BUSY_PORTS = 16
"""The ports of one relay together get so many times what one of them gets."""

_ALL_PORTS = "all ports"

SHARE = 4
"""One in SHARE of the free addresses of a link may be leased in a second, if that is more than the configured rate. So
a powered-on rack passes at once, and a flood gets slower the fewer addresses are left."""


class RateLimit:
    """A token bucket for each link, and for each relay and circuit.

    :param per_second: new clients in a second, and in one burst after a second without any; math.inf: any number.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._buckets = TokenBuckets(_SOURCES)
        """A bucket for each source: our address on a link, a relay, or the port of a switch (the relay's option 82)."""

    def admit(self, message: Message, arrival: Arrival, now: float, free: Callable[[], int]) -> bool:
        """Return whether one more client may get an address. If so, it is counted.

        :param free: counts the free addresses of its network.
        """
        most = self._per_second
        if most == inf:
            return True
        circuit = message.options.get(_AGENT, b"") if message.giaddr != UNSPECIFIED else b""
        if not circuit:  # a relay or link as a whole; otherwise a single port of a switch
            most = max(most, free() / SHARE)
            return self._buckets.take((arrival.server, message.giaddr), most, most, now)
        return self._take_of_port((arrival.server, message.giaddr), circuit, now)

    def admit6(self, link: Any, now: float) -> bool:
        """Return the same for DHCPv6. Its pools are so large that the free addresses do not matter.

        :param link: see Arrival6.
        """
        if self._per_second == inf:
            return True
        relay, port = link
        if port is None:
            return self._buckets.take(relay, self._per_second, self._per_second, now)
        return self._take_of_port(relay, port, now)

    def _take_of_port(self, relay: Hashable, port: Hashable, now: float) -> bool:
        """Take from the port of a relay, which the client may have invented, and from the relay as a whole."""
        take, most, together = self._buckets.take, self._per_second, BUSY_PORTS * self._per_second
        return take((relay, port), most, most, now) and take((relay, _ALL_PORTS), together, together, now)
