"""atftp receives a file by multicast (RFC 2090), with other clients of the same file."""

import random
import shlex
import signal
import time
from pathlib import Path

import pytest
from attrs import frozen
from howtos import blocks

from .clients import CURL
from .lab import Lab, Program, need, wait_until
from .service import start_bootfw

pytestmark = pytest.mark.interop

SERVER = "10.77.0.1"
SECONDS = 120
SETTLED = 2.5
"""Seconds after which a changed file is known not to change again within the resolution of its time."""


def start(lab: Lab, size: int) -> Path:
    """A server with multicast; the file of *size* bytes that it serves."""
    need("atftp")
    root = lab.directory / "root"
    root.mkdir()
    path = root / "image.img"
    path.write_bytes(random.randbytes(size))
    server = lab.host("server", f"{SERVER}/24")
    configuration, *_ = blocks("multicast.md", "toml")
    configuration = configuration.replace("/srv/boot", str(root)) + '[dhcp]\nmode = "off"\n'
    start_bootfw(server, lab.directory, configuration, 69)
    wait_until(lambda: time.time() - path.stat().st_ctime > SETTLED, 90, "the file has not changed for a while")
    return path


@frozen
class Receiver:
    """atftp that receives the image by multicast."""

    program: Program
    local: Path

    @classmethod
    def join(cls, lab: Lab, number: int) -> "Receiver":
        """One on a new host, when it has joined. The first one is the master client."""
        host = lab.host(f"station{number}", f"10.77.0.{10 + number}/24")
        host.ip("route", "add", "239.0.0.0/8", "dev", "eth0")
        local = lab.directory / f"{host.name}-image"
        command, *_ = blocks("multicast.md", "console")
        arguments = shlex.split(
            command.removeprefix("$ ").replace("--local-file image.img", f"--local-file {local} --trace")
        )
        program = host.start(*arguments)
        program.wait_for("multicast: 239.255.77.1,1758,", SECONDS, "the OACK")
        return cls(program, local)

    @property
    def size(self) -> int:
        """Bytes that it has written."""
        return self.local.stat().st_size if self.local.exists() else 0

    def verify(self, path: Path) -> None:
        """It ends, and has the file."""
        assert self.program.wait(SECONDS) == 0, self.program.output[-1000:]
        assert self.local.read_bytes() == path.read_bytes()


def test_four_clients_receive_a_file_when_the_master_is_killed(lab: Lab) -> None:
    need("curl")
    path = start(lab, 4_000_000)
    lab.lose(1)
    master = Receiver.join(lab, 0)
    receivers = [Receiver.join(lab, number) for number in range(1, 5)]
    master.program.send(signal.SIGKILL)
    ordinary = lab.host("ordinary", "10.77.0.30/24")
    local = lab.directory / "ordinary-image"
    result = ordinary.run(*CURL.get((SERVER, 69), path.name, local), seconds=SECONDS)
    assert (result.exit_code, local.read_bytes() == path.read_bytes()) == (0, True)
    for receiver in receivers:
        receiver.verify(path)


@pytest.mark.firmware
@pytest.mark.parametrize("loss", [0, 2])
def test_ten_clients_receive_a_file(lab: Lab, loss: int) -> None:
    path = start(lab, 22_020_096)
    if loss:
        lab.lose(loss)
    receivers = [Receiver.join(lab, number) for number in range(10)]
    for receiver in receivers:
        receiver.verify(path)
