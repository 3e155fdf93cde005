"""Sends an image to many receivers: by bootfw and by Emulab's frisbeed, to Emulab's receiver ``frisbee``.

``python benchmarks/multicast.py --receivers 1 3 10 50 --loss 0 2`` as root, with both programs on the PATH (directory
os/frisbee.redux of the public Emulab tree). Each host is a network namespace on one bridge; nftables drops the share of
the UDP packets at the input of each receiver. Every file is compared with the image.

"more" are the blocks that were sent more than the image has; "least" how many it takes where each receiver loses other
blocks than the others: by the link, and since its socket was "full".
"""

import argparse
import contextlib
import filecmp
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

GROUP, PORT = "239.192.9.9", 3564
SERVER = "10.99.0.1"
MIB = 21
"""Size of the image in the figures of the peer."""
LIMIT = 120
"""Seconds for one run."""
_TICKS = os.sysconf("SC_CLK_TCK")


@frozen
class Result:
    """One run."""

    wall: float
    """Seconds from the start of the receivers to the end of the last one."""
    cpu: float
    """Seconds of the server."""
    sent: int
    """Blocks."""
    requests: int
    """Packets that the server has received."""
    full: float
    """Share of the blocks that found no room in the socket of a receiver."""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def segment(receivers: int, loss: float, link: float = 0) -> Iterator[tuple[str, list[str]]]:
    """Yield the namespaces of the server and of the receivers, whose links take *link* Mbit/s; 0: any rate."""
    name = f"mc{os.getpid()}"
    switch, server = f"{name}-sw", f"{name}-s"
    clients = [f"{name}-c{number}" for number in range(receivers)]
    hosts = [switch, server, *clients]
    try:
        for host in hosts:
            _run("ip", "netns", "add", host)
            _run("ip", "-n", host, "link", "set", "lo", "up")
        _run("ip", "-n", switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        _run("ip", "-n", switch, "link", "set", "br0", "up")
        for number, host in enumerate(hosts[1:]):
            peer = ("peer", "name", "eth0", "netns", host)
            _run("ip", "-n", switch, "link", "add", f"p{number}", "type", "veth", *peer)
            _run("ip", "-n", switch, "link", "set", f"p{number}", "master", "br0", "up")
            address = SERVER if host == server else f"10.99.1.{number}"
            _run("ip", "-n", host, "address", "add", f"{address}/16", "dev", "eth0")
            _run("ip", "-n", host, "link", "set", "eth0", "up")
            _run("ip", "-n", host, "route", "add", "224.0.0.0/4", "dev", "eth0")
            if link and host != server:
                rate_limit = ("tbf", "rate", f"{link}mbit", "burst", "16kb", "limit", "128kb")
                _run("tc", "-n", switch, "qdisc", "add", "dev", f"p{number}", "root", *rate_limit)
        if loss:
            rules = "add table ip t; add chain ip t in { type filter hook input priority 0; }; "
            rules += f"add rule ip t in meta l4proto udp numgen random mod 1000 < {round(loss * 10)} drop"
            for host in clients:
                _run("ip", "netns", "exec", host, "nft", rules)
        yield server, clients
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "delete", host], capture_output=True)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _udp(namespace: str) -> tuple[int, int, int]:
    """Return the datagrams that a namespace has received and sent, and those for which its sockets had no room."""
    text = subprocess.run(
        ["ip", "netns", "exec", namespace, "cat", "/proc/net/snmp"], capture_output=True, text=True, check=True
    ).stdout
    names, values = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
    counters = dict(zip(names, values, strict=True))
    return int(counters["InDatagrams"]), int(counters["OutDatagrams"]), int(counters["RcvbufErrors"])


def _server(kind: str, image: Path, directory: Path, arguments: list[str]) -> list[str]:
    if kind == "frisbeed":
        return ["frisbeed", "-i", SERVER, "-m", GROUP, "-p", str(PORT), *arguments, str(image)]
    configuration = directory / "bootfw.toml"
    configuration.write_text(
        f'[bootfw]\nstate-dir = "{directory / "state"}"\n'
        '[dhcp]\nmode = "off"\n[tftp]\nlisten = []\n[web]\nlisten = []\n'
        f'[[backend]]\nuse = "directory"\nroot = "{image.parent}"\n'
        f'[[multicast.image]]\npath = "{image.name}"\naddress = "{GROUP}:{PORT}"\n'
    )
    return [str(Path(sys.executable).with_name("bootfw")), "run", "-c", str(configuration)]


