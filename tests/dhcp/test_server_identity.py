"""Which messages come from the same client, and what is reserved for it."""

from collections.abc import Callable
from typing import Any

import firmware
import pytest
from leasing import BEGIN, BY_BROADCAST, LEASE, NAK, OFFER, Machine, address, pool, server, subnet
from narrowing import of_type, present

from bootfw.dhcp.answer import Answer, Arrival, NoReply, NoReplyReason
from bootfw.dhcp.identity import identify, is_firmware
from bootfw.dhcp.subnet import Host
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.wire.dhcp4 import Message

MACHINE_ID = firmware.UUID_ON_THE_WIRE
UUID = firmware.UUID


def circuit(circuit_id: bytes) -> dict[int, bytes]:
    return {82: bytes((1, len(circuit_id))) + circuit_id}


# Identity


@pytest.mark.parametrize("client_id", [None, b"\0" + MACHINE_ID[1:], b"\1\2\0\0\0\0\1", b"\xff" + bytes(18)])
def test_rom_boot_program_and_system_are_one_client(client_id: bytes | None) -> None:
    machine = Machine(1, server())
    leased = machine.sending({97: MACHINE_ID}).get_lease()

    assert machine.sending({} if client_id is None else {61: client_id}).get_lease() == leased


def test_two_interfaces_of_one_machine_are_two_clients() -> None:
    dhcp = server()
    options = {97: MACHINE_ID, 61: MACHINE_ID}

    assert Machine(1, dhcp, options).get_lease() != Machine(2, dhcp, options).get_lease()


def test_with_by_client_id_two_client_ids_of_one_interface_are_two_clients() -> None:
    dhcp = server(by_client_id=True)
    one, other, neither = (Machine(1, dhcp, options) for options in ({61: b"\0a"}, {61: b"\0b"}, {}))

    assert len({one.get_lease(), other.get_lease(), neither.get_lease()}) == 3
    assert Machine(2, dhcp, {61: b"\0a"}).get_lease() == one.get_lease()


def test_infiniband_is_known_by_its_client_id() -> None:
    """RFC 4390: there is no room for its hardware address in chaddr."""
    dhcp = server()
    one, other = Machine(1, dhcp, {61: b"\xff" + bytes(20)}), Machine(1, dhcp, {61: b"\xff" + bytes(19) + b"\1"})
    header: dict[str, Any] = {"htype": 32, "hlen": 0, "chaddr": b""}

    offers = [address(machine.send(1, **header), OFFER) for machine in (one, other, one)]

    assert offers[0] == offers[2] != offers[1]


def test_a_client_id_is_never_taken_for_a_hardware_address() -> None:
    dhcp = server()
    machine = Machine(1, dhcp)
    key = present(identify(machine.message(1), {})).key

    other = Machine(2, dhcp, {61: key[1:]}).message(1, htype=32, hlen=0, chaddr=b"")

    assert present(identify(other, {})).key != key


@pytest.mark.parametrize("client", [*firmware.BOOT_CLIENTS, *firmware.U_BOOTS], ids=lambda client: client.name)
def test_firmware_is_recognized(client: firmware.Client) -> None:
    assert is_firmware(client.message())


@pytest.mark.parametrize("client", firmware.ORDINARY_CLIENTS, ids=lambda client: client.name)
def test_systems_are_not_firmware(client: firmware.Client) -> None:
    assert not is_firmware(client.message())


def test_a_machine_without_a_vendor_class_is_recognized_as_firmware_by_its_architecture() -> None:
    """SLOF and the loader of s390x send the vendor class in their REQUEST only."""
    assert is_firmware(firmware.SLOF.changed({93: b"\0\x0c"}).message())


# Reservations


