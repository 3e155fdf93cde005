"""What the receiver system does on its machine, with a server. tests/interop/test_install_disk.py boots it."""

import json
import random
import sys
from pathlib import Path

import pytest
from bootable import disk_image

from .lab import Host, Lab, Program
from .service import start_bootfw

pytestmark = pytest.mark.interop

SERVER = "10.77.0.1"
SECONDS = 120
COMMAND = str(Path(sys.executable).with_name("bootfw"))

CONFIGURATION = """
[bootfw]
state-dir = "{lab}/state"
[dhcp]
mode = "off"
[http]
listen = ["0.0.0.0:8069"]
[multicast]
listen = ["0.0.0.0:64494"]
[[backend]]
use = "images"
root = "{lab}/images"
"""

INSTALL = """
import sys
from bootfw.cli.diskinstall import Installation, Order
installation = Installation(Order.of(sys.argv[1]))
installation._resumes = True
sys.exit(installation.attempt() or None)
"""


def start(lab: Lab, content: bytes) -> tuple[Host, Program, str]:
    """A server with the image; its URL."""
    (lab.directory / "images").mkdir()
    (lab.directory / "system.img").write_bytes(content)
    host = lab.host("server", f"{SERVER}/24")
    host.ip("route", "add", "224.0.0.0/4", "dev", "eth0")
    configuration = CONFIGURATION.format(lab=lab.directory)
    (lab.directory / "bootfw.toml").write_text(configuration)
    result = host.run(
        COMMAND, "images", "add", lab.directory / "system.img", "-c", lab.directory / "bootfw.toml", seconds=SECONDS
    )
    assert "can't be installed: no receiver is there" in result.output
    listing = host.run(COMMAND, "images", "--json", "-c", lab.directory / "bootfw.toml", seconds=SECONDS)
    (image,) = json.loads(listing.output)
    program = start_bootfw(host, lab.directory, configuration, 69)
    program.wait_for("multicast-master listens on 0.0.0.0:64494", SECONDS)
    return host, program, f"http://{SERVER}:8069/images/system~{image['version']}.img"


def install(lab: Lab, number: int, url: str, disk: Path) -> Program:
    machine = lab.host(f"machine{number}", f"10.77.0.{101 + number}/24")
    machine.ip("route", "add", "224.0.0.0/4", "dev", "eth0")
    return machine.start(sys.executable, "-c", INSTALL, f"bootfw.image={url} bootfw.disk={disk}")


def test_machines_write_the_image_and_report_it(lab: Lab) -> None:
    """One of them has a part of it from a try before, which is kept."""
    content = bytearray(disk_image(size=6 << 20))
    content[512:] = random.Random(18).randbytes(len(content) - 512)
    host, _, url = start(lab, bytes(content))
    disks = [lab.directory / f"disk{number}" for number in range(2)]
    disks[0].write_bytes(b"")
    disks[1].write_bytes(content[: 4 << 20] + bytes(100))
    machines = [install(lab, number, url, disk) for number, disk in enumerate(disks)]
    for machine in machines:
        assert machine.wait(SECONDS) == 0, machine.output
    assert [disk.read_bytes() for disk in disks] == [content] * 2
    name = url.rpartition("/images/")[2]
    assert f"images/{name} to {disks[0]}: 6 of 6 MiB" in machines[0].output
    assert f"images/{name} to {disks[1]}: 2 of 6 MiB" in machines[1].output
    boots = host.run(COMMAND, "boots", "-c", lab.directory / "bootfw.toml", seconds=SECONDS).output
    assert boots.count(" up\n") == 2, boots


def test_image_that_is_damaged_is_not_written(lab: Lab) -> None:
    content = disk_image(size=2 << 20)
    _, server, url = start(lab, content)
    with open(lab.directory / "images/system.img", "r+b") as image:
        image.seek(1500)
        image.write(b"damage")
    machine = install(lab, 0, url, lab.directory / "disk")
    assert machine.wait(SECONDS) == 1
    reason = "chunk 0 of the server is not that of the digests: has the image changed?"
    assert machine.output.rstrip().endswith(reason)
    server.wait_for(f"the installer has failed: '{reason}'", SECONDS)
    assert (lab.directory / "disk").read_bytes()[: 1 << 20] == bytes(1 << 20)
