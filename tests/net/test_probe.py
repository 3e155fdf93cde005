"""ARP on a real link: probes for addresses in use, and datagrams to a client that does not know its address yet."""

import socket
import struct
import subprocess
from collections.abc import Callable, Iterator

import pytest
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor

from bootfw.net.dhcp.conflict import ArpProbe
from bootfw.net.linux.interfaces import Interfaces
from bootfw.values import Via

from .namespaces import Host

Hosts = tuple[Host, Host]
Found = list[tuple[str, str, tuple[str, ...]]]
"""Calls of proxy_found(): interface, MAC address, and the IP addresses that it answered for."""

SERVER, CLIENT, UNUSED = "10.9.0.1", "10.9.0.9", "10.9.0.77"
STRANGER = b"\2\0\0\0\0\1"

TIMEOUT = 1.0


@pytest.fixture
def probe(hosts: Hosts, private_reactor: EPollReactor) -> Iterator[ArpProbe]:
    server, _ = hosts
    with server.inside():
        probe = ArpProbe(private_reactor, TIMEOUT)
    yield probe
    probe.close()


def mac(host: Host, interface: str) -> str:
    link = subprocess.run(["ip", "-n", host.name, "-o", "link", "show", interface], capture_output=True, text=True)
    return link.stdout.partition("link/ether ")[2].split()[0]


def has_length(results: list[str | None], length: int) -> Callable[[], bool]:
    """A condition for turn_until."""
    return lambda: len(results) == length


def test_probe_reports_the_mac_address_of_the_host_that_uses_the_address(
    hosts: Hosts, probe: ArpProbe, private_reactor: EPollReactor, turn_until: TurnUntil
) -> None:
    results: list[str | None] = []
    began = private_reactor.seconds()
    probe.start(CLIENT, results.append, interface="s0", server=SERVER, client=STRANGER)
    assert results == []
    turn_until(lambda: results)

    assert results == [mac(hosts[1], "c0")]
    assert private_reactor.seconds() < began + TIMEOUT


def test_an_address_is_free_when_no_reply_comes_before_the_timeout(
    probe: ArpProbe, private_reactor: EPollReactor, turn_until: TurnUntil
) -> None:
    results: list[str | None] = []
    began = private_reactor.seconds()
    for address in (UNUSED, "10.9.0.78"):
        probe.start(address, results.append, interface="s0", server=SERVER, client=STRANGER)
    turn_until(lambda: len(results) == 2)

    assert results == [None, None]
    assert TIMEOUT - 0.01 <= private_reactor.seconds() - began < 2 * TIMEOUT


def test_reply_of_the_client_itself_is_ignored(hosts: Hosts, probe: ArpProbe, turn_until: TurnUntil) -> None:
    results: list[str | None] = []
    probe.start(
        CLIENT,
        results.append,
        interface="s0",
        server=SERVER,
        client=bytes.fromhex(mac(hosts[1], "c0").replace(":", "")),
    )
    turn_until(lambda: results)
    assert results == [None]


def send_arp_reply(hosts: Hosts, number: int, address: str) -> None:
    """The client replies on link *number* that it has *address*."""
    server, client = hosts
    source = bytes.fromhex(mac(client, f"c{number}").replace(":", ""))
    destination = bytes.fromhex(mac(server, f"s{number}").replace(":", ""))
    header = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)
    packet = header + source + socket.inet_aton(address) + destination + socket.inet_aton(SERVER)
    with client.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((f"c{number}", 0))
        sock.send(destination + source + b"\x08\x06" + packet)


def test_a_host_on_another_link_does_not_count(hosts: Hosts, probe: ArpProbe, turn_until: TurnUntil) -> None:
    results: list[str | None] = []
    for number, expected in ((0, None), (1, mac(hosts[1], "c1"))):
        probe.start("10.9.1.77", results.append, interface="s1", server="10.9.1.1", client=STRANGER)
        send_arp_reply(hosts, number, "10.9.1.77")
        turn_until(has_length(results, number + 1))
        assert results[number] == expected


