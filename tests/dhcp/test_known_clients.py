"""Known clients only, several cards of one machine, times of renewal, rapid commit: for DHCPv4 and DHCPv6."""

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from firmware6 import LINUX, MAC
from leasing import BEGIN, NAK, OFFER, ROM, Machine, address, no_reply_reason, pool, server, subnet
from narrowing import of_type
from test_server6 import OUR_SERVER_ID, RAPID, Server, address_in, association, ia_address_options, status_in
from test_server6 import subnet as subnet6

from bootfw.dhcp.answer import Answer, NoReply, NoReplyReason
from bootfw.dhcp.reply import server_reply
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.subnet import Host, Subnet
from bootfw.dhcp.subnet6 import Host6, Subnet6
from bootfw.errors import ConfigError
from bootfw.lease import LeaseState, Reservation
from bootfw.wire.dhcp4 import MessageType as Type
from bootfw.wire.dhcp6 import MessageType
from bootfw.wire.options6 import Option, Status

FIRST, DOCK, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
ACK = Type.ACK


# The lease time of a host


@pytest.mark.parametrize(
    ("lease_seconds", "of_system", "of_firmware"),
    [(86400, 86400, 600), (300, 300, 300), (600, 600, 600), (0, 3600, 600)],
)
def test_a_host_has_a_lease_time_of_its_own(lease_seconds: int, of_system: int, of_firmware: int) -> None:
    dhcp = server(subnet(hosts=[Host(mac=FIRST, lease_seconds=lease_seconds)]))
    for options, seconds in ((ROM, of_firmware), ({}, of_system)):
        machine = Machine(1, dhcp, options=options)
        offer = of_type(Answer, machine.discovers())
        ack = of_type(Answer, machine.selects(offer.address))
        assert [int.from_bytes(each.options[51], "big") for each in (offer, ack)] == [seconds, seconds]
        assert ack.commit[0].expires == BEGIN + seconds
        dhcp.release(offer.address, BEGIN)
    assert of_type(Answer, Machine(2, dhcp).discovers()).options[51] == (3600).to_bytes(4, "big")


def test_times_of_renewal_that_are_not_less_than_the_lease_time_of_the_host_are_left_out() -> None:
    dhcp = server(subnet(renew_seconds=1000, rebind_seconds=2000, hosts=[Host(mac=FIRST, lease_seconds=1500)]))
    options = of_type(Answer, Machine(1, dhcp).discovers()).options
    assert (options[58], 59 in options) == ((1000).to_bytes(4, "big"), False)


def test_by_dhcpv6_a_host_has_a_lease_time_of_its_own() -> None:
    dhcp = Server(subnet6(renew_seconds=900, hosts=[Host6(mac=MAC, lease_seconds=800)]))
    leased = dhcp.address_for(LINUX)
    for message in (MessageType.REQUEST, MessageType.RENEW):
        answer = dhcp.answer(LINUX.message(message, OUR_SERVER_ID, ia=ia_address_options(leased)))
        assert (address_in(answer).valid, association(answer).t1, association(answer).t2) == (800, 300, 480)
        assert answer.commit[0].expires - answer.commit[0].granted == 800


@pytest.mark.parametrize("kind", [Host, Host6, Reservation])
def test_a_lease_time_of_a_host_is_from_a_minute_to_a_year(kind: type[Any]) -> None:
    for invalid in (59, 31536001, -1):
        with pytest.raises(ValueError, match="must be from 60 to 31536000 seconds"):
            kind(mac=FIRST, lease_seconds=invalid)


# Known clients only


@pytest.fixture
def known_only() -> AddressServer:
    """With a subnet for known clients only: one without and one with a reserved address."""
    return server(subnet(known_clients_only=True, hosts=[Host(mac=FIRST), Host(mac=DOCK, address="10.77.0.50")]))


def test_known_clients_get_addresses_of_the_pool_and_reserved_ones(known_only: AddressServer) -> None:
    assert Machine(1, known_only).get_lease() == "10.77.0.100"
    assert Machine(2, known_only).get_lease() == "10.77.0.50"


