"""Debian's TFTP servers, for comparison: tftpd-hpa and atftpd."""

import os
from pathlib import Path

import pytest

from .lab import Host, Program

_UNPACKED = Path(__file__).resolve().parents[2] / ".clients"
"""Debian's packages of the two exclude each other, so tools/install-clients unpacks instead of installing them."""


def tftpd_hpa(host: Host, root: Path) -> Program:
    """tftpd-hpa with *root* as its root, and uploads allowed."""
    return start_unpacked(
        host, "in.tftpd", "--foreground", "--secure", "--create", "--user", "root", "--address", ":69", root
    )


def atftpd(host: Host, root: Path) -> Program:
    """atftpd, which allows uploads by itself."""
    options = ("--daemon", "--no-fork", "--user", "root.root", "--verbose=0", "--logfile", "/dev/stdout")
    return start_unpacked(host, "atftpd", *options, root)


def start_unpacked(host: Host, name: str, *arguments: str | Path) -> Program:
    """Start an unpacked server of Debian, and wait until it listens on port 69."""
    program = _UNPACKED / "usr/sbin" / name
    if not program.exists():
        pytest.skip(f"{name} is not unpacked: tools/install-clients does it on Debian")
    machine = f"{os.uname().machine}-linux-gnu"
    libraries = ":".join(str(_UNPACKED / directory / machine) for directory in ("usr/lib", "lib"))
    server = host.start("env", f"LD_LIBRARY_PATH={libraries}", program, *arguments, name=name)
    server.wait_until_bound(69)
    return server
