"""A disk image for several machines, as docs/howto/multicast.md says; with Emulab's receiver where it is installed."""

import os
import random
import shutil
import socket
import sys
import time
from pathlib import Path

import pytest
from frisbeereceiver import FrisbeeReceiver
from howtos import blocks

from bootfw.frisbee.digests import Digests
from bootfw.wire import frisbeemaster
from bootfw.wire.frisbeemaster import Error, GetRequest, Method, PutReply, PutRequest

from .lab import Host, Lab, wait_until
from .service import start_bootfw

pytestmark = pytest.mark.interop

SERVER = "10.77.0.1"
SECONDS = 120
IMAGE = random.Random(18).randbytes(2_500_123)


class Machine:
    """A receiver in the test process, which has asked the master server."""

    def __init__(self, host: Host, address: str) -> None:
        host.ip("route", "add", "224.0.0.0/4", "dev", "eth0")
        with host.connection((SERVER, frisbeemaster.PORT)) as connection:
            connection.sendall(frisbeemaster.pack(GetRequest("images/win11.img")))
            received = b"".join(iter(lambda: connection.recv(4096), b""))
        self.reply = frisbeemaster.parse_get_reply(received)
        self._group = self.reply.address, self.reply.port
        self._socket = host.udp_socket(port=self.reply.port)
        self._socket.setblocking(False)
        membership = socket.inet_aton(self.reply.address) + socket.inet_aton(address)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        self.receiver = FrisbeeReceiver(address)
        self._last_received = 0.0

    def receive(self) -> bool:
        """Receive what has come; true once it has the image."""
        try:
            while True:
                self.receiver.receive(self._socket.recv(2048))
                self._last_received = time.monotonic()
        except BlockingIOError:
            pass
        if self.receiver.image is None and time.monotonic() - self._last_received > 0.2:
            self._last_received = time.monotonic()
            self.receiver.request_missing()
        self._flush()
        return self.receiver.image is not None

    def leave(self) -> None:
        """Say that it has the image."""
        self.receiver.leave()
        self._flush()
        self._socket.close()

    def _flush(self) -> None:
        for data in self.receiver.out:
            self._socket.sendto(data, self._group)
        self.receiver.out.clear()


def test_machines_receive_an_image_as_the_page_says(lab: Lab) -> None:
    root = lab.directory / "root"
    (root / "images").mkdir(parents=True)
    (root / "images/win11.img").write_bytes(IMAGE)
    server = lab.host("server", f"{SERVER}/24")
    _, configuration, *_ = blocks("multicast.md", "toml")
    configuration = configuration.replace("/srv/boot", str(root))
    configuration = configuration.replace("[bootfw]", f'[bootfw]\nstate-dir = "{lab.directory / "state"}"')
    other_settings = '[dhcp]\nmode = "off"\n[tftp]\nlisten = []\n'
    program = start_bootfw(server, lab.directory, configuration + other_settings, 3564)
    program.wait_for("multicast-master listens on 0.0.0.0:64494", SECONDS)
    addresses = ["10.77.0.101", "10.77.0.102"]
    hosts = [lab.host(f"machine{number}", f"{address}/24") for number, address in enumerate(addresses)]
    machines = [Machine(host, address) for host, address in zip(hosts, addresses, strict=True)]
    # The page gives this image an address of its own, which the master server tells.
    assert {
        (machine.reply.method, machine.reply.address, machine.reply.port, machine.reply.size) for machine in machines
    } == {(Method.MULTICAST, "239.192.2.1", 3564, len(IMAGE))}
    wait_until(lambda: sum(machine.receive() for machine in machines) == 2, SECONDS, "both machines have the image")
    assert {machine.receiver.image for machine in machines} == {IMAGE}
    for machine in machines:
        machine.leave()

    _, command, *_ = blocks("multicast.md", "console")
    arguments = command.removeprefix("$ ").split()
    assert arguments == ["bootfw", "status"]
    status_command = [
        str(Path(sys.executable).with_name("bootfw")),
        *arguments[1:],
        "-c",
        str(lab.directory / "bootfw-server-3564.toml"),
    ]

    def status() -> str:
        result = server.run(*status_command, seconds=SECONDS)
        return " ".join(next((line for line in result.output.splitlines() if "win11.img" in line), "").split())

    wait_until(lambda: "images/win11.img multicast 239.192.2.1:3564 0 2 " in status(), SECONDS, "the status shows it")

    if shutil.which("frisbee") is None:  # Emulab's programs are in no distribution
        return
    output = lab.directory / "out"
    arguments = ["frisbee", "-i", addresses[0], "-N", "-m", "239.192.2.1", "-p", "3564", str(output)]
    assert hosts[0].run(*arguments, seconds=SECONDS).exit_code == 0
    assert output.read_bytes() == IMAGE


