"""``bootfw probe`` and ``bootfw doctor`` against servers on a segment of their own."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from .lab import Host, Lab
from .service import start_bootfw

pytestmark = pytest.mark.interop

COMMAND = str(Path(sys.executable).with_name("bootfw"))

PROXY = """
[bootfw]
state-dir = "{state}"
workers = 1
[tftp]
listen = ["0.0.0.0:69"]
[http]
listen = ["0.0.0.0:8069"]
[[backend]]
use = "memory"
files = {{"pxelinux.0" = "program", "shim.efi" = "MZ program"}}
[[resolver]]
use = "by-architecture"
files = {{x86_64-uefi = "shim.efi", x86-bios = "pxelinux.0", arm64-uboot = "shim.efi"}}
"""

SERVER = """
[dhcp]
mode = "server"
[[dhcp.subnet]]
network = "10.77.0.0/24"
pool = ["10.77.0.100-10.77.0.110"]
"""


def proxy(state: Path) -> str:
    return PROXY.format(state=state)


def probe(host: Host, *arguments: str, unprivileged: bool = False) -> dict[str, Any]:
    """What it says as JSON."""
    drop_privileges = ("setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
    result = host.run(*(drop_privileges if unprivileged else ()), COMMAND, "probe", "--json", *arguments, seconds=60)
    report: dict[str, Any] = json.loads(result.output)
    assert result.exit_code == (0 if report["boots"] else 1)
    return report


def test_a_server_is_probed_by_broadcast_and_keeps_no_lease(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server", "10.77.0.1/24")
    client = lab.host("client", "10.77.0.9/24")
    start_bootfw(server, tmp_path, proxy(tmp_path / "state") + SERVER, 67, 69, 4011)
    for profile, file in (("uefi", "shim.efi"), ("bios", "pxelinux.0"), ("u-boot", "shim.efi")):
        report = probe(client, "-i", "eth0", "--as", profile)
        assert report["conclusion"] == ""
        assert [step["details"]["file"] for step in report["steps"] if step["what"] == "TFTP"] == [file]
    assert probe(client, "-i", "eth0", "--as", "uefi-http")["boots"]
    report = probe(client, "-i", "eth0", "--lease")
    assert [step["what"] for step in report["steps"]] == ["OFFER", "REQUEST", "TFTP"]
    leases = server.run(COMMAND, "leases", "-c", tmp_path / "bootfw-server-67.toml", "list", "--json", seconds=30)
    assert [lease["state"] for lease in json.loads(leases.output)] == ["released"]


def test_a_proxy_is_probed_from_another_host_without_permissions(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server", "10.77.0.1/24")
    client = lab.host("client", "10.77.0.9/24")
    start_bootfw(server, tmp_path, proxy(tmp_path / "state"), 67, 69, 4011)
    report = probe(client, "10.77.0.1", unprivileged=True)
    assert report["conclusion"] == ""
    assert [step["what"] for step in report["steps"]] == ["OFFER", "address", "port 4011", "TFTP"]
    result = client.run("setpriv", "--reuid=65534", "--clear-groups", COMMAND, "probe", "-i", "eth0", seconds=30)
    assert result.exit_code == 2
    assert "needs UDP port 68, which needs root or CAP_NET_BIND_SERVICE" in result.output
    # And on the server's own host.
    assert probe(server, "10.77.0.1")["boots"]


def test_a_second_server_and_a_firewall_are_seen(lab: Lab, tmp_path: Path) -> None:
    address_server = lab.host("gives", "10.77.0.1/24")
    boot_server = lab.host("boots", "10.77.0.2/24")
    client = lab.host("client", "10.77.0.9/24")
    addresses = 'resolver = []\n[bootfw]\nstate-dir = "{0}"\nworkers = 1\n[tftp]\nlisten = []\n' + SERVER
    start_bootfw(address_server, tmp_path, addresses.format(tmp_path / "gives"), 67)
    report = probe(client, "-i", "eth0")
    assert report["conclusion"].startswith("10.77.0.1 answers, and no server names a boot file")
    start_bootfw(boot_server, tmp_path, proxy(tmp_path / "boots"), 67, 69, 4011)
    report = probe(client, "-i", "eth0")
    assert report["conclusion"] == ""
    assert sorted(step["details"]["server"] for step in report["steps"] if step["what"] == "OFFER") == [
        "10.77.0.1",
        "10.77.0.2",
    ]
    rules = "table ip t { chain c { type filter hook input priority 0; udp dport 4011 drop; }; }"
    nft = boot_server.run("nft", rules, seconds=10)
    if nft.exit_code:
        pytest.skip(f"no nftables here: {nft.output}")
    assert "does not answer there: a firewall drops UDP port 4011" in probe(client, "-i", "eth0")["conclusion"]
