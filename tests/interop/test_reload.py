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
class Site:
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
        self.configure("old")

    @property
    def path(self) -> Path:
        return self.directory / "bootfw.toml"

    def configure(
        self, root: str, *more_ports: int, host: str = "127.0.0.1", http_host: str = "127.0.0.1", **changes: int
    ) -> None:
        """Write the configuration.

        :param more: other ports of TFTP.
        """
        listen = "".join(f', "127.0.0.1:{port}"' for port in more_ports)
        values = {
            "workers": self.workers,
            "tftp": self.tftp,
            "http": self.http,
            "more": listen,
            "host": host,
            "http_host": http_host,
            **changes,
        }
        self.path.write_text(CONFIG.format(root=root, **values))

    def reload(self) -> "subprocess.CompletedProcess[str]":
        command = [str(BOOTFW), "reload", "-c", "bootfw.toml"]
        return subprocess.run(
            command, cwd=self.directory, env=clean(), capture_output=True, text=True, check=False, timeout=240
        )

    def wait_for_new_file(self) -> None:
        """Wait until every worker has loaded the configuration: the new file comes for as many clients as reach all."""
        deadline = time.monotonic() + 90
        remaining = 20
        while remaining:
            assert time.monotonic() < deadline, "the old file is still served"
            data = b""
            with suppress(TimeoutError):  # a killed worker may have had the request; clients repeat it
                data = fetch(("127.0.0.1", self.tftp), "file", seconds=2)
            remaining = remaining - 1 if data[:3] == NEW else 20


@contextmanager
def running(site: Site) -> Iterator[Process]:
    """The server, once its workers serve."""
    with Process(BOOTFW, "run", "-c", site.path, cwd=site.directory) as server:
        server.until("http listens on")
        deadline = time.monotonic() + 30
        while site.workers > 1 and len([pid for pid in workers_of(server.pid) if serves(pid)]) < site.workers:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield server


@define(eq=False)
class Download:
    """A TFTP client that acknowledges a block when the test says so."""

    server: int
    sock: socket.socket
    data: bytes = b""
    block: int = 0
    complete: bool = False
    _last: bytes = b""
    _peer: tuple[str, int] = ("", 0)

    def begin(self) -> None:
        self._send(b"\0\1file\0octet\0", ("127.0.0.1", self.server))

    def receive(self) -> None:
        """Receive what has come."""
        packet, sender = self.sock.recvfrom(1024)
        assert packet[:2] == b"\0\3", packet
        if int.from_bytes(packet[2:4], "big") != self.block + 1:
            return
        self.block += 1
        self.data += packet[4:]
        self._last, self._peer = b"\0\4" + packet[2:4], sender
        self.complete = len(packet) < 516

    def acknowledge(self) -> None:
        self._send(self._last, self._peer)

    def _send(self, data: bytes, peer: tuple[str, int]) -> None:
        self._last, self._peer = data, peer
        self.sock.sendto(data, peer)


def continue_until_block(downloads: list[Download], block: int) -> None:
    """Acknowledge until each has that block, or all of the file."""
    by_socket = {download.sock: download for download in downloads}
    deadline = time.monotonic() + 60
    while unfinished := [each for each in downloads if not each.complete and each.block < block]:
        assert time.monotonic() < deadline, f"{len(unfinished)} transfers have stopped"
        ready, _, _ = select.select([each.sock for each in unfinished], [], [], 1)
        for sock in ready:
            download = by_socket[sock]
            block_before = download.block
            download.receive()
            if download.block > block_before and (download.complete or download.block < block):
                download.acknowledge()
        if not ready:
            for download in unfinished:
                download.acknowledge()


