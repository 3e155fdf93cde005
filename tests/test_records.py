"""Leases and reservations as JSON, and their selection."""

import json

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from bootfw.dhcp.subnet6 import Host6
from bootfw.lease import NEVER, Lease, LeaseState, Reservation
from bootfw.records import (
    STATES,
    Selection,
    clashing,
    lease_of,
    lease_record,
    reservation_of,
    reservation_record,
    reserved_for,
    shown_state,
)
from bootfw.testing.contracts.leases import LEASES, RESERVATIONS

LEASE = LEASES[0]


@pytest.mark.parametrize("lease", LEASES)
def test_leases_go_through_json_and_back(lease: Lease) -> None:
    assert lease_of(json.loads(json.dumps(lease_record(lease, 0.0)))) == lease


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0x01525400123456", b"\1RT\0\x124V"),
        ("01:52:54:00:12:34:56", b"\1RT\0\x124V"),
        ("0XFF", b"\xff"),
        ("pc", b"pc"),
        ("ff", b"ff"),
        ("0/1:10", b"0/1:10"),
        ("1:2:3", b"1:2:3"),
        ("01-52-54", b"01-52-54"),
        ("", b""),
    ],
)
def test_client_and_circuit_ids_are_text_or_hexadecimal(text: str, expected: bytes) -> None:
    reservation = Reservation(mac="52:54:00:12:34:56", client_id=text, circuit_id=text)
    assert (reservation.client_id, reservation.circuit_id) == (expected, expected)


@pytest.mark.parametrize("text", ["0x00030001525400123456", "00:03:00:01:52:54:00:12:34:56"])
def test_duid_is_read_as_bytes(text: str) -> None:
    assert Host6(duid=text).duid == bytes.fromhex("00030001525400123456")
    assert Host6(mac="52:54:00:12:34:56", duid="").duid == b""
    with pytest.raises(ValueError, match='must be a DUID, such as "0x00030001525400123456", not "laptop"'):
        Host6(duid="laptop")


@pytest.mark.parametrize("identifier", ["0x01525400123456", "01:52:54:00:12:34:56"])
def test_a_client_id_is_looked_up_in_both_spellings(identifier: str) -> None:
    lease = evolve(LEASE, client_id=b"\1RT\0\x124V")
    assert list(Selection(who=identifier).leases([lease, evolve(LEASE, client_id=b"x")], 0.0)) == [lease]


@pytest.mark.parametrize("reservation", RESERVATIONS)
def test_reservations_go_through_json_and_back(reservation: Reservation) -> None:
    assert reservation_of(json.loads(json.dumps(reservation_record(reservation)))) == reservation


@pytest.mark.parametrize(
    ("state", "seconds_left", "expected"),
    [
        (LeaseState.ACTIVE, 1, "active"),
        (LeaseState.ACTIVE, 0, "expired"),
        (LeaseState.DECLINED, 1, "declined"),
        (LeaseState.DECLINED, 0, "expired"),
        (LeaseState.RELEASED, 1, "released"),
        (LeaseState.RELEASED, 0, "released"),
    ],
)
def test_shown_state_depends_on_the_time(state: LeaseState, seconds_left: int, expected: str) -> None:
    assert shown_state(evolve(LEASE, state=state, expires=100.0 + seconds_left), 100.0) == expected
    assert expected in STATES


@given(
    st.lists(st.builds(evolve, st.sampled_from(LEASES), expires=st.sampled_from([0.0, 50.0, NEVER])), max_size=8),
    st.sampled_from(["", *STATES]),
)
def test_each_lease_has_exactly_one_state(leases: list[Lease], state: str) -> None:
    parts = [list(Selection(state=each).leases(leases, 10.0)) for each in STATES]
    assert [[lease for lease in leases if shown_state(lease, 10.0) == each] for each in STATES] == parts
    assert sum(map(len, parts)) == len(leases)
    assert list(Selection(state=state).leases(leases, 10.0)) == (parts[STATES.index(state)] if state else leases)


@pytest.mark.parametrize(
    ("network", "inside"),
    [
        ("10.0.0.128/25", ["10.0.0.128", "10.0.0.255"]),
        ("10.0.0.200/25", ["10.0.0.128", "10.0.0.255"]),
        ("10.0.0.127", ["10.0.0.127"]),
        ("0.0.0.0/0", ["10.0.0.127", "10.0.0.128", "10.0.0.255", "10.0.1.0"]),
    ],
)
def test_a_network_has_its_first_and_last_address(network: str, inside: list[str]) -> None:
    leases = [evolve(LEASE, address=each) for each in ("10.0.0.127", "10.0.0.128", "10.0.0.255", "10.0.1.0")]
    assert [lease.address for lease in Selection(network=network).leases(leases, 0.0)] == inside


def test_empty_identifier_matches_no_lease() -> None:
    """A lease without a MAC is not that of everybody who has none."""
    bare = Lease("10.0.0.1", b"", "", LeaseState.DECLINED, 0.0, 1.0)
    assert list(Selection(who="0x").leases([bare], 0.0)) == []
    assert reserved_for("0x", [Reservation("", mac="52:54:00:12:34:56")]) is None


UUID = "00000000-0000-0000-0000-000000000001"
RESERVATION = Reservation(
    "10.0.0.5", mac="52:54:00:12:34:56", client_id=b"\1a", uuid=UUID, circuit_id=b"e0", hostname="Pc"
)


@pytest.mark.parametrize(
    "identifier", ["10.0.0.5", "5254.0012.3456", "0x0161", "0x6530", "00000000000000000000000000000001", "pc", "PC"]
)
def test_a_reservation_is_found_by_each_identifier(identifier: str) -> None:
    assert reserved_for(identifier, [Reservation("10.0.0.6", mac="52:54:00:00:00:01"), RESERVATION]) is RESERVATION


@pytest.mark.parametrize(
    ("new", "kind"),
    [
        (Reservation("10.0.0.5", mac="52:54:00:00:00:01"), "address 10.0.0.5"),
        (Reservation("10.0.0.6", mac="52:54:00:12:34:56"), "mac 52:54:00:12:34:56"),
        (Reservation("", client_id=b"\1a"), "client-id 0x0161"),
        (Reservation("", uuid=UUID), f"uuid {UUID}"),
        (Reservation("", circuit_id=b"e0"), "circuit-id 0x6530"),
    ],
)
def test_clashing_reservations_are_found(new: Reservation, kind: str) -> None:
    assert clashing(new, [RESERVATION]) == f"{kind} is reserved already; remove that reservation first"


def test_compatible_reservations_do_not_clash() -> None:
    assert (
        clashing(Reservation("", mac="52:54:00:00:00:01", hostname="Pc"), [RESERVATION, Reservation("", uuid=UUID)])
        == ""
    )
