"""Real DHCP clients of operating systems, and how each releases its address.

They change nothing on this machine: each runs in a mount namespace of its own where it would write to the system's
directories.
"""

import signal
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from .lab import Host, Program, need

RENEWAL_SECONDS = 45
"""Half of a lease of 60 seconds, which is the shortest, and what clients add to it at random."""

_SCRIPT = """#!/bin/sh
# dhclient and dhcpcd tell by "reason", udhcpc by its first argument.
event=${reason:-$1} address=${new_ip_address:-$ip}
case "$event" in
    BOUND | RENEW | REBIND | REBOOT | bound | renew) ip address replace "$address/24" dev "$interface" ;;
    RELEASE | EXPIRE | STOP | deconfig) ip address flush dev "$interface" scope global ;;
esac
echo "$event $address"
"""

_NETWORK = """[Match]
Name=eth0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
[DHCPv4]
SendRelease=yes
"""


@frozen
class DHCPClient:
    """A program that keeps an address on ``eth0`` of its host."""

    name: str
    start: Callable[[Host, Path], Program]
    """Starts it on a host; the directory is for its files."""
    release: Callable[[Program], None] | None
    """Has it release its address; None: it can't."""
    renew: Callable[[Program], None] | None = None
    """Has it renew its lease; None: it renews by its own clock only."""


def _signal(number: signal.Signals) -> Callable[[Program], None]:
    return lambda program: program.send(number)


def _script(directory: Path, text: str = _SCRIPT) -> Path:
    path = directory / "script"
    path.write_text(text)
    path.chmod(0o755)
    return path


def dhclient(host: Host, directory: Path, script: str = _SCRIPT, *family: str) -> Program:
    """Start dhclient; *script* configures the interface. *family*: ``-6``, or nothing for IPv4."""
    need("dhclient")
    leases = directory / "leases"
    leases.touch()
    files = ("-sf", _script(directory, script), "-lf", leases, "-pf", directory / "pid")
    # It gives nothing back on a signal: the same program has to be called once more.
    release_command = " ".join(map(str, ("dhclient", *family, "-r", "-v", *files, "eth0")))
    shell = f"trap '{release_command}' TERM; \"$@\" & wait; wait"
    return host.start("sh", "-c", shell, "-", "dhclient", *family, "-d", "-v", *files, "eth0", name="dhclient")


def _udhcpc(host: Host, directory: Path) -> Program:
    need("busybox")
    options = ("-f", "-i", "eth0", "-s", _script(directory), "-t", "5", "-T", "1", "-R")
    return host.start("busybox", "udhcpc", *options, name="udhcpc")


def dhcpcd(host: Host, directory: Path, *more_options: str) -> Program:
    need("dhcpcd")
    options = (
        "--nobackground",
        "--debug",
        "--ipv4only",
        "--noipv4ll",
        "--config",
        "/dev/null",
        *more_options,
        "--script",
    )
    return start_isolated(host, ("/var/lib/dhcpcd", "/run"), "dhcpcd", *options, _script(directory), "eth0")


def networkd(host: Host, directory: Path, network: str = _NETWORK) -> Program:
    """Start systemd-networkd; *network* is the ``.network`` file for ``eth0``."""
    daemon = "/usr/lib/systemd/systemd-networkd"
    need(daemon)
    (directory / "eth0.network").write_text(network)
    # Where /sys can't be written it takes itself for contained, and waits for no udev.
    prepare = " && ".join(
        (
            "mount -o remount,bind,ro /sys",
            "mkdir -p /run/systemd/network /run/systemd/netif/leases /run/systemd/netif/links /run/systemd/netif/lldp",
            f"cp {directory / 'eth0.network'} /run/systemd/network",
            "chown -R systemd-network /run/systemd",
        )
    )
    command = f"{prepare} && SYSTEMD_LOG_LEVEL=debug exec {daemon}"
    return start_isolated(host, ("/run",), "sh", "-c", command, name="networkd")


def start_isolated(host: Host, directories: tuple[str, ...], *command: str | Path, name: str = "") -> Program:
    """Start a program in a mount namespace in which these directories are empty."""
    mounts = " && ".join(f"mount -t tmpfs none {directory}" for directory in directories)
    shell = ("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "-")
    return host.start(*shell, *command, name=name or str(command[0]))


CLIENTS = [
    DHCPClient("dhclient", dhclient, _signal(signal.SIGTERM)),
    DHCPClient("udhcpc", _udhcpc, _signal(signal.SIGUSR2), _signal(signal.SIGUSR1)),
    DHCPClient("dhcpcd", dhcpcd, _signal(signal.SIGALRM), _signal(signal.SIGHUP)),
    DHCPClient("networkd", networkd, _signal(signal.SIGTERM)),
]
