"""A running server with a client beside it, into whose boots a test seeds a failure."""

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from bootfw.attempts.attempt import BootAttempt, Verdict
from bootfw.attempts.record import attempt_of
from bootfw.cli import main as command
from bootfw.cli.running import RunningServer
from bootfw.config.state import CONTROL_SOCKET

from .lab import Host, Lab, Program
from .service import BOOTFW

MAC = "52:54:00:99:00:01"
"""Of the client host."""

SERVER, CLIENT = "10.77.0.1", "10.77.0.9"

SECONDS = 60
"""Patience with a client program, while other tests keep the cores busy."""

_COMMAND = str(Path(sys.executable).with_name("bootfw"))

PROXY = """
[dhcp]
mode = "proxy"
"""

ADDRESSES = """
[dhcp]
mode = "server"
probe-seconds = 0
[[dhcp.subnet]]
network = "10.77.0.0/24"
pool = ["10.77.0.100-10.77.0.110"]
"""

IMPATIENT = """
[watchdog]
use = "adaptive"
first-seconds = 0.3
patience-seconds = 1
"""
"""A transfer is given up after a second or two."""


@define(eq=False)
class Scene:
    """A lab with a server, whose files are in ``root``, and a client host."""

    lab: Lab
    directory: Path
    server: Host = field(init=False)
    client: Host = field(init=False)
    root: Path = field(init=False)
    running: Program = field(init=False)
    _config: Path = field(init=False)
    _asking: Path = field(init=False)
    """The configuration of the commands that read the records."""
    state: Path = field(init=False)
    """The state directory. Its name is short: the control socket's has to be."""

    def __attrs_post_init__(self) -> None:
        self.server = self.lab.host("server", f"{SERVER}/24")
        self.client = self.lab.host("client", f"{CLIENT}/24")
        self.client.ip("link", "set", "eth0", "address", MAC)
        self.state = Path(tempfile.mkdtemp(prefix="bootfw-"))
        self.root = self.directory / "served"
        self.root.mkdir()
        self._config, self._asking = self.directory / "bootfw.toml", self.directory / "asking.toml"

    def close(self) -> None:
        """Remove what is not in the directory of the test."""
        shutil.rmtree(self.state)

    def serves(self, name: str, content: bytes | str = b"content") -> None:
        """There is such a file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def names(self, **files: str) -> str:
        """The configuration of by-architecture; underscores in the architecture for hyphens, but in x86_64."""
        lines = [f'"{name.replace("_", "-").replace("x86-64", "x86_64")}" = "{file}"' for name, file in files.items()]
        return "\n".join(["[[resolver]]", 'use = "by-architecture"', "[resolver.files]", *lines]) + "\n"

    def starts(
        self, *parts: str, http: str = "", tftp: str = "", silent: float = 10, mount: str = "", backend: str = ""
    ) -> None:
        """The server runs.

        :param parts: of the configuration: PROXY or ADDRESSES, resolvers.
        :param http: of [http] beside its port.
        :param tftp: of [tftp].
        :param silent: seconds after which a machine that has not booted has failed; the steps of a test are seconds
            apart while others keep the cores busy.
        :param mount: a shell command that is run before, in the mount namespace of the server.
        :param backend: more backends, before that of ``root``.
        """
        self._config.write_text(
            f"""
[bootfw]
state-dir = "{self.state}"
workers = 1
[boots]
quiet-seconds = 1
silent-seconds = {silent}
[web]
listen = []
[http]
listen = ["0.0.0.0:80"]
{http}
[tftp]
{tftp}
{backend}
[[backend]]
use = "directory"
root = "{self.root}"
{"".join(parts)}
"""
        )
        modules = {"PYTHONPATH": os.pathsep.join([str(self.directory), os.environ.get("PYTHONPATH", "")])}
        words = (*BOOTFW, "-c", self._config)
        self.running = self.server.start(*words, name="bootfw", first=mount, environment=modules)
        # Where the server has a mount namespace of its own, its state may be there.
        self._asking.write_text(f'[bootfw]\nstate-dir = "{self._seen_state()}"\n')
        self.running.wait_until(lambda: "every wanted socket is bound" in self.running.output, SECONDS, "it is ready")

    def _seen_state(self) -> Path:
        return Path(f"/proc/{self.running.pid}/root{self.state}")

    def inside(self, shell: str) -> None:
        """Run a shell command in the mount namespace of the server."""
        ran = self.server.run("nsenter", f"--target={self.running.pid}", "--mount", "sh", "-c", shell, seconds=SECONDS)
        assert ran.exit_code is not None, ran.output

    def probes(self, profile: str, *arguments: str) -> None:
        """Boot as firmware of this profile does, with ``bootfw probe``."""
        where = () if SERVER in arguments else ("-i", "eth0")
        self.client.run(_COMMAND, "probe", *where, "--as", profile, "--mac", MAC, *arguments, seconds=SECONDS)

    def leases(self) -> None:
        """Take an address with ``bootfw probe --lease``; the machine is its default one."""
        self.client.run(_COMMAND, "probe", "-i", "eth0", "--as", "bios", "--lease", seconds=SECONDS)

    def runs(self, *words: str | Path, seconds: str = "30") -> None:
        """A program of the client, for so long at most."""
        self.client.run("timeout", "--signal=KILL", seconds, *words, seconds=SECONDS)

    def gets(self, url: str, *options: str | Path, seconds: str = "30", into: str = "/dev/null") -> None:
        """Fetch with curl."""
        self.runs("curl", "--silent", "--show-error", "--output", into, *options, url, seconds=seconds)

    def drops(self, rule: str) -> None:
        """From now on the switch drops these frames, in the words of nft."""
        self.lab.drop(rule)

    def hangs_at(self, address: str, port: int) -> None:
        """A service accepts connections there, and never answers."""
        host = self.lab.host("hangs", f"{address}/24")
        program = "import socket, time; s = socket.create_server(('0.0.0.0', %d)); print('up', flush=True); "
        running = host.start(sys.executable, "-c", program % port + "time.sleep(600)", name="hangs")
        running.wait_for("up", SECONDS)

    def ended(self, machine: str = MAC, seconds: float = SECONDS) -> BootAttempt:
        """The record of the latest boot of *machine*, by ``bootfw show``, once there is a verdict."""

        running = RunningServer(self._seen_state() / CONTROL_SOCKET)
        give_up = time.monotonic() + seconds
        while True:
            verdicts = [record["verdict"] for record in running.call("boot", machine=machine)]
            if verdicts and Verdict.IN_PROGRESS.value not in verdicts:
                return attempt_of(self._said("show", machine)[0])
            assert time.monotonic() < give_up, f"no verdict on the boot of {machine}: {verdicts}"
            time.sleep(0.2)

    def listed(self) -> list[BootAttempt]:
        """All records, by ``bootfw boots``."""
        return [attempt_of(record) for record in self._said("boots")]

    def _said(self, *words: str) -> Any:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            command.main([*words, "-c", str(self._asking), "--json"])
        return json.loads(out.getvalue() or "[]")


@frozen
class Seeded:
    """A failure."""

    name: str
    seed: Callable[[Scene], str | None]
    """Starts the server, seeds the failure, and boots. Returns what the machine is called, where that is not MAC."""
    verdict: str
    cause: str
    """Key of the symptom."""
    words: tuple[str, ...] = ()
    """What the sentence has to contain."""
    slow: bool = False
    """It waits for timeouts of its client, or real firmware shows the same: only ``make firmware`` has it."""
