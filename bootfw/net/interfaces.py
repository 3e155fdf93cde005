"""Which interfaces are served, and what they are called."""

import array
import fcntl
import socket
import struct
from collections.abc import Iterator, Sequence

from attrs import frozen

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


@frozen
class IPv6Address:
    """One of ours that others can come to: no link-local one, and none that is about to go or still being tried."""

    address: str
    prefix: int
    """Bits of its network."""
    interface: int
    """Index."""


_IF_INET6 = "/proc/thread-self/net/if_inet6"
_LINK_LOCAL, _LOOPBACK = 0x20, 0x10  # scopes (include/net/ipv6.h)
_TEMPORARY, _DAD_FAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x08, 0x20, 0x40  # flags (linux/if_addr.h)


def own_addresses6() -> frozenset[str]:
    """The IPv6 addresses that this machine has now, but for link-local ones. One that is still being tried counts."""
    return frozenset(
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex(packed))
        for packed, _, _, scope, _, _ in _rows()
        if int(scope, 16) != _LINK_LOCAL
    )


def ipv6_addresses() -> tuple[IPv6Address, ...]:
    """Those of this machine now, the ones that stay first. None where there is no IPv6."""
    found = []
    for packed, index, prefix, scope, flags, _ in _rows():
        if int(scope, 16) in (_LINK_LOCAL, _LOOPBACK) or int(flags, 16) & (_DAD_FAILED | _DEPRECATED | _TENTATIVE):
            continue
        address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(packed))
        found.append((int(flags, 16) & _TEMPORARY, IPv6Address(address, int(prefix, 16), int(index, 16))))
    return tuple(address for _, address in sorted(found, key=lambda each: each[0]))


def _rows() -> list[list[str]]:
    try:
        with open(_IF_INET6) as lines:
            return [line.split() for line in lines]
    except OSError:
        return []


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

    def served(self) -> Iterator[int]:
        """The indexes of those that are there now."""
        return (index for index, name in socket.if_nameindex() if not self._names or name in self._names)

    def name(self, index: int) -> str:
        """The name the interface has now; "" when it has gone. Asked anew each time: names change, numbers return."""
        try:
            return socket.if_indextoname(index) if index else ""
        except OSError:
            return ""
