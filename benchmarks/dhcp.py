"""Compares bootfw, Kea and dnsmasq as DHCP servers, in turn in one run: highest rate without loss, and latency.

``python benchmarks/dhcp.py`` needs root (network namespaces), perfdhcp (Debian: kea-admin) and dnsmasq; Kea's server is
unpacked, not installed. Every server keeps its leases on the same disk, each in its own way: bootfw in SQLite, synced
before the ACK; Kea in its memfile, persisted but not synced; dnsmasq in its lease file.

The rate without loss is found by bisection: the highest rate that perfdhcp can send and at which fewer than 0.1 % of
the exchanges (DISCOVER to ACK) are lost. Latency and CPU are measured at half that rate. perfdhcp acts as a relay.
Conflict detection by ping is off: in Kea it is a hook library that is not loaded, in the other two it is switched off.

With 100 clients nearly every exchange is of a client with a lease; with 60,000 nearly every one is of a new client.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from servers import terminate

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")
TOLERATED_LOSS = 0.001
"""The share of exchanges that may be lost."""
REQUIRED_RATE_SHARE = 0.97
"""The share of the wanted rate that perfdhcp has to make, else the figure is its own and not the server's."""
NAME = f"bench-{os.getpid()}"

_DISCOVERS = re.compile(r"DISCOVER-OFFER\*+\nsent packets: (\d+)")
_ACKS = re.compile(r"REQUEST-ACK\*+\nsent packets: \d+\nreceived packets: (\d+)")
_DELAYS = re.compile(r"avg delay: ([\d.]+) ms")
_RATE = re.compile(r"Rate: ([\d.]+) 4-way exchanges/second")


