"""``bootfw next`` as an operator uses it, with a server that runs and without."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from turning import Alongside
from twisted.internet.epollreactor import EPollReactor

from bootfw.cli import main as command
from bootfw.cli.failure import CommandError
from bootfw.cli.offline import OfflineOrders
from bootfw.cli.running import RunningServer
from bootfw.events import OfferMade
from bootfw.net.pluginlifecycle import PluginLifecycle
from bootfw.resolvers.loop_breaker import LoopBreaker
from bootfw.resolvers.next_boot import NextBoot
from bootfw.stores.sqlite import SqliteStore
from bootfw.values import BootFile, BootRequest

MAC, OTHER = "52:54:00:12:34:56", "52:54:00:00:00:01"
CONFIG = """
[bootfw]
state-dir = "state"
[[resolver]]
use = "next-boot"
[[resolver]]
use = "static"
file = "boot.ipxe"
[[backend]]
use = "memory"
files = { "debian/install.ipxe" = "#!ipxe", "install.ipxe" = "#!ipxe" }
"""


@pytest.fixture(autouse=True)
def _configuration(cwd: Path) -> None:
    (cwd / "bootfw.toml").write_text(CONFIG)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs ``bootfw next --offline``, and returns its exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = command.main(["next", "-c", "bootfw.toml", "--offline", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


class StoredOrders:
    """The one-time boots in the state file, while no server runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, str]:
        """MAC -> file."""
        return {order["mac"]: order["file"] for order in OfflineOrders(SqliteStore(self.path)).next_boots()}


@pytest.fixture
def state(tmp_path: Path) -> StoredOrders:
    return StoredOrders(tmp_path / "state" / "bootfw.sqlite")


def test_one_time_boot_is_set_listed_and_cleared(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("52-54-00-12-34-56", "debian/install.ipxe") == (
        0,
        "52:54:00:12:34:56 boots debian/install.ipxe next, once\n",
        "",
    )
    monkeypatch.setattr("time.time", lambda: 1_763_640_000.0)
    run(MAC, "debian/install.ipxe")
    assert run() == (
        0,
        "MAC                NEXT BOOT            SINCE\n52:54:00:12:34:56  debian/install.ipxe  2025-11-20 12:00:00\n",
        "",
    )
    assert run("--clear", MAC) == (0, "52:54:00:12:34:56 boots as usual\n", "")
    assert run("--clear", MAC) == (1, "", "bootfw: there is no one-time boot for 52:54:00:12:34:56\n")
    assert run() == (0, "MAC  NEXT BOOT  SINCE\n", "")


def test_json_lists_one_time_boots(run: Callable[..., tuple[int, str, str]], state: StoredOrders) -> None:
    code, out, _ = run(MAC, "http://{server}/x?mac={mac}", "--json")
    order = json.loads(out)
    assert (code, order["mac"], order["file"]) == (0, MAC, "http://{server}/x?mac={mac}")
    assert order["ordered"] == pytest.approx(time.time(), abs=60)
    assert json.loads(run("--json")[1]) == {"next": [order], "looping": None}
    assert json.loads(run("--clear", MAC, "--json")[1]) == order
    assert state.read() == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["52:54", "x"], 'MAC must be a MAC address, such as "52:54:00:12:34:56", not "52:54"'),
        (["host", "x"], 'MAC: no machine has the name "host", which is no MAC address either; "bootfw machines" lists'),
        ([MAC, "{ip}"], "FILE unknown placeholder {ip}"),
        ([MAC, "a b"], "FILE must not contain blanks"),
        ([MAC, "a\nchain b"], "FILE must not contain blanks"),
        (["--clear", "x"], 'MAC: no machine has the name "x"'),
        (["--forgive", MAC], "no server runs with the state directory "),
    ],
)
def test_invalid_commands_exit_with_an_error(
    run: Callable[..., tuple[int, str, str]], state: StoredOrders, arguments: list[str], message: str
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"bootfw: {message}")
    assert not state.path.exists()


