"""The DHCPv6 server: the answer to each message, and one address for each machine."""

from collections.abc import Collection
from typing import Any

import pytest
from attrs import evolve
from firmware6 import IPXE, LINUX, MAC, OVMF, OVMF_IP_DRIVER, Client
from narrowing import present

from bootfw.dhcp import hashedallocator
from bootfw.dhcp.answer import Answer6, Arrival6, NoReply, NoReplyReason
from bootfw.dhcp.hashedallocator import ClientIA, HashedAllocator
from bootfw.dhcp.hostclass import HostClass6
from bootfw.dhcp.leasebook import QUARANTINE_SECONDS, LeaseBook
from bootfw.dhcp.pool import Binding
from bootfw.dhcp.ranges import text_of
from bootfw.dhcp.reply6 import server_reply6
from bootfw.dhcp.server6 import AddressServer6
from bootfw.dhcp.subnet6 import Host6, Subnet6
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.wire.dhcp6 import Message, MessageType, Relay
from bootfw.wire.options6 import (
    IAAddress,
    IdentityAssociation,
    Option,
    Options,
    Status,
    first,
    ia_address,
    ia_address_bytes,
    identity_association,
    identity_association_bytes,
    options_bytes,
    status,
    uint16s_bytes,
    vendor_options_bytes,
)

DUID = b"\0\3\0\1RT\0\0\0\1"
OUR_SERVER_ID = (Option.SERVER_ID, DUID)
NOW = 1_000_000.0
LEASE = 3600
RAPID = (Option.RAPID_COMMIT, b"")


def subnet(**changed: Any) -> Subnet6:
    return Subnet6(
        **{"network": "fd77::/64", "pool": ["fd77::100-fd77::1ff"], "dns": "fd77::1", "domain": "lab.example"} | changed
    )


def ia_address_options(*addresses: str) -> bytes:
    """IA Address options, which the client puts into its IA_NA."""
    return options_bytes((5, ia_address_bytes(IAAddress(address))) for address in addresses)


class Server:
    """An AddressServer6 with its time, and with the arrival of the messages."""

    def __init__(self, *subnets: Subnet6, **rules: Any) -> None:
        self.server = AddressServer6(subnets or (subnet(),), DUID, **rules)
        self.now = NOW
        self.arrival = Arrival6(("fd77::1",), (), MAC)

    def handle(self, message: Message, **changed: Any) -> Answer6 | NoReply:
        return self.server.handle(message, evolve(self.arrival, **changed), self.now)

    def answer(self, message: Message, **changed: Any) -> Answer6:
        answer = self.handle(message, **changed)
        assert isinstance(answer, Answer6)
        return answer

    def address_for(self, client: Client, mac: str = MAC) -> str:
        """The address that the client has after SOLICIT and REQUEST."""
        offer = self.answer(client.message(), mac=mac)
        assert offer.commit == ()
        reply = self.answer(
            client.message(MessageType.REQUEST, OUR_SERVER_ID, ia=ia_address_options(offer.address)), mac=mac
        )
        assert reply.address == offer.address
        return reply.address


def association(answer: Answer6) -> IdentityAssociation:
    return identity_association(present(first(answer.options, Option.IA_NA)))


def address_in(answer: Answer6) -> IAAddress:
    return ia_address(present(first(association(answer).options, Option.IA_ADDRESS)))


def status_in(options: Options) -> int:
    return status(present(first(options, Option.STATUS_CODE)))[0]


@pytest.fixture
def server() -> Server:
    return Server()


def test_solicit_gets_an_advertise_and_changes_no_state(server: Server) -> None:
    answer = server.answer(LINUX.message())
    assert answer.kind is MessageType.ADVERTISE
    assert answer.commit == ()
    offered = address_in(answer)
    assert offered.address.startswith("fd77::1")
    assert (offered.preferred, offered.valid) == (2700, 3600)
    ia = association(answer)
    assert (ia.iaid, ia.t1, ia.t2) == (LINUX.iaid, 1350, 2160)
    assert answer.configured == {
        Option.DNS_SERVERS: bytes.fromhex("fd77" + "00" * 13 + "01"),
        Option.DOMAIN_LIST: b"\3lab\7example\0",
    }
    assert list(server.server.leases()) == []


