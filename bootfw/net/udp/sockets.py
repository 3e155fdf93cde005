"""Opens UDP sockets as boot servers need them."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from struct import Struct
from typing import Any

from twisted.internet.error import CannotListenError

from bootfw.net.linux.devices import bind_to
from bootfw.net.linux.interfaces import index_of
from bootfw.net.linux.portowner import who_holds
from bootfw.net.udp.packetinfo import IPV4, IPV6, Family, invalid_address

# Bytes. A rack that is switched on sends some 300 requests at once; the usual 208 KiB hold about half of them, since
# the kernel counts its own structures for each datagram too.
_BUFFER = 4 * 1024 * 1024

# Names that the socket module lacks, with their numbers on Linux (asm-generic/socket.h, linux/in.h, linux/in6.h).
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_IP_MTU_DISCOVER = 10
IP_FREEBIND = 15
_IPV6_MTU_DISCOVER = 23
IPV6_FREEBIND = 78
_PMTUDISC_DONT = 0
_SIOCGSTAMPNS = 0x8907

_STAMP = Struct("@ll")  # struct timespec

_ANY = ("0.0.0.0", "::")


def open_socket(
    address: str, port: int, *, shared: bool = False, device: str = "", beside: Sequence[socket.socket] = ()
) -> tuple[socket.socket, Family]:
    """Open a bound, non-blocking UDP socket that reports how each datagram arrived (packet info).

    The address may be one that this host doesn't have yet (IP_FREEBIND). SO_REUSEADDR is off when it is bound: with it
    a second server could bind the port as well, and would get this one's datagrams. DF is off, so that a large block is
    fragmented where it has to be, and an ICMP message with a forged path MTU has no effect.

    :param address: numeric; IPv6 may have a zone, as in ``fe80::1%eth0``. "" is 0.0.0.0.
    :param shared: other processes of ours have the same port (SO_REUSEPORT).
    :param device: the interface to bind it to (SO_BINDTODEVICE); "": all of them. While there is no such interface, or
        none of the zone, the socket is not bound; bind_socket() does it later.
    :param beside: sockets of ours that have the port already, and that this one will replace.
    :raise CannotListenError: its ``socketError`` says why, and who holds the port if it is taken.
    :raise InvalidAddressError: it isn't a numeric address.
    """
    zone = address.partition("%")[2]
    absent = zone and not index_of(zone)
    try:
        family, sockaddr = resolve(address.partition("%")[0] if absent else address, port)
        sock = socket.socket(family.number, socket.SOCK_DGRAM)
    except OSError as error:
        raise _cannot_listen(address, port, error) from None
    try:
        _configure(sock, family)
        # Before bind(2), which compares the option with that of the sockets that have the port.
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if beside and sockaddr[0] in _ANY:
            _refuse_other_holders(family, port, device)
        # bind(2) needs the index of the interface. bind_socket() is called when the interface appears.
        if absent:
            pass
        elif not device:
            with with_option(socket.SO_REUSEADDR, [sock, *beside] if beside else []):
                sock.bind(sockaddr)
        elif bind_to(sock, device):
            with with_option(socket.SO_REUSEADDR, [sock, *beside] if beside else []):
                sock.bind(sockaddr)
            _leave_others(sock)
    except OSError as error:
        sock.close()
        raise _cannot_listen(address, port, _explained(error, family, port, device)) from None
    return sock, family


def bind_socket(sock: socket.socket, address: str, port: int, device: str) -> None:
    """Bind a socket that waited for *device*.

    :raise OSError: the errors for which open_socket() raises CannotListenError.
    """
    family, sockaddr = resolve(address, port)
    try:
        sock.bind(sockaddr)
    except OSError as error:
        raise _explained(error, family, port, device) from None
    _leave_others(sock)


def _leave_others(sock: socket.socket) -> None:
    """Let other servers have the port on the other interfaces, now that the socket is bound to one.

    dnsmasq has its port on all interfaces for a moment before it binds it to one of them.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


