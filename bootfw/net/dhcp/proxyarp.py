"""Equipment that answers ARP for addresses that no machine has: proxy ARP, ARP suppression of access points."""

from collections import OrderedDict
from collections.abc import Callable

MIN_ADDRESSES = 4
"""Consecutive answers of one hardware address for different addresses, with no unanswered probe in between, that
identify such equipment."""

_REMEMBERED_SECONDS = 3600.0
_MAX_PROXIES = 256


class ProxyARP:
    """Decides whether an ARP reply proves that an address is in use, or comes from such equipment.

    :param found: called once for each such device, with the interface, its hardware address, and the addresses that
        counted as in use before it was recognized.
    """

    def __init__(self, found: Callable[[str, str, tuple[str, ...]], None]) -> None:
        self._found = found
        self._runs: dict[str, tuple[bytes, dict[str, None]]] = {}
        """Interface -> (the hardware address that answered last, the addresses that it answered for in a row)."""
        self._proxies: OrderedDict[tuple[str, bytes], float] = OrderedDict()
        """(interface, hardware address) of such equipment -> when it answered last."""

    def reply_received(self, interface: str, hardware: bytes, address: str, now: float) -> bool:
        """Take an answer of *hardware* to a probe of *address*. Returns whether it proves that the address is in
        use."""
        proxy = interface, hardware
        seen = self._proxies.get(proxy)
        if seen is not None and now < seen + _REMEMBERED_SECONDS:
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
        """Take a probe that timed out on the interface."""
        self._runs.pop(interface, None)
