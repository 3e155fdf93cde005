"""A machine boots out of an ISO image without unpacking it."""

import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from .firmware.servers import start_router
from .lab import Lab, need
from .machines.bios import start_bios_machine
from .machines.linux import initramfs, linux_kernel
from .qemu import SECONDS
from .service import start_bootfw

pytestmark = pytest.mark.interop


# Linux takes 20 s of a processor to start, and is what test_install boots, too.
@pytest.mark.parametrize("loader", ["pxelinux", pytest.param("linux", marks=pytest.mark.firmware)])
def test_rom_boots_from_an_iso_image(lab: Lab, tmp_path: Path, loader: str) -> None:
    """iPXE gets all of it there: PXELINUX, its configuration, a part of that by a symbolic link, the kernel."""
    need("xorriso")
    need("/usr/lib/PXELINUX/pxelinux.0")
    need("/usr/lib/syslinux/modules/bios/ldlinux.c32")
    marker = f"marker-{secrets.token_hex(8)}"
    image_root = tmp_path / "tree"
    (image_root / "install/pxelinux.cfg").mkdir(parents=True)
    shutil.copy("/usr/lib/PXELINUX/pxelinux.0", image_root / "install")
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", image_root / "install")
    (image_root / "install/linux.cfg").symlink_to("../boot-6.1.cfg")
    (image_root / "install/pxelinux.cfg/default").write_text("SERIAL 0\nINCLUDE linux.cfg\n")
    if loader == "linux":
        shutil.copy(linux_kernel(), image_root / "install/vmlinuz")
        (image_root / "install/initrd.gz").write_bytes(initramfs(tmp_path, marker))
        lines = "LINUX vmlinuz\nINITRD initrd.gz\nAPPEND console=ttyS0 panic=-1\n"
        (image_root / "boot-6.1.cfg").write_text(f"DEFAULT linux\nLABEL linux\n{lines}")
    else:
        (image_root / "boot-6.1.cfg").write_text(f"SAY {marker}\n")
    image = tmp_path / "installer.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-o", image, image_root], check=True)
    shutil.rmtree(image_root)
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
    start_router(lab)
    start_bootfw(lab.host("bootfw", "10.77.0.1/24"), lab.directory, configuration, 67, 69)
    console = start_bios_machine(lab, "e1000")
    console.wait_for(marker, SECONDS)
