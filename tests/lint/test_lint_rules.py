"""The rules of bootfw lint: files that they report, and files that they don't."""

import errno
import gzip
import os
import random
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from bootprograms import AA64, COM32, IA32, INITRD, X64, kernel, module, pe, pxelinux, shim, syslinux_efi
from hypothesis import given, settings
from hypothesis import strategies as st
from osimages import ESXI_BOOT_CFG

from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.imagelibrary.backend import ImagesBackend
from bootfw.backends.memory import MemoryBackend
from bootfw.boot.backends import LayeredBackend
from bootfw.interfaces import IBackend, IBootFileResolver
from bootfw.lint.entries import User
from bootfw.lint.rules import lint
from bootfw.lint.tree import Tree
from bootfw.readers import FileReader
from bootfw.resolvers.by_architecture import ByArchitecture
from bootfw.resolvers.by_client import ByClient
from bootfw.resolvers.pxe_menu import PXEMenu
from bootfw.resolvers.static import StaticResolver
from bootfw.values import TransferRequest

ROOT = User("root", 0, frozenset({0}))


def tree_of(root: Path, complete: bool = True, **memory_files: bytes) -> Tree:
    directory = DirectoryBackend(root)
    return Tree(
        LayeredBackend([("directory", directory), ("memory", MemoryBackend(memory_files))]),
        [(root, directory)],
        complete,
    )


