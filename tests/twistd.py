"""``twistd bootfw`` as a process, for tests: started, signalled, and its log read."""

import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from forks import ONE_PROCESSOR, Fork, can_fork

TWISTD = Path(sys.executable).parent / "twistd"

_LOWEST_PORT = 10_000
_taken_ports: set[int] = set()

SANDBOX = [sys.executable, str(Path(__file__).parent / "sandbox.py")]
"""Followed by address families and a command: the command can't create sockets of these families."""


def clean() -> dict[str, str]:
    """The environment without the variables of bootfw."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BOOTFW_")}


def _react_to_signals() -> None:
    """Undo what the test process inherited: nohup ignores SIGHUP, a shell ignores SIGINT for background jobs."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


class Process:
    """A command whose output is read. As a context manager it ends the command by SIGTERM, which must succeed."""

    def __init__(self, *command: str | Path, cwd: Path, **options: Any) -> None:
        self.text = ""
        words = [str(part) for part in command]
        common: dict[str, Any] = {
            "cwd": cwd,
            "env": clean(),
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
        }
        if can_fork(words) and not options:
            self._process: subprocess.Popen[bytes] = Fork(words, **common)
        else:
            self._process = subprocess.Popen(words, preexec_fn=_react_to_signals, **common, **options)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            if kind is None and self._process.poll() is None:
                self.stop()
        finally:
            self._process.kill()
            if kind is None:
                self._process.wait()
            else:
                print(self.rest())
            assert self._process.stdout
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lines(self) -> list[str]:
        """What it has printed so far."""
        return self.text.splitlines()

    def until(self, *expected: str, times: int = 1, seconds: float = 90) -> str:
        """Read on until each of *wanted* has been printed, *times* each; everything that was printed."""
        assert self._process.stdout
        deadline = time.monotonic() + seconds
        while not all(self.text.count(text) >= times for text in expected):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
            output = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            assert output, f"ended or silent without {expected!r}:\n{self.text}"
            self.text += output.decode()
        return self.text

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def stop(self) -> str:
        """End it by SIGTERM; everything that was printed."""
        self.send(signal.SIGTERM)
        text = self.rest()
        assert self._process.returncode == -signal.SIGTERM, "twistd stops in good order, then ends as the signal would"
        return text

    def rest(self, seconds: float = 90) -> str:
        """Wait until it has ended; everything that was printed."""
        output, _ = self._process.communicate(timeout=seconds)
        self.text += output.decode()
        return self.text

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()


def bootfw(config: Path, *, before: Sequence[str] = (), options: Sequence[str] = ("--pidfile=",)) -> Process:
    """A server in the foreground, in the directory of its configuration.

    :param before: a command that runs the one that follows it.
    :param options: of twistd.
    """
    return Process(*before, *ONE_PROCESSOR, TWISTD, "--nodaemon", *options, "bootfw", "-c", config, cwd=config.parent)


def fetch(address: tuple[str, int], name: str, *, seconds: float = 30) -> bytes:
    """A file of less than 512 bytes, or the first 512 bytes of a longer one, by TFTP without options (RFC 1350).

    The request is repeated every five seconds. The rest of a longer file is refused: the server would repeat it for a
    while, and a later client may have the same port.
    """
    give_up = time.monotonic() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(min(5, seconds))
        while True:
            client.sendto(b"\0\1" + name.encode() + b"\0octet\0", address)
            try:
                data, server = client.recvfrom(600)
                break
            except TimeoutError:
                if time.monotonic() > give_up:
                    raise
        assert data[:4] == b"\0\3\0\1", data
        client.sendto(b"\0\4\0\1" if len(data) < 516 else b"\0\5\0\0enough\0", server)
        return data[4:]


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port of 127.0.0.1 that is free, another one at each call.

    It is none of those that the kernel gives to sockets without a number, and none that another process of the test run
    chooses: other tests run at the same time, and one of their sockets might get it before the server does.
    """
    highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(_LOWEST_PORT + process, highest, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    while True:
        port = secrets.choice(ports)
        if port in _taken_ports:
            continue
        with socket.socket(socket.AF_INET, kind) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _taken_ports.add(port)
            return port


@contextmanager
def refusing_port() -> Iterator[int]:
    """A TCP port of 127.0.0.1 that refuses connections: a socket keeps it from other programs, and does not listen."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def run_to_end(*command: str | Path, cwd: Path, seconds: float = 60) -> "subprocess.CompletedProcess[str]":
    """Run a command, and wait for the processes that it leaves behind, too: a daemon is still at work when twistd ends.

    :return: what ``subprocess.run`` returns.
    """
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as pipe:
        with open(write_end, "wb"):
            completed = subprocess.run(
                [str(part) for part in command],
                cwd=cwd,
                env=clean(),
                text=True,
                capture_output=True,
                timeout=seconds,
                check=False,
                pass_fds=(write_end,),
            )
        assert select.select([pipe], [], [], seconds)[0], "one of its processes goes on"
    return completed
