"""What a server begins with, and where it refuses to begin."""

import socket
from collections.abc import Callable
from typing import Any, NoReturn

import leasing as clients
import pytest
from leasing import BEGIN, SERVER, Machine, subnet
from narrowing import of_type, present
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer

from bootfw.config.settings import DHCP6Settings, DHCPSettings, Settings
from bootfw.dhcp.answer import Answer
from bootfw.dhcp.subnet import Subnet
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.errors import FileMissing, StateError
from bootfw.events import Event, ProxyARPSeen
from bootfw.interfaces import IBackend
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.net.dhcp import leasing
from bootfw.net.dhcp.leasing import Leasing, required_networks
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.testing.network import MemoryHost
from bootfw.values import Client, TransferRequest
from bootfw.wire.dhcp4 import pack, parse


def settings(*subnets: Subnet, **others: Any) -> DHCPSettings:
    return DHCPSettings(mode="server", subnets=subnets or (subnet(),), **others)


@pytest.fixture
def host() -> MemoryHost:
    return MemoryNetwork().host(SERVER)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_the_server_loads_the_leases_of_the_store(host: MemoryHost, store: MemoryStore) -> None:
    client = Machine(1, clients.server())
    key = b"h\1" + client.chaddr
    store.commit([Lease("10.77.0.105", key, client.mac, LeaseState.ACTIVE, BEGIN, BEGIN + 3600)])
    store.save_reservations([Reservation("10.77.0.7", mac="02:00:00:00:00:02")])
    server = Leasing(host, store, settings(), lambda event: None).server

    assert clients.address(Machine(1, server).discovers(), clients.OFFER) == "10.77.0.105"
    assert clients.address(Machine(2, server).discovers(), clients.OFFER) == "10.77.0.7"


def test_the_machine_that_has_a_valid_lease(host: MemoryHost, store: MemoryStore) -> None:
    def lease(number: int, mac: str, state: LeaseState = LeaseState.ACTIVE, expires: float = BEGIN + 3600) -> Lease:
        return Lease(f"10.77.0.{number}", b"h\1" + bytes([number]), mac, state, BEGIN, expires)

    mac = "02:00:00:00:00:01"
    released, expired = lease(102, mac, LeaseState.RELEASED), lease(103, mac, expires=BEGIN)
    store.commit([lease(101, mac), released, expired, lease(104, "")])
    leasing = Leasing(host, store, settings(), lambda event: None)
    found = [leasing.leased_to(f"10.77.0.{number}") for number in range(101, 106)]
    assert found == [mac, "", "", "", ""]
    assert leasing.leased_to("10.78.0.1") == leasing.leased_to("fd00::1") == ""
    assert list(leasing.leased()) == [("10.77.0.101", mac)]


def test_a_reservation_outside_all_subnets_is_skipped_and_logged(host: MemoryHost, store: MemoryStore) -> None:
    store.save_reservations([Reservation("192.168.1.7", mac="02:00:00:00:00:02")])
    with capturedLogs() as logs:
        Leasing(host, store, settings(), lambda event: None)
    assert [str(event["error"]) for event in logs] == ["192.168.1.7 is in no subnet"]


def test_server_gets_the_settings_of_the_configuration(host: MemoryHost, store: MemoryStore) -> None:
    server = Leasing(host, store, settings(authoritative=True, identify_by="client-id"), lambda event: None).server
    client = Machine(1, server, {61: b"\0one"})

    assert clients.address(client.restarts_with("10.77.0.103")) == "10.77.0.103"
    assert [lease.client for lease in server.leases()] == [b"i\0one"]


class Closing(MemoryStore):
    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)

    def reservations(self) -> NoReturn:
        raise StateError("not readable")


def test_unreadable_store_is_closed(host: MemoryHost) -> None:
    store = Closing()
    with pytest.raises(StateError, match="not readable"):
        Leasing(host, store, settings(), lambda event: None)
    assert store.closed


