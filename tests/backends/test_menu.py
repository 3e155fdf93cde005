"""The menu backend: the menus for each boot program, their entries, and the search for images."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bootable import arm64, bzimage, cd, disk, pe
from twisted.internet.defer import Deferred

from bootfw.api import Client, ConfigError, FileMissing, PluginContext, TransferError, TransferRequest
from bootfw.backends.distribution import DistributionBackend
from bootfw.backends.images import scan
from bootfw.backends.menu import SECONDS, MenuBackend, plugin
from bootfw.backends.menucontents import WIDTH, amount, grub_words, line
from bootfw.plugins import configure

FILES = {
    "debian/vmlinuz-6.1": bzimage("6.1", efi=0x8664),
    "debian/initrd.img-6.1": bytes(4_000_000),
    "debian/cmdline": b"console=ttyS0 quiet",
    "old/vmlinuz": bzimage("2.6", flags=0),
    "arm/linux": arm64(),
    "tools/shell.efi": pe(0x8664),
    "tools/live.iso": cd(0, 0xEF),
    "tools/floppy.img": disk(),
    "tools/a b.ipxe": b"#!ipxe\n",
    "memdisk": b"x",
    "menu.c32": b"x",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "boot"
    path.mkdir()
    fill(path, FILES)
    return path


def fill(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def menu(root: Path, **options: Any) -> Any:
    backend = configure(plugin, {"root": str(root), **options}, PluginContext(None, root.parent))
    backend._distribution = DistributionBackend(root / "none")
    return backend


def transfer_request(
    path: str, *, http: str = "http://10.0.0.1:8069", architecture: str = "unknown", **request_fields: Any
) -> TransferRequest:
    client = Client("10.0.0.9", architecture=architecture)
    return TransferRequest(
        path,
        path,
        ("10.0.0.9", 2070),
        **{"local": "10.0.0.1", "client": client, "http_url": http, **request_fields},
    )


def text(backend: Any, path: str, **request_fields: Any) -> str:
    """The menu or script at the path."""
    data: bytes = backend.open(path, transfer_request(path, **request_fields)).read(0, 1 << 20)
    return data.decode("ascii")


def ipxe_items(script: str, machine: str) -> list[str]:
    """The names of the images in the menu of a machine, such as "efi-arm64"; empty if it has no menu."""
    part = re.search(rf"^:{machine}\n(.*?)^choose", script, re.M | re.S)
    return re.findall(r"^item i\d+ (.*?) \.\.", part[1], re.M) if part else []


def entry_commands(script: str, label: str) -> list[str]:
    """The commands of the entry with this label."""
    item = re.search(rf"^item (i\d+) {re.escape(label)} \.\.", script, re.M)
    assert item is not None
    found = re.search(rf"^:{item[1]}\n(.*?)^goto menu", script, re.M | re.S)
    assert found is not None
    return [line.removesuffix(" || goto failed") for line in found[1].splitlines()]


# iPXE


@pytest.mark.parametrize(
    ("machine", "items"),
    [
        ("pcbios-x86_64", ["vmlinuz-6.1", "vmlinuz (2.6)", "a b.ipxe", "floppy.img", "live.iso"]),
        ("pcbios-i386", ["vmlinuz (2.6)", "a b.ipxe", "floppy.img", "live.iso"]),
        ("efi-x86_64", ["vmlinuz-6.1", "a b.ipxe", "live.iso", "shell.efi"]),
        ("efi-arm64", ["linux", "a b.ipxe"]),
        ("efi-i386", ["a b.ipxe"]),
    ],
)
def test_ipxe_offers_each_machine_what_it_can_run(root: Path, machine: str, items: list[str]) -> None:
    assert ipxe_items(text(menu(root), "boot.ipxe"), machine) == items


def test_ipxe_menu_has_the_expected_commands(root: Path) -> None:
    script = text(menu(root), "boot.ipxe")
    assert script.startswith("#!ipxe\n")
    base = "http://10.0.0.1:8069"
    assert entry_commands(script, "vmlinuz-6.1") == [
        f"kernel --name linux {base}/debian/vmlinuz-6.1 initrd=initrd console=ttyS0 quiet",
        f"initrd --name initrd {base}/debian/initrd.img-6.1",
        "boot",
    ]
    assert entry_commands(script, "vmlinuz (2.6)") == [f"kernel --name linux {base}/old/vmlinuz", "boot"]
    assert entry_commands(script, "live.iso") == [f"sanboot --no-describe {base}/tools/live.iso"]
    assert entry_commands(script, "a b.ipxe") == [f"chain --autofree {base}/tools/a%20b.ipxe"]
    assert entry_commands(script, "shell.efi") == [f"chain --autofree {base}/tools/shell.efi"]


def test_client_of_http_gets_http_urls(root: Path) -> None:
    script = text(menu(root), "boot.ipxe", protocol="http")
    assert entry_commands(script, "live.iso") == ["sanboot --no-describe /tools/live.iso"]
    assert "10.0.0.1" not in script


def test_without_http_only_a_bios_boots_disk_images_in_memory(root: Path) -> None:
    script = text(menu(root), "boot.ipxe", http="")
    assert entry_commands(script, "live.iso") == ["kernel /memdisk iso raw", "initrd /tools/live.iso", "boot"]
    assert entry_commands(script, "floppy.img") == ["kernel /memdisk raw", "initrd /tools/floppy.img", "boot"]
    assert ipxe_items(script, "efi-x86_64") == ["vmlinuz-6.1", "a b.ipxe", "shell.efi"]
    (root / "memdisk").unlink()
    assert "live.iso" not in text(menu(root), "boot.ipxe", http="")


def test_the_local_disk_is_the_default(root: Path) -> None:
    script = text(menu(root), "boot.ipxe")
    assert set(re.findall("^choose.*", script, re.M)) == {"choose --timeout 20000 --default local chosen || goto local"}
    assert script.endswith("iseq ${platform} efi && exit 1 ||\nexit 0\n")


def test_another_default_on_machines_that_can_run_it(root: Path) -> None:
    backend = menu(root, **{"default": "debian/vmlinuz-6.1", "timeout-seconds": 5, "title": "Rack 7"})
    script = text(backend, "boot.ipxe")
    chosen = dict(re.findall(r"^:(\S+-\S+)\n.*?^choose --timeout 5000 --default (\S+)", script, re.M | re.S))
    assert chosen["efi-x86_64"] == chosen["pcbios-x86_64"] != "local"
    assert chosen["efi-arm64"] == "local"
    assert "menu Rack 7\n" in script
    assert "DEFAULT i" in text(backend, "pxelinux.cfg/default")
    assert "set default=i" in text(backend, "grub.cfg")


# autoexec.ipxe


def test_autoexec_follows_dhcp_and_breaks_the_loop(root: Path) -> None:
    script = text(menu(root, script="menus/own.ipxe"), "efi/autoexec.ipxe")
    assert "iseq ${filename} snponly.efi && goto script ||\n" in script
    assert script.index("autoboot") < script.index(":script")
    assert "chain --replace --autofree http://10.0.0.1:8069/menus/own.ipxe ||\n" in script
    assert "chain --replace --autofree tftp://10.0.0.1/menus/own.ipxe || exit 1\n" in script
    assert "http://" not in text(menu(root), "autoexec.ipxe", http="")


def test_autoexec_can_load_a_script_of_the_operator(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        text(menu(tmp_path), "autoexec.ipxe")
    (tmp_path / "boot.ipxe").write_text("#!ipxe\n")
    assert "/boot.ipxe" in text(menu(tmp_path), "autoexec.ipxe")


def test_autoexec_is_missing_without_our_address(root: Path) -> None:
    with pytest.raises(FileMissing):
        text(menu(root), "autoexec.ipxe", local="")


# PXELINUX


def test_pxelinux_menu_has_the_expected_entries(root: Path) -> None:
    fill(root, {"with blank/vmlinuz": bzimage(), "komma,/vmlinuz": bzimage()})
    config = text(menu(root), "pxelinux.cfg/default", architecture="x86-bios")
    assert config.splitlines()[1:4] == ["UI menu.c32", "DEFAULT local", "TIMEOUT 200"]
    entries = dict(re.findall(r"^LABEL (i\d+)\nMENU LABEL \S+ .*\nMENU INDENT 1\n((?:.+\n)+)", config, re.M))
    assert list(entries.values()) == [
        "LINUX ::debian/vmlinuz-6.1\nINITRD ::debian/initrd.img-6.1\nAPPEND console=ttyS0 quiet\n",
        "LINUX ::old/vmlinuz\n",
        "LINUX ::memdisk\nINITRD ::tools/floppy.img\nAPPEND raw\n",
        "LINUX ::memdisk\nINITRD ::tools/live.iso\nAPPEND iso raw\n",
    ]
    assert "LABEL local\nMENU LABEL Boot from the ^local disk\nLOCALBOOT -1\n" in config


def test_pxelinux_without_a_menu_module_lists_the_entries(root: Path) -> None:
    (root / "menu.c32").unlink()
    config = text(menu(root), "bios/pxelinux.cfg/default")
    assert "UI" not in config
    assert "PROMPT 1\n" in config
    assert re.search(r"^SAY +i\d+ +vmlinuz-6\.1", config, re.M)
    (root / "vesamenu.c32").write_bytes(b"x")
    assert "UI vesamenu.c32\n" in text(menu(root), "pxelinux.cfg/default")


def test_distribution_modules_are_not_used_with_an_operators_pxelinux(root: Path) -> None:
    (root / "menu.c32").unlink()
    backend = menu(root)
    fill(root / "sys", {"usr/lib/syslinux/modules/bios/menu.c32": b"x"})
    backend._distribution = DistributionBackend(root / "sys")
    assert "UI menu.c32" in text(backend, "pxelinux.cfg/default")
    (root / "pxelinux.0").write_bytes(b"x")
    assert "UI" not in text(backend, "pxelinux.cfg/default")


@pytest.mark.parametrize(
    ("path", "architecture"),
    [
        ("efi64/pxelinux.cfg/default", "unknown"),
        ("pxelinux.cfg/default", "x86_64-uefi"),
        ("pxelinux.cfg/default", "arm64-uboot"),
        ("pxelinux.cfg/01-52-54-00-00-00-01", "x86-bios"),
        ("default", "x86-bios"),
        ("nope", "unknown"),
        ("", "unknown"),
        ("sub/boot.ipxe", "unknown"),
    ],
)
def test_clients_without_menu_support_get_none(root: Path, path: str, architecture: str) -> None:
    with pytest.raises(FileMissing):
        text(menu(root), path, architecture=architecture)


# GRUB


def test_grub_menu_has_the_expected_entries(root: Path) -> None:
    fill(root, {"it's/vmlinuz-$x y": bzimage()})
    config = text(menu(root), "boot/grub/grub.cfg")
    parts = dict(re.findall(r'^if \[ "\$grub_platform/\$cpu" = (\S+) \]; then\n(.*?)^fi', config, re.M | re.S))
    assert set(parts) == {"pc/x86_64", "pc/i386", "efi/x86_64", "efi/arm64"}
    debian = "    linux /debian/vmlinuz-6.1 console=ttyS0 quiet\n    initrd /debian/initrd.img-6.1\n"
    assert debian in parts["efi/x86_64"]
    assert "    chainloader /tools/shell.efi\n" in parts["efi/x86_64"]
    assert "chainloader" not in parts["pc/x86_64"]
    assert "vmlinuz-6.1" not in parts["pc/i386"]
    assert "    linux /arm/linux\n" in parts["efi/arm64"]
    assert "ipxe" not in config
    assert "    linux /it\\'s/vmlinuz-\\$x\\ y\n" in parts["pc/x86_64"]
    assert "menuentry 'it_s'" in config
    assert config.splitlines()[1:3] == ["set timeout=20", "set default=local"]


def test_words_of_grub_are_escaped() -> None:
    assert grub_words("a=b c;d $x 'y'") == "a=b c\\;d \\$x \\'y\\'"
    assert grub_words("/a b", " ") == "/a\\ b"


# All menus


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (14_186_432, "14 MB"),
        (999_999, "1.0 MB"),
        (1_440_000_000, "1.4 GB"),
    ],
)
def test_sizes_are_shown_with_units(size: int, expected: str) -> None:
    assert amount(size) == expected


def test_lines_have_one_width() -> None:
    assert {len(line(label, size)) for label in ("x", "y" * 200) for size in (1, 10**12)} == {WIDTH}


@pytest.mark.parametrize("path", ["boot.ipxe", "pxelinux.cfg/default", "grub.cfg"])
def test_without_images_there_is_no_menu(tmp_path: Path, path: str) -> None:
    with pytest.raises(FileMissing):
        text(menu(tmp_path), path)
    with pytest.raises(FileMissing):
        text(menu(tmp_path / "none"), path)


def test_operator_templates_replace_the_built_in_ones(root: Path) -> None:
    fill(root.parent / "own", {"grub.j2": b"# {{ title }}\n", "ipxe.j2": b"\n{{ nope }}"})
    backend = menu(root, templates="own")
    assert text(backend, "grub.cfg") == "# Network boot\n"
    assert text(backend, "pxelinux.cfg/default").startswith("# Made by bootfw")
    with pytest.raises(TransferError) as caught:
        text(backend, "boot.ipxe")
    assert caught.value.detail == "ipxe.j2:2: 'nope' is undefined"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"root": ""}, ("root",)),
        ({"root": []}, ("root",)),
        ({"root": "x", "timeout-seconds": 0}, ("timeout-seconds",)),
        ({"root": "x", "script": ""}, ("script",)),
        ({"root": "x", "script": "/boot.ipxe"}, ("script",)),
        ({"root": "x", "default": "../x"}, ("default",)),
    ],
)
def test_invalid_options_are_errors(tmp_path: Path, options: Any, path: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        configure(plugin, options, PluginContext(None, tmp_path))
    assert caught.value.path == path


# Scans in a thread


class ScanCounter:
    """A backend on a reactor with threads and with a clock that the test sets; counts the scans of its directory."""

    def __init__(self, root: Path, reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.now, self._reactor = 0, 1000.0, reactor
        self.backend = MenuBackend([root], reactor=self)

        def counting_scan(*arguments: Any) -> Any:
            self.count += 1
            return scan(*arguments)

        monkeypatch.setattr("bootfw.backends.menu.scan", counting_scan)

    def seconds(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def contents_of(self, *answers: Any) -> list[bytes]:
        readers: list[Any] = []
        for answer in answers:
            assert isinstance(answer, Deferred)
            answer.addCallback(readers.append)
        while len(readers) < len(answers):
            self._reactor.iterate(0.01)
        return [reader.read(0, 1 << 20) for reader in readers]


@pytest.fixture
def scan_counter(root: Path, private_reactor: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScanCounter]:
    pool = private_reactor.getThreadPool()
    pool.start()
    yield ScanCounter(root, private_reactor, monkeypatch)
    pool.stop()


def test_concurrent_requests_share_one_cached_scan(root: Path, scan_counter: ScanCounter) -> None:
    backend = scan_counter.backend
    first, second = scan_counter.contents_of(
        *(backend.open("boot.ipxe", transfer_request("boot.ipxe")) for _ in range(2))
    )
    assert first == second
    assert scan_counter.count == 1
    fill(root, {"new.ipxe": b"#!ipxe\n"})
    scan_counter.now += SECONDS - 0.1
    assert backend.open("boot.ipxe", transfer_request("boot.ipxe")).read(0, 1 << 20) == first
    scan_counter.now += 0.2
    (third,) = scan_counter.contents_of(backend.open("boot.ipxe", transfer_request("boot.ipxe")))
    assert scan_counter.count == 2
    assert b"new.ipxe" in third
    with pytest.raises(FileMissing):
        backend.open("nope", transfer_request("nope"))


def test_a_cancelled_request_does_not_keep_the_others_from_their_menu(scan_counter: ScanCounter) -> None:
    backend = scan_counter.backend
    cancelled, waiting = (backend.open("boot.ipxe", transfer_request("boot.ipxe")) for _ in range(2))
    cancelled.addErrback(lambda failure: None)
    cancelled.cancel()
    (data,) = scan_counter.contents_of(waiting)
    assert data.startswith(b"#!ipxe")