@contextmanager
def with_option(option: int, sockets: Sequence[socket.socket]) -> Iterator[None]:
    """Have the sockets share their port with each other (SO_REUSEADDR or SO_REUSEPORT) while one of them is bound."""
    before = [sock.getsockopt(socket.SOL_SOCKET, option) for sock in sockets]
    try:
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        yield
    finally:
        for sock, value in zip(sockets, before, strict=True):
            sock.setsockopt(socket.SOL_SOCKET, option, value)


def _refuse_other_holders(family: Family, port: int, device: str) -> None:
    """Refuse a port that another program has: with SO_REUSEADDR the kernel does not, if that program has set it as
    well.

    :raise OSError: another program has the port.
    """
    own_inodes = {str(os.stat(each).st_ino) for each in os.scandir("/proc/self/fd") if os.path.exists(each)}
    holder = who_holds(port, family.number, device=device, own=own_inodes)
    if holder:
        raise OSError(errno.EADDRINUSE, holder)


def waited(sock: socket.socket, wall_time: float) -> float:
    """Return the seconds that the datagram which was read last was in the buffer of *sock*; 0.0: not known.

    The first call has the kernel take the time of every datagram that arrives from then on (socket(7), SIOCGSTAMPNS),
    some 20 ns for each; so call this only when there is a backlog. The kernel's clock is the wall clock: when that is
    set, what is in the buffer looks older or newer by as much.
    """
    stamp = bytearray(_STAMP.size)
    try:
        fcntl.ioctl(sock.fileno(), _SIOCGSTAMPNS, stamp)
    except OSError:  # nothing with a time was read yet
        return 0.0
    seconds, nanoseconds = _STAMP.unpack(stamp)
    age: float = wall_time - seconds - nanoseconds / 1e9
    return max(0.0, age)


def family_of(sock: socket.socket) -> Family:
    """Return the Family of a socket."""
    return IPV6 if sock.family == socket.AF_INET6 else IPV4


def resolve(address: str, port: int) -> tuple[Family, Any]:
    """Return (the family of a numeric address, what ``getsockname()`` returns for a socket that is bound to it).

    :raise InvalidAddressError: it isn't a numeric address.
    """
    try:
        found = socket.getaddrinfo(address or "0.0.0.0", port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    # Any other OSError goes to the caller: no descriptor is left, and Python loads its codec for names from a file.
    except socket.gaierror:
        raise invalid_address(address, "not a numeric IPv4 or IPv6 address") from None
    family, _, _, _, sockaddr = found[0]
    return (IPV6 if family == socket.AF_INET6 else IPV4), sockaddr


def _configure(sock: socket.socket, family: Family) -> None:
    if family is IPV6:
        # Otherwise a socket on :: would take the IPv4 port too, and 0.0.0.0 could not be bound beside it (ipv6(7)).
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    adopt_socket(sock)


def adopt_socket(sock: socket.socket) -> None:
    """Set those options of open_socket() that have an effect on a bound socket, such as an inherited one."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    for forced, limited in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, _BUFFER)
        except OSError:  # without CAP_NET_ADMIN net.core.rmem_max and wmem_max are the limit
            if sock.getsockopt(socket.SOL_SOCKET, limited) < _BUFFER:  # an inherited socket may have more already
                sock.setsockopt(socket.SOL_SOCKET, limited, _BUFFER)
    family = family_of(sock)
    if family is IPV6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        sock.setsockopt(socket.IPPROTO_IP, family.type, 1)


def _explained(error: OSError, family: Family, port: int, device: str) -> OSError:
    """Return the error with the program that has the port, or the capability that is missing."""
    if error.errno == errno.EADDRINUSE:
        holder = who_holds(port, family.number, device=device)
        return OSError(error.errno, f"{os.strerror(error.errno)} by {holder or 'another program'}")
    if error.errno == errno.EACCES:
        return OSError(error.errno, f"{os.strerror(error.errno)}: this port needs root or CAP_NET_BIND_SERVICE")
    return error


def _cannot_listen(address: str, port: int, error: OSError) -> CannotListenError:
    return CannotListenError(address, port, error)
