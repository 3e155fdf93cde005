"""Ports of single interfaces, on a real kernel: beside other servers, and when interfaces come and go."""

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import LogEvent, capturedLogs

from bootfw.net.linux.devices import Devices
from bootfw.net.linux.interfaces import index_of
from bootfw.net.linux.netlink import Changes
from bootfw.net.linux.portowner import who_holds
from bootfw.net.listening import OwnSockets, devices_for, keep_bound
from bootfw.net.udp.sockets import open_socket
from bootfw.net.workers.sharedport import open_shared
from bootfw.testing import MemoryNetwork
from bootfw.values import Address

from .namespaces import Host

PORT = 4067


@pytest.fixture
def opened(hosts: tuple[Host, Host]) -> Iterator[Callable[..., socket.socket]]:
    """open_socket() on the server; closed at the end."""
    made: list[socket.socket] = []

    def make(device: str = "", address: str = "0.0.0.0", port: int = PORT) -> socket.socket:
        with hosts[0].inside():
            made.append(open_socket(address, port, device=device)[0])
        return made[-1]

    yield make
    for sock in made:
        sock.close()


@pytest.fixture
def sent_from(hosts: tuple[Host, Host]) -> Iterator[Callable[[str, bytes], None]]:
    """Sends a datagram to everybody on a wire of the client."""
    made: list[socket.socket] = []

    def send(interface: str, data: bytes) -> None:
        with hosts[1].inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, 25, interface.encode())
        sock.sendto(data, ("255.255.255.255", PORT))

    yield send
    for sock in made:
        sock.close()


@pytest.fixture
def later(hosts: tuple[Host, Host]) -> Iterator[Callable[[], None]]:
    """Makes a wire between s9 and c9, with an address on the server's end; makes it anew when there is one."""
    server, client = hosts

    def make() -> None:
        with suppress(Exception):
            server.ip("link", "delete", "s9")
        server.ip("link", "add", "s9", "type", "veth", "peer", "name", "c9", "netns", client.name)
        server.ip("addr", "add", "10.9.9.1/24", "dev", "s9")
        server.ip("link", "set", "s9", "up")
        client.ip("link", "set", "c9", "up")

    yield make
    with suppress(Exception):
        server.ip("link", "delete", "s9")


class Watched(Devices):
    """With the reactor turning on its host."""

    until: Callable[[Callable[[], object]], None]


@pytest.fixture
def watched(hosts: tuple[Host, Host], private_reactor: EPollReactor, turn_until: TurnUntil) -> Iterator[Watched]:
    """A Devices on the server; the reactor turns there."""
    with hosts[0].inside():
        made = Watched(private_reactor)

    def until(condition: Callable[[], object]) -> None:
        with hosts[0].inside():
            turn_until(condition)

    made.until = until
    yield made
    made.stop()
    assert not [each for each in private_reactor.getReaders() if isinstance(each, Changes)]


@pytest.fixture
def logs() -> Iterator[Sequence[LogEvent]]:
    with capturedLogs() as captured:
        yield captured


class Port:
    """As far as keep_bound() looks at one."""

    def __init__(self, sock: socket.socket) -> None:
        self.getHandle = lambda: sock


def read(sock: socket.socket) -> list[bytes]:
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(sock.recv(100))
    return found


def test_each_interface_has_the_port_for_itself(
    opened: Callable[..., socket.socket], sent_from: Callable[[str, bytes], None]
) -> None:
    one, other = opened("s0"), opened("s1")
    sent_from("c0", b"zero")
    sent_from("c1", b"one")
    assert (read(one), read(other)) == ([b"zero"], [b"one"])


def test_the_same_interface_is_taken_once_and_the_holder_is_named(opened: Callable[..., socket.socket]) -> None:
    opened("s0")
    opened("s1")
    for device, holder in (("s0", f"(pid {os.getpid()}) on s0"), ("", f"(pid {os.getpid()}) on s0, s1")):
        with pytest.raises(CannotListenError) as caught:
            opened(device)
        assert caught.value.socketError.errno == errno.EADDRINUSE
        assert str(caught.value.socketError).endswith(holder)


def test_who_has_the_port_on_all_interfaces_is_in_the_way(opened: Callable[..., socket.socket]) -> None:
    opened()
    with pytest.raises(CannotListenError) as caught:
        opened("s0")
    assert str(caught.value.socketError).endswith(f"(pid {os.getpid()})")


def test_a_server_that_has_the_port_everywhere_for_a_moment_can_start_beside_it(
    opened: Callable[..., socket.socket], hosts: tuple[Host, Host]
) -> None:
    """dnsmasq binds its port before its interface."""
    opened("s0")
    with hosts[0].inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("", PORT))
        other.setsockopt(socket.SOL_SOCKET, 25, b"s1\0")


