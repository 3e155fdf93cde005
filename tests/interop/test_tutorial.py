"""docs/tutorial.md, as it is printed: an emulated machine boots from a server that the page has set up."""

import shlex
import sys
from pathlib import Path

import pytest
from howtos import blocks

from .firmware.servers import start_dnsmasq
from .lab import Host, Lab, Program, need, wait_until
from .qemu import SECONDS

pytestmark = pytest.mark.interop

PAGE = "../tutorial.md"

BIN = Path(sys.executable).parent


def commands_of_block(number: int) -> list[list[str]]:
    """The words of each command of a block."""
    return [shlex.split(line.removeprefix("# ")) for line in blocks(PAGE, "console")[number].splitlines()]


def start_command(host: Host, directory: Path, command: list[str]) -> Program:
    """A command of the page, in *directory*, with a /srv and a /var/lib of the test."""
    command = [str(BIN / command[0]) if command[0] == "bootfw" else command[0], *command[1:]]
    mounts = f"mount --bind {directory}/srv /srv && mount --bind {directory}/state /var/lib"
    return host.start(*command, name=Path(command[0]).name, setup_command=mounts, directory=directory)


def run_command(host: Host, directory: Path, command: list[str]) -> str:
    """The output of a command that ends."""
    program = start_command(host, directory, command)
    assert program.wait(60) in (0, 1), program.output
    return program.output


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of the page, with its files."""
    (tmp_path / "srv/boot").mkdir(parents=True)
    (tmp_path / "state").mkdir()
    (tmp_path / "srv/boot/boot.ipxe").write_text(blocks(PAGE, "")[0])
    (tmp_path / "bootfw.toml").write_text(blocks(PAGE, "toml")[0])
    return tmp_path


def test_the_tutorial_without_a_machine(lab: Lab, directory: Path) -> None:
    need("qemu-system-x86_64")
    install, network, (check, run), (machine,), show_commands, remove, _, _ = (
        commands_of_block(number) for number in range(8)
    )
    assert [command[-1] for command in install] == ["/opt/bootfw", ".", "/usr/local/bin/bootfw"]
    host = lab.host("computer")
    for command in network:
        assert run_command(host, directory, command) == ""
    # Without a router iPXE waits 13 s for one, and keeps a core busy; its part is played beside the page.
    host.ip("address", "add", "fd77::2/64", "dev", "boot0", "nodad")
    start_dnsmasq(lab, host, "--interface=boot0", "--dhcp-range=fd77::,ra-only", "--enable-ra", "--ra-param=boot0,0,0")
    run_command(host, directory, check)
    server = start_command(host, directory, run)
    server.wait_until_bound(67, 69)
    if lab.slot is not None:
        lab.slot.take()
    start_command(host, directory, machine).wait_for(blocks(PAGE, "")[1].strip(), SECONDS)
    assert "52:54:00:12:34:56" in run_command(host, directory, show_commands[0])
    wait_until(
        lambda: '"boot.ipxe": complete' in run_command(host, directory, show_commands[1]),
        60,
        "the transfer is in the record",
    )
    server.stop()
    for command in remove:
        assert run_command(host, directory, command) == ""


def test_the_tutorial_with_a_machine(lab: Lab, directory: Path) -> None:
    """Whose part ``bootfw probe`` has, as on the page."""
    need("/usr/lib/ipxe/snponly.efi")
    (run,), (probe,) = commands_of_block(6), commands_of_block(7)
    server = start_command(lab.host("server", "10.77.0.1/24"), directory, run)
    server.wait_until_bound(67, 69, 4011)
    assert "snponly.efi" in run_command(lab.host("computer", "10.77.0.9/24"), directory, probe)
