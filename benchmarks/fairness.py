"""Measures the latency of DHCP and of 30 kB files while large downloads, or images, keep the server busy.

``python benchmarks/fairness.py`` needs root (network namespaces). 200 clients load 20 MB each, over and over. Meanwhile
one client at a time loads 30 kB, and a relay requests addresses for 50 new machines a second: DISCOVER, OFFER, REQUEST,
and the ACK, which leaves when the lease is on the disk. The time of a reply is that of its arrival in the kernel, so
that the clients do not delay each other. After each of them the relay loads 30 kB by HTTP, in a connection of its own.
Conflict detection is off, since its wait would be measured too.

With ``--images N`` so many images of 100 MB are sent by multicast instead, as fast as the server may: a program
requests one chunk after the other, and reads nothing.
"""

import argparse
import http.client
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dhcp import HERE, NAME, network, running
from dhcp import SERVERS as DHCP_SERVERS

from bootfw.wire.frisbee import CHUNK_BLOCKS, CHUNK_SIZE, Request, pack

BULK = 20_000_000
SMALL = 30_000
CLIENTS = 200
IMAGE = 96 * CHUNK_SIZE
REQUESTS = 125
"""A second, of each image: more than [multicast] rate."""
SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
_NANOSECONDS = 35  # SO_TIMESTAMPNS
_TIME = struct.Struct("@qq")


def main() -> int:
    """Run the benchmark with the options of the command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=int, default=20)
    options.add_argument("--workers", type=int, default=1, help="worker processes; 0: as many as bootfw chooses")
    options.add_argument("--images", type=int, default=0, help="send so many by multicast, instead of files by TFTP")
    options.add_argument("--json", type=Path, help="keep every figure here")
    options.add_argument("--ask", type=int, metavar="SECONDS", help=argparse.SUPPRESS)
    options.add_argument("--request", type=int, metavar="SECONDS", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.request:
        request_chunks(arguments.images, arguments.request)
        return 0
    if arguments.ask:
        json.dump(ask_for_addresses(arguments.ask), sys.stdout)
        return 0
    load = HERE / "build/load"
    load.parent.mkdir(exist_ok=True)
    subprocess.run(["cc", "-O2", "-o", load, HERE / "load.c"], check=True)
    with network(), tempfile.TemporaryDirectory(prefix="bootfw-bench-") as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        for size in (BULK, SMALL, *[IMAGE] * (arguments.images > 0)):
            (root / f"{size}").write_bytes(os.urandom(size))
        time.sleep(2.5)  # bootfw keeps nothing of a file that is about to be written
        DHCP_SERVERS["bootfw"] = lambda work: bootfw(work, root, arguments.workers, arguments.images)
        with running("bootfw", Path(scratch)):
            alone = measure(load, root, arguments.seconds // 2, bulk=False)
            busy = measure(load, root, arguments.seconds, bulk=True, images=arguments.images)
    load_name = f"{arguments.images} images" if arguments.images else f"{CLIENTS} bulk transfers"
    for name, figures in (("alone", alone), (f"beside {load_name}", busy)):
        print(f"{name}:")
        for kind, milliseconds in figures["ms"].items():
            columns = "  ".join(f"{part} {value:8.2f}" for part, value in milliseconds.items())
            print(f"  {kind:12} ms: {columns}   lost or failed {figures['lost'][kind]}")
        if figures["bulk MB/s"]:
            print(f"  {'bulk':12} {figures['bulk MB/s']:.0f} MB/s, failed {figures.get('bulk failed', 0)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"alone": alone, "busy": busy}, indent=2))
    return 0


def bootfw(work: Path, root: Path, workers: int, images: int) -> list[str | Path]:
    """This checkout, in the environment that runs the benchmark."""
    configuration = work / "bootfw.toml"
    configuration.write_text(
        f"[bootfw]\nrequests-per-second = 0\nworkers = {workers}\n"
        f'state-dir = "{work}"\n[tftp]\nlisten = ["10.77.0.1:69"]\n'
        f'[http]\nlisten = ["{SERVER}:80"]\n[[backend]]\nuse = "directory"\nroot = "{root}"\n'
        '[dhcp]\nmode = "server"\nprobe-seconds = 0\n'
        '[[dhcp.subnet]]\nnetwork = "10.77.0.0/16"\npool = ["10.77.1.0-10.77.255.250"]\nrouter = "10.77.0.1"\n'
        + "".join(
            f'[[multicast.image]]\npath = "{IMAGE}"\naddress = "{_group(number)}:{_port(number)}"\n'
            for number in range(images)
        )
    )
    twistd = Path(sys.executable).with_name("twistd")
    return [twistd, "--nodaemon", "--pidfile=", f"--logfile={work / 'log'}", "bootfw", "-c", configuration]


def _group(number: int) -> str:
    return f"239.192.9.{number + 1}"


def _port(number: int) -> int:
    return 21000 + number


def sent_bytes() -> int:
    """What the server has sent by its interface."""
    command = ["ip", "netns", "exec", f"{NAME}-server", "cat", "/sys/class/net/eth0/statistics/tx_bytes"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(load: Path, root: Path, seconds: int, *, bulk: bool, images: int = 0) -> dict[str, Any]:
    """What the small ones waited for, in milliseconds."""

    def start(*arguments: object) -> "subprocess.Popen[str]":
        command = ["ip", "netns", "exec", f"{NAME}-clients", *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def files(size: int, clients: int) -> "subprocess.Popen[str]":
        return start(load, "10.77.0.1", 69, size, root / f"{size}", clients, 1_000_000, 1408, 1, seconds)

    fairness = sys.executable, HERE / "fairness.py"
    requester = start(*fairness, "--images", images, "--request", seconds) if images else None
    loads = [files(BULK, CLIENTS)] if bulk and not images else []
    time.sleep(1 if bulk else 0)
    before, began = sent_bytes(), time.monotonic()
    small_load = files(SMALL, 1)
    asker = start(*fairness, "--ask", seconds - 2)
    answer = json.loads(asker.communicate()[0])
    rate = (sent_bytes() - before) / (time.monotonic() - began) / 1e6
    result = json.loads(small_load.communicate()[0])
    figures = {
        "ms": {**answer["ms"], "30 kB file": {"p50": result["p50"] * 1e3, "p99": result["p99"] * 1e3}},
        "lost": {**answer["lost"], "30 kB file": result["failed"]},
        "bulk MB/s": rate if images else 0.0,
    }
    if requester is not None:
        requester.wait()
    for process in loads:
        result = json.loads(process.communicate()[0])
        figures["bulk MB/s"] = result["bytes"] / result["seconds"] / 1e6
        figures["bulk failed"] = result["failed"]
    return figures


def ask_for_addresses(seconds: int) -> dict[str, Any]:
    """Play a relay; runs in the clients' namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        relay.setsockopt(socket.SOL_SOCKET, _NANOSECONDS, 1)
        relay.bind(("10.77.0.2", 67))
        relay.settimeout(1)
        waits: dict[str, list[float]] = {"OFFER": [], "ACK": [], "30 kB HTTP": []}
        lost = dict.fromkeys(waits, 0)
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < seconds:
            number += 1
            offer = _exchange(relay, number, b"\x35\x01\x01", waits["OFFER"])
            if offer is None:
                lost["OFFER"] += 1
            else:
                request_options = b"\x35\x01\x03\x32\x04" + offer[16:20] + b"\x36\x04" + socket.inet_aton("10.77.0.1")
                if _exchange(relay, number, request_options, waits["ACK"]) is None:
                    lost["ACK"] += 1
            if not _load(waits["30 kB HTTP"]):
                lost["30 kB HTTP"] += 1
            time.sleep(max(0.0, began + number / 50 - time.monotonic()))
    return {"ms": {name: _summary(samples) for name, samples in waits.items()}, "lost": lost}


