"""What a machine may boot in the end: a Linux system."""

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from ..lab import need

_CLIENTS = Path(__file__).parents[3] / ".clients"
"""Where tools/install-clients unpacks what can't be installed on this machine."""


def linux_kernel(architecture: str = "amd64") -> Path:
    """One that tools/install-clients has fetched; for ``amd64`` this machine's own will do. Debian's names."""
    places = [_CLIENTS / "boot", Path("/boot")] if architecture == "amd64" else [_CLIENTS / architecture / "boot"]
    for directory in places:
        if kernels := sorted(directory.glob("vmlinu[xz]-*")):
            return kernels[-1]
    pytest.skip(f"no Linux kernel for {architecture} to boot: tools/install-clients fetches one on Debian")


def foreign(architecture: str, path: str) -> Path:
    """A file or directory of a package of another architecture, such as ``usr/lib/grub/arm64-efi``."""
    found = _CLIENTS / architecture / path
    if not found.exists():
        pytest.skip(f"no {path} for {architecture}: tools/install-clients fetches it on Debian")
    return found


def busybox(architecture: str = "amd64") -> Path:
    """A static one."""
    if architecture != "amd64":
        return foreign(architecture, "bin/busybox")
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
