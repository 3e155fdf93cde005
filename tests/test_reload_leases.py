"""A DHCP server whose subnets, pools, options and classes change while clients have leases."""

from collections.abc import Iterator
from socket import inet_aton
from typing import Any

import firmware
import pytest
from attrs import define, evolve
from leasing import subnet
from narrowing import present
from observers import EventList
from twisted.internet.defer import Deferred
from zope.interface import implementer

from bootfw.config.settings import DHCP6Settings, DHCPSettings, Settings, TFTPSettings
from bootfw.dhcp.hostclass import HostClass
from bootfw.dhcp.subnet import Host, Subnet
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.errors import StateError
from bootfw.events import RequestIgnored
from bootfw.interfaces import IBootFileResolver
from bootfw.lease import LeaseState
from bootfw.net.dhcp.server6 import Server6
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.values import BootFile
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire.dhcp4 import BOOTREQUEST, Message, MessageType, pack, parse

SERVER = "10.77.0.1"
DISCOVER, REQUEST = 1, 3
OFFER, ACK, NAK = MessageType.OFFER, MessageType.ACK, MessageType.NAK
LEASE_TIME, NTP = 51, 42


@define(eq=False)
class Lab:
    """A server, and the link of its clients."""

    network: MemoryNetwork
    service: BootService
    store: MemoryStore
    observer: EventList

    def reload(self, *subnets: Subnet, **dhcp_changes: Any) -> None:
        settings = self.service.settings
        dhcp = evolve(settings.dhcp, subnets=subnets, **dhcp_changes)
        self.service.reload(evolve(settings, dhcp=dhcp), [], [], Fixed())

    def client(self, number: int, **header: Any) -> "Client":
        return Client(self, number, header)

    def states(self) -> dict[str, LeaseState]:
        return {lease.address: lease.state for lease in self.store.load()}


@define(eq=False)
class Client:
    """A DHCP client: one network interface of an operating system."""

    lab: Lab
    number: int
    header: dict[str, Any]
    address: str = ""

    def send(
        self, host_class: int, options: dict[int, bytes] | None = None, to: str = "255.255.255.255", **header: Any
    ) -> Any:
        """Send a message; the reply, or None if there is none."""
        host = self.lab.network.host(*([self.address] if self.address else []))
        port = FakePeer(host, 67 if self.header else 68)
        chaddr = b"\2\0" + self.number.to_bytes(4, "big")
        fields = {"op": BOOTREQUEST, "xid": self.number, "chaddr": chaddr, "flags": 0x8000, **self.header, **header}
        message = Message(**fields, options={53: bytes((host_class,)), 55: bytes((1, 3, NTP)), **(options or {})})
        port.send(pack(message, 548), (to, 67))
        self.lab.network.advance(0.01)
        replies = [parse(received.data) for received in port.take() if received.data[0] == 2]
        port.close()
        self.lab.network.hosts.remove(host)
        return replies[0] if replies else None

    def offered(self) -> str:
        reply = self.send(DISCOVER)
        assert reply.message_type is OFFER
        address: str = reply.yiaddr
        return address

    def selects(self, address: str) -> Any:
        return self.send(REQUEST, {50: inet_aton(address), 54: inet_aton(SERVER)})

    def get_lease_by_relay(self) -> str:
        address = self.offered()
        assert self.selects(address).message_type is ACK
        return address

    def get_lease(self) -> str:
        address = self.offered()
        assert self.selects(address).message_type is ACK
        self.address = address
        return address

    def renews(self) -> Any:
        """Renew the lease by unicast; the ACK or NAK."""
        return self.send(REQUEST, to=SERVER, ciaddr=self.address, flags=0)


@pytest.fixture
def lab() -> Iterator[Lab]:
    network, store, observer = MemoryNetwork(), MemoryStore(), EventList()
    host = network.host(SERVER, rich=True)
    settings = Settings(
        tftp=TFTPSettings(listen=()),
        dhcp=DHCPSettings(mode="server", subnets=(subnet(), other_subnet()), foreign_networks=True),
    )
    service = BootService(host, settings=settings, store=store, observers=[observer])
    service.startService()
    yield Lab(network, service, store, observer)
    network.result_of(service.stopService())
    assert network.leaks() == []


def other_subnet(**changed: Any) -> Subnet:
    """10.78.0.0/24 with a pool of one address."""
    return Subnet(**{"network": "10.78.0.0/24", "pool": ["10.78.0.100"], "relays": ["10.78.0.1"], **changed})