def run(kind: str, receivers: int, loss: float, arguments: list[str], size: int, link: float) -> Result:
    """Send the image once."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="multicast")))
        (directory / "images").mkdir()
        image = directory / "images" / "disk.img"
        image.write_bytes(random.Random(1).randbytes(size))
        server, clients = stack.enter_context(segment(receivers, loss, link))
        log = stack.enter_context((directory / "log").open("wb"))
        prefix = ("ip", "netns", "exec")
        server_process = subprocess.Popen(
            [*prefix, server, *_server(kind, image, directory, arguments)], stdout=log, stderr=log
        )
        try:
            _wait_bound(server)
            receiver_processes = [
                subprocess.Popen(
                    [
                        *(*prefix, host, "sh", "-c", 'echo; read go; exec "$@"', "sh"),
                        *("frisbee", "-N", "-i", f"10.99.1.{number}", "-m", GROUP, "-p", str(PORT)),
                        str(directory / f"out{number}"),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
                for number, host in enumerate(clients, 1)
            ]
            # All of them begin together, however long it took to start them.
            for process in receiver_processes:
                assert process.stdout is not None
                process.stdout.readline()
            cpu, (received, sent, _), began = _cpu(server_process.pid), _udp(server), time.monotonic()
            for process in receiver_processes:
                assert process.stdin is not None
                process.stdin.write(b"\n")
                process.stdin.flush()
            try:
                for process in receiver_processes:
                    if process.wait(max(1.0, LIMIT - (time.monotonic() - began))):
                        raise SystemExit(f"a receiver failed: {(directory / 'log').read_text()[-2000:]}")
            finally:
                for process in receiver_processes:
                    process.kill()
            wall = time.monotonic() - began
            udp_after = _udp(server)
            full = sum(_udp(host)[2] for host in clients)
            cpu = _cpu(server_process.pid) - cpu
        finally:
            server_process.send_signal(signal.SIGTERM)
            try:
                server_process.wait(10)
            except subprocess.TimeoutExpired:
                server_process.kill()
                server_process.wait()
        # Segmentation by the kernel counts as one datagram, so what bootfw has sent is in its log.
        match = re.search(r": (\d+) blocks for", (directory / "log").read_text())
        blocks = int(match[1]) if match is not None else udp_after[1] - sent - receivers
        for number in range(1, receivers + 1):
            if not filecmp.cmp(directory / f"out{number}", image, shallow=False):
                raise SystemExit(f"receiver {number} of {kind} has another file")
        return Result(wall, cpu, blocks, udp_after[0] - received, full / receivers / blocks)


def _wait_bound(namespace: str) -> None:
    for _ in range(600):
        text = subprocess.run(
            ["ip", "netns", "exec", namespace, "cat", "/proc/net/udp"], capture_output=True, text=True, check=True
        ).stdout
        if f":{PORT:04X} " in text:
            return
        time.sleep(0.05)
    raise SystemExit("the server has not opened its port")


def least(receivers: int, loss: float) -> float:
    """Return how often a block has to be sent until each receiver has it, where each loses it with this probability."""
    return sum(1 - (1 - loss**times) ** receivers for times in range(100))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", nargs="+", default=["frisbeed", "bootfw"])
    parser.add_argument("--receivers", nargs="+", type=int, default=[1, 3, 10])
    parser.add_argument("--loss", nargs="+", type=float, default=[0, 2], help="percent")
    parser.add_argument("--link", type=float, default=0, help="Mbit/s that the link of each receiver takes; 0: any")
    parser.add_argument("--mib", type=int, default=MIB, help="size of the image")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frisbeed", nargs="*", default=[], help="more arguments for frisbeed, without their dashes")
    arguments = parser.parse_args()
    for program in ("frisbee", "frisbeed"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not on the PATH")
    size = arguments.mib * 2**20
    blocks = size // 1024
    frisbeed_arguments = [f"-{word}" for word in arguments.frisbeed]
    columns = (
        "loss",
        "receivers",
        "server",
        "seconds",
        "MB/s each",
        "CPU s",
        "blocks",
        "more",
        "least",
        "full",
        "requests",
    )
    print(f"| {' | '.join(columns)} |")
    print(f"| {' | '.join('---' for _ in columns)} |")
    for loss in arguments.loss:
        for receivers in arguments.receivers:
            # One after the other in each round, so that both see the same load of the machine.
            rounds: dict[str, list[Result]] = {kind: [] for kind in arguments.servers}
            for _ in range(arguments.runs):
                for kind, results in rounds.items():
                    results.append(run(kind, receivers, loss, frisbeed_arguments, size, arguments.link))
            for kind, results in rounds.items():
                wall, cpu = (statistics.median(getattr(each, name) for each in results) for name in ("wall", "cpu"))
                sent, requests = (
                    statistics.median(getattr(each, name) for each in results) for name in ("sent", "requests")
                )
                full = statistics.median(each.full for each in results)
                # What the link loses and what finds no room in a socket is lost to the receiver alike.
                needed = least(receivers, 1 - (1 - loss / 100) * (1 - full))
                print(
                    f"| {loss:g}% | {receivers} | {kind} | {wall:.2f} | {size / wall / 1e6:.1f} | {cpu:.2f} "
                    f"| {sent:.0f} | {100 * (sent / blocks - 1):+.1f}% "
                    f"| {100 * (needed - 1):+.1f}% | {100 * full:.1f}% | {requests:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
