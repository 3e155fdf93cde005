"""What is bound where, and how each service is."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from socket import socket
from typing import Any, Protocol

from attrs import define, frozen
from twisted.internet.interfaces import IReactorFDSet

from bootfw.config.settings import ListenAddress
from bootfw.net.http.site import listen_http
from bootfw.net.linux.devices import Bound, Devices
from bootfw.net.linux.interfaces import index_of
from bootfw.net.reachability import check_address
from bootfw.net.udp.port import listen
from bootfw.net.udp.sockets import bind_socket, open_socket
from bootfw.net.workers.sharedport import SharedPort
from bootfw.values import Address


@frozen
class Listening:
    """One line of what is bound where."""

    service: str
    address: Address
    note: str = ""


_UDP = ("dhcp", "boot-server", "dhcp6", "boot-server6", "tftp")
_ANY = ("0.0.0.0", "::")


def devices_for(reactor: Any, service: str, address: ListenAddress, interfaces: Sequence[str]) -> Sequence[str]:
    """The interfaces that *service* has a socket for each; "": it has one for all.

    An address of this host is nobody else's, so it needs none; HTTP is reached by such addresses only.
    """
    if service in _UDP and address[0] in _ANY and IReactorFDSet.providedBy(reactor) and sys.platform == "linux":
        return interfaces or ("",)
    return ("",)


class SocketSource(Protocol):
    """Where a service's ports come from."""

    @property
    def follow_interfaces(self) -> bool:
        """Whether the service watches the interfaces that its ports are for; else another process does so."""

    def listen(self, service: str, address: ListenAddress, protocol: Any, device: str, certificate: Any) -> Any:
        """A port for *protocol*.

        :param device: the interface that it is for; "": all of them. While there is none of that name the port waits.
        :param certificate: for HTTPS.
        :raise CannotListenError: ``socketError`` says why.
        """


@define(eq=False)
class OwnSockets:
    """Opens each port in this process."""

    _reactor: Any
    follow_interfaces: bool = True

    def listen(self, service: str, address: ListenAddress, protocol: Any, device: str, certificate: Any) -> Any:
        """See SocketSource."""
        check_address(self._reactor, address)
        sock = open_socket(*address, device=device)[0] if device else None
        return listen_on(self._reactor, service, address, protocol, sock, certificate)


def listen_on(
    reactor: Any, service: str, address: ListenAddress, protocol: Any, sock: socket | None, certificate: Any
) -> Any:
    """A port for *protocol*, on a socket that is bound already; None: on one of its own."""
    if service == "http":
        return listen_http(reactor, protocol, *address, sock)
    if service == "https":
        return listen_http(reactor, certificate.around(protocol), *address, sock)
    return listen(reactor, protocol, *address, sock)


def keep_bound(devices: Devices, port: Any, address: ListenAddress, device: str, bound: Callable[[], None]) -> bool:
    """Have a port of a SocketSource follow its interface when that appears later, or is made anew.

    :param bound: called when the port that waited for the interface is open.
    :return: whether it is open now.
    """
    index = index_of(device)
    sockets = port.sockets if isinstance(port, SharedPort) else [port.getHandle()]
    for sock in sockets:
        bind = partial(bind_socket, sock, *address, device)
        devices.add(Bound(sock, device, bind, bound if sock is sockets[0] else lambda: None, index))
    return index != 0