def findings_of(
    root: Path,
    files: Mapping[str, bytes | str],
    resolvers: Sequence[IBootFileResolver] = (),
    complete: bool = True,
    user: User = ROOT,
    **memory_files: bytes,
) -> list[tuple[str, str]]:
    """Write the files and run all rules: (file, rule) of each finding; files are relative to the root, with lines."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    findings = lint(tree_of(root, complete, **memory_files), [("resolver", resolver) for resolver in resolvers], user)
    for finding in findings:
        assert finding.reason
        assert finding.remedy
        assert not finding.reason.endswith(".")
    return [(finding.file.removeprefix(f"{root}/"), finding.rule) for finding in findings]


CASES: dict[str, tuple[dict[str, bytes | str], list[tuple[str, str]]]] = {
    "nothing": ({}, []),
    # Programs, by their names and directories.
    "programs for their machines": (
        {"BOOTX64.EFI": pe(X64), "grubaa64.efi": pe(AA64), "ipxe-i386.efi": pe(IA32), "efi32/x.efi": pe(IA32)},
        [],
    ),
    "the wrong machine by the name": ({"grubx64.efi": pe(IA32)}, [("grubx64.efi", "architecture")]),
    "signed names": ({"shimaa64.efi.signed": pe(X64)}, [("shimaa64.efi.signed", "architecture")]),
    "by iPXE's names": ({"snponly-arm64.efi": pe(X64)}, [("snponly-arm64.efi", "architecture")]),
    "by GRUB's directories": (
        {"grub/x86_64-efi/core.efi": pe(IA32), "grub/i386-efi/core.efi": pe(IA32)},
        [("grub/x86_64-efi/core.efi", "architecture")],
    ),
    "by SYSLINUX's": ({"efi64/snponly.efi": pe(IA32)}, [("efi64/snponly.efi", "architecture")]),
    "a BIOS program as a UEFI one": ({"snponly.efi": pxelinux("4.07")}, [("snponly.efi", "program")]),
    "an error page as a program": ({"snponly.efi": "<html>404"}, [("snponly.efi", "program")]),
    "an empty file as a program": ({"ipxe.efi": ""}, [("ipxe.efi", "program")]),
    "a UEFI program as a BIOS one": ({"undionly.kpxe": pe(X64)}, [("undionly.kpxe", "program")]),
    "a program cut off": ({"a.efi": pe(X64)[:1500]}, [("a.efi", "cut-off")]),
    "its signature cut off": ({"a.efi": pe(X64, signed=True)[:-10]}, [("a.efi", "cut-off")]),
    # shim.
    "a shim and its GRUB": ({"d/shimx64.efi": shim(), "d/grubx64.efi": pe(X64, signed=True)}, []),
    "a shim alone": ({"d/shimx64.efi": shim(), "grubx64.efi": pe(X64, signed=True)}, [("d/shimx64.efi", "shim")]),
    "a shim under another name": ({"d/boot.efi": shim()}, [("d/boot.efi", "shim")]),
    "iPXE's shim": ({"ipxe-shim.efi": shim(second="ipxe.efi"), "ipxe.efi": pe(X64, signed=True)}, []),
    "an unsigned GRUB after shim": (
        {"shimx64.efi": shim(), "grubx64.efi": pe(X64)},
        [("grubx64.efi", "unsigned")],
    ),
    "unsigned both, as one builds them": ({"shimx64.efi": shim(signed=False), "grubx64.efi": pe(X64)}, []),
    "an unsigned GRUB without shim": ({"grubx64.efi": pe(X64)}, []),
    "a GRUB for another machine": (
        {"boot.efi": shim(AA64, "grubx64.efi"), "grubx64.efi": pe(X64, signed=True)},
        [("grubx64.efi", "architecture")],
    ),
    # SYSLINUX.
    "pxelinux and ldlinux": ({"pxelinux.0": pxelinux(), "ldlinux.c32": module()}, []),
    "pxelinux alone": ({"b/lpxelinux.0": pxelinux(), "ldlinux.c32": module()}, [("b/lpxelinux.0", "ldlinux")]),
    "an old pxelinux alone": ({"pxelinux.0": pxelinux("4.07"), "menu.c32": COM32}, []),
    "an old pxelinux with new modules": (
        {"pxelinux.0": pxelinux("4.07"), "vesamenu.c32": module()},
        [("vesamenu.c32", "ldlinux")],
    ),
    "a new pxelinux with old modules": (
        {"pxelinux.0": pxelinux(), "ldlinux.c32": module(), "menu.c32": COM32},
        [("menu.c32", "ldlinux")],
    ),
    "syslinux.efi and ldlinux": ({"efi64/syslinux.efi": syslinux_efi(), "efi64/ldlinux.e64": module(64)}, []),
    "syslinux.efi alone": (
        {"syslinux.efi": syslinux_efi(IA32), "ldlinux.e64": module(64)},
        [("syslinux.efi", "ldlinux")],
    ),
    "syslinux.efi with modules of BIOS": (
        {"syslinux.efi": syslinux_efi(), "ldlinux.e64": module(64), "menu.c32": module(32)},
        [("menu.c32", "architecture")],
    ),
    "modules and their libraries": (
        {"menu.c32": module(32, ("libutil.c32", "libcom32.c32")), "libutil.c32": module(), "libcom32.c32": module()},
        [],
    ),
    "a module without its library": (
        {"a/menu.c32": module(32, ("libutil.c32", "libcom32.c32")), "a/libcom32.c32": module()},
        [("a/menu.c32", "module")],
    ),
    # Kernels and what goes with them.
    "whole": ({"vmlinuz": kernel(), "initrd.gz": INITRD, "netboot.xz": b"\xfd7zXZ\0" + bytes(50) + b"YZ"}, []),
    "a kernel cut off": ({"linux": kernel()[:2000]}, [("linux", "cut-off")]),
    "an initrd cut off": ({"initrd.gz": INITRD[:-20]}, [("initrd.gz", "cut-off")]),
    "an initrd damaged": ({"initrd.gz": INITRD[:30] + b"??" + INITRD[32:]}, [("initrd.gz", "cut-off")]),
    "more behind an initrd": ({"initrd.img": INITRD + bytes(512) + INITRD}, []),
    "an xz cut off": ({"initrd.xz": b"\xfd7zXZ\0" + bytes(range(50))}, [("initrd.xz", "cut-off")]),
    "a signed kernel cut off": ({"vmlinuz": pe(AA64, signed=True)[:-10]}, [("vmlinuz", "cut-off")]),
    # PXELINUX' configurations.
    "a whole configuration": (
        {
            "pxelinux.cfg/default": (
                "DEFAULT linux\nui menu.c32\nMENU INCLUDE gone.cfg\ninclude more.cfg\nLABEL linux\n kernel d/vmlinuz\n"
                " append initrd=d/initrd.gz,::d/initrd.gz quiet root=/dev/ram\nLABEL local\n localboot 0\n"
                "LABEL url\n kernel http://10.0.0.1/vmlinuz\n# kernel gone\n"
            ),
            "more.cfg": "label two\nlinux /d/vmlinuz\ninitrd d/initrd.gz\nlabel three\nkernel chain\n",
            "menu.c32": module(),
            "chain.c32": module(),
            "d/vmlinuz": kernel(),
            "d/initrd.gz": INITRD,
        },
        [],
    ),
    "files that a configuration names": (
        {
            "bios/pxelinux.cfg/01-52-54-00-00-00-01": (
                "default menu.c32\nlabel a\nkernel gone\nappend initrd=gone.gz\nlabel b\nlinux vmlinuz\ninitrd other\n"
            ),
            "bios/vmlinuz": kernel(),
        },
        [(f"bios/pxelinux.cfg/01-52-54-00-00-00-01:{line}", "missing") for line in (1, 3, 4, 7)],
    ),
    "what an included one names": (
        {"pxelinux.cfg/default": "include a.cfg\n", "a.cfg": "label x\n  kernel gone\n"},
        [("a.cfg:2", "missing")],
    ),
    "one that includes itself": ({"pxelinux.cfg/default": "include pxelinux.cfg/default\n"}, []),
    "a default that is a label": ({"pxelinux.cfg/default": "default x.c32\nlabel x.c32\nlocalboot 0\n"}, []),
    "modules on the path": (
        {"pxelinux.cfg/default": "path mods/\ndefault vesamenu.c32\n", "mods/vesamenu.c32": module()},
        [],
    ),
    "another spelling": (
        {"pxelinux.cfg/default": "label a\nkernel VMLINUZ\nappend root=/dev/sda1\n", "vmlinuz": kernel()},
        [("pxelinux.cfg/default:2", "missing")],
    ),
    "names from above, as Debian's installer has them": (
        {
            "di/amd64/pxelinux.cfg/default": "label a\nkernel di/amd64/linux\nappend initrd=di/amd64/initrd.gz\n",
            "di/amd64/linux": kernel(),
            "di/amd64/initrd.gz": INITRD,
        },
        [],
    ),
    "a kernel without the initrd beside it": (
        {"pxelinux.cfg/default": "label a\nlinux vmlinuz\n", "vmlinuz": kernel(), "initrd.img": INITRD},
        [("pxelinux.cfg/default:1", "initrd")],
    ),
    "a kernel that has its root elsewhere": (
        {
            "pxelinux.cfg/default": "label a\nlinux vmlinuz\nappend root=/dev/nfs\n",
            "vmlinuz": kernel(),
            "initrd.img": INITRD,
        },
        [],
    ),
    "a kernel without any initrd": ({"pxelinux.cfg/default": "label a\nlinux vmlinuz\n", "vmlinuz": kernel()}, []),
    # GRUB's.
    "a whole grub.cfg": (
        {
            "grub/grub.cfg": (
                "set timeout=5\nif [ -e /gone ]; then\n linux /gone\nfi\nsource /gone.cfg\n"
                "menuentry 'a' {\n linux /d/vmlinuz quiet\n initrd /d/initrd.gz $prefix/../d/initrd.gz\n}\n"
                "menuentry 'b' {\n linux (tftp,10.0.0.1)/d/vmlinuz\n initrd ($root)/d/initrd.gz\n}\n"
                "menuentry 'disk' {\n search --set=root --file /etc/fstab\n linux /boot/vmlinuz\n chainloader +1\n}\n"
                "menuentry 'disk' {\n set root=(hd0,1)\n chainloader /efi/boot/bootx64.efi\n}\n"
                "menuentry 'other' {\n chainloader (hd0,1)+1\n linux $kernel\n}\n# linux /gone\n"
            ),
            "d/vmlinuz": kernel(),
            "d/initrd.gz": INITRD,
        },
        [],
    ),
    "files that grub.cfg names": (
        {
            "grub.cfg": "menuentry a {\n linux /gone\n initrd /gone.gz\n}\nmenuentry b {\n chainloader /x.efi\n}\n",
            "grub.cfg-01-52-54-00-00-00-01": "linux /gone\n",
        },
        [
            ("grub.cfg-01-52-54-00-00-00-01:1", "missing"),
            *((f"grub.cfg:{line}", "missing") for line in (2, 3, 6)),
        ],
    ),
    "a tree that has been moved": (
        {"x/boot/grub/grub.cfg": "linux /casper/vmlinuz boot=casper\n", "x/casper/vmlinuz": kernel()},
        [],
    ),
    "GRUB's kernel without its initrd": (
        {"grub.cfg": "menuentry a {\n linux /d/vmlinuz\n}\n", "d/vmlinuz": kernel(), "d/initrd.img": INITRD},
        [("grub.cfg:2", "initrd")],
    ),
    # iPXE's.
    "a whole script": (
        {
            "boot.ipxe": (
                "#!ipxe\n# chain gone\n:again\nset base http://10.0.0.1\nkernel ${base}/vmlinuz\n"
                "kernel --name linux d/vmlinuz initrd=initrd.gz\ninitrd /d/initrd.gz || goto failed\n"
                "chain gone.ipxe || goto again\nimgfetch tftp://${next-server}/d/initrd.gz\nboot linux\n"
                "kernel --timeout 3000 \\\n  d/vmlinuz\nboot\nchain http://boot.example/x\n"
            ),
            "d/vmlinuz": kernel(),
            "d/initrd.gz": INITRD,
        },
        [],
    ),
    "not a script": ({"boot.ipxe": "echo hello\n"}, [("boot.ipxe", "script")]),
    "a blank line before": ({"boot.ipxe": "\n#!ipxe\n"}, [("boot.ipxe", "script")]),
    "a byte order mark before": ({"boot.ipxe": b"\xef\xbb\xbf#!ipxe\n"}, [("boot.ipxe", "script")]),
    "files that a script names": (
        {"x/boot.ipxe": "#!ipxe\nkernel gone root=x\ninitrd gone.gz\nchain tftp://${next-server}/gone.ipxe\n"},
        [(f"x/boot.ipxe:{line}", "missing") for line in (2, 3, 4)],
    ),
    "a script without the suffix": ({"menu": "#!ipxe\nchain gone\n"}, [("menu:2", "missing")]),
    "an absolute name is no relative one": (
        {"x/boot.ipxe": "#!ipxe\nchain /y.efi\n", "x/y.efi": pe(X64)},
        [("x/boot.ipxe:2", "missing")],
    ),
    "a script that chains itself": ({"boot.ipxe": "#!ipxe\necho\nchain boot.ipxe\n"}, [("boot.ipxe:3", "loop")]),
    "scripts in a circle": (
        {
            "a.ipxe": "#!ipxe\nchain --replace b.ipxe\n",
            "b.ipxe": "#!ipxe\nset x 1\nchain tftp://${next-server}/c.ipxe\n",
            "c.ipxe": "#!ipxe\nchain a.ipxe\n",
            "start.ipxe": "#!ipxe\nchain b.ipxe\n",
        },
        [("a.ipxe:2", "loop")],
    ),
    "a menu that is come back to": (
        {
            "a.ipxe": "#!ipxe\nmenu\nitem b\nchoose x\nchain b.ipxe\n",
            "b.ipxe": "#!ipxe\nchain a.ipxe\n",
        },
        [],
    ),
    "a chain that may fail": ({"a.ipxe": "#!ipxe\nchain a.ipxe || shell\n"}, []),
    "a chain that depends": ({"a.ipxe": "#!ipxe\niseq ${x} y && chain b.ipxe ||\nchain a.ipxe\n"}, []),
    "a value that depends": ({"a.ipxe": "#!ipxe\nisset ${x} || set x y\nchain a.ipxe\n"}, [("a.ipxe:3", "loop")]),
    "iPXE's kernel without its initrd": (
        {"a.ipxe": "#!ipxe\nkernel vmlinuz quiet\nboot\n", "vmlinuz": kernel(), "initrd": INITRD},
        [("a.ipxe:2", "initrd")],
    ),
    # Names.
    "names alike": ({"vmlinuz": kernel(), "Vmlinuz": kernel()}, [("vmlinuz", "case")]),
    "names alike in different directories": ({"a/x": "", "b/X": ""}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_each_case_has_its_findings(tmp_path: Path, case: str) -> None:
    files, findings = CASES[case]
    assert findings_of(tmp_path, files) == findings


def test_the_remedy_names_the_right_spelling(tmp_path: Path) -> None:
    findings_of(tmp_path, {"pxelinux.cfg/default": "label a\nkernel X/VMLINUZ\n", "x/vmlinuz": kernel()})
    (finding,) = lint(tree_of(tmp_path), [], ROOT)
    assert "x/vmlinuz" in finding.remedy


def test_missing_files_are_not_reported_if_another_backend_may_generate_them(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "pxelinux.cfg/default": "label a\nkernel gone\n",
        "grub.cfg": "linux /gone\n",
        "boot.ipxe": "#!ipxe\nchain gone\n",
        "pxelinux.0": pxelinux(),
        "shimx64.efi": shim(),
        "menu.c32": module(32, ("libutil.c32",)),
        "wrong.efi": "",
    }
    resolver = StaticResolver("gone.0")
    assert findings_of(tmp_path, files, [resolver], complete=False) == [("wrong.efi", "program")]
    assert len(findings_of(tmp_path, {}, [resolver])) == 8


def test_files_of_other_backends_are_not_missing(tmp_path: Path) -> None:
    files = {"pxelinux.cfg/default": "label a\nkernel made\n", "boot.ipxe": "#!ipxe\nchain made\n"}
    assert findings_of(tmp_path, files, made=b"x") == []


def test_one_program_under_several_names_has_no_finding(tmp_path: Path) -> None:
    """Debian's installer has a link at the top of its tree, and the files that the program loads beside the link."""
    (tmp_path / "di").mkdir()
    (tmp_path / "pxelinux.0").symlink_to("di/pxelinux.0")
    assert findings_of(tmp_path, {"di/pxelinux.0": pxelinux(), "ldlinux.c32": module()}) == []


