"""``bootfw receive``, and the same as one file, in a network that loses packets."""

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import frozen
from howtos import blocks

from bootfw.cli.receivescript import write_script
from bootfw.frisbee.digests import Digests
from bootfw.wire.frisbee import CHUNK_SIZE

from .lab import Host, Lab
from .service import start_bootfw

pytestmark = pytest.mark.interop

SERVER = "10.77.0.1"
GROUP = "239.192.2.2:1283"
SECONDS = 120
BOOTFW = str(Path(sys.executable).with_name("bootfw"))
SCRIPT = "receive.pyz"
"""What start() has written, in the directory of the lab."""


@frozen
class Sender:
    """A server of one image."""

    lab: Lab
    image: Path
    digests: str
    """The path of their file."""

    @property
    def content(self) -> bytes:
        return self.image.read_bytes()

    def add_station(self, number: int) -> Host:
        host = self.lab.host(f"station{number}", f"10.77.0.{10 + number}/24")
        host.ip("route", "add", "239.0.0.0/8", "dev", "eth0")
        return host


def single_file_command(lab: Lab) -> tuple[str, ...]:
    """The command as one file, without the installed packages."""
    return sys.executable, "-I", "-S", str(lab.directory / SCRIPT)


def start(lab: Lab, size: int) -> Sender:
    image = lab.directory / "debian.img"
    image.write_bytes(random.randbytes(size))
    digests = lab.directory / "debian.img.chunks"
    with image.open("rb") as file:
        digests.write_bytes(Digests.of(file.read).dump())
    server = lab.host("server", f"{SERVER}/24")
    server.ip("route", "add", "239.0.0.0/8", "dev", "eth0")
    configuration = f"""
        [dhcp]
        mode = "off"
        [tftp]
        listen = ["0.0.0.0:69"]
        [multicast]
        listen = ["0.0.0.0:64494"]
        [[multicast.image]]
        path = "debian.img"
        address = "{GROUP}"
        [[backend]]
        use = "directory"
        root = "{lab.directory}"
    """
    program = start_bootfw(server, lab.directory, configuration, 69)
    program.wait_for("every wanted socket is bound", SECONDS)
    write_script(str(lab.directory / SCRIPT))
    return Sender(lab, image, str(digests))


def test_the_commands_of_the_page(lab: Lab) -> None:
    *_, receive_block, script_block = blocks("multicast.md", "console")
    command, expected = receive_block.removeprefix("# ").splitlines()
    sender = start(lab, 6 * CHUNK_SIZE + 12_345)
    outputs = [lab.directory / f"received{number}" for number in range(3)]
    path = lab.directory / SCRIPT
    path.unlink()
    arguments = script_block.removeprefix("$ bootfw ").replace("receive.pyz", str(path)).split()
    assert sender.add_station(9).run(BOOTFW, *arguments, seconds=SECONDS).exit_code == 0
    lab.lose(2)
    programs = []
    for number, output in enumerate(outputs):
        options = command.removeprefix("bootfw receive ").replace("/dev/sda", str(output)).split()
        receive_command = (BOOTFW, "receive") if number == 0 else single_file_command(lab)
        programs.append(
            sender.add_station(number).start(*receive_command, *options, "--digests", sender.digests, name="receive")
        )
    for program, output in zip(programs, outputs, strict=True):
        assert program.wait(SECONDS) == 0, program.output
        assert output.read_bytes() == sender.content
        assert re.sub(r"[\d.]+", "N", program.output) == re.sub(r"[\d.]+", "N", f"{expected}\n")


