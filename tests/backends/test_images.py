"""The search for boot images: files are recognized by their first bytes, kernels get their initial RAM disks."""

import gzip
import io
import os
import random
from pathlib import Path

import pytest
from bootable import arm64, bzimage, cd, disk, pe, zboot
from hypothesis import given
from hypothesis import strategies as st

from bootfw.backends import images
from bootfw.backends.executables import Executable, read_disk, read_executable
from bootfw.backends.images import Image, Kernels, paired, scan


@pytest.mark.parametrize(
    ("data", "runs"),
    [
        (pe(0x8664), Executable(efi="x86_64")),
        (pe(0x14C), Executable(efi="i386")),
        (pe(0xAA64), Executable(efi="arm64")),
        (pe(0x1C4), Executable(efi="arm32")),
        (pe(0x5064), Executable(efi="riscv64")),
        (pe(0x8664, offset=9000)[:4096], Executable()),
        (pe(0x8664, subsystem=11), Executable()),  # a driver
        (pe(0x9999), Executable()),
        (bzimage(), Executable("x86_64", linux=True)),
        (bzimage(flags=0), Executable("i386", linux=True)),
        (bzimage(protocol=0x20B), Executable("i386", linux=True)),
        (bzimage("6.1.0-18-amd64", efi=0x8664), Executable("x86_64", "x86_64", True, "6.1.0-18-amd64")),
        (arm64(), Executable(efi="arm64", linux=True)),
        (gzip.compress(arm64() + random.Random(1).randbytes(20_000)), Executable(efi="arm64", linux=True)),
        (gzip.compress(b"070701" * 2000), Executable()),
        (b"\x1f\x8b\x08" + bytes(100), Executable()),
        (zboot(0xAA64), Executable(efi="arm64", linux=True)),
        (b"", Executable()),
        (b"MZ", Executable()),
        (b"#!ipxe\n", Executable()),
        (bytes(10000), Executable()),
    ],
)
def test_executables_are_recognized(data: bytes, runs: Executable) -> None:
    assert read_executable(io.BytesIO(data)) == runs


@pytest.mark.parametrize(
    ("data", "runs"),
    [
        (cd(0), Executable("i386")),
        (cd(0xEF), Executable(efi="any")),
        (cd(0, 0xEF), Executable("i386", "x86_64")),
        (disk(), Executable("i386")),
        (disk(b"\0\0\0", 0xEE), Executable(efi="any")),
        (disk(b"\xeb\x3c\x90", 0xEF), Executable("i386", "x86_64")),
        (disk(b"\0\0\0"), Executable()),
        (bytes(5000), Executable()),
        (b"", Executable()),
    ],
)
def test_disk_images_are_recognized(data: bytes, runs: Executable) -> None:
    assert read_disk(io.BytesIO(data)) == runs


@given(st.binary(max_size=3000))
def test_any_bytes_are_recognized_or_ignored(data: bytes) -> None:
    for start in (b"", b"MZ", bzimage()[:0x250], cd(0)[:40000]):
        read_executable(io.BytesIO(start + data))
        read_disk(io.BytesIO(start + data))


