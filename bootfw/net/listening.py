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
    """For log lines, such as "on eth0"."""
    device: str = ""
    """The interface that it is bound to: a packet to a loopback address does not arrive there. "": it is not bound."""


PortKey = tuple[str, ListenAddress, str]
"""(service, (address, port) as configured, interface or ""): what identifies a port."""

UDP_SERVICES = ("dhcp", "boot-server", "dhcp6", "boot-server6", "tftp", "multicast")
"""The services with UDP ports; all others have TCP ports."""
_ANY = ("0.0.0.0", "::")


def devices_for(reactor: Any, service: str, address: ListenAddress, interfaces: Sequence[str]) -> Sequence[str]:
    """Return the interfaces for which *service* opens a socket each; "" stands for one socket on all interfaces.

    A socket is bound to an interface only if it listens on every address: a specific address of this host belongs to
    one interface anyway. HTTP needs no such socket, since its connections use the address that the client chose.
    """
    if service in UDP_SERVICES and address[0] in _ANY and IReactorFDSet.providedBy(reactor) and sys.platform == "linux":
        return interfaces or ("",)
    return ("",)


@frozen
class PortSpec:
    """A port to open."""

    service: str
    address: ListenAddress
    """This host need not have it yet."""
    protocol: Any
    """A DatagramProtocol; for HTTP a site."""
    device: str = ""
    """The interface that the port is bound to, which need not exist yet; "": all of them."""
    certificate: Any = None
    """For HTTPS."""
    beside: Sequence[socket] = ()
    """Open sockets of the same port, which this one will replace."""

    @property
    def key(self) -> PortKey:
        """What identifies the port."""
        return self.service, self.address, self.device


class SocketSource(Protocol):
    """Opens the ports of a service."""

    @property
    def follow_interfaces(self) -> bool:
        """Whether this process follows interfaces and addresses, see Bindings; false: another process does it."""

    def listen(self, spec: PortSpec) -> Any:
        """Open a port.

        :return: an IListeningPort.
        :raise CannotListenError: ``socketError`` says why.
        """


@define(eq=False)
class OwnSockets:
    """Opens each port in this process."""

    _reactor: Any
    follow_interfaces: bool = True

    def listen(self, spec: PortSpec) -> Any:
        """See SocketSource."""
        sock = None
        if spec.beside and spec.service not in UDP_SERVICES:
            sock = open_stream_socket(*spec.address, beside=spec.beside)
        elif spec.beside or spec.device:
            sock = open_socket(*spec.address, device=spec.device, beside=spec.beside)[0]
        return listen_on(self._reactor, spec, sock)


def listen_on(reactor: Any, spec: PortSpec, sock: socket | None) -> Any:
    """Open a port.

    :param sock: a socket that is bound already; None: a new one.
    """
    if spec.service in UDP_SERVICES:
        return listen(reactor, spec.protocol, *spec.address, sock)
    site = spec.certificate.tls_factory(spec.protocol) if spec.service == "https" else spec.protocol
    return listen_http(reactor, site, *spec.address, sock)


def deliver_to(protocol: Any, port: Any) -> None:
    """Have an open port deliver to *protocol* from now on. Its former protocol can still send by it.

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
