"""Connected network namespaces: servers in some, simulated machines in another.

The namespaces have no names: the kernel removes them when no process is in them and none has them open. So nothing is
left of them when this process ends, even if it is killed.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from attrs import frozen

from bootfw.storm.sockets import StormError

_CLONE_NEWNET = 0x40000000  # <sched.h>; Python has os.setns() and os.unshare() from 3.12 on
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_libc = ctypes.CDLL(None, use_errno=True)

NEIGHBOURS = 65536
"""Entries of the kernel's neighbour table: one for each address of the largest network of a lab (/16)."""

STOP_SECONDS = 10.0
"""How long a server has to end after SIGTERM."""

_KILL_GROUP = 'read -r _; kill -s KILL -- "-$1"'
"""A shell script that kills a process group when its standard input ends."""

_RESTORE = 'read -r _; while [ $# -gt 0 ]; do echo "$2" >"$1"; shift 2; done'
"""A shell script that writes each value to the file before it in its arguments when its standard input ends."""


@frozen
class Namespace:
    """A network namespace."""

    descriptor: int
    """Holds it open."""

    @property
    def path(self) -> str:
        """A file that is the namespace, for ip(8)."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def enter(self) -> None:
        """Move this thread into the namespace, for the sockets that it opens and the programs that it starts."""
        _call(_libc.setns, self.descriptor, _CLONE_NEWNET)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread in the namespace until the context ends."""
        with open("/proc/thread-self/ns/net") as before:
            self.enter()
            try:
                yield
            finally:
                _call(_libc.setns, before.fileno(), _CLONE_NEWNET)

    def ip(self, *words: str) -> None:
        """Run ip(8) in the namespace.

        :raise StormError: it fails, or is not installed.
        """
        with self.entered():
            _run("ip", *words)


