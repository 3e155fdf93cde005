"""Sockets that are bound to one interface each, so that another server may have the same port on another interface."""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define
from twisted.logger import Logger

from bootfw.net.linux.interfaces import index_of
from bootfw.net.linux.netlink import RTMGRP_LINK, Change, Changes

_SO_BINDTODEVICE = 25


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


class Devices:
    """Binds sockets to interfaces that appear later, and again to those that were made anew.

    A socket is bound to an interface and not to its name: a bridge that is deleted and made again is another one.

    :param reactor: an IReactorFDSet.
    """

    _log = Logger(namespace="bootfw")

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._sockets: list[Bound] = []
        self._changes: Changes | None = None

    def add(self, bound: Bound) -> None:
        """Look after a socket until stop().

        :raise OSError: this process may not use netlink.
        """
        self._sockets.append(bound)
        if self._changes is None:
            self._changes = Changes(self._reactor, RTMGRP_LINK, self._changed)

    def stop(self) -> None:
        """Look after none any more."""
        self._sockets.clear()
        if self._changes is not None:
            self._changes.close()
            self._changes = None

    def _changed(self, changes: Sequence[Change]) -> None:
        # Whichever change it was, and though some may be lost: what counts is how the interfaces are now.
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
