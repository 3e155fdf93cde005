"""The proxy: it sends boot files to clients that get their addresses from another DHCP server.

It has two ports: the DHCP port, for the broadcasts of clients, and the PXE boot server port (4011), for the second
request of some clients.
"""

from functools import partial
from socket import inet_ntoa

from bootfw.boot.resolverchain import Answer
from bootfw.dhcp.classify import Ignored
from bootfw.dhcp.reply import proxy_reply
from bootfw.dhcp.reply6 import proxy_reply6
from bootfw.dhcp.routing import proxy_destination
from bootfw.events import OfferMade, OfferWithheld, RequestIgnored
from bootfw.net.dhcp.ipv4 import IPv4
from bootfw.net.dhcp.ipv6 import TOO_LONG, IPv6
from bootfw.net.dhcp.port import DHCPPort, Family, Query
from bootfw.net.dhcp.repeats import Repeats
from bootfw.net.dhcp.services import DHCPServices
from bootfw.values import BootFile, BootRequest, OfferStyle
from bootfw.wire.dhcp4 import UNSPECIFIED, Message, MessageType, pack, reply_size
from bootfw.wire.options import Option
from bootfw.wire.options6 import Option as Option6

_REQUEST = bytes((MessageType.REQUEST,))


class Proxy(DHCPPort):
    """Answers boot clients and ignores all others.

    :param boot_server: this is the boot server port.
    """

    def __init__(self, services: DHCPServices, family: Family, *, boot_server: bool = False) -> None:
        super().__init__(services, family, family.boot_service if boot_server else family.service)
        self.boot_server = boot_server

    def handle(self, query: Query, now: float) -> None:
        """See DHCPPort."""
        server = self.server_for(query) if query.ingress.addresses else query.ingress.server
        request = self.family.classify(query, self.services, server, boot_server=self.boot_server)
        if not isinstance(request, Ignored):
            self.resolve(query, request, now, partial(self._resolved, query, request))
        elif request.reason:
            self.publish(RequestIgnored(now, self.family.client(query), request.reason))

    def server_for(self, query: Query) -> str:
        """Return our address for the sender of *query*; called if this host has several on the link."""
        return query.ingress.server

    def reply(self, query: Query, request: BootRequest, file: Answer) -> OfferMade | str:
        """Send the reply with *file*. Return the event to publish, or the reason why nothing was sent."""
        raise NotImplementedError

    def _resolved(self, query: Query, request: BootRequest, file: Answer | None, reason: str) -> None:
        result = reason if file is None else self.reply(query, request, file)
        self.publish(OfferWithheld(self.seconds(), request, result) if isinstance(result, str) else result)


class Proxy4(Proxy):
    """Answers a boot client's DISCOVER with an OFFER without an address, or on port 4011 its REQUEST with an ACK."""

    family: IPv4

    def __init__(self, services: DHCPServices, family: IPv4, *, boot_server: bool = False) -> None:
        super().__init__(services, family, boot_server=boot_server)
        self._networks: dict[str, str] = {}
        """Name of an interface -> our address there in the network of the last client that sent its own."""

    def server_for(self, query: Query) -> str:
        """See Proxy.

        A proxy does not know which address the DHCP server will assign. It guesses the network: that of the address
        that the client had or requests, otherwise that of the last client on the link.
        """
        ingress, message = query.ingress, query.message
        kind, requested = (
            message.options.get(Option.MESSAGE_TYPE),
            message.options.get(Option.REQUESTED_IP_ADDRESS, b""),
        )
        for client_address in (message.ciaddr, inet_ntoa(requested) if len(requested) == 4 else UNSPECIFIED):
            for ours in ingress.addresses if client_address != UNSPECIFIED else ():
                if ours.is_beside(client_address):
                    if kind == _REQUEST:
                        self._networks[ingress.interface] = ours.address
                    return str(ours.address)
        used = self._networks.get(ingress.interface, "")
        return used if used in [ours.address for ours in ingress.addresses] else ingress.server

    def reply(self, query: Query, request: BootRequest, file: Answer) -> OfferMade | str:
        """See Proxy."""
        message: Message = query.message
        persona = self.services.persona_by_name[request.persona]
        # Refer a client to the boot server only if there is a file: the client then tries no other way to boot.
        redirected = persona.offer is OfferStyle.BOOT_SERVER and not self.boot_server and isinstance(file, BootFile)
        choice = None if redirected else file
        try:
            size = reply_size(message)
            data = pack(proxy_reply(message, request, choice, persona, size), size)
        except ValueError as error:
            return f"the answer can't be sent: {error}"
        settings = self.family.settings
        to = proxy_destination(
            message,
            query.peer,
            boot_server=self.boot_server,
            server_port=settings.server_port,
            client_port=settings.client_port,
        )
        self.send(data, to, query.via)
        return OfferMade(self.seconds(), request, "ACK" if self.boot_server else "OFFER", choice, to)


class Proxy6(Proxy):
    """Answers a boot client's SOLICIT or INFORMATION-REQUEST, or on port 4011 the REQUEST of EDK2."""

    family: IPv6

    def __init__(self, services: DHCPServices, family: IPv6, *, boot_server: bool = False) -> None:
        super().__init__(services, family, boot_server=boot_server)
        # startProtocol() sets self.send.
        self._repeats = Repeats(services.reactor, lambda data, to, via: self.send(data, to, via))

    def close(self) -> None:
        """See DHCPPort."""
        super().close()
        self._repeats.stop()

    def handle(self, query: Query, now: float) -> None:
        """See DHCPPort."""
        if self.boot_server and query.message.first(Option6.SERVER_ID) != self.family.duid:
            return  # the client selected another server of the multicast group
        super().handle(query, now)

    def reply(self, query: Query, request: BootRequest, file: Answer) -> OfferMade | str:
        """See Proxy."""
        assert isinstance(file, BootFile)
        family = self.family
        packet = proxy_reply6(query.message, request, file, family.duid)
        data = family.pack_reply(query, packet)
        if data is None:
            return TOO_LONG
        to = query.peer if self.boot_server else family.reply_address(query)
        self.send(data, to, query.via)
        if self.boot_server:
            # All copies together must not exceed the limit for one reply: see docs/security.md.
            self._repeats.add(data, to, query.via, family.limit(query) // len(data) - 1)
        return OfferMade(self.seconds(), request, packet.kind.name, file, to)
