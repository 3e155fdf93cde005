"""An HTTP API in the style of Pixiecore's says what real firmware boots: QEMU's iPXE ROM, by ``twistd bootfw``."""

import secrets
import sys
from pathlib import Path

import pytest

from .firmware.files import Served
from .firmware.servers import start_router
from .lab import Lab
from .machines.bios import start_bios_machine
from .qemu import SECONDS, Card
from .service import start_bootfw

pytestmark = pytest.mark.interop

MAC, UNKNOWN_MAC = "52:54:00:77:05:01", "52:54:00:77:05:02"

API = f"""\
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MACHINE = {{
    "kernel": "http://10.77.0.1:8069/kernel",
    "initrd": ["/initramfs"],  # on the API's own server
    "cmdline": {{"console": "ttyS0", "panic": "-1", "initrd": "initramfs"}},
    "message": "the API has been asked",
}}


class API(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/v1/boot/{MAC}":
            self.answer(200, json.dumps(MACHINE).encode())
        elif self.path == "/initramfs":
            self.answer(200, open("initramfs", "rb").read())
        else:
            self.answer(404, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("10.77.0.5", 8000), API).serve_forever()
"""


def test_callout_answers_for_one_machine_and_declines_another_after_a_404(lab: Lab, tmp_path: Path) -> None:
    served = Served(tmp_path / "served", f"marker-{secrets.token_hex(8)}")
    served.root.mkdir()
    served.linux()
    api_directory = tmp_path / "api"
    api_directory.mkdir()
    (served.root / "initramfs").rename(api_directory / "initramfs")
    (api_directory / "api.py").write_text(API)
    (served.root / "boot.ipxe").write_text("#!ipxe\necho not known to the API\nexit 0\n")
    start_router(lab)
    api = lab.host("api", "10.77.0.5/24").start(
        "env", f"--chdir={api_directory}", sys.executable, "-u", api_directory / "api.py"
    )
    configuration = f"""
        [bootfw]
        state-dir = "{lab.directory / "state"}"
        [http]
        listen = ["0.0.0.0:8069"]
        [dhcp]
        mode = "server"
        [[dhcp.subnet]]
        network = "10.77.0.0/24"
        pool = ["10.77.0.100-10.77.0.200"]
        [[backend]]
        use = "directory"
        root = "{served.root}"
        [[resolver]]
        use = "callout"
        url = "http://10.77.0.5:8000"
        [[resolver]]
        use = "static"
        file = "boot.ipxe"
    """
    server = start_bootfw(lab.host("bootfw", "10.77.0.1/24"), lab.directory, configuration, 67, 69)

    machine, unknown_machine = (start_bios_machine(lab, cards=(Card("e1000", mac=mac),)) for mac in (MAC, UNKNOWN_MAC))

    machine.wait_for(served.marker, SECONDS, "the system that the API has chosen")
    assert "the API has been asked" in machine.output
    unknown_machine.wait_for("not known to the API", SECONDS, "the script of the next resolver")
    assert f'"GET /v1/boot/{MAC} HTTP/1.1" 200' in api.output
    assert f'"GET /v1/boot/{UNKNOWN_MAC} HTTP/1.1" 404' in api.output
    assert f"dhcp {MAC} (ipxe, x86-bios, on eth0) discover: OFFER" in server.output
