"""What the proof of a peer with windows costs its client where datagrams are lost: simulated transfers, in seconds.

``python benchmarks/proof.py`` runs the client models of ``tests/exchange.py`` against a ReadSession in simulated time,
with the proof and, from the same seeds, with windows for the first ACK, and prints a Markdown table of medians and
means with the standard error of the mean. 300 transfers of each kind take some minutes.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import mean, median, stdev

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from driving import Reading, numbered
from exchange import ATFTP, EDK2, Exchange, Firmware, Sender, UBoot

from bootfw.values import Agreed
from bootfw.watchdogs.adaptive import Adaptive

CLIENTS: dict[str, type[Firmware]] = {"atftp": ATFTP, "U-Boot": UBoot, "EDK2": EDK2}
BLKSIZE = 1408
ROUND_TRIP = 0.0003
CONTENT = numbered(1_200_000)


def seconds(client: type[Firmware], windowsize: int, seed: int, loss: float, request_bytes: int | None) -> float:
    """Until the client has the file and has acknowledged that. Without *request_bytes* there is no proof."""
    agreed = Agreed(BLKSIZE, windowsize, acknowledged=(("blksize", str(BLKSIZE)), ("windowsize", str(windowsize))))
    network, dice = Random(seed), Random(-seed)
    randbelow: Callable[[int], int] = dice.randrange
    session = Reading(CONTENT, agreed, Adaptive().begin(agreed), request_bytes=request_bytes, randbelow=randbelow)
    firmware = client(windowsize, BLKSIZE, deadline=5.0)

    def fate(datagram: bytes) -> list[float]:
        return [] if network.random() < loss else [ROUND_TRIP / 2]

    exchange = Exchange(Sender(session), firmware, fate).run()
    assert firmware.content == CONTENT
    return max(at for at, datagram in exchange.datagrams if datagram[1] == 4)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("clients", nargs="*", default=list(CLIENTS), help=", ".join(CLIENTS))
    options.add_argument("--transfers", type=int, default=300, help="of each kind (%(default)s)")
    options.add_argument("--loss", type=float, default=5, help="percent of all datagrams, both ways (%(default)s)")
    options.add_argument("--request", type=int, default=60, help="bytes of the request (%(default)s)")
    options.add_argument("--windows", type=int, nargs="+", default=[4, 16, 64], help="their sizes (%(default)s)")
    arguments = options.parse_args()
    print("| client | window | windows at once | with the proof |\n| --- | --- | --- | --- |")
    for name in arguments.clients:
        for windowsize in arguments.windows:
            cells = []
            for request_bytes in (None, arguments.request):
                times = [
                    seconds(CLIENTS[name], windowsize, seed, arguments.loss / 100, request_bytes)
                    for seed in range(arguments.transfers)
                ]
                error = stdev(times) / arguments.transfers**0.5
                cells.append(f"{median(times):.2f}, {mean(times):.2f} ± {error:.2f}")
            print(f"| {name} | {windowsize} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
