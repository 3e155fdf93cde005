"""Windows setup in its layout, whose boot manager is a GRUB: it shows the disk that wimboot has made for it."""

import subprocess
from pathlib import Path

from ..lab import need

_GRUB = Path("/usr/lib/grub/x86_64-efi")

_GRUB_SCRIPT = """
search --file --set=disk /sources/boot.wim
ls -l ($disk)/sources/
cat ($disk)/sources/winpeshl.ini
cat ($disk)/sources/startnet.cmd
echo "{marker}"
sleep 600
"""


def windows_setup(scratch: Path, image: Path, marker: str) -> int:
    """Make the image: a directory with the files that are booted. Return the size of its ``boot.wim``.

    The boot manager for UEFI is in boot.wim, from which wimboot extracts it. It prints *marker* in the end.
    """
    need("grub-mkimage")
    need(str(_GRUB / "normal.mod"))
    system = scratch / "windows"
    for name in ("Windows/Boot/EFI", "Windows/System32"):
        (system / name).mkdir(parents=True)
    (system / "Windows/System32/startnet.cmd").write_text("wpeinit\r\n")  # winpeshl.ini takes its place
    script = scratch / "windows.cfg"
    script.write_text(_GRUB_SCRIPT.format(marker=marker))
    subprocess.run(
        [
            *("grub-mkimage", "-O", "x86_64-efi", "-p", "/", "-c", script),
            *("-o", system / "Windows/Boot/EFI/bootmgfw.efi"),
            *("part_msdos", "fat", "search", "ls", "cat", "echo", "sleep"),
        ],
        check=True,
    )
    for name in ("bootmgr", "boot/bcd", "boot/boot.sdi"):
        (image / name).parent.mkdir(parents=True, exist_ok=True)
        (image / name).write_bytes(name.encode())
    (image / "sources").mkdir()
    boot_wim = image / "sources/boot.wim"
    command = ["wimlib-imagex", "capture", str(system), str(boot_wim), "Windows PE", "--boot", "--compress=LZX"]
    subprocess.run(command, check=True, capture_output=True)
    return boot_wim.stat().st_size
