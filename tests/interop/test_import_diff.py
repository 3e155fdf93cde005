"""``bootfw import --diff``: the configurations of the pages against the servers that they are of."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from howtos import blocks

from .dhcpservers import dhcpd, kea
from .lab import Host, Lab, Program, need

pytestmark = pytest.mark.interop

COMMAND = str(Path(sys.executable).with_name("bootfw"))


def dnsmasq(host: Host, directory: Path, configuration: str) -> Program:
    need("dnsmasq")
    (directory / "running.conf").write_text(configuration)
    program = host.start(
        *("dnsmasq", "--keep-in-foreground", f"--conf-file={directory}/running.conf", "--user=root", "--pid-file="),
        *("--log-facility=-", f"--dhcp-leasefile={directory}/leases", "--no-ping"),
    )
    program.wait_until_bound(67)
    return program


def kea_of(host: Host, directory: Path, configuration: str) -> Program:
    return kea(host, directory, 4, json.loads(configuration)["Dhcp4"])


SERVERS = {
    "from-dnsmasq.md": ("dnsmasq.conf", dnsmasq),
    "from-isc-dhcpd.md": ("dhcpd.conf", dhcpd),
    "from-kea.md": ("kea-dhcp4.conf", kea_of),
}


def compared(client: Host, *arguments: Any) -> tuple[int | None, dict[str, Any]]:
    """(exit code, what differs by client)."""
    ran = client.run(COMMAND, "import", "--json", *arguments, "--diff", "10.77.0.1", seconds=120)
    assert ran.output.startswith("{"), ran.output
    clients = json.loads(ran.output)["clients"]
    assert len(clients) > 10
    return ran.exit_code, {
        f"{each['client']} {each['mac']}": {one["what"]: (one["old"], one["new"]) for one in each["differences"]}
        for each in clients
        if each["differences"]
    }


@pytest.mark.parametrize("page", SERVERS)
def test_the_configuration_of_the_page_answers_as_its_server(lab: Lab, tmp_path: Path, page: str) -> None:
    name, start = SERVERS[page]
    text = blocks(page, "")[0].replace("/srv/tftp", str(tmp_path))
    text = "\n".join(line for line in text.splitlines() if "dhcp-script" not in line)
    server, client = lab.host("server", "10.77.0.1/24"), lab.host("client", "10.77.0.9/24")
    start(server, tmp_path, text)
    old, changed = tmp_path / name, tmp_path / f"changed-{name}"
    old.write_text(text)
    assert compared(client, old, "-i", "eth0") == (0, {})
    changed.write_text(re.sub(r"10\.77\.0\.10\b", "10.77.0.11", text.replace("boot.ipxe", "other.ipxe")))
    code, different = compared(client, changed)
    assert code == 1
    assert different["ipxe 52:54:00:00:00:01"] == {"boot file": ("boot.ipxe", "other.ipxe")}
    assert different["bios 52:54:00:12:34:56"] == {"address": ("10.77.0.10", "10.77.0.11")}
    assert "bios 52:54:00:00:00:01" not in different
