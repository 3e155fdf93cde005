"""How large a packet may be on an interface."""

import fcntl
import socket
import struct
from collections.abc import Callable
from typing import Any

from bootfw.values import Via

_SIOCGIFMTU = 0x8921
_REQUEST = struct.Struct("@16si20x")  # struct ifreq, with room for its largest member

# Seconds that an answer is believed. Long against a boot storm, short against an operator who changes an MTU.
_LIFETIME = 5.0


_LARGEST_ON_ETHERNET = 1468  # bytes: 1500 less the headers of IPv4, UDP and TFTP
_SMALLEST_BLKSIZE = 512  # bytes that every client can take in (RFC 1350), whatever an interface says of its MTU


def fitting_blksize(blksize: int, via: Via, mtu: Callable[[Via], int | None]) -> int:
    """*blksize*, or what fits the interface.

    What fits Ethernet is made to fit a smaller MTU as well. More than that was set on purpose: it is for a network with
    jumbo frames, or for clients that put fragments together.
    """
    largest = mtu(via) if blksize <= _LARGEST_ON_ETHERNET else None
    if largest is None:
        return blksize
    return max(_SMALLEST_BLKSIZE, min(blksize, largest - (52 if ":" in via.local else 32)))


class InterfaceMTU:
    """The MTU of the interface that a datagram arrived on.

    :param clock: an IReactorTime.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._known: dict[int, tuple[float, int | None]] = {}

    def of(self, via: Via) -> int | None:
        """Octets of the largest IP packet, or None when it isn't known which interface that is, or it has gone."""
        if not via.interface:
            return None
        now: float = self._clock.seconds()
        until, mtu = self._known.get(via.interface, (now, None))
        if until <= now:
            mtu = _ask(via.interface)
            self._known[via.interface] = now + _LIFETIME, mtu
        return mtu


def _ask(interface: int) -> int | None:
    try:
        name = socket.if_indextoname(interface).encode()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFMTU, _REQUEST.pack(name, 0))
    except OSError:
        return None
    return int(_REQUEST.unpack(answer)[1])
