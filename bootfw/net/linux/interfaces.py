"""Which interfaces are served and what they are called, and which addresses this host has."""

import array
import errno
import fcntl
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence

from attrs import frozen

from bootfw.values import Via

_SIOCGIFCONF = 0x8912
_SIOCGIFNETMASK = 0x891B
_REQUEST = 40  # octets of a struct ifreq: 16 of name, and a struct sockaddr_in in the rest
_ADDRESSES = 1024


@frozen
class IPv4Address:
    """One of ours."""

    address: str
    mask: int

    def is_beside(self, other: str) -> bool:
        """Whether *other* is of the same network."""
        return (_number(self.address) ^ _number(other)) & self.mask == 0


def own_addresses() -> frozenset[str]:
    """The IPv4 addresses that this machine has now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return frozenset(socket.inet_ntoa(packed) for _, packed in _configured(_Room(), sock))


class _Room:
    """What the kernel writes addresses into."""

    def __init__(self) -> None:
        self.octets = array.array("B", bytes(_REQUEST * _ADDRESSES))
        self.request = struct.pack("@iP", len(self.octets), self.octets.buffer_info()[0])


def _configured(room: _Room, sock: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Label and address of each, as the kernel has them now; the first of an interface is its primary one."""
    used, _ = struct.unpack("@iP", fcntl.ioctl(sock, _SIOCGIFCONF, room.request))
    found = room.octets[:used].tobytes()
    return ((found[at : at + 16], found[at + 20 : at + 24]) for at in range(0, used, _REQUEST))


def _mask(sock: socket.socket, label: bytes, address: bytes) -> int:
    request = label + struct.pack("=HH4s16x", socket.AF_INET, 0, address)
    return int.from_bytes(fcntl.ioctl(sock, _SIOCGIFNETMASK, request)[20:24], "big")


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "big")


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


_DEVICES = "/proc/thread-self/net/dev"


def _present() -> dict[int, str]:
    """The interfaces that exist now: index -> name."""
    try:
        return dict(socket.if_nameindex())
    except OSError:  # glibc asks by rtnetlink, which a sandbox may forbid
        with open(_DEVICES) as lines:
            names = [line.partition(":")[0].strip() for line in lines if ":" in line]
        return {socket.if_nametoindex(name): name for name in names}


_LISTED = 12
"""Names or addresses in a message; a host of containers has hundreds."""


def missing_interfaces(names: Iterable[str]) -> dict[str, str]:
    """Those of *names* that no interface has now -> what is wrong, with the names that exist."""
    present = _present().values()
    return {name: f"no interface {name}; there are: {_some(present)}" for name in names if name not in present}


def unusable_address(address: str) -> str:
    """Why a socket can't be bound to *address*, such as that no interface has it; "" when it can.

    Linux decides, not a list of addresses: all of 127.0.0.0/8 is ours, and so is what a local route says.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        where = socket.getaddrinfo(address, 0, family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)[0][4]
    except OSError:
        return f"no interface {address.partition('%')[2]}; there are: {_some(_present().values())}"
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(where)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL or (family == socket.AF_INET6 and _is_assigned(str(where[0]))):
            return ""  # another reason is found where the port is opened, and an IPv6 address may still be tentative
        own = own_addresses6() if family == socket.AF_INET6 else own_addresses()
        return f"this host has no such address; it has: {_some(sorted(own)) or 'none of this family'}"
    return ""


def _is_assigned(address: str) -> bool:
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0]).hex()
    return any(row[0] == packed for row in _rows())


def _some(words: Iterable[str]) -> str:
    listed = list(words)
    more = len(listed) - _LISTED
    return ", ".join(listed[:_LISTED]) + (f" and {more} more" if more > 0 else "")


_REPORTED = 256
"""Interfaces whose first dropped request is reported: those of containers come and go."""


class Interfaces:
    """Knows interfaces by the index that arrives with a datagram.

    :param names: those that are served; empty: all.
    :param dropped: called with the name of another one at the first request that arrives there.
    """

    def __init__(self, names: Sequence[str] = (), dropped: Callable[[str], None] | None = None) -> None:
        self._names = frozenset(names)
        self._dropped = dropped
        self._reported: set[str] = set()
        self._room: _Room | None = None

    def serves(self, via: Via | None) -> bool:
        """Whether a datagram that came this way is to be answered. One that came an unknown way is."""
        if not self._names or via is None or not via.interface:
            return True
        name = self.name(via.interface)
        if name in self._names:
            return True
        if self._dropped is not None and name and name not in self._reported and len(self._reported) < _REPORTED:
            self._reported.add(name)
            self._dropped(name)
        return False

    def served(self) -> Iterator[int]:
        """The indexes of those that are there now."""
        return (index for index, name in _present().items() if not self._names or name in self._names)

    def name(self, index: int) -> str:
        """The name the interface has now; "" when it has gone. Asked anew each time: names change, numbers return."""
        try:
            return socket.if_indextoname(index) if index else ""
        except OSError:
            return ""

    def addresses(self, name: str, sock: socket.socket) -> tuple[IPv4Address, ...] | None:
        """The IPv4 addresses that the interface has now, the primary one first; None when that can't be found out.

        :param sock: any socket of ours of IPv4.
        """
        if self._room is None:
            self._room = _Room()
        packed = name.encode()
        try:
            # An address may have a label of its own, "eth0:1".
            here = [
                (label, address)
                for label, address in _configured(self._room, sock)
                if label.rstrip(b"\0").partition(b":")[0] == packed
            ]
            return tuple(IPv4Address(socket.inet_ntoa(address), _mask(sock, label, address)) for label, address in here)
        except OSError:
            return None
