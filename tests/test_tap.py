"""``twistd bootfw`` as an operator uses it."""

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from twistd import TWISTD, Process, bootfw, clean, fetch, free_port, run_to_end
from twisted.application.service import IService
from zope.interface.verify import verifyObject

from bootfw import __version__, tap
from bootfw.config.settings import WebSettings
from bootfw.net.linux.openfiles import allow_many_files
from bootfw.net.listening import Listening
from bootfw.tap import Daemon, Options, makeService

BOOTFW = TWISTD.parent / "bootfw"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BOOTFW_")]:
        monkeypatch.delenv(name)


def run_options(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Parse the options of a command that ends at once: (exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions(list(arguments))
    printed = capsys.readouterr()
    return int(caught.value.code or 0), printed.out, printed.err


CONFIG = """
[bootfw]
state-dir = "state"
[dhcp]
mode = "off"
[tftp]
listen = ["127.0.0.1:PORT"]
[[backend]]
use = "directory"
root = "files"
[[backend]]
use = "memory"
files = { "one" = "1" }
[[backend]]
use = "memory"
files = {}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that serves a directory on a free port."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "motd").write_text("hello\n")
    path = tmp_path / "bootfw.toml"
    path.write_text(CONFIG.replace("PORT", str(free_port())))
    return path


# Commands that end at once


def test_check_lists_plugins_and_subnets(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    assert run_options(capsys, "--check", "-c", str(config)) == (
        0,
        f"{config}: OK\n"
        "backends   directory, memory[1], memory[2]\n"
        "resolvers  none\n"
        "watchdog   adaptive\n"
        "observers  log\n",
        "",
    )


def test_check_shows_where_addresses_are_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text(
        '[dhcp]\nmode = "server"\n[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\n[store]\nuse = "memory"\n'
        '[dhcp6]\nmode = "server"\n[[dhcp6.subnet]]\nnetwork = "fd77::/64"\n'
    )
    code, out, _ = run_options(capsys, "--check", "-c", str(tmp_path / "bootfw.toml"))
    assert code == 0
    assert "addresses  10.77.0.0/24, fd77::/64\nleases     memory\n" in out


def test_check_without_a_file_checks_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run_options(capsys, "--check")
    assert (code, err) == (0, "")
    assert out.startswith("the default configuration: OK\n")
    assert "resolvers  next-boot, loop-breaker, by-architecture[2], by-architecture[3]\n" in out


def test_check_touches_no_socket(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("a socket is made")

    monkeypatch.setattr(socket, "socket", refuse)
    assert run_options(capsys, "--check")[0] == 0


def test_check_warns_if_dhcp_is_not_served(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[[backend]]\nuse = "memory"\nfiles = {}')
    assert "resolvers  none, so there is no DHCP\n" in run_options(capsys, "--check", "-c", str(tmp_path / "c.toml"))[1]


WRONG = """
[[backend]]
use = "directroy"
[[backend]]
use = "directory"
rot = "/srv"
[[resolver]]
use = "static"
file = 5
[[resolver]]
use = "by-architecture"
files = { "x86_64-eufi" = "a" }
[watchdog]
use = "bootfw.nowhere:plugin"
[[observer]]
use = "bootfw.backends.memory:plugin"
"""


def test_check_lists_all_errors_of_plugins(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(WRONG)
    code, out, err = run_options(capsys, "--check", "-c", str(path))
    assert (code, out) == (1, "")
    lines = err.replace(f"bootfw: {path}: ", "").splitlines()
    assert lines[0].startswith('backend[0].use: no plugin "directroy"; known: ')
    assert lines[0].endswith('did you mean "directory"?')
    assert lines[1] == 'backend[1].rot: unknown key; known: root, ignore-case; did you mean "root"?'
    assert lines[2] == "resolver[0].file: must be a string, not 5"
    assert lines[3].startswith("resolver[1].files.x86_64-eufi: ")
    assert "x86_64-uefi" in lines[3]
    assert lines[4] == (
        'watchdog.use: "bootfw.nowhere:plugin" can\'t be loaded: no module "bootfw.nowhere": install it, or name its '
        "directory (PYTHONPATH=. for this one)"
    )
    assert lines[5] == (
        'observer[0].use: "bootfw.backends.memory:plugin" makes IWritableBackend, but observer needs IBootObserver: '
        "write it under [[backend]]"
    )
    assert len(lines) == 6


def test_errors_of_plugins_name_the_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTFW_WATCHDOG_USE", "fixed")
    monkeypatch.setenv("BOOTFW_WATCHDOG_SECONDS", '[1, "x"]')
    assert run_options(capsys, "--check") == (1, "", 'bootfw: BOOTFW_WATCHDOG_SECONDS[1]: must be a number, not "x"\n')


def test_list_plugins_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run_options(capsys, "--list-plugins")
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.split()[:2] == ["watchdog", "hpa"]]
    assert f"bootfw {__version__}  Six sendings" in line


def test_list_plugins_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(run_options(capsys, "--list-plugins", "--json")[1])
    assert {"kind", "name", "distribution", "summary", "error"} == set(rows[0])
    assert ("backend", "memory") in {(row["kind"], row["name"]) for row in rows}


def test_help_shows_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_options(capsys, "--help")
    assert code == 0
    assert "--check" in out
    assert "twistd bootfw --check -c bootfw.toml" in out
    assert "Exit codes: 0 success, 1 " in out


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_options(capsys, "--version") == (0, f"bootfw {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--chekc"], "bootfw: option --chekc not recognized; see twistd bootfw --help"),
        (["start"], 'bootfw: unexpected "start"; see twistd bootfw --help'),
        (["--json"], "bootfw: --json is for --list-plugins; see twistd bootfw --help"),
        (["-c"], "bootfw: option -c requires argument; see twistd bootfw --help"),
    ],
)
def test_misuse_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    assert run_options(capsys, *arguments) == (2, "", line + "\n")


def test_make_service_ends_for_a_wrong_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = Options()
    options.parseOptions(["-c", str(tmp_path / "missing.toml")])
    with pytest.raises(SystemExit) as caught:
        makeService(options)
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"bootfw: {tmp_path}/missing.toml: can't be read: No such file or directory\n"


def test_make_service_starts_nothing(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    options = Options()
    options.parseOptions(["-c", str(config)])
    service = makeService(options)
    assert isinstance(service, Daemon)
    assert verifyObject(IService, service)
    assert not service.running


# Servers


def port_of(config: Path) -> int:
    return int(config.read_text().split("127.0.0.1:")[1].split('"')[0])


START_PROGRAM = """
import gc, sys
from twisted.internet import reactor
from bootfw.tap import Options, makeService

options = Options()
options.parseOptions(["-c", sys.argv[1]])
service = makeService(options)

def starts():
    service.privilegedStartService()
    service.startService()
    print(f"frozen: {gc.get_freeze_count()}")
    reactor.stop()

reactor.callWhenRunning(starts)
reactor.run()
"""


def test_garbage_collections_skip_objects_of_the_start(config: Path) -> None:
    """Otherwise each of them would delay all clients by tens of milliseconds."""
    command = [sys.executable, "-c", START_PROGRAM, str(config)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert int(result.stdout.partition("frozen: ")[2]) > 10_000


def test_run_shows_bound_sockets_and_how_to_fetch(config: Path) -> None:
    port = port_of(config)
    with bootfw(config) as server:
        server.until("try it")
        lines = server.lines
        assert f"\ttftp  127.0.0.1:{port}" in lines
        (hint,) = [line.partition("try it: ")[2] for line in lines if "try it: " in line]
        assert hint == f"curl -O tftp://127.0.0.1:{port}/motd"
        assert fetch(("127.0.0.1", port), "motd") == b"hello\n"


def test_hints_for_sockets_of_an_interface_leave_out_the_loopback_address() -> None:
    """Packets to 127.0.0.1 arrive at lo, those to an address of the interface arrive at the interface."""
    dhcp, files = Listening("dhcp", ("0.0.0.0", 10067), device="lo"), Listening("tftp", ("0.0.0.0", 69), device="lo")
    assert tap._reached(files) == ("127.0.0.1", 69)
    assert tap._reached(Listening("tftp", ("0.0.0.0", 69), device="bootfw-none")) is None
    assert tap._reached(Listening("tftp", ("::", 69))) == ("::1", 69)
    commands = [command for command, _ in tap._next_commands([dhcp, files], None)]
    assert "bootfw probe --interface lo --port 10067" in commands
    dhcp = Listening("dhcp", ("0.0.0.0", 67))
    assert "bootfw probe 127.0.0.1" in [command for command, _ in tap._next_commands([dhcp], None)]


def test_web_pages_are_served_and_their_url_is_printed(config: Path) -> None:
    port = free_port(socket.SOCK_STREAM)
    config.write_text(f'[web]\nlisten = ["127.0.0.1:{port}"]\n' + config.read_text())
    with bootfw(config) as server:
        server.until("try it")
        assert f"\tweb   127.0.0.1:{port}  http://127.0.0.1:{port}/" in server.lines
        with urlopen(f"http://127.0.0.1:{port}/readyz") as response:
            assert response.status == 200


def test_occupied_web_port_is_an_error(config: Path) -> None:
    """It ends the start only if it is configured: the server starts without the default port."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        text = config.read_text()
        config.write_text(f'[web]\nlisten = ["127.0.0.1:{port}"]\n' + text)
        with bootfw(config) as server:
            first_output = server.rest()
            assert server.code == 1
    assert f"web can't listen on 127.0.0.1:{port}: [Errno 98] Address already in use by " in first_output
    config.write_text(text)
    for _ in range(20):
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a program of another test has it already, which does as well
                stack.enter_context(socket.create_server(WebSettings().listen[0]))
            server = stack.enter_context(bootfw(config))
            output = server.until("try it", " on 127.0.0.1:8067")
            if "web listens on" in output:
                continue  # that program has ended meanwhile
            assert "web can't listen on 127.0.0.1:8067: [Errno 98] Address already in use by " in output
            assert not [line for line in server.lines if line.startswith("\tweb")]
            break
    else:
        pytest.fail("the port was free each time")


def test_bootfw_run_serves_in_the_foreground_without_a_pid_file(config: Path) -> None:
    with Process(BOOTFW, "run", "-c", str(config), cwd=config.parent) as process:
        process.until("bootfw serves", "try it: curl -O tftp://127.0.0.1:")
        assert not (config.parent / "twistd.pid").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--check", "-c", "CONFIG"], 0, "OK"),
        (["--check", "-c", "missing.toml"], 1, "bootfw: missing.toml: can't be read: No such file or directory"),
        (["--nonsense"], 2, "bootfw: option --nonsense not recognized; see bootfw run --help"),
        (["start"], 2, 'bootfw: unexpected "start"; see bootfw run --help'),
        (["--version"], 0, f"bootfw {__version__}"),
        (["--help"], 0, "Usage: bootfw run [options]\n"),
        (["--help"], 0, "  bootfw run --check -c bootfw.toml "),
    ],
)
def test_bootfw_run_takes_the_options_of_twistd_bootfw(
    config: Path, arguments: list[str], code: int, line: str
) -> None:
    command = [str(config) if part == "CONFIG" else part for part in arguments]
    with Process(BOOTFW, "run", *command, cwd=config.parent) as process:
        printed = process.rest()
    assert process.code == code, printed
    assert line in printed
    assert "twistd" not in printed