def start_transfers(site: Site, stack: ExitStack, ports: Sequence[int]) -> tuple[list[Download], socket.socket, bytes]:
    """Transfers from *ports*, eight blocks each, and an HTTP connection with what it has received of its file."""
    downloads = [
        Download(port, stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))) for port in ports
    ]
    for download in downloads:
        download.begin()
    continue_until_block(downloads, 8)
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", site.http)))
    connection.sendall(b"GET /big HTTP/1.0\r\n\r\n")
    return downloads, connection, connection.recv(100)


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process has by name, as /proc names them."""
    directory = Path(f"/proc/{pid}/fd")
    return {str(entry.readlink()) for entry in directory.iterdir() if str(entry.readlink()).startswith("socket:")}


def wait_until_free(port: int) -> None:
    """Wait until no process has the UDP port."""
    deadline = time.monotonic() + 60
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return


@pytest.mark.parametrize(("workers", "method"), [(1, "bootfw reload"), (2, "bootfw reload"), (2, "SIGHUP")])
def test_a_reload_during_200_transfers_loses_none(workers: int, method: str, tmp_path: Path) -> None:
    site = Site(tmp_path, workers)
    with running(site) as server, ExitStack() as stack:
        sockets_before = sockets_of(server.pid)
        downloads, http, received = start_transfers(site, stack, [site.tftp] * TRANSFERS)
        site.configure("new")
        if method == "SIGHUP":
            server.send(signal.SIGHUP)
            server.until("reloaded the configuration", seconds=90)
        else:
            result = site.reload()
            assert (result.returncode, result.stdout, result.stderr) == (0, "reloaded\n", "")
        site.wait_for_new_file()
        with urlopen(f"http://127.0.0.1:{site.http}/file", timeout=30) as answer:
            assert answer.read() == NEW
        for download in downloads:
            download.acknowledge()
        continue_until_block(downloads, 1000)
        assert [download.data == OLD for download in downloads] == [True] * TRANSFERS
        while chunk := http.recv(1 << 20):
            received += chunk
        assert received.partition(b"\r\n\r\n")[2] == DOWNLOAD
        assert sockets_before <= sockets_of(server.pid), "the sockets are the same"
        assert server.stop().count("reloaded the configuration") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_reloads_and_a_worker_that_is_started_later_has_the_new_file(workers: int, tmp_path: Path) -> None:
    site = Site(tmp_path, workers)
    with running(site) as server:
        site.configure("new")
        server.send(signal.SIGHUP)
        server.until("reloaded the configuration")
        site.wait_for_new_file()
        for pid in workers_of(server.pid):
            os.kill(pid, signal.SIGKILL)
        site.wait_for_new_file()


@pytest.mark.parametrize("workers", [1, 2])
def test_reload_opens_and_closes_ports_while_transfers_continue(workers: int, tmp_path: Path) -> None:
    """On the port that stays, and on the one that is dropped."""
    site, more_ports = Site(tmp_path, workers), [free_port(), free_port()]
    site.configure("old", more_ports[0])
    with running(site) as server, ExitStack() as stack:
        sockets_before = sockets_of(server.pid)
        downloads, http, received = start_transfers(
            site, stack, [port for port in (site.tftp, more_ports[0]) for _ in range(20)]
        )
        new_http_port = free_port(socket.SOCK_STREAM)
        site.configure("new", more_ports[1], http=new_http_port)
        result = site.reload()
        assert (result.returncode, result.stdout, result.stderr) == (0, "reloaded\n", "")
        assert fetch(("127.0.0.1", site.tftp), "file") == NEW
        assert fetch(("127.0.0.1", more_ports[1]), "file") == NEW
        with urlopen(f"http://127.0.0.1:{new_http_port}/file", timeout=30) as answer:
            assert answer.read() == NEW
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", site.http))
        for download in downloads:
            download.acknowledge()
        continue_until_block(downloads, 1000)
        assert [download.data == OLD for download in downloads] == [True] * len(downloads)
        while chunk := http.recv(1 << 20):
            received += chunk
        assert received.partition(b"\r\n\r\n")[2] == DOWNLOAD
        for download in downloads:
            download.acknowledge()
        server.until(*(f"no longer listens on 127.0.0.1:{port}" for port in (more_ports[0], site.http)))
        assert len(sockets_before & sockets_of(server.pid)) == len(sockets_before) - 2 * workers, (
            "the others are the same"
        )


def test_several_workers_move_no_port_of_tftp(tmp_path: Path) -> None:
    site = Site(tmp_path, 2)
    with running(site) as server:
        site.configure("new", host="0.0.0.0")
        result = site.reload()
        assert (result.returncode, result.stdout) == (1, "")
        reason = f"tftp on 0.0.0.0:{site.tftp} can't be opened: [Errno 98] several workers can't hand transfers over; "
        assert result.stderr == (
            f"bootfw: {reason}tftp on 127.0.0.1:{site.tftp} is open: reload without both first, or restart\n"
        )
        assert len(fetch(("127.0.0.1", site.tftp), "file", seconds=60)) == 512, "it serves the old file"
        server.until("not reloaded: ")


@pytest.mark.parametrize("workers", [1, 2])
def test_reload_moves_ports_to_an_overlapping_address_while_transfers_continue(workers: int, tmp_path: Path) -> None:
    """With several workers that of HTTP does."""
    site = Site(tmp_path, workers)
    services = ("tftp", "http") if workers == 1 else ("http",)
    contents = {"old": OLD, "new": OLD[::-1]}
    (tmp_path / "new" / "file").write_bytes(contents["new"])
    (tmp_path / "new" / "big").write_bytes(DOWNLOAD)
    with running(site) as server:
        for old_root, new_root, old_host, new_host in (
            ("old", "new", "127.0.0.1", "0.0.0.0"),
            ("new", "old", "0.0.0.0", "127.0.0.1"),
        ):
            with ExitStack() as stack:
                downloads, http, received = start_transfers(site, stack, [site.tftp] * 40)
                site.configure(new_root, http_host=new_host, host=new_host if workers == 1 else "127.0.0.1")
                result = site.reload()
                assert (result.returncode, result.stdout, result.stderr) == (0, "reloaded\n", "")
                for _ in range(20):  # by both workers
                    assert fetch(("127.0.0.1", site.tftp), "file", seconds=60) == contents[new_root][:512]
                with urlopen(f"http://127.0.0.1:{site.http}/file", timeout=30) as answer:
                    assert answer.read() == contents[new_root]
                for download in downloads:
                    download.acknowledge()
                continue_until_block(downloads, 1000)
                assert [download.data == contents[old_root] for download in downloads] == [True] * len(downloads)
                while chunk := http.recv(1 << 20):
                    received += chunk
                assert received.partition(b"\r\n\r\n")[2] == DOWNLOAD
                for download in downloads:
                    download.acknowledge()
            server.until(*(f"{name} no longer listens on {old_host}:" for name in services))
        assert "Traceback" not in server.stop()


def test_a_port_of_another_program_is_refused_with_its_name(tmp_path: Path) -> None:
    site = Site(tmp_path, 1)
    with running(site) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        port = free_port()
        other.bind(("127.0.0.1", port))
        site.configure("new", port)
        result = site.reload()
        assert (result.returncode, result.stdout) == (1, "")
        assert f"tftp on 127.0.0.1:{port} can't be opened: " in result.stderr
        assert f"(pid {os.getpid()})" in result.stderr
        assert len(fetch(("127.0.0.1", site.tftp), "file")) == 512, "it serves the old file"
        other.close()
        assert site.reload().returncode == 0
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
    site, other_port = Site(tmp_path, 2), free_port()
    with running(site) as server:
        site.configure("new", other_port)
        configuration = site.path.read_text()
        site.path.write_text(
            configuration.split("[[backend]]")[0] + '[[backend]]\nuse = "failing:plugin"\nfiles = { file = "new" }\n'
        )
        workers_before = workers_of(server.pid)
        result = site.reload()
        assert (result.returncode, result.stdout) == (1, "")
        [line] = result.stderr.splitlines()
        assert line.startswith("bootfw: worker ")
        assert line.endswith("the first worker has no archive")
        server.until("not reloaded: worker ", f"no longer listens on 127.0.0.1:{other_port}")
        for _ in range(20):
            assert len(fetch(("127.0.0.1", site.tftp), "file", seconds=60)) == 512, "all serve the old file"
        wait_until_free(other_port)
        result = site.reload()
        assert (result.returncode, result.stdout, result.stderr) == (0, "reloaded\n", "")
        site.wait_for_new_file()
        assert fetch(("127.0.0.1", other_port), "file", seconds=60) == NEW
        assert workers_of(server.pid) == workers_before, "no worker was restarted"


def test_a_wrong_or_unreloadable_configuration_changes_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, 1)
    with running(site) as server:
        site.configure("new", workers=3)
        result = site.reload()
        reason = f"{site.path}: bootfw.workers: was changed, which needs a restart"
        assert (result.returncode, result.stdout, result.stderr) == (4, "", f"bootfw: {reason}\n")
        server.until(f"not reloaded: {reason}")
        site.path.write_text("[tftp")
        server.send(signal.SIGHUP)
        server.until("not reloaded: ", times=2)
        assert site.reload().returncode == 1
        assert len(fetch(("127.0.0.1", site.tftp), "file")) == 512, "it serves the old file"
    assert site.reload().returncode == 1


def test_no_server_runs(tmp_path: Path) -> None:
    site = Site(tmp_path, 1)
    result = site.reload()
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("bootfw: no server runs with the state directory ")


def test_a_service_manager_sees_the_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = ServiceManager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    site = Site(tmp_path, 1)
    with running(site):
        manager.until("STATUS=")
        count = len(manager.messages)
        assert site.reload().returncode == 0
        manager.until("READY=1")
        reloading, ready = manager.messages[count:]
        assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert ready.startswith("READY=1")
    manager.close()