def test_request_leases_the_advertised_address(server: Server) -> None:
    address = server.address_for(LINUX)
    (lease,) = server.server.leases()
    assert (lease.address, lease.mac, lease.state, lease.expires) == (address, MAC, LeaseState.ACTIVE, NOW + LEASE)
    assert (lease.client_id, lease.kind) == (LINUX.options[1], "system")


def test_only_requested_options_are_sent(server: Server) -> None:
    answer = server.answer(LINUX.changed({6: uint16s_bytes([24])}).message())
    assert answer.configured.keys() == {Option.DOMAIN_LIST}
    answer = server.answer(LINUX.changed({6: None}).message())
    assert answer.configured.keys() == {Option.DNS_SERVERS, Option.DOMAIN_LIST}


def test_rapid_commit_is_one_exchange(server: Server) -> None:
    answer = server.answer(LINUX.message(MessageType.SOLICIT, RAPID))
    assert answer.kind is MessageType.REPLY
    assert answer.options[0] == RAPID
    assert [lease.address for lease in answer.commit] == [answer.address]


def test_rapid_commit_without_an_address_is_an_advertise() -> None:
    server = Server(subnet(pool=[]))
    answer = server.answer(LINUX.message(MessageType.SOLICIT, RAPID))
    assert answer.kind is MessageType.ADVERTISE
    assert status_in(association(answer).options) == Status.NO_ADDRESSES
    assert (answer.reason, answer.detail) == (NoReplyReason.EXHAUSTED, "fd77::/64")


def test_firmware_boot_program_and_system_are_one_machine(server: Server) -> None:
    address = server.address_for(OVMF)
    assert server.address_for(IPXE) == address
    assert server.address_for(LINUX) == address
    (lease,) = server.server.leases()
    assert lease.client_id == LINUX.options[1]
    assert server.address_for(OVMF) == address, "also when it is switched on again"


def test_another_machine_gets_another_address(server: Server) -> None:
    assert server.address_for(OVMF) != server.address_for(
        OVMF.changed({1: b"\0\4" + bytes(16)}), mac="52:54:00:00:00:09"
    )


def test_firmware_ip_client_and_pxe_client_of_one_card_keep_separate_leases(server: Server) -> None:
    assert server.address_for(OVMF_IP_DRIVER) != server.address_for(OVMF)
    assert len(list(server.server.leases())) == 2


def test_two_systems_on_one_card_keep_separate_leases(server: Server) -> None:
    other = LINUX.changed({1: b"\0\2\0\0\0\1other"})
    assert server.address_for(LINUX) != server.address_for(other)
    assert len(list(server.server.leases())) == 2


def test_a_machine_without_a_known_mac_is_recognized_by_its_duid(server: Server) -> None:
    assert server.address_for(LINUX, mac="") == server.address_for(LINUX, mac="")


def test_client_gets_the_same_address_without_a_stored_lease(server: Server) -> None:
    assert server.address_for(OVMF) == Server().address_for(OVMF)


def test_several_associations_get_an_address_each(server: Server) -> None:
    second = (Option.IA_NA, identity_association_bytes(IdentityAssociation(99)))
    answer = server.answer(LINUX.message(MessageType.REQUEST, OUR_SERVER_ID, second))
    assert len({lease.address for lease in answer.commit}) == 2


def test_two_associations_that_request_one_address_are_offered_two(server: Server) -> None:
    second = (Option.IA_NA, identity_association_bytes(IdentityAssociation(99)) + ia_address_options("fd77::150"))
    answer = server.answer(LINUX.message(MessageType.SOLICIT, second, ia=ia_address_options("fd77::150")))
    associations = [identity_association(raw) for code, raw in answer.options if code == Option.IA_NA]
    offered = [ia_address(present(first(each.options, Option.IA_ADDRESS))).address for each in associations]
    assert offered[0] == "fd77::150"
    assert len(set(offered)) == 2


