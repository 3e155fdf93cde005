"""Other DHCP servers on a host of a lab, which bootfw is compared with: dnsmasq, Kea, ISC dhcpd."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from .lab import Host, Program, need

_UNPACKED = Path(__file__).parents[2] / ".clients"


def dnsmasq(host: Host, directory: Path) -> Program:
    """Debian's dnsmasq, the only server of 10.77.0.0/24, for BOOTP too."""
    need("dnsmasq")
    options = ("--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=")
    program = host.start(
        *("dnsmasq", *options, "--log-facility=-", f"--dhcp-leasefile={directory / 'leases'}", "--log-dhcp"),
        *("--no-ping", "--dhcp-authoritative", "--bootp-dynamic"),
        "--dhcp-range=10.77.0.10,10.77.0.240,255.255.255.0,1h",
    )
    program.wait_until_bound(67)
    return program


def kea_dhcp4(host: Host, directory: Path) -> Program:
    """Kea's DHCPv4 server, the only one of 10.77.0.0/24. tools/install-clients unpacks it: it is not installed."""
    configuration = {
        "interfaces-config": {"interfaces": ["eth0"], "dhcp-socket-type": "raw"},
        "authoritative": True,
        "subnet4": [{"subnet": "10.77.0.0/24", "pools": [{"pool": "10.77.0.10-10.77.0.240"}]}],
    }
    return kea(host, directory, 4, configuration)


def dhcpd(host: Host, directory: Path, configuration: str) -> Program:
    """Start ISC dhcpd with a configuration, and wait until it serves. tools/install-clients unpacks it."""
    command = shutil.which("dhcpd") or str(_UNPACKED / "usr/sbin/dhcpd")
    need(command)
    (directory / "dhcpd.conf").write_text(configuration)
    (directory / "dhcpd.leases").touch()
    files = ("-cf", directory / "dhcpd.conf", "-lf", directory / "dhcpd.leases", "-pf", directory / "dhcpd.pid")
    program = host.start(command, "-f", "-d", "-4", *files, "eth0")
    program.wait_until(lambda: "Server starting service" in program.output, 20, "it serves")
    return program


def kea_dhcp6(host: Host, directory: Path) -> Program:
    """Kea's DHCPv6 server, the only one of fd77::/64."""
    subnet = {"subnet": "fd77::/64", "interface": "eth0", "rapid-commit": True}
    configuration = {
        "interfaces-config": {"interfaces": ["eth0"]},
        "server-id": {"type": "LL", "htype": 1, "identifier": "020000000001", "persist": False},
        "subnet6": [subnet | {"pools": [{"pool": "fd77::1000-fd77::1fff"}]}],
    }
    return kea(host, directory, 6, configuration)


def kea(host: Host, directory: Path, family: int, configuration: dict[str, Any]) -> Program:
    """Start Kea with a configuration, and wait until it serves. Leases are in memory."""
    name = f"kea-dhcp{family}"
    command = shutil.which(name) or str(_UNPACKED / "usr/sbin" / name)
    need(command)
    if host.run(command, "-V", seconds=10).exit_code != 0:
        pytest.skip(f"{command} does not run here: its libraries come with kea-admin")
    path = directory / "kea.json"
    loggers = [{"name": name, "severity": "DEBUG", "output_options": [{"output": "stdout"}]}]
    common = {"lease-database": {"type": "memfile", "persist": False}, "loggers": loggers}
    path.write_text(json.dumps({f"Dhcp{family}": common | configuration}))
    directories = (f"KEA_PIDFILE_DIR={directory}", f"KEA_LOCKFILE_DIR={directory}")
    program = host.start("env", *directories, command, "-c", path, name=name)
    program.wait_until(lambda: f"DHCP{family}_STARTED" in program.output, 90, "it serves")
    return program
