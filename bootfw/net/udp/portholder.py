"""Who has a port, from /proc."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


def who_holds(port: int, family: int, protocol: str = "udp") -> str:
    """The programs that have *port* open, such as "dnsmasq (pid 123)"; "" when that can't be told.

    Programs of other users are seen by root only.

    :param protocol: "udp" or "tcp".
    :param family: AF_INET or AF_INET6. IPv6 sockets are looked at for AF_INET too: most of them take IPv4 as well.
    """
    tables = [f"{protocol}6"] if family == socket.AF_INET6 else [protocol, f"{protocol}6"]
    inodes = {inode for table in tables for inode in _inodes(Path("/proc/net", table), port)}
    return ", ".join(_programs(inodes)) if inodes else ""


def _inodes(table: Path, port: int) -> Iterator[str]:
    """Socket inodes of the lines of *table* with this local port (proc(5), /proc/net/udp)."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            yield fields[9]


def _programs(inodes: set[str]) -> list[str]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if _has_open(process, wanted):
                found.append(f"{(process / 'comm').read_text().strip()} (pid {process.name})")
    return found


def _has_open(process: Path, wanted: set[str]) -> bool:
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in between
            if os.readlink(descriptor) in wanted:
                return True
    return False
