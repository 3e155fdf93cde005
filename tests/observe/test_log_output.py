"""What the log writes, and where: lines for people, JSON, entries for journald."""

import array
import errno
import io
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    capturedLogs,
    formatEventAsClassicLogText,
    textFileLogObserver,
)
from twisted.python import log as legacy
from twisted.python.failure import Failure

from bootfw.config.settings import LogSettings
from bootfw.errors import ConfigError
from bootfw.events import (
    AddressesGranted,
    Event,
    ListenerBound,
    OfferMade,
    PluginFailed,
    RequestIgnored,
    TransferEnded,
    TransferRefused,
)
from bootfw.lease import Lease, LeaseState
from bootfw.observe.journal import JournalSocket
from bootfw.observe.log import LogObserver
from bootfw.observe.logoutput import JournalLog, LinesLog, open_log
from bootfw.observe.logtext import as_datagram, as_json, as_text
from bootfw.observe.publisher import Publisher
from bootfw.observe.record import record
from bootfw.values import (
    Agreed,
    BootFile,
    BootMenu,
    BootMenuItem,
    BootRequest,
    Outcome,
    TransferReport,
    TransferRequest,
)

CLIENTS = Path(__file__).parents[2] / ".clients"
REMOTE = CLIENTS / "lib/systemd/systemd-journal-remote"

MAC = "52:54:00:00:00:01"
BOOT = BootRequest(MAC, "discover", "uefi", "x86_64-uefi", interface="eth0", vendor_class="PXEClient")
READ = TransferRequest("/boot/\udcff\u00e9", "boot/\udcff\u00e9", ("fd77::1", 2000))
ENDED = TransferEnded(9.0, TransferReport(READ, Agreed(), Outcome.COMPLETE, "", 9, 1, 0, 0.0, 1.0))
REFUSED = TransferRefused(9.0, READ, 1, "File not found", persona="grub")
OFFER = OfferMade(9.0, BOOT, "OFFER", BootFile("snponly.efi"), ("255.255.255.255", 68), "10.77.0.100")
LEASE = Lease("10.77.0.100", b"\x01\xff", MAC, LeaseState.ACTIVE, 0.0, 600.0)


class FullDisk(io.StringIO):
    """A file on a disk that may be full."""

    has_room = True

    def write(self, text: str) -> int:
        if not self.has_room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


EVENTS = [
    ENDED,
    REFUSED,
    OFFER,
    RequestIgnored(9.0, MAC, "no PXE"),
    ListenerBound(9.0, "tftp", ("::", 69)),
    PluginFailed(9.0, "backend x", "open", "Traceback\n  File x\nValueError: {no}"),
    AddressesGranted(9.0, (LEASE,)),
]


