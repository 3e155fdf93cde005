"""``bootfw probe``: acts as a client that boots, and shows each step."""

import argparse
import json
import sys
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs

from bootfw.backends.names import mac_address
from bootfw.cli.bootclient import DEFAULT_MAC, boot_client
from bootfw.cli.dhcpclient import BOOT_SERVER_PORT, SERVER_PORT, Broadcasts, Link, Relayed, interfaces
from bootfw.cli.failure import CommandError
from bootfw.cli.fetch import TFTP_PORT, FetchError, fetch_http, fetch_tftp
from bootfw.cli.netboot import PROBLEM, PROFILES, WARNING, NetBoot, Profile, RealServers, Step
from bootfw.cli.ownaddress import own_address
from bootfw.terminal import printable

NOT_BOOTED = 1
"""Exit code: the client would not boot, or the file can't be fetched."""

MISUSED = 2
"""Exit code: the command is wrong, or this process lacks a permission."""

ABOUT = """
Acts as a machine that boots: it sends a DISCOVER, shows every offer, requests the boot file at port 4011 where the
firmware would, and fetches it. It works with any DHCP and TFTP server, from any host, and needs no configuration.

With --interface it broadcasts as a client does, which needs UDP port 68 (root or CAP_NET_BIND_SERVICE). With SERVER it
queries that server by unicast, as a relay would, and needs no permission. It takes no lease, unless --lease is given;
then it releases the lease at once.

With a URL it fetches that file and nothing else, within --timeout: a health check for load balancers.
"""

EPILOG = """
Examples:
  bootfw probe 10.0.0.1                         does UEFI firmware boot from this server?
  bootfw probe --as bios --interface eth0       what a BIOS in the network of eth0 gets, and from which servers
  bootfw probe 10.0.0.1 --mac 52:54:00:12:34:56 what this machine would get
  bootfw probe 127.0.0.1 --port 10067 --tftp-port 10069    "bootfw run" without root, on this host
  bootfw probe tftp://10.0.0.1/health --timeout 2          does this server send the file within 2 s?

Exit codes: 0 it boots, or the file was fetched, 1 it does not (the last line says why), 2 the command is wrong or a
permission is missing.
"""


def add_probe(commands: Any) -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "probe",
        help="act as a client that boots, and show where it stops",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "server",
        nargs="?",
        default="",
        metavar="SERVER",
        help="the IPv4 address of a DHCP server, or the URL of a file: tftp://HOST/FILE, http://HOST/FILE",
    )
    command.add_argument("-i", "--interface", default="", help="broadcast in the network of this interface")
    command.add_argument(
        "--as",
        dest="profile",
        choices=[*PROFILES],
        default="uefi",
        help=f"{'; '.join(f'{profile.name}: {profile.about}' for profile in PROFILES.values())} (default: uefi)",
    )
    command.add_argument(
        "--arch", default="", metavar="ARCHITECTURE", help='instead of that of the firmware, such as "arm64-uefi"'
    )
    command.add_argument("--mac", default="", help=f"act as this machine (default: {DEFAULT_MAC})")
    command.add_argument("--lease", action="store_true", help="take the offered lease, and release it at once")
    command.add_argument("--first-block", action="store_true", help="fetch only the beginning of the boot file")
    command.add_argument("--port", type=int, default=SERVER_PORT, help="port of the DHCP server (default: %(default)s)")
    command.add_argument(
        "--boot-server-port",
        type=int,
        default=BOOT_SERVER_PORT,
        metavar="PORT",
        help="port of the boot server (default: %(default)s)",
    )
    command.add_argument(
        "--tftp-port",
        type=int,
        default=TFTP_PORT,
        metavar="PORT",
        help="port of the TFTP server (default: %(default)s)",
    )
    command.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="limit for fetching the file of a URL (default: %(default)s)",
    )
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_probe, failed=MISUSED)


