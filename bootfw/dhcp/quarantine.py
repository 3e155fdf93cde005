"""Addresses in quarantine: another machine uses them without a lease, so for a while no client is given them."""

from collections.abc import Iterable

MOST_OF_A_CLIENT = 3
"""Addresses that one client can have in quarantine: a client that declines every address is broken, not the network."""


class Quarantine:
    """Which addresses are in quarantine, in the order in which they came, and which client declined each.

    When a quarantine ends by time is in the lease. No more entries than there are addresses.
    """

    def __init__(self) -> None:
        self._clients: dict[int, bytes] = {}
        """Address -> the client that declined it."""
        self._probed: dict[int, None] = {}
        self._declined: dict[bytes, dict[int, None]] = {}
        """Client -> the addresses that it declined, the latest last."""

    def add(self, address: int, client: bytes = b"") -> int | None:
        """Begin the quarantine of *address*.

        :param client: who declined it; empty: a probe was answered.
        :return: the address whose quarantine has to end because *client* has declined too many.
        """
        self.discard(address)
        if not client:
            self._probed[address] = None
            return None
        self._clients[address] = client
        declined = self._declined.setdefault(client, {})
        declined[address] = None
        return next(iter(declined)) if len(declined) > MOST_OF_A_CLIENT else None

    def discard(self, address: int) -> None:
        """End the quarantine of *address*, if there is one."""
        if address in self._probed:
            del self._probed[address]
        elif address in self._clients:
            client = self._clients.pop(address)
            declined = self._declined[client]
            del declined[address]
            if not declined:
                del self._declined[client]

    @property
    def declined(self) -> Iterable[int]:
        """Addresses that clients declined."""
        return self._clients

    @property
    def probed(self) -> Iterable[int]:
        """Addresses where a probe was answered."""
        return self._probed