def test_unknown_clients_are_refused_with_the_reason(known_only: AddressServer) -> None:
    answer = Machine(3, known_only).discovers("10.77.0.105")
    assert isinstance(answer, NoReply)
    assert (no_reply_reason(answer), answer.detail) == (NoReplyReason.UNKNOWN_CLIENT, "10.77.0.0/24")
    assert isinstance(Machine(3, known_only).informs("10.77.0.200"), Answer)


def test_a_client_that_is_no_longer_known_keeps_its_lease_until_it_renews(known_only: AddressServer) -> None:
    stranger = Machine(3, known_only)
    reservation = Reservation(mac=OTHER)
    known_only.reserve(reservation)
    leased = stranger.get_lease()
    known_only.unreserve(reservation)

    assert address(stranger.renews(leased), NAK) == ""
    assert no_reply_reason(stranger.discovers()) is NoReplyReason.UNKNOWN_CLIENT


def test_in_a_shared_network_unknown_clients_get_addresses_of_the_other_subnets() -> None:
    known_only_subnet = subnet(
        pool=["10.77.0.100"], known_clients_only=True, shared_network="lab", hosts=[Host(mac=FIRST)]
    )
    guest_subnet = Subnet(network="10.79.0.0/24", pool=["10.79.0.100"], shared_network="lab")
    dhcp = server(known_only_subnet, guest_subnet)

    assert of_type(Answer, Machine(3, dhcp).discovers("10.77.0.100")).address == "10.79.0.100"
    assert Machine(1, dhcp).get_lease() == "10.77.0.100"
    assert no_reply_reason(Machine(4, dhcp).discovers()) is NoReplyReason.EXHAUSTED


def test_quarantined_addresses_are_for_known_clients_only() -> None:
    dhcp = server(
        subnet(pool=["10.77.0.100"], known_clients_only=True, shared_network="lab", hosts=[Host(mac=FIRST)]),
        Subnet(network="10.79.0.0/24", pool=["10.79.0.100"], shared_network="lab"),
    )
    Machine(1, dhcp).get_lease_and_decline()
    Machine(3, dhcp).get_lease()

    assert no_reply_reason(Machine(4, dhcp).discovers()) is NoReplyReason.EXHAUSTED
    assert Machine(1, dhcp).after(5).get_lease() == "10.77.0.100"


def test_dhcpv6_serves_known_clients_only() -> None:
    dhcp = Server(subnet6(known_clients_only=True, hosts=[Host6(duid=b"known")]))
    client = LINUX.changed({1: b"known"})
    assert dhcp.address_for(client, mac="") != ""
    for message in (
        LINUX.message(),
        LINUX.message(MessageType.REQUEST, OUR_SERVER_ID),
        LINUX.message(MessageType.SOLICIT, RAPID),
    ):
        answer = dhcp.answer(message, mac=MAC)
        assert (answer.address, status_in(association(answer).options)) == ("", Status.NO_ADDRESSES)
        assert answer.commit == ()
    assert dhcp.answer(LINUX.message()).reason is NoReplyReason.UNKNOWN_CLIENT


def test_by_dhcpv6_an_unknown_client_loses_its_address_when_it_renews() -> None:
    dhcp = Server(subnet6(known_clients_only=True))
    reservation = Reservation("fd77::77", mac=MAC)
    dhcp.server.reserve(reservation)
    leased = dhcp.address_for(LINUX)
    dhcp.server.unreserve(reservation)

    answer = dhcp.answer(LINUX.message(MessageType.RENEW, OUR_SERVER_ID, ia=ia_address_options(leased)))

    assert (address_in(answer).address, address_in(answer).valid) == (leased, 0)


# Several cards of one machine


@pytest.fixture
def docked() -> AddressServer:
    """With a host of two cards, such as that of a notebook and that of its dock."""
    return server(subnet(hosts=[Host(address="10.77.0.50", mac=FIRST, other_macs=[DOCK])]))