def test_addresses_in_quarantine_by_proxy_arp_are_released(host: MemoryHost, store: MemoryStore) -> None:
    said: list[Event] = []
    made = Leasing(host, store, settings(), said.append)
    taken = [clients.address(Machine(number, made.server).discovers(), clients.OFFER) for number in (1, 2)]
    for address in taken:
        made.server.probe_finished(address, True, BEGIN)
    declined = Machine(3, made.server).boots_and_declines()

    made.proxy_found("eth0", "02:00:00:00:00:66", (*taken, declined, "10.77.0.109"))

    assert [present(made.server.lease(address)).state for address in taken] == [LeaseState.RELEASED] * 2
    assert present(made.server.lease(declined)).state is LeaseState.DECLINED
    assert sorted(lease.address for lease in store.load()) == taken
    [event] = [of_type(ProxyARPSeen, each) for each in said]
    assert (event.interface, event.mac) == ("eth0", "02:00:00:00:00:66")


def test_reservations_are_loaded_by_the_server_of_their_family(host: MemoryHost, store: MemoryStore) -> None:
    store.save_reservations(
        [
            Reservation("10.77.0.7", mac="02:00:00:00:00:02"),
            Reservation("fd77::7", mac="02:00:00:00:00:02"),
            Reservation("fd78::7", mac="02:00:00:00:00:03"),
        ]
    )
    six = settings6(Subnet6(network="fd77::/64"))
    with capturedLogs() as logs:
        made = Leasing(host, store, settings(), lambda event: None, six)
    assert [str(event["error"]) for event in logs] == ["fd78::7 is in no subnet"]
    assert [reservation.address for reservation in made.server.reservations()] == ["10.77.0.7"]
    assert [reservation.address for reservation in present(made.server6).reservations()] == ["fd77::7"]
    with capturedLogs() as logs:
        Leasing(host, store, settings(), lambda event: None)
    assert len(logs) == 2


def test_changed_settings_keep_the_leases_of_both_families(host: MemoryHost, store: MemoryStore) -> None:
    now = host.seconds()
    kept = [
        Lease(address, client, "", LeaseState.ACTIVE, now, now + 3600)
        for address, client in (("10.77.0.105", b"h\1one"), ("fd77::105", b"one"), ("fd78::105", b"two"))
    ]
    store.commit(kept)
    both = settings6(Subnet6(network="fd77::/64"), Subnet6(network="fd78::/64"))
    made = Leasing(host, store, settings(), lambda event: None, both)
    made.use(settings(subnet(lease_seconds=60)), settings6(Subnet6(network="fd77::/64")))
    assert set(made._leases()) == set(kept), "a clock that is set stores all of them again"
    assert [lease.address for lease in made.server.leases()] == ["10.77.0.105"]
    assert [lease.address for lease in present(made.server6).leases()] == ["fd77::105"]
    made.use(settings(), DHCP6Settings())
    assert [made.server6] == [None]
    made.use(settings(), both)
    assert {lease.address for lease in present(made.server6).leases()} == {"fd77::105", "fd78::105"}
    assert set(made._leases()) == set(kept)


# Networks that are not ours

ELSEWHERE = "203.0.113.0/24"  # RFC 5737: nobody has it
HERE = "127.0.0.0/8"


def awaited(dhcp: DHCPSettings, dhcp6: DHCP6Settings | None = None) -> dict[str, str]:
    """Network -> what is missing for it."""
    return {address[0]: missing() for _, address, missing in required_networks(dhcp, dhcp6 or DHCP6Settings())}


def test_network_without_a_local_address_is_waited_for() -> None:
    found = awaited(settings(Subnet(network=HERE), Subnet(network=ELSEWHERE)))
    assert found[HERE] == ""
    assert "127.0.0.1" in found[ELSEWHERE]
    assert found[ELSEWHERE].endswith('name these ("relays") or set foreign-networks in [dhcp]')


@pytest.mark.parametrize(
    "told",
    [
        settings(Subnet(network=ELSEWHERE), foreign_networks=True),
        settings(Subnet(network=ELSEWHERE, relays=["198.51.100.1"])),
        settings(Subnet(network=ELSEWHERE, shared_network="lab"), Subnet(network=HERE, shared_network="lab")),
        settings(Subnet(network=HERE)),
    ],
    ids=["told so", "relays", "shared", "ours"],
)
def test_foreign_networks_setting_allows_a_foreign_pool(told: DHCPSettings) -> None:
    assert not any(awaited(told).values())