def test_association_gets_its_new_address_before_the_withdrawn_ones(server: Server) -> None:
    address = server.address_for(LINUX)
    answer = server.answer(LINUX.message(MessageType.RENEW, OUR_SERVER_ID, ia=ia_address_options("fd77::9", address)))
    named = [ia_address(raw) for code, raw in association(answer).options]
    assert [(each.address, each.valid) for each in named] == [(address, LEASE), ("fd77::9", 0)]


def test_a_request_from_another_link_is_refused_with_the_reason(server: Server) -> None:
    answer = server.answer(LINUX.message(MessageType.REQUEST, OUR_SERVER_ID, ia=ia_address_options("fd99::1")))
    assert status_in(association(answer).options) == Status.NOT_ON_LINK
    assert answer.commit == ()


@pytest.mark.parametrize("kind", [MessageType.REQUEST, MessageType.RENEW, MessageType.RELEASE, MessageType.DECLINE])
def test_messages_for_another_server_are_ignored(server: Server, kind: MessageType) -> None:
    other = server.handle(LINUX.message(kind, (Option.SERVER_ID, b"other")))
    assert isinstance(other, NoReply)
    assert other.reason is (NoReplyReason.OTHER_SERVER if kind is MessageType.REQUEST else NoReplyReason.NOT_FOR_SERVER)
    assert server.handle(LINUX.message(kind)).reason is NoReplyReason.MALFORMED


@pytest.mark.parametrize("kind", [MessageType.SOLICIT, MessageType.CONFIRM, MessageType.REBIND])
def test_message_without_its_identifiers_is_malformed(server: Server, kind: MessageType) -> None:
    assert server.handle(LINUX.message(kind, OUR_SERVER_ID)).reason is NoReplyReason.MALFORMED


@pytest.mark.parametrize("kind", [MessageType.REPLY, MessageType.ADVERTISE, MessageType.RECONFIGURE])
def test_messages_of_servers_are_ignored(server: Server, kind: MessageType) -> None:
    assert server.handle(LINUX.message(kind)).reason is NoReplyReason.NOT_FOR_SERVER


def test_an_anonymous_client_gets_no_address(server: Server) -> None:
    assert server.handle(LINUX.changed({1: None}).message()).reason is NoReplyReason.MALFORMED


@pytest.mark.parametrize("kind", [MessageType.REQUEST, MessageType.RENEW, MessageType.RELEASE, MessageType.DECLINE])
def test_unicast_request_gets_use_multicast(server: Server, kind: MessageType) -> None:
    answer = server.answer(LINUX.message(kind, OUR_SERVER_ID), unicast=True)
    assert status_in(answer.options) == Status.USE_MULTICAST
    relayed = server.answer(LINUX.message(kind, OUR_SERVER_ID), unicast=True, relays=(Relay(0, "fd77::9", "fe80::9"),))
    assert (Option.STATUS_CODE, first(answer.options, Option.STATUS_CODE)) not in relayed.options


def test_renewing_extends_the_lease(server: Server) -> None:
    address = server.address_for(LINUX)
    server.now += 1000
    answer = server.answer(LINUX.message(MessageType.RENEW, OUR_SERVER_ID, ia=ia_address_options(address)))
    assert (address_in(answer).address, answer.granted) == (address, ())
    assert answer.commit[0].expires == server.now + LEASE


def test_renewal_without_a_lease_is_granted_if_the_address_is_free(server: Server) -> None:
    answer = server.answer(LINUX.message(MessageType.RENEW, OUR_SERVER_ID, ia=ia_address_options("fd77::123")))
    assert address_in(answer).address == "fd77::123"
    other = LINUX.changed({1: b"other"})
    answer = server.answer(other.message(MessageType.RENEW, OUR_SERVER_ID, ia=ia_address_options("fd77::123")), mac="")
    assert status_in(association(answer).options) == Status.NO_BINDING


