"""The server's answers to a client in each state (RFC 2131 section 4.3)."""

from socket import inet_aton

import pytest
from leasing import (
    ACK,
    BEGIN,
    FIRMWARE_LEASE,
    LEASE,
    NAK,
    OFFER,
    ROM,
    SERVER,
    Machine,
    address,
    no_reply_reason,
    pool,
    server,
    subnet,
)
from narrowing import of_type, present

from bootfw.dhcp.answer import Answer, Arrival, NoReply, NoReplyReason
from bootfw.lease import NEVER, LeaseState, Reservation

UNKNOWN = NoReplyReason.UNKNOWN


@pytest.fixture
def machine() -> Machine:
    return Machine(1, server())


@pytest.fixture
def other(machine: Machine) -> Machine:
    """Another machine on the same wire."""
    return Machine(2, machine.server)


# INIT


def test_discover_gets_an_offer(machine: Machine) -> None:
    offer = machine.discovers()

    assert address(offer, OFFER) == "10.77.0.100"
    assert isinstance(offer, Answer)
    assert offer.identifier == offer.server == SERVER
    assert offer.options == {51: bytes((0, 0, 14, 16)), 1: bytes((255, 255, 255, 0)), 3: bytes((10, 77, 0, 1))}
    assert offer.commit == ()
    assert offer.new


def test_offered_address_is_kept_for_its_client(machine: Machine, other: Machine) -> None:
    offered = address(machine.discovers(), OFFER)

    assert address(other.discovers(), OFFER) != offered
    assert address(machine.after(10).discovers(), OFFER) == offered
    assert address(machine.after(11).selects(offered)) == offered


def test_discover_with_another_xid_gets_the_same_offer(machine: Machine) -> None:
    offered = address(machine.discovers(), OFFER)

    assert address(machine.send(1, xid=77), OFFER) == offered


def test_unused_offer_expires() -> None:
    dhcp = server(pool(1))
    first, second = Machine(1, dhcp), Machine(2, dhcp)
    offered = address(first.discovers(), OFFER)

    assert no_reply_reason(second.after(119).discovers()) is NoReplyReason.EXHAUSTED
    assert address(second.after(120).discovers(), OFFER) == offered


def test_discover_is_offered_the_requested_free_address(machine: Machine, other: Machine) -> None:
    assert address(machine.discovers("10.77.0.107"), OFFER) == "10.77.0.107"
    assert address(other.discovers("10.77.0.107"), OFFER) == "10.77.0.100"


@pytest.mark.parametrize("requested", ["10.77.0.99", "10.78.0.100", "10.77.0.1", "255.255.255.255", "0.0.0.0"])
def test_discover_is_not_offered_addresses_outside_of_the_pool(machine: Machine, requested: str) -> None:
    assert address(machine.discovers(requested), OFFER) == "10.77.0.100"


def test_discover_with_a_truncated_requested_address_ignores_it(machine: Machine) -> None:
    assert address(machine.send(1, {50: b"\x0a\x4d\0"}), OFFER) == "10.77.0.100"


def test_discover_is_offered_the_leased_address(machine: Machine, other: Machine) -> None:
    leased = machine.get_lease()
    other.get_lease()

    offer = machine.after(60).discovers("10.77.0.105")

    assert address(offer, OFFER) == leased
    assert isinstance(offer, Answer)
    assert not offer.new


def test_discover_of_a_former_client_is_offered_its_old_lease(machine: Machine, other: Machine) -> None:
    leased = machine.get_lease()

    assert address(other.after(LEASE + 1).discovers(), OFFER) != leased
    assert address(machine.after(LEASE + 2).discovers(), OFFER) == leased


def test_offer_does_not_extend_the_lease(machine: Machine) -> None:
    leased = machine.get_lease()
    machine.after(LEASE - 1).discovers()

    assert present(machine.server.lease(leased)).expires == BEGIN + LEASE


# Probing


def test_address_is_probed_once(machine: Machine) -> None:
    offered = machine.discovers()
    assert isinstance(offered, Answer)
    assert offered.probe
    assert of_type(Answer, machine.discovers()).probe

    assert machine.server.probe_finished(offered.address, False, BEGIN + 1) == ()

    assert not of_type(Answer, machine.after(1).discovers()).probe


