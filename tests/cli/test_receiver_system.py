"""``bootfw receive --write-system``: the kernel that it uses, its errors, and how it replaces an old system.

tests/interop/test_install_disk.py writes a system, and boots it.
"""

import zipfile
from pathlib import Path

import pytest

from bootfw import __version__
from bootfw.cli.failure import CommandError
from bootfw.cli.main import main
from bootfw.cli.receiversystem import write_system

MKINITRAMFS = """#!/bin/sh
# mkinitramfs -d CONFIGURATION -o FILE VERSION
[ "$1 $3" = "-d -o" ] || exit 2
cp -R "$2" "$CONFIGURATION_COPY"
echo "RAM disk of $5" >"$4"
echo "W: a warning" >&2
"""

FAILING_MKINITRAMFS = """#!/bin/sh
echo "E: no space" >&2
exit 1
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root directory with mkinitramfs and three kernels; the newest has no modules."""
    for version in ("6.1.0-9-amd64", "6.1.0-10-amd64", "6.2.0-amd64"):
        (tmp_path / "boot").mkdir(exist_ok=True)
        (tmp_path / "boot" / f"vmlinuz-{version}").write_text(version)
        if version != "6.2.0-amd64":
            (tmp_path / "lib/modules" / version).mkdir(parents=True)
    install_mkinitramfs(tmp_path, MKINITRAMFS)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("CONFIGURATION_COPY", str(tmp_path / "configuration"))
    return tmp_path


def install_mkinitramfs(root: Path, program: str) -> None:
    """Install *program* as mkinitramfs."""
    (root / "bin").mkdir(exist_ok=True)
    (root / "bin/mkinitramfs").write_text(program)
    (root / "bin/mkinitramfs").chmod(0o755)


def test_system_has_the_newest_kernel_and_the_files_that_bootfw_needs(root: Path) -> None:
    directory = root / "images/receiver"
    directory.mkdir(parents=True)
    assert write_system(directory, root=root) == ("6.1.0-10-amd64", ["W: a warning"])
    files = {path.name: path.read_text() for path in directory.iterdir()}
    assert files == {
        "vmlinuz": "6.1.0-10-amd64",
        "initrd.img": "RAM disk of 6.1.0-10-amd64\n",
        "receiver.txt": f"bootfw {__version__}\nLinux 6.1.0-10-amd64\n",
    }
    configuration = root / "configuration"
    programs = [Path(line) for line in (configuration / "bootfw/programs").read_text().splitlines()]
    assert all(program.is_file() for program in programs)
    assert f"until {programs[0]} -I -S /bootfw.pyz" in (configuration / "scripts/bootfw").read_text()
    assert (configuration / "hooks/bootfw").stat().st_mode & 0o777 == 0o755
    (script,) = (configuration / "bootfw/files").glob("*.pyz")
    assert b"from bootfw.cli.diskinstall import main" in zipfile.ZipFile(script).read("__main__.py")
    assert len(list((configuration / "bootfw/files").rglob("urllib/request.py"))) == 1
    assert write_system(directory, "6.1.0-9-amd64", root)[0] == "6.1.0-9-amd64"
    assert (directory / "vmlinuz").read_text() == "6.1.0-9-amd64"
    assert [path.name for path in directory.parent.iterdir()] == ["receiver"]


def test_missing_kernel_is_an_error(root: Path) -> None:
    available = "there are 6.1.0-10-amd64, 6.1.0-9-amd64"
    with pytest.raises(CommandError, match=f"there is no kernel 6.2.0-amd64 in /boot with its modules .*; {available}"):
        write_system(root / "receiver", "6.2.0-amd64", root)
    with pytest.raises(CommandError, match=r"no kernel in /boot with its modules .*: apt install linux-image-amd64"):
        write_system(root / "receiver", root=root / "none")


def test_missing_mkinitramfs_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path="": None)
    with pytest.raises(CommandError, match="there is no mkinitramfs: apt install initramfs-tools busybox"):
        write_system(root / "receiver", root=root)


def test_failure_of_mkinitramfs_leaves_no_file(root: Path) -> None:
    install_mkinitramfs(root, FAILING_MKINITRAMFS)
    with pytest.raises(CommandError, match="mkinitramfs has failed: E: no space"):
        write_system(root / "images/receiver", root=root)
    assert list((root / "images").iterdir()) == []


def test_old_system_is_kept_if_it_cannot_be_replaced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = root / "images/receiver"
    write_system(directory, root=root)
    rename = Path.rename

    def refuse_new(path: Path, target: Path) -> Path:
        if target == directory and path.suffix != ".old":
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(OSError, match="no"):
        write_system(directory, root=root)
    assert [path.name for path in directory.parent.iterdir()] == ["receiver"]
    assert (directory / "vmlinuz").read_text() == "6.1.0-10-amd64"


def test_directory_with_other_files_is_not_replaced(root: Path) -> None:
    (root / "images/win11").mkdir(parents=True)
    (root / "images/win11/file").write_text("x")
    with pytest.raises(CommandError, match=r"images/win11 exists, and is no receiver system: remove it, or name"):
        write_system(root / "images/win11", root=root)
    assert [path.name for path in (root / "images").iterdir()] == ["win11"]


def test_command_reports_the_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["receive", "--write-system", str(root / "receiver"), "--kernel", "0.0"]) == 1
    assert "bootfw: there is no kernel 0.0 in /boot" in capsys.readouterr().err