def test_rebind_extends_a_lease_and_withdraws_foreign_addresses(server: Server) -> None:
    address = server.address_for(LINUX)
    assert server.answer(LINUX.message(MessageType.REBIND, ia=ia_address_options(address))).address == address
    stranger = LINUX.changed({1: b"other"})
    moved = server.answer(stranger.message(MessageType.REBIND, ia=ia_address_options("fd99::1")), mac="")
    assert address_in(moved).valid == 0
    assert (
        server.handle(stranger.message(MessageType.REBIND, ia=ia_address_options("fd77::9")), mac="").reason
        is NoReplyReason.UNKNOWN
    )
    leased = server.answer(stranger.message(MessageType.REBIND, ia=ia_address_options(address)), mac="")
    assert (address_in(leased).address, address_in(leased).valid) == (address, 0)
    server.answer(LINUX.message(MessageType.DECLINE, OUR_SERVER_ID, ia=ia_address_options(address)))
    declined = server.answer(stranger.message(MessageType.REBIND, ia=ia_address_options(address)), mac="")
    assert (address_in(declined).address, address_in(declined).valid) == (address, 0)


def test_confirm_reports_whether_the_addresses_are_on_link(server: Server) -> None:
    on_link = server.answer(LINUX.message(MessageType.CONFIRM, ia=ia_address_options("fd77::1ff")))
    assert status_in(on_link.options) == Status.SUCCESS
    off_link = server.answer(LINUX.message(MessageType.CONFIRM, ia=ia_address_options("fd77::1ff", "fd99::1")))
    assert status_in(off_link.options) == Status.NOT_ON_LINK
    assert server.handle(LINUX.message(MessageType.CONFIRM)).reason is NoReplyReason.NOT_FOR_SERVER


def test_release_frees_the_address_and_it_is_remembered(server: Server) -> None:
    address = server.address_for(LINUX)
    answer = server.answer(LINUX.message(MessageType.RELEASE, OUR_SERVER_ID, ia=ia_address_options(address)))
    assert status_in(answer.options) == Status.SUCCESS
    assert (answer.reason, answer.detail, answer.commit[0].state) == (
        NoReplyReason.RELEASED,
        address,
        LeaseState.RELEASED,
    )
    assert server.address_for(LINUX) == address


@pytest.mark.parametrize("kind", [MessageType.RELEASE, MessageType.DECLINE])
def test_client_cannot_release_leases_of_others(server: Server, kind: MessageType) -> None:
    address = server.address_for(LINUX)
    answer = server.answer(OVMF_IP_DRIVER.message(kind, OUR_SERVER_ID, ia=ia_address_options(address)))
    assert answer.commit == ()
    assert status_in(association(answer).options) == Status.NO_BINDING


def test_declined_address_is_quarantined(server: Server) -> None:
    address = server.address_for(LINUX)
    answer = server.answer(LINUX.message(MessageType.DECLINE, OUR_SERVER_ID, ia=ia_address_options(address)))
    assert (answer.reason, answer.commit[0].state) == (NoReplyReason.DECLINED, LeaseState.DECLINED)
    assert server.address_for(LINUX) != address
    server.now += QUARANTINE_SECONDS + LEASE
    third = LINUX.changed({1: b"third"})
    assert server.answer(third.message(ia=ia_address_options(address)), mac="").address == address


def get_lease_and_decline(server: Server, number: int) -> str:
    """A client leases an address and declines it because another machine uses it; returns the address."""
    client = LINUX.changed({1: b"client" + bytes((number,))})
    address = server.answer(client.message(ia=ia_address_options("fd77::%x" % (0x100 + number))), mac="").address
    server.answer(client.message(MessageType.REQUEST, OUR_SERVER_ID, ia=ia_address_options(address)), mac="")
    server.answer(client.message(MessageType.DECLINE, OUR_SERVER_ID, ia=ia_address_options(address)), mac="")
    return address


