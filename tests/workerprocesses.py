"""The worker processes of a running server, found in /proc."""

from pathlib import Path

from forks import WORKER_NAME


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(pid: int) -> list[int]:
    """The children that run the worker's program. A child of vfork(2) that does not run it yet must not be stopped:
    its parent would be stopped with it."""
    return [child for child in children(pid) if _is_worker(child)]


def _is_worker(pid: int) -> bool:
    """Whether a process is a worker, as a program or as a fork."""
    return "bootfw.cli.worker" in command_line(pid) or _lines(Path(f"/proc/{pid}/comm")) == [WORKER_NAME]


def command_line(pid: int) -> str:
    """With NULs between the words; "" when the process has ended."""
    return "".join(_lines(Path(f"/proc/{pid}/cmdline")))


def serves(pid: int) -> bool:
    """Whether a worker has its sockets open for reading: they are in its epoll set."""
    watched = [
        line.split()[1] for info in Path(f"/proc/{pid}/fdinfo").glob("*") for line in _lines(info) if "tfd:" in line
    ]
    return any(_target(Path(f"/proc/{pid}/fd/{number}")).startswith("socket:") for number in watched)


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