@frozen
class LabServer:
    """The namespace and the address of one server in a lab."""

    namespace: Namespace
    address: str
    """Of its ``eth0``."""

    @contextlib.contextmanager
    def running(
        self, command: Sequence[str | Path], log: Path, directory: Path | None = None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a server in its namespace until the context ends.

        :param log: the file for its output.
        :param directory: its working directory; None: that of this process.
        """
        with log.open("wb") as output, self.namespace.entered():
            process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
                start_new_session=True,
            )
        # Its standard input ends when this process ends, even by SIGKILL, and it kills the server then.
        guard = subprocess.Popen(
            ["sh", "-c", _KILL_GROUP, "sh", str(process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            yield process
        finally:
            guard.kill()
            guard.communicate()
            _end(process)


@frozen
class Lab:
    """The namespaces and addresses that open_lab() has created."""

    servers: tuple[LabServer, ...]
    machines: Namespace
    interface: str
    """The interface of the machines."""
    network: IPv4Network


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends.

    :param parent: the id of the process that has forked this one. If it has ended before this call, this process ends
        now: the kernel sends the signal only for a parent that ends later.
    """
    _call(_libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def open_lab(network: str = "10.77.0.0/16", loss: float = 0.0, servers: int = 1) -> Iterator[Lab]:
    """Create the namespaces, and remove them at the end.

    :param network: IPv4; the servers get its first addresses.
    :param loss: the share of TCP segments that are lost, in each direction. The driver loses UDP datagrams itself.
    :param servers: how many there are.
    :raise StormError: it needs root, or ip(8) or nft(8) is missing.
    """
    net = IPv4Network(network)
    with contextlib.ExitStack() as stack:
        hosts = tuple(LabServer(_new_namespace(stack), str(net[1 + number])) for number in range(servers))
        machines = _new_namespace(stack)
        if servers == 1:
            _connect(hosts[0].namespace, "eth0", machines, "eth0")
        else:
            switch = _new_namespace(stack)
            switch.ip("link", "add", "switch", "type", "bridge")
            switch.ip("link", "set", "switch", "up")
            for number, end in enumerate((machines, *(host.namespace for host in hosts))):
                _connect(end, "eth0", switch, f"port{number}")
                switch.ip("link", "set", f"port{number}", "master", "switch", "txqueuelen", "10000", "up")
        for host in hosts:
            host.namespace.ip("address", "add", f"{host.address}/{net.prefixlen}", "dev", "eth0")
        stack.enter_context(_larger_neighbour_table())
        for namespace in (*(host.namespace for host in hosts), machines):
            namespace.ip("link", "set", "eth0", "txqueuelen", "10000", "up")
        machines.ip("link", "set", "eth0", "promisc", "on")
        machines.ip("route", "add", str(net), "dev", "eth0")
        with machines.entered():
            _run("nft", _rules(loss))
        yield Lab(hosts, machines, "eth0", net)


def _new_namespace(stack: contextlib.ExitStack) -> Namespace:
    """Create a namespace with its loopback interface up; *stack* closes its descriptor."""
    with open("/proc/thread-self/ns/net") as before:
        try:
            _call(_libc.unshare, _CLONE_NEWNET)
        except OSError as error:
            needed = "" if os.geteuid() == 0 else "; network namespaces need root"
            raise StormError(f"no network namespace: {error.strerror}{needed}") from None
        namespace = Namespace(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        _call(_libc.setns, before.fileno(), _CLONE_NEWNET)
    stack.callback(os.close, namespace.descriptor)
    namespace.ip("link", "set", "lo", "up")
    return namespace


def _connect(first: Namespace, name: str, second: Namespace, other_name: str) -> None:
    """Create an interface in each of two namespaces, and connect the two (veth(4))."""
    first.ip("link", "add", name, "type", "veth", "peer", "name", other_name, "netns", second.path)


def _rules(loss: float) -> str:
    """Return nftables rules for the namespace of the machines.

    A frame to the MAC of any machine counts as one for this host: the interface has one MAC, and the kernel would drop
    frames to others. Some TCP segments are dropped.
    """
    lines = [
        "add table netdev storm",
        'add chain netdev storm in { type filter hook ingress device "eth0" priority 0; }',
    ]
    if loss:
        dropped = f"meta l4proto tcp numgen random mod 10000 < {round(loss * 10000)} drop"
        lines.append(f"add rule netdev storm in {dropped}")
        lines.append("add table ip storm")
        lines.append("add chain ip storm out { type filter hook output priority 0; }")
        lines.append(f"add rule ip storm out {dropped}")
    lines.append("add rule netdev storm in meta pkttype set host")
    return "; ".join(lines)


@contextlib.contextmanager
def _larger_neighbour_table() -> Iterator[None]:
    """Raise the limits of the neighbour table to NEIGHBOURS until the context ends.

    The kernel has one neighbour table for all network namespaces, with a limit of 1,024 entries, and drops packets to
    further neighbours. Only the host's own namespace has the setting; where it can't be changed, it stays as it is.
    """
    before: list[str] = []
    # The largest comes first, and last when they are set back: the kernel expects them in this order.
    for key in ("gc_thresh3", "gc_thresh2", "gc_thresh1"):
        path = Path("/proc/sys/net/ipv4/neigh/default") / key
        with contextlib.suppress(OSError):
            value = path.read_text().strip()
            if int(value) < NEIGHBOURS:
                path.write_text(str(NEIGHBOURS))
                before = [str(path), value, *before]
    if not before:
        yield
        return
    # Another process sets them back, even if this one is killed.
    guard = subprocess.Popen(["sh", "-c", _RESTORE, "sh", *before], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        guard.communicate()


def _run(*command: str) -> None:
    """Run a program to its end.

    :raise StormError: it fails, or is not installed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        package = {"ip": "iproute2", "nft": "nftables"}.get(command[0], command[0])
        raise StormError(f"the program {command[0]} is missing (Debian: {package})") from None
    if done.returncode:
        needed = "" if os.geteuid() == 0 else "; network namespaces need root"
        raise StormError(f"{' '.join(command[:6])} ...: {done.stderr.strip()}{needed}")


def _call(function: "ctypes._NamedFuncPointer", *arguments: int) -> None:
    """Call a function of the C library that returns 0 on success.

    :raise OSError: it has failed.
    """
    if function(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a server and its process group: by SIGTERM, after STOP_SECONDS by SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