def test_without_conflict_detection_no_address_is_probed() -> None:
    assert not of_type(Answer, Machine(1, server(probes=False)).discovers()).probe
    rapid = Machine(1, server(subnet(rapid_commit=True), probes=False), options={80: b""})
    assert of_type(Answer, rapid.discovers()).kind is ACK


def test_an_address_that_its_client_may_be_using_is_not_probed(machine: Machine) -> None:
    machine.get_lease()

    assert not of_type(Answer, machine.after(60).discovers()).probe
    assert of_type(Answer, machine.after(LEASE + 1).discovers()).probe


def test_address_in_use_is_quarantined_and_another_is_offered(machine: Machine, other: Machine) -> None:
    offered = address(machine.discovers(), OFFER)

    (declined,) = machine.server.probe_finished(offered, True, BEGIN)

    assert (declined.address, declined.state, declined.client) == (offered, LeaseState.DECLINED, b"")
    assert declined.expires == BEGIN + 3600
    assert address(machine.discovers(offered), OFFER) != offered
    assert address(other.after(3599).discovers(offered), OFFER) != offered
    assert address(other.after(3601).discovers(offered), OFFER) != offered, "its own offer comes first"
    assert address(Machine(3, machine.server, now=BEGIN + 3601).discovers(offered), OFFER) == offered


def test_a_probe_of_an_unknown_address_changes_nothing(machine: Machine) -> None:
    assert machine.server.probe_finished("192.0.2.1", True, BEGIN) == ()
    assert machine.server.probe_finished("10.77.0.5", True, BEGIN) == ()
    assert list(machine.server.leases()) == []


# SELECTING


def test_selecting_gets_an_ack_and_a_lease(machine: Machine) -> None:
    offered = address(machine.discovers(), OFFER)

    ack = machine.after(4).selects(offered)

    assert address(ack) == offered
    (lease,) = ack.commit
    assert (lease.address, lease.mac, lease.state, lease.kind) == (offered, machine.mac, LeaseState.ACTIVE, "system")
    assert (lease.granted, lease.expires) == (BEGIN + 4, BEGIN + 4 + LEASE)
    assert isinstance(ack, Answer)
    assert ack.new
    assert ack.options == of_type(Answer, machine.after(5).discovers()).options
    assert machine.server.lease(offered) is lease


def test_selecting_repeated_gets_the_same_ack_and_is_stored_again(machine: Machine) -> None:
    offered = address(machine.discovers(), OFFER)
    machine.selects(offered)

    again = machine.after(1).selects(offered)

    assert address(again) == offered
    assert isinstance(again, Answer)
    assert not again.new
    assert len(again.commit) == 1


def test_selecting_another_server_frees_the_offer() -> None:
    dhcp = server(pool(1))
    first, second = Machine(1, dhcp), Machine(2, dhcp)
    first.discovers()

    answer = first.selects("192.0.2.9", server_id="192.0.2.1")

    assert no_reply_reason(answer) is NoReplyReason.OTHER_SERVER
    assert isinstance(answer, NoReply)
    assert answer.detail == "192.0.2.1"
    assert address(second.discovers(), OFFER) == "10.77.0.100"


def test_selecting_the_former_leader_is_acknowledged_in_its_name() -> None:
    """Clients ignore an ACK of another server than the one that they have selected."""
    dhcp = server(pool(2))
    dhcp.own_addresses.add("10.77.0.9")
    first, second = Machine(1, dhcp), Machine(2, dhcp)

    answer = first.selects("10.77.0.101", server_id="10.77.0.9")
    refused = second.selects("10.77.0.101", server_id="10.77.0.9")

    assert address(answer) == "10.77.0.101"
    assert isinstance(answer, Answer)
    assert isinstance(refused, Answer)
    assert (answer.identifier, answer.server) == ("10.77.0.9", "10.77.0.1")
    assert (address(refused, NAK), refused.identifier) == ("", "10.77.0.9")


def test_a_reload_keeps_the_addresses_of_other_nodes() -> None:
    dhcp = server(pool(2))
    dhcp.own_addresses.add("10.77.0.9")
    after = server(pool(2))
    after.restore_from(dhcp, BEGIN)
    assert address(Machine(1, after).selects("10.77.0.101", server_id="10.77.0.9")) == "10.77.0.101"


