"""ESXi 7 and 8 by every way that VMware documents: what mboot requests of this server.

The pages are those of the vSphere documentation, for 7.0 and 8.0 alike: "Boot the ESXi Installer by Using PXE and
TFTP", "Boot the ESXi Installer by Using iPXE and HTTP", "Boot the ESXi Installer by Using Native UEFI HTTP", "PXELINUX
Configuration Files" and "About the boot.cfg File".
"""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from archives import make_iso, make_tar
from backendcontent import content
from esxi import BUILDS, NAMES, SIZES, Mboot, boot_cfg, tree
from osimages import listing

from bootfw.api import FileMissing, PluginContext, TransferRequest
from bootfw.backends.imagelibrary.backend import ImagesBackend
from bootfw.backends.menu import MenuBackend
from bootfw.backends.menu import plugin as menu_plugin
from bootfw.images.bootcfg import for_network
from bootfw.images.catalogue import stock
from bootfw.plugins import configure

HTTP = "http://10.0.0.1:8069"
MAC = "52-54-00-12-34-56"
RELEASES = [7, 8]
PROGRAMS = {7: ("EFI/BOOT/BOOTX64.EFI", "MBOOT.C32"), 8: ("EFI/BOOT/bootx64.efi", "mboot.c32")}
"""mboot for UEFI and for BIOS. Names of files of a CD without Rock Ridge are shown in small letters."""