@pytest.mark.parametrize(
    ("files", "programs", "expected"),
    [
        ({"x86-bios": "a.0", "x86_64-uefi": "x.efi"}, {"a.0": b"\xea", "x.efi": pe(X64)}, []),
        ({"x86-bios": "x.efi"}, {"x.efi": pe(X64)}, [("x.efi", "program")]),
        ({"x86_64-uefi": "a.0"}, {"a.0": b"\xea"}, [("a.0", "program")]),
        ({"x86_64-uefi": "x.efi"}, {"x.efi": pe(IA32)}, [("x.efi", "architecture")]),
        ({"arm64-uefi-http": "{http}/x.efi"}, {"x.efi": pe(IA32)}, [("x.efi", "architecture")]),
        ({"x86_64-uefi-http": "http://{server}:8069/x.iso"}, {"x.iso": b"iso"}, []),
        ({"ipxe": "boot.ipxe", "x86-uefi": "\\x.efi"}, {}, [("[[resolver]] resolver, ipxe", "missing")] * 2),
        ({"ipxe": "http://elsewhere/x", "unknown": "{mac}/x"}, {}, []),
        ({"ipxe": "boot.ipxe"}, {"boot.ipxe": "#!ipxe\n"}, []),
    ],
)
def test_boot_files_of_resolvers(
    tmp_path: Path, files: dict[str, Any], programs: dict[str, bytes | str], expected: list[tuple[str, str]]
) -> None:
    findings = findings_of(tmp_path, programs, [ByArchitecture(files)])
    assert [rule for _, rule in findings] == [rule for _, rule in expected]
    assert [file for file, _ in findings if not file.startswith("[[")] == [
        f for f, _ in expected if not f.startswith("[[")
    ]