def test_selecting_another_server_keeps_the_lease_that_is_there(machine: Machine) -> None:
    leased = machine.get_lease()

    machine.selects("192.0.2.9", server_id="192.0.2.1")

    assert present(machine.server.lease(leased)).state is LeaseState.ACTIVE


def test_selecting_another_of_our_addresses_selects_this_server(machine: Machine) -> None:
    machine.server.handle(Machine(9, machine.server).message(8, ciaddr=SERVER), Arrival("10.77.0.2"), BEGIN)
    offered = address(machine.discovers(), OFFER)

    assert address(machine.selects(offered, server_id="10.77.0.2")) == offered


def test_selecting_another_clients_address_gets_a_nak(machine: Machine, other: Machine) -> None:
    leased = other.get_lease()

    nak = machine.selects(leased)

    assert address(nak, NAK) == ""
    assert isinstance(nak, Answer)
    assert nak.message == f"{leased} is in use"
    assert nak.commit == ()


def test_selecting_an_address_offered_to_another_client_gets_a_nak(machine: Machine, other: Machine) -> None:
    offered = address(other.discovers(), OFFER)

    assert address(machine.selects(offered), NAK) == ""


@pytest.mark.parametrize("requested", ["10.77.0.5", "10.78.0.5", "10.77.0.1"])
def test_selecting_an_unassignable_address_gets_a_nak(machine: Machine, requested: str) -> None:
    assert address(machine.selects(requested), NAK) == ""


def test_selecting_after_a_restart_of_the_server_gets_an_ack(machine: Machine) -> None:
    """The server has restarted between the OFFER and the REQUEST."""
    offered = address(machine.discovers(), OFFER)

    assert address(Machine(1, server()).selects(offered)) == offered


def test_selecting_without_an_address_is_malformed(machine: Machine) -> None:
    assert no_reply_reason(machine.send(3, {54: inet_aton(SERVER)})) is NoReplyReason.MALFORMED


def test_a_server_identifier_that_is_cut_off_counts_as_absent(machine: Machine) -> None:
    offered = address(machine.discovers(), OFFER)

    assert address(machine.send(3, {54: b"\x0a", 50: inet_aton(offered)})) == offered


def test_request_without_an_address_gets_the_offered_one(machine: Machine, other: Machine) -> None:
    machine.discovers("10.77.0.105")
    assert address(machine.send(3, {54: inet_aton(SERVER), 50: b"\x0a\x4d"})) == "10.77.0.105"
    assert address(machine.after(60).send(3)) == "10.77.0.105"
    assert no_reply_reason(other.send(3, {54: inet_aton(SERVER)})) is NoReplyReason.MALFORMED


def test_repeated_options_change_nothing(machine: Machine) -> None:
    """By RFC 3396 an option that is repeated is one value, here of eight bytes."""
    requested, chosen = inet_aton("10.77.0.105"), inet_aton(SERVER)

    assert address(machine.send(1, {50: requested + requested}), OFFER) == "10.77.0.105"
    assert address(machine.send(3, {50: requested + requested, 54: chosen + chosen})) == "10.77.0.105"
    assert (
        no_reply_reason(machine.send(3, {50: requested, 54: inet_aton("10.77.0.9") + chosen}))
        is NoReplyReason.OTHER_SERVER
    )


@pytest.mark.parametrize("former", ["10.77.0.107", "192.168.9.9"])
def test_selecting_with_a_former_address_in_ciaddr_is_selecting(machine: Machine, former: str) -> None:
    offered = address(machine.send(1, ciaddr=former), OFFER)

    assert address(machine.send(3, {50: inet_aton(offered), 54: inet_aton(SERVER)}, ciaddr=former)) == offered
    assert machine.server.lease(former) is None


def test_a_renewal_that_names_another_address_renews(machine: Machine) -> None:
    leased = machine.get_lease()

    assert address(machine.after(60).send(3, {50: inet_aton("10.77.0.107")}, ciaddr=leased)) == leased


