"""Garbage: how long a good client's boot takes while one address sends 20,000 useless packets a second.

``python benchmarks/garbage.py`` needs root (network namespaces). The good client boots over and over: DHCP, with a
proxy also the request to port 4011, and a file of 1 MB by TFTP in lock-step. It repeats what is lost as firmware does
(DHCP after 4 s, port 4011 and TFTP after 1 s), and waits for nothing else: what firmware waits for its menus and for
further offers, four seconds and more in each boot, is not in these times.

The exit code is 1 when the median of a case is more than twice that without garbage, such waits included.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import frozen
from dhcp import HERE, NAME, ip, network
from overload import running

RATE = 20_000
SERVER, GOOD_CLIENT, BAD_CLIENT = "10.77.0.1", "10.77.0.2", "10.77.0.66"
SIZE = 1_000_000
BLKSIZE = 1456
FIRMWARE = 3.8
"""Seconds that EDK2 waits for further offers in every boot (docs/firmware.md)."""
_DIFFERENT = 5000
_DISCOVER, _OFFER, _REQUEST, _ACK = 1, 2, 3, 5


def message(
    message_type: int, number: int, relay: str = "0.0.0.0", more_options: bytes = b"", address: bytes = bytes(4)
) -> bytes:
    """A DHCP message of PXE client *number*."""
    head = b"\1\1\6" + bytes([relay != "0.0.0.0"]) + number.to_bytes(4, "big") + bytes(4) + address + bytes(8)
    mac = b"\2\0" + number.to_bytes(4, "big")
    options = (
        b"\x35\1"
        + bytes([message_type])
        + b"\x39\2\5\xc0\x5d\2\0\0\x5e\3\1\2\1\x3c\x20PXEClient:Arch:00000:UNDI:002001"
    )
    options += b"\x61\x11\0" + mac * 2 + bytes(4) + b"\x37\7\1\3\x2b\x3c\x42\x43\x61" + more_options + b"\xff"
    return head + socket.inet_aton(relay) + mac + bytes(202) + b"\x63\x82\x53\x63" + options


def read_request(name: str) -> bytes:
    """An RRQ."""
    return b"\0\1" + name.encode() + b"\0octet\0tsize\x000\0blksize\0%d\0" % BLKSIZE


@frozen
class Case:
    """What is sent, to which server."""

    mode: str
    port: int
    garbage: str
    datagram: Callable[[int], bytes]


def _unparsable(number: int) -> bytes:
    return b"\xff\xee" + number.to_bytes(4, "big") * 70


def _one_client(number: int) -> bytes:
    return message(_DISCOVER, 1 << 24)


def _changing(number: int) -> bytes:
    return message(_DISCOVER, (1 << 24) + number)


def _relayed(number: int) -> bytes:
    return message(_DISCOVER, (1 << 24) + number, BAD_CLIENT)


def _changing_relays(number: int) -> bytes:
    return message(_DISCOVER, (1 << 24) + number, f"10.77.{number >> 8 & 255}.{number & 255}")


CASES = (
    Case("server", 67, "unparsable", _unparsable),
    Case("server", 67, "one client's DISCOVER", _one_client),
    Case("server", 67, "DISCOVERs with changing MACs", _changing),
    Case("server", 67, "the same by a relay", _relayed),
    Case("server", 67, "the same by relays that change", _changing_relays),
    Case("server", 69, "unparsable", _unparsable),
    Case("server", 69, "one request", lambda number: read_request("file")),
    Case("server", 69, "requests for missing files", lambda number: read_request(f"no-{number}")),
    Case("proxy", 67, "unparsable", _unparsable),
    Case("proxy", 67, "one client's DISCOVER", _one_client),
    Case("proxy", 67, "DISCOVERs with changing MACs", _changing),
    Case("proxy", 4011, "unparsable", _unparsable),
    Case("proxy", 4011, "one client's request", lambda number: message(_REQUEST, 1 << 24)),
    Case("proxy", 4011, "requests with changing MACs", lambda number: message(_REQUEST, (1 << 24) + number)),
)


def main() -> int:
    """Run the benchmark with the options of the command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=8, help="of one case")
    options.add_argument("--only", help="cases whose name contains this")
    options.add_argument("--json", type=Path, help="keep every figure here")
    options.add_argument("--send", nargs=2, type=float, metavar=("CASE", "SECONDS"), help=argparse.SUPPRESS)
    options.add_argument("--boot", nargs=3, metavar=("MODE", "FIRST", "SECONDS"), help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.send:
        return send(CASES[int(arguments.send[0])], arguments.send[1])
    if arguments.boot:
        json.dump(boots(arguments.boot[0], int(arguments.boot[1]), float(arguments.boot[2])), sys.stdout)
        return 0
    if os.geteuid():
        sys.stderr.write("garbage.py: network namespaces need root\n")
        return 2
    results: list[dict[str, Any]] = []
    row = "{:8} {:>5} {:30} {:>9} {:>8} {:>8} {:>8} {:>9} {:>6} {:>8}\n"
    sys.stdout.write(
        row.format("server", "port", "garbage", "packets/s", "DHCP ms", "4011 ms", "TFTP ms", "all ms", "times", "boot")
    )
    too_slow = False
    with network():
        ip("-n", f"{NAME}-clients", "address", "add", f"{BAD_CLIENT}/16", "dev", "eth0")
        for mode in ("server", "proxy"):
            normal = 0.0
            for number, case in [(-1, Case(mode, 0, "none", _one_client)), *enumerate(CASES)]:
                if case.mode != mode or (
                    arguments.only and case.port and arguments.only not in f"{case.port} {case.garbage}"
                ):
                    continue
                figures = measure(case, number, arguments.seconds)
                normal = normal or figures["all"]
                times, boot = figures["all"] / normal, (figures["all"] + FIRMWARE) / (normal + FIRMWARE)
                too_slow |= boot > 2
                stages = (f"{1e3 * figures[stage]:.1f}" for stage in ("dhcp", "boot server", "tftp", "all"))
                line = (
                    mode,
                    case.port or "",
                    case.garbage,
                    f"{figures['sent']:.0f}",
                    *stages,
                    f"{times:.1f}",
                    f"{boot:.2f}",
                )
                sys.stdout.write(row.format(*line))
                sys.stdout.flush()
                results.append({"mode": mode, "port": case.port, "what": case.garbage, "boot": boot, **figures})
    sys.stdout.write(f"medians; boot: with the {FIRMWARE} s that firmware waits, in times of that without garbage\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return int(too_slow)


def measure(case: Case, number: int, seconds: float) -> dict[str, Any]:
    """Medians of one case, in seconds; "sent": packets of garbage in a second."""
    with tempfile.TemporaryDirectory(prefix="bootfw-garbage-") as scratch:
        os.chmod(scratch, 0o755)
        work = Path(scratch)
        (work / "files").mkdir()
        (work / "files" / "file").write_bytes(os.urandom(SIZE))
        with running(bootfw(work, case.mode), work, 69):
            prefix = ["ip", "netns", "exec", f"{NAME}-clients", sys.executable, str(HERE / "garbage.py")]
            subprocess.run([*prefix, "--boot", case.mode, "1", "1.5"], check=True, capture_output=True, timeout=60)
            sender = None
            if number >= 0:
                command = [*prefix, "--send", str(number), str(seconds + 2)]
                sender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                time.sleep(1.5)
            command = [*prefix, "--boot", case.mode, "1000", str(seconds)]
            result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60)
            sent = float(sender.communicate(timeout=30)[0]) if sender is not None else 0.0
    boot_times = json.loads(result.stdout)
    stages = {stage: statistics.median(each[stage] for each in boot_times) for stage in boot_times[0]}
    return {**stages, "sent": sent, "boots": len(boot_times), "slowest": max(each["all"] for each in boot_times)}


def bootfw(work: Path, mode: str) -> list[object]:
    """This checkout with one worker."""
    subnet = (
        '[[dhcp.subnet]]\nnetwork = "10.77.0.0/16"\npool = ["10.77.1.0-10.77.255.250"]\n' if mode == "server" else ""
    )
    (work / "bootfw.toml").write_text(
        f'[bootfw]\nworkers = 1\nstate-dir = "{work}/state"\n[tftp]\nlisten = ["0.0.0.0:69"]\n[http]\nlisten = []\n'
        f'[dhcp]\nmode = "{mode}"\n{"probe-seconds = 0" if subnet else ""}\n{subnet}'
        f'[[backend]]\nuse = "directory"\nroot = "{work}/files"\n[[resolver]]\nuse = "static"\nfile = "file"\n'
    )
    return [sys.executable, "-m", "bootfw.cli.main", "run", "-c", work / "bootfw.toml"]


# In the clients' namespace


def send(case: Case, seconds: float) -> int:
    """Send garbage, and print how much in a second."""
    datagrams = [case.datagram(number) for number in range(_DIFFERENT)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((BAD_CLIENT, 0))
        sock.connect((SERVER, case.port))
        began, sent = time.monotonic(), 0
        while (now := time.monotonic()) - began < seconds:
            for _ in range(min(int((now - began) * RATE) - sent, 1000)):
                with contextlib.suppress(OSError):  # an ICMP error for an earlier one
                    sock.send(datagrams[sent % _DIFFERENT])
                sent += 1
            time.sleep(0.001)
    sys.stdout.write(f"{sent / seconds}\n")
    return 0


def boots(mode: str, first: int, seconds: float) -> list[dict[str, float]]:
    """Boot over and over; the seconds of each stage."""
    boot_times: list[dict[str, float]] = []
    deadline, number = time.monotonic() + seconds, first
    while time.monotonic() < deadline or not boot_times:
        number += 1
        boot_times.append(dict(boot(mode, number)))
    return boot_times


def boot(mode: str, number: int) -> Iterator[tuple[str, float]]:
    """One boot: (stage, seconds)."""
    began = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        relay.bind((GOOD_CLIENT, 67))
        offer = ask(relay, 67, message(_DISCOVER, number, GOOD_CLIENT), _OFFER, 4.0)
        if mode == "server":
            selection = b"\x32\4" + offer[16:20] + b"\x36\4" + socket.inet_aton(SERVER)
            ask(relay, 67, message(_REQUEST, number, GOOD_CLIENT, selection), _ACK, 4.0)
    assigned = time.monotonic()
    yield "dhcp", assigned - began
    if mode == "proxy":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((GOOD_CLIENT, 68))
            ask(sock, 4011, message(_REQUEST, number, address=socket.inet_aton(GOOD_CLIENT)), _ACK, 1.0)
    loading = time.monotonic()
    yield "boot server", loading - assigned
    load()
    yield "tftp", time.monotonic() - loading
    yield "all", time.monotonic() - began


def ask(sock: socket.socket, port: int, data: bytes, message_type: int, retry: float) -> bytes:
    """The reply of that kind."""
    sock.settimeout(retry)
    for _ in range(10):
        sock.sendto(data, (SERVER, port))
        deadline = time.monotonic() + retry
        while time.monotonic() < deadline:
            try:
                reply = sock.recv(2000)
            except TimeoutError:
                break
            if reply[4:8] == data[4:8] and reply[240:243] == b"\x35\1" + bytes([message_type]):
                return reply
    raise SystemExit(f"garbage.py: no reply from port {port}")


def load() -> None:
    """Load the file in lock-step."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        packet, address, block, received_bytes = read_request("file"), (SERVER, 69), 0, 0
        sock.sendto(packet, address)
        for _ in range(10 * SIZE // BLKSIZE):
            try:
                data, address = sock.recvfrom(2000)
            except TimeoutError:
                sock.sendto(packet, address)
                continue
            if data[1] == 5:
                raise SystemExit(f"garbage.py: {data!r}")
            if data[1] == 3 and data[2:4] == ((block + 1) & 0xFFFF).to_bytes(2, "big"):
                block, received_bytes = block + 1, received_bytes + len(data) - 4
            packet = b"\0\4" + (block & 0xFFFF).to_bytes(2, "big")
            sock.sendto(packet, address)
            if received_bytes == SIZE:
                return
    raise SystemExit("garbage.py: the file does not end")


if __name__ == "__main__":
    sys.exit(main())
