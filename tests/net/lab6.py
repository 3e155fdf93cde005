"""A DHCPv6 protocol without a network, and the replies that clients get."""

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

Heard = tuple[Message, tuple[Relay, ...], tuple[str, int, int, int]]
"""A message, the relays that it goes by, and where it goes to."""

DUID = b"\0\3\0\1RT\0\0\0\1"
CLIENT = (LINK_LOCAL, 546, 0, 2)
GROUP = Via("", 2, "ff02::1:2")

FILES = {
    "uefi-v6": "/efi/snponly.efi",
    "uefi-http": "{http}/x.efi",
    "ipxe": "http://{server}:8069/{mac}.ipxe",
}


@define(eq=False)
class Wire:
    """A transport that keeps what is sent."""

    sent: list[Heard]

    def write(self, data: bytes, to: tuple[str, int, int, int]) -> None:
        self.sent.append((*parse(data), to))


class Lab:
    def __init__(self, kind: Callable[..., Any] = proxy6_port, **options: Any) -> None:
        self.network = MemoryNetwork()
        self.events: list[Event] = []
        self.sent: list[Heard] = []
        self.resolver = ByPersona(FILES)
        self.chain = ResolverChain(self.network.clock, [("by-persona", self.resolver)], self.events.append, 0.8)
        options = {"server": "fd77::1", "own_urls": lambda server: (f"http://[{server}]:8069", "")} | options
        self.protocol = kind(self.network.clock, self.chain, self.events.append, DUID, **options)
        self.protocol.transport = Wire(self.sent)
        self.protocol.startProtocol()

    def heard(
        self, message: Message | bytes, peer: tuple[str, int, int, int] = CLIENT, via: Via = GROUP
    ) -> list[Heard]:
        """What is answered."""
        data = message if isinstance(message, bytes) else pack(message)
        self.protocol.datagrams_received([(data, peer, via)])
        heard, self.sent[:] = list(self.sent), []
        return heard

    def repeated(self, seconds: float = 3.0) -> list[Heard]:
        """What is sent within so many seconds without a request."""
        for _ in range(round(seconds * 10)):
            self.network.clock.advance(0.1)
        heard, self.sent[:] = list(self.sent), []
        return heard

    def only(self, message: Message, peer: tuple[str, int, int, int] = CLIENT, via: Via = GROUP) -> Message:
        ((answer, relays, to),) = self.heard(message, peer, via)
        assert (answer.xid, answer.first(Option.CLIENT_ID), answer.first(Option.SERVER_ID)) == (
            message.xid,
            message.first(Option.CLIENT_ID),
            DUID,
        )
        assert (relays, to) == ((), peer)
        return answer

    def of(self, kind: type[_E]) -> list[_E]:
        return [event for event in self.events if isinstance(event, kind)]
