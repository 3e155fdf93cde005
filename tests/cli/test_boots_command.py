"""``bootfw boots`` and ``bootfw show``, with a server that runs and without."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from turning import Alongside
from twisted.internet.epollreactor import EPollReactor

from bootfw.attempts.attempt import BootAttempt, Cause, Stage, StageKind, Verdict
from bootfw.attempts.record import attempt_of, attempt_record
from bootfw.cli import boots
from bootfw.cli import main as command
from bootfw.cli.failure import CommandError
from bootfw.cli.offline import done
from bootfw.cli.running import RunningServer, ServerEnded
from bootfw.events import OfferMade, RequestClassified
from bootfw.net.pluginlifecycle import PluginLifecycle
from bootfw.observe.boots import BootRecorder
from bootfw.stores.memory import MemoryStore
from bootfw.stores.sqlite import SqliteStore
from bootfw.values import BootRequest

MAC, OTHER = "52:54:00:12:34:56", "52:54:00:00:00:01"
BEGAN = 1_763_640_000.0
UUID = "52420077-1234-4abc-9def-000000000001"

FAILED = BootAttempt(
    "failed-1",
    BEGAN,
    BEGAN + 60,
    MAC,
    addresses=("10.77.0.20",),
    persona="uefi",
    architecture="x86_64-uefi",
    interface="eth0",
    stages=(
        Stage(BEGAN, StageKind.DISCOVER, {"persona": "uefi", "architecture": "x86_64-uefi", "stack": "pxe"}, 2),
        Stage(BEGAN + 0.25, StageKind.OFFER, {"boot_server": True}),
        Stage(BEGAN + 4, StageKind.TRANSFER, {"protocol": "tftp", "file": "boot.efi\x1b", "outcome": "size_probe"}),
    ),
    verdict=Verdict.FAILED,
    cause=Cause("size-probe-only", 'asked for the size of "boot.efi" and never read it', "look at it"),
)
BOOTED = BootAttempt("booted-1", BEGAN + 90, BEGAN + 120, OTHER, verdict=Verdict.BOOTED, persona="ipxe")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(cwd: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command, and returns its exit code, output and errors."""
    (cwd / "bootfw.toml").write_text('[bootfw]\nstate-dir = "state"\n')

    def run(verb: str, *arguments: str) -> tuple[int, str, str]:
        code = command.main([verb, "-c", "bootfw.toml", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def stored_boots(cwd: Path) -> None:
    """Two boots in the state file."""
    store = SqliteStore(cwd / "state" / "bootfw.sqlite")
    done(store.save_attempts([FAILED, BOOTED], 100, 0.0))
    done(store.close_attempts())


@pytest.mark.usefixtures("stored_boots")
def test_boots_are_listed_as_a_table(run: Run) -> None:
    assert run("boots") == (
        0,
        "BEGAN                MACHINE            CLIENT  TOOK  VERDICT\n"
        "2025-11-20 12:01:30  52:54:00:00:00:01  ipxe    0 s   booted\n"
        "2025-11-20 12:00:00  52:54:00:12:34:56  uefi    4 s   "
        'failed: asked for the size of "boot.efi" and never read it\n',
        "",
    )


@pytest.mark.usefixtures("stored_boots")
def test_filters_select_boots(run: Run) -> None:
    assert "12:01:30" not in run("boots", "--verdict", "failed")[1]
    assert "12:01:30" not in run("boots", "--mac", "52-54-00-12-34-56")[1]
    assert "12:00:00" not in run("boots", "--limit", "1")[1]


@pytest.mark.parametrize("limit", ["0", "-3", "many"])
def test_limit_that_lists_nothing_is_refused(run: Run, limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("boots", "--limit", limit)
    assert caught.value.code == 2
    assert f'--limit: must be a number from 1 on, not "{limit}"' in capsys.readouterr().err


@pytest.mark.usefixtures("stored_boots")
def test_no_boots_exit_with_code_1(run: Run) -> None:
    assert run("boots", "--since", "1 m") == (1, "", "bootfw: no boot matches\n")
    assert run("boots", "--since", "1 m", "--json") == (1, "[]\n", "")
    assert run("show", "02:00:00:00:00:02") == (1, "", "bootfw: 02:00:00:00:00:02 has not booted\n")


def test_machine_without_a_mac_is_shown_by_address(run: Run, cwd: Path) -> None:
    store = SqliteStore(cwd / "state" / "bootfw.sqlite")
    done(store.save_attempts([evolve(FAILED, mac=""), evolve(BOOTED, mac="", uuid=UUID)], 100, 0.0))
    done(store.close_attempts())
    assert run("show", "10.77.0.20")[1].startswith("10.77.0.20: failed: ")
    assert run("show", UUID.upper())[1].startswith(f"{UUID}: booted")
    assert run("boots", "--mac", UUID, "--json")[0] == 0
    assert run("show", "10.77.0.21") == (1, "", "bootfw: 10.77.0.21 has not booted\n")


def test_boots_without_records_exit_with_1(run: Run, cwd: Path) -> None:
    assert run("boots") == (1, "", "bootfw: no boot is recorded yet\n")
    assert not (cwd / "state").exists()


@pytest.mark.usefixtures("stored_boots")
def test_json_lists_boots(run: Run) -> None:
    code, out, _ = run("boots", "--json")
    assert code == 0
    assert json.loads(out) == [attempt_record(each, stages=False) for each in (BOOTED, FAILED)]
    code, out, _ = run("show", MAC, "--json")
    assert code == 1
    assert [attempt_of(record) for record in json.loads(out)] == [FAILED]


@pytest.mark.usefixtures("stored_boots")
def test_show_prints_the_timeline(run: Run) -> None:
    assert run("show", MAC) == (
        1,
        '52:54:00:12:34:56: failed: asked for the size of "boot.efi" and never read it\n'
        "  2025-11-20 12:00:00, 4.0 s; uefi, x86_64-uefi, on eth0\n"
        "  addresses 10.77.0.20\n"
        "  What to do: look at it\n"
        "\n"
        "     +0.000  DISCOVER by uefi, x86_64-uefi, 2 times\n"
        "     +0.250  OFFER: request the file of port 4011\n"
        '     +4.000  tftp get "boot.efi\\x1b": size probe\n',
        "",
    )
    assert run("show", OTHER)[0] == 0


@pytest.mark.parametrize("arguments", [["boots", "--since", "long"], ["boots", "--verdict", "x"], ["show"]])
def test_wrong_arguments_exit_with_2(run: Run, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2


def test_verdicts_are_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert boots.coloured("a\nb", FAILED.verdict, 1) == "a\nb"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert boots.coloured("a\nb", FAILED.verdict, 1) == "\x1b[31ma\x1b[0m\nb"
    assert boots.coloured("a", BOOTED.verdict) == "\x1b[32ma\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert boots.coloured("a", BOOTED.verdict) == "a"


# With a running server


@pytest.fixture
def recorder(cwd: Path, private_reactor: EPollReactor) -> Iterator[BootRecorder]:
    """The boot recorder of a server that runs in this process."""
    recorder = BootRecorder(private_reactor, MemoryStore())
    lifecycle = PluginLifecycle(private_reactor, [("boots", recorder)], recorder.observe)
    lifecycle.start()
    lifecycle.listen(cwd / "state" / "control.sock")
    yield recorder
    closed: list[object] = []
    lifecycle.close().addBoth(closed.append)
    while not closed:
        private_reactor.iterate(0.01)
    private_reactor.iterate(0)


def begin_boot(recorder: BootRecorder, reactor: EPollReactor) -> None:
    """A machine sends DISCOVER, and the server offers it a boot file."""
    request = BootRequest(MAC, "discover", "uefi", "x86_64-uefi")
    recorder.observe(RequestClassified(reactor.seconds(), request))
    recorder.observe(OfferMade(reactor.seconds(), request, "OFFER", None, ("255.255.255.255", 68)))


def test_boots_of_a_running_server_are_listed(
    run: Run, recorder: BootRecorder, private_reactor: EPollReactor, alongside: Alongside
) -> None:
    assert alongside(run, "boots") == (1, "", "bootfw: no boot is recorded yet\n")
    begin_boot(recorder, private_reactor)
    code, out, _ = alongside(run, "boots")
    assert code == 0
    assert "in progress" in out
    code, out, _ = alongside(run, "show", MAC)
    assert code == 0
    assert "OFFER: request the file of port 4011" in out


def test_followed_list_has_boots_in_progress(
    cwd: Path, recorder: BootRecorder, private_reactor: EPollReactor, alongside: Alongside
) -> None:
    begin_boot(recorder, private_reactor)

    def first_change() -> str:
        record = next(boots._verdict_changes(RunningServer(cwd / "state" / "control.sock")))
        return f"{record['mac']} {record['verdict']}"

    assert alongside(first_change) == f"{MAC} in progress"


@define
class RestartedServer:
    """A server that ends and starts again: what each call returns, or raises."""

    answers: list[Any]
    after: list[int] = field(factory=list)
    """The number of the last change that the client knew, in each request."""

    def call(self, name: str, **arguments: Any) -> Any:
        self.after.append(arguments["after"])
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.mark.parametrize("noticed", [True, False])
def test_followed_list_continues_after_a_restart(noticed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """If the client misses the restart, it detects it by the numbers of the changes, which begin at 1 again."""

    def record(id: str, change: int) -> dict[str, Any]:
        return {"id": id, "verdict": "booted", "change": change}

    interruption: list[Any] = (
        [ServerEnded("ended"), ServerEnded("ended"), [{"change": 0}]] if noticed else [[{"change": 0}]]
    )
    server = RestartedServer([[record("1", 1), record("2", 2)], *interruption, [record("3", 1)]])
    changes = boots._verdict_changes(server, lambda seconds: None)  # type: ignore[arg-type]
    assert [next(changes)["id"] for _ in range(3)] == ["1", "2", "3"]
    assert server.after == ([-1, 2, -1, -1, 0] if noticed else [-1, 2, -1])
    messages = "bootfw: the server has ended; waiting for it\nbootfw: the server runs again\n"
    assert capsys.readouterr().err == (messages if noticed else "")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [f"{MAC} in progress", f"{OTHER} booted", f"{MAC} failed"]),
        (("--verdict", "failed"), [f"{MAC} failed"]),
        (("--mac", OTHER), [f"{OTHER} booted"]),
        (("--since", "1 d"), [f"{OTHER} booted"]),
    ],
)
def test_followed_list_shows_each_boot_again_when_it_has_ended(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], expected: list[str]
) -> None:
    in_progress = evolve(FAILED, ended=None, verdict=Verdict.IN_PROGRESS, cause=None)
    now = time.time()
    booted = evolve(BOOTED, began=now - 60, ended=now - 30)
    changes = [(in_progress, 1), (booted, 2), (in_progress, 3), (FAILED, 4)]
    monkeypatch.setattr(boots, "_POLL", 0.0)

    def follow(*more: str) -> str:
        records = [[{**attempt_record(attempt, stages=False), "change": number}] for attempt, number in changes]
        server = RestartedServer([*records, KeyboardInterrupt()])
        monkeypatch.setattr(boots, "running", lambda state: server)
        code, out, err = run("boots", "--follow", *options, *more)
        assert (code, err) == (0, "")
        return out

    shown = [attempt_of(json.loads(line)) for line in follow("--json").splitlines()]
    assert [f"{attempt.mac} {attempt.verdict.value}" for attempt in shown] == expected
    lines = follow().splitlines()
    assert [line.split("  ")[1] for line in lines] == [attempt.mac for attempt in shown]
    if shown[-1].verdict is Verdict.FAILED:
        assert lines[-1].endswith('uefi  4 s  failed: asked for the size of "boot.efi" and never read it')


def test_control_socket_that_is_gone_means_that_the_server_has_ended(
    cwd: Path, recorder: BootRecorder, alongside: Alongside
) -> None:
    path = cwd / "state" / "control.sock"
    server = alongside(RunningServer, path)
    path.unlink()
    with pytest.raises(ServerEnded):
        list(server.call("boots"))


def test_follow_without_a_server_is_an_error(run: Run) -> None:
    code, _, err = run("boots", "--follow")
    assert code == 1
    assert "nothing to follow" in err


def test_refused_operation_is_an_error(cwd: Path, recorder: BootRecorder, alongside: Alongside) -> None:
    def send_incomplete_request() -> str:
        with pytest.raises(CommandError) as caught:
            list(RunningServer(cwd / "state" / "control.sock").call("boot"))
        return str(caught.value)

    assert '"machine" is missing' in alongside(send_incomplete_request)
