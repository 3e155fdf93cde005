"""The DHCPv6 server's port: no reply is sent before its lease is stored, and a boot client gets its address and boot
file in one reply."""

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

SERVER_ID = (Option.SERVER_ID, DUID)
"""The option by which a client selects our server."""


@implementer(ILeaseStore)
class Store:
    """A lease store. If it is *slow*, its commits are pending until the test fires ``waiting``."""

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
    """The server with one subnet.

    :param admit: see AddressServer6.
    :param configured: options of the subnet.
    :param options: see server6_port().
    """

    def __init__(
        self,
        pool: tuple[str, ...] = ("fd77::100-fd77::1ff",),
        admit: Callable[..., Any] = lambda link, now: True,
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


def address_of(reply: Message) -> str:
    """The first address in the IA_NA of a reply."""
    association = identity_association(present(reply.first(Option.IA_NA)))
    return next(ia_address(value).address for code, value in association.options if code == Option.IA_ADDRESS)


def ia_address_option(address: str) -> bytes:
    """The options of an IA_NA in which a client names *address*."""
    return options_bytes([(5, ia_address_bytes(IAAddress(address)))])


def test_a_system_gets_an_address(lab: ServerLab) -> None:
    offer = lab.reply_to(LINUX.message())
    reply = lab.reply_to(LINUX.message(MessageType.REQUEST, SERVER_ID, ia=ia_address_option(address_of(offer))))
    assert address_of(reply) == address_of(offer)
    assert reply.first(Option.BOOTFILE_URL) is None
    (lease,) = lab.store.committed
    assert (lease.address, lease.mac) == (address_of(reply), MAC)
    lab.network.advance(1)
    assert lab.events_of(AddressesGranted)[0].leases == (lease,)


def test_all_addresses_of_one_reply_are_reported(lab: ServerLab) -> None:
    second = (int(Option.IA_NA), identity_association_bytes(IdentityAssociation(2)))
    lab.reply_to(LINUX.message(MessageType.REQUEST, SERVER_ID, second))
    assert len(lab.store.committed) == 2
    assert lab.events_of(AddressesGranted)[0].leases == tuple(lab.store.committed)


def test_no_client_gets_a_lease_before_it_is_stored(lab: ServerLab) -> None:
    lab.store.slow = True
    assert lab.replies_to(LINUX.message(MessageType.REQUEST, SERVER_ID)) == []
    lab.store.waiting[0].callback(None)
    ((reply, _, _),) = lab.sent
    assert reply.kind is MessageType.REPLY


def test_hanging_store_queues_a_bounded_number_of_leases(lab: ServerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootfw.net.dhcp.journal.MOST_PENDING", 2)
    lab.store.slow = True
    for _ in range(4):
        assert lab.replies_to(LINUX.message(MessageType.REQUEST, SERVER_ID)) == []
    assert len(lab.store.waiting) == 2
    assert lab.replies_to(LINUX.message()) == []
    lab.store.waiting[0].callback(None)
    lab.sent.clear()
    assert len(lab.replies_to(LINUX.message())) == 1


def test_no_client_gets_a_lease_that_can_not_be_stored(lab: ServerLab) -> None:
    lab.store.slow = True
    lab.replies_to(LINUX.message(MessageType.REQUEST, SERVER_ID))
    lab.store.waiting[0].errback(StateError("the disk is full"))
    assert lab.sent == []
    assert lab.events_of(LeasesNotKept)[0].reason == "the disk is full"


def test_firmware_gets_address_and_file_with_preference_255(lab: ServerLab) -> None:
    offer = lab.reply_to(OVMF.message())
    assert address_of(offer)
    assert offer.first(Option.BOOTFILE_URL) == b"tftp://[fd77::1]/efi/snponly.efi"
    assert offer.first(Option.PREFERENCE) == b"\xff"
    assert offer.first(Option.VENDOR_CLASS) is None, "it would ask port 4011"
    reply = lab.reply_to(OVMF.message(MessageType.REQUEST, SERVER_ID, ia=ia_address_option(address_of(offer))))
    assert (reply.first(Option.PREFERENCE), reply.first(Option.BOOTFILE_URL)) == (
        None,
        b"tftp://[fd77::1]/efi/snponly.efi",
    )
    assert [(event.message, event.address) for event in lab.events_of(OfferMade)] == [
        ("ADVERTISE", address_of(offer)),
        ("REPLY", address_of(offer)),
    ]
    assert lab.protocol.services.clients.lookup((address_of(offer), 1024)).mac == MAC


PLAIN = LINUX.changed({Option.OPTION_REQUEST: uint16s_bytes([23, 59])})


def test_a_client_that_only_requests_a_boot_file_gets_it_and_may_take_another_server(lab: ServerLab) -> None:
    lab.resolver.files["plain"] = "board.bin"
    offer = lab.reply_to(PLAIN.message())
    reply = lab.reply_to(PLAIN.message(MessageType.REQUEST, SERVER_ID, ia=ia_address_option(address_of(offer))))

    for message in (offer, reply):
        assert message.first(Option.BOOTFILE_URL) == b"tftp://[fd77::1]/board.bin"
        assert message.first(Option.PREFERENCE) is None
    renewed = lab.reply_to(PLAIN.message(MessageType.RENEW, SERVER_ID, ia=ia_address_option(address_of(offer))))
    assert renewed.first(Option.BOOTFILE_URL) is None


def test_a_client_that_may_be_a_system_gets_the_configured_boot_file() -> None:
    lab = ServerLab(configured={"bootfile-url": "http://elsewhere/x"})
    lab.resolver.files["plain"] = "board.bin"

    assert lab.reply_to(PLAIN.message()).first(Option.BOOTFILE_URL) == b"http://elsewhere/x"
    lab.protocol.close()


def test_http_boot_client_gets_address_and_url(lab: ServerLab) -> None:
    offer = lab.reply_to(OVMF_HTTP.message())
    assert address_of(offer)
    assert present(offer.first(Option.VENDOR_CLASS))[6:] == b"HTTPClient"
    assert offer.first(Option.BOOTFILE_URL) == b"http://[fd77::1]:8069/x.efi"


def test_ipxe_gets_address_and_file_in_one_exchange(lab: ServerLab) -> None:
    offer = lab.reply_to(IPXE.message())
    reply = lab.reply_to(IPXE.message(MessageType.REQUEST, SERVER_ID, ia=ia_address_option(address_of(offer))))
    assert reply.first(Option.BOOTFILE_URL) == f"http://[fd77::1]:8069/{MAC}.ipxe".encode()


def test_configured_options_are_sent_beside_the_boot_file() -> None:
    lab = ServerLab(configured={"bootfile-url": "tftp://[fd77::9]/other", "sol-max-rt": 60, "bootfile-param": ["x"]})
    without_oro: dict[int, bytes | None] = {6: None}
    offer = lab.reply_to(OVMF.changed(without_oro).message())
    assert [value for code, value in offer.options if code == Option.BOOTFILE_URL] == [
        b"tftp://[fd77::1]/efi/snponly.efi"
    ]
    assert offer.first(Option.SOL_MAX_RT) == b"\0\0\0\x3c"
    assert offer.first(Option.BOOTFILE_PARAMETERS) is None
    system = lab.reply_to(LINUX.changed(without_oro).message())
    assert system.first(Option.BOOTFILE_URL) == b"tftp://[fd77::9]/other"
    assert system.first(Option.BOOTFILE_PARAMETERS) == b"\0\1x"


def test_options_without_room_are_left_out() -> None:
    lab = ServerLab(configured={"65000": {"text": "x" * 800}, "65001": {"text": "y" * 500}})
    # So long that three times its size leaves room for all options.
    message = LINUX.changed({6: None, 17: bytes(500)}).message()
    reply = lab.reply_to(message)
    assert (reply.first(65000), reply.first(65001)) == (b"x" * 800, b"y" * 500)
    relay = Relay(0, "fd77::1", LINK_LOCAL, ((Option.INTERFACE_ID, b"i" * 60),))
    ((reply, _, _),) = lab.replies_to(relayed(message, relay), ("fd77::1", 547, 0, 0), Via("fd77::1", 2, "fd77::1"))
    assert address_of(reply)
    assert (reply.first(65000), reply.first(65001)) == (b"x" * 800, None)


def test_client_without_a_boot_file_still_gets_an_address(lab: ServerLab) -> None:
    lab.resolver.files.clear()
    offer = lab.reply_to(OVMF.message())
    assert address_of(offer)
    assert (offer.first(Option.BOOTFILE_URL), offer.first(Option.PREFERENCE)) == (None, None)
    assert "no resolver has a file for it" in lab.events_of(FileWithheld)[0].reason


def test_released_addresses_are_reported(lab: ServerLab) -> None:
    address = address_of(lab.reply_to(LINUX.message(MessageType.REQUEST, SERVER_ID)))
    lab.reply_to(LINUX.message(MessageType.RELEASE, SERVER_ID, ia=ia_address_option(address)))
    assert [(each.address, each.mac) for each in lab.events_of(AddressReleased)] == [(address, MAC)]
    address = address_of(lab.reply_to(LINUX.message(MessageType.REQUEST, SERVER_ID)))
    lab.reply_to(LINUX.message(MessageType.DECLINE, SERVER_ID, ia=ia_address_option(address)))
    assert [(each.address, each.declined) for each in lab.events_of(AddressTaken)] == [(address, True)]


def test_another_server_is_reported_once(lab: ServerLab) -> None:
    for _ in range(3):
        assert lab.replies_to(LINUX.message(MessageType.REQUEST, (Option.SERVER_ID, b"\0\2"))) == []
    (event,) = lab.events_of(OtherServerSeen)
    assert (event.server, event.mac) == ("DUID 0002", MAC)


class FakeInterfaces(Interfaces):
    """Interfaces with addresses that the test sets."""

    local_addresses: tuple[str, ...] = ()

    def generation(self) -> None:
        """The addresses change without notice."""

    def addresses6(self, index: int) -> tuple[IPv6Address, ...]:
        return tuple(IPv6Address(address, 64, index) for address in self.local_addresses)


@pytest.mark.parametrize(
    ("destination", "local", "host"),
    [("ff02::1:2", "", b"fd77::5"), ("fd99::5", "fd99::5", b"fd99::5")],
    ids=["multicast", "unicast"],
)
def test_file_server_is_our_address_in_the_subnet(destination: str, local: str, host: bytes) -> None:
    """Unless the request was sent to one of our addresses: then it is that one."""
    interfaces = FakeInterfaces()
    interfaces.local_addresses = ("fd99::5", "fd77::5")
    lab = ServerLab(server="", interfaces=interfaces)
    reply = lab.reply_to(OVMF.message(), via=Via(local, 2, destination))
    assert reply.first(Option.BOOTFILE_URL) == b"tftp://[" + host + b"]/efi/snponly.efi"


def test_changed_server_address_is_used_from_the_next_batch() -> None:
    interfaces = FakeInterfaces()
    lab = ServerLab(server="", interfaces=interfaces)
    for address in ("fd77::5", "fd77::6"):
        interfaces.local_addresses = (address,)
        reply = lab.reply_to(OVMF.message())
        assert reply.first(Option.BOOTFILE_URL) == f"tftp://[{address}]/efi/snponly.efi".encode()


def test_unservable_requests_are_reported_to_the_operator(lab: ServerLab) -> None:
    assert lab.replies_to(LINUX.message(MessageType.RENEW)) == []
    assert lab.events_of(DatagramsMalformed)[0].reason == "RENEW without a server identifier"
    full = ServerLab(pool=())
    full.replies_to(LINUX.message())
    full.replies_to(LINUX.message())
    assert [each.network for each in full.events_of(PoolExhausted)] == ["fd77::/64"]
    strict = ServerLab(admit=lambda link, now: False)
    assert strict.replies_to(LINUX.message(MessageType.REQUEST, SERVER_ID)) == []
    assert [each.network for each in strict.events_of(ClientsLimited)] == ["fd77::/64"]
    other_link = ServerLab(server="fd99::1")
    assert other_link.replies_to(LINUX.message()) == []
    assert "no subnet is configured for its link" in other_link.events_of(RequestIgnored)[0].reason


def test_event_of_an_ignored_boot_client_has_its_boot_request() -> None:
    other_link = ServerLab(server="fd99::1")
    assert other_link.replies_to(OVMF.message()) == []
    (ignored,) = other_link.events_of(RequestIgnored)
    assert (ignored.mac, present(ignored.request).persona) == (MAC, "uefi-v6")
    assert other_link.events_of(RequestClassified) == []


def test_boot_client_that_selects_another_server_is_reported_once(lab: ServerLab) -> None:
    for _ in range(2):
        assert lab.replies_to(OVMF.message(MessageType.REQUEST, (Option.SERVER_ID, b"\0\2"))) == []
        lab.replies_to(LINUX.message(MessageType.REQUEST, (Option.SERVER_ID, b"\0\2")))
    assert [(event.server, event.mac) for event in lab.events_of(OtherServerSeen)] == [("DUID 0002", MAC)]


def test_boot_client_for_which_no_address_is_left_gets_no_boot_file() -> None:
    full = ServerLab(pool=())
    for _ in range(2):
        reply = full.reply_to(OVMF.message())
        assert (reply.first(Option.BOOTFILE_URL), reply.first(Option.PREFERENCE)) == (None, None)
    full.replies_to(LINUX.message())
    assert [present(each.request).persona for each in full.events_of(PoolExhausted)[:1]] == ["uefi-v6"]
    assert [each.request for each in full.events_of(PoolExhausted)[1:]] == [None]
    assert (full.events_of(RequestClassified), full.events_of(OfferMade)) == ([], [])


def test_an_offer_goes_to_the_address_of_the_request(lab: ServerLab) -> None:
    ((_, _, destination),) = lab.replies_to(LINUX.message())
    assert destination == (LINK_LOCAL, 546, 0, 2)