def test_a_renewal_may_name_the_server(machine: Machine) -> None:
    leased = machine.get_lease()

    assert address(machine.after(60).send(3, {54: inet_aton(SERVER)}, ciaddr=leased)) == leased


def test_selecting_an_address_that_was_not_offered_gets_a_nak_if_the_client_has_another(machine: Machine) -> None:
    leased = machine.get_lease()

    assert of_type(Answer, machine.after(10).selects("10.77.0.105")).message == f"it has {leased}"
    assert present(machine.server.lease(leased)).state is LeaseState.ACTIVE


# INIT-REBOOT


def test_init_reboot_with_its_own_address_gets_an_ack(machine: Machine) -> None:
    leased = machine.get_lease()

    ack = machine.after(1800).restarts_with(leased)

    assert address(ack) == leased
    assert present(machine.server.lease(leased)).expires == BEGIN + 1800 + LEASE


def test_init_reboot_with_its_expired_address_gets_an_ack(machine: Machine) -> None:
    leased = machine.get_lease()

    assert address(machine.after(LEASE * 10).restarts_with(leased)) == leased


def test_init_reboot_from_another_network_gets_a_nak(machine: Machine) -> None:
    nak = machine.restarts_with("192.168.1.5")

    assert address(nak, NAK) == ""
    assert isinstance(nak, Answer)
    assert nak.message == "192.168.1.5 is not of this network"


def test_init_reboot_with_another_clients_address_gets_a_nak(machine: Machine, other: Machine) -> None:
    leased = other.get_lease()

    assert address(machine.restarts_with(leased), NAK) == ""


def test_init_reboot_of_a_client_with_another_address_gets_a_nak(machine: Machine) -> None:
    leased = machine.get_lease()

    assert of_type(Answer, machine.restarts_with("10.77.0.107")).message == f"it has {leased}"


def test_init_reboot_of_an_unknown_client_is_not_answered(machine: Machine) -> None:
    """Another server may have given it the address (RFC 2131 section 4.3.2)."""
    assert no_reply_reason(machine.restarts_with("10.77.0.105")) is UNKNOWN
    assert no_reply_reason(machine.restarts_with("10.77.0.5")) is UNKNOWN


def test_init_reboot_of_an_unknown_client_is_answered_if_authoritative() -> None:
    machine = Machine(1, server(authoritative=True))

    assert address(machine.restarts_with("10.77.0.105")) == "10.77.0.105"
    assert address(Machine(2, machine.server).restarts_with("10.77.0.105"), NAK) == ""
    assert address(Machine(2, machine.server).restarts_with("10.77.0.5"), NAK) == ""


def test_init_reboot_after_release_takes_the_address_again(machine: Machine) -> None:
    leased = machine.get_lease()
    machine.releases(leased)

    assert address(machine.after(5).restarts_with(leased)) == leased


def test_init_reboot_without_an_address_is_malformed(machine: Machine) -> None:
    assert no_reply_reason(machine.send(3)) is NoReplyReason.MALFORMED


# RENEWING, REBINDING


def test_renewing_extends_the_lease(machine: Machine) -> None:
    leased = machine.get_lease()

    ack = machine.after(LEASE / 2).renews(leased)

    assert address(ack) == leased
    assert isinstance(ack, Answer)
    assert not ack.new
    assert ack.commit[0].expires == BEGIN + LEASE / 2 + LEASE


def test_renewing_an_address_that_another_client_has_gets_a_nak() -> None:
    dhcp = server(pool(1))
    first, second = Machine(1, dhcp), Machine(2, dhcp, now=BEGIN + LEASE + 1)
    leased = first.get_lease()
    assert second.get_lease() == leased

    assert address(first.after(LEASE + 2).renews(leased), NAK) == ""


def test_renewing_after_the_server_lost_the_lease_gets_it_back(machine: Machine) -> None:
    assert address(machine.renews("10.77.0.105")) == "10.77.0.105"


def test_rebinding_extends_the_lease(machine: Machine) -> None:
    leased = machine.get_lease()

    assert address(machine.after(LEASE * 0.9).rebinds(leased)) == leased


def test_rebinding_of_an_unknown_client_is_not_answered(machine: Machine) -> None:
    assert no_reply_reason(machine.rebinds("10.77.0.105")) is UNKNOWN


