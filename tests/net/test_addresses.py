"""The DHCPv4 server's port, on Twisted's UDP port and on ours: complete exchanges, and failures."""

from collections.abc import Callable, Iterator, Sequence
from socket import inet_aton
from typing import Any, NoReturn, TypeVar

import firmware
import pytest
from attrs import define, evolve
from dhcpports import server_port
from leasing import pool, subnet
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs
from zope.interface import implementer
from zope.interface.verify import verifyObject

from bootfw.boot.resolverchain import ResolverChain
from bootfw.dhcp.server import AddressServer
from bootfw.errors import BootRefused, StateError
from bootfw.events import (
    AddressesGranted,
    AddressReleased,
    AddressTaken,
    DatagramsMalformed,
    Event,
    FileWithheld,
    LeasesKeptAgain,
    LeasesNotKept,
    OfferMade,
    OtherServerSeen,
    PoolExhausted,
    RequestClassified,
    RequestIgnored,
    RequestsDropped,
)
from bootfw.interfaces import IBatchReceiver, ILeaseStore, IReservationStore
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.net.admission import Admission
from bootfw.net.dhcp.conflict import Done
from bootfw.net.dhcp.journal import OVERDUE_AFTER, STORE_HANGS, Journal
from bootfw.net.dhcp.server4 import Server4
from bootfw.personas.rule import Rule
from bootfw.personas.table import stock
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.values import BootFile, BootRequest
from bootfw.wire.dhcp4 import Message, MessageType, pack, parse

from .bypersona import ByPersona

SERVER, RELAY, BROADCAST = "10.77.0.1", "10.78.0.1", "255.255.255.255"
FIRST = "10.77.0.100"
DISCOVER, REQUEST, DECLINE, RELEASE, INFORM = b"\1", b"\3", b"\4", b"\7", b"\x08"
FILES = {
    "ipxe": "boot.ipxe",
    "pxe-bios": "pxelinux.0",
    "uefi": "snponly.efi",
    "u-boot": "boot.scr.uimg",
    "open-firmware": "grub.elf",
    "uefi-http": "http://{server}/snponly.efi",
}


@implementer(ILeaseStore, IReservationStore)
class Store:
    """A lease store whose commit() returns what ``answer`` returns."""

    def __init__(self) -> None:
        self.commits: list[list[Lease]] = []
        self.answer: Callable[[], Deferred[None]] = lambda: succeed(None)

    def load(self) -> list[Lease]:
        return []

    def reservations(self) -> list[Reservation]:
        return []

    def commit(self, leases: Sequence[Lease]) -> Deferred[None]:
        self.commits.append(list(leases))
        return self.answer()

    def save_reservations(self, reservations: Sequence[Reservation]) -> Deferred[None]:
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)


_T = TypeVar("_T")


def returning(deferred: Deferred[_T]) -> Callable[..., Deferred[_T]]:
    """A function that returns *deferred*, whatever its arguments are."""
    return lambda *_: deferred


@define(eq=False)
class Lab:
    """The server, and a client without an address."""

    network: MemoryNetwork
    resolver: ByPersona
    events: list[Event]
    store: Store
    protocol: Server4
    client: FakePeer

    def broadcast(self, *messages: Message | bytes) -> list[Message]:
        """The replies that the client gets on port 68 after it has sent *messages* at once."""
        for message in messages:
            self.client.send(message if isinstance(message, bytes) else pack(message, 1472), (BROADCAST, 67))
        return self.replies()

    def replies(self, peer: FakePeer | None = None) -> list[Message]:
        """The replies that *peer*, or the client, gets within 10 ms."""
        self.network.advance(0.01)
        datagrams = (peer or self.client).take()
        # The client receives its own broadcasts, too.
        replies = [received for received in datagrams if received.data[0] == 2]
        assert all(received.peer == (SERVER, 67) for received in replies)
        return [parse(received.data) for received in replies]

    def boot(self, client: firmware.Client) -> tuple[Message, Message]:
        """The OFFER and the ACK that *client* gets."""
        [offer] = self.broadcast(client.message())
        [ack] = self.broadcast(selecting(client, offer))
        return offer, ack

    def events_of(self, kind: type[Event]) -> list[Any]:
        """The events of that kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


def selecting(client: firmware.Client, offer: Message, server: str = SERVER) -> Message:
    """The REQUEST that follows *offer*."""
    options = {**client.options, 53: REQUEST, 50: inet_aton(offer.yiaddr), 54: inet_aton(server)}
    return client.message(options=options)


@pytest.fixture(params=[True, False], ids=["our port", "Twisted's port"])
def rich(request: pytest.FixtureRequest) -> bool:
    """Whether the server's host has our UDP port, with batches and local addresses."""
    our_port: bool = request.param
    return our_port


@pytest.fixture
def lab(rich: bool) -> Iterator[Lab]:
    network = MemoryNetwork()
    host = network.host(SERVER, rich=rich)
    resolver = ByPersona(FILES)
    events: list[Event] = []
    store = Store()
    chain = ResolverChain(host, [("by-persona", resolver)], events.append, 0.8)
    addresses = AddressServer([pool(2)])
    journal = Journal(store, events.append, host)
    protocol = server_port(host, chain, events.append, addresses, journal, server="" if rich else SERVER)
    server = host.listenUDP(67, protocol)
    yield Lab(network, resolver, events, store, protocol, FakePeer(network.host(), 68))
    chain.cancel_all()
    protocol.close()
    for port in [server, *(port for host in network.hosts[1:] for port in host.ports)]:
        port.stopListening()
    network.advance(0)
    assert network.leaks() == []


