"""``bootfw wake``: switches machines on by Wake-on-LAN."""

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from ipaddress import IPv4Address
from typing import Any

from attrs import frozen

from bootfw.cli.assembly import Assembly
from bootfw.cli.failure import CommandError
from bootfw.cli.machinenames import machine_mac
from bootfw.config.configuration import load_config
from bootfw.config.settings import Settings
from bootfw.lease import mac_text
from bootfw.net.linux.interfaces import missing_interfaces
from bootfw.net.linux.netlink import Link, LinkAddress, Netlink
from bootfw.wire.wakeonlan import PORT, magic_packet

_ABOUT = """
Sends a magic packet for each MAC, by which a network card that is armed for Wake-on-LAN switches its machine on. The
packet is broadcast on every interface that the configuration serves. For a machine with a reserved address in a network
behind a router it is sent to the broadcast address of that network as well; the router has to forward it.

No server has to run. Whether the packet has arrived can't be seen, but "bootfw boots" lists what then boots from here.
"""

_EXAMPLES = """
Examples:
  bootfw wake 52:54:00:12:34:56                       switch it on
  bootfw wake 52:54:00:12:34:56 52:54:00:12:34:57     both of them
  bootfw wake -i eth1 52:54:00:12:34:56               only on this interface
  bootfw wake --password 00:22:44:66:88:aa 52:54:00:12:34:56    its card is armed with a SecureOn password
  ethtool -s eth0 wol g                               arm a card, on the machine itself

Exit codes: 0 sent, 1 it could not be sent.
"""

_LIMITED_BROADCAST = "255.255.255.255"
_ETHERNET = 1  # ARPHRD_ETHER (linux/if_arp.h): bridges, bonds and VLANs, too
_LINK_LOCAL = 253  # a scope (linux/rtnetlink.h)


def add_wake(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "wake",
        help="switch machines on by Wake-on-LAN",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "macs",
        nargs="+",
        metavar="MACHINE",
        help="MAC address of the network card that is armed for Wake-on-LAN, or name of the machine that boots from it",
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration of the server")
    parser.add_argument(
        "-i", "--interface", action="append", default=[], help="send on this one only; may be given several times"
    )
    parser.add_argument(
        "--password", default="", help='the SecureOn password, such as "00:22:44:66:88:aa" or "192.168.1.1"'
    )
    parser.set_defaults(run=_wake)


@frozen
class Route:
    """A way by which a packet is sent."""

    interface: str
    """"": as the kernel routes the address."""
    address: str

    def __str__(self) -> str:
        return f"on {self.interface}" if self.interface else f"to {self.address}"

    def send(self, packet: bytes) -> None:
        """Send a UDP datagram.

        :raise OSError: it can't be sent.
        """
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if self.interface:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode())
            sock.sendto(packet, (self.address, PORT))


def _wake(options: argparse.Namespace) -> int:
    assembly = Assembly(load_config(options.config, os.environ))
    settings = assembly.configuration.settings
    macs = list(dict.fromkeys(machine_mac(text, assembly) for text in options.macs))
    password = _password(options.password)
    for wrong in missing_interfaces(options.interface).values():
        raise CommandError(f"--interface: {wrong}")
    links, addresses = _present()
    names = options.interface or served(settings, links, addresses)
    own_addresses = [IPv4Address(each.address) for each in addresses if each.family == socket.AF_INET]
    unsent = []
    for mac in macs:
        packet = magic_packet(bytes.fromhex(mac.replace(":", "")), password)
        routes = [Route(name, _LIMITED_BROADCAST) for name in dict.fromkeys(names)]
        if not options.interface:
            routes += [Route("", address) for address in distant_broadcasts(mac, settings, own_addresses)]
        sent = [str(route) for route in routes if _is_sent(mac, route, packet)]
        if sent:
            sys.stdout.write(f"{mac}: sent {', '.join(sent)}\n")
        else:
            unsent.append(mac)
    if unsent:
        reason = "" if names else "no served interface of Ethernet has an address: give --interface"
        raise CommandError(f"nothing was sent to {', '.join(unsent)}" + (f": {reason}" if reason else ""))
    return 0


def _present() -> tuple[Sequence[Link], Sequence[LinkAddress]]:
    """Return the interfaces of this host, and their addresses; none where this process can't know them."""
    with closing(Netlink()) as kernel:
        try:
            return list(kernel.links().values()), kernel.addresses()
        except OSError:
            return [], []


def served(settings: Settings, links: Sequence[Link], addresses: Sequence[LinkAddress]) -> Sequence[str]:
    """Return the names of the interfaces whose clients are served. Where the configuration does not name them, they are
    those of Ethernet with an address: ports of a bridge have none, and the bridge sends to them."""
    if settings.interfaces:
        return [name for name in settings.interfaces if name not in settings.except_interfaces]
    numbered = {each.interface for each in addresses if each.scope != _LINK_LOCAL}
    return [
        link.name
        for link in links
        if link.kind == _ETHERNET and link.index in numbered and link.name not in settings.except_interfaces
    ]


def distant_broadcasts(mac: str, settings: Settings, own: Sequence[IPv4Address]) -> Sequence[str]:
    """Return the broadcast addresses of the networks where the machine has a reservation, but this host no address.

    :param own: the addresses of this host.
    """
    return [
        str(subnet.network.broadcast_address)
        for subnet in settings.dhcp.subnets
        if any(mac in host.macs for host in subnet.hosts) and not any(address in subnet.network for address in own)
    ]


def _is_sent(mac: str, route: Route, packet: bytes) -> bool:
    try:
        route.send(packet)
    except OSError as error:
        sys.stderr.write(f"bootfw: {mac}: can't be sent {route}: {error.strerror}\n")
        return False
    return True


def _password(text: str) -> bytes:
    """Convert a SecureOn password, in the notations of ether-wake."""
    if not text:
        return b""
    with suppress(ValueError):
        return IPv4Address(text).packed
    with suppress(ValueError):
        return bytes.fromhex(mac_text(text).replace(":", ""))
    raise CommandError(f'--password must be like "00:22:44:66:88:aa" or "192.168.1.1", not "{text}"')
