"""The distribution backend: files of installed packages, each under one name for all distributions."""

import os
from pathlib import Path

import pytest
from descriptors import open_descriptors
from narrowing import of_type
from zope.interface.verify import verifyObject

from bootfw.api import AccessViolation, ConfigError, FileMissing, IBackend, PluginContext
from bootfw.backends.distribution import ALIASES, MODULES, PROGRAMS, DistributionBackend, plugin

# From the file lists of the packages, shortened.
DEBIAN = """
/usr/lib/ipxe/undionly.kpxe /usr/lib/ipxe/ipxe.pxe /usr/lib/ipxe/snponly.efi /usr/lib/ipxe/ipxe.efi
/usr/lib/PXELINUX/pxelinux.0 /usr/lib/PXELINUX/lpxelinux.0 /usr/lib/syslinux/memdisk
/usr/lib/syslinux/modules/bios/ldlinux.c32 /usr/lib/syslinux/modules/bios/menu.c32
/usr/lib/syslinux/modules/efi64/ldlinux.e64 /usr/lib/syslinux/modules/efi64/menu.c32
/usr/lib/syslinux/modules/efi32/ldlinux.e32 /usr/lib/syslinux/modules/efi32/menu.c32
/usr/lib/SYSLINUX.EFI/efi64/syslinux.efi /usr/lib/SYSLINUX.EFI/efi32/syslinux.efi
/usr/lib/grub/x86_64-efi/monolithic/grubnetx64.efi /usr/lib/grub/x86_64-efi/monolithic/grubx64.efi
/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed /usr/lib/shim/shimx64.efi.signed
"""
FEDORA = """
/usr/share/ipxe/undionly.kpxe /usr/share/ipxe/ipxe-i386.efi /usr/share/ipxe/ipxe-x86_64.efi
/usr/share/ipxe/ipxe-snponly-x86_64.efi /usr/share/ipxe/arm64-efi/snponly.efi /usr/share/ipxe/arm64-efi/ipxe.efi
/usr/share/syslinux/pxelinux.0 /usr/share/syslinux/lpxelinux.0 /usr/share/syslinux/ldlinux.c32
/usr/share/syslinux/menu.c32 /usr/share/syslinux/memdisk /usr/share/syslinux/efi64/syslinux.efi
/usr/share/syslinux/efi64/ldlinux.e64 /usr/share/syslinux/efi64/menu.c32
/boot/efi/EFI/fedora/shimx64.efi /boot/efi/EFI/fedora/grubx64.efi
"""
ARCH = """
/usr/share/ipxe/undionly.kpxe /usr/share/ipxe/x86_64/ipxe.efi
/usr/lib/syslinux/bios/pxelinux.0 /usr/lib/syslinux/bios/ldlinux.c32 /usr/lib/syslinux/bios/menu.c32
/usr/lib/syslinux/efi64/syslinux.efi /usr/lib/syslinux/efi64/ldlinux.e64 /usr/lib/syslinux/efi64/menu.c32
/usr/lib/syslinux/efi32/syslinux.efi /usr/lib/syslinux/efi32/ldlinux.e32
"""


def installed(root: Path, files: str) -> DistributionBackend:
    """A backend on a tree where the content of each file is its own path."""
    for path in files.split():
        file = root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    return DistributionBackend(root)


def fetch(backend: DistributionBackend, name: str) -> str:
    reader = backend.open(name, None)
    try:
        content: bytes = reader.read(0, 1 << 20)
        return content.decode()
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            DEBIAN,
            {
                "undionly.kpxe": "/usr/lib/ipxe/undionly.kpxe",
                "snponly.efi": "/usr/lib/ipxe/snponly.efi",
                "ipxe.efi": "/usr/lib/ipxe/ipxe.efi",
                "pxelinux.0": "/usr/lib/PXELINUX/pxelinux.0",
                "ldlinux.c32": "/usr/lib/syslinux/modules/bios/ldlinux.c32",
                "menu.c32": "/usr/lib/syslinux/modules/bios/menu.c32",
                "bios/menu.c32": "/usr/lib/syslinux/modules/bios/menu.c32",
                "efi64/menu.c32": "/usr/lib/syslinux/modules/efi64/menu.c32",
                "efi64/syslinux.efi": "/usr/lib/SYSLINUX.EFI/efi64/syslinux.efi",
                "efi32/syslinux.efi": "/usr/lib/SYSLINUX.EFI/efi32/syslinux.efi",
                "syslinux32.efi": "/usr/lib/SYSLINUX.EFI/efi32/syslinux.efi",
                "ldlinux.e64": "/usr/lib/syslinux/modules/efi64/ldlinux.e64",
                "ldlinux.e32": "/usr/lib/syslinux/modules/efi32/ldlinux.e32",
                "shimx64.efi": "/usr/lib/shim/shimx64.efi.signed",
                "grubx64.efi": "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
                "grubnetx64.efi": "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
            },
        ),
        (
            FEDORA,
            {
                "undionly.kpxe": "/usr/share/ipxe/undionly.kpxe",
                "ipxe.efi": "/usr/share/ipxe/ipxe-x86_64.efi",
                "snponly.efi": "/usr/share/ipxe/ipxe-snponly-x86_64.efi",
                "ipxe-i386.efi": "/usr/share/ipxe/ipxe-i386.efi",
                "snponly-arm64.efi": "/usr/share/ipxe/arm64-efi/snponly.efi",
                "lpxelinux.0": "/usr/share/syslinux/lpxelinux.0",
                "menu.c32": "/usr/share/syslinux/menu.c32",
                "efi64/menu.c32": "/usr/share/syslinux/efi64/menu.c32",
                "shimx64.efi": "/boot/efi/EFI/fedora/shimx64.efi",
                "grubx64.efi": "/boot/efi/EFI/fedora/grubx64.efi",
            },
        ),
        (
            ARCH,
            {
                "undionly.kpxe": "/usr/share/ipxe/undionly.kpxe",
                "ipxe.efi": "/usr/share/ipxe/x86_64/ipxe.efi",
                "pxelinux.0": "/usr/lib/syslinux/bios/pxelinux.0",
                "ldlinux.c32": "/usr/lib/syslinux/bios/ldlinux.c32",
                "efi64/ldlinux.e64": "/usr/lib/syslinux/efi64/ldlinux.e64",
                "syslinux.efi": "/usr/lib/syslinux/efi64/syslinux.efi",
                "ldlinux.e32": "/usr/lib/syslinux/efi32/ldlinux.e32",
            },
        ),
    ],
    ids=["debian", "fedora", "arch"],
)
def test_names_of_a_distribution(tmp_path: Path, files: str, expected: dict[str, str]) -> None:
    backend = installed(tmp_path, files)
    available = backend.available()
    for name, path in expected.items():
        assert fetch(backend, name) == path
        assert available[name] == str(tmp_path / path[1:])
    for name, full_path in available.items():
        assert str(tmp_path / fetch(backend, name)[1:]) == full_path