def test_port_is_a_batch_receiver(lab: Lab) -> None:
    verifyObject(IBatchReceiver, lab.protocol)


# Exchanges


@pytest.mark.parametrize("client", [*firmware.BOOT_CLIENTS, *firmware.U_BOOTS], ids=lambda client: client.name)
def test_firmware_gets_address_and_file_in_one_exchange(lab: Lab, client: firmware.Client) -> None:
    offer, ack = lab.boot(client)

    assert (offer.message_type, ack.message_type) == (MessageType.OFFER, MessageType.ACK)
    for reply in (offer, ack):
        assert (reply.yiaddr, reply.siaddr) == (FIRST, SERVER)
        assert reply.file
        assert reply.options[67].rstrip(b"\0") == reply.file
        assert reply.options[1] == inet_aton("255.255.255.0")
        assert reply.options[51] == (600).to_bytes(4, "big")
        assert reply.options[54] == inet_aton(SERVER)
    [[lease]] = lab.store.commits
    assert (lease.address, lease.mac, lease.kind, lease.state) == (
        FIRST,
        firmware.MAC_TEXT,
        "firmware",
        LeaseState.ACTIVE,
    )
    assert [event.leases for event in lab.events_of(AddressesGranted)] == [(lease,)]
    assert [(e.message, e.address, e.file.name) for e in lab.events_of(OfferMade)] == [
        ("OFFER", FIRST, offer.file.decode()),
        ("ACK", FIRST, offer.file.decode()),
    ]


@pytest.mark.parametrize(
    "client",
    [firmware.DHCLIENT, firmware.UDHCPC, firmware.DHCPCD, firmware.SYSLINUX_EFI],
    ids=lambda client: client.name,
)
def test_a_system_gets_an_address_and_no_file(lab: Lab, client: firmware.Client) -> None:
    offer, ack = lab.boot(client)

    assert offer.yiaddr == ack.yiaddr == FIRST
    assert ack.options[51] == (3600).to_bytes(4, "big")
    assert ack.file == b""
    assert ack.options.keys().isdisjoint({43, 60, 66, 67})
    assert lab.resolver.requests == []
    assert lab.events_of(RequestClassified) == lab.events_of(RequestIgnored) == []


def test_slof_identifies_itself_only_in_the_request_and_boots_from_the_ack(lab: Lab) -> None:
    [offer] = lab.broadcast(firmware.SLOF.message())
    request = selecting(firmware.SLOF.changed({93: b"\0\x0c"}), offer)
    [ack] = lab.broadcast(request)

    assert (offer.yiaddr, offer.file) == (FIRST, b"")
    assert (ack.yiaddr, ack.siaddr, ack.file) == (FIRST, SERVER, b"grub.elf")


def test_an_http_boot_client_gets_a_url_and_option_60(lab: Lab) -> None:
    for reply in lab.boot(firmware.OVMF_HTTP):
        assert reply.options[60] == b"HTTPClient"
        assert reply.options[67].rstrip(b"\0") == b"http://10.77.0.1/snponly.efi"


def test_rom_ipxe_and_system_keep_one_address(lab: Lab) -> None:
    addresses = {lab.boot(client)[1].yiaddr for client in (firmware.BIOS_ROM, firmware.IPXE_ROM, firmware.DHCPCD)}

    assert addresses == {FIRST}
    assert len(lab.events_of(AddressesGranted)) == 1


def test_a_renewal_is_answered_at_the_clients_address(lab: Lab) -> None:
    lab.boot(firmware.DHCLIENT)
    client = FakePeer(lab.network.host(FIRST), 68)
    options = {**firmware.DHCLIENT.options, 53: REQUEST}
    client.send(pack(firmware.DHCLIENT.message(ciaddr=FIRST, options=options)), (SERVER, 67))

    [ack] = lab.replies(client)
    assert (ack.message_type, ack.yiaddr, ack.ciaddr) == (MessageType.ACK, FIRST, FIRST)
    assert len(lab.store.commits) == 2
    assert len(lab.events_of(AddressesGranted)) == 1


@pytest.mark.parametrize("former", [FIRST, "10.77.0.9", "192.168.9.9"])
def test_former_address_in_ciaddr_does_not_stop_the_replies(lab: Lab, former: str) -> None:
    [offer] = lab.broadcast(firmware.DHCLIENT.message(ciaddr=former))
    [ack] = lab.broadcast(evolve(selecting(firmware.DHCLIENT, offer), ciaddr=former))

    assert (offer.message_type, offer.yiaddr) == (MessageType.OFFER, FIRST)
    assert (ack.message_type, ack.yiaddr) == (MessageType.ACK, FIRST)


def test_inform_is_answered_with_options_and_no_address(lab: Lab) -> None:
    client = FakePeer(lab.network.host("10.77.0.9"), 68)
    client.send(pack(firmware.DHCLIENT.message(ciaddr="10.77.0.9", options={53: INFORM})), (SERVER, 67))

    [ack] = lab.replies(client)
    assert (ack.message_type, ack.yiaddr) == (MessageType.ACK, "0.0.0.0")
    assert 51 not in ack.options
    assert lab.store.commits == []