def quarantined(server: Server) -> list[str]:
    """The addresses that clients have declined."""
    return [lease.address for lease in server.server.leases() if lease.state is LeaseState.DECLINED]


def test_client_can_quarantine_three_addresses(server: Server) -> None:
    declined = []
    for _ in range(5):
        declined.append(server.address_for(LINUX))
        answer = server.answer(LINUX.message(MessageType.DECLINE, OUR_SERVER_ID, ia=ia_address_options(declined[-1])))
    assert sorted(quarantined(server)) == sorted(declined[2:])
    assert [(lease.address, lease.state) for lease in answer.commit] == [
        (declined[4], LeaseState.DECLINED),
        (declined[1], LeaseState.RELEASED),
    ]


def test_quarantined_address_is_assigned_if_no_other_is_left() -> None:
    server = Server(subnet(pool=["fd77::101-fd77::102"]))
    declined = [get_lease_and_decline(server, number) for number in (1, 2)]
    assert sorted(declined) == ["fd77::101", "fd77::102"]

    assigned = [server.address_for(LINUX.changed({1: duid}), mac="") for duid in (b"third", b"fourth")]

    assert assigned == declined
    assert server.answer(LINUX.changed({1: b"fifth"}).message(), mac="").reason is NoReplyReason.EXHAUSTED


def test_reserved_quarantined_address_is_not_assigned_to_others() -> None:
    server = Server(subnet(pool=["fd77::101"]))
    server.server.reserve(Reservation(get_lease_and_decline(server, 1), mac="02:00:00:00:00:77"))
    assert server.answer(LINUX.changed({1: b"other"}).message(), mac="").reason is NoReplyReason.EXHAUSTED


def test_information_request_gets_options_without_an_address(server: Server) -> None:
    answer = server.answer(LINUX.message(MessageType.INFORMATION_REQUEST, ia=None))
    assert (answer.kind, answer.address) == (MessageType.REPLY, "")
    assert answer.configured.keys() == {Option.DNS_SERVERS, Option.DOMAIN_LIST}
    assert server.handle(LINUX.message(MessageType.INFORMATION_REQUEST)).reason is NoReplyReason.MALFORMED


def test_prefixes_are_not_delegated(server: Server) -> None:
    answer = server.answer(LINUX.message(MessageType.SOLICIT, (Option.IA_PD, bytes(12))))
    assert status_in(identity_association(present(first(answer.options, Option.IA_PD))).options) == Status.NO_PREFIXES


def test_reserved_addresses_are_given_by_mac_and_duid() -> None:
    hosts = [Host6(address="fd77::42", mac=MAC), Host6(address="fd77::43", duid=OVMF_IP_DRIVER.options[1])]
    server = Server(subnet(hosts=hosts[:1]))
    assert server.address_for(OVMF) == "fd77::42"
    assert server.address_for(IPXE) == "fd77::42"
    assert server.address_for(LINUX) == "fd77::42"
    assert server.address_for(LINUX.changed({1: b"reinstalled"})) == "fd77::42"
    assert (
        server.answer(LINUX.changed({1: b"x"}).message(ia=ia_address_options("fd77::42")), mac="").address != "fd77::42"
    )
    assert Server(subnet(hosts=hosts)).address_for(OVMF_IP_DRIVER, mac="") == "fd77::43"


