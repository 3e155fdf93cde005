"""Real DHCPv6 clients of operating systems, and how each releases its address. See ``dhcpclients.py``."""

import signal
from pathlib import Path

from .dhcpclients import DHCPClient, dhclient, networkd, start_isolated
from .lab import Host, Program, need

RENEWAL_SECONDS = 40
"""Three eighths of a lease of 60 seconds, which is the shortest, and what clients add to it at random."""

MAC = "52:54:00:00:00:06"
"""Of a host that runs one of these clients. dhclient's IAID is its last four bytes, and dhclient can't read its own
lease file if one of them is a quotation mark or a backslash."""

_SCRIPT = """#!/bin/sh
case "$reason" in
    BOUND6 | RENEW6 | REBIND6) ip -6 address replace "$new_ip6_address/128" dev "$interface" ;;
    RELEASE6 | EXPIRE6 | STOP6) ip -6 address flush dev "$interface" scope global ;;
esac
echo "$reason $new_ip6_address"
"""

# Neither waits for a router, of which there is none here.
_DHCPCD = "noipv6rs\ninterface eth0\nia_na 1\n"
_NETWORK = """[Match]
Name=eth0
[Network]
DHCP=ipv6
IPv6AcceptRA=no
[DHCPv6]
WithoutRA=solicit
"""


def _dhclient(host: Host, directory: Path) -> Program:
    return dhclient(host, directory, _SCRIPT, "-6")


def _dhcpcd(host: Host, directory: Path) -> Program:
    need("dhcpcd")
    configuration = directory / "dhcpcd.conf"
    configuration.write_text(_DHCPCD)
    options = ("--nobackground", "--debug", "--ipv6only", "--script", "/bin/true", "--config", configuration, "eth0")
    return start_isolated(host, ("/var/lib/dhcpcd", "/run"), "dhcpcd", *options)


def _networkd(host: Host, directory: Path) -> Program:
    return networkd(host, directory, _NETWORK)


CLIENTS = [
    DHCPClient("dhclient", _dhclient, lambda program: program.send(signal.SIGTERM)),
    DHCPClient("dhcpcd", _dhcpcd, lambda program: program.send(signal.SIGALRM)),
    # It gives nothing back by DHCPv6 before systemd 255.
    DHCPClient("networkd", _networkd, None),
]
