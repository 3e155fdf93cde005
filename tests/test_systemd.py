"""The units, verified by systemd-analyze, and socket activation by systemd-socket-activate."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import pytest
from twistd import TWISTD, Process, fetch, free_port
from workerprocesses import children, workers_of

UNITS = Path(__file__).parent.parent / "systemd"
BOOTFW = TWISTD.parent / "bootfw"

CONFIG = """
[bootfw]
state-dir = "state"
workers = 2
[web]
listen = []
[tftp]
listen = ["127.0.0.1:{tftp}"]
[http]
listen = ["127.0.0.1:{http}"]
[dhcp]
mode = "off"
[[backend]]
use = "memory"
files = {{ "motd" = "hello" }}
"""


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


# The units


@needs("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("=bootfw r", f"={BOOTFW} r")
        (tmp_path / unit.name).write_text(text)
    names = [str(tmp_path / unit.name) for unit in UNITS.iterdir()]
    completed = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, check=False
    )
    assert (completed.returncode, completed.stdout + completed.stderr) == (0, "")


@needs("systemd-analyze")
def test_the_service_is_exposed_less_than_3() -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=29", "--no-pager"]
    completed = subprocess.run([*command, str(UNITS / "bootfw.service")], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr


# Socket activation


class Setup:
    def __init__(self, directory: Path) -> None:
        self.tftp, self.http = free_port(), free_port(socket.SOCK_STREAM)
        self.path = directory / "bootfw.toml"
        self.path.write_text(CONFIG.format(tftp=self.tftp, http=self.http))

    @contextmanager
    def activated(self, *options: str) -> Iterator[Process]:
        """The server, started by systemd-socket-activate with the first packet that comes."""
        command = ["systemd-socket-activate", *options, "-E", "PYTHONUNBUFFERED=1"]
        with Process(*command, BOOTFW, "run", "-c", self.path, cwd=self.path.parent) as process:
            process.until("Listening on")
            yield process


@needs("systemd-socket-activate")
@pytest.mark.parametrize("name", ["tftp", "bootfw.socket"])
def test_the_request_that_starts_the_server_is_answered(name: str, tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    with setup.activated("--datagram", f"--listen=127.0.0.1:{setup.tftp}", f"--fdname={name}") as process:
        assert fetch(("127.0.0.1", setup.tftp), "motd", seconds=60) == b"hello"
        process.until("bootfw serves")
        assert urlopen(f"http://127.0.0.1:{setup.http}/motd").read() == b"hello"
        assert children(process.pid) == [], "a worker would need a socket of its own"


@needs("systemd-socket-activate")
@pytest.mark.parametrize("names", [["--fdname=tftp"], []], ids=["named", "unnamed"])
def test_sockets_are_passed_although_twisted_has_read_the_variables(names: list[str], tmp_path: Path) -> None:
    """As when twistd loads all plugins since it has no plugin cache: on a first start, or on a read-only disk."""
    plugins = tmp_path / "more" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "reads_variables.py").write_text("import twisted.internet.endpoints\n")
    setup = Setup(tmp_path)
    setenv = ["-E", f"PYTHONPATH={plugins.parent.parent}"]
    with setup.activated("--datagram", f"--listen=127.0.0.1:{setup.tftp}", *names, *setenv):
        assert fetch(("127.0.0.1", setup.tftp), "motd") == b"hello"


@needs("systemd-socket-activate")
def test_an_http_request_starts_the_server(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    with setup.activated(f"--listen=127.0.0.1:{setup.http}", "--fdname=http"):
        assert urlopen(f"http://127.0.0.1:{setup.http}/motd").read() == b"hello"
        assert fetch(("127.0.0.1", setup.tftp), "motd") == b"hello"


@needs("systemd-socket-activate")
def test_a_socket_that_a_reload_takes_out_is_closed_and_named(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    with setup.activated("--datagram", f"--listen=127.0.0.1:{setup.tftp}", "--fdname=tftp") as process:
        assert fetch(("127.0.0.1", setup.tftp), "motd", seconds=60) == b"hello"
        process.until("bootfw serves")
        process.send(signal.SIGHUP)
        assert "is closed" not in process.until("reloaded the configuration")
        assert fetch(("127.0.0.1", setup.tftp), "motd", seconds=60) == b"hello"
        setup.path.write_text(setup.path.read_text().replace(f'"127.0.0.1:{setup.tftp}"', ""))
        process.send(signal.SIGHUP)
        process.until(f'inherited socket "tftp" (descriptor 3, UDP 127.0.0.1:{setup.tftp}) is closed, since')


@needs("systemd-socket-activate")
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("tftp", 'inherited socket "tftp" (descriptor 3, UDP 127.0.0.1:{port}) matches no wanted socket; '),
        ("nothing", 'inherited descriptor 3 is named "nothing" (FileDescriptorName=); known names: tftp, dhcp'),
    ],
)
def test_a_socket_that_is_not_wanted_ends_the_start_with_its_name(name: str, error: str, tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    other = free_port()
    with setup.activated("--datagram", f"--listen=127.0.0.1:{other}", f"--fdname={name}") as process:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", ("127.0.0.1", other))
        text = process.rest()
        assert process.code == 1
    assert error.format(port=other) in text
    assert "Traceback" not in text


# Privileges

DROPPED = """
[bootfw]
state-dir = "state"
user = "{user}"
workers = 2
interfaces = ["late0"]
[web]
listen = []
[dhcp]
mode = "off"
[tftp]
listen = ["0.0.0.0:69"]
[[backend]]
use = "memory"
files = {{ "motd" = "hello" }}
"""

KEPT_CAPABILITIES = 1 << 10 | 1 << 13
"""CAP_NET_BIND_SERVICE and CAP_NET_RAW."""


def status_of(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    rows = [line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return {name: value.strip() for name, _, value in rows}


@pytest.fixture
def namespace() -> Iterator[str]:
    if os.geteuid() != 0 or not all(map(shutil.which, ["ip", "unshare"])):
        pytest.skip("needs root, ip and unshare")
    name = f"bootfw-drop-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


# Python may be installed where only root can read: then the process sees a /root that other accounts can enter.
_READABLE = """
home=$1; shift
if [ "${home#/root/}" != "$home" ]; then
    top=/root/$(echo "${home#/root/}" | cut -d/ -f1)
    mount --bind "$top" /mnt && mount -t tmpfs -o mode=755 tmpfs /root
    mkdir "$top" && mount --move /mnt "$top"
