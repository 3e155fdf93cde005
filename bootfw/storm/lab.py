"""Two network namespaces and a wire between them: a server in one, simulated machines in the other."""

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

_CLONE_NEWNET = 0x40000000  # <sched.h>; Python has os.setns() from 3.12 on
NEIGHBOURS = 65536
"""Entries of the kernel's neighbour table in a lab: every address of its network may be a machine's."""

STOP_SECONDS = 10.0
"""How long a server has to end after SIGTERM."""


@frozen
class Lab:
    """Names and addresses of the lab that open_lab() has made."""

    server: str
    """The namespace of servers."""
    machines: str
    """The namespace of the machines."""
    interface: str
    """The interface of the machines."""
    address: str
    """The address of the server."""
    network: IPv4Network

    def enter_machines(self) -> None:
        """Move this thread to the machines' namespace; sockets that it opens from now on belong there."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self.machines}") as there:
            if libc.setns(there.fileno(), _CLONE_NEWNET):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))

    @contextlib.contextmanager
    def running(
        self, command: Sequence[str | Path], log: Path, directory: Path | None = None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a server in its namespace meanwhile.

        :param log: gets all that it prints.
        :param directory: its working directory; None: this process's.
        """
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.server, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                _end(process)


@contextlib.contextmanager
def open_lab(network: str = "10.77.0.0/16", loss: float = 0.0) -> Iterator[Lab]:
    """Make the namespaces, and remove them at the end.

    :param network: the server has its first address.
    :param loss: the share of TCP segments that the network loses, in each direction; the driver loses those of UDP.
    :raise StormError: this process may not, or a program is missing.
    """
    net = IPv4Network(network)
    name = f"storm-{os.getpid()}"
    lab = Lab(f"{name}-server", f"{name}-machines", "eth0", str(net[1]), net)
    with contextlib.ExitStack() as stack:
        for namespace in (lab.server, lab.machines):
            _run("ip", "netns", "add", namespace)
            stack.callback(_run, "ip", "netns", "delete", namespace)
            _run("ip", "-n", namespace, "link", "set", "lo", "up")
        _run(
            *("ip", "-n", lab.server, "link", "add", "eth0", "type", "veth"),
            *("peer", "name", "eth0", "netns", lab.machines),
        )
        _run("ip", "-n", lab.server, "address", "add", f"{lab.address}/{net.prefixlen}", "dev", "eth0")
        stack.enter_context(_larger_neighbour_table())
        for namespace in (lab.server, lab.machines):
            _run("ip", "-n", namespace, "link", "set", "eth0", "txqueuelen", "10000", "up")
        _run("ip", "-n", lab.machines, "link", "set", "eth0", "promisc", "on")
        _run("ip", "-n", lab.machines, "route", "add", str(net), "dev", "eth0")
        _run("ip", "netns", "exec", lab.machines, "nft", _rules(loss))
        yield lab


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
    with contextlib.ExitStack() as stack:
        # The largest comes first, and last when they are set back: the kernel expects them in this order.
        for key in ("gc_thresh3", "gc_thresh2", "gc_thresh1"):
            path = Path("/proc/sys/net/ipv4/neigh/default") / key
            with contextlib.suppress(OSError):
                before = path.read_text()
                if int(before) < NEIGHBOURS:
                    path.write_text(str(NEIGHBOURS))
                    stack.callback(path.write_text, before)
        yield


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


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a server and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
