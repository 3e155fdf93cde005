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
    """A lab with a server that serves the files in ``root``, and a client host."""

    lab: Lab
    directory: Path
    server: Host = field(init=False)
    client: Host = field(init=False)
    root: Path = field(init=False)
    program: Program = field(init=False)
    _server_config: Path = field(init=False)
    _command_config: Path = field(init=False)
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
        self._server_config, self._command_config = self.directory / "bootfw.toml", self.directory / "asking.toml"

    def close(self) -> None:
        """Remove what is not in the directory of the test."""
        shutil.rmtree(self.state)

    def add_file(self, name: str, content: bytes | str = b"content") -> None:
        """Put a file into ``root``."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def by_architecture(self, **files: str) -> str:
        """The configuration of by-architecture; underscores in the architecture for hyphens, but in x86_64."""
        lines = [f'"{name.replace("_", "-").replace("x86-64", "x86_64")}" = "{file}"' for name, file in files.items()]
        return "\n".join(["[[resolver]]", 'use = "by-architecture"', "[resolver.files]", *lines]) + "\n"

    def start_server(
        self, *parts: str, http: str = "", tftp: str = "", silent: float = 10, mount: str = "", backend: str = ""
    ) -> None:
        """Start the server, and wait until it is ready.

        :param parts: of the configuration: PROXY or ADDRESSES, resolvers.
        :param http: of [http] beside its port.
        :param tftp: of [tftp].
        :param silent: seconds after which a machine that has not booted has failed; the steps of a test are seconds
            apart while others keep the cores busy.
        :param mount: a shell command that is run before, in the mount namespace of the server.
        :param backend: more backends, before that of ``root``.
        """
        self._server_config.write_text(
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
        environment = {"PYTHONPATH": os.pathsep.join([str(self.directory), os.environ.get("PYTHONPATH", "")])}
        command_line = (*BOOTFW, "-c", self._server_config)
        self.program = self.server.start(*command_line, name="bootfw", setup_command=mount, environment=environment)
        # Where the server has a mount namespace of its own, its state may be there.
        self._command_config.write_text(f'[bootfw]\nstate-dir = "{self._state_path()}"\n')
        self.program.wait_until(lambda: "every wanted socket is bound" in self.program.output, SECONDS, "it is ready")

    def _state_path(self) -> Path:
        return Path(f"/proc/{self.program.pid}/root{self.state}")

    def run_in_server_mounts(self, shell: str) -> None:
        """Run a shell command in the mount namespace of the server."""
        result = self.server.run(
            "nsenter", f"--target={self.program.pid}", "--mount", "sh", "-c", shell, seconds=SECONDS
        )
        assert result.exit_code is not None, result.output

    def probe(self, profile: str, *arguments: str) -> None:
        """Boot as firmware of this profile does, with ``bootfw probe``."""
        target = () if SERVER in arguments else ("-i", "eth0")
        self.client.run(_COMMAND, "probe", *target, "--as", profile, "--mac", MAC, *arguments, seconds=SECONDS)

    def run_on_client(self, *command: str | Path, seconds: str = "30") -> None:
        """Run a program on the client, for *seconds* at most."""
        self.client.run("timeout", "--signal=KILL", seconds, *command, seconds=SECONDS)

    def fetch(self, url: str, *options: str | Path, seconds: str = "30", output: str = "/dev/null") -> None:
        """Fetch with curl."""
        self.run_on_client("curl", "--silent", "--show-error", "--output", output, *options, url, seconds=seconds)

    def drop(self, rule: str) -> None:
        """Have the switch drop frames from now on; *rule* as nft has it."""
        self.lab.drop(rule)

    def start_hanging_service(self, address: str, port: int) -> None:
        """Start a service that accepts connections at *address*, and never answers."""
        host = self.lab.host("hangs", f"{address}/24")
        program = "import socket, time; s = socket.create_server(('0.0.0.0', %d)); print('up', flush=True); "
        service = host.start(sys.executable, "-c", program % port + "time.sleep(600)", name="hangs")
        service.wait_for("up", SECONDS)

    def finished_attempt(self, machine: str = MAC, seconds: float = SECONDS) -> BootAttempt:
        """The record of the latest boot of *machine*, by ``bootfw show``, once there is a verdict."""

        control = RunningServer(self._state_path() / CONTROL_SOCKET)
        deadline = time.monotonic() + seconds
        while True:
            verdicts = [record["verdict"] for record in control.call("boot", machine=machine)]
            if verdicts and Verdict.IN_PROGRESS.value not in verdicts:
                return attempt_of(self._json_output("show", machine)[0])
            assert time.monotonic() < deadline, f"no verdict on the boot of {machine}: {verdicts}"
            time.sleep(0.2)

    def attempts(self) -> list[BootAttempt]:
        """The records of all boots, by ``bootfw boots``."""
        return [attempt_of(record) for record in self._json_output("boots")]

    def _json_output(self, *arguments: str) -> Any:
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            command.main([*arguments, "-c", str(self._command_config), "--json"])
        return json.loads(output.getvalue() or "[]")


@frozen
class SeededFailure:
    """A failure that a test seeds into a boot, and the verdict that bootfw shall reach."""

    name: str
    seed: Callable[[Scene], str | None]
    """Starts the server and boots with the failure. Returns the machine's identifier, unless it is MAC."""
    verdict: str
    cause: str
    """Key of the symptom."""
    expected_words: tuple[str, ...] = ()
    """Words that the sentence of the cause has to contain."""
    slow: bool = False
    """It waits for timeouts of its client, or real firmware shows the same: only ``make firmware`` has it."""