def test_holders_are_found_without_sock_diag(
    opened: Callable[..., socket.socket], hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened("s0")
    monkeypatch.setattr("bootfw.net.linux.portowner.NETLINK_SOCK_DIAG", 4711)
    with hosts[0].inside():
        assert who_holds(PORT, socket.AF_INET).endswith(f"(pid {os.getpid()})")


def test_what_the_kernel_does_not_allow_is_said(
    opened: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(socket.socket):
        def setsockopt(self, *arguments: Any) -> None:
            if arguments[1] == 25:
                raise PermissionError(errno.EPERM, "Operation not permitted")
            super().setsockopt(*arguments)

    monkeypatch.setattr("bootfw.net.udp.sockets.socket.socket", Refusing)
    with pytest.raises(CannotListenError) as caught:
        open_socket("0.0.0.0", PORT, device="lo")
    assert "binding to interface lo needs CAP_NET_RAW" in str(caught.value.socketError)


def test_a_port_waits_for_its_interface_and_follows_it(
    hosts: tuple[Host, Host],
    opened: Callable[..., socket.socket],
    later: Callable[[], None],
    watched: Watched,
    sent_from: Callable[[str, bytes], None],
    private_reactor: EPollReactor,
) -> None:
    sock = opened("s9")
    bound: list[bool] = []
    port = Port(sock)
    with hosts[0].inside():
        assert keep_bound(watched, port, ("0.0.0.0", PORT), "s9", lambda: bound.append(True)) is False
    later()
    watched.until(lambda: bound)
    sent_from("c9", b"first")
    assert read(sock) == [b"first"]

    later()
    with hosts[0].inside():
        now = index_of("s9")
    watched.until(lambda: watched._sockets[0].index == now)
    sent_from("c9", b"second")
    assert read(sock) == [b"second"]
    assert bound == [True]


def test_where_the_port_is_taken_when_the_interface_appears_that_is_said(
    hosts: tuple[Host, Host],
    opened: Callable[..., socket.socket],
    later: Callable[[], None],
    watched: Watched,
    logs: Sequence[LogEvent],
) -> None:
    sock = opened("s9")
    port = Port(sock)
    opened()
    with hosts[0].inside():
        keep_bound(watched, port, ("0.0.0.0", PORT), "s9", lambda: pytest.fail("it is not"))
    later()
    watched.until(lambda: logs)
    assert str(logs[0]["error"]).startswith("[Errno 98] Address already in use by ")


def test_the_sockets_of_several_processes_wait_together(
    hosts: tuple[Host, Host], later: Callable[[], None], watched: Watched, sent_from: Callable[[str, bytes], None]
) -> None:
    with hosts[0].inside():
        shared = open_shared("tftp", "0.0.0.0", PORT, 3, "s9")
        bound: list[bool] = []
        assert not keep_bound(watched, shared, ("0.0.0.0", PORT), "s9", lambda: bound.append(True))
    assert (shared.getHost().host, shared.getHost().port) == ("0.0.0.0", PORT)
    later()
    watched.until(lambda: bound and all(sock.getsockname()[1] == PORT for sock in shared.sockets))
    shared.stopListening()


def test_which_services_have_a_socket_for_each_interface(private_reactor: EPollReactor) -> None:
    names = ("eth0", "eth1")
    for service in ("dhcp", "boot-server", "dhcp6", "boot-server6", "tftp"):
        assert devices_for(private_reactor, service, ("::", 1), names) == names
        assert devices_for(private_reactor, service, ("::", 1), ()) == ("",)
    assert devices_for(private_reactor, "http", ("0.0.0.0", 80), names) == ("",)
    assert devices_for(private_reactor, "tftp", ("10.9.0.1", 69), names) == ("",)
    assert devices_for(MemoryNetwork().host("10.0.0.1"), "tftp", ("0.0.0.0", 69), names) == ("",)


def test_a_protocol_waits_for_its_interface_too(
    hosts: tuple[Host, Host],
    private_reactor: EPollReactor,
    later: Callable[[], None],
    watched: Watched,
    sent_from: Callable[[str, bytes], None],
    turn_until: TurnUntil,
) -> None:
    class Echo(DatagramProtocol):
        noisy = False
        heard: list[bytes] = []

        def datagramReceived(self, data: bytes, peer: Address) -> None:
            self.heard.append(data)

    with hosts[0].inside():
        port = OwnSockets(private_reactor).listen("dhcp", ("0.0.0.0", PORT), Echo(), "s9", None)
        bound: list[bool] = []
        assert not keep_bound(watched, port, ("0.0.0.0", PORT), "s9", lambda: bound.append(True))
    assert port.getHost().port == PORT
    later()
    watched.until(lambda: bound)
    sent_from("c9", b"hello")
    watched.until(lambda: Echo.heard)
    stopped = port.stopListening()
    turn_until(lambda: stopped.called)
    assert Echo.heard == [b"hello"]