@pytest.mark.parametrize(
    ("reservation_keys", "options"),
    [
        ({"mac": "02-00-00-00-00-01"}, {}),
        ({"client_id": "0x00616263"}, {61: b"\0abc"}),
        ({"uuid": UUID.upper()}, {97: MACHINE_ID}),
        ({"circuit_id": "port 7"}, circuit(b"port 7")),
    ],
    ids=lambda value: str(next(iter(value), "")),
)
def test_reserved_address_is_given_to_its_client(reservation_keys: dict[str, Any], options: dict[int, bytes]) -> None:
    dhcp = server(subnet(hosts=[Host(address="10.77.0.20", **reservation_keys)]))

    assert Machine(1, dhcp, options, giaddr="10.77.0.1").get_lease() == "10.77.0.20"
    assert address(Machine(2, dhcp).discovers("10.77.0.20"), OFFER) == "10.77.0.100"
    assert address(Machine(2, dhcp).selects("10.77.0.20"), NAK) == ""


def test_a_circuit_id_without_a_relay_is_ignored() -> None:
    """RFC 3046 section 2.1: the client has put it there."""
    dhcp = server(subnet(hosts=[Host(address="10.77.0.20", circuit_id="port 7")]))

    assert Machine(1, dhcp, circuit(b"port 7")).get_lease() == "10.77.0.100"


def test_reserved_pool_address_is_not_assigned_to_others() -> None:
    reserved = Host(address="10.77.0.100", mac="02:00:00:00:00:01")
    dhcp = server(subnet(pool=["10.77.0.100-10.77.0.101"], hosts=[reserved]))

    assert address(Machine(2, dhcp).discovers("10.77.0.100"), OFFER) == "10.77.0.101"
    assert isinstance(Machine(3, dhcp).discovers(), NoReply)
    assert Machine(1, dhcp).get_lease() == "10.77.0.100"


def test_renewal_moves_a_client_to_its_reserved_address() -> None:
    dhcp = server()
    machine = Machine(1, dhcp)
    leased = machine.get_lease()
    dhcp.reserve(Reservation(address="10.77.0.20", mac=machine.mac))

    nak = machine.after(9).renews(leased)
    assert address(nak, NAK) == ""
    assert isinstance(nak, Answer)
    assert nak.message == "10.77.0.20 is reserved for it"
    offered = address(machine.after(9).discovers(), OFFER)
    ack = machine.after(9).selects(offered)

    assert offered == "10.77.0.20"
    assert [(lease.address, lease.state) for lease in ack.commit] == [
        ("10.77.0.20", LeaseState.ACTIVE),
        (leased, LeaseState.RELEASED),
    ]
    assert address(Machine(2, dhcp).after(9).discovers(leased), OFFER) == leased


def test_a_client_keeps_its_address_while_another_host_uses_the_reserved_one() -> None:
    dhcp = server()
    machine, squatter = Machine(1, dhcp), Machine(2, dhcp)
    reserved, leased = squatter.get_lease(), machine.get_lease()
    dhcp.reserve(Reservation(address=reserved, mac=machine.mac))

    assert address(machine.renews(leased)) == leased
    assert address(squatter.after(1800).renews(reserved), NAK) == "", "the client that has it gets a NAK"
    assert address(squatter.after(1801).discovers(), OFFER) != reserved
    assert address(machine.after(1800 + LEASE).discovers(), OFFER) == reserved


def test_address_reserved_after_expiry_is_not_assigned_to_others() -> None:
    dhcp = server(pool(1))
    leased = Machine(1, dhcp).get_lease()
    stranger = Machine(2, dhcp).after(LEASE + 1)
    stranger.discovers()
    stranger.selects("192.0.2.9", server_id="192.0.2.1")

    dhcp.reserve(Reservation(address=leased, mac="02:00:00:00:00:07"))

    assert isinstance(stranger.discovers(), NoReply)
    assert address(Machine(7, dhcp).after(LEASE + 1).discovers(), OFFER) == leased


def test_address_is_free_when_its_reservation_is_removed() -> None:
    dhcp = server(pool(1))
    reservation = Reservation(address="10.77.0.100", mac="02:00:00:00:00:01")
    dhcp.reserve(reservation)
    assert isinstance(Machine(2, dhcp).discovers(), NoReply)

    dhcp.unreserve(reservation)

    assert address(Machine(2, dhcp).discovers(), OFFER) == "10.77.0.100"


