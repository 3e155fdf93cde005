"""What the receiver system does on its machine when no image is sent; tests/interop/test_disk_install.py sends one."""

import io
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from twistd import free_port

from bootfw.cli.diskinstall import Installation, Order, first_disk
from bootfw.cli.failure import CommandError
from bootfw.frisbee.digests import Digests

URL = "http://10.77.0.1:8069/images/win11~5ac0ed11.img"
MAC = "52:54:00:12:34:56"


def test_order_is_read_from_the_kernel_arguments() -> None:
    arguments = (
        f"initrd=initrd boot=bootfw ip=dhcp bootfw.image={URL} quiet bootfw.disk=/dev/sdb BOOTIF=01-52-54-00-12-34-56\n"
    )
    order = Order.of(arguments)
    assert order == Order(URL, "/dev/sdb", MAC)
    assert (order.server, order.image) == ("10.77.0.1", "images/win11~5ac0ed11.img")
    assert Order.of(f"bootfw.image={URL.replace('~', '%7E')}").image == "images/win11~5ac0ed11.img"
    assert Order.of(f"bootfw.image={URL}") == Order(URL)


@pytest.mark.parametrize("arguments", ["", "quiet bootfw.image", "bootfw.image=win11.img", "bootfw.image=http:///x"])
def test_kernel_arguments_without_an_image_are_an_error(arguments: str) -> None:
    with pytest.raises(CommandError, match=r"the kernel needs the argument bootfw.image=URL"):
        Order.of(arguments)


def test_report_has_the_mac_and_the_reason_in_its_url() -> None:
    order = Order(URL, mac=MAC)
    assert order.report_url("up") == f"http://10.77.0.1:8069/bootfw/up?mac={MAC.replace(':', '%3A')}"
    assert Order(URL).report_url("failed", "40 % & more") == (
        "http://10.77.0.1:8069/bootfw/failed?what=40%20%25%20%26%20more"
    )


def add_disk(block: Path, name: str, device: str = "pci0000:00/0000:00:1f.2", **attributes: str) -> None:
    """Add a disk to *block*, which has the structure of /sys/block.

    :param device: the directory of its bus device; "virtual" for a disk without one.
    """
    path = block.parent / "devices" / device / "block" / name
    path.mkdir(parents=True)
    if device != "virtual":
        (path / "device").mkdir()
    for attribute, value in {"removable": "0", "ro": "0", "size": "2048", **attributes}.items():
        (path / attribute).write_text(f"{value}\n")
    (block / name).symlink_to(path)


def test_first_fixed_disk_is_selected(tmp_path: Path) -> None:
    block = tmp_path / "block"
    block.mkdir()
    assert first_disk(block) == ""
    add_disk(block, "loop0", "virtual")
    add_disk(block, "mmcblk0", "platform/mmc", removable="1")
    add_disk(block, "nvme0c0n1", "virtual-nvme", hidden="1")
    add_disk(block, "sda", "pci0000:00/0000:00:14.0/usb1/1-1")
    add_disk(block, "sdb", size="0")
    add_disk(block, "sdc", ro="1")
    assert first_disk(block) == ""
    add_disk(block, "sdd")
    assert first_disk(block) == "/dev/sdd"
    add_disk(block, "cciss!c0d0", "pci0000:00/0000:00:03.0")
    assert first_disk(block) == "/dev/cciss/c0d0"


class Server(ThreadingHTTPServer):
    """An HTTP server that records what the machine requests, and serves the digests if there are any."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []
        self.digests: bytes | None = None


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        found = not self.path.endswith(".chunks") or self.server.digests is not None
        self.send_response(200 if found else 404)
        self.end_headers()
        if found and self.server.digests is not None:
            self.wfile.write(self.server.digests)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def new_installation(server: Server, disk: Path) -> Installation:
    order = Order(f"http://127.0.0.1:{server.server_port}/images/win11.img", str(disk), MAC)
    return Installation(order, free_port(), patience=0.1, sleep=lambda seconds: None)


def test_missing_digests_are_reported(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    installation = new_installation(server, tmp_path / "disk")
    reason = installation.attempt()
    assert reason == f"{installation.order.url}.chunks: 404 Not Found"
    assert capsys.readouterr().out == f"images/win11.img: {reason}\n"
    digests, report = server.requests
    assert digests == "/images/win11.img.chunks"
    assert installation.order.report_url("failed", reason).endswith(report)


def test_image_that_is_not_sent_is_reported(server: Server, tmp_path: Path) -> None:
    """The disk has the size of the image already, and the next attempt finds the chunks that it has."""
    image = bytes(3000)
    server.digests = Digests.of(io.BytesIO(image).read).dump()
    installation = new_installation(server, tmp_path / "disk")
    reason = installation.attempt()
    assert reason == f"127.0.0.1 can't be reached at port {installation.port}: Connection refused"
    assert (tmp_path / "disk").read_bytes() == image
    assert server.requests[-1].endswith("Connection%20refused")


def test_machine_without_a_disk_reports_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootfw.cli.diskinstall._WAIT_FOR_DISK", 0.0)
    installation = Installation(Order(f"http://127.0.0.1:{server.server_port}/x.img"), find_disk=lambda: "")
    assert installation.attempt() == "this machine has no disk; bootfw.disk=/dev/NAME names one"
    assert [request.partition("?")[0] for request in server.requests] == ["/bootfw/failed"]


def test_unreachable_server_is_reported_once(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/x.img"
    installation = Installation(Order(url, str(tmp_path / "disk")))
    assert installation.attempt() == f"{url}.chunks: [Errno 111] Connection refused"
