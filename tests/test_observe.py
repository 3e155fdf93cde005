"""Events on their way to the observers, and their log lines."""

import io
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from string import Formatter
from typing import cast

import attrs
import pytest
from attrs import evolve
from narrowing import of_type
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, eventAsText, formatEvent, jsonFileLogObserver
from twisted.logger._flatten import flattenEvent
from zope.interface import implementer, provider

from bootfw.attempts.attempt import BootAttempt, Cause, Verdict
from bootfw.events import (
    AddressesGranted,
    AddressTaken,
    BootAttemptEnded,
    CertificateLoaded,
    Event,
    EventsDropped,
    LeasesKeptAgain,
    LeasesNotKept,
    ListenerClosed,
    OtherBootServerSeen,
    OtherServerSeen,
    PluginFailed,
    PoolExhausted,
    ProxyARPSeen,
    RequestIgnored,
    SocketChanged,
    TransferEnded,
    TransferRefused,
)
from bootfw.interfaces import IBatchObserver, IBootObserver
from bootfw.lease import Lease, LeaseState
from bootfw.observe import log
from bootfw.observe.clientmacs import REMEMBERED_SECONDS
from bootfw.observe.log import LONGEST_LINE, LogObserver
from bootfw.observe.publisher import EVENTS_PER_TURN, LOAD, PAUSE, QUEUE_LIMIT, Publisher
from bootfw.values import Address, Agreed, Client, Outcome, SocketStatus, TransferReport, TransferRequest

REQUEST = TransferRequest("/a", "a", ("10.0.0.1", 2000))


def ended(port: int, outcome: Outcome = Outcome.COMPLETE) -> TransferEnded:
    request = evolve(REQUEST, peer=("10.0.0.1", port))
    return TransferEnded(1.0, TransferReport(request, Agreed(), outcome, "", 9, 1, 0, 0.0, 1.0))


def refused(port: int, filename: str = "/a") -> TransferRefused:
    return TransferRefused(1.0, evolve(REQUEST, peer=("10.0.0.1", port), filename=filename), 1, "File not found")


ObserverAndLines = tuple[LogObserver, list[tuple[str, str]]]


def _calls(function: Callable[[LogEvent], object]) -> ILogObserver:
    @provider(ILogObserver)
    def observer(event: LogEvent) -> None:
        function(event)

    return cast(ILogObserver, observer)


@pytest.fixture
def observer_and_lines() -> ObserverAndLines:
    """(observer, [(level, text)] of the lines that it has written)."""
    found: list[tuple[str, str]] = []
    observer = LogObserver()
    observer.log = Logger(
        namespace="bootfw",
        observer=_calls(lambda event: found.append((event["log_level"].name, event["log_format"].format(**event)))),
    )
    return observer, found


def test_one_transfer_is_one_line(observer_and_lines: ObserverAndLines) -> None:
    observer, found = observer_and_lines
    observer.observe(ended(1))
    assert found == [("info", "tftp 10.0.0.1:1 got '/a': complete, 9 bytes in 1.00 s, blksize 512")]


def test_the_persona_of_a_special_treatment_is_named(observer_and_lines: ObserverAndLines) -> None:
    observer, found = observer_and_lines
    event = ended(1)
    observer.observe(evolve(event, report=evolve(event.report, persona="u-boot-tftp")))
    assert found[0][1].endswith(", blksize 512, treated as u-boot-tftp")


def test_refusals_by_quirks_share_no_line_with_others(observer_and_lines: ObserverAndLines) -> None:
    observer, found = observer_and_lines
    grub = [evolve(refused(port), persona="grub") for port in (2, 3)]
    observer.observe_many([refused(1), *grub, refused(4)])
    assert [text for _, text in found] == [
        "tftp 10.0.0.1:1 requested '/a' 2 times: ERROR 1 File not found",
        "tftp 10.0.0.1:2 requested '/a' 2 times: ERROR 1 File not found, treated as grub",
    ]


@pytest.mark.parametrize(
    ("mac", "declined", "evidence"),
    [
        ("02:00:00:00:00:01", False, "02:00:00:00:00:01 answers there"),
        ("", False, "a ping is answered there"),
        ("02:00:00:00:00:01", True, "02:00:00:00:00:01 has declined it"),
    ],
)
def test_log_line_of_a_used_address_says_how_that_was_found(
    observer_and_lines: ObserverAndLines, mac: str, declined: bool, evidence: str
) -> None:
    observer, found = observer_and_lines
    observer.observe(AddressTaken(1.0, "10.78.0.100", mac, declined))
    assert found == [("warn", f"dhcp 10.78.0.100 is in use without a lease: {evidence}")]


