"""The DHCP ports with what a test cares for, and defaults for the rest."""

from bootfw.net.dhcp.ipv4 import IPv4
from bootfw.net.dhcp.ipv6 import IPv6
from bootfw.net.dhcp.proxy import Proxy4, Proxy6
from bootfw.net.dhcp.server4 import Server4
from bootfw.net.dhcp.server6 import Server6
from bootfw.net.dhcp.services import DHCPServices


def proxy_port(reactor, chain, publish, *, settings=None, server="", boot_server=False, **services):
    """The proxy's DHCPv4 port."""
    family = IPv4(settings, server)
    return Proxy4(DHCPServices(reactor, chain, publish, **services), family, boot_server=boot_server)


def boot_server_port(*arguments, **options):
    """The boot server's port of IPv4."""
    return proxy_port(*arguments, boot_server=True, **options)


def server_port(
    reactor, chain, publish, addresses, ledger, *, settings=None, server="", probe=None, ping=None, **services
):
    """The DHCPv4 server's port."""
    shared = DHCPServices(reactor, chain, publish, **services)
    return Server4(shared, IPv4(settings, server), addresses, ledger, probe=probe, ping=ping)


def proxy6_port(reactor, chain, publish, duid, *, settings=None, server="", boot_server=False, **services):
    """The proxy's DHCPv6 port."""
    family = IPv6(duid, settings, server)
    return Proxy6(DHCPServices(reactor, chain, publish, **services), family, boot_server=boot_server)


def boot_server6_port(*arguments, **options):
    """The boot server's port of IPv6."""
    return proxy6_port(*arguments, boot_server=True, **options)


def server6_port(reactor, chain, publish, duid, *, addresses, ledger, settings=None, server="", **services):
    """The DHCPv6 server's port."""
    return Server6(DHCPServices(reactor, chain, publish, **services), IPv6(duid, settings, server), addresses, ledger)
