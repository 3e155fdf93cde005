"""Images in a directory: their recognition, the files of each version in the ``images`` backend, and their menu."""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from archives import make_iso, make_tar, make_zip
from attrs import define
from backendcontent import content
from bootable import arm64, bzimage
from descriptors import open_descriptors
from osimages import ESXI_BOOT_CFG, PC, TREES
from threads import Threads

from bootfw.api import ConfigError, FileMissing, PluginContext, TransferRequest
from bootfw.backends.imagelibrary import backend as images
from bootfw.backends.imagelibrary.backend import KEPT, SECONDS, ImagesBackend, plugin
from bootfw.backends.imagelibrary.imageentry import split_name, version_of
from bootfw.backends.imagelibrary.library import Library, OSImage
from bootfw.backends.menu import MenuBackend
from bootfw.backends.menu import plugin as menu_plugin
from bootfw.backends.menucontents import amount
from bootfw.plugins import configure

BOOTIF = "BOOTIF=01-${netX/mac:hexhyp}"

DEBIAN = {
    "debian-installer/amd64/linux": PC,
    "debian-installer/amd64/initrd.gz": b"the initial RAM disk",
    "version.info": b"Debian version:  12 (bookworm)\n",
}


@define(eq=False)
class ThreadsWithClock(Threads):
    """Threads with a clock that the test sets."""

    now: float = 0.0

    def seconds(self) -> float:
        return self.now


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "boot/images"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def backend(root: Path) -> Iterator[Any]:
    backend = ImagesBackend(root, reactor=ThreadsWithClock())
    yield backend
    backend.close()


def put(root: Path, entry: str, files: dict[str, bytes]) -> None:
    """Create an image and rename it into place, over one of that name."""
    new = root / f".new{os.path.splitext(entry)[1]}"
    if entry.endswith(".iso"):
        make_iso(new, files)
    elif entry.endswith(".tar"):
        make_tar(new, files)
    elif entry.endswith(".zip"):
        make_zip(new, files)
    else:
        for name, data in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)
    new.rename(root / entry)


def versions(root: Path) -> dict[str, str]:
    return {image.name: image.version for image in Library([root]).scan()}


# Recognition of images


@pytest.mark.parametrize("entry", ["debian-12.iso", "debian-12.tar", "debian-12.zip", "debian-12"])
def test_image_is_found_and_recognized(root: Path, entry: str) -> None:
    put(root, entry, DEBIAN)
    (image,) = Library([root]).scan()
    assert (image.name, image.title, image.reason) == ("debian-12", "Debian 12 installer", "")
    ((way,),) = (image.ways,)
    assert (way.runs.bios, way.runs.efi, way.plan.kernel) == ("x86_64", "x86_64", "debian-installer/amd64/linux")


def test_images_that_can_not_be_booted_have_a_reason(root: Path) -> None:
    put(root, "a.iso", {"README": b""})
    (root / "b.iso").write_bytes(b"no image")
    put(root, "c.tar", {**DEBIAN, "debian-installer/amd64/linux": b"no kernel"})
    (root / "d.img").write_bytes(b"a disk")
    found = {image.name: image.reason for image in Library([root]).scan()}
    assert found == {
        "a": "it is not recognized; a CD that boots is in the menu as such",
        "b": "it is no ISO 9660 image, tar or zip archive",
        "c": "none of its kernels is for a known processor and firmware",
        "d": "it is not recognized; a disk that boots is in the menu as such",
    }


def test_entries_that_can_not_be_used_are_named(root: Path) -> None:
    put(root, "debian.iso", DEBIAN)
    put(root, "debian.tar", DEBIAN)
    put(root, "my image.iso", DEBIAN)
    (root / "none.iso").symlink_to("nothing")
    (root / "SHA256SUMS").write_text("")
    (root / ".debian.iso.part").write_text("")
    library = Library([root, root.parent / "absent"])
    assert [image.path.name for image in library.scan()] == ["debian.iso"]
    assert [problem.removeprefix(f"{root}/") for problem in library.problems] == [
        "debian.tar: debian.iso is the image debian already",
        "my image.iso: rename it: boot programs can use only letters, digits and . _ + - in its name",
        "none.iso: No such file or directory",
    ]


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ("debian-12.9.tar.gz", ("debian-12.9", ".tar.gz")),
        ("WIN11.ISO", ("WIN11", ".iso")),
        ("SHA256SUMS", ("", "")),
        ("a.iso.asc", ("", "")),
    ],
)
def test_name_and_suffix_of_an_entry(entry: str, parts: tuple[str, str]) -> None:
    assert split_name(entry) == parts