fi
exec "$@"
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every account can read. Each run of pytest closes those of tmp_path to other accounts."""
    with TemporaryDirectory(prefix="bootfw-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.mark.interop
@pytest.mark.parametrize("dropped_by", ["the configuration", "twistd --uid"])
def test_root_is_given_up_and_a_late_port_below_1024_is_bound_after_it(
    dropped_by: str, namespace: str, directory: Path
) -> None:
    configured = dropped_by == "the configuration"
    (directory / "bootfw.toml").write_text(DROPPED.format(user="nobody" if configured else ""))
    uid = ["--uid=65534", "--gid=65534"] if not configured else []
    readable = ["unshare", "--mount", "sh", "-c", _READABLE, "sh", sys.base_prefix]
    command: list[str | Path] = [TWISTD, "--nodaemon", "--pidfile=", *uid, "bootfw", "-c", directory / "bootfw.toml"]
    with Process("ip", "netns", "exec", namespace, *readable, *command, cwd=directory) as server:
        server.until("bootfw serves")
        status = status_of(server.pid)
        assert set(status["Uid"].split()) == {"65534"}
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == KEPT_CAPABILITIES
        assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
        while len(workers := workers_of(server.pid)) < 2:
            pass
        for worker in map(status_of, workers):
            assert set(worker["Uid"].split()) == {"65534"}
            assert int(worker["CapEff"], 16) == int(worker["CapPrm"], 16) == 0
        subprocess.run(["ip", "-n", namespace, "link", "add", "late0", "type", "veth"], check=True)
        server.until("tftp listens on 0.0.0.0:69 (on late0)")


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_workers_have_none_of_the_capabilities_of_a_unit(namespace: str, directory: Path) -> None:
    """Every program that the server starts inherits AmbientCapabilities=, unless the server clears them."""
    setup = Setup(directory)
    (directory / "state").mkdir(mode=0o777)
    (directory / "state").chmod(0o777)
    setup.path.chmod(0o644)
    readable = ["unshare", "--mount", "sh", "-c", _READABLE, "sh", sys.base_prefix]
    caps = "+net_raw,+net_bind_service"
    unit = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        f"--inh-caps={caps}",
        f"--ambient-caps={caps}",
    ]
    command: list[str | Path] = [TWISTD, "--nodaemon", "--pidfile=", "bootfw", "-c", setup.path]
    in_namespace = [
        "ip",
        "netns",
        "exec",
        namespace,
        *readable,
        "sh",
        "-c",
        'ip link set lo up; exec "$@"',
        "sh",
        *unit,
    ]
    with Process(*in_namespace, *command, cwd=directory) as server:
        server.until("bootfw serves")
        status = status_of(server.pid)
        assert (int(status["CapEff"], 16), int(status["CapAmb"], 16)) == (KEPT_CAPABILITIES, 0)
        while len(workers := workers_of(server.pid)) < 2:
            pass
        assert {int(status_of(worker)["CapPrm"], 16) for worker in workers} == {0}


def test_unknown_account_is_an_error(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (tmp_path / "bootfw.toml").write_text(DROPPED.format(user="nobody-at-all"))
    with Process(BOOTFW, "run", "-c", "bootfw.toml", cwd=tmp_path) as server:
        assert server.rest() == ('bootfw: bootfw.toml: bootfw.user: there is no account "nobody-at-all" on this host\n')
        assert server.code == 1