def test_rebinding_on_another_link_gets_a_nak() -> None:
    """Its broadcast arrives from the link where it is now, and its address is of another link."""
    dhcp = server(subnet(), subnet(network="10.78.0.0/24", pool=["10.78.0.100-10.78.0.109"], router="10.78.0.1"))
    machine = Machine(1, dhcp)
    leased = machine.get_lease()

    assert address(machine.reached_by(Arrival("10.78.0.1")).rebinds(leased), NAK) == ""


def test_renewing_through_a_router_is_checked_by_ciaddr() -> None:
    dhcp = server(subnet(), subnet(network="10.78.0.0/24", pool=["10.78.0.100-10.78.0.109"], router="10.78.0.1"))
    machine = Machine(1, dhcp, arrival=Arrival(SERVER, unicast=True), giaddr="10.78.0.1")
    leased = machine.get_lease()
    assert leased == "10.78.0.100"

    assert address(Machine(1, dhcp).renews(leased)) == leased


def test_renewing_an_address_removed_from_the_pool_gets_a_nak(machine: Machine) -> None:
    leased = machine.get_lease()
    leases = list(machine.server.leases())
    smaller = server(subnet(pool=["10.77.0.105-10.77.0.109"]), leases=leases)

    assert address(Machine(1, smaller).renews(leased), NAK) == ""
    assert address(Machine(1, smaller).discovers(), OFFER) == "10.77.0.105"


# DECLINE, RELEASE, INFORM


def test_declined_address_is_quarantined(machine: Machine, other: Machine) -> None:
    leased = machine.get_lease()

    answer = machine.declines(leased)

    assert no_reply_reason(answer) is NoReplyReason.DECLINED
    assert isinstance(answer, NoReply)
    assert answer.detail == leased
    assert [(lease.address, lease.state) for lease in answer.commit] == [(leased, LeaseState.DECLINED)]
    assert address(machine.discovers(leased), OFFER) != leased
    assert address(other.after(3599).discovers(leased), OFFER) != leased
    assert address(machine.restarts_with(leased), NAK) == ""


def test_an_offer_can_be_declined(machine: Machine) -> None:
    """EDK2 declines the address when it rejects the ACK."""
    offered = address(machine.discovers(), OFFER)

    assert no_reply_reason(machine.declines(offered)) is NoReplyReason.DECLINED


def test_decline_of_a_former_offer_does_not_affect_the_present_client() -> None:
    dhcp = server(authoritative=True)
    earlier, client = Machine(1, dhcp), Machine(2, dhcp).after(120)
    offered = address(earlier.discovers(), OFFER)
    assert address(client.restarts_with(offered)) == offered

    assert no_reply_reason(earlier.after(121).declines(offered)) is UNKNOWN


def test_client_can_quarantine_three_addresses() -> None:
    dhcp = server(pool(5))
    broken = Machine(1, dhcp)
    declined = [broken.after(seconds).get_lease_and_decline() for seconds in range(5)]

    assert [lease.address for lease in dhcp.leases() if lease.state is LeaseState.DECLINED] == declined[2:]
    assert {Machine(number, dhcp, now=BEGIN + 10).get_lease() for number in (2, 3)} == set(declined[:2])


def test_released_quarantine_is_stored_with_the_decline(machine: Machine) -> None:
    first, _, _ = (machine.after(seconds).get_lease_and_decline() for seconds in range(3))
    fourth = machine.get_lease()

    ended = machine.declines(fourth).commit[1]

    assert (ended.address, ended.client, ended.state) == (first, b"", LeaseState.RELEASED)


def test_declines_before_a_restart_count(machine: Machine) -> None:
    declined = [machine.after(seconds).get_lease_and_decline() for seconds in range(3)]
    restarted = server(leases=list(machine.server.leases()))

    declined.append(Machine(1, restarted, now=BEGIN + 5).get_lease_and_decline())

    assert [lease.address for lease in restarted.leases() if lease.state is LeaseState.DECLINED] == declined[1:]


