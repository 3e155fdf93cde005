"""Writes the receiver system: a kernel, and an initial RAM disk that writes a disk image to the disk of its machine.

mkinitramfs of initramfs-tools makes the RAM disk, with the drivers, udev and the DHCP client of this system. Added are
the Python that runs bootfw, its standard library, and diskinstall.py.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Template

from bootfw import __version__
from bootfw.cli.failure import CommandError
from bootfw.cli.receivescript import write_script

KERNEL, INITRD, MARK = "vmlinuz", "initrd.img", "receiver.txt"
"""The files of the system. By the last one images.toml recognizes it."""

_SCRIPT = "bootfw.pyz"

_LEFT_OUT = (
    "__pycache__", "config-*", "dist-packages", "ensurepip", "idlelib", "lib2to3", "lib-dynload", "pydoc_data",
    "site-packages", "test", "tests", "tkinter", "turtledemo", "unittest",
)  # fmt: skip
"""Parts of the standard library that are left out of the RAM disk."""

_NO_EXTENSIONS = ("_curses", "_dbm", "_gdbm", "_sqlite3", "_test", "_tkinter", "_xx", "readline", "xx")
"""Prefixes of the extension modules that are left out, together with the libraries that they need."""


def write_system(directory: Path, kernel: str = "", root: Path = Path("/")) -> tuple[str, Sequence[str]]:
    """Write the system to *directory*, in place of one that is there.

    :param kernel: the version of the kernel, as ``uname -r`` prints it; "": the newest one of this machine.
    :param root: of the file system with the kernels.
    :return: the version of the kernel, and the warnings of mkinitramfs.
    :raise CommandError: this machine lacks a program or a kernel, or *directory* has other files.
    :raise OSError: the system can't be written.
    """
    if directory.exists() and any(directory.iterdir()) and not (directory / MARK).exists():
        raise CommandError(f"{directory} exists, and is no receiver system: remove it, or name another directory")
    image, kernel = _kernel(root, kernel)
    program = shutil.which("mkinitramfs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise CommandError(
            "there is no mkinitramfs: apt install initramfs-tools busybox, or run this on another machine with Debian "
            "or Ubuntu, and copy the directory"
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        with tempfile.TemporaryDirectory() as configuration:
            _configure(Path(configuration))
            command = [program, "-d", configuration, "-o", str(staging / INITRD), kernel]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        if done.returncode or not (staging / INITRD).exists():
            raise CommandError(f"mkinitramfs has failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
        shutil.copyfile(image, staging / KERNEL)
        (staging / MARK).write_text(f"bootfw {__version__}\nLinux {kernel}\n")
        for path in (staging, *staging.iterdir()):
            path.chmod(0o755 if path == staging else 0o644)
        _replace(directory, staging)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return kernel, lines


def _replace(directory: Path, staging: Path) -> None:
    # rename(2) does not replace a directory that has files.
    old = Path(f"{staging}.old")
    if directory.exists():
        directory.rename(old)
    try:
        staging.rename(directory)
    except BaseException:
        if old.exists():
            old.rename(directory)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _kernel(root: Path, kernel: str) -> tuple[Path, str]:
    """Return the file of a kernel, and its version.

    :raise CommandError: there is none.
    """
    found = {path.name.removeprefix("vmlinuz-"): path for path in (root / "boot").glob("vmlinuz-*")}
    with_modules = [each for each in found if (root / "lib/modules" / each).is_dir()]
    if kernel and kernel not in with_modules:
        known = f"; there are {', '.join(sorted(with_modules))}" if with_modules else ""
        raise CommandError(f"there is no kernel {kernel} in /boot with its modules in /lib/modules{known}")
    if not with_modules:
        raise CommandError(
            "there is no kernel in /boot with its modules in /lib/modules: apt install linux-image-amd64"
        )
    newest = kernel or max(with_modules, key=_sort_key)
    return found[newest], newest


def _sort_key(kernel: str) -> list[tuple[int, str]]:
    return [(int(part or -1), text) for part, text in re.findall(r"(\d+)|(\D+)", kernel)]


def _configure(directory: Path) -> None:
    """Write a configuration of mkinitramfs, with what is added to its RAM disk."""
    boot = Template(files("bootfw.cli").joinpath("initramfs/boot.j2").read_text("utf-8"), keep_trailing_newline=True)
    python = Path(sys.executable).resolve()
    for name in ("hooks", "scripts", "conf.d", "bootfw/files"):
        (directory / name).mkdir(parents=True)
    (directory / "initramfs.conf").write_text("MODULES=most\nBUSYBOX=auto\nKEYMAP=n\nCOMPRESS=zstd\nRUNSIZE=10%\n")
    hook = directory / "hooks/bootfw"
    hook.write_text(files("bootfw.cli").joinpath("initramfs/hook").read_text("utf-8"))
    hook.chmod(0o755)
    (directory / "scripts/bootfw").write_text(boot.render(python=python))
    root = directory / "bootfw/files"
    write_script(str(root / _SCRIPT), "bootfw.cli.diskinstall")
    library = Path(sysconfig.get_path("stdlib")).resolve()
    shutil.copytree(
        library,
        root / library.relative_to("/"),
        ignore=shutil.ignore_patterns(*_LEFT_OUT),
        ignore_dangling_symlinks=True,
    )
    (directory / "bootfw/programs").write_text("".join(f"{path}\n" for path in (python, *_extensions())))


def _extensions() -> Iterator[Path]:
    """Yield the files of the extension modules."""
    directory = Path(sysconfig.get_config_var("DESTSHARED") or "/nonexistent").resolve()
    for path in sorted(directory.glob("*.so")):
        if not path.name.startswith(_NO_EXTENSIONS):
            yield path
