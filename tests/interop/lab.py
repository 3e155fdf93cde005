"""Hosts on one Ethernet segment, each a network namespace of its own; the machine's own network is not touched.

A lab leaves nothing behind: its programs and namespaces go when the ``with`` block ends, however it ends. When the
test process is killed its programs die with it, and the next lab removes the namespaces.
"""

import contextlib
import ctypes
import functools
import itertools
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from attrs import frozen
from forks import Fork, can_fork

from bootfw.values import Address

from .slots import Slot

_NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000  # <sched.h>; os.setns() is there from Python 3.12 on
# <linux/if_packet.h>, <linux/if_ether.h>
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC, _ETH_P_ALL = 263, 1, 1, 3
_LOG_TAIL = 4000
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25  # seconds between two calls of the condition of wait_until()
_PLUGGED_AGAIN = "52:54:00:77:00:01"
# ECMA-48 section 5.4. In the last row SeaBIOS writes a line feed before it says again where the cursor is.
_CONTROL_SEQUENCE = re.compile(r"\n\x1b\[25;(?!0?1H)\d+H|\x1b\[[0-?]*[ -/]*[@-~]")
_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count(1)
_T = TypeVar("_T")


@functools.cache
def reason_unavailable() -> str:
    """Why there can be no lab on this machine, or ""."""
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    for program in ("ip", "ethtool", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    probe = f"bootfw-{os.getpid()}-probe"
    try:
        _ip("netns", "add", probe)
        try:
            _ip("-n", probe, "link", "set", "lo", "up")
        finally:
            _ip("netns", "delete", probe)
    except OSError as error:
        return f"network namespaces can't be used here: {error}"
    return ""


def need(name: str) -> None:
    """Skip the test when there is no such program, or no file at that absolute path."""
    if shutil.which(name) is None and not Path(name).is_file():
        pytest.skip(f"{name} is not installed: tools/install-clients installs it on Debian")


def wait_until(condition: Callable[[], _T], seconds: float, description: str) -> _T:
    """The first true answer of *condition*; TimeoutError, naming *what* was waited for, after *seconds*.

    Long waits call *condition* less often, since it may read a log or start a program: they take a twentieth longer.
    """
    began = time.monotonic()
    while not (result := condition()):
        seconds_waited = time.monotonic() - began
        if seconds_waited > seconds:
            raise TimeoutError(f"{description}: not within {seconds} s")
        time.sleep(min(max(_SHORTEST_PAUSE, seconds_waited / 20), _LONGEST_PAUSE))
    return result


@frozen(kw_only=True)
class Start:
    """How a program starts."""

    keyboard: bool = False
    """It can be typed to."""
    setup_command: str = ""
    """A shell command that runs before. The program has a mount namespace of its own, by ``ip netns exec``."""
    mounts_of_pid: int = 0
    """A process whose mount namespace and directory it has."""
    directory: Path | None = None
    environment: Mapping[str, str] = {}
    """Beside that of the test process."""
    hostname: str = ""
    """"": that of the machine."""


class Program:
    """A program running on a host. Its output, both streams, goes to a file."""

    def __init__(self, namespace: str, command: list[str], log: Path, start: "Start") -> None:
        self.log = log
        streams: dict[str, Any] = {
            "stdin": subprocess.PIPE if start.keyboard else subprocess.DEVNULL,
            "stderr": subprocess.STDOUT,
            "bufsize": 0,
            "cwd": start.directory,
            "env": {**os.environ, **start.environment},
        }
        # Killed when the test process is: nothing may outlive its lab. The exec chain keeps the process id.
        with log.open("wb") as out:
            if can_fork(command):
                self._process: subprocess.Popen[bytes] = Fork(
                    command,
                    namespace=namespace,
                    beside=start.mounts_of_pid,
                    first=start.setup_command,
                    hostname=start.hostname,
                    killed_with_parent=True,
                    stdout=out,
                    **streams,
                )
            else:
                prefix = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", namespace]
                if start.hostname:
                    prefix += ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', start.hostname]
                if start.mounts_of_pid:
                    prefix += ["nsenter", "--mount", "--wd", f"--target={start.mounts_of_pid}"]
                if start.setup_command:
                    prefix += ["sh", "-c", f'{start.setup_command} && exec "$@"', "sh"]
                self._process = subprocess.Popen([*prefix, *command], stdout=out, start_new_session=True, **streams)
        self.pid = self._process.pid

    @property
    def output(self) -> str:
        """What it has printed, without control sequences: SeaBIOS puts where the cursor is between any two letters."""
        return _CONTROL_SEQUENCE.sub("", self.log.read_text(errors="replace"))

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def type(self, text: str) -> None:
        """Give it this on its standard input, which it must have been started with: ``keyboard=True``."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())

    def wait_for(self, text: str, seconds: float, description: str = "") -> None:
        """Until it has printed *text*."""
        self.wait_until(lambda: text in self.output, seconds, description or f"{text!r} on the console")

    def wait(self, seconds: float) -> int:
        """Its exit code."""
        return self._process.wait(seconds)

    def wait_until(self, condition: Callable[[], bool], seconds: float, description: str) -> None:
        """Like the function, and fails at once when the program ends first."""
        wait_until(lambda: condition() or self.exit_code is not None, seconds, description)
        if not condition():
            raise AssertionError(
                f"{description}: {self.log.stem} ended with {self.exit_code}:\n{self.output[-_LOG_TAIL:]}"
            )

    def wait_until_bound(self, *ports: int, seconds: float = 90) -> None:
        """Until there is a socket on each of these UDP ports, in the program's namespace."""
        self.wait_until(
            lambda: _bound_ports(self.pid) >= set(ports), seconds, f"{self.log.stem} listens on {sorted(ports)}"
        )

    def send(self, signal_number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(signal_number)

    def stop(self, seconds: float = 10) -> int:
        """Send SIGTERM, and SIGKILL after *seconds*; returns the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _bound_ports(pid: int) -> set[int]:
    ports: set[int] = set()
    for table in ("udp", "udp6"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/net/{table}") as lines:
            next(lines)
            ports.update(int(line.split()[1].rpartition(":")[2], 16) for line in lines)
    return ports


class Host:
    """One namespace, with one interface, ``eth0``, on the lab's segment."""

    def __init__(self, lab: "Lab", name: str) -> None:
        self.name = name
        self.namespace = f"{lab.name}-{name}"
        self._lab = lab

    def start(self, *command: str | os.PathLike[str], name: str = "", **options: Any) -> Program:
        """A program that goes on while the test does.

        :param how: the fields of Start.
        """
        arguments = [os.fspath(argument) for argument in command]
        stem = f"{self.name}-{name or Path(arguments[0]).name}"
        log = self._lab.directory / f"{stem}-{next(_serial)}.log"
        program = Program(self.namespace, arguments, log, Start(**options))
        self._lab.programs.append(program)
        return program

    def run(self, *command: str | os.PathLike[str], seconds: float, **options: Any) -> Program:
        """A program that has ended; TimeoutExpired when it has not within *seconds*.

        :param how: the fields of Start.
        """
        program = self.start(*command, **options)
        program.wait(seconds)
        return program

    def ip(self, *arguments: str) -> None:
        _ip("-n", self.namespace, *arguments)

    def addresses(self) -> list[str]:
        """The IPv4 addresses of ``eth0`` now, such as ``10.77.0.1/24``."""
        result = subprocess.run(
            ["ip", "-n", self.namespace, "-4", "-o", "address", "show", "dev", "eth0"],
            check=True,
            capture_output=True,
            text=True,
        )
        return [line.split()[3] for line in result.stdout.splitlines()]

    def udp_socket(self, address: str = "", port: int = 0) -> socket.socket:
        """A socket of this host for use in the test process, with a timeout of 10 s.

        A socket belongs for good to the namespace that its thread was in when it was made.
        """
        with self.entered():
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(10)
        sock.bind((address, port))
        return sock

    def connection(self, address: Address) -> socket.socket:
        """A TCP connection from this host for use in the test process."""
        with self.entered():
            sock = socket.socket()
        sock.settimeout(10)
        sock.connect(address)
        return sock

    def packet_socket(self) -> socket.socket:
        """A socket that sends and receives whole Ethernet frames on ``eth0``, those for other stations too."""
        with self.entered():
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            sock.bind(("eth0", _ETH_P_ALL))
            promiscuous = struct.pack("IHH8x", socket.if_nametoindex("eth0"), _PACKET_MR_PROMISC, 0)
        sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, promiscuous)
        return sock

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        with open("/proc/thread-self/ns/net") as own_namespace, open(_NAMESPACES / self.namespace) as host_namespace:
            _setns(host_namespace.fileno())
            try:
                yield
            finally:
                _setns(own_namespace.fileno())


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Lab:
    """A segment with its hosts; skips the test where there can be none.

    The bridge that is the segment lives in a namespace too: ``lab.switch``.

    :param slot: what the lab's machines wait for; without one they start at once.
    """

    def __init__(self, directory: Path, slot: Slot | None = None) -> None:
        self.directory = directory
        self.slot = slot
        self.name = f"bootfw-{os.getpid()}-{next(_serial)}"
        self.programs: list[Program] = []
        self._namespaces: list[str] = []

    def __enter__(self) -> Self:
        if reason := reason_unavailable():
            pytest.skip(reason)
        _remove_stale_namespaces()
        try:
            self.switch = self._new_host("switch")
            # No spanning tree and no multicast snooping: a port forwards everything from its first moment on.
            self.switch.ip("link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
            self.switch.ip("link", "set", "br0", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the programs, last one first, and remove the namespaces with all that is in them."""
        while self.programs:
            self.programs.pop().stop()
        while self._namespaces:
            _ip("netns", "delete", self._namespaces.pop())
        if self.slot is not None:
            self.slot.give_back()

    def host(self, name: str, *addresses: str, segment: str = "br0", mac: str = "") -> Host:
        """A new host on the segment, with these addresses (``10.77.0.1/24``).

        :param mac: "": a random one.
        """
        host = self._new_host(name)
        self._plug(host, name, "eth0", segment, mac)
        _address(host, "eth0", addresses)
        return host

    def plug_again(self, host: Host, *addresses: str) -> None:
        """A new ``eth0`` for a host whose first one was deleted. It has the same hardware address, as a card has that
        is found again: others know it for half a minute."""
        self._plug(host, host.name, "eth0", "br0", _PLUGGED_AGAIN)
        _address(host, "eth0", addresses)

    def router(self, name: str, near: str, far: str) -> Host:
        """A new host with one address on the segment, and another on a second one, ``far``, which is made."""
        self.switch.ip("link", "add", "far", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        self.switch.ip("link", "set", "far", "up")
        host = self.host(name, near)
        self._plug(host, f"{name}-far", "eth1", "far")
        _address(host, "eth1", (far,))
        forwarding = host.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward", seconds=10)
        assert forwarding.exit_code == 0, forwarding.output
        return host

    def host_on_bad_cable(self, name: str, *addresses: str, seed: int) -> tuple[Host, Program]:
        """A new host, and the cable to it, which damages the UDP datagrams of both directions: see ``badcable.py``."""
        host = self._new_host(name)
        cable = self.switch.start(
            sys.executable, Path(__file__).with_name("badcable.py"), name, "far", str(seed), name="badcable"
        )
        cable.wait_until(lambda: "connected" in cable.output, 90, "the cable has both ends")
        self.switch.ip("link", "set", "far", "netns", host.namespace, "name", "eth0")
        self.switch.ip("link", "set", name, "master", "br0", "up")
        host.ip("link", "set", "eth0", "up")
        _address(host, "eth0", addresses)
        return host, cable

    def use_jumbo_frames(self, *hosts: Host) -> None:
        """An MTU of 9000 bytes on the way between these hosts."""
        for host in hosts:
            self.switch.ip("link", "set", host.name, "mtu", "9000")
            host.ip("link", "set", "eth0", "mtu", "9000")

    def tap(self, *, plugged: bool = True) -> str:
        """The name of a new TAP interface of the switch, on the segment if it is *plugged* in, else on nothing."""
        name = f"tap{next(_serial)}"
        self.switch.ip("tuntap", "add", name, "mode", "tap")
        self.switch.ip("link", "set", name, *(["master", "br0"] if plugged else []), "up")
        return name

    def lose(self, percent: float) -> None:
        """From now on lose this share of the frames that the switch forwards, in either direction, of any protocol."""
        self._filter(f"numgen random mod 1000 < {round(percent * 10)} drop")

    def lose_first(self, frame_filter: str, count: int = 1) -> None:
        """Lose the first frames of a kind, in the words of nft: ``udp sport 67``."""
        self._filter(f"{frame_filter} numgen inc mod 65536 < {count} drop")

    def drop(self, rule: str) -> None:
        """From now on drop these frames, in the words of nft: ``udp dport 4011``."""
        self._filter(f"{rule} drop")

    def _filter(self, rule: str) -> None:
        need("nft")
        path = self.directory / f"filter-{next(_serial)}.nft"
        path.write_text(
            f"table bridge {path.stem} {{\n chain forward {{\n type filter hook forward priority 0\n {rule}\n }}\n}}\n"
        )
        result = self.switch.run("nft", "--file", path, seconds=10)
        assert result.exit_code == 0, result.output

    def logs(self) -> list[tuple[str, str]]:
        """(name, end of its text) of every program's log, for the report of a test that failed."""
        paths = sorted(self.directory.glob("*.log"), key=lambda path: path.stat().st_mtime)
        return [(path.name, path.read_text(errors="replace")[-_LOG_TAIL:]) for path in paths]

    def _new_host(self, name: str) -> Host:
        host = Host(self, name)
        _ip("netns", "add", host.namespace)
        self._namespaces.append(host.namespace)
        host.ip("link", "set", "lo", "up")
        return host

    def _plug(self, host: Host, switch_port: str, interface: str, segment: str, mac: str = "") -> None:
        """A cable from the switch to an interface of a host."""
        peer = ["name", interface, *(["address", mac] if mac else []), "netns", host.namespace]
        self.switch.ip("link", "add", switch_port, "type", "veth", "peer", *peer)
        self.switch.ip("link", "set", switch_port, "master", segment, "up")
        host.ip("link", "set", interface, "up")
        # Else the kernel leaves UDP checksums to hardware that is not there, and guests see wrong ones.
        subprocess.run(
            ["ip", "netns", "exec", host.namespace, "ethtool", "-K", interface, "tx", "off"],
            check=True,
            stdout=subprocess.DEVNULL,
        )


def _address(host: Host, interface: str, addresses: tuple[str, ...]) -> None:
    for address in addresses:
        # Without duplicate address detection an IPv6 address can be used at once.
        host.ip("address", "add", address, "dev", interface, *(["nodad"] if ":" in address else ["brd", "+"]))


def _ip(*arguments: str) -> None:
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if result.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {result.stderr.strip()}")


def _remove_stale_namespaces() -> None:
    """Those of test processes that were killed."""
    for path in _NAMESPACES.glob("bootfw-*"):
        owner = re.match(r"bootfw-(\d+)-", path.name)
        if owner and not Path("/proc", owner[1]).exists():
            # Another one that begins at the same moment may be quicker.
            with contextlib.suppress(OSError):
                _ip("netns", "delete", path.name)