def main() -> int:
    """Run the benchmark with the options of the command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    options.add_argument("--clients", nargs="+", type=int, default=[100, 60_000], help="different clients")
    options.add_argument("--seconds", type=int, default=5, help="of one measurement")
    options.add_argument("--steps", type=int, default=6, help="bisections, each of which halves the error")
    options.add_argument("--highest", type=int, default=16_000, help="the rate to begin below")
    options.add_argument("--json", type=Path, help="keep every figure here")
    arguments = options.parse_args()
    figures: list[dict[str, Any]] = []
    print(
        f"{'server':8} {'clients':>8} {'loss-free /s':>12} {'latency ms':>10} {'CPU us each':>11} {'resident MB':>11}"
    )
    with network(), room_for_replies():
        for clients in arguments.clients:
            for name in arguments.servers:
                figure = measure(name, clients, arguments)
                figures.append(figure)
                print(
                    f"{name:8} {clients:8} {figure['rate']:12} {figure['latency_ms']:10.2f} "
                    f"{figure['cpu_us']:11.0f} {figure['resident_mb']:11.0f}",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))
    return 0


def measure(name: str, clients: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One line of the table, and every trial."""
    trials = []
    low, high = 0, arguments.highest
    with tempfile.TemporaryDirectory(prefix="bootfw-bench-") as scratch, running(name, Path(scratch)) as server:
        if clients > 1000:
            exchange(min(2000, low or 300), clients, 5)  # some of them have leases by then
        rate = high // 2
        for _ in range(arguments.steps + 1):
            trial = exchange(rate, clients, arguments.seconds)
            trials.append(trial)
            if trial["lost"] < TOLERATED_LOSS * trial["sent"] and trial["rate"] >= REQUIRED_RATE_SHARE * rate:
                low = rate
            else:
                high = rate
            rate = (low + high) // 2
            time.sleep(1)  # what is still queued is not the next one's
        cpu_before = cpu_seconds(server)
        half = exchange(max(1, low // 2), clients, arguments.seconds)
        cpu_used = cpu_seconds(server) - cpu_before
        return {
            "server": name,
            "clients": clients,
            "rate": low,
            "latency_ms": half["latency_ms"],
            "cpu_us": cpu_used / max(1, half["sent"]) * 1e6,
            "resident_mb": resident_megabytes(server),
            "trials": [*trials, half],
        }


def exchange(rate: int, clients: int, seconds: int) -> dict[str, Any]:
    """Have perfdhcp make *rate* exchanges a second."""
    result = subprocess.run(
        [
            *("ip", "netns", "exec", f"{NAME}-clients", "perfdhcp", "-4", "-l", "10.77.0.2"),
            *("-r", str(rate), "-R", str(clients), "-p", str(seconds), "-W", "1000000", "-x", "i", "10.77.0.1"),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    text = result.stdout
    discovers, acks = _DISCOVERS.search(text), _ACKS.search(text)
    if discovers is None or acks is None:
        raise RuntimeError(f"perfdhcp says nothing of what it did:\n{text}{result.stderr}")
    sent, received = int(discovers[1]), int(acks[1])
    achieved = _RATE.search(text)
    return {
        "wanted": rate,
        "sent": sent,
        "lost": sent - received,
        "rate": sent / seconds if achieved is None else max(float(achieved[1]), sent / seconds),
        "latency_ms": sum(map(float, _DELAYS.findall(text))),
    }


# The servers


def bootfw(work: Path) -> list[str | Path]:
    """This checkout, in the environment that runs the benchmark."""
    configuration = work / "bootfw.toml"
    configuration.write_text(
        f'[bootfw]\nstate-dir = "{work}"\n[tftp]\nlisten = []\n'
        '[dhcp]\nmode = "server"\nprobe-seconds = 0\n'
        '[[dhcp.subnet]]\nnetwork = "10.77.0.0/16"\npool = ["10.77.1.0-10.77.255.250"]\n'
        'router = "10.77.0.1"\n'
    )
    twistd = Path(sys.executable).with_name("twistd")
    return [twistd, "--nodaemon", "--pidfile=", f"--logfile={work / 'log'}", "bootfw", "-c", configuration]


def kea(work: Path) -> list[str | Path]:
    """Debian's Kea 2.2, with what is its default but for the persistence."""
    configuration = work / "kea.json"
    configuration.write_text(
        json.dumps(
            {
                "Dhcp4": {
                    "interfaces-config": {"interfaces": ["eth0"], "dhcp-socket-type": "udp"},
                    "lease-database": {"type": "memfile", "persist": True, "name": str(work / "leases.csv")},
                    "valid-lifetime": 3600,
                    "subnet4": [
                        {
                            "subnet": "10.77.0.0/16",
                            "pools": [{"pool": "10.77.1.0-10.77.255.250"}],
                            "option-data": [{"name": "routers", "data": "10.77.0.1"}],
                        }
                    ],
                    "loggers": [
                        {"name": "kea-dhcp4", "severity": "WARN", "output_options": [{"output": str(work / "log")}]}
                    ],
                }
            }
        )
    )
    program = shutil.which("kea-dhcp4", path=f"{os.environ['PATH']}:/usr/sbin")
    if program:
        return [program, "-c", configuration]
    unpacked = HERE / "build/debian/kea-dhcp4"
    if not unpacked.exists():
        with tempfile.TemporaryDirectory() as scratch:
            os.chmod(scratch, 0o777)  # apt downloads as a user of its own
            packages = ("kea-dhcp4-server", "kea-common")
            subprocess.run(["apt-get", "download", "-qq", *packages], cwd=scratch, check=True)
            unpacked.parent.mkdir(parents=True, exist_ok=True)
            for package in Path(scratch).glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, unpacked], check=True)
    libraries = unpacked / f"usr/lib/{os.uname().machine}-linux-gnu"
    return ["env", f"LD_LIBRARY_PATH={libraries}", unpacked / "usr/sbin/kea-dhcp4", "-c", configuration]


def dnsmasq(work: Path) -> list[str | Path]:
    """Debian's dnsmasq-base."""
    return [
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="),
        *(f"--dhcp-leasefile={work / 'leases'}", "--dhcp-lease-max=70000", "--no-ping", "--quiet-dhcp"),
        *("--dhcp-range=10.77.1.0,10.77.255.250,255.255.0.0,1h", "--dhcp-authoritative", "--log-facility=-"),
    ]


SERVERS: dict[str, Callable[[Path], list[str | Path]]] = {"bootfw": bootfw, "kea": kea, "dnsmasq": dnsmasq}


@contextlib.contextmanager
def running(name: str, work: Path) -> Iterator[int]:
    """The server in its namespace; its process id."""
    command = ["ip", "netns", "exec", f"{NAME}-server", *map(str, SERVERS[name](work))]
    run_directory = work / "run"
    run_directory.mkdir()
    environment = {**os.environ, "KEA_PIDFILE_DIR": str(run_directory), "KEA_LOCKFILE_DIR": str(run_directory)}
    with (work / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        deadline = time.monotonic() + 15
        while not is_bound():
            if process.poll() is not None or time.monotonic() > deadline:
                log = work / "log"
                text = (work / "output").read_text() + (log.read_text() if log.exists() else "")
                raise RuntimeError(f"{name} does not listen:\n{text}")
            time.sleep(0.05)
        yield process.pid
    finally:
        terminate(process)


def is_bound() -> bool:
    """Whether a program in the server's namespace has port 67."""
    result = subprocess.run(
        ["ip", "netns", "exec", f"{NAME}-server", "cat", "/proc/net/udp"], capture_output=True, text=True
    )
    return ":0043 " in result.stdout


def cpu_seconds(pid: int) -> float:
    """User and system time of the server."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def resident_megabytes(pid: int) -> float:
    """Resident memory of the server."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


@contextlib.contextmanager
def network() -> Iterator[None]:
    """A wire with a namespace at each end."""
    endpoints = (("server", "10.77.0.1/16"), ("clients", "10.77.0.2/16"))
    try:
        for name, _ in endpoints:
            ip("netns", "add", f"{NAME}-{name}")
        ip(
            "-n",
            f"{NAME}-server",
            *("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns"),
            f"{NAME}-clients",
        )
        for name, address in endpoints:
            ip("-n", f"{NAME}-{name}", "address", "add", address, "dev", "eth0")
            ip("-n", f"{NAME}-{name}", "link", "set", "eth0", "up")
            ip("-n", f"{NAME}-{name}", "link", "set", "lo", "up")
        yield
    finally:
        for name, _ in endpoints:
            subprocess.run(["ip", "netns", "delete", f"{NAME}-{name}"], check=False)


@contextlib.contextmanager
def room_for_replies() -> Iterator[None]:
    """perfdhcp's socket has the default buffer of some 200 replies: what it loses would count as the server's.

    The setting is the whole machine's, so the other servers have the larger buffer as well, and it is put back.
    """
    default = Path("/proc/sys/net/core/rmem_default")
    before = default.read_text()
    default.write_text(str(max(int(before), int(default.with_name("rmem_max").read_text()))))
    try:
        yield
    finally:
        default.write_text(before)


def ip(*arguments: str) -> None:
    """ip(8)"""
    subprocess.run(["ip", *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main())
