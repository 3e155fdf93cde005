"""A reload of a server that is busy: real processes and sockets."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from attrs import define, field
from servicemanager import ServiceManager
from tftpserver import numbered
from twistd import Process, clean, fetch, free_port
from workerprocesses import serves, workers_of

CONFIG = """
[bootfw]
state-dir = "state"
workers = {workers}
[web]
listen = []
[dhcp]
mode = "off"
[tftp]
listen = ["{host}:{tftp}"{more}]
[http]
listen = ["{http_host}:{http}"]
[[backend]]
use = "directory"
root = "{root}"
"""

BOOTFW = Path(sys.executable).with_name("bootfw")
TRANSFERS = 200
OLD, NEW = numbered(40 * 512 + 7), b"new"
DOWNLOAD = numbered(32 << 20)


@define(eq=False)
class Busy:
    """A server of the directory ``old``, and how its file is changed."""

    directory: Path
    workers: int
    tftp: int = field(factory=free_port)
    http: int = field(factory=lambda: free_port(socket.SOCK_STREAM))

    def __attrs_post_init__(self) -> None:
        for root, content in (("old", OLD), ("new", NEW)):
            (self.directory / root).mkdir()
            (self.directory / root / "file").write_bytes(content)
        (self.directory / "old" / "big").write_bytes(DOWNLOAD)
        self.serve_from("old")

    @property
    def path(self) -> Path:
        return self.directory / "bootfw.toml"

    def serve_from(
        self, root: str, *more: int, host: str = "127.0.0.1", http_host: str = "127.0.0.1", **changed: int
    ) -> None:
        """Write the configuration.

        :param more: other ports of TFTP.
        """
        listen = "".join(f', "127.0.0.1:{port}"' for port in more)
        values = {
            "workers": self.workers,
            "tftp": self.tftp,
            "http": self.http,
            "more": listen,
            "host": host,
            "http_host": http_host,
            **changed,
        }
        self.path.write_text(CONFIG.format(root=root, **values))

    def reload(self) -> "subprocess.CompletedProcess[str]":
        command = [str(BOOTFW), "reload", "-c", "bootfw.toml"]
        return subprocess.run(
            command, cwd=self.directory, env=clean(), capture_output=True, text=True, check=False, timeout=240
        )

    def gets_new_file(self) -> None:
        """Wait until every worker has loaded the configuration: the new file comes for as many clients as reach all."""
        end = time.monotonic() + 90
        missing = 20
        while missing:
            assert time.monotonic() < end, "the old file is still served"
            data = b""
            with suppress(TimeoutError):  # a killed worker may have had the request; clients repeat it
                data = fetch(("127.0.0.1", self.tftp), "file", seconds=2)
            missing = missing - 1 if data[:3] == NEW else 20


@contextmanager
def running(busy: Busy) -> Iterator[Process]:
    """The server, once its workers serve."""
    with Process(BOOTFW, "run", "-c", busy.path, cwd=busy.directory) as server:
        server.until("http listens on")
        end = time.monotonic() + 30
        while busy.workers > 1 and len([pid for pid in workers_of(server.pid) if serves(pid)]) < busy.workers:
            assert time.monotonic() < end
            time.sleep(0.05)
        yield server


@define(eq=False)
class Download:
    """A TFTP client that acknowledges a block when the test says so."""

    server: int
    sock: socket.socket
    data: bytes = b""
    block: int = 0
    done: bool = False
    _last: bytes = b""
    _to: tuple[str, int] = ("", 0)

    def begin(self) -> None:
        self._send(b"\0\1file\0octet\0", ("127.0.0.1", self.server))

    def take(self) -> None:
        """Receive what has come."""
        packet, sender = self.sock.recvfrom(1024)
        assert packet[:2] == b"\0\3", packet
        if int.from_bytes(packet[2:4], "big") != self.block + 1:
            return
        self.block += 1
        self.data += packet[4:]
        self._last, self._to = b"\0\4" + packet[2:4], sender
        self.done = len(packet) < 516

    def acknowledge(self) -> None:
        self._send(self._last, self._to)

    def _send(self, data: bytes, to: tuple[str, int]) -> None:
        self._last, self._to = data, to
        self.sock.sendto(data, to)


def go_on(downloads: list[Download], block: int) -> None:
    """Acknowledge until each has that block, or all of the file."""
    by_socket = {download.sock: download for download in downloads}
    end = time.monotonic() + 60
    while waiting := [each for each in downloads if not each.done and each.block < block]:
        assert time.monotonic() < end, f"{len(waiting)} transfers have stopped"
        ready, _, _ = select.select([each.sock for each in waiting], [], [], 1)
        for sock in ready:
            download = by_socket[sock]
            before = download.block
            download.take()
            if download.block > before and (download.done or download.block < block):
                download.acknowledge()
        if not ready:
            for download in waiting:
                download.acknowledge()


def under_way(busy: Busy, opened: ExitStack, ports: Sequence[int]) -> tuple[list[Download], socket.socket, bytes]:
    """Transfers from *ports*, eight blocks each, and an HTTP connection with what it has received of its file."""
    downloads = [
        Download(port, opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))) for port in ports
    ]
    for download in downloads:
        download.begin()
    go_on(downloads, 8)
    http = opened.enter_context(socket.create_connection(("127.0.0.1", busy.http)))
    http.sendall(b"GET /big HTTP/1.0\r\n\r\n")
    return downloads, http, http.recv(100)


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process has by name, as /proc names them."""
    listed = Path(f"/proc/{pid}/fd")
    return {str(each.readlink()) for each in listed.iterdir() if str(each.readlink()).startswith("socket:")}


