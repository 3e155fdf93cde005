"""The netlink client: tables of a real kernel, changes to them, and a kernel that refuses."""

import errno
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from narrowing import present
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor

from bootfw.net.linux.netlink import (
    NETLINK_ROUTE,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_LINK,
    AddressChanged,
    Changes,
    ChangesLost,
    LinkChanged,
    Netlink,
    NetlinkSocket,
)

from .namespaces import Host

pytestmark = pytest.mark.interop


@pytest.fixture
def kernel(hosts: tuple[Host, Host]) -> Iterator[Netlink]:
    """A client of the server's kernel, which has a static entry for the client's end of wire 0."""
    server, _ = hosts
    with server.inside():
        kernel = Netlink()
        kernel.hardware_address(("10.9.0.9", 1))  # opens the socket
    for address in ("10.9.0.9", "fd00:9::9", "fe80::9"):
        server.ip("neighbour", "replace", address, "lladdr", "52:54:00:00:00:77", "dev", "s0", "nud", "reachable")
    yield kernel
    for address in ("10.9.0.9", "fd00:9::9", "fe80::9"):
        server.ip("neighbour", "del", address, "dev", "s0")


def index(host: Host, name: str) -> int:
    completed = subprocess.run(
        ["ip", "-n", host.name, "-o", "link", "show", "dev", name], check=True, capture_output=True, text=True
    )
    return int(completed.stdout.partition(":")[0])


def test_a_neighbour_is_known(kernel: Netlink) -> None:
    assert kernel.hardware_address(("10.9.0.9", 2070)) == "52:54:00:00:00:77"


def iproute2_tables() -> dict[str, dict[str, int]]:
    """Table -> its values, as iproute2 shows them."""
    output = subprocess.run(["ip", "-s", "ntable", "show"], check=True, capture_output=True, text=True).stdout
    tables = {}
    for part in output.split("\n\n"):
        fields = part.split()
        if "thresh3" in fields:  # else the parameters of one interface
            tables[fields[1]] = {key: int(fields[fields.index(key) + 1]) for key in ("thresh3", "table_fulls")}
    return tables


def test_the_neighbour_tables_are_those_that_iproute2_shows(kernel: Netlink) -> None:
    before, tables, after = iproute2_tables(), kernel.neighbour_tables(), iproute2_tables()
    assert {table.family for table in tables} == {socket.AF_INET, socket.AF_INET6}
    for table in tables:
        name = "arp_cache" if table.family == socket.AF_INET else "ndisc_cache"
        assert table.most in (before[name]["thresh3"], after[name]["thresh3"])  # a lab sets it
        assert before[name]["table_fulls"] <= table.overflows <= after[name]["table_fulls"]
        assert table.entries > 0


def test_a_neighbour_is_known_by_ipv6(kernel: Netlink) -> None:
    assert kernel.hardware_address(("fd00:9::9", 2070, 0, 0)) == "52:54:00:00:00:77"


def test_a_link_local_neighbour_is_looked_up_on_its_own_interface(kernel: Netlink, hosts: tuple[Host, Host]) -> None:
    server, _ = hosts
    assert kernel.hardware_address(("fe80::9", 2070, 0, index(server, "s0"))) == "52:54:00:00:00:77"
    assert kernel.hardware_address(("fe80::9", 2070, 0, index(server, "s1"))) != "52:54:00:00:00:77"


def test_an_address_without_traffic_is_unknown(kernel: Netlink) -> None:
    assert kernel.hardware_address(("10.9.0.77", 2070)) == ""


def test_an_address_that_did_not_answer_is_unknown(kernel: Netlink, hosts: tuple[Host, Host]) -> None:
    server, _ = hosts
    server.ip("neighbour", "replace", "10.9.0.66", "lladdr", "52:54:00:00:00:66", "dev", "s0", "nud", "failed")
    assert kernel.hardware_address(("10.9.0.66", 2070)) == ""


def test_an_address_behind_a_router_is_unknown(kernel: Netlink, hosts: tuple[Host, Host]) -> None:
    server, _ = hosts
    server.ip("route", "add", "10.99.0.0/16", "via", "10.9.0.9")
    try:
        assert kernel.hardware_address(("10.99.0.1", 2070)) == ""
    finally:
        server.ip("route", "del", "10.99.0.0/16")


def test_an_address_without_a_route_is_unknown(kernel: Netlink) -> None:
    assert kernel.hardware_address(("203.0.113.9", 2070)) == ""


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1", "::1"])
def test_invalid_and_loopback_addresses_have_no_hardware_address(kernel: Netlink, address: str) -> None:
    assert kernel.hardware_address((address, 1)) == ""