class CountingFile(io.StringIO):
    """A file that counts its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def log_events(*events: Event) -> list[LogEvent]:
    log_events: list[LogEvent] = []
    observer = LogObserver()
    observer.log = Logger(namespace="bootfw", observer=cast(ILogObserver, log_events.append))
    observer.observe_many(events)
    return log_events


def twisted_log_events() -> list[LogEvent]:
    """Log events that are not ours: of a Logger, with a traceback, and of twisted.python.log."""
    log_events: list[LogEvent] = []
    publisher = LogPublisher(cast(ILogObserver, log_events.append))
    log = Logger(namespace="twisted.web", observer=publisher)
    log.info("{count} requests\nin all", count=3)
    log.info("")
    try:
        raise ValueError("not so")
    except ValueError:
        log.failure("it failed", Failure())
    legacy.LogPublisher(publishPublisher=publisher).msg("by the old way", system="web")
    return log_events


@pytest.mark.parametrize("event", [*log_events(*EVENTS), *twisted_log_events()])
def test_text_line_equals_twisteds_format(event: LogEvent) -> None:
    expected = io.StringIO()
    textFileLogObserver(expected)(event)
    assert as_text(event) == expected.getvalue()


def test_lines_of_one_delivery_are_one_write() -> None:
    file, clock = CountingFile(), Clock()
    log = LinesLog(file, as_text)
    observer = LogObserver()
    observer.log = Logger(namespace="bootfw", observer=log)
    publisher = Publisher(clock, [("log", observer)])
    for event in EVENTS:
        publisher.publish(event)
    clock.advance(0)
    assert file.writes == 1
    assert file.getvalue().count(" [bootfw#") == len(EVENTS)
    publisher.publish(ENDED)
    clock.advance(0)
    assert file.writes == 2


def test_buffered_lines_are_written_if_the_last_event_is_skipped() -> None:
    file = CountingFile()
    log = LinesLog(file, as_text, frozenset([LogLevel.debug]))
    first, last = log_events(ENDED, ENDED)
    last["log_level"] = LogLevel.debug
    log(first)
    assert file.getvalue() == ""
    log(last)
    assert file.getvalue().count("\n") == 1
    log(last)
    assert file.writes == 1


def test_a_reload_changes_the_level() -> None:
    file = CountingFile()
    log = LinesLog(file, as_text)
    event = log_events(ENDED)[0]
    event.pop("log_more", None)
    log.use_level("warn")
    log(event)
    assert file.getvalue() == ""
    log.use_level("info")
    log(event)
    assert file.getvalue().count("\n") == 1


def test_a_signal_handler_may_log_during_a_write() -> None:
    """Twisted logs the signal by which it stops in the handler."""
    first, second = log_events(ENDED)[0], log_events(OFFER)[0]

    class Interrupted(CountingFile):
        def flush(self) -> None:
            super().flush()
            if self.writes == 1:
                log(second)

    file = Interrupted()
    log = LinesLog(file, as_text)
    log(first)
    assert file.getvalue() == as_text(first) + as_text(second)


def test_json_is_an_object_a_line_with_all_fields() -> None:
    transfer, refused, offer, *_, leases = (json.loads(as_json(event)) for event in log_events(*EVENTS))
    assert list(transfer)[:4] == ["time", "level", "text", "event"]
    assert transfer["time"][-1] == "Z"
    assert (transfer["event"], transfer["peer"], transfer["file"]) == (
        "TransferEnded",
        "[fd77::1]:2000",
        "/boot/\\xff\u00e9",
    )
    assert (refused["code"], refused["message"], refused["count"]) == (1, "File not found", 1)
    assert refused["persona"] == "grub"
    assert {key: offer[key] for key in ("mac", "phase", "message", "file", "destination", "address", "level")} == {
        "mac": MAC,
        "phase": "discover",
        "message": "OFFER",
        "file": "snponly.efi",
        "destination": "255.255.255.255:68",
        "address": "10.77.0.100",
        "level": "info",
    }
    assert leases["leases"][0]["address"] == "10.77.0.100"
    assert leases["leases"][0]["client"] == "01ff"
    assert leases["mac"] == leases["leases"][0]["mac"]


@pytest.mark.parametrize("event", [*log_events(*EVENTS), *twisted_log_events()])
def test_a_log_event_is_one_line_of_ascii_json(event: LogEvent) -> None:
    line = as_json(event)
    assert line.isascii()
    assert line.count("\n") == (1 if line else 0)
    if line:
        assert {"time", "level", "text"} <= set(json.loads(line))


def test_events_of_others_name_their_source() -> None:
    info, empty, failed, legacy_event = twisted_log_events()
    assert as_json(empty) == as_text(empty) == ""
    assert as_datagram(empty) == b""
    assert json.loads(as_json(info))["source"] == "twisted.web"
    assert json.loads(as_json(info))["count"] == 3
    assert "ValueError: not so" in json.loads(as_json(failed))["text"]
    assert json.loads(as_json(legacy_event))["text"] == "by the old way"


def test_a_menu_is_the_list_of_its_texts() -> None:
    menu = BootMenu((BootMenuItem("Install", BootFile("a")), BootMenuItem("Disk")))
    assert record(OfferMade(9.0, BOOT, "OFFER", menu, ("10.0.0.1", 68)))["menu"] == ["Install", "Disk"]


# journald


def parsed(datagram: bytes) -> dict[str, str]:
    """An entry of journald's native protocol, read by its definition."""
    fields = {}
    while datagram:
        name, separator, datagram = datagram.partition(b"\n")
        assert separator
        if b"=" in name:
            name, _, value = name.partition(b"=")
        else:
            size = int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8 : 8 + size], datagram[8 + size :]
            assert datagram[:1] == b"\n"
            datagram = datagram[1:]
        fields[name.decode("ascii")] = value.decode()
    return fields


