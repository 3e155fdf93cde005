"""The DHCPv6 server's port: no reply is sent before its lease is stored, and boot clients get address and file in one
reply."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from dhcpports import server6_port
from firmware6 import IPXE, LINK_LOCAL, LINUX, MAC, OVMF, OVMF_HTTP, relayed
from narrowing import present
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from bootfw.boot.resolverchain import ResolverChain
from bootfw.dhcp.server6 import AddressServer6
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.errors import StateError
from bootfw.events import (
    AddressesGranted,
    AddressReleased,
    AddressTaken,
    ClientsLimited,
    DatagramsMalformed,
    FileWithheld,
    LeasesNotKept,
    OfferMade,
    OtherServerSeen,
    PoolExhausted,
    RequestClassified,
    RequestIgnored,
)
from bootfw.interfaces import ILeaseStore
from bootfw.lease import Lease
from bootfw.net.dhcp.journal import Journal
from bootfw.net.dhcp.server6 import Server6
from bootfw.net.linux.interfaces import Interfaces, IPv6Address
from bootfw.values import Via
from bootfw.wire.dhcp6 import Message, MessageType, Relay
from bootfw.wire.options6 import (
    IAAddress,
    IdentityAssociation,
    Option,
    ia_address,
    ia_address_bytes,
    identity_association,
    identity_association_bytes,
    options_bytes,
    uint16s_bytes,
)

from .lab6 import DUID, Lab

OURS = (Option.SERVER_ID, DUID)


@implementer(ILeaseStore)
class Store:
    """A lease store whose commits wait for the test, if *slow*."""

    def __init__(self) -> None:
        self.slow = False
        self.committed: list[Lease] = []
        self.waiting: list[Deferred[None]] = []

    def load(self) -> list[Lease]:
        return []

    def commit(self, leases: Sequence[Lease]) -> Deferred[None]:
        self.committed += leases
        if not self.slow:
            return succeed(None)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def close(self) -> Deferred[None]:
        return succeed(None)


class ServerLab(Lab):
    def __init__(
        self,
        pool: tuple[str, ...] = ("fd77::100-fd77::1ff",),
        admit: Callable[..., Any] = lambda wire, now: True,
        configured: dict[str, list[str] | dict[str, str] | str | int] | tuple[()] = (),
        **options: Any,
    ) -> None:
        self.store = Store()
        subnet = Subnet6(network="fd77::/64", pool=pool, options=dict(configured))
        addresses = AddressServer6([subnet], DUID, admit)

        def make(
            reactor: Clock, chain: ResolverChain, publish: Callable[..., Any], duid: bytes, **more: Any
        ) -> Server6:
            self.journal = Journal(self.store, publish, reactor)
            return server6_port(reactor, chain, publish, duid, addresses=addresses, journal=self.journal, **more)

        super().__init__(make, **options)


@pytest.fixture
def lab() -> Iterator[ServerLab]:
    lab = ServerLab()
    yield lab
    lab.chain.cancel_all()
    lab.protocol.close()
    assert lab.network.clock.getDelayedCalls() == []


def address_of(answer: Message) -> str:
    held = identity_association(present(answer.first(Option.IA_NA)))
    return next(ia_address(raw).address for code, raw in held.options if code == Option.IA_ADDRESS)


def wants(address: str) -> bytes:
    return options_bytes([(5, ia_address_bytes(IAAddress(address)))])


def test_a_system_gets_an_address(lab: ServerLab) -> None:
    offer = lab.only(LINUX.message())
    reply = lab.only(LINUX.message(MessageType.REQUEST, OURS, ia=wants(address_of(offer))))
    assert address_of(reply) == address_of(offer)
    assert reply.first(Option.BOOTFILE_URL) is None
    (lease,) = lab.store.committed
    assert (lease.address, lease.mac) == (address_of(reply), MAC)
    lab.network.advance(1)
    assert lab.of(AddressesGranted)[0].leases == (lease,)


def test_all_addresses_of_one_reply_are_reported(lab: ServerLab) -> None:
    second = (int(Option.IA_NA), identity_association_bytes(IdentityAssociation(2)))
    lab.only(LINUX.message(MessageType.REQUEST, OURS, second))
    assert len(lab.store.committed) == 2
    assert lab.of(AddressesGranted)[0].leases == tuple(lab.store.committed)


def test_no_client_gets_a_lease_before_it_is_stored(lab: ServerLab) -> None:
    lab.store.slow = True
    assert lab.heard(LINUX.message(MessageType.REQUEST, OURS)) == []
    lab.store.waiting[0].callback(None)
    ((reply, _, _),) = lab.sent
    assert reply.kind is MessageType.REPLY


def test_hanging_store_queues_a_bounded_number_of_leases(lab: ServerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootfw.net.dhcp.journal.MOST_PENDING", 2)
    lab.store.slow = True
    for _ in range(4):
        assert lab.heard(LINUX.message(MessageType.REQUEST, OURS)) == []
    assert len(lab.store.waiting) == 2
    assert lab.heard(LINUX.message()) == []
    lab.store.waiting[0].callback(None)
    lab.sent.clear()
    assert len(lab.heard(LINUX.message())) == 1


def test_no_client_gets_a_lease_that_can_not_be_stored(lab: ServerLab) -> None:
    lab.store.slow = True
    lab.heard(LINUX.message(MessageType.REQUEST, OURS))
    lab.store.waiting[0].errback(StateError("the disk is full"))
    assert lab.sent == []
    assert lab.of(LeasesNotKept)[0].reason == "the disk is full"


def test_firmware_gets_address_and_file_with_preference_255(lab: ServerLab) -> None:
    offer = lab.only(OVMF.message())
    assert address_of(offer)
    assert offer.first(Option.BOOTFILE_URL) == b"tftp://[fd77::1]/efi/snponly.efi"
    assert offer.first(Option.PREFERENCE) == b"\xff"
    assert offer.first(Option.VENDOR_CLASS) is None, "it would ask port 4011"
    reply = lab.only(OVMF.message(MessageType.REQUEST, OURS, ia=wants(address_of(offer))))
    assert (reply.first(Option.PREFERENCE), reply.first(Option.BOOTFILE_URL)) == (
        None,
        b"tftp://[fd77::1]/efi/snponly.efi",
    )
    assert [(made.message, made.address) for made in lab.of(OfferMade)] == [
        ("ADVERTISE", address_of(offer)),
        ("REPLY", address_of(offer)),
    ]
    assert lab.protocol.services.clients.lookup((address_of(offer), 1024)).mac == MAC


PLAIN = LINUX.changed({Option.OPTION_REQUEST: uint16s_bytes([23, 59])})


def test_a_client_that_only_requests_a_boot_file_gets_it_and_may_take_another_server(lab: ServerLab) -> None:
    lab.resolver.files["plain"] = "board.bin"
    offer = lab.only(PLAIN.message())
    reply = lab.only(PLAIN.message(MessageType.REQUEST, OURS, ia=wants(address_of(offer))))

    for answer in (offer, reply):
        assert answer.first(Option.BOOTFILE_URL) == b"tftp://[fd77::1]/board.bin"
        assert answer.first(Option.PREFERENCE) is None
    renewed = lab.only(PLAIN.message(MessageType.RENEW, OURS, ia=wants(address_of(offer))))
    assert renewed.first(Option.BOOTFILE_URL) is None


def test_a_client_that_may_be_a_system_gets_the_configured_boot_file() -> None:
    lab = ServerLab(configured={"bootfile-url": "http://elsewhere/x"})
    lab.resolver.files["plain"] = "board.bin"

    assert lab.only(PLAIN.message()).first(Option.BOOTFILE_URL) == b"http://elsewhere/x"
    lab.protocol.close()


def test_http_boot_client_gets_address_and_url(lab: ServerLab) -> None:
    offer = lab.only(OVMF_HTTP.message())
    assert address_of(offer)
    assert present(offer.first(Option.VENDOR_CLASS))[6:] == b"HTTPClient"
    assert offer.first(Option.BOOTFILE_URL) == b"http://[fd77::1]:8069/x.efi"


def test_ipxe_gets_address_and_file_in_one_exchange(lab: ServerLab) -> None:
    offer = lab.only(IPXE.message())
    reply = lab.only(IPXE.message(MessageType.REQUEST, OURS, ia=wants(address_of(offer))))
    assert reply.first(Option.BOOTFILE_URL) == f"http://[fd77::1]:8069/{MAC}.ipxe".encode()


def test_configured_options_are_sent_beside_the_boot_file() -> None:
    lab = ServerLab(configured={"bootfile-url": "tftp://[fd77::9]/other", "sol-max-rt": 60, "bootfile-param": ["x"]})
    wants_all: dict[int, bytes | None] = {6: None}
    offer = lab.only(OVMF.changed(wants_all).message())
    assert [value for code, value in offer.options if code == Option.BOOTFILE_URL] == [
        b"tftp://[fd77::1]/efi/snponly.efi"
    ]
    assert offer.first(Option.SOL_MAX_RT) == b"\0\0\0\x3c"
    assert offer.first(Option.BOOTFILE_PARAMETERS) is None
    system = lab.only(LINUX.changed(wants_all).message())
    assert system.first(Option.BOOTFILE_URL) == b"tftp://[fd77::9]/other"
    assert system.first(Option.BOOTFILE_PARAMETERS) == b"\0\1x"


def test_options_without_room_are_left_out() -> None:
    lab = ServerLab(configured={"65000": {"text": "x" * 800}, "65001": {"text": "y" * 500}})
    # Long enough that three times its size is no limit.
    everything = LINUX.changed({6: None, 17: bytes(500)}).message()
    told = lab.only(everything)
    assert (told.first(65000), told.first(65001)) == (b"x" * 800, b"y" * 500)
    relay = Relay(0, "fd77::1", LINK_LOCAL, ((Option.INTERFACE_ID, b"i" * 60),))
    ((answer, _, _),) = lab.heard(relayed(everything, relay), ("fd77::1", 547, 0, 0), Via("fd77::1", 2, "fd77::1"))
    assert address_of(answer)
    assert (answer.first(65000), answer.first(65001)) == (b"x" * 800, None)


def test_client_without_a_boot_file_still_gets_an_address(lab: ServerLab) -> None:
    lab.resolver.files.clear()
    offer = lab.only(OVMF.message())
    assert address_of(offer)
    assert (offer.first(Option.BOOTFILE_URL), offer.first(Option.PREFERENCE)) == (None, None)
    assert "no resolver has a file for it" in lab.of(FileWithheld)[0].reason


def test_released_addresses_are_reported(lab: ServerLab) -> None:
    address = address_of(lab.only(LINUX.message(MessageType.REQUEST, OURS)))
    lab.only(LINUX.message(MessageType.RELEASE, OURS, ia=wants(address)))
    assert [(each.address, each.mac) for each in lab.of(AddressReleased)] == [(address, MAC)]
    address = address_of(lab.only(LINUX.message(MessageType.REQUEST, OURS)))
    lab.only(LINUX.message(MessageType.DECLINE, OURS, ia=wants(address)))
    assert [(each.address, each.declined) for each in lab.of(AddressTaken)] == [(address, True)]


def test_another_server_is_reported_once(lab: ServerLab) -> None:
    for _ in range(3):
        assert lab.heard(LINUX.message(MessageType.REQUEST, (Option.SERVER_ID, b"\0\2"))) == []
    (seen,) = lab.of(OtherServerSeen)
    assert (seen.server, seen.mac) == ("DUID 0002", MAC)


class Addressed(Interfaces):
    """Interfaces with the addresses that a test gives them."""

    here: tuple[str, ...] = ()

    def generation(self) -> None:
        """They change without notice."""

    def addresses6(self, index: int) -> tuple[IPv6Address, ...]:
        return tuple(IPv6Address(address, 64, index) for address in self.here)


@pytest.mark.parametrize(
    ("destination", "local", "host"),
    [("ff02::1:2", "", b"fd77::5"), ("fd99::5", "fd99::5", b"fd99::5")],
    ids=["multicast", "unicast"],
)
def test_file_server_is_our_address_in_the_subnet(destination: str, local: str, host: bytes) -> None:
    """Unless the request was sent to one of them."""
    interfaces = Addressed()
    interfaces.here = ("fd99::5", "fd77::5")
    lab = ServerLab(server="", interfaces=interfaces)
    reply = lab.only(OVMF.message(), via=Via(local, 2, destination))
    assert reply.first(Option.BOOTFILE_URL) == b"tftp://[" + host + b"]/efi/snponly.efi"


def test_changed_server_address_is_used_from_the_next_batch() -> None:
    interfaces = Addressed()
    lab = ServerLab(server="", interfaces=interfaces)
    for address in ("fd77::5", "fd77::6"):
        interfaces.here = (address,)
        reply = lab.only(OVMF.message())
        assert reply.first(Option.BOOTFILE_URL) == f"tftp://[{address}]/efi/snponly.efi".encode()


def test_unservable_requests_are_reported_to_the_operator(lab: ServerLab) -> None:
    assert lab.heard(LINUX.message(MessageType.RENEW)) == []
    assert lab.of(DatagramsMalformed)[0].reason == "RENEW without a server identifier"
    full = ServerLab(pool=())
    full.heard(LINUX.message())
    full.heard(LINUX.message())
    assert [each.network for each in full.of(PoolExhausted)] == ["fd77::/64"]
    strict = ServerLab(admit=lambda wire, now: False)
    assert strict.heard(LINUX.message(MessageType.REQUEST, OURS)) == []
    assert [each.network for each in strict.of(ClientsLimited)] == ["fd77::/64"]
    elsewhere = ServerLab(server="fd99::1")
    assert elsewhere.heard(LINUX.message()) == []
    assert "no subnet is configured for its link" in elsewhere.of(RequestIgnored)[0].reason


def test_boot_client_without_an_address_has_its_boot_request_in_the_event() -> None:
    elsewhere = ServerLab(server="fd99::1")
    assert elsewhere.heard(OVMF.message()) == []
    (ignored,) = elsewhere.of(RequestIgnored)
    assert (ignored.mac, present(ignored.request).persona) == (MAC, "uefi-v6")
    assert elsewhere.of(RequestClassified) == []


def test_boot_client_that_takes_another_server_has_its_boot_request_in_a_record(lab: ServerLab) -> None:
    for _ in range(2):
        assert lab.heard(OVMF.message(MessageType.REQUEST, (Option.SERVER_ID, b"\0\2"))) == []
        lab.heard(LINUX.message(MessageType.REQUEST, (Option.SERVER_ID, b"\0\2")))
    assert [(seen.server, seen.mac) for seen in lab.of(OtherServerSeen)] == [("DUID 0002", MAC)]


def test_boot_client_for_which_no_address_is_left_gets_no_boot_file() -> None:
    full = ServerLab(pool=())
    for _ in range(2):
        answer = full.only(OVMF.message())
        assert (answer.first(Option.BOOTFILE_URL), answer.first(Option.PREFERENCE)) == (None, None)
    full.heard(LINUX.message())
    assert [present(each.request).persona for each in full.of(PoolExhausted)[:1]] == ["uefi-v6"]
    assert [each.request for each in full.of(PoolExhausted)[1:]] == [None]
    assert (full.of(RequestClassified), full.of(OfferMade)) == ([], [])


def test_an_offer_goes_to_the_address_of_the_request(lab: ServerLab) -> None:
    ((_, _, to),) = lab.heard(LINUX.message())
    assert to == (LINK_LOCAL, 546, 0, 2)