def test_a_nak_for_a_wrong_address_is_broadcast(lab: Lab) -> None:
    [nak] = lab.broadcast(firmware.DHCLIENT.message(options={53: REQUEST, 50: inet_aton("192.168.1.7")}))

    assert nak.message_type is MessageType.NAK
    assert b"192.168.1.7" in nak.options[56]


def test_nak_calls_no_resolver(lab: Lab) -> None:
    [nak] = lab.broadcast(
        firmware.OVMF.message(options={**firmware.OVMF.options, 53: REQUEST, 50: inet_aton("192.168.1.7")})
    )

    assert nak.message_type is MessageType.NAK
    assert lab.events_of(RequestClassified) == []


def test_released_lease_is_stored(lab: Lab) -> None:
    lab.boot(firmware.DHCLIENT)
    lab.broadcast(firmware.DHCLIENT.message(ciaddr=FIRST, options={53: RELEASE, 54: inet_aton(SERVER)}))

    assert [lease.state for commit in lab.store.commits for lease in commit] == [
        LeaseState.ACTIVE,
        LeaseState.RELEASED,
    ]
    assert [(event.address, event.mac) for event in lab.events_of(AddressReleased)] == [(FIRST, firmware.MAC_TEXT)]


def test_address_in_use_is_not_assigned(lab: Lab) -> None:
    lab.boot(firmware.DHCLIENT)
    lab.broadcast(firmware.DHCLIENT.message(options={53: DECLINE, 50: inet_aton(FIRST), 54: inet_aton(SERVER)}))
    offer, _ = lab.boot(firmware.DHCLIENT)

    assert offer.yiaddr == "10.77.0.101"
    assert [(event.address, event.declined) for event in lab.events_of(AddressTaken)] == [(FIRST, True)]


def test_a_relay_is_answered_at_its_port(lab: Lab) -> None:
    lab.protocol._addresses = AddressServer([evolve(pool(2), relays=[RELAY])])
    relay = FakePeer(lab.network.host(RELAY), 67)
    relay.send(firmware.OVMF.datagram(giaddr=RELAY, hops=1), (SERVER, 67))

    [offer] = lab.replies(relay)
    assert (offer.yiaddr, offer.giaddr, offer.flags) == (FIRST, RELAY, 0x8000)


# Clients that only request a boot file

PLAIN = firmware.DHCLIENT.changed({55: b"\1\3\x42\x43"})
"""A client that may be a system or a boot loader: its parameter request list has options 66 and 67."""


def test_a_client_that_requests_a_boot_file_gets_it(lab: Lab) -> None:
    lab.resolver.files["plain"] = "board.bin"
    offer, ack = lab.boot(PLAIN)

    for reply in (offer, ack):
        assert (reply.yiaddr, reply.siaddr, reply.file) == (FIRST, SERVER, b"board.bin")
        assert (reply.options[66], reply.options[67]) == (SERVER.encode(), b"board.bin\0")
    assert [(e.message, e.file.name, e.request.architecture) for e in lab.events_of(OfferMade)] == [
        ("OFFER", "board.bin", "unknown"),
        ("ACK", "board.bin", "unknown"),
    ]
    assert [lease.kind for commit in lab.store.commits for lease in commit] == ["system"]


def test_a_requested_boot_file_that_no_resolver_has_is_logged(lab: Lab) -> None:
    offer, _ = lab.boot(PLAIN)

    assert (offer.yiaddr, offer.file) == (FIRST, b"")
    assert '"unknown"' in lab.events_of(FileWithheld)[0].reason


def test_bootp_gets_its_file(lab: Lab) -> None:
    lab.protocol._addresses = AddressServer([evolve(pool(2), bootp=True)])
    lab.resolver.files["plain"] = "board.bin"
    [reply] = lab.broadcast(firmware.DHCLIENT.message(options={}))

    assert (reply.message_type, reply.yiaddr, reply.file) == (None, FIRST, b"board.bin")
    assert [(e.message, e.file.name) for e in lab.events_of(OfferMade)] == [("BOOTP reply", "board.bin")]


def test_the_renewal_of_an_installed_system_calls_no_resolver(lab: Lab) -> None:
    lab.resolver.files["plain"] = "board.bin"
    lab.boot(PLAIN)
    calls = len(lab.resolver.requests)
    client = FakePeer(lab.network.host(FIRST), 68)
    client.send(pack(PLAIN.message(ciaddr=FIRST, options={**PLAIN.options, 53: REQUEST})), (SERVER, 67))

    [ack] = lab.replies(client)
    assert (ack.message_type, ack.yiaddr, ack.file) == (MessageType.ACK, FIRST, b"")
    assert len(lab.resolver.requests) == calls


def test_configured_boot_file_takes_precedence_over_the_resolver(lab: Lab) -> None:
    phones = evolve(pool(2), options={"bootfile-name": "phone.cfg", "tftp-server-name": "10.77.0.9"})
    lab.protocol._addresses = AddressServer([phones])
    lab.resolver.files["plain"] = "board.bin"
    offer, ack = lab.boot(PLAIN)

    for reply in (offer, ack):
        assert (reply.options[66], reply.options[67], reply.file) == (b"10.77.0.9", b"phone.cfg", b"")
    assert lab.resolver.requests == []


def test_request_of_the_system_keeps_what_is_known_of_its_firmware(lab: Lab) -> None:
    lab.boot(firmware.OVMF)
    lab.boot(PLAIN)

    client = lab.protocol.services.clients.lookup((FIRST, 1024))
    assert (client.architecture, client.uuid) == ("x86_64-uefi", firmware.UUID)


