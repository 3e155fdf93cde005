"""Sockets that the process inherits: which are used, and the errors about the others."""

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

OpenInherited = Callable[..., InheritedSocket]
"""The fixture ``open_inherited``."""


@pytest.fixture
def open_inherited() -> Iterator[OpenInherited]:
    """Opens an inherited socket; closed after the test."""
    sockets: list[socket.socket] = []

    def make(name: str = "tftp", host: str = "127.0.0.1", stream: bool = False, port: int = 0) -> InheritedSocket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        sockets.append(sock)
        sock.bind((host, port))
        if stream:
            sock.listen()
        return InheritedSocket(3, name, sock)

    yield make
    for sock in sockets:
        sock.close()


@pytest.fixture
def reactor() -> Iterator[Any]:
    reactor = EPollReactor()
    yield reactor
    reactor.runUntilCurrent()
    reactor.disconnectAll()
    for reader in reactor.removeAll():
        reader.connectionLost(None)


def port_of(inherited: InheritedSocket) -> int:
    return int(inherited.sock.getsockname()[1])


# From the environment


def environment(count: int, names: str, process: int | None = None) -> dict[str, str]:
    """Variables as systemd sets them, for the process with this PID or for the tests."""
    return {"LISTEN_PID": str(process or os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names, "HOME": "/"}


def test_sockets_are_read_by_name_and_the_variables_removed(open_inherited: OpenInherited) -> None:
    first, second = open_inherited("tftp").sock.detach(), open_inherited("tftp", stream=True).sock.detach()
    target = 400
    os.dup2(first, target)
    os.dup2(second, target + 1)
    os.close(first)
    os.close(second)
    environ = environment(2, "tftp:http")
    inherited = inherited_sockets(environ, target)
    assert [(each.name, each.sock.type) for each in inherited] == [
        ("tftp", socket.SOCK_DGRAM),
        ("http", socket.SOCK_STREAM),
    ]
    assert environ == {"HOME": "/"}
    assert not any(os.get_inheritable(each.sock.fileno()) for each in inherited)
    for each in inherited:
        each.sock.close()


def test_unnamed_socket_is_for_every_service(open_inherited: OpenInherited) -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    (inherited,) = inherited_sockets(environ, open_inherited().sock.detach())
    assert inherited.name == "unknown"
    assert inherited.is_for("tftp")
    assert inherited.is_for("http")
    inherited.sock.close()


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


# The sockets of the configuration


def test_inherited_socket_is_used_for_its_address(open_inherited: OpenInherited, reactor: Any) -> None:
    inherited = open_inherited()
    source = InheritedSockets(reactor, [inherited], OwnSockets(reactor))
    address = ("127.0.0.1", port_of(inherited))
    port = source.listen(PortSpec("tftp", address, DatagramProtocol()))
    assert port.getHost().port == address[1]
    assert port.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
    assert not port.getHandle().getblocking()
    check_used([inherited], [])
    port.stopListening()
    port.connectionLost()
    second_port = source.listen(PortSpec("tftp", address, DatagramProtocol()))
    assert second_port.getHandle().getsockname() == address, "it is still open, and is used at the next start"
    second_port.stopListening()


def test_inherited_tcp_socket_is_used_for_http(open_inherited: OpenInherited, reactor: Any) -> None:
    inherited = open_inherited("http", stream=True)
    source = InheritedSockets(reactor, [inherited], OwnSockets(reactor))
    port = source.listen(PortSpec("http", ("127.0.0.1", port_of(inherited)), Factory()))
    assert port.getHost().port == port_of(inherited)
    check_used([inherited], [])
    port.stopListening()


def test_sockets_that_were_not_inherited_are_opened(open_inherited: OpenInherited, reactor: Any) -> None:
    inherited = open_inherited("http", stream=True)
    source = InheritedSockets(reactor, [inherited], OwnSockets(reactor))
    port = source.listen(PortSpec("tftp", ("127.0.0.1", 0), DatagramProtocol()))
    assert port.getHost().port
    port.stopListening()
    assert source.follow_interfaces


@pytest.mark.parametrize(
    ("service", "host", "stream", "configured_host", "device", "difference"),
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
    open_inherited: OpenInherited,
    service: str,
    host: str,
    stream: bool,
    configured_host: str,
    device: str,
    difference: str,
) -> None:
    inherited = open_inherited(service, host, stream)
    port = port_of(inherited)
    assert inherited.difference(service, (configured_host, port), device) == difference.format(port=port)


def test_inherited_connection_is_refused(open_inherited: OpenInherited) -> None:
    """Accept=yes: systemd accepts, and starts a process for each connection."""
    inherited = open_inherited("http", stream=True)
    address = ("127.0.0.1", port_of(inherited))
    with socket.create_connection(address), inherited.sock.accept()[0] as accepted:
        assert "Accept=no" in InheritedSocket(3, "http", accepted).difference("http", address, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_socket_bound_to_an_interface_matches_that_interface_only(open_inherited: OpenInherited) -> None:
    inherited = open_inherited()
    address = ("127.0.0.1", port_of(inherited))
    inherited.sock.setsockopt(socket.SOL_SOCKET, 25, b"lo\0")
    assert str(inherited) == f'inherited socket "tftp" (descriptor 3, UDP 127.0.0.1:{address[1]} on lo)'
    assert inherited.difference("tftp", address, "lo") == ""
    assert inherited.difference("tftp", address, "") == "it has to be bound to no interface"


def test_unused_inherited_socket_error_names_the_wanted_sockets(open_inherited: OpenInherited) -> None:
    inherited = open_inherited()
    with pytest.raises(ConfigError) as caught:
        check_used([inherited], [Listening("tftp", ("0.0.0.0", 69)), Listening("dhcp6", ("::", 547), "on eth0")])
    assert str(caught.value) == (
        f'inherited socket "tftp" (descriptor 3, UDP 127.0.0.1:{port_of(inherited)}) matches no wanted socket; '
        "the configuration asks for tftp 0.0.0.0:69, dhcp6 [::]:547 on eth0"
    )


@pytest.mark.parametrize(("name", "service", "stream"), [("http", "tftp", False), ("tftp", "http", True)])
def test_socket_with_the_name_of_another_service_is_an_error(
    open_inherited: OpenInherited, reactor: Any, name: str, service: str, stream: bool
) -> None:
    inherited = open_inherited(name, stream=stream)
    source = InheritedSockets(reactor, [inherited], OwnSockets(reactor))
    protocol = Factory() if stream else DatagramProtocol()
    with pytest.raises(CannotListenError) as caught:
        source.listen(PortSpec(service, ("127.0.0.1", port_of(inherited)), protocol))
    text = str(caught.value.socketError)
    assert text.endswith(f"; {inherited} has this address; name it FileDescriptorName={service}")
    assert text.count("Errno") == 1


def test_port_held_by_a_different_inherited_socket_is_an_error(open_inherited: OpenInherited, reactor: Any) -> None:
    """The usual mistake: without BindIPv6Only= the socket has the port for IPv4 as well."""
    inherited = open_inherited("tftp", "::")
    source = InheritedSockets(reactor, [inherited], OwnSockets(reactor))
    port = port_of(inherited)
    with pytest.raises(CannotListenError) as caught:
        source.listen(PortSpec("tftp", ("0.0.0.0", port), DatagramProtocol()))
    text = str(caught.value.socketError)
    assert "Address already in use" in text
    assert f'inherited socket "tftp" (descriptor 3, UDP [::]:{port}) matches no wanted socket' in text
    assert f"tftp listens on 0.0.0.0:{port}" in text


@pytest.mark.parametrize(("name", "files"), [("tftp", True), ("bootfw.socket", True), ("dhcp", False), ("web", False)])
def test_inherited_file_sockets_are_recognized(open_inherited: OpenInherited, name: str, files: bool) -> None:
    assert serve_files([open_inherited(name)]) is files


# After a reload


def status(service: str, host: str, port: int, state: str = "bound") -> SocketStatus:
    return SocketStatus(service, (host, port), "", state, "", 0.0, False)


def test_sockets_that_are_not_wanted_any_more_are_closed_once_and_named(
    open_inherited: OpenInherited, reactor: Any
) -> None:
    used, waiting, unwanted = open_inherited("tftp"), open_inherited("http", stream=True), open_inherited("unknown")
    wanted = [
        status("tftp", "127.0.0.1", port_of(used)),
        status("http", "127.0.0.1", port_of(waiting), "waiting"),
        status("dhcp", "10.77.0.0/24", 67),
        status("interface", "0.0.0.0", 0),
        status("metrics", "127.0.0.1", port_of(unwanted)),
    ]
    port = port_of(unwanted)
    source = InheritedSockets(reactor, [used, waiting, unwanted], OwnSockets(reactor))
    assert list(close_unwanted([used, waiting, unwanted], wanted)) == [
        f'inherited socket "unknown" (descriptor 3, UDP 127.0.0.1:{port})'
    ]
    assert [each.sock.fileno() >= 0 for each in (used, waiting, unwanted)] == [True, True, False]
    assert list(close_unwanted([used, waiting, unwanted], wanted)) == []
    reopened = source.listen(PortSpec("tftp", ("127.0.0.1", port), DatagramProtocol()))
    assert reopened.getHost().port == port, "it is opened here"
    reopened.stopListening()