def request_upload(host: Host, request: PutRequest) -> PutReply:
    """What the master server replies to a PUT."""
    with host.connection((SERVER, frisbeemaster.PORT)) as connection:
        connection.sendall(frisbeemaster.pack(request))
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    return frisbeemaster.parse_put_reply(received)


def test_an_image_is_uploaded_as_the_page_says(lab: Lab) -> None:
    root = lab.directory / "root"
    (root / "images").mkdir(parents=True)
    stored = root / "images/win11.img"
    stored.write_bytes(b"before")
    server = lab.host("server", f"{SERVER}/24")
    *_, configuration = blocks("multicast.md", "toml")
    configuration = configuration.replace("/srv/boot", str(root))
    configuration = configuration.replace("[bootfw]", f'[bootfw]\nstate-dir = "{lab.directory / "state"}"')
    other_settings = '[dhcp]\nmode = "off"\n[tftp]\nlisten = ["127.0.0.1:69"]\n'
    program = start_bootfw(server, lab.directory, configuration + other_settings, 69)
    program.wait_for("multicast-master listens on 0.0.0.0:64494", SECONDS)
    machine, other = lab.host("machine", "10.77.0.9/24"), lab.host("other", "10.77.0.10/24")
    assert request_upload(other, PutRequest("images/win11.img", len(IMAGE))).error == Error.NO_ACCESS
    assert request_upload(machine, PutRequest("images/win11.img", 1 << 40)).error == Error.TOO_BIG

    def upload(content: bytes) -> None:
        reply = request_upload(machine, PutRequest("images/win11.img", len(IMAGE), 1_700_000_000, 60))
        assert (reply.error, reply.address) == (Error.NONE, SERVER)
        with machine.connection((SERVER, reply.port)) as connection:
            connection.sendall(content)
        wait_until(lambda: status().error == Error.NONE, SECONDS, "the upload has ended")

    def status() -> PutReply:
        return request_upload(machine, PutRequest("images/win11.img", status_only=True))

    upload(IMAGE[:-1])
    program.wait_for(f"after {len(IMAGE) - 1} of {len(IMAGE)} bytes", SECONDS)
    assert [each.name for each in stored.parent.iterdir()] == ["win11.img"]
    assert stored.read_bytes() == b"before"
    upload(IMAGE)
    assert (status().exists, status().size, status().mtime) == (True, len(IMAGE), 1_700_000_000)
    assert stored.read_bytes() == IMAGE
    with open(stored, "rb") as file:
        assert Digests.parse((root / "images/win11.img.chunks").read_bytes()) == Digests.of(file.read)

    if shutil.which("frisupload") is None:
        return
    command = next(block for block in blocks("multicast.md", "console") if "frisupload" in block)
    words = command.splitlines()[0].removeprefix("$ ").split()
    source = lab.directory / "win11.img"
    source.write_bytes(IMAGE[::-1])
    assert words[-1] == "/tmp/win11.img"
    result = machine.run(*words[:-1], str(source), seconds=SECONDS)
    assert (result.exit_code, "did not verify" in result.output) == (0, False), result.output
    assert stored.read_bytes() == IMAGE[::-1]
    assert int(stored.stat().st_mtime) == int(os.stat(source).st_mtime)
