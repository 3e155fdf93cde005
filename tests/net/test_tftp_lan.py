"""TFTP between two hosts on two wires: addresses that only a kernel knows how to handle."""

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
def ask(
    request: pytest.FixtureRequest, hosts: tuple[Host, Host], private_reactor: EPollReactor, turn_until: TurnUntil
) -> Iterator[Callable[[str, str], tuple[bytes, str]]]:
    """Requests a file of a server that listens on every address, from the client's end of a link. Returns the reply and
    its source."""
    server, client = hosts
    protocols: list[TFTPProtocol] = []
    ports: list[DatagramPort] = []

    def start(anywhere: str) -> None:
        def own(protocol: DatagramProtocol, address: str) -> DatagramPort:
            with server.inside():
                port: DatagramPort = listen(private_reactor, protocol, address or anywhere, 0)
                return port

        protocol = TFTPProtocol(
            private_reactor,
            Files({"file": b"content"}),
            Fixed(),
            lambda event: None,
            listen=own if request.param == "ephemeral" else None,
        )
        protocols.append(protocol)
        with server.inside():
            ports.append(listen(private_reactor, protocol, anywhere, PORT))

    def go(address: str, interface: str) -> tuple[bytes, str]:
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
            answers: list[tuple[bytes, tuple[str | int, ...]]] = []

            def answered() -> list[tuple[bytes, tuple[str | int, ...]]]:
                with contextlib.suppress(BlockingIOError):
                    answers.append(sock.recvfrom(1000))
                return answers

            turn_until(answered)
            return answers[0][0], of_type(str, answers[0][1][0]).partition("%")[0]

    yield go
    for protocol, port in zip(protocols, ports, strict=True):
        protocol.close()
        port.stopListening()
    turn_until(lambda: all(port.fileno() == -1 for port in ports))


@pytest.mark.parametrize(
    ("address", "interface"),
    [("10.9.0.1", "c0"), ("10.9.0.2", "c0"), ("fd00:9::2", "c0"), ("fe80::1", "c0"), ("fe80::1", "c1")],
)
def test_reply_comes_from_the_requested_address(
    ask: Callable[[str, str], tuple[bytes, str]], address: str, interface: str
) -> None:
    """A link-local address is one of several interfaces, and a port of its own is bound on the right one."""
    assert ask(address, interface) == (tftp.data(1, b"content"), address)