def _probe(options: argparse.Namespace) -> int:
    if "://" in options.server:
        return _fetch(options)
    profile = PROFILES[options.profile]
    client = boot_client(_mac(options), _architecture(options, profile), ipxe=profile.ipxe, http=profile.http)
    link = _link(options)
    quiet = options.json
    if not quiet:
        sys.stdout.write(f"{profile.about}, {client.mac.hex(':')}, {link.description}\n")
    servers = RealServers(options.tftp_port, options.boot_server_port, not options.first_block)
    boot = NetBoot(
        profile,
        client,
        link,
        servers,
        own_address,
        (lambda step: None) if quiet else _print,
        options.lease,
    )
    boots = boot.run(servers)
    if quiet:
        found = {"boots": boots, "conclusion": boot.conclusion, "steps": [attrs.asdict(step) for step in boot.steps]}
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        sys.stdout.write(printable("It boots." if boots else f"It does not boot: {boot.conclusion}.") + "\n")
    return 0 if boots else NOT_BOOTED


def _fetch(options: argparse.Namespace) -> int:
    """Fetch the file of a URL."""
    url: str = options.server
    if options.timeout <= 0:
        raise CommandError(f"--timeout {options.timeout:g}: must be more than 0 seconds")
    whole = not options.first_block
    try:
        parts = urlsplit(url)
        if parts.scheme == "tftp":
            name = unquote(parts.path.removeprefix("/"))
            if not parts.hostname or not name:
                raise ValueError
            port = parts.port or options.tftp_port
            fetched = fetch_tftp(parts.hostname, name, port=port, whole=whole, within=options.timeout)
        elif parts.scheme in ("http", "https") and parts.hostname:
            fetched = fetch_http(url, whole=whole, timeout=options.timeout)
        else:
            raise ValueError
    except ValueError:
        raise CommandError(f"{url}: must be a URL such as tftp://10.0.0.1/FILE or http://10.0.0.1/FILE") from None
    except FetchError as error:
        if options.json:
            sys.stdout.write(json.dumps({"url": url, "fetched": False, "reason": str(error)}) + "\n")
        else:
            sys.stdout.write(printable(f"{url}: {error}") + "\n")
        return NOT_BOOTED
    if options.json:
        record = {"url": url, "fetched": True, "bytes": fetched.size, "seconds": fetched.seconds}
        sys.stdout.write(json.dumps(record) + "\n")
    else:
        sys.stdout.write(printable(f"{url}: {fetched.size} bytes in {fetched.seconds:.2f} s") + "\n")
    return 0


def _print(step: Step) -> None:
    mark = {WARNING: "!", PROBLEM: "x"}.get(step.result, " ")
    took = f"{step.seconds * 1000:7.0f} ms" if step.seconds else " " * 10
    sys.stdout.write(printable(f"{mark} {step.what:<10}{took}  {step.text}") + "\n")
    sys.stdout.flush()


def _mac(options: argparse.Namespace) -> bytes:
    if options.mac and options.lease:
        raise CommandError("--lease would end the lease of that machine: leave --mac out")
    mac = mac_address(options.mac or DEFAULT_MAC)
    if not mac:
        raise CommandError(f'--mac {options.mac}: is not a MAC address, such as "52:54:00:12:34:56"')
    return bytes.fromhex(mac.replace(":", ""))


def _architecture(options: argparse.Namespace, profile: Profile) -> str:
    name: str = options.arch or profile.architecture
    try:
        boot_client(bytes(6), name)
    except ValueError as error:
        raise CommandError(f"--arch {options.arch}: {error}") from error
    return name


def _link(options: argparse.Namespace) -> Link:
    if options.interface and options.server:
        raise CommandError("give SERVER or --interface, not both")
    if options.interface:
        return Broadcasts(options.interface, options.port)
    if not options.server:
        raise CommandError(f"give SERVER, or --interface, one of {', '.join(interfaces()) or 'which there is none'}")
    try:
        if ip_address(options.server).version != 4:
            raise ValueError
    except ValueError:
        raise CommandError(f"{options.server}: is not an IPv4 address") from None
    return Relayed(options.server, options.port)
