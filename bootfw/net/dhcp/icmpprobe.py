"""Asking whether somebody uses an address already where ARP does not reach, behind relays: by ICMP echo (RFC 792).

So RFC 2131 section 3.1 has a server ask. An answer tells that somebody has the address, but not who that is.
"""

import os
import socket
import struct
from functools import partial
from typing import Any

from bootfw.net.dhcp.conflict import Questions, Told, attach_filter

_ECHO = 8
_COOKIE_SIZE = 16

# RFC 792: type, code, checksum, identifier, sequence number
_HEADER = struct.Struct("!BBHHH")


class Ping:
    """Asks wherever packets are routed to. The answers of many are waited for at once.

    Every question is the same packet: whose answer it is, its source address tells, and a secret in it that nobody
    answers who has not been asked. An answer to an earlier question for the address is as good as one to the latest.

    :param reactor: IReactorFDSet and IReactorTime.
    :param seconds: how long an answer is waited for.
    :raise OSError: the kernel lets us neither by CAP_NET_RAW nor by net.ipv4.ping_group_range.
    """

    def __init__(self, reactor: Any, seconds: float) -> None:
        identifier = int.from_bytes(os.urandom(2), "big")
        self._cookie = os.urandom(_COOKIE_SIZE)
        self._packet = _echo(identifier, self._cookie)
        self._socket = _opened(identifier)
        self._questions = Questions(reactor, seconds, self._socket, self._heard, "ping")

    def ask(self, address: str, told: Told) -> None:
        """Ask for *address*.

        :param told: called once, never before this returns; not at all after close(). Where there is no way to the
            address it is called in the next turn of the reactor: nobody can answer.
        """
        self._questions.ask(address, partial(self._socket.sendto, self._packet, (address, 0)), told)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._questions.close()

    def _heard(self, packet: bytes, sender: Any) -> None:
        # The kernel has checked the rest: that it is an echo reply, with our identifier.
        if packet.endswith(self._cookie):
            self._questions.answered(sender[0])


def _opened(identifier: int) -> socket.socket:
    """A socket that hears the answers to echoes of that identifier only, or of another that the kernel puts there."""
    flags = socket.SOCK_NONBLOCK
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | flags, socket.IPPROTO_ICMP)
    except PermissionError:
        # A ping socket has an identifier of its own: icmp(7).
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | flags, socket.IPPROTO_ICMP)
    attach_filter(
        raw,
        (
            (0xB1, 0, 0, 0),  # X: the length of the IP header
            (0x48, 0, 0, 0),  # type and code
            (0x15, 0, 3, 0),  # echo reply, else drop
            (0x48, 0, 0, 4),
            (0x15, 0, 1, identifier),
            (0x06, 0, 0, 0xFFFF),
            (0x06, 0, 0, 0),
        ),
    )
    return raw


def _echo(identifier: int, data: bytes) -> bytes:
    """An echo request with *data*, of an even number of bytes; its sum is that of RFC 1071."""
    total = (_ECHO << 8) + identifier + sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return _HEADER.pack(_ECHO, 0, ~total & 0xFFFF, identifier, 0) + data
