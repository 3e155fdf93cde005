"""Opening sockets, and the owners of their ports."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from descriptors import open_descriptors
from narrowing import present
from twisted.internet.error import CannotListenError, InvalidAddressError

from bootfw.net.linux.portowner import who_holds
from bootfw.net.udp.packetinfo import IPV4, IPV6, Family
from bootfw.net.udp.sockets import open_socket


@pytest.fixture
def opened() -> Iterator[Callable[..., socket.socket]]:
    """open_socket(), closed at the end; gives the socket only."""
    made = []

    def make(address: str, port: int = 0) -> socket.socket:
        made.append(open_socket(address, port)[0])
        return made[-1]

    yield make
    for sock in made:
        sock.close()


@pytest.mark.parametrize(
    ("address", "family"), [("127.0.0.1", IPV4), ("", IPV4), ("0.0.0.0", IPV4), ("::1", IPV6), ("::", IPV6)]
)
def test_family_follows_from_the_address(address: str, family: Family) -> None:
    sock, found = open_socket(address, 0)
    with sock:
        assert found is family
        assert sock.getsockname()[0] == (address or "0.0.0.0")
        assert not sock.getblocking()


@pytest.mark.parametrize("address", ["localhost", "boot.example.org", "300.1.1.1", "eth0"])
def test_host_name_is_refused(address: str) -> None:
    with pytest.raises(InvalidAddressError):
        open_socket(address, 0)


@pytest.mark.parametrize("address", ["203.0.113.77", "2001:db8::77"])
def test_an_address_that_is_not_there_yet_can_be_bound(opened: Callable[..., socket.socket], address: str) -> None:
    assert opened(address).getsockname()[0] == address


def test_link_local_address_keeps_its_zone(opened: Callable[..., socket.socket]) -> None:
    assert opened("fe80::77%lo").getsockname()[3] == socket.if_nametoindex("lo")


def test_ipv4_and_ipv6_bind_the_same_port(opened: Callable[..., socket.socket]) -> None:
    port = opened("0.0.0.0").getsockname()[1]
    assert opened("::", port).getsockname()[1] == port


def test_receive_buffer_is_enlarged(opened: Callable[..., socket.socket]) -> None:
    room = opened("0.0.0.0").getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    with open("/proc/sys/net/core/rmem_max") as limit:
        assert room >= min(4 << 20, 2 * int(limit.read()))


@pytest.mark.parametrize(("address", "level", "option"), [("0.0.0.0", 0, 10), ("::", 41, 23)])
def test_datagrams_are_sent_without_df(
    opened: Callable[..., socket.socket], address: str, level: int, option: int
) -> None:
    """IP_MTU_DISCOVER and IPV6_MTU_DISCOVER are DONT: a forged "fragmentation needed" stops no transfer."""
    assert opened(address).getsockopt(level, option) == 0


def test_the_port_is_not_shared(opened: Callable[..., socket.socket]) -> None:
    """protocols.md 5: with SO_REUSEADDR the last one bound would take all datagrams."""
    first = opened("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            second.bind(first.getsockname())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_taken_port_is_explained(opened: Callable[..., socket.socket], address: str) -> None:
    taken = opened(address).getsockname()[1]
    with pytest.raises(CannotListenError) as caught:
        open_socket(address, taken)
    assert caught.value.socketError.errno == errno.EADDRINUSE
    assert f"in use by {comm()} (pid {os.getpid()})" in str(caught.value)


def comm() -> str:
    with open("/proc/self/comm") as name:
        return name.read().strip()


def test_a_privileged_port_is_explained() -> None:
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as start:
        if int(start.read()) < 2:
            pytest.skip("every port is unprivileged here")
    mighty = os.geteuid() == 0
    if mighty:
        os.seteuid(65534)  # takes the effective capabilities away as well
    try:
        with pytest.raises(CannotListenError) as caught:
            open_socket("127.0.0.1", 1)
    finally:
        if mighty:
            os.seteuid(0)
    assert caught.value.socketError.errno == errno.EACCES
    assert "CAP_NET_BIND_SERVICE" in str(caught.value)


def test_a_failure_leaves_no_descriptor(opened: Callable[..., socket.socket]) -> None:
    taken = opened("127.0.0.1").getsockname()[1]
    before = open_descriptors()
    with pytest.raises(CannotListenError):
        open_socket("127.0.0.1", taken)
    assert open_descriptors() == before


def test_program_that_holds_the_port_is_named() -> None:
    program = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0));"
        "print(s.getsockname()[1], flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        port = int(present(other.stdout).readline())
        said = who_holds(port, socket.AF_INET)
        other.communicate("\n")
    assert said.startswith("python")
    assert said.endswith(f"(pid {other.pid})")
    assert who_holds(port, socket.AF_INET) == ""


def test_an_ipv6_socket_that_takes_ipv4_is_found() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as dual:
        dual.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        dual.bind(("::", 0))
        port = dual.getsockname()[1]
        assert f"(pid {os.getpid()})" in who_holds(port, socket.AF_INET)
        assert f"(pid {os.getpid()})" in who_holds(port, socket.AF_INET6)


def test_ipv4_holder_is_not_reported_for_ipv6(opened: Callable[..., socket.socket]) -> None:
    assert who_holds(opened("127.0.0.1").getsockname()[1], socket.AF_INET6) == ""
