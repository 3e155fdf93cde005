"""The items of announcements: how they are encoded and decoded, and which are refused."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from bootfw.boot.secondstage import BootProgram
from bootfw.events import (
    InstallationReported,
    ListenerClosed,
    SecondStageFound,
    SystemUp,
    TransferBegun,
    TransferEnded,
    TransferRefused,
)
from bootfw.net.nodes.announcements import Unreadable
from bootfw.net.nodes.generatedparts import LARGEST, GeneratedParts, generated_items
from bootfw.net.nodes.items import (
    client_item,
    client_of,
    event_item,
    event_of,
    position_item,
    positions_of,
    program_item,
    program_of,
)
from bootfw.values import Agreed, Client, Mode, Outcome, TransferReport, TransferRequest

PEER = ("10.0.0.9", 2000)
PEER6 = ("fe80::1%eth0", 2000, 0, 2)
REQUEST = TransferRequest(
    "/a\udcff", "a\udcff", PEER6, "fe80::2", False, Mode.OCTET, (("blksize", "1400"),), "tftp", ignore_case=True
)
AGREED = Agreed(1400, 4, 3, 5000, (("blksize", "1400"), ("windowsize", "4")))
REPORT = TransferReport(
    REQUEST, AGREED, Outcome.TIMED_OUT, "no ACK", 1400, 1, 2, began=90.0, ended=100.0, persona="ipxe", waited=0.5
)
EVENTS = [
    TransferBegun(100.0, REQUEST, AGREED, "5f-88", None),
    TransferBegun(100.0, REQUEST, Agreed(), "", 7),
    TransferEnded(100.0, REPORT),
    TransferRefused(100.0, REQUEST, 1, "File not found", "detail", "grub"),
    SecondStageFound(100.0, REQUEST, "grub/a"),
    SystemUp(100.0, PEER, "52:54:00:00:00:01", "http"),
    InstallationReported(100.0, PEER, "52:54:00:00:00:01", "no disk", True),
]


def shifted(event: Any, by: float) -> Any:
    """The event by a clock that is *by* seconds ahead."""
    if isinstance(event, TransferEnded):
        report = evolve(event.report, began=event.report.began + by, ended=event.report.ended + by)
        event = evolve(event, report=report)
    return evolve(event, at=event.at + by)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_decoded_with_the_time_of_the_receiving_clock(event: Any) -> None:
    item = event_item(event, 103.0)
    assert item is not None
    assert event_of(item, 1003.0) == shifted(event, 900.0)
    assert event_of([*item, "of a later version"], 1003.0) == shifted(event, 900.0)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_of_another_shape_is_refused(event: Any) -> None:
    item = event_item(event, 103.0)
    assert item is not None
    for number in range(len(item)):
        with pytest.raises(Unreadable):
            event_of([*item[:number], {}, *item[number + 1 :]], 103.0)


def test_other_events_are_not_announced() -> None:
    assert event_item(ListenerClosed(1.0, "tftp", PEER), 2.0) is None


def test_an_event_of_a_later_version_is_ignored() -> None:
    assert event_of(["teleported", 1, 2], 0.0) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=20,
)


@given(st.sampled_from(["begun", "ended", "refused", "second-stage", "up"]), st.lists(JSON, max_size=14))
def test_any_item_is_decoded_or_refused(kind: str, fields: list[Any]) -> None:
    with suppress(Unreadable):
        event_of([kind, *fields], 0.0)
    decoders: list[Callable[[Any], object]] = [client_of, positions_of, partial(GeneratedParts().add, "node")]
    decoders.append(lambda item: program_of(item, 0.0))
    for decode in decoders:
        with suppress(Unreadable):
            decode(fields)


def test_clients_and_programs_are_decoded() -> None:
    client = Client("10.0.0.9", "52:54:00:00:00:01", None, "x86_64-uefi", "ipxe", "PXEClient", True, False, True)
    assert client_of(client_item(client)) == client
    program = BootProgram("a/shimx64.efi", 1, True, 100.0, 101.0)
    address, found = program_of(program_item("10.0.0.9", program, 110.0), 1110.0)
    assert (address, found.path, found.backend, found.is_shim) == ("10.0.0.9", "a/shimx64.efi", 1, True)
    assert (found.loaded, found.last_request) == (1100.0, 1101.0)


def test_positions_are_decoded() -> None:
    assert positions_of([position_item(PEER, 70_000, 12.5)]) == [(PEER, 70_000, 12.5)]


@pytest.mark.parametrize("size", [0, 1, 3999, 4000, 4001, 100_000])
def test_a_generated_file_is_decoded(size: int) -> None:
    content, parts = bytes(range(256)) * (size // 256) + bytes(size % 256), GeneratedParts()
    items = list(generated_items("boot.ipxe", content))
    found = [parts.add("node", item) for item in items]
    assert found == [*[None] * (len(items) - 1), ("boot.ipxe", content)]


def test_a_generated_file_with_a_part_missing_is_dropped() -> None:
    content, parts = bytes(9000), GeneratedParts()
    first, _, last = generated_items("boot.ipxe", content)
    assert [parts.add("node", first), parts.add("other", last), parts.add("node", last)] == [None] * 3
    assert [parts.add("node", item) for item in generated_items("boot.ipxe", content)][-1] == ("boot.ipxe", content)


def test_a_very_large_generated_file_is_not_announced() -> None:
    assert list(generated_items("initrd", bytes(LARGEST + 1))) == []
