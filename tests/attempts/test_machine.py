"""Machines of boot attempts."""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from bootfw.attempts.attempt import BootAttempt, Verdict
from bootfw.attempts.machine import Machine, machines_of

MAC, OTHER = "52:54:00:12:34:56", "52:54:00:00:00:01"
FIRST = BootAttempt(
    "1", 100.0, 130.0, MAC, "u", ("10.0.0.1",), persona="uefi", architecture="x86_64-uefi", verdict=Verdict.FAILED
)
LATER = BootAttempt("2", 200.0, 230.0, MAC, verdict=Verdict.BOOTED)


def test_a_machine_has_its_latest_boot_and_the_facts_of_earlier_ones() -> None:
    (machine,) = machines_of([FIRST, LATER])
    assert machine == Machine(LATER, "u", "uefi", "x86_64-uefi", ("10.0.0.1",), 2, 1)
    assert machine.client == MAC


def test_later_boots_say_more_than_earlier_ones() -> None:
    moved = evolve(LATER, addresses=("10.0.0.2",), persona="ipxe", architecture="arm64-uefi", uuid="v")
    (machine,) = machines_of([FIRST, moved])
    assert machine == Machine(moved, "v", "ipxe", "arm64-uefi", ("10.0.0.2",), 2, 1)


def test_machines_without_a_mac_are_known_by_uuid_or_address() -> None:
    by_uuid, by_address = evolve(FIRST, mac=""), evolve(LATER, mac="", addresses=("10.0.0.9",))
    assert [each.client for each in machines_of([by_uuid, by_address])] == ["10.0.0.9", "u"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.booleans()), unique_by=lambda each: each[1]))
def test_each_machine_is_listed_once_in_the_order_of_its_latest_boot(boots: list[tuple[int, int, bool]]) -> None:
    attempts = [
        BootAttempt(str(at), float(at), mac=f"02:00:00:00:00:0{who}", verdict=Verdict.FAILED if bad else Verdict.BOOTED)
        for who, at, bad in boots
    ]
    machines = machines_of(attempts)
    latest = [machine.last.began for machine in machines]
    assert latest == sorted(latest, reverse=True)
    for machine in machines:
        own = [attempt for attempt in attempts if attempt.mac == machine.client]
        assert machine.last == max(own, key=lambda attempt: attempt.began)
        assert machine.boots == len(own)
        assert machine.failed == sum(attempt.verdict is Verdict.FAILED for attempt in own)
    assert sum(machine.boots for machine in machines) == len(attempts)