def test_a_reception_that_was_killed_goes_on_where_it_was(lab: Lab) -> None:
    sender = start(lab, 16 * CHUNK_SIZE)
    add_station, output = sender.add_station(0), lab.directory / "received"
    command = (
        *single_file_command(lab),
        "debian.img",
        "--group",
        GROUP,
        "--digests",
        sender.digests,
        "-o",
        str(output),
    )
    first = add_station.start(*command, name="receive")
    first.wait_until(lambda: output.exists() and output.stat().st_blocks >= 4 * CHUNK_SIZE // 512, SECONDS, "4 chunks")
    first.send(signal.SIGKILL)
    first.wait(SECONDS)
    digest = hashlib.sha256(sender.content).hexdigest()
    resumed = add_station.run(*command, "--resume", "--sha256", digest, seconds=SECONDS)
    assert resumed.exit_code == 0, resumed.output
    assert output.read_bytes() == sender.content
    kept_chunks = int(resumed.output.split(" has ")[1].split()[0])
    assert kept_chunks >= 3
    wrong_digest = add_station.run(*command, "--resume", "--sha256", "00", seconds=SECONDS)
    assert (wrong_digest.exit_code, f"has the SHA-256 digest {digest}, not 00" in wrong_digest.output) == (1, True), (
        wrong_digest.output
    )


@contextmanager
def loop_device(file: Path, size: int) -> Iterator[str]:
    """Yield a block device of so many bytes."""
    with file.open("wb") as opened:
        opened.truncate(size)
    result = subprocess.run(["losetup", "--find", "--show", file], check=True, capture_output=True, text=True)
    device = result.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.firmware  # what is received: the tests above
@pytest.mark.skipif(not os.path.exists("/dev/loop-control"), reason="the kernel has no loop devices")
def test_an_image_is_written_to_a_disk(lab: Lab) -> None:
    sender = start(lab, 5 * CHUNK_SIZE + 512)
    add_station = sender.add_station(0)
    command = (*single_file_command(lab), "debian.img", "--group", GROUP, "--digests", sender.digests, "-o")
    disk_size = 6 * CHUNK_SIZE
    with loop_device(lab.directory / "disk", disk_size) as disk:
        with open(disk, "r+b") as opened:
            opened.write(sender.content[: 2 * CHUNK_SIZE])
            opened.seek(disk_size - 5)
            opened.write(b"other")
        result = add_station.run(*command, disk, "--resume", seconds=SECONDS)
        assert (result.exit_code, f"{disk} has 2 of 6 chunks" in result.output) == (0, True), result.output
        with open(disk, "rb") as opened:
            content = opened.read()
        assert content[: len(sender.content)] == sender.content
        assert (len(content), content[-5:]) == (disk_size, b"other")  # what is behind the image stays
        descriptor = os.open(disk, os.O_RDONLY | os.O_EXCL)  # as mount(2) does
        try:
            result = add_station.run(*command, disk, seconds=SECONDS)
        finally:
            os.close(descriptor)
        assert result.exit_code == 1
        assert (
            result.output
            == f"receive: {disk} is in use: it or a part of it is mounted, or belongs to swap, RAID or LVM\n"
        )
    with loop_device(lab.directory / "small", 5 * CHUNK_SIZE) as disk:
        result = add_station.run(*command, disk, seconds=SECONDS)
        assert result.exit_code == 1
        assert f"{disk} has {5 * CHUNK_SIZE} bytes, and the image has {5 * CHUNK_SIZE + 512}" in result.output
        with open(disk, "rb") as opened:
            assert not any(opened.read())


def test_image_that_can_not_be_received_is_an_error_in_words(lab: Lab) -> None:
    sender = start(lab, 3 * CHUNK_SIZE)
    add_station, output = sender.add_station(0), str(lab.directory / "received")
    wrong_digests = lab.directory / "wrong"
    wrong_digests.write_bytes(Digests(3 * CHUNK_SIZE, (bytes(32),) * 3).dump())
    other_digests = lab.directory / "other"
    other_digests.write_bytes(Digests(1, (bytes(32),)).dump())
    for options, message in (
        (("missing", "--server", SERVER), f"{SERVER} does not send missing: it has no such image"),
        (("debian.img", "--server", "10.77.0.10"), "10.77.0.10 can't be reached at port 64494: Connection refused"),
        (("debian.img", "--group", "239.192.2.3:9", "--patience", "1"), "no server has answered for 1 s"),
        (("debian.img", "--group", GROUP, "--digests", str(wrong_digests)), "of the server is not that of the digests"),
        (
            ("debian.img", "--group", GROUP, "--digests", str(other_digests)),
            "the image has 3145728 bytes, and its digests are",
        ),
    ):
        result = add_station.run(*single_file_command(lab), *options, "-o", output, seconds=SECONDS)
        assert (result.exit_code, message in result.output) == (1, True), result.output