class Journald:
    """The socket of journald."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def read(self) -> dict[str, str]:
        data, ancillary, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for _, kind, rights in ancillary:
            assert kind == socket.SCM_RIGHTS
            (descriptor,) = array.array("i", rights)
            with open(descriptor, "rb") as file:
                file.seek(0)
                return parsed(file.read())
        return parsed(data)

    def close(self) -> None:
        self.socket.close()
        self.path.unlink()


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    journald = Journald(tmp_path / "journal")
    yield journald
    journald.close()


def test_an_entry_of_the_journal_has_the_fields_of_its_event(journald: Journald) -> None:
    log = JournalLog(JournalSocket(journald.path))
    for event in log_events(OFFER, ENDED, EVENTS[5]):
        log(event)
    offer, transfer, failed = (journald.read() for _ in range(3))
    assert offer["MESSAGE"].startswith(f"dhcp {MAC} (uefi, x86_64-uefi, on eth0) discover: OFFER")
    assert {
        key: offer[key] for key in ("PRIORITY", "SYSLOG_IDENTIFIER", "BOOTFW_EVENT", "BOOTFW_MAC", "BOOTFW_FILE")
    } == {
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "bootfw",
        "BOOTFW_EVENT": "OfferMade",
        "BOOTFW_MAC": MAC,
        "BOOTFW_FILE": "snponly.efi",
    }
    assert "BOOTFW_UUID" not in offer
    assert (transfer["BOOTFW_BYTES"], transfer["BOOTFW_UPLOAD"], transfer["BOOTFW_RETRANSMITTED"]) == (
        "9",
        "false",
        "0",
    )
    assert failed["PRIORITY"] == "3"
    assert failed["MESSAGE"].endswith("\n  File x\nValueError: {no}")


def test_oversized_journal_entry_is_sent_as_a_sealed_file(journald: Journald) -> None:
    (event,) = log_events(PluginFailed(9.0, "backend x", "open", "x\n" * 500_000))
    JournalLog(JournalSocket(journald.path))(event)
    assert len(journald.read()["MESSAGE"]) > 1_000_000


def test_a_journal_that_does_not_read_loses_entries_and_gets_their_number(journald: Journald) -> None:
    log = JournalLog(sock := JournalSocket(journald.path))
    (event,) = log_events(OFFER)
    sent = 0
    while not sock.dropped:
        log(event)
        sent += 1
    log(event)
    assert sock.dropped == 2
    for _ in range(sent - 1):
        journald.read()
    log(event)
    assert journald.read()["MESSAGE"].startswith("2 log entries were dropped")
    assert journald.read()["BOOTFW_EVENT"] == "OfferMade"
    log(event)
    assert journald.read()["BOOTFW_EVENT"] == "OfferMade"


def test_the_journal_s_new_socket_is_found_after_a_restart(tmp_path: Path) -> None:
    first = Journald(tmp_path / "journal")
    log = JournalLog(JournalSocket(first.path))
    (event,) = log_events(OFFER)
    first.close()
    second = Journald(tmp_path / "journal")
    log(event)
    assert second.read()["BOOTFW_EVENT"] == "OfferMade"
    second.close()
    log(event)  # lost
    third = Journald(tmp_path / "journal")
    log(event)
    assert third.read()["MESSAGE"].startswith("1 log entries were dropped")
    assert third.read()["BOOTFW_EVENT"] == "OfferMade"
    third.close()


def test_levels_below_the_chosen_one_are_left_out_of_the_journal(journald: Journald) -> None:
    log = JournalLog(JournalSocket(journald.path), frozenset([LogLevel.info]))
    for event in log_events(OFFER, EVENTS[5]):
        log(event)
    assert journald.read()["PRIORITY"] == "3"


@pytest.mark.interop
def test_journalctl_reads_the_entries(tmp_path: Path) -> None:
    """systemd-journal-remote writes a journal file of the export format, which has the same entries."""
    if which("journalctl") is None or not REMOTE.exists():
        pytest.skip("journalctl and systemd-journal-remote are needed: make install-clients")
    entries = b"".join(b"__REALTIME_TIMESTAMP=1\n%b\n" % as_datagram(event) for event in log_events(*EVENTS))
    path = tmp_path / "boot.journal"
    environ = {**os.environ, "LD_LIBRARY_PATH": f"{CLIENTS}/usr/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu/systemd"}
    result = subprocess.run([REMOTE, f"--output={path}", "-"], input=entries, env=environ, capture_output=True)
    assert result.returncode == 0, result.stderr
    command = ["journalctl", f"--file={path}", "--output=json", f"BOOTFW_MAC={MAC}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [json.loads(line)["BOOTFW_EVENT"] for line in output.splitlines()] == [
        "OfferMade",
        "RequestIgnored",
        "AddressesGranted",
    ]


# Where it goes


def replace_stdout(monkeypatch: pytest.MonkeyPatch, stream: Any) -> None:
    monkeypatch.setattr("sys.stdout", stream)


@pytest.mark.parametrize(("format", "as_line"), [("auto", as_text), ("text", as_text), ("json", as_json)])
def test_in_the_foreground_it_goes_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, format: str, as_line: Any
) -> None:
    stream = io.StringIO()
    replace_stdout(monkeypatch, stream)
    log = open_log(LogSettings(format=format), "", Clock(), foreground=True, environ={})
    (event,) = log_events(OFFER)
    log(event)
    assert stream.getvalue() == as_line(event)
    assert log.shows_fields == (format == "json")


def test_under_systemd_it_goes_to_the_journal(
    monkeypatch: pytest.MonkeyPatch, journald: Journald, tmp_path: Path
) -> None:
    with open(tmp_path / "stream", "w") as stream:
        replace_stdout(monkeypatch, stream)
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        log = open_log(LogSettings(), "", Clock(), foreground=True, environ=environ, journal=journald.path)
        assert isinstance(log, JournalLog)
        assert log.shows_fields
        # The variable is inherited by programs whose output goes elsewhere.
        other_stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"}
        assert isinstance(
            open_log(LogSettings(), "", Clock(), foreground=True, environ=other_stream, journal=journald.path), LinesLog
        )
        assert isinstance(open_log(LogSettings(format="text"), "", Clock(), foreground=True, environ=environ), LinesLog)
        missing_journal = tmp_path / "gone"
        assert isinstance(
            open_log(LogSettings(), "", Clock(), foreground=True, environ=environ, journal=missing_journal), LinesLog
        )


def test_a_journal_that_is_missing_is_an_error_where_it_was_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'^format: "journal" needs journald: .*gone: No such file'):
        open_log(LogSettings(format="journal"), "", Clock(), foreground=True, journal=tmp_path / "gone")


def test_a_file_is_written_and_followed_by_the_next_one(tmp_path: Path) -> None:
    log = open_log(LogSettings(format="json"), str(tmp_path / "log"), Clock(), foreground=False)
    for event in log_events(OFFER, ENDED):
        log(event)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["OfferMade", "TransferEnded"]


def test_a_file_that_can_t_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        open_log(LogSettings(), str(tmp_path / "nowhere" / "log"), Clock(), foreground=False)


def test_events_below_the_level_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    replace_stdout(monkeypatch, stream)
    log = open_log(LogSettings(level="warn"), "", Clock(), foreground=True, environ={})
    for event in log_events(OFFER, EVENTS[5]):
        log(event)
    assert "OFFER" not in stream.getvalue()
    assert "backend x failed" in stream.getvalue()


def test_lines_of_twisted_about_each_connection_are_left_out() -> None:
    file, sent = io.StringIO(), list[bytes]()
    journal = cast(JournalSocket, SimpleNamespace(send=sent.append))
    factory = Factory()
    with capturedLogs() as logged:
        factory.doStart()
        factory.doStop()
    assert [event["log_format"][:8] for event in logged] == ["Starting", "Stopping"]
    for event in logged:
        LinesLog(file, as_text)(event)
        JournalLog(journal)(event)
    assert (file.getvalue(), sent) == ("", [])


def test_other_twisted_observers_get_the_same_text() -> None:
    file = io.StringIO()
    observer = FileLogObserver(file, formatEventAsClassicLogText)
    for event in log_events(OFFER):
        observer(event)
        assert file.getvalue() == as_text(event)


@pytest.mark.parametrize("as_line", [as_text, as_json])
def test_lines_that_could_not_be_written_are_counted(as_line: Any) -> None:
    file = FullDisk()
    logger = Logger(namespace="bootfw", observer=LinesLog(file, as_line))
    logger.info("first")
    file.has_room = False
    for _ in range(3):
        logger.info("lost")
    file.has_room = True
    logger.info("second")
    logger.info("third")
    lines = [line for line in file.getvalue().splitlines() if line]
    assert ["lost" in line for line in lines] == [False] * 4
    assert ["first" in lines[0], "second" in lines[2], "third" in lines[3]] == [True] * 3
    if as_line is as_json:
        record = json.loads(lines[1])
        assert (record["count"], record["reason"]) == (3, "No space left on device")
    else:
        assert lines[1].endswith("3 line(s) of the log could not be written: No space left on device")
