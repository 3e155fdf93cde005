"""A boot attempt as JSON."""

import json

import pytest

from bootfw.attempts.attempt import BootAttempt, Cause, Stage, StageKind, Verdict
from bootfw.attempts.record import attempt_of, attempt_record

FAILED = BootAttempt(
    id="525400123456-19a",
    began=1763640000.0,
    ended=1763640060.0,
    mac="52:54:00:12:34:56",
    uuid="52420077-1234-4abc-9def-000000000001",
    addresses=("10.77.0.20", "fd77::20"),
    persona="uefi",
    architecture="x86_64-uefi",
    interface="eth0",
    stages=(
        Stage(1763640000.0, StageKind.DISCOVER, {"xid": 7, "stack": "pxe"}, 4, 1763640028.0),
        Stage(1763640000.5, StageKind.OFFER, {"boot_server": True}),
    ),
    omitted=2,
    files=("grubx64.efi",),
    bytes=4711,
    retries={"discover": 3},
    verdict=Verdict.FAILED,
    cause=Cause("key", "sentence", "remedy"),
    recording="/var/lib/bootfw/recordings/525400123456-19a.pcapng",
)


@pytest.mark.parametrize("attempt", [FAILED, BootAttempt("a", 1.0)])
def test_record_round_trips_through_json(attempt: BootAttempt) -> None:
    assert attempt_of(json.loads(json.dumps(attempt_record(attempt)))) == attempt


def test_a_list_has_no_stages() -> None:
    whole, short = attempt_record(FAILED), attempt_record(FAILED, stages=False)
    assert set(whole) - set(short) == {"stages", "omitted"}
    assert {key: whole[key] for key in short} == short


def test_seconds_are_those_to_the_last_stage() -> None:
    assert FAILED.seconds == 28.0
    assert BootAttempt("a", 5.0).seconds == 0.0


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({"mac": "02:00:00:00:00:01", "uuid": "u", "addresses": ("10.0.0.1",)}, "02:00:00:00:00:01"),
        ({"uuid": "u", "addresses": ("10.0.0.1",)}, "u"),
        ({"addresses": ("10.0.0.1",)}, "10.0.0.1"),
        ({}, ""),
    ],
)
def test_machine_is_named_by_mac_uuid_or_address(known: dict[str, object], name: str) -> None:
    assert BootAttempt("a", 0.0, **known).client == name  # type: ignore[arg-type]


def test_an_attempt_of_a_list_has_its_duration() -> None:
    listed = attempt_of(attempt_record(FAILED, stages=False))
    assert FAILED.seconds > 0
    assert (listed.seconds, listed.stages) == (FAILED.seconds, ())
    assert attempt_record(listed, stages=False) == attempt_record(FAILED, stages=False)
