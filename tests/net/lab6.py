"""A DHCPv6 protocol without a network, and its replies to messages."""

from collections.abc import Callable
from typing import Any, TypeVar

from attrs import define
from dhcpports import proxy6_port
from firmware6 import LINK_LOCAL

from bootfw.boot.resolverchain import ResolverChain
from bootfw.events import Event
from bootfw.testing import MemoryNetwork
from bootfw.values import Via
from bootfw.wire.dhcp6 import Message, Relay, pack, parse
from bootfw.wire.options6 import Option

from .bypersona import ByPersona

_E = TypeVar("_E", bound=Event)

Sent = tuple[Message, tuple[Relay, ...], tuple[str, int, int, int]]
"""A message, the relays that it goes by, and its destination."""

DUID = b"\0\3\0\1RT\0\0\0\1"
CLIENT = (LINK_LOCAL, 546, 0, 2)
GROUP = Via("", 2, "ff02::1:2")
"""How a message arrives that was sent to All_DHCP_Relay_Agents_and_Servers."""

FILES = {
    "uefi-v6": "/efi/snponly.efi",
    "uefi-http": "{http}/x.efi",
    "ipxe": "http://{server}:8069/{mac}.ipxe",
}


@define(eq=False)
class Transport:
    """A transport that keeps the messages that are sent."""

    sent: list[Sent]

    def write(self, data: bytes, destination: tuple[str, int, int, int]) -> None:
        self.sent.append((*parse(data), destination))


class Lab:
    """A DHCPv6 protocol, its resolver and its events.

    :param make_port: makes the protocol, as the functions of dhcpports do.
    :param options: for *make_port*.
    """

    def __init__(self, make_port: Callable[..., Any] = proxy6_port, **options: Any) -> None:
        self.network = MemoryNetwork()
        self.events: list[Event] = []
        self.sent: list[Sent] = []
        self.resolver = ByPersona(FILES)
        self.chain = ResolverChain(self.network.clock, [("by-persona", self.resolver)], self.events.append, 0.8)
        options = {"server": "fd77::1", "own_urls": lambda server: (f"http://[{server}]:8069", "")} | options
        self.protocol = make_port(self.network.clock, self.chain, self.events.append, DUID, **options)
        self.protocol.transport = Transport(self.sent)
        self.protocol.startProtocol()

    def replies_to(
        self, message: Message | bytes, peer: tuple[str, int, int, int] = CLIENT, via: Via = GROUP
    ) -> list[Sent]:
        """Deliver a message of *peer*, and return all replies that are sent at once."""
        data = message if isinstance(message, bytes) else pack(message)
        self.protocol.datagrams_received([(data, peer, via)])
        return self._take()

    def repeated(self, seconds: float = 3.0) -> list[Sent]:
        """Return what is sent within so many seconds without another message of a client."""
        for _ in range(round(seconds * 10)):
            self.network.clock.advance(0.1)
        return self._take()

    def _take(self) -> list[Sent]:
        sent, self.sent[:] = list(self.sent), []
        return sent

    def reply_to(self, message: Message, peer: tuple[str, int, int, int] = CLIENT, via: Via = GROUP) -> Message:
        """Deliver a message of *peer*, and return the only reply, which has to go to *peer* without a relay."""
        ((reply, relays, destination),) = self.replies_to(message, peer, via)
        assert (reply.xid, reply.first(Option.CLIENT_ID), reply.first(Option.SERVER_ID)) == (
            message.xid,
            message.first(Option.CLIENT_ID),
            DUID,
        )
        assert (relays, destination) == ((), peer)
        return reply

    def events_of(self, kind: type[_E]) -> list[_E]:
        """Return the events of that kind so far."""
        return [event for event in self.events if isinstance(event, kind)]