def test_an_image_is_examined_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "debian.iso", DEBIAN)
    library = Library([root])
    examined: list[Path] = []
    original = Library._inspected

    def inspect(self: Library, place: Any) -> OSImage:
        examined.append(place.path)
        return original(self, place)

    monkeypatch.setattr(Library, "_inspected", inspect)
    assert library.scan() == library.scan()
    assert len(examined) == 1
    put(root, "debian.iso", {**DEBIAN, "more": b"x"})
    library.scan()
    assert len(examined) == 2


def test_version_depends_on_content_and_time_and_not_on_the_name(root: Path) -> None:
    """Servers with the same images must have the same versions."""
    put(root, "debian.iso", DEBIAN)
    first = versions(root)["debian"]
    data, status = (root / "debian.iso").read_bytes(), (root / "debian.iso").stat()
    (root / "other.iso").write_bytes(data)
    os.utime(root / "other.iso", ns=(0, status.st_mtime_ns))
    assert versions(root)["other"] == first
    (root / "other.iso").write_bytes(data[:-1] + b"!")
    os.utime(root / "other.iso", ns=(0, status.st_mtime_ns))
    assert versions(root)["other"] != first


def test_directory_has_another_version_when_an_entry_is_added(root: Path) -> None:
    put(root, "debian", DEBIAN)
    first = versions(root)["debian"]
    (root / "debian/more").write_bytes(b"")
    assert versions(root)["debian"] != first


# Files that are served


@pytest.mark.parametrize("entry", ["debian-12.iso", "debian-12.tar", "debian-12.zip", "debian-12"])
def test_files_of_an_image_are_served_with_its_version_and_without(root: Path, backend: Any, entry: str) -> None:
    put(root, entry, DEBIAN)
    version = versions(root)["debian-12"]
    for directory in ("images/debian-12", f"images/debian-12~{version}"):
        assert content(backend, f"{directory}/debian-installer/amd64/initrd.gz") == b"the initial RAM disk"
        assert content(backend, f"{directory}/none") == "missing"
        assert content(backend, directory) == "missing"
    backend._reactor.now += SECONDS
    for path in ("images/debian-12~00000000/version.info", "images/none/x", "debian-12/version.info", "images", ""):
        assert content(backend, path) == "missing"


def test_image_itself_is_served_with_its_version(root: Path, backend: Any) -> None:
    put(root, "debian.iso", DEBIAN)
    version = versions(root)["debian"]
    assert content(backend, f"images/debian~{version}.iso") == (root / "debian.iso").read_bytes()
    for path in (f"images/debian~{version}.tar", f"images/debian~{version}.iso/version.info", "images/debian.iso"):
        assert content(backend, path) == "missing"


def test_disk_is_served_as_a_whole(root: Path, backend: Any) -> None:
    (root / "disk.img").write_bytes(b"a disk")
    assert content(backend, f"images/disk~{versions(root)['disk']}.img") == b"a disk"
    assert content(backend, "images/disk/boot") == "missing"


@pytest.mark.parametrize("entry", ["debian.iso", "debian.tar", "debian"])
def test_a_replaced_image_is_served_under_its_version(root: Path, backend: Any, entry: str) -> None:
    """Also if nobody has requested it before: a machine may already have the script with the old version."""
    put(root, entry, {**DEBIAN, "a": b"old"})
    old = versions(root)["debian"]
    backend.start(None)
    os.rename(root / entry, root / ".old")
    put(root, entry, {**DEBIAN, "a": b"new", "b": b""})
    new = versions(root)["debian"]
    backend._reactor.now += SECONDS
    assert content(backend, f"images/debian~{old}/a") == b"old"
    assert content(backend, f"images/debian~{old}/b") == "missing"
    assert content(backend, f"images/debian~{new}/a") == b"new"
    assert content(backend, "images/debian/a") == b"new"


