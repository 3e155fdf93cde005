"""bootfw beside dnsmasq, tftpd-hpa and atftpd, in turn in one run; and beside a minimal C server, the possible.

``python benchmarks/tftp.py`` prints medians over the rounds, ratios to dnsmasq, and the servers' CPU seconds per GB;
``--json FILE`` keeps every single figure, ``--plot FILE`` draws them. Run it on an otherwise idle machine with two
cores: the load takes one. The load (load.c) says how much CPU it took itself; where that is far below the wall time it
was not the limit. "limit" (limit.c) does nothing but what the kernel has to do for the same datagrams.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from picture import draw_bars, rate, reference_server
from servers import HERE, SERVERS

SECONDS = 40

# name: (file or "-" for one that is missing, clients at once, transfers, blksize, windowsize)
WORK: dict[str, tuple[int, int, int, int, int]] = {
    "50 x 20 MB": (20_000_000, 50, 50, 1408, 1),
    "200 x 5 MB": (5_000_000, 200, 200, 1408, 1),
    "1000 x 1 MB": (1_000_000, 1000, 1000, 1408, 1),
    "1 x 20 MB": (20_000_000, 1, 1, 1408, 1),
    "30 kB, 100 at once": (30_000, 100, 10_000, 1408, 1),
    "30 kB, one by one": (30_000, 1, 1000, 1408, 1),
    "missing, 100 at once": (0, 100, 20_000, 1408, 1),
    "windowsize 16, 1 client": (50_000_000, 1, 4, 1408, 16),
    "windowsize 32, 8 clients": (50_000_000, 8, 24, 1408, 32),
}

WITHOUT_WINDOWS = ("dnsmasq", "tftpd-hpa")  # Debian 12's versions


def main() -> int:
    """Run the benchmark with the options of the command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--only", action="append", choices=WORK, help="this work, not all; can be repeated")
    options.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    options.add_argument("--json", type=Path, help="keep every figure here")
    options.add_argument("--plot", type=Path, help="draw them here: .svg, .png or .pdf (needs matplotlib)")
    arguments = options.parse_args()
    build_directory = HERE / "build"
    build_directory.mkdir(exist_ok=True)
    load = build_directory / "load"
    subprocess.run(["cc", "-O2", "-o", load, HERE / "load.c"], check=True)
    with tempfile.TemporaryDirectory(prefix="bootfw-bench-") as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        os.chmod(scratch, 0o755)
        figures = {
            work: measure(work, arguments, load, root, build_directory / "run") for work in arguments.only or WORK
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))
    if arguments.plot:
        draw_bars(figures, arguments.plot)
    return 0


def measure(work: str, arguments: argparse.Namespace, load: Path, root: Path, logs: Path) -> dict[str, list[Any]]:
    """Every round's figures of one kind of work, by server; prints the medians."""
    logs.mkdir(exist_ok=True)
    size, clients, transfers, blksize, windowsize = WORK[work]
    content = root / f"{size}.bin"
    if size and not content.exists():
        content.write_bytes(os.urandom(size))
        time.sleep(2.5)  # a file that is about to be read is rarely as new as that; bootfw keeps none of a newer one
    servers = [name for name in arguments.servers if windowsize == 1 or name not in WITHOUT_WINDOWS]
    figures: dict[str, list[Any]] = {name: [] for name in servers}
    for number in range(arguments.rounds):
        for name in servers:
            sys.stderr.write(f"\r{work}: round {number + 1} of {arguments.rounds}, {name}   ")
            with SERVERS[name](root, logs) as server:
                before = server.cpu_seconds()
                command = [load, "127.0.0.1", server.port, content.name if size else "missing"]
                command += [content if size else "-", clients, transfers, blksize, windowsize, SECONDS]
                result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=False)
                figure = json.loads(result.stdout)
                figure["server_cpu"] = server.cpu_seconds() - before
                figure["resident"] = server.resident_bytes()
                figures[name].append(figure)
    sys.stderr.write("\r" + " " * 70 + "\r")
    show(work, figures)
    return figures


def show(work: str, figures: dict[str, list[Any]]) -> None:
    """The medians, as a table."""

    def median(name: str, value: Any) -> float:
        return float(statistics.median(value(figure) for figure in figures[name]))

    reference = reference_server(figures)
    sys.stdout.write(f"\n{work}\n")
    row = "  {:17} {:>8} {:4} {:>10} {:>9} {:>9} {:>9} {:>7}\n"
    sys.stdout.write(row.format("", "rate", "", "/" + reference, "files/s", "CPU s/GB", "load CPU", "failed"))
    for name in figures:
        amount = median(name, lambda f: f["bytes"])
        cpu = median(name, lambda f: f["server_cpu"] * 1e9 / f["bytes"] if f["bytes"] else f["server_cpu"])
        files = median(name, lambda f: f["done"] / f["seconds"])
        failed = sum(figure["failed"] + figure["unfinished"] for figure in figures[name])
        ratio = median(name, rate) / (median(reference, rate) or 1)
        unit = "MB/s" if amount else "/s"
        load = median(name, lambda f: f["cpu"] / f["seconds"])
        columns = (f"{median(name, rate):.1f}", unit, f"{ratio:.2f}", f"{files:.0f}", f"{cpu:.2f}", f"{load:.0%}")
        sys.stdout.write(row.format(name, *columns, failed))
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
