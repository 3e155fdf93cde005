"""Questions to the kernel's routing and neighbour tables (rtnetlink(7))."""

import errno
import socket
import struct
from collections.abc import Iterator

from bootfw.values import Address

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr
_INTERFACE = struct.Struct("=i")

_NLMSG_ERROR = 2
_NLM_F_REQUEST = 1
_RTM_GETROUTE = 26
_RTM_GETNEIGH = 30
_RTA_DST = _NDA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_NDA_LLADDR = 2
_NOT_RESOLVED = 0x01 | 0x20  # NUD_INCOMPLETE, NUD_FAILED: an address that is there all the same is an old one

_LARGEST = 8192
"""Octets of an answer: one entry of a table."""


class Rtnetlink:
    """A socket to the kernel. Where there is no rtnetlink, everything is unknown."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._sequence = 0
        self._missing = not hasattr(socket, "AF_NETLINK")

    def hardware_address(self, peer: Address) -> str:
        """The MAC of *peer*, lower-case with colons; "" when it is not known, or behind a router. Does not wait."""
        try:
            family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
            octets = socket.inet_pton(family, peer[0])
            scope = peer[3] if len(peer) == 4 else 0
            interface = scope or self._interface(family, octets)
            return self._neighbour(family, octets, interface) if interface else ""
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
                self._missing = True
            return ""

    def _interface(self, family: int, octets: bytes) -> int:
        """Index of the one whose wire the address is on; 0: none, or it is behind a router."""
        header = _ROUTE.pack(family, len(octets) * 8, 0, 0, 0, 0, 0, 0, 0)
        answer = self._ask(_RTM_GETROUTE, header + _attribute(_RTA_DST, octets))
        found = dict(_attributes(answer, _ROUTE.size))
        if _RTA_GATEWAY in found or _RTA_OIF not in found:
            return 0
        return int(_INTERFACE.unpack(found[_RTA_OIF])[0])

    def _neighbour(self, family: int, octets: bytes, interface: int) -> str:
        header = _NEIGHBOUR.pack(family, interface, 0, 0, 0)
        answer = self._ask(_RTM_GETNEIGH, header + _attribute(_NDA_DST, octets))
        if len(answer) < _NEIGHBOUR.size or _NEIGHBOUR.unpack_from(answer)[2] & _NOT_RESOLVED:
            return ""
        hardware = dict(_attributes(answer, _NEIGHBOUR.size)).get(_NDA_LLADDR, b"")
        return hardware.hex(":")

    def _ask(self, kind: int, body: bytes) -> bytes:
        """The body of the answer; b"" when there is no such entry.

        :raise OSError: the kernel can't be asked.
        """
        if self._missing:
            return b""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)  # NETLINK_ROUTE
            # The kernel has answered before send() returns; this is for the day when it has not.
            self._socket.setblocking(False)
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        length = _HEADER.size + len(body)
        self._socket.sendto(_HEADER.pack(length, kind, _NLM_F_REQUEST, self._sequence, 0) + body, (0, 0))
        while True:
            answer = self._socket.recv(_LARGEST)
            length, kind, _, sequence, _ = _HEADER.unpack_from(answer)
            if sequence == self._sequence:  # another one is to a question that was given up
                return b"" if kind == _NLMSG_ERROR else answer[_HEADER.size : length]


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def _attributes(body: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    while start + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, start)
        if length < _ATTRIBUTE.size:
            return
        yield kind, body[start + _ATTRIBUTE.size : start + length]
        start += length + 3 & ~3