@pytest.mark.parametrize("entry", ["debian.iso", "debian.tar", "debian"])
def test_an_old_version_is_served_for_an_hour_and_then_closed(root: Path, backend: Any, entry: str) -> None:
    before = open_descriptors()
    put(root, entry, {**DEBIAN, "a": b"old"})
    old = versions(root)["debian"]
    assert content(backend, f"images/debian~{old}/a") == b"old"
    os.rename(root / entry, root / ".old")
    backend._reactor.now += SECONDS
    assert content(backend, "images/debian/a") == "missing"
    assert content(backend, f"images/debian~{old}/a") == b"old"
    backend._reactor.now += KEPT
    assert content(backend, f"images/debian~{old}/a") == "missing"
    assert open_descriptors() == before


def test_an_image_that_comes_back_is_the_same(root: Path, backend: Any) -> None:
    put(root, "debian.iso", DEBIAN)
    path = f"images/debian~{versions(root)['debian']}/version.info"
    assert content(backend, path) == DEBIAN["version.info"]
    os.rename(root / "debian.iso", root / ".away")
    backend._reactor.now += SECONDS
    assert content(backend, path) == DEBIAN["version.info"]
    os.rename(root / ".away", root / "debian.iso")
    backend._reactor.now += KEPT + SECONDS
    assert content(backend, path) == DEBIAN["version.info"]
    os.rename(root / "debian.iso", root / ".away")
    backend._reactor.now += SECONDS
    assert content(backend, path) == DEBIAN["version.info"], "a new hour begins"


def test_nothing_is_open_after_close(root: Path) -> None:
    before = open_descriptors()
    put(root, "debian.iso", DEBIAN)
    put(root, "dir", DEBIAN)
    backend = ImagesBackend(root)
    assert content(backend, "images/debian/version.info") == DEBIAN["version.info"]
    assert content(backend, "images/dir/version.info") == DEBIAN["version.info"]
    backend.close()
    assert open_descriptors() == before
    assert content(backend, "images/debian/version.info") == DEBIAN["version.info"]
    backend.close()


def test_a_transfer_goes_on_when_its_image_is_closed(root: Path) -> None:
    put(root, "debian.iso", DEBIAN)
    backend = ImagesBackend(root)
    with closing(backend.open("images/debian/version.info", None)) as reader:
        os.remove(root / "debian.iso")
        backend.close()
        assert reader.read(0, 100) == DEBIAN["version.info"]


def test_files_beside_the_images_keep_their_versions(backend: Any) -> None:
    """The directory behind this backend has small files, which HTTP caches by their versions."""
    with pytest.raises(FileMissing):
        backend.version("boot.ipxe", None)
    assert backend.version("images/esxi/boot.cfg", None) is None


def test_boot_cfg_of_esxi_is_adapted_to_the_network(root: Path, backend: Any) -> None:
    put(root, "esxi.iso", {"boot.cfg": ESXI_BOOT_CFG, "b.b00": b"x"})
    version = versions(root)["esxi"]
    for directory, prefix in ((f"esxi~{version}", ""), ("esxi", f"../esxi~{version}/")):
        data = content(backend, f"images/{directory}/boot.cfg")
        assert isinstance(data, bytes)
        assert f"kernel={prefix}b.b00\n".encode() in data
    put(root, "other.iso", {"boot.cfg": b"kernel=/vmlinuz\n"})
    backend._reactor.now += SECONDS
    assert content(backend, "images/other/boot.cfg") == b"kernel=/vmlinuz\n"


@pytest.mark.parametrize("entry", ["one.iso", "one.tar", "one.zip", "one"])
def test_names_may_differ_in_upper_and_lower_case(root: Path, backend: Any, entry: str) -> None:
    put(root, entry, {"EFI/BOOT/BOOTX64.EFI": b"x"})
    assert content(backend, "images/one/efi/boot/bootx64.efi") == b"x"


def test_files_outside_an_image_are_not_served(root: Path, backend: Any) -> None:
    put(root, "debian", DEBIAN)
    (root / "secret").write_text("secret")
    (root / "debian/link").symlink_to("../secret")
    for path in (
        "images/debian/../secret",
        "images/../secret",
        "images/debian/link",
        "images/secret",
        "images/./secret",
    ):
        assert content(backend, path) == "missing"


