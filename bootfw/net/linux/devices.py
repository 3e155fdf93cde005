"""Sockets that are bound to one interface each, so that another server may have the same port on another interface."""

import errno
import os
import socket

_SO_BINDTODEVICE = 25


def bind_to(sock: socket.socket, device: str) -> bool:
    """Bind *sock* to an interface: it sends and receives there only.

    :return: false: there is no such interface now.
    :raise OSError: the kernel refuses it. Where a capability is missing, the text names it.
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
