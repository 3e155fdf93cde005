"""Shares a bounded number of places, such as connections, among clients."""

FEW = 4
"""A client with fewer places than this gets another one, even where few are free."""


class Shares:
    """How many places each client has, of a bounded number.

    A client gets another place while it has fewer than are free. So one client gets half of all at most, two a third
    each, and whatever some clients do, places are left for the others.
    """

    def __init__(self) -> None:
        self.total = 0
        """Places that are taken."""
        self._places: dict[str, int] = {}

    def allows(self, client: str, most: int) -> bool:
        """Return whether *client* may have another place.

        :param most: the number of places, free or taken.
        """
        return self._places.get(client, 0) < max(most - self.total, FEW)

    def take(self, client: str) -> None:
        """Note that *client* has one more place."""
        self.total += 1
        self._places[client] = self._places.get(client, 0) + 1

    def give_back(self, client: str) -> None:
        """Note that *client* has one place less."""
        self.total -= 1
        remaining = self._places[client] - 1
        if remaining:
            self._places[client] = remaining
        else:
            del self._places[client]
