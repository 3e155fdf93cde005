"""A BMC: the emulator of sushy-tools with machines that exist nowhere, and TLS, in a thread."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bcrypt
from certificates import Authority
from sushy_tools.emulator import main as emulator
from sushy_tools.emulator.resources.systems import fakedriver
from werkzeug.serving import WSGIRequestHandler, make_server

USER, PASSWORD = "installer", "correct horse: battery staple"
MACHINE, OTHER_MACHINE = "27946b59-9e44-4fa7-8e91-f3527a1ef094", "3b5e9a6e-6a62-4c04-a0c8-5d2b6a3ad6a0"


class BMC:
    """What it is, and what its machine does."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.ca_file = directory / "ca.pem"
        self.password_file = directory / "password"

    @property
    def machine(self) -> Any:
        """Its machine's record."""
        return emulator.app.systems._get(MACHINE)

    def add_machine(self) -> None:
        emulator.app.systems._systems[OTHER_MACHINE] = machine(OTHER_MACHINE, "other")

    def reset(self) -> None:
        """One machine, which is off and boots from its disk."""
        systems = emulator.app.systems._systems
        if OTHER_MACHINE in systems:
            del systems[OTHER_MACHINE]
        systems[MACHINE] = machine(MACHINE, "web1")
        self.password_file.write_text(f"{PASSWORD}\n")
        self.password_file.chmod(0o600)


def machine(uuid: str, name: str) -> dict[str, Any]:
    return {"uuid": uuid, "name": name, "power_state": "Off", "nics": [{"mac": "52:54:00:12:34:56", "ip": ""}]}


class QuietHandler(WSGIRequestHandler):
    """Logs no request."""

    def log(self, type: str, message: str, *args: Any) -> None: ...


@contextmanager
def running(directory: Path) -> Iterator[BMC]:
    """A BMC that listens on the loopback interface."""
    authority = Authority()
    certificate, key = authority.issue("127.0.0.1")
    for name, content in (("ca.pem", authority.pem), ("bmc.pem", certificate), ("bmc.key", key)):
        (directory / name).write_bytes(content)
    digest = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (directory / "users").write_text(f"{USER}:{digest}\n")
    emulator.app.configure(
        extra_config={
            "SUSHY_EMULATOR_FAKE_DRIVER": True,
            "SUSHY_EMULATOR_FAKE_SYSTEMS": [machine(MACHINE, "web1")],
            "SUSHY_EMULATOR_STATE_DIR": str(directory),
            "SUSHY_EMULATOR_AUTH_FILE": str(directory / "users"),
        }
    )
    # Its machines would take up to 11 s to change.
    fakedriver.random = SimpleNamespace(randint=lambda low, high: 0)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "bmc.pem", directory / "bmc.key")
    server = make_server("127.0.0.1", 0, emulator.app, threaded=True, request_handler=QuietHandler, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield BMC(f"https://127.0.0.1:{server.port}", directory)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
