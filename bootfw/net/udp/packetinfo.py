"""Socket addresses and packet info (ip(7), ipv6(7)): bytes to values and back."""

import socket
import struct
import sys
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from twisted.internet.error import InvalidAddressError

from bootfw.net.udp.mmsg import source_key
from bootfw.values import Address, Via

UNKNOWN_VIA = Via("", 0, "")
"""How a datagram arrived that came without packet info."""

_LIMIT = 4096
_HEADER = struct.Struct("@Nii")  # struct cmsghdr
_INFO4 = struct.Struct("@I4s4s")  # struct in_pktinfo
_INFO6 = struct.Struct("@16sI")  # struct in6_pktinfo
_FAMILY4 = socket.AF_INET.to_bytes(2, sys.byteorder)
_NO_ADDRESS4 = bytes(4)
_NO_ADDRESS6 = bytes(16)

Key = TypeVar("Key")
Value = TypeVar("Value")


class Cache(dict[Key, Value]):
    """A dictionary that computes missing values, and is emptied when it has 4096 entries."""

    def __init__(self, make: Callable[[Key], Value]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: Key) -> Value:
        # All entries at once: to keep the order of their use would cost time at each lookup, and a value is cheap to
        # compute again.
        if len(self) >= _LIMIT:
            self.clear()
        value = self[key] = self._make(key)
        return value


class Destination(NamedTuple):
    """The destination of a datagram, in the forms that the system calls need."""

    address: Address
    """For sendto(): numeric, with every item."""
    raw: bytes
    """The same as a struct sockaddr."""
    key: bytes | int
    """The same again, see source_key()."""
    needs_interface: bool
    """Whether the address is the same on every link, so that its route does not say which link: broadcast, multicast,
    link-local."""


class Family(Protocol):
    """IPv4 or IPv6, as a socket has it."""

    number: socket.AddressFamily
    name_length: int
    """Bytes of a sockaddr."""
    level: int
    """cmsg_level of the control message with packet info."""
    type: int
    """cmsg_type of the same."""
    info_length: int
    """Bytes of packet info."""

    def read_address(self, raw: bytes) -> Address:
        """Return a struct sockaddr as the socket module returns it."""

    def destination(self, peer: Address) -> Destination:
        """Return *peer* as the system calls need it.

        :raise InvalidAddressError: it isn't a numeric address of this family.
        """

    def read_info(self, raw: bytes) -> Via:
        """Parse the packet info of a datagram that has arrived."""

    def info(self, via: Via, on_interface: bool) -> bytes:
        """Return packet info for sending: from ``via.local`` and, if *on_interface*, on ``via.interface``; b"": neither
        is known."""


class _IPv4:
    number = socket.AF_INET
    name_length = 16
    level = socket.IPPROTO_IP
    type = 8  # IP_PKTINFO; the socket module of Python 3.11 lacks it
    info_length = _INFO4.size

    def __init__(self) -> None:
        # By host, not by host and port: a client requests each of its files from another port.
        self._hosts = Cache(self._host)
        self._names = Cache(socket.inet_ntoa)

    def read_address(self, raw: bytes) -> Address:
        return self._names[raw[4:8]], raw[2] << 8 | raw[3]

    def destination(self, peer: Address) -> Destination:
        host, padded_address, needs_interface = self._hosts[peer[0]]
        port = peer[1]
        raw = _FAMILY4 + port.to_bytes(2, "big") + padded_address
        return Destination((host, port), raw, source_key(raw), needs_interface)

    def _host(self, address: str) -> tuple[str, bytes, bool]:
        """Return (the address as sendto() takes it, what follows the port in a sockaddr, ``needs_interface``)."""
        host = "255.255.255.255" if address == "<broadcast>" else address
        packed = _packed(self.number, host)
        # A broadcast of one network is routed by that network; only the limited one needs an interface.
        return host, packed + bytes(8), packed == b"\xff\xff\xff\xff" or packed[0] & 0xF0 == 0xE0

    def read_info(self, raw: bytes) -> Via:
        interface, local, destination = _INFO4.unpack(raw)
        if not interface and local == _NO_ADDRESS4:  # it came before the option was set: to an inherited socket
            return UNKNOWN_VIA
        return Via("" if local == _NO_ADDRESS4 else socket.inet_ntoa(local), interface, socket.inet_ntoa(destination))

    def info(self, via: Via, on_interface: bool) -> bytes:
        local = socket.inet_pton(self.number, via.local) if via.local else _NO_ADDRESS4
        # A multicast or broadcast address as the source is EINVAL (net/ipv4/route.c).
        if local[0] >= 0xE0:
            local = _NO_ADDRESS4
        interface = via.interface if on_interface else 0
        return _INFO4.pack(interface, local, _NO_ADDRESS4) if interface or local != _NO_ADDRESS4 else b""


