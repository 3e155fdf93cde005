"""Real firmware gets a one-time boot, and is kept from a boot loop, by ``twistd bootfw`` and the ``bootfw`` command."""

import json
import secrets
import sys
from pathlib import Path

import pytest

from .firmware.servers import start_address_server, start_router
from .lab import Host, Lab, Program
from .machines.bios import start_bios_machine
from .qemu import SECONDS, Card
from .service import start_bootfw

pytestmark = pytest.mark.interop

MAC = "52:54:00:77:01:01"
BOOTFW = Path(sys.executable).with_name("bootfw")


class Site:
    """A proxy that has the ROMs of all machines run boot.ipxe, beside a server that gives addresses."""

    def __init__(self, lab: Lab, root: Path) -> None:
        start_address_server(lab)
        start_router(lab)
        self.lab = lab
        self.root = root
        self.host: Host = lab.host("bootfw", "10.77.0.1/24")
        self.server: Program = self.start()

    def start(self) -> Program:
        configuration = f"""
            [bootfw]
            state-dir = "{self.root / "state"}"
            [[backend]]
            use = "directory"
            root = "{self.root}"
            [[resolver]]
            use = "next-boot"
            [[resolver]]
            use = "loop-breaker"
            [[resolver]]
            use = "static"
            file = "boot.ipxe"
        """
        self.server = start_bootfw(self.host, self.lab.directory, configuration, 67, 69, 4011)
        self.configuration = next(self.lab.directory.glob("bootfw-*.toml"))
        return self.server

    def command(self, *arguments: str) -> str:
        """What ``bootfw next`` prints."""
        result = self.host.run(BOOTFW, "next", "-c", self.configuration, *arguments, seconds=30)
        assert result.wait(30) == 0, result.output
        return result.output

    def machine(self) -> Program:
        return start_bios_machine(self.lab, cards=(Card("e1000", mac=MAC),))


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Site:
    root = tmp_path / "served"
    root.mkdir()
    (root / "boot.ipxe").write_text("#!ipxe\necho as always\nexit 0\n")
    return Site(lab, root)


def test_a_machine_installs_once_and_then_boots_as_always(site: Site) -> None:
    """Ordered while bootfw does not run, which is started again before the second boot, too."""
    marker = f"marker-{secrets.token_hex(8)}"
    (site.root / "install").mkdir()
    (site.root / "install/install.ipxe").write_text(f"#!ipxe\necho {marker} ${{cwuri}}\nchain more.ipxe\n")
    (site.root / "install/more.ipxe").write_text("#!ipxe\necho from beside it\nexit 0\n")
    site.server.stop()
    order_output = site.command(MAC, "install/install.ipxe")
    assert order_output.startswith("bootfw: no server runs with the state directory ")
    assert order_output.endswith(f"{MAC} boots install/install.ipxe next, once\n")
    site.start()
    first = site.machine()
    first.wait_until(lambda: "from beside it" in first.output, SECONDS, "what the installer loads by a relative name")
    assert marker in first.output
    first.stop()
    log_line = f"{MAC}: one-time boot"
    site.server.wait_until(lambda: log_line in site.server.output, 90, "the one-time boot is logged")
    assert json.loads(site.command("--json")) == {"next": [], "looping": []}
    site.server.stop()
    site.start()
    second = site.machine()
    second.wait_until(lambda: "No bootable device" in second.output, SECONDS, "the machine tries its own disk")
    assert "as always" in second.output
    assert marker not in second.output


def test_a_chain_loop_is_broken_and_reported(site: Site) -> None:
    (site.root / "boot.ipxe").write_text("#!ipxe\necho once more\nautoboot\n")
    machine = site.machine()
    machine.wait_until(lambda: "No bootable device" in machine.output, SECONDS, "the machine tries its own disk")
    assert machine.output.count("once more") in (5, 6)
    assert "bootfw: it loaded the same files 5 times in a row and came back: boot.ipxe" in machine.output
    assert (
        f"{MAC} (ipxe, x86-bios, on eth0): boot loop: it loaded the same files 5 times in a row" in site.server.output
    )
    assert [machine_record["mac"] for machine_record in json.loads(site.command("--json"))["looping"]] == [MAC]
    assert site.command("--forgive", MAC) == f"{MAC} boots from here again\n"
