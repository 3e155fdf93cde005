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


def lines(number: int) -> list[list[str]]:
    """The words of each command of a block."""
    return [shlex.split(line.removeprefix("# ")) for line in blocks(PAGE, "console")[number].splitlines()]


def begin(host: Host, directory: Path, words: list[str]) -> Program:
    """A command of the page, in *directory*, with a /srv and a /var/lib of the test."""
    words = [str(BIN / words[0]) if words[0] == "bootfw" else words[0], *words[1:]]
    mounts = f"mount --bind {directory}/srv /srv && mount --bind {directory}/state /var/lib"
    return host.start(*words, name=Path(words[0]).name, first=mounts, directory=directory)


def do(host: Host, directory: Path, words: list[str]) -> str:
    """The output of a command that ends."""
    program = begin(host, directory, words)
    assert program.wait(60) in (0, 1), program.output
    return program.output


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory of the page, with its files."""
    (tmp_path / "srv/boot").mkdir(parents=True)
    (tmp_path / "state").mkdir()
    (tmp_path / "srv/boot/boot.ipxe").write_text(blocks(PAGE, "")[0])
    (tmp_path / "bootfw.toml").write_text(blocks(PAGE, "toml")[0])
    return tmp_path


def test_the_tutorial_without_a_machine(lab: Lab, place: Path) -> None:
    need("qemu-system-x86_64")
    install, network, (check, run), (machine,), looks, remove, _, _ = (lines(number) for number in range(8))
    assert [words[-1] for words in install] == ["/opt/bootfw", ".", "/usr/local/bin/bootfw"]
    host = lab.host("computer")
    for words in network:
        assert do(host, place, words) == ""
    # Without a router iPXE waits 13 s for one, and keeps a core busy; its part is played beside the page.
    host.ip("address", "add", "fd77::2/64", "dev", "boot0", "nodad")
    start_dnsmasq(lab, host, "--interface=boot0", "--dhcp-range=fd77::,ra-only", "--enable-ra", "--ra-param=boot0,0,0")
    do(host, place, check)
    server = begin(host, place, run)
    server.wait_until_bound(67, 69)
    if lab.slot is not None:
        lab.slot.take()
    begin(host, place, machine).wait_for(blocks(PAGE, "")[1].strip(), SECONDS)
    assert "52:54:00:12:34:56" in do(host, place, looks[0])
    wait_until(lambda: '"boot.ipxe": complete' in do(host, place, looks[1]), 60, "the transfer is in the record")
    server.stop()
    for words in remove:
        assert do(host, place, words) == ""


def test_the_tutorial_with_a_machine(lab: Lab, place: Path) -> None:
    """Whose part ``bootfw probe`` has, as on the page."""
    need("/usr/lib/ipxe/snponly.efi")
    (run,), (probe,) = lines(6), lines(7)
    server = begin(lab.host("server", "10.77.0.1/24"), place, run)
    server.wait_until_bound(67, 69, 4011)
    assert "snponly.efi" in do(lab.host("computer", "10.77.0.9/24"), place, probe)
