"""The server as processes: its log, signals, pid files, sandboxes, its start and its end."""

import os
import re
import signal
import socket
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from certificates import Authority
from twistd import SANDBOX, bootfw, fetch, free_port
from workerprocesses import children, serves, workers_of

CONFIG = """
[bootfw]
state-dir = "state"
workers = {workers}
[web]
listen = []
[tftp]
listen = ["127.0.0.1:{tftp}"]
[dhcp]
mode = "{mode}"
ports = {{ server = {dhcp} }}
{more}
[[backend]]
use = "memory"
files = {{ "motd" = "hello" }}
"""

SUBNET = '[[dhcp.subnet]]\nnetwork = "127.0.0.0/8"'


class Setup:
    """A configuration on free ports."""

    def __init__(self, directory: Path, *, workers: int = 1, mode: str = "off", more: str = "") -> None:
        self.tftp = free_port()
        self.path = directory / "bootfw.toml"
        more = SUBNET + more if mode == "server" else more
        self.path.write_text(
            CONFIG.format(workers=workers, tftp=self.tftp, mode=mode, dhcp=free_port(), more=more), encoding="utf-8"
        )

    def fetches(self) -> bool:
        """Whether the file can be fetched by TFTP."""
        return fetch(("127.0.0.1", self.tftp), "motd") == b"hello"


def is_expected(line: str) -> bool:
    """Whether a line of the log is from bootfw, or says that twistd begins or ends."""
    stamped = re.match(r"\d{4}-\S+ \[([^\]#]*)(#\w+)?\]", line)
    if stamped is not None and stamped[1] == "-":  # Twisted 22.4 logs these without a name
        return line.endswith(("] Received SIGTERM, shutting down.", "] Main loop terminated."))
    return stamped is None or stamped[1].startswith(("bootfw", "twisted.scripts.", "twisted.internet.base"))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_log_has_no_lines_of_twisted_about_ports_and_factories(workers: int, tmp_path: Path) -> None:
    pytest.importorskip("OpenSSL")
    certificate, key = Authority().issue("127.0.0.1", curve=True)
    (tmp_path / "fullchain.pem").write_bytes(certificate)
    (tmp_path / "privkey.pem").write_bytes(key)
    kind = socket.SOCK_STREAM
    http = f'\n[http]\nlisten = ["127.0.0.1:{free_port(kind)}"]\nhttps-listen = ["127.0.0.1:{free_port(kind)}"]\n'
    http += 'certificate = "fullchain.pem"\nkey = "privkey.pem"\n'
    setup = Setup(tmp_path, workers=workers, mode="server", more=http)
    with bootfw(setup.path) as server:
        server.until("https listens on")
        server.stop()
        lines = server.lines
    assert (tmp_path / "state" / "bootfw.sqlite").exists(), "the server has a lease store, and so a control socket"
    assert [line for line in lines if not is_expected(line)] == []
    assert sum("no longer listens on" in line for line in lines) == 4


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_reloads_and_ends_no_process(workers: int, tmp_path: Path) -> None:
    """SIGHUP is sent to all processes of a terminal that is closed."""
    setup = Setup(tmp_path, workers=workers)
    with bootfw(setup.path) as server:
        server.until("tftp listens on")
        assert setup.fetches()
        server.until("complete")
        for pid in (*children(server.pid), server.pid):
            os.kill(pid, signal.SIGHUP)
        server.until(f"reloaded the configuration {setup.path}")
        assert setup.fetches()
        assert "worker" not in server.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_that_the_parent_ignores_is_not_even_logged(workers: int, tmp_path: Path) -> None:
    """As under nohup. The workers ignore it too, and stop with the server."""
    setup = Setup(tmp_path, workers=workers)
    with bootfw(setup.path, before=("nohup",)) as server:
        server.until("tftp listens on")
        assert setup.fetches()
        server.until("complete")
        for pid in (*children(server.pid), server.pid):
            os.kill(pid, signal.SIGHUP)
        assert setup.fetches()
        text = server.stop()
    assert "SIGHUP" not in text
    assert "worker" not in text