def test_without_rtnetlink_everything_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    assert Netlink().hardware_address(("127.0.0.1", 1)) == ""


@pytest.fixture
def tables(hosts: tuple[Host, Host]) -> Iterator[Netlink]:
    """A client whose tables were read once."""
    with hosts[0].inside():
        kernel = Netlink()
        assert kernel.links()
        assert kernel.addresses()
    yield kernel
    kernel.close()


@pytest.fixture
def server_with_link(hosts: tuple[Host, Host]) -> Iterator[Host]:
    """The server, with a link "n0" that has no address."""
    server, _ = hosts
    server.ip("link", "add", "n0", "type", "veth", "peer", "name", "n1")
    yield server
    subprocess.run(["ip", "-n", server.name, "link", "delete", "n0"], check=False, capture_output=True)


def test_links_have_name_mtu_and_hardware_address(tables: Netlink, server_with_link: Host) -> None:
    server_with_link.ip("link", "set", "n0", "address", "52:54:00:00:00:99", "mtu", "1400")
    link = tables.link("n0")
    assert link is not None
    assert (link.name, link.mtu, link.kind, link.hardware) == ("n0", 1400, 1, bytes.fromhex("525400000099"))
    assert tables.links()[link.index] == link
    assert tables.link("gone") is None


def test_tables_are_read_again_only_after_a_change(tables: Netlink, server_with_link: Host) -> None:
    links, addresses = tables.links(), tables.addresses()
    assert tables.links() is links
    assert tables.addresses() is addresses
    server_with_link.ip("addr", "add", "10.98.0.1/24", "dev", "n0")
    server_with_link.ip("addr", "add", "10.98.0.2/24", "dev", "n0")
    server_with_link.ip("addr", "add", "10.97.0.1", "peer", "10.97.0.2/32", "dev", "n0")
    index = present(tables.link("n0")).index
    found = [(address.address, address.prefix) for address in tables.addresses() if address.interface == index]
    assert found == [("10.98.0.1", 24), ("10.97.0.1", 32), ("10.98.0.2", 24)], "a secondary address comes last"
    server_with_link.ip("link", "set", "n0", "name", "n9")
    assert tables.links()[index].name == "n9"
    server_with_link.ip("link", "delete", "n9")
    assert index not in tables.links()
    assert all(address.interface != index for address in tables.addresses())


def flood(host: Host, device: str) -> None:
    """More changes than a socket of default size holds."""
    lines = [f"addr {verb} 10.98.0.1/24 dev {device}" for _ in range(1500) for verb in ("add", "del")]
    command = ["ip", "-n", host.name, "-batch", "-"]
    subprocess.run(command, input="\n".join(lines), text=True, check=True, capture_output=True)


def test_tables_are_right_after_more_changes_than_the_socket_holds(tables: Netlink, server_with_link: Host) -> None:
    flood(server_with_link, "n0")
    server_with_link.ip("addr", "add", "10.98.0.7/24", "dev", "n0")
    assert "10.98.0.7" in {address.address for address in tables.addresses()}
    server_with_link.ip(
        "neighbour", "replace", "10.9.0.88", "lladdr", "52:54:00:00:00:88", "dev", "s0", "nud", "permanent"
    )
    flood(server_with_link, "n0")
    assert tables.hardware_address(("10.9.0.88", 1)) == "52:54:00:00:00:88", "there is room for an answer all the same"
    server_with_link.ip("neighbour", "del", "10.9.0.88", "dev", "s0")
    server_with_link.ip("addr", "del", "10.98.0.7/24", "dev", "n0")
    assert "10.98.0.7" not in {address.address for address in tables.addresses()}


def test_change_that_arrives_with_a_reply_is_not_lost(tables: Netlink, server_with_link: Host) -> None:
    before = tables.addresses()
    server_with_link.ip("addr", "add", "10.98.0.1/24", "dev", "n0")
    tables.hardware_address(("203.0.113.9", 1))
    assert tables.addresses() is not before


def test_change_between_request_and_reply_is_applied(server_with_link: Host) -> None:
    class ChangeBeforeReply(NetlinkSocket):
        pending = True

        def discard_notifications(self) -> bool:
            found = super().discard_notifications()
            if self.pending:
                self.pending = False
                server_with_link.ip("addr", "add", "10.98.0.1/24", "dev", "n0")
            return found

    with server_with_link.inside():
        kernel = ChangeBeforeReply(NETLINK_ROUTE, RTMGRP_IPV4_IFADDR)
    with closing(kernel):
        assert kernel.dump(18, bytes(16)), "RTM_GETLINK"
        assert kernel.discard_notifications()
        assert not kernel.discard_notifications()


