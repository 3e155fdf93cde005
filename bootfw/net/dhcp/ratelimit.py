"""The rate at which unknown clients are given addresses: a flood of invented ones must not empty the pools."""

from collections import OrderedDict
from collections.abc import Hashable
from math import inf

from bootfw.dhcp.answer import Arrival
from bootfw.wire.dhcp4 import UNSPECIFIED, Message
from bootfw.wire.options import Option

_AGENT = Option.RELAY_AGENT_INFORMATION
_SOURCES = 4096
"""That are remembered."""


SHARE = 4
"""One in so many of a link's free addresses may be given in a second, if that is more than the configured rate: a hall
of machines that is switched on is no flood, and the fewer are left, the slower it goes."""


class RateLimit:
    """A token bucket for each link, and for each relay and circuit.

    :param per_second: new clients in a second, and in one burst after a second without any; math.inf: any number.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        """Tokens, and the time of the last request, for each of our addresses, relays, and ports of switches (the
        relay's option 82)."""

    def admit(self, message: Message, arrival: Arrival, now: float, free: int) -> bool:
        """Whether one more client may be given an address; it is counted then.

        :param free: free addresses of its network.
        """
        most = self._per_second
        if most == inf:
            return True
        circuit = message.options.get(_AGENT, b"") if message.giaddr != UNSPECIFIED else b""
        if not circuit:  # else it is a single port of a switch
            most = max(most, free / SHARE)
        return self._take((arrival.server, message.giaddr, circuit), most, now)

    def admit6(self, wire: Hashable, now: float) -> bool:
        """The same by DHCPv6, whose pools are large.

        :param wire: identifies the link, or the relay and its port.
        """
        return self._per_second == inf or self._take(wire, self._per_second, now)

    def _take(self, source: Hashable, most: float, now: float) -> bool:
        left, last = self._left.get(source, (most, now))
        left = min(most, left + (now - last) * most)
        admitted = left >= 1
        self._left[source] = (left - admitted, now)
        self._left.move_to_end(source)
        if len(self._left) > _SOURCES:
            self._left.popitem(last=False)
        return admitted