def becomes_free(port: int) -> None:
    """Wait until no process has the UDP port."""
    end = time.monotonic() + 60
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)
            else:
                return


@pytest.mark.parametrize(("workers", "how"), [(1, "bootfw reload"), (2, "bootfw reload"), (2, "SIGHUP")])
def test_a_reload_during_200_transfers_loses_none(workers: int, how: str, tmp_path: Path) -> None:
    busy = Busy(tmp_path, workers)
    with running(busy) as server, ExitStack() as opened:
        bound = sockets_of(server.pid)
        downloads, http, received = under_way(busy, opened, [busy.tftp] * TRANSFERS)
        busy.serve_from("new")
        if how == "SIGHUP":
            server.send(signal.SIGHUP)
            server.until("reloaded the configuration", seconds=90)
        else:
            done = busy.reload()
            assert (done.returncode, done.stdout, done.stderr) == (0, "reloaded\n", "")
        busy.gets_new_file()
        with urlopen(f"http://127.0.0.1:{busy.http}/file", timeout=30) as answer:
            assert answer.read() == NEW
        for download in downloads:
            download.acknowledge()
        go_on(downloads, 1000)
        assert [download.data == OLD for download in downloads] == [True] * TRANSFERS
        while piece := http.recv(1 << 20):
            received += piece
        assert received.partition(b"\r\n\r\n")[2] == DOWNLOAD
        assert bound <= sockets_of(server.pid), "the sockets are the same"
        assert server.stop().count("reloaded the configuration") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_reloads_and_a_worker_that_is_started_later_has_the_new_file(workers: int, tmp_path: Path) -> None:
    busy = Busy(tmp_path, workers)
    with running(busy) as server:
        busy.serve_from("new")
        server.send(signal.SIGHUP)
        server.until("reloaded the configuration")
        busy.gets_new_file()
        for pid in workers_of(server.pid):
            os.kill(pid, signal.SIGKILL)
        busy.gets_new_file()


