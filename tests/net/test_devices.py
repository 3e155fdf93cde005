"""Sockets of one port on single interfaces, on a real kernel, beside those of other servers."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import CannotListenError

from bootfw.net.linux.portowner import who_holds
from bootfw.net.listening import devices_for
from bootfw.net.udp.sockets import open_socket
from bootfw.testing import MemoryNetwork

from .namespaces import Host

PORT = 4067


@pytest.fixture
def open_on_server(hosts: tuple[Host, Host]) -> Iterator[Callable[..., socket.socket]]:
    """Calls open_socket() on the server. The sockets are closed after the test."""
    sockets: list[socket.socket] = []

    def open_device_socket(device: str = "", address: str = "0.0.0.0", port: int = PORT) -> socket.socket:
        with hosts[0].inside():
            sockets.append(open_socket(address, port, device=device)[0])
        return sockets[-1]

    yield open_device_socket
    for sock in sockets:
        sock.close()


@pytest.fixture
def broadcast_from(hosts: tuple[Host, Host]) -> Iterator[Callable[[str, bytes], None]]:
    """Broadcasts a datagram from an interface of the client."""
    sockets: list[socket.socket] = []

    def send(interface: str, data: bytes) -> None:
        with hosts[1].inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.sendto(data, ("255.255.255.255", PORT))

    yield send
    for sock in sockets:
        sock.close()


def read(sock: socket.socket) -> list[bytes]:
    """The datagrams in the buffer of *sock*."""
    datagrams = []
    with suppress(BlockingIOError):
        while True:
            datagrams.append(sock.recv(100))
    return datagrams


def test_each_interface_has_its_own_socket_of_the_port(
    open_on_server: Callable[..., socket.socket], broadcast_from: Callable[[str, bytes], None]
) -> None:
    first, second = open_on_server("s0"), open_on_server("s1")
    broadcast_from("c0", b"zero")
    broadcast_from("c1", b"one")
    assert (read(first), read(second)) == ([b"zero"], [b"one"])


def test_second_socket_on_an_interface_is_refused_with_the_holder(open_on_server: Callable[..., socket.socket]) -> None:
    open_on_server("s0")
    open_on_server("s1")
    for device, holder in (("s0", f"(pid {os.getpid()}) on s0"), ("", f"(pid {os.getpid()}) on s0, s1")):
        with pytest.raises(CannotListenError) as caught:
            open_on_server(device)
        assert caught.value.socketError.errno == errno.EADDRINUSE
        assert str(caught.value.socketError).endswith(holder)


def test_port_held_on_all_interfaces_is_an_error(open_on_server: Callable[..., socket.socket]) -> None:
    open_on_server()
    with pytest.raises(CannotListenError) as caught:
        open_on_server("s0")
    assert str(caught.value.socketError).endswith(f"(pid {os.getpid()})")


def test_server_that_binds_all_interfaces_briefly_can_start(
    open_on_server: Callable[..., socket.socket], hosts: tuple[Host, Host]
) -> None:
    """dnsmasq binds its port before its interface."""
    open_on_server("s0")
    with hosts[0].inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("", PORT))
        other.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"s1\0")


def test_holders_are_found_without_sock_diag(
    open_on_server: Callable[..., socket.socket], hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_on_server("s0")
    monkeypatch.setattr("bootfw.net.linux.portowner.NETLINK_SOCK_DIAG", 4711)
    with hosts[0].inside():
        assert who_holds(PORT, socket.AF_INET).endswith(f"(pid {os.getpid()})")


def test_errors_of_the_kernel_are_reported(
    open_on_server: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(socket.socket):
        def setsockopt(self, *arguments: Any) -> None:
            if arguments[1] == socket.SO_BINDTODEVICE:
                raise PermissionError(errno.EPERM, "Operation not permitted")
            super().setsockopt(*arguments)

    monkeypatch.setattr("bootfw.net.udp.sockets.socket.socket", Refusing)
    with pytest.raises(CannotListenError) as caught:
        open_socket("0.0.0.0", PORT, device="lo")
    assert "binding to interface lo needs CAP_NET_RAW" in str(caught.value.socketError)


def test_services_with_a_socket_for_each_interface(private_reactor: EPollReactor) -> None:
    names = ("eth0", "eth1")
    for service in ("dhcp", "boot-server", "dhcp6", "boot-server6", "tftp"):
        assert devices_for(private_reactor, service, ("::", 1), names) == names
        assert devices_for(private_reactor, service, ("::", 1), ()) == ("",)
    assert devices_for(private_reactor, "http", ("0.0.0.0", 80), names) == ("",)
    assert devices_for(private_reactor, "tftp", ("10.9.0.1", 69), names) == ("",)
    assert devices_for(MemoryNetwork().host("10.0.0.1"), "tftp", ("0.0.0.0", 69), names) == ("",)
