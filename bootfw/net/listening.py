"""Which ports a service listens on, and where their sockets come from."""

import sys
from collections.abc import Sequence
from socket import socket
from typing import Any, Protocol

from attrs import define, frozen
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure

from bootfw.config.settings import ListenAddress
from bootfw.net.http.site import listen_http, open_stream_socket
from bootfw.net.udp.port import listen
from bootfw.net.udp.sockets import open_socket
from bootfw.values import Address


@frozen
class Listening:
    """A port that is open: the service, and its address."""

    service: str
    address: Address
    note: str = ""


UDP_SERVICES = ("dhcp", "boot-server", "dhcp6", "boot-server6", "tftp")
"""The services with UDP ports; all others have TCP ports."""
_ANY = ("0.0.0.0", "::")


def devices_for(reactor: Any, service: str, address: ListenAddress, interfaces: Sequence[str]) -> Sequence[str]:
    """Return the interfaces for which *service* opens a socket each; "" stands for one socket for all of them.

    A socket is bound to an interface only if it listens on every address: a specific address of this host belongs to
    one interface anyway. HTTP needs no such socket, since its connections use the address that the client chose.
    """
    if service in UDP_SERVICES and address[0] in _ANY and IReactorFDSet.providedBy(reactor) and sys.platform == "linux":
        return interfaces or ("",)
    return ("",)


class SocketSource(Protocol):
    """Opens the ports of a service."""

    @property
    def follow_interfaces(self) -> bool:
        """Whether this process looks after the ports, see Bindings; otherwise another one does."""

    def listen(
        self,
        service: str,
        address: ListenAddress,
        protocol: Any,
        device: str,
        certificate: Any,
        beside: Sequence[socket] = (),
    ) -> Any:
        """Open a port for *protocol*, on an address that this host need not have yet.

        :param device: the interface that it is bound to; "": all of them. The interface need not exist yet.
        :param certificate: for HTTPS; None otherwise.
        :param beside: open sockets of the same port that this one will replace.
        :raise CannotListenError: ``socketError`` says why.
        """


@define(eq=False)
class OwnSockets:
    """Opens each port in this process."""

    _reactor: Any
    follow_interfaces: bool = True

    def listen(
        self,
        service: str,
        address: ListenAddress,
        protocol: Any,
        device: str,
        certificate: Any,
        beside: Sequence[socket] = (),
    ) -> Any:
        """See SocketSource."""
        sock = None
        if beside and service not in UDP_SERVICES:
            sock = open_stream_socket(*address, beside=beside)
        elif beside or device:
            sock = open_socket(*address, device=device, beside=beside)[0]
        return listen_on(self._reactor, service, address, protocol, sock, certificate)


def listen_on(
    reactor: Any, service: str, address: ListenAddress, protocol: Any, sock: socket | None, certificate: Any
) -> Any:
    """Open a port for *protocol*.

    :param sock: a socket that is bound already; None: a new one.
    """
    if service in UDP_SERVICES:
        return listen(reactor, protocol, *address, sock)
    if service == "https":
        return listen_http(reactor, certificate.around(protocol), *address, sock)
    return listen_http(reactor, protocol, *address, sock)


def deliver_to(protocol: Any, port: Any) -> None:
    """Have an open port deliver to *protocol* from now on. The protocol until now can still send by it.

    :param port: a UDP port of ours, of Twisted or in memory.
    """
    port.protocol = protocol
    protocol.makeConnection(port)


def finish_closing(port: Any) -> None:
    """Close the socket of *port* now, after stopListening().

    Twisted's ports and ours close it in the next turn of the reactor, and until then its address is in use.
    The ports of an in-memory reactor are closed already.

    :param port: IListeningPort; None: there is none.
    """
    if IReadDescriptor.providedBy(port):
        port.connectionLost(Failure(ConnectionDone()))