def test_unreserving_leaves_a_lease_to_its_client() -> None:
    dhcp = server(pool(1))
    reservation = Reservation(address="10.77.0.100", mac="02:00:00:00:00:01")
    dhcp.reserve(reservation)
    machine = Machine(1, dhcp)
    machine.get_lease()

    dhcp.unreserve(reservation)

    assert isinstance(Machine(2, dhcp).discovers(), NoReply)
    assert address(machine.renews("10.77.0.100")) == "10.77.0.100"


def test_a_reservation_replaces_the_one_for_the_same_client() -> None:
    configured = Host(address="10.77.0.20", mac="02:00:00:00:00:01")
    stored = Reservation(address="10.77.0.21", mac="02:00:00:00:00:01")

    dhcp = server(subnet(pool=["10.77.0.20"], hosts=[configured]), reservations=[stored])

    assert list(dhcp.reservations()) == [stored]
    assert Machine(1, dhcp).get_lease() == "10.77.0.21"
    assert Machine(2, dhcp).get_lease() == "10.77.0.20", "which is no longer reserved"


def test_reservations_are_listed_once() -> None:
    dhcp = server(subnet(hosts=[Host(address="10.77.0.20", mac="02:00:00:00:00:01", uuid=UUID)]))
    nameless = Reservation(mac="02:00:00:00:00:02", hostname="two")
    dhcp.reserve(nameless)

    assert [found.mac for found in dhcp.reservations()] == ["02:00:00:00:00:01", "02:00:00:00:00:02"]