def test_the_address_passes_from_one_card_to_the_other_at_once_and_is_not_probed(docked: AddressServer) -> None:
    notebook, dock = Machine(1, docked), Machine(2, docked)
    assert notebook.get_lease() == "10.77.0.50"

    offer = dock.after(10).discovers()

    assert isinstance(offer, Answer)
    assert (address(offer, OFFER), offer.probe) == ("10.77.0.50", False)
    ack = dock.after(10).selects("10.77.0.50")
    assert isinstance(ack, Answer)
    assert (address(ack), ack.commit[0].mac, ack.new) == ("10.77.0.50", DOCK, True)
    assert address(notebook.after(20).restarts_with("10.77.0.50")) == "10.77.0.50"
    assert [lease.mac for lease in docked.leases() if lease.state is LeaseState.ACTIVE] == [FIRST]


def test_address_of_two_cards_is_refused_to_other_clients(docked: AddressServer) -> None:
    Machine(1, docked).get_lease()
    assert of_type(Answer, Machine(3, docked).discovers("10.77.0.50")).address == "10.77.0.100"
    assert no_reply_reason(Machine(3, docked).restarts_with("10.77.0.50")) is NoReplyReason.UNKNOWN


def test_lease_of_another_client_is_not_taken_over() -> None:
    dhcp = server()
    leased = Machine(3, dhcp).get_lease()
    dhcp.reserve(Reservation(leased, mac=FIRST, other_macs=[DOCK]))
    assert of_type(Answer, Machine(1, dhcp).discovers()).address != leased


def test_two_clients_that_match_one_reservation_by_mac_and_uuid_do_not_take_it_from_each_other() -> None:
    dhcp = server(subnet(hosts=[Host(address="10.77.0.50", mac=FIRST, uuid="00000000-0000-0000-0000-000000000001")]))
    assert Machine(1, dhcp).get_lease() == "10.77.0.50"
    other = Machine(2, dhcp, {97: bytes(16) + b"\1"})

    assert address(other.discovers(), OFFER) == "10.77.0.100"


def test_quarantined_reserved_address_is_not_assigned(docked: AddressServer) -> None:
    offered = Machine(1, docked).discovers()
    assert isinstance(offered, Answer)
    docked.probe_finished(offered.address, True, BEGIN)
    assert of_type(Answer, Machine(2, docked).discovers()).address == "10.77.0.100"


def test_by_dhcpv6_any_card_of_the_machine_has_its_address() -> None:
    docked = Server(subnet6(hosts=[Host6(address="fd77::50", mac="02:00:00:00:00:99", other_macs=[MAC])]))
    assert docked.address_for(LINUX) == "fd77::50"
    assert docked.address_for(LINUX.changed({1: b"another"}), mac="02:00:00:00:00:99") == "fd77::50"


@pytest.mark.parametrize("kind", [Host, Host6])
def test_other_macs_is_a_list_of_macs_in_any_spelling(kind: type[Host] | type[Host6]) -> None:
    with pytest.raises(ValueError, match="must be a list"):
        kind(mac=FIRST, other_macs=DOCK)
    assert kind(other_macs=["02-00-00-00-00-02"]).macs == (DOCK,)


# T1 and T2


def test_times_of_renewal_are_not_sent_unless_they_are_configured() -> None:
    assert {58, 59}.isdisjoint(of_type(Answer, Machine(1, server()).discovers()).options)


def test_times_of_renewal_are_sent_with_the_lease_and_to_firmware_where_they_fit() -> None:
    dhcp = server(subnet(renew_seconds=900, rebind_seconds=1800))
    system, rom = (
        of_type(Answer, Machine(1, dhcp).discovers()).options,
        of_type(Answer, Machine(2, dhcp, ROM).discovers()).options,
    )

    assert [int.from_bytes(system[code], "big") for code in (51, 58, 59)] == [3600, 900, 1800]
    assert {58, 59}.isdisjoint(rom)
    short = of_type(Answer, Machine(2, server(subnet(renew_seconds=100, rebind_seconds=1800)), ROM).discovers()).options
    assert 59 not in short
    assert int.from_bytes(short[58], "big") == 100