class _IPv6:
    number = socket.AF_INET6
    name_length = 28
    level = socket.IPPROTO_IPV6
    type = 50  # IPV6_PKTINFO
    info_length = _INFO6.size

    def read_address(self, raw: bytes) -> Address:
        return (
            socket.inet_ntop(self.number, raw[8:24]),
            int.from_bytes(raw[2:4], "big"),
            int.from_bytes(raw[4:8], "big"),
            int.from_bytes(raw[24:28], sys.byteorder),
        )

    def destination(self, peer: Address) -> Destination:
        host, _, zone = peer[0].partition("%")
        packed = _packed(self.number, host)
        # Sources that were received have four items. Others, such as those of a configuration, have a host and a port.
        flow, scope = peer[2:] if len(peer) == 4 else (0, 0)
        if zone:
            try:
                scope = int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
            except OSError:
                raise invalid_address(peer[0], "there is no such interface") from None
        raw = (
            self.number.to_bytes(2, sys.byteorder)
            + peer[1].to_bytes(2, "big")
            + flow.to_bytes(4, "big")
            + packed
            + scope.to_bytes(4, sys.byteorder)
        )
        return Destination((host, peer[1], flow, scope), raw, source_key(raw), _on_one_link(packed))

    def read_info(self, raw: bytes) -> Via:
        packed, interface = _INFO6.unpack(raw)
        destination = socket.inet_ntop(self.number, packed)
        # A multicast group can't be a source: with "" the kernel chooses one (RFC 6724).
        return Via("" if packed[0] == 0xFF else destination, interface, destination)

    def info(self, via: Via, on_interface: bool) -> bytes:
        local = socket.inet_pton(self.number, via.local) if via.local else _NO_ADDRESS6
        if local[0] == 0xFF:
            local = _NO_ADDRESS6
        # A link-local source without its interface is EINVAL (net/ipv6/datagram.c).
        interface = via.interface if on_interface or _on_one_link(local) else 0
        return _INFO6.pack(local, interface) if interface or local != _NO_ADDRESS6 else b""


IPV4: Family = _IPv4()
IPV6: Family = _IPv6()


def control_message(level: int, type: int, payload: bytes) -> bytes:
    """Return a struct cmsghdr with its payload, padded, for sendmsg(2)."""
    message = _HEADER.pack(socket.CMSG_LEN(len(payload)), level, type) + payload
    return message.ljust(socket.CMSG_SPACE(len(payload)), b"\0")


def invalid_address(address: str, reason: str) -> InvalidAddressError:
    """Return the error that Twisted's own ports raise for an address that isn't numeric or is of another family."""
    return InvalidAddressError(address, reason)


def _packed(family: socket.AddressFamily, host: str) -> bytes:
    try:
        return socket.inet_pton(family, host)
    except OSError:
        name = "IPv6" if family == socket.AF_INET6 else "IPv4"
        raise invalid_address(host, f"not a numeric {name} address") from None


def _on_one_link(packed: bytes) -> bool:
    """Return whether a packed IPv6 address is multicast (ff00::/8) or link-local (fe80::/10)."""
    return packed[0] == 0xFF or (packed[0] == 0xFE and packed[1] & 0xC0 == 0x80)