def test_a_reservation_of_the_operator_counts_at_once() -> None:
    server = Server(subnet(hosts=[Host6(address="fd77::42", mac=MAC)]))
    original = server.address_for(LINUX)
    moved = Reservation("fd77::43", mac=MAC)
    server.server.reserve(moved)
    assert list(server.server.reservations()) == [moved], "it replaces the one for the same client"
    answer = server.answer(LINUX.message(MessageType.RENEW, OUR_SERVER_ID, ia=ia_address_options(original)))
    assert address_in(answer).valid == 0, "the client has to request a new address"
    assert server.address_for(LINUX) == "fd77::43"
    server.server.reserve(Reservation("fd77::44", client_id=LINUX.options[1]))
    assert server.address_for(LINUX) == "fd77::44", "a DUID counts more than a MAC address"
    server.server.unreserve(Reservation("fd77::44", client_id=LINUX.options[1]))
    server.server.unreserve(moved)
    server.server.unreserve(moved)
    assert list(server.server.reservations()) == []
    for invalid in (Reservation("fd99::1", mac=MAC), Reservation("10.0.0.1", mac=MAC), Reservation("", mac=MAC)):
        with pytest.raises(ValueError, match=r"no subnet|not of IPv6"):
            server.server.reserve(invalid)


def test_address_returns_to_the_pool_without_its_reservation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashedallocator, "_ATTEMPTS", 0)  # addresses are taken in their order only
    book = Book(subnet(pool=["fd77::2-fd77::3"]))
    reservation = Reservation("fd77::2", client_id=b"x")
    book.reserve(reservation)
    assert book.lease_to(0, NOW) == "fd77::3"
    assert book.chosen_address(1, NOW) == ""
    book.unreserve(reservation)
    assert book.lease_to(1, NOW) == "fd77::2"
    assert book.chosen_address(2, NOW) == ""


def test_a_reserved_address_is_not_taken_from_another_machine(server: Server) -> None:
    other = LINUX.changed({1: b"other"})
    leased = server.address_for(other, mac="52:54:00:00:00:09")
    server.server.reserve(Reservation(leased, mac=MAC))
    assert server.address_for(LINUX) != leased
    renewal = server.answer(
        other.message(MessageType.RENEW, OUR_SERVER_ID, ia=ia_address_options(leased)), mac="52:54:00:00:00:09"
    )
    assert address_in(renewal).valid == 0
    server.now += LEASE
    assert server.address_for(LINUX) == leased


def test_declined_reserved_address_is_given_again_after_the_quarantine() -> None:
    server = Server(subnet(hosts=[Host6(address="fd77::42", mac=MAC)]))
    assert server.address_for(LINUX) == "fd77::42"
    server.answer(LINUX.message(MessageType.DECLINE, OUR_SERVER_ID, ia=ia_address_options("fd77::42")))
    assert server.address_for(LINUX) != "fd77::42"
    server.now += QUARANTINE_SECONDS
    assert server.address_for(LINUX) == "fd77::42"


def test_associations_of_one_message_share_the_remaining_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashedallocator, "_ATTEMPTS", 0)
    server = Server(subnet(pool=["fd77::2-fd77::4"]))
    further_associations = [(Option.IA_NA, identity_association_bytes(IdentityAssociation(iaid))) for iaid in (98, 99)]
    offer = server.answer(LINUX.message(MessageType.SOLICIT, *further_associations))
    assert [status_in(each.options) for each in associations(offer) if not has_address(each)] == []
    reply = server.answer(LINUX.message(MessageType.REQUEST, OUR_SERVER_ID, *further_associations))
    assert [lease.address for lease in reply.commit] == ["fd77::2", "fd77::3", "fd77::4"]


def associations(answer: Answer6) -> list[IdentityAssociation]:
    return [identity_association(raw) for code, raw in answer.options if code == Option.IA_NA]


def has_address(found: IdentityAssociation) -> bool:
    return any(code == Option.IA_ADDRESS for code, _ in found.options)


def configured(
    server: Server, client: Client, kind: MessageType = MessageType.SOLICIT, **message_fields: Any
) -> dict[int, bytes]:
    return dict(server.answer(client.changed({6: None}).message(kind, **message_fields)).configured)


