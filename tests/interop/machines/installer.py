"""An installer that is small: a Linux system that does what its answers, a shell script, say.

Kernel and drivers are those of debian-installer's netboot image.
"""

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

from ..lab import need
from .linux import busybox, cpio

IMAGES = Path("/usr/lib/debian-installer/images/12/amd64/text")
"""The netboot image, unpacked: what is in netboot.tar.gz."""

KERNEL = IMAGES / "debian-installer/amd64/linux"

_DRIVERS = ("e1000", "virtio_pci", "virtio_net", "xhci-pci", "usb-storage", "sd_mod", "vfat", "nls_cp437", "nls_ascii")
"""Of network cards, of an USB disk, and of the file system that UEFI boots from."""

_DEPENDENCIES = re.compile(rb"\0depends=([^\0]*)")

_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /mnt /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for driver in {drivers}; do insmod /drivers/$driver.ko; done
until ip link set eth0 up; do sleep 1; done
until udhcpc -i eth0 -n -q -s /configure; do sleep 1; done
for word in $(cat /proc/cmdline); do
    case $word in
        answers=*) answers=${{word#answers=}} ;;
        content=*) content=${{word#content=}} ;;
    esac
done
until [ -b /dev/sda ]; do sleep 1; done
wget -q -O /answers "$answers" && . /answers
echo "no answers: $answers"
"""

_CONFIGURE = """#!/bin/sh
[ "$1" != bound ] || ip address add "$ip/$mask" dev "$interface"
"""

FAMILY = """
[[family]]
name = "small"
title = "A small installer"
source = "tests/interop/machines/installer.py"
files = ["linux", "initrd.gz", "small.txt"]
[[family.recipe]]
kernel = "linux"
initrd = ["initrd.gz"]
arguments = "console=ttyS0 panic=-1 content={content}"
answers = "answers={answers}"
"""
"""Of images.toml's kind, as an operator adds one."""


def small_installer(scratch: Path, image: Path, disk: bytes) -> None:
    """Make the image: a directory with ``disk``, what the answers are to install."""
    need(str(KERNEL))
    image.mkdir()
    shutil.copy(KERNEL, image / "linux")
    (image / "small.txt").write_text("")
    (image / "disk").write_bytes(disk)
    root = scratch / "small"
    (root / "bin").mkdir(parents=True)
    (root / "drivers").mkdir()
    shutil.copy(busybox(), root / "bin/busybox")
    loaded = _copy_drivers(scratch, root / "drivers")
    for name, text in (("init", _INIT.format(drivers=" ".join(loaded))), ("configure", _CONFIGURE)):
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    (root / "bin/sh").symlink_to("busybox")
    (image / "initrd.gz").write_bytes(gzip.compress(cpio(root), 1))


def _copy_drivers(scratch: Path, destination: Path) -> list[str]:
    """Copy the drivers, and those that they need; return their names in the order in which they are loaded."""
    need("cpio")
    unpacked = scratch / "netboot"
    unpacked.mkdir()
    initrd = gzip.decompress((KERNEL.parent / "initrd.gz").read_bytes())
    command = ["cpio", "--quiet", "--extract", "--make-directories", "lib/modules/*.ko"]
    subprocess.run(command, cwd=unpacked, input=initrd, check=True)
    files = {path.stem.replace("-", "_"): path for path in unpacked.rglob("*.ko")}
    loaded: dict[str, None] = {}

    def load(name: str) -> None:
        name = name.replace("-", "_")
        if name in loaded or name not in files:  # the kernel has it already
            return
        dependencies = _DEPENDENCIES.search(files[name].read_bytes())
        for dependency in os.fsdecode(dependencies[1]).split(",") if dependencies else ():
            load(dependency)
        loaded[name] = None
        shutil.copy(files[name], destination / f"{name}.ko")

    for driver in _DRIVERS:
        load(driver)
    return list(loaded)
