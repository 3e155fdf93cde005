"""What the firmware's own PXE menu and PXELINUX make of the options that are meant for them.

The ROM is QEMU's, iPXE, whose PXE menus are those of the specification; the persona says that it is shown one. What
shows that the right file was loaded is a random marker on the console, which stands in that file and nowhere else.
"""

import secrets
import shutil
from pathlib import Path

import pytest

from .firmware.servers import start_address_server, start_router
from .lab import Lab, need
from .machines.bios import start_bios_machine
from .qemu import SECONDS
from .service import start_bootfw

pytestmark = pytest.mark.interop


PROMPT = "Press F8 for the menu of this lab"
SERVER = """
    mode = "server"
    [[dhcp.subnet]]
    network = "10.77.0.0/24"
    pool = ["10.77.0.100-10.77.0.200"]
"""
PROXY = 'mode = "proxy"'


@pytest.fixture
def marker() -> str:
    return f"marker-{secrets.token_hex(8)}"


def start(lab: Lab, mode: str, root: Path, resolver: str) -> None:
    if mode is PROXY:
        start_address_server(lab)
    start_router(lab)
    configuration = f"""
        [bootfw]
        state-dir = "{lab.directory / "state"}"
        [dhcp]
        {mode}
        [[backend]]
        use = "directory"
        root = "{root}"
        [[resolver]]
        {resolver}
        [[resolver]]
        use = "static"
        file = "wrong.ipxe"
    """
    start_bootfw(lab.host("bootfw", "10.77.0.1/24"), lab.directory, configuration, 67, 69, 4011)


def menu(timeout_seconds: int) -> str:
    return f"""
        use = "pxe-menu"
        prompt = "{PROMPT}"
        timeout-seconds = {timeout_seconds}
        items = [
            {{ description = "First of the menu", file = "first.ipxe" }},
            {{ description = "Second of the menu", file = "second.ipxe" }},
            {{ description = "Go on to the disk" }},
        ]
        [[persona]]
        name = "ipxe"
        like = "ipxe"
        option-43 = "menu"
    """


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "served"
    path.mkdir()
    (path / "wrong.ipxe").write_text("#!ipxe\necho this file is not of the menu\n")
    return path


@pytest.mark.parametrize("mode", [PROXY, SERVER], ids=["proxy", "server"])
def test_the_rom_shows_the_menu_and_loads_the_chosen_item(lab: Lab, root: Path, marker: str, mode: str) -> None:
    (root / "first.ipxe").write_text("#!ipxe\necho this file was not picked\n")
    (root / "second.ipxe").write_text(f"#!ipxe\necho {marker}\n")
    start(lab, mode, root, menu(60))
    console = start_bios_machine(lab, "e1000")
    console.wait_for(PROMPT, SECONDS)
    console.type("\x1b[19~")  # F8
    console.wait_for("Second of the menu", SECONDS)
    console.type("\x1b[B\r")  # down, enter
    console.wait_for(marker, SECONDS)
    assert "not picked" not in console.output
    assert "not of the menu" not in console.output


def test_the_first_item_is_loaded_without_a_choice(lab: Lab, root: Path, marker: str) -> None:
    (root / "first.ipxe").write_text(f"#!ipxe\necho {marker}\n")
    start(lab, PROXY, root, menu(1))
    console = start_bios_machine(lab, "e1000")
    console.wait_for(marker, SECONDS)
    assert PROMPT in console.output


@pytest.mark.parametrize("mode", [PROXY, SERVER], ids=["proxy", "server"])
def test_pxelinux_uses_options_209_and_210(lab: Lab, root: Path, marker: str, mode: str) -> None:
    """RFC 5071. Without them it would look for pxelinux.cfg beside itself."""
    need("/usr/lib/PXELINUX/pxelinux.0")
    need("/usr/lib/syslinux/modules/bios/ldlinux.c32")
    shutil.copy("/usr/lib/PXELINUX/pxelinux.0", root / "pxelinux.0")
    (root / "prefix/conf").mkdir(parents=True)
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", root / "prefix/ldlinux.c32")
    (root / "prefix/conf/own.cfg").write_text(f"SAY {marker}\nDEFAULT no\nLABEL no\nLOCALBOOT -1\n")
    static = """
        use = "static"
        file = "pxelinux.0"
        pathprefix = "prefix/"
        configfile = "conf/own.cfg"
        reboot-seconds = 60
    """
    start(lab, mode, root, static)
    console = start_bios_machine(lab, "e1000")
    console.wait_for(marker, SECONDS)
