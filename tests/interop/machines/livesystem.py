"""A live system in an ISO image as Debian has them: its kernel and its live-boot, and a small system of its own."""

import shutil
import subprocess
from pathlib import Path

from ..chroots import Chroot
from ..lab import need
from .linux import busybox

_INIT = """#!/bin/busybox sh
/bin/busybox echo "{marker} $(/bin/busybox grep ' / ' /proc/mounts)"
/bin/busybox poweroff -f
"""


def live_image(scratch: Path, marker: str) -> Path:
    """Make the image, for virtual machines only: the kernel of Debian's clouds is small. Once up, the system prints
    *marker* and what is mounted as its root, and switches the machine off."""
    need("xorriso")
    debian = Chroot.create(scratch / "debian", "bookworm")
    debian.install("linux-image-cloud-amd64", "live-boot", "squashfs-tools")
    root = debian.path / "live"
    for name in ("bin", "dev", "etc", "proc", "run", "sbin", "sys"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox(), root / "bin/busybox")
    init = root / "sbin/init"
    init.write_text(_INIT.format(marker=marker))
    init.chmod(0o755)
    debian.run("mksquashfs", "/live", "/boot/filesystem.squashfs", "-quiet", "-no-progress")
    image = scratch / "image"
    (image / "live").mkdir(parents=True)
    for pattern in ("vmlinuz-*", "initrd.img-*", "filesystem.squashfs"):
        (boot_file,) = (debian.path / "boot").glob(pattern)
        shutil.move(boot_file, image / "live")
    debian.remove()
    (image / ".disk").mkdir()
    (image / ".disk/info").write_text("Debian GNU/Linux 12 (bookworm) amd64 live\n")
    iso = scratch / "live.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", iso, image], check=True)
    shutil.rmtree(image)
    return iso
