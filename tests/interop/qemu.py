"""Machines that are switched on and boot from the lab's segment, under QEMU without acceleration: the same everywhere.

What such a machine prints on its serial console is the output of the program.
"""

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from .lab import Lab, Program, need

_OVMF = Path("/usr/share/OVMF")
_ROOT = Path(__file__).parents[2]


def start_bios_machine(lab: Lab, nic: str) -> Program:
    """SeaBIOS and the PXE ROM that QEMU has for this network card, which is iPXE."""
    need("qemu-system-x86_64")
    return _start(lab, "-machine", "pc,graphics=off", "-boot", "n", "-device", f"{nic},netdev=net")


def start_uefi_machine(lab: Lab) -> Program:
    """OVMF with its own PXE client, for IPv4 only."""
    need("qemu-system-x86_64")
    need(str(_OVMF / "OVMF_CODE_4M.fd"))
    variables = lab.directory / "ovmf-variables.fd"
    shutil.copy(_OVMF / "OVMF_VARS_4M.fd", variables)
    return _start(
        lab,
        *("-machine", "q35"),
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_OVMF / 'OVMF_CODE_4M.fd'}"),
        *("-drive", f"if=pflash,unit=1,format=raw,file={variables}"),
        # Without a ROM of its own the card is driven by the firmware; else by iPXE's EFI driver.
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *("-device", "virtio-rng-pci"),
        *("-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"),
    )


def _start(lab: Lab, *options: str) -> Program:
    lab.switch.ip("tuntap", "add", "machine", "mode", "tap")
    lab.switch.ip("link", "set", "machine", "master", "br0", "up")
    return lab.switch.start(
        "qemu-system-x86_64",
        *("-accel", "tcg", "-m", "256", "-nodefaults", "-no-reboot"),
        *("-display", "none", "-monitor", "none", "-serial", "stdio"),
        *("-netdev", "tap,id=net,ifname=machine,script=no,downscript=no"),
        *options,
    )


def linux_kernel() -> Path:
    """One that tools/install-clients has fetched, or this machine's own."""
    for directory in (_ROOT / ".clients/boot", Path("/boot")):
        if kernels := sorted(directory.glob("vmlinuz-*")):
            return kernels[-1]
    pytest.skip("no Linux kernel to boot: tools/install-clients fetches one on Debian")


def initramfs(scratch: Path, message: str) -> bytes:
    """A whole Linux system: it prints *message* and switches the machine off."""
    need("cpio")
    need("busybox")
    root = scratch / "initramfs"
    (root / "bin").mkdir(parents=True)
    shutil.copy(str(shutil.which("busybox")), root / "bin/busybox")
    init = root / "init"
    init.write_text(f"#!/bin/busybox sh\nbusybox echo {message}\nbusybox poweroff -f\n")
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in root.rglob("*"))
    packed = subprocess.run(
        ["cpio", "--quiet", "--create", "--format=newc"],
        cwd=root,
        input=names.encode(),
        capture_output=True,
        check=True,
    )
    return gzip.compress(packed.stdout)
