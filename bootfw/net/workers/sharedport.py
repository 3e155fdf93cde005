"""A port that several processes share by SO_REUSEPORT."""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError

from bootfw.net.http.site import open_stream_socket
from bootfw.net.udp.sockets import open_socket


@define(eq=False)
class SharedPort:
    """One socket for each process, all bound to the same port."""

    service: str
    configured: tuple[str, int]
    """Address and port as configured."""
    sockets: list[socket.socket]
    device: str = ""
    """The interface that it is bound to; "": all of them."""
    closed: bool = field(default=False, init=False)
    on_reopened: Callable[[], None] = field(default=lambda: None, init=False)
    """Called when the sockets were replaced; their descriptors have the same numbers."""
    on_closed: Callable[[], "Deferred[None]"] = field(default=lambda: succeed(None), init=False)
    """Called when the port is closed here; fires when the other processes have closed their sockets too."""
    _closed_everywhere: "Deferred[None]" = field(init=False)

    def reopen(self) -> bool:
        """Replace the sockets when their interface was deleted and created again.

        A bound socket leaves its SO_REUSEPORT group for good when it is bound to another interface, and one socket of
        the port would get all that arrives.

        :return: false: the interface is gone again, and the old sockets stay.
        :raise CannotListenError: see open_shared(); the old sockets stay.
        """
        port = self.getHost().port
        opened = open_shared(self.service, self.configured[0], port, len(self.sockets), self.device)
        # open_socket() leaves a socket unbound, with port 0, while there is no such interface.
        are_bound = all(sock.getsockname()[1] for sock in opened.sockets)
        if are_bound:
            for old, new in zip(self.sockets, opened.sockets, strict=True):
                # dup2(2) puts the new socket behind the old number, so everything that holds the number goes on
                # working.
                os.dup2(new.fileno(), old.fileno(), inheritable=False)
            self.on_reopened()
        opened.stopListening()
        return are_bound

    def getHost(self) -> IPv4Address | IPv6Address:
        """See IListeningPort."""
        first = self.sockets[0]
        address_class = IPv6Address if first.family == socket.AF_INET6 else IPv4Address
        address = first.getsockname()
        address = address if address[1] else self.configured  # the socket is unbound until its interface exists
        return address_class("UDP" if first.type == socket.SOCK_DGRAM else "TCP", *address)

    def stopListening(self) -> "Deferred[None]":
        """See IListeningPort. Fires when the processes that have its sockets have closed them."""
        if not self.closed:
            self.closed = True
            for sock in self.sockets:
                sock.close()
            self._closed_everywhere = self.on_closed()
        # One Deferred for each caller: what its callbacks return would be the result of the next caller.
        stopped: Deferred[None] = Deferred()
        self._closed_everywhere.addCallback(stopped.callback)
        return stopped


def open_shared(
    service: str,
    address: str,
    port: int,
    count: int,
    device: str = "",
    *,
    replaces: bool = False,
    beside: Sequence[socket.socket] = (),
) -> SharedPort:
    """Open a socket for each of *count* processes.

    The first is bound without SO_REUSEPORT, so that a port of another program is never shared by mistake, not even
    that of another bootfw, whose sockets have SO_REUSEPORT too.

    :param device: as for open_socket().
    :param replaces: processes of ours that are about to end may still have sockets of this port.
    :param beside: as for open_stream_socket().
    :raise CannotListenError: ``socketError`` says why.
    """
    configured = address, port
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            shared = replaces or bool(sockets)
            sockets.append(_open(service, address, port, shared=shared, device=device, beside=beside))
            if len(sockets) == 1:
                # With port 0 the kernel has chosen one, which the other sockets need.
                port = sockets[0].getsockname()[1] or port
                # The kernel compares the option of both sockets when the second one is bound, so it may be set after
                # bind(2).
                sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        _close(sockets)
        raise CannotListenError(address, port, error) from error
    except BaseException:
        _close(sockets)
        raise
    return SharedPort(service, configured, sockets, device)


def _open(
    service: str, address: str, port: int, *, shared: bool, device: str, beside: Sequence[socket.socket]
) -> socket.socket:
    if service == "tftp":
        return open_socket(address, port, shared=shared, device=device)[0]
    return open_stream_socket(address, port, shared=shared, beside=beside)


def _close(sockets: list[Any]) -> None:
    for sock in sockets:
        sock.close()