def test_a_client_gets_the_new_options_when_it_renews_after_a_reload(lab: Lab) -> None:
    client = lab.client(1)
    address = client.get_lease()
    before = client.renews()
    port = lab.network.hosts[0].port_for(SERVER, 67)
    lab.reload(subnet(lease_seconds=7200, options={"ntp-servers": "10.77.0.5"}), other_subnet())
    assert lab.network.hosts[0].port_for(SERVER, 67) is port
    after = client.renews()
    assert (before.message_type, after.message_type, after.yiaddr) == (ACK, ACK, address)
    assert (before.options[LEASE_TIME], after.options[LEASE_TIME]) == (
        (3600).to_bytes(4, "big"),
        (7200).to_bytes(4, "big"),
    )
    assert (before.options.get(NTP), after.options[NTP]) == (None, inet_aton("10.77.0.5"))
    assert lab.client(2).get_lease() != address, "it is still leased"
    [record] = [each for each in lab.service.operations()["leases"]({}) if each["address"] == address]
    assert record["mac"] == "02:00:00:00:00:01"


def test_a_class_and_a_reservation_are_applied(lab: Lab) -> None:
    host_class = HostClass(vendor_class="phone", options={"ntp-servers": "10.77.0.6"})
    reserved = subnet(hosts=[Host(mac="02:00:00:00:00:03", address="10.77.0.9")])
    lab.reload(reserved, other_subnet(), classes=(host_class,))
    assert lab.client(3).get_lease() == "10.77.0.9"
    reply = lab.client(4).send(DISCOVER, {60: b"phone"})
    assert reply.options[NTP] == inet_aton("10.77.0.6")


def test_an_ignored_client_gets_no_reply_after_the_reload(lab: Lab) -> None:
    client = lab.client(1)
    client.get_lease()
    lab.reload(subnet(), other_subnet(), ignore=["02:00:00:00:00:01"])
    assert client.renews() is client.send(DISCOVER) is None
    lab.reload(subnet(), other_subnet(), ignore=[])
    assert client.renews().message_type is ACK


def test_a_new_lease_time_of_a_host_counts_from_its_next_renewal(lab: Lab) -> None:
    client = lab.client(1)
    client.get_lease()
    lab.reload(subnet(hosts=[Host(mac="02:00:00:00:00:01", lease_seconds=86400)]), other_subnet())
    assert client.renews().options[LEASE_TIME] == (86400).to_bytes(4, "big")


def test_a_client_whose_address_is_in_no_pool_any_more_moves_when_it_renews(lab: Lab) -> None:
    client = lab.client(1)
    assert client.get_lease() == "10.77.0.100"
    lab.reload(subnet(pool=["10.77.0.150-10.77.0.159"]), other_subnet())
    assert client.renews().message_type is NAK
    assert client.get_lease() == "10.77.0.150"
    assert client.renews().message_type is ACK
    assert lab.states() == {"10.77.0.100": LeaseState.RELEASED, "10.77.0.150": LeaseState.ACTIVE}


def test_an_offer_is_kept_for_its_client(lab: Lab) -> None:
    client, second = lab.client(1), lab.client(2)
    address = client.offered()
    lab.reload(subnet(lease_seconds=7200), other_subnet())
    assert second.offered() != address
    reply = client.selects(address)
    assert (reply.message_type, reply.yiaddr) == (ACK, address)


def test_an_offer_of_an_address_that_is_not_given_any_more_is_refused(lab: Lab) -> None:
    client = lab.client(1)
    address = client.offered()
    lab.reload(subnet(pool=["10.77.0.150-10.77.0.159"]), other_subnet())
    assert client.selects(address).message_type is NAK
    assert client.get_lease() == "10.77.0.150"


def test_a_lease_of_a_subnet_that_is_dropped_ends_by_its_time(lab: Lab) -> None:
    """As with Kea: the server does not answer there, and the lease stays in the store."""
    client = lab.client(1, giaddr="10.78.0.1")
    client.address = "10.78.0.1"  # replies go to the relay
    address = client.get_lease_by_relay()
    lab.reload(subnet())
    assert client.send(DISCOVER) is None
    assert [event.mac for event in lab.observer.events if isinstance(event, RequestIgnored)] == ["02:00:00:00:00:01"]
    assert lab.states() == {address: LeaseState.ACTIVE}


def test_a_boot_client_of_a_network_that_is_not_served_is_an_event_with_its_request(lab: Lab) -> None:
    lab.reload(subnet())
    client = lab.client(1, giaddr="10.78.0.1")
    client.address = "10.78.0.1"
    assert client.send(DISCOVER, dict(firmware.BIOS_ROM.options)) is None
    [ignored] = [event for event in lab.observer.events if isinstance(event, RequestIgnored)]
    assert ignored.reason == "no subnet is configured for its link: 10.78.0.1"
    assert ignored.request is not None
    assert (ignored.request.mac, ignored.request.relay_address) == ("02:00:00:00:00:01", "10.78.0.1")