def test_archives_that_can_not_be_read_are_named_in_the_log(
    root: Path, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(
        "twisted.logger.Logger.error", lambda self, text, **values: logged.append(text.format(**values))
    )
    (root / "bad.iso").write_bytes(b"no image")
    assert content(backend, "images/bad/x") == "missing"
    assert logged == [f"backend archive: {root}/bad.iso: it is no ISO 9660 image, tar or zip archive"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"root": ""}, "must be the path of a directory"),
        ({"root": "x", "families": "none.toml"}, "none.toml: No such file"),
        ({"root": "x", "families": "bad.toml"}, "familie: unknown key"),
    ],
)
def test_mistakes_in_the_configuration(tmp_path: Path, options: dict[str, str], error: str) -> None:
    (tmp_path / "bad.toml").write_text("[[familie]]\n")
    with pytest.raises(ConfigError) as caught:
        configure(plugin, options, PluginContext(None, tmp_path))
    assert error in str(caught.value)
    with pytest.raises(ConfigError):
        configure(menu_plugin, {"root": "x", "images": options["root"], **options}, PluginContext(None, tmp_path))


def test_version_is_eight_digits(root: Path) -> None:
    descriptor = os.open(root, os.O_RDONLY)
    try:
        version = version_of(descriptor)
    finally:
        os.close(descriptor)
    assert images._VERSIONED.fullmatch(f"x~{version}") is not None


# The menu


def menu(root: Path, **options: Any) -> MenuBackend:
    all_options = {"root": str(root.parent), "images": str(root), **options}
    menu_backend: MenuBackend = configure(menu_plugin, all_options, PluginContext(None, root))
    return menu_backend


def script(backend: MenuBackend, path: str, http: str = "http://10.0.0.1:8069", **request_fields: Any) -> str:
    request = TransferRequest(path, path, ("10.0.0.9", 2070), local="10.0.0.1", http_url=http, **request_fields)
    data: bytes = backend.open(path, request).read(0, 1 << 20)
    return data.decode("ascii")


def test_menu_of_ipxe(root: Path) -> None:
    put(root, "debian-12.iso", DEBIAN)
    base_url = f"http://10.0.0.1:8069/images/debian-12~{versions(root)['debian-12']}/debian-installer/amd64"
    text = script(menu(root), "boot.ipxe")
    assert "item --gap -- Operating systems\nitem i1 Debian 12 installer (debian-12) ..." in text
    assert f":i1\nkernel --name linux {base_url}/linux initrd=initrd {BOOTIF} || goto failed\n" in text
    assert f"initrd --name initrd {base_url}/initrd.gz || goto failed\nboot || goto failed\n" in text


def tree(family: str) -> dict[str, bytes]:
    """The files of an image of that family of operating systems."""
    return dict(next(tree for tree in TREES if tree.family == family).files)


def test_systems_that_fetch_by_http_are_left_out_without_it(root: Path) -> None:
    put(root, "arch.iso", tree("arch"))
    content_url = f"http://10.0.0.1:8069/images/arch~{versions(root)['arch']}"
    files = ("boot.ipxe", "grub.cfg", "pxelinux.cfg/default")
    for path in files:
        assert f"archiso_http_srv={content_url}/" in script(menu(root), path), path
        assert "initramfs-linux.img" in script(menu(root), path), path
    put(root, "debian.iso", DEBIAN)
    for path in files:
        assert "airootfs" not in script(menu(root), path, http="")
        assert "archiso" not in script(menu(root), path, http="")
        assert "amd64/linux" in script(menu(root), path, http="")


def test_several_initial_ram_disks(root: Path) -> None:
    put(root, "arch.iso", tree("arch"))
    path = f"images/arch~{versions(root)['arch']}/arch/boot"
    backend = menu(root)
    assert f"INITRD ::{path}/amd-ucode.img,::{path}/x86_64/initramfs-linux.img\n" in script(
        backend, "pxelinux.cfg/default"
    )
    assert f"    initrd /{path}/amd-ucode.img /{path}/x86_64/initramfs-linux.img\n" in script(backend, "grub.cfg")
    ipxe = script(backend, "boot.ipxe", protocol="http")
    assert " initrd=initrd initrd=initrd2 ip=dhcp" in ipxe
    assert f"initrd --name initrd2 /{path}/x86_64/initramfs-linux.img || goto failed" in ipxe