@pytest.mark.parametrize("make", [subnet, subnet6])
@pytest.mark.parametrize(
    ("renew", "rebind", "key"), [(3600, 0, "renew"), (-1, 0, "renew"), (0, 3600, "rebind"), (900, 900, "rebind")]
)
def test_renewal_times_must_be_in_order(make: Callable[..., Any], renew: int, rebind: int, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(renew_seconds=renew, rebind_seconds=rebind)
    assert caught.value.path == (f"{key}-seconds",)


@pytest.mark.parametrize(
    ("times", "expected"),
    [({}, (1350, 2160)), ({"renew_seconds": 100}, (100, 2160)), ({"renew_seconds": 3000}, (3000, 3000)),
     ({"rebind_seconds": 200}, (200, 200)), ({"renew_seconds": 60, "rebind_seconds": 90}, (60, 90))],
)  # fmt: skip
def test_by_dhcpv6_t1_never_comes_after_t2(times: dict[str, int], expected: tuple[int, int]) -> None:
    ia = association(Server(subnet6(**times)).answer(LINUX.message()))
    assert (ia.t1, ia.t2) == expected


# Rapid commit


def rapid(number: int, dhcp: AddressServer) -> Machine:
    """A machine that requests rapid commit."""
    return Machine(number, dhcp, {80: b""})


def test_rapid_commit_assigns_the_address_in_the_first_reply() -> None:
    dhcp = server(subnet(rapid_commit=True))
    machine = rapid(1, dhcp)
    offer = machine.discovers()
    assert isinstance(offer, Answer)
    assert (offer.kind, offer.probe) == (OFFER, True)
    dhcp.probe_finished(offer.address, False, BEGIN)

    answer = machine.discovers()

    assert isinstance(answer, Answer)
    assert (address(answer), answer.options[80], answer.new) == ("10.77.0.100", b"", True)
    assert [lease.address for lease in answer.commit] == ["10.77.0.100"]
    assert address(machine.after(100).renews("10.77.0.100")) == "10.77.0.100"
    again = machine.after(200).discovers()
    assert isinstance(again, Answer)
    assert (address(again), again.new) == ("10.77.0.100", False)


def test_rapid_commit_option_is_never_left_out_of_its_reply() -> None:
    for size in range(1, 40):
        values = {"224": 250, "225": size}
        options = {code: {"bytes": "0x" + "00" * length} for code, length in values.items()}
        dhcp = server(subnet(rapid_commit=True, options=options))
        machine = Machine(1, dhcp, {80: b"", 55: b"\xe0\xe1"})
        dhcp.probe_finished(of_type(Answer, machine.discovers()).address, False, BEGIN)
        reply = server_reply(machine.message(1), of_type(Answer, machine.discovers()))
        assert reply.options[80] == b""


def test_without_request_or_permission_nothing_is_committed_rapidly() -> None:
    allowed, usual = server(subnet(rapid_commit=True)), server()
    for machine in (Machine(1, allowed), rapid(1, usual)):
        machine.server.probe_finished(of_type(Answer, machine.discovers()).address, False, BEGIN)
        answer = machine.discovers()
        assert isinstance(answer, Answer)
        assert (answer.kind, answer.commit) == (OFFER, ())
        assert 80 not in answer.options


def test_by_dhcpv6_rapid_commit_can_be_left_out() -> None:
    answer = Server(subnet6(rapid_commit=False)).answer(LINUX.message(MessageType.SOLICIT, RAPID))
    assert (answer.kind, answer.commit) == (MessageType.ADVERTISE, ())
    assert Option.RAPID_COMMIT not in dict(answer.options)


def test_defaults_do_not_change_pools_and_subnets() -> None:
    assert (pool(1).known_clients_only, pool(1).rapid_commit) == (False, False)
    plain = Subnet6(network="fd77::/64")
    assert (plain.known_clients_only, plain.rapid_commit, plain.times) == (False, True, (1350, 2160))
    assert evolve(Reservation(mac=FIRST)).macs == (FIRST,)
