"""Opening UDP sockets, and which program holds a port that is in use."""

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
def open_test_socket() -> Iterator[Callable[..., socket.socket]]:
    """open_socket(), but returns only the socket, which is closed after the test."""
    sockets = []

    def open_(address: str, port: int = 0) -> socket.socket:
        sockets.append(open_socket(address, port)[0])
        return sockets[-1]

    yield open_
    for sock in sockets:
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
def test_an_address_that_no_interface_has_yet_can_be_bound(
    open_test_socket: Callable[..., socket.socket], address: str
) -> None:
    assert open_test_socket(address).getsockname()[0] == address


def test_link_local_address_keeps_its_zone(open_test_socket: Callable[..., socket.socket]) -> None:
    assert open_test_socket("fe80::77%lo").getsockname()[3] == socket.if_nametoindex("lo")


def test_ipv4_and_ipv6_bind_the_same_port(open_test_socket: Callable[..., socket.socket]) -> None:
    port = open_test_socket("0.0.0.0").getsockname()[1]
    assert open_test_socket("::", port).getsockname()[1] == port


def test_receive_buffer_is_enlarged(open_test_socket: Callable[..., socket.socket]) -> None:
    size = open_test_socket("0.0.0.0").getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    with open("/proc/sys/net/core/rmem_max") as limit:
        assert size >= min(4 << 20, 2 * int(limit.read()))


@pytest.mark.parametrize(("address", "level", "option"), [("0.0.0.0", 0, 10), ("::", 41, 23)])
def test_datagrams_are_sent_without_df(
    open_test_socket: Callable[..., socket.socket], address: str, level: int, option: int
) -> None:
    """IP_MTU_DISCOVER and IPV6_MTU_DISCOVER are DONT: a forged "fragmentation needed" stops no transfer."""
    assert open_test_socket(address).getsockopt(level, option) == 0


def test_the_port_is_not_shared(open_test_socket: Callable[..., socket.socket]) -> None:
    """With SO_REUSEADDR on both sockets, the last one bound would get all datagrams."""
    first = open_test_socket("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            second.bind(first.getsockname())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_error_for_a_port_in_use_names_the_program(
    open_test_socket: Callable[..., socket.socket], address: str
) -> None:
    port = open_test_socket(address).getsockname()[1]
    with pytest.raises(CannotListenError) as caught:
        open_socket(address, port)
    assert caught.value.socketError.errno == errno.EADDRINUSE
    assert f"in use by {process_name()} (pid {os.getpid()})" in str(caught.value)


def process_name() -> str:
    with open("/proc/self/comm") as file:
        return file.read().strip()


def test_error_for_a_privileged_port_names_the_capability() -> None:
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as start:
        if int(start.read()) < 2:
            pytest.skip("every port is unprivileged here")
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)  # takes the effective capabilities away as well
    try:
        with pytest.raises(CannotListenError) as caught:
            open_socket("127.0.0.1", 1)
    finally:
        if is_root:
            os.seteuid(0)
    assert caught.value.socketError.errno == errno.EACCES
    assert "CAP_NET_BIND_SERVICE" in str(caught.value)


def test_a_failure_leaves_no_descriptor(open_test_socket: Callable[..., socket.socket]) -> None:
    port = open_test_socket("127.0.0.1").getsockname()[1]
    before = open_descriptors()
    with pytest.raises(CannotListenError):
        open_socket("127.0.0.1", port)
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
        holder = who_holds(port, socket.AF_INET)
        other.communicate("\n")
    assert holder.startswith("python")
    assert holder.endswith(f"(pid {other.pid})")
    assert who_holds(port, socket.AF_INET) == ""


def test_an_ipv6_socket_that_also_receives_ipv4_is_found() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as dual:
        dual.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        dual.bind(("::", 0))
        port = dual.getsockname()[1]
        assert f"(pid {os.getpid()})" in who_holds(port, socket.AF_INET)
        assert f"(pid {os.getpid()})" in who_holds(port, socket.AF_INET6)


def test_ipv4_holder_is_not_reported_for_ipv6(open_test_socket: Callable[..., socket.socket]) -> None:
    assert who_holds(open_test_socket("127.0.0.1").getsockname()[1], socket.AF_INET6) == ""
