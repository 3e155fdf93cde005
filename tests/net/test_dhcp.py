"""The proxy's DHCPv4 ports, on Twisted's UDP port and on ours: complete exchanges, and failures."""

from collections.abc import Iterator
from typing import Any, TypeVar

import firmware
import pytest
from attrs import define
from dhcpports import boot_server_port, proxy_port
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from bootfw.boot.resolverchain import ResolverChain
from bootfw.config.settings import DHCPSettings
from bootfw.errors import BootRefused
from bootfw.events import (
    DatagramsMalformed,
    Event,
    OfferMade,
    OfferWithheld,
    RequestClassified,
    RequestIgnored,
    ResolverAnswered,
)
from bootfw.interfaces import IBatchReceiver
from bootfw.net.dhcp.port import DHCPPort
from bootfw.net.linux.interfaces import Interfaces
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.values import BootFile, BootRequest, Via
from bootfw.wire.dhcp4 import Message, MessageType, pack, parse

from .bypersona import ByPersona

SERVER = "10.0.0.1"
BROADCAST = "255.255.255.255"
FILES = {
    "ipxe": "boot.ipxe",
    "pxe-bios": "pxelinux.0",
    "uefi": "snponly.efi",
    "uefi-http": "http://{server}/x",
}


_E = TypeVar("_E", bound=Event)


@define(eq=False)
class Lab:
    """The proxy, and a client without an address."""

    network: MemoryNetwork
    resolver: ByPersona
    events: list[Event]
    chain: ResolverChain
    protocols: tuple[DHCPPort, ...]
    client: FakePeer
    serves_http: bool = False

    def own_urls(self, server: str) -> tuple[str, str]:
        return (f"http://{server}:8069" if self.serves_http else "", "")

    def broadcast(self, message: Message | bytes) -> list[Message]:
        """The replies that the client gets on port 68 after it has sent *message*."""
        data = message if isinstance(message, bytes) else pack(message, 1472)
        self.client.send(data, (BROADCAST, 67))
        return self.replies()

    def replies(self, peer: FakePeer | None = None, source: int = 67) -> list[Message]:
        """The replies that *peer*, or the client, gets from port *source* within 10 ms."""
        self.network.advance(0.01)
        datagrams = (peer or self.client).take()
        # The client receives its own broadcasts, too.
        replies = [received for received in datagrams if received.data[0] == 2]
        assert all(received.peer == (SERVER, source) for received in replies)
        return [parse(received.data) for received in replies]

    def events_of(self, kind: type[_E]) -> list[_E]:
        """The events of that kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def reason(self) -> str:
        """The reason of the only OfferWithheld so far."""
        [event] = self.events_of(OfferWithheld)
        return event.reason


@pytest.fixture(params=[True, False], ids=["our port", "Twisted's port"])
def rich(request: pytest.FixtureRequest) -> bool:
    """Whether the server's host has our UDP port, with batches and local addresses."""
    our_port: bool = request.param
    return our_port


@pytest.fixture
def lab(rich: bool) -> Iterator[Lab]:
    network = MemoryNetwork()
    host = network.host(SERVER, "10.0.0.2", rich=rich)
    resolver = ByPersona(FILES)
    events: list[Event] = []
    chain = ResolverChain(host, [("by-persona", resolver)], events.append, 0.8)
    protocols = tuple(
        make_port(
            host, chain, events.append, server="" if rich else SERVER, own_urls=lambda server: dhcp_lab.own_urls(server)
        )
        for make_port in (proxy_port, boot_server_port)
    )
    ports = [host.listenUDP(port, protocol) for port, protocol in zip((67, 4011), protocols, strict=True)]
    dhcp_lab: Lab = Lab(network, resolver, events, chain, protocols, FakePeer(network.host(), 68))
    yield dhcp_lab
    chain.cancel_all()
    for protocol in protocols:
        protocol.close()
    for port in [*ports, *(port for host in network.hosts[1:] for port in host.ports)]:
        port.stopListening()
    network.advance(0)
    assert network.leaks() == []


def boot_client(lab: Lab, port: int) -> FakePeer:
    """The client with the address that the DHCP server has assigned to it."""
    return FakePeer(lab.network.host("10.0.0.9"), port)


def test_ports_are_batch_receivers(lab: Lab) -> None:
    for protocol in lab.protocols:
        verifyObject(IBatchReceiver, protocol)