@pytest.mark.parametrize("interface", ["lo", "gone"])
def test_probe_on_a_link_without_arp_finds_no_user(probe: ArpProbe, turn_until: TurnUntil, interface: str) -> None:
    results: list[str | None] = []
    probe.start(CLIENT, results.append, interface=interface, server=SERVER, client=STRANGER)
    turn_until(lambda: results)
    assert results == [None]


def test_close_drops_pending_probes(probe: ArpProbe, private_reactor: EPollReactor) -> None:
    results: list[str | None] = []
    probe.start(CLIENT, results.append, interface="s0", server=SERVER, client=STRANGER)
    probe.close()
    assert private_reactor.getDelayedCalls() == []
    assert results == []


def test_a_datagram_reaches_a_client_that_answers_no_arp(hosts: Hosts) -> None:
    server, client = hosts
    hardware = bytes.fromhex(mac(client, "c0").replace(":", ""))
    with client.inside():
        receiver = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    with server.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        via = Via(SERVER, socket.if_nametoindex("s0"), SERVER)
        assert Interfaces().set_neighbour(UNUSED, hardware, via)
    with receiver, sock:
        receiver.bind(("c0", 0x0800))
        receiver.settimeout(20)
        sock.sendto(b"for you", (UNUSED, 68))
        while True:
            packet, (_, _, packet_type, _, _) = receiver.recvfrom(2048)
            if packet.endswith(b"for you"):
                break
    assert packet_type == 0  # PACKET_HOST: sent to its hardware address, not to the broadcast address


def test_a_neighbour_on_an_unknown_interface_is_refused(hosts: Hosts) -> None:
    server, _ = hosts
    with server.inside():
        for index in (0, 9999):
            assert not Interfaces().set_neighbour(UNUSED, STRANGER, Via(SERVER, index, SERVER))


def add_address(host: Host, address: str) -> None:
    """Let *host* answer ARP requests for *address*, too."""
    subprocess.run(["ip", "-n", host.name, "addr", "add", f"{address}/32", "dev", "c0"], check=True)


@pytest.fixture
def client_addresses(hosts: Hosts) -> Iterator[list[str]]:
    """Ten addresses of the client. It answers ARP requests for all of them, as a device with proxy ARP does."""
    addresses = [f"10.9.0.{number}" for number in range(100, 110)]
    for address in addresses:
        add_address(hosts[1], address)
    yield addresses
    for address in addresses:
        subprocess.run(["ip", "-n", hosts[1].name, "addr", "del", f"{address}/32", "dev", "c0"], check=True)


def test_device_that_answers_for_every_address_is_recognized_as_proxy_arp(
    hosts: Hosts, private_reactor: EPollReactor, turn_until: TurnUntil, client_addresses: list[str]
) -> None:
    found: Found = []
    results: list[str | None] = []
    with hosts[0].inside():
        probe = ArpProbe(private_reactor, 0.1, lambda *report: found.append(report))
    for number, address in enumerate(client_addresses, 1):
        probe.start(address, results.append, interface="s0", server=SERVER, client=STRANGER)
        turn_until(has_length(results, number))
    probe.close()

    client_mac = mac(hosts[1], "c0")
    assert results == [client_mac] * 3 + [None] * 7
    assert found == [("s0", client_mac, tuple(client_addresses[:4]))]


def test_machine_with_several_addresses_is_not_proxy_arp(
    hosts: Hosts, private_reactor: EPollReactor, turn_until: TurnUntil, client_addresses: list[str]
) -> None:
    found: Found = []
    results: list[str | None] = []
    with hosts[0].inside():
        probe = ArpProbe(private_reactor, 0.05, lambda *report: found.append(report))
    probed = [*client_addresses[:3], UNUSED, *client_addresses[3:6], UNUSED, *client_addresses[6:9]]
    for number, address in enumerate(probed, 1):
        probe.start(address, results.append, interface="s0", server=SERVER, client=STRANGER)
        turn_until(has_length(results, number))
    probe.close()

    assert [user is not None for user in results] == [address != UNUSED for address in probed]
    assert found == []
