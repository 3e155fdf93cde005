"""The receiver of disk images, as ``bootfw receive --write-system`` makes it where Debian's packages for it are."""

import subprocess
from pathlib import Path

import pytest

from ..lab import need

_FILES = Path(__file__).parents[3] / ".clients/initramfs"
"""initramfs-tools, a kernel with its modules, and what they need. tools/install-clients unpacks them."""

_INSTALLED = """
mount -t overlay overlay -o "lowerdir=$1/usr:/usr" /usr
mount -t overlay overlay -o "lowerdir=$1/etc:/etc" /etc
mkdir -p /boot
mount --bind "$1/boot" /boot
shift
exec nice "$@"
"""
"""Runs a command as if the packages were installed."""


def write_receiver_system(command: str, directory: Path) -> None:
    """Write the system to *directory* by the program *command*, bootfw."""
    need("zstd")
    need("unshare")
    if not (_FILES / "boot").exists():
        pytest.skip("no initramfs-tools: tools/install-clients fetches it on Debian")
    prefix = ["unshare", "--mount", "sh", "-e", "-c", _INSTALLED, "sh", str(_FILES), command]
    result = subprocess.run([*prefix, "receive", "--write-system", str(directory)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
