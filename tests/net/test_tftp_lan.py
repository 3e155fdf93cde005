"""TFTP between two hosts on two links: which source address the kernel gives to the replies."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
from narrowing import of_type
from tftpserver import Files
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import DatagramProtocol

from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.udp.port import DatagramPort, listen
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp

from .namespaces import Host

pytestmark = pytest.mark.interop

PORT = 10069


@pytest.fixture(params=["single", "ephemeral"])
def request_file(
    request: pytest.FixtureRequest, hosts: tuple[Host, Host], private_reactor: EPollReactor, turn_until: TurnUntil
) -> Iterator[Callable[[str, str], tuple[bytes, str]]]:
    """Starts a server that listens on every address, and requests a file at one of them, on one interface of the
    client. Returns the reply and its source address."""
    server, client = hosts
    protocols: list[TFTPProtocol] = []
    ports: list[DatagramPort] = []

    def start(wildcard: str) -> None:
        def listen_for_transfer(protocol: DatagramProtocol, address: str) -> DatagramPort:
            with server.inside():
                port: DatagramPort = listen(private_reactor, protocol, address or wildcard, 0)
                return port

        protocol = TFTPProtocol(
            private_reactor,
            Files({"file": b"content"}),
            Fixed(),
            lambda event: None,
            listen=listen_for_transfer if request.param == "ephemeral" else None,
        )
        protocols.append(protocol)
        with server.inside():
            ports.append(listen(private_reactor, protocol, wildcard, PORT))

    def request_from(address: str, interface: str) -> tuple[bytes, str]:
        ipv6 = ":" in address
        start("::" if ipv6 else "0.0.0.0")
        with contextlib.ExitStack() as stack:
            with client.inside():
                family = socket.AF_INET6 if ipv6 else socket.AF_INET
                sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
                sock.setblocking(False)
                scope = (0, socket.if_nametoindex(interface)) if ipv6 else ()
                sock.sendto(tftp.request(False, "file", "octet"), (address, PORT, *scope))
            replies: list[tuple[bytes, tuple[str | int, ...]]] = []

            def received() -> list[tuple[bytes, tuple[str | int, ...]]]:
                with contextlib.suppress(BlockingIOError):
                    replies.append(sock.recvfrom(1000))
                return replies

            turn_until(received)
            return replies[0][0], of_type(str, replies[0][1][0]).partition("%")[0]

    yield request_from
    for protocol, port in zip(protocols, ports, strict=True):
        protocol.close()
        port.stopListening()
    turn_until(lambda: all(port.fileno() == -1 for port in ports))


@pytest.mark.parametrize(
    ("address", "interface"),
    [("10.9.0.1", "c0"), ("10.9.0.2", "c0"), ("fd00:9::2", "c0"), ("fe80::1", "c0"), ("fe80::1", "c1")],
)
def test_reply_comes_from_the_requested_address(
    request_file: Callable[[str, str], tuple[bytes, str]], address: str, interface: str
) -> None:
    """Several interfaces have the same link-local address. The port of a transfer is bound on the right one."""
    assert request_file(address, interface) == (tftp.data(1, b"content"), address)
