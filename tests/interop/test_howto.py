"""The how-tos in docs/howto, done as they are printed, until a machine has booted or a file has arrived.

The server's /srv and /var/lib are its own: "ip netns exec" gives each program a mount namespace.
"""

import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from howtos import blocks

from .firmware.files import Served
from .firmware.servers import start_address_server, start_router
from .lab import Host, Lab, Program, need
from .machines.bios import start_bios_machine
from .qemu import Card
from .service import BOOTFW

pytestmark = pytest.mark.interop

SECONDS = 120
MAC = "52:54:00:12:34:56"
"""The machine of the pages."""

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """What is in /srv."""
    (tmp_path / "srv/boot").mkdir(parents=True)
    return Served(tmp_path / "srv/boot", f"marker-{secrets.token_hex(8)}")


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("bootfw", "10.77.0.1/24")


def start(host: Host, served: Served, directory: Path, configuration: str = "", *ports: int) -> Program:
    """``twistd bootfw`` where *directory* has the files beside the configuration; "": without one."""
    options = []
    if configuration:
        (directory / "bootfw.toml").write_text(configuration)
        options = ["-c", "bootfw.toml"]
    mounts = f"mount --bind {served.root.parent} /srv && mount -t tmpfs none /var/lib && cd {directory}"
    program = host.start("sh", "-c", f'{mounts} && exec "$@"', "sh", *BOOTFW, *options, name="bootfw")
    program.wait_until_bound(*(ports or (67, 69)))
    return program


def type_command(host: Host, server: Program, line: str) -> str:
    """What a command of a page prints, typed beside the server."""
    assert line.startswith(("# bootfw ", "$ bootfw "))
    words = line[2:].split()
    program = Path(sys.executable).with_name(words[0])
    done = host.run("nsenter", "--mount", f"--target={server.pid}", program, *words[1:], seconds=30)
    assert done.exit_code == 0, done.output
    return done.output


def linux(served: Served, kernel: str, initrd: str) -> None:
    """A system that prints the marker, under the names of a page."""
    served.linux()
    for name, wanted in (("kernel", kernel), ("initramfs", initrd)):
        (served.root / wanted).parent.mkdir(parents=True, exist_ok=True)
        (served.root / name).rename(served.root / wanted)