def test_quarantined_address_is_offered_if_no_other_is_left() -> None:
    dhcp = server(pool(3))
    declined = [Machine(number, dhcp).after(number).get_lease_and_decline() for number in (1, 2)]
    leased = Machine(3, dhcp).get_lease()

    later = [Machine(number, dhcp).after(20) for number in (4, 5, 6)]

    assert [machine.get_lease() for machine in later[:2]] == declined
    assert no_reply_reason(later[2].discovers()) is NoReplyReason.EXHAUSTED
    assert present(dhcp.lease(leased)).state is LeaseState.ACTIVE


def test_only_client_of_a_small_pool_gets_its_declined_address() -> None:
    dhcp = server(pool(2))
    broken = Machine(1, dhcp)
    first, second = (broken.after(seconds).get_lease_and_decline() for seconds in range(2))

    assert [broken.after(seconds).get_lease_and_decline() for seconds in (3, 4)] == [first, second]


def test_address_in_use_is_not_probed_again_within_a_minute() -> None:
    """Each probe of such an address takes time, and usually finds it in use again."""
    dhcp = server(pool(1))
    machine = Machine(1, dhcp)
    offered = address(machine.discovers(), OFFER)
    dhcp.probe_finished(offered, True, machine.now)

    assert no_reply_reason(machine.after(59).discovers()) is NoReplyReason.EXHAUSTED
    again = machine.after(60).discovers()
    assert isinstance(again, Answer)
    assert (address(again, OFFER), again.probe) == (offered, True)


def test_reserved_or_removed_addresses_stay_quarantined() -> None:
    dhcp = server(pool(2))
    declined = [Machine(number, dhcp).get_lease_and_decline() for number in (1, 2)]
    dhcp.reserve(Reservation(declined[0], mac=Machine(9, dhcp).mac))

    assert Machine(3, dhcp).get_lease() == declined[1]
    assert no_reply_reason(Machine(4, dhcp).discovers()) is NoReplyReason.EXHAUSTED


def test_quarantined_address_is_offered_to_one_client_at_a_time() -> None:
    dhcp = server(pool(1))
    declined = Machine(1, dhcp).get_lease_and_decline()
    assert address(Machine(2, dhcp).after(3601).discovers(), OFFER) == declined
    assert no_reply_reason(Machine(3, dhcp).after(3602).discovers()) is NoReplyReason.EXHAUSTED


def test_decline_of_another_clients_address_is_ignored(machine: Machine, other: Machine) -> None:
    leased = machine.get_lease()

    assert no_reply_reason(other.declines(leased)) is UNKNOWN
    assert no_reply_reason(other.declines("10.77.0.109")) is UNKNOWN
    assert no_reply_reason(other.send(4)) is UNKNOWN
    assert present(machine.server.lease(leased)).state is LeaseState.ACTIVE


def test_a_released_address_is_remembered_and_may_go_to_others() -> None:
    dhcp = server(pool(2))
    first, second, third = (Machine(number, dhcp) for number in (1, 2, 3))
    leased = first.get_lease()

    answer = first.after(9).releases(leased)

    assert no_reply_reason(answer) is NoReplyReason.RELEASED
    assert isinstance(answer, NoReply)
    assert answer.detail == leased
    (lease,) = answer.commit
    assert (lease.state, lease.expires, lease.client) == (
        LeaseState.RELEASED,
        BEGIN + 9,
        present(dhcp.lease(leased)).client,
    )
    assert address(second.after(10).discovers(), OFFER) != leased, "those never used come first"
    assert address(first.after(10).discovers(), OFFER) == leased
    assert no_reply_reason(third.after(11).discovers()) is NoReplyReason.EXHAUSTED


def test_release_of_another_clients_address_is_ignored(machine: Machine, other: Machine) -> None:
    leased = machine.get_lease()

    assert no_reply_reason(other.releases(leased)) is UNKNOWN
    assert no_reply_reason(other.releases("10.77.0.109")) is UNKNOWN
    assert present(machine.server.lease(leased)).state is LeaseState.ACTIVE


def test_a_repeated_release_changes_nothing(machine: Machine) -> None:
    leased = machine.get_lease()
    machine.releases(leased)

    assert no_reply_reason(machine.releases(leased)) is UNKNOWN


