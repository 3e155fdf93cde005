"""The pages of a real server, over a network: a machine boots, and a real browser shows it."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from web.browsing import FLAGS

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


def get_json(host: Host, path: str) -> Any:
    """What the API returns to *host*."""
    return json.loads(host.run("curl", "--silent", "--fail", f"{PAGES}{path}", seconds=30).output)


def test_a_boot_is_shown(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server", "10.77.0.1/24")
    client = lab.host("client", "10.77.0.9/24")
    start_bootfw(server, tmp_path, proxy(tmp_path / "state") + WEB, 67, 69, 4011)
    assert get_json(client, "/readyz") == {"ready": True, "waiting": []}
    assert {row["service"] for row in get_json(client, "/api/status")["sockets"]} >= {"dhcp", "tftp", "http", "web"}
    assert probe(client, "10.77.0.1", "--mac", MAC)["boots"]
    deadline = time.monotonic() + 30
    while not (records := get_json(client, f"/api/machines/{MAC}")["records"]):
        assert time.monotonic() < deadline, "the boot is not there"
        time.sleep(0.2)
    kinds = [stage["kind"] for stage in records[0]["stages"]]
    assert {"discover", "resolver", "offer", "transfer"} <= set(kinds)
    decisions = [stage["data"] for stage in records[0]["stages"] if stage["kind"] == "resolver"]
    assert ("by-architecture", "shim.efi") in {(decision["resolver"], decision.get("file")) for decision in decisions}
    assert sum(get_json(client, "/api/throughput")["bytes"]) > 0
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    wrapper = tmp_path / "chromium"
    wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {client.namespace} {chromium} "$@"\n')
    wrapper.chmod(0o755)
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as playwright_api:
        browser = playwright_api.chromium.launch(executable_path=wrapper, args=FLAGS)
        page = browser.new_page()
        page.goto(f"{PAGES}/#/machine/{MAC}")
        page.get_by_role("img", name="Timeline of a boot").wait_for()
        rows = page.get_by_role("table", name="What each resolver decided").get_by_role("row")
        assert rows.filter(has_text="Decided on “shim.efi”").count()
        page.goto(f"{PAGES}/#/boots")
        page.get_by_role("link", name=MAC).wait_for()
        browser.close()