def test_a_lease_counts_again_when_its_subnet_comes_back(lab: Lab) -> None:
    client, second = lab.client(1, giaddr="10.78.0.1"), lab.client(2, giaddr="10.78.0.1")
    client.address = second.address = "10.78.0.1"
    address = client.get_lease_by_relay()
    lab.reload(subnet())
    lab.reload(subnet(lease_seconds=7200))
    lab.reload(subnet(), other_subnet())
    assert second.send(DISCOVER) is None, "the only address is leased"
    reply = client.selects(address)
    assert (reply.message_type, reply.yiaddr) == (ACK, address)


def test_a_lease_that_has_ended_meanwhile_does_not_come_back(lab: Lab) -> None:
    client, second = lab.client(1, giaddr="10.78.0.1"), lab.client(2, giaddr="10.78.0.1")
    client.address = second.address = "10.78.0.1"
    address = client.get_lease_by_relay()
    lab.reload(subnet())
    lab.network.advance(3601)
    lab.reload(subnet(), other_subnet())
    assert lab.service.lease_counts()[0]["10.78.0.0/24", "expired"] == 0
    assert second.get_lease_by_relay() == address


def test_a_reservation_that_was_made_while_running_stays(lab: Lab) -> None:
    lab.network.result_of(lab.service.operations()["reserve"]({"address": "10.77.0.8", "mac": "02:00:00:00:00:05"}))
    lab.reload(subnet(lease_seconds=7200), other_subnet())
    assert lab.client(5).get_lease() == "10.77.0.8"
    listed = {each["address"]: each["origin"] for each in lab.service.operations()["reservations"]({})}
    assert listed == {"10.77.0.8": "command"}


def test_lease_counts_are_of_the_new_subnets(lab: Lab) -> None:
    lab.client(1).get_lease()
    lab.reload(subnet(pool=["10.77.0.100-10.77.0.101"]))
    leases, free = lab.service.lease_counts()
    assert (leases["10.77.0.0/24", "active"], free) == (1, {("10.77.0.0/24",): 1})


# From a proxy to a server, and back


@implementer(IBootFileResolver)
@define(eq=False)
class NamingResolver:
    """Names one file, at once or when the test fires ``answer``."""

    answer: "Deferred[Any] | None" = None

    def resolve(self, request: Any) -> Any:
        return BootFile("boot.0") if self.answer is None else self.answer


@define(eq=False)
class Store(MemoryStore):
    """A store that can't be read while ``error`` is set."""

    error: StateError | None = None

    def load(self) -> Any:
        if self.error is not None:
            raise self.error
        return super().load()


def switch_to_proxy(lab: Lab, resolver: Any) -> None:
    settings = evolve(lab.service.settings, dhcp=DHCPSettings(mode="proxy"))
    lab.service.reload(settings, [], [resolver], Fixed())


def switch_to_server(lab: Lab, *resolvers: Any) -> None:
    dhcp = DHCPSettings(mode="server", subnets=(subnet(),), foreign_networks=True)
    lab.service.reload(evolve(lab.service.settings, dhcp=dhcp), [], resolvers, Fixed())


def offer_to_bios(lab: Lab) -> tuple[str, str]:
    """(address, boot file) of the OFFER to a BIOS client; ("", "") if there is none."""
    port = FakePeer(lab.network.host(), 68)
    port.send(firmware.BIOS_ROM.datagram(), ("255.255.255.255", 67))
    lab.network.advance(0.01)
    offers = [parse(received.data) for received in port.take() if received.data[0] == 2]
    port.close()
    name = (offers[0].options.get(67) or offers[0].file).rstrip(b"\0").decode() if offers else ""
    return (offers[0].yiaddr, name) if offers else ("", "")


@pytest.fixture
def proxy() -> Iterator[Lab]:
    network, store, observer = MemoryNetwork(), Store(), EventList()
    settings = Settings(tftp=TFTPSettings(listen=()))
    host = network.host(SERVER, rich=True)
    service = BootService(host, settings=settings, resolvers=[NamingResolver()], store=store, observers=[observer])
    service.startService()
    yield Lab(network, service, store, observer)
    network.result_of(service.stopService())
    assert network.leaks() == []


def test_a_server_becomes_a_proxy_and_a_server_again_on_the_same_port(lab: Lab) -> None:
    client = lab.client(1)
    address = client.get_lease()
    port = lab.network.hosts[0].port_for(SERVER, 67)
    switch_to_proxy(lab, NamingResolver())
    assert offer_to_bios(lab) == ("0.0.0.0", "boot.0")
    assert (client.renews(), lab.client(2).send(DISCOVER)) == (None, None)
    assert "leases" not in lab.service.operations()
    assert lab.states() == {address: LeaseState.ACTIVE}
    switch_to_server(lab)
    reply = client.renews()
    assert (reply.message_type, reply.yiaddr) == (ACK, address)
    assert lab.client(2).get_lease() != address
    assert "leases" in lab.service.operations()
    assert lab.network.hosts[0].port_for(SERVER, 67) is port