def test_files_of_static_and_by_client_are_checked(tmp_path: Path) -> None:
    resolvers = [StaticResolver("gone"), ByClient([{"mac": "52:54:00:00:00:01", "file": "gone too"}])]
    assert [rule for _, rule in findings_of(tmp_path, {}, resolvers)] == ["missing", "missing"]


def test_programs_of_32_mib_are_reported(tmp_path: Path) -> None:
    for length, findings in ((65535 * 512 - 1, []), (65535 * 512, [("large.0", "size")])):
        with (tmp_path / "large.0").open("wb") as file:
            file.truncate(length)
        assert findings_of(tmp_path, {}, [StaticResolver("large.0")]) == findings


def test_pxe_menus_tables_and_pxelinux_configurations(tmp_path: Path) -> None:
    resolvers = [
        PXEMenu([{"description": "Disk"}, {"description": "Rescue", "file": "gone.0"}]),
        ByArchitecture({"x86-bios": {"file": "b/pxelinux.0", "pathprefix": "b/", "configfile": "own.cfg"}}),
        ByArchitecture({"x86-bios": {"file": "b/pxelinux.0", "configfile": "hosts/{mac}"}}),
        ByArchitecture({"x86-bios": {"file": "b/pxelinux.0", "configfile": "beside.cfg"}}),
        StaticResolver("b/pxelinux.0", pathprefix="no/", configfile="own.cfg"),
        ByClient([{"mac": "52:54:00:00:00:01", "file": "{mac}.0"}, {"mac": "52:54:00:00:00:02", "file": "far.0"}]),
    ]
    files: dict[str, bytes | str] = {"b/pxelinux.0": pxelinux("4.07"), "b/own.cfg": "", "b/beside.cfg": ""}
    findings_of(tmp_path, files)
    findings = lint(tree_of(tmp_path), [(type(resolver).__name__, resolver) for resolver in resolvers], ROOT)
    assert [(finding.file, finding.rule) for finding in findings] == [
        ("[[resolver]] ByClient, clients[1]", "missing"),
        ('[[resolver]] PXEMenu, items[1] "Rescue"', "missing"),
        ("[[resolver]] StaticResolver", "missing"),
    ]
    assert [finding.reason.split()[-5] for finding in findings] == ["far.0,", "gone.0,", "no/own.cfg,"]