def test_each_transfer_is_a_log_event_of_its_own_in_their_order(observer_and_lines: ObserverAndLines) -> None:
    observer, found = observer_and_lines
    observer.observe_many(
        [ended(1), refused(2), ended(3, Outcome.FAILED), ListenerClosed(1.0, "tftp", ("::", 69)), ended(4)]
    )
    assert [(level, text.split()[1]) for level, text in found] == [
        ("info", "10.0.0.1:1"),
        ("info", "10.0.0.1:2"),
        ("error", "10.0.0.1:3"),
        ("info", "no"),
        ("info", "10.0.0.1:4"),
    ]


def test_as_json_a_transfer_is_one_record_with_its_fields() -> None:
    records = io.StringIO()
    observer = LogObserver()
    observer.log = Logger(namespace="bootfw", observer=jsonFileLogObserver(records, ""))
    observer.observe_many([ended(1), ended(2), refused(3), refused(4)])
    first, second, third = map(json.loads, records.getvalue().splitlines())
    assert {name: first[name] for name in ("event", "peer", "file", "outcome", "bytes", "seconds", "blksize")} == {
        "event": "TransferEnded",
        "peer": "10.0.0.1:1",
        "file": "/a",
        "outcome": "COMPLETE",
        "bytes": 9,
        "seconds": 1.0,
        "blksize": 512,
    }
    assert second["peer"] == "10.0.0.1:2"
    assert (third["peer"], third["code"], third["message"], third["count"]) == ("10.0.0.1:3", 1, "File not found", 2)


@pytest.mark.parametrize(
    "event",
    [
        ended(1, Outcome.FAILED),
        evolve(refused(2, "/{a}!{"), detail="no {b}"),
        RequestIgnored(1.0, "02:00:00:00:00:01", "{no} PXE"),
    ],
)
def test_log_event_equals_that_of_twisteds_logger(event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "time", lambda: 7.0)
    monkeypatch.setattr("twisted.logger._logger.time", lambda: 7.0)
    events: list[LogEvent] = []
    observer = LogObserver()
    observer.log = Logger(namespace="bootfw", observer=_calls(events.append))
    observer.observe(event)
    (actual,) = events
    fields = {key: value for key, value in actual.items() if not key.startswith("log_")}
    observer.log.emit(actual["log_level"], "{line}", **fields)
    expected = events[1]
    assert formatEvent(actual) == formatEvent(expected) == actual["line"]
    assert eventAsText(actual) == eventAsText(expected)
    flattenEvent(expected)
    for each in events:
        del each["log_logger"]
    assert actual == expected


def test_fields_of_each_log_line_exist_in_its_event() -> None:
    for kind, line in log._LINES.items():
        attributes = {attribute.name for attribute in attrs.fields(kind)}
        named = {name for _, name, _, _ in Formatter().parse(line.text) if name}
        assert named <= attributes | set(line.computed), kind
        assert set(line.computed) <= named, kind


def test_repeated_fact_is_logged_only_after_a_change(observer_and_lines: ObserverAndLines) -> None:
    observer, found = observer_and_lines
    first, second = (CertificateLoaded(1.0, "a.pem", ("boot.example",), ends) for ends in (0.0, 86400.0))
    observer.observe_many([first, first, second, second, first])
    assert [text[-10:] for _, text in found] == ["1970-01-01", "1970-01-02", "1970-01-01"]


def test_a_store_that_fails_is_logged_once_each_time_that_it_begins_to_fail(
    observer_and_lines: ObserverAndLines,
) -> None:
    observer, found = observer_and_lines
    full, gone = (LeasesNotKept(1.0, 1, reason) for reason in ("the disk is full", "no file"))
    observer.observe_many([full, full, gone, gone, LeasesKeptAgain(2.0), gone])
    unable = "dhcp leases can't be stored, so clients get no address until they can: "
    assert [text for _, text in found] == [
        *(unable + reason for reason in ("the disk is full", "no file")),
        "dhcp leases are stored again",
        f"{unable}no file",
    ]