def test_host_options_override_class_and_subnet_options() -> None:
    classes = [
        HostClass6(vendor_class="PXEClient", options={"65000": {"text": "pxe"}, "65001": {"text": "pxe"}}),
        HostClass6(vendor_class="PXEClient", user_class="iPXE", options={"65009": {"text": "nobody"}}),
        HostClass6(user_class="iPXE", options={"65001": {"text": "ipxe"}}),
    ]
    hosts = [Host6(duid=LINUX.options[1], options={"65001": {"text": "host"}, "dns-servers": "fd77::53"})]
    server = Server(
        subnet(domain=(), hosts=hosts, options={"65001": {"text": "subnet"}, "sntp-servers": "fd77::1"}),
        classes=classes,
    )
    dns = bytes.fromhex("fd77" + "00" * 13 + "01")

    assert configured(server, OVMF_IP_DRIVER) == {23: dns, 31: dns, 65001: b"subnet"}
    assert configured(server, OVMF) == {23: dns, 31: dns, 65000: b"pxe", 65001: b"pxe"}
    assert configured(server, IPXE) == {23: dns, 31: dns, 65001: b"ipxe"}
    of_host = {23: bytes.fromhex("fd77" + "00" * 13 + "53"), 31: dns, 65001: b"host"}
    assert configured(server, LINUX) == of_host
    assert configured(server, LINUX, MessageType.INFORMATION_REQUEST, ia=None) == of_host
    assert configured(server, OVMF_IP_DRIVER) == {23: dns, 31: dns, 65001: b"subnet"}, (
        "options of other clients have not changed those of the subnet"
    )


def test_vendor_options_override_each_other_by_enterprise() -> None:
    def vendor(enterprise: int, value: str) -> dict[str, dict[str, Any]]:
        return {"vendor-opts": {str(enterprise): {"1": {"text": value}}}}

    def packed(enterprise: int, value: bytes) -> bytes:
        return vendor_options_bytes(enterprise, ((1, value),))

    both = {"vendor-opts": vendor(9, "subnet")["vendor-opts"] | vendor(4491, "subnet")["vendor-opts"]}
    server = Server(
        subnet(dns=(), domain=(), options=both, hosts=[Host6(mac=MAC, options=vendor(343, "host"))]),
        classes=[HostClass6(user_class="iPXE", options=vendor(9, "ipxe"))],
    )

    def vendor_options_for(client: Client, requested: tuple[int, ...]) -> Options:
        message = client.changed({6: uint16s_bytes(requested)}).message()
        answer = server_reply6(message, server.answer(message), b"ours", None, None)
        return tuple(option for option in answer.options if option[0] == Option.VENDOR_OPTIONS)

    of_all = packed(4491, b"subnet"), packed(343, b"host")
    assert vendor_options_for(LINUX, (23, 17)) == ((17, packed(9, b"subnet")), *((17, each) for each in of_all))
    assert vendor_options_for(IPXE, (17,)) == ((17, packed(9, b"ipxe")), *((17, each) for each in of_all))
    assert vendor_options_for(LINUX, (23,)) == ()


def test_a_reservation_with_the_bytes_of_a_vendor_option_can_be_removed() -> None:
    server = Server(subnet())
    reservation = Reservation("fd77::42", mac=MAC, options={17: vendor_options_bytes(9, ((1, b"x"),))})
    server.server.reserve(reservation)
    (stored,) = server.server.reservations()
    assert dict(stored.options) == {9 << 16 | 17: reservation.options[17]}
    server.server.unreserve(reservation)
    assert list(server.server.reservations()) == []


def test_host_without_an_address_gets_one_of_the_pool() -> None:
    server = Server(subnet(hosts=[Host6(mac=MAC, options={"65001": {"uint8": 1}})]))
    assert server.address_for(LINUX).startswith("fd77::1")
    assert configured(server, LINUX)[65001] == b"\1"


