"""Network namespaces with a wire between them: servers in some, simulated machines in another.

The namespaces have no names: they exist as long as a process is in them, or holds them open. So they end with the
process that has made them, however it ends.
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
"""Entries of the kernel's neighbour table in a lab: every address of its network may be a machine's."""

STOP_SECONDS = 10.0
"""How long a server has to end after SIGTERM."""

_KILL_GROUP = 'read -r _; kill -s KILL -- "-$1"'
"""A shell script that kills a process group when its standard input ends."""

_SET_BACK = 'read -r _; while [ $# -gt 0 ]; do echo "$2" >"$1"; shift 2; done'
"""One that writes to each file the value that follows it, then."""


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
        """Move this thread there; sockets that it opens and programs that it starts from now on belong there."""
        _call(_libc.setns, self.descriptor, _CLONE_NEWNET)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread there meanwhile."""
        with open("/proc/thread-self/ns/net") as before:
            self.enter()
            try:
                yield
            finally:
                _call(_libc.setns, before.fileno(), _CLONE_NEWNET)

    def ip(self, *words: str) -> None:
        """Run ip(8) there."""
        with self.entered():
            _run("ip", *words)


@frozen
class LabServer:
    """The place of one server in a lab."""

    namespace: Namespace
    address: str
    """Of its ``eth0``."""

    @contextlib.contextmanager
    def running(
        self, command: Sequence[str | Path], log: Path, directory: Path | None = None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a server in its namespace meanwhile. It is killed if this process ends without leaving the context.

        :param log: gets all that it prints.
        :param directory: its working directory; None: this process's.
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
    """The namespaces and addresses that open_lab() has made."""

    servers: tuple[LabServer, ...]
    machines: Namespace
    interface: str
    """The interface of the machines."""
    network: IPv4Network


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the one that has forked it ends.

    :param parent: the process id of that one; if it has ended already, this process ends now.
    """
    _call(_libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def open_lab(network: str = "10.77.0.0/16", loss: float = 0.0, servers: int = 1) -> Iterator[Lab]:
    """Make the namespaces, and remove them at the end.

    :param network: the servers have its first addresses.
    :param loss: the share of TCP segments that the network loses, in each direction; the driver loses those of UDP.
    :param servers: how many there are.
    :raise StormError: this process may not, or a program is missing.
    """
    net = IPv4Network(network)
    with contextlib.ExitStack() as stack:
        places = tuple(LabServer(_new_namespace(stack), str(net[1 + number])) for number in range(servers))
        machines = _new_namespace(stack)
        if servers == 1:
            _wire(places[0].namespace, "eth0", machines, "eth0")
        else:
            switch = _new_namespace(stack)
            switch.ip("link", "add", "switch", "type", "bridge")
            switch.ip("link", "set", "switch", "up")
            for number, end in enumerate((machines, *(place.namespace for place in places))):
                _wire(end, "eth0", switch, f"port{number}")
                switch.ip("link", "set", f"port{number}", "master", "switch", "txqueuelen", "10000", "up")
        for place in places:
            place.namespace.ip("address", "add", f"{place.address}/{net.prefixlen}", "dev", "eth0")
        stack.enter_context(_larger_neighbour_table())
        for namespace in (*(place.namespace for place in places), machines):
            namespace.ip("link", "set", "eth0", "txqueuelen", "10000", "up")
        machines.ip("link", "set", "eth0", "promisc", "on")
        machines.ip("route", "add", str(net), "dev", "eth0")
        with machines.entered():
            _run("nft", _rules(loss))
        yield Lab(places, machines, "eth0", net)


def _new_namespace(stack: contextlib.ExitStack) -> Namespace:
    """Make a namespace with its loopback interface up; *stack* closes it."""
    with open("/proc/thread-self/ns/net") as before:
        try:
            _call(_libc.unshare, _CLONE_NEWNET)
        except OSError as error:
            needed = "" if os.geteuid() == 0 else "; network namespaces need root"
            raise StormError(f"no network namespace: {error.strerror}{needed}") from None
        made = Namespace(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        _call(_libc.setns, before.fileno(), _CLONE_NEWNET)
    stack.callback(os.close, made.descriptor)
    made.ip("link", "set", "lo", "up")
    return made


def _wire(first: Namespace, name: str, second: Namespace, other_name: str) -> None:
    """Make an interface in each of two namespaces, and connect the two."""
    first.ip("link", "add", name, "type", "veth", "peer", "name", other_name, "netns", second.path)


def _rules(loss: float) -> str:
    """nftables rules: frames to the MAC of any machine are for this host; some TCP segments are lost."""
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
    """Have room for as many neighbours as a lab may have machines, meanwhile.

    The kernel has one neighbour table for all network namespaces, with a limit of 1,024 entries, and drops what is sent
    to any more. Only the host's own namespace has the setting; where it can't be changed, it stays as it is.
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
    guard = subprocess.Popen(["sh", "-c", _SET_BACK, "sh", *before], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        guard.communicate()


def _run(*command: str) -> None:
    """:raise StormError: it fails, or there is no such program."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        package = {"ip": "iproute2", "nft": "nftables"}.get(command[0], command[0])
        raise StormError(f"the program {command[0]} is missing (Debian: {package})") from None
    if done.returncode:
        needed = "" if os.geteuid() == 0 else "; network namespaces need root"
        raise StormError(f"{' '.join(command[:6])} ...: {done.stderr.strip()}{needed}")


def _call(function: "ctypes._NamedFuncPointer", *arguments: int) -> None:
    """Call a function of the C library.

    :raise OSError: it has failed.
    """
    if function(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a server and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
