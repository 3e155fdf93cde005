"""Addresses in quarantine: another machine uses them without a lease, so no client gets them for a while."""

from collections.abc import Iterable

MAX_PER_CLIENT = 3
"""Addresses that one client can put into quarantine: a client that declines every address is broken."""


class Quarantine:
    """The addresses in quarantine, the earliest first, and the clients that declined them.

    The end of a quarantine is ``expires`` of its lease, not here.
    """

    def __init__(self) -> None:
        self._clients: dict[int, bytes] = {}
        """Address -> the client that declined it."""
        self._probed: dict[int, None] = {}
        """Addresses that answered a probe, the earliest first: a dictionary is used as an ordered set."""
        self._declined: dict[bytes, dict[int, None]] = {}
        """Client -> the addresses that it declined, the latest last."""

    def add(self, address: int, client: bytes = b"") -> int | None:
        """Begin the quarantine of *address*.

        :param client: the client that declined it; empty: a host answered a probe of it.
        :return: the address whose quarantine must end because *client* has declined too many; None: there is none.
        """
        self.discard(address)
        if not client:
            self._probed[address] = None
            return None
        self._clients[address] = client
        declined = self._declined.setdefault(client, {})
        declined[address] = None
        return next(iter(declined)) if len(declined) > MAX_PER_CLIENT else None

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
        """Addresses that clients declined, the earliest first."""
        return self._clients

    @property
    def probed(self) -> Iterable[int]:
        """Addresses that answered a probe, the earliest first."""
        return self._probed