def test_a_closed_client_opens_another_socket(tables: Netlink, hosts: tuple[Host, Host]) -> None:
    tables.close()
    with hosts[1].inside():
        assert "c0" in {link.name for link in tables.links().values()}


@pytest.fixture
def changes(
    server_with_link: Host, private_reactor: EPollReactor, turn_until: TurnUntil
) -> Iterator[Callable[[Callable[..., Any]], list[AddressChanged | LinkChanged | ChangesLost]]]:
    """Turns the reactor until a condition holds for the reported changes on the server, and returns those."""
    reported: list[AddressChanged | LinkChanged | ChangesLost] = []
    groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR
    with server_with_link.inside():
        subscription = Changes(private_reactor, groups, reported.extend)

    def until(condition: Callable[..., Any]) -> list[AddressChanged | LinkChanged | ChangesLost]:
        turn_until(lambda: condition(reported))
        return reported

    yield until
    subscription.close()
    assert subscription not in private_reactor.getReaders()
    assert subscription.fileno() == -1
    subscription.close()


def is_address(change: AddressChanged | LinkChanged | ChangesLost, address: str, gone: bool) -> bool:
    return isinstance(change, AddressChanged) and change.address.address == address and change.gone is gone


def test_changes_of_addresses_are_reported(
    changes: Callable[[Callable[..., Any]], list[AddressChanged | LinkChanged | ChangesLost]], server_with_link: Host
) -> None:
    server_with_link.ip("addr", "add", "10.98.0.1/24", "dev", "n0")
    server_with_link.ip("addr", "add", "fd98::1/64", "dev", "n0", "nodad")
    server_with_link.ip("addr", "del", "10.98.0.1/24", "dev", "n0")
    reported = changes(lambda found: any(is_address(each, "10.98.0.1", True) for each in found))
    assert any(is_address(each, "10.98.0.1", False) for each in reported)
    assert any(
        isinstance(each, AddressChanged) and is_address(each, "fd98::1", False) and each.address.prefix == 64
        for each in reported
    )


def test_changes_of_links_are_reported(
    changes: Callable[[Callable[..., Any]], list[AddressChanged | LinkChanged | ChangesLost]], server_with_link: Host
) -> None:
    server_with_link.ip("link", "set", "n0", "mtu", "1400")
    changes(lambda found: any(isinstance(each, LinkChanged) and each.link.mtu == 1400 for each in found))
    server_with_link.ip("link", "delete", "n0")
    changes(lambda found: any(isinstance(each, LinkChanged) and each.link.name == "n0" and each.gone for each in found))


def test_interface_that_leaves_a_bridge_is_not_reported_as_gone(
    changes: Callable[[Callable[..., Any]], list[AddressChanged | LinkChanged | ChangesLost]], server_with_link: Host
) -> None:
    server_with_link.ip("link", "add", "b0", "type", "bridge")
    try:
        server_with_link.ip("link", "set", "n0", "master", "b0")
        server_with_link.ip("link", "set", "n0", "nomaster")
        server_with_link.ip("link", "set", "n0", "mtu", "1399")
        reported = changes(lambda found: any(isinstance(each, LinkChanged) and each.link.mtu == 1399 for each in found))
    finally:
        server_with_link.ip("link", "delete", "b0")
    assert not [each for each in reported if isinstance(each, LinkChanged) and each.link.name == "n0" and each.gone]


def test_lost_changes_are_reported(
    changes: Callable[[Callable[..., Any]], list[AddressChanged | LinkChanged | ChangesLost]], server_with_link: Host
) -> None:
    flood(server_with_link, "n0")
    assert ChangesLost() in changes(lambda found: ChangesLost() in found)


def test_forbidden_netlink_socket_raises_on_each_call_and_is_not_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    def refuse(*arguments: socket.AddressFamily | int) -> None:
        attempts.append(arguments)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refuse)
    kernel = Netlink()
    for read in (kernel.links, kernel.addresses, kernel.links):
        with pytest.raises(PermissionError):
            read()
    assert not kernel.set_neighbour("10.9.0.9", bytes(6), 1)
    assert len(attempts) == 1


def test_socket_is_opened_again_after_a_lack_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Netlink()
    with monkeypatch.context() as patched:

        def refuse(*arguments: socket.AddressFamily | int) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        patched.setattr(socket, "socket", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            kernel.links()
    assert "lo" in {link.name for link in kernel.links().values()}
    kernel.close()
