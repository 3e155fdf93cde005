"""What is bound where, and how each service is."""

from typing import Any

from attrs import frozen

from bootfw.net.datagram import listen
from bootfw.net.http import listen_http
from bootfw.net.processes.worker import Worker
from bootfw.net.processes.workers import Workers
from bootfw.net.reachable import check_address
from bootfw.settings import ListenAddress
from bootfw.values import Address


@frozen
class Listening:
    """One line of what is bound where."""

    service: str
    address: Address
    note: str = ""


def listen_for(
    reactor: Any, service: str, address: ListenAddress, protocol: Any, crew: Workers | Worker | None, certificate: Any
) -> Any:
    """A port for *protocol*, or one that the workers share.

    :param certificate: for HTTPS.
    :raise CannotListenError: ``socketError`` says why.
    """
    sock = crew.socket(service, address) if crew is not None else None
    if sock is None:
        check_address(reactor, address)
        shared = crew.open(service, address) if crew is not None else None
        if shared is not None:
            return shared
    if service == "http":
        return listen_http(reactor, protocol, *address, sock)
    if service == "https":
        return listen_http(reactor, certificate.around(protocol), *address, sock)
    return listen(reactor, protocol, *address, sock)
