"""The start of the DHCP servers: their leases and settings, the networks that they wait for, and their probes."""

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
from bootfw.net.dhcp import leasing as leasing_module
from bootfw.net.dhcp.leasing import Leasing, required_networks
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.testing.network import MemoryHost
from bootfw.values import Client, TransferRequest
from bootfw.wire.dhcp4 import pack, parse


def settings(*subnets: Subnet, **options: Any) -> DHCPSettings:
    return DHCPSettings(mode="server", subnets=subnets or (subnet(),), **options)


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


def test_leased_to_is_the_machine_that_has_a_valid_lease(host: MemoryHost, store: MemoryStore) -> None:
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


class UnreadableStore(MemoryStore):
    """A store that fails to read its reservations."""

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)

    def reservations(self) -> NoReturn:
        raise StateError("not readable")


def test_unreadable_store_is_closed(host: MemoryHost) -> None:
    store = UnreadableStore()
    with pytest.raises(StateError, match="not readable"):
        Leasing(host, store, settings(), lambda event: None)
    assert store.closed


def test_addresses_in_quarantine_by_proxy_arp_are_released(host: MemoryHost, store: MemoryStore) -> None:
    events: list[Event] = []
    leasing = Leasing(host, store, settings(), events.append)
    addresses = [clients.address(Machine(number, leasing.server).discovers(), clients.OFFER) for number in (1, 2)]
    for address in addresses:
        leasing.server.probe_finished(address, True, BEGIN)
    declined = Machine(3, leasing.server).get_lease_and_decline()

    leasing.proxy_found("eth0", "02:00:00:00:00:66", (*addresses, declined, "10.77.0.109"))

    assert [present(leasing.server.lease(address)).state for address in addresses] == [LeaseState.RELEASED] * 2
    assert present(leasing.server.lease(declined)).state is LeaseState.DECLINED
    assert sorted(lease.address for lease in store.load()) == addresses
    [event] = [of_type(ProxyARPSeen, each) for each in events]
    assert (event.interface, event.mac) == ("eth0", "02:00:00:00:00:66")


def test_reservations_are_loaded_by_the_server_of_their_family(host: MemoryHost, store: MemoryStore) -> None:
    store.save_reservations(
        [
            Reservation("10.77.0.7", mac="02:00:00:00:00:02"),
            Reservation("fd77::7", mac="02:00:00:00:00:02"),
            Reservation("fd78::7", mac="02:00:00:00:00:03"),
        ]
    )
    dhcp6 = settings6(Subnet6(network="fd77::/64"))
    with capturedLogs() as logs:
        leasing = Leasing(host, store, settings(), lambda event: None, dhcp6)
    assert [str(event["error"]) for event in logs] == ["fd78::7 is in no subnet"]
    assert [reservation.address for reservation in leasing.server.reservations()] == ["10.77.0.7"]
    assert [reservation.address for reservation in present(leasing.server6).reservations()] == ["fd77::7"]
    with capturedLogs() as logs:
        Leasing(host, store, settings(), lambda event: None)
    assert len(logs) == 2


def test_changed_settings_keep_the_leases_of_both_families(host: MemoryHost, store: MemoryStore) -> None:
    now = host.seconds()
    leases = [
        Lease(address, client, "", LeaseState.ACTIVE, now, now + 3600)
        for address, client in (("10.77.0.105", b"h\1one"), ("fd77::105", b"one"), ("fd78::105", b"two"))
    ]
    store.commit(leases)
    dhcp6 = settings6(Subnet6(network="fd77::/64"), Subnet6(network="fd78::/64"))
    leasing = Leasing(host, store, settings(), lambda event: None, dhcp6)
    leasing.use(settings(subnet(lease_seconds=60)), settings6(Subnet6(network="fd77::/64")))
    assert set(leasing._leases()) == set(leases), "a clock that is set stores all of them again"
    assert [lease.address for lease in leasing.server.leases()] == ["10.77.0.105"]
    assert [lease.address for lease in present(leasing.server6).leases()] == ["fd77::105"]
    leasing.use(settings(), DHCP6Settings())
    assert [leasing.server6] == [None]
    leasing.use(settings(), dhcp6)
    assert {lease.address for lease in present(leasing.server6).leases()} == {"fd77::105", "fd78::105"}
    assert set(leasing._leases()) == set(leases)


