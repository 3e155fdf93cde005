"""Membership in multicast groups on every interface that is served, also on those that appear later."""

import errno
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorFDSet
from twisted.logger import Logger

from bootfw.net.linux.interfaces import Interfaces
from bootfw.net.linux.netlink import RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK, Change, Changes

_MEMBERSHIP4 = struct.Struct("@4s4si")  # struct ip_mreqn
_MEMBERSHIP6 = struct.Struct("@16si")  # struct ipv6_mreq


class Groups:
    """Keeps a socket in multicast groups.

    Whenever the kernel reports that interfaces or their addresses have changed, the socket joins the groups on all of
    them again. Where it is a member, the kernel refuses that with EADDRINUSE, so no list of memberships is kept.

    :param reactor: an IReactorFDSet; with any other reactor, interfaces that appear later are not noticed.
    :param sock: of IPv4 or IPv6.
    :param groups: the addresses of the groups, of the same family.
    :param interfaces: the socket joins on those that are served.
    :param service: the name of the service, for log lines about interfaces on which it can't join.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        groups: Iterable[str],
        interfaces: Interfaces,
        service: str = "DHCPv6",
    ) -> None:
        self._reactor = reactor
        self._socket = sock
        self._groups = [socket.inet_pton(sock.family, group) for group in groups]
        self._service = service
        self._interfaces = interfaces
        self._logged: set[int] = set()
        """The errno of each error that was logged."""
        self._changes: Changes | None = None

    def start(self) -> None:
        """Join, and listen for changes."""
        if IReactorFDSet.providedBy(self._reactor):
            try:
                addresses = RTMGRP_IPV6_IFADDR if self._socket.family == socket.AF_INET6 else RTMGRP_IPV4_IFADDR
                self._changes = Changes(self._reactor, RTMGRP_LINK | addresses, self._on_changes)
            except OSError as error:
                self._warn_once(error, "interfaces that appear later are not noticed")
        self._join()

    def stop(self) -> None:
        """Listen no more. Memberships end with the socket."""
        if self._changes is not None:
            self._changes.close()
            self._changes = None

    def _on_changes(self, changes: Sequence[Change]) -> None:
        self._join()

    def _join(self) -> None:
        for index in self._interfaces.served():
            for group in self._groups:
                try:
                    self._join_one(group, index)
                except OSError as error:
                    # It is a member already, or the interface is gone, or has no address of this family.
                    if error.errno not in (errno.EADDRINUSE, errno.ENODEV, errno.EADDRNOTAVAIL, errno.EINVAL):
                        self._warn_once(error, f"no {self._service} on interface {self._interfaces.name(index)}")

    def _join_one(self, group: bytes, index: int) -> None:
        if self._socket.family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, _MEMBERSHIP6.pack(group, index))
        else:
            membership = _MEMBERSHIP4.pack(group, bytes(4), index)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)

    def _warn_once(self, error: OSError, consequence: str) -> None:
        if error.errno not in self._logged:
            self._logged.add(error.errno or 0)
            self._log.warn("{what}: {reason}", what=consequence, reason=error.strerror)
