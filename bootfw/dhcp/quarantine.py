"""The addresses that rest because another machine uses them, and which clients declined them."""

from collections.abc import Iterable

MOST_OF_A_CLIENT = 3
"""Addresses that one client can have rest: a client that declines all that it is given is broken, not the network."""


class Quarantine:
    """Each in the order in which the rests began. Holds no more entries than there are addresses."""

    def __init__(self) -> None:
        self._clients: dict[str, bytes] = {}
        """Address -> key of the client that declined it."""
        self._probed: dict[str, None] = {}
        self._declined: dict[bytes, dict[str, None]] = {}
        """Key of a client -> the addresses that it declined, the latest last."""

    def add(self, address: str, client: bytes = b"") -> str:
        """*address* rests from now on.

        :param client: who declined it; empty: a probe was answered.
        :return: the address whose rest has to end because *client* has declined too many, or "".
        """
        self.discard(address)
        if not client:
            self._probed[address] = None
            return ""
        self._clients[address] = client
        declined = self._declined.setdefault(client, {})
        declined[address] = None
        return next(iter(declined)) if len(declined) > MOST_OF_A_CLIENT else ""

    def discard(self, address: str) -> None:
        """*address* rests no longer, if it did."""
        if address in self._probed:
            del self._probed[address]
        elif address in self._clients:
            client = self._clients.pop(address)
            declined = self._declined[client]
            del declined[address]
            if not declined:
                del self._declined[client]

    @property
    def declined(self) -> Iterable[str]:
        """Those that clients declined."""
        return self._clients

    @property
    def probed(self) -> Iterable[str]:
        """Those where a probe was answered."""
        return self._probed