# Networks without an address of this host

FOREIGN = "203.0.113.0/24"  # RFC 5737: nobody has it
LOCAL = "127.0.0.0/8"


def awaited(dhcp: DHCPSettings, dhcp6: DHCP6Settings | None = None) -> dict[str, str]:
    """Network -> why it is waited for, or "" if it is not."""
    return {address[0]: missing() for _, address, missing in required_networks(dhcp, dhcp6 or DHCP6Settings())}


def test_network_without_a_local_address_is_waited_for() -> None:
    found = awaited(settings(Subnet(network=LOCAL), Subnet(network=FOREIGN)))
    assert found[LOCAL] == ""
    assert "127.0.0.1" in found[FOREIGN]
    assert found[FOREIGN].endswith('name these ("relays") or set foreign-networks in [dhcp]')


@pytest.mark.parametrize(
    "dhcp",
    [
        settings(Subnet(network=FOREIGN), foreign_networks=True),
        settings(Subnet(network=FOREIGN, relays=["198.51.100.1"])),
        settings(Subnet(network=FOREIGN, shared_network="lab"), Subnet(network=LOCAL, shared_network="lab")),
        settings(Subnet(network=LOCAL)),
    ],
    ids=["foreign-networks", "relays", "shared", "local"],
)
def test_foreign_networks_setting_allows_a_foreign_pool(dhcp: DHCPSettings) -> None:
    assert not any(awaited(dhcp).values())


# Probing


def forbidden_probe(name: str) -> Callable[..., None]:
    """Takes the place of a probe whose socket is not permitted."""

    def make(reactor: EPollReactor, seconds: float, *found: Callable[..., Any]) -> None:
        raise PermissionError(1, f"no {name}")

    return make


@pytest.mark.parametrize(
    ("forbidden", "expected"),
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
    forbidden: list[str],
    expected: list[str],
) -> None:
    for name in ("ArpProbe", "IcmpProbe"):
        monkeypatch.setattr(
            leasing_module, name, forbidden_probe(name) if name in forbidden else lambda *arguments: None
        )
    with capturedLogs() as logs:
        Leasing(private_reactor, store, settings(Subnet(network=LOCAL)), lambda event: None)
    assert [event["where"] for event in logs] == expected
    assert [event["log_level"].name for event in logs] == ["warn"]