@pytest.mark.parametrize(
    ("kernels", "ramdisks", "pairs"),
    [
        (["vmlinuz"], ["initrd.gz"], {"vmlinuz": "initrd.gz"}),
        (["linux"], ["initrd.gz", "initrd-x.gz"], {"linux": "initrd.gz"}),
        (["vmlinuz-6.1"], ["initrd.img"], {"vmlinuz-6.1": "initrd.img"}),
        (["vmlinuz-6.1"], ["initrd.img-5.10"], {"vmlinuz-6.1": "initrd.img-5.10"}),
        (["vmlinuz-6.1"], ["initrd.img-5.10", "initrd.img-4.19"], {}),
        (
            ["vmlinuz-linux"],
            ["initramfs-linux-fallback.img", "initramfs-linux.img"],
            {"vmlinuz-linux": "initramfs-linux.img"},
        ),
        (
            ["vmlinuz-6.1.0-18-amd64", "vmlinuz-5.10.0-8-amd64"],
            ["initrd.img-5.10.0-8-amd64", "initrd.img-6.1.0-18-amd64"],
            {
                "vmlinuz-6.1.0-18-amd64": "initrd.img-6.1.0-18-amd64",
                "vmlinuz-5.10.0-8-amd64": "initrd.img-5.10.0-8-amd64",
            },
        ),
        (
            ["vmlinuz-6.8.5-301.fc40.x86_64"],
            ["initramfs-6.8.5-301.fc40.x86_64.img"],
            {"vmlinuz-6.8.5-301.fc40.x86_64": "initramfs-6.8.5-301.fc40.x86_64.img"},
        ),
        (["vmlinuz-lts", "vmlinuz-virt"], ["initramfs-lts"], {"vmlinuz-lts": "initramfs-lts"}),
        (["memtest86+.bin"], ["initrd"], {}),
        (["vmlinuz", "memtest.bin"], ["initrd"], {"vmlinuz": "initrd"}),
        (["vmlinuz"], [], {}),
        (["k3os-vmlinuz-amd64"], ["k3os-initrd-amd64", "initrd-other"], {"k3os-vmlinuz-amd64": "k3os-initrd-amd64"}),
        (
            ["fedora-coreos-40-live-kernel-x86_64", "fedora-coreos-39-live-kernel-x86_64"],
            ["fedora-coreos-39-live-initramfs.x86_64.img", "fedora-coreos-40-live-initramfs.x86_64.img"],
            {
                "fedora-coreos-40-live-kernel-x86_64": "fedora-coreos-40-live-initramfs.x86_64.img",
                "fedora-coreos-39-live-kernel-x86_64": "fedora-coreos-39-live-initramfs.x86_64.img",
            },
        ),
        (
            ["a.vmlinuz", "b.vmlinuz"],
            ["a.initrd", "b.initrd.gz"],
            {"a.vmlinuz": "a.initrd", "b.vmlinuz": "b.initrd.gz"},
        ),
        (["vmlinuz0", "vmlinuz1"], ["initrd0.img"], {"vmlinuz0": "initrd0.img"}),
        (["linux26"], ["initrd.img"], {"linux26": "initrd.img"}),
    ],
)
def test_kernel_and_initial_ram_disk_are_paired(kernels: list[str], ramdisks: list[str], pairs: dict[str, str]) -> None:
    assert paired(kernels, ramdisks) == pairs


