"""Which interfaces are served, and which names and addresses this host lacks."""

import os
import shutil
import socket
import subprocess
import sys

import pytest
from narrowing import present

from bootfw.net.linux.interfaces import Interfaces, missing_interfaces, own_addresses, unusable_address
from bootfw.values import Via

LO = socket.if_nametoindex("lo")


def via(interface: int) -> Via:
    return Via("127.0.0.1", interface, "127.0.0.1")


def test_listed_interfaces_are_served_or_all_without_a_list() -> None:
    assert Interfaces().serves(via(LO))
    assert Interfaces(["lo"]).serves(via(LO))
    assert not Interfaces(["eth9"]).serves(via(LO))


@pytest.mark.parametrize("arrival", [None, via(0)])
def test_requests_of_an_unknown_interface_are_served(arrival: Via | None) -> None:
    assert Interfaces(["eth9"]).serves(arrival)


def test_the_first_dropped_request_of_each_interface_is_reported() -> None:
    dropped: list[str] = []
    interfaces = Interfaces(["eth9"], dropped.append)
    for _ in range(3):
        interfaces.serves(via(LO))
    interfaces.serves(via(0xFFFFFF))  # one that has gone meanwhile
    assert dropped == ["lo"]


def test_requests_on_a_served_interface_are_not_reported() -> None:
    dropped: list[object] = []
    Interfaces(["lo"], dropped.append).serves(via(LO))
    Interfaces([], dropped.append).serves(via(LO))
    assert dropped == []


def test_error_for_a_missing_interface_lists_existing_ones() -> None:
    missing = missing_interfaces(["lo", "eth9"])
    assert list(missing) == ["eth9"]
    assert missing["eth9"].startswith("no interface eth9; there are: lo")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::"])
def test_local_addresses_can_be_bound(address: str) -> None:
    assert unusable_address(address) == ""


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("203.0.113.77", "this host has no such address; it has: 127.0.0.1"),
        ("2001:db8::77", "this host has no such address; it has: ::1"),
        ("fe80::1%eth9", "no interface eth9; there are: lo"),
    ],
)
def test_foreign_addresses_cannot_be_bound(address: str, reason: str) -> None:
    assert unusable_address(address).startswith(reason)


def test_listed_interfaces_are_known_where_netlink_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    interfaces = Interfaces(["lo", "eth9"])
    assert list(interfaces.served()) == [LO]
    assert interfaces.serves(via(LO))
    assert not Interfaces(["eth9"]).serves(via(LO))
    assert interfaces.addresses(LO) is None
    assert interfaces.addresses6(LO) == ()
    assert interfaces.mtu(via(LO)) is None
    assert own_addresses(socket.AF_INET) is None
    assert missing_interfaces(["lo", "eth9"]) == {"eth9": "no interface eth9"}
    assert unusable_address("203.0.113.77") == "this host has no such address"


def test_local_addresses_and_networks_are_listed() -> None:
    (address, *_) = present(Interfaces().addresses(LO))
    assert address.address == "127.0.0.1"
    assert address.is_beside("127.255.0.1")
    assert not address.is_beside("128.0.0.1")
    assert Interfaces().addresses(0xFFFFFF) == ()
    assert "127.0.0.1" in present(own_addresses(socket.AF_INET))
    assert Interfaces().addresses6(LO) == (), "other hosts can't reach ::1"


TENTATIVE = """
ip link add s0 type veth peer name c0
echo 30 > /proc/sys/net/ipv6/conf/s0/dad_transmits
ip link set s0 up
ip link set c0 up
ip addr add fd77::1/64 dev s0
ip -6 addr show dev s0 | grep -q tentative && exec "$@"
"""


@pytest.mark.interop
@pytest.mark.skipif(
    os.getuid() != 0 or not all(map(shutil.which, ("unshare", "ip"))), reason="needs root, unshare and ip"
)
def test_tentative_ipv6_address_is_not_reachable() -> None:
    """A socket can't be bound to it in the usual way while another host may answer for it (RFC 4862 section 5.4)."""
    program = (
        "import socket; from bootfw.net.linux.interfaces import *;"
        "print(repr(unusable_address('fd77::1')), 'fd77::1' in own_addresses(socket.AF_INET6),"
        "      Interfaces().addresses6(socket.if_nametoindex('s0')));"
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).bind(('fd77::1', 0))"
    )
    completed = subprocess.run(
        ["unshare", "-n", "sh", "-c", TENTATIVE, "sh", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert completed.stdout == "'this address is still tentative' True ()\n"
    assert "Cannot assign requested address" in completed.stderr, "else the address is no longer tentative"


def test_excluded_interface_is_never_served() -> None:
    dropped: list[str] = []
    interfaces = Interfaces(dropped=dropped.append, excepted=["lo"])
    assert not interfaces.all_served
    assert not interfaces.serves(via(LO))
    assert LO not in set(interfaces.served())
    assert dropped == ["lo"]
    interfaces.serve(["lo"], ["lo"])
    assert not interfaces.serves(via(LO))
    interfaces.serve([], ["eth9"])
    assert interfaces.serves(via(LO))
    assert LO in set(interfaces.served())
