"""``bootfw lint`` has nothing to say of what distributions install, and of what GRUB makes itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from .lab import need

pytestmark = pytest.mark.interop

LINT = Path(sys.executable).with_name("bootfw"), "lint"


def findings(directory: str | Path) -> str:
    result = subprocess.run([*LINT, directory], capture_output=True, text=True)
    assert result.returncode in (0, 1), result.stderr
    return "" if result.returncode == 0 else result.stdout


@pytest.mark.parametrize(
    ("directory", "file"),
    [
        ("/usr/lib/PXELINUX", "pxelinux.0"),
        ("/usr/lib/syslinux/modules", "bios/ldlinux.c32"),
        ("/usr/lib/SYSLINUX.EFI", "efi64/syslinux.efi"),
        ("/usr/lib/ipxe", "snponly.efi"),
        ("/usr/lib/shim", "shimx64.efi.signed"),
        ("/usr/lib/grub/x86_64-efi-signed", "grubnetx64.efi.signed"),
    ],
)
def test_installed_boot_programs_have_no_findings(directory: str, file: str) -> None:
    need(f"{directory}/{file}")
    if directory == "/usr/lib/shim":
        need("/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed")
    assert findings(directory) == ""


def test_files_of_grub_mknetdir_have_no_findings(tmp_path: Path) -> None:
    need("grub-mknetdir")
    subprocess.run(["grub-mknetdir", f"--net-directory={tmp_path}", "--subdir=boot/grub"], check=True)
    assert list(tmp_path.glob("boot/grub/*/core.*"))
    assert findings(tmp_path) == ""