def fill(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


FILES = {
    "debian/vmlinuz-6.1": bzimage("6.1", efi=0x8664),
    "debian/initrd.img-6.1": bytes(1000),
    "debian/cmdline": b"# for all\nconsole=ttyS0\n  quiet\x07 \n",
    "debian/arm/linux": arm64(),
    "debian/arm/linux.cmdline": b"root=/dev/nfs",
    "tools/shell.efi": pe(0x8664),
    "tools/snponly.efi": pe(0x8664),
    "tools/grubx64.efi": pe(0x8664),
    "grub/arm64-efi/core.efi": pe(0xAA64),
    "tools/driver.efi": pe(0x8664, subsystem=11),
    "tools/memtest86+.bin": bzimage(flags=0),
    "tools/live.iso": cd(0, 0xEF),
    "tools/data.iso": bytes(100_000),
    "tools/floppy.img": disk(),
    "rescue.ipxe": b"#!ipxe\n",
    "boot.ipxe": b"#!ipxe\n",
    "vmlinuz-of-text": b"no kernel",
    "empty.efi": b"",
    "README": b"x",
    ".hidden/vmlinuz": bzimage(),
    "new\nline.ipxe": b"#!ipxe\n",
}


def test_images_are_found_in_a_directory(tmp_path: Path) -> None:
    fill(tmp_path, FILES)
    found = scan([tmp_path])
    assert [(image.kind, image.path, image.label) for image in found] == [
        ("script", "rescue.ipxe", "rescue.ipxe"),
        ("linux", "debian/vmlinuz-6.1", "vmlinuz-6.1"),
        ("linux", "debian/arm/linux", "linux"),
        ("disk", "tools/floppy.img", "floppy.img"),
        ("disk", "tools/live.iso", "live.iso"),
        ("linux", "tools/memtest86+.bin", "memtest86+.bin"),
        ("efi", "tools/shell.efi", "shell.efi"),
    ]
    debian = found[1]
    assert (debian.initrds, debian.arguments) == (("debian/initrd.img-6.1",), "console=ttyS0 quiet")
    assert debian.size == len(FILES["debian/vmlinuz-6.1"]) + 1000
    assert found[2].arguments == "root=/dev/nfs"


@pytest.mark.parametrize(
    ("name", "data", "offered"),
    [
        ("linux26", bzimage("4.19.0"), True),
        ("rhcos-live-kernel-x86_64", bzimage("5.14.0"), True),
        ("openSUSE.vmlinuz", bzimage(), True),
        ("k3os-vmlinuz-amd64", bzimage("5.4.0"), True),
        ("talos-arm64.bin", arm64(), True),
        ("kernel8.img", arm64(), True),
        ("Image.gz-5.10", gzip.compress(arm64()), True),
        ("fedora", zboot(0xAA64), True),
        # These are started as kernels, but are menus themselves, or need a file to start.
        ("memdisk", bzimage("MEMDISK"), False),
        ("wimboot", bzimage(), False),
        ("ipxe.lkrn", bzimage(), False),
        ("grub.exe", bzimage(), False),
        ("hdt", bzimage("HDT"), False),
        ("initrd", bytes(4096), False),
        ("README", b"HdrS", False),
        ("data.gz", gzip.compress(bytes(5000)), False),
        ("setup.iso", bzimage(), False),
    ],
)
def test_kernels_with_any_name_are_found(tmp_path: Path, name: str, data: bytes, offered: bool) -> None:
    fill(tmp_path, {name: data})
    assert [(image.kind, image.path) for image in scan([tmp_path])] == ([("linux", name)] if offered else [])


def test_changed_file_without_a_kernel_name_is_read_again(tmp_path: Path) -> None:
    kernels = Kernels()
    fill(tmp_path, {"linux26": bzimage("4.19.0"), "README": b"x"})
    assert [image.runs.version for image in scan([tmp_path], kernels)] == ["4.19.0"]
    status = (tmp_path / "linux26").stat()
    fill(tmp_path, {"linux26": bzimage("4.20.0")})
    os.utime(tmp_path / "linux26", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [image.runs.version for image in scan([tmp_path], kernels)] == ["4.19.0"], "it is not read again"
    os.utime(tmp_path / "linux26", ns=(1, 1))
    assert [image.runs.version for image in scan([tmp_path], kernels)] == ["4.20.0"]
    (tmp_path / "README").unlink()
    (tmp_path / "linux26").unlink()
    assert scan([tmp_path], kernels) == ()
    assert not kernels._previous


def test_the_label_has_the_version_where_the_name_has_none(tmp_path: Path) -> None:
    fill(tmp_path, {"vmlinuz": bzimage("6.1.0-18-amd64")})
    assert [image.label for image in scan([tmp_path])] == ["vmlinuz (6.1.0-18-amd64)"]


def test_link_to_a_kernel_is_not_a_second_entry(tmp_path: Path) -> None:
    fill(tmp_path, {"vmlinuz-6.1": bzimage(), "initrd.img-6.1": b"x"})
    (tmp_path / "vmlinuz").symlink_to("vmlinuz-6.1")
    (tmp_path / "again").symlink_to(".")
    os.link(tmp_path / "vmlinuz-6.1", tmp_path / "linux")
    assert [(image.path, image.initrds) for image in scan([tmp_path])] == [("vmlinuz-6.1", ("initrd.img-6.1",))]


def test_first_root_with_a_path_wins(tmp_path: Path) -> None:
    fill(tmp_path / "one", {"x/vmlinuz": bzimage("one")})
    fill(tmp_path / "two", {"x/vmlinuz": bzimage("two"), "x/linux": bzimage("other")})
    assert [image.runs.version for image in scan([tmp_path / "one", tmp_path / "none", tmp_path / "two"])] == [
        "other",
        "one",
    ]


def test_scan_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {f"d{n}/{m}.ipxe": b"x" for n in range(10) for m in range(10)})
    monkeypatch.setattr(images, "ENTRIES", 40)
    assert 20 <= len(scan([tmp_path])) <= 40
    monkeypatch.setattr(images, "ENTRIES", 1000)
    monkeypatch.setattr(images, "IMAGES", 7)
    assert len(scan([tmp_path])) == 7
    monkeypatch.setattr(images, "DEPTH", 2)
    fill(tmp_path / "deep", {"1/2/3/4.ipxe": b"x", "1/2.ipxe": b"x"})
    assert [image.path for image in scan([tmp_path / "deep"])] == ["1/2.ipxe"]


@pytest.mark.parametrize(
    ("runs", "machines"),
    [
        (Executable("x86_64"), {"pcbios/x86_64"}),
        (Executable("i386"), {"pcbios/x86_64", "pcbios/i386"}),
        (Executable("x86_64", "x86_64"), {"pcbios/x86_64", "efi/x86_64"}),
        (Executable(efi="arm64"), {"efi/arm64"}),
        (Executable(efi="any"), {"efi/x86_64", "efi/i386", "efi/arm64"}),
    ],
)
def test_a_machine_is_offered_what_it_can_run(runs: Executable, machines: set[str]) -> None:
    image = Image("efi", "x", "x", 1, runs)
    all_machines = ("pcbios/x86_64", "pcbios/i386", "efi/x86_64", "efi/i386", "efi/arm64")
    assert {machine for machine in all_machines if image.runs_on(*machine.split("/"))} == machines