@pytest.mark.parametrize("workers", [1, 2])
def test_reload_opens_and_closes_ports_while_transfers_continue(workers: int, tmp_path: Path) -> None:
    """On the port that stays, and on the one that is dropped."""
    busy, more = Busy(tmp_path, workers), [free_port(), free_port()]
    busy.serve_from("old", more[0])
    with running(busy) as server, ExitStack() as opened:
        bound = sockets_of(server.pid)
        downloads, http, received = under_way(busy, opened, [port for port in (busy.tftp, more[0]) for _ in range(20)])
        moved = free_port(socket.SOCK_STREAM)
        busy.serve_from("new", more[1], http=moved)
        done = busy.reload()
        assert (done.returncode, done.stdout, done.stderr) == (0, "reloaded\n", "")
        assert fetch(("127.0.0.1", busy.tftp), "file") == NEW
        assert fetch(("127.0.0.1", more[1]), "file") == NEW
        with urlopen(f"http://127.0.0.1:{moved}/file", timeout=30) as answer:
            assert answer.read() == NEW
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", busy.http))
        for download in downloads:
            download.acknowledge()
        go_on(downloads, 1000)
        assert [download.data == OLD for download in downloads] == [True] * len(downloads)
        while piece := http.recv(1 << 20):
            received += piece
        assert received.partition(b"\r\n\r\n")[2] == DOWNLOAD
        for download in downloads:
            download.acknowledge()
        server.until(*(f"no longer listens on 127.0.0.1:{port}" for port in (more[0], busy.http)))
        assert len(bound & sockets_of(server.pid)) == len(bound) - 2 * workers, "the others are the same"


def test_several_workers_move_no_port_of_tftp(tmp_path: Path) -> None:
    busy = Busy(tmp_path, 2)
    with running(busy) as server:
        busy.serve_from("new", host="0.0.0.0")
        done = busy.reload()
        assert (done.returncode, done.stdout) == (1, "")
        reason = f"tftp on 0.0.0.0:{busy.tftp} can't be opened: [Errno 98] several workers can't hand transfers over; "
        assert done.stderr == (
            f"bootfw: {reason}tftp on 127.0.0.1:{busy.tftp} is open: reload without both first, or restart\n"
        )
        assert len(fetch(("127.0.0.1", busy.tftp), "file", seconds=60)) == 512, "it serves the old file"
        server.until("not reloaded: ")


@pytest.mark.parametrize("workers", [1, 2])
def test_reload_moves_ports_to_an_overlapping_address_while_transfers_continue(workers: int, tmp_path: Path) -> None:
    """With several workers that of HTTP does."""
    busy = Busy(tmp_path, workers)
    moves = ("tftp", "http") if workers == 1 else ("http",)
    contents = {"old": OLD, "new": OLD[::-1]}
    (tmp_path / "new" / "file").write_bytes(contents["new"])
    (tmp_path / "new" / "big").write_bytes(DOWNLOAD)
    with running(busy) as server:
        for before, after, left, host in (
            ("old", "new", "127.0.0.1", "0.0.0.0"),
            ("new", "old", "0.0.0.0", "127.0.0.1"),
        ):
            with ExitStack() as opened:
                downloads, http, received = under_way(busy, opened, [busy.tftp] * 40)
                busy.serve_from(after, http_host=host, host=host if workers == 1 else "127.0.0.1")
                done = busy.reload()
                assert (done.returncode, done.stdout, done.stderr) == (0, "reloaded\n", "")
                for _ in range(20):  # by both workers
                    assert fetch(("127.0.0.1", busy.tftp), "file", seconds=60) == contents[after][:512]
                with urlopen(f"http://127.0.0.1:{busy.http}/file", timeout=30) as answer:
                    assert answer.read() == contents[after]
                for download in downloads:
                    download.acknowledge()
                go_on(downloads, 1000)
                assert [download.data == contents[before] for download in downloads] == [True] * len(downloads)
                while piece := http.recv(1 << 20):
                    received += piece
                assert received.partition(b"\r\n\r\n")[2] == DOWNLOAD
                for download in downloads:
                    download.acknowledge()
            server.until(*(f"{name} no longer listens on {left}:" for name in moves))
        assert "Traceback" not in server.stop()


