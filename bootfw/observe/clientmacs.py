"""Cache of the MAC address behind each IP address: a client has many transfers, and each record names its MAC."""

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
    _found: dict[str, tuple[float, str]] = field(factory=dict, init=False)
    """IP address -> (time until which it is valid, MAC)."""

    def mac(self, now: float, peer: Address) -> str:
        """Return the MAC of *peer*, lower-case with colons; "" if it is not known. An unknown MAC is not cached.

        :param now: seconds on the reactor's clock.
        """
        host = peer[0]
        until, mac = self._found.get(host, (0.0, ""))
        if now >= until or not mac:
            mac = self._lookup(peer).mac
            self._found.pop(host, None)
            self._found[host] = now + REMEMBERED_SECONDS, mac
            if len(self._found) > CLIENTS:
                del self._found[next(iter(self._found))]
        return mac
