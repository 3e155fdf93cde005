"""ARP on a real link: probes for addresses in use, and datagrams to a client that does not know its address yet."""

import socket
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

SERVER, CLIENT, UNUSED = "10.9.0.1", "10.9.0.9", "10.9.0.77"
STRANGER = b"\2\0\0\0\0\1"

SECONDS = 1.0


@pytest.fixture
def probe(hosts: Hosts, private_reactor: EPollReactor) -> Iterator[ArpProbe]:
    server, _ = hosts
    with server.inside():
        made = ArpProbe(private_reactor, SECONDS)
    yield made
    made.close()


def mac(host: Host, interface: str) -> str:
    shown = subprocess.run(["ip", "-n", host.name, "-o", "link", "show", interface], capture_output=True, text=True)
    return shown.stdout.partition("link/ether ")[2].split()[0]


def has(results: list[str | None], number: int) -> Callable[[], bool]:
    return lambda: len(results) == number


def test_probe_reports_the_hardware_address_of_the_user(
    hosts: Hosts, probe: ArpProbe, private_reactor: EPollReactor, turn_until: TurnUntil
) -> None:
    results: list[str | None] = []
    began = private_reactor.seconds()
    probe.start(CLIENT, results.append, interface="s0", server=SERVER, client=STRANGER)
    assert results == []
    turn_until(lambda: results)

    assert results == [mac(hosts[1], "c0")]
    assert private_reactor.seconds() < began + SECONDS


def test_an_address_is_free_when_no_reply_comes_before_the_timeout(
    probe: ArpProbe, private_reactor: EPollReactor, turn_until: TurnUntil
) -> None:
    results: list[str | None] = []
    began = private_reactor.seconds()
    for address in (UNUSED, "10.9.0.78"):
        probe.start(address, results.append, interface="s0", server=SERVER, client=STRANGER)
    turn_until(lambda: len(results) == 2)

    assert results == [None, None]
    assert SECONDS - 0.01 <= private_reactor.seconds() - began < 2 * SECONDS


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


def test_a_host_on_another_link_does_not_count(probe: ArpProbe, turn_until: TurnUntil) -> None:
    results: list[str | None] = []
    probe.start("10.9.1.77", results.append, interface="s1", server="10.9.1.1", client=STRANGER)
    turn_until(lambda: results)
    assert results == [None]


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
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    with server.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        via = Via(SERVER, socket.if_nametoindex("s0"), SERVER)
        assert Interfaces().set_neighbour(UNUSED, hardware, via)
    with ear, sock:
        ear.bind(("c0", 0x0800))
        ear.settimeout(20)
        sock.sendto(b"for you", (UNUSED, 68))
        while True:
            packet, (_, _, kind, _, _) = ear.recvfrom(2048)
            if packet.endswith(b"for you"):
                break
    assert kind == 0  # PACKET_HOST: by its hardware address, and not by everybody's


def test_a_neighbour_of_no_interface_is_refused(hosts: Hosts) -> None:
    server, _ = hosts
    with server.inside():
        for index in (0, 9999):
            assert not Interfaces().set_neighbour(UNUSED, STRANGER, Via(SERVER, index, SERVER))


def arp_answers(host: Host, address: str) -> None:
    """*host* answers ARP for *address* too."""
    subprocess.run(["ip", "-n", host.name, "addr", "add", f"{address}/32", "dev", "c0"], check=True)


@pytest.fixture
def proxy(hosts: Hosts) -> Iterator[list[str]]:
    """The client's end answers for ten addresses that it really has, which can't be distinguished from proxy ARP."""
    addresses = [f"10.9.0.{number}" for number in range(100, 110)]
    for address in addresses:
        arp_answers(hosts[1], address)
    yield addresses
    for address in addresses:
        subprocess.run(["ip", "-n", hosts[1].name, "addr", "del", f"{address}/32", "dev", "c0"], check=True)


def test_hardware_that_answers_for_one_address_after_the_other_proves_nothing(
    hosts: Hosts, private_reactor: EPollReactor, turn_until: TurnUntil, proxy: list[str]
) -> None:
    found: Found = []
    results: list[str | None] = []
    with hosts[0].inside():
        probe = ArpProbe(private_reactor, 0.1, lambda *seen: found.append(seen))
    for number, address in enumerate(proxy, 1):
        probe.start(address, results.append, interface="s0", server=SERVER, client=STRANGER)
        turn_until(has(results, number))
    probe.close()

    who = mac(hosts[1], "c0")
    assert results == [who, who, who] + [None] * 7
    assert found == [("s0", who, tuple(proxy[:4]))]


def test_machine_with_several_addresses_is_not_proxy_arp(
    hosts: Hosts, private_reactor: EPollReactor, turn_until: TurnUntil, proxy: list[str]
) -> None:
    found: Found = []
    results: list[str | None] = []
    with hosts[0].inside():
        probe = ArpProbe(private_reactor, 0.05, lambda *seen: found.append(seen))
    asked = [*proxy[:3], UNUSED, *proxy[3:6], UNUSED, *proxy[6:9]]
    for number, address in enumerate(asked, 1):
        probe.start(address, results.append, interface="s0", server=SERVER, client=STRANGER)
        turn_until(has(results, number))
    probe.close()

    assert [user is not None for user in results] == [address != UNUSED for address in asked]
    assert found == []
