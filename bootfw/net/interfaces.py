"""Which interfaces are served, and what they are called."""

import array
import fcntl
import socket
import struct
from collections.abc import Sequence

from bootfw.values import Via

_SIOCGIFCONF = 0x8912
_REQUEST = 40  # octets of a struct ifreq: 16 of name, and a struct sockaddr_in in the rest
_ADDRESSES = 1024


def own_addresses() -> frozenset[str]:
    """The IPv4 addresses that this machine has now."""
    room = array.array("B", bytes(_REQUEST * _ADDRESSES))
    where, size = room.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        told = fcntl.ioctl(sock, _SIOCGIFCONF, struct.pack("@iP", size, where))
    used, _ = struct.unpack("@iP", told)
    found = (room[at + 20 : at + 24].tobytes() for at in range(0, used, _REQUEST))
    return frozenset(map(socket.inet_ntoa, found))


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
