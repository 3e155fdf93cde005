"""How many bytes a forged request has a server send: for each byte of the forger, to a host that never answers.

``python benchmarks/amplification.py`` starts the servers of ``servers.py`` on loopback, plays a forger that sees no
answer, listens for 100 s, and prints a Markdown table; then those of ``forgery.py`` for DHCP in network namespaces, and
prints another. It needs root: dnsmasq has port 69 only. With server names as arguments it tries these by TFTP, and with
``--dhcp`` DHCP only. The exit code is 1 when bootfw is above one of its own bounds.
"""

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import forgery
import servers
from attrs import define, field, frozen

SILENCE = 100.0
"""Seconds: longer than the patience of each of these servers."""

FILE = "initrd.gz"
SIZE = 4_000_000


def request(name: str, *options: tuple[str, int], write: bool = False) -> bytes:
    fields = [name, "octet", *(str(text) for option in options for text in option)]
    return bytes((0, 1 + write)) + b"".join(text.encode() + b"\0" for text in fields)


def ack(number: int) -> bytes:
    return b"\0\4" + (number & 0xFFFF).to_bytes(2, "big")


BLKSIZE = ("blksize", 1408)
WINDOW = ("windowsize", 64)


@frozen
class Case:
    """What the forger sends, all to the port that serves requests: it can't know another one."""

    name: str
    datagrams: list[bytes]
    bound: float
    """For bootfw."""


CASES = [
    Case("request", [request(FILE)], 52),
    Case("request, ten times", [request(FILE)] * 10, 52),
    Case("request with `tsize` and `blksize`", [request(FILE, ("tsize", 0), BLKSIZE)], 4),
    Case("the same for a file that is not there", [request("missing", ("tsize", 0), BLKSIZE)], 4),
    Case("upload", [request(FILE, ("tsize", 9), BLKSIZE, write=True)], 4),
    Case("request with `blksize`, ACK 0", [request(FILE, BLKSIZE), ack(0)], 130),
    Case("the same with ACK 0 to 99", [request(FILE, BLKSIZE), *map(ack, range(100))], 400),
    Case("request with `windowsize` of 64, ACK 0", [request(FILE, BLKSIZE, WINDOW), ack(0)], 52),
    Case("the same with ACK 0 to 99", [request(FILE, BLKSIZE, WINDOW), *map(ack, range(100))], 1060),
    Case("the same with ACK 0, 64, 128 to 6336", [request(FILE, BLKSIZE, WINDOW), *map(ack, range(0, 6400, 64))], 60),
    Case("the two bytes 00 01", [b"\0\1"], 4),
]


@define(eq=False)
class Forger:
    """One case played against one server, and the host that the answers go to."""

    case: Case
    port: int
    sent: int = 0
    received: int = 0
    _socket: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)

    def send(self, step: int) -> bool:
        """Send one datagram. False: there is none."""
        if step >= len(self.case.datagrams):
            return False
        self.sent += self._socket.sendto(self.case.datagrams[step], ("127.0.0.1", self.port))
        return True

    def listen(self) -> None:
        """Count what has come."""
        try:
            while True:
                self.received += len(self._socket.recv(70_000))
        except BlockingIOError:
            return

    @property
    def ratio(self) -> float:
        return self.received / self.sent


def measure(ports: dict[str, int]) -> dict[str, list[Forger]]:
    """Play every case against each of the servers, all at the same time."""
    forgers = {name: [Forger(case, port) for case in CASES] for name, port in ports.items()}
    all_forgers = [forger for some in forgers.values() for forger in some]
    for step in range(max(len(case.datagrams) for case in CASES)):
        for forger in all_forgers:
            forger.send(step)
        time.sleep(0.02)
        for forger in all_forgers:
            forger.listen()
    deadline = time.monotonic() + SILENCE
    while time.monotonic() < deadline:
        time.sleep(0.05)
        for forger in all_forgers:
            forger.listen()
    return forgers


def bootfw_with_ephemeral_ports(root: Path, work: Path) -> servers.Server:
    """bootfw with a port for each transfer."""
    return servers.bootfw(root, work, ports="ephemeral", port=20170)


CANDIDATES: dict[str, Callable[[Path, Path], servers.Server]] = {
    "bootfw": servers.bootfw,
    "bootfw, `ports = ephemeral`": bootfw_with_ephemeral_ports,
    "dnsmasq": servers.dnsmasq,
    "tftpd-hpa": servers.tftpd_hpa,
    "atftpd": servers.atftpd,
}


def main() -> int:
    """Print the tables; 1: a bound is not kept."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("servers", nargs="*", default=list(CANDIDATES), help=", ".join(CANDIDATES))
    options.add_argument("--dhcp", action="store_true", help="DHCP only")
    arguments = options.parse_args()
    within_bounds = True
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)
        if not arguments.dhcp:
            within_bounds = tftp(arguments.servers, Path(scratch))
        if arguments.dhcp or arguments.servers == list(CANDIDATES):
            table, dhcp_within_bounds = forgery.table(Path(scratch))
            sys.stdout.write("\n" + table)
            within_bounds = within_bounds and dhcp_within_bounds
    return int(not within_bounds)


def tftp(names: list[str], scratch: Path) -> bool:
    """Print the table of TFTP; whether bootfw has kept its bounds."""
    root = scratch / "root"
    root.mkdir()
    (root / FILE).write_bytes(os.urandom(SIZE))
    running_servers = []
    try:
        for number, name in enumerate(names):
            work = scratch / str(number)
            work.mkdir()
            running_servers.append(CANDIDATES[name](root, work))
        time.sleep(3)
        forgers = measure({name: server.port for name, server in zip(names, running_servers, strict=True)})
    finally:
        for server in running_servers:
            server.__exit__()
    lines = ["| the forger sends | bytes | " + " | ".join(names) + " |", "| --- | --- |" + " --- |" * len(names)]
    for number, case in enumerate(CASES):
        row = [forgers[name][number] for name in names]
        lines.append(f"| {case.name} | {row[0].sent} | " + " | ".join(f"{forger.ratio:.1f}" for forger in row) + " |")
    sys.stdout.write("\n".join(lines) + "\n")
    return not any(f.ratio > f.case.bound for name in names if name.startswith("bootfw") for f in forgers[name])


if __name__ == "__main__":
    raise SystemExit(main())