OPTIONS = {7: "", 8: " systemMediaSize=min"}
"""Of the operator, in esxi-8.cmdline: the size of the partitions of the system, since 7.0 Update 1c."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """esxi-7 is an image that was unpacked, with the sizes of its files; esxi-8 a CD."""
    path = tmp_path_factory.mktemp("boot") / "images"
    for name, data in tree(7).items():
        file = path / "esxi-7" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        os.truncate(file, SIZES.get(name.lower(), len(data)))
    make_iso(path / "esxi-8.iso", tree(8), view="plain", volume="ESXI-8.0U3B-24280767-STANDARD")
    (path / "esxi-8.cmdline").write_text(OPTIONS[8])
    return path


@pytest.fixture(scope="module")
def backend(root: Path) -> Iterator[ImagesBackend]:
    backend = ImagesBackend(root)
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def menu(root: Path) -> MenuBackend:
    menu: MenuBackend = configure(
        menu_plugin, {"root": str(root.parent), "images": "images"}, PluginContext(None, root.parent)
    )
    (root.parent / "menu.c32").write_bytes(b"x")
    return menu


def directory_of_image(menu: MenuBackend, release: int) -> str:
    """Where the files of the image are."""
    version = next(image.version for image in menu.library.scan() if image.name == f"esxi-{release}")
    return f"images/esxi-{release}~{version}"


def text(menu: MenuBackend, path: str, http: str = HTTP) -> str:
    request = TransferRequest(path, path, ("10.0.0.9", 2070), local="10.0.0.1", http_url=http)
    data: bytes = menu.open(path, request).read(0, 1 << 20)
    return data.decode("ascii")


def boot(backend: ImagesBackend, release: int, directory: str, config: str = "") -> list[str]:
    """Boot, see that mboot gets each file that it needs, and return what it has requested.

    By HTTP it requests URLs only (vmware/esx-boot, uefi/efiutils/httpfile.c, http_file_load()), by TFTP paths only.
    """
    by_http = f"{directory}{config}".startswith("http:")

    def read(path: str) -> tuple[int, bytes] | None:
        assert path.startswith("http:") == by_http or path == "crypto64.efi"
        try:
            with closing(backend.open(urlsplit(path).path, None)) as reader:
                return reader.size, reader.read(0, 1 << 14)
        except FileMissing:
            return None

    mboot = Mboot(read)
    loaded_files = list(mboot.boot(directory, config, MAC))
    assert [name for name, _ in loaded_files] == ["b.b00", *NAMES[release], *(["crypto64.efi"] if release == 8 else [])]
    for name, found in loaded_files:
        assert found is not None, name
        size, data = found
        assert name.encode().startswith(data[:size].rstrip(b"\0").removeprefix(b"efi/boot/"))
        assert size == (SIZES.get(name, size) if release == 7 else size)
    return mboot.requested


@pytest.mark.parametrize("release", RELEASES)
def test_image_is_recognized(release: int) -> None:
    found = stock().recognize(listing(tree(release)))
    assert found is not None
    assert (found.family.name, found.title) == ("esxi", f"VMware ESXi {BUILDS[release][:5]}")
    assert [plan.kernel for plan in found.plans] == ["EFI/BOOT/BOOTX64.EFI", "MBOOT.C32"]


def test_image_for_arm_is_booted_by_its_own_mboot() -> None:
    files = {"BOOT.CFG": boot_cfg(8), "EFI/BOOT/BOOTAA64.EFI": b"x", "EFI/BOOT/BOOT.CFG": boot_cfg(8)}
    found = stock().recognize(listing(files))
    assert found is not None
    (plan,) = found.plans
    assert (plan.kernel, plan.recipe.cpu, plan.recipe.firmware) == ("EFI/BOOT/BOOTAA64.EFI", "arm64", ("efi",))


@pytest.mark.parametrize("release", RELEASES)
def test_bios_by_pxelinux(menu: MenuBackend, backend: ImagesBackend, release: int) -> None:
    """KERNEL mboot.c32, APPEND -c boot.cfg, IPAPPEND 2. NOHALT concerns the wait at the prompt only."""
    directory = directory_of_image(menu, release)
    config = text(menu, "pxelinux.cfg/default")
    assert (
        f"KERNEL ::{directory}/{PROGRAMS[release][1]}\nAPPEND -c /{directory}/boot.cfg{OPTIONS[release]}\nIPAPPEND 2\n"
        in config
    )
    requested = boot(backend, release, directory, f"/{directory}/boot.cfg")
    assert requested[:2] == [f"/{directory}/boot.cfg", f"/{directory}/b.b00"]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("http", [HTTP, ""], ids=["http", "tftp"])
def test_ipxe_on_both_firmwares(menu: MenuBackend, backend: ImagesBackend, release: int, http: str) -> None:
    directory = f"{http}/{directory_of_image(menu, release)}"
    script = text(menu, "boot.ipxe", http)
    for program in PROGRAMS[release]:
        assert f"\nkernel {directory}/{program} -c {directory}/boot.cfg{OPTIONS[release]} " in script
    requested = boot(backend, release, "", f"{directory}/boot.cfg")
    assert requested[:2] == [f"{directory}/boot.cfg", f"{directory}/b.b00"]


@pytest.mark.parametrize("release", RELEASES)
def test_answers_are_arguments_of_the_kernel(menu: MenuBackend, release: int) -> None:
    """kernelopt=ks=URL: mboot adds its further arguments to kernelopt, append_kernel_options() of mboot/config.c."""
    directory = f"{HTTP}/{directory_of_image(menu, release)}"
    script = text(menu, f"install/esxi-{release}/esxi.cfg.ipxe")
    efi, bios = PROGRAMS[release]
    arguments = f"-c {directory}/boot.cfg ks={HTTP}/esxi.cfg{OPTIONS[release]}"
    assert f"\nkernel {directory}/{efi} {arguments} || goto failed\n" in script
    assert f"\nkernel {directory}/{bios} {arguments} BOOTIF=01-${{netX/mac:hexhyp}} || goto" in script


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("base", [f"{HTTP}/images", "images", "/images"])
def test_uefi_firmware_starts_mboot_by_itself(
    menu: MenuBackend, backend: ImagesBackend, release: int, base: str
) -> None:
    """networkBootUri names efi/boot/bootx64.efi of the files. mboot tries the directory of the machine first, and
    then loads everything of the version that is the present one."""
    directory = f"{base}/esxi-{release}/efi/boot"
    requested = boot(backend, release, directory)
    assert requested[:2] == [f"{directory}/01-{MAC}/boot.cfg", f"{directory}/boot.cfg"]
    present = directory_of_image(menu, release).removeprefix("images/")
    assert requested[2] == f"{directory}/../../../{present}/b.b00"
    boot(backend, release, f"{base}/{present}/efi/boot")


def test_version_stays_when_the_image_is_replaced(tmp_path: Path) -> None:
    make_tar(tmp_path / "esxi.tar", tree(7))
    backend = ImagesBackend(tmp_path)
    config = content(backend, "images/esxi/efi/boot/boot.cfg")
    make_tar(tmp_path / ".new.tar", {**tree(7), "B.B00": b"new"})
    (tmp_path / ".new.tar").rename(tmp_path / "esxi.tar")
    assert isinstance(config, bytes)
    kernel = re.search(rb"^kernel=(\S+)", config, re.MULTILINE)
    assert kernel is not None
    assert content(backend, f"images/esxi/efi/boot/{kernel[1].decode()}") == b"b.b00"
    assert content(backend, "images/esxi/b.b00") == b"new"
    backend.close()


@pytest.mark.parametrize(
    ("line", "root", "expected"),
    [
        ("kernelopt=cdromBoot runweasel", "", "kernelopt=runweasel"),
        ("kernelopt=runweasel cdromBoot", "", "kernelopt=runweasel"),
        ("kernelopt=runweasel cdromBoot a=b", "", "kernelopt=runweasel a=b"),
        ("kernelopt=runweasel systemMediaSize=min", "", "kernelopt=runweasel systemMediaSize=min"),
        ("modules=/a.gz---/b.gz --- c.gz", "../", "modules=../a.gz---../b.gz --- ../c.gz"),
        ("modules=/a.gz x=/y --- http://h/b.gz", "../", "modules=../a.gz x=/y --- http://h/b.gz"),
        ("kernel=/b.b00\r", "../", "kernel=../b.b00\r"),
        ("prefix=\nkernel=/b.b00", "../", "kernel=../b.b00"),
        ("prefix=http://h/esxi\nkernel=/b.b00", "../", "prefix=http://h/esxi\nkernel=b.b00"),
        ("acpitables=/t.aml\ncrypto=/c.efi", "../", "acpitables=../t.aml\ncrypto=../c.efi"),
        ("title=/kernel=/b.b00", "../", "title=/kernel=/b.b00"),
    ],
)
def test_lines_of_boot_cfg(line: str, root: str, expected: str) -> None:
    assert for_network(line, root) == expected
