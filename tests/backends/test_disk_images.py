"""Images of disks: how they are recognized, which files the ``images`` backend serves, and the script that installs
one."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backendcontent import content
from bootable import disk_image
from descriptors import open_descriptors
from osimages import TREES
from test_image_library import ThreadsWithClock

from bootfw.api import FileMissing, PluginContext, TransferRequest
from bootfw.backends.executables import read_partitions
from bootfw.backends.imagelibrary.backend import SECONDS, ImagesBackend
from bootfw.backends.imagelibrary.imageentry import split_name
from bootfw.backends.imagelibrary.library import Library, OSImage
from bootfw.backends.menu import MenuBackend
from bootfw.backends.menu import plugin as menu_plugin
from bootfw.plugins import configure

HTTP = "http://10.0.0.1:8069"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "boot/images"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def backend(root: Path) -> Iterator[Any]:
    images_backend = ImagesBackend(root, reactor=ThreadsWithClock())
    yield images_backend
    images_backend.close()


def put_receiver(root: Path, name: str = "receiver") -> None:
    for path, data in next(tree for tree in TREES if tree.family == "receiver").files.items():
        (root / name).mkdir(exist_ok=True)
        (root / name / path).write_bytes(data)


def images(root: Path) -> dict[str, OSImage]:
    return {image.name: image for image in Library([root]).scan()}


def menu(root: Path, path: str) -> str:
    menu_backend: MenuBackend = configure(
        menu_plugin, {"root": str(root.parent), "images": str(root)}, PluginContext(None, root)
    )
    request = TransferRequest(path, path, ("10.0.0.9", 2070), local="10.0.0.1", http_url=HTTP)
    return menu_backend.open(path, request).read(0, 1 << 16).decode()  # type: ignore[no-any-return]


# The partition table

FAT = disk_image()[:446] + b"this is no table, but text of a boot sector, such as DOS has it".ljust(64) + b"\x55\xaa"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (disk_image(), "MBR"),
        (disk_image(gpt=True), "GPT"),
        (disk_image()[:512].ljust(4096, b"\0") + b"EFI PART", "GPT"),  # sectors of 4096 bytes
        (FAT, ""),
        (bytes(446 + 64) + b"\x55\xaa", ""),
        (disk_image()[:510] + bytes(600), ""),
        (b"", ""),
    ],
)
def test_partition_table(data: bytes, kind: str) -> None:
    assert read_partitions(io.BytesIO(data)) == kind


# Recognition of images


@pytest.mark.parametrize("suffix", [".img", ".raw"])
def test_disk_image_is_installed_by_the_receiver(root: Path, suffix: str) -> None:
    (root / f"win11{suffix}").write_bytes(disk_image(gpt=True))
    found = images(root)["win11"]
    assert (found.title, found.is_disk, found.ways) == ("Disk image, GPT", True, ())
    assert found.reason == f"no receiver is there: bootfw receive --write-system {root}/receiver makes one"
    put_receiver(root)
    found = images(root)["win11"]
    assert (found.reason, found.digests, found.size) == ("", False, 1 << 20)
    assert [(way.runs.bios, way.runs.efi, way.plan.kernel) for way in found.ways] == [("x86_64", "x86_64", "vmlinuz")]
    assert images(root)["receiver"].is_receiver


def test_file_without_partitions_is_no_disk_image(root: Path) -> None:
    put_receiver(root)
    (root / "floppy.img").write_bytes(FAT)
    assert images(root)["floppy"].reason.startswith("it is not recognized")
    assert not images(root)["floppy"].is_disk


def test_digests_are_noticed_in_the_next_scan(root: Path) -> None:
    (root / "win11.img").write_bytes(disk_image())
    library = Library([root])
    assert [image.digests for image in library.scan()] == [False]
    (root / "win11.img.chunks").write_bytes(b"digests")
    assert [image.digests for image in library.scan()] == [True]
    (root / "win11.img.chunks").unlink()
    assert [image.digests for image in library.scan()] == [False]


def test_digests_that_are_older_than_the_image_do_not_count(root: Path, backend: Any) -> None:
    """Another image was copied over the one that the digests are for."""
    (root / "win11.img").write_bytes(disk_image())
    (root / "win11.img.chunks").write_bytes(b"digests")
    modified = (root / "win11.img").stat().st_mtime_ns - 1
    os.utime(root / "win11.img.chunks", ns=(modified, modified))
    assert not images(root)["win11"].digests
    assert content(backend, f"images/win11~{images(root)['win11'].version}.img.chunks") == "missing"


def test_suffixes() -> None:
    assert split_name("win11.RAW") == ("win11", ".raw")
    assert split_name("win11.img.chunks") == ("", "")


# Files that are served


def test_digests_of_each_version_are_served(root: Path, backend: Any) -> None:
    """A machine that has begun to receive an image verifies it by the digests of the same version."""
    (root / "win11.img").write_bytes(disk_image())
    (root / "win11.img.chunks").write_bytes(b"first")
    first = images(root)["win11"].version
    assert content(backend, f"images/win11~{first}.img.chunks") == b"first"
    for entry, data in ((".new", disk_image(gpt=True)), (".new.chunks", b"second")):
        (root / entry).write_bytes(data)
    (root / ".new.chunks").rename(root / "win11.img.chunks")
    (root / ".new").rename(root / "win11.img")
    second = images(root)["win11"].version
    backend._reactor.now += SECONDS
    assert content(backend, f"images/win11~{second}.img.chunks") == b"second"
    assert content(backend, f"images/win11~{first}.img.chunks") == b"first"
    assert content(backend, f"images/win11~{first}.img") == disk_image()
    for path in (f"win11~{second}.raw.chunks", f"win11~{second}.img.sum", f"win11~{second}.chunks", "win11.img.chunks"):
        assert content(backend, f"images/{path}") == "missing"


def test_digests_that_are_made_later_are_served_without_a_new_version(root: Path, backend: Any) -> None:
    (root / "win11.img").write_bytes(disk_image())
    path = f"images/win11~{images(root)['win11'].version}.img.chunks"
    with pytest.raises(FileMissing) as caught:
        backend.open(path, None)
    assert caught.value.detail == "win11 has no digests: bootfw images add makes them"
    (root / "win11.img.chunks").write_bytes(b"digests")
    backend._reactor.now += SECONDS
    assert content(backend, path) == b"digests"


def test_no_descriptor_is_left(root: Path) -> None:
    before = open_descriptors()
    backend = ImagesBackend(root, reactor=ThreadsWithClock())
    (root / "win11.img").write_bytes(disk_image())
    for number in range(3):
        (root / "win11.img.chunks").write_bytes(b"%d" % number)
        os.utime(root / "win11.img.chunks", ns=(0, (root / "win11.img").stat().st_mtime_ns + number))
        assert content(backend, f"images/win11~{images(root)['win11'].version}.img.chunks") == b"%d" % number
        backend._reactor.now += SECONDS
    backend.close()
    assert open_descriptors() == before


# The script


def test_script_boots_the_receiver_with_the_url_of_the_image(root: Path) -> None:
    put_receiver(root)
    (root / "win11.img").write_bytes(disk_image())
    (root / "receiver.cmdline").write_text("console=ttyS0")
    (root / "win11.cmdline").write_text("bootfw.disk=/dev/nvme0n1")
    found = images(root)
    receiver, image = f"receiver~{found['receiver'].version}", f"win11~{found['win11'].version}.img"
    script = menu(root, "install/win11.ipxe")
    assert (
        f"kernel --name linux {HTTP}/images/{receiver}/vmlinuz initrd=initrd boot=bootfw ip=dhcp "
        f"bootfw.image={HTTP}/images/{image} console=ttyS0 bootfw.disk=/dev/nvme0n1 BOOTIF=01-${{netX/mac:hexhyp}} ||"
    ) in script
    assert f"initrd --name initrd {HTTP}/images/{receiver}/initrd.img ||" in script
    assert script.count("kernel ") == 1
    assert "echo Disk image, MBR (win11)" in script


def test_arguments_for_all_images_are_added_once(root: Path) -> None:
    put_receiver(root)
    (root / "win11.img").write_bytes(disk_image())
    (root / "cmdline").write_text("console=ttyS0")
    assert menu(root, "install/win11.ipxe").count("console=ttyS0") == 1


def test_no_menu_writes_a_disk(root: Path) -> None:
    """A menu would not ask again before it writes the disk, and as its default it would install at each boot."""
    put_receiver(root)
    (root / "win11.img").write_bytes(disk_image())
    with pytest.raises(FileMissing):
        menu(root, "boot.ipxe")
    (root.parent / "other.efi").write_bytes(next(tree for tree in TREES if tree.family == "receiver").files["vmlinuz"])
    for path in ("boot.ipxe", "grub/grub.cfg", "pxelinux.cfg/default"):
        assert "bootfw.image" not in menu(root, path)
        assert "receiver" not in menu(root, path)
    with pytest.raises(FileMissing):
        menu(root, "install/receiver.ipxe")
