"""What ``bootfw install`` shows of an installation, and when it ends."""

import io
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from attrs import define, evolve, field

from bootfw.attempts.attempt import BootAttempt, Cause, Stage, StageKind, Verdict
from bootfw.attempts.record import attempt_record
from bootfw.cli.installprogress import RETRIED_FOR, Installation
from bootfw.cli.installprogress import follow as follow_all
from bootfw.cli.running import ServerEnded
from bootfw.terminal import StatusLine

OTHER = "52:54:00:12:34:57"
MAC, FILE = "52:54:00:12:34:56", "install/debian-12/preseed.cfg.ipxe"
ORDERED = 1_763_640_000.0
ORDER = {"mac": MAC, "file": FILE, "ordered": ORDERED}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are printed in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def transfer(at: float, file: str, **data: Any) -> Stage:
    until = at + data.get("seconds", 0.0)
    return Stage(at, StageKind.TRANSFER, {"protocol": "http", "file": file, **data}, until=until)


def complete(at: float, file: str) -> Stage:
    return transfer(at, file, outcome="complete", bytes=100, seconds=2.0)


DISCOVER = Stage(ORDERED + 5, StageKind.DISCOVER, {"persona": "ipxe", "architecture": "x86-bios"})
LOADING = BootAttempt("1", ORDERED + 5, mac=MAC, stages=(DISCOVER, transfer(ORDERED + 6, FILE)))
LOADED = evolve(LOADING, stages=(DISCOVER, complete(ORDERED + 6, FILE)), files=(FILE,))
BOOTED = evolve(LOADED, verdict=Verdict.BOOTED, ended=ORDERED + 40)
UP = evolve(
    BOOTED,
    stages=(*LOADED.stages, Stage(ORDERED + 300, StageKind.UP, {"protocol": "http"})),
    verdict=Verdict.UP,
    ended=ORDERED + 300,
)
FAILED = evolve(
    LOADING,
    stages=(DISCOVER,),
    verdict=Verdict.FAILED,
    ended=ORDERED + 60,
    cause=Cause("silent", "nothing came after the offer", "look at the cable"),
)

FAILED_OTHER = evolve(FAILED, id="2", mac=OTHER)


@define
class FakeServer:
    """Answers each request for changes with the next list of boots; None: it has ended."""

    answers: list[Sequence[BootAttempt] | None]
    change: int = 0
    current: Sequence[BootAttempt] = field(factory=list)
    ends_at: Sequence[BootAttempt] | None = None
    """It ends after the answer with this list of boots."""

    def call(self, name: str, **arguments: Any) -> list[dict[str, Any]]:
        if name == "boot":
            assert arguments["machine"] in (MAC, OTHER)
            if self.current is self.ends_at:
                raise ServerEnded("ended")
            return [attempt_record(attempt) for attempt in self.current if attempt.mac == arguments["machine"]]
        answer = self.answers.pop(0)
        if answer is None:
            raise ServerEnded("ended")
        self.change += 1
        self.current = answer
        return [{**attempt_record(each, stages=False), "change": self.change} for each in answer] or [
            {"change": self.change}
        ]


def follow(*answers: Sequence[BootAttempt] | None, unattended: bool = True) -> int:
    """Follow an installation until it ends, and return the exit code."""
    server: Any = FakeServer(list(answers))
    code = Installation(ORDER, unattended).follow(server, lambda seconds: None)
    assert server.answers == []
    return code


def test_stages_are_printed_once_until_the_system_is_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow([], [LOADING], [LOADING], [LOADED], [BOOTED], [UP]) == 0
    assert capsys.readouterr().out == (
        "12:00:05  DISCOVER by ipxe, x86-bios\n"
        f'12:00:08  http get "{FILE}": complete, 100 bytes in 2.00 s\n'
        "12:00:40  booted after 3 s\n"
        "12:05:00  the installed system is up\n"
        "12:05:00  up after 295 s\n"
    )


def test_system_that_phones_home_after_its_first_boot_is_up(capsys: pytest.CaptureFixture[str]) -> None:
    disk_boot = BootAttempt("2", ORDERED + 310, mac=MAC, verdict=Verdict.NOTHING_TO_BOOT, ended=ORDERED + 311)
    assert follow([disk_boot, BOOTED], [evolve(disk_boot, verdict=Verdict.UP, ended=ORDERED + 330), BOOTED]) == 0
    assert capsys.readouterr().out.endswith(
        "12:00:40  booted after 3 s\n12:05:11  nothing to boot\n12:05:30  up after 0 s\n"
    )


def test_several_machines_are_followed_until_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    """Their verdicts and reports are printed; a machine that has failed does not end the command."""
    report = Stage(ORDERED + 50, StageKind.INSTALLATION, {"what": "40 %"})
    other = evolve(UP, id="2", mac=OTHER, stages=(*LOADED.stages, report))
    server: Any = FakeServer(
        [[], [BOOTED, FAILED_OTHER], [evolve(LOADED, stages=(*LOADED.stages, report))], [UP, other]]
    )
    installations = [Installation({**ORDER, "mac": mac}, True, shows_name=True) for mac in (MAC, OTHER)]
    assert follow_all(installations, server, lambda seconds: None) == 1
    assert capsys.readouterr().out == (
        f"12:00:40  {MAC}  booted after 3 s\n"
        f"12:01:00  {OTHER}  failed: nothing came after the offer\n"
        "What to do: look at the cable\n"
        "The image is still ordered for its next boot.\n"
        f"12:00:50  {MAC}  the installer: 40 %\n"
        f"12:05:00  {MAC}  up after 295 s\n"
    )
    assert server.answers == []


