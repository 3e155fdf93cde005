"""DHCP servers of others, on a host of a lab: what bootfw is compared with."""

import json
import shutil
from pathlib import Path

import pytest

from .lab import Host, Program, need

_UNPACKED = Path(__file__).parents[2] / ".clients"


def dnsmasq(host: Host, directory: Path) -> Program:
    """Debian's dnsmasq, the only server of 10.77.0.0/24, for BOOTP too."""
    need("dnsmasq")
    words = ("--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=")
    program = host.start(
        *("dnsmasq", *words, "--log-facility=-", f"--dhcp-leasefile={directory / 'leases'}", "--log-dhcp"),
        *("--no-ping", "--dhcp-authoritative", "--bootp-dynamic"),
        "--dhcp-range=10.77.0.10,10.77.0.240,255.255.255.0,1h",
    )
    program.wait_until_bound(67)
    return program


def kea_dhcp4(host: Host, directory: Path) -> Program:
    """Kea's DHCPv4 server, the only one of 10.77.0.0/24. tools/install-clients unpacks it: it is not installed."""
    command = shutil.which("kea-dhcp4") or str(_UNPACKED / "usr/sbin/kea-dhcp4")
    need(command)
    if host.run(command, "-V", seconds=10).exit_code != 0:
        pytest.skip(f"{command} does not run here: its libraries come with kea-admin")
    subnet = {"subnet": "10.77.0.0/24", "pools": [{"pool": "10.77.0.10-10.77.0.240"}]}
    path = directory / "kea.json"
    path.write_text(
        json.dumps(
            {
                "Dhcp4": {
                    "interfaces-config": {"interfaces": ["eth0"], "dhcp-socket-type": "raw"},
                    "lease-database": {"type": "memfile", "persist": False},
                    "authoritative": True,
                    "subnet4": [subnet],
                    "loggers": [{"name": "kea-dhcp4", "severity": "DEBUG", "output_options": [{"output": "stdout"}]}],
                }
            }
        )
    )
    places = (f"KEA_PIDFILE_DIR={directory}", f"KEA_LOCKFILE_DIR={directory}")
    program = host.start("env", *places, command, "-c", path, name="kea-dhcp4")
    program.wait_until(lambda: "DHCP4_STARTED" in program.output, 20, "it serves")
    return program
