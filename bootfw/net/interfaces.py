"""Which interfaces are served, and what they are called."""

import socket
from collections.abc import Sequence

from bootfw.values import Via


class Interfaces:
    """Knows interfaces by the index that arrives with a datagram.

    :param names: those that are served; empty: all.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._names = frozenset(names)

    def serves(self, via: Via | None) -> bool:
        """Whether a datagram that came this way is to be answered. One that came an unknown way is."""
        if not self._names or via is None or not via.interface:
            return True
        return self.name(via.interface) in self._names

    def name(self, index: int) -> str:
        """The name the interface has now; "" when it has gone. Asked anew each time: names change, numbers return."""
        try:
            return socket.if_indextoname(index) if index else ""
        except OSError:
            return ""