def _load(waits: list[float]) -> bool:
    """Load the small file by HTTP; whether all of it came."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(SERVER, timeout=5)
    try:
        connection.request("GET", f"/{SMALL}")
        complete = len(connection.getresponse().read()) == SMALL
    except OSError:
        return False
    finally:
        connection.close()
    waits.append(time.monotonic() - began)
    return complete


def request_chunks(images: int, seconds: int) -> None:
    """Play a receiver of each image that wants all of its chunks, over and over; runs in the clients' namespace."""
    receivers = []
    for number in range(images):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(CLIENT))
        receiver.bind(("", _port(number)))
        receivers.append(receiver)
    began = time.monotonic()
    requested = 0
    while time.monotonic() - began < seconds:
        packet = pack(Request(CLIENT, requested % (IMAGE // CHUNK_SIZE), 0, CHUNK_BLOCKS))
        for number, receiver in enumerate(receivers):
            receiver.sendto(packet, (_group(number), _port(number)))
        requested += 1
        time.sleep(max(0.0, began + requested / REQUESTS - time.monotonic()))


def _summary(waits: list[float]) -> dict[str, float]:
    return {
        "p50": statistics.median(waits) * 1e3,
        "p99": statistics.quantiles(waits, n=100)[98] * 1e3,
        "max": max(waits) * 1e3,
    }


def _exchange(relay: socket.socket, number: int, options: bytes, waits: list[float]) -> bytes | None:
    """Send a DHCP message of machine *number*; its answer."""
    transaction = os.urandom(4)
    mac = b"\x52\x54" + number.to_bytes(4, "big")
    message = b"\x01\x01\x06\x01" + transaction + bytes(16) + socket.inet_aton("10.77.0.2") + mac.ljust(16, b"\0")
    sent_at = time.time()
    relay.sendto(message + bytes(192) + b"\x63\x82\x53\x63" + options + b"\xff", ("10.77.0.1", 67))
    while True:
        try:
            answer, ancillary, _, _ = relay.recvmsg(2000, 200)
        except TimeoutError:
            return None
        if answer[4:8] == transaction:
            full_seconds, nanoseconds = _TIME.unpack(ancillary[0][2])
            waits.append(full_seconds + nanoseconds / 1e9 - sent_at)
            return answer


if __name__ == "__main__":
    sys.exit(main())
