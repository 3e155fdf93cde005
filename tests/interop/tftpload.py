"""Many TFTP clients at once: benchmarks/load.c, which compares every block, and gives up at the first ERROR."""

import json
import subprocess
from pathlib import Path
from typing import Any

from .lab import Host, Program, need

_SOURCE = Path(__file__).parents[2] / "benchmarks" / "load.c"

SECONDS = 480
"""Time limit of the whole load."""


def start_load(
    host: Host, directory: Path, server: str, content: Path, *, clients: int, transfers: int = 0, windowsize: int = 1
) -> Program:
    """So many *clients* at once fetch a file again and again.

    :param directory: takes the program.
    :param content: the file, as it should be. Its name is that of the request.
    :param transfers: how many there are in all; 0: one for each client.
    """
    need("cc")
    program = directory / "load"
    if not program.exists():
        subprocess.run(["cc", "-O2", "-o", program, _SOURCE], check=True)
    numbers = map(str, (clients, transfers or clients, 1428, windowsize, SECONDS))
    return host.start(program, server, "69", content.name, content, *numbers, name="load")


def figures(load: Program) -> dict[str, Any]:
    """Wait until the load has ended; return its counts: "done" and "failed" transfers, "repeats" of packets, ..."""
    load.wait(SECONDS + 60)
    counts: dict[str, Any] = json.loads(load.output.splitlines()[-1])
    return counts