def test_unsigned_grub_is_served_if_no_signed_one_is_installed(tmp_path: Path) -> None:
    unsigned = "/usr/lib/grub/x86_64-efi/monolithic/grubnetx64.efi"
    assert fetch(installed(tmp_path, unsigned), "grubx64.efi") == unsigned


def test_missing_packages_have_no_files(tmp_path: Path) -> None:
    backend = DistributionBackend(tmp_path)
    assert backend.available() == {}
    for name in (*PROGRAMS, *ALIASES, "menu.c32"):
        with pytest.raises(FileMissing):
            backend.open(name, None)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "memdisk/",
        "etc/passwd",
        "../etc/passwd",
        "efi64",
        "efi64/",
        "mbr/gptmbr.bin",
        "efi64/../../mbr/x.c32",
        "\0.c32",
        "a\0b.c32",
        "x" * 300 + ".c32",
        "dir.c32",
        "fifo.c32",
        "sub/menu.c32",
        "PXELINUX.0",
        "\udcff.c32",
        chr(0xD800) + ".c32",
    ],
)
def test_no_other_file_is_served(tmp_path: Path, name: str) -> None:
    backend = installed(tmp_path, DEBIAN + "/etc/passwd /usr/lib/syslinux/mbr/x.c32 /usr/lib/syslinux/modules/x.c32")
    (tmp_path / "usr/lib/syslinux/memdisk").unlink()
    modules = tmp_path / "usr/lib/syslinux/modules/bios"
    (modules / "dir.c32").mkdir()
    os.mkfifo(modules / "fifo.c32")
    before = open_descriptors()
    with pytest.raises(FileMissing):
        backend.open(name, None)
    assert open_descriptors() == before
    assert name not in backend.available()


def test_other_spellings_of_a_name(tmp_path: Path) -> None:
    backend = installed(tmp_path, DEBIAN)
    for name in ("/pxelinux.0", "//pxelinux.0", "../pxelinux.0", "x/../pxelinux.0"):
        assert fetch(backend, name) == "/usr/lib/PXELINUX/pxelinux.0"
    assert fetch(backend, "efi64\\menu.c32") == "/usr/lib/syslinux/modules/efi64/menu.c32"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
def test_unreadable_program(tmp_path: Path) -> None:
    """On Fedora, only root can read the EFI system partition."""
    backend = installed(tmp_path, FEDORA)
    (tmp_path / "boot/efi").chmod(0o700)
    for path in (tmp_path, *tmp_path.parents):
        if str(path).startswith("/tmp/"):
            path.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(AccessViolation):
            backend.open("shimx64.efi", None)
        assert "shimx64.efi" not in backend.available()
        assert "pxelinux.0" in backend.available()
    finally:
        os.seteuid(0)


def test_table_is_consistent() -> None:
    for name, paths in PROGRAMS.items():
        assert paths, name
        assert all(path.startswith("/") for path in paths)
    assert set(ALIASES.values()) <= set(PROGRAMS)
    assert not set(ALIASES) & set(PROGRAMS)
    assert len({(prefix, suffix) for prefix, suffix, _ in MODULES}) == len(MODULES)


def test_options_are_configured(tmp_path: Path) -> None:
    context = PluginContext(reactor=None, directory=tmp_path)
    backend = plugin.configure({}, context)
    verifyObject(IBackend, backend)
    assert str(of_type(DistributionBackend, backend).root) == "/"
    with pytest.raises(ConfigError):
        plugin.configure({"root": "/srv"}, context)