def test_a_port_of_another_program_is_refused_with_its_name(tmp_path: Path) -> None:
    busy = Busy(tmp_path, 1)
    with running(busy) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        busy.serve_from("new", port)
        done = busy.reload()
        assert (done.returncode, done.stdout) == (1, "")
        assert f"tftp on 127.0.0.1:{port} can't be opened: " in done.stderr
        assert f"(pid {os.getpid()})" in done.stderr
        assert len(fetch(("127.0.0.1", busy.tftp), "file")) == 512, "it serves the old file"
        other.close()
        assert busy.reload().returncode == 0
        assert fetch(("127.0.0.1", port), "file") == NEW
        server.until("reloaded the configuration")


PLUGIN = """
import os
import sys

from bootfw.api import IBackend, StateError, boot_plugin
from bootfw.backends.memory import MemoryBackend


def made(files: dict[str, str]) -> MemoryBackend:
    if "bootfw.cli.worker" in " ".join(sys.orig_argv):
        try:
            os.mkdir("first")
        except FileExistsError:
            pass
        else:
            raise ValueError("the first worker has no archive")
    return MemoryBackend({name: content.encode() for name, content in files.items()})


class Made(MemoryBackend):
    configured = staticmethod(lambda context, files: made(files))


plugin = boot_plugin(IBackend, Made)
"""


def test_a_worker_that_can_not_load_it_fails_the_reload_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    busy, more = Busy(tmp_path, 2), free_port()
    with running(busy) as server:
        busy.serve_from("new", more)
        old = busy.path.read_text()
        busy.path.write_text(
            old.split("[[backend]]")[0] + '[[backend]]\nuse = "failing:plugin"\nfiles = { file = "new" }\n'
        )
        before = workers_of(server.pid)
        done = busy.reload()
        assert (done.returncode, done.stdout) == (1, "")
        [line] = done.stderr.splitlines()
        assert line.startswith("bootfw: worker ")
        assert line.endswith("the first worker has no archive")
        server.until("not reloaded: worker ", f"no longer listens on 127.0.0.1:{more}")
        for _ in range(20):
            assert len(fetch(("127.0.0.1", busy.tftp), "file", seconds=60)) == 512, "all serve the old file"
        becomes_free(more)
        done = busy.reload()
        assert (done.returncode, done.stdout, done.stderr) == (0, "reloaded\n", "")
        busy.gets_new_file()
        assert fetch(("127.0.0.1", more), "file", seconds=60) == NEW
        assert workers_of(server.pid) == before, "no worker was restarted"


def test_a_wrong_or_unreloadable_configuration_changes_nothing(tmp_path: Path) -> None:
    busy = Busy(tmp_path, 1)
    with running(busy) as server:
        busy.serve_from("new", workers=3)
        done = busy.reload()
        reason = f"{busy.path}: bootfw.workers: was changed, which needs a restart"
        assert (done.returncode, done.stdout, done.stderr) == (4, "", f"bootfw: {reason}\n")
        server.until(f"not reloaded: {reason}")
        busy.path.write_text("[tftp")
        server.send(signal.SIGHUP)
        server.until("not reloaded: ", times=2)
        assert busy.reload().returncode == 1
        assert len(fetch(("127.0.0.1", busy.tftp), "file")) == 512, "it serves the old file"
    assert busy.reload().returncode == 1


def test_no_server_runs(tmp_path: Path) -> None:
    busy = Busy(tmp_path, 1)
    done = busy.reload()
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("bootfw: no server runs with the state directory ")


def test_a_service_manager_sees_the_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = ServiceManager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    busy = Busy(tmp_path, 1)
    with running(busy):
        manager.until("STATUS=")
        before = len(manager.messages)
        assert busy.reload().returncode == 0
        manager.until("READY=1")
        reloading, ready = manager.messages[before:]
        assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert ready.startswith("READY=1")
    manager.close()