def test_inform_gets_everything_but_an_address(machine: Machine) -> None:
    ack = machine.informs("10.77.0.9")

    assert address(ack) == ""
    assert isinstance(ack, Answer)
    assert ack.options == {1: bytes((255, 255, 255, 0)), 3: bytes((10, 77, 0, 1))}
    assert ack.commit == ()
    assert list(machine.server.leases()) == []


# BOOTP


def test_bootp_gets_a_permanent_address_if_the_pool_allows_it() -> None:
    machine = Machine(1, server(subnet(bootp=True)))

    answer = machine.send(None)

    assert address(answer, None) == "10.77.0.100"
    assert isinstance(answer, Answer)
    assert answer.identifier == ""
    assert not {51, 53, 54} & answer.options.keys()
    (lease,) = answer.commit
    assert (lease.expires, lease.kind) == (NEVER, "bootp")
    assert address(machine.after(1e6).send(None), None) == "10.77.0.100"


def test_bootp_gets_no_pool_address_by_default(machine: Machine) -> None:
    assert no_reply_reason(machine.send(None)) is NoReplyReason.UNRESERVED


# Rapid restarts


def test_rom_ipxe_and_system_get_one_address_with_their_own_times(machine: Machine) -> None:
    rom = machine.sending({**ROM, 61: b"\0" + bytes(16), 97: b"\0" + bytes(range(16))})
    system = machine.after(30).sending({61: b"\xff" + bytes(18), 12: b"node7"})

    leased = rom.get_lease()
    assert present(machine.server.lease(leased)).expires == BEGIN + FIRMWARE_LEASE
    assert present(machine.server.lease(leased)).kind == "firmware"
    assert system.get_lease() == leased
    lease = machine.server.lease(leased)
    assert lease is not None
    assert (lease.expires, lease.kind) == (BEGIN + 30 + LEASE, "system")
    assert (lease.uuid, lease.hostname) == ("03020100-0504-0706-0809-0a0b0c0d0e0f", "node7")


def test_a_host_name_is_cut_to_255_bytes(machine: Machine) -> None:
    system = machine.sending({12: b"n" * 3000})
    leased = system.get_lease()
    assert present(machine.server.lease(leased)).hostname == "n" * 255


def test_lease_of_the_system_survives_a_reboot(machine: Machine) -> None:
    leased = machine.get_lease()
    rom = machine.after(60).sending(ROM)

    ack = rom.selects(address(rom.discovers(), OFFER))

    assert isinstance(ack, Answer)
    assert ack.options[51] == int(FIRMWARE_LEASE).to_bytes(4, "big")
    assert present(machine.server.lease(leased)).expires == BEGIN + LEASE
    assert present(machine.server.lease(leased)).kind == "system"


def test_restarts_of_a_client_use_one_address(machine: Machine) -> None:
    leased = {machine.after(seconds).sending(ROM if seconds % 2 else {}).get_lease() for seconds in range(50)}

    assert len(leased) == 1


# Messages that are not requests


@pytest.mark.parametrize("kind", [2, 5, 6, 9, 10, 13, 18])
def test_messages_of_servers_and_unknown_types_are_ignored(machine: Machine, kind: int) -> None:
    assert no_reply_reason(machine.send(kind)) is NoReplyReason.NOT_FOR_SERVER


def test_replies_are_not_answered(machine: Machine) -> None:
    assert no_reply_reason(machine.send(1, op=2)) is NoReplyReason.NOT_FOR_SERVER


@pytest.mark.parametrize("kind", [1, 3, None])
def test_a_client_without_an_identity_is_not_answered(machine: Machine, kind: int | None) -> None:
    assert no_reply_reason(machine.send(kind, chaddr=b"", hlen=0, htype=32)) is NoReplyReason.MALFORMED
    assert no_reply_reason(machine.send(kind, chaddr=bytes(6))) is NoReplyReason.MALFORMED


def test_an_offer_ends_when_its_client_is_granted_another_address() -> None:
    dhcp = server(pool(2), authoritative=True)
    client = Machine(1, dhcp)
    offered = address(client.discovers(), OFFER)
    assert address(client.restarts_with("10.77.0.101")) == "10.77.0.101"

    assert address(Machine(2, dhcp).discovers(), OFFER) == offered
