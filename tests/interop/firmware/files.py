"""Boot files, with a marker in the last of them that a machine has to fetch. Paths are relative to the root."""

import shutil
import subprocess
from pathlib import Path

from attrs import frozen

from ..lab import need
from ..machines.linux import busybox, foreign_file, initramfs, linux_kernel

SERVER = "10.77.0.1"
"""The boot server's address: GRUB images have it in them."""

SERVER6 = "fd77::1"

GRUB = "grub"
"""The directory of its modules and its ``grub.cfg``."""

_MODULES = ("tftp", "http", "normal", "configfile", "echo", "sleep")
_CONSOLE = {"i386-pc": "serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\n"}


@frozen
class Served:
    """The directory that is served, and the marker that proves that a machine has loaded its files."""

    root: Path
    marker: str

    def ipxe_script(self, name: str = "boot.ipxe", kernel: str = "") -> str:
        """It prints the marker, or boots Linux with ``{http}`` before the names of *kernel* and ``initramfs``."""
        lines = [f"kernel {kernel} initrd=initramfs console=ttyS0 panic=-1", "initrd initramfs", "boot"]
        self._write(name, "\n".join(["#!ipxe", *(lines if kernel else [f"echo {self.marker}"])]))
        return name

    def linux(self, architecture: str = "amd64") -> None:
        """``kernel`` and ``initramfs``: the system prints the marker."""
        shutil.copy(linux_kernel(architecture), self.root / "kernel")
        archive = initramfs(self.root.parent, self.marker, busybox(architecture))
        (self.root / "initramfs").write_bytes(archive)

    def pxelinux_menu(self, console: str = "ttyS0") -> None:
        """``pxelinux.cfg/default`` for the Linux system, as PXELINUX and its imitators read it."""
        self._write(
            "pxelinux.cfg/default",
            "# pxelinux\nSERIAL 0\nDEFAULT linux\nLABEL linux\nKERNEL kernel\nINITRD initramfs\n"
            f"APPEND console={console} panic=-1",
        )

    def copy(self, path: str, name: str = "") -> str:
        """Copy a file of this machine into the directory, under its own name or another."""
        need(path)
        name = name or Path(path).name
        shutil.copy(path, self.root / name)
        return name

    def grub_menu(self, platform: str = "", *, linux: bool = False) -> None:
        """``grub.cfg`` prints the marker, or boots the Linux system, which does."""
        lines = _CONSOLE.get(platform, "")
        if linux:
            self.linux()
            lines += "linux /kernel console=ttyS0 panic=-1\ninitrd /initramfs\nboot"
        else:
            lines += f"echo {self.marker}\nsleep 600"
        self._write(f"{GRUB}/grub.cfg", lines)

    def grub(self, platform: str, modules: Path | None = None, *, linux: bool = False) -> str:
        """GRUB's core image as grub-mknetdir makes it, and all its modules, for TFTP.

        :param modules: where those of a foreign architecture are.
        :return: the name of the image.
        """
        need("grub-mknetdir")
        directory = modules or Path("/usr/lib/grub", platform)
        need(str(directory / "normal.mod"))
        _run("grub-mknetdir", f"--net-directory={self.root}", f"--subdir={GRUB}", f"--directory={directory}")
        self.grub_menu(platform, linux=linux)
        suffix = "0" if platform == "i386-pc" else "efi"
        return f"{GRUB}/{platform}/core.{suffix}"

    def grub_with_marker(self, platform: str, modules: Path | None = None) -> str:
        """A GRUB image that prints the marker and loads nothing else; *modules* as for ``grub()``."""
        need("grub-mkimage")
        directory = modules or Path("/usr/lib/grub", platform)
        need(str(directory / "echo.mod"))
        script = self.root.parent / "says.cfg"
        script.write_text(f"echo {self.marker}\nsleep 600\n")
        name = "says.efi"
        _run(
            *("grub-mkimage", "-O", platform, f"--directory={directory}"),
            *("-p", "/", "-c", str(script), "-o", str(self.root / name)),
            *("echo", "sleep"),
        )
        return name

    def grub_with_menu_from(self, protocol: str, platform: str, modules: Path | None = None) -> str:
        """One image that fetches its menu from SERVER by *protocol*, ``tftp`` or ``http``."""
        need("grub-mkimage")
        directory = modules or Path("/usr/lib/grub", platform)
        need(str(directory / "normal.mod"))
        bios = platform == "i386-pc"
        image = "core.0" if bios else "core.efi"
        _run(
            *("grub-mkimage", "-O", "i386-pc-pxe" if bios else platform, f"--directory={directory}"),
            *("-o", str(self.root / image), "-p", f"({protocol},{SERVER})/{GRUB}"),
            *(*_MODULES, *(("pxe", "serial") if bios else ("efinet",))),
        )
        self.grub_menu(platform)
        return image

    def uboot_script(self, architecture: str) -> str:
        """A script for U-Boot's ``source`` that prints the marker; *architecture* as mkimage names it."""
        need("mkimage")
        text = self.root.parent / "script"
        text.write_text(f"echo {self.marker}\n")
        name = "boot.scr.uimg"
        _run("mkimage", "-A", architecture, "-T", "script", "-d", str(text), str(self.root / name))
        return name

    def forth(self) -> str:
        """A Forth program for Open Firmware that prints the marker."""
        self._write("boot.fs", f'\\ Forth\n." {self.marker}" cr')
        return "boot.fs"

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{text}\n")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def foreign_grub(architecture: str, platform: str) -> Path:
    """GRUB's modules for *platform*, of Debian's *architecture*."""
    return foreign_file(architecture, f"usr/lib/grub/{platform}")
