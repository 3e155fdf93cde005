"""``bootfw images``."""

import json
import re
from pathlib import Path

import pytest
from archives import make_iso
from bootable import disk_image
from howtos import blocks
from osimages import PC, TREES, listing

from bootfw.cli import main as command
from bootfw.config import defaults
from bootfw.frisbee.digests import Digests
from bootfw.images.catalogue import Catalogue, read_families

CONFIG = """
[[backend]]
use = "images"
root = "images"
"""


@pytest.fixture
def root(cwd: Path) -> Path:
    """The directory of the images, which is empty."""
    (cwd / "bootfw.toml").write_text(CONFIG)
    path = cwd / "images"
    path.mkdir()
    return path


def add_image(root: Path, name: str, family: str) -> None:
    """Write an ISO with the files of a family."""
    files = dict(next(tree for tree in TREES if tree.family == family).files)
    make_iso(root / f"{name}.iso", files)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run ``bootfw images``, and return its exit code, output and errors."""
    code = command.main(["images", "-c", "bootfw.toml", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_images_are_listed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_image(root, "debian-12", "debian-netboot")
    add_image(root, "netinst", "debian-cd")
    add_image(root, "rescue", "systemrescue")
    (root / "a b.iso").write_bytes(b"")
    code, out, err = run(capsys)
    assert code == 0
    lines = [line.split("  ") for line in out.splitlines()]
    assert [[cell.strip() for cell in line if cell.strip()] for line in lines] == [
        ["NAME", "WHAT", "RUNS ON", "BOOTED BY", "MEMORY"],
        ["debian-12", "Debian 12 installer", "BIOS x86_64, UEFI x86_64", "any", "512 MiB"],
        ["netinst", "Debian 12.4.0 NETINST", "-", "-", "-"],
        ["rescue", "SystemRescue 10.02", "BIOS x86_64, UEFI x86_64", "any, HTTP", "1.0 GiB"],
        [
            "netinst: can't be booted: its installer looks for the CD itself; add netboot.tar.gz of the same release, "
            "from http://ftp.debian.org/debian/dists/stable/main/installer-amd64/current/images/netboot/"
        ],
    ]
    assert err == (
        f"bootfw: {root}/a b.iso: rename it: boot programs can use only letters, digits and . _ + - in its name\n"
    )


def test_disk_image_is_listed_with_the_reason_why_it_is_not_installable(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "win11.raw").write_bytes(disk_image())
    for path, data in next(tree for tree in TREES if tree.family == "receiver").files.items():
        (root / "receiver").mkdir(exist_ok=True)
        (root / "receiver" / path).write_bytes(data)
    _, out, _ = run(capsys)
    _, receiver, disk, reason = (re.split(r"  +", line) for line in out.splitlines())
    assert receiver[:4] == ["receiver", "Receiver of disk images 0.1.0", "BIOS x86_64, UEFI x86_64", "iPXE, HTTP"]
    assert disk[:4] == ["win11", "Disk image, MBR, 1.0 MB", "BIOS x86_64, UEFI x86_64", "iPXE, HTTP"]
    message = 'machines receive it by multicast: set [multicast] listen = ["0.0.0.0:64494"] in bootfw.toml'
    assert reason == [f"win11: can't be installed: {message}"]
    servers = '[http]\nlisten = ["127.0.0.1:80"]\n[multicast]\nlisten = ["127.0.0.1:64494"]\n'
    (root.parent / "bootfw.toml").write_text(CONFIG + servers)
    message = f"it has no digests: bootfw images add {root}/win11.raw makes them"
    assert run(capsys)[1].splitlines()[-1] == f"win11: can't be installed: {message}"
    assert json.loads(run(capsys, "--json")[1])[1]["reason"] == message
    before = (root / "win11.raw").stat()
    assert run(capsys, "add", str(root / "win11.raw"))[1] == (
        f"{root}/win11.raw: Disk image, MBR, for BIOS x86_64, UEFI x86_64\n"
    )
    assert (root / "win11.raw").stat().st_ino == before.st_ino
    with open(root / "win11.raw", "rb") as file:
        assert (root / "win11.raw.chunks").read_bytes() == Digests.of(file.read).dump()
    assert "can't" not in run(capsys)[1]


def test_images_of_the_howto(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the configuration of the page; the image has the files of Debian's, but not their sizes."""
    copy_command, expected = blocks("images.md", "console")[0].split("# bootfw images\n")
    (name,) = re.findall(r"/srv/boot/images/(\S+)", copy_command)
    files = dict(next(tree for tree in TREES if tree.family == "debian-live").files)
    files[".disk/info"] = files[".disk/info"].replace(b"12.4.0", b"12.9.0")
    configuration, _ = blocks("images.md", "toml")
    (cwd / "boot/images").mkdir(parents=True)
    (cwd / "bootfw.toml").write_text(configuration.replace("/srv/", f"{cwd}/"))
    make_iso(cwd / "boot/images" / name, files)
    code, out, _ = run(capsys)
    assert code == 0
    assert out.replace("512 MiB", "1.5 GiB") == expected


def test_family_of_the_howto(cwd: Path) -> None:
    _, text = blocks("images.md", "toml")
    (cwd / "families.toml").write_text(text)
    files = dict.fromkeys(("rescue/vmlinuz", "rescue/initrd.img", "rescue/root.squashfs"), PC)
    found = Catalogue(read_families(cwd / "families.toml")).recognize(listing({**files, "rescue/VERSION": b"7\n"}))
    assert found is not None
    assert (found.title, len(found.plans)) == ("Our rescue system 7", 1)


def test_json_lists_images(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_image(root, "debian-12", "debian-netboot")
    code, out, _ = run(capsys, "--json")
    (image,) = json.loads(out)
    assert code == 0
    assert (image["name"], image["family"], image["release"]) == ("debian-12", "debian-netboot", "12")
    (boot,) = image["boots"]
    assert (boot["kernel"], boot["initrd"]) == (
        "debian-installer/amd64/linux",
        ["debian-installer/amd64/initrd.gz"],
    )
    assert boot["memory"] == (512 << 20) + len(PC) + 1


def test_empty_directory_has_no_images(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys)[:2] == (0, f"no images in {root}\n")


def test_missing_default_directory_is_an_error(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "ROOTS", (str(root / "none"),))
    Path("bootfw.toml").write_text("")
    code, _, err = run(capsys)
    assert code == 1
    assert err.startswith(f"bootfw: there is no {root}/none, in which images are by default: create it, or")


def test_missing_images_backend_is_an_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bootfw.toml").write_text('[[backend]]\nuse = "distribution"\n')
    code, _, err = run(capsys)
    assert code == 1
    assert err == (
        'bootfw: no images are served by bootfw.toml: add [[backend]] use = "images", root = "/srv/boot/images"\n'
    )
