"""The pages of a real server, over a network: a machine boots, and a real browser shows it."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from .lab import Host, Lab
from .service import start_bootfw
from .test_probe import probe, proxy

pytestmark = pytest.mark.interop

WEB = """
[web]
listen = ["10.77.0.1:8067"]
token = "0123456789abcdef"
"""

MAC = "52:54:00:12:34:56"

PAGES = "http://10.77.0.1:8067"


def read(host: Host, path: str) -> Any:
    """What the API returns to *host*."""
    return json.loads(host.run("curl", "--silent", "--fail", f"{PAGES}{path}", seconds=10).output)


def test_a_boot_is_shown(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server", "10.77.0.1/24")
    client = lab.host("client", "10.77.0.9/24")
    start_bootfw(server, tmp_path, proxy(tmp_path / "state") + WEB, 67, 69, 4011)
    assert read(client, "/readyz") == {"ready": True, "waiting": []}
    assert {row["service"] for row in read(client, "/api/status")["sockets"]} >= {"dhcp", "tftp", "http", "web"}
    assert probe(client, "10.77.0.1", "--mac", MAC)["boots"]
    until = time.monotonic() + 10
    while not (found := read(client, f"/api/machines/{MAC}")["records"]):
        assert time.monotonic() < until, "the boot is not there"
        time.sleep(0.2)
    kinds = [stage["kind"] for stage in found[0]["stages"]]
    assert {"discover", "resolver", "offer", "transfer"} <= set(kinds)
    decisions = [stage["data"] for stage in found[0]["stages"] if stage["kind"] == "resolver"]
    assert ("by-architecture", "shim.efi") in {(each["resolver"], each.get("file")) for each in decisions}
    assert sum(read(client, "/api/throughput")["bytes"]) > 0
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"]
    # The time of the page goes on without waiting until nothing loads: the stream of events never ends.
    shown = client.run(chromium, *flags, "--timeout=8000", "--dump-dom", f"{PAGES}/#/machine/{MAC}", seconds=60)
    for text in ("Timeline of a boot", "shim.efi", "by-architecture", "Decided on"):
        assert text in shown.output, text