def test_addresses(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    start_router(lab)
    served.ipxe_script("boot.ipxe")
    server = start(host, served, tmp_path, *blocks("addresses.md", "toml"))
    console = start_bios_machine(lab, cards=(Card("e1000", mac=MAC),))
    console.wait_for(served.marker, SECONDS)
    assert "got 'boot.ipxe': complete" in server.output or "got '/boot.ipxe': complete" in server.output


def test_callout(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """The machine that the API knows boots what it says, another one the resolvers behind it."""
    start_address_server(lab)
    start_router(lab)
    host.ip("address", "add", "10.0.0.1/24", "dev", "eth0")
    lab.host("api", "10.0.0.5/24").start(sys.executable, "-u", EXAMPLES / "boot_api.py", "8000")
    linux(served, "debian/linux", "debian/initrd.gz")
    (served.root / "boot.ipxe").write_text("#!ipxe\necho the script for the others\n")
    start(host, served, tmp_path, *blocks("callout.md", "toml"), 67, 69, 4011)
    machine, other = (start_bios_machine(lab, cards=(Card("e1000", mac=mac),)) for mac in (MAC, "52:54:00:77:05:02"))
    machine.wait_for(served.marker, SECONDS)
    assert "Installing build-7" in machine.output
    other.wait_for("the script for the others", SECONDS)


def test_pxe_menu(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """The page says how a ROM that is iPXE, which QEMU's is, is shown the menu too."""
    need("/usr/lib/PXELINUX/pxelinux.0")
    need("/usr/lib/syslinux/modules/bios/ldlinux.c32")
    start_address_server(lab)
    start_router(lab)
    text = Path(EXAMPLES.parent / "docs/howto/pxe-menu.md").read_text()
    persona = [f"{each}\n" for each in ("[[persona]]", 'name = "ipxe"', 'like = "ipxe"', 'option-43 = "menu"')]
    assert all(f"`{line.strip()}`" in text for line in persona)
    directory = served.root / "debian-installer/amd64"
    (directory / "pxelinux.cfg").mkdir(parents=True)
    shutil.copy("/usr/lib/PXELINUX/pxelinux.0", directory)
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", directory)
    (directory / "pxelinux.cfg/default").write_text(
        f"SERIAL 0\nSAY {served.marker}\nDEFAULT no\nLABEL no\nLOCALBOOT -1\n"
    )
    start(host, served, tmp_path, blocks("pxe-menu.md", "toml")[0] + "".join(persona), 67, 69, 4011)
    console = start_bios_machine(lab, "e1000")
    console.wait_for("Press F8 for other ways to boot", SECONDS)
    console.type("\x1b[19~")  # F8
    console.wait_for("Install Debian", SECONDS)
    console.type("\x1b[B\r")  # down, enter
    console.wait_for(served.marker, SECONDS)


def test_templates(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    start_address_server(lab)
    start_router(lab)
    _, configuration, web1, rack1 = blocks("templates.md", "toml")
    (template,) = blocks("templates.md", "jinja")
    for name, text in {
        "templates/boot.ipxe.j2": template,
        "hosts/web1.toml": web1,
        "hosts/groups/rack1.toml": rack1,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    linux(served, "debian-12/vmlinuz", "debian-12/initrd.gz")
    start(host, served, tmp_path, configuration, 67, 69, 4011)
    console = start_bios_machine(lab, cards=(Card("e1000", mac=MAC),))
    console.wait_for("web1 is web server", SECONDS)
    console.wait_for(served.marker, SECONDS)


def test_http(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    start_address_server(lab)
    start_router(lab)
    script = next(block for block in blocks("http.md", "") if block.startswith("#!ipxe"))
    (served.root / "boot.ipxe").write_text(script)
    linux(served, "vmlinuz", "initrd.img")
    server = start(host, served, tmp_path, blocks("http.md", "toml")[0], 67, 69, 4011)
    start_bios_machine(lab, "e1000").wait_for(served.marker, SECONDS)
    for name in ("boot.ipxe", "vmlinuz", "initrd.img"):
        server.wait_for(f"got '/{name}': complete", 10)
    assert "\ntftp 10." not in server.output


def test_archives(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """The page's image is found by what it holds, so a tar archive under its name does: no extra is needed."""
    (tmp_path / "image/install.amd").mkdir(parents=True)
    files = {"vmlinuz": secrets.token_bytes(100_000), "initrd.gz": secrets.token_bytes(200_000)}
    for name, data in files.items():
        (tmp_path / "image/install.amd" / name).write_bytes(data)
    (served.root.parent / "images").mkdir()
    (configuration,) = blocks("archives.md", "toml")
    (image,) = re.findall(r'"/srv/(.*?\.iso)"', configuration)
    subprocess.run(["tar", "-cf", served.root.parent / image, "-C", tmp_path / "image", "."], check=True)
    need("curl")
    start(host, served, tmp_path, configuration, 69)
    for name, data in files.items():
        got = tmp_path / name
        done = host.run("curl", "--silent", "--output", got, f"tftp://10.77.0.1/debian/{name}", seconds=30)
        assert done.exit_code == 0
        assert got.read_bytes() == data


def test_next_boot(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """Ordered as the page says, the machine gets the file once, and then what it always does."""
    start_address_server(lab)
    start_router(lab)
    served.ipxe_script("debian/install.ipxe")
    (served.root / "boot.ipxe").write_text("#!ipxe\necho what it always boots\n")
    server = start(host, served, tmp_path, "", 67, 69, 4011)
    lines = blocks("next-boot.md", "console")[0].splitlines()
    order, answer, show, *table = lines
    assert type_command(host, server, order).splitlines()[-1] == answer
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    shown = type_command(host, server, show).splitlines()
    assert [re.sub(moment, "WHEN", line) for line in shown] == [re.sub(moment, "WHEN", line) for line in table]
    start_bios_machine(lab, cards=(Card("e1000", mac=MAC),)).wait_for(served.marker, SECONDS)
    said = next(block for block in blocks("next-boot.md", "") if "is used up" in block and "next boot" in block)
    server.wait_for(" ".join(said.split()), 10)
    again = start_bios_machine(lab, cards=(Card("e1000", mac=MAC),))
    again.wait_for("what it always boots", SECONDS)
    assert served.marker not in again.output