def test_a_client_that_is_ignored_is_logged_again_when_it_was_forgotten(observer_and_lines: ObserverAndLines) -> None:
    observer, found = observer_and_lines
    ignored = [RequestIgnored(1.0, f"mac {number}", "no PXE") for number in range(log.REMEMBERED + 1)]
    observer.observe_many([*ignored, ignored[1]])
    assert len(found) == log.REMEMBERED + 1
    observer.observe(ignored[0])
    assert found[-1] == ("info", "dhcp mac 0 ignored: no PXE")
    assert len(found) == log.REMEMBERED + 2


def test_equal_refusals_of_a_client_are_one_log_line(observer_and_lines: ObserverAndLines) -> None:
    observer, found = observer_and_lines
    other = evolve(refused(1), request=evolve(refused(1).request, peer=("10.0.0.2", 1)))
    observer.observe_many([refused(1), refused(2, "/b"), other, refused(3), refused(4)])
    assert [text for _, text in found] == [
        "tftp 10.0.0.1:1 requested '/a' 3 times: ERROR 1 File not found",
        "tftp 10.0.0.1:2 requested '/b': ERROR 1 File not found",
        "tftp 10.0.0.2:1 requested '/a': ERROR 1 File not found",
    ]


def test_each_lease_of_a_batch_is_a_log_line_of_its_own(observer_and_lines: ObserverAndLines) -> None:
    observer, found = observer_and_lines
    leases = tuple(
        Lease(f"10.77.0.{number}", b"", f"52:54:00:00:00:{number:02}", LeaseState.ACTIVE, 1.0, 2.0)
        for number in range(20)
    )
    events = observer.log_events([AddressesGranted(1.0, leases)])
    assert [(event["line"], event["mac"], len(event["leases"])) for event in events] == [
        (f"dhcp leases 10.77.0.{number} to 52:54:00:00:00:{number:02} for 1 s", f"52:54:00:00:00:{number:02}", 1)
        for number in range(20)
    ]
    assert found == []