def test_files_of_other_servers_are_not_checked(tmp_path: Path) -> None:
    elsewhere = "10.0.0.5"
    resolvers = [
        StaticResolver("a.0", server=elsewhere, configfile="a.cfg"),
        ByArchitecture({"x86-bios": "b.0"}, server=elsewhere),
        ByArchitecture({"x86-bios": {"file": "b.0", "server": elsewhere}}),
        ByClient([{"mac": "52:54:00:00:00:01", "file": "c.0", "server": elsewhere}]),
        PXEMenu([{"description": "d", "file": "d.0", "server": elsewhere}]),
    ]
    assert findings_of(tmp_path, {}, resolvers) == []


def test_dangling_links_are_reported(tmp_path: Path) -> None:
    for name, target in (
        ("loop", "loop"),
        ("one", "two"),
        ("two", "one"),
        ("through", "file/x"),
        ("long", "x" * 300),
        ("d", "d/x"),
    ):
        (tmp_path / name).symlink_to(target)
    names = ["d", "long", "loop", "one", "through", "two"]
    assert findings_of(tmp_path, {"file": "x", "wrong.ipxe": "x"}) == [
        *((name, "link") for name in names),
        ("wrong.ipxe", "script"),
    ]
    reasons = {finding.file.rpartition("/")[2]: finding.reason for finding in lint(tree_of(tmp_path), [], ROOT)}
    assert all("in a circle" in reasons[name] for name in ("loop", "one", "two", "d"))


