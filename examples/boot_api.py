"""An API that the "callout" resolver asks what a machine boots, with nothing but the standard library.

python boot_api.py 8000
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MACHINES = {
    "52:54:00:12:34:56": {
        "kernel": "http://10.77.0.1:8069/debian/linux",
        "initrd": ["http://10.77.0.1:8069/debian/initrd.gz"],
        "cmdline": "console=ttyS0 auto=true",
        "message": "Installing build-7",
    },
    "52:54:00:12:34:57": {"ipxe-script": "#!ipxe\nsanboot iscsi:10.77.0.3::::iqn.2026-11.example:disk7\n"},
}


class BootAPI(BaseHTTPRequestHandler):
    """GET /v1/boot/MAC."""

    def do_GET(self) -> None:
        machine = MACHINES.get(self.path.removeprefix("/v1/boot/"))
        body = json.dumps(machine).encode()
        self.send_response(404 if machine is None else 200)  # 404: ask the next resolver
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), BootAPI).serve_forever()