def test_image_as_a_file_in_the_initial_ram_disk(root: Path) -> None:
    put(root, "pve.iso", tree("proxmox"))
    image_path = f"images/pve~{versions(root)['pve']}.iso"
    backend = menu(root)
    assert f"initrd --name proxmox.iso http://10.0.0.1:8069/{image_path} /proxmox.iso || goto failed" in script(
        backend, "boot.ipxe"
    )
    assert f"newc:proxmox.iso:/{image_path}" in script(backend, "grub.cfg")
    assert "linux26" not in script(backend, "pxelinux.cfg/default")


def test_windows_needs_wimboot_in_the_boot_directory(root: Path) -> None:
    put(root, "win.iso", tree("windows"))
    assert "boot.wim" not in script(menu(root), "boot.ipxe")
    (root.parent / "wimboot").write_bytes(b"x")
    text = script(menu(root), "boot.ipxe")
    assert ":i1\nkernel http://10.0.0.1:8069/wimboot || goto failed\n" in text
    base_url = f"http://10.0.0.1:8069/images/win~{versions(root)['win']}"
    assert f"initrd --name BCD {base_url}/boot/bcd BCD || goto failed\n" in text


def test_esxi_by_pxelinux_and_by_ipxe(root: Path) -> None:
    """PXELINUX of SYSLINUX 3.86, which mboot.c32 is built for, loads everything by TFTP."""
    put(root, "esxi.iso", tree("esxi"))
    backend = menu(root)
    path = f"images/esxi~{versions(root)['esxi']}"
    assert f"KERNEL ::{path}/MBOOT.C32\nAPPEND -c /{path}/boot.cfg\nIPAPPEND 2\n" in script(
        backend, "pxelinux.cfg/default"
    )
    text = script(backend, "boot.ipxe")
    base_url = f"http://10.0.0.1:8069/{path}"
    assert (
        f"kernel {base_url}/EFI/BOOT/BOOTX64.EFI -c {base_url}/boot.cfg || goto failed\nboot || goto failed\n" in text
    )
    by_bios = f"kernel {base_url}/MBOOT.C32 -c {base_url}/boot.cfg BOOTIF=01-${{netX/mac:hexhyp}} || goto no-com32\n"
    assert f"{by_bios}boot || goto failed\n" in text
    assert "\n:no-com32\necho This iPXE is built without COMBOOT" in text
    assert f" {amount((root / 'esxi.iso').stat().st_size)}\n" in text
    assert f"\nkernel /{path}/MBOOT.C32 -c /{path}/boot.cfg BOOTIF" in script(backend, "boot.ipxe", http="")


def test_arguments_of_the_operator_are_added(root: Path) -> None:
    put(root, "arch.iso", tree("arch"))
    put(root, "debian.iso", DEBIAN)
    (root / "cmdline").write_text("# everywhere\nquiet\n")
    (root / "arch.cmdline").write_text("console=ttyS0")
    text = script(menu(root), "boot.ipxe")
    assert re.search(r"/vmlinuz-linux .* archiso_http_srv=\S+/ console=ttyS0 BOOTIF=\S+ \|\|", text)
    assert f"/linux initrd=initrd quiet {BOOTIF} ||" in text


def test_an_argument_that_the_operator_has_to_choose(root: Path) -> None:
    put(root, "alpine.tar", tree("alpine-netboot"))
    (image,) = Library([root]).scan()
    assert image.ways == ()
    assert image.reason.startswith(f"write alpine_repo=... into {root}/alpine.cmdline: the URL of its packages")
    (root / "alpine.cmdline").write_text("quiet alpine_repo=http://10.0.0.1/apks")
    (image,) = Library([root]).scan()
    assert (len(image.ways), image.reason) == (1, "")
    assert "quiet alpine_repo=http://10.0.0.1/apks" in script(menu(root), "boot.ipxe")


def test_an_image_is_in_the_menus_of_machines_that_can_run_it(root: Path) -> None:
    arm = {**DEBIAN, "debian-installer/amd64/linux": arm64()}
    old = {**DEBIAN, "debian-installer/amd64/linux": bzimage("2.6", flags=0)}
    put(root, "arm.iso", arm)
    put(root, "old.iso", old)
    text = script(menu(root), "boot.ipxe")
    menus = {
        menu_part.partition("\n")[0]: menu_part
        for menu_part in text.split("\n:")
        if menu_part.startswith(("efi-", "pcbios-"))
    }
    listed = {name: [image for image in ("(arm)", "(old)") if image in text] for name, text in menus.items()}
    assert listed == {"pcbios-x86_64": ["(old)"], "pcbios-i386": ["(old)"], "efi-arm64": ["(arm)"]}