def test_without_answers_the_command_ends_with_the_loaded_installer() -> None:
    other = evolve(BOOTED, id="0", stages=(DISCOVER, complete(ORDERED + 6, "other.ipxe")))
    assert follow([other], [BOOTED, other], unattended=False) == 0


def test_failed_boot_ends_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow([], [FAILED]) == 1
    assert capsys.readouterr().out.endswith(
        "12:01:00  failed: nothing came after the offer\n"
        "What to do: look at the cable\n"
        "The image is still ordered for its next boot.\n"
    )
    assert follow([], [LOADED], [evolve(FAILED, stages=LOADED.stages)]) == 1
    assert "still ordered" not in capsys.readouterr().out
    lost = transfer(ORDERED + 6, FILE, outcome="timed_out", bytes=50, seconds=9.0)
    assert follow([evolve(FAILED, stages=(DISCOVER, lost))]) == 1
    assert "still ordered" in capsys.readouterr().out


FAILED_TRY = evolve(
    LOADED,
    stages=(*LOADED.stages, Stage(ORDERED + 50, StageKind.INSTALLATION, {"what": "no disk", "failed": True})),
    verdict=Verdict.FAILED,
    ended=ORDERED + 50,
    cause=Cause("installation-failed", "could not be installed: no disk", "see the console"),
)


def test_a_machine_that_tries_again_has_not_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """A new reason is printed, the same one is not repeated."""
    other_reason = evolve(FAILED_TRY, ended=ORDERED + 90, cause=Cause("installation-failed", "could not: slow", ""))
    server: Any = FakeServer(
        [[], [FAILED_TRY], [evolve(FAILED_TRY, ended=ORDERED + 80)], [other_reason], [LOADED], [UP]]
    )
    assert Installation(ORDER, True, retries=True).follow(server, lambda seconds: None) == 0
    assert server.answers == []
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "  failed:" in line or "again" in line] == [
        "12:00:50  failed: could not be installed: no disk",
        "The machine tries again.",
        "12:01:30  failed: could not: slow",
        "The machine tries again.",
    ]


@pytest.mark.parametrize(("progress", "code"), [((), 1), ((LOADED,), 0)])
def test_a_machine_whose_attempts_all_fail_has_failed_after_a_while(progress: Sequence[BootAttempt], code: int) -> None:
    """Progress restarts the time limit."""
    tries = [[evolve(FAILED_TRY, ended=ORDERED + ended)] for ended in (50, 80, 110)]
    server: Any = FakeServer([tries[0], *[[each] for each in progress], *tries[1:], [UP]])
    machine = Installation(ORDER, True, retries=True, seconds=lambda: server.change * RETRIED_FOR * 0.6)
    assert machine.follow(server, lambda seconds: None) == code


def test_boots_before_the_order_and_of_other_machines_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    before = evolve(UP, id="0", began=ORDERED - 1000, ended=ORDERED - 700)
    other = evolve(UP, id="9", mac="52:54:00:00:00:09")
    assert follow([before], [other], [LOADED, before], [UP, before]) == 0
    assert capsys.readouterr().out.count("up after") == 1


def test_boot_that_began_before_the_order_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """The machine waited in a menu when the installation was ordered."""
    waiting = evolve(LOADING, began=ORDERED - 10, stages=(evolve(DISCOVER, at=ORDERED - 10),))
    assert follow([waiting], [evolve(UP, began=ORDERED - 10, stages=(*waiting.stages, *UP.stages[1:]))]) == 0
    assert capsys.readouterr().out.startswith('12:00:08  http get "install/')


def test_boot_that_goes_on_after_its_verdict_counts() -> None:
    """The machine waited in a menu for so long that its verdict was "booted"."""
    waiting = evolve(BOOTED, stages=(DISCOVER,), ended=ORDERED + 35)
    assert follow([waiting], [LOADED], [evolve(BOOTED, ended=ORDERED + 90)], unattended=False) == 0


def test_late_phone_home_of_the_previous_installation_does_not_count() -> None:
    stages = (complete(ORDERED - 300, FILE), Stage(ORDERED + 1, StageKind.UP))
    before = evolve(UP, id="0", began=ORDERED - 310, stages=stages, ended=ORDERED + 1)
    assert follow([before], [UP, before]) == 0


def test_server_that_ends_between_two_answers_is_waited_for() -> None:
    loaded = [LOADED]
    server: Any = FakeServer([loaded, [LOADED], [UP]], ends_at=loaded)
    assert Installation(ORDER, True).follow(server, lambda seconds: None) == 0


def test_server_that_ends_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow([LOADED], None, [], [UP]) == 0
    assert capsys.readouterr().err == "bootfw: the server has ended; waiting for it\nbootfw: the server runs again\n"


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_status_line_is_removed_before_other_output(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr(StatusLine, "_INTERVAL", 0.0)
    monkeypatch.setenv("NO_COLOR", "1")
    assert follow([], [LOADING], [UP]) == 0
    begin, waiting, discover, loading, rest = terminal.getvalue().split("\r")
    assert (begin, waiting) == ("", "    0 s  waiting for the machine\x1b[K")
    assert discover == "\x1b[K12:00:05  DISCOVER by ipxe, x86-bios\n"
    assert loading == f'    0 s  http get "{FILE}": is running\x1b[K'
    assert rest.startswith("\x1b[K")
    assert rest.endswith("12:05:00  up after 295 s\n")


def test_status_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "10")
    line = StatusLine()
    line.show("0123456789\x1b")
    line.show("too soon")
    line.clear()
    line.clear()
    assert terminal.getvalue() == "\r012345678\x1b[K\r\x1b[K"