# Clients that use the address of an offer without a request

PI_3 = firmware.Client(
    "Raspberry Pi 3",
    {53: DISCOVER, 55: bytes((43, 60, 67, *range(128, 136))), 60: b"PXEClient:Arch:00000:UNDI:002001", 93: b"\0\0"},
    chaddr=bytes.fromhex("b827eb8696f5"),
)


def test_an_offer_to_a_client_that_takes_offers_is_leased(lab: Lab) -> None:
    lab.resolver.files["raspberry-pi-3"] = "bootcode.bin"
    [offer] = lab.broadcast(PI_3.message())

    assert (offer.message_type, offer.yiaddr, offer.file) == (MessageType.OFFER, FIRST, b"bootcode.bin")
    [[lease]] = lab.store.commits
    assert (lease.address, lease.state, lease.kind) == (FIRST, LeaseState.ACTIVE, "firmware")
    assert lease.expires - lease.granted == 600
    assert [event.leases for event in lab.events_of(AddressesGranted)] == [(lease,)]

    lab.network.advance(300)
    assert lab.boot(firmware.DHCLIENT)[0].yiaddr == "10.77.0.101"
    lab.network.advance(310)
    other = evolve(firmware.DHCLIENT, chaddr=b"\2\0\0\0\0\7")
    assert lab.broadcast(other.message())[0].yiaddr == FIRST


def test_offer_used_as_a_lease_is_sent_after_the_commit(lab: Lab) -> None:
    lab.resolver.files["raspberry-pi-3"] = "bootcode.bin"
    durable: Deferred[None] = Deferred()
    lab.store.answer = lambda: durable
    assert lab.broadcast(PI_3.message()) == []

    durable.callback(None)
    [offer] = lab.replies()
    assert offer.message_type is MessageType.OFFER


def test_offer_used_as_a_lease_needs_no_resolver(lab: Lab) -> None:
    lab.protocol.services.chain.resolvers = ()
    [offer] = lab.broadcast(PI_3.message())

    assert offer.yiaddr == FIRST
    assert [lease.address for commit in lab.store.commits for lease in commit] == [FIRST]


def test_a_client_that_takes_offers_and_repeats_itself_keeps_its_address(lab: Lab) -> None:
    lab.resolver.files["raspberry-pi-3"] = "bootcode.bin"
    for _ in range(3):
        assert [offer.yiaddr for offer in lab.broadcast(PI_3.message())] == [FIRST]
        lab.network.advance(5)
    assert len(lab.events_of(AddressesGranted)) == 1
    assert lab.boot(evolve(firmware.DHCLIENT, chaddr=PI_3.chaddr))[1].yiaddr == FIRST


def test_stale_ciaddr_does_not_prevent_an_offer_from_becoming_a_lease(lab: Lab) -> None:
    [offer] = lab.broadcast(PI_3.message(ciaddr="192.168.9.9"))

    assert offer.yiaddr == FIRST
    assert [lease.address for commit in lab.store.commits for lease in commit] == [FIRST]


def test_client_that_takes_offers_and_also_sends_a_request_has_one_lease(lab: Lab) -> None:
    lab.resolver.files["raspberry-pi-3"] = "bootcode.bin"
    assert lab.boot(PI_3)[1].yiaddr == FIRST
    assert [[lease.address for lease in commit] for commit in lab.store.commits] == [[FIRST], [FIRST]]


def test_an_offer_to_an_installed_system_is_not_leased_whatever_its_persona(lab: Lab) -> None:
    rule = Rule(name="plain", like="plain", takes_offer=True)
    lab.protocol.services.personas = stock().with_own((rule,))
    [offer] = lab.broadcast(PLAIN.message())

    assert offer.yiaddr == FIRST
    assert lab.store.commits == []


def test_an_offer_to_another_client_is_not_leased(lab: Lab) -> None:
    lab.broadcast(firmware.BIOS_ROM.message(), firmware.DHCLIENT.message())

    assert lab.store.commits == []


# No reply before its lease is stored


def test_ack_is_sent_after_its_lease_is_committed(lab: Lab) -> None:
    durable: Deferred[None] = Deferred()
    lab.store.answer = lambda: durable
    [offer] = lab.broadcast(firmware.DHCLIENT.message())
    assert lab.broadcast(selecting(firmware.DHCLIENT, offer)) == []
    assert lab.events_of(AddressesGranted) == []

    durable.callback(None)
    [ack] = lab.replies()
    assert ack.message_type is MessageType.ACK
    assert len(lab.events_of(AddressesGranted)) == 1


def test_ack_waits_for_boot_file_and_commit(lab: Lab) -> None:
    for file_first in (True, False):
        durable: Deferred[None] = Deferred()
        file: Deferred[BootFile] = Deferred()
        lab.resolver.files["uefi"] = "first.efi"
        [offer] = lab.broadcast(firmware.OVMF.message())
        lab.store.answer = returning(durable)
        lab.resolver.files["uefi"] = returning(file)
        assert lab.broadcast(selecting(firmware.OVMF, offer)) == []
        results: list[tuple[Deferred[Any], BootFile | None]] = [(file, BootFile("late.efi")), (durable, None)]
        for deferred, value in results if file_first else reversed(results):
            assert lab.replies() == []
            deferred.callback(value)
        [ack] = lab.replies()
        assert (ack.message_type, ack.file) == (MessageType.ACK, b"late.efi")


