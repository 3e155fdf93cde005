"""The objects that all DHCP ports of one server share."""

from collections.abc import Callable
from typing import Any

from attrs import define, field

from bootfw.boot.clients import Clients
from bootfw.boot.flightrecorder import FlightRecorder
from bootfw.boot.resolverchain import ResolverChain
from bootfw.events import Event
from bootfw.net.admission import Admission
from bootfw.net.linux.interfaces import Interfaces
from bootfw.net.nodes.leadership import Leadership
from bootfw.personas.table import Personas, stock
from bootfw.values import Address, Persona


def _no_urls(server: str) -> tuple[str, str]:
    return "", ""


def _unknown_hardware(peer: Address) -> str:
    return ""


@define(eq=False)
class DHCPServices:
    """The collaborators of a DHCPPort."""

    reactor: Any
    """An IReactorTime."""
    chain: ResolverChain
    """The resolvers, which choose the boot file of a client."""
    publish: Callable[[Event], None]
    interfaces: Interfaces = field(factory=Interfaces)
    """Requests that arrive on other interfaces are dropped."""
    personas: Personas = field(factory=stock)
    """The kinds of clients; by default those that come with bootfw."""
    persona_by_name: dict[str, Persona] = field(init=False)
    """Personas of requests, also of those that were pending when ``personas`` changed."""
    clients: Clients = field(factory=Clients)
    """Maps addresses to clients; TFTP and HTTP look clients up in it."""
    own_urls: Callable[[str], tuple[str, str]] = _no_urls
    """Called with one of our addresses. Returns the URLs of our HTTP and HTTPS servers at that address."""
    hardware_address: Callable[[Address], str] = _unknown_hardware
    """The MAC address of a neighbour, from the kernel's table; "" when it has none. DHCPv6 only."""
    recorder: FlightRecorder | None = None
    """Keeps the latest packets in memory, for recordings of failed boots; None: packets are not kept."""
    admission: Admission | None = None
    """Decides which requests are served; None: all of them."""
    leadership: Leadership | None = None
    """Whether this server leads those that share its store; None: it is alone and always answers."""

    def __attrs_post_init__(self) -> None:
        self.persona_by_name = dict(self.personas.by_name)

    def use_personas(self, personas: Personas) -> None:
        """Classify the requests that come from now on by *personas*."""
        self.personas = personas
        self.persona_by_name |= personas.by_name