def test_directories_are_searched_once_even_if_links_lead_to_them(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "again").symlink_to(".")
    (tmp_path / "d/up").symlink_to("..")
    assert findings_of(tmp_path, {"d/wrong.ipxe": "x"}) == [("d/wrong.ipxe", "script")]
    assert [entry.path for entry in tree_of(tmp_path).entries] == ["again", "d", "d/up", "d/wrong.ipxe"]


def test_special_files_are_reported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "vmlinuz")
    os.mkfifo(tmp_path / "grub.cfg")
    (tmp_path / "initrd").symlink_to("vmlinuz")
    (tmp_path / "boot.efi").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
        special = [(name, "special") for name in ("boot.efi", "grub.cfg", "initrd", "socket", "vmlinuz")]
        assert findings_of(tmp_path, {"wrong.ipxe": "x"}) == [*special, ("wrong.ipxe", "script")]


def test_a_deep_tree_is_searched(tmp_path: Path) -> None:
    directory = str(tmp_path)
    for _ in range(1200):
        directory += "/d"
        os.mkdir(directory)
    assert findings_of(tmp_path, {"wrong.ipxe": "x"}) == [("wrong.ipxe", "script")]
    while directory != str(tmp_path):  # pytest itself would recurse too deeply to remove it
        os.rmdir(directory)
        directory = os.path.dirname(directory)