# Exchanges


def test_bios_rom_gets_the_file_in_the_offer(lab: Lab) -> None:
    [offer] = lab.broadcast(firmware.BIOS_ROM.message())

    assert offer.message_type is MessageType.OFFER
    assert (offer.yiaddr, offer.siaddr, offer.file) == ("0.0.0.0", SERVER, b"pxelinux.0")
    assert offer.options[43] == b"\6\1\x08\xff"
    [event] = lab.events_of(OfferMade)
    assert (event.message, event.file, event.destination) == ("OFFER", BootFile("pxelinux.0"), (BROADCAST, 68))


def test_the_rom_of_qemu_is_ipxe_and_loads_pxelinux(lab: Lab) -> None:
    lab.resolver.files["ipxe"] = "pxelinux.0"

    [offer] = lab.broadcast(firmware.IPXE_ROM.message())

    assert (offer.siaddr, offer.file) == (SERVER, b"pxelinux.0")
    assert 43 not in offer.options


def test_uefi_gets_the_file_on_port_4011(lab: Lab) -> None:
    [offer] = lab.broadcast(firmware.OVMF.message())

    assert (offer.siaddr, offer.file) == (SERVER, b"")
    assert not {43, 67} & offer.options.keys()
    assert lab.events_of(OfferMade)[0].file is None

    machine = boot_client(lab, 4011)
    request = firmware.boot_server_request(firmware.OVMF)
    machine.send(pack(request, 1472), (SERVER, 4011))
    [ack] = lab.replies(machine, source=4011)

    assert ack.message_type is MessageType.ACK
    assert (ack.xid, ack.siaddr, ack.file, ack.options[67]) == (request.xid, SERVER, b"snponly.efi", b"snponly.efi\0")
    assert 43 not in ack.options
    event = lab.events_of(OfferMade)[1]
    assert (event.message, event.file) == ("ACK", BootFile("snponly.efi"))
    assert event.destination == ("10.0.0.9", 4011)
    assert [event.request.phase for event in lab.events_of(RequestClassified)] == ["discover", "boot-server"]


def test_ipxe_sends_to_the_boot_server_from_port_68(lab: Lab) -> None:
    machine = boot_client(lab, 68)
    machine.send(pack(firmware.ipxe_boot_item_request(), 1472), (SERVER, 4011))

    [ack] = lab.replies(machine, source=4011)

    assert (ack.xid, ack.file) == (0, b"boot.ipxe")
    assert ack.options[43] == b"\6\1\x08" + firmware.BOOT_ITEM


def test_http_boot_client_gets_a_url_and_option_60(lab: Lab) -> None:
    [offer] = lab.broadcast(firmware.OVMF_HTTP.message())

    assert offer.options[60] == b"HTTPClient"
    assert offer.options[67] == b"http://10.0.0.1/x\0"
    assert lab.events_of(OfferMade)[0].file == BootFile("http://10.0.0.1/x")


def test_ipxe_gets_its_script_after_uefi(lab: Lab) -> None:
    lab.broadcast(firmware.OVMF.message())
    [offer] = lab.broadcast(firmware.SNPONLY.message())

    assert offer.file == b"boot.ipxe"


def test_a_relayed_client_is_answered_through_its_relay(lab: Lab) -> None:
    relay = FakePeer(lab.network.host("10.1.0.254"), 67)
    agent = bytes((1, 4)) + b"ge-1"
    message = firmware.OVMF.changed({82: agent}).message(giaddr="10.1.0.254", hops=1)
    relay.send(pack(message, 1472), (SERVER, 67))

    [offer] = lab.replies(relay)

    assert (offer.giaddr, offer.flags, offer.options[82]) == ("10.1.0.254", 0x8000, agent)
    assert lab.client.take() == []
    [event] = lab.events_of(OfferMade)
    assert (event.request.circuit_id, event.destination) == (b"ge-1", ("10.1.0.254", 67))


@pytest.mark.parametrize("rich", [True], ids=["our port"])
def test_a_reply_leaves_from_the_requested_address(lab: Lab) -> None:
    machine = boot_client(lab, 4011)
    machine.send(pack(firmware.boot_server_request(firmware.OVMF), 1472), ("10.0.0.2", 4011))
    lab.network.advance(0.01)

    [received] = machine.take()
    ack = parse(received.data)

    assert received.peer == ("10.0.0.2", 4011)
    assert (ack.siaddr, ack.options[54]) == ("10.0.0.2", bytes((10, 0, 0, 2)))