@pytest.mark.parametrize("mode", [["-n"], []], ids=["foreground", "daemon"])
def test_occupied_port_ends_the_start(config: Path, mode: list[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", port_of(config)))
        completed = run_to_end(TWISTD, *mode, "bootfw", "-c", config, cwd=config.parent)
    assert completed.returncode == 1
    address = f"127.0.0.1:{port_of(config)}"
    log = completed.stdout if mode else (config.parent / "twistd.log").read_text()
    (line,) = [line for line in log.splitlines() if "Address already in use" in line]
    assert f"tftp can't listen on {address}: " in line
    assert f"(pid {os.getpid()})" in line
    assert mode or f"CannotListenError: Couldn't listen on {address}" in completed.stderr, "what twistd itself says"
    assert "Traceback" not in log + completed.stderr
    assert not (config.parent / "twistd.pid").exists()


def test_unreadable_leases_end_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text(
        '[bootfw]\nstate-dir = "."\n[tftp]\nlisten = []\n[dhcp]\nmode = "server"\nports = { server = 20067 }\n'
        '[[dhcp.subnet]]\nnetwork = "127.0.0.0/8"\n'
    )
    (tmp_path / "bootfw.sqlite").write_bytes(b"no leases at all")
    with bootfw(tmp_path / "bootfw.toml") as server:
        server.rest()
        assert server.code == 1
    (line,) = [line for line in server.lines if "critical" in line]
    assert "is damaged" in line
    assert "Traceback" not in server.text


needs_namespaces = pytest.mark.skipif(
    os.getuid() != 0 or not all(map(shutil.which, ["unshare", "setpriv", "ip"])),
    reason="needs root, unshare, setpriv and ip",
)


ALONE = ["unshare", "--net", "--mount", "sh", "-c", 'ip link set lo up; mount -t tmpfs none /var/lib; exec "$@"', "sh"]
"""Followed by a command: it has a network and a /var/lib of its own, where other tests have no state directory."""

UNPRIVILEGED = ["setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service"]
"""Followed by a command. Root without the capability can't bind the well-known ports."""


@pytest.mark.interop
@needs_namespaces
@pytest.mark.parametrize("privileged", [True, False], ids=["privileged", "unprivileged"])
def test_the_defaults_serve_with_and_without_privileges(privileged: bool, tmp_path: Path) -> None:
    """In its own network namespace, where nothing else listens."""
    drop = [] if privileged else UNPRIVILEGED
    with Process(*ALONE, *drop, TWISTD, "-n", "--pidfile=", "bootfw", cwd=tmp_path) as server:
        server.until("try it")
        table = {tuple(line.split(maxsplit=2)) for line in server.lines if line.startswith("\t")}
    reason = "which needs root or CAP_NET_BIND_SERVICE"
    if privileged:
        assert table >= {("dhcp", "0.0.0.0:67"), ("boot-server", "0.0.0.0:4011"), ("tftp", "0.0.0.0:69")}
    else:
        assert table >= {
            ("dhcp", "0.0.0.0:10067", f"instead of 67, {reason}: no real client comes here"),
            ("boot-server", "0.0.0.0:4011"),
            ("tftp", "0.0.0.0:10069", f"instead of 69, {reason}"),
        }


@pytest.mark.interop
@needs_namespaces
def test_configuration_without_ports_uses_the_well_known_ports(tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text("[bootfw]\n")
    command = [*ALONE, *UNPRIVILEGED, str(TWISTD), "-n", "--pidfile=", "bootfw", "-c", "bootfw.toml"]
    completed = subprocess.run(
        command, cwd=tmp_path, env=clean(), text=True, capture_output=True, timeout=90, check=False
    )
    assert completed.returncode == 1
    assert "Permission denied" in completed.stdout
    assert "Traceback" not in completed.stdout + completed.stderr


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 512), before[1]))
        allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_check_warns_of_an_interface_that_does_not_exist(
    capsys: pytest.CaptureFixture[str], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(config.read_text().replace("[bootfw]", '[bootfw]\ninterfaces = ["lo", "eth9"]'))
    code, out, err = run_options(capsys, "--check", "-c", str(config))
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if "WARNING" in line]
    assert line.startswith(f"WARNING: {config}: bootfw.interfaces: no interface eth9; there are: lo")
    monkeypatch.setenv("BOOTFW_INTERFACES", "eth8")
    assert "WARNING: BOOTFW_INTERFACES: no interface eth8; " in run_options(capsys, "--check", "-c", str(config))[1]


def test_a_file_name_outside_the_encoding_of_the_log_is_escaped(config: Path) -> None:
    """The line is written with escapes; Twisted would leave it out."""
    (config.parent / "files" / "k\xfc\u4e2d").write_text("x")
    port = int(config.read_text().partition("127.0.0.1:")[2].partition('"')[0])
    with bootfw(config, before=("env", "PYTHONIOENCODING=ascii", "LC_ALL=C", "PYTHONCOERCECLOCALE=0")) as server:
        server.until("listens on")
        assert fetch(("127.0.0.1", port), "k\xfc\u4e2d") == b"x"
        server.until("got 'k\\xfc\\u4e2d': complete")
