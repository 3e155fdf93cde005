"""Sockets that were opened before the process began: which are used, and the errors about the others."""

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Factory

from bootfw.errors import ConfigError
from bootfw.net.inheritedsockets import (
    InheritedSocket,
    InheritedSockets,
    check_used,
    close_unwanted,
    inherited_sockets,
    serve_files,
)
from bootfw.net.listening import Listening, OwnSockets, PortSpec
from bootfw.values import SocketStatus

Opened = Callable[..., InheritedSocket]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens an inherited socket; closed after the test."""
    made: list[socket.socket] = []

    def make(name: str = "tftp", host: str = "127.0.0.1", stream: bool = False, port: int = 0) -> InheritedSocket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        made.append(sock)
        sock.bind((host, port))
        if stream:
            sock.listen()
        return InheritedSocket(3, name, sock)

    yield make
    for sock in made:
        sock.close()


@pytest.fixture
def reactor() -> Iterator[Any]:
    made = EPollReactor()
    yield made
    made.runUntilCurrent()
    made.disconnectAll()
    for reader in made.removeAll():
        reader.connectionLost(None)


def port_of(inherited: InheritedSocket) -> int:
    return int(inherited.sock.getsockname()[1])


# From the environment


def environment(count: int, names: str, process: int | None = None) -> dict[str, str]:
    return {"LISTEN_PID": str(process or os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names, "HOME": "/"}


def test_sockets_are_read_by_name_and_the_variables_removed(opened: Opened) -> None:
    first, second = opened("tftp").sock.detach(), opened("tftp", stream=True).sock.detach()
    target = 400
    os.dup2(first, target)
    os.dup2(second, target + 1)
    os.close(first)
    os.close(second)
    environ = environment(2, "tftp:http")
    taken = inherited_sockets(environ, target)
    assert [(each.name, each.sock.type) for each in taken] == [
        ("tftp", socket.SOCK_DGRAM),
        ("http", socket.SOCK_STREAM),
    ]
    assert environ == {"HOME": "/"}
    assert not any(os.get_inheritable(each.sock.fileno()) for each in taken)
    for each in taken:
        each.sock.close()


def test_unnamed_socket_is_for_every_service(opened: Opened) -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    (taken,) = inherited_sockets(environ, opened().sock.detach())
    assert taken.name == "unknown"
    assert taken.is_for("tftp")
    assert taken.is_for("http")
    taken.sock.close()


@pytest.mark.parametrize("environ", [{}, environment(1, "tftp", 1), environment(1, "tftp") | {"LISTEN_FDS": "x"}])
def test_sockets_of_another_process_are_ignored(environ: dict[str, str]) -> None:
    assert inherited_sockets(environ) == []


def test_unknown_socket_name_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r'descriptor 3 is named "ftp" .*; known names: tftp, dhcp, '):
        inherited_sockets(environment(1, "ftp"))


def test_inherited_descriptor_that_is_not_a_socket_is_refused() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(ConfigError, match=rf'descriptor {reading} \("tftp"\) is no UDP or TCP socket'):
            inherited_sockets(environment(1, "tftp"), reading)
    finally:
        os.close(reading)
        os.close(writing)


def test_unix_socket_is_refused() -> None:
    one, other = socket.socketpair()
    with one, other, pytest.raises(ConfigError, match="is no UDP or TCP socket"):
        inherited_sockets(environment(1, "tftp"), one.fileno())


# What is wanted


def test_inherited_socket_is_used_for_its_address(opened: Opened, reactor: Any) -> None:
    inherited = opened()
    source = InheritedSockets(reactor, [inherited], OwnSockets(reactor))
    address = ("127.0.0.1", port_of(inherited))
    port = source.listen(PortSpec("tftp", address, DatagramProtocol()))
    assert port.getHost().port == address[1]
    assert port.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
    assert not port.getHandle().getblocking()
    check_used([inherited], [])
    port.stopListening()
    port.connectionLost()
    again = source.listen(PortSpec("tftp", address, DatagramProtocol()))
    assert again.getHandle().getsockname() == address, "it is still open, and is used at the next start"
    again.stopListening()


def test_inherited_tcp_socket_is_used_for_http(opened: Opened, reactor: Any) -> None:
    inherited = opened("http", stream=True)
    source = InheritedSockets(reactor, [inherited], OwnSockets(reactor))
    port = source.listen(PortSpec("http", ("127.0.0.1", port_of(inherited)), Factory()))
    assert port.getHost().port == port_of(inherited)
    check_used([inherited], [])
    port.stopListening()


def test_sockets_that_were_not_inherited_are_opened(opened: Opened, reactor: Any) -> None:
    inherited = opened("http", stream=True)
    source = InheritedSockets(reactor, [inherited], OwnSockets(reactor))
    port = source.listen(PortSpec("tftp", ("127.0.0.1", 0), DatagramProtocol()))
    assert port.getHost().port
    port.stopListening()
    assert source.follow_interfaces


@pytest.mark.parametrize(
    ("service", "host", "stream", "wanted", "device", "difference"),
    [
        ("tftp", "127.0.0.1", True, "127.0.0.1", "", "tftp needs UDP"),
        ("http", "127.0.0.1", False, "127.0.0.1", "", "http needs TCP"),
        ("tftp", "127.0.0.2", False, "127.0.0.1", "", "tftp listens on 127.0.0.1:{port}"),
        ("tftp", "::1", False, "127.0.0.1", "", "tftp listens on 127.0.0.1:{port}"),
        ("tftp", "127.0.0.1", False, "127.0.0.1", "eth7", "it has to be bound to interface eth7"),
        ("tftp", "::", False, "::", "", "it takes IPv4 too (BindIPv6Only=ipv6-only)"),
        ("tftp", "127.0.0.1", False, "127.0.0.1", "", ""),
    ],
)
def test_difference_to_the_configuration_is_explained(
    opened: Opened, service: str, host: str, stream: bool, wanted: str, device: str, difference: str
) -> None:
    inherited = opened(service, host, stream)
    port = port_of(inherited)
    assert inherited.difference(service, (wanted, port), device) == difference.format(port=port)


def test_inherited_connection_is_refused(opened: Opened) -> None:
    """Accept=yes: systemd accepts, and starts a process for each connection."""
    inherited = opened("http", stream=True)
    address = ("127.0.0.1", port_of(inherited))
    with socket.create_connection(address), inherited.sock.accept()[0] as accepted:
        assert "Accept=no" in InheritedSocket(3, "http", accepted).difference("http", address, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_socket_bound_to_an_interface_matches_that_interface_only(opened: Opened) -> None:
    inherited = opened()
    address = ("127.0.0.1", port_of(inherited))
    inherited.sock.setsockopt(socket.SOL_SOCKET, 25, b"lo\0")
    assert str(inherited) == f'inherited socket "tftp" (descriptor 3, UDP 127.0.0.1:{address[1]} on lo)'
    assert inherited.difference("tftp", address, "lo") == ""
    assert inherited.difference("tftp", address, "") == "it has to be bound to no interface"


def test_unused_inherited_socket_error_names_the_wanted_sockets(opened: Opened) -> None:
    inherited = opened()
    with pytest.raises(ConfigError) as caught:
        check_used([inherited], [Listening("tftp", ("0.0.0.0", 69)), Listening("dhcp6", ("::", 547), "on eth0")])
    assert str(caught.value) == (
        f'inherited socket "tftp" (descriptor 3, UDP 127.0.0.1:{port_of(inherited)}) matches no wanted socket; '
        "the configuration asks for tftp 0.0.0.0:69, dhcp6 [::]:547 on eth0"
    )


@pytest.mark.parametrize(("name", "service", "stream"), [("http", "tftp", False), ("tftp", "http", True)])
def test_socket_with_the_name_of_another_service_is_an_error(
    opened: Opened, reactor: Any, name: str, service: str, stream: bool
) -> None:
    inherited = opened(name, stream=stream)
    source = InheritedSockets(reactor, [inherited], OwnSockets(reactor))
    protocol = Factory() if stream else DatagramProtocol()
    with pytest.raises(CannotListenError) as caught:
        source.listen(PortSpec(service, ("127.0.0.1", port_of(inherited)), protocol))
    text = str(caught.value.socketError)
    assert text.endswith(f"; {inherited} has this address; name it FileDescriptorName={service}")
    assert text.count("Errno") == 1


def test_port_held_by_a_different_inherited_socket_is_an_error(opened: Opened, reactor: Any) -> None:
    """The usual mistake: without BindIPv6Only= the socket has the port for IPv4 as well."""
    inherited = opened("tftp", "::")
    source = InheritedSockets(reactor, [inherited], OwnSockets(reactor))
    port = port_of(inherited)
    with pytest.raises(CannotListenError) as caught:
        source.listen(PortSpec("tftp", ("0.0.0.0", port), DatagramProtocol()))
    text = str(caught.value.socketError)
    assert "Address already in use" in text
    assert f'inherited socket "tftp" (descriptor 3, UDP [::]:{port}) matches no wanted socket' in text
    assert f"tftp listens on 0.0.0.0:{port}" in text


@pytest.mark.parametrize(("name", "files"), [("tftp", True), ("bootfw.socket", True), ("dhcp", False), ("web", False)])
def test_inherited_file_sockets_are_recognized(opened: Opened, name: str, files: bool) -> None:
    assert serve_files([opened(name)]) is files


# After a reload


def status(service: str, host: str, port: int, state: str = "bound") -> SocketStatus:
    return SocketStatus(service, (host, port), "", state, "", 0.0, False)


def test_sockets_that_are_not_wanted_any_more_are_closed_once_and_named(opened: Opened, reactor: Any) -> None:
    stays, waits, goes = opened("tftp"), opened("http", stream=True), opened("unknown")
    wanted = [
        status("tftp", "127.0.0.1", port_of(stays)),
        status("http", "127.0.0.1", port_of(waits), "waiting"),
        status("dhcp", "10.77.0.0/24", 67),
        status("interface", "0.0.0.0", 0),
        status("metrics", "127.0.0.1", port_of(goes)),
    ]
    port = port_of(goes)
    source = InheritedSockets(reactor, [stays, waits, goes], OwnSockets(reactor))
    assert list(close_unwanted([stays, waits, goes], wanted)) == [
        f'inherited socket "unknown" (descriptor 3, UDP 127.0.0.1:{port})'
    ]
    assert [each.sock.fileno() >= 0 for each in (stays, waits, goes)] == [True, True, False]
    assert list(close_unwanted([stays, waits, goes], wanted)) == []
    again = source.listen(PortSpec("tftp", ("127.0.0.1", port), DatagramProtocol()))
    assert again.getHost().port == port, "it is opened here"
    again.stopListening()
