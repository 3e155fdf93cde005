"""Cache of the MAC address of each IP address: a client has many transfers, and the record of each has its MAC."""

from collections.abc import Callable

from attrs import define, field

from bootfw.values import Address, Client

REMEMBERED_SECONDS = 60.0
"""How long a result is cached."""

CLIENTS = 10_000
"""Most addresses in the cache."""


@define(eq=False)
class ClientMACs:
    """Caches the results of the lookup that an IClientAware gets.

    :param lookup: see IClientAware; each call costs a system call.
    """

    _lookup: Callable[[Address], Client]
    _macs: dict[str, tuple[float, str]] = field(factory=dict, init=False)
    """IP address -> (time until which it is valid, MAC)."""

    def mac(self, now: float, peer: Address) -> str:
        """Return the MAC of *peer*, lower-case with colons; "" if it is not known. An unknown MAC is not cached.

        :param now: seconds on the reactor's clock.
        """
        host = peer[0]
        until, mac = self._macs.get(host, (0.0, ""))
        if now >= until or not mac:
            mac = self._lookup(peer).mac
            # Removed first, so that the oldest entry is always the first one.
            self._macs.pop(host, None)
            self._macs[host] = now + REMEMBERED_SECONDS, mac
            if len(self._macs) > CLIENTS:
                del self._macs[next(iter(self._macs))]
        return mac
