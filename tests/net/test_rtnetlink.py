"""The kernel is asked whose an address is, on two real wires."""

import socket
import subprocess

import pytest

from bootfw.net.linux.netlink import Rtnetlink

pytestmark = pytest.mark.interop


@pytest.fixture
def kernel(hosts):
    """Questions to the kernel of the server, that knows the client's end of wire 0 by a static entry and by use."""
    server, _ = hosts
    with server.inside():
        asked = Rtnetlink()
        asked.hardware_address(("10.9.0.9", 1))  # the socket is made here
    for address in ("10.9.0.9", "fd00:9::9", "fe80::9"):
        server.ip("neighbour", "replace", address, "lladdr", "52:54:00:00:00:77", "dev", "s0", "nud", "reachable")
    yield asked
    for address in ("10.9.0.9", "fd00:9::9", "fe80::9"):
        server.ip("neighbour", "del", address, "dev", "s0")


def index(host, name: str) -> int:
    shown = subprocess.run(
        ["ip", "-n", host.name, "-o", "link", "show", "dev", name], check=True, capture_output=True, text=True
    )
    return int(shown.stdout.partition(":")[0])


def test_a_neighbour_is_known(kernel) -> None:
    assert kernel.hardware_address(("10.9.0.9", 2070)) == "52:54:00:00:00:77"


def test_a_neighbour_is_known_by_ipv6(kernel) -> None:
    assert kernel.hardware_address(("fd00:9::9", 2070, 0, 0)) == "52:54:00:00:00:77"


def test_a_link_local_address_is_one_of_its_wire(kernel, hosts) -> None:
    server, _ = hosts
    assert kernel.hardware_address(("fe80::9", 2070, 0, index(server, "s0"))) == "52:54:00:00:00:77"
    assert kernel.hardware_address(("fe80::9", 2070, 0, index(server, "s1"))) != "52:54:00:00:00:77"


def test_who_has_not_been_talked_to_is_not_known(kernel) -> None:
    assert kernel.hardware_address(("10.9.0.77", 2070)) == ""


def test_who_did_not_answer_is_not_known(kernel, hosts) -> None:
    server, _ = hosts
    server.ip("neighbour", "replace", "10.9.0.66", "lladdr", "52:54:00:00:00:66", "dev", "s0", "nud", "failed")
    assert kernel.hardware_address(("10.9.0.66", 2070)) == ""


def test_whom_a_router_speaks_for_is_not_known(kernel, hosts) -> None:
    server, _ = hosts
    server.ip("route", "add", "10.99.0.0/16", "via", "10.9.0.9")
    try:
        assert kernel.hardware_address(("10.99.0.1", 2070)) == ""
    finally:
        server.ip("route", "del", "10.99.0.0/16")


def test_where_there_is_no_way_nobody_is_known(kernel) -> None:
    assert kernel.hardware_address(("203.0.113.9", 2070)) == ""


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1", "::1"])
def test_what_is_no_neighbour_at_all(kernel, address: str) -> None:
    assert kernel.hardware_address((address, 1)) == ""


def test_without_rtnetlink_everything_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    assert Rtnetlink().hardware_address(("127.0.0.1", 1)) == ""
