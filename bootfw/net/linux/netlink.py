"""A client of netlink(7): the kernel's tables of links, addresses, routes and neighbours, and changes to them.

The kernel answers a request while sendmsg(2) runs, so nothing here waits: a missing answer is an error. Requests are
therefore plain calls, without Deferreds.
"""

import errno
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from bootfw.values import Address

NETLINK_ROUTE, NETLINK_SOCK_DIAG = 0, 4

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg
_NEIGHBOUR_TABLE = struct.Struct("=Bxxx")  # struct ndtmsg
_TABLE_ENTRIES = struct.Struct("=4xI")  # struct ndt_config
_TABLE_OVERFLOWS = struct.Struct("=80xQ")  # struct ndt_stats
_INTEGER = struct.Struct("=i")
_UNSIGNED = struct.Struct("=I")

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_MULTI, _NLM_F_ACK, _NLM_F_DUMP_INTR = 0x1, 0x2, 0x4, 0x10
_NLM_F_DUMP = 0x300
_NLM_F_CREATE, _NLM_F_REPLACE = 0x400, 0x100

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_GETROUTE = 26
_RTM_NEWNEIGH, _RTM_GETNEIGH = 28, 30
_RTM_GETNEIGHTBL = 66

RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU = 1, 3, 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RTA_DST = _NDA_DST = 1
_NDA_LLADDR = 2
_NDTA_THRESH3, _NDTA_CONFIG, _NDTA_STATS = 4, 5, 7
_RTA_OIF, _RTA_GATEWAY = 4, 5
_LOCAL_ROUTES = (2, 3, 5)  # RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST: what bind(2) accepts
_NUD_REACHABLE = 0x02
_NUD_UNRESOLVED = 0x01 | 0x20  # NUD_INCOMPLETE, NUD_FAILED: such an entry may still have the address of earlier

_BUFFER = 65536
"""Bytes of one recv(2): the kernel puts at most 32 KiB into one datagram of a dump."""

_DUMP_ATTEMPTS = 3
"""A dump during which the table changes may lack entries (NLM_F_DUMP_INTR), and is then repeated."""

