"""The interface by which a TCP connection arrived, on a real kernel."""

import socket
from types import SimpleNamespace

import pytest

from bootfw.net.http.arrival import arrived_by

from .namespaces import Host


def connection(server: Host, client: Host, family: socket.AddressFamily, bind: str, address: str) -> socket.socket:
    """The server's socket of a connection to *address*."""
    with server.inside():
        listener = socket.create_server((bind, 0), family=family)
    with client.inside():
        sock = socket.socket(family, socket.SOCK_STREAM)
    with listener, sock:
        sock.settimeout(30)
        sock.connect((address, listener.getsockname()[1]))
        accepted, _ = listener.accept()
    return accepted


@pytest.mark.parametrize(
    ("interface", "bind", "address"),
    [
        ("s0", "0.0.0.0", "10.9.0.1"),
        ("s1", "0.0.0.0", "10.9.1.1"),
        ("s0", "::", "fd00:9::1"),
        ("s1", "::", "fd00:9:1::1"),
    ],
)
def test_interface_of_a_connection_is_that_of_its_first_packet(
    hosts: tuple[Host, Host], interface: str, bind: str, address: str
) -> None:
    server, client = hosts
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with connection(server, client, family, bind, address) as accepted:
        via = arrived_by(SimpleNamespace(transport=SimpleNamespace(socket=accepted)))
    with server.inside():
        assert via is not None
        assert socket.if_indextoname(via.interface) == interface


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_connection_of_this_host_has_no_interface(family: socket.AddressFamily, address: str) -> None:
    with socket.create_server((address, 0), family=family) as listener, socket.socket(family) as sock:
        sock.settimeout(30)
        sock.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            assert arrived_by(SimpleNamespace(socket=accepted)) is None


def test_transport_without_a_socket_has_no_interface() -> None:
    assert arrived_by(SimpleNamespace()) is None
