"""Recognizes devices that answer ARP for addresses of others: routers with proxy ARP, access points."""

from collections import OrderedDict
from collections.abc import Callable

MIN_ADDRESSES = 4
"""Number of different addresses that one MAC address answers for in a row, with no timeout between, before it counts as
a proxy."""

_REMEMBERED_SECONDS = 3600.0
"""Seconds after its latest reply in which a device counts as a proxy."""

_MAX_PROXIES = 256
"""Proxies that are remembered; the one that was found first is dropped first."""


class ProxyARP:
    """Decides whether an ARP reply proves that an address is in use, or comes from a proxy.

    :param found: called once for each proxy, with the interface, its MAC address, and the addresses that counted as in
        use before it was recognized.
    """

    def __init__(self, found: Callable[[str, str, tuple[str, ...]], None]) -> None:
        self._found = found
        self._runs: dict[str, tuple[bytes, dict[str, None]]] = {}
        """Interface -> (the MAC address that answered last, the addresses that it answered for in a row)."""
        self._proxies: OrderedDict[tuple[str, bytes], float] = OrderedDict()
        """(interface, MAC address) of a proxy -> when it answered last."""

    def reply_received(self, interface: str, hardware: bytes, address: str, now: float) -> bool:
        """Count an ARP reply of *hardware* to a probe of *address*; return whether it proves that the address is in
        use."""
        proxy = interface, hardware
        answered_at = self._proxies.get(proxy)
        if answered_at is not None and now < answered_at + _REMEMBERED_SECONDS:
            self._proxies[proxy] = now
            return False
        last, addresses = self._runs.get(interface, (b"", {}))
        if last != hardware:
            addresses = {}
            self._runs[interface] = hardware, addresses
        addresses[address] = None
        if len(addresses) < MIN_ADDRESSES:
            return True
        del self._runs[interface]
        self._proxies[proxy] = now
        self._proxies.move_to_end(proxy)
        if len(self._proxies) > _MAX_PROXIES:
            self._proxies.popitem(last=False)
        self._found(interface, hardware.hex(":"), tuple(addresses))
        return False

    def probe_timed_out(self, interface: str) -> None:
        """Reset the count of an interface: no proxy answered this probe."""
        self._runs.pop(interface, None)