def test_reserving_outside_of_the_subnets_is_refused() -> None:
    with pytest.raises(ValueError, match=r"192\.0\.2\.1 is in no subnet"):
        server().reserve(Reservation(address="192.0.2.1", mac="02:00:00:00:00:01"))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "at least one"),
        ({"mac": "02:00"}, "MAC"),
        ({"uuid": "?"}, "UUID"),
        ({"mac": "02:00:00:00:00:01", "address": "x"}, "IPv4"),
        ({"client_id": "0xabc"}, "hexadecimal"),
    ],
)
def test_a_reservation_without_a_valid_client_is_refused(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Reservation(**fields)


def test_bootp_gets_reserved_addresses_only() -> None:
    dhcp = server(subnet(hosts=[Host(address="10.77.0.20", mac="02:00:00:00:00:01")]))
    machine = Machine(1, dhcp)

    assert address(machine.send(None), None) == "10.77.0.20"
    dhcp.probe_finished("10.77.0.20", True, BEGIN)
    assert of_type(NoReply, machine.send(None)).reason is NoReplyReason.UNRESERVED


def test_host_options_and_names_are_sent_to_their_client() -> None:
    host = Host(mac="02:00:00:00:00:01", hostname="node1", options={"interface-mtu": 1400, "router": "10.77.0.2"})
    dhcp = server(subnet(hosts=[host]))

    offer = Machine(1, dhcp).discovers()

    assert isinstance(offer, Answer)
    assert offer.reservation is host
    assert (offer.options[12], offer.options[26], offer.options[3]) == (b"node1", b"\5\x78", bytes((10, 77, 0, 2)))
    assert not {12, 26} & of_type(Answer, Machine(2, dhcp).discovers()).options.keys()


# Limits


def test_limit_on_new_clients_does_not_affect_known_ones() -> None:
    admitting = [True]
    dhcp = server(subnet(hosts=[Host(mac="02:00:00:00:00:09")]), admit=lambda *_: admitting[0])
    machine = Machine(1, dhcp)
    leased = machine.get_lease()
    admitting[0] = False

    for answer in (
        Machine(2, dhcp).discovers(),
        Machine(2, dhcp).discovers("10.77.0.105"),
        Machine(2, dhcp).selects("10.77.0.105"),
        Machine(2, dhcp).renews("10.77.0.105"),
    ):
        assert isinstance(answer, NoReply)
        assert answer.reason is NoReplyReason.LIMITED
        assert answer.detail == "10.77.0.0/24"
    assert address(machine.renews(leased)) == leased
    assert machine.get_lease() == leased
    assert address(Machine(9, dhcp).discovers(), OFFER)


def test_client_that_has_lost_its_address_counts_as_new() -> None:
    admissions: list[str] = []

    def admit(message: Message, *_: object) -> bool:
        admissions.append(message.mac)
        return True

    dhcp = server(pool(1), admit=admit)
    first, second = Machine(1, dhcp), Machine(2, dhcp)
    first.get_lease()
    second.after(LEASE + 1).get_lease()

    first.after(LEASE + 2).discovers()

    assert admissions == [first.mac, second.mac, first.mac]


def test_client_that_declined_counts_as_new() -> None:
    """So that a client that declines each address cannot use up the pool faster than new clients can."""
    admissions: list[int] = []

    def admit(*_: object) -> bool:
        admissions.append(1)
        return True

    before = server()
    Machine(1, before).declines(Machine(1, before).get_lease())
    machine = Machine(1, server(leases=before.leases(), admit=admit))
    machine.declines(of_type(Answer, machine.discovers()).address)
    machine.discovers()

    assert admissions == [1, 1]


def test_admission_gets_the_source_of_the_request() -> None:
    admissions: list[tuple[Any, ...]] = []

    def admit(message: Message, arrival: Arrival, now: float, free: Callable[[], int]) -> bool:
        admissions.append((message.mac, arrival, now, free()))
        return True

    dhcp = server(admit=admit)
    Machine(1, dhcp).get_lease()

    assert admissions == [("02:00:00:00:00:01", BY_BROADCAST, BEGIN, 10)]


# Stored leases


def test_leases_survive_a_restart() -> None:
    before = server()
    leased = [Machine(number, before).get_lease() for number in range(1, 6)]
    Machine(1, before).releases(leased[0])
    Machine(2, before).declines(leased[1])

    after = server(leases=before.leases())

    assert {lease.address: lease for lease in after.leases()} == {lease.address: lease for lease in before.leases()}
    assert [Machine(number, after, now=BEGIN + 9).get_lease() for number in (3, 4, 5)] == leased[2:]
    assert address(Machine(1, after).discovers(), OFFER) == leased[0]
    assert address(Machine(2, after).discovers(leased[1]), OFFER) not in leased
    assert Machine(9, after).get_lease() not in leased


def test_client_keeps_the_address_of_its_longest_stored_lease() -> None:
    key = present(identify(Machine(1, server()).message(1), {})).key
    leases = [
        Lease(f"10.77.0.10{n}", key, "02:00:00:00:00:01", LeaseState.ACTIVE, BEGIN, BEGIN + expires)
        for n, expires in enumerate((50, 100, 70))
    ]

    assert address(Machine(1, server(leases=leases)).discovers(), OFFER) == "10.77.0.101"


def test_leases_outside_of_the_subnets_are_ignored() -> None:
    lease = Lease("192.0.2.1", b"x", "", LeaseState.ACTIVE, BEGIN, BEGIN + 60)
    dhcp = server()

    assert not dhcp.restore(lease)
    assert list(dhcp.leases()) == []
    assert dhcp.lease("192.0.2.1") is None
    assert dhcp.release("192.0.2.1", BEGIN) == ()


def test_imported_lease_replaces_the_existing_one() -> None:
    dhcp = server()
    machine, other = Machine(1, dhcp), Machine(2, dhcp)
    leased = machine.get_lease()
    key = present(identify(other.message(1), {})).key

    assert dhcp.restore(Lease(leased, key, other.mac, LeaseState.ACTIVE, BEGIN, BEGIN + 60))

    assert address(machine.renews(leased), NAK) == ""
    assert address(other.renews(leased)) == leased


def test_operator_can_release_leases_and_quarantines() -> None:
    dhcp = server(pool(2))
    machine = Machine(1, dhcp)
    leased = machine.get_lease()
    dhcp.probe_finished("10.77.0.101", True, BEGIN)

    for released in (leased, "10.77.0.101"):
        (lease,) = dhcp.release(released, BEGIN + 5)
        assert (lease.address, lease.state, lease.expires) == (released, LeaseState.RELEASED, BEGIN + 5)

    assert address(Machine(2, dhcp).after(5).discovers(leased), OFFER) == leased
    assert dhcp.release("10.77.0.109", BEGIN) == ()
