"""Being in multicast groups on every interface that is served, also on those that come up later."""

import errno
import socket
import struct
from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.net.linux.interfaces import Interfaces

_RTMGRP_LINK, _RTMGRP_IPV6_IFADDR = 0x1, 0x100
_MEMBERSHIP = struct.Struct("@16si")  # struct ipv6_mreq
_LARGEST = 65536


@implementer(IReadDescriptor)
class Groups:
    """Keeps a socket in IPv6 multicast groups.

    Whenever the kernel tells that interfaces or their addresses have changed, it joins on all of them anew; where it is
    in already that does nothing.

    :param reactor: with an IReactorFDSet it goes on; with another one it joins once.
    :param sock: of IPv6.
    :param groups: their addresses.
    :param interfaces: on those that are served.
    """

    _log = Logger()

    def __init__(self, reactor: Any, sock: socket.socket, groups: Iterable[str], interfaces: Interfaces) -> None:
        self._reactor = reactor
        self._socket = sock
        self._groups = [socket.inet_pton(socket.AF_INET6, group) for group in groups]
        self._interfaces = interfaces
        self._told: set[int] = set()
        """Errors that the log has had."""
        self._news: socket.socket | None = None

    def start(self) -> None:
        """Join, and listen for changes."""
        if IReactorFDSet.providedBy(self._reactor) and hasattr(socket, "AF_NETLINK"):
            try:
                news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)  # NETLINK_ROUTE
            except OSError as error:
                self._complain(error, "interfaces that come up later are not noticed")
            else:
                news.setblocking(False)
                news.bind((0, _RTMGRP_LINK | _RTMGRP_IPV6_IFADDR))
                self._news = news
                self._reactor.addReader(self)
        self._join()

    def stop(self) -> None:
        """Listen no more. Memberships end with the socket."""
        if self._news is not None:
            self._reactor.removeReader(self)
            self._news.close()
            self._news = None

    def doRead(self) -> None:
        """What has changed does not matter, nor that some news are lost (ENOBUFS)."""
        while self._news is not None:
            try:
                self._news.recv(_LARGEST)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    break
        self._join()

    def _join(self) -> None:
        for index in self._interfaces.served():
            for group in self._groups:
                try:
                    self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, _MEMBERSHIP.pack(group, index))
                except OSError as error:
                    # In it already; gone again; without IPv6.
                    if error.errno not in (errno.EADDRINUSE, errno.ENODEV, errno.EADDRNOTAVAIL, errno.EINVAL):
                        self._complain(error, f"no DHCPv6 on interface {self._interfaces.name(index)}")

    def _complain(self, error: OSError, what: str) -> None:
        if error.errno not in self._told:
            self._told.add(error.errno or 0)
            self._log.warn("{what}: {reason}", what=what, reason=error.strerror)

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""
        return self._news.fileno() if self._news is not None else -1

    def connectionLost(self, reason: Any) -> None:
        """The reactor ends."""
        self.stop()

    def logPrefix(self) -> str:
        """For the reactor's log lines."""
        return "interfaces"
