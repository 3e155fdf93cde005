"""The DHCP ports, with defaults for what a test does not set."""

from collections.abc import Callable
from typing import Any

from bootfw.boot.resolverchain import ResolverChain
from bootfw.config.settings import DHCP6Settings, DHCPSettings
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.server6 import AddressServer6
from bootfw.events import Event
from bootfw.net.dhcp.ipv4 import IPv4
from bootfw.net.dhcp.ipv6 import IPv6
from bootfw.net.dhcp.journal import Journal
from bootfw.net.dhcp.proxy import Proxy4, Proxy6
from bootfw.net.dhcp.server4 import Server4
from bootfw.net.dhcp.server6 import Server6
from bootfw.net.dhcp.services import DHCPServices


def proxy_port(
    reactor: Any,
    chain: ResolverChain,
    publish: Callable[[Event], None],
    *,
    settings: DHCPSettings | None = None,
    server: str = "",
    boot_server: bool = False,
    **services: Any,
) -> Proxy4:
    """The proxy's DHCPv4 port."""
    family = IPv4(settings, server)
    return Proxy4(DHCPServices(reactor, chain, publish, **services), family, boot_server=boot_server)


def boot_server_port(*arguments: Any, **options: Any) -> Proxy4:
    """The boot server's DHCPv4 port, 4011."""
    return proxy_port(*arguments, boot_server=True, **options)


def server_port(
    reactor: Any,
    chain: ResolverChain,
    publish: Callable[[Event], None],
    addresses: AddressServer,
    journal: Journal,
    *,
    settings: DHCPSettings | None = None,
    server: str = "",
    probe: Any = None,
    ping: Any = None,
    **services: Any,
) -> Server4:
    """The DHCPv4 server's port."""
    shared = DHCPServices(reactor, chain, publish, **services)
    return Server4(shared, IPv4(settings, server), addresses, journal, probe=probe, ping=ping)


def proxy6_port(
    reactor: Any,
    chain: ResolverChain,
    publish: Callable[[Event], None],
    duid: bytes,
    *,
    settings: DHCP6Settings | None = None,
    server: str = "",
    boot_server: bool = False,
    **services: Any,
) -> Proxy6:
    """The proxy's DHCPv6 port."""
    family = IPv6(duid, settings, server)
    return Proxy6(DHCPServices(reactor, chain, publish, **services), family, boot_server=boot_server)


def boot_server6_port(*arguments: Any, **options: Any) -> Proxy6:
    """The boot server's DHCPv6 port."""
    return proxy6_port(*arguments, boot_server=True, **options)


def server6_port(
    reactor: Any,
    chain: ResolverChain,
    publish: Callable[[Event], None],
    duid: bytes,
    *,
    addresses: AddressServer6,
    journal: Journal,
    settings: DHCP6Settings | None = None,
    server: str = "",
    **services: Any,
) -> Server6:
    """The DHCPv6 server's port."""
    return Server6(DHCPServices(reactor, chain, publish, **services), IPv6(duid, settings, server), addresses, journal)