# Probing


def barred(way: str) -> Callable[..., None]:
    def make(reactor: EPollReactor, seconds: float, *found: Callable[..., Any]) -> None:
        raise PermissionError(1, f"no {way}")

    return make


@pytest.mark.parametrize(
    ("ways", "said"),
    [
        (["ArpProbe"], ["on our links, by ARP (no ArpProbe)"]),
        (["IcmpProbe"], ["behind relays, by ping (no IcmpProbe)"]),
        (["ArpProbe", "IcmpProbe"], ["on our links, by ARP (no ArpProbe); behind relays, by ping (no IcmpProbe)"]),
    ],
    ids=["no ARP", "no ping", "neither"],
)
def test_networks_without_probes_are_logged_once(
    private_reactor: EPollReactor,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    ways: list[str],
    said: list[str],
) -> None:
    for way in ("ArpProbe", "IcmpProbe"):
        monkeypatch.setattr(leasing, way, barred(way) if way in ways else lambda *arguments: None)
    with capturedLogs() as logs:
        Leasing(private_reactor, store, settings(Subnet(network=HERE)), lambda event: None)
    assert [event["where"] for event in logs] == said
    assert [event["log_level"].name for event in logs] == ["warn"]


def test_without_conflict_detection_no_probe_socket_is_opened(
    private_reactor: EPollReactor, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for way in ("ArpProbe", "IcmpProbe"):
        monkeypatch.setattr(leasing, way, barred(way))
    with capturedLogs() as logs:
        made = Leasing(private_reactor, store, settings(Subnet(network=HERE), probe_seconds=0), lambda event: None)
    assert (made.probe, made.ping, logs) == (None, None, [])


@pytest.mark.parametrize("seconds", [0, 0.2])
def test_addresses_are_probed_if_that_is_configured(store: MemoryStore, seconds: float) -> None:
    made = Leasing(Clock(), store, settings(subnet(), probe_seconds=seconds), lambda event: None)
    assert of_type(Answer, Machine(1, made.server).discovers()).probe == bool(seconds)


def test_the_sockets_of_probes_are_closed(
    private_reactor: EPollReactor, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[object] = []

    class Asking:
        def __init__(self, reactor: EPollReactor, seconds: float, *found: Callable[..., Any]) -> None:
            assert seconds == 0.2

        def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr(leasing, "ArpProbe", Asking)
    monkeypatch.setattr(leasing, "IcmpProbe", Asking)
    made = Leasing(private_reactor, store, settings(Subnet(network=HERE)), lambda event: None)
    made.close()
    assert closed == [made.probe, made.ping]


ELSEWHERE6 = "2001:db8::/32"  # RFC 3849: nobody has it
HERE6 = "fd77::/64"


def settings6(*subnets: Subnet6, **others: Any) -> DHCP6Settings:
    return DHCP6Settings(mode="server", subnets=subnets, **others)


@pytest.fixture
def addressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the address fd77::1; the one that runs the tests may have none."""
    own = {socket.AF_INET: {"127.0.0.1"}, socket.AF_INET6: {"fd77::1", "::1"}}
    monkeypatch.setattr(leasing, "own_addresses", lambda family: frozenset(own[family]))


def test_ipv6_network_without_a_local_address_is_waited_for(addressed: None) -> None:
    told = settings6(Subnet6(network=HERE6), Subnet6(network=ELSEWHERE6))
    assert awaited(DHCPSettings(), told) == {
        HERE6: "",
        ELSEWHERE6: 'this host has: ::1, fd77::1; if its clients are behind relays, name these ("relays") or set '
        "foreign-networks in [dhcp6]",
    }


@pytest.mark.parametrize(
    "told",
    [
        settings6(Subnet6(network=ELSEWHERE6), foreign_networks=True),
        settings6(Subnet6(network=ELSEWHERE6, relays=["fd99::1"])),
        settings6(Subnet6(network=HERE6)),
        DHCP6Settings(mode="proxy"),
    ],
    ids=["told so", "relays", "ours", "proxy"],
)
def test_foreign_networks_setting_allows_a_foreign_ipv6_pool(told: DHCP6Settings, addressed: None) -> None:
    assert not any(awaited(DHCPSettings(), told).values())


def test_foreign_networks_setting_holds_for_its_family_only(addressed: None) -> None:
    here = settings(Subnet(network=HERE), foreign_networks=True)
    assert list(awaited(here, settings6(Subnet6(network=ELSEWHERE6)))) == [ELSEWHERE6]
    there = settings6(Subnet6(network=ELSEWHERE6), foreign_networks=True)
    assert list(awaited(settings(Subnet(network=ELSEWHERE)), there)) == [ELSEWHERE]


def test_networks_are_not_waited_for_if_local_addresses_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    assert awaited(settings(Subnet(network=ELSEWHERE))) == {ELSEWHERE: ""}


# As a service


def test_leases_survive_a_restart_of_the_service() -> None:
    network = MemoryNetwork()
    service = BootService(
        network.host(SERVER, rich=True),
        settings=Settings(dhcp=settings()),
        store=MemoryStore(),
    )
    client = FakePeer(network.host(), 68)
    offered: list[str] = []
    for _ in range(2):
        service.startService()
        assert "dhcp" in [row.service for row in service.summary()]
        machine = Machine(1, clients.server())
        for message in (machine.message(1), machine.message(3, {50: b"\x0a\x4d\0\x64", 54: b"\x0a\x4d\0\1"})):
            client.send(pack(message), ("255.255.255.255", 67))
            network.advance(0.1)
        offered += [parse(received.data).yiaddr for received in client.take() if received.data[0] == 2]
        stopped = service.stopService()
        network.advance(0)
        assert stopped.called

    assert offered == ["10.77.0.100"] * 4
    client.close()
    network.advance(0)
    assert network.leaks() == []


@implementer(IBackend)
class ForSystems:
    """It has files for installed systems."""

    for_systems = True

    def open(self, path: str, request: TransferRequest) -> NoReturn:
        raise FileMissing()


class JoiningWorkers(Service):
    """What the workers get from the service."""

    def join(self, *others: Any, shared_state: Callable[[], list[tuple[str, tuple[Any, ...]]]], **more: Any) -> None:
        self.shared_state = shared_state

    def clients(self) -> list[Client]:
        """What a worker that starts now gets to know of clients."""
        return [values[0] for kind, values in self.shared_state() if kind == "client"]


@pytest.mark.parametrize(("backends", "shared"), [([ForSystems()], True), ([], False)], ids=["for systems", "not"])
def test_workers_learn_the_leases_of_systems_that_a_backend_is_for(backends: list[Any], shared: bool) -> None:
    network, machine, before = MemoryNetwork(), Machine(1, clients.server()), Machine(2, clients.server())
    store = MemoryStore()
    key = b"h\1" + before.chaddr
    store.commit([Lease("10.77.0.105", key, before.mac, LeaseState.ACTIVE, BEGIN, BEGIN + 3600)])
    sent: list[tuple[str, Any]] = []
    service = BootService(
        network.host(SERVER, rich=True),
        settings=Settings(dhcp=settings()),
        backends=backends,
        store=store,
        broadcast=lambda kind, *values: sent.append((kind, *values)),
    )
    workers: Any = JoiningWorkers()
    service.add_workers(workers)
    service.startService()
    assert workers.clients() == [Client("10.77.0.105", before.mac, leased=True)] * shared
    client = FakePeer(network.host(), 68)
    for message in (machine.message(1), machine.message(3, {50: b"\x0a\x4d\0\x64", 54: b"\x0a\x4d\0\1"})):
        client.send(pack(message), ("255.255.255.255", 67))
        network.advance(0.1)
    assert sent == [("client", Client("10.77.0.100", machine.mac, leased=True))] * shared
    stopped = service.stopService()
    client.close()
    network.advance(0)
    assert stopped.called
