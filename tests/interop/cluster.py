"""Three bootfw servers that share a PostgreSQL server, each on a host of its own, as an operator sets nodes up."""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field
from installing import POSTGRESQL, install_plugin
from postgresserver import Server

from bootfw.cli.running import RunningServer
from bootfw.config.state import CONTROL_SOCKET

from .lab import Host, Lab, Program, need
from .service import BOOTFW

DATABASE = "10.77.0.2"
"""Address of the host with the database."""

ADDRESSES = {"node1": "10.77.0.11", "node2": "10.77.0.12", "node3": "10.77.0.13"}
"""Of the nodes, by host name."""

SECONDS = 60
"""Patience with programs, while other tests keep the cores busy."""

_COMMAND = str(Path(sys.executable).with_name("bootfw"))

_NODE = """
[bootfw]
state-dir = "{state}"
workers = {workers}
requests-per-second = 0
[tftp]
listen = ["0.0.0.0:69"]
[http]
listen = ["0.0.0.0:8069"]
[web]
listen = ["0.0.0.0:8067"]
[store]
use = "postgresql"
conninfo = "host={database} dbname=bootfw user=postgres"
[[backend]]
use = "directory"
root = "{root}"
"""

FILES_ONLY = """
[dhcp]
mode = "off"
"""
"""Nodes that answer no DHCP."""


def _accepts_connections(control: Path) -> bool:
    """Return whether a server listens on a control socket, which it has created some time before."""
    try:
        RunningServer(control)
    except OSError:
        return False
    return True


@define(eq=False)
class Node:
    """One of the servers, and its host."""

    cluster: "Cluster"
    name: str
    """Host name."""
    address: str
    host: Host
    state: Path
    """The state directory. Its name is short: that of the control socket has to be."""
    root: Path
    """The directory that it serves: each node has its own copy of the files."""
    _program: Program | None = field(default=None, init=False)

    @property
    def program(self) -> Program:
        """The server, which has been started."""
        assert self._program is not None
        return self._program

    @property
    def configuration(self) -> Path:
        """The path of its configuration."""
        return self.cluster.directory / f"{self.name}.toml"

    def start(self, *parts: str, workers: int = 1, ports: Sequence[int] = (69,)) -> None:
        """Start the server; returns when it listens on *ports*.

        :param parts: of the configuration, beside TFTP, HTTP, the pages, the store and the files; none: FILES_ONLY, or
            the configuration that it had before.
        """
        if parts or not self.configuration.exists():
            text = _NODE.format(state=self.state, root=self.root, database=DATABASE, workers=workers)
            self.configuration.write_text(text + "".join(parts or (FILES_ONLY,)))
        command = (*BOOTFW, "-c", self.configuration)
        control = self.state / CONTROL_SOCKET
        control.unlink(missing_ok=True)  # of a server that was killed
        modules = {"PYTHONPATH": str(self.cluster.directory)}
        self._program = self.start_program(*command, name="bootfw", environment=modules)
        self.program.wait_until_bound(*ports, seconds=SECONDS)
        self.program.wait_until(lambda: _accepts_connections(control), SECONDS, "its control socket")

    def start_program(self, *command: str | os.PathLike[str], name: str = "", **options: Any) -> Program:
        """Start a program on the host of this node.

        :param how: see Host.start().
        """
        return self.host.start(*command, name=name or Path(command[0]).name, hostname=self.name, **options)

    def command(self, *arguments: str, code: int = 0) -> str:
        """Run the ``bootfw`` command on this host and return its output; it has to end with *code*."""
        program = self.start_program(
            "env",
            f"PYTHONPATH={self.cluster.directory}",
            _COMMAND,
            *arguments,
            "-c",
            self.configuration,
            name="command",
        )
        assert program.wait(SECONDS) == code, program.output
        return program.output

    def status(self) -> dict[str, Any]:
        """What ``bootfw status --json`` prints, without a process for it."""
        (record,) = RunningServer(self.state / CONTROL_SOCKET).call("status")
        return record

    def kill(self) -> None:
        """Kill the server by SIGKILL; its workers end with it."""
        self.program.send(signal.SIGKILL)
        self.program.wait(SECONDS)

    def pause(self) -> None:
        """Send SIGSTOP to all processes of the server."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT to all processes of the server."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        children = Path(f"/proc/{self.program.pid}/task/{self.program.pid}/children").read_text().split()
        for pid in (self.program.pid, *map(int, children)):
            os.kill(pid, number)

    def unplug(self) -> None:
        """Take the link of its host down: it reaches neither the clients nor the database."""
        self.cluster.lab.switch.ip("link", "set", self.host.name, "down")

    def plug_in(self) -> None:
        """Take the link of its host up again."""
        self.cluster.lab.switch.ip("link", "set", self.host.name, "up")

    def cut_database(self) -> None:
        """Drop what its host and the database send to each other. Neither end gets an error."""
        for direction in (f"ip saddr {self.address} tcp dport 5432", f"ip daddr {self.address} tcp sport 5432"):
            self.cluster.lab.drop(direction)


@define(eq=False)
class Cluster:
    """Nodes, and the database that they share, on the lab's segment, 10.77.0.0/24."""

    lab: Lab
    directory: Path
    server: Server
    """PostgreSQL, with a database "bootfw"."""
    nodes: list[Node] = field(factory=list, init=False)

    def start(self, *parts: str, workers: int = 1, ports: Sequence[int] = (69,)) -> None:
        """Start all nodes, with the same configuration; see Node.start()."""
        for node in self.nodes:
            node.start(*parts, workers=workers, ports=ports)

    def add_file(self, name: str, content: bytes) -> None:
        """Put a file into the directory of each node, with the same time, as rsync -t copies it."""
        now = time.time() - 60
        for node in self.nodes:
            path = node.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (now, now))

    def stop_dropping(self) -> None:
        """Let the switch forward all frames again: undo cut_database() and lab.drop()."""
        self.lab.switch.run("nft", "flush", "ruleset", seconds=10)


@contextmanager
def cluster_of(lab: Lab, directory: Path, names: Sequence[str] = tuple(ADDRESSES)) -> Iterator[Cluster]:
    """Hosts for nodes of these names, and a running PostgreSQL. No node is started.

    :param directory: takes the configurations and the files of the nodes.
    """
    need("unshare")
    need("nft")
    short_directory = Path(tempfile.mkdtemp(prefix="bootfw-"))
    short_directory.chmod(0o755)  # PostgreSQL runs as another user
    install_plugin(POSTGRESQL, directory)
    try:
        (short_directory / "pg").mkdir()
        host = lab.host("database", f"{DATABASE}/24")
        server = Server.make(short_directory / "pg", ("ip", "netns", "exec", host.namespace))
        server.configure(f"listen_addresses = '{DATABASE}'", "host all all 10.77.0.0/24 trust")
        server.start()
        try:
            server.run("CREATE DATABASE bootfw")
            cluster = Cluster(lab, directory, server)
            for name in names:
                address = ADDRESSES[name]
                (root := directory / f"files-{name}").mkdir()
                (state := short_directory / name).mkdir()
                cluster.nodes.append(Node(cluster, name, address, lab.host(name, f"{address}/24"), state, root))
            yield cluster
        finally:
            if server.is_running:
                server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(short_directory)