def test_failed_commit_sends_no_ack_and_is_reported(lab: Lab) -> None:
    lab.store.answer = lambda: fail(StateError("the disk is full"))
    [offer] = lab.broadcast(firmware.DHCLIENT.message())
    assert lab.broadcast(selecting(firmware.DHCLIENT, offer)) == []
    [event] = lab.events_of(LeasesNotKept)
    assert (event.count, event.reason) == (1, "the disk is full")

    lab.store.answer = lambda: succeed(None)
    [ack] = lab.broadcast(selecting(firmware.DHCLIENT, offer))
    assert ack.yiaddr == FIRST


def test_a_store_that_takes_leases_again_is_reported_once(lab: Lab) -> None:
    lab.store.answer = lambda: fail(StateError("the disk is full"))
    [offer] = lab.broadcast(firmware.DHCLIENT.message())
    for _ in range(2):
        assert lab.broadcast(selecting(firmware.DHCLIENT, offer)) == []
    assert lab.events_of(LeasesKeptAgain) == []

    lab.store.answer = lambda: succeed(None)
    for _ in range(2):
        assert len(lab.broadcast(selecting(firmware.DHCLIENT, offer))) == 1
    assert (len(lab.events_of(LeasesNotKept)), len(lab.events_of(LeasesKeptAgain))) == (2, 1)


def test_a_store_that_hangs_is_reported_once_until_it_answers(lab: Lab) -> None:
    """Meanwhile the clients repeat their requests, and get no replies."""
    pending: list[Deferred[None]] = []

    def hang() -> Deferred[None]:
        pending.append(Deferred())
        return pending[-1]

    lab.store.answer = hang
    [offer] = lab.broadcast(firmware.DHCLIENT.message())
    for _ in range(4):
        assert lab.broadcast(selecting(firmware.DHCLIENT, offer)) == []
        lab.network.advance(OVERDUE_AFTER - 1)
    [event] = lab.events_of(LeasesNotKept)
    assert event.reason == "the store has not answered for 5 s"

    lab.store.answer = lambda: succeed(None)
    for each in pending:
        each.callback(None)
    assert len(lab.events_of(LeasesKeptAgain)) == 1
    lab.replies()
    assert len(lab.broadcast(selecting(firmware.DHCLIENT, offer))) == 1
    assert len(lab.events_of(LeasesNotKept)) == 1


