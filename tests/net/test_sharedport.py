"""Ports that several processes have in common, on the kernel of this machine."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.error import CannotListenError

from bootfw.net.workers.sharedport import SharedPort, open_shared

ADDRESSES = ["127.0.0.1", "::1"]


@pytest.fixture
def opened() -> Iterator[Callable[..., SharedPort]]:
    """open_shared() for the test; it is closed after it."""
    ports = []

    def begin(service: str, address: str, count: int = 3, port: int = 0) -> SharedPort:
        ports.append(open_shared(service, address, port, count))
        return ports[-1]

    yield begin
    for port in ports:
        port.stopListening()


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(("service", "kind"), [("tftp", "UDP"), ("http", "TCP"), ("https", "TCP")])
def test_every_process_has_a_socket_of_the_same_port(
    opened: Callable[..., SharedPort], service: str, kind: str, address: str
) -> None:
    port = opened(service, address)
    names = {sock.getsockname()[:2] for sock in port.sockets}
    assert names == {(port.getHost().host, port.getHost().port)}
    assert (port.getHost().type, port.getHost().host, len(port.sockets)) == (kind, address, 3)
    assert port.getHost().port != 0


def test_datagrams_are_spread_and_each_client_keeps_its_process(opened: Callable[..., SharedPort]) -> None:
    port = opened("tftp", "127.0.0.1")
    to = port.getHost().host, port.getHost().port
    with contextlib.ExitStack() as clients:  # open until the end: no two of them shall have the same port
        for _ in range(60):
            client = clients.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(2):
                client.sendto(b"x", to)
    seen = [_all_of(sock) for sock in port.sockets]
    assert sum(map(len, seen)) == 120
    assert all(seen)
    for mine in seen:
        assert {peer: mine.count(peer) for peer in mine} == dict.fromkeys(mine, 2)


def _all_of(sock: socket.socket) -> list[tuple[str, int]]:
    peers = []
    while True:
        try:
            peers.append(sock.recvfrom(10)[1])
        except BlockingIOError:
            return peers


@pytest.mark.parametrize("service", ["tftp", "http"])
@pytest.mark.parametrize("flag", [None, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_port_of_another_program_is_never_shared(
    opened: Callable[..., SharedPort], service: str, flag: int | None
) -> None:
    kind = socket.SOCK_DGRAM if service == "tftp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as other:
        if flag is not None:
            other.setsockopt(socket.SOL_SOCKET, flag, 1)
        other.bind(("127.0.0.1", 0))
        if service == "http":
            other.listen()
        with pytest.raises(CannotListenError) as caught:
            opened(service, "127.0.0.1", port=other.getsockname()[1])
        assert "Address already in use by" in str(caught.value.socketError)


@pytest.mark.parametrize("service", ["tftp", "http"])
def test_port_of_another_bootfw_is_not_shared(opened: Callable[..., SharedPort], service: str) -> None:
    first = opened(service, "127.0.0.1")
    with pytest.raises(CannotListenError):
        opened(service, "127.0.0.1", port=first.getHost().port)
    assert all(sock.fileno() >= 0 for sock in first.sockets)


def test_failed_open_closes_the_other_sockets(
    opened: Callable[..., SharedPort], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    opening = socket.socket.bind

    def bind(self: socket.socket, address: tuple[str, int]) -> None:
        made.append(self)
        if len(made) == 2:
            raise OSError(12, "no more")
        return opening(self, address)

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(CannotListenError):
        opened("tftp", "127.0.0.1")
    assert [sock.fileno() for sock in made] == [-1, -1]