@pytest.mark.parametrize("content", [str(os.getpid()), "", "1"], ids=["another process", "empty", "process 1"])
def test_a_pid_file_does_not_keep_the_foreground_from_starting(content: str, tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    (tmp_path / "twistd.pid").write_text(content)
    with bootfw(setup.path, options=()) as server:
        server.until("tftp listens on")
    assert (tmp_path / "twistd.pid").read_text() == content, "it belongs to another process"


def test_a_pid_file_that_is_named_is_written(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    with bootfw(setup.path, options=("--pidfile=own.pid",)) as server:
        server.until("tftp listens on")
        assert (tmp_path / "own.pid").read_text() == str(server.pid)


@pytest.mark.parametrize("families", ["AF_UNIX", "AF_UNIX,AF_NETLINK,AF_PACKET"])
def test_a_missing_address_family_is_one_log_line(families: str, tmp_path: Path) -> None:
    setup = Setup(tmp_path, mode="server")
    with bootfw(setup.path, before=(*SANDBOX, families)) as server:
        server.until("tftp listens on")
        assert setup.fetches()
        server.stop()
    assert "Traceback" not in server.text
    (line,) = [line for line in server.lines if "control socket" in line]
    assert line.endswith(
        f"no control socket at {tmp_path}/state/control.sock, so the bootfw command can't reach this server: "
        "this process may not use UNIX sockets (AF_UNIX): Address family not supported by protocol"
    )
    assert ("addresses are not probed" in server.text) == ("AF_PACKET" in families)


def test_a_control_socket_that_can_not_be_opened_ends_the_start_with_a_line(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 120)
    directory.mkdir()
    with bootfw(Setup(directory, mode="server").path) as server:
        server.rest()
        assert server.code == 1
    (line,) = [line for line in server.lines if "critical" in line]
    assert line.endswith(
        f"the control socket {directory}/state/control.sock can't be opened: [Errno 36] File name too long"
    )
    assert "Traceback" not in server.text


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("section", ["tftp", "http"])
def test_an_address_that_this_host_lacks_is_waited_for(section: str, workers: int, tmp_path: Path) -> None:
    setup = Setup(tmp_path, workers=workers, more="[http]\nlisten = []")
    text = setup.path.read_text()
    setup.path.write_text(text.replace(f"[{section}]\nlisten = [", f'[{section}]\nlisten = ["203.0.113.77:6969", ', 1))
    with bootfw(setup.path) as server:
        server.until(
            f"waiting for address 203.0.113.77 ({section}, port 6969): this host has no such address; it has: ",
            "not ready: a wanted socket is not bound",
            "bootfw serves",
        )
        server.stop()
    assert f"{section} listens on 203.0.113.77" not in server.text
    assert "Traceback" not in server.text


@pytest.mark.parametrize("workers", [1, 2])
def test_a_missing_interface_and_one_that_is_not_served_are_logged(workers: int, tmp_path: Path) -> None:
    setup = Setup(tmp_path, workers=workers)
    setup.path.write_text(setup.path.read_text().replace("[bootfw]", '[bootfw]\ninterfaces = ["eth9"]'))
    with bootfw(setup.path) as server:
        server.until("waiting for interface eth9: no interface eth9; there are: lo")
        for _ in range(8):  # of several ports, so that each worker has some
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"\0\1motd\0octet\0", ("127.0.0.1", setup.tftp))
        server.until("interface lo: requests that arrive on it are dropped: [bootfw] interfaces lists eth9 only")
        server.stop()
    assert server.text.count("interface lo:") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_the_port_of_an_interface_leaves_that_of_others_alone(workers: int, tmp_path: Path) -> None:
    setup = Setup(tmp_path, workers=workers)
    text = setup.path.read_text().replace("[bootfw]", '[bootfw]\ninterfaces = ["lo", "eth99"]')
    setup.path.write_text(text.replace("127.0.0.1:", "0.0.0.0:"))
    with bootfw(setup.path) as server:
        server.until(f"tftp listens on 0.0.0.0:{setup.tftp} (on lo)", "bootfw serves")
        assert setup.fetches()
        server.stop()
    assert "(on eth99)" not in server.text


class Download:
    """A file by TFTP in blocks of 512 bytes, one after the other."""

    def __init__(self, port: int, name: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(10)
        self._parts: list[bytes] = []
        self._socket.sendto(b"\0\1" + name.encode() + b"\0octet\0", ("127.0.0.1", port))

    def take(self, blocks: int = 1 << 30) -> bytes:
        """Receive that many blocks, or all to the end; returns the data so far."""
        for _ in range(blocks):
            packet, server = self._socket.recvfrom(600)
            assert packet[:2] == b"\0\3", packet
            if int.from_bytes(packet[2:4], "big") == (len(self._parts) + 1) % 65536:
                self._parts.append(packet[4:])
            self._socket.sendto(b"\0\4" + packet[2:4], server)
            if len(packet) < 516:
                self._socket.close()
                break
        return b"".join(self._parts)


WAITING_BACKEND = """
import sys, time
from pathlib import Path
from bootfw.backends.memory import plugin

while "bootfw.cli.worker" in " ".join(sys.orig_argv) and not Path("go").exists():
    time.sleep(0.01)
"""
"""A module with a backend plugin. It keeps workers from becoming ready before there is a file "go"."""


@pytest.mark.interop
@pytest.mark.parametrize("ports", ["single", "ephemeral"])
def test_requests_are_answered_while_workers_start_and_transfers_continue(ports: str, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    content = os.urandom(250_000)
    (tmp_path / "files" / "large").write_bytes(content)
    http = free_port(socket.SOCK_STREAM)
    more = f'[http]\nlisten = ["127.0.0.1:{http}"]\n[[backend]]\nuse = "directory"\nroot = "files"\n'
    more += '[[backend]]\nuse = "blocked:plugin"\nfiles = { "blocked" = "" }\n'
    (tmp_path / "blocked.py").write_text(WAITING_BACKEND)
    setup = Setup(tmp_path, workers=2, more=more)
    setup.path.write_text(setup.path.read_text().replace("[tftp]", f'[tftp]\nports = "{ports}"'))
    with bootfw(setup.path, before=["env", f"PYTHONPATH={tmp_path}"]) as server:
        server.until("bootfw serves")
        downloads = [Download(setup.tftp, "large") for _ in range(6)]
        for download in downloads:
            download.take(2)
        assert urlopen(f"http://127.0.0.1:{http}/large").read() == content
        assert not any(map(serves, children(server.pid)))
        (tmp_path / "go").touch()
        while not all(map(serves, children(server.pid))):
            assert setup.fetches(), "while the workers start"
            for download in downloads:
                download.take(1)
            time.sleep(0.05)  # the workers need the processors, too
        for download in downloads:
            assert download.take() == content
        # A worker that is stopped before it has read the last ACK says that it was.
        server.until("got 'large': complete", times=len(downloads))
        server.stop()
    assert server.text.count("got 'large': complete") == len(downloads)
    assert server.text.count("ERROR") == 0


def test_a_server_that_has_just_started_ends_at_once(tmp_path: Path) -> None:
    setup = Setup(tmp_path, workers=4)
    with bootfw(setup.path) as server:
        server.until("tftp listens on")
        while len(workers := workers_of(server.pid)) < 4:
            time.sleep(0.01)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)  # so that they don't notice the end
        server.send(signal.SIGTERM)
        server.rest(seconds=4.5)  # less than the patience with workers that serve
    assert "worker" not in server.text, "none of them complains"
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_all_processes_can_be_ended_at_once(tmp_path: Path) -> None:
    """systemd signals all of a unit's processes (KillMode=control-group), and a terminal all of a group."""
    http = f'\n[http]\nlisten = ["127.0.0.1:{free_port(socket.SOCK_STREAM)}"]\n'
    setup = Setup(tmp_path, workers=2, more=http)
    with bootfw(setup.path) as server:
        server.until("http listens on")
        while len(workers := workers_of(server.pid)) < 2 or not all(map(serves, workers)):
            time.sleep(0.01)
        for pid in [*workers, server.pid]:
            os.kill(pid, signal.SIGTERM)
        server.rest()
    assert "Traceback" not in server.text


def test_two_signals_that_come_together_end_the_server_once(tmp_path: Path) -> None:
    """Both in one turn of the reactor, since the process is stopped while they are sent."""
    setup = Setup(tmp_path)
    with bootfw(setup.path) as server:
        server.until("what next")
        assert setup.fetches()  # the reactor turns
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            server.send(number)
        server.rest()
    assert "Traceback" not in server.text
    assert "ReactorNotRunning" not in server.text


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_serves_although_its_log_can_not_be_written(workers: int, tmp_path: Path) -> None:
    """Each write to /dev/full fails as on a full disk."""
    setup = Setup(tmp_path, workers=workers)
    with bootfw(setup.path, before=("sh", "-c", 'exec "$@" >/dev/full', "sh")) as server:
        for _ in range(10):
            assert fetch(("127.0.0.1", setup.tftp), "motd", seconds=90) == b"hello"
        assert "Traceback" not in server.stop()
