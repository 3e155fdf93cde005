"""The Family of DHCPv6: joins the multicast groups, parses, classifies and adapts for a DHCPPort."""

from functools import partial
from typing import Any

from twisted.internet.interfaces import ISystemHandle

from bootfw.boot.resolverchain import Answer
from bootfw.config.settings import DHCP6Settings
from bootfw.dhcp.bootfile import Unsuitable, adapt
from bootfw.dhcp.classify import Ignored, classify6
from bootfw.dhcp.identity import client_mac
from bootfw.dhcp.reply6 import reply_limit, reply_port, reply_relays
from bootfw.errors import WireError
from bootfw.net.backlog import RequestKind
from bootfw.net.dhcp.port import Ingress, Query
from bootfw.net.dhcp.services import DHCPServices
from bootfw.net.linux.groups import Groups
from bootfw.values import Address, BootMenu, BootRequest, Via
from bootfw.wire.dhcp6 import ALL_AGENTS, ALL_SERVERS, LARGEST, REPLY_RATIO, Message, pack, parse
from bootfw.wire.options6 import Option

_RELAY_REPLY = b"\x0d"

_SOLICIT = RequestKind("SOLICIT", 1.0)
"""It is repeated after 1 s (RFC 8415 section 7.6), by EDK2 after 4.8."""
_OTHER = RequestKind("other", 2.0)
_RELAYED = RequestKind("other", 2.0, relayed=True)
_KINDS = {b"\x01": _SOLICIT, b"\x0c": _RELAYED}
"""By the type of the message; 12 is RELAY-FORW."""

TOO_LONG = (
    f"the reply is longer than a datagram, or than {REPLY_RATIO} times a request from an address that is not link-local"
)


class IPv6:
    """See Family.

    :param duid: the DUID of this server.
    :param server: our address for clients; "": an address of the interface that the request arrived on.
    """

    service = "dhcp6"
    boot_service = "boot-server6"
    optional_architectures = ()

    def __init__(self, duid: bytes, settings: DHCP6Settings | None = None, server: str = "") -> None:
        self.duid = duid
        self.settings = settings or DHCP6Settings()
        self._server = server
        self._groups: Groups | None = None

    def start(self, transport: Any, services: DHCPServices) -> None:
        """See Family."""
        if ISystemHandle.providedBy(transport):
            sock: Any = transport.getHandle()
            self._groups = Groups(services.reactor, sock, (ALL_AGENTS, ALL_SERVERS), services.interfaces)
            self._groups.start()

    def stop(self) -> None:
        """See Family."""
        if self._groups is not None:
            self._groups.stop()
            self._groups = None

    def request_kind(self, data: bytes) -> RequestKind:
        """See Family."""
        return _KINDS.get(data[:1], _OTHER)

    def ingress(self, via: Via | None, services: DHCPServices) -> Ingress:
        """See Family."""
        if via is None:
            return Ingress("", self._server, fixed=True)
        unicast = not via.destination.startswith("ff")
        fixed = self._server or (via.local if unicast and not via.destination.startswith("fe8") else "")
        ours = services.interfaces.addresses6(via.interface)
        server = fixed or (ours[0].address if ours else "")
        return Ingress(services.interfaces.name(via.interface), server, ours, unicast, bool(fixed))

    def parse(self, data: bytes, peer: Address, via: Via | None, ingress: Ingress, services: DHCPServices) -> Query:
        """See Family."""
        if data[:1] == _RELAY_REPLY:
            raise WireError("a server's answer to a relay")
        message, relays = parse(data)
        mac = client_mac(message, relays, peer[0], partial(services.hardware_address, peer))
        duid = message.first(Option.CLIENT_ID)
        key = duid, message.kind, message.xid
        return Query(message, peer, via, ingress, key, relays, mac, len(data), duid or peer[0])

    def client(self, query: Query) -> str:
        """See Family."""
        return query.mac or (query.relays[-1].peer if query.relays else query.peer[0])

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
        return classify6(
            query.message,
            query.relays,
            services.personas.match,
            mac=query.mac,
            source=query.peer[0],
            boot_server=boot_server,
            assigns_addresses=assigns_addresses,
            server=server,
            own_urls=services.own_urls(server),
            interface=query.ingress.interface,
        )

    def adapt(self, answer: Answer, request: BootRequest, services: DHCPServices) -> Answer | Unsuitable:
        """See Family."""
        if isinstance(answer, BootMenu):
            return Unsuitable("DHCPv6 knows no boot menus")
        return adapt(answer, request, services.personas.is_ipxe_program)

    def no_address_reason(self, ingress: Ingress) -> str:
        """See Family."""
        interface = ingress.interface or "(unknown)"
        return f"interface {interface} has no IPv6 address for clients to come to; a link-local one is not enough"

    def limit(self, query: Query) -> int:
        """Return the largest size of the reply in bytes; see reply_limit()."""
        return reply_limit(query.size, query.peer[0])

    def pack_reply(self, query: Query, reply: Message) -> bytes | None:
        """Return *reply* as a datagram with the relay headers of its request; None: it is too long to be sent."""
        data = pack(reply, reply_relays(query.relays))
        # No limit by the size of the request behind a relay: its source address is the relay, not a victim. See
        # docs/security.md.
        return None if len(data) > (LARGEST if query.relays else self.limit(query)) else data

    def reply_address(self, query: Query) -> Address:
        """Return the destination of the reply: the client, or the last relay."""
        host, udp_port, *scope = query.peer
        ports = self.settings
        udp_port = reply_port(query.relays, udp_port, server_port=ports.server_port, client_port=ports.client_port)
        return (host, udp_port, *scope)  # type: ignore[return-value]