def test_hanging_store_queues_a_bounded_number_of_leases(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of leases whose commits are pending, requests are dropped: another server may answer."""
    monkeypatch.setattr("bootfw.net.dhcp.journal.MOST_PENDING", 3)
    admission = lab.protocol.services.admission = Admission(lab.network.clock, lab.events.append)
    pending: list[Deferred[None]] = []

    def hang() -> Deferred[None]:
        pending.append(Deferred())
        return pending[-1]

    [offer] = lab.broadcast(firmware.DHCLIENT.message())
    lab.store.answer = hang
    for _ in range(5):
        assert lab.broadcast(selecting(firmware.DHCLIENT, offer)) == []
    assert len(lab.store.commits) == 3
    assert lab.broadcast(firmware.DHCLIENT.message()) == []
    lab.network.advance(OVERDUE_AFTER)
    for _ in range(2):
        assert lab.broadcast(selecting(firmware.DHCLIENT, offer)) == []
    assert [event.count for event in lab.events_of(LeasesNotKept)] == [3]

    for each in pending:
        each.callback(None)
    assert [ack.yiaddr for ack in lab.replies()] == [FIRST] * 3
    lab.store.answer = lambda: succeed(None)
    assert [reply.message_type for reply in lab.boot(firmware.DHCLIENT)] == [MessageType.OFFER, MessageType.ACK]
    admission.stop()
    dropped = lab.events_of(RequestsDropped)
    assert sum(event.count for event in dropped) == 5
    assert {event.reason for event in dropped} == {STORE_HANGS}


def test_exception_of_a_store_is_a_failed_commit(lab: Lab) -> None:
    def broken() -> NoReturn:
        raise StateError("no file")

    lab.store.answer = broken
    [offer] = lab.broadcast(firmware.DHCLIENT.message())
    assert lab.broadcast(selecting(firmware.DHCLIENT, offer)) == []
    assert [event.reason for event in lab.events_of(LeasesNotKept)] == ["no file"]


def test_unexpected_store_error_is_logged_with_a_traceback(lab: Lab) -> None:
    lab.store.answer = lambda: fail(ZeroDivisionError("oops"))
    [offer] = lab.broadcast(firmware.DHCLIENT.message())
    with capturedLogs() as logs:
        assert lab.broadcast(selecting(firmware.DHCLIENT, offer)) == []
    assert [event["log_failure"].type for event in logs if "log_failure" in event] == [ZeroDivisionError]


def test_leases_of_one_batch_are_committed_together(lab: Lab, rich: bool) -> None:
    clients = [evolve(firmware.DHCLIENT, options={**firmware.DHCLIENT.options, 12: name}) for name in (b"a", b"b")]
    macs = [bytes((2, 0, 0, 0, 0, number)) for number in (1, 2)]
    offers = lab.broadcast(*(c.message(chaddr=mac) for c, mac in zip(clients, macs, strict=True)))
    requests = [evolve(selecting(c, o), chaddr=mac) for c, o, mac in zip(clients, offers, macs, strict=True)]
    acks = lab.broadcast(*requests)

    assert {ack.yiaddr for ack in acks} == {FIRST, "10.77.0.101"}
    assert [len(commit) for commit in lab.store.commits] == ([2] if rich else [1, 1])
    lab.network.advance(0.5)
    assert sum(len(event.leases) for event in lab.events_of(AddressesGranted)) == 2


def test_no_reply_is_sent_for_leases_that_become_durable_after_the_close(lab: Lab) -> None:
    durable: Deferred[None] = Deferred()
    lab.store.answer = lambda: durable
    [offer] = lab.broadcast(firmware.DHCLIENT.message())
    lab.broadcast(selecting(firmware.DHCLIENT, offer))
    lab.protocol.close()
    durable.callback(None)

    assert lab.replies() == []


# Probing


class FakeProbes:
    """Probes that are pending until the test answers them."""

    def __init__(self) -> None:
        self.pending: dict[str, Done] = {}

    def begin(self, address: str, done: Done) -> None:
        assert address not in self.pending, "a probe of it is pending already"
        self.pending[address] = done

    def answer(self, address: str, user: str | None = None) -> None:
        """End the probe of *address*; *user* as in Done."""
        self.pending.pop(address)(user)


class FakeIcmpProbe(FakeProbes):
    def start(self, address: str, done: Done) -> None:
        self.begin(address, done)


class FakeArpProbe(FakeProbes):
    def start(self, address: str, done: Done, *, interface: str, server: str, client: bytes) -> None:
        assert (interface, server, client[0] & 1) == ("eth7", SERVER, 0)
        self.begin(address, done)


on_our_port = pytest.mark.parametrize("rich", [True], indirect=True, ids=["our port"])
"""Twisted's port does not report the interface of a datagram."""


@pytest.fixture
def probe(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> FakeArpProbe:
    monkeypatch.setattr(lab.protocol.services.interfaces, "name", lambda index: "eth7")
    probe = FakeArpProbe()
    monkeypatch.setattr(lab.protocol, "_probe", probe)
    return probe


@on_our_port
def test_an_address_is_probed_before_it_is_offered(lab: Lab, probe: FakeArpProbe) -> None:
    assert lab.broadcast(firmware.IPXE_ROM.message()) == []
    probe.answer(FIRST)

    [offer] = lab.replies()
    assert offer.yiaddr == FIRST
    [ack] = lab.broadcast(selecting(firmware.IPXE_ROM, offer))
    assert ack.yiaddr == FIRST
    assert lab.store.commits[0][0].address == FIRST


@on_our_port
def test_pending_probe_is_answered_with_the_reloaded_settings(lab: Lab, probe: FakeArpProbe) -> None:
    assert lab.broadcast(firmware.BIOS_ROM.message()) == []
    lab.protocol.use_addresses(AddressServer([subnet(pool=["10.77.0.150"])]))
    probe.answer(FIRST)
    assert lab.replies() == [], "the address of the new pool is probed too"
    probe.answer("10.77.0.150")
    [offer] = lab.replies()
    assert offer.yiaddr == "10.77.0.150"


@on_our_port
def test_an_address_in_use_is_never_offered_and_the_next_is_probed(lab: Lab, probe: FakeArpProbe) -> None:
    lab.broadcast(firmware.IPXE_ROM.message())
    probe.answer(FIRST, "02:00:00:00:00:66")
    assert lab.replies() == []
    probe.answer("10.77.0.101")

    [offer] = lab.replies()
    assert offer.yiaddr == "10.77.0.101"
    [event] = lab.events_of(AddressTaken)
    assert (event.address, event.mac, event.declined) == (FIRST, "02:00:00:00:00:66", False)
    [[declined]] = lab.store.commits
    assert (declined.address, declined.state) == (FIRST, LeaseState.DECLINED)


@on_our_port
def test_an_offer_that_counts_as_a_lease_is_probed_before(lab: Lab, probe: FakeArpProbe) -> None:
    lab.resolver.files["raspberry-pi-3"] = "bootcode.bin"
    assert lab.broadcast(PI_3.message()) == []
    assert lab.store.commits == []
    probe.answer(FIRST, "02:00:00:00:00:66")
    assert lab.replies() == []
    probe.answer("10.77.0.101")

    assert [offer.yiaddr for offer in lab.replies()] == ["10.77.0.101"]
    assert [lease.address for commit in lab.store.commits for lease in commit] == [FIRST, "10.77.0.101"]


@on_our_port
def test_a_pool_whose_addresses_are_all_in_use_is_reported(lab: Lab, probe: FakeArpProbe) -> None:
    lab.broadcast(firmware.IPXE_ROM.message())
    for address in (FIRST, "10.77.0.101"):
        probe.answer(address, "02:00:00:00:00:66")
    assert lab.replies() == []
    assert len(lab.events_of(PoolExhausted)) == 1


@on_our_port
def test_latest_request_during_a_probe_is_answered_once(lab: Lab, probe: FakeArpProbe) -> None:
    lab.broadcast(firmware.IPXE_ROM.message(xid=1))
    lab.broadcast(firmware.IPXE_ROM.message(xid=2))
    probe.answer(FIRST)

    assert [offer.xid for offer in lab.replies()] == [2]
    assert [offer.xid for offer in lab.broadcast(firmware.IPXE_ROM.message(xid=3))] == [3]


@on_our_port
def test_other_clients_are_answered_during_a_probe(lab: Lab, probe: FakeArpProbe) -> None:
    lab.broadcast(firmware.IPXE_ROM.message(chaddr=b"\2\0\0\0\0\1"))
    lab.broadcast(firmware.IPXE_ROM.message(chaddr=b"\2\0\0\0\0\2"))
    probe.answer("10.77.0.101")
    assert [offer.chaddr[-1] for offer in lab.replies()] == [2]
    probe.answer(FIRST)
    assert [offer.chaddr[-1] for offer in lab.replies()] == [1]


@on_our_port
def test_client_with_a_lease_is_not_probed(lab: Lab, probe: FakeArpProbe) -> None:
    lab.broadcast(firmware.IPXE_ROM.message())
    probe.answer(FIRST)
    [offer] = lab.replies()
    lab.broadcast(selecting(firmware.IPXE_ROM, offer))

    assert [offer.yiaddr for offer in lab.broadcast(firmware.DHCPCD.message())] == [FIRST]


@pytest.fixture
def relay(lab: Lab) -> FakePeer:
    """A relay that the subnet's configuration names."""
    lab.protocol._addresses = AddressServer([evolve(pool(2), relays=[RELAY])])
    return FakePeer(lab.network.host(RELAY), 67)


@pytest.fixture
def ping(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> FakeIcmpProbe:
    ping = FakeIcmpProbe()
    monkeypatch.setattr(lab.protocol, "_ping", ping)
    return ping


def test_an_address_behind_a_relay_is_probed_by_ping(lab: Lab, ping: FakeIcmpProbe, relay: FakePeer) -> None:
    relay.send(firmware.OVMF.datagram(giaddr=RELAY, hops=1), (SERVER, 67))
    assert lab.replies(relay) == []
    ping.answer(FIRST)

    assert [offer.yiaddr for offer in lab.replies(relay)] == [FIRST]
    assert lab.events_of(AddressTaken) == []


def test_an_address_behind_a_relay_that_answers_is_never_offered(
    lab: Lab, ping: FakeIcmpProbe, relay: FakePeer
) -> None:
    relay.send(firmware.OVMF.datagram(giaddr=RELAY, hops=1), (SERVER, 67))
    assert lab.replies(relay) == []
    ping.answer(FIRST, "")
    assert lab.replies(relay) == []
    ping.answer("10.77.0.101")

    assert [offer.yiaddr for offer in lab.replies(relay)] == ["10.77.0.101"]
    assert [(event.address, event.mac, event.declined) for event in lab.events_of(AddressTaken)] == [(FIRST, "", False)]
    assert [(lease.address, lease.state) for [lease] in lab.store.commits] == [(FIRST, LeaseState.DECLINED)]


@on_our_port
def test_addresses_behind_a_relay_are_not_probed_on_our_link(lab: Lab, probe: FakeArpProbe, relay: FakePeer) -> None:
    relay.send(firmware.OVMF.datagram(giaddr=RELAY, hops=1), (SERVER, 67))
    assert len(lab.replies(relay)) == 1


@on_our_port
def test_addresses_on_our_link_are_not_probed_by_ping(lab: Lab, ping: FakeIcmpProbe) -> None:
    assert len(lab.broadcast(firmware.OVMF.message())) == 1


@on_our_port
def test_a_probe_that_ends_after_the_close_does_nothing(lab: Lab, probe: FakeArpProbe) -> None:
    lab.broadcast(firmware.IPXE_ROM.message())
    lab.protocol.close()
    probe.answer(FIRST)
    assert lab.replies() == []


# Events for the operator


def test_grants_in_a_flood_are_reported_in_groups_without_loss(lab: Lab) -> None:
    lab.protocol._addresses = AddressServer([pool(100)])

    def boot(number: int) -> None:
        client = evolve(firmware.DHCLIENT, name=str(number))
        chaddr = bytes((2, 0, 0, 0, 0, number))
        [offer] = lab.broadcast(client.message(chaddr=chaddr))
        lab.broadcast(evolve(selecting(client, offer), chaddr=chaddr))

    for number in range(5):
        boot(number)
    assert [len(event.leases) for event in lab.events_of(AddressesGranted)] == [1]
    lab.network.advance(0.5)
    assert [len(event.leases) for event in lab.events_of(AddressesGranted)] == [1, 4]
    boot(5)
    lab.protocol.close()
    assert [len(event.leases) for event in lab.events_of(AddressesGranted)] == [1, 4, 1]


def test_boot_client_without_a_file_still_gets_an_address(lab: Lab) -> None:
    lab.resolver.files["uefi"] = None
    offer, ack = lab.boot(firmware.OVMF)

    assert (offer.yiaddr, ack.yiaddr, ack.file) == (FIRST, FIRST, b"")
    assert [event.request.phase for event in lab.events_of(FileWithheld)] == ["discover", "request"]
    assert lab.events_of(OfferMade) == []


def test_refusal_by_a_resolver_withholds_the_file_only(lab: Lab) -> None:
    def refuse(request: BootRequest) -> None:
        raise BootRefused("not on Sundays")

    lab.resolver.files["uefi"] = refuse
    [offer] = lab.broadcast(firmware.OVMF.message())
    assert offer.yiaddr == FIRST
    assert lab.events_of(FileWithheld)[0].reason == "not on Sundays"


def test_without_resolvers_no_event_is_about_files(lab: Lab) -> None:
    lab.protocol.services.chain.resolvers = ()
    lab.boot(firmware.OVMF)

    assert lab.events_of(FileWithheld) == lab.events_of(RequestClassified) == []


def test_another_server_is_named_once(lab: Lab) -> None:
    [offer] = lab.broadcast(firmware.DHCLIENT.message())
    for _ in range(2):
        assert lab.broadcast(selecting(firmware.DHCLIENT, offer, "10.77.0.66")) == []

    [event] = lab.events_of(OtherServerSeen)
    assert (event.server, event.mac) == ("10.77.0.66", firmware.MAC_TEXT)
    lab.network.advance(600)
    lab.broadcast(selecting(firmware.DHCLIENT, offer, "10.77.0.66"))
    assert len(lab.events_of(OtherServerSeen)) == 2


def test_another_server_is_named_for_each_machine_that_boots_from_it(lab: Lab) -> None:
    for last in (1, 1, 2):
        chaddr = bytes((2, 0, 0, 0, 0, last))
        [offer] = lab.broadcast(firmware.IPXE_ROM.message(chaddr=chaddr))
        lab.broadcast(evolve(selecting(firmware.IPXE_ROM, offer, "10.77.0.66"), chaddr=chaddr))
    assert [event.mac[-1] for event in lab.events_of(OtherServerSeen)] == ["1", "2"]


def test_an_empty_pool_is_reported_once_a_minute(lab: Lab) -> None:
    for number in range(5):
        lab.broadcast(firmware.DHCLIENT.message(chaddr=bytes((2, 0, 0, 0, 0, number))))
    assert [event.network for event in lab.events_of(PoolExhausted)] == ["10.77.0.0/24"]


def test_a_client_on_a_link_without_a_subnet_is_ignored(lab: Lab) -> None:
    lab.protocol._addresses = AddressServer([])
    assert lab.broadcast(firmware.DHCLIENT.message()) == []

    [event] = lab.events_of(RequestIgnored)
    assert event.reason == f"no subnet is configured for its link: {SERVER}"


def test_malformed_messages_are_counted(lab: Lab) -> None:
    assert lab.broadcast(b"\1\1", firmware.DHCLIENT.message(options={53: REQUEST})) == []
    lab.network.advance(1)
    assert sum(event.count for event in lab.events_of(DatagramsMalformed)) == 2


def test_replies_of_servers_are_ignored(lab: Lab) -> None:
    assert lab.broadcast(firmware.DHCLIENT.message(op=2, options={53: b"\2"})) == []
    assert lab.events == []


def test_a_boot_file_without_room_is_left_out_and_the_address_is_sent(lab: Lab) -> None:
    lab.resolver.files["pxe-bios"] = BootFile("n" * 250, configfile="c" * 250, pathprefix="p" * 250)
    offer, ack = lab.boot(firmware.BIOS_ROM.changed({57: None}))

    assert (offer.yiaddr, ack.yiaddr, ack.file) == (FIRST, FIRST, b"")
    assert 67 not in ack.options
    assert "may have 548" in lab.events_of(FileWithheld)[0].reason


@pytest.mark.parametrize("length", [255, 256, 300, 1000])
def test_a_client_with_a_long_identifier_gets_an_address_and_a_file(lab: Lab, length: int) -> None:
    lab.resolver.files["pxe-bios"] = "n" * 250
    for client in (firmware.DHCLIENT, firmware.BIOS_ROM.changed({57: None})):
        offer, ack = lab.boot(client.changed({61: b"\0" + b"c" * length}))
        assert (offer.yiaddr, ack.yiaddr) == (FIRST, FIRST)
    assert ack.options[67] == b"n" * 250 + b"\0"
    assert lab.events_of(FileWithheld) == lab.events_of(RequestIgnored) == []


@on_our_port
def test_rapid_commit_is_immediate_without_a_probe_and_waits_for_one(lab: Lab, probe: FakeArpProbe) -> None:
    """RFC 4039: the ACK to a DISCOVER."""
    lab.protocol._addresses = AddressServer([evolve(pool(2), rapid_commit=True)])
    client = firmware.DHCPCD.message(options={**firmware.DHCPCD.options, 80: b""})
    assert lab.broadcast(client) == []
    probe.answer(FIRST)
    [ack] = lab.replies()
    assert (ack.yiaddr, ack.options[53], ack.options[80]) == (FIRST, b"\5", b"")

    lab.protocol._probe = None
    second_client = firmware.DHCPCD.message(options={53: DISCOVER, 80: b""}, chaddr=b"\2\0\0\0\0\7")
    [ack] = lab.broadcast(second_client)
    assert (ack.yiaddr, ack.options[53], ack.options[80]) == ("10.77.0.101", b"\5", b"")
    assert [lease.address for [lease] in lab.store.commits] == [FIRST, "10.77.0.101"]


# Clients that are ignored


def test_an_ignored_client_gets_no_reply(lab: Lab) -> None:
    lab.protocol.family.settings = evolve(lab.protocol.family.settings, ignore=[firmware.MAC_TEXT[:8].upper()])

    assert lab.broadcast(firmware.OVMF.message(), firmware.DHCLIENT.message()) == []
    assert [(event.mac, event.reason) for event in lab.events_of(RequestIgnored)] == [
        (firmware.MAC_TEXT, "the configuration has its hardware address in ignore")
    ] * 2
    assert lab.store.commits == []
    [offer] = lab.broadcast(firmware.OVMF.message(chaddr=bytes.fromhex("020000000001")))
    assert offer.yiaddr == FIRST
