"""The inventory: the entry of a machine, and the leases, boots and host files that it is joined with."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.attempts.attempt import BootAttempt, Verdict
from bootfw.attempts.record import attempt_record
from bootfw.errors import StateError
from bootfw.inventory import MOST_TAGS, Entry, Selection, Sources, change, entry_of, inventory_records

MAC, OTHER, THIRD = "52:54:00:12:34:56", "52:54:00:00:00:01", "52:54:00:00:00:02"
UUID = "4c4c4544-0042-3510-8052-b4c04f4e3132"
BOOT = BootAttempt("1", 100.0, 130.0, MAC, UUID, ("10.0.0.1",), persona="uefi", verdict=Verdict.FAILED)
RECORD = attempt_record(BOOT, stages=False)

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
tags = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:=/-]{0,62}", fullmatch=True)


@given(
    st.lists(labels, max_size=3).map(".".join),
    st.sets(tags, max_size=5),
    st.from_regex(r"([a-z][a-z0-9.-]{0,20})?", fullmatch=True),
)
def test_an_entry_comes_back_from_the_store(name: str, tagged: set[str], image: str) -> None:
    _, entry = change({}, {"mac": MAC, "name": name, "tags": list(tagged), "image": image})
    assert (entry.name, entry.tags, entry.image) == (name, tuple(sorted(tagged)), image)
    stored = entry.stored()
    assert (stored is None) == (entry == Entry())
    assert entry_of(MAC, stored or {"name": "", "tags": [], "image": ""}) == entry


def test_a_change_leaves_the_rest_as_it_is() -> None:
    before = {MAC: Entry("web1", ("a", "b"), "debian-12"), OTHER: Entry("web2")}
    assert change(before, {"mac": MAC.upper(), "name": ""}) == (MAC, Entry("", ("a", "b"), "debian-12"))
    assert change(before, {"mac": MAC, "add_tags": ["c"], "remove_tags": ["a"]})[1].tags == ("b", "c")
    assert change(before, {"mac": MAC, "tags": ["c"]})[1] == Entry("web1", ("c",), "debian-12")
    assert change(before, {"mac": MAC, "name": "WEB1"})[1] == before[MAC]
    assert change(before, {"mac": THIRD, "image": "x"}) == (THIRD, Entry(image="x"))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, '"mac" is missing'),
        ({"mac": "x"}, "mac must be a MAC address"),
        ({"mac": None}, "mac must be a MAC address"),
        ({"mac": MAC, "nmae": "x"}, 'unknown key "nmae"; known: mac, name, tags, add_tags, remove_tags, image'),
        ({"mac": MAC, "name": 1}, "name must be a text, not 1"),
        ({"mac": MAC, "name": "-x"}, "name must be a host name"),
        ({"mac": MAC, "name": "a" * 64}, "name must be a host name"),
        ({"mac": MAC, "name": "a\n"}, "name must be a host name"),
        ({"mac": MAC, "name": ".".join(["a" * 63] * 4)}, "name must be a host name"),
        ({"mac": MAC, "name": "web2"}, f"web2 is the name of {OTHER} already"),
        ({"mac": MAC, "tags": "rack1"}, "tags must be a list of texts"),
        ({"mac": MAC, "tags": [1]}, "tags must be a list of texts"),
        ({"mac": MAC, "add_tags": [""]}, "a tag must be of at most 63"),
        ({"mac": MAC, "tags": [f"t{n}" for n in range(MOST_TAGS + 1)]}, f"a machine has at most {MOST_TAGS} tags"),
        ({"mac": MAC, "image": "../x"}, "image must be the name of an image"),
        ({"mac": MAC, "image": "a/b"}, "image must be the name of an image"),
    ],
)
def test_a_mistake_is_named(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(StateError) as raised:
        change({OTHER: Entry("web2")}, arguments)
    assert str(raised.value).startswith(error)


@pytest.mark.parametrize("stored", [{}, {"name": "x"}, {"name": 1, "tags": [], "image": ""}])
def test_an_invalid_stored_entry_is_refused(stored: dict[str, object]) -> None:
    with pytest.raises(StateError, match=f"what is stored for the machine {MAC} is invalid"):
        entry_of(MAC, stored)


def test_boots_are_joined_with_the_entry_and_the_host_file_of_the_machine() -> None:
    sources = Sources(
        boots=[RECORD],
        entries={MAC: Entry("web1", ("rack1",), "debian-12")},
        leases=[{"mac": MAC, "hostname": "leased"}],
        next_boots=[{"mac": MAC, "file": "install.ipxe"}],
        host=lambda mac, uuid: {"name": "file", "image": "alma-9"} if (mac, uuid) == (MAC, UUID) else {},
    )
    assert inventory_records(sources) == [
        {
            "machine": MAC,
            "mac": MAC,
            "uuid": UUID,
            "name": "web1",
            "tags": ["rack1"],
            "image": "debian-12",
            "host": "file",
            "addresses": ["10.0.0.1"],
            "persona": "uefi",
            "architecture": "",
            "boots": 1,
            "failed": 1,
            "last": {"id": "1", "began": 100.0, "verdict": "failed", "outcome": "failed"},
            "next": "install.ipxe",
        }
    ]


def test_a_name_is_that_of_the_entry_or_the_host_file_or_the_reservation_or_the_lease() -> None:
    leases = [{"mac": MAC, "hostname": "leased"}, {"mac": OTHER, "hostname": ""}]
    reservations = [{"mac": "", "other_macs": [MAC], "hostname": "reserved"}]
    steps: list[tuple[str, dict[str, Any]]] = [
        ("", {}),
        ("leased", {"leases": leases}),
        ("reserved", {"reservations": reservations}),
        ("file", {"host": lambda mac, uuid: {"name": "file"}}),
        ("web1", {"entries": {MAC: Entry("web1")}}),
    ]
    sources: dict[str, Any] = {"boots": [RECORD]}
    for name, added in steps:
        sources |= added
        assert inventory_records(Sources(**sources))[0]["name"] == name


def test_machines_that_have_not_booted_come_last_by_mac() -> None:
    entries = {THIRD: Entry("c"), OTHER: Entry("b"), MAC: Entry("a")}
    records = inventory_records(Sources([RECORD], entries))
    assert [(each["machine"], each["boots"], each["last"] is None) for each in records] == [
        (MAC, 1, False),
        (OTHER, 0, True),
        (THIRD, 0, True),
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, [MAC, OTHER]),
        ({"machine": "525400123456"}, [MAC]),
        ({"machine": "WEB2"}, [OTHER]),
        ({"machine": UUID.upper()}, [MAC]),
        ({"machine": "10.0.0.1"}, []),
        ({"tag": "rack1"}, [OTHER]),
        ({"verdict": "failed"}, [MAC]),
        ({"verdict": "booted"}, []),
        ({"tag": "rack1", "verdict": "failed"}, []),
    ],
)
def test_machines_are_selected(query: dict[str, str], found: list[str]) -> None:
    records = inventory_records(Sources([RECORD], {OTHER: Entry("web2", ("rack1",))}))
    selection = Selection.of(query)
    assert [record["mac"] for record in records if selection.has(record)] == found
