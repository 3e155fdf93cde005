"""Ports that several processes share, on the kernel of this machine."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.error import CannotListenError

from bootfw.net.workers.sharedport import SharedPort, open_shared

ADDRESSES = ["127.0.0.1", "::1"]


@pytest.fixture
def open_port() -> Iterator[Callable[..., SharedPort]]:
    """open_shared(); the ports are closed after the test."""
    ports = []

    def open_(service: str, address: str, count: int = 3, port: int = 0) -> SharedPort:
        ports.append(open_shared(service, address, port, count))
        return ports[-1]

    yield open_
    for port in ports:
        port.stopListening()


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(("service", "kind"), [("tftp", "UDP"), ("http", "TCP"), ("https", "TCP")])
def test_every_process_has_a_socket_of_the_same_port(
    open_port: Callable[..., SharedPort], service: str, kind: str, address: str
) -> None:
    port = open_port(service, address)
    names = {sock.getsockname()[:2] for sock in port.sockets}
    assert names == {(port.getHost().host, port.getHost().port)}
    assert (port.getHost().type, port.getHost().host, len(port.sockets)) == (kind, address, 3)
    assert port.getHost().port != 0


def test_datagrams_are_spread_and_each_client_keeps_its_process(open_port: Callable[..., SharedPort]) -> None:
    port = open_port("tftp", "127.0.0.1")
    address = port.getHost().host, port.getHost().port
    with contextlib.ExitStack() as clients:  # open until all have sent: no two of them may have the same port
        for _ in range(60):
            client = clients.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(2):
                client.sendto(b"x", address)
    peers_by_process = [_senders(sock) for sock in port.sockets]
    assert sum(map(len, peers_by_process)) == 120
    assert all(peers_by_process)
    for peers in peers_by_process:
        assert {peer: peers.count(peer) for peer in peers} == dict.fromkeys(peers, 2)


def _senders(sock: socket.socket) -> list[tuple[str, int]]:
    """The senders of all datagrams that *sock* has received."""
    peers = []
    while True:
        try:
            peers.append(sock.recvfrom(10)[1])
        except BlockingIOError:
            return peers


@pytest.mark.parametrize("service", ["tftp", "http"])
@pytest.mark.parametrize("flag", [None, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_port_of_another_program_is_never_shared(
    open_port: Callable[..., SharedPort], service: str, flag: int | None
) -> None:
    kind = socket.SOCK_DGRAM if service == "tftp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as other:
        if flag is not None:
            other.setsockopt(socket.SOL_SOCKET, flag, 1)
        other.bind(("127.0.0.1", 0))
        if service == "http":
            other.listen()
        with pytest.raises(CannotListenError) as caught:
            open_port(service, "127.0.0.1", port=other.getsockname()[1])
        assert "Address already in use by" in str(caught.value.socketError)


@pytest.mark.parametrize("service", ["tftp", "http"])
def test_port_of_another_bootfw_is_not_shared(open_port: Callable[..., SharedPort], service: str) -> None:
    first = open_port(service, "127.0.0.1")
    with pytest.raises(CannotListenError):
        open_port(service, "127.0.0.1", port=first.getHost().port)
    assert all(sock.fileno() >= 0 for sock in first.sockets)


def test_failed_open_closes_the_other_sockets(
    open_port: Callable[..., SharedPort], monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = []
    real_bind = socket.socket.bind

    def bind(self: socket.socket, address: tuple[str, int]) -> None:
        bound.append(self)
        if len(bound) == 2:
            raise OSError(12, "no more")
        return real_bind(self, address)

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(CannotListenError):
        open_port("tftp", "127.0.0.1")
    assert [sock.fileno() for sock in bound] == [-1, -1]