def test_configured_ports_are_used() -> None:
    network = MemoryNetwork()
    host = network.host(SERVER, rich=True, privileged=False)
    settings = DHCPSettings(server_port=10067, client_port=10068, boot_server_port=14011)
    chain = ResolverChain(host, [("by-persona", ByPersona(FILES))], lambda event: None, 0.8)
    host.listenUDP(10067, proxy_port(host, chain, lambda event: None, settings=settings))
    client = FakePeer(network.host(), 10068)
    relay = FakePeer(network.host("10.1.0.254"), 10067)
    client.send(firmware.BIOS_ROM.datagram(), (BROADCAST, 10067))
    relay.send(firmware.BIOS_ROM.datagram(giaddr="10.1.0.254"), (SERVER, 10067))
    network.advance(0.01)

    assert [parse(received.data).op for received in client.take()] == [2]
    assert parse(relay.take()[-1].data).giaddr == "10.1.0.254"


# Requests that get no reply


@pytest.mark.parametrize("client", firmware.ORDINARY_CLIENTS + firmware.U_BOOTS, ids=lambda client: client.name)
def test_clients_that_do_not_boot_get_no_reply(lab: Lab, client: firmware.Client) -> None:
    assert lab.broadcast(client.message()) == []

    [event] = lab.events
    assert isinstance(event, RequestIgnored)
    assert event.mac == firmware.MAC_TEXT
    assert lab.resolver.requests == []


def test_request_to_another_dhcp_server_is_ignored_without_an_event(lab: Lab) -> None:
    client = firmware.OVMF.changed({53: b"\3", 54: bytes((10, 0, 0, 254)), 50: bytes((10, 0, 0, 9))})

    assert lab.broadcast(client.message()) == []
    assert lab.events == []


def test_malformed_datagrams_are_counted_and_reported_once_a_second(lab: Lab) -> None:
    for data in (b"", b"x" * 100, firmware.OVMF.datagram()[:235], b"\2" + firmware.OVMF.datagram()[1:]):
        assert lab.broadcast(data) == []
    lab.network.advance(1)

    assert [event.count for event in lab.events_of(DatagramsMalformed)] == [1, 3]
    assert lab.events_of(DatagramsMalformed)[1].service == "dhcp"
    assert len(lab.events) == 2
    assert lab.broadcast(firmware.BIOS_ROM.message())


def test_closing_reports_the_remaining_malformed_count(lab: Lab) -> None:
    for _ in range(3):
        lab.broadcast(b"x")
    lab.protocols[0].close()

    assert [event.count for event in lab.events_of(DatagramsMalformed)] == [1, 2]
    assert not [call for call in lab.network.leaks() if "pending" in call]


def test_a_bad_datagram_does_not_affect_the_others_of_its_batch(lab: Lab) -> None:
    lab.client.send(b"x", (BROADCAST, 67))
    assert len(lab.broadcast(firmware.BIOS_ROM.message())) == 1


def test_exception_for_one_datagram_does_not_affect_others() -> None:
    network = MemoryNetwork()
    host = network.host(SERVER, rich=True)
    published: list[Event] = []

    def publish(event: Event) -> None:
        published.append(event)
        if len(published) == 1:
            raise ZeroDivisionError

    chain = ResolverChain(host, [("by-persona", ByPersona(FILES))], publish, 0.8)
    protocol = proxy_port(host, chain, publish)
    host.listenUDP(67, protocol)
    via = Via(SERVER, 2, BROADCAST)
    with capturedLogs() as logs:
        protocol.datagrams_received(
            [(firmware.BIOS_ROM.datagram(xid=xid), ("0.0.0.0", 68), via) for xid in (1, 2)],
        )

    assert [event.request.xid for event in published if isinstance(event, OfferMade)] == [2]
    assert len([entry for entry in logs if "log_failure" in entry]) == 1


# Offers that are withheld


def test_missing_file_for_an_architecture_is_reported_with_its_key(lab: Lab) -> None:
    lab.resolver.files.clear()

    assert lab.broadcast(firmware.OVMF.message()) == []
    assert '[resolver.files] "x86_64-uefi"' in lab.reason


