"""Every boot and every fetch with every server at every loss of packets, and a table: what ``make firmware`` runs.

The exit code is 1 when bootfw has lost a boot. What dnsmasq does is for comparison.
"""

import argparse
import itertools
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import asdict, frozen

from bootfw.terminal import aligned

from .firmware.boots import BOOTS, Boot
from .firmware.fetches import FETCHES, TFTP_SERVERS, Fetch, try_fetch
from .firmware.servers import SERVERS
from .firmware.trial import Failed, try_boot
from .lab import Lab, reason_unavailable

LOSSES = (0, 2, 5)

EVERYTHING: tuple[Boot | Fetch, ...] = (*BOOTS, *FETCHES)


@frozen
class Cell:
    """A boot, a server and a loss of so many percent."""

    boot: Boot | Fetch
    server: str
    loss: int

    def __str__(self) -> str:
        return f"{self.boot.name}, {self.server}, {_percent(self.loss)}"


@frozen
class Result:
    """What came of a cell, tried several times."""

    boot: str
    server: str
    loss: int
    seconds: list[float]
    """From power-on to the proof, of each time that it booted."""
    failures: list[str]
    skipped: str = ""
    """Why it was not tried."""

    def __str__(self) -> str:
        if self.skipped:
            return "-"
        attempts = len(self.seconds) + len(self.failures)
        ratio = f" ({len(self.seconds)} of {attempts})" if attempts > 1 else ""
        return f"{statistics.median(self.seconds):.1f} s{ratio}" if self.seconds else f"FAILED{ratio}"


def run(cell: Cell, times: int, logs: Path) -> Result:
    """Try it *times* times. *logs* keeps those of what failed."""
    result = Result(cell.boot.name, cell.server, cell.loss, [], [])
    for number in range(1, times + 1):
        directory = logs / f"{cell.boot.name}-{cell.server}-{cell.loss}-{number}"
        directory.mkdir(parents=True)
        try:
            with Lab(directory) as lab:
                scratch = Path(tempfile.mkdtemp(dir=directory))
                result.seconds.append(_try_once(cell, lab, scratch))
        except Failed as failure:
            result.failures.append(f"{failure}: {directory}")
            shutil.rmtree(scratch)
        except pytest.skip.Exception as reason:
            shutil.rmtree(directory)
            return Result(cell.boot.name, cell.server, cell.loss, [], [], str(reason))
        else:
            shutil.rmtree(directory)
    return result


def _try_once(cell: Cell, lab: Lab, scratch: Path) -> float:
    if isinstance(cell.boot, Fetch):
        return try_fetch(cell.boot, TFTP_SERVERS[cell.server], lab, scratch, cell.loss)
    return try_boot(cell.boot, SERVERS[cell.server], lab, scratch, cell.loss)


def table(results: Sequence[Result]) -> str:
    """A line for each boot, a column for each server and loss."""
    columns = list(dict.fromkeys((result.server, result.loss) for result in results))
    cells = {(result.boot, result.server, result.loss): str(result) for result in results}
    rows = [["boot", *(f"{server} {_percent(loss)}" for server, loss in columns)]]
    for name in dict.fromkeys(result.boot for result in results):
        rows.append([name, *(cells[name, server, loss] for server, loss in columns)])
    return aligned(rows)


def _percent(loss: int) -> str:
    return f"{loss} %" if loss else "clean"


def _arguments(command_line: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make firmware", description=__doc__.splitlines()[0])
    names = [boot.name for boot in EVERYTHING]
    parser.add_argument("boot", nargs="*", choices=[*names, []], metavar="BOOT", help=", ".join(names))
    parser.add_argument("--server", choices=[*SERVERS, "both"], default="bootfw")
    parser.add_argument("--loss", type=int, nargs="+", choices=LOSSES, default=LOSSES, help="percent")
    parser.add_argument("--times", type=int, default=1, help="how often each is tried")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once; one for each core is about right")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--logs", type=Path, default=None, help="directory for what failing boots have left")
    return parser.parse_args(command_line)


def main(command_line: Sequence[str], write: Callable[[str], object] = print) -> int:
    arguments = _arguments(command_line)
    if reason := reason_unavailable():
        print(reason, file=sys.stderr)
        return 2
    servers = list(SERVERS) if arguments.server == "both" else [arguments.server]
    boots = [boot for boot in EVERYTHING if not arguments.boot or boot.name in arguments.boot]
    cells = [Cell(*combination) for combination in itertools.product(boots, servers, arguments.loss)]
    if arguments.logs is not None:
        arguments.logs.mkdir(parents=True, exist_ok=True)
    logs = Path(tempfile.mkdtemp(prefix="bootfw-firmware-", dir=arguments.logs))
    results = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        futures = [pool.submit(run, cell, arguments.times, logs) for cell in cells]
        for number, (cell, future) in enumerate(zip(cells, futures, strict=True), 1):
            result = future.result()
            details = "".join(f"\n    {detail}" for detail in (result.failures or filter(None, [result.skipped])))
            print(f"[{number}/{len(cells)}] {cell}: {result}{details}", file=sys.stderr, flush=True)
            results.append(result)
    write(json.dumps([asdict(result) for result in results], indent=2) if arguments.json else table(results))
    return 1 if any(result.failures for result in results if result.server == "bootfw") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