@pytest.mark.parametrize(
    "arguments", [[MAC], [MAC, "x", "--clear", MAC], ["--clear", MAC, "--forgive", MAC], ["--clear"], [MAC, "x", "y"]]
)
def test_wrong_arguments_exit_with_2(run: Callable[..., tuple[int, str, str]], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2


def test_one_time_boot_needs_the_next_boot_resolver(
    run: Callable[..., tuple[int, str, str]], state: StoredOrders, tmp_path: Path
) -> None:
    (tmp_path / "bootfw.toml").write_text(CONFIG.replace('"next-boot"', '"static"\nfile = "x"'))
    code, _, err = run(MAC, "install.ipxe")
    assert code == 1
    assert err == (
        "bootfw: bootfw.toml has resolvers, but none for one-time boots: begin them with [[resolver]] "
        'use = "next-boot"\n'
    )
    assert not state.path.exists()


def test_default_configuration_has_the_next_boot_resolver(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, state: StoredOrders
) -> None:
    (tmp_path / "bootfw.toml").write_text('[bootfw]\nstate-dir = "state"\n')
    assert run(MAC, "install.ipxe")[0] == 0
    assert list(state.read()) == [MAC]


def test_damaged_state_file_is_reported(run: Callable[..., tuple[int, str, str]], state: StoredOrders) -> None:
    state.path.parent.mkdir()
    state.path.write_bytes(b"x" * 1000)
    code, _, err = run()
    assert code == 1
    assert "bootfw.sqlite: is damaged" in err


# The default state directory


@pytest.fixture
def run_online(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs ``bootfw next`` with its arguments only, so without --offline."""

    def run_online(*arguments: str) -> tuple[int, str, str]:
        code = command.main(["next", *arguments])
        return code, *capsys.readouterr()

    return run_online


@pytest.mark.parametrize("arguments", [[MAC, "x.ipxe"], ["--clear", MAC]])
def test_a_default_directory_without_a_server_is_not_changed(
    run_online: Callable[..., tuple[int, str, str]], cwd: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """A server may run with a configuration that was not given."""
    monkeypatch.setenv("XDG_STATE_HOME", str(cwd))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run_online(*arguments) == (
        1,
        "",
        f"bootfw: no server runs with the state directory {cwd}/bootfw: give your server's configuration with -c "
        "FILE, or change the stored state with --offline\n",
    )
    assert not (cwd / "bootfw").exists()
    assert run_online("--offline", MAC, "http://x/y.ipxe")[0] == 0
    assert list(StoredOrders(cwd / "bootfw" / "bootfw.sqlite").read()) == [MAC]
    code, out, err = run_online()
    assert (code, "http://x/y.ipxe" in out) == (0, True)
    assert err == f"bootfw: no server runs with the state directory {cwd}/bootfw; this is the stored state\n"


def test_one_time_boot_can_be_stored_before_the_first_start(
    run_online: Callable[..., tuple[int, str, str]], cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = f"bootfw: no server runs with the state directory {cwd}/state; this takes effect with its next start\n"
    code, out, err = run_online("-c", "bootfw.toml", MAC, "install.ipxe")
    assert (code, out, err) == (0, f"{MAC} boots install.ipxe next, once\n", note)
    assert run_online("-c", "bootfw.toml", "--clear", MAC) == (0, f"{MAC} boots as usual\n", note)
    monkeypatch.setenv("BOOTFW_STATE_DIR", str(cwd / "state"))
    assert run_online(MAC, "http://x/y.ipxe")[::2] == (0, note)
    assert run_online()[::2] == (0, "")


@pytest.mark.parametrize(
    ("file", "warned"),
    [
        ("install.ipxe", False),
        ("/install.ipxe", False),
        ("{http}/install.ipxe", False),
        ("none.ipxe", True),
        ("{https}/none.ipxe", True),
        ("http://elsewhere/none.ipxe", False),
        ("{mac}/none.ipxe", False),
    ],
)
def test_missing_file_is_warned_about(
    run: Callable[..., tuple[int, str, str]], state: StoredOrders, file: str, warned: bool
) -> None:
    code, out, err = run(MAC, file)
    assert (code, out) == (0, f"{MAC} boots {file} next, once\n")
    assert err == (f"bootfw: no backend of bootfw.toml has {file}\n" if warned else "")
    assert state.read()[MAC] == file


WAITING_PLUGIN = """
from twisted.internet.defer import Deferred
from zope.interface import implementer
from bootfw.api import IBackend, boot_plugin

@implementer(IBackend)
class Waiting:
    def open(self, path, request):
        return Deferred()

plugin = boot_plugin(IBackend, Waiting)
"""


@pytest.mark.parametrize(
    "backend",
    [
        'use = "template"\nroot = "."',
        'use = "none"',
        'use = "waiting:plugin"',
    ],
)
def test_missing_file_is_not_reported_if_files_are_generated(
    run: Callable[..., tuple[int, str, str]],
    state: StoredOrders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "waiting.py").write_text(WAITING_PLUGIN)
    (tmp_path / "bootfw.toml").write_text(CONFIG.partition("[[backend]]")[0] + f"[[backend]]\n{backend}\n")
    (tmp_path / "x.ipxe.j2").write_text("{{ nope }}")
    assert run(MAC, "x.ipxe") == (0, f"{MAC} boots x.ipxe next, once\n", "")


def test_unprintable_file_name_is_escaped(cwd: Path) -> None:
    locale = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C.UTF-8"}
    program = [sys.executable, "-m", "bootfw.cli.main", "next", "-c", "bootfw.toml", "--offline", MAC, "k\xfc.ipxe"]
    done = subprocess.run(program, env=locale, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout.decode("ascii")) == (0, f"{MAC} boots k\\xfc.ipxe next, once\n")


# With a running server


class LoopingServer:
    """A server with a machine that is in a boot loop."""

    def __init__(self, reactor: EPollReactor, state_dir: Path) -> None:
        store = SqliteStore(state_dir / "bootfw.sqlite", reactor)
        self.breaker = LoopBreaker(repeats=2, reactor=reactor, store=store)
        self.next_boot = NextBoot(store)
        resolvers = [("next-boot", self.next_boot), ("loop-breaker", self.breaker)]
        self.lifecycle = PluginLifecycle(reactor, resolvers, lambda event: None)
        self.lifecycle.start()
        self.lifecycle.listen(state_dir / "control.sock")
        for xid in range(4):
            request = BootRequest(OTHER, "discover", "ipxe", "x86-bios", ipxe=True, xid=xid)
            self.breaker.resolve(request)
            self.breaker.observe(OfferMade(0, request, "OFFER", BootFile("http://10.0.0.7/x.ipxe"), ("", 68)))


@pytest.fixture
def server(private_reactor: EPollReactor, tmp_path: Path) -> Iterator[LoopingServer]:
    server = LoopingServer(private_reactor, tmp_path / "state")
    yield server
    closed = server.lifecycle.close()
    while not closed.called:
        private_reactor.iterate(0.01)
    private_reactor.iterate(0)


def test_machines_in_a_boot_loop_are_listed(
    run: Callable[..., tuple[int, str, str]], server: LoopingServer, alongside: Alongside
) -> None:
    code, out, err = alongside(run)
    assert (code, err) == (0, "")
    heading, line = out.splitlines()[-2:]
    assert heading.split("  ")[0] == "LOOPING"
    assert line.split()[0] == OTHER
    assert line.endswith("http://10.0.0.7/x.ipxe")
    [record] = json.loads(alongside(run, "--json")[1])["looping"]
    assert record == {
        "mac": OTHER,
        "files": ["http://10.0.0.7/x.ipxe"],
        "times": 2,
        "until": pytest.approx(time.time() + 600, abs=60),
    }


def test_forgive_ends_a_boot_loop(
    run: Callable[..., tuple[int, str, str]], server: LoopingServer, alongside: Alongside
) -> None:
    assert alongside(run, "--forgive", OTHER) == (0, f"{OTHER} boots from here again\n", "")
    assert alongside(run, "--forgive", OTHER) == (1, "", f"bootfw: {OTHER} is not in a boot loop\n")
    assert "LOOPING" not in alongside(run)[1]


def test_forgive_prints_json(
    run: Callable[..., tuple[int, str, str]], server: LoopingServer, alongside: Alongside
) -> None:
    assert json.loads(alongside(run, "--forgive", OTHER, "--json")[1])["mac"] == OTHER


def test_one_time_boot_is_sent_to_a_running_server(
    run_online: Callable[..., tuple[int, str, str]], server: LoopingServer, alongside: Alongside, tmp_path: Path
) -> None:
    assert alongside(run_online, "-c", "bootfw.toml", MAC, "install.ipxe") == (
        0,
        f"{MAC} boots install.ipxe next, once\n",
        "",
    )
    [record] = alongside(lambda: list(RunningServer(tmp_path / "state" / "control.sock").call("next")))
    assert (record["mac"], record["file"]) == (MAC, "install.ipxe")
    assert json.loads(alongside(run_online, "-c", "bootfw.toml", "--json")[1])["next"] == [record]
    assert json.loads(alongside(run_online, "-c", "bootfw.toml", "--clear", MAC, "--json")[1]) == record
    code, _, err = alongside(run_online, "-c", "bootfw.toml", "--clear", MAC)
    assert (code, err) == (1, f"bootfw: there is no one-time boot for {MAC}\n")


def test_refusal_of_the_server_is_an_error(server: LoopingServer, alongside: Alongside, tmp_path: Path) -> None:
    """A command of another version may send such a request."""
    with pytest.raises(CommandError, match="unknown placeholder"):
        alongside(RunningServer(tmp_path / "state" / "control.sock").order, MAC, "{nope}")


@pytest.fixture
def start_server(private_reactor: EPollReactor, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Starts a server with these resolvers."""
    lifecycles: list[PluginLifecycle] = []

    def start_server(*resolvers: Any) -> None:
        lifecycle = PluginLifecycle(private_reactor, resolvers, lambda event: None)
        lifecycle.start()
        lifecycle.listen(tmp_path / "state" / "control.sock")
        lifecycles.append(lifecycle)

    yield start_server
    for lifecycle in lifecycles:
        closed = lifecycle.close()
        while not closed.called:
            private_reactor.iterate(0.01)
        private_reactor.iterate(0)


def test_server_with_only_the_next_boot_resolver_is_found(
    run_online: Callable[..., tuple[int, str, str]],
    private_reactor: EPollReactor,
    alongside: Alongside,
    state: StoredOrders,
    start_server: Callable[..., None],
) -> None:
    """It has no other operation on its control socket."""
    start_server(("next-boot", NextBoot(SqliteStore(state.path, private_reactor))))
    assert alongside(run_online, "-c", "bootfw.toml", MAC, "install.ipxe")[::2] == (0, "")


def test_server_without_the_resolver_refuses_one_time_boots(
    run_online: Callable[..., tuple[int, str, str]],
    private_reactor: EPollReactor,
    alongside: Alongside,
    start_server: Callable[..., None],
) -> None:
    """Its configuration has changed since it was started."""
    start_server(("loop-breaker", LoopBreaker(reactor=private_reactor)))
    code, _, err = alongside(run_online, "-c", "bootfw.toml", MAC, "install.ipxe")
    assert (code, err.startswith('bootfw: this server has no operation "order"')) == (1, True)
    assert alongside(run_online, "-c", "bootfw.toml")[:2] == (0, "MAC  NEXT BOOT  SINCE\n")


def test_store_without_offline_access_is_an_error(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text(CONFIG + '[store]\nuse = "memory"\n')
    assert run(MAC, "install.ipxe") == (
        1,
        "",
        f"bootfw: no server runs with the state directory {tmp_path}/state, "
        'and without one the orders in "memory" can\'t be reached\n',
    )


ONLY_LEASES = """
from attrs import define
from twisted.internet.defer import succeed
from zope.interface import implementer
from bootfw.api import ILeaseStore, IReservationStore, boot_plugin

@implementer(ILeaseStore, IReservationStore)
@define
class Store:
    def load(self): return []
    def reservations(self): return []
    def commit(self, leases): return succeed(None)
    def save_reservations(self, reservations): return succeed(None)
    def close(self): return succeed(None)

plugin = boot_plugin(ILeaseStore, Store)
"""


def test_orders_are_in_the_default_store_if_another_store_is_only_for_leases(
    run: Callable[..., tuple[int, str, str]], state: StoredOrders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "onlyleases.py").write_text(ONLY_LEASES)
    (tmp_path / "bootfw.toml").write_text(CONFIG + '[store]\nuse = "onlyleases:plugin"\n')
    assert run(MAC, "install.ipxe")[0] == 0
    assert state.read() == {MAC: "install.ipxe"}
