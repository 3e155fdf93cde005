"""Trees of boot files: what is said of PXELINUX's configurations."""

from pathlib import Path

import pytest
from imported import fates, parts, values

from bootfw.cli.main import main
from bootfw.importing.draft import Draft
from bootfw.importing.outcome import Fate
from bootfw.importing.tree import read_tree


def tree(*paths: str) -> Draft:
    draft = Draft()
    read_tree(draft, "/srv/tftp", paths)
    return draft


@pytest.mark.parametrize(
    ("name", "fate", "reason"),
    [
        ("default", Fate.EXPRESSED, "every machine without one of its own"),
        ("01-52-54-00-12-34-56", Fate.EXPRESSED, "the hardware address 52:54:00:12:34:56"),
        ("20-00-02-55-04-01-02-03-04", Fate.EXPRESSED, "the hardware address"),
        ("b8945908-d6a6-41a9-611d-74a6ab80b83d", Fate.EXPRESSED, "this UUID"),
        ("0A4D000A", Fate.EXPRESSED, "the address 10.77.0.10"),
        ("0A4D", Fate.EXPRESSED, "a machine in 10.77.0.0/16"),
        ("A", Fate.EXPRESSED, "a machine in 160.0.0.0/4"),
        ("01-52-54-00-AB-34-56", Fate.LEFT_OUT, "which is 01-52-54-00-ab-34-56"),
        ("52:54:00:12:34:56", Fate.LEFT_OUT, "which is 01-52-54-00-12-34-56"),
        ("0a4d000a", Fate.LEFT_OUT, "which is 0A4D000A"),
        ("B8945908-D6A6-41A9-611D-74A6AB80B83D", Fate.LEFT_OUT, "which is b8945908-"),
        ("Default", Fate.LEFT_OUT, "which is default"),
        ("default.bak", Fate.UNNEEDED, "no PXELINUX requests this name"),
        ("graphics.conf", Fate.UNNEEDED, "may be included by others"),
    ],
)
def test_configurations_of_pxelinux(name: str, fate: Fate, reason: str) -> None:
    draft = tree(f"pxelinux.cfg/{name}", f"bios/pxelinux.cfg/{name}")
    found = [outcome for outcome in draft.outcomes if outcome.line.file.endswith(name)]
    assert [outcome.fate for outcome in found] == [fate, fate]
    assert reason in found[0].reason


def test_a_tree_is_served_and_no_dhcp_is_answered() -> None:
    draft = tree("pxelinux.0", "grub/grubx64.efi", "images/vmlinuz")
    assert draft.clean
    assert values(draft) == {
        "resolver": [],
        "dhcp": {"mode": "off"},
        "backend": [{"use": "directory", "root": "/srv/tftp"}],
    }
    assert {outcome.line.file for outcome in draft.outcomes} == {
        *("/srv/tftp", "/srv/tftp/pxelinux.0", "/srv/tftp/grub/grubx64.efi"),
    }
    assert [name for name, _ in parts(draft).backends] == ["directory"]
    assert fates(draft)


def test_the_command_reads_a_tree_beside_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, conf = tmp_path / "tftp", tmp_path / "dnsmasq.conf"
    (root / "pxelinux.cfg").mkdir(parents=True)
    for path in ("pxelinux.0", "pxelinux.cfg/default", "pxelinux.cfg/01-52-54-00-AB-34-56", "vmlinuz"):
        (root / path).write_text("x")
    conf.write_text("dhcp-range=10.77.0.0,proxy,255.255.255.0\ndhcp-boot=pxelinux.0\n")
    assert main(["import", str(conf), str(root)]) == 3
    out, err = capsys.readouterr()
    assert f'root = "{root}"' in out
    assert err == (
        f"left out: {root}/pxelinux.cfg/01-52-54-00-AB-34-56\n"
        "    no PXELINUX requests this name, which is 01-52-54-00-ab-34-56; it may be included by others\n"
        "lines: 5 expressed, 1 left out\n"
    )