def test_lines_of_leases_are_limited_one_by_one(
    observer_and_lines: ObserverAndLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LINES_AT_ONCE", 5)
    observer, _ = observer_and_lines
    lease = Lease("10.77.0.1", b"", "52:54:00:00:00:01", LeaseState.ACTIVE, 1.0, 2.0)
    lines = [event["line"] for event in observer.log_events([AddressesGranted(1.0, (lease,) * 20)])]
    assert (len(lines), lines[-1][:11]) == (6, "15 line(s) ")


@implementer(IBootObserver)
class Failing:
    """Fails on every second event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event) -> None:
        self.events.append(event)
        if len(self.events) % 2:
            raise ValueError("as asked")


def test_an_observer_that_fails_gets_the_next_event(failures: list[BaseException]) -> None:
    clock, observer = Clock(), Failing()
    publisher = Publisher(clock, [("failing", observer)])
    events = [ended(port) for port in range(5)]
    for event in events:
        publisher.publish(event)
    clock.advance(0)
    assert observer.events == events
    assert [str(failure) for failure in failures] == ["as asked"] * 3
    failures.clear()


def test_flood_of_events_is_delivered_in_turns_and_the_excess_is_counted() -> None:
    @implementer(IBatchObserver)
    class Many:
        def __init__(self) -> None:
            self.turns: list[list[Event]] = []

        def observe(self, event: Event) -> None:
            raise AssertionError("observe_many() is called in place of it")

        def observe_many(self, events: Sequence[Event]) -> None:
            self.turns.append(list(events))

    clock, observer = Clock(), Many()
    publisher = Publisher(clock, [("many", observer)])
    for port in range(QUEUE_LIMIT + 7):
        publisher.publish(ended(port))
    clock.advance(0)
    first, *later_turns = observer.turns
    assert len(first) == EVENTS_PER_TURN + 1
    assert of_type(EventsDropped, first[-1]).count == 7
    assert {len(events) for events in later_turns} == {EVENTS_PER_TURN}
    assert sum(map(len, observer.turns)) == QUEUE_LIMIT + 1
    publisher.publish(ended(1))
    publisher.flush()
    assert len(observer.turns[-1]) == 1
    assert not clock.getDelayedCalls()


def test_events_of_one_delivery_are_marked_but_for_the_last_one(observer_and_lines: ObserverAndLines) -> None:
    observer, _ = observer_and_lines
    events: list[LogEvent] = []
    observer.log = Logger(namespace="bootfw", observer=_calls(events.append))
    observer.observe_many([ended(1), refused(2), RequestIgnored(1.0, "mac", "no PXE"), EventsDropped(1.0, 3)])
    assert ["log_more" in event for event in events] == [True, True, True, False]


def test_a_transfer_names_its_client_where_fields_are_shown() -> None:
    lookups: list[Address] = []

    def lookup(peer: Address) -> Client:
        lookups.append(peer)
        return Client(peer[0], mac="02:00:00:00:00:01" if peer[0] == "10.0.0.1" else "")

    events: list[LogEvent] = []
    observer = LogObserver()
    observer.log = Logger(namespace="bootfw", observer=_calls(events.append))
    observer.set_client_lookup(lookup)
    observer.observe(ended(1))
    assert "mac" not in events[0]
    assert lookups == []
    observer.names_macs = True
    stranger = evolve(refused(3), request=evolve(REQUEST, peer=("10.0.0.2", 1)))
    later = evolve(ended(1), at=1.0 + REMEMBERED_SECONDS)
    observer.observe_many([ended(1), ended(2), stranger, stranger, later])
    assert [event.get("mac") for event in events[1:]] == ["02:00:00:00:00:01"] * 2 + ["", "02:00:00:00:00:01"]
    # The unknown one has one line for two requests.
    assert [peer[0] for peer in lookups] == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]


def test_the_end_of_a_boot_is_a_line_with_its_verdict_and_why(observer_and_lines: ObserverAndLines) -> None:
    observer, found = observer_and_lines
    boot = BootAttempt(
        "1", 100.0, 131.2, mac="52:54:00:00:00:01", persona="uefi", architecture="x86_64-uefi", verdict=Verdict.BOOTED
    )
    cause = Cause("path-mtu", "The first full block of 'a.efi' was never acknowledged", "Lower max-blksize.")
    failed = evolve(boot, mac="", addresses=("10.0.0.5",), persona="", verdict=Verdict.FAILED, cause=cause)
    observer.observe_many([BootAttemptEnded(1.0, boot), BootAttemptEnded(1.0, failed)])
    assert found == [
        ("info", "boot 52:54:00:00:00:01 (uefi, x86_64-uefi): booted after 31 s"),
        (
            "warn",
            "boot 10.0.0.5 (x86_64-uefi): failed after 31 s: The first full block of 'a.efi' was never acknowledged. "
            "What to do: Lower max-blksize.",
        ),
    ]


def test_network_that_is_lost_is_a_warning_and_its_return_is_none(observer_and_lines: ObserverAndLines) -> None:
    observer, found = observer_and_lines
    bound = SocketStatus("dhcp", ("10.0.0.0/24", 67), "", "bound", "", 1.0)
    waiting = evolve(bound, state="waiting", reason="this host has: 127.0.0.1")
    observer.observe_many([SocketChanged(1.0, waiting, "bound"), SocketChanged(2.0, bound, "waiting")])
    assert found == [
        ("warn", "dhcp lost 10.0.0.0/24: the network is gone; waiting for it"),
        ("info", "dhcp serves 10.0.0.0/24"),
    ]


def refusal(number: int, at: float) -> TransferRefused:
    return TransferRefused(at, evolve(REQUEST, filename=f"file-{number}"), 1, "File not found")


def test_a_flood_writes_a_bounded_log_and_leaves_the_lines_about_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LINES_PER_SECOND", 2.0)
    monkeypatch.setattr(log, "LINES_AT_ONCE", 10)
    observer = LogObserver()
    events = [refusal(number, 1.0 + number / 100) for number in range(50)]
    lines = [each["line"] for each in observer.log_events([*events, EventsDropped(1.5, 7)])]
    assert len([line for line in lines if "file-" in line]) == 10
    assert any("7 event(s) were dropped" in line for line in lines)
    assert lines[-1] == "40 line(s) about clients were left out: the log takes 2 a second"
    assert observer.log_events([refusal(1, 1.49)]) == []
    later = [each["line"] for each in observer.log_events([refusal(number, 11.5) for number in range(30)])]
    assert len([line for line in later if "file-" in line]) == 10
    assert later[-1].startswith("21 line(s)")
    assert len(observer.log_events([refusal(1, 100.0)])) == 1


def flood(kind: type[Event], number: int) -> Event:
    """An event that a client can cause, with addresses that it invents."""
    address, mac = f"10.0.{number}.1", f"02:00:00:00:00:{number:02x}"
    events: dict[type[Event], Event] = {
        OtherBootServerSeen: OtherBootServerSeen(1.0, address, "eth0", mac, "evil"),
        OtherServerSeen: OtherServerSeen(1.0, address, "eth0", mac),
        PoolExhausted: PoolExhausted(1.0, "10.0.0.0/8", mac),
        ProxyARPSeen: ProxyARPSeen(1.0, "eth0", mac, (address,)),
    }
    return events[kind]


@pytest.mark.parametrize("kind", [OtherBootServerSeen, OtherServerSeen, PoolExhausted, ProxyARPSeen])
def test_a_flood_of_invented_servers_or_clients_writes_a_bounded_log(
    monkeypatch: pytest.MonkeyPatch, kind: type[Event]
) -> None:
    monkeypatch.setattr(log, "LINES_AT_ONCE", 10)
    lines = [each["line"] for each in LogObserver().log_events([flood(kind, number) for number in range(50)])]
    assert len(lines) == 11
    assert lines[-1].startswith("40 line(s) about clients were left out")


def test_long_client_text_is_cut_in_the_line_and_in_its_fields() -> None:
    (event,) = LogObserver().log_events([refused(1, "/" + "\x01" * 60_000)])
    assert event["line"].startswith("tftp 10.0.0.1:1 requested '/\\x01\\x01")
    assert event["line"].endswith("\\x01': ERROR 1 File not found")
    assert "characters]" in event["line"]
    assert max(len(value) for value in event.values() if isinstance(value, str)) <= LONGEST_LINE + 30


def test_traceback_is_not_cut(observer_and_lines: ObserverAndLines) -> None:
    observer, found = observer_and_lines
    observer.observe(PluginFailed(1.0, "backend x", "open 'a'", "line\n" * 1000))
    assert found[0][1].count("line") == 1000


def test_client_text_cannot_begin_a_log_line() -> None:
    hostile = "a\nerror: \x1b[2Jforged\r\u2028"
    lease = Lease("10.0.0.9", b"1", "52:54:00:00:00:01", LeaseState.ACTIVE, 0.0, 9.0, hostname=hostile)
    events: list[Event] = [
        refused(1, hostile),
        evolve(ended(1), report=evolve(ended(1).report, request=evolve(REQUEST, filename=hostile))),
        AddressesGranted(1.0, (lease,)),
    ]
    lines = [each["line"] for each in LogObserver().log_events(events)]
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


@implementer(IBatchObserver)
class Batches:
    """Records when it gets how many events."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.deliveries: list[tuple[float, int]] = []

    def observe(self, event: Event) -> None:
        self.observe_many([event])

    def observe_many(self, events: Sequence[Event]) -> None:
        self.deliveries.append((round(self.clock.seconds(), 4), len(events)))


def test_under_load_events_are_delivered_together() -> None:
    clock = Clock()
    observer = Batches(clock)
    publisher = Publisher(clock, [("batches", observer)])

    def steps(number: int, pause: float) -> list[tuple[float, int]]:
        """Publish *number* pairs of events; the deliveries meanwhile."""
        observer.deliveries.clear()
        for port in range(number):
            publisher.publish(ended(port))
            publisher.publish(ended(port))
            clock.advance(0)
            clock.advance(pause)
        return observer.deliveries

    assert [count for _, count in steps(200, PAUSE * 1.5)] == [2] * 200, "no load: each at once"
    under_load = steps(400, PAUSE / 8)
    assert [count for _, count in under_load[:LOAD]] == [2] * LOAD, "it has to last"
    together = under_load[LOAD + 2 :]
    assert len(together) > 30
    assert all(count >= 16 for _, count in together)
    assert all(PAUSE - 0.0001 < b - a < PAUSE * 1.5 for (a, _), (b, _) in pairwise(together))
    without_load = steps(3 * LOAD, PAUSE * 1.5)
    assert [count for _, count in without_load[1:]] == [2] * (len(without_load) - 1)
    publisher.publish(ended(1))
    clock.advance(0)
    assert observer.deliveries[-1] == (round(clock.seconds(), 4), 1), "and at once again"
    assert not clock.getDelayedCalls()