def test_without_conflict_detection_no_probe_socket_is_opened(
    private_reactor: EPollReactor, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ArpProbe", "IcmpProbe"):
        monkeypatch.setattr(leasing_module, name, forbidden_probe(name))
    with capturedLogs() as logs:
        leasing = Leasing(private_reactor, store, settings(Subnet(network=LOCAL), probe_seconds=0), lambda event: None)
    assert (leasing.probe, leasing.ping, logs) == (None, None, [])


@pytest.mark.parametrize("seconds", [0, 0.2])
def test_addresses_are_probed_if_that_is_configured(store: MemoryStore, seconds: float) -> None:
    leasing = Leasing(Clock(), store, settings(subnet(), probe_seconds=seconds), lambda event: None)
    assert of_type(Answer, Machine(1, leasing.server).discovers()).probe == bool(seconds)


def test_the_sockets_of_probes_are_closed(
    private_reactor: EPollReactor, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[object] = []

    class Probe:
        def __init__(self, reactor: EPollReactor, seconds: float, *found: Callable[..., Any]) -> None:
            assert seconds == 0.2

        def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr(leasing_module, "ArpProbe", Probe)
    monkeypatch.setattr(leasing_module, "IcmpProbe", Probe)
    leasing = Leasing(private_reactor, store, settings(Subnet(network=LOCAL)), lambda event: None)
    leasing.close()
    assert closed == [leasing.probe, leasing.ping]


FOREIGN6 = "2001:db8::/32"  # RFC 3849: nobody has it
LOCAL6 = "fd77::/64"


def settings6(*subnets: Subnet6, **options: Any) -> DHCP6Settings:
    return DHCP6Settings(mode="server", subnets=subnets, **options)


@pytest.fixture
def local_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the address fd77::1; the one that runs the tests may have none."""
    addresses = {socket.AF_INET: {"127.0.0.1"}, socket.AF_INET6: {"fd77::1", "::1"}}
    monkeypatch.setattr(leasing_module, "own_addresses", lambda family: frozenset(addresses[family]))


def test_ipv6_network_without_a_local_address_is_waited_for(local_addresses: None) -> None:
    dhcp6 = settings6(Subnet6(network=LOCAL6), Subnet6(network=FOREIGN6))
    assert awaited(DHCPSettings(), dhcp6) == {
        LOCAL6: "",
        FOREIGN6: 'this host has: ::1, fd77::1; if its clients are behind relays, name these ("relays") or set '
        "foreign-networks in [dhcp6]",
    }


@pytest.mark.parametrize(
    "dhcp6",
    [
        settings6(Subnet6(network=FOREIGN6), foreign_networks=True),
        settings6(Subnet6(network=FOREIGN6, relays=["fd99::1"])),
        settings6(Subnet6(network=LOCAL6)),
        DHCP6Settings(mode="proxy"),
    ],
    ids=["foreign-networks", "relays", "local", "proxy"],
)
def test_foreign_networks_setting_allows_a_foreign_ipv6_pool(dhcp6: DHCP6Settings, local_addresses: None) -> None:
    assert not any(awaited(DHCPSettings(), dhcp6).values())


def test_foreign_networks_setting_holds_for_its_family_only(local_addresses: None) -> None:
    dhcp = settings(Subnet(network=LOCAL), foreign_networks=True)
    assert list(awaited(dhcp, settings6(Subnet6(network=FOREIGN6)))) == [FOREIGN6]
    dhcp6 = settings6(Subnet6(network=FOREIGN6), foreign_networks=True)
    assert list(awaited(settings(Subnet(network=FOREIGN)), dhcp6)) == [FOREIGN]


def test_networks_are_not_waited_for_if_local_addresses_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    assert awaited(settings(Subnet(network=FOREIGN))) == {FOREIGN: ""}


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
    """A backend of files for installed systems."""

    for_systems = True

    def open(self, path: str, request: TransferRequest) -> NoReturn:
        raise FileMissing()


class JoiningWorkers(Service):
    """Takes the place of the workers."""

    def join(
        self, *arguments: Any, shared_state: Callable[[], list[tuple[str, tuple[Any, ...]]]], **options: Any
    ) -> None:
        self.shared_state = shared_state

    def clients(self) -> list[Client]:
        """The clients that a worker is told of when it starts."""
        return [values[0] for kind, values in self.shared_state() if kind == "client"]


@pytest.mark.parametrize(("backends", "shared"), [([ForSystems()], True), ([], False)], ids=["for systems", "not"])
def test_workers_learn_the_leases_of_systems_that_a_backend_is_for(backends: list[Any], shared: bool) -> None:
    network, machine, earlier = MemoryNetwork(), Machine(1, clients.server()), Machine(2, clients.server())
    store = MemoryStore()
    key = b"h\1" + earlier.chaddr
    store.commit([Lease("10.77.0.105", key, earlier.mac, LeaseState.ACTIVE, BEGIN, BEGIN + 3600)])
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
    assert workers.clients() == [Client("10.77.0.105", earlier.mac, leased=True)] * shared
    client = FakePeer(network.host(), 68)
    for message in (machine.message(1), machine.message(3, {50: b"\x0a\x4d\0\x64", 54: b"\x0a\x4d\0\1"})):
        client.send(pack(message), ("255.255.255.255", 67))
        network.advance(0.1)
    assert sent == [("client", Client("10.77.0.100", machine.mac, leased=True))] * shared
    stopped = service.stopService()
    client.close()
    network.advance(0)
    assert stopped.called
