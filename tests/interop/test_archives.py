"""A machine boots Linux out of an ISO image that nobody has unpacked."""

import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from .lab import Lab, need
from .machines.bios import start_bios_machine
from .machines.linux import initramfs, linux_kernel
from .qemu import SECONDS
from .service import start_bootfw

pytestmark = pytest.mark.interop


def test_a_rom_boots_linux_out_of_an_image(lab: Lab, tmp_path: Path) -> None:
    """iPXE gets all of it there: PXELINUX, its configuration, the kernel by a symbolic link, and the initramfs."""
    need("xorriso")
    need("/usr/lib/PXELINUX/pxelinux.0")
    need("/usr/lib/syslinux/modules/bios/ldlinux.c32")
    marker = f"marker-{secrets.token_hex(8)}"
    tree = tmp_path / "tree"
    (tree / "install/pxelinux.cfg").mkdir(parents=True)
    shutil.copy("/usr/lib/PXELINUX/pxelinux.0", tree / "install")
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", tree / "install")
    shutil.copy(linux_kernel(), tree / "kernel-6.1")
    (tree / "install/vmlinuz").symlink_to("../kernel-6.1")
    (tree / "install/initrd.gz").write_bytes(initramfs(tmp_path, marker))
    (tree / "install/pxelinux.cfg/default").write_text(
        "SERIAL 0\nDEFAULT linux\nLABEL linux\nLINUX vmlinuz\nINITRD initrd.gz\nAPPEND console=ttyS0 panic=-1\n"
    )
    image = tmp_path / "installer.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-o", image, tree], check=True)
    shutil.rmtree(tree)
    configuration = f"""
        [bootfw]
        state-dir = "{lab.directory / "state"}"
        [dhcp]
        mode = "server"
        [[dhcp.subnet]]
        network = "10.77.0.0/24"
        pool = ["10.77.0.100-10.77.0.200"]
        [[backend]]
        use = "archive"
        file = "{image}"
        prefix = "debian"
        path = "install"
        [[resolver]]
        use = "by-architecture"
        files = {{ "x86-bios" = "debian/pxelinux.0", "ipxe" = "debian/pxelinux.0" }}
    """
    start_bootfw(lab.host("bootfw", "10.77.0.1/24"), lab.directory, configuration, 67, 69)
    console = start_bios_machine(lab, "e1000")
    assert console.wait(SECONDS) == 0
    assert marker in console.output
