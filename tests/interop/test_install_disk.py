"""Machines get the image of a disk, all at once: each boots the receiver, and what was written in the end."""

import json
import os
import random
from pathlib import Path

import pytest
from bootable import disk_image

from .lab import Lab, Program
from .machines.disks import boot_sector
from .machines.receiver import write_receiver_system
from .machines.uefi import start_uefi_machine
from .qemu import Card, start_machine
from .test_install import COMMAND, Site

pytestmark = [pytest.mark.interop, pytest.mark.firmware]

SECONDS = 600
"""Three emulated machines boot Linux twice on a busy machine."""

MACS = [f"52:54:00:16:01:{number:02x}" for number in range(1, 4)]

SIZE = 10 << 20


def start(lab: Lab, mac: str, disk: Path, firmware: str) -> Program:
    """A PC with an empty disk, which it tries after the network."""
    disk.write_bytes(b"")
    os.truncate(disk, SIZE + (4 << 20))
    drive = f"if=none,id=disk,format=raw,cache=unsafe,file={disk}"
    device = "virtio-blk-pci,drive=disk,bootindex=9"
    options = ("-action", "reboot=reset", "-drive", drive, "-device", device)
    if firmware == "uefi":
        card = Card("virtio-net-pci", "romfile=,bootindex=1", mac=mac)
        return start_uefi_machine(lab, cards=(card,), memory=768, more_options=options)
    return start_machine(
        lab,
        "qemu-system-x86_64",
        *("-machine", "pc,graphics=off", "-boot", "n", *options),
        cards=(Card("virtio-net-pci", "bootindex=1", mac=mac),),
        memory=512,
        name=disk.stem,
    )


def test_machines_get_a_disk_image_at_once(lab: Lab, tmp_path: Path) -> None:
    site = Site(lab, tmp_path)
    write_receiver_system(COMMAND, site.images / "receiver")
    image = disk_image(boot_sector("the-image-is-installed"), 1 << 20) + random.Random(18).randbytes(SIZE - (1 << 20))
    (tmp_path / "system.img").write_bytes(image)
    with site.configuration.open("a") as file:
        # It takes so long that the machines, which begin one after the other, receive most of it together.
        file.write('[multicast]\nlisten = ["0.0.0.0:64494"]\nrate = "100 kB"\n')
    server = site.serve()
    site.run("images", "add", tmp_path / "system.img")
    (site.images / "system.cmdline").write_text("console=ttyS0 quiet")
    assert "BIOS x86_64, UEFI x86_64" in next(line for line in site.run("images").splitlines() if "Disk image" in line)
    install = site.start("install", *MACS, "system")
    install.wait_for("switch them on", SECONDS)
    disks = [tmp_path / f"disk{number}.img" for number in range(len(MACS))]
    # UEFI takes longer until it boots. The disk has no program for it, so it boots that on a BIOS only.
    start(lab, MACS[0], disks[0], "uefi")
    server.wait_for("one-time boot 'install/system.ipxe' served", SECONDS)
    consoles = [start(lab, mac, disk, "bios") for mac, disk in zip(MACS[1:], disks[1:], strict=True)]
    assert install.wait(SECONDS) == 0, install.output
    (image_status,) = json.loads(site.run("status", "--json"))["images"]
    assert (image_status["completed"], image_status["size"]) == (len(MACS), SIZE)
    assert image_status["sent"] < 2 * SIZE
    assert install.output.count("  up after ") == len(MACS)
    for console in consoles:
        console.wait_for("the-image-is-installed", SECONDS, "the disk that was written")
    for disk in disks:
        assert disk.read_bytes()[:SIZE] == image
    assert server.output.count("one-time boot 'install/system.ipxe' served") == len(MACS)
    print(install.output, image_status)
