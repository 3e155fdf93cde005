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
    """Its own copy of the files."""
    _program: Program | None = field(default=None, init=False)

    @property
    def program(self) -> Program:
        """The server, which has been started."""
        assert self._program is not None
        return self._program

    @property
    def configuration(self) -> Path:
        """The file, for commands."""
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
        self._program = self.run_later(*command, name="bootfw", environment=modules)
        self.program.wait_until_bound(*ports, seconds=SECONDS)
        self.program.wait_until(control.exists, SECONDS, "its control socket")

    def run_later(self, *command: str | os.PathLike[str], name: str = "", **how: Any) -> Program:
        """A program that goes on while the test does, on a host of that name.

        :param how: see Host.start().
        """
        return self.host.start(*command, name=name or Path(command[0]).name, hostname=self.name, **how)

    def command(self, *words: str, code: int = 0) -> str:
        """What the ``bootfw`` command prints on this host; it has to end with *code*."""
        done = self.run_later(
            "env", f"PYTHONPATH={self.cluster.directory}", _COMMAND, *words, "-c", self.configuration, name="command"
        )
        assert done.wait(SECONDS) == code, done.output
        return done.output

    def status(self) -> dict[str, Any]:
        """What ``bootfw status --json`` prints, without a process for it."""
        (record,) = RunningServer(self.state / CONTROL_SOCKET).call("status")
        return record

    def kill(self) -> None:
        """End it by kill -9, with its workers."""
        self.program.send(signal.SIGKILL)
        self.program.wait(SECONDS)

    def pause(self) -> None:
        """SIGSTOP to all its processes."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to all its processes."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        children = Path(f"/proc/{self.program.pid}/task/{self.program.pid}/children").read_text().split()
        for pid in (self.program.pid, *map(int, children)):
            os.kill(pid, number)

    def unplug(self) -> None:
        """Pull the cable of its host: it reaches neither the clients nor the database."""
        self.cluster.lab.switch.ip("link", "set", self.host.name, "down")

    def plug(self) -> None:
        """Put the cable in again."""
        self.cluster.lab.switch.ip("link", "set", self.host.name, "up")

    def cut_database(self) -> None:
        """Drop what its host and the database send to each other. Neither end is told."""
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

    def serves(self, name: str, content: bytes) -> None:
        """All nodes have such a file, as rsync -t would copy it."""
        now = time.time() - 60
        for node in self.nodes:
            path = node.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (now, now))

    def heal(self) -> None:
        """Undo cut_database(), and whatever else the switch drops."""
        self.lab.switch.run("nft", "flush", "ruleset", seconds=10)


@contextmanager
def cluster_of(lab: Lab, directory: Path, names: Sequence[str] = tuple(ADDRESSES)) -> Iterator[Cluster]:
    """Hosts for nodes of these names, and a running PostgreSQL. No node is started.

    :param directory: takes the configurations and the files of the nodes.
    """
    need("unshare")
    need("nft")
    short = Path(tempfile.mkdtemp(prefix="bootfw-"))
    short.chmod(0o755)  # PostgreSQL runs as another user
    install_plugin(POSTGRESQL, directory)
    try:
        (short / "pg").mkdir()
        host = lab.host("database", f"{DATABASE}/24")
        server = Server.make(short / "pg", ("ip", "netns", "exec", host.namespace))
        server.configure(f"listen_addresses = '{DATABASE}'", "host all all 10.77.0.0/24 trust")
        server.start()
        try:
            server.run("CREATE DATABASE bootfw")
            made = Cluster(lab, directory, server)
            for name in names:
                address = ADDRESSES[name]
                (root := directory / f"files-{name}").mkdir()
                (state := short / name).mkdir()
                made.nodes.append(Node(made, name, address, lab.host(name, f"{address}/24"), state, root))
            yield made
        finally:
            if server.is_running:
                server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(short)
