"""How many unknown clients are given an address in a second: a flood of invented ones must not empty the pools."""

from collections import OrderedDict
from collections.abc import Hashable
from math import inf

from bootfw.dhcp.answer import Arrival
from bootfw.wire.dhcp4 import UNSPECIFIED, Message
from bootfw.wire.options import Option

_AGENT = Option.RELAY_AGENT_INFORMATION
_PLACES = 4096


SHARE = 4
"""A wire may have this part of its free addresses taken in a second, if that is more: a hall that is switched on is no
flood, and the nearer the end, the slower it goes."""


class RateLimit:
    """Counts the unknown clients of each wire, and of each relay and circuit.

    :param per_second: in the long run, and at once after a second of rest; math.inf: any number.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        """How many more, and the time of the last one, for each of our addresses, relays, and ports of switches (the
        relay's option 82)."""

    def admit(self, message: Message, arrival: Arrival, now: float, free: int) -> bool:
        """Whether one more is given an address; it is then counted.

        :param free: addresses that are left where it is.
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

        :param wire: what tells it, or the relay and its port, from others.
        """
        return self._per_second == inf or self._take(wire, self._per_second, now)

    def _take(self, place: Hashable, most: float, now: float) -> bool:
        left, last = self._left.get(place, (most, now))
        left = min(most, left + (now - last) * most)
        admitted = left >= 1
        self._left[place] = (left - admitted, now)
        self._left.move_to_end(place)
        if len(self._left) > _PLACES:
            self._left.popitem(last=False)
        return admitted
