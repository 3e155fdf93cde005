"""Measures the start time, and CPU and memory of an idle server and of many waiting transfers.

``python benchmarks/footprint.py`` prints

* the time from the start of the program until its port is bound, and until a request is answered;
* the CPU time of a server without clients;
* memory and CPU time of 10,000 transfers that wait for their clients;
* memory of 1,000 transfers of one image of 1 GiB, each at another position in it.

All processes of the server are counted; shared memory is divided among them (Pss).
"""

import argparse
import json
import resource
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from servers import Server, bootfw

SESSIONS = 10_000
READERS = 1_000
IMAGE = 1 << 30
IDLE_SECONDS = 10.0


def main() -> int:
    """Run the benchmark with the options of the command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--workers", type=int, default=1, help="worker processes; 0: as many as bootfw chooses")
    options.add_argument("--rounds", type=int, default=5, help="starts")
    options.add_argument("--json", type=Path, help="keep every figure here")
    arguments = options.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * SESSIONS), hard))
    with tempfile.TemporaryDirectory(prefix="bootfw-bench-") as scratch:
        work = Path(scratch)
        (work / "root").mkdir()
        (work / "root/small").write_bytes(bytes(30_000))
        with (work / "root/image").open("wb") as image:
            image.truncate(IMAGE)
        time.sleep(2.5)  # bootfw keeps nothing of a file that is about to be written
        starts = [start(work, arguments.workers) for _ in range(arguments.rounds)]
        figures: dict[str, Any] = {
            "bound after s": statistics.median(bound for bound, _ in starts),
            "answers after s": statistics.median(answers for _, answers in starts),
        }
        with running(work, arguments.workers) as server:
            figures["idle, share of a core"] = share_of_a_core(server)
            figures["resident MB"] = memory(server) / 1e6
            figures |= idle_sessions(server)
        with running(work, arguments.workers) as server:
            figures |= many_readers(server)
    for name, figure in figures.items():
        print(f"{name:40} {figure:10.4g}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))
    return 0


def running(work: Path, workers: int) -> Server:
    """bootfw, once it answers a request, whichever process that is for."""
    server = bootfw(work / "root", work, workers)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.02)
        while True:
            client.sendto(b"\0\1missing\0octet\0", ("127.0.0.1", server.port))
            try:
                client.recv(600)
            except TimeoutError:
                continue
            return server


def share_of_a_core(server: Server) -> float:
    """CPU time over wall time, while there are no requests."""
    time.sleep(2)
    before = server.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    return (server.cpu_seconds() - before) / IDLE_SECONDS


def memory(server: Server) -> int:
    """Octets."""
    return sum(_memory(pid) for pid in server.processes())


def _memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def start(work: Path, workers: int) -> tuple[float, float]:
    """Seconds until the port is bound, and until a request is answered."""
    began = time.monotonic()
    with running(work, workers) as server:
        return server.bound_after, time.monotonic() - began


def request(server: Server, filename: str, options: str) -> socket.socket:
    """A client whose request has been answered with an OACK."""
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(10)
    client.connect(("127.0.0.1", server.port))
    fields = f"{filename} octet {options}".split()
    client.send(b"\0\1" + b"".join(field.encode() + b"\0" for field in fields))
    answer = client.recv(2000)
    if answer[:2] != b"\0\6":
        raise RuntimeError(f"no OACK: {answer!r}")
    return client


def idle_sessions(server: Server) -> dict[str, float]:
    """Clients that have an OACK and then send nothing, as while a menu waits for its user."""
    request(server, "small", "blksize 1408 timeout 255").close()
    before = memory(server)
    clients = [request(server, "small", "blksize 1408 timeout 255") for _ in range(SESSIONS)]
    memory_used = memory(server) - before
    share = share_of_a_core(server)
    for client in clients:
        client.close()
    return {"idle session, bytes": memory_used / SESSIONS, f"{SESSIONS} idle sessions, share of a core": share}


def many_readers(server: Server) -> dict[str, float]:
    """Clients at different positions of one image."""
    before = memory(server)
    clients = [request(server, "image", "blksize 1408 windowsize 64") for _ in range(READERS)]
    for number, client in enumerate(clients):
        client.send(b"\0\4\0\0")
        for _ in range(number % 50):
            block = b""
            for _ in range(64):
                block = client.recv(2000)
            client.send(b"\0\4" + block[2:4])
    memory_used = memory(server) - before
    for client in clients:
        client.close()
    return {f"{READERS} transfers of 1 GiB, MB": memory_used / 1e6}


if __name__ == "__main__":
    raise SystemExit(main())