def test_subnet_is_found_by_relay_or_interface() -> None:
    far = subnet(network="fd78::/64", pool=["fd78::100-fd78::1ff"], relays=["fd99::9"])
    server = Server(subnet(), far)
    message = LINUX.message()
    assert server.answer(message, relays=(Relay(0, "fd78::1", "fe80::1"),)).address.startswith("fd78::")
    assert server.answer(message, relays=(Relay(0, "fd99::9", "fe80::1"),)).address.startswith("fd78::")
    assert server.answer(message, relays=(Relay(0, "::", "fe80::1"),)).address.startswith("fd77::")
    assert server.handle(message, relays=(Relay(0, "fd55::1", "fe80::1"),)).reason is NoReplyReason.NO_SUBNET
    assert server.handle(message, addresses=()).reason is NoReplyReason.NO_SUBNET


def test_limit_on_new_clients_does_not_affect_known_ones(server: Server) -> None:
    address = server.address_for(LINUX)
    strict = Server(admit=lambda wire, now: False)
    for lease in server.server.leases():
        strict.server.restore(lease)
    assert strict.address_for(LINUX) == address, "not those that are known"
    assert strict.handle(OVMF_IP_DRIVER.message(MessageType.REQUEST, OUR_SERVER_ID)).reason is NoReplyReason.LIMITED


def test_operator_can_release_a_lease(server: Server) -> None:
    address = server.address_for(LINUX)
    (released,) = server.server.release(address, NOW)
    assert released.state is LeaseState.RELEASED
    assert server.server.release("fd99::1", NOW) == ()
    assert server.server.release("10.0.0.1", NOW) == ()
    assert not server.server.restore(evolve(released, address="10.0.0.1"))


class Book(LeaseBook[Subnet6, HashedAllocator]):
    """A lease book of DHCPv6 whose clients are numbers."""

    def __init__(self, subnet: Subnet6, own_addresses: Collection[str] = ()) -> None:
        super().__init__([subnet], own_addresses, HashedAllocator)

    def choose_for(
        self, number: int, now: float, excluded: Collection[int] = ()
    ) -> tuple[ClientIA, Binding[Subnet6] | None]:
        client_ia = ClientIA(f"client {number}".encode(), number, "", "system")
        return client_ia, self.choose(client_ia, None, None, self.subnets[0], now, excluded)

    def chosen_address(self, number: int, now: float, excluded: Collection[int] = ()) -> str:
        _, binding = self.choose_for(number, now, excluded)
        return "" if binding is None else binding.address

    def lease_to(self, number: int, now: float) -> str:
        client_ia, binding = self.choose_for(number, now)
        assert binding is not None
        self.grant(
            binding, Lease(binding.address, client_ia.key, "", LeaseState.ACTIVE, now, now + LEASE, client_ia.duid)
        )
        return binding.address


def test_pool_is_used_up_before_expired_addresses() -> None:
    book = Book(subnet(pool=["fd77::-fd77::5"], exclude=["fd77::3"]), {"fd77::4"})
    leased = [book.lease_to(number, NOW + number) for number in range(3)]
    assert sorted(leased) == ["fd77::1", "fd77::2", "fd77::5"]
    assert book.chosen_address(9, NOW + 9) == ""
    assert book.lease_to(0, NOW + 100) == leased[0]
    assert book.chosen_address(9, NOW + LEASE + 50) == leased[1]
    second = next(number for number in book.bindings if text_of(number, 6) == leased[1])
    assert book.chosen_address(9, NOW + LEASE + 50, [second]) == leased[2]


def test_expired_addresses_are_reused_before_memory_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashedallocator, "REUSE_EXPIRED_ABOVE", 3)
    book = Book(subnet())
    for number in range(20):
        book.lease_to(number, NOW + number * (LEASE + 1))
    assert len(list(book.leases())) == 3
    late_time = NOW + 19 * (LEASE + 1)
    for number in range(20, 30):
        book.lease_to(number, late_time)
    assert len(list(book.leases())) == 11, "each client that has an address keeps it"
