"""The Family of DHCPv4: parses, classifies and adapts for a DHCPPort."""

from typing import Any

from twisted.internet.interfaces import ISystemHandle

from bootfw.boot.resolverchain import Answer
from bootfw.config.settings import DHCPSettings
from bootfw.dhcp.answer import Arrival
from bootfw.dhcp.bootfile import Unsuitable, adapt, adapt_menu
from bootfw.dhcp.classify import Ignored, classify
from bootfw.interfaces import IViaTransport
from bootfw.net.backlog import RequestKind
from bootfw.net.dhcp.port import Ingress, Query
from bootfw.net.dhcp.services import DHCPServices
from bootfw.values import Address, BootMenu, BootRequest, Via
from bootfw.wire.dhcp4 import UNSPECIFIED, parse
from bootfw.wire.iana import NETWORK_GEAR

_DISCOVER = RequestKind("DISCOVER", 1.0)
"""iPXE repeats it after 1 s, EDK2 after 4, U-Boot after 0.25."""
_RELAYED_DISCOVER = RequestKind("DISCOVER", 1.0, relayed=True)
_OTHER = RequestKind("other", 2.0)
"""iPXE repeats a REQUEST after 0.3 s already, and gives up after 8."""
_RELAYED_OTHER = RequestKind("other", 2.0, relayed=True)
_COOKIE = b"\x63\x82\x53\x63"
_COOKIE_AND_DISCOVER = _COOKIE + b"\x35\x01\x01"  # option 53 comes first in what boot clients send
_COOKIE_AT = 236
_GIADDR = slice(24, 28)
_NO_RELAY = bytes(4)


class IPv4:
    """See Family.

    :param server: our address for clients; "": the address that the request was sent to. A port without IViaTransport,
        such as Twisted's own, does not know that address, so *server* is required there.
    """

    service = "dhcp"
    boot_service = "boot-server"
    optional_architectures = (NETWORK_GEAR,)

    def __init__(self, settings: DHCPSettings | None = None, server: str = "") -> None:
        self.settings = settings or DHCPSettings()
        self._server = server
        self.socket: Any = None

    def start(self, transport: Any, services: DHCPServices) -> None:
        """See Family."""
        if not self._server and not IViaTransport.providedBy(transport):
            raise ValueError("on this port the server's address has to be given")
        transport.setBroadcastAllowed(True)
        self.socket = transport.getHandle() if ISystemHandle.providedBy(transport) else None

    def stop(self) -> None:
        """See Family."""

    def request_kind(self, data: bytes) -> RequestKind:
        """See Family."""
        # By bytes at fixed places, since the backlog is trimmed before requests are parsed. Where option 53 is not the
        # first one, a DISCOVER counts as another request, which may wait for longer.
        direct = data[_GIADDR] == _NO_RELAY or not data.startswith(_COOKIE, _COOKIE_AT)
        if data.startswith(_COOKIE_AND_DISCOVER, _COOKIE_AT):
            return _DISCOVER if direct else _RELAYED_DISCOVER
        return _OTHER if direct else _RELAYED_OTHER

    def ingress(self, via: Via | None, services: DHCPServices) -> Ingress:
        """See Family."""
        if via is None:
            return _ingress("", self._server)
        interfaces = services.interfaces
        interface = interfaces.name(via.interface)
        if via.destination == via.local:
            return _ingress(interface, self._server or via.local, unicast=True)
        local = "" if via.local == UNSPECIFIED else via.local
        interface_known = bool(interface) and self.socket is not None
        ours = interfaces.addresses(via.interface) if interface_known else None
        if ours is not None and not ours:
            # Otherwise, for a broadcast, the kernel would report the address of another interface.
            local = ""
        several = ours if ours is not None and len(ours) > 1 and not self._server else ()
        return _ingress(interface, self._server or local, several)

    def parse(self, data: bytes, peer: Address, via: Via | None, ingress: Ingress, services: DHCPServices) -> Query:
        """See Family."""
        message = parse(data)
        hardware = message.chaddr
        return Query(message, peer, via, ingress, (hardware, message.xid), (), hardware.hex(":"), hardware=hardware)

    def client(self, query: Query) -> str:
        """See Family."""
        return query.mac

    def classify(
        self,
        query: Query,
        services: DHCPServices,
        server: str,
        *,
        boot_server: bool = False,
        assigns_addresses: bool = False,
    ) -> BootRequest | Ignored:
        """See Family."""
        return classify(
            query.message,
            services.personas.match,
            boot_server=boot_server,
            assigns_addresses=assigns_addresses,
            server=server,
            own_urls=services.own_urls(server),
            interface=query.ingress.interface,
            mac=query.mac,
        )

    def adapt(self, answer: Answer, request: BootRequest, services: DHCPServices) -> Answer | Unsuitable:
        """See Family."""
        is_ipxe_program = services.personas.is_ipxe_program
        if isinstance(answer, BootMenu):
            return adapt_menu(answer, request, services.persona_by_name[request.persona], is_ipxe_program)
        return adapt(answer, request, is_ipxe_program)

    def no_address_reason(self, ingress: Ingress) -> str:
        """See Family."""
        return f"interface {ingress.interface or '(unknown)'} has no IPv4 address for clients to come to"


def _ingress(interface: str, server: str, addresses: Any = (), *, unicast: bool = False) -> Ingress:
    arrival = Arrival(server, unicast, tuple(address.address for address in addresses) if addresses else ())
    return Ingress(interface, server, addresses, unicast, arrival=arrival)