def test_unlistable_directory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def scandir_with_refusal(path: Path) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("/closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    monkeypatch.setattr("bootfw.lint.tree.os.scandir", scandir_with_refusal)
    assert findings_of(tmp_path, {"wrong.ipxe": "x"}) == [("closed", "unreadable"), ("wrong.ipxe", "script")]


@pytest.mark.parametrize("readable_bytes", [0, 1 << 20])
def test_a_file_on_a_bad_sector_is_reported(tmp_path: Path, readable_bytes: int) -> None:
    """The other files are examined nevertheless, and the file has no other finding."""
    findings_of(tmp_path, {"vmlinuz.gz": gzip.compress(random.Random(1).randbytes(3 << 20)), "wrong.ipxe": "x"})
    findings_of(tmp_path, {"boot.ipxe": "#!ipxe\nkernel vmlinuz.gz\n"})
    directory = DirectoryBackend(tmp_path)

    class BadDisk:
        def open(self, path: str, request: TransferRequest) -> object:
            reader = directory.open(path, request)
            return BadSector(reader) if path == "vmlinuz.gz" else reader

    class BadSector:
        def __init__(self, reader: FileReader) -> None:
            self.size, self.close, self._reader = reader.size, reader.close, reader

        def read(self, offset: int, length: int) -> bytes:
            if offset + length > readable_bytes:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return self._reader.read(offset, length)

    tree = Tree(BadDisk(), [(tmp_path, BadDisk())])
    findings = lint(
        tree, [("by-architecture", ByArchitecture({"x86_64-uefi": "vmlinuz.gz"}))] if not readable_bytes else [], ROOT
    )
    assert [(finding.file.rpartition("/")[2], finding.rule) for finding in findings] == [
        ("vmlinuz.gz", "unreadable"),
        ("wrong.ipxe", "script"),
    ]
    assert "Input/output error" in findings[0].reason


def test_links_out_of_the_root_and_dangling_ones_are_reported(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"x")
    (root / "d/inside").symlink_to("../file")
    (root / "absolute").symlink_to("/file")
    (root / "directory").symlink_to("d")
    (root / "out").symlink_to("../outside")
    (root / "far").symlink_to(tmp_path / "outside")
    (root / "gone").symlink_to("nothing")
    assert findings_of(root, {"file": "x"}) == [("far", "link"), ("gone", "link"), ("out", "link")]
    out = next(finding for finding in lint(tree_of(root), [], ROOT) if finding.file.endswith("/out"))
    assert "leads out" in out.reason


def test_link_out_of_the_root_to_a_file_of_another_backend(tmp_path: Path) -> None:
    (tmp_path / "ipxe.efi").symlink_to("/boot/ipxe.efi")
    served: dict[str, Any] = {"ipxe.efi": pe(X64)}
    assert findings_of(tmp_path, {}, **served) == []


def test_unreadable_files_are_reported(tmp_path: Path) -> None:
    for name, mode in (("all", 0o644), ("owner", 0o600), ("group", 0o640), ("d", 0o700)):
        if name == "d":
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_bytes(b"x")
        os.chmod(tmp_path / name, mode)
    status = (tmp_path / "all").stat()
    stranger = User("boot", status.st_uid + 1, frozenset({status.st_gid + 1}))
    assert findings_of(tmp_path, {}, user=stranger) == [
        ("d", "unreadable"),
        ("group", "unreadable"),
        ("owner", "unreadable"),
    ]
    group_member = User("boot", status.st_uid + 1, frozenset({status.st_gid}))
    assert findings_of(tmp_path, {}, user=group_member) == [("d", "unreadable"), ("owner", "unreadable")]
    assert findings_of(tmp_path, {}, user=User("owner", status.st_uid, frozenset())) == []


NAMES = ["x.efi", "shimx64.efi", "pxelinux.0", "ldlinux.c32", "vmlinuz", "initrd.gz", "a.ipxe", "grub.cfg"]
PIECES = [
    *(pe(X64), shim(), kernel(), pxelinux(), syslinux_efi(), module(32, ("libutil.c32",)), INITRD, b"#!ipxe\n"),
    *(
        b"chain a.ipxe\n",
        b"kernel x.efi ||\n",
        b"label a\n",
        b"linux \n",
        b"include pxelinux.cfg/default\n",
        b"menuentry {\n",
    ),
    *(b"initrd ,,\n", b"append initrd=\n", b"default\n", b"&& chain\n", b"chain --name\n", b"linux '\n", b"\\\n"),
]


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*NAMES, "pxelinux.cfg/default"]),
        st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=40)), max_size=5).map(b"".join),
    ),
    st.integers(0, 3000),
)
def test_lint_raises_nothing_for_any_files(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], length: int
) -> None:
    root = tmp_path_factory.mktemp("tree")
    findings_of(root, {name: data[:length] for name, data in files.items()})


@pytest.mark.parametrize(("first_backend", "rules"), [("directory", ["order"]), ("images", [])])
def test_order_of_directory_and_images_backends(tmp_path: Path, first_backend: str, rules: list[str]) -> None:
    """Only the boot.cfg of ESXi differs; both backends serve that of another system unchanged."""
    for name, text in (("esxi", ESXI_BOOT_CFG), ("other", b"kernel=/vmlinuz\n")):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "boot.cfg").write_bytes(text)
    directory, images = DirectoryBackend(tmp_path), ImagesBackend(tmp_path / "images")
    backends: list[tuple[str, IBackend]] = [("directory", directory), ("images", images)]
    if first_backend == "images":
        backends.reverse()
    findings = lint(Tree(LayeredBackend(backends), [(tmp_path, directory)]), [], ROOT, backends)
    images.close()
    assert [finding.rule for finding in findings] == rules
    assert all(finding.file == str(tmp_path / "images/esxi/boot.cfg") for finding in findings)