def test_a_proxy_becomes_a_server_with_the_leases_of_its_store(lab: Lab, proxy: Lab) -> None:
    lab.client(6).get_lease()
    address = lab.client(7).get_lease()
    proxy.store.commit(tuple(lab.store.load()))
    assert offer_to_bios(proxy) == ("0.0.0.0", "boot.0")
    switch_to_server(proxy, NamingResolver())
    assert offer_to_bios(proxy) == ("10.77.0.102", "boot.0"), "the first two addresses are leased"
    assert proxy.client(7).get_lease() == address


def test_a_store_that_can_not_be_read_leaves_the_proxy_as_it_was(proxy: Lab) -> None:
    assert isinstance(proxy.store, Store)
    proxy.store.error = StateError("the disk is broken")
    with pytest.raises(StateError, match="the disk is broken"):
        switch_to_server(proxy)
    assert offer_to_bios(proxy) == ("0.0.0.0", "boot.0")
    assert "leases" not in proxy.service.operations()
    proxy.store.error = None
    switch_to_server(proxy)
    assert proxy.client(1).get_lease() == "10.77.0.100"


def test_a_change_of_the_mode_that_is_abandoned_changes_nothing(proxy: Lab) -> None:
    dhcp = DHCPSettings(mode="server", subnets=(subnet(),), foreign_networks=True)
    prepared = proxy.service.prepare(evolve(proxy.service.settings, dhcp=dhcp), [], [NamingResolver()], Fixed())
    assert offer_to_bios(proxy) == ("0.0.0.0", "boot.0")
    proxy.service.abandon(prepared)
    assert offer_to_bios(proxy) == ("0.0.0.0", "boot.0")
    switch_to_server(proxy)
    assert proxy.client(1).get_lease() == "10.77.0.100"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_request_that_waits_is_answered_by_the_proxy_that_got_it(proxy: Lab, stopped: bool) -> None:
    waiting = NamingResolver(Deferred())
    switch_to_proxy(proxy, waiting)
    port = FakePeer(proxy.network.host(), 68)
    port.send(firmware.BIOS_ROM.datagram(), ("255.255.255.255", 67))
    proxy.network.advance(0.01)
    switch_to_server(proxy)
    assert proxy.client(1).get_lease() == "10.77.0.100"
    if stopped:
        proxy.network.result_of(proxy.service.stopService())
    else:
        assert waiting.answer is not None
        waiting.answer.callback(BootFile("late.0"))
        proxy.network.advance(0.01)
        [offer] = [each for each in map(parse, (received.data for received in port.take())) if each.xid == firmware.XID]
        assert (offer.yiaddr, offer.file.rstrip(b"\0")) == ("0.0.0.0", b"late.0")
        proxy.network.advance(2)
    port.close()
    proxy.network.advance(0)


@pytest.fixture
def server6() -> Iterator[BootService]:
    """A server of DHCPv6 only."""
    network = MemoryNetwork()
    settings = Settings(tftp=TFTPSettings(listen=()), dhcp6=dhcp6("fd77::100-fd77::1ff"))
    service = BootService(network.host("fd77::1", SERVER, rich=True), settings=settings, store=MemoryStore())
    service.startService()
    yield service
    network.result_of(service.stopService())
    assert network.leaks() == []


def dhcp6(pool: str) -> DHCP6Settings:
    return DHCP6Settings(mode="server", subnets=(Subnet6(network="fd77::/64", pool=[pool]),), foreign_networks=True)


def test_a_server_of_dhcpv6_gives_addresses_of_the_new_pool(server6: BootService) -> None:
    (protocol,) = [binding.protocol for binding in server6._bindings if isinstance(binding.protocol, Server6)]
    server6.reload(evolve(server6.settings, dhcp6=dhcp6("fd77::300-fd77::3ff")), [], [], Fixed())
    assert protocol._addresses is present(server6._leasing).server6
    (subnet6,) = [each for book in protocol._addresses.books for each in book.subnets]
    assert subnet6 in server6.settings.dhcp6.subnets


def test_conflict_detection_begins_when_a_reload_adds_dhcpv4(
    server6: BootService, monkeypatch: pytest.MonkeyPatch
) -> None:
    detected: list[DHCPSettings] = []
    monkeypatch.setattr(present(server6._leasing), "detect_conflicts", detected.append)
    dhcp = DHCPSettings(mode="server", subnets=(subnet(),), foreign_networks=True)
    server6.reload(evolve(server6.settings, dhcp=dhcp), [], [], Fixed())
    assert detected == [dhcp]