def test_default_is_named_without_a_version(root: Path) -> None:
    put(root, "debian.iso", DEBIAN)
    backend = menu(root, default="images/debian")
    assert "--default i1 chosen" in script(backend, "boot.ipxe")
    assert "DEFAULT i1" in script(backend, "pxelinux.cfg/default")
    assert list(backend.lint()) == []
    assert list(menu(root, default="images/none").lint()) != []


def test_unrecognized_kernels_are_in_the_menu_without_a_version(root: Path) -> None:
    put(root, "mine", {"vmlinuz": PC, "initrd.gz": b"x"})
    put(root, "debian", DEBIAN)
    text = script(menu(root), "boot.ipxe", protocol="http")
    assert "kernel --name linux /images/mine/vmlinuz initrd=initrd" in text
    assert text.count("/linux initrd") == 1


# The scripts for bootfw install


def test_script_boots_one_image(root: Path) -> None:
    put(root, "debian.iso", DEBIAN)
    put(root, "arch.iso", tree("arch"))
    text = script(menu(root), "install/debian.ipxe")
    base_url = f"http://10.0.0.1:8069/images/debian~{versions(root)['debian']}/debian-installer/amd64"
    for machine in ("pcbios/x86_64", "efi/x86_64"):
        assert f"iseq ${{platform}}/${{cpu}} {machine} && goto i2 ||\n" in text
    kernel = f"kernel --name linux {base_url}/linux initrd=initrd {BOOTIF} || goto failed\n"
    assert f"{kernel}initrd --name initrd {base_url}/initrd.gz" in text
    assert "boot || goto failed\ngoto failed\n" in text
    assert "archiso" not in text
    assert text.rstrip().endswith("exit 0")


def test_script_points_the_installer_to_its_answers(root: Path) -> None:
    put(root, "debian.iso", DEBIAN)
    put(root, "ubuntu", tree("ubuntu-server"))
    put(root, "ubuntu.iso", tree("ubuntu-server"))
    (root / "ubuntu").rename(root / ".ubuntu")
    (root / "debian.cmdline").write_text("console=ttyS0")
    backend = menu(root)
    text = script(backend, "install/debian/web/preseed.cfg.ipxe")
    answers = "auto=true priority=critical interface=auto url=http://10.0.0.1:8069/web/preseed.cfg"
    assert f" {answers} console=ttyS0 {BOOTIF} || goto failed" in text
    text = script(backend, "install/ubuntu/autoinstall/user-data.ipxe")
    answers = "autoinstall ds=nocloud-net;s=http://10.0.0.1:8069/autoinstall/"
    assert f" cloud-config-url=/dev/null {answers} {BOOTIF} ||" in text


@pytest.mark.parametrize(
    ("path", "http"),
    [
        ("install/none.ipxe", "http://10.0.0.1:8069"),
        ("install/debian~00000000.ipxe", "http://10.0.0.1:8069"),
        ("install/debian/preseed.cfg.ipxe", ""),
        ("install/rescue/x.ipxe", "http://10.0.0.1:8069"),
        ("install/rescue.ipxe", ""),
        ("install/.ipxe", "http://10.0.0.1:8069"),
        ("install/debian", "http://10.0.0.1:8069"),
    ],
)
def test_images_that_ipxe_can_not_boot_have_no_script(root: Path, path: str, http: str) -> None:
    put(root, "debian.iso", DEBIAN)
    put(root, "rescue.iso", tree("systemrescue"))
    with pytest.raises(FileMissing):
        script(menu(root), path, http=http)


def test_script_of_another_image_is_not_cached(root: Path) -> None:
    put(root, "debian.iso", DEBIAN)
    put(root, "rescue.iso", tree("systemrescue"))
    backend = menu(root)
    assert "sysresccd" not in script(backend, "install/debian.ipxe")
    assert "sysresccd" in script(backend, "install/rescue.ipxe")
