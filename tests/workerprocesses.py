"""The worker processes of a running server, by what /proc has of them."""

from pathlib import Path


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(pid: int) -> list[int]:
    """The children that run their program. A child by vfork(2) that does not yet must not be stopped: its parent is
    stopped with it."""
    return [child for child in children(pid) if "bootfw.cli.worker" in command_line(child)]


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
