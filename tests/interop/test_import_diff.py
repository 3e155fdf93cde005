"""``bootfw import --diff``: the configurations of the pages against the servers that they are of."""

import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from howtos import blocks

from .dhcpservers import dhcpd, kea
from .lab import Host, Lab, Program, need, wait_until

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


def start_kea(host: Host, directory: Path, configuration: str) -> Program:
    return kea(host, directory, 4, json.loads(configuration)["Dhcp4"])


SERVERS = {
    "from-dnsmasq.md": ("dnsmasq.conf", dnsmasq),
    "from-isc-dhcpd.md": ("dhcpd.conf", dhcpd),
    "from-kea.md": ("kea-dhcp4.conf", start_kea),
}


def differences(client: Host, *arguments: Any) -> tuple[int | None, dict[str, Any]]:
    """(exit code, what differs by client)."""
    result = client.run(COMMAND, "import", "--json", *arguments, "--diff", "10.77.0.1", seconds=120)
    assert result.output.startswith("{"), result.output
    clients = json.loads(result.output)["clients"]
    assert len(clients) > 10
    return result.exit_code, {
        f"{each['client']} {each['mac']}": {
            difference["what"]: (difference["old"], difference["new"]) for difference in each["differences"]
        }
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
    assert differences(client, old, "-i", "eth0") == (0, {})
    changed.write_text(re.sub(r"10\.77\.0\.10\b", "10.77.0.11", text.replace("boot.ipxe", "other.ipxe")))
    code, different = differences(client, changed)
    assert code == 1
    assert different["ipxe 52:54:00:00:00:01"] == {"boot file": ("boot.ipxe", "other.ipxe")}
    assert different["bios 52:54:00:12:34:56"] == {"address": ("10.77.0.10", "10.77.0.11")}
    assert "bios 52:54:00:00:00:01" not in different


KEA6 = """
{ "Dhcp6": {
  "interfaces-config": { "interfaces": [ "eth0" ] },
  "server-id": { "type": "LL", "htype": 1, "identifier": "020000000001", "persist": false },
  "client-classes": [
    { "name": "uefi", "test": "option[61].hex == 0x0007",
      "option-data": [ { "name": "bootfile-url", "data": "tftp://[fd77::1]/shimx64.efi" } ] }
  ],
  "subnet6": [ {
    "id": 1, "subnet": "fd77::/64", "interface": "eth0",
    "pools": [ { "pool": "fd77::1000-fd77::1fff" } ],
    "option-data": [ { "name": "dns-servers", "data": "fd77::53" } ],
    "reservations": [ { "hw-address": "52:54:00:12:34:56", "ip-addresses": [ "fd77::7" ] } ]
  } ]
} }
"""


def has_link_local(host: Host) -> bool:
    listing = host.run("ip", "-6", "address", "show", "dev", "eth0", "scope", "link", seconds=10).output
    return "fe80" in listing and "tentative" not in listing


def test_kea_by_dhcpv6_answers_as_its_configuration(lab: Lab, tmp_path: Path) -> None:
    server, client = lab.host("server", "fd77::a/64"), lab.host("client", "fd77::9/64")
    for host in (server, client):
        wait_until(partial(has_link_local, host), 60, "the host has a link-local address")
    kea(server, tmp_path, 6, json.loads(KEA6)["Dhcp6"])
    old, changed = tmp_path / "kea-dhcp6.conf", tmp_path / "changed.conf"
    old.write_text(KEA6)
    changed.write_text(KEA6.replace("shimx64.efi", "x.efi").replace("fd77::7", "fd77::8"))

    def differences_by_dhcp6(path: Path) -> tuple[int | None, dict[str, Any]]:
        result = client.run(COMMAND, "import", "--json", path, "--diff", "fd77::a", "-i", "eth0", seconds=120)
        assert result.output.startswith("{"), result.output
        clients = json.loads(result.output)["clients"]
        return result.exit_code, {f"{each['client']} {each['mac']}": each["differences"] for each in clients}

    code, unchanged = differences_by_dhcp6(old)
    assert (code, {name: each for name, each in unchanged.items() if each}) == (0, {})
    code, different = differences_by_dhcp6(changed)
    assert code == 1
    url = {"what": "boot file", "old": "tftp://[fd77::1]/shimx64.efi", "new": "tftp://[fd77::1]/x.efi"}
    assert different["uefi 52:54:00:00:00:01"] == [url]
    assert different["uefi 52:54:00:12:34:56"] == [{"what": "address", "old": "fd77::7", "new": "fd77::8"}, url]