_REFUSALS = (errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


@frozen
class Link:
    """A network interface."""

    index: int
    name: str
    mtu: int
    """Bytes of its largest IP packet."""
    kind: int
    """The type of its hardware, an ARPHRD_... of linux/if_arp.h."""
    hardware: bytes
    """Its hardware address; b"" where it has none."""


@frozen
class LinkAddress:
    """An IP address of an interface."""

    interface: int
    """Index of the interface."""
    family: int
    """AF_INET or AF_INET6."""
    address: str
    prefix: int
    """Bits of its network."""
    scope: int
    """An RT_SCOPE_... of linux/rtnetlink.h: 253 on one link only, 254 on this host only."""
    flags: int
    """IFA_F_... of linux/if_addr.h."""


@frozen
class NeighbourTable:
    """The hardware addresses that the kernel keeps for one address family, of all network namespaces together."""

    family: int
    """AF_INET or AF_INET6."""
    entries: int
    most: int
    """Entries that it has room for: net.ipv4.neigh.default.gc_thresh3, or that of IPv6."""
    overflows: int
    """Entries that it had no room for, since the host was started. What was sent there was lost, and sendmsg(2) does
    not say so."""


@frozen
class LinkChanged:
    """An interface appeared, changed, or is gone."""

    link: Link
    gone: bool


@frozen
class AddressChanged:
    """An address appeared, changed, or is gone."""

    address: LinkAddress
    gone: bool


@frozen
class ChangesLost:
    """More changes came than the socket could hold (ENOBUFS), so the tables have to be read again."""


Change = LinkChanged | AddressChanged | ChangesLost


class NetlinkSocket:
    """A netlink socket. Answers are matched to their request; all else that arrives is a notification.

    :param protocol: NETLINK_ROUTE or another one of netlink(7).
    :param groups: RTMGRP_... masks of the notifications to receive.
    :raise OSError: the kernel has no such protocol, or this process may not use it.
    """

    def __init__(self, protocol: int, groups: int = 0) -> None:
        if not hasattr(socket, "AF_NETLINK"):
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        self._socket.bind((0, groups))
        self._sequence = 0
        self.has_notifications = False
        """Whether notifications came, among the answers to a request, since the last discard_notifications()."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        self.poll = poll.poll
        """Called with 0, returns an empty list if nothing is in the queue."""
        self._discarded = bytearray(1)
        self.fileno = self._socket.fileno
        self.close = self._socket.close

    def discard_notifications(self) -> bool:
        """Discard all notifications. Return whether there were any, or some were lost, since the last call."""
        while True:
            try:
                # One byte of room takes a whole datagram off the queue. The content does not matter: the tables are
                # read again.
                self._socket.recv_into(self._discarded)
            except BlockingIOError:
                break
            except OSError as error:
                # ENOBUFS: the queue was full and notifications were lost, so the tables have changed, too (netlink(7)).
                if error.errno != errno.ENOBUFS:
                    raise
            self.has_notifications = True
        had_some, self.has_notifications = self.has_notifications, False
        return had_some

    def receive(self) -> bytes:
        """Return the next datagram.

        :raise BlockingIOError: there is none.
        :raise OSError: ENOBUFS: notifications were lost.
        """
        return self._socket.recv(_BUFFER)

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """Send a request and return the bodies of the messages that answer it.

        :raise OSError: the kernel refused it (ENOENT: there is no such entry), or did not answer.
        """
        answer: list[bytes] = []
        for _ in range(_DUMP_ATTEMPTS):
            answer, complete = self._exchange(kind, body, flags | _NLM_F_REQUEST)
            if complete:
                break
        return answer

    def _exchange(self, kind: int, body: bytes, flags: int) -> tuple[list[bytes], bool]:
        # A full receive buffer would have no room for the answer.
        self.has_notifications = self.discard_notifications()
        # Never 0, which is the number of notifications.
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        answer: list[bytes] = []
        complete = True
        while True:
            try:
                datagram = self.receive()
            # The kernel answers during send(), so an empty queue means that there is no answer.
            except BlockingIOError:
                raise
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.has_notifications = True
                continue
            for kind, flags, sequence, body in messages(datagram):
                if sequence != self._sequence:
                    self.has_notifications = True
                    continue
                complete = complete and not flags & _NLM_F_DUMP_INTR
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    # NLMSG_ERROR with code 0 is the acknowledgement that NLM_F_ACK requests; NLMSG_DONE has the error
                    # of a dump.
                    code = -_INTEGER.unpack_from(body)[0] if len(body) >= _INTEGER.size else 0
                    if code > 0:
                        raise OSError(code, os.strerror(code))
                    return answer, complete
                answer.append(body)
                # A dump is a series of messages up to NLMSG_DONE. Any other answer is a single message.
                if not flags & _NLM_F_MULTI:
                    return answer, complete

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Return all entries of a table. See request()."""
        return self.request(kind, body, _NLM_F_DUMP)


class Netlink:
    """Links, addresses and neighbours of this host, from one rtnetlink socket, which is opened with the first use.

    Links and addresses are read again only after the kernel has reported a change: an unchanged table costs one
    system call. The socket belongs to the network namespace in which it was opened.
    """

    def __init__(self) -> None:
        self._socket: NetlinkSocket | None = None
        self._refusal: OSError | None = None
        """Why this process may not use netlink: it is raised again without another attempt."""
        self._may_write = True
        self._generation = 0
        self._links: Mapping[int, Link] | None = None
        """None: to be read with the next use. The same for _addresses."""
        self._addresses: Sequence[LinkAddress] | None = None

    def close(self) -> None:
        """Close the socket. The next use opens another one."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._links = self._addresses = None
        self._generation += 1

    def refresh(self) -> int:
        """Drop the tables if one has changed.

        :return: a number that changes with each change of a table.
        :raise OSError: this process may not use netlink.
        """
        sock = self._socket or self._open()
        # This runs for each request. Without a notification poll(2) costs a third of recv(2), whose error Python raises
        # as an exception.
        if (sock.has_notifications or sock.poll(0)) and sock.discard_notifications():
            self._links = self._addresses = None
            self._generation += 1
        return self._generation

    def links(self) -> Mapping[int, Link]:
        """Return the interfaces by index; the same object until something changes.

        :raise OSError: this process may not use netlink.
        """
        self.refresh()
        if self._links is None:
            found = map(_link, self._open().dump(_RTM_GETLINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)))
            self._links = {link.index: link for link in found}
        return self._links

    def addresses(self) -> Sequence[LinkAddress]:
        """Return the addresses of all interfaces, the primary one of each first; the same object until one changes.

        :raise OSError: this process may not use netlink.
        """
        self.refresh()
        if self._addresses is None:
            found = map(_address, self._open().dump(_RTM_GETADDR, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)))
            self._addresses = tuple(each for each in found if each.family in (socket.AF_INET, socket.AF_INET6))
        return self._addresses

    def link(self, name: str) -> Link | None:
        """Return the interface of that name; None: there is none.

        :raise OSError: this process may not use netlink.
        """
        return next((link for link in self.links().values() if link.name == name), None)

    def has_address(self, address: str, interface: int = 0) -> bool:
        """Return whether a datagram to *address* would be delivered on this host.

        The kernel looks up its route, as it does for the datagram: all of 127.0.0.0/8 is local, and so are the
        addresses of a local route. An IPv6 address is local when its duplicate address detection is done.

        :param interface: its index, for an IPv6 address that is valid on one link only.
        :raise OSError: this process may not use netlink.
        """
        kernel = self._open()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = socket.inet_pton(family, address)
        body = _ROUTE.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0) + _attribute(_RTA_DST, packed)
        if interface:
            body += _attribute(_RTA_OIF, _INTEGER.pack(interface))
        try:
            (answer,) = kernel.request(_RTM_GETROUTE, body)
        except OSError:  # there is no route to it
            return False
        return _ROUTE.unpack_from(answer)[7] in _LOCAL_ROUTES

    def hardware_address(self, peer: Address) -> str:
        """Return the MAC of *peer*, lower-case with colons; "": it is not known, or *peer* is behind a router."""
        try:
            family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
            packed = socket.inet_pton(family, peer[0])
            scope = peer[3] if len(peer) == 4 else 0
            interface = scope or self._route(family, packed)
            return self._neighbour(family, packed, interface) if interface else ""
        except OSError:
            return ""

    def set_neighbour(self, address: str, hardware: bytes, interface: int) -> bool:
        """Have datagrams to the IPv4 *address* leave for *hardware* on the interface with that index.

        This is for a client that does not answer ARP yet, since it does not know its address.

        :return: false: the kernel refuses it, usually for lack of CAP_NET_ADMIN; then it is not tried again.
        """
        if not self._may_write:
            return False
        header = _NEIGHBOUR.pack(socket.AF_INET, interface, _NUD_REACHABLE, 0, 0)
        entry = header + _attribute(_NDA_DST, socket.inet_aton(address)) + _attribute(_NDA_LLADDR, hardware)
        try:
            self._open().request(_RTM_NEWNEIGH, entry, _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_REPLACE)
        except OSError as error:
            self._may_write = error.errno not in _REFUSALS
            return False
        return True

    def neighbour_tables(self) -> Sequence[NeighbourTable]:
        """Return the state of the neighbour tables of IPv4 and IPv6.

        :raise OSError: this process may not use netlink.
        """
        tables = []
        for body in self._open().dump(_RTM_GETNEIGHTBL, _NEIGHBOUR_TABLE.pack(socket.AF_UNSPEC)):
            values = dict(_attributes(body, _NEIGHBOUR_TABLE.size))
            if _NDTA_STATS not in values:  # the parameters of one interface
                continue
            (entries,) = _TABLE_ENTRIES.unpack_from(values[_NDTA_CONFIG])
            (most,) = _UNSIGNED.unpack(values[_NDTA_THRESH3])
            (overflows,) = _TABLE_OVERFLOWS.unpack_from(values[_NDTA_STATS])
            tables.append(NeighbourTable(body[0], entries, most, overflows))
        return tables

    def _open(self) -> NetlinkSocket:
        """Return the socket; the first call opens it."""
        if self._socket is None:
            if self._refusal is not None:
                raise self._refusal
            try:
                self._socket = NetlinkSocket(NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
            except OSError as error:
                if error.errno in _REFUSALS:
                    self._refusal = error
                raise
        return self._socket

    def _route(self, family: int, packed: bytes) -> int:
        """Return the index of the interface on whose link the address is; 0: no route, or a router is in between."""
        header = _ROUTE.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
        answer = self._open().request(_RTM_GETROUTE, header + _attribute(_RTA_DST, packed))
        attributes = dict(_attributes(answer[0], _ROUTE.size))
        if _RTA_GATEWAY in attributes or _RTA_OIF not in attributes:
            return 0
        return int(_INTEGER.unpack(attributes[_RTA_OIF])[0])

    def _neighbour(self, family: int, packed: bytes, interface: int) -> str:
        header = _NEIGHBOUR.pack(family, interface, 0, 0, 0)
        (answer,) = self._open().request(_RTM_GETNEIGH, header + _attribute(_NDA_DST, packed))
        if _NEIGHBOUR.unpack_from(answer)[2] & _NUD_UNRESOLVED:
            return ""
        return dict(_attributes(answer, _NEIGHBOUR.size)).get(_NDA_LLADDR, b"").hex(":")


@implementer(IReadDescriptor)
class Changes:
    """Reports changes to links and addresses, from its creation until close().

    :param reactor: an IReactorFDSet.
    :param groups: RTMGRP_... masks of what is reported.
    :param changed: called with the changes that have come at once, in order.
    :raise OSError: this process may not use netlink.
    """

    def __init__(self, reactor: Any, groups: int, changed: Callable[[Sequence[Change]], None]) -> None:
        self._reactor = reactor
        self._changed = changed
        self._socket: NetlinkSocket | None = NetlinkSocket(NETLINK_ROUTE, groups)
        reactor.addReader(self)

    def close(self) -> None:
        """Report no more."""
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    def doRead(self) -> None:
        """See IReadDescriptor."""
        changes: list[Change] = []
        # Read until the queue is empty: one report for a burst of changes, since readers of the tables read all of
        # them.
        while self._socket is not None:
            try:
                changes += _changes(self._socket.receive())
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    break
                changes.append(ChangesLost())
        if changes:
            self._changed(changes)

    def fileno(self) -> int:
        """Return the descriptor; -1: it is closed."""
        return self._socket.fileno() if self._socket is not None else -1

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor."""
        self.close()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "interfaces"


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Return the messages in a datagram: (type, flags, sequence number, body)."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size:
            return
        yield kind, flags, sequence, datagram[at + _HEADER.size : at + length]
        # NLMSG_ALIGN: each message begins at a multiple of four bytes.
        at += length + 3 & ~3


def _changes(datagram: bytes) -> Iterator[Change]:
    for kind, _, _, body in messages(datagram):
        if kind in (_RTM_NEWLINK, _RTM_DELLINK):
            # A port that leaves a bridge is an RTM_DELLINK too, of family AF_BRIDGE; the interface stays.
            if body[0] == socket.AF_UNSPEC:
                yield LinkChanged(_link(body), kind == _RTM_DELLINK)
        elif kind in (_RTM_NEWADDR, _RTM_DELADDR):
            yield AddressChanged(_address(body), kind == _RTM_DELADDR)


def _link(body: bytes) -> Link:
    _, kind, index, _, _ = _LINK.unpack_from(body)
    attributes = dict(_attributes(body, _LINK.size))
    name = os.fsdecode(attributes.get(_IFLA_IFNAME, b"").rstrip(b"\0"))
    mtu = _UNSIGNED.unpack(attributes.get(_IFLA_MTU, bytes(4)))[0]
    return Link(index, name, mtu, kind, attributes.get(_IFLA_ADDRESS, b""))


def _address(body: bytes) -> LinkAddress:
    family, prefix, flags, scope, interface = _ADDRESS.unpack_from(body)
    attributes = dict(_attributes(body, _ADDRESS.size))
    # On a point-to-point link IFA_ADDRESS is the address of the other end.
    packed = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS, b""))
    address = socket.inet_ntop(family, packed) if family in (socket.AF_INET, socket.AF_INET6) else ""
    if _IFA_FLAGS in attributes:  # struct ifaddrmsg has room for 8 of the 32 bits
        (flags,) = _UNSIGNED.unpack(attributes[_IFA_FLAGS])
    return LinkAddress(interface, family, address, prefix, scope, flags)


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return (_ATTRIBUTE.pack(length, kind) + value).ljust(length + 3 & ~3, b"\0")


def _attributes(body: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    while start + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, start)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, body[start + _ATTRIBUTE.size : start + length]  # without NLA_F_NESTED and the like
        start += length + 3 & ~3
