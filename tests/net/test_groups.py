"""Multicast groups with a real kernel; the IPv6 addresses and the DUID of the server."""

import socket
import subprocess
from collections.abc import Iterator

import pytest
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock

from bootfw.net.dhcp.duid import own_duid
from bootfw.net.linux.groups import Groups
from bootfw.net.linux.interfaces import Interfaces
from bootfw.net.linux.netlink import Changes
from bootfw.net.udp.sockets import open_socket

from .namespaces import Host

GROUP = "ff02::1:2"


def joined(host: Host, interface: str) -> bool:
    command = ("ip", "-n", host.name, "-6", "maddr", "show", "dev", interface)
    return GROUP in subprocess.run(command, capture_output=True, text=True).stdout.split()


@pytest.fixture
def sock(hosts: tuple[Host, Host]) -> Iterator[socket.socket]:
    with hosts[0].inside():
        sock, _ = open_socket("::", 0)
    yield sock
    sock.close()


def test_groups_are_joined_on_present_and_later_interfaces(
    private_reactor: EPollReactor, turn_until: TurnUntil, hosts: tuple[Host, Host], sock: socket.socket
) -> None:
    server, _ = hosts
    groups = Groups(private_reactor, sock, [GROUP], Interfaces())
    with server.inside():
        groups.start()
        assert joined(server, "s0")
        assert joined(server, "s1")
        server.ip("link", "add", "later", "type", "veth", "peer", "name", "end")
        try:
            turn_until(lambda: joined(server, "later"))
            server.ip("link", "set", "later", "down")
            server.ip("link", "set", "later", "up")
            server.ip("link", "delete", "later")
            server.ip("link", "add", "later", "type", "veth", "peer", "name", "end")
            turn_until(lambda: joined(server, "later"))
        finally:
            server.ip("link", "delete", "later")
    groups.stop()
    assert not [reader for reader in private_reactor.getReaders() if isinstance(reader, Changes)]
    groups.stop()


def test_groups_are_joined_on_served_interfaces_only(hosts: tuple[Host, Host], sock: socket.socket) -> None:
    server, _ = hosts
    with server.inside():
        Groups(Clock(), sock, [GROUP], Interfaces(["s1", "none"])).start()
    assert joined(server, "s1")
    assert not joined(server, "s0")


def test_datagrams_to_the_group_are_received(hosts: tuple[Host, Host], sock: socket.socket) -> None:
    server, client = hosts
    with server.inside():
        Groups(Clock(), sock, [GROUP], Interfaces()).start()
    sock.settimeout(20)
    with client.inside():
        sender, _ = open_socket("::", 0)
        sender.sendto(b"who is there", (f"{GROUP}%c0", sock.getsockname()[1]))
    sender.close()
    assert sock.recv(100) == b"who is there"


def test_link_local_addresses_are_left_out(hosts: tuple[Host, Host]) -> None:
    with hosts[0].inside():
        on_s0, on_s1 = (Interfaces().addresses6(socket.if_nametoindex(name)) for name in ("s0", "s1"))
    assert sorted(each.address for each in on_s0) == ["fd00:9::1", "fd00:9::2"]
    assert [each.address for each in on_s1] == ["fd00:9:1::1"]
    assert {each.prefix for each in (*on_s0, *on_s1)} == {64}


def test_server_duid_is_made_of_a_hardware_address(hosts: tuple[Host, Host]) -> None:
    with hosts[0].inside():
        first, again = own_duid(), own_duid()
    assert first == again
    assert first[:4] == b"\0\3\0\1"
    assert len(first) == 10
