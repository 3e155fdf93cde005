"""A Linux system that a machine may boot: a kernel, and an initramfs that prints a message."""

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from ..lab import need

_CLIENTS = Path(__file__).parents[3] / ".clients"
"""Where tools/install-clients unpacks what can't be installed on this machine."""


def linux_kernel(architecture: str = "amd64") -> Path:
    """A kernel that tools/install-clients has fetched, or for ``amd64`` this machine's own. Debian's architectures."""
    directories = [_CLIENTS / "boot", Path("/boot")] if architecture == "amd64" else [_CLIENTS / architecture / "boot"]
    for directory in directories:
        if kernels := sorted(directory.glob("vmlinu[xz]-*")):
            return kernels[-1]
    pytest.skip(f"no Linux kernel for {architecture} to boot: tools/install-clients fetches one on Debian")


def foreign_file(architecture: str, path: str) -> Path:
    """A file or directory of a package of another architecture, such as ``usr/lib/grub/arm64-efi``."""
    unpacked = _CLIENTS / architecture / path
    if not unpacked.exists():
        pytest.skip(f"no {path} for {architecture}: tools/install-clients fetches it on Debian")
    return unpacked


def busybox(architecture: str = "amd64") -> Path:
    """The path of a static busybox."""
    if architecture != "amd64":
        return foreign_file(architecture, "bin/busybox")
    need("busybox")
    return Path(str(shutil.which("busybox")))


def initramfs(scratch: Path, message: str, program: Path | None = None) -> bytes:
    """A whole Linux system, all of it *program*, a busybox: it prints *message* and switches the machine off."""
    root = scratch / "initramfs"
    (root / "bin").mkdir(parents=True)
    shutil.copy(program or busybox(), root / "bin/busybox")
    init = root / "init"
    init.write_text(f"#!/bin/busybox sh\nbusybox echo {message}\nbusybox poweroff -f\n")
    init.chmod(0o755)
    return gzip.compress(cpio(root))


def cpio(root: Path) -> bytes:
    """The files of a directory as an archive that kernels unpack."""
    need("cpio")
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    command = ["cpio", "--quiet", "--create", "--format=newc"]
    return subprocess.run(command, cwd=root, input=names.encode(), capture_output=True, check=True).stdout
