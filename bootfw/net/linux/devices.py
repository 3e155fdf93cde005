"""Sockets that are bound to one interface each, so that another server may have the same port on another interface."""

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

_SO_BINDTODEVICE = 25
_RTMGRP_LINK = 0x1
_LARGEST = 65536


def bind_to(sock: socket.socket, device: str) -> bool:
    """Have *sock* send and receive by *device* only.

    :return: false: there is no such interface now.
    :raise OSError: the kernel does not let us; its text says what is needed.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, device.encode() + b"\0")
    except OSError as error:
        if error.errno == errno.ENODEV:
            return False
        if error.errno == errno.EPERM:
            needed = f"binding to interface {device} needs CAP_NET_RAW (before Linux 5.7)"
            raise OSError(errno.EPERM, f"{os.strerror(errno.EPERM)}: {needed}") from None
        raise
    return True


def index_of(device: str) -> int:
    """The index that the interface has now; 0: there is none."""
    try:
        return socket.if_nametoindex(device)
    except OSError:
        return 0


@define(eq=False)
class Bound:
    """A socket and its interface."""

    sock: socket.socket
    device: str
    bind: Callable[[], object]
    """Binds the socket to its address, where it has none because there was no such interface."""
    bound: Callable[[], None]
    """Called when it has an address at last."""
    index: int
    """Of the interface that it is bound to; 0: it has no address yet."""


@implementer(IReadDescriptor)
class Devices:
    """Binds sockets to interfaces that appear later, and again to those that were made anew.

    A socket is bound to an interface and not to its name: a bridge that is deleted and made again is another one.

    :param reactor: an IReactorFDSet.
    """

    _log = Logger(namespace="bootfw")

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._sockets: list[Bound] = []
        self._news: socket.socket | None = None

    def add(self, bound: Bound) -> None:
        """Look after a socket until stop()."""
        self._sockets.append(bound)
        if self._news is not None:
            return
        news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)  # NETLINK_ROUTE
        news.bind((0, _RTMGRP_LINK))
        self._news = news
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Look after none any more."""
        self._sockets.clear()
        if self._news is not None:
            self._reactor.removeReader(self)
            self._news.close()
            self._news = None

    def doRead(self) -> None:
        """See IReadDescriptor. What has changed does not matter, nor that some messages are lost (ENOBUFS)."""
        while self._news is not None:
            try:
                self._news.recv(_LARGEST)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    break
        for bound in self._sockets:
            index = index_of(bound.device)
            if index and index != bound.index:
                self._bind(bound, index)

    def _bind(self, bound: Bound, index: int) -> None:
        new, bound.index = not bound.index, index
        try:
            if not bind_to(bound.sock, bound.device):
                bound.index = 0 if new else -1
            elif new:
                bound.bind()
                bound.bound()
            else:
                self._log.info("interface {device} was made anew and is served again", device=bound.device)
        except OSError as error:
            self._log.error("interface {device} is not served: {error}", device=bound.device, error=error)

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""
        return self._news.fileno() if self._news is not None else -1

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor."""
        self.stop()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "interfaces"