@pytest.mark.parametrize(
    ("client", "key"),
    [
        (firmware.IPXE_ROM, "ipxe"),
        (firmware.BIOS_ROM, "x86-bios"),
        (firmware.edk2(7, "HTTPClient"), "x86_64-uefi-http"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_reason_names_the_configuration_key(lab: Lab, client: firmware.Client, key: str) -> None:
    lab.resolver.files.clear()
    lab.broadcast(client.message())

    assert f'"{key}"' in lab.reason


def test_missing_resolver_is_reported_with_its_key(lab: Lab) -> None:
    lab.chain.resolvers = ()
    lab.broadcast(firmware.OVMF.message())

    assert "[[resolver]]" in lab.reason


def test_uefi_without_a_file_is_not_referred_to_the_boot_server(lab: Lab) -> None:
    del lab.resolver.files["uefi"]

    assert lab.broadcast(firmware.OVMF.message()) == []


def test_refusal_of_a_resolver_sends_no_offer(lab: Lab) -> None:
    def refuse(request: BootRequest) -> None:
        raise BootRefused("the machine is to be scrapped")

    lab.resolver.files["uefi"] = refuse

    assert lab.broadcast(firmware.OVMF.message()) == []
    assert lab.reason == "the machine is to be scrapped"


def test_ipxe_is_not_offered_ipxe_again(lab: Lab) -> None:
    lab.resolver.files["ipxe"] = "undionly.kpxe"

    assert lab.broadcast(firmware.IPXE_ROM.message()) == []
    assert '[resolver.files] "ipxe"' in lab.reason


def test_path_for_http_boot_needs_an_http_server(lab: Lab) -> None:
    lab.resolver.files["uefi-http"] = "bootx64.efi"

    assert lab.broadcast(firmware.OVMF_HTTP.message()) == []
    assert "[http] listen" in lab.reason


def test_path_for_http_boot_becomes_a_url_of_our_http_server(lab: Lab) -> None:
    lab.resolver.files["uefi-http"] = "bootx64.efi"
    lab.serves_http = True

    [offer] = lab.broadcast(firmware.OVMF_HTTP.message())

    assert (offer.options[60], offer.options[67]) == (b"HTTPClient", b"http://10.0.0.1:8069/bootx64.efi\0")


def test_a_reply_that_is_too_large_is_withheld(lab: Lab) -> None:
    lab.resolver.files["pxe-bios"] = BootFile("n" * 250, configfile="c" * 250, pathprefix="p" * 250)
    client = firmware.BIOS_ROM.changed({57: None})

    assert lab.broadcast(client.message()) == []
    assert "548" in lab.reason


@pytest.mark.parametrize("length", [255, 300])
def test_a_client_with_a_long_identifier_gets_its_file(lab: Lab, length: int) -> None:
    lab.resolver.files["pxe-bios"] = "n" * 254
    [offer] = lab.broadcast(firmware.BIOS_ROM.changed({57: None, 61: b"x" * length}).message())

    assert offer.options[67] == b"n" * 254 + b"\0"
    assert 61 not in offer.options


@pytest.mark.parametrize("rich", [True], ids=["our port"])
def test_no_offer_on_an_interface_without_an_address(lab: Lab) -> None:
    lab.network.hosts[0].addresses.clear()

    assert lab.broadcast(firmware.BIOS_ROM.message()) == []
    assert "no IPv4 address" in lab.reason
    assert lab.resolver.requests == []


def test_twisted_port_requires_the_server_address() -> None:
    network = MemoryNetwork()
    host = network.host(SERVER)
    chain = ResolverChain(host, [], lambda event: None, 0.8)

    with pytest.raises(ValueError, match="has to be given"):
        host.listenUDP(67, proxy_port(host, chain, lambda event: None))


def test_configured_server_address_takes_precedence() -> None:
    network = MemoryNetwork()
    host = network.host(SERVER, rich=True)
    chain = ResolverChain(host, [("by-persona", ByPersona(FILES))], lambda event: None, 0.8)
    host.listenUDP(67, proxy_port(host, chain, lambda event: None, server="192.0.2.1"))
    client = FakePeer(network.host(), 68)
    client.send(firmware.BIOS_ROM.datagram(), (BROADCAST, 67))
    network.advance(0.01)

    [received] = client.take()
    assert received.peer == (SERVER, 67)
    assert parse(received.data).siaddr == "192.0.2.1"


class FakeInterfaces(Interfaces):
    """Interfaces of which number 2, the only one of a host in memory, is eth0."""

    def name(self, index: int) -> str:
        return {2: "eth0"}.get(index, "")


@pytest.mark.parametrize(("names", "replies"), [((), 1), (("eth0",), 1), (("eth1",), 0)])
def test_only_the_interfaces_that_are_named_are_served(names: tuple[str, ...], replies: int) -> None:
    network = MemoryNetwork()
    host = network.host(SERVER, rich=True)
    events: list[Event] = []
    chain = ResolverChain(host, [("by-persona", ByPersona(FILES))], events.append, 0.8)
    host.listenUDP(67, proxy_port(host, chain, events.append, interfaces=FakeInterfaces(names)))
    client = FakePeer(network.host(), 68)
    client.send(firmware.BIOS_ROM.datagram(), (BROADCAST, 67))
    network.advance(0.01)

    assert len(client.take()) == replies
    assert [event.request.interface for event in events if isinstance(event, OfferMade)] == ["eth0"] * replies
    assert bool(events) is bool(replies)


# Resolvers that answer later


def test_repeated_request_is_answered_once(lab: Lab) -> None:
    resolution: Deferred[Any] = Deferred()
    lab.resolver.files["pxe-bios"] = lambda request: resolution
    for _ in range(3):
        assert lab.broadcast(firmware.BIOS_ROM.message()) == []
    assert len(lab.resolver.requests) == 1
    assert len(lab.events_of(RequestClassified)) == 3

    resolution.callback(BootFile("pxelinux.0"))

    assert len(lab.replies()) == 1
    assert len(lab.events_of(OfferMade)) == 1


def test_later_request_is_answered_again(lab: Lab) -> None:
    resolution: Deferred[Any] = Deferred()
    lab.resolver.files["pxe-bios"] = lambda request: resolution
    lab.broadcast(firmware.BIOS_ROM.message())
    resolution.callback(BootFile("pxelinux.0"))
    lab.resolver.files["pxe-bios"] = "pxelinux.0"
    lab.replies()

    assert len(lab.broadcast(firmware.BIOS_ROM.message())) == 1


def test_two_clients_and_two_boots_of_one_do_not_wait_for_each_other(lab: Lab) -> None:
    lab.resolver.files["pxe-bios"] = lambda request: Deferred()
    lab.broadcast(firmware.BIOS_ROM.message())
    lab.broadcast(firmware.BIOS_ROM.message(xid=5))
    lab.broadcast(firmware.BIOS_ROM.message(chaddr=b"\2\0\0\0\0\1"))

    assert len(lab.resolver.requests) == 3


def test_client_gets_no_reply_when_the_resolver_is_slow(lab: Lab) -> None:
    lab.resolver.files["pxe-bios"] = lambda request: Deferred()
    lab.broadcast(firmware.BIOS_ROM.message())
    lab.network.advance(0.8)

    assert "no resolver has a file" in lab.reason
    assert lab.broadcast(firmware.BIOS_ROM.message()) == []
    assert len(lab.resolver.requests) == 2


def test_asynchronous_refusal_sends_no_offer(lab: Lab) -> None:
    resolution: Deferred[Any] = Deferred()
    lab.resolver.files["pxe-bios"] = lambda request: resolution
    lab.broadcast(firmware.BIOS_ROM.message())
    resolution.errback(BootRefused("no"))

    assert lab.replies() == []
    assert lab.reason == "no"


def test_closing_cancels_pending_resolutions(lab: Lab) -> None:
    lab.resolver.files["pxe-bios"] = lambda request: Deferred()
    lab.broadcast(firmware.BIOS_ROM.message())
    with capturedLogs() as logs:
        lab.protocols[0].close()

    assert logs == []
    assert lab.events_of(OfferMade) + lab.events_of(OfferWithheld) == []
    assert not [call for call in lab.network.leaks() if "pending" in call]


def test_offer_publishes_its_events_in_order(lab: Lab) -> None:
    lab.broadcast(firmware.BIOS_ROM.message())

    assert [type(event) for event in lab.events] == [RequestClassified, ResolverAnswered, OfferMade]
    assert all(event.at == pytest.approx(0.001) for event in lab.events)
